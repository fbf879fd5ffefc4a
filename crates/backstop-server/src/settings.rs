//! From a config to the settings of an engine: endpoints with their keys, models with their prices and sizes, chains,
//! budgets, the rules of the layers. The last step before [`backstop::Backstop::open`].

mod agents;

pub use agents::{colleagues, dress};

use crate::config::alerts::AlertReceiver;
use crate::config::policy::policy;
use crate::config::{
    Config, Header, Problem, Problems, Provider, SIM, SecretRef, Surroundings, allowed, load_secret,
};
use backstop::{Leaf, ModelSettings, Place, Settings};
use backstop_agent::{AgentConfig, Delegation};
use backstop_allowance::Rate;
use backstop_call::{Code, Dialect, ModelName, ProviderName, Secret, Timestamp};
use backstop_label::ModelPlace;
use backstop_provider::{
    Auth, BaseUrl, Discovered, Endpoint, ModelQuery, Quirk, Timeouts, known_provider, known_providers,
    model_facts,
};
use backstop_stack::Limits;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The chain of what was found without config: the first model of each provider, in the order they were found.
pub const FOUND: &str = "found";

/// Settings with everything that config says and nothing that answers yet; see [`Plan`].
pub fn base(config: &Config, world: &dyn Surroundings) -> Settings {
    Settings {
        store: Place::File(config.journal.clone()),
        secrets: secrets(config, world),
        budgets: config.budgets.clone(),
        stack: layers(config),
        agent: AgentConfig {
            call_timeout: config.timeouts.call.0,
            tool_timeout: config.timeouts.tool.0,
            reserved: reserved(config),
            copies: Some(config.data_dir.join("dry-runs")),
            delegation: Delegation {
                depth_max: config.delegation.depth,
                children_max: config.delegation.children,
                ..Delegation::default()
            },
            ..AgentConfig::default()
        },
        colleagues: colleagues(config, None),
        policy: Arc::new(policy(&config.roles, &config.gates)),
        timeouts: Timeouts {
            connect_ms: ms(config.timeouts.connect.0),
            first_byte_ms: ms(config.timeouts.first_byte.0),
            idle_ms: ms(config.timeouts.idle.0),
        },
        ..Settings::default()
    }
}

/// What no tool may see or change: an agent must not reach its own journal, logs, limits or secrets.
pub(crate) fn reserved(config: &Config) -> Vec<PathBuf> {
    let mut paths = vec![config.data_dir.clone(), config.logs.dir.clone()];
    paths.extend(config.file.clone());
    paths.extend(references(config).iter().filter_map(|reference| reference.file(config.file.as_deref())));
    paths
}

/// Every secret there is: what the config refers to, and the keys of the known providers in the environment. Also those
/// that this process calls nobody with: a file that a tool reads may hold them. What cannot be loaded is left out here, and
/// told where it is needed.
pub fn secrets(config: &Config, world: &dyn Surroundings) -> Vec<Secret> {
    let known = known_providers().iter().filter_map(|known| known.key_env.clone()).map(SecretRef::Env);
    let load = |reference| load_secret(&reference, config.file.as_deref(), world).ok();
    known.chain(references(config)).filter_map(load).collect()
}

/// Everything that the config refers to as a secret.
fn references(config: &Config) -> Vec<SecretRef> {
    let providers = config.providers.values();
    let keys = providers.clone().filter_map(|provider| provider.key.clone());
    let headers = providers.flat_map(|provider| &provider.headers).filter_map(|(_, value)| match value {
        Header::Secret(reference) => Some(reference.clone()),
        Header::Plain(_) => None,
    });
    let approvals = &config.approvals;
    let hooks = approvals.webhooks.iter().map(|hook| hook.secret.clone()).chain(approvals.slack.clone());
    let alerts = config.alerts.receivers.iter().flat_map(AlertReceiver::references);
    keys.chain(headers).chain(hooks).chain(alerts).chain(crate::tools::references(config)).collect()
}

/// Fills settings with models. What is asked for must be there; what else config has comes along when its key is there.
pub struct Plan<'a> {
    /// The config.
    pub config: &'a Config,
    /// Where keys are loaded from.
    pub world: &'a dyn Surroundings,
    /// Chooses among prices that changed on a date.
    pub now: Timestamp,
}

impl Plan<'_> {
    /// Adds every model and chain of the config whose keys are there, and `wanted`, or tells why that cannot be.
    pub fn models(&self, settings: &mut Settings, wanted: &ModelName) -> Result<(), Problems> {
        let missing = self.add_models(settings);
        for (name, models) in &self.config.chains {
            if models.iter().all(|model| settings.models.iter().any(|there| there.name == *model)) {
                settings.chains.push((name.clone(), models.clone()));
            }
        }
        let own = ModelName::from(wanted.as_str());
        let needed = self.config.chains.get(wanted).map_or(std::slice::from_ref(&own), Vec::as_slice);
        let problems: Vec<_> = missing
            .into_iter()
            .filter(|(name, _)| needed.contains(name))
            .map(|(_, problem)| problem)
            .collect();
        if problems.is_empty() { self.there(settings, wanted) } else { Err(Problems(deduplicated(problems))) }
    }

    /// Adds every model and chain of the config whose keys are there; tells what was left out for want of a key.
    pub fn all(&self, settings: &mut Settings) -> Vec<Problem> {
        let missing = self.add_models(settings);
        for (name, models) in &self.config.chains {
            let there = |model: &&ModelName| settings.models.iter().any(|there| there.name == **model);
            let links: Vec<ModelName> = models.iter().filter(there).cloned().collect();
            if !links.is_empty() {
                settings.chains.push((name.clone(), links));
            }
        }
        deduplicated(missing.into_iter().map(|(_, problem)| problem).collect())
    }

    /// Adds every model whose key is there; gives the others, with what is missing.
    fn add_models(&self, settings: &mut Settings) -> Vec<(ModelName, Problem)> {
        let mut missing = Vec::new();
        for (name, model) in &self.config.models {
            match self.endpoint(&model.provider) {
                Ok(endpoint) => settings.models.push(self.model(name, endpoint)),
                Err(problem) => missing.push((name.clone(), problem)),
            }
        }
        missing
    }

    /// Every provider of the config whose key is there, with what may be sent to it: models may be asked of it that the
    /// config does not name.
    pub fn endpoints(&self) -> Vec<(Endpoint, Limits)> {
        let there = |(name, provider): (&ProviderName, &Provider)| {
            Some((self.endpoint(name).ok()?, limits(provider)))
        };
        self.config.providers.iter().filter_map(there).collect()
    }

    /// The providers of the config whose key, or a header that is secret, is not there.
    pub fn keyless(&self) -> Vec<ProviderName> {
        let lacks = |name: &&ProviderName| {
            self.endpoint(name).is_err_and(|problem| problem.code == Code::SecretMissing)
        };
        self.config.providers.keys().filter(lacks).cloned().collect()
    }

    /// Adds what was found in the environment: each first model, and the chain [`FOUND`] of them.
    pub fn found(
        &self,
        settings: &mut Settings,
        found: &[Discovered],
        wanted: &ModelName,
    ) -> Result<(), Problems> {
        let mut chain = Vec::new();
        for provider in found {
            for (n, id) in provider.models.iter().enumerate() {
                let name = ModelName::from(format!("{}/{id}", provider.endpoint.name));
                settings.models.push(ModelSettings::at(
                    provider.endpoint.clone(),
                    name.clone(),
                    id,
                    self.now,
                ));
                chain.extend((n == 0).then_some(name));
            }
        }
        if let Some((provider, id)) = wanted.as_str().split_once('/')
            && let Some(found) = found.iter().find(|found| found.endpoint.name.as_str() == provider)
            && !settings.models.iter().any(|model| model.name == *wanted)
        {
            settings.models.push(ModelSettings::at(found.endpoint.clone(), wanted.clone(), id, self.now));
        }
        settings.chains.push((FOUND.into(), chain));
        self.there(settings, wanted)
    }

    /// Whether the settings have what was asked for; `provider/model-id` of a configured provider is made on the way.
    fn there(&self, settings: &mut Settings, wanted: &ModelName) -> Result<(), Problems> {
        let named = |settings: &Settings| {
            let models = settings.models.iter().map(|model| model.name.clone());
            models.chain(settings.chains.iter().map(|(name, _)| name.clone())).collect::<Vec<_>>()
        };
        if *wanted == ModelName::from(SIM) || named(settings).contains(wanted) {
            return Ok(());
        }
        if let Some((provider, id)) = wanted.as_str().split_once('/')
            && self.config.providers.contains_key(&ProviderName::from(provider))
        {
            let provider = ProviderName::from(provider);
            let endpoint = self.endpoint(&provider)?;
            let mut model = ModelSettings::at(endpoint, wanted.clone(), id, self.now);
            model.limits = limits(&self.config.providers[&provider]);
            settings.models.push(model);
            return Ok(());
        }
        let names = named(settings);
        let names = names.iter().map(ModelName::as_str).chain([SIM]);
        let hint = allowed("models and chains", wanted.as_str(), names);
        let message = format!("there is no model or chain `{wanted}`");
        Err(Problem::new(Code::UnknownModel, message).with_hint(hint).into())
    }

    /// A provider of the config, with its key loaded.
    pub fn endpoint(&self, name: &ProviderName) -> Result<Endpoint, Problem> {
        let Some(provider) = self.config.providers.get(name) else {
            return Err(Problem::new(Code::ConfigValue, format!("there is no provider `{name}`")));
        };
        let file = self.config.file.as_deref();
        let load = |reference| {
            load_secret(reference, file, self.world).map_err(|problem| Problem {
                message: format!("provider {name}: {}", problem.message),
                ..problem
            })
        };
        let wrong = |error: backstop_provider::EndpointError| {
            Problem::new(Code::ConfigValue, format!("provider {name}: {error}"))
        };
        let mut endpoint = plain(name, provider).map_err(wrong)?;
        endpoint.key = provider.key.as_ref().map(load).transpose()?;
        for (header, value) in &provider.headers {
            let value = match value {
                Header::Plain(value) => value.clone(),
                Header::Secret(reference) => load(reference)?.expose().to_owned(),
            };
            endpoint.insert_header(header, &value).map_err(wrong)?;
        }
        Ok(endpoint)
    }

    fn model(&self, name: &ModelName, endpoint: Endpoint) -> ModelSettings {
        let model = &self.config.models[name];
        let query = ModelQuery {
            provider: endpoint.prices.as_deref(),
            model: &model.id,
            local: model.local,
            configured: model.price,
        };
        let facts = model_facts(&query, self.now);
        ModelSettings {
            name: name.clone(),
            id: model.id.clone(),
            place: if model.local { ModelPlace::Local } else { ModelPlace::Cloud },
            limits: limits(&self.config.providers[&model.provider]),
            hidden_output: endpoint.dialect != Dialect::Messages && !model.local,
            leaf: Leaf::Endpoint(endpoint),
            price: facts.price,
            context_window: model.context_window.unwrap_or(facts.context_tokens),
            max_output: model.max_output.unwrap_or(facts.output_tokens_max),
        }
    }
}

/// An endpoint without key and headers of its own.
fn plain(name: &ProviderName, provider: &Provider) -> Result<Endpoint, backstop_provider::EndpointError> {
    let base_url = BaseUrl::parse(&provider.base_url)?;
    let threads = provider.threads;
    let (auth, quirks) = match provider.dialect {
        Dialect::Messages => (Auth::XApiKey, Vec::new()),
        Dialect::Chat => (Auth::Bearer, vec![Quirk::MaxTokens]),
        Dialect::Responses => (Auth::Bearer, Vec::new()),
    };
    // A provider that is known by name keeps its ways also behind another address, as of a proxy.
    let known = known_provider(name.as_str()).filter(|known| known.dialect == provider.dialect);
    if let Some(known) = known {
        let mut endpoint = known.endpoint(None)?;
        endpoint.base_url = base_url;
        endpoint.local = provider.local;
        endpoint.threads = threads;
        if endpoint.auth == Auth::None && provider.key.is_some() {
            endpoint.auth = auth;
        }
        return Ok(endpoint);
    }
    // The dialect's version header is demanded of whoever speaks it, whatever the address.
    let model = known_provider(match provider.dialect {
        Dialect::Messages => "anthropic",
        Dialect::Chat | Dialect::Responses => "openai",
    });
    // A vendor's prices are the same in each dialect it speaks.
    let prices = known_provider(name.as_str()).and_then(|known| known.prices.clone());
    let headers = model.map(|known| known.endpoint(None)).transpose()?.map(|known| known.headers);
    Ok(Endpoint {
        name: name.clone(),
        dialect: provider.dialect,
        base_url,
        auth: if provider.key.is_some() { auth } else { Auth::None },
        key: None,
        headers: headers.unwrap_or_default(),
        local: provider.local,
        quirks,
        prices,
        threads,
    })
}

fn limits(provider: &Provider) -> Limits {
    Limits {
        requests: provider.limits.requests_per_minute.map(Rate::per_minute),
        tokens: provider.limits.tokens_per_minute.map(Rate::per_minute),
        concurrent: provider.limits.concurrent.and_then(|concurrent| usize::try_from(concurrent).ok()),
    }
}

/// The rules of the layers; what config has no key for keeps its default.
fn layers(config: &Config) -> backstop_stack::Config {
    let mut layers = backstop_stack::Config::default();
    let (retry, breaker) = (&config.retry, &config.breaker);
    layers.redact.patterns = config.redact.well_known;
    layers.attempt.attempts_max = retry.attempts;
    layers.attempt.base_not_sent_ms = ms(retry.base_not_sent.0);
    layers.attempt.base_transient_ms = ms(retry.base_transient.0);
    layers.attempt.base_overloaded_ms = ms(retry.base_overloaded.0);
    layers.attempt.base_throttled_ms = ms(retry.base_throttled.0);
    layers.attempt.backoff_ms_max = ms(retry.cap.0);
    layers.attempt.interactive_server_wait_ms = ms(retry.server_wait_interactive.0);
    layers.attempt.standard_server_wait_ms = ms(retry.server_wait_standard.0);
    layers.attempt.batch_server_wait_ms = ms(retry.server_wait_batch.0);
    layers.attempt.quarantine_ms = ms(retry.quarantine.0);
    layers.breaker.calls_min = breaker.calls_min;
    layers.breaker.failure_percent = breaker.failure_percent;
    layers.breaker.consecutive_failures = breaker.failures_in_a_row;
    layers.breaker.slow_percent = breaker.slow_percent;
    layers.breaker.slow_ttft_ms = ms(breaker.slow_first_token.0);
    layers.breaker.open_ms = ms(breaker.open.0);
    layers.breaker.open_ms_max = ms(breaker.open_max.0);
    layers.breaker.probe_successes = breaker.probes;
    layers.limit.interactive_wait_ms = ms(config.limits.wait_interactive.0);
    layers.limit.standard_wait_ms = ms(config.limits.wait_standard.0);
    layers.limit.batch_wait_ms = ms(config.limits.wait_batch.0);
    layers.timeout.total_ms = ms(config.timeouts.attempt.0);
    layers.timeout.first_byte_ms = ms(config.timeouts.first_byte.0);
    layers.timeout.idle_ms = ms(config.timeouts.idle.0);
    layers
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The same problem is told once, however many models have it.
fn deduplicated(mut problems: Vec<Problem>) -> Vec<Problem> {
    let mut seen = Vec::new();
    problems.retain(|problem| {
        let new = !seen.contains(problem);
        seen.extend(new.then(|| problem.clone()));
        new
    });
    problems
}

#[cfg(test)]
mod tests;
