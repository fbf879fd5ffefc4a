//! Is it worth sending, and is the answer what was asked for? A request that every provider would refuse is refused here, with
//! what is wrong with it; nothing is repaired in silence. One that does not fit the context window is refused before it
//! costs anything. An answer that breaks its own protocol, calls tools that were not offered, or is not the JSON that
//! was asked for is malformed; the planner may ask again.
//!
//! What it sets: the provider's id of the model, and `max_tokens`, never above what the model can write and what is left
//! of its window, so that the worst case which is reserved is a true upper bound.

mod reply;
mod request;

pub use reply::check_reply;
pub use request::check_request;

use crate::estimate::call_tokens_likely;
use crate::target::TargetKey;
use crate::{LayerInfo, input_tokens_likely};
use backstop_call::{
    BoxFuture, Call, Chunk, Closed, Edit, Failure, FailureKind, Model, Progress, Reply, Request, Sink,
    Source, deliver,
};
use serde::{Deserialize, Serialize};
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

#[cfg(test)]
mod tests;

/// What this layer is.
pub const INFO: LayerInfo =
    LayerInfo { name: "validate", what: "refuses what cannot work, and answers that break their protocol" };

/// What counts as fitting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// When the caller named no `max_tokens`: the least room for output that must be left in the window.
    pub output_tokens_min: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { output_tokens_min: 256 }
    }
}

/// What the target can take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The target.
    pub target: TargetKey,
    /// The most tokens that input and output may have together.
    pub context_window: u64,
    /// The most tokens it can write.
    pub max_output: u64,
    /// Whether it stands in for another model of its chain.
    pub is_fallback: bool,
}

/// Puts the layer on a model.
pub fn layer(inner: Arc<dyn Model>, bounds: Bounds, config: Config) -> Arc<dyn Model> {
    Arc::new(Validate { inner, bounds, config })
}

/// Whether a request fits its target; if so, with how many output tokens at most.
///
/// The input is an estimate, and a likely one: only the provider can count. A caller's own `max_tokens` is kept or refused,
/// but for what the model cannot write anyway; without one, what is left of the window is the limit.
pub fn decide(request: &Request, bounds: &Bounds, config: &Config) -> Result<u64, Failure> {
    let invalid = |why: String| Failure::new(FailureKind::Invalid, Progress::NotSent, why);
    check_request(request).map_err(invalid)?;
    let input = input_tokens_likely(request);
    let left = bounds.context_window.saturating_sub(input);
    let too_long = |output: u64| {
        let Bounds { target, context_window, .. } = bounds;
        let message = format!(
            "about {input} tokens of input and {output} of output do not fit the {context_window} of {target}"
        );
        Failure::new(FailureKind::ContextLength, Progress::NotSent, message)
    };
    match request.max_tokens {
        Some(0) => Err(invalid("max_tokens is 0".to_owned())),
        Some(wanted) => {
            let output = wanted.min(bounds.max_output);
            if output > left { Err(too_long(output)) } else { Ok(output) }
        }
        None => {
            let output = left.min(bounds.max_output);
            let least = config.output_tokens_min.min(bounds.max_output).max(1);
            if output < least { Err(too_long(least)) } else { Ok(output) }
        }
    }
}

/// Whether what a client sent may fit its target. Its content is for the provider to judge; only what is sure not to fit
/// is refused here, so that a target with a larger window is asked instead.
fn fits(call: &Call, bounds: &Bounds) -> Result<(), Failure> {
    let input = call_tokens_likely(call);
    // Half of it for sure: the estimate of a dense text errs by less.
    if input / 2 < bounds.context_window {
        return Ok(());
    }
    let Bounds { target, context_window, .. } = bounds;
    let message = format!("about {input} tokens of input do not fit the {context_window} of {target}");
    Err(Failure::new(FailureKind::ContextLength, Progress::NotSent, message))
}

/// The head with the most tokens that an answer may have, which is what is reserved. The client's own limit stays, but for
/// a model that stands in for another one and cannot write so much.
fn limited(request: &Arc<Request>, source: &Arc<Source>, bounds: &Bounds) -> (Arc<Request>, Arc<Source>) {
    let most = match request.max_tokens {
        Some(wanted) if !bounds.is_fallback => wanted,
        Some(wanted) => wanted.min(bounds.max_output),
        None => bounds.max_output,
    };
    if request.max_tokens == Some(most) {
        return (Arc::clone(request), Arc::clone(source));
    }
    let head = Arc::new(Request { max_tokens: Some(most), ..Request::clone(request) });
    match (&source.places.output_limit, request.max_tokens) {
        (Some(place), Some(_)) => {
            let edit = Edit { range: place.clone(), with: most.to_string() };
            (head, Arc::new(source.edited(&[edit])))
        }
        _ => (head, Arc::clone(source)),
    }
}

struct Validate {
    inner: Arc<dyn Model>,
    bounds: Bounds,
    config: Config,
}

impl Model for Validate {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        if let Some(source) = &call.source {
            // Its answer is for the client to judge, so nothing is left to do when it comes.
            return match fits(&call, &self.bounds) {
                Ok(()) => {
                    let (request, source) = limited(&call.request, source, &self.bounds);
                    self.inner.call(Call { request, source: Some(source), ..call }, sink)
                }
                Err(failure) => Box::pin(ready(Err(failure))),
            };
        }
        Box::pin(async move {
            let max_tokens = decide(&call.request, &self.bounds, &self.config)?;
            let mut request = Arc::clone(&call.request);
            if request.max_tokens != Some(max_tokens) || request.model != self.bounds.target.model {
                let own = Arc::make_mut(&mut request);
                own.max_tokens = Some(max_tokens);
                own.model.clone_from(&self.bounds.target.model);
            }
            let asked = Arc::clone(&request);
            let mut held = Unfinished { sink, stop: None };
            let reply = self.inner.call(Call { request, ..call }, &mut held).await?;
            let Unfinished { sink, stop } = held;
            if let Err(why) = check_reply(&asked, &reply) {
                return Err(malformed(reply, why));
            }
            if let Some(stop) = stop {
                // The reader may be gone; the call's result is returned all the same.
                let _ = deliver(sink, stop).await;
            }
            Ok(reply)
        })
    }
}

/// Keeps the end of a stream back until the whole answer is checked: what is malformed must not look finished.
struct Unfinished<'a> {
    sink: &'a mut dyn Sink,
    stop: Option<Chunk>,
}

impl Sink for Unfinished<'_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.sink.poll_ready(cx)
    }

    fn send(&mut self, chunk: Chunk) {
        if matches!(chunk, Chunk::Stop { .. }) {
            self.stop = Some(chunk);
        } else {
            self.sink.send(chunk);
        }
    }

    fn is_seen(&self) -> bool {
        self.sink.is_seen()
    }
}

/// The answer came and was billed: what it cost goes up with the failure. Its attempt's record still says that the
/// provider did its part, by which the breaker tells this from a provider that breaks the protocol.
fn malformed(reply: Reply, why: String) -> Failure {
    let mut failure = Failure::new(FailureKind::Malformed, Progress::ResponseStarted, why);
    let detail = &mut failure.detail;
    detail.provider = reply.attempts.last().map(|attempt| attempt.provider.clone());
    detail.request_id = reply.request_id;
    detail.usage = Some(reply.usage);
    detail.limits = reply.limits;
    detail.attempts = reply.attempts;
    failure
}
