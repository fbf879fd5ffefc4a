//! What came of it, and whether that is what must have come of it: from the journal, the published repository and the mail that
//! was taken.

#![expect(clippy::format_push_string, reason = "a few short lines, once per command")]

use super::{Play, state};
use crate::commands::demo::report::program_elsewhere;
use crate::complaint::Stop;
use crate::ui::{Look, Mark, Tone, count, span};
use backstop_allowance::Scope;
use backstop_call::{Money, Role};
use backstop_journal::event::ApprovalDecision;
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{Event, EventBody, Journal, Queue, RunFilter, StreamId, TaskFilter, TaskSummary};
use backstop_sim::Mail;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// The pages that the goals ask for.
const PAGES: &[&str] = &["index.md", "pages/hours.md", "pages/tools.md"];
/// The tools that a person must be asked about.
const GATED: &[&str] = &["git_push", "send_email"];

/// How it stood when one subscriber could not be reached.
pub(super) struct Bounce {
    address: String,
    /// The tasks that were dead, with why.
    dead: Vec<String>,
    /// The mails that had arrived.
    arrived: usize,
}

impl Bounce {
    pub(super) fn of(address: &str, dead: &[TaskSummary], mails: &[Mail]) -> Self {
        let why = |task: &TaskSummary| format!("{}: {}", task.task, task.run.message);
        Self { address: address.to_owned(), dead: dead.iter().map(why).collect(), arrived: mails.len() }
    }
}

/// What came of everything.
pub(super) struct Facts {
    published: Vec<String>,
    mails: Vec<(String, usize)>,
    bounce: Bounce,
    tasks: BTreeMap<&'static str, usize>,
    /// Calls that a person said yes to.
    answered: usize,
    spent: Vec<(Role, Money, Money)>,
    /// What is not as it must be.
    wrong: Vec<String>,
}

impl Facts {
    /// Reads it all, after the last task.
    pub(super) async fn gather(play: &Play<'_>, bounce: Bounce, verified: bool) -> Result<Self, Stop> {
        let mut wrong = play.early.clone();
        let mut check = |right: bool, otherwise: String| wrong.extend((!right).then_some(otherwise));
        let published = play.stage.published_files()?;
        for page in PAGES {
            check(published.iter().any(|path| path == page), format!("{page} was not published"));
        }
        for path in &published {
            let is_same = play.stage.published_text(path)? == play.stage.read(path);
            check(is_same, format!("{path} was published otherwise than it was written"));
        }
        check(
            play.stage.read("review.md").contains("pages/hours.md: nothing wrong"),
            "there is no review".into(),
        );

        let (taken, readers) = (play.mail.mails(), play.stage.subscribers());
        let to = |address: &String| taken.iter().filter(|mail| mail.to == [address.as_str()]).count();
        let mails: Vec<_> = readers.iter().map(|address| (address.clone(), to(address))).collect();
        for (address, copies) in &mails {
            check(*copies == 1, format!("{address} got {}", count(*copies, "mail")));
        }
        check(taken.len() == readers.len(), format!("{} were taken", count(taken.len(), "mail")));
        let others = readers.len() - 1;
        let Bounce { address, dead, arrived } = &bounce;
        check(dead.len() == 1 && dead[0].contains(address.as_str()), format!("dead were: {dead:?}"));
        check(*arrived == others, format!("{arrived} of {others} others had their mail"));

        let mut tasks = BTreeMap::new();
        for task in play.store.tasks(TaskFilter::default()).await? {
            *tasks.entry(state(&task).as_str()).or_default() += 1;
            let is_done = state(&task) == TaskState::Done;
            check(is_done, format!("task {} is {}", task.task, state(&task).as_str()));
        }
        let mut streams = Vec::new();
        for run in play.store.runs(RunFilter::default()).await? {
            streams.push((run.role.clone(), play.store.read(&StreamId::Run(run.run), 0).await?));
        }
        let mut answered = 0;
        for (_, events) in &streams {
            let (yes, without) = gated(events);
            answered += yes;
            check(without.is_empty(), format!("these were done without a yes: {}", without.join(", ")));
        }
        let spent = spent(play, &streams);
        for (role, spent, limit) in &spent {
            check(spent <= limit, format!("{role} spent {spent} of {limit}"));
        }
        check(verified, "the audit found a broken chain".into());
        if !wrong.is_empty() {
            wrong.extend(play.serving.warned());
        }
        Ok(Self { published, mails, bounce, tasks, answered, spent, wrong })
    }

    /// Whether everything is as it must be.
    pub(super) fn all_right(&self) -> bool {
        self.wrong.is_empty()
    }

    /// A line for each thing that the example is there to show, and for each that is wrong.
    pub(super) fn told(&self, took: Duration) -> String {
        let look = Look::of_stdout();
        let tasks: usize = self.tasks.values().sum();
        let mut text = format!("\n{} in {}\n", count(tasks, "task"), span(took));
        if self.all_right() {
            let readers = self.mails.len();
            for line in [
                format!("published after a review and a yes: {}", self.published.join(", ")),
                format!("{} of {readers} subscribers had the letter at once", self.bounce.arrived),
                format!("{} had it after a retry; nobody had it twice", self.bounce.address),
                format!(
                    "{} reached beyond the files, each after a yes of its own",
                    count(self.answered, "call")
                ),
                format!("within its budget: {}", self.roles()),
                "the record of it is whole".to_owned(),
            ] {
                text += &format!("{} {line}\n", look.mark(Mark::Good));
            }
        }
        for wrong in &self.wrong {
            text += &format!("{} {}\n", look.mark(Mark::Bad), look.paint(Tone::Bad, wrong));
        }
        text
    }

    fn roles(&self) -> String {
        let each = self.spent.iter().map(|(role, spent, limit)| format!("{role} {spent} of {limit}"));
        each.collect::<Vec<_>>().join(", ")
    }

    /// The same for programs.
    pub(super) fn as_json(&self, took: Duration) -> Value {
        let mails: BTreeMap<_, _> = self.mails.iter().map(|(to, copies)| (to, copies)).collect();
        let role = |(role, spent, limit): &(Role, Money, Money)| json!({ "role": role, "spent_usd": spent.decimal(), "limit_usd": limit.decimal() });
        json!({
            "published": self.published,
            "mails": mails,
            "bounce": {
                "address": self.bounce.address,
                "dead": self.bounce.dead,
                "arrived": self.bounce.arrived,
            },
            "tasks": self.tasks,
            "answered": self.answered,
            "roles": self.spent.iter().map(role).collect::<Vec<_>>(),
            "wrong": self.wrong,
            "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "all_right": self.all_right(),
        })
    }
}

/// How many gated calls of a run were begun with a yes that was given before, and which without.
fn gated(events: &[Event]) -> (usize, Vec<String>) {
    let (mut tools, mut yes, mut answered, mut without) = (BTreeMap::new(), BTreeSet::new(), 0, Vec::new());
    for event in events {
        match &event.body {
            EventBody::ToolPlanned(planned) => {
                tools.insert(&planned.id, &planned.tool);
            }
            EventBody::ApprovalDecided(decided) if decided.decision == ApprovalDecision::Approve => {
                yes.insert(&decided.approval);
            }
            EventBody::ToolStarted(started) => {
                let tool = tools.get(&started.id).map_or("", |tool| tool.as_str());
                let has_yes = started.approval.as_ref().is_some_and(|approval| yes.contains(approval));
                if GATED.contains(&tool) && has_yes {
                    answered += 1;
                } else if GATED.contains(&tool) {
                    without.push(tool.to_owned());
                }
            }
            _ => {}
        }
    }
    (answered, without)
}

/// What each role with a budget spent, and its budget.
fn spent(play: &Play<'_>, streams: &[(Role, Vec<Event>)]) -> Vec<(Role, Money, Money)> {
    let cost = |event: &Event| match &event.body {
        EventBody::CallFinished(finished) => finished.cost,
        EventBody::CallFailed(failed) => failed.cost,
        _ => Money::ZERO,
    };
    let mut all = Vec::new();
    for budget in &play.home.config.budgets {
        let Scope::Role(role) = &budget.scope else { continue };
        let of_role = streams.iter().filter(|(of, _)| of == role).flat_map(|(_, events)| events);
        let sum = of_role.map(cost).fold(Money::ZERO, |sum, cost| sum + cost);
        all.push((role.clone(), sum, budget.limit));
    }
    all
}

/// What to look at next.
pub(super) fn next_steps(base: &Path) -> String {
    let look = Look::of_stdout();
    let mut rows = vec![(format!("cd {}", base.display()), "")];
    rows.extend(program_elsewhere().map(|program| (format!("alias backstop={}", program.display()), "")));
    rows.extend([
        ("backstop tasks".to_owned(), "every task, and what came of it"),
        ("backstop jobs show newsletter".to_owned(), "the job's story"),
        ("backstop show RUN".to_owned(), "the whole story of a run"),
        ("backstop stats --by role".to_owned(), "what each role did, and for how much"),
        ("backstop serve --model sim".to_owned(), "the same in a browser"),
    ]);
    let lines = rows.into_iter().map(|(how, what)| match what {
        "" => format!("  {how}\n"),
        what => format!("  {how:<32}  {}\n", look.paint(Tone::Dim, what)),
    });
    format!("\nLook at what happened:\n{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{ApprovalId, Labels, Timestamp};
    use backstop_journal::event::{ApprovalDecided, ToolPlanned, ToolStarted};
    use backstop_journal::{Body, Hash};
    use backstop_label::Class;

    fn event(body: impl Into<EventBody>) -> Event {
        let stream = StreamId::Run("r1".into());
        let at = Timestamp::from_secs(1);
        Event { position: 1, stream, seq: 1, at, epoch: 1, body: body.into(), hash: Hash::default() }
    }

    fn planned(tool: &str) -> Event {
        event(ToolPlanned {
            id: "c1".into(),
            tool: tool.into(),
            args: Body::default(),
            args_hash: String::new(),
            class: Class::Irreversible,
            key: String::new(),
            plan: Body::default(),
            effect: None,
            preview: Body::default(),
            undo: Body::default(),
            asks: None,
            undoes: None,
            labels: Labels::default(),
        })
    }

    fn decided(decision: ApprovalDecision) -> Event {
        let (by, channel) = ("somebody".to_owned(), "terminal".to_owned());
        event(ApprovalDecided { approval: "a1".into(), id: "c1".into(), decision, by, channel, grant: None })
    }

    fn started(approval: Option<ApprovalId>) -> Event {
        event(ToolStarted { id: "c1".into(), attempt: 1, approval })
    }

    #[test]
    fn a_gated_call_needs_a_yes_before_it() {
        let yes = || decided(ApprovalDecision::Approve);
        let no = || decided(ApprovalDecision::Deny { reason: "".into() });
        let mail = || planned("send_email");
        let by_a1 = || started(Some("a1".into()));
        for (events, want) in [
            (vec![mail(), yes(), by_a1()], (1, 0)),
            (vec![mail(), by_a1(), yes()], (0, 1)),
            (vec![mail(), no(), by_a1()], (0, 1)),
            (vec![mail(), yes(), started(None)], (0, 1)),
            (vec![planned("read_file"), started(None)], (0, 0)),
        ] {
            let (answered, without) = gated(&events);
            assert_eq!((answered, without.len()), want, "{events:?}");
        }
    }
}
