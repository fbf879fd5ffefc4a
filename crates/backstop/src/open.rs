//! The assembly: settings in, parts out. This is the one place that knows them all.

use crate::Task;
use crate::engine::created;
use crate::settings::{Colleague, Leaf, ModelSettings, Place, Settings};
use backstop_agent::tools::{Delegate, ReadResult, SubmitTask, add_file_tools};
use backstop_agent::{Agent, AgentConfig, Delegation, Template, Toolbox, ToolboxError};
use backstop_allowance::Ledger;
use backstop_call::{AgentName, Clock, Code, Model, ModelName, Secret, Seed};
use backstop_journal::{Journal, JournalError, Queue, Tally};
use backstop_provider::{HttpClient, HttpModel};
use backstop_stack::{Parts, RedactingJournal, Redactor, Stack, SystemClock, Target, stack};
use backstop_store::{LedgerMode, MemoryLedger, MemoryStore, SqliteLedger, SqliteStore};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};

/// Why a Backstop could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The journal cannot be used.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A chain names a model that there is none of.
    #[error("chain `{chain}` names the model `{model}`, which is not defined")]
    UnknownModel {
        /// The chain.
        chain: ModelName,
        /// The name.
        model: ModelName,
    },
    /// A name stands for two things.
    #[error("two models or chains are called `{0}`")]
    NameTaken(ModelName),
    /// A tool cannot be added.
    #[error(transparent)]
    Tool(#[from] ToolboxError),
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers: {0}")]
    NoRandomness(String),
}

impl OpenError {
    /// The code a user can look up.
    pub fn code(&self) -> Code {
        match self {
            Self::Journal(error) => error.code(),
            Self::UnknownModel { .. } => Code::UnknownModel,
            Self::NameTaken(_) | Self::Tool(_) => Code::ConfigValue,
            Self::NoRandomness(_) => Code::Internal,
        }
    }
}

/// The parts of an engine, put together.
pub(crate) struct Engine {
    /// Another one takes its place when the settings change.
    pub(crate) agent: RwLock<Arc<Agent>>,
    pub(crate) base: Base,
    pub(crate) stack: Arc<Stack>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) tally: Arc<dyn Tally>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) queue: Arc<dyn Queue>,
    pub(crate) files: Option<(SqliteStore, SqliteLedger)>,
}

pub(crate) async fn open(settings: Settings) -> Result<Engine, OpenError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let seed = Arc::new(Seed::new(match settings.seed {
        Some(seed) => seed,
        None => getrandom::u64().map_err(|error| OpenError::NoRandomness(error.to_string()))?,
    }));
    let kept = keep(&settings, clock.now()).await?;
    let bare = Arc::clone(&kept.journal);
    let base = Base {
        clock: Arc::clone(&clock),
        seed: Arc::clone(&seed),
        journal: bare,
        ledger: Arc::clone(&kept.ledger),
        client: HttpClient::new(),
    };
    let mut config = agent_config(&settings);
    let policy = Arc::clone(&settings.policy);
    let tools = toolbox(&settings, &config.delegation, &kept.journal)?;
    let parts = base.parts(settings)?;
    config.windows = windows(&parts.chains);
    let stack = Arc::new(stack(parts));
    let redactor = Arc::clone(stack.redactor());
    let bare = Arc::clone(&kept.journal);
    let journal: Arc<dyn Journal> = Arc::new(RedactingJournal::new(bare, Arc::clone(&redactor)));
    let scrub = Arc::clone(&redactor);
    let keeps = Arc::new(move |text: &str| matches!(scrub.text(text), Cow::Borrowed(_)));
    let model: Arc<dyn Model> = Arc::clone(&stack) as Arc<dyn Model>;
    let draining = Arc::default();
    let journal_of_runs = Arc::clone(&journal);
    let agent =
        Agent { model, journal: journal_of_runs, clock, seed, tools, policy, draining, keeps, config };
    let agent = RwLock::new(Arc::new(agent));
    let Kept { ledger, queue, tally, files, .. } = kept;
    Ok(Engine { agent, base, stack, journal, ledger, tally, redactor, queue, files })
}

/// What runs have in common by these settings, but for the windows of their models.
fn agent_config(settings: &Settings) -> AgentConfig {
    let mut config = settings.agent.clone();
    config.reserved.extend(files_of(&settings.store));
    let template = |(name, colleague): (&AgentName, &Colleague)| {
        let run = created(Task { agent: name.clone(), ..colleague.task.clone() });
        (name.clone(), Template { about: colleague.about.clone(), run })
    };
    config.delegation.agents.extend(settings.colleagues.iter().map(template));
    config
}

/// The largest window of each chain, in tokens.
fn windows(chains: &Chains) -> BTreeMap<ModelName, u64> {
    chains.iter().map(|(name, targets)| (name.clone(), largest_window(targets))).collect()
}

/// The built-in tools, and those of the settings.
fn toolbox(
    settings: &Settings,
    delegation: &Delegation,
    journal: &Arc<dyn Journal>,
) -> Result<Toolbox, OpenError> {
    let mut tools = Toolbox::new();
    add_file_tools(&mut tools)
        .expect("the built-in tools have names of their own and schemas that are tested");
    tools.add(ReadResult::over(Arc::clone(journal)))?;
    for tool in &settings.tools {
        tools.add(Arc::clone(tool))?;
    }
    if !delegation.agents.is_empty() {
        tools.add(Delegate::to(delegation.told()))?.add(SubmitTask::to(delegation.told()))?;
    }
    Ok(tools)
}

/// What every stack of an engine stands on.
pub(crate) struct Base {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) seed: Arc<Seed>,
    /// Without the redactor, which each stack puts before it.
    journal: Arc<dyn Journal>,
    ledger: Arc<dyn Ledger>,
    /// One pool of connections for all.
    client: HttpClient,
}

impl Base {
    /// The agent by other settings, over another stack.
    pub(crate) fn refitted(
        &self,
        before: &Agent,
        stack: Arc<Stack>,
        settings: &Settings,
    ) -> Result<Agent, OpenError> {
        let mut config = agent_config(settings);
        let tools = toolbox(settings, &config.delegation, &self.journal)?;
        config.windows = windows(&chains(settings, &self.client, &self.clock)?);
        let policy = Arc::clone(&settings.policy);
        Ok(Agent { model: stack as Arc<dyn Model>, tools, policy, config, ..before.clone() })
    }

    /// The parts of a stack by these settings.
    pub(crate) fn parts(&self, mut settings: Settings) -> Result<Parts, OpenError> {
        settings.secrets.extend(settings.models.iter().filter_map(key));
        let chains = chains(&settings, &self.client, &self.clock)?;
        Ok(Parts {
            clock: Arc::clone(&self.clock),
            seed: Arc::clone(&self.seed),
            journal: Arc::clone(&self.journal),
            ledger: Arc::clone(&self.ledger),
            budgets: settings.budgets,
            secrets: settings.secrets,
            chains,
            config: settings.stack,
        })
    }
}

/// Where events and money are kept.
struct Kept {
    journal: Arc<dyn Journal>,
    queue: Arc<dyn Queue>,
    ledger: Arc<dyn Ledger>,
    tally: Arc<dyn Tally>,
    files: Option<(SqliteStore, SqliteLedger)>,
}

/// Opens the store. Processes that died are recovered on the way: what they had under way goes to suspense.
async fn keep(settings: &Settings, now: backstop_call::Timestamp) -> Result<Kept, OpenError> {
    let Place::File(path) = &settings.store else {
        let store = MemoryStore::new();
        settings.observers.iter().for_each(|observer| store.observe(Arc::clone(observer)));
        let (journal, queue) = (Arc::new(store.clone()), Arc::new(store.clone()));
        let (tally, ledger) = (Arc::new(store), Arc::new(MemoryLedger::default()));
        return Ok(Kept { journal, queue, ledger, tally, files: None });
    };
    let (path, options) = (path.clone(), settings.store_options.clone());
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(path, options)).await;
    let store = opened.map_err(|error| JournalError::Unusable(error.to_string()))??;
    settings.observers.iter().for_each(|observer| store.observe(Arc::clone(observer)));
    let (ledger, _recovered) = store.ledger(LedgerMode::Written, now).await?;
    Ok(Kept {
        journal: Arc::new(store.clone()),
        queue: Arc::new(store.clone()),
        ledger: Arc::new(ledger.clone()),
        tally: Arc::new(store.clone()),
        files: Some((store, ledger)),
    })
}

/// The files of a store: no tool may reach them.
fn files_of(store: &Place) -> Vec<PathBuf> {
    let Place::File(path) = store else { return Vec::new() };
    let beside = |suffix: &str| {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    };
    ["", "-wal", "-shm", ".owners", ".intents", ".bells"].map(beside).into()
}

fn key(model: &ModelSettings) -> Option<Secret> {
    match &model.leaf {
        Leaf::Endpoint(endpoint) => endpoint.key.clone(),
        Leaf::Model(..) => None,
    }
}

fn largest_window(targets: &[Target]) -> u64 {
    targets.iter().map(|target| target.context_window).max().unwrap_or(0)
}

/// Every chain with its targets; each model is a chain of one.
/// Every chain by its name, with its targets.
type Chains = Vec<(ModelName, Vec<Target>)>;

fn chains(settings: &Settings, client: &HttpClient, clock: &Arc<dyn Clock>) -> Result<Chains, OpenError> {
    let mut targets = BTreeMap::new();
    for model in &settings.models {
        if targets.insert(model.name.clone(), target(model, settings, client, clock)).is_some() {
            return Err(OpenError::NameTaken(model.name.clone()));
        }
    }
    let mut chains: BTreeMap<_, _> =
        targets.iter().map(|(name, target)| (name.clone(), vec![target.clone()])).collect();
    for (chain, models) in &settings.chains {
        let find = |model: &ModelName| {
            let unknown = || OpenError::UnknownModel { chain: chain.clone(), model: model.clone() };
            targets.get(model).cloned().ok_or_else(unknown)
        };
        let links = models.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        if chains.insert(chain.clone(), links).is_some() {
            return Err(OpenError::NameTaken(chain.clone()));
        }
    }
    Ok(chains.into_iter().collect())
}

fn target(model: &ModelSettings, settings: &Settings, client: &HttpClient, clock: &Arc<dyn Clock>) -> Target {
    let (provider, leaf): (_, Arc<dyn Model>) = match &model.leaf {
        Leaf::Model(provider, leaf) => (provider.clone(), Arc::clone(leaf)),
        Leaf::Endpoint(endpoint) => {
            let timeouts = settings.timeouts;
            let leaf =
                HttpModel::new(client, endpoint.clone(), model.id.clone(), timeouts, Arc::clone(clock));
            (endpoint.name.clone(), Arc::new(leaf))
        }
    };
    Target {
        provider,
        model: model.id.clone(),
        place: model.place,
        price: model.price,
        context_window: model.context_window,
        max_output: model.max_output,
        hidden_output: model.hidden_output,
        limits: model.limits,
        leaf,
    }
}
