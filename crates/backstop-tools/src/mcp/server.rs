//! A server as the rest sees it: connected when it is needed, compared with what was accepted of it, restarted after it died,
//! and left alone when it dies again and again. Makes no call by itself.

use super::definition::{Definition, name_for_models};
use super::grant::{self, FirstUse, McpGrant, McpGrantError, McpLimits, McpToolGrant, Unlisted, Way};
use super::http::Web;
use super::outage::Outage;
use super::pins::{Accepted, Compared, Pins, PinsError, compare};
use super::protocol;
use super::session::{Answer, Fault, Opening, Piece, Request, Session};
use super::stdio::{self, Launch};
use super::text::Scrub;
use super::tool::McpTool;
use backstop_agent::Tool;
use backstop_call::Secret;
use backstop_label::Declaration;
use jsonschema::Validator;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A server that leaves so many calls in a row without an answer is ended and started anew.
const SILENT_MAX: u32 = 3;

/// An MCP server that was granted. It is connected when it is first needed. Cheap to clone; when the last clone and the last
/// of its tools are dropped, its program is killed with everything it started.
#[derive(Clone)]
pub struct McpServer {
    inner: Arc<Inner>,
}

pub(super) struct Inner {
    name: String,
    grant: McpGrant,
    way: Way,
    scrub: Scrub,
    launch: Launch,
    pins: Arc<dyn Pins>,
    /// Held by whoever connects or compares: one at a time, and the others use what that gave.
    gate: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    outage: Outage,
    silent_in_a_row: u32,
}

/// A session, with what was compared when.
#[derive(Clone)]
struct Live {
    session: Arc<dyn Session>,
    since: Instant,
    checked_at: Instant,
    checked_changes: u64,
    review: Arc<Review>,
}

/// A tool that is offered, with what is worked out of its definition once.
pub(super) struct Offer {
    pub(super) definition: Definition,
    pub(super) hash: String,
    /// What its answers are held against.
    pub(super) output: Option<Validator>,
}

impl Offer {
    fn of(definition: Definition) -> Self {
        let output = definition.output_schema.as_ref();
        let output = output.and_then(|schema| jsonschema::validator_for(schema).ok());
        Self { hash: definition.hash(), definition, output }
    }
}

/// What became of each tool of a server.
#[derive(Default)]
struct Review {
    /// By the server's own names.
    offered: BTreeMap<String, Arc<Offer>>,
    quarantined: Vec<Quarantined>,
    left_out: Vec<(String, String)>,
    unlisted: Vec<String>,
    missing: Vec<String>,
}

/// A tool that is not offered until a person has looked at it, because it is new or its definition has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// The tool as the server defines it now.
    pub definition: Definition,
    /// What was accepted before; `None` for a new tool.
    pub accepted: Option<Definition>,
}

impl Quarantined {
    /// What is another than it was, as in a patch; all of it for a new tool.
    pub fn difference(&self) -> String {
        self.definition.difference(self.accepted.as_ref())
    }
}

/// What a server gave when it was connected.
#[derive(Default)]
pub struct McpReport {
    /// The server.
    pub server: String,
    /// The tools that are offered, by their names for models.
    pub tools: Vec<Arc<dyn Tool>>,
    /// The tools that wait for a person.
    pub quarantined: Vec<Quarantined>,
    /// The tools that cannot be offered, by the server's own names, with why.
    pub left_out: Vec<(String, String)>,
    /// The tools that the operator did not list.
    pub unlisted: Vec<String>,
    /// The tools that the operator listed and the server does not have.
    pub missing: Vec<String>,
    /// Why there are none at all.
    pub failure: Option<String>,
}

/// Connects all servers at the same time, each under its own deadline. One that is not there does not hold up the others.
/// The reports come in the order of the servers.
pub async fn connect_all(servers: &[McpServer]) -> Vec<McpReport> {
    let mut under_way = JoinSet::new();
    for (place, server) in servers.iter().cloned().enumerate() {
        under_way.spawn(async move { (place, server.connect().await) });
    }
    let lost = |server: &McpServer| McpReport {
        server: server.name().to_owned(),
        failure: Some("connecting it crashed".to_owned()),
        ..McpReport::default()
    };
    let mut reports: Vec<_> = servers.iter().map(lost).collect();
    while let Some(joined) = under_way.join_next().await {
        if let Ok((place, report)) = joined {
            reports[place] = report;
        }
    }
    reports
}

impl McpServer {
    /// Checks a grant. Nothing is started yet. `resolve` gives the secret behind a reference such as `env:NAME`.
    pub fn new(
        name: &str,
        grant: McpGrant,
        resolve: &dyn Fn(&str) -> Option<Secret>,
        launch: Launch,
        pins: Arc<dyn Pins>,
    ) -> Result<Self, McpGrantError> {
        let (way, secrets) = grant::check(name, &grant, resolve)?;
        let (gate, state) = (Semaphore::new(1), Mutex::default());
        let (name, scrub) = (name.to_owned(), Scrub::new(secrets));
        let inner = Inner { name, grant, way, scrub, launch, pins, gate, state };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Connects it, and tells what it offers.
    pub async fn connect(&self) -> McpReport {
        let server = self.name().to_owned();
        match self.inner.ready().await {
            Ok(live) => self.report(&live.review),
            Err(fault) => McpReport { server, failure: Some(fault.to_string()), ..McpReport::default() },
        }
    }

    /// Accepts the definition of a tool that is in quarantine: exactly the one that was shown. The tool is offered from the
    /// next [`McpServer::connect`] on.
    pub async fn accept(&self, shown: &Quarantined) -> Result<(), PinsError> {
        let definition = shown.definition.clone();
        self.inner.keep(vec![definition]).await?;
        if let Some(live) = &mut self.inner.state().live {
            // What was compared before is compared again.
            live.checked_changes = live.checked_changes.wrapping_sub(1);
        }
        Ok(())
    }

    fn report(&self, review: &Review) -> McpReport {
        let tool = |offer: &Arc<Offer>| {
            let declaration = self.inner.declaration(&offer.definition.name);
            Arc::new(McpTool::new(Arc::clone(&self.inner), Arc::clone(offer), declaration)) as Arc<dyn Tool>
        };
        McpReport {
            server: self.name().to_owned(),
            tools: review.offered.values().map(tool).collect(),
            quarantined: review.quarantined.clone(),
            left_out: review.left_out.clone(),
            unlisted: review.unlisted.clone(),
            missing: review.missing.clone(),
            failure: None,
        }
    }
}

impl Inner {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn result_max_bytes(&self) -> usize {
        self.grant.limits.result_bytes
    }

    /// Makes a call of a tool, if it is still defined as it was when it was offered.
    pub(super) async fn call(&self, request: Request<'_>, hash: &str) -> Result<Answer, Fault> {
        let live = self.ready().await?;
        let is_same = live.review.offered.get(request.tool).is_some_and(|now| now.hash == hash);
        if !is_same {
            return Err(Fault::Refused(
                "it does not define this tool any more as it did when the tool was offered; a person must look at that"
                    .to_owned(),
            ));
        }
        let answered = live.session.call(request).await;
        self.note(&live, &answered);
        match answered {
            Ok(answer) => Ok(self.answer_without_secrets(answer)),
            Err(fault) => Err(self.without_secrets(fault)),
        }
    }

    fn declaration(&self, tool: &str) -> Declaration {
        self.grant.tools.get(tool).map_or_else(Declaration::undeclared, McpToolGrant::declaration)
    }

    /// A session that is up and whose tools were compared: the one there is, or a new one.
    async fn ready(&self) -> Result<Live, Fault> {
        let _turn = self.gate.acquire().await.map_err(|_| Fault::Unsent("it was given up".to_owned()))?;
        let now = Instant::now();
        let current = self.state().live.clone();
        if let Some(live) = current {
            if let Some(why) = live.session.ended() {
                self.over(&live, why);
            } else if self.is_fresh(&live, now) {
                return Ok(live);
            } else {
                let session = Arc::clone(&live.session);
                let compared = timeout(self.grant.limits.startup(), self.compared(session, live.since)).await;
                return self.settled(Some(&live), compared.unwrap_or_else(|_| Err(too_slow())));
            }
        }
        let outage = self.state().outage.clone();
        if let Some(wait) = outage.wait(now) {
            let (why, seconds) = (outage.why(), wait.as_secs() + 1);
            let text = format!("it failed before ({why}) and is tried again in {seconds} s");
            return Err(self.without_secrets(Fault::Unsent(text)));
        }
        let opened = timeout(self.grant.limits.startup(), async {
            let session = self.open().await?;
            self.compared(session, Instant::now()).await
        });
        self.settled(None, opened.await.unwrap_or_else(|_| Err(too_slow())))
    }

    fn is_fresh(&self, live: &Live, now: Instant) -> bool {
        live.session.changes() == live.checked_changes
            && now.saturating_duration_since(live.checked_at) < self.grant.limits.recheck()
    }

    fn settled(&self, before: Option<&Live>, outcome: Result<Live, Fault>) -> Result<Live, Fault> {
        let mut state = self.state();
        match outcome {
            Ok(live) => {
                state.live = Some(live.clone());
                Ok(live)
            }
            Err(fault) => {
                state.live = None;
                state.outage.failed(before.map(|live| live.since), fault.to_string(), Instant::now());
                drop(state);
                // Whatever it was that went wrong, the call that all this was for has not been made.
                Err(self.without_secrets(Fault::Unsent(fault.to_string())))
            }
        }
    }

    /// Begins as most servers want it, and otherwise if that is not this one's way: on a connection of its own, since
    /// nothing is known of one that was refused.
    async fn open(&self) -> Result<Arc<dyn Session>, Fault> {
        match self.open_by(Opening::Handshake).await {
            Err(refused @ Fault::Refused(_)) => self.open_by(Opening::Question).await.map_err(|_| refused),
            opened => opened,
        }
    }

    async fn open_by(&self, opening: Opening) -> Result<Arc<dyn Session>, Fault> {
        let limits = &self.grant.limits;
        match &self.way {
            Way::Program(program) => {
                let started = stdio::start(program, &self.launch, limits.message_bytes)
                    .await
                    .map_err(|error| Fault::Unsent(format!("it cannot be started: {error}")))?;
                protocol::open_program(started, opening, limits).await
            }
            Way::Address(address) => {
                let web = Web::new(address.clone(), limits.message_bytes);
                protocol::open_address(web, opening, limits).await
            }
        }
    }

    /// Asks for the tools and holds them against what was accepted.
    async fn compared(&self, session: Arc<dyn Session>, since: Instant) -> Result<Live, Fault> {
        // Read before the tools are: a change in between is compared next time.
        let checked_changes = session.changes();
        let tools = session.tools().await?;
        let accepted = self.accepted().await.map_err(|error| Fault::Unsent(error.to_string()))?;
        let review = self.review(tools, accepted).await?;
        Ok(Live { session, since, checked_at: Instant::now(), checked_changes, review: Arc::new(review) })
    }

    async fn review(&self, tools: Vec<Definition>, accepted: Option<Accepted>) -> Result<Review, Fault> {
        let (server, limits) = (self.name.clone(), self.grant.limits.clone());
        // A schema may take its time.
        let (sound, left_out) = blocking(move || sound(tools, &server, &limits)).await;
        let mut review = Review { left_out, ..Review::default() };
        let names: BTreeSet<_> = sound.iter().map(|tool| tool.name.clone()).collect();
        let Compared { same, first, other } = compare(accepted.as_ref(), sound, self.grant.first_use);
        if accepted.is_none() && self.grant.first_use == FirstUse::Accept {
            // Also when there are none: what comes later is not seen for the first time with its server.
            let kept = self.keep(first.clone()).await;
            kept.map_err(|error| Fault::Unsent(error.to_string()))?;
        }
        let is_wanted =
            |name: &String| self.grant.unlisted == Unlisted::AsWorst || self.grant.tools.contains_key(name);
        for tool in same.into_iter().chain(first) {
            if is_wanted(&tool.name) {
                review.offered.insert(tool.name.clone(), Arc::new(Offer::of(tool)));
            } else {
                review.unlisted.push(tool.name);
            }
        }
        for (definition, accepted) in other {
            if is_wanted(&definition.name) {
                review.quarantined.push(Quarantined { definition, accepted });
            } else {
                review.unlisted.push(definition.name);
            }
        }
        let is_known = |name: &String| {
            names.contains(name) || review.left_out.iter().any(|(left_out, _)| left_out == name)
        };
        review.missing = self.grant.tools.keys().filter(|name| !is_known(name)).cloned().collect();
        Ok(review)
    }

    async fn accepted(&self) -> Result<Option<Accepted>, PinsError> {
        let (pins, name) = (Arc::clone(&self.pins), self.name.clone());
        blocking(move || pins.read(&name)).await
    }

    async fn keep(&self, definitions: Vec<Definition>) -> Result<(), PinsError> {
        let (pins, name) = (Arc::clone(&self.pins), self.name.clone());
        blocking(move || pins.accept(&name, &definitions)).await
    }

    /// Remembers how a call went.
    fn note(&self, live: &Live, answered: &Result<Answer, Fault>) {
        let mut state = self.state();
        let is_silent = matches!(answered, Err(Fault::Silent(_)));
        state.silent_in_a_row = if is_silent { state.silent_in_a_row + 1 } else { 0 };
        let is_end = answered.as_ref().is_err_and(Fault::is_end) || state.silent_in_a_row >= SILENT_MAX;
        drop(state);
        if is_end {
            let why = answered.as_ref().err().map(ToString::to_string).unwrap_or_default();
            self.over(live, why);
        }
    }

    /// Lets go of a session that is of no use any more, unless there is another one already.
    fn over(&self, live: &Live, why: String) {
        let mut state = self.state();
        let is_this = |now: &Live| Arc::ptr_eq(&now.session, &live.session);
        if state.live.as_ref().is_some_and(is_this) {
            state.live = None;
            state.silent_in_a_row = 0;
            state.outage.failed(Some(live.since), why, Instant::now());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A server's words may hold what it was given.
    fn without_secrets(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Refused(text) => Fault::Refused(self.scrub.error(text)),
            Fault::Unsent(text) => Fault::Unsent(self.scrub.error(text)),
            Fault::Silent(text) => Fault::Silent(self.scrub.error(text)),
            Fault::Broken(text) => Fault::Broken(self.scrub.error(text)),
            Fault::Odd(text) => Fault::Odd(self.scrub.error(text)),
        }
    }

    fn answer_without_secrets(&self, answer: Answer) -> Answer {
        let piece = |piece| match piece {
            Piece::Text(text) => Piece::Text(self.scrub.text(text)),
            Piece::Other(text) => Piece::Other(self.scrub.text(text)),
            Piece::Image { media_type, base64 } => Piece::Image { media_type, base64 },
        };
        let content = answer.content.into_iter().map(piece).collect();
        let structured = answer.structured.map(|value| self.scrub.value(value));
        Answer { content, structured, is_error: answer.is_error }
    }
}

fn too_slow() -> Fault {
    Fault::Silent("it did not tell its tools in time".to_owned())
}

/// The tools that can be offered, and the others with why not. Of two with one name nobody knows which would be called.
fn sound(
    tools: Vec<Definition>,
    server: &str,
    limits: &McpLimits,
) -> (Vec<Definition>, Vec<(String, String)>) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for tool in &tools {
        *counts.entry(name_for_models(server, &tool.name)).or_default() += 1;
    }
    let (mut sound, mut left_out) = (Vec::new(), Vec::new());
    for tool in tools {
        let is_single = counts[&name_for_models(server, &tool.name)] == 1;
        let shadows = || Some("the server has more than one tool of this name".to_owned());
        match if is_single { tool.fault(limits) } else { shadows() } {
            Some(_) if left_out.iter().any(|(name, _)| *name == tool.name) => {}
            Some(reason) => left_out.push((tool.name, reason)),
            None => sound.push(tool),
        }
    }
    (sound, left_out)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("what is done here does not panic, and is not given up")
}
