//! `backstop approvals`: the questions that wait for a person, and the answers.

use crate::args::Global;
use crate::card::card;
use crate::complaint::Stop;
use crate::engine::open_idle;
use crate::home::{Home, person};
use crate::outcome::refused;
use crate::toolset::{Lacking, tools_of};
use crate::ui::{Align, Look, Mark, Table, Tone, moment, out, shortened, tell};
use backstop_agent::run::{Answer, OpenQuestion, Reply, Rest};
use backstop_agent::{RunOutcome, RunState};
use backstop_call::{Clock, Code, Money, RunId};
use backstop_journal::event::ParkReason;
use backstop_journal::{Journal, RunFilter, RunStatus, StreamId};
use backstop_server::config::Span;
use backstop_stack::SystemClock;
use serde_json::{Value, json};
use std::process::ExitCode;

/// The way by which answers of this command come.
const CHANNEL: &str = "terminal";

/// List what waits for a person's yes, and answer it
///
/// A run that wants to do what nobody has allowed beforehand is parked until somebody answers. A question that nobody
/// answers in time is answered with no.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop approvals\n  backstop approvals show 01k4\n  backstop approvals approve 01k4\n  backstop approvals approve 01k4 --rest 10 --for 1h\n  backstop approvals deny 01k4 --reason \"she is on holiday\"\n  backstop approvals edit 01k4 --args '{\"to\": [\"desk@one.example\"], \"subject\": \"Hi\"}'"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Option<What>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Show a question whole: the exact arguments, and what would happen
    Show {
        /// The question, or the beginning of its id
        id: String,
        /// All of the preview
        #[arg(long)]
        full: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Say yes to exactly what is asked
    Approve {
        /// The question, or the beginning of its id
        id: String,
        /// Allow so many further calls of this kind: same tool, same recipients and places, at most the same amounts
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        rest: Option<u32>,
        /// How long that is allowed
        #[arg(long = "for", value_name = "SPAN", default_value = "1h", requires = "rest")]
        span: Span,
        /// Allow it to every run of this agent, and not only to this one
        #[arg(long, requires = "rest")]
        all_runs: bool,
    },
    /// Say no
    Deny {
        /// The question, or the beginning of its id
        id: String,
        /// Why: the model is told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Say yes with other arguments; they are checked, and what they would do is shown first
    Edit {
        /// The question, or the beginning of its id
        id: String,
        /// All arguments of the call, as a JSON object
        #[arg(long, value_name = "JSON")]
        args: String,
        /// Why: the model is told
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Do not ask whether what it would do is right
        #[arg(long)]
        yes: bool,
    },
}

/// A question with the run it belongs to.
pub(super) struct Waiting {
    run: RunId,
    cost: Money,
    pub(super) open: OpenQuestion,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let waiting = waiting(home.journal()?.as_ref()).await?;
    match args.what {
        None => list(&waiting, args.json),
        Some(What::Show { id, full, json }) => show(find(&waiting, &id)?, full, json || args.json),
        Some(What::Approve { id, rest, span, all_runs }) => {
            let waiting = find(&waiting, &id)?;
            if let Some(uses) = rest {
                grant(&home, waiting, &Rest { uses, span: span.0, agent: all_runs }).await?;
            }
            answer(&home, waiting, Answer::Approve).await
        }
        Some(What::Deny { id, reason }) => answer(&home, find(&waiting, &id)?, Answer::Deny(&reason)).await,
        Some(What::Edit { id, args, reason, yes }) => {
            let edit = Edit { args: parsed(&args)?, reason, yes };
            edit_call(&home, find(&waiting, &id)?, &edit).await
        }
    }
}

/// Every open question, the one that expires first in front.
pub(super) async fn waiting(journal: &dyn Journal) -> Result<Vec<Waiting>, Stop> {
    let parked = RunFilter { status: vec![RunStatus::Parked], ..RunFilter::default() };
    let now = SystemClock::new().now();
    let mut all = Vec::new();
    for summary in journal.runs(parked).await? {
        if summary.parked != Some(ParkReason::Approval) {
            continue;
        }
        let events = journal.read(&StreamId::Run(summary.run.clone()), 0).await?;
        let outcome = RunOutcome::of(&summary.run, &RunState::fold(&events), now);
        let still = outcome.questions.into_iter().filter(|open| open.expires > now);
        all.extend(still.map(|open| Waiting { run: summary.run.clone(), cost: summary.cost, open }));
    }
    all.sort_by_key(|waiting| waiting.open.expires);
    Ok(all)
}

fn find<'a>(waiting: &'a [Waiting], prefix: &str) -> Result<&'a Waiting, Stop> {
    let prefix = prefix.trim().to_lowercase();
    let fits: Vec<_> = waiting.iter().filter(|one| one.open.approval.as_str().starts_with(&prefix)).collect();
    match fits[..] {
        [one] => Ok(one),
        [] => Err(Stop::new(
            Code::ApprovalVoid,
            format!("no open question has an id that begins with `{prefix}`"),
        )),
        _ => {
            let stop = Stop::new(Code::Usage, format!("several questions begin with `{prefix}`"));
            Err(stop.with_hint("give more of the id"))
        }
    }
}

fn list(waiting: &[Waiting], json: bool) -> Result<ExitCode, Stop> {
    if json {
        let all: Vec<_> = waiting.iter().map(as_json).collect();
        out(format_args!("{:#}\n", Value::from(all)))?;
        return Ok(ExitCode::SUCCESS);
    }
    if waiting.is_empty() {
        tell("nothing waits for an answer");
        return Ok(ExitCode::SUCCESS);
    }
    let columns = ["question", "run", "tool", "stands to (utc)", "why"].map(|head| (head, Align::Left));
    let mut table = Table::new(&columns).spare(&["run", "stands to (utc)"]);
    for one in waiting {
        table.row(vec![
            (Tone::Strong, one.open.approval.to_string()),
            (Tone::Dim, one.run.to_string()),
            (Tone::Plain, one.open.tool.clone()),
            (Tone::Dim, moment(one.open.expires).chars().take(16).collect()),
            (Tone::Plain, shortened(&one.open.why, 60)),
        ]);
    }
    out(table.render(Look::of_stdout()))?;
    tell("`backstop approvals show ID` shows what would happen; then approve, deny or edit it");
    Ok(ExitCode::SUCCESS)
}

fn show(waiting: &Waiting, full: bool, json: bool) -> Result<ExitCode, Stop> {
    if json {
        out(format_args!("{:#}\n", as_json(waiting)))?;
    } else {
        out(card(&waiting.run, waiting.cost, &waiting.open, full, Look::of_stdout()))?;
        let id = &waiting.open.approval;
        tell(format_args!("`backstop approvals approve {id}`, or deny, or edit"));
    }
    Ok(ExitCode::SUCCESS)
}

fn as_json(waiting: &Waiting) -> Value {
    let Waiting { run, cost, open } = waiting;
    json!({
        "approval": open.approval,
        "run": run,
        "call": open.call,
        "tool": open.tool,
        "args": open.args,
        "preview": open.preview,
        "why": open.why,
        "effect": open.effect,
        "reversible": open.reversible,
        "labels": open.labels,
        "cost_usd": cost.decimal(),
        "expires": open.expires,
        "default": "deny",
    })
}

async fn answer(home: &Home, waiting: &Waiting, answer: Answer<'_>) -> Result<ExitCode, Stop> {
    let by = person();
    let approval = waiting.open.approval.as_str();
    // An edit is worked out once more when it is answered.
    let tools = match answer {
        Answer::Edit { .. } => tools_of(home, &waiting.run, Lacking::Stops).await?,
        Answer::Approve | Answer::Deny(_) => Vec::new(),
    };
    let opened = open_idle(home, tools).await?;
    opened.remember(&waiting.run).await?;
    let reply = Reply { approval, answer, by: &by, channel: CHANNEL };
    let answered = opened.backstop.answer(&waiting.run, reply).await;
    opened.close().await;
    let result = answered.map_err(|error| refused(Some(&waiting.run), &error))?;
    let look = Look::of_stderr();
    let said = match answer {
        Answer::Approve => "approved",
        Answer::Deny(_) => "denied",
        Answer::Edit { .. } => "approved with other arguments",
    };
    let run = &waiting.run;
    match result.questions.len() {
        0 => tell(format_args!("{} {said}; `backstop resume {run}` goes on", look.mark(Mark::Good))),
        left => {
            tell(format_args!("{} {said}; {left} more questions of run {run} wait", look.mark(Mark::Good)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Allows the rest of a kind, and says what that is.
async fn grant(home: &Home, waiting: &Waiting, rest: &Rest) -> Result<(), Stop> {
    let by = person();
    let tools = tools_of(home, &waiting.run, Lacking::Stops).await?;
    let opened = open_idle(home, tools).await?;
    let approval = waiting.open.approval.as_str();
    let granted = opened.backstop.grant(&waiting.run, approval, rest, (&by, CHANNEL)).await;
    opened.close().await;
    let granted = granted.map_err(|error| refused(Some(&waiting.run), &error))?;
    tell(format_args!(
        "{} {}; `backstop grants revoke {}` ends it",
        Look::of_stderr().mark(Mark::Good),
        crate::commands::grants::allowed(&granted),
        granted.grant
    ));
    Ok(())
}

/// Other arguments for a call.
struct Edit {
    args: Value,
    reason: String,
    yes: bool,
}

async fn edit_call(home: &Home, waiting: &Waiting, edit: &Edit) -> Result<ExitCode, Stop> {
    let opened = open_idle(home, tools_of(home, &waiting.run, Lacking::Stops).await?).await?;
    let approval = waiting.open.approval.as_str();
    let preview = opened.backstop.preview(&waiting.run, approval, &edit.args).await;
    opened.close().await;
    let preview = preview.map_err(|error| refused(Some(&waiting.run), &error))?;
    let changed = OpenQuestion {
        args: edit.args.clone(),
        preview: preview.text,
        reversible: preview.reversible,
        ..waiting.open.clone()
    };
    let look = Look::of_stderr();
    tell(card(&waiting.run, waiting.cost, &changed, true, look));
    if !edit.yes && !crate::prompt::yes("do it like this?") {
        tell("nothing was answered");
        return Ok(ExitCode::from(Code::Cancelled.exit_code()));
    }
    let decision = Answer::Edit { args: &edit.args, preview_hash: &preview.hash, reason: &edit.reason };
    answer(home, waiting, decision).await
}

fn parsed(text: &str) -> Result<Value, Stop> {
    let wrong = |why: String| {
        Stop::new(Code::Usage, format!("--args {why}"))
            .with_hint("give a JSON object, like '{\"path\": \"a.md\"}'")
    };
    match serde_json::from_str(text) {
        Ok(Value::Object(fields)) => Ok(Value::Object(fields)),
        Ok(_) => Err(wrong("is no JSON object".to_owned())),
        Err(error) => Err(wrong(format!("is no JSON: {error}"))),
    }
}
