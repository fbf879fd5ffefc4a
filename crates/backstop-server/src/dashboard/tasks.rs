//! The queue: what waits for a worker, is worked on, waits for a person, is done or dead; and what people do about it.

use super::door::Looker;
use super::frame::{Frame, Part, Watch, token};
use super::{CHANNEL, TaskChange, live, runs, see, show, text};
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::models::decoded;
use crate::gateway::tasks::{encoded, refused};
use crate::gateway::visit::Visit;
use crate::tasks;
use backstop_agent::visible_line;
use backstop_allowance::message_in_words;
use backstop_call::{Code, Priority, Timestamp};
use backstop_journal::projections::queue::{Queued, TaskState};
use backstop_journal::{Backlog, TaskFilter, TaskSummary};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::{Markup, html};
use url::form_urlencoded::Serializer;

/// Tasks on a page.
const PAGE_TASKS: usize = 50;
/// Characters of a filter; what is longer names nothing.
const FILTER_CHARS_MAX: usize = 200;
const TITLE_CHARS_MAX: usize = 110;

/// What is looked for, as it was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Query {
    search: String,
    state: String,
    agent: String,
    before: String,
}

impl Query {
    /// What the address says.
    fn of(asked: impl Fn(&str) -> Option<String>) -> Self {
        let field = |name: &str| {
            let text = asked(name).unwrap_or_default();
            text.trim().chars().take(FILTER_CHARS_MAX).collect()
        };
        Self { search: field("q"), state: field("state"), agent: field("agent"), before: field("before") }
    }

    /// As the queue takes it. What names nothing is passed over: the page shows it beside what was found.
    fn filter(&self) -> TaskFilter {
        let name = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let state = TaskState::ALL.into_iter().find(|state| state.as_str() == self.state);
        TaskFilter {
            states: state.into_iter().collect(),
            agent: name(&self.agent).map(Into::into),
            search: name(&self.search),
            before: self.before.parse().ok(),
            ..TaskFilter::default()
        }
    }

    fn fields(&self) -> [(&'static str, &str); 3] {
        [("q", &self.search), ("state", &self.state), ("agent", &self.agent)]
    }

    fn is_narrow(&self) -> bool {
        self.fields().iter().any(|(_, value)| !value.is_empty())
    }

    /// The address of the list behind a place.
    fn behind(&self, place: Option<i64>) -> String {
        let mut fields = Serializer::new(String::new());
        let before = place.map(|place| place.to_string()).unwrap_or_default();
        for (name, value) in self.fields().into_iter().chain([("before", before.as_str())]) {
            if !value.is_empty() {
                fields.append_pair(name, value);
            }
        }
        match fields.finish() {
            query if query.is_empty() => "/tasks".to_owned(),
            query => format!("/tasks?{query}"),
        }
    }
}

impl Visit {
    /// The list.
    pub(super) async fn queue(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let query = Query::of(|name| self.asked(name));
        let (backstop, now) = (&self.gateway.backstop, self.gateway.clock.now());
        let shown = backstop.journal().end().await?;
        // One more, to know whether there is another page.
        let filter = TaskFilter { limit: Some(PAGE_TASKS + 1), ..query.filter() };
        let mut found = backstop.queue().tasks(filter).await?;
        let backlog = backstop.queue().backlog(now).await?;
        let more = found.len() > PAGE_TASKS;
        found.truncate(PAGE_TASKS);
        let next = found.last().filter(|_| more).map(|task| task.place);
        let body = html! {
            h1 { "Tasks" }
            div #backlog data-part { (summed(&backlog)) }
            (filters(&query))
            div #found data-part {
                @if found.is_empty() {
                    p.empty {
                        @if query.is_narrow() { "No task fits." }
                        @else { "The queue is empty. " code { "backstop submit" } " puts a task in." }
                    }
                } @else { (table(&found, &looker, now)) }
            }
            nav.pages aria-label="Pages" {
                @if !query.before.is_empty() { a href=(query.behind(None)) { "Newest" } }
                @if next.is_some() { a rel="next" href=(query.behind(next)) { "Older" } }
            }
        };
        let watch = query.before.is_empty().then(|| Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Tasks", Part::Tasks, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }

    /// Asks whether a task is to be ended, or does what is asked.
    pub(super) async fn change_task(&self, change: TaskChange, body: Incoming) -> Result<Reply, Refused> {
        if self.head.method != Method::POST {
            let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
            return Ok(ask_whether(&self.task_named().await?, &looker));
        }
        let form = self.form(body).await?;
        let person = self.decider(&form)?;
        let (task, backstop) = (self.task_named().await?, &self.gateway.backstop);
        let by = format!("{} ({CHANNEL})", person.name);
        let done = match change {
            TaskChange::Retry => tasks::retry(backstop, &task).await,
            TaskChange::Cancel => tasks::cancel(backstop, &task, &by, None).await,
        };
        done.map_err(refused)?;
        Ok(see("/tasks"))
    }

    async fn task_named(&self) -> Result<TaskSummary, Refused> {
        let found = tasks::find(&**self.gateway.backstop.queue(), &decoded(self.name())).await?;
        found.ok_or_else(|| {
            let message = "there is no such task".to_owned();
            Refused::new(StatusCode::NOT_FOUND, Code::TaskNotFound, message)
        })
    }
}

/// How much there is, in words; each leads to those.
pub(super) fn summed(backlog: &Backlog) -> Markup {
    let parts = [
        (backlog.working, "worked on", "waiting"),
        (backlog.due, "waiting", "waiting"),
        (backlog.later, "due later", "waiting"),
        (backlog.parked, "waiting for a person", "parked"),
        (backlog.dead, "dead", "dead"),
        (backlog.done, "done", "done"),
        (backlog.cancelled, "cancelled", "cancelled"),
    ];
    html! {
        ul.counts {
            @for (count, what, state) in parts.into_iter().filter(|(count, ..)| *count > 0) {
                li { a href={ "/tasks?state=" (state) } { strong { (text::grouped(count)) } " " (what) } }
            }
        }
        @if backlog.due > 0 { p.dim { "The oldest waits for " (text::span(backlog.oldest)) "." } }
    }
}

fn filters(query: &Query) -> Markup {
    html! {
        form.filters method="get" action="/tasks" role="search" {
            div.field.wide {
                label for="q" { "Search" }
                input #q type="search" name="q" value=(query.search) maxlength="200"
                    placeholder="Words of the task, its id, or a run" aria-keyshortcuts="/";
            }
            div.field {
                label for="state" { "State" }
                select #state name="state" {
                    option value="" { "Any" }
                    @for state in TaskState::ALL {
                        option value=(state.as_str()) selected[state.as_str() == query.state] { (state.as_str()) }
                    }
                }
            }
            div.field {
                label for="agent" { "Agent" }
                input #agent name="agent" value=(query.agent) autocomplete="off" maxlength="200";
            }
            div.buttons {
                button.primary type="submit" { "Show" }
                @if query.is_narrow() { a.button href="/tasks" { "All" } }
            }
        }
    }
}

fn table(tasks: &[TaskSummary], looker: &Looker, now: Timestamp) -> Markup {
    html! {
        table.list {
            caption.hidden { "Tasks, the newest first" }
            thead { tr {
                th scope="col" { "State" } th scope="col" { "Task" } th.soft scope="col" { "Agent" }
                th.soft scope="col" { "Priority" } th.number.soft scope="col" { "Tries" } th.number.soft scope="col" { "Cost" }
                th.number.soft scope="col" { "Put in" }
                @if looker.form().is_some() { th scope="col" { span.hidden { "What can be done" } } }
            } }
            tbody { @for task in tasks { (row(task, looker, now)) } }
        }
    }
}

fn row(task: &TaskSummary, looker: &Looker, now: Timestamp) -> Markup {
    let (run, queue) = (&task.run, task.queued());
    let id = text::line(task.task.as_str(), TITLE_CHARS_MAX);
    let title = text::line(&task.text, TITLE_CHARS_MAX);
    html! {
        tr #{ "task-" (task.place) } {
            td { (state(task)) }
            td.task {
                a href=(runs::path(&run.run)) data-row { @if title.is_empty() { (id) } @else { (title) } }
                span.dim.brief { (text::ago(run.created, now)) " · " (run.cost) @if let Some(queue) = queue { " · " (tries(queue)) " tries" } }
                span.dim { (id) (why(task, now)) }
            }
            td.soft { (text::line(run.agent.as_str(), 30)) span.dim { (text::line(run.model.as_str(), 30)) } }
            td.soft {
                @if let Some(queue) = queue {
                    (priority(queue.priority))
                    @if let Some(key) = &queue.terms.key { span.dim { "key " (text::line(key, 30)) } }
                }
            }
            td.number.soft { @if let Some(queue) = queue { (tries(queue)) } }
            td.number.soft { (run.cost) }
            td.number.soft { (text::ago(run.created, now)) }
            @if let Some(form) = looker.form() { td.row-acts { (acts(task, form)) } }
        }
    }
}

fn state(task: &TaskSummary) -> Markup {
    let (class, word) = match task.queued().map(|queue| queue.state) {
        Some(TaskState::Waiting) | None if task.worked_on => ("running", "working"),
        Some(state @ TaskState::Dead) => ("failed", state.as_str()),
        Some(state) => (state.as_str(), state.as_str()),
        None => ("", "handed over"),
    };
    html! { span class={ "pill " (class) } { (word) } }
}

/// How often it was tried, of how often it is to be.
fn tries(queue: &Queued) -> String {
    let tried = queue.tried + u32::from(queue.state == TaskState::Done);
    format!("{tried}/{}", queue.terms.tries)
}

fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::Interactive => "interactive",
        Priority::Standard => "standard",
        Priority::Batch => "batch",
    }
}

/// Why it stands so, and when it goes on.
fn why(task: &TaskSummary, now: Timestamp) -> Markup {
    let waiting = task.queued().filter(|queue| queue.state == TaskState::Waiting && !task.worked_on);
    let due = waiting.and_then(|queue| queue.due).filter(|due| *due > now);
    html! {
        @if let Some(due) = due { " · due in " (text::span(due.since(now))) }
        @if let Some(code) = task.run.code { " · " span.bad { (code) } " " (text::line(&message_in_words(&task.run.message), 80)) }
        @if task.run.erased.is_some() { " · erased" }
        @if let Some(key) = &task.run.asked_by { " · by key " (text::line(key.as_str(), 30)) }
    }
}

fn acts(task: &TaskSummary, form: &str) -> Markup {
    let path = path(task.task.as_str());
    html! {
        @match task.queued().map(|queue| queue.state) {
            // Of one that was erased nothing is left to try.
            Some(TaskState::Dead) if task.run.erased.is_none() => (retry(&path, form)),
            Some(TaskState::Waiting | TaskState::Parked) => a.button.small href={ (path) "/cancel" } { "Cancel…" },
            Some(TaskState::Dead | TaskState::Done | TaskState::Cancelled) | None => {},
        }
    }
}

/// The button that has a task tried again.
pub(super) fn retry(path: &str, form: &str) -> Markup {
    html! { form method="post" action={ (path) "/retry" } { (token(form)) button.small type="submit" { "Retry" } } }
}

/// Where something is done to a task.
pub(super) fn path(task: &str) -> String {
    format!("/tasks/{}", encoded(task))
}

fn ask_whether(task: &TaskSummary, looker: &Looker) -> Reply {
    let body = html! {
        div.narrow {
            p.path { a href="/tasks" { "Back, without doing anything" } }
            h1 { "Cancel this task?" }
            p { strong { (text::line(&task.text, TITLE_CHARS_MAX)) } " " span.dim { (visible_line(task.task.as_str())) } }
            div.card { p { "It is not done, or not any further, and never tried again. What it did stays." } }
            @match looker.form() {
                Some(form) => form.card method="post" {
                    (token(form))
                    div.buttons { button.no type="submit" { "Cancel it for good" } }
                },
                None => p.card.dim { "You may look. To do it takes a key that was made with " code { "--approver" } "." },
            }
        }
    };
    show(StatusCode::OK, &Frame::of("Cancel this task?", Part::Tasks, Some(looker)).around(&body))
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
        let asked = query("/tasks?q=+news+%26+co&state=dead&agent=clerk&x=y");
        let want = TaskFilter {
            states: vec![TaskState::Dead],
            agent: Some("clerk".into()),
            search: Some("news & co".to_owned()),
            ..TaskFilter::default()
        };
        assert_eq!(asked.filter(), want);
        let next = query(&asked.behind(Some(7)));
        assert_eq!(next.filter(), TaskFilter { before: Some(7), ..want });
        assert_eq!(query("/tasks?state=lost&before=x").filter(), TaskFilter::default());
        assert_eq!(query("/tasks").behind(None), "/tasks");
    }
}
