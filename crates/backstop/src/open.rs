//! The assembly: settings in, parts out. This is the one place that knows them all.

use crate::settings::{Leaf, ModelSettings, Place, Settings};
use backstop_agent::{Agent, Toolbox, ToolboxError, tools::add_file_tools};
use backstop_allowance::Ledger;
use backstop_call::{Clock, Code, Model, ModelName, Secret, Seed};
use backstop_journal::{Journal, JournalError, Tally};
use backstop_provider::{HttpClient, HttpModel};
use backstop_stack::{Parts, RedactingJournal, Redactor, Stack, SystemClock, Target, stack};
use backstop_store::{LedgerMode, MemoryLedger, MemoryStore, SqliteLedger, SqliteStore};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

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
    pub(crate) agent: Agent,
    pub(crate) base: Base,
    pub(crate) stack: Arc<Stack>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) ledger: Arc<dyn Ledger>,
    pub(crate) tally: Arc<dyn Tally>,
    pub(crate) redactor: Arc<Redactor>,
    pub(crate) files: Option<(SqliteStore, SqliteLedger)>,
    /// The largest window of each chain, in tokens.
    pub(crate) windows: BTreeMap<ModelName, u64>,
}

pub(crate) async fn open(mut settings: Settings) -> Result<Engine, OpenError> {
    settings.agent.reserved.extend(files_of(&settings.store));
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
    let agent_config = settings.agent.clone();
    let policy = Arc::clone(&settings.policy);
    let tools = toolbox(&settings)?;
    let parts = base.parts(settings)?;
    let windows =
        parts.chains.iter().map(|(name, targets)| (name.clone(), largest_window(targets))).collect();
    let stack = Arc::new(stack(parts));
    let redactor = Arc::clone(stack.redactor());
    let journal: Arc<dyn Journal> =
        Arc::new(RedactingJournal::new(Arc::clone(&kept.journal), Arc::clone(&redactor)));
    let scrub = Arc::clone(&redactor);
    let keeps = Arc::new(move |text: &str| matches!(scrub.text(text), Cow::Borrowed(_)));
    let model: Arc<dyn Model> = Arc::clone(&stack) as Arc<dyn Model>;
    let agent = Agent {
        model,
        journal: Arc::clone(&journal),
        clock,
        seed,
        tools,
        policy,
        keeps,
        config: agent_config,
    };
    let Kept { ledger, tally, files, .. } = kept;
    Ok(Engine { agent, base, stack, journal, ledger, tally, redactor, files, windows })
}

/// The built-in tools, and those of the settings.
fn toolbox(settings: &Settings) -> Result<Toolbox, OpenError> {
    let mut tools = Toolbox::new();
    add_file_tools(&mut tools)
        .expect("the built-in tools have names of their own and schemas that are tested");
    for tool in &settings.tools {
        tools.add(Arc::clone(tool))?;
    }
    Ok(tools)
}

/// What every stack of an engine stands on.
pub(crate) struct Base {
    clock: Arc<dyn Clock>,
    seed: Arc<Seed>,
    /// Without the redactor, which each stack puts before it.
    journal: Arc<dyn Journal>,
    ledger: Arc<dyn Ledger>,
    /// One pool of connections for all.
    client: HttpClient,
}

impl Base {
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
    ledger: Arc<dyn Ledger>,
    tally: Arc<dyn Tally>,
    files: Option<(SqliteStore, SqliteLedger)>,
}

/// Opens the store. Processes that died are recovered on the way: what they had under way goes to suspense.
async fn keep(settings: &Settings, now: backstop_call::Timestamp) -> Result<Kept, OpenError> {
    let Place::File(path) = &settings.store else {
        let store = MemoryStore::new();
        settings.observers.iter().for_each(|observer| store.observe(Arc::clone(observer)));
        let (tally, ledger) = (Arc::new(store.clone()), Arc::new(MemoryLedger::default()));
        return Ok(Kept { journal: Arc::new(store), ledger, tally, files: None });
    };
    let (path, options) = (path.clone(), settings.store_options.clone());
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(path, options)).await;
    let store = opened.map_err(|error| JournalError::Unusable(error.to_string()))??;
    settings.observers.iter().for_each(|observer| store.observe(Arc::clone(observer)));
    let (ledger, _recovered) = store.ledger(LedgerMode::Written, now).await?;
    Ok(Kept {
        journal: Arc::new(store.clone()),
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
    ["", "-wal", "-shm", ".owners", ".intents"].map(beside).into()
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
