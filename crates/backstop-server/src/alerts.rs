//! Alerts: rules over what is counted and what is so, who is told when one of them finds something, and that they are told.
//! Semantics are those of Prometheus' Alertmanager; state is the stream `alerts` of the journal.

mod decide;
mod message;
mod receiver;
mod rule;
mod say;
mod scene;
mod setup;
mod watch;

pub use decide::{Found, Inhibition, Route, Routing, decide};
pub use message::Message;
pub use receiver::{PAGERDUTY, Receiver, Refused};
pub use rule::{BUILT_IN, Each, Finding, Rule, WATCHDOG, built_in};
pub use say::{only, say, silence};
pub use scene::{NAMES, Outside, Scene, Sources, Subject};
pub use setup::receivers;
pub use watch::{Watch, WatchParts};
