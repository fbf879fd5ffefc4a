//! The simulated provider as a raw client sees it, over loopback.

#[cfg(test)]
#[path = "it/bill.rs"]
mod bill;
#[cfg(test)]
#[path = "it/client.rs"]
mod client;
#[cfg(test)]
#[path = "it/faults.rs"]
mod faults;
#[cfg(test)]
#[path = "it/protocol.rs"]
mod protocol;
