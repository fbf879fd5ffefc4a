//! Who did what, when: of one run, whole, and of everything, the newest first. Rows say which object was acted on, never what was
//! in it.

use super::frame::{Frame, Part};
use super::{answer, headers, runs, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_agent::visible_line;
use backstop_journal::projections::audit::{Actor, AuditRow, rows, rows_in_role};
use backstop_journal::{Event, Position, StreamId};
use http::StatusCode;
use http::header::{self, HeaderValue};
use maud::{Markup, html};

/// Acts on a page.
const PAGE_ACTS: usize = 200;

impl Visit {
    /// The newest acts of all, or those before a place.
    pub(super) async fn audit(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let journal = self.gateway.backstop.journal();
        let end = journal.end().await?;
        let before = self.asked("before").and_then(|before| before.parse().ok());
        let last = before.map_or(end, |before: Position| before.saturating_sub(1).min(end));
        let after = last.saturating_sub(PAGE_ACTS as u64);
        let events = journal.tail(after, PAGE_ACTS).await?;
        let events = events.iter().filter(|event| event.position <= last);
        let acts: Vec<_> = events.rev().flat_map(|event| rows_in_role([event], None)).collect();
        let body = html! {
            h1 { "Audit" }
            p.dim {
                "What was shown, decided and done, the newest first. "
                code { "backstop audit verify" } " checks that the record is whole, "
                code { "backstop audit export" } " gives all of it; each run has its own to be kept."
            }
            (table(&acts, true))
            nav.pages aria-label="Pages" {
                @if before.is_some() { a href="/audit" { "Newest" } }
                @if after > 0 { a rel="next" href={ "/audit?before=" (after + 1) } { "Earlier" } }
            }
        };
        Ok(show(StatusCode::OK, &Frame::of("Audit", Part::Audit, Some(&looker)).around(&body)))
    }

    /// The acts of one run.
    pub(super) async fn run_audit(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let listed = self.listed().await?;
        let run = &listed.summary.run;
        let after = self.asked("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let journal = self.gateway.backstop.journal();
        let events = journal.part(&StreamId::Run(run.clone()), after, PAGE_ACTS).await?;
        let acts = rows_in_role(&events, Some(listed.summary.role.clone()));
        let next = events.last().map(|event| event.seq).filter(|seq| *seq < listed.head.seq);
        let path = runs::path(run);
        let body = html! {
            p.path { a href=(path) { "Back to the run" } }
            h1 { "Audit of " (runs::title(&listed)) }
            p { a.button href={ (path) "/audit.jsonl" } download { "All of it, as JSON lines" } }
            (table(&acts, false))
            nav.pages aria-label="Pages" {
                @if after > 0 { a href={ (path) "/audit" } { "First" } }
                @if let Some(next) = next { a rel="next" href={ (path) "/audit?after=" (next) } { "Later" } }
            }
        };
        Ok(show(StatusCode::OK, &Frame::of("Audit", Part::Audit, Some(&looker)).around(&body)))
    }

    /// The acts of one run as JSON lines, each with its link in the chain.
    pub(super) async fn audit_file(&self) -> Result<Reply, Refused> {
        if self.looker().is_none() {
            return Ok(self.ask_to_log_in(None));
        }
        let listed = self.listed().await?;
        let run = &listed.summary.run;
        let events: Vec<Event> = self.gateway.backstop.journal().read(&StreamId::Run(run.clone()), 0).await?;
        let mut text = String::new();
        for row in rows(&events) {
            text.push_str(&serde_json::to_string(&row).unwrap_or_default());
            text.push('\n');
        }
        let mut reply = answer::whole(StatusCode::OK, headers("application/x-ndjson"), text);
        let name = format!("attachment; filename=\"audit-{run}.jsonl\"");
        if let Ok(name) = HeaderValue::from_str(&name) {
            reply.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        }
        Ok(reply)
    }
}

fn table(acts: &[AuditRow], with_stream: bool) -> Markup {
    html! {
        @if acts.is_empty() { p.empty { "Nothing happened here." } } @else {
            div.scroll tabindex="0" role="region" aria-label="Acts" { table.acts {
                thead { tr {
                    th scope="col" { "When (UTC)" } @if with_stream { th scope="col" { "Where" } }
                    th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "To what" } th scope="col" { "How" }
                } }
                tbody { @for act in acts { (row(act, with_stream)) } }
            } }
        }
    }
}

fn row(act: &AuditRow, with_stream: bool) -> Markup {
    html! {
        tr {
            td.number { (text::time(act.at)) }
            @if with_stream { td { (place(&act.stream)) } }
            td { (who(&act.who)) }
            td { code { (act.what) } }
            td { (text::line(&act.object, 60)) }
            td { (text::line(&act.detail, 200)) }
        }
    }
}

fn place(stream: &StreamId) -> Markup {
    html! {
        @match stream {
            StreamId::Run(run) => a href=(runs::path(run)) { (visible_line(run.as_str())) },
            other => (other.text()),
        }
    }
}

fn who(actor: &Actor) -> String {
    match actor {
        Actor::Agent(role) => format!("agent ({})", visible_line(role.as_str())),
        Actor::Person(name) => visible_line(name),
        Actor::Process(name) => format!("process {}", visible_line(name)),
        Actor::Backstop => "Backstop".to_owned(),
    }
}
