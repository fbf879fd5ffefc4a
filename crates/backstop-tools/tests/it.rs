//! The tools against real processes, real servers and real files.

#[cfg(test)]
#[path = "it/kit.rs"]
mod kit;
