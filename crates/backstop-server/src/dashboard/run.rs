//! One run: how it stands, what can be done about it, and all that happened, in the order in which it began. A long run is shown in
//! parts, each by its events alone.

mod row;

use super::door::Looker;
use super::frame::{Frame, Part, Watch, token};
use super::{live, runs, show, tasks, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::{Going, Refused};
use crate::gateway::visit::Visit;
use backstop_agent::erasing::belongs_to;
use backstop_agent::{visible, visible_line};
use backstop_allowance::message_in_words;
use backstop_call::{Code, RunId, TaskId, Timestamp};
use backstop_journal::event::ParkReason;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::projections::queue::TaskState;
use backstop_journal::projections::timeline::{CallOutcome, Moment, Timeline};
use backstop_journal::{ListedRun, RunFilter, RunStatus, Seq, StreamId};
use http::StatusCode;
use maud::{Markup, html};
use std::time::Duration;

/// Events of a part.
const PART_EVENTS: u64 = 400;
/// What began in a part and ended in the next is told with this many events more.
const BEYOND_EVENTS: u64 = 40;
/// A run of which nothing was heard for so long may have lost its process.
const QUIET: Duration = Duration::from_mins(1);

impl Visit {
    /// One run.
    pub(super) async fn run(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let listed = self.listed().await?;
        let part = Window::of(self.asked("after").and_then(|after| after.parse().ok()), listed.head.seq);
        let timeline = self.timeline(&listed, part).await?;
        let going = self.gateway.approvals.desk.going(&listed.summary.run).await?;
        let shown = Shown {
            listed: &listed,
            timeline: &timeline,
            part,
            window: self.gateway.engine().window(&listed.summary.model),
            going,
            now: self.gateway.clock.now(),
        };
        let watch = (part.is_last() && !is_at_rest(listed.summary.status))
            .then(|| Watch { events: live::path(Some(&listed.summary.run)), shown: listed.head.position });
        let title = runs::title(&listed);
        let frame = Frame { watch, ..Frame::of(&title, Part::Runs, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&shown.page(&looker))))
    }

    /// The run that the path names, as it stands.
    pub(super) async fn listed(&self) -> Result<ListedRun, Refused> {
        let run = self.name();
        let filter = RunFilter { id_prefix: Some(run.to_owned()), limit: Some(2), ..RunFilter::default() };
        let mut found = self.gateway.backstop.journal().list(filter).await?;
        let exact = found.iter().position(|listed| listed.summary.run.as_str() == run);
        match (exact, found.len()) {
            (Some(at), _) => Ok(found.swap_remove(at)),
            // The beginning of an id is enough, as it is for commands.
            (None, 1) if !run.is_empty() => Ok(found.swap_remove(0)),
            (None, _) => {
                let message = "there is no such run".to_owned();
                Err(Refused::new(StatusCode::NOT_FOUND, Code::RunNotFound, message))
            }
        }
    }

    async fn timeline(&self, listed: &ListedRun, part: Window) -> Result<Timeline, Refused> {
        let journal = self.gateway.backstop.journal();
        let stream = StreamId::Run(listed.summary.run.clone());
        let wanted = usize::try_from(PART_EVENTS + BEYOND_EVENTS).unwrap_or(usize::MAX);
        let mut events = journal.part(&stream, part.after, wanted).await?;
        if part.after > 0 {
            events.splice(0..0, journal.part(&stream, 0, 1).await?);
        }
        let mut timeline = Timeline::fold(&events).ok_or_else(|| {
            let message = "what this run began with cannot be read".to_owned();
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Code::DatabaseDamaged, message)
        })?;
        timeline.rows.retain(|row| part.shows(row.seq) && !is_headless(&row.moment));
        timeline.summary = listed.summary.clone();
        Ok(timeline)
    }
}

/// The end of something whose beginning is in the part before.
fn is_headless(moment: &Moment) -> bool {
    matches!(moment, Moment::Call(call) if call.model.is_none())
}

/// Whether nothing happens to a run unless somebody does something.
fn is_at_rest(status: RunStatus) -> bool {
    match status {
        RunStatus::Running | RunStatus::Parked => false,
        RunStatus::Done | RunStatus::Failed | RunStatus::Stopped | RunStatus::Cancelled => true,
    }
}

/// The task of a run that is not tried again by itself.
fn dead(summary: &RunSummary) -> Option<TaskId> {
    let is_dead = summary.queue.as_ref().is_some_and(|queue| queue.state == TaskState::Dead);
    summary.queued_as().filter(|_| is_dead)
}

/// Which events of a run are shown: those after one, as many as a part has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    after: Seq,
    last: Seq,
}

impl Window {
    /// The part that was asked for; else the last one.
    fn of(asked: Option<Seq>, last: Seq) -> Self {
        let newest = last.saturating_sub(1) / PART_EVENTS * PART_EVENTS;
        Self { after: asked.map_or(newest, |after| after.min(newest)), last }
    }

    fn shows(self, seq: Seq) -> bool {
        seq > self.after && seq <= self.after + PART_EVENTS
    }

    fn is_last(self) -> bool {
        self.after + PART_EVENTS >= self.last
    }

    /// The ways to the parts before and behind.
    fn ways(self, run: &RunId) -> Markup {
        let way = |after: Seq| format!("{}?after={after}", runs::path(run));
        html! {
            @if self.last > PART_EVENTS {
                nav.pages aria-label="Parts of the run" {
                    @if self.after > 0 { a rel="prev" href=(way(self.after.saturating_sub(PART_EVENTS))) { "Earlier" } }
                    span.dim {
                        "events " (text::grouped(self.after + 1)) " to " (text::grouped((self.after + PART_EVENTS).min(self.last)))
                        " of " (text::grouped(self.last))
                    }
                    @if !self.is_last() {
                        a rel="next" href=(way(self.after + PART_EVENTS)) { "Later" }
                        a href=(runs::path(run)) { "Last" }
                    }
                }
            }
        }
    }
}

/// A run to be shown.
struct Shown<'a> {
    listed: &'a ListedRun,
    timeline: &'a Timeline,
    part: Window,
    /// The most tokens that a call may have.
    window: Option<u64>,
    going: Option<Going>,
    now: Timestamp,
}

impl Shown<'_> {
    fn page(&self, looker: &Looker) -> Markup {
        let run = &self.listed.summary.run;
        html! {
            p.path { a href="/runs" { "Runs" } }
            (self.head())
            div.columns {
                div {
                    (self.part.ways(run))
                    h2 { "What happened" }
                    ol.timeline #timeline data-list {
                        @for row in &self.timeline.rows { (row::item(row, self.window)) }
                    }
                    div #outcome data-part { (self.outcome()) }
                    (self.part.ways(run))
                }
                aside aria-label="About the run" {
                    div #acts data-part { (self.acts(looker)) }
                    div #facts data-part { (self.facts()) }
                }
            }
        }
    }

    fn head(&self) -> Markup {
        let summary = &self.listed.summary;
        let whole = text::body(&self.timeline.created.message);
        let title = runs::title(self.listed);
        html! {
            header.run {
                h1 { (title) }
                p.stand #stand data-part role="status" { (text::status(summary.status)) " " (self.standing()) }
                @if let Some(at) = summary.erased { p.dim { "What it said was erased on " (text::time(at)) " UTC. Who did what, when and for how much stays." } }
                @if whole.trim() != title { details.task { summary { "The whole task" } pre { (whole) } } }
            }
        }
    }

    /// How it stands, in words.
    fn standing(&self) -> Markup {
        let summary = &self.listed.summary;
        let doing = self.timeline.rows.iter().rev().find_map(|row| row::under_way(&row.moment));
        html! {
            @match (summary.status, summary.parked) {
                (RunStatus::Parked, Some(ParkReason::Approval)) => "waits for a person's yes or no",
                (RunStatus::Parked, Some(ParkReason::InDoubt)) => "waits for a person to say what happened",
                (RunStatus::Parked, _) => "waits until the provider is ready",
                (RunStatus::Running, _) => {
                    @if let Some(doing) = doing { (doing) } @else { "works" }
                    @if self.is_quiet() { " · nothing was heard of it for " (text::span(self.now.since(summary.updated))) }
                },
                _ => {
                    @if let Some(code) = summary.code {
                        strong.bad { (code) } " " (visible(&message_in_words(&summary.message)))
                        " " span.dim { (text::capitalised(code.hint())) "." }
                    }
                },
            }
        }
    }

    fn is_quiet(&self) -> bool {
        self.now.since(self.listed.summary.updated) >= QUIET
    }

    fn outcome(&self) -> Markup {
        html! {
            @if let Some(result) = &self.timeline.result {
                h2 { "Result" }
                pre.result tabindex="0" { (text::body(result)) }
            }
        }
    }

    /// What can be done about it.
    fn acts(&self, looker: &Looker) -> Markup {
        let summary = &self.listed.summary;
        let path = runs::path(&summary.run);
        let resumes = match summary.status {
            RunStatus::Stopped => true,
            RunStatus::Parked => summary.parked == Some(ParkReason::Wait),
            RunStatus::Running => self.is_quiet(),
            RunStatus::Done | RunStatus::Failed | RunStatus::Cancelled => false,
        };
        let is_erased = summary.erased.is_some();
        // What belongs to another run goes with that one.
        let belongs = belongs_to(&self.timeline.created).is_some();
        html! {
            @for question in row::open_questions(self.timeline) {
                a.button.primary href={ "/approvals/" (question) } { "Answer its question" }
            }
            @for tool in self.timeline.in_doubt().filter(|_| !is_erased) {
                p.problem {
                    "Nobody knows whether " strong { (visible_line(&tool.tool)) } " happened. Say so with "
                    code { "backstop resolve " (summary.run) " " (visible_line(&tool.id)) " --happened | --run-it | --unknown" } "."
                }
            }
            @if self.going == Some(Going::Waits) { p.dim { "It waits for a worker." } }
            @if let Some(form) = looker.form() {
                @if resumes && self.going.is_none() {
                    form method="post" action={ (path) "/resume" } { (token(form)) button.primary type="submit" { "Resume" } }
                }
                @if let Some(task) = dead(summary).filter(|_| !is_erased) { (tasks::retry(&tasks::path(task.as_str()), form)) }
                @if summary.status.is_final() {
                    @if summary.tool_calls > 0 && !summary.dry_run && !is_erased { a.button href={ (path) "/undo" } { "Undo what it did…" } }
                    @if !is_erased && !belongs { a.button href={ (path) "/erase" } { "Erase what it said…" } }
                } @else { a.button href={ (path) "/cancel" } { "Cancel…" } }
            }
        }
    }

    fn facts(&self) -> Markup {
        let (summary, created) = (&self.listed.summary, &self.timeline.created);
        let (usage, limits) = (&summary.usage, &summary.limits);
        let used = usage.total_input_tokens() + usage.output_tokens;
        let (turns, full) = self.context();
        html! {
            dl.facts {
                dt { "Run" } dd { code { (visible_line(summary.run.as_str())) } }
                dt { "Task" } dd { (visible_line(summary.task.as_str())) }
                dt { "Agent" } dd { (visible_line(summary.agent.as_str())) ", in the role " (visible_line(summary.role.as_str())) }
                dt { "Model" } dd { (visible_line(summary.model.as_str())) }
                dt { "Begun" } dd { (text::time(summary.created)) " UTC" }
                dt { "Time" } dd { (text::span(summary.duration())) span.dim { " of " (text::span(limits.time)) " at work" } }
                dt { "Cost" } dd { (summary.cost) @if let Some(cost) = limits.cost { span.dim { " of " (cost) } } }
                dt { "Tokens" }
                dd {
                    (text::tokens(used)) span.dim { " of " (text::tokens(limits.tokens)) } br;
                    span.dim { (text::tokens(usage.total_input_tokens())) " in, " (text::tokens(usage.output_tokens)) " out" }
                    @if usage.cache_read_tokens > 0 { span.dim { ", " (text::tokens(usage.cache_read_tokens)) " from a cache" } }
                }
                dt { "Calls" }
                dd {
                    (summary.calls) span.dim { " of " (limits.turns) }
                    @if summary.failed_attempts > 0 { ", " (text::count(summary.failed_attempts.into(), "failed attempt")) }
                }
                dt { "Tools" } dd { (text::count(summary.tool_calls.into(), "call")) }
                @if let Some(full) = full { dt { "Context" } dd { (full) } }
                @if turns > 0 { dt { "Turn" } dd { (turns) } }
                dt { "Workspace" } dd { code { (visible(&created.workspace)) } }
                @if let Some(applies) = &created.applies {
                    dt { "Carries out" } dd { a href=(runs::path(applies)) { (visible_line(applies.as_str())) } }
                }
                @if let Some(parent) = &created.parent {
                    dt { "Part of" } dd { a href=(runs::path(parent)) { (visible_line(parent.as_str())) } }
                }
                dt { "Audit" } dd { a href={ (runs::path(&summary.run)) "/audit" } { "Who did what" } }
            }
        }
    }

    /// The last turn of the part that was answered, and how full its context was.
    fn context(&self) -> (u32, Option<Markup>) {
        let last = self.timeline.calls().filter_map(|call| match &call.outcome {
            CallOutcome::Answered { usage, .. } => Some((call.turn, usage.total_input_tokens())),
            CallOutcome::Open | CallOutcome::Interrupted | CallOutcome::Failed { .. } => None,
        });
        let Some((turn, tokens)) = last.last() else { return (0, None) };
        (turn, self.window.map(|window| row::context(tokens, window)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_shown_in_parts_that_meet() {
        let rows = [
            ((None, 1), (0, true)),
            ((None, 400), (0, true)),
            ((None, 401), (400, true)),
            ((None, 1_234), (1_200, true)),
            ((Some(0), 1_234), (0, false)),
            ((Some(800), 1_234), (800, false)),
            ((Some(900), 1_234), (900, true)),
            ((Some(Seq::MAX), 1_234), (1_200, true)),
            ((None, 0), (0, true)),
        ];
        for ((asked, last), (after, is_last)) in rows {
            let part = Window::of(asked, last);
            assert_eq!((part.after, part.is_last()), (after, is_last), "{asked:?} of {last}");
        }
        let part = Window::of(Some(400), 1_234);
        assert_eq!([400, 401, 800, 801].map(|seq| part.shows(seq)), [false, true, true, false]);
        assert_eq!(Window::of(None, 400).ways(&"r".into()).0, "");
    }
}
