//! backstop-sim
