//! `backstop serve`: the gateway, for agents that exist already.

use super::worker::{crew, let_go};
use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::{ask_sim, found, open_with, sim_model, start_sim};
use crate::home::Home;
use crate::signals::{Ends, Reloads};
use crate::toolset::{Lacking, of_agents, tools};
use crate::ui::{Look, Mark, count, tell};
use backstop::{Backstop, ModelSettings, Settings, Workers};
use backstop_call::{Clock, Code};
use backstop_journal::JournalError;
use backstop_server::alerts::{Outside, Receiver, Watch, receivers};
use backstop_server::config::{Config, SIM, ThisProcess};
use backstop_server::gateway::{
    ApprovalsParts, Bell, BellLimits, EngineParts, Gateway, GatewayLimits, GatewayParts, Live, Notices, serve,
};
use backstop_server::jobs::{JobBook, Scheduler};
use backstop_server::keys::warnings;
use backstop_server::numbers::{Numbers, Pulse};
use backstop_server::otlp::{Collector, ExportError, Exporter};
use backstop_server::retention::Sweep;
use backstop_server::settings::{FOUND, Plan, base};
use backstop_sim::{Sim, SimConfig};
use backstop_stack::{Limits, SystemClock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;

/// Serve agents that exist already, in any language
///
/// An agent sets ANTHROPIC_BASE_URL or OPENAI_BASE_URL to this address and changes nothing else. Every model call of it is
/// retried, failed over, limited, budgeted, redacted and recorded. Without a config file it uses what it finds: the keys of
/// Anthropic and OpenAI in the environment, an Ollama on this machine. SIGHUP reads the config anew; SIGTERM lets the
/// calls under way end.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop serve
  ANTHROPIC_BASE_URL=http://127.0.0.1:4141 claude
  OPENAI_BASE_URL=http://127.0.0.1:4141/v1 python agent.py
  backstop serve --model sim                      Try it without any key
  backstop serve --listen 0.0.0.0:4141            For other machines; needs `backstop keys create NAME`")]
pub(crate) struct Args {
    /// Listen here instead of where the config says; port 0 takes a free one
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// Answer everything with this model or chain; `sim` is the simulated one
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
}

/// What the gateway answers with, and what of the config it must leave out.
struct Offer {
    parts: EngineParts,
    missing: Vec<String>,
}

/// Where what is offered comes from, each time anew.
struct Source<'a> {
    args: &'a Args,
    global: &'a Global,
    sim: Option<&'a Sim>,
    /// Where the scheduler hears of another config.
    configs: watch::Sender<Config>,
    /// Where whoever looks after alerts does.
    alerts: mpsc::Sender<AlertsChanged>,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    raise_open_files();
    let sim = match args.model.as_deref() {
        Some(SIM) => Some(start_sim(SimConfig::new(Arc::new(SystemClock::new()))).await?),
        _ => None,
    };
    let pulse = Pulse::default();
    let receivers = receivers(&home.config, &ThisProcess)?;
    let mut offer = offer(&home, &args, sim.as_ref()).await?;
    let approvals = ApprovalsParts::of(&home.config, &ThisProcess, Bell::new(BellLimits::default()))?;
    let live = Live::default();
    let observers = [pulse.observer(), approvals.bell.observer(), live.observer()];
    offer.parts.settings.observers.extend(observers);
    let opened = open_with(&home, offer.parts.settings.clone(), sim).await?;
    let listen = args.listen.unwrap_or(home.config.serve.listen);
    let numbers = Numbers::of(&opened.backstop, &home.config);
    let parts = GatewayParts {
        backstop: opened.backstop.clone(),
        engine: offer.parts,
        limits: limits(&home.config),
        environment: home.config.keys.environment.clone(),
        data_dir: home.config.data_dir.clone(),
        numbers: numbers.clone(),
        jobs: JobBook::of(&home.config),
        approvals,
        live,
    };
    let models = parts.engine.settings.askable();
    let gateway = Gateway::open(parts).await?;
    if !listen.ip().is_loopback() && !gateway.has_keys() {
        opened.close().await;
        let message = format!("{listen} can be reached from other machines, and there are no keys");
        return Err(Stop::new(Code::KeysNeeded, message));
    }
    // Before anybody is told where it listens: from then on signals must find it ready.
    let signals = (Ends::listen(), Reloads::listen());
    let mut exporter = exporter(&home.config, &opened.backstop, &numbers).await?;
    let watch = watch_of(&home, receivers, numbers.clone(), &opened.backstop).await?;
    let listener = match TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            opened.close().await;
            return Err(Stop::new(Code::ListenFailed, format!("cannot listen on {listen}: {error}")));
        }
    };
    greet(&gateway, &listener, (&offer.missing, &home.config)).await;
    let counting = numbers.keep_up(&pulse, uncounted);
    let crew = crew(&home.config, home.config.workers.slots, models);
    let workers = Workers::start(opened.backstop.clone(), crew);
    let ((configs, changed), (alerts, changes)) = (watch::channel(home.config.clone()), mpsc::channel(1));
    let sweeping = Box::pin(sweep(&opened.backstop, &home.config).look_after(changed.clone(), warn));
    let scheduling = Box::pin(scheduler(&opened.backstop, &home.config).look_after(changed, warn));
    let source = Source { args: &args, global, sim: opened.sim.as_ref(), configs, alerts };
    tokio::select! {
        () = run(listener, (&gateway, &workers), &source, signals) => {}
        () = counting => {}
        () = scheduling => {}
        () = sweeping => {}
        () = look_after(watch, (&gateway, &opened.backstop), home.config.alerts.every.0, changes) => {}
        () = export(exporter.as_mut()) => {}
    }
    let_go(workers, &home.config).await;
    last_words(exporter).await;
    drop(gateway);
    opened.close().await;
    Ok(ExitCode::SUCCESS)
}

/// Erases what is old enough.
fn sweep(backstop: &Backstop, config: &Config) -> Sweep {
    Sweep::new(backstop.clone(), Arc::clone(backstop.clock()), config.retention)
}

/// Puts jobs into the queue by the clock on the wall, which may be set.
fn scheduler(backstop: &Backstop, config: &Config) -> Scheduler {
    Scheduler::new(backstop.clone(), config.clone(), Arc::new(|| SystemClock::new().now()))
}

fn uncounted(error: &JournalError) {
    warn(&format!("what happened cannot be counted now: {error}"));
}

fn warn(what: &str) {
    tell(format_args!("warning: {what}"));
}

/// The rules of the config, looked after by this process.
async fn watch_of(
    home: &Home,
    receivers: Vec<Arc<Receiver>>,
    numbers: Numbers,
    backstop: &Backstop,
) -> Result<Watch, Stop> {
    let (journal, queue) = (Arc::clone(backstop.journal()), Arc::clone(backstop.queue()));
    let clock = Arc::clone(backstop.clock());
    Ok(Watch::of(&home.config, receivers, numbers, (journal, queue, clock)).await?)
}

/// Who tells the collector, where the config has one.
async fn exporter(config: &Config, backstop: &Backstop, numbers: &Numbers) -> Result<Option<Exporter>, Stop> {
    let Some(collector) = Collector::of(config, &ThisProcess)? else { return Ok(None) };
    Ok(Some(Exporter::open(collector, Arc::clone(backstop.journal()), numbers.clone()).await?))
}

/// Tells the collector of the last calls. One that is down does not hear of them any more.
async fn last_words(exporter: Option<Exporter>) {
    if let Some(mut exporter) = exporter
        && exporter.round().await.is_ok()
    {
        let _ = exporter.measure().await;
    }
}

/// Tells the collector what happens, until it is dropped. What it does not take is said once.
async fn export(exporter: Option<&mut Exporter>) {
    let Some(exporter) = exporter else { return std::future::pending().await };
    let mut told: Option<ExportError> = None;
    exporter
        .keep_up(|result| {
            let error = result.err();
            if let Some(error) = error.filter(|error| told.as_ref() != Some(*error)) {
                warn(&error.to_string());
            }
            told = error.cloned();
        })
        .await;
}

/// What another config says of alerts.
struct AlertsChanged {
    config: Config,
    receivers: Vec<Arc<Receiver>>,
}

/// How often the rules are looked at.
fn ticks(every: Duration) -> Interval {
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

/// Looks at the rules again and again, until it is dropped: one process at a time, of all that serve over a database, so that
/// nobody is told twice. The others wait for the end of that one.
async fn look_after(
    mut watch: Watch,
    (gateway, backstop): (&Gateway, &Backstop),
    every: Duration,
    mut changes: mpsc::Receiver<AlertsChanged>,
) {
    let mut tick = ticks(every);
    let (mut told, mut turn) = (BTreeMap::new(), None);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            Some(AlertsChanged { config, receivers }) = changes.recv() => {
                // What cannot be resolved was told when the config was read.
                let rules = config.alerts.resolved_rules().unwrap_or_default();
                watch.change(rules, config.alerts.routing(), receivers);
                tick = ticks(config.alerts.every.0);
                continue;
            }
        }
        if let (None, Some((store, _))) = (&turn, backstop.files()) {
            turn = match store.take_turn("alerts") {
                Ok(None) => continue,
                Ok(turn) => turn,
                Err(error) => {
                    warn(&format!("who looks after alerts cannot be found out: {error}"));
                    continue;
                }
            };
        }
        let (health, queue) = (gateway.word_of_health().await.to_owned(), gateway.queue_state().await);
        let outside = Outside { health, queue };
        let looked = watch.look(&outside).await;
        let heard = watch.tell().await;
        if let Some(error) = looked.err().or(heard.err()) {
            tell(format_args!("warning: alerts cannot be looked after now: {error}"));
        }
        if *watch.undecided() != told {
            told.clone_from(watch.undecided());
            for (rule, why) in &told {
                tell(format_args!("warning: the alert rule `{rule}`: {why}"));
            }
        }
    }
}

/// Each connection is an open file, and systems allow a process few of them unless it asks for more.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    // Where it may not be raised, fewer connections are taken at a time, and the others wait.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Serves until it is asked to end, and takes a new config whenever it is asked to.
async fn run(
    listener: TcpListener,
    (gateway, workers): (&Arc<Gateway>, &Workers),
    source: &Source<'_>,
    (mut ends, mut reloads): (Ends, Reloads),
) {
    let reloading = async {
        loop {
            reloads.asked().await;
            match reload((gateway, workers), source).await {
                Ok(()) => tell("the config was read anew"),
                Err(stop) => {
                    stop.tell();
                    tell("the config stays as it was");
                }
            }
        }
    };
    let drained = tokio::select! {
        drained = serve(listener, Arc::clone(gateway), async {
            ends.asked().await;
            tell("ending: calls under way are let end; no others are taken");
        }) => drained,
        () = reloading => return,
    };
    if drained.cancelled > 0 {
        tell(format_args!("{} did not end in time and were cancelled", count(drained.cancelled, "call")));
    }
}

async fn reload((gateway, workers): (&Gateway, &Workers), source: &Source<'_>) -> Result<(), Stop> {
    let home = Home::find(source.global)?;
    let offer = offer(&home, source.args, source.sim).await?;
    let notices = Notices::of(&home.config, &ThisProcess)?;
    let receivers = receivers(&home.config, &ThisProcess)?;
    tell_missing(&offer.missing);
    let models = offer.parts.settings.askable();
    let reloaded = gateway.reload(offer.parts, notices).await;
    reloaded.map_err(|error| Stop::new(error.code(), error.to_string()))?;
    workers.change(crew(&home.config, home.config.workers.slots, models));
    gateway.jobs().change(&home.config);
    source.configs.send_replace(home.config.clone());
    // Whoever looks after them takes it before the next look; should nobody any more, this process ends.
    drop(source.alerts.send(AlertsChanged { config: home.config, receivers }).await);
    Ok(())
}

/// Everything that can be asked: the config's models, or what is found, or the simulated one.
async fn offer(home: &Home, args: &Args, sim: Option<&Sim>) -> Result<Offer, Stop> {
    let clock = SystemClock::new();
    let mut settings = base(&home.config, &ThisProcess);
    let plan = Plan { config: &home.config, world: &ThisProcess, now: clock.now() };
    let mut patterns = home.config.asked.clone();
    let (mut endpoints, mut missing) = (Vec::new(), Vec::new());
    if let Some(sim) = sim {
        settings.models.push(sim_model(sim, "sim", SIM)?);
        ask_sim(&mut settings);
    } else if home.config.providers.is_empty() {
        endpoints = discovered(&plan, &mut settings, &clock).await?;
    } else {
        missing = plan.all(&mut settings).into_iter().map(|problem| problem.message).collect();
        endpoints = plan.endpoints();
    }
    if settings.models.is_empty() && endpoints.is_empty() {
        return Err(Stop::new(Code::NoProvider, "there is no provider to call"));
    }
    if let Some(model) = &args.model {
        known(&settings, model)?;
        patterns = vec![("*".to_owned(), model.as_str().into())];
    }
    // Runs that are let go on here need the tools of their agents; without one of those the others go on.
    settings.tools = tools(home, &of_agents(home), Lacking::IsTold).await?;
    if !home.config.serve.unnamed_models || args.model.is_some() {
        endpoints.clear();
    }
    let keyless = plan.keyless();
    Ok(Offer {
        parts: EngineParts { settings, patterns, endpoints, keyless, config: Arc::new(home.config.clone()) },
        missing,
    })
}

/// What is there without a config.
async fn discovered(
    plan: &Plan<'_>,
    settings: &mut Settings,
    clock: &SystemClock,
) -> Result<Vec<(backstop_provider::Endpoint, Limits)>, Stop> {
    let found = found(clock).await?;
    if !found.is_empty() {
        plan.found(settings, &found, &FOUND.into())?;
    }
    // An Ollama's models go by their own names too: that is what its clients ask for.
    for provider in found.iter().filter(|provider| provider.endpoint.local) {
        for id in &provider.models {
            if !settings.models.iter().any(|model| model.name.as_str() == id) {
                let endpoint = provider.endpoint.clone();
                settings.models.push(ModelSettings::at(endpoint, id.as_str(), id, clock.now()));
            }
        }
    }
    Ok(found.into_iter().map(|provider| (provider.endpoint, Limits::default())).collect())
}

fn known(settings: &Settings, model: &str) -> Result<(), Stop> {
    let models = settings.models.iter().map(|there| there.name.as_str());
    let names: Vec<_> = models.chain(settings.chains.iter().map(|(name, _)| name.as_str())).collect();
    if names.contains(&model) {
        return Ok(());
    }
    let stop = Stop::new(Code::UnknownModel, format!("there is no model or chain `{model}`"));
    Err(stop.with_hint(format!("take one of: {}", names.join(", "))))
}

fn limits(config: &Config) -> GatewayLimits {
    const MIB: usize = 1 << 20;
    let serve = &config.serve;
    let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    GatewayLimits {
        body_bytes_max: size(serve.body).saturating_mul(MIB),
        bodies_bytes_max: size(serve.bodies).saturating_mul(MIB),
        connections_max: size(serve.connections),
        calls_max: size(serve.calls),
        idle: serve.idle.0,
        call: config.timeouts.call.0,
        drain: serve.drain.0,
    }
}

/// What a newcomer needs to know: where it is, what to set, who may come.
async fn greet(gateway: &Gateway, listener: &TcpListener, (missing, config): (&[String], &Config)) {
    let look = Look::of_stderr();
    let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
    tell(format_args!("{} the gateway listens on http://{address}; Ctrl-C ends it", look.mark(Mark::Good)));
    tell(format_args!("  ANTHROPIC_BASE_URL=http://{address}"));
    tell(format_args!("  OPENAI_BASE_URL=http://{address}/v1"));
    tell(if gateway.has_keys() {
        "  every call needs a key; `backstop keys list` shows them"
    } else {
        "  there are no keys, so only this machine may call; `backstop keys create NAME` makes one"
    });
    tell(format_args!("  people see what agents do at http://{address}"));
    if gateway.has_approvers() {
        tell(format_args!("  people answer what agents ask at http://{address}/approvals"));
    }
    tell_missing(missing);
    for warning in warnings(&gateway.keys().await, SystemClock::new().now(), &config.keys) {
        warn(&warning.to_string());
    }
}

fn tell_missing(missing: &[String]) {
    for problem in missing {
        tell(format_args!("warning: {problem}; its models are left out"));
    }
}
