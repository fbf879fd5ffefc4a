//! A target: one model at one provider, with what the layers need to know about it.

use backstop_allowance::Rate;
use backstop_call::{Model, Price, ProviderName};
use backstop_label::ModelPlace;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// One model at one provider. Two targets with the same provider and model share their breaker, their limits and their
/// retry quota, in whatever chains they stand.
#[derive(Clone)]
pub struct Target {
    /// The provider, by its name in config. Its credential is quarantined as a whole.
    pub provider: ProviderName,
    /// The provider's id of the model: what the leaf is asked for.
    pub model: String,
    /// Where it runs: what decides whether it may see private text.
    pub place: ModelPlace,
    /// What it costs.
    pub price: Price,
    /// The most tokens that input and output may have together.
    pub context_window: u64,
    /// The most tokens it can write.
    pub max_output: u64,
    /// Whether it may bill output that it does not show, as models do that think out of sight: what was seen of an
    /// answer that broke off then says nothing of its cost.
    pub hidden_output: bool,
    /// What may be asked of it at a time.
    pub limits: Limits,
    /// What answers.
    pub leaf: Arc<dyn Model>,
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({})", self.key())
    }
}

impl Target {
    /// What it is known by.
    pub(crate) fn key(&self) -> TargetKey {
        TargetKey { provider: self.provider.clone(), model: self.model.clone() }
    }
}

/// What may be asked of a target at a time. `None` is no limit of ours; the provider's own still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Limits {
    /// Requests per minute.
    pub requests: Option<Rate>,
    /// Tokens per minute, input and output together.
    pub tokens: Option<Rate>,
    /// Requests under way at once.
    pub concurrent: Option<usize>,
}

/// The identity of a target: what breakers, limits and retry quotas are kept per.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetKey {
    /// The provider.
    pub provider: ProviderName,
    /// The provider's id of the model.
    pub model: String,
}

impl fmt::Display for TargetKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.provider, self.model)
    }
}
