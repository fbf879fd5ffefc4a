//! backstop-stack
