//! Every route there is, in one table: what is not in it is refused. A model call is a [`Route::Call`] and nothing else is;
//! all of them go through `call.rs`, and so through the stack.

use super::approvals::Act;
use super::tasks::TaskAct;
use crate::dashboard::{AlertChange, Change, JobChange, Page, TaskChange};
use backstop_call::{Dialect, Purpose};
use http::Method;

/// What a request wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A model, in this dialect.
    Call(Dialect, Purpose),
    /// The models there are, or one of them.
    Models,
    /// A client looks whether somebody is there; a person with a browser sees the dashboard.
    Home,
    /// A client looks whether somebody is there.
    Hello,
    /// Whether the process lives.
    Live,
    /// Whether it can answer calls.
    Ready,
    /// How each part of it is.
    Health,
    /// The figures for a scraper.
    Metrics,
    /// What agents ask, and answers to it, by a program.
    Approvals(Act),
    /// The queue, by a program.
    Tasks(TaskAct),
    /// The dashboard.
    Page(Page),
}

/// A path and the methods it takes.
pub(crate) struct Entry {
    /// The path; `*` takes any single name there.
    pub(crate) path: &'static str,
    /// The methods.
    pub(crate) methods: &'static [Method],
    /// What it is.
    pub(crate) route: Route,
}

const fn entry(path: &'static str, methods: &'static [Method], route: Route) -> Entry {
    Entry { path, methods, route }
}

const READ: &[Method] = &[Method::GET, Method::HEAD];
const POST: &[Method] = &[Method::POST];
const BOTH: &[Method] = &[Method::GET, Method::HEAD, Method::POST];

const fn api(act: Act) -> Route {
    Route::Approvals(act)
}

const fn page(page: Page) -> Route {
    Route::Page(page)
}

/// All of them.
pub(crate) const ROUTES: &[Entry] = &[
    entry("/v1/messages", POST, Route::Call(Dialect::Messages, Purpose::Answer)),
    entry("/v1/messages/count_tokens", POST, Route::Call(Dialect::Messages, Purpose::Count)),
    entry("/v1/chat/completions", POST, Route::Call(Dialect::Chat, Purpose::Answer)),
    entry("/v1/responses", POST, Route::Call(Dialect::Responses, Purpose::Answer)),
    entry("/v1/models", READ, Route::Models),
    entry("/v1/models/*", READ, Route::Models),
    entry("/", READ, Route::Home),
    entry("/api/hello", READ, Route::Hello),
    entry("/livez", READ, Route::Live),
    entry("/readyz", READ, Route::Ready),
    entry("/api/health", READ, Route::Health),
    entry("/metrics", READ, Route::Metrics),
    entry("/api/v1/approvals", READ, api(Act::List)),
    entry("/api/v1/approvals/*", READ, api(Act::Show)),
    entry("/api/v1/approvals/*/approve", POST, api(Act::Approve)),
    entry("/api/v1/approvals/*/deny", POST, api(Act::Deny)),
    entry("/api/v1/approvals/*/edit", POST, api(Act::Edit)),
    entry("/api/v1/approvals/*/preview", POST, api(Act::Preview)),
    entry("/api/tasks", BOTH, Route::Tasks(TaskAct::All)),
    entry("/api/tasks/*", READ, Route::Tasks(TaskAct::One)),
    entry("/api/tasks/*/retry", POST, Route::Tasks(TaskAct::Retry)),
    entry("/api/tasks/*/cancel", POST, Route::Tasks(TaskAct::Cancel)),
    entry("/assets/*", READ, page(Page::Asset)),
    entry("/login", BOTH, page(Page::Login)),
    entry("/logout", POST, page(Page::Logout)),
    entry("/events", &[Method::GET], page(Page::Events)),
    entry("/runs", READ, page(Page::Runs)),
    entry("/runs/*", READ, page(Page::Run)),
    entry("/runs/*/audit", READ, page(Page::RunAudit)),
    entry("/runs/*/audit.jsonl", READ, page(Page::AuditFile)),
    entry("/runs/*/resume", BOTH, page(Page::Change(Change::Resume))),
    entry("/runs/*/cancel", BOTH, page(Page::Change(Change::Cancel))),
    entry("/runs/*/undo", BOTH, page(Page::Change(Change::Undo))),
    entry("/runs/*/erase", BOTH, page(Page::Change(Change::Erase))),
    entry("/tasks", READ, page(Page::Tasks)),
    entry("/tasks/*/retry", POST, page(Page::Task(TaskChange::Retry))),
    entry("/tasks/*/cancel", BOTH, page(Page::Task(TaskChange::Cancel))),
    entry("/jobs", READ, page(Page::Jobs)),
    entry("/jobs/*/pause", POST, page(Page::Job(JobChange::Pause))),
    entry("/jobs/*/resume", POST, page(Page::Job(JobChange::Resume))),
    entry("/jobs/*/run", POST, page(Page::Job(JobChange::Run))),
    entry("/alerts", READ, page(Page::Alerts)),
    entry("/alerts/*/acknowledge", POST, page(Page::Alert(AlertChange::Acknowledge))),
    entry("/alerts/*/silence", POST, page(Page::Alert(AlertChange::Silence))),
    entry("/alerts/*/unsilence", POST, page(Page::Alert(AlertChange::Unsilence))),
    entry("/approvals", READ, page(Page::Question(Act::List))),
    entry("/approvals/*", READ, page(Page::Question(Act::Show))),
    entry("/approvals/*/approve", POST, page(Page::Question(Act::Approve))),
    entry("/approvals/*/deny", POST, page(Page::Question(Act::Deny))),
    entry("/approvals/*/edit", POST, page(Page::Question(Act::Edit))),
    entry("/approvals/*/preview", POST, page(Page::Question(Act::Preview))),
    entry("/providers", READ, page(Page::Providers)),
    entry("/spending", READ, page(Page::Spending)),
    entry("/audit", READ, page(Page::Audit)),
];

/// A path of the gateway, as it is told outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The path; `*` takes any single name there.
    pub path: &'static str,
    /// The methods it takes.
    pub methods: &'static [Method],
    /// Whether a model is called there.
    pub is_call: bool,
    /// Whether it is a page, or what is asked of people: it wants a key for people, or none where it tells nothing.
    pub is_for_people: bool,
    /// Whether it is about tasks in the queue: it wants a key that submits them, or one for people.
    pub is_queue: bool,
}

/// Every path there is.
pub fn paths() -> impl Iterator<Item = Path> {
    let told = |entry: &Entry| Path {
        path: entry.path,
        methods: entry.methods,
        is_call: matches!(entry.route, Route::Call(..)),
        is_for_people: matches!(entry.route, Route::Page(_) | Route::Approvals(_)),
        is_queue: matches!(entry.route, Route::Tasks(_)),
    };
    ROUTES.iter().map(told)
}

/// Where a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// Here.
    Route(Route),
    /// To a path that takes other methods: these.
    OtherMethod(&'static [Method]),
    /// Nowhere.
    Nothing,
}

/// Looks a path up.
pub(crate) fn find(method: &Method, path: &str) -> Found {
    let Some(entry) = ROUTES.iter().find(|entry| takes(entry.path, path)) else { return Found::Nothing };
    if entry.methods.contains(method) { Found::Route(entry.route) } else { Found::OtherMethod(entry.methods) }
}

fn takes(pattern: &str, path: &str) -> bool {
    let Some((front, back)) = pattern.split_once('*') else { return pattern == path };
    let name = path.strip_prefix(front).and_then(|rest| rest.strip_suffix(back));
    name.is_some_and(|name| !name.is_empty() && !name.contains('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_methods() {
        let rows = [
            (Method::POST, "/v1/messages", Found::Route(Route::Call(Dialect::Messages, Purpose::Answer))),
            (Method::GET, "/v1/messages", Found::OtherMethod(POST)),
            (Method::POST, "/v1/messages/", Found::Nothing),
            (Method::GET, "/v1/models/claude-opus", Found::Route(Route::Models)),
            (Method::GET, "/v1/models/a/b", Found::Nothing),
            (Method::GET, "/approvals/01abc", Found::Route(page(Page::Question(Act::Show)))),
            (Method::GET, "/approvals/01abc/approve", Found::OtherMethod(POST)),
            (Method::POST, "/approvals/01abc", Found::OtherMethod(READ)),
            (Method::POST, "/api/v1/approvals/01abc/approve", Found::Route(api(Act::Approve))),
            (Method::POST, "/api/v1/approvals/a/b/approve", Found::Nothing),
            (Method::POST, "/api/v1/approvals//approve", Found::Nothing),
            (Method::POST, "/api/tasks", Found::Route(Route::Tasks(TaskAct::All))),
            (Method::GET, "/api/tasks/a%2Fb", Found::Route(Route::Tasks(TaskAct::One))),
            (Method::GET, "/api/tasks/a/retry", Found::OtherMethod(POST)),
            (Method::HEAD, "/", Found::Route(Route::Home)),
            (Method::GET, "/runs/01abc", Found::Route(page(Page::Run))),
            (Method::GET, "/runs/01abc/events", Found::Nothing),
            (Method::POST, "/v1/embeddings", Found::Nothing),
        ];
        for (method, path, want) in rows {
            assert_eq!(find(&method, path), want, "{method} {path}");
        }
    }
}
