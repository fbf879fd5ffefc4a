//! The list of runs: filters, a search, and pages by where the one before ended.

use super::frame::{Frame, Part, Watch};
use super::{live, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_agent::visible_line;
use backstop_allowance::message_in_words;
use backstop_call::{RunId, Timestamp};
use backstop_journal::{ListedRun, RunCursor, RunFilter, RunStatus};
use http::StatusCode;
use maud::{Markup, html};
use std::collections::BTreeSet;
use std::time::Duration;
use url::form_urlencoded::Serializer;

/// Runs on a page.
const PAGE_RUNS: usize = 50;
/// Characters of a filter; what is longer names nothing.
const FILTER_CHARS_MAX: usize = 200;
const TITLE_CHARS_MAX: usize = 110;

const STATUSES: [RunStatus; 6] = [
    RunStatus::Running,
    RunStatus::Parked,
    RunStatus::Done,
    RunStatus::Failed,
    RunStatus::Stopped,
    RunStatus::Cancelled,
];

/// What is looked for, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Query {
    search: String,
    status: String,
    agent: String,
    role: String,
    model: String,
    from: String,
    to: String,
    before: String,
}

impl Query {
    /// What the address says.
    fn of(asked: impl Fn(&str) -> Option<String>) -> Self {
        let field = |name: &str| {
            let text = asked(name).unwrap_or_default();
            text.trim().chars().take(FILTER_CHARS_MAX).collect()
        };
        Self {
            search: field("q"),
            status: field("status"),
            agent: field("agent"),
            role: field("role"),
            model: field("model"),
            from: field("from"),
            to: field("to"),
            before: field("before"),
        }
    }

    /// As the journal takes it. What names nothing is passed over: the page shows it beside what was found.
    fn filter(&self) -> RunFilter {
        const DAY: Duration = Duration::from_hours(24);
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let status = STATUSES.into_iter().find(|status| status.as_str() == self.status);
        RunFilter {
            status: status.into_iter().collect(),
            agent: name(&self.agent).map(Into::into),
            role: name(&self.role).map(Into::into),
            model: name(&self.model).map(Into::into),
            from: Timestamp::of_date(&self.from),
            // That day is meant too.
            until: Timestamp::of_date(&self.to).map(|day| day + DAY),
            search: name(&self.search),
            before: self.before.parse().ok(),
            ..RunFilter::default()
        }
    }

    /// The address of the list behind a place.
    fn behind(&self, cursor: Option<&RunCursor>) -> String {
        let mut fields = Serializer::new(String::new());
        let before = cursor.map(ToString::to_string).unwrap_or_default();
        for (name, value) in self.fields().into_iter().chain([("before", before.as_str())]) {
            if !value.is_empty() {
                fields.append_pair(name, value);
            }
        }
        match fields.finish() {
            query if query.is_empty() => "/runs".to_owned(),
            query => format!("/runs?{query}"),
        }
    }

    fn fields(&self) -> [(&'static str, &str); 7] {
        [
            ("q", &self.search),
            ("status", &self.status),
            ("agent", &self.agent),
            ("role", &self.role),
            ("model", &self.model),
            ("from", &self.from),
            ("to", &self.to),
        ]
    }

    /// Whether anything is looked for.
    fn is_narrow(&self) -> bool {
        self.fields().iter().any(|(_, value)| !value.is_empty())
    }

    /// Whether more is asked than the words of a search and a status.
    fn is_detailed(&self) -> bool {
        self.fields()[2..].iter().any(|(_, value)| !value.is_empty())
    }
}

impl Visit {
    /// The list.
    pub(super) async fn runs(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let query = Query::of(|name| self.asked(name));
        let journal = self.gateway.backstop.journal();
        let shown = journal.end().await?;
        // One more, to know whether there is another page.
        let filter = RunFilter { limit: Some(PAGE_RUNS + 1), ..query.filter() };
        let mut found = journal.list(filter).await?;
        let more = found.len() > PAGE_RUNS;
        found.truncate(PAGE_RUNS);
        let next = found.last().filter(|_| more).map(ListedRun::cursor);
        let watch = query.before.is_empty().then(|| Watch { events: live::path(None), shown });
        let names = Names::of(&found, self.gateway.engine().settings());
        let body = html! {
            h1 { "Runs" }
            (filters(&query, &names))
            div #found data-part {
                @if found.is_empty() {
                    p.empty { @if query.is_narrow() { "No run fits." } @else { "Nothing was run yet." } }
                } @else { (table(&found, self.gateway.clock.now())) }
            }
            nav.pages aria-label="Pages" {
                @if !query.before.is_empty() { a href=(query.behind(None)) { "Newest" } }
                @if let Some(next) = &next { a rel="next" href=(query.behind(Some(next))) { "Older" } }
            }
        };
        let frame = Frame { watch, ..Frame::of("Runs", Part::Runs, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }
}

/// Names that are offered for filters.
struct Names {
    agents: BTreeSet<String>,
    roles: BTreeSet<String>,
    models: BTreeSet<String>,
}

impl Names {
    fn of(found: &[ListedRun], settings: &backstop::Settings) -> Self {
        let all = |name: fn(&ListedRun) -> &str| found.iter().map(|run| name(run).to_owned()).collect();
        let mut models: BTreeSet<String> = all(|run| run.summary.model.as_str());
        models.extend(settings.chains.iter().map(|(name, _)| name.to_string()));
        models.extend(settings.models.iter().map(|model| model.name.to_string()));
        Self {
            agents: all(|run| run.summary.agent.as_str()),
            roles: all(|run| run.summary.role.as_str()),
            models,
        }
    }
}

fn filters(query: &Query, names: &Names) -> Markup {
    let offered = [
        ("agent", "Agent", &query.agent, &names.agents),
        ("role", "Role", &query.role, &names.roles),
        ("model", "Model", &query.model, &names.models),
    ];
    html! {
        form.filters method="get" action="/runs" role="search" {
            div.field.wide {
                label for="q" { "Search" }
                input #q type="search" name="q" value=(query.search) maxlength="200"
                    placeholder="Words of the task, its id, or a run" aria-keyshortcuts="/";
            }
            div.field {
                label for="status" { "Status" }
                select #status name="status" {
                    option value="" { "Any" }
                    @for status in STATUSES {
                        option value=(status.as_str()) selected[status.as_str() == query.status] { (status.as_str()) }
                    }
                }
            }
            div.buttons {
                button.primary type="submit" { "Show" }
                @if query.is_narrow() { a.button href="/runs" { "All" } }
            }
            details.more open[query.is_detailed()] {
                summary { "Agent, role, model, time" }
                div.fields {
                    @for (name, label, value, offers) in offered {
                        div.field {
                            label for=(name) { (label) }
                            input #(name) name=(name) value=(value) list={ (name) "-names" } autocomplete="off" maxlength="200";
                            datalist #{ (name) "-names" } { @for offer in offers { option value=(visible_line(offer)) {} } }
                        }
                    }
                    @for (name, label, value) in [("from", "From", &query.from), ("to", "To", &query.to)] {
                        div.field {
                            label for=(name) { (label) " (UTC)" }
                            input #(name) type="date" name=(name) value=(value);
                        }
                    }
                }
            }
        }
    }
}

/// Runs, a line each.
pub(super) fn table(runs: &[ListedRun], now: Timestamp) -> Markup {
    html! {
        table.list {
            caption.hidden { "Runs, the newest first" }
            thead { tr {
                th scope="col" { "Status" } th scope="col" { "Task" } th.soft scope="col" { "Agent" }
                th.number.soft scope="col" { "Calls" } th.number.soft scope="col" { "Tokens" } th.number.soft scope="col" { "Cost" }
                th.number.soft scope="col" { "Time" } th.number.soft scope="col" { "Begun" }
            } }
            tbody { @for run in runs { (row(run, now)) } }
        }
    }
}

fn row(run: &ListedRun, now: Timestamp) -> Markup {
    let summary = &run.summary;
    let usage = &summary.usage;
    html! {
        tr #{ "run-" (summary.run) } {
            td { (text::status(summary.status)) }
            td.task {
                a href=(path(&summary.run)) data-row { (title(run)) }
                span.dim.brief { (text::ago(summary.created, now)) " · " (summary.cost) " · " (text::span(summary.duration())) }
                span.dim {
                    (visible_line(summary.run.as_str()))
                    @if let Some(code) = summary.code { " · " span.bad { (code) } " " (text::line(&message_in_words(&summary.message), 80)) }
                    @if summary.dry_run { " · only a plan" }
                    @if summary.erased.is_some() { " · erased" }
                }
            }
            td.soft { (text::line(summary.agent.as_str(), 30)) span.dim { (text::line(summary.model.as_str(), 30)) } }
            td.number.soft { (summary.calls) @if summary.failed_attempts > 0 { span.dim { (summary.failed_attempts) " failed" } } }
            td.number.soft { (text::tokens(usage.total_input_tokens() + usage.output_tokens)) }
            td.number.soft { (summary.cost) }
            td.number.soft { (text::span(summary.duration())) }
            td.number.soft { (text::ago(summary.created, now)) }
        }
    }
}

/// What a run is called: how its task begins, else the task's id.
pub(super) fn title(run: &ListedRun) -> String {
    let title = text::line(&run.text, TITLE_CHARS_MAX);
    if title.is_empty() { text::line(run.summary.task.as_str(), TITLE_CHARS_MAX) } else { title }
}

/// Where a run is shown.
pub(super) fn path(run: &RunId) -> String {
    format!("/runs/{run}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::visit::field;

    fn query(address: &str) -> Query {
        let (_, query) = address.split_once('?').unwrap_or_default();
        Query::of(|name| field(query, name))
    }

    #[test]
    fn an_address_is_a_filter_and_the_next_page_has_the_same() {
        let asked =
            query("/runs?q=+b%C3%BCcher+%26+co+&status=failed&agent=clerk&from=2026-11-01&to=2026-11-02&x=y");
        let filter = asked.filter();
        let day = Timestamp::of_date("2026-11-01").unwrap();
        assert_eq!(filter.search.as_deref(), Some("bücher & co"));
        assert_eq!((filter.status, filter.agent), (vec![RunStatus::Failed], Some("clerk".into())));
        assert_eq!((filter.from, filter.until), (Some(day), Some(day + Duration::from_hours(48))));
        let cursor = RunCursor { created: day, run: "1m8".into() };
        let next = query(&asked.behind(Some(&cursor)));
        assert_eq!(next.filter().before, Some(cursor));
        assert_eq!(Query { before: String::new(), ..next }, asked);
        assert_eq!(query("/runs").behind(None), "/runs");
    }

    #[test]
    fn what_names_nothing_filters_nothing() {
        let filter = query("/runs?status=lost&from=soon&before=x&agent=++").filter();
        assert!(filter.status.is_empty() && filter.from.is_none() && filter.before.is_none());
        assert_eq!(filter.agent, None);
        let long = query(&format!("/runs?q={}", "x".repeat(10_000)));
        assert_eq!(long.filter().search.unwrap().len(), FILTER_CHARS_MAX);
    }
}
