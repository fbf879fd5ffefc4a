//! A model call that a client makes: the one way from a request to the stack. What is refused before it costs nothing and
//! tells no provider anything.

use super::answer::{self, Reply};
use super::bound::{Bound, released};
use super::context::{self, Asked};
use super::engine::Engine;
use super::names::Link;
use super::stream::{Begun, Done, Flow, Manner, Pipe};
use super::{Gateway, body::Held};
use crate::keys::{Admitted, Asking, Key, KeyRefusal, Pass, admit};
use backstop_allowance::accounts_for;
use backstop_call::{
    AttemptRecord, Call, CallId, Canonical, Context, Dialect, Discard, Failure, FailureKind, Model, Money,
    Purpose, Request, Source, Timestamp,
};
use backstop_journal::event::KeyRight;
use backstop_wire::{LeansOn, Skim};
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use serde_json::json;
use std::net::IpAddr;
use std::sync::Arc;

/// A request for a model.
pub(crate) struct Inlet {
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) dialect: Dialect,
    pub(crate) purpose: Purpose,
    pub(crate) peer: IpAddr,
    pub(crate) head: Parts,
}

/// A call that is ready to be made.
struct Ready {
    engine: Arc<Engine>,
    call: Call,
    skim: Skim,
    bound: Option<Bound>,
    /// The least that is left of the budgets it is paid from.
    left: Option<Money>,
    pass: Option<Pass>,
    held: Held,
}

impl Inlet {
    /// Answers it.
    pub(crate) async fn answer(self, body: Incoming) -> Reply {
        let dialect = self.dialect;
        let id = self.gateway.backstop.call_id();
        match self.called(&id, body).await {
            Ok(reply) => reply,
            Err(failure) => answer::failed(dialect, failure, Some(&id)),
        }
    }

    async fn called(self, id: &CallId, body: Incoming) -> Result<Reply, Failure> {
        let admitted = self.admitted()?;
        let asked = context::asked(&self.head.headers)?;
        let place = self.gateway.enter()?;
        let held = self.gateway.room.read(body).await?;
        let invalid = |error: backstop_wire::WireError| {
            Failure::new(FailureKind::Invalid, backstop_call::Progress::NotSent, error.to_string())
        };
        let skim = backstop_wire::skim(self.dialect, &held.bytes).map_err(invalid)?;
        let admitted = admitted.map(|admitted| self.for_model(&admitted, &skim.model)).transpose()?;
        let key = admitted.as_ref().map(|admitted| &**admitted.key());
        let engine = self.gateway.engine_for(&skim.model, key).await?;
        let outlet =
            Outlet { dialect: self.dialect, purpose: self.purpose, gateway: Arc::clone(&self.gateway) };
        let ready = self.ready(id.clone(), (engine, admitted, asked), (skim, held))?;
        if ready.skim.stream && outlet.purpose == Purpose::Answer {
            Box::pin(outlet.streamed(ready, place)).await
        } else {
            outlet.whole(ready).await
        }
    }

    /// Whether it may come in, by its key; `None` where no key was ever made and only this machine can come.
    fn admitted(&self) -> Result<Option<Admitted>, Failure> {
        let admitted = self.gateway.admitted(&self.head.headers, self.peer);
        admitted.map_err(|refusal| answer::refused(&refusal))
    }

    /// Whether its key may ask for this model.
    fn for_model(&self, admitted: &Admitted, model: &str) -> Result<Admitted, Failure> {
        let environment = self.gateway.environment.as_deref();
        let asking = Asking { peer: self.peer, environment, right: KeyRight::Call, model: Some(model) };
        admit(Arc::clone(admitted.key()), &asking).map_err(|refusal| answer::refused(&refusal))
    }

    fn ready(
        self,
        id: CallId,
        (engine, admitted, asked): (Arc<Engine>, Option<Admitted>, Asked),
        (skim, held): (Skim, Held),
    ) -> Result<Ready, Failure> {
        let now = self.gateway.clock.now();
        let (chain, links) = engine.names.find(&skim.model).ok_or_else(|| {
            engine.unknown(&skim.model, admitted.as_ref().map(|admitted| &**admitted.key()))
        })?;
        let key = admitted.as_ref().map(|admitted| admitted.key().name());
        let bound = skim.leans_on.as_ref().map(|leans_on| self.gateway.threads().bind(leans_on, links, key));
        let bound = bound.transpose()?;
        let mut context = asked.context;
        context.bound.clone_from(&bound);
        let mut pass = None;
        if let Some(admitted) = admitted {
            context = admitted.context(context);
            let estimated = skim.size.chars / 4 + skim.max_tokens.unwrap_or(0).min(OUTPUT_LIKELY_MAX);
            pass = Some(admitted.enter(now, estimated).map_err(|refusal| answer::refused(&refusal))?);
        }
        let left = self.left(&engine, links, &context, now);
        let mut request = Request {
            model: chain.to_owned(),
            max_tokens: skim.max_tokens,
            stream: skim.stream && self.purpose == Purpose::Answer,
            ..Request::default()
        };
        if skim.choices > 1 {
            request.other.insert("n".to_owned(), skim.choices.into());
        }
        let source = Source {
            dialect: self.dialect,
            purpose: self.purpose,
            model: skim.model.clone(),
            status_of: status_of(self.dialect),
            body: held.bytes.clone(),
            headers: context::forwarded(self.head.headers),
            places: skim.places.clone(),
            size: skim.size,
            canonical: Canonical::default(),
        };
        let deadline = now + asked.patience.unwrap_or(self.gateway.limits.call).min(self.gateway.limits.call);
        let mut call = Call::new(id, Arc::new(request), Arc::new(context), deadline);
        call.source = Some(Arc::new(source));
        Ok(Ready { engine: Arc::clone(&engine), call, skim, bound, left, pass, held })
    }

    /// What is left of the budgets that the call is paid from, if the first of its chain answers.
    fn left(&self, engine: &Engine, links: &[Link], context: &Context, now: Timestamp) -> Option<Money> {
        let accounts = accounts_for(engine.budgets(), context, &links.first()?.provider, now);
        self.gateway.left.least(self.gateway.backstop.ledger(), accounts, now)
    }
}

/// What an answer is expected to have at most, for the key's tokens per minute: it is settled by what it had.
const OUTPUT_LIKELY_MAX: u64 = 1_024;

/// The way back.
struct Outlet {
    dialect: Dialect,
    purpose: Purpose,
    gateway: Arc<Gateway>,
}

impl Outlet {
    async fn whole(self, ready: Ready) -> Result<Reply, Failure> {
        let Ready { engine, call, skim, bound, left, pass, held } = ready;
        let id = call.id.clone();
        let context = Arc::clone(&call.context);
        let outcome = engine.stack.call(call, &mut Discard).await;
        drop(held);
        settle(pass, &outcome);
        let mut reply =
            outcome.map_err(|failure| let_go(skim.leans_on.as_ref(), failure, &engine, &skim.model))?;
        self.gateway.note_thread(self.dialect, bound.as_ref(), &context, &reply);
        let mut response = match reply.told.take() {
            Some(told) => answer::whole(told.status, told.headers, told.body),
            None => self.rendered(&reply),
        };
        let headers = response.headers_mut();
        answer::note_attempts(headers, &reply.attempts);
        answer::note_lost(headers, &reply.lost);
        answer::note_left(headers, left);
        answer::note_call(self.dialect, headers, Some(&id));
        Ok(response)
    }

    fn rendered(&self, reply: &backstop_call::Reply) -> Reply {
        if self.purpose == Purpose::Count {
            let mut counted =
                answer::json(StatusCode::OK, &json!({ "input_tokens": reply.usage.input_tokens }));
            answer::put(counted.headers_mut(), answer::ESTIMATED, "true".to_owned());
            return counted;
        }
        let body = backstop_wire::render_reply(self.dialect, reply, self.gateway.clock.now());
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        answer::whole(StatusCode::OK, HeaderMap::from_iter([json]), body)
    }

    async fn streamed(self, ready: Ready, place: super::Place) -> Result<Reply, Failure> {
        let Ready { engine, call, skim, bound, left, pass, held } = ready;
        let (id, pipe) = (call.id.clone(), Pipe::default());
        let (stack, mut sink) = (Arc::clone(&engine.stack), pipe.clone());
        let context = Arc::clone(&call.context);
        let calling = Box::pin(async move {
            let outcome = stack.call(call, &mut sink).await;
            drop((held, place));
            outcome
        });
        let manner = Manner {
            dialect: self.dialect,
            include_usage: skim.include_usage,
            now: self.gateway.clock.now(),
        };
        let (dialect, gateway) = (self.dialect, Arc::clone(&self.gateway));
        let done: Done = Box::new(move |outcome| {
            settle(pass, outcome);
            if let Ok(reply) = outcome {
                gateway.note_thread(dialect, bound.as_ref(), &context, reply);
            }
        });
        let mut flow = Flow::new(calling, pipe, manner, done);
        let begun = match flow.begin().await {
            Begun::Comes(head) => head,
            Begun::Failed(failure) => {
                return Err(let_go(skim.leans_on.as_ref(), failure, &engine, &skim.model));
            }
        };
        let mut response = Response::new(flow.into());
        let headers = response.headers_mut();
        if let Some(head) = begun {
            *headers = head.headers;
            answer::put(headers, answer::MODEL, [head.provider.as_str(), "/", &head.model].concat());
            answer::put(headers, answer::ATTEMPTS, head.attempt.to_string());
            answer::note_lost(headers, &head.lost);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        answer::note_left(headers, left);
        answer::note_call(dialect, headers, Some(&id));
        Ok(response)
    }
}

/// By which status a client of this dialect is told of a failure.
fn status_of(dialect: Dialect) -> fn(&Failure) -> u16 {
    match dialect {
        Dialect::Messages => |failure| backstop_wire::status_of(Dialect::Messages, failure),
        Dialect::Chat => |failure| backstop_wire::status_of(Dialect::Chat, failure),
        Dialect::Responses => |failure| backstop_wire::status_of(Dialect::Responses, failure),
    }
}

/// A failure of a target that a thread is bound to, in the words on which the client goes elsewhere.
fn let_go(leans_on: Option<&LeansOn>, failure: Failure, engine: &Engine, asked: &str) -> Failure {
    match (leans_on, engine.names.find(asked)) {
        (Some(leans_on), Some((_, links))) => released(leans_on, failure, links),
        _ => failure,
    }
}

/// Gives the key back what the call did not use.
fn settle(pass: Option<Pass>, outcome: &Result<backstop_call::Reply, Failure>) {
    if let (Some(pass), Some(tokens)) = (pass, tokens_used(outcome)) {
        pass.settle(tokens);
    }
}

/// The tokens that a call used; `None` where nobody knows, and what was estimated holds. That it cost nothing says nothing: so
/// does a model of one's own.
fn tokens_used(outcome: &Result<backstop_call::Reply, Failure>) -> Option<u64> {
    let is_void = |attempt: &AttemptRecord| attempt.cost == Money::ZERO && !attempt.suspense;
    let usage = match outcome {
        Ok(reply) => Some(reply.usage),
        Err(failure) if failure.detail.attempts.iter().all(is_void) => return Some(0),
        Err(failure) => failure.detail.usage,
    };
    usage.map(|usage| usage.total_input_tokens() + usage.output_tokens)
}

impl Gateway {
    /// Whether a request to ask models may come in, by its key; `None` where no key was ever made for that.
    pub(crate) fn admitted(&self, headers: &HeaderMap, peer: IpAddr) -> Result<Option<Admitted>, KeyRefusal> {
        let ring = self.ring();
        let found = ring.find(context::secret(headers), self.clock.now());
        if ring.is_empty() && found.is_err() {
            return Ok(None);
        }
        // Where nobody needs a key, one that approves still opens nothing else.
        self.admitted_with(found?, peer, KeyRight::Call).map(Some)
    }

    /// Whether a key may do this from here. Where it is used from for the first time is told.
    pub(crate) fn admitted_with(
        &self,
        key: Arc<Key>,
        peer: IpAddr,
        right: KeyRight,
    ) -> Result<Admitted, KeyRefusal> {
        let asking = Asking { peer, environment: self.environment.as_deref(), right, model: None };
        let admitted = admit(key, &asking)?;
        if let Some(first) = admitted.key().first_use(peer) {
            self.note_first_use(first);
        }
        Ok(admitted)
    }

    /// Remembers who wrote what a later request may lean on.
    fn note_thread(
        &self,
        dialect: Dialect,
        bound: Option<&Bound>,
        context: &Context,
        reply: &backstop_call::Reply,
    ) {
        // Any response may be followed by another, a message only within a thread.
        if bound.is_none() && dialect != Dialect::Responses {
            return;
        }
        if let Some(last) = reply.attempts.last() {
            let by = (last.provider.clone(), last.model.clone());
            self.threads().note(&reply.id, by, context.key.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{Progress, Usage};
    use std::time::Duration;

    fn failed(cost: Money, suspense: bool, usage: Option<Usage>) -> Result<backstop_call::Reply, Failure> {
        let mut failure = Failure::new(FailureKind::Transient, Progress::ResponseStarted, "it broke off");
        failure.detail.usage = usage;
        failure.detail.attempts = vec![AttemptRecord {
            attempt: 1,
            provider: "p".into(),
            model: "m".to_owned(),
            started: Timestamp::EPOCH,
            duration: Duration::ZERO,
            waited: Duration::ZERO,
            failure: Some(failure.kind),
            progress: failure.progress,
            code: None,
            message: "".into(),
            cost,
            suspense,
        }];
        Err(failure)
    }

    #[test]
    fn a_failed_call_of_a_model_that_costs_nothing_has_used_its_tokens() {
        let usage = Some(Usage { input_tokens: 3, output_tokens: 4, ..Usage::default() });
        let rows = [
            (failed(Money::ZERO, false, None), Some(0), "void: not sent, or refused"),
            (failed(Money::ZERO, true, usage), Some(7), "a free model that broke off"),
            (failed(Money::ZERO, true, None), None, "nobody knows: the estimate holds"),
            (failed(Money::from_dollars(1), true, usage), Some(7), "a dear one"),
        ];
        for (outcome, want, why) in rows {
            assert_eq!(tokens_used(&outcome), want, "{why}");
        }
    }
}
