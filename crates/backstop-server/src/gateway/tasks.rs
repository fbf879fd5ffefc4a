//! The queue, for programs: tasks are put in once, looked at, tried again and ended. A key that submits sees and changes what it
//! put in and nothing else; keys for people see all; without any key it is whoever sits at this machine. What a task means is
//! said by the config, and never more than its key may.

use super::answer::{self, Reply};
use super::approvals::Refused;
use super::context;
use super::engine::Engine;
use super::models::decoded;
use super::visit::Visit;
use crate::config::Problem;
use crate::keys::Admitted;
use crate::tasks::{self, Asked, backlog_json, task_json};
use backstop::{Asking, RunResult, Task};
use backstop_agent::RunError;
use backstop_agent::run::Submitted;
use backstop_call::{Code, KeyName, RunId, Timestamp};
use backstop_journal::event::{KeyRight, Origin, QueueTerms};
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{EventBody, StreamId, TaskFilter, TaskSummary};
use http::header::{self, HeaderMap, HeaderName};
use http::{Method, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::json;

/// What a page of the list holds when nobody says.
const LIMIT_DEFAULT: usize = 50;
/// What it holds at most.
const LIMIT_MAX: usize = 500;
/// The longest `Idempotency-Key`, in bytes.
const ONCE_BYTES_MAX: usize = 255;
/// So much of the hash of an `Idempotency-Key` is in the id of its run, in hexadecimal digits.
const ONCE_DIGITS: usize = 24;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// What says that an answer is that of an earlier request.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// What is wanted of the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskAct {
    /// To see what is in it; to put something in.
    All,
    /// To see one task.
    One,
    /// To have it tried again.
    Retry,
    /// To end it.
    Cancel,
}

/// Who comes.
enum Comer {
    /// Whoever sits at this machine.
    Machine,
    /// Somebody with a key.
    Key(Admitted),
}

impl Comer {
    fn key(&self) -> Option<&Admitted> {
        match self {
            Self::Machine => None,
            Self::Key(admitted) => Some(admitted),
        }
    }

    /// Whose tasks there are for them; `None` for all.
    fn own(&self) -> Option<&KeyName> {
        let key = self.key()?.key();
        (key.scope().right == KeyRight::Submit).then(|| key.name())
    }

    fn name(&self) -> String {
        self.key().map_or_else(|| "a program".to_owned(), |admitted| format!("key {}", admitted.key().name()))
    }
}

/// What is sent to end a task.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cancel {
    reason: Option<String>,
}

impl Visit {
    /// Answers a request about the queue.
    pub(crate) async fn tasks(self, act: TaskAct, body: Incoming) -> Reply {
        let answered = match act {
            TaskAct::All if self.head.method == Method::POST => self.put_in(body).await,
            TaskAct::All => self.list().await,
            TaskAct::One => self.one().await,
            TaskAct::Retry => self.retry().await,
            TaskAct::Cancel => self.cancel(body).await,
        };
        answered.unwrap_or_else(|refused| refused.reply())
    }

    /// Who comes, if they may: with a key that has one of these rights, or from this machine while there are no keys.
    fn comer(&self, rights: &[KeyRight]) -> Result<Comer, Refused> {
        let secret = context::secret(&self.head.headers);
        if secret.is_empty() && self.is_at_home() && !is_of_a_page(&self.head.headers) {
            return Ok(Comer::Machine);
        }
        let (gateway, now) = (&self.gateway, self.gateway.clock.now());
        self.tried(secret, || {
            let key = gateway.ring().find(secret, now)?;
            let right = key.scope().right;
            let wanted = if rights.contains(&right) { right } else { KeyRight::Submit };
            Ok(Comer::Key(gateway.admitted_with(key, self.peer, wanted)?))
        })
    }

    async fn put_in(&self, body: Incoming) -> Result<Reply, Refused> {
        let comer = self.comer(&[KeyRight::Submit])?;
        let now = self.gateway.clock.now();
        // Held to the end: it is one of the key's requests.
        let _pass = comer.key().map(|admitted| admitted.enter(now, 0)).transpose()?;
        let once = once(&self.head.headers)?;
        let asked: Asked = read(&self.body(body).await?)?;
        let backstop = &self.gateway.backstop;
        let id = RunId::from(backstop.call_id().as_str());
        let order = Order::of(&asked, comer.key(), &self.gateway.engine(), (now, id.as_str()))?;
        let name = comer.key().map(|admitted| admitted.key().name());
        let request = asked.fingerprint(name);
        let origin = Origin {
            key: name.cloned(),
            key_limits: comer.key().map(|admitted| admitted.key().scope().budget).unwrap_or_default(),
            request: Some(request.clone()),
            ..Origin::default()
        };
        let run = once.map(|once| run_of(name, once));
        let Order { task, terms } = order;
        let role = comer.key().and_then(|admitted| admitted.key().scope().role.clone());
        let submitted =
            backstop.submit_for(task, terms, Asking { origin, role, run }).await.map_err(refused)?;
        if !submitted.new && self.request_of(&submitted.run).await? != Some(request) {
            return Err(another(&submitted, once));
        }
        Ok(told(&submitted, once.is_some()))
    }

    /// The request that a run was made from.
    async fn request_of(&self, run: &RunId) -> Result<Option<String>, Refused> {
        let stream = StreamId::Run(run.clone());
        let first = self.gateway.backstop.journal().part(&stream, 0, 1).await?.pop();
        Ok(first.and_then(|event| match event.body {
            EventBody::RunCreated(created) => created.origin.request,
            _ => None,
        }))
    }

    async fn list(&self) -> Result<Reply, Refused> {
        let comer = self.comer(&[KeyRight::Submit, KeyRight::View, KeyRight::Approve])?;
        let query = self.head.uri.query().unwrap_or_default();
        let filter = TaskFilter { asked_by: comer.own().cloned(), ..wanted(query)? };
        let (queue, limit) = (self.gateway.backstop.queue(), filter.limit);
        let tasks = queue.tasks(filter).await?;
        let is_full = limit.is_some_and(|limit| tasks.len() >= limit);
        let next = tasks.last().filter(|_| is_full).map(|last| last.place);
        let rows: Vec<_> = tasks.iter().map(task_json).collect();
        let mut body = json!({ "tasks": rows, "next": next });
        if comer.own().is_none() {
            body["backlog"] = backlog_json(&queue.backlog(self.gateway.clock.now()).await?);
        }
        Ok(answer::json(StatusCode::OK, &body))
    }

    async fn one(&self) -> Result<Reply, Refused> {
        let comer = self.comer(&[KeyRight::Submit, KeyRight::View, KeyRight::Approve])?;
        let task = self.task(&comer).await?;
        self.whole(&task).await
    }

    async fn retry(&self) -> Result<Reply, Refused> {
        let comer = self.comer(&[KeyRight::Submit, KeyRight::Approve])?;
        let task = self.task(&comer).await?;
        tasks::retry(&self.gateway.backstop, &task).await.map_err(refused)?;
        self.whole(&self.task(&comer).await?).await
    }

    async fn cancel(&self, body: Incoming) -> Result<Reply, Refused> {
        let comer = self.comer(&[KeyRight::Submit, KeyRight::Approve])?;
        let sent = self.body(body).await?;
        let Cancel { reason } = if sent.is_empty() { Cancel::default() } else { read(&sent)? };
        let task = self.task(&comer).await?;
        let cancelled = tasks::cancel(&self.gateway.backstop, &task, &comer.name(), reason.as_deref()).await;
        cancelled.map_err(refused)?;
        self.whole(&self.task(&comer).await?).await
    }

    /// The task that the path names, where it is theirs: whether others have one of this name is not told.
    async fn task(&self, comer: &Comer) -> Result<TaskSummary, Refused> {
        let id = decoded(self.name());
        let found = tasks::find(&**self.gateway.backstop.queue(), &id).await?;
        let is_theirs =
            |task: &TaskSummary| comer.own().is_none_or(|own| task.run.asked_by.as_ref() == Some(own));
        found.filter(is_theirs).ok_or_else(|| {
            let id: String = id.chars().take(100).collect();
            Refused::new(StatusCode::NOT_FOUND, Code::TaskNotFound, format!("there is no task {id}"))
                .with_hint("`GET /api/tasks` lists them")
        })
    }

    /// A task with what came of it.
    async fn whole(&self, task: &TaskSummary) -> Result<Reply, Refused> {
        let result = self.gateway.backstop.inspect(&task.run.run).await.map_err(refused)?;
        let RunResult { content, result, cost, code, message, .. } = result;
        let mut body = task_json(task);
        body["content"] = json!(content);
        body["result"] = json!(result);
        body["cost_usd"] = json!(cost.decimal());
        body["code"] = json!(code);
        body["message"] = json!(message);
        Ok(answer::json(StatusCode::OK, &body))
    }
}

/// A task as it goes into the queue.
struct Order {
    task: Task,
    terms: QueueTerms,
}

impl Order {
    /// What is asked, by the config and by what the key may.
    fn of(
        asked: &Asked,
        key: Option<&Admitted>,
        engine: &Engine,
        (now, id): (Timestamp, &str),
    ) -> Result<Self, Refused> {
        let wrong =
            |message: &str, hint: &str| Err(Problem::new(Code::Usage, message).with_hint(hint).into());
        let agent = asked.agent.as_deref().unwrap_or_default();
        if key.is_some() && agent.is_empty() {
            return wrong(
                "the task names no agent",
                "a task that comes with a key is for an agent of the config",
            );
        }
        if key.is_some() && asked.workspace.is_some() {
            return wrong("the task names a directory", "with a key it is done where its agent works");
        }
        if asked.workspace.as_ref().is_some_and(|path| path.is_relative()) {
            return wrong("`workspace` is no whole path", "say the directory from the root on");
        }
        if let Some(key) = key {
            // Before the config is asked: which agents there are is not for everybody.
            key.may_name(agent)?;
        }
        let (mut task, terms) = asked.by(engine.config(), now, id)?;
        if let Some(key) = key {
            key.may_ask(task.model.as_str())?;
            let scope = key.key().scope();
            task.priority = scope.priority.unwrap_or(task.priority);
            task.labels = task.labels.joined(&scope.labels);
        }
        if task.workspace.as_os_str().is_empty() {
            let hint = "give the agent a `workspace` in the config, or name a directory in the task";
            return wrong("it is not said in which directory the task is done", hint);
        }
        let is_known = engine.settings().askable().contains(&task.model)
            || engine.config().chains.contains_key(&task.model)
            || engine.config().models.contains_key(&task.model);
        if !is_known {
            let message = format!("there is no model or chain `{}`", task.model);
            return Err(Problem::new(Code::UnknownModel, message).into());
        }
        Ok(Self { task, terms })
    }
}

/// What became of what was asked for.
fn told(submitted: &Submitted, once: bool) -> Reply {
    // The same request with the same `Idempotency-Key` has the same answer.
    let new = submitted.new || once;
    let body = json!({ "task": submitted.task, "run": submitted.run, "new": new });
    let mut reply = answer::json(if new { StatusCode::CREATED } else { StatusCode::OK }, &body);
    if once && !submitted.new {
        answer::put(reply.headers_mut(), REPLAYED, "true".to_owned());
    }
    let path = format!("/api/tasks/{}", encoded(submitted.task.as_str()));
    answer::put(reply.headers_mut(), header::LOCATION, path);
    reply
}

/// A name as it stands in a path.
pub(crate) fn encoded(name: &str) -> String {
    let name: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    name.replace('+', "%20")
}

/// A task of this name, or a request of this key, is there already and is another one.
fn another(submitted: &Submitted, once: Option<&str>) -> Refused {
    let (status, message) = match once {
        Some(_) => (
            StatusCode::UNPROCESSABLE_ENTITY,
            "this `Idempotency-Key`, or the task's id, came with another request before".to_owned(),
        ),
        None => (
            StatusCode::CONFLICT,
            format!("task {} is there already, and was not asked for like this", submitted.task),
        ),
    };
    Refused::new(status, Code::TaskExists, message)
}

/// The run of what is asked for under an `Idempotency-Key`: the same for the same, and another one for each key of the gateway.
fn run_of(key: Option<&KeyName>, once: &str) -> RunId {
    let name = format!("{}\n{once}", key.map(KeyName::as_str).unwrap_or_default());
    RunId::from(format!("r{}", &blake3::hash(name.as_bytes()).to_hex()[..ONCE_DIGITS]))
}

/// The `Idempotency-Key` of a request. The draft of the IETF has it in quotes, and clients send it without.
fn once(headers: &HeaderMap) -> Result<Option<&str>, Refused> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).into_iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = value.to_str().unwrap_or_default().trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    if text.is_empty() || text.len() > ONCE_BYTES_MAX || values.next().is_some() {
        let message = format!("`Idempotency-Key` is not one text of 1 to {ONCE_BYTES_MAX} letters");
        return Err(bad(message, "send a UUID, once, and the same one when you try again"));
    }
    Ok(Some(text))
}

/// Whether a request is one of a page in a browser: of whatever site it is, nobody at this machine has sent it.
fn is_of_a_page(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

/// Which tasks a query asks for.
fn wanted(query: &str) -> Result<TaskFilter, Refused> {
    let mut filter = TaskFilter { limit: Some(LIMIT_DEFAULT), ..TaskFilter::default() };
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let wrong =
            |what: &str| bad(format!("`{name}` is no {what}"), "see the queue's API in docs/queue.md");
        match &*name {
            "state" => {
                let state = TaskState::ALL.into_iter().find(|state| state.as_str() == value);
                filter.states.push(state.ok_or_else(|| wrong("state of a task"))?);
            }
            "agent" => filter.agent = Some(value.as_ref().into()),
            "search" => filter.search = Some(value.into_owned()),
            "prefix" => filter.prefix = Some(value.into_owned()),
            "before" => filter.before = Some(value.parse().map_err(|_| wrong("place in the list"))?),
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                filter.limit = Some(limit.ok_or_else(|| wrong("number from 1 to 500"))?);
            }
            _ => return Err(wrong("filter: there are state, agent, search, prefix, before and limit")),
        }
    }
    Ok(filter)
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        bad(format!("the body is not what is wanted here: {error}"), "see the queue's API in docs/queue.md")
    })
}

fn bad(message: String, hint: &str) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, Code::Usage, message).with_hint(hint)
}

pub(crate) fn refused(error: RunError) -> Refused {
    match error {
        RunError::Journal(error) => error.into(),
        other => Refused::new(StatusCode::CONFLICT, other.code(), other.to_string()),
    }
}

impl From<Problem> for Refused {
    /// What is asked for cannot be had.
    fn from(problem: Problem) -> Self {
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, problem, preview: None, wait_secs: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn a_request_is_known_by_its_key_and_by_whose_it_is() {
        let headers = |values: &[&'static str]| {
            values
                .iter()
                .map(|value| (IDEMPOTENCY_KEY, HeaderValue::from_static(value)))
                .collect::<HeaderMap>()
        };
        let long = headers(&[Box::leak("x".repeat(256).into_boxed_str())]);
        let rows = [
            (headers(&[]), Ok(None)),
            (headers(&["8e03978e-40d5"]), Ok(Some("8e03978e-40d5"))),
            (headers(&["\"8e03978e-40d5\""]), Ok(Some("8e03978e-40d5"))),
            (headers(&[" a "]), Ok(Some("a"))),
            (headers(&["\""]), Ok(Some("\""))),
            (headers(&[""]), Err(Code::Usage)),
            (headers(&["\"\""]), Err(Code::Usage)),
            (headers(&["a", "a"]), Err(Code::Usage)),
            (long, Err(Code::Usage)),
        ];
        for (headers, want) in rows {
            assert_eq!(once(&headers).map_err(|refused| refused.problem.code), want, "{headers:?}");
        }
        let runs = [run_of(None, "a"), run_of(None, "b"), run_of(Some(&"ci".into()), "a")];
        assert_eq!(runs[0], run_of(None, "a"));
        assert!(runs[0] != runs[1] && runs[0] != runs[2]);
        assert_eq!(runs[0].as_str().len(), 1 + ONCE_DIGITS);
    }

    #[test]
    fn a_query_says_which_tasks() {
        let filter = wanted("state=dead&state=parked&agent=writer&search=intro&before=7&limit=2").unwrap();
        let want = TaskFilter {
            states: vec![TaskState::Dead, TaskState::Parked],
            agent: Some("writer".into()),
            search: Some("intro".to_owned()),
            before: Some(7),
            limit: Some(2),
            ..TaskFilter::default()
        };
        assert_eq!(filter, want);
        for query in ["state=gone", "before=x", "limit=0", "limit=501", "status=dead"] {
            assert_eq!(
                wanted(query).map_err(|refused| refused.status),
                Err(StatusCode::BAD_REQUEST),
                "{query}"
            );
        }
    }
}
