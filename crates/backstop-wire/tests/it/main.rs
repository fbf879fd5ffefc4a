//! The wire crate from outside: bytes in, words out, and back.
// The lints that spare tests look for `cfg(test)`, which an integration test's own modules do not have by themselves.

#[cfg(test)]
mod across;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod events;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod generate;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod round_trip;
#[cfg(test)]
mod sse;
#[cfg(test)]
mod streams;
