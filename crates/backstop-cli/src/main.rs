//! The command `backstop`: it parses, calls and prints. Everything that decides lives in the crates below it.

mod args;
mod commands;
mod complaint;
mod engine;
mod home;
mod narrate;
mod outcome;
mod pages;
mod progress;
mod signals;
mod story;
mod ui;
mod warnings;

fn main() -> std::process::ExitCode {
    args::main()
}
