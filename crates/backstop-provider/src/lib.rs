//! Providers over real HTTP. A provider is data (`providers.toml`), a dialect is code (`backstop-wire`).
//!
//! Owned here: addresses, keys, headers, connections, timeouts, and how far a request got when it fails. [`HttpModel`] is
//! one attempt and nothing more: it does not retry, wait for a limit, count money or keep a log.

mod body;
mod client;
mod connection;
mod discover;
mod endpoint;
mod estimate;
mod known;
mod model;
mod pass;
mod prices;
mod probe;
mod quirk;
mod reading;
mod timeouts;

pub use client::HttpClient;
pub use discover::{DiscoverError, Discovered, discover};
pub use endpoint::{Auth, BaseUrl, Endpoint, EndpointError};
pub use known::{KnownProvider, Quirk, known_provider, known_providers};
pub use model::HttpModel;
pub use prices::{
    CONTEXT_TOKENS_DEFAULT, LOCAL_CONTEXT_TOKENS_DEFAULT, ModelFacts, ModelQuery, OUTPUT_TOKENS_DEFAULT,
    PriceSource, model_facts,
};
pub use probe::{ProbeReport, probe};
pub use timeouts::Timeouts;

/// What every request is signed with.
const AGENT: &str = concat!("backstop/", env!("CARGO_PKG_VERSION"));
