//! The dashboard: what agents do and did, told to people with a browser, and where people answer them. Pages are made here, whole;
//! they need no script and load nothing from elsewhere. A page costs what it shows: nothing here goes through the journal.
//!
//! Whoever looks has a key for it, and whoever changes something has one that approves (`door`). What is changed is the
//! business of the desk, the agent and the journal; this room only asks them.

mod alerts;
mod audit;
mod change;
mod door;
mod figures;
mod frame;
mod inbox;
mod jobs;
mod live;
mod numbers;
mod overview;
mod providers;
mod question;
mod run;
mod runs;
mod session;
mod spending;
mod tasks;
mod text;

pub use live::Live;
pub(crate) use live::Notices;

use crate::gateway::answer::{self, Answer, Reply};
use crate::gateway::approvals::{Act, Refused};
use crate::gateway::visit::Visit;
use alerts::Known;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use maud::Markup;
use session::Sessions;

/// The way by which answers of a page come.
pub(crate) const CHANNEL: &str = "page";

/// Nothing is loaded from elsewhere, nothing runs that is no file of ours, nobody frames it, and forms go nowhere else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What is wanted of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Page {
    /// How it goes.
    Overview,
    /// A file that pages are made with.
    Asset,
    /// The door.
    Login,
    /// Out of it.
    Logout,
    /// What happens from here on.
    Events,
    /// The list of runs.
    Runs,
    /// One run.
    Run,
    /// Who did what in a run.
    RunAudit,
    /// The same, to be kept.
    AuditFile,
    /// What becomes of a run.
    Change(Change),
    /// The queue.
    Tasks,
    /// What becomes of a task.
    Task(TaskChange),
    /// The jobs.
    Jobs,
    /// What becomes of a job.
    Job(JobChange),
    /// What is wrong.
    Alerts,
    /// What somebody says to it.
    Alert(AlertChange),
    /// What agents ask.
    Question(Act),
    /// Who is asked for answers, and how they are.
    Providers,
    /// What was spent.
    Spending,
    /// Who did what.
    Audit,
}

/// What a person does with a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// Lets it go on.
    Resume,
    /// Ends it for good.
    Cancel,
    /// Takes back what it did.
    Undo,
    /// Erases what it said.
    Erase,
}

/// What a person does with a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskChange {
    /// Has it tried again.
    Retry,
    /// Ends it for good.
    Cancel,
}

/// What a person does with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum JobChange {
    /// Has its schedule not count for now.
    Pause,
    /// Has it count again.
    Resume,
    /// Has it done now.
    Run,
}

/// What a person says to an alert or a silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AlertChange {
    /// That they look after it.
    Acknowledge,
    /// That nobody is to be told of it for a while.
    Silence,
    /// That a silence is over.
    Unsilence,
}

/// The dashboard of a gateway that is open.
pub(crate) struct Dashboard {
    sessions: Sessions,
    alerts: Known,
    pub(crate) live: Live,
}

impl Dashboard {
    pub(crate) fn new(live: Live) -> Self {
        Self { sessions: Sessions::default(), alerts: Known::default(), live }
    }
}

impl Visit {
    /// Answers a request of a browser.
    pub(crate) async fn page(self, page: Page, body: Incoming) -> Reply {
        let is_head = self.head.method == Method::HEAD;
        let answered = match page {
            Page::Asset => self.asset(),
            Page::Login if self.head.method == Method::POST => self.log_in(body).await,
            Page::Login => Ok(self.ask_to_log_in(None)),
            Page::Logout => self.log_out(body).await,
            Page::Question(act) => Box::pin(self.question(act, body)).await,
            Page::Change(change) => Box::pin(self.change(change, body)).await,
            Page::Task(change) => self.change_task(change, body).await,
            Page::Alert(change) => self.change_alert(change, body).await,
            Page::Tasks => self.queue().await,
            Page::Jobs => self.jobs().await,
            Page::Job(change) => self.change_job(change, body).await,
            Page::Alerts => self.alerts().await,
            Page::Events => self.events().await,
            Page::Overview => self.overview().await,
            Page::Runs => self.runs().await,
            Page::Run => self.run().await,
            Page::RunAudit => self.run_audit().await,
            Page::AuditFile => self.audit_file().await,
            Page::Providers => self.providers().await,
            Page::Spending => self.spending().await,
            Page::Audit => self.audit().await,
        };
        let mut reply = answered.unwrap_or_else(|refused| self.refused(&refused));
        if is_head {
            *reply.body_mut() = Answer::Whole(None);
        }
        reply
    }

    fn refused(&self, refused: &Refused) -> Reply {
        let looker = self.looker();
        show(refused.status, &frame::refusal(&refused.problem, looker.as_ref()))
    }
}

/// Sends a browser on, to read.
fn see(path: &str) -> Reply {
    let mut reply = answer::whole(StatusCode::SEE_OTHER, headers("text/html; charset=utf-8"), "");
    answer::put(reply.headers_mut(), header::LOCATION, path.to_owned());
    reply
}

fn show(status: StatusCode, markup: &Markup) -> Reply {
    answer::whole(status, headers("text/html; charset=utf-8"), markup.0.clone())
}

fn headers(kind: &'static str) -> HeaderMap {
    let rows = [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // A signed link is told to nobody.
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    rows.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}
