//! The keys of the gateway: who may come in, as what, and how much at once.
//!
//! A request passes three gates, each a decision without IO:
//!
//! ```text
//! let key = ring.find(secret, now)?;             // whose secret is it, and is it good now
//! let admitted = admit(key, &asking)?;           // may this key be used so: address, environment, model
//! let pass = admitted.enter(now, tokens)?;       // is there room in its limits; held until the call is over
//! pass.settle(tokens_used);
//! ```
//!
//! Keys live in the journal as events. [`KeyRing`] is built from their fold and never changes; [`KeyWatch`] reads what is new
//! and gives another ring, so that a revocation acts on a running server with the next look. [`create`], [`rotate`] and
//! [`revoke`] append. Nothing here knows HTTP: where the secret stands in a request, and how a refusal is written in a
//! dialect, is the gateway's business.

mod change;
mod limit;
mod pattern;
mod refusal;
mod ring;
mod secret;
mod warning;
mod watch;

pub use change::{KeyError, Made, NewKey, create, key_name, revoke, rotate};
pub use limit::{Full, KeyLimit, Limits, Pass};
pub use pattern::BadPattern;
pub(crate) use pattern::matches as pattern_matches;
pub use refusal::KeyRefusal;
pub use ring::{Admitted, Asking, Key, KeyRing, admit};
pub use secret::{NoRandomness, SECRET_PREFIX};
pub use warning::{KeyWarning, Worry, warnings};
pub use watch::KeyWatch;

#[cfg(test)]
mod tests;
