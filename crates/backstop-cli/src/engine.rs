//! Opens an engine for a command: the models that were asked for, the log, and the events as they happen.

use crate::complaint::Stop;
use crate::home::Home;
use crate::toolset::{self, Lacking};
use crate::ui::tell;
use crate::warnings::Warnings;
use backstop::{Backstop, ModelSettings, OpenError, Settings};
use backstop_agent::Tool;
use backstop_call::{Clock, Code, ModelName, RunId};
use backstop_journal::projections::log::Level;
use backstop_journal::{Event, StreamId};
use backstop_label::ModelPlace;
use backstop_provider::{BaseUrl, Discovered, HttpClient, discover, known_provider};
use backstop_server::config::sections::{LogLevel, LogTarget};
use backstop_server::config::{Problem, SIM, Surroundings, ThisProcess};
use backstop_server::logs::{LogWriter, Target};
use backstop_server::settings::{FOUND, Plan, base, colleagues};
use backstop_server::tasks;
use backstop_sim::{ModelSpec, Sim, SimConfig};
use backstop_stack::SystemClock;
use std::collections::BTreeSet;
use std::sync::Arc;

/// An engine that is open.
pub(crate) struct Opened {
    pub(crate) backstop: Backstop,
    /// What this process has to warn about.
    pub(crate) warnings: Warnings,
    /// The smallest context window that the models asked for have, in tokens.
    window: Option<u64>,
    log: Option<Arc<LogWriter>>,
    /// The simulated provider, where it answers; held for as long as it is called.
    pub(crate) sim: Option<Sim>,
}

/// Opens an engine in which `wanted` can be asked, and with these tools beside the built-in ones.
pub(crate) async fn open(home: &Home, wanted: &ModelName, tools: Vec<Arc<dyn Tool>>) -> Result<Opened, Stop> {
    let mut settings = Settings { tools, ..base(&home.config, &ThisProcess) };
    let clock = SystemClock::new();
    settings.colleagues = colleagues(&home.config, Some(wanted));
    let sim = fill(home, &mut settings, wanted, &clock).await?;
    if sim.is_some() {
        ask_sim(&mut settings);
    }
    let window = smallest_window(&settings, wanted);
    Ok(Opened { window, ..open_with(home, settings, sim).await? })
}

/// Opens an engine in which nobody is asked, for what is done to a run that exists.
pub(crate) async fn open_idle(home: &Home, tools: Vec<Arc<dyn Tool>>) -> Result<Opened, Stop> {
    open_with(home, Settings { tools, ..base(&home.config, &ThisProcess) }, None).await
}

/// Opens an engine with these settings.
pub(crate) async fn open_with(home: &Home, mut settings: Settings, sim: Option<Sim>) -> Result<Opened, Stop> {
    let log = start_log(home)?.map(Arc::new);
    if let Some(log) = log.clone() {
        settings.observers.push(Arc::new(move |events: &Arc<[Event]>| log.push(events)));
    }
    let warnings = Warnings::default();
    let noted = warnings.clone();
    settings
        .observers
        .push(Arc::new(move |events: &Arc<[Event]>| events.iter().for_each(|event| noted.take(event))));
    let backstop = Backstop::open(settings).await.map_err(|error| refused(home, &error))?;
    Ok(Opened { backstop, warnings, window: None, log, sim })
}

impl Opened {
    /// Tells the log what happened to a run before this process.
    pub(crate) async fn remember(&self, run: &RunId) -> Result<(), Stop> {
        if let Some(log) = &self.log {
            log.remember(self.backstop.journal().read(&StreamId::Run(run.clone()), 0).await?);
        }
        Ok(())
    }

    /// A limit for answers that leaves most of the window to what is asked: a small model would else refuse every call.
    pub(crate) fn answer_tokens_max(&self, wanted: u64) -> u64 {
        self.window.map_or(wanted, |window| wanted.min(window / 4).max(1))
    }

    /// Closes the store and the log; warns when log lines are missing.
    pub(crate) async fn close(self) {
        if let Some((store, ledger)) = self.backstop.files() {
            // What is left of the lease goes back; if that fails, recovery does it at the next start.
            if let Err(error) = ledger.close().await {
                tell(format_args!("warning: the ledger was not closed: {error}"));
            }
            if let Err(error) = store.flush().await {
                tell(format_args!("warning: the last events may be missing: {error}"));
            }
        }
        drop(self.backstop);
        let Some(log) = self.log else { return };
        let report = log.close();
        if let Some(error) = report.error {
            tell(format_args!("warning: {} log lines were not written: {error}", report.failed));
        }
    }
}

/// What to ask, and where that is said.
pub(crate) fn choose(home: &Home, asked: Option<&str>, agent: Option<&ModelName>) -> Result<ModelName, Stop> {
    Ok(tasks::choose(&home.config, asked, agent)?)
}

/// Opens an engine for everything that may be in the queue: all models of the config, and the tools of all its agents. Tells
/// what of it cannot be had. With the names of what can be asked.
pub(crate) async fn open_for_all(home: &Home, sim: bool) -> Result<(Opened, BTreeSet<ModelName>), Stop> {
    let clock = SystemClock::new();
    let tools = toolset::tools(home, &toolset::of_agents(home), Lacking::IsTold).await?;
    let mut settings = Settings { tools, ..base(&home.config, &ThisProcess) };
    let plan = Plan { config: &home.config, world: &ThisProcess, now: clock.now() };
    let sim = if sim { Some(start_sim(SimConfig::new(Arc::new(SystemClock::new()))).await?) } else { None };
    if let Some(sim) = &sim {
        settings.models.push(sim_model(sim, "sim", SIM)?);
    }
    if home.config.providers.is_empty() {
        let found = found(&clock).await?;
        if !found.is_empty() {
            plan.found(&mut settings, &found, &FOUND.into())?;
        }
    } else {
        for problem in plan.all(&mut settings) {
            tell(format_args!("warning: {}; its models are left out", problem.message));
        }
    }
    if settings.models.is_empty() {
        return Err(Stop::new(Code::NoProvider, "there is no provider to call"));
    }
    let names = settings.askable();
    Ok((open_with(home, settings, sim).await?, names))
}

/// The smallest window of the models behind a name.
fn smallest_window(settings: &Settings, wanted: &ModelName) -> Option<u64> {
    let chain = settings.chains.iter().find(|(name, _)| name == wanted);
    let models = chain.map_or(std::slice::from_ref(wanted), |(_, models)| models.as_slice());
    let windows = settings.models.iter().filter(|model| models.contains(&model.name));
    windows.map(|model| model.context_window).min()
}

async fn fill(
    home: &Home,
    settings: &mut Settings,
    wanted: &ModelName,
    clock: &SystemClock,
) -> Result<Option<Sim>, Stop> {
    let plan = Plan { config: &home.config, world: &ThisProcess, now: clock.now() };
    if wanted.as_str() == SIM {
        let sim = start_sim(SimConfig::new(Arc::new(SystemClock::new()))).await?;
        settings.models.push(sim_model(&sim, "sim", SIM)?);
        return Ok(Some(sim));
    }
    if home.config.providers.is_empty() {
        let found = found(clock).await?;
        if found.is_empty() {
            return Err(Stop::new(Code::NoProvider, "there is no provider to call"));
        }
        plan.found(settings, &found, wanted)?;
    } else {
        plan.models(settings, wanted)?;
    }
    Ok(None)
}

/// What can be called without config.
pub(crate) async fn found(clock: &SystemClock) -> Result<Vec<Discovered>, Stop> {
    let wrong = |error: backstop_provider::DiscoverError| {
        let why = std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        Stop::new(Code::ConfigValue, format!("{error}{why}")).with_hint("unset the variable, or mend it")
    };
    discover(|name| ThisProcess.var(name), &HttpClient::new(), clock).await.map_err(wrong)
}

/// Has those who do parts of a task ask the simulated model as well: there is nobody else.
pub(crate) fn ask_sim(settings: &mut Settings) {
    settings.colleagues.values_mut().for_each(|colleague| colleague.task.model = SIM.into());
}

/// Starts the simulated provider.
pub(crate) async fn start_sim(config: SimConfig) -> Result<Sim, Stop> {
    Sim::start(config)
        .await
        .map_err(|error| Stop::new(Code::ListenFailed, format!("{error}: {}", error.source)))
}

/// The model `sim` of a simulated provider, under a provider's name, with its real prices.
pub(crate) fn sim_model(sim: &Sim, provider: &str, name: &str) -> Result<ModelSettings, Stop> {
    let known = known_provider("anthropic").expect("it is built in");
    let spec = ModelSpec::defaults().into_iter().next().expect("the first is `sim`");
    let wrong = |error: backstop_provider::EndpointError| Stop::new(Code::Internal, error.to_string());
    let mut endpoint = known.endpoint(None).map_err(wrong)?;
    endpoint.name = provider.into();
    endpoint.base_url = BaseUrl::parse(&sim.base_url(provider)).map_err(wrong)?;
    endpoint.prices = None;
    Ok(ModelSettings {
        name: name.into(),
        id: spec.id,
        leaf: backstop::Leaf::Endpoint(endpoint),
        place: ModelPlace::Local,
        price: spec.price,
        context_window: spec.context_tokens,
        max_output: spec.output_tokens_max,
        hidden_output: false,
        limits: backstop_stack::Limits::default(),
    })
}

pub(crate) fn start_log(home: &Home) -> Result<Option<LogWriter>, Stop> {
    let logs = &home.config.logs;
    let level = match ThisProcess.var("BACKSTOP_LOG").filter(|text| !text.is_empty()) {
        Some(text) if text == "off" => return Ok(None),
        Some(text) => text.parse().map_err(|error: backstop_journal::projections::log::UnknownLevel| {
            Stop::new(Code::ConfigValue, format!("BACKSTOP_LOG: {error}"))
                .with_hint("set it to debug, info, warn, error or off")
        })?,
        None => match logs.level {
            LogLevel::Error => Level::Error,
            LogLevel::Warn => Level::Warn,
            LogLevel::Info => Level::Info,
            LogLevel::Debug => Level::Debug,
        },
    };
    let target = match logs.to {
        LogTarget::Off => return Ok(None),
        LogTarget::Stdout => Target::Stdout,
        LogTarget::File => Target::Daily { dir: logs.dir.clone(), retention_days: logs.retention_days },
    };
    LogWriter::start(&target, level)
        .map(Some)
        .map_err(|error| Stop::new(Code::Internal, format!("the log cannot be started: {error}")))
}

fn refused(home: &Home, error: &OpenError) -> Stop {
    match error {
        OpenError::Journal(error) => Stop::in_file(&home.config.journal, error),
        other => Problem::new(other.code(), other.to_string()).into(),
    }
}
