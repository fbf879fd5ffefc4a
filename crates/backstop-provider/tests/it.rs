//! The leaf over real connections on the loopback: a hand-written server that sends exactly the bytes it is told to, so
//! that every fault is under control.

#![expect(clippy::unwrap_used, reason = "a test ends at what it did not expect")]

#[path = "it/calls.rs"]
mod calls;
#[path = "it/connections.rs"]
mod connections;
#[path = "it/cuts.rs"]
mod cuts;
#[path = "it/failures.rs"]
mod failures;
#[path = "it/fixtures.rs"]
mod fixtures;
#[path = "it/probes.rs"]
mod probes;
#[path = "it/raw.rs"]
mod raw;
#[path = "it/sim.rs"]
mod sim;
