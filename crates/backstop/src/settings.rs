//! What a Backstop is made from: values that are resolved already. Reading a config file is the server's business.

use crate::Task;
use backstop_agent::{AgentConfig, Tool};
use backstop_allowance::Budget;
use backstop_call::{AgentName, Dialect, Model, ModelName, Price, ProviderName, Secret};
use backstop_label::{ModelPlace, Policy};
use backstop_provider::{Endpoint, ModelQuery, Timeouts, model_facts};
use backstop_stack::Limits;
use backstop_store::{Observer, StoreOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Everything that defines a Backstop.
#[derive(Clone, Default)]
pub struct Settings {
    /// Where the journal and the ledger are kept.
    pub store: Place,
    /// How the store is opened, when it is a file.
    pub store_options: StoreOptions,
    /// The models, each under its name.
    pub models: Vec<ModelSettings>,
    /// Chains of models by name: the first is asked first, the others when it fails. Each model is also a chain of one.
    pub chains: Vec<(ModelName, Vec<ModelName>)>,
    /// The budgets. A run's own limit comes with its task.
    pub budgets: Vec<Budget>,
    /// The layers' settings.
    pub stack: backstop_stack::Config,
    /// What runs have in common.
    pub agent: AgentConfig,
    /// Tools beside the built-in ones.
    pub tools: Vec<Arc<dyn Tool>>,
    /// The agents that others may give parts to, by their names; with any there is the tool `delegate`.
    pub colleagues: BTreeMap<AgentName, Colleague>,
    /// What the tools may do: the rights of the roles, and the gates.
    pub policy: Arc<Policy>,
    /// How long a provider may take.
    pub timeouts: Timeouts,
    /// Values that must appear nowhere: every loaded key, and what else you name. The keys of the endpoints are added.
    pub secrets: Vec<Secret>,
    /// The seed of jitter and ids; `None` takes one from the operating system.
    pub seed: Option<u64>,
    /// Who is told of every event.
    pub observers: Vec<Observer>,
}

impl Settings {
    /// The names of the models and chains: what runs may ask.
    pub fn askable(&self) -> BTreeSet<ModelName> {
        let models = self.models.iter().map(|model| model.name.clone());
        models.chain(self.chains.iter().map(|(name, _)| name.clone())).collect()
    }
}

/// An agent that others may give parts to.
#[derive(Debug, Clone, PartialEq)]
pub struct Colleague {
    /// What it is for, in a line: those who may give it parts are told.
    pub about: String,
    /// What each run of it is made from; what it is to do, where, and for whom is said by who gives it a part.
    pub task: Task,
}

/// Where the journal is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// In memory, gone with the process: for tests and for trying things out.
    #[default]
    Memory,
    /// In this SQLite file; it and the directories above it are made when they are not there.
    File(PathBuf),
}

/// One model.
#[derive(Clone)]
pub struct ModelSettings {
    /// Its name: what tasks and chains call it.
    pub name: ModelName,
    /// The provider's id of it.
    pub id: String,
    /// What answers.
    pub leaf: Leaf,
    /// Where it runs: private text goes to local models only.
    pub place: ModelPlace,
    /// What it costs.
    pub price: Price,
    /// The most tokens that input and output may have together.
    pub context_window: u64,
    /// The most tokens it can write.
    pub max_output: u64,
    /// Whether it may bill output that it does not show, as models do that think out of sight.
    pub hidden_output: bool,
    /// What may be asked of it at a time.
    pub limits: Limits,
}

/// What answers for a model.
#[expect(clippy::large_enum_variant, reason = "there are a handful of models, and each is made once")]
#[derive(Clone)]
pub enum Leaf {
    /// A provider over HTTP.
    Endpoint(Endpoint),
    /// A model of your own, under a provider's name.
    Model(ProviderName, Arc<dyn Model>),
}

impl ModelSettings {
    /// A model at a provider, with the price and the sizes that the price data knows. `now` chooses among prices that
    /// changed on a date.
    pub fn at(
        endpoint: Endpoint,
        name: impl Into<ModelName>,
        id: &str,
        now: backstop_call::Timestamp,
    ) -> Self {
        let query = ModelQuery {
            provider: endpoint.prices.as_deref(),
            model: id,
            local: endpoint.local,
            configured: None,
        };
        let facts = model_facts(&query, now);
        Self {
            name: name.into(),
            id: id.to_owned(),
            place: if endpoint.local { ModelPlace::Local } else { ModelPlace::Cloud },
            // Models behind OpenAI's dialects think out of sight; those behind Messages show it, or bill it as shown.
            hidden_output: endpoint.dialect != Dialect::Messages && !endpoint.local,
            leaf: Leaf::Endpoint(endpoint),
            price: facts.price,
            context_window: facts.context_tokens,
            max_output: facts.output_tokens_max,
            limits: Limits::default(),
        }
    }
}
