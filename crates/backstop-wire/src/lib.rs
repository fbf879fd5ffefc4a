//! backstop-wire
