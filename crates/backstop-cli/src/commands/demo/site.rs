//! `backstop demo site`: the example in `examples/site/`, a small website that four agents keep. It types the commands that a
//! person would type, says yes to what is asked, and is the mail server, which refuses one subscriber at first. What it tells
//! at the end is read from the journal, the repository and the mail that was taken.

mod facts;
mod hands;
mod stage;

use super::{PAGE_EVENTS, TELL_AGAIN, report};
use crate::args::Global;
use crate::commands::approvals::{Waiting, waiting};
use crate::complaint::Stop;
use crate::home::{Home, open_store};
use crate::narrate::{Line, Narrator};
use crate::progress::Screen;
use crate::signals::asked_to_end;
use crate::ui::{Mark, Tone, out, tell};
use backstop_call::{AgentName, Clock, Code, RunId, Timestamp};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{Event, EventBody, Journal, Queue, StreamId, TaskFilter, TaskSummary};
use backstop_sim::MailServer;
use backstop_stack::SystemClock;
use backstop_store::SqliteStore;
use facts::Facts;
use hands::{Hands, Serving};
use stage::Stage;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// How long is waited for the tasks of one step.
const PATIENCE: Duration = Duration::from_mins(5);
/// What the lead is told first.
const GOALS: &str = "Turn the goals in goals.md into tasks.";
/// What the reviewer is told then.
const REVIEW: &str = "Review what has changed, write your remarks to review.md, and push it to the branch main of published if \
    nothing is wrong.";

/// See a team of agents keep a small website
///
/// A lead hands out goals, a writer writes pages, a reviewer commits and pushes them after a yes, and a daily job sends a letter
/// to subscribers, one of whom cannot be reached at first. The model is simulated, and mail and repository are on this
/// machine: no key and no network are needed, but git and the sandbox of `docs/tools.md` are. Takes less than a minute.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop demo site\n  backstop demo site --dir website --serve\n  backstop demo site --exit"
)]
pub(super) struct Args {
    /// Play in this directory, which must be new or empty, instead of a temporary one
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Leave the dashboard open at the end, with the next letter waiting for a yes, until Ctrl-C
    #[arg(long, conflicts_with = "exit")]
    serve: bool,
    /// Remove everything at the end, for scripts
    #[arg(long)]
    exit: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn main(args: &Args, global: &Global) -> Result<ExitCode, Stop> {
    let began = SystemClock::new().now();
    let mail = MailServer::start()
        .map_err(|error| Stop::new(Code::ListenFailed, format!("no mail server: {error}")))?;
    let stage = Stage::make(args.dir.as_deref(), global, mail.port(), began)?;
    let (screen, home) = (Screen::new(false), stage.home()?);
    let hands = Hands::new(stage.base(), screen.clone())?;
    let serving = hands.serve().await?;
    let mut play = Play {
        store: open_store(&home.config.journal)?,
        stage: &stage,
        home: &home,
        hands: &hands,
        mail: &mail,
        serving,
        screen: screen.clone(),
        teller: Teller { screen, seen: 0, narrators: BTreeMap::new() },
        early: Vec::new(),
    };
    let facts = tokio::select! {
        facts = play.through() => facts?,
        () = asked_to_end() => return Err(Stop::new(Code::Cancelled, "the demo was ended before its end")),
    };
    let took = SystemClock::new().now().since(began);
    play.screen.finish();
    if args.json {
        out(format_args!("{:#}\n", facts.as_json(took)))?;
    } else {
        out(facts.told(took))?;
    }
    if args.serve {
        hands.types(&["jobs", "run", "newsletter", "--queue"])?;
        tell(format_args!(
            "people see it all at http://{}; `backstop approvals` in {} answers what waits; Ctrl-C ends it",
            play.serving.address,
            stage.base().display()
        ));
        tokio::select! {
            // Ctrl-C ends both, and is then why.
            biased;
            () = asked_to_end() => {}
            stop = play.serving.ended() => return Err(stop),
        }
    }
    drop(play);
    if args.exit {
        stage.remove();
    } else if !args.json {
        out(facts::next_steps(stage.base()))?;
    }
    Ok(if facts.all_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Everything that is there while it plays.
struct Play<'a> {
    store: SqliteStore,
    stage: &'a Stage,
    home: &'a Home,
    hands: &'a Hands,
    mail: &'a MailServer,
    serving: Serving,
    screen: Screen,
    teller: Teller,
    /// What was there before somebody said yes to it.
    early: Vec<String>,
}

impl Play<'_> {
    /// From the goals to the letter that arrives in the end.
    async fn through(&mut self) -> Result<Facts, Stop> {
        self.head("The goals become tasks, and the tasks pages");
        self.hands.types(&["submit", "--agent", "lead", "--id", "goals", GOALS])?;
        self.settled().await?;

        self.head("What was written is reviewed, and pushed after a yes");
        self.hands.types(&["submit", "--agent", "reviewer", "--id", "review", REVIEW])?;
        self.settled().await?;

        self.head("The letter, a task for each subscriber, of whom one cannot be reached");
        let lost = self.stage.subscribers().last().cloned().unwrap_or_default();
        self.mail.refuse(&lost);
        self.hands.types(&["jobs", "run", "newsletter", "--queue"])?;
        let tasks = self.settled().await?;
        let dead: Vec<_> = tasks.into_iter().filter(|task| state(task) == TaskState::Dead).collect();
        let shown = self.hands.types(&["tasks", "--state", "dead"])?;
        shown.lines().for_each(|line| self.screen.line(line));
        let bounced = facts::Bounce::of(&lost, &dead, &self.mail.mails());

        self.head("The mailbox is there again: what failed is tried once more");
        self.mail.take(&lost);
        for task in &dead {
            self.hands.types(&["tasks", "retry", task.task.as_str()])?;
        }
        self.settled().await?;
        let verified = self.hands.types(&["audit", "verify"]).is_ok();
        Facts::gather(self, bounced, verified).await
    }

    fn head(&self, text: &str) {
        let look = self.screen.look();
        self.screen.line("");
        self.screen.line(&look.paint(Tone::Strong, text));
    }

    /// Tells what happens and answers what is asked, until every task in the queue is settled. Gives them all.
    async fn settled(&mut self) -> Result<Vec<TaskSummary>, Stop> {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            self.serving.is_alive()?;
            // First the tasks: what is told and asked afterwards is then at least as new.
            let tasks = self.store.tasks(TaskFilter::default()).await?;
            self.teller.catch_up(&self.store).await?;
            let questions = waiting(&self.store).await?;
            for question in &questions {
                self.answer(question)?;
            }
            let is_over = |task: &TaskSummary| !matches!(state(task), TaskState::Waiting | TaskState::Parked);
            if questions.is_empty() && tasks.iter().all(is_over) {
                return Ok(tasks);
            }
            let open = tasks.iter().filter(|task| !is_over(task)).count();
            self.screen.now(format!("{} of {} tasks ended", tasks.len() - open, tasks.len()));
            if clock.now().since(began) > PATIENCE {
                let names: Vec<_> =
                    tasks.iter().filter(|task| !is_over(task)).map(|task| &task.task).collect();
                return Err(Stop::new(Code::Internal, format!("these tasks did not end: {names:?}")));
            }
            tokio::time::sleep(TELL_AGAIN).await;
        }
    }

    /// Says yes, after a look whether what is asked about has not happened already.
    fn answer(&mut self, question: &Waiting) -> Result<(), Stop> {
        let open = &question.open;
        let what = if open.tool == "send_email" {
            let to = open.args["to"][0].as_str().unwrap_or_default();
            if self.mail.mails().iter().any(|mail| mail.to.iter().any(|taken| taken == to)) {
                self.early.push(format!("the mail to {to} was there before the yes"));
            }
            to.to_owned()
        } else {
            if self.stage.published()? != self.stage.first_commit() {
                self.early.push("the pages were pushed before the yes".to_owned());
            }
            format!("{} {}", open.args["remote"], open.args["branch"]).replace('"', "")
        };
        self.teller.question(&open.run, &format!("asks: {} {what}? ({})", open.tool, open.why));
        self.hands.types(&["approvals", "approve", open.approval.as_str()]).map(drop)
    }
}

/// How a task stands.
fn state(task: &TaskSummary) -> TaskState {
    task.queued().map_or(TaskState::Waiting, |queue| queue.state)
}

/// Tells what happens in all runs, under the names of their agents.
struct Teller {
    screen: Screen,
    /// The position of the newest event that was told.
    seen: u64,
    narrators: BTreeMap<RunId, (AgentName, Narrator)>,
}

/// What only looks is not told, nor what is told by how a run ends.
const UNTOLD: &[&str] = &["read_file", "list_files", "git_status", "finish", "goes on", "waits"];

impl Teller {
    async fn catch_up(&mut self, journal: &dyn Journal) -> Result<(), Stop> {
        loop {
            let events = journal.tail(self.seen, PAGE_EVENTS).await?;
            let Some(newest) = events.last() else { return Ok(()) };
            self.seen = newest.position;
            for event in &events {
                self.take(event);
            }
        }
    }

    fn take(&mut self, event: &Event) {
        let StreamId::Run(run) = &event.stream else { return };
        if let EventBody::RunCreated(created) = &event.body {
            self.narrators.insert(run.clone(), (created.agent.clone(), Narrator::default()));
        }
        let Some((agent, narrator)) = self.narrators.get_mut(run) else { return };
        let told = |line: &Line| !UNTOLD.iter().any(|word| line.text.starts_with(word));
        if let Some(line) = narrator.push(event).filter(told) {
            self.screen.narrated(Some(agent.as_str()), &line);
        }
        if let EventBody::RunFinished(finished) = &event.body {
            self.screen.narrated(Some(agent.as_str()), &report::ended(finished));
        }
    }

    fn question(&self, run: &RunId, text: &str) {
        let agent = self.narrators.get(run).map(|(agent, _)| agent.as_str());
        let line = Line { mark: Mark::Wait, tone: Tone::Warn, text: text.to_owned() };
        self.screen.narrated(agent, &line);
    }
}

/// A name for a directory that no other demo has.
fn fresh_name(now: Timestamp) -> String {
    format!("backstop-site-{}", RunId::new(now, u64::from(std::process::id()) << 29))
}
