//! The whole stack over a scripted leaf, in paused time.

#[path = "it/bench.rs"]
mod bench;
#[path = "it/calls.rs"]
mod calls;
#[path = "it/money.rs"]
mod money;
#[path = "it/order.rs"]
mod order;
#[path = "it/secrets.rs"]
mod secrets;
