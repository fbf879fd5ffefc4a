//! Jobs: what is done at the times of a schedule, when next, and what came of the times before; and what people do about it.

use super::door::Looker;
use super::frame::{Frame, Part, Watch, token};
use super::{CHANNEL, JobChange, live, runs, see, show, text};
use crate::config::Problem;
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::models::decoded;
use crate::gateway::tasks::encoded;
use crate::gateway::visit::Visit;
use crate::jobs::{JobOutcome, JobRow, JobRun, JobState, JobView, job, note, started, submit, task_by_hand};
use backstop_call::{Code, JobName, Timestamp};
use backstop_journal::event::{JobPaused, JobResumed, JobSkip};
use backstop_journal::{Journal, Queue};
use http::StatusCode;
use hyper::body::Incoming;
use maud::{Markup, html};
use std::time::Duration;

/// Times of a job that are shown.
const TIMES_SHOWN: usize = 10;
const NAME_CHARS_MAX: usize = 80;

impl Visit {
    /// The page.
    pub(super) async fn jobs(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let (book, now) = (self.gateway.jobs(), self.gateway.clock.now());
        let shown = self.gateway.backstop.journal().end().await?;
        let jobs = book.view(self.kept(), now).await?;
        let mut cards = Vec::with_capacity(jobs.len());
        for job in &jobs {
            let history = book.history(&job.name, self.kept(), TIMES_SHOWN).await?;
            cards.push(card(job, &history, &looker, now));
        }
        let body = html! {
            h1 { "Jobs" }
            div #jobs data-part {
                @if cards.is_empty() {
                    p.empty { "There are no jobs. " code { "[jobs.NAME]" } " in the config makes one." }
                }
                @for card in &cards { (card) }
            }
        };
        let watch = Some(Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Jobs", Part::Jobs, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }

    /// Does what a person wants of a job.
    pub(super) async fn change_job(&self, change: JobChange, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let by = format!("{} ({CHANNEL})", self.decider(&form)?.name);
        let (name, now) = (JobName::from(decoded(self.name()).as_str()), self.gateway.clock.now());
        let engine = self.gateway.engine();
        let wanted = job(engine.config(), &name).map_err(unknown)?;
        let said = match change {
            JobChange::Pause => JobPaused { job: name, by, reason: String::new() }.into(),
            JobChange::Resume => JobResumed { job: name, by }.into(),
            JobChange::Run => {
                let now_at = (task_by_hand(&name, now), Duration::ZERO);
                let put = submit(&self.gateway.backstop, engine.config(), (&name, wanted), now_at).await;
                let put = put.map_err(|why| Refused::new(StatusCode::CONFLICT, Code::Usage, why))?;
                started(&name, put, None, Some(by))
            }
        };
        note(&**self.gateway.backstop.journal(), vec![said], now).await?;
        Ok(see("/jobs"))
    }

    fn kept(&self) -> (&dyn Journal, &dyn Queue) {
        (&**self.gateway.backstop.journal(), &**self.gateway.backstop.queue())
    }
}

fn unknown(problem: Problem) -> Refused {
    Refused { status: StatusCode::NOT_FOUND, ..problem.into() }
}

fn card(job: &JobView, history: &[JobRow], looker: &Looker, now: Timestamp) -> Markup {
    let name = text::line(job.name.as_str(), NAME_CHARS_MAX);
    html! {
        section.card.job aria-label=(name) {
            h2 { (name) " " (state(job.state)) }
            dl.facts {
                dt { "Schedule" } dd { code { (text::line(&job.schedule, 60)) } " " span.dim { (text::line(&job.timezone, 40)) } }
                dt { "Next" } dd { (next(job, now)) }
                dt { "Last" } dd { @match &job.last { Some(last) => (came(last, None, now)), None => "never" } }
                @if let Some(agent) = &job.agent { dt { "Agent" } dd { (text::line(agent.as_str(), 40)) } }
                dt { "Overlap" } dd { (job.overlap) }
                @if job.failures_in_a_row > 0 {
                    dt { "Failed in a row" } dd.bad { (job.failures_in_a_row) }
                }
            }
            @if let Some(form) = looker.form() { div.row-acts { (acts(job, form)) } }
            @if !history.is_empty() {
                details { summary { "History" } (times(history, now)) }
            }
        }
    }
}

fn state(state: JobState) -> Markup {
    let class = match state {
        JobState::Off | JobState::Paused => "parked",
        JobState::UnderWay => "running",
        JobState::Scheduled => "done",
    };
    html! { span class={ "pill " (class) } { (state.as_str()) } }
}

fn next(job: &JobView, now: Timestamp) -> Markup {
    html! {
        @match (&job.next, &job.paused) {
            (Some(next), _) => {
                "in " (text::span(next.since(now)))
                @if let Some(local) = &job.next_local { " " span.dim { (text::line(local, 40)) } }
            },
            (None, Some(paused)) => {
                "paused by " (text::line(&paused.by, 60)) " " (text::ago(paused.since, now))
                @if !paused.reason.is_empty() { ": " (text::line(&paused.reason, 200)) }
            },
            (None, None) => "never, as it stands",
        }
    }
}

/// What came of one task, and who wanted it.
fn came(run: &JobRun, by: Option<&str>, now: Timestamp) -> Markup {
    let class = match run.outcome {
        JobOutcome::Waiting | JobOutcome::Parked => "parked",
        JobOutcome::Working => "running",
        JobOutcome::Done => "done",
        JobOutcome::Failed => "failed",
        JobOutcome::Cancelled => "cancelled",
    };
    html! {
        span class={ "pill " (class) } { (run.outcome.as_str()) } " "
        a href=(runs::path(&run.run)) { (text::ago(run.began, now)) }
        small.dim {
            " · " (text::span(Duration::from_millis(run.took_ms))) " · " (run.cost)
            @if let Some(by) = by { " · wanted by " (text::line(by, 60)) }
        }
        @if let Some(code) = run.code { " " span.bad { (code) } }
        @if !run.summary.is_empty() { div.dim { (text::line(&run.summary, 300)) } }
    }
}

fn times(history: &[JobRow], now: Timestamp) -> Markup {
    html! {
        table.list {
            caption.hidden { "What came of its times, the newest first" }
            thead { tr { th scope="col" { "Time" } th scope="col" { "What came of it" } } }
            tbody {
                @for row in history {
                    tr {
                        td { (text::time(row.time())) }
                        td { @match row {
                            JobRow::Run(run) => (came(run, run.by.as_deref(), now)),
                            JobRow::Skipped { times, why, .. } => (left_out(*times, *why)),
                        } }
                    }
                }
            }
        }
    }
}

fn left_out(times: u64, why: JobSkip) -> Markup {
    let why = match why {
        JobSkip::Missed => "nobody was there",
        JobSkip::Overlap => "an earlier one was under way",
    };
    html! { span.dim { (text::count(times, "time")) " left out: " (why) } }
}

fn acts(job: &JobView, form: &str) -> Markup {
    let path = format!("/jobs/{}", encoded(job.name.as_str()));
    let act = |what: &str, label: &str| {
        html! { form method="post" action={ (path) "/" (what) } { (token(form)) button.small type="submit" { (label) } } }
    };
    html! {
        (act("run", "Run now"))
        @match job.state {
            JobState::Paused => (act("resume", "Resume")),
            JobState::UnderWay | JobState::Scheduled => (act("pause", "Pause")),
            JobState::Off => {},
        }
    }
}
