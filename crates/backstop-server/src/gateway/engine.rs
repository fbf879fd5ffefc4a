//! What a request is answered with: a stack and the names that lead into it. It never changes; a new config or a model that
//! nobody asked for before makes another one, and calls under way end with the one they began with.

use super::Gateway;
use super::approvals::Notices;
use super::names::{Names, provider_of};
use crate::config::Config;
use crate::keys::Key;
use backstop::{ModelSettings, OpenError, Settings};
use backstop_allowance::Budget;
use backstop_call::{Code, Failure, FailureKind, ModelName, Progress, ProviderName, Timestamp};
use backstop_provider::{Endpoint, ModelQuery, PriceSource, model_facts};
use backstop_stack::{Limits, Stack};
use std::sync::Arc;

/// Models that are added because somebody asked for them. More are refused: names cost memory.
const ADDED_MAX: usize = 256;

/// A stack and its names.
pub(crate) struct Engine {
    pub(crate) stack: Arc<Stack>,
    pub(crate) names: Names,
    settings: Settings,
    patterns: Vec<(String, ModelName)>,
    /// Where models may be that no config names.
    endpoints: Vec<(Endpoint, Limits)>,
    keyless: Vec<ProviderName>,
    config: Arc<Config>,
    added: usize,
}

/// What an engine is made from.
#[derive(Clone)]
pub struct EngineParts {
    /// The models and chains, and everything else that a stack is made of.
    pub settings: Settings,
    /// Names and patterns that stand for a model or chain.
    pub patterns: Vec<(String, ModelName)>,
    /// Providers whose models may be asked for without being named in the config.
    pub endpoints: Vec<(Endpoint, Limits)>,
    /// Providers of which nothing can be asked because their key is not there.
    pub keyless: Vec<ProviderName>,
    /// The config: what a task means that somebody asks for.
    pub config: Arc<Config>,
}

impl Engine {
    /// An engine with the stack that is there.
    pub(crate) fn new(stack: Arc<Stack>, parts: EngineParts) -> Self {
        let EngineParts { settings, patterns, endpoints, keyless, config } = parts;
        let names = Names::new(&settings, &patterns);
        Self { stack, names, settings, patterns, endpoints, keyless, config, added: 0 }
    }

    /// What may be spent.
    pub(crate) fn budgets(&self) -> &[Budget] {
        &self.settings.budgets
    }

    /// What it was made from.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The config that it was made from.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// The most tokens that a call of a model or chain may have, where the engine knows it.
    pub(crate) fn window(&self, model: &ModelName) -> Option<u64> {
        let chain =
            self.settings.chains.iter().find(|(name, _)| name == model).map(|(_, models)| &models[..]);
        let names = chain.unwrap_or(std::slice::from_ref(model));
        let models = self.settings.models.iter().filter(|known| names.contains(&known.name));
        models.map(|known| known.context_window).max()
    }

    /// What is said of a model that there is none of, to somebody with this key: of the others it learns nothing.
    pub(crate) fn unknown(&self, asked: &str, key: Option<&Key>) -> Failure {
        let mut known = self.names.list();
        known.retain(|name| key.is_none_or(|key| key.may_ask(name)));
        let asked: String = asked.chars().take(100).collect();
        let message = match known.as_slice() {
            [] => format!("there is no model `{asked}`"),
            known => format!("there is no model `{asked}`; there are: {}", known.join(", ")),
        };
        Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::ModelNotFound)
    }

    /// Providers that want a key and have none.
    pub(crate) fn keyless(&self) -> &[ProviderName] {
        &self.keyless
    }

    /// The model that a provider has under this name, though no config names it.
    fn unnamed(&self, asked: &str, now: Timestamp) -> Option<ModelSettings> {
        let is_priced = |endpoint: &Endpoint, id: &str| {
            let query = ModelQuery {
                provider: endpoint.prices.as_deref(),
                model: id,
                local: false,
                configured: None,
            };
            endpoint.prices.is_some() && model_facts(&query, now).source == PriceSource::Known
        };
        let ((endpoint, limits), id) = provider_of(asked, &self.endpoints, is_priced)?;
        Some(ModelSettings { limits: *limits, ..ModelSettings::at(endpoint.clone(), asked, id, now) })
    }
}

impl Gateway {
    /// The engine in which a model is known by this name: the present one, or the next, which knows it too.
    pub(crate) async fn engine_for(&self, asked: &str, key: Option<&Key>) -> Result<Arc<Engine>, Failure> {
        let engine = self.engine();
        if engine.names.find(asked).is_some() {
            return Ok(engine);
        }
        // In a box: as a rule the name is known.
        Box::pin(self.engine_with(asked, key)).await
    }

    async fn engine_with(&self, asked: &str, key: Option<&Key>) -> Result<Arc<Engine>, Failure> {
        // One at a time: who waits finds what the one before has made.
        let _turn = self.changing.lock().await;
        let engine = self.engine();
        if engine.names.find(asked).is_some() {
            return Ok(engine);
        }
        let unnamed = engine.unnamed(asked, self.clock.now()).filter(|_| engine.added < ADDED_MAX);
        let model = unnamed.ok_or_else(|| engine.unknown(asked, key))?;
        let mut settings = engine.settings.clone();
        settings.models.push(model);
        let parts = EngineParts {
            settings,
            patterns: engine.patterns.clone(),
            endpoints: engine.endpoints.clone(),
            keyless: engine.keyless.clone(),
            config: Arc::clone(&engine.config),
        };
        let next = self.make(parts, engine.added + 1).map_err(|error| {
            Failure::new(FailureKind::Invalid, Progress::NotSent, error.to_string()).with_code(error.code())
        })?;
        Ok(next)
    }

    /// Takes another config, for calls, for runs that are let go on, and for who is told of their questions. What is under way
    /// ends as it began.
    ///
    /// # Errors
    /// What is wrong with the new settings; then everything stays as it is.
    pub async fn reload(&self, parts: EngineParts, notices: Notices) -> Result<(), OpenError> {
        let _turn = self.changing.lock().await;
        let stack = self.backstop.restack(&self.engine().stack, parts.settings.clone())?;
        self.backstop.refit(Arc::clone(&stack), &parts.settings)?;
        self.approvals.renew(notices);
        self.put_engine(Arc::new(Engine::new(stack, parts)));
        Ok(())
    }

    fn make(&self, parts: EngineParts, added: usize) -> Result<Arc<Engine>, OpenError> {
        let stack = self.backstop.restack(&self.engine().stack, parts.settings.clone())?;
        let engine = Arc::new(Engine { added, ..Engine::new(stack, parts) });
        self.put_engine(Arc::clone(&engine));
        Ok(engine)
    }
}
