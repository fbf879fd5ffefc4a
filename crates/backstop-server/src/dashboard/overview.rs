//! How it goes: what waits for a person, what is under way, what is spent, and whether those who are asked answer.

use super::frame::{Frame, Part, Watch};
use super::numbers::{self, Overview, Span};
use super::{alerts, figures, live, providers, question, runs, show, tasks};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::{Card, Refused};
use crate::gateway::visit::Visit;
use backstop_journal::{ListedRun, RunFilter, RunStatus};
use http::StatusCode;
use maud::{Markup, html};

/// Runs under way, and runs that are over, that are shown.
const SHOWN_RUNS: usize = 8;
/// Open questions that are shown.
const SHOWN_QUESTIONS: usize = 5;
/// Alerts that are shown.
const SHOWN_ALERTS: usize = 3;

impl Visit {
    /// How it goes.
    pub(super) async fn overview(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let journal = self.gateway.backstop.journal();
        let shown = journal.end().await?;
        let now = self.gateway.clock.now();
        let open = self.gateway.approvals.desk.open().await?;
        let under_way = self.runs_of(&[RunStatus::Running]).await?;
        let over = [RunStatus::Done, RunStatus::Failed, RunStatus::Stopped, RunStatus::Cancelled];
        let over = self.runs_of(&over).await?;
        let span = Span::of(self.asked("span").as_deref());
        let numbers = numbers::overview(&self.gateway.numbers, span, now).await?;
        let targets = providers::targets(&self.gateway.engine(), now);
        let budgets = self.budgets().await?;
        let backlog = self.gateway.backstop.queue().backlog(now).await?;
        let wrong = self.gateway.dashboard.alerts.now(self).await?;
        let body = html! {
            h1 { "Overview" }
            section #waits data-part aria-label="What waits for a person" { (waiting(&open, now)) }
            section #alerts data-part aria-label="What is wrong" { (alerts::brief(&wrong, SHOWN_ALERTS)) }
            section aria-label="The numbers" {
                (spans("/", span))
                div.plots #numbers data-part { (plots(&numbers)) }
            }
            div.columns {
                div {
                    section #working data-part {
                        h2 { "Under way" }
                        @if under_way.is_empty() { p.empty { "No run is under way." } } @else { (runs::table(&under_way, now)) }
                    }
                    section #over data-part {
                        h2 { "Ended lately" }
                        @if over.is_empty() { p.empty { "No run is over yet." } } @else {
                            (runs::table(&over, now))
                            p { a href="/runs" { "All runs" } }
                        }
                    }
                }
                aside {
                    section #queue data-part { h2 { a href="/tasks" { "Tasks" } } (tasks::summed(&backlog)) }
                    section #budgets data-part { h2 { "Budgets" } (figures::gauges(&budgets)) }
                    section #targets data-part { h2 { "Providers" } (providers::brief(&targets)) }
                }
            }
        };
        let watch = Some(Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Overview", Part::Overview, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }

    async fn runs_of(&self, status: &[RunStatus]) -> Result<Vec<ListedRun>, Refused> {
        let filter = RunFilter { status: status.to_vec(), limit: Some(SHOWN_RUNS), ..RunFilter::default() };
        Ok(self.gateway.backstop.journal().list(filter).await?)
    }
}

/// Runs where there were some, and model calls where there were some; the four of runs where there was nothing.
fn plots(numbers: &Overview) -> Markup {
    html! {
        @if numbers.has_runs() || !numbers.has_calls() { @for plot in numbers.of_runs() { (figures::plot(&plot)) } }
        @if numbers.has_calls() { @for plot in numbers.of_calls() { (figures::plot(&plot)) } }
    }
}

/// How far back is looked.
pub(super) fn spans(path: &str, chosen: Span) -> Markup {
    html! {
        nav.spans aria-label="How far back" { ul {
            @for span in Span::ALL {
                li { a href={ (path) "?span=" (span.word()) } aria-current=[(span == chosen).then_some("true")] { (span.words()) } }
            }
        } }
    }
}

fn waiting(open: &[Card], now: backstop_call::Timestamp) -> Markup {
    html! {
        @if !open.is_empty() {
            h2 { "Waits for you" }
            ul.questions { @for card in open.iter().take(SHOWN_QUESTIONS) { li { (question::row(card, now)) } } }
            @if open.len() > SHOWN_QUESTIONS { p { a href="/approvals" { "All " (open.len()) " questions" } } }
        }
    }
}
