//! The command `backstop`.
fn main() {}
