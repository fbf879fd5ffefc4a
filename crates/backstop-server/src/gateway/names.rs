//! What a client may ask for: a requested name becomes a model or chain, by its own name, by a pattern of the config, or as
//! the id of a model that a provider is known to have. Pure.

use crate::keys::pattern_matches as matches;
use backstop::{Leaf, Settings};
use backstop_call::{Dialect, ModelName, ProviderName};
use backstop_provider::Endpoint;
use backstop_stack::Limits;
use std::collections::BTreeMap;

/// Who can answer in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The provider.
    pub(crate) provider: ProviderName,
    /// Its id of the model.
    pub(crate) model: String,
    /// What it speaks.
    pub(crate) dialect: Dialect,
    /// Whether it keeps message threads.
    pub(crate) threads: bool,
}

/// The names there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    chains: BTreeMap<String, Vec<Link>>,
    /// Patterns with what they stand for, in the order of the config.
    patterns: Vec<(String, String)>,
}

impl Names {
    /// The names of an engine's settings, and the patterns of the config.
    pub(crate) fn new(settings: &Settings, patterns: &[(String, ModelName)]) -> Self {
        let links: BTreeMap<&ModelName, Link> = settings.models.iter().map(|m| (&m.name, link(m))).collect();
        let mut chains: BTreeMap<String, Vec<Link>> =
            links.iter().map(|(name, link)| (name.to_string(), vec![link.clone()])).collect();
        for (name, models) in &settings.chains {
            let of_chain = models.iter().filter_map(|model| links.get(model).cloned());
            chains.insert(name.to_string(), of_chain.collect());
        }
        let patterns = patterns.iter().map(|(pattern, name)| (pattern.clone(), name.to_string())).collect();
        Self { chains, patterns }
    }

    /// The model or chain that a requested name stands for, with its links.
    pub(crate) fn find(&self, asked: &str) -> Option<(&str, &[Link])> {
        let exact = || self.chains.get_key_value(asked);
        let by_pattern = || {
            let (_, name) = self.patterns.iter().find(|(pattern, _)| matches(pattern, asked))?;
            self.chains.get_key_value(name)
        };
        exact().or_else(by_pattern).map(|(name, links)| (name.as_str(), links.as_slice()))
    }

    /// Every name that can be listed: models, chains, and patterns that are names.
    pub(crate) fn list(&self) -> Vec<&str> {
        let aliases = self.patterns.iter().map(|(pattern, _)| pattern.as_str());
        let aliases = aliases.filter(|pattern| !pattern.contains('*'));
        let mut names: Vec<_> = self.chains.keys().map(String::as_str).chain(aliases).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

fn link(model: &backstop::ModelSettings) -> Link {
    let (provider, dialect, threads) = match &model.leaf {
        Leaf::Endpoint(endpoint) => (endpoint.name.clone(), endpoint.dialect, endpoint.threads),
        Leaf::Model(provider, _) => (provider.clone(), Dialect::Messages, false),
    };
    Link { provider, model: model.id.clone(), dialect, threads }
}

/// The provider that has a model which no config names: `provider/id`, or an id that a provider's price list has.
pub(crate) fn provider_of<'a>(
    asked: &'a str,
    endpoints: &'a [(Endpoint, Limits)],
    is_priced: impl Fn(&Endpoint, &str) -> bool,
) -> Option<(&'a (Endpoint, Limits), &'a str)> {
    if let Some((provider, id)) = asked.split_once('/')
        && let Some(found) = endpoints.iter().find(|(endpoint, _)| endpoint.name.as_str() == provider)
        && !id.is_empty()
    {
        return Some((found, id));
    }
    endpoints.iter().find(|(endpoint, _)| is_priced(endpoint, asked)).map(|found| (found, asked))
}
