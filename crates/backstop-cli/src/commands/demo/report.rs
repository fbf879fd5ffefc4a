//! What came of the demo: a row per task, whether its file is right, and the provider's bill beside the ledger.

#![expect(clippy::format_push_string, reason = "a few short lines, once per command")]

use super::files;
use super::tasks::DemoTask;
use crate::complaint::Stop;
use crate::engine::Opened;
use crate::narrate::{Line, body_text};
use crate::story::tone_of;
use crate::ui::{Align, Look, Mark, Table, Tone, count, shortened, span, tokens};
use backstop_allowance::message_in_words;
use backstop_allowance::{Account, Scope};
use backstop_call::{Money, ReservationId, Timestamp};
use backstop_journal::event::RunFinished;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::timeline::{Timeline, ToolOutcome};
use backstop_journal::{RunFilter, RunStatus, StreamId};
use backstop_sim::Bill;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What came of everything.
pub(super) struct Facts {
    rows: Vec<Row>,
    billed: Money,
    settled: Money,
    suspense: Money,
    /// What was in suspense before it was compared with the bill.
    corrected: Money,
}

/// The provider that is asked first.
const FIRST: &str = "primary";

/// What came of one task.
struct Row {
    summary: RunSummary,
    result: String,
    /// What is wrong, if anything is.
    wrong: Option<String>,
    /// Calls that another model than the first of the chain answered.
    elsewhere: usize,
    task: DemoTask,
}

/// Reads it all from the journal, the files and the books of both sides.
pub(super) async fn gather(
    opened: &Opened,
    tasks: &[DemoTask],
    bill: &Bill,
    work: &Path,
    now: Timestamp,
) -> Result<Facts, Stop> {
    let journal = opened.backstop.journal();
    let runs = journal.runs(RunFilter::default()).await?;
    let mut rows = Vec::new();
    for task in tasks {
        let Some(summary) = runs.iter().find(|run| run.task.as_str() == task.id) else { continue };
        let events = journal.read(&StreamId::Run(summary.run.clone()), 0).await?;
        let timeline = Timeline::fold(&events);
        let result = timeline.as_ref().and_then(|timeline| timeline.result.as_ref()).map(body_text);
        let wrong = verdict(task, summary, timeline.as_ref(), work);
        let elsewhere = timeline
            .iter()
            .flat_map(Timeline::calls)
            .filter(|call| call.provider.as_ref().is_some_and(|provider| provider.as_str() != FIRST));
        let elsewhere = elsewhere.count();
        let (summary, task) = (summary.clone(), task.clone());
        rows.push(Row { summary, result: result.unwrap_or_default(), wrong, elsewhere, task });
    }
    let ledger = opened.backstop.ledger();
    let unwritable = |error: backstop_allowance::LedgerError| {
        Stop::new(backstop_call::Code::DatabaseUnusable, error.to_string())
    };
    if let Some((_, books)) = opened.backstop.files() {
        // What the killed process held: as at every start, it goes to suspense.
        books.recover(now).await?;
    }
    let corrected = reconcile(opened, bill, now).await.map_err(unwritable)?;
    let balance = ledger.balance(Account::today(Scope::Total, now)).await.map_err(unwritable)?;
    let (settled, suspense) = (balance.settled, balance.suspense);
    Ok(Facts { rows, billed: bill.total, settled, suspense, corrected })
}

/// Replaces what is in suspense by what the provider really billed for it. Gives what was in suspense before.
async fn reconcile(
    opened: &Opened,
    bill: &Bill,
    now: Timestamp,
) -> Result<Money, backstop_allowance::LedgerError> {
    let mut billed: BTreeMap<ReservationId, Money> = BTreeMap::new();
    for charge in &bill.entries {
        if let Some(id) = &charge.client_request_id {
            *billed.entry(id.as_str().into()).or_default() += charge.cost;
        }
    }
    let mut before = Money::ZERO;
    let ledger = opened.backstop.ledger();
    for (reservation, amount) in ledger.suspense().await? {
        before += amount;
        let actual = billed.get(&reservation).copied().unwrap_or_default();
        ledger.correct(reservation, actual, now).await?;
    }
    Ok(before)
}

/// What is wrong with how a task ended, if anything is.
fn verdict(
    task: &DemoTask,
    summary: &RunSummary,
    timeline: Option<&Timeline>,
    work: &Path,
) -> Option<String> {
    if task.cost.is_some() {
        return (summary.status != RunStatus::Stopped).then(|| "the budget did not stop it".to_owned());
    }
    if summary.status != RunStatus::Done {
        return Some(format!("it is {}", summary.status.as_str()));
    }
    if let Some(path) = task.file.as_deref() {
        let found = std::fs::read_to_string(work.join(path)).unwrap_or_default();
        if files::expected(path).map(str::trim_end) != Some(found.trim_end()) {
            return Some(format!("{path} is not what it must be"));
        }
    }
    let timeline = timeline.filter(|_| task.kill_after.is_some())?;
    let mut writes: BTreeMap<String, u32> = BTreeMap::new();
    for tool in timeline.tools().filter(|tool| tool.tool == "write_file") {
        if let (ToolOutcome::Finished { is_error: false, .. }, Some(args)) =
            (&tool.outcome, tool.args.value())
        {
            *writes.entry(args["path"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
    let twice =
        writes.iter().find(|(_, times)| **times > 1).map(|(path, _)| format!("{path} was written twice"));
    twice.or_else(|| (writes.len() != 12).then(|| format!("{} of 12 steps were written", writes.len())))
}

/// The end of a run, in a line.
pub(super) fn ended(finished: &RunFinished) -> Line {
    let (mark, tone) = match finished.status {
        RunStatus::Done => (Mark::Good, Tone::Good),
        RunStatus::Stopped => (Mark::Warn, Tone::Warn),
        _ => (Mark::Bad, Tone::Bad),
    };
    let code = finished.code.map_or_else(String::new, |code| format!(" ({code})"));
    Line {
        mark,
        tone,
        text: shortened(
            &format!("{}{code}: {}", finished.status.as_str(), message_in_words(&finished.message)),
            110,
        ),
    }
}

impl Facts {
    /// Whether every task ended as it must and the books agree.
    pub(super) fn all_right(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row.wrong.is_none()) && self.books_agree()
    }

    fn books_agree(&self) -> bool {
        self.billed == self.settled + self.suspense
    }

    /// The table, the totals and the books.
    pub(super) fn table(&self, took: Duration) -> String {
        let look = Look::of_stdout();
        let mut table = Table::new(&[
            ("task", Align::Left),
            ("status", Align::Left),
            ("files", Align::Left),
            ("turns", Align::Right),
            ("retries", Align::Right),
            ("tokens", Align::Right),
            ("cost", Align::Right),
            ("time", Align::Right),
            ("result", Align::Left),
        ])
        .spare(&["tokens", "turns"]);
        for row in &self.rows {
            table.row(row.cells());
        }
        let sum = |of: fn(&RunSummary) -> u64| self.rows.iter().map(|row| of(&row.summary)).sum::<u64>();
        let mut text = format!("\n{}\n", table.render(look));
        text += &format!(
            "{} in {}: {}, {}, {} tokens\n",
            count(self.rows.len(), "task"),
            span(took),
            count(usize::try_from(sum(|run| run.calls.into())).unwrap_or(usize::MAX), "call"),
            count(
                usize::try_from(sum(|run| run.failed_attempts.into())).unwrap_or(usize::MAX),
                "failed attempt"
            ),
            tokens(sum(used)),
        );
        text += &self.legend(look);
        for row in self.rows.iter().filter(|row| row.wrong.is_some()) {
            let wrong = row.wrong.as_deref().unwrap_or_default();
            text += &format!("{} {}: {wrong}\n", look.mark(Mark::Bad), row.summary.task);
        }
        text
    }

    /// What the table shows, in a line each.
    fn legend(&self, look: Look) -> String {
        let mut lines = Vec::new();
        let mut line = |right: bool, text: String| {
            let mark = look.mark(if right { Mark::Good } else { Mark::Bad });
            lines.push(format!("{mark} {text}\n"));
        };
        let elsewhere = self.rows.iter().map(|row| row.elsewhere).sum::<usize>();
        line(
            elsewhere > 0,
            format!("what failed was asked again; the other provider answered {}", count(elsewhere, "call")),
        );
        let right = self.rows.iter().filter(|row| row.wrong.is_none() && row.task.file.is_some()).count();
        let files = self.rows.iter().filter(|row| row.task.file.is_some()).count();
        line(right == files, format!("{right} of {} hold what they must", count(files, "file")));
        for row in self.rows.iter().filter(|row| row.wrong.is_none()) {
            let name = &row.summary.task;
            if row.task.kill_after.is_some() {
                line(true, format!("{name}: killed in the middle, resumed; no file was written twice"));
            }
            if let Some(limit) = &row.task.cost {
                line(true, format!("{name}: stopped before a call that its {limit} might not have paid"));
            }
        }
        let (billed, settled) = (dollars(self.billed), dollars(self.settled));
        let verdict = if self.books_agree() { "the books agree" } else { "the books differ" };
        let held = if self.suspense == Money::ZERO {
            String::new()
        } else {
            format!(" and holds {}", dollars(self.suspense))
        };
        line(
            self.books_agree(),
            format!("{verdict}: the providers billed {billed}, the ledger counts {settled}{held}"),
        );
        if self.corrected > Money::ZERO {
            let (mark, held) = (look.mark(Mark::Step), dollars(self.corrected));
            lines.push(format!("{mark} {held} was held until the bill told what cut-off answers cost\n"));
        }
        lines.concat()
    }

    /// What to look at next.
    pub(super) fn next_steps(&self, base: &Path) -> String {
        let look = Look::of_stdout();
        let killed = self.rows.iter().find(|row| row.task.kill_after.is_some());
        let run = killed.map_or("RUN", |row| row.summary.run.as_str());
        let mut rows = vec![(format!("cd {}", base.display()), "")];
        if let Some(program) = program_elsewhere() {
            rows.push((format!("alias backstop={}", program.display()), ""));
        }
        rows.extend([
            ("backstop runs".to_owned(), "every run"),
            (format!("backstop show {run}"), "the story of the one that was killed"),
            ("backstop logs".to_owned(), "what happened, as JSON lines"),
            ("backstop init".to_owned(), "in a directory of yours: begin with your own"),
        ]);
        let lines = rows.into_iter().map(|(how, what)| match what {
            "" => format!("  {how}\n"),
            what => format!("  {how:<32}  {}\n", look.paint(Tone::Dim, what)),
        });
        format!("\nLook at what happened:\n{}", lines.collect::<String>())
    }

    /// The same for programs.
    pub(super) fn as_json(&self, took: Duration) -> Value {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|row| json!({"run": row.summary, "result": row.result, "wrong": row.wrong}))
            .collect();
        json!({
            "tasks": rows,
            "duration_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "billed_usd": self.billed.decimal(),
            "settled_usd": self.settled.decimal(),
            "suspense_usd": self.suspense.decimal(),
            "books_agree": self.books_agree(),
            "all_right": self.all_right(),
        })
    }
}

impl Row {
    fn cells(&self) -> Vec<(Tone, String)> {
        let run = &self.summary;
        let (files, tone) = match (&self.wrong, run.status) {
            (Some(_), _) => ("wrong", Tone::Bad),
            (None, RunStatus::Done) => ("right", Tone::Good),
            (None, _) => ("-", Tone::Dim),
        };
        let code = run.code.map_or_else(String::new, |code| format!("{code} "));
        let result = if self.result.is_empty() {
            format!("{code}{}", message_in_words(&run.message))
        } else {
            self.result.clone()
        };
        vec![
            (Tone::Strong, run.task.to_string()),
            (tone_of(run.status), run.status.as_str().to_owned()),
            (tone, files.to_owned()),
            (Tone::Plain, run.calls.to_string()),
            (if run.failed_attempts > 0 { Tone::Warn } else { Tone::Plain }, run.failed_attempts.to_string()),
            (Tone::Plain, tokens(used(run))),
            (
                Tone::Plain,
                format!(
                    "${}.{:06}",
                    run.cost.nanos() / 1_000_000_000,
                    run.cost.nanos() % 1_000_000_000 / 1_000
                ),
            ),
            (Tone::Plain, span(run.duration())),
            (Tone::Dim, shortened(&result, 58)),
        ]
    }
}

/// This program, when a shell would not find it under its name.
pub(super) fn program_elsewhere() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&dirs).any(|dir| {
        dir.join("backstop").canonicalize().is_ok_and(|path| Some(path) == program.canonicalize().ok())
    });
    (!found).then_some(program)
}

fn used(run: &RunSummary) -> u64 {
    run.usage.total_input_tokens() + run.usage.output_tokens
}

/// An amount with all its decimals: in a comparison nothing is rounded.
fn dollars(amount: Money) -> String {
    format!("${}", amount.decimal())
}
