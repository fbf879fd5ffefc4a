//! `backstop demo`: a dozen small tasks on real files, against two simulated providers of which one fails a lot. One task
//! meets its budget, one process is killed and its run resumed. At the end every file is compared with what it must hold,
//! and the provider's own bill with the ledger.

mod files;
mod report;
mod site;
mod tasks;

use crate::args::Global;
use crate::complaint::Stop;
use crate::engine::{open, start_sim};
use crate::home::Home;
use crate::narrate::{Line, Narrator};
use crate::outcome::refused;
use crate::progress::Screen;
use crate::ui::{Mark, Tone, one_line, out};
use backstop::Backstop;
use backstop_call::{Clock, Code, RunId, TaskId, Timestamp};
use backstop_journal::{Event, EventBody, Journal, RunFilter, StreamId};
use backstop_sim::{Scenario, Sim, SimConfig};
use backstop_stack::SystemClock;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tasks::DemoTask;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

/// How many tasks are worked on at the same time.
const SIDE_BY_SIDE: usize = 4;
/// How often the run of the process that is to be killed is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How often the journal is read for what to tell.
const TELL_AGAIN: Duration = Duration::from_millis(50);
/// How many events are read at once.
const PAGE_EVENTS: usize = 500;
/// The chain that the demo asks.
const CHAIN: &str = "main";

/// See it work: a dozen tasks through a storm of failures
///
/// Two simulated providers on this machine, one of which fails a lot; no key and no network are needed. Takes less than half a
/// minute.
#[derive(Debug, clap::Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_long_help = "Examples:\n  backstop demo\n  backstop demo --exit --seed 7\n  backstop demo site"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Remove everything at the end, for scripts
    #[arg(long)]
    exit: bool,
    /// Draw the storm from this number
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    Site(site::Args),
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    if let Some(What::Site(args)) = args.what {
        return site::main(&args, global).await;
    }
    let clock = SystemClock::new();
    let began = clock.now();
    let place = Stage::make(global, began)?;
    let sim = start_sim(storm(args.seed)).await?;
    place.write_config(&sim)?;
    let home = Home::find(&Global { config: Some(place.config()), data_dir: Some(place.data()) })?;
    let tasks = tasks::read();
    let opened = open(&home, &CHAIN.into(), Vec::new()).await?;
    let screen = Screen::new(false);
    say_hello(&screen, &tasks, &place);

    let (over, is_over) = oneshot::channel();
    let journal = Arc::clone(opened.backstop.journal());
    let teller = tokio::spawn(tell_all(journal, screen.clone(), tasks.len(), is_over));
    let worked = work(&opened.backstop, &tasks, &place, &screen).await;
    // A teller that is gone has told its own panic.
    let _ = over.send(());
    drop(teller.await);
    let bill = sim.shutdown().await;
    let facts = match worked {
        Ok(()) => report::gather(&opened, &tasks, &bill, &place.work(), clock.now()).await,
        Err(stop) => Err(stop),
    };
    let took = clock.now().since(began);
    opened.close().await;
    screen.finish();
    let facts = facts?;
    if args.json {
        out(format_args!("{:#}\n", facts.as_json(took)))?;
    } else {
        out(facts.table(took))?;
    }
    if args.exit {
        place.remove();
    } else if !args.json {
        out(facts.next_steps(&place.base))?;
    }
    Ok(if facts.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The directory the demo plays in.
struct Stage {
    base: PathBuf,
}

impl Stage {
    /// A new directory with a copy of the example files.
    fn make(global: &Global, now: Timestamp) -> Result<Self, Stop> {
        let name = format!("backstop-demo-{}", RunId::new(now, u64::from(std::process::id()) << 29));
        let base = global.data_dir.clone().unwrap_or_else(std::env::temp_dir).join(name);
        let stage = Self { base };
        for (path, text) in files::FILES {
            let path = stage.work().join(path);
            let dir = path.parent().unwrap_or(&stage.base);
            std::fs::create_dir_all(dir)
                .and_then(|()| std::fs::write(&path, text))
                .map_err(|error| unwritable(&path, &error))?;
        }
        Ok(stage)
    }

    fn work(&self) -> PathBuf {
        self.base.join("work")
    }

    fn config(&self) -> PathBuf {
        self.base.join("backstop.toml")
    }

    fn data(&self) -> PathBuf {
        self.base.join(".backstop")
    }

    /// The config of the demo: what a user would write for two providers and a chain.
    fn write_config(&self, sim: &Sim) -> Result<(), Stop> {
        let text = files::CONFIG
            .replace("{primary}", &sim.base_url("primary"))
            .replace("{fallback}", &format!("{}/v1", sim.base_url("fallback")));
        std::fs::write(self.config(), text).map_err(|error| unwritable(&self.config(), &error))
    }

    /// Removes it all. What cannot be removed is left in the directory for temporary files.
    fn remove(&self) {
        drop(std::fs::remove_dir_all(&self.base));
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Stop {
    Stop::new(Code::WorkspaceUnusable, format!("{} cannot be written: {error}", path.display()))
}

fn storm(seed: u64) -> SimConfig {
    let mut config = SimConfig::new(Arc::new(SystemClock::new()));
    config.seed = seed;
    config.scenario = Scenario::named("storm").expect("it is built in");
    config
}

fn say_hello(screen: &Screen, tasks: &[DemoTask], place: &Stage) {
    let look = screen.look();
    screen.line(
        &look
            .paint(Tone::Strong, format_args!("{} tasks, {SIDE_BY_SIDE} at a time, in a storm", tasks.len())),
    );
    let files = place.work();
    screen.line(&look.paint(
        Tone::Dim,
        format_args!("two simulated providers, `primary` fails a lot; files in {}", files.display()),
    ));
    screen.line("");
}

/// Does all tasks, some at a time.
async fn work(backstop: &Backstop, tasks: &[DemoTask], place: &Stage, screen: &Screen) -> Result<(), Stop> {
    let turns = Arc::new(Semaphore::new(SIDE_BY_SIDE));
    let mut works = JoinSet::new();
    // The one that is killed takes longest and begins first; then the one that meets its budget, before the storm has opened
    // a breaker and that would be why it stops.
    let mut tasks = tasks.to_vec();
    tasks.sort_by_key(|task| (task.kill_after.is_none(), task.cost.is_none()));
    for task in tasks {
        let (backstop, turns, screen) = (backstop.clone(), Arc::clone(&turns), screen.clone());
        let (config, data, dir) = (place.config(), place.data(), place.work());
        works.spawn(async move {
            let _turn = turns.acquire_owned().await;
            let done = match task.kill_after {
                Some(after) => {
                    let child = Child { config, data, dir, task: &task };
                    let run = child.run_and_kill(&backstop, after, &screen).await?;
                    backstop.resume(&run, None).await
                }
                None => backstop.run(task.task(&dir)).await,
            };
            done.map(drop).map_err(|error| refused(None, &error))
        });
    }
    while let Some(done) = works.join_next().await {
        done.map_err(|error| Stop::new(Code::Internal, format!("a task of the demo died: {error}")))??;
    }
    Ok(())
}

/// A second process, `backstop run`, that works on one task in the same database.
struct Child<'a> {
    config: PathBuf,
    data: PathBuf,
    dir: PathBuf,
    task: &'a DemoTask,
}

impl Child<'_> {
    /// Starts it, kills it with SIGKILL once so many tool calls are done, and gives the run it left behind.
    async fn run_and_kill(&self, backstop: &Backstop, after: u32, screen: &Screen) -> Result<RunId, Stop> {
        let failed = |what: &str, error: &std::io::Error| {
            Stop::new(Code::Internal, format!("the second process cannot be {what}: {error}"))
        };
        let said = self.data.with_file_name("second-process.txt");
        let stderr = std::fs::File::create(&said).map_err(|error| unwritable(&said, &error))?;
        let program = std::env::current_exe().map_err(|error| failed("found", &error))?;
        let mut child = Command::new(program)
            .args(["run", "--quiet", "--model", CHAIN, "--id", &self.task.id])
            .arg("--config")
            .arg(&self.config)
            .arg("--data-dir")
            .arg(&self.data)
            .arg("--workspace")
            .arg(&self.dir)
            .arg(&self.task.message)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| failed("started", &error))?;
        let pid = child.id();
        let run = loop {
            let runs = backstop.journal().runs(RunFilter::default()).await?;
            let ours = runs.into_iter().find(|run| run.task == TaskId::from(self.task.id.as_str()));
            if let Some(run) = ours.filter(|run| run.tool_calls >= after) {
                break run.run;
            }
            if let Some(status) = child.try_wait().map_err(|error| failed("watched", &error))? {
                let said = std::fs::read_to_string(&said).unwrap_or_default();
                let message = format!("the second process ended by itself: {status}: {}", one_line(&said));
                return Err(Stop::new(Code::Internal, message));
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        };
        child.kill().and_then(|()| child.wait()).map_err(|error| failed("killed", &error))?;
        let look = screen.look();
        let name = look.paint(Tone::Dim, format_args!("{:<16} ", self.task.id));
        let text = format!("process {pid} killed after {after} tool calls (SIGKILL)");
        screen.line(&format!("  {name}{} {}", look.mark(Mark::Bad), look.paint(Tone::Bad, text)));
        Ok(run)
    }
}

/// Tells what happens in all runs, of both processes, until `over`: what failed, what stood in, what ended.
async fn tell_all(journal: Arc<dyn Journal>, screen: Screen, tasks: usize, mut over: oneshot::Receiver<()>) {
    let mut teller = Teller { screen, tasks, ended: 0, narrators: BTreeMap::new() };
    let mut after = 0;
    loop {
        let last = tokio::select! {
            _ = &mut over => true,
            () = tokio::time::sleep(TELL_AGAIN) => false,
        };
        // A journal that cannot be read is told by who works on the tasks.
        while let Ok(events) = journal.tail(after, PAGE_EVENTS).await {
            let Some(newest) = events.last() else { break };
            after = newest.position;
            for event in &events {
                teller.take(event);
            }
        }
        if last {
            return;
        }
    }
}

struct Teller {
    screen: Screen,
    tasks: usize,
    ended: usize,
    narrators: BTreeMap<RunId, (TaskId, Narrator)>,
}

impl Teller {
    fn take(&mut self, event: &Event) {
        let StreamId::Run(run) = &event.stream else { return };
        if let EventBody::RunCreated(created) = &event.body {
            self.narrators.insert(run.clone(), (created.task.clone(), Narrator::default()));
        }
        let Some((task, narrator)) = self.narrators.get_mut(run) else { return };
        // How a run ended says more than the call it ended with.
        let told = |line: &Line| {
            let step = line.mark == Mark::Step && !line.text.starts_with("goes on");
            !step && !matches!(event.body, EventBody::CallFailed(_))
        };
        let line = narrator.push(event).filter(told);
        if let Some(line) = line {
            self.screen.narrated(Some(task.as_str()), &line);
        }
        if let EventBody::RunFinished(finished) = &event.body {
            self.ended += 1;
            self.screen.narrated(Some(task.as_str()), &report::ended(finished));
        }
        let under_way = self.narrators.len() - self.ended;
        self.screen.now(format!("{} of {} tasks ended, {under_way} under way", self.ended, self.tasks));
    }
}
