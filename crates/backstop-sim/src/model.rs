//! The simulated model in this process: the same worker and the same faults without HTTP, for tests of what stands above
//! a provider and for `--model sim`.

use crate::scenario::{Asked, Schedule};
use crate::{Fault, Hint, Row, Scenario, spoil, worker};
use backstop_call::{
    Assembly, BoxFuture, Call, Chunk, Closed, Code, ContentDelta, Dialect, Failure, FailureKind, Model,
    Progress, ProviderName, Reply, Request, Sink, Timestamp, Usage, deliver,
};
use backstop_wire::{chunks_of, classify};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// The pieces of a stream carry at most so many characters.
const PIECE_CHARS: usize = 24;

/// A model that answers in this process.
pub struct SimModel {
    provider: ProviderName,
    seed: u64,
    started: Instant,
    schedule: Mutex<Schedule>,
}

impl SimModel {
    /// A model of a provider of this name, without faults.
    pub fn new(provider: ProviderName, seed: u64) -> Self {
        Self::with_scenario(provider, seed, Scenario::named("calm").expect("it is built in"))
    }

    /// A model with faults on schedule.
    pub fn with_scenario(provider: ProviderName, seed: u64, scenario: Scenario) -> Self {
        let schedule = Mutex::new(Schedule::new(scenario, seed));
        Self { provider, seed, started: Instant::now(), schedule }
    }

    /// Puts a fault in line for the next call.
    pub fn enqueue(&self, fault: Fault) {
        self.schedule().enqueue(self.provider.as_str(), fault);
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_fault(&self, request: &Request) -> Option<Fault> {
        let content = serde_json::to_vec(&request.messages).unwrap_or_default();
        let asked = Asked {
            provider: self.provider.as_str(),
            model: &request.model,
            stream: request.stream,
            content: &content,
            elapsed: self.started.elapsed(),
        };
        self.schedule().next(&asked)
    }

    fn named(&self, mut failure: Failure) -> Failure {
        failure.detail.provider = Some(self.provider.clone());
        failure
    }

    async fn answer(&self, request: &Request, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        let begun = Instant::now();
        let fault = self.next_fault(request);
        if let Some(failure) = fault.as_ref().and_then(before_content) {
            return Err(failure);
        }
        let mut reply = worker::answer(request, self.seed);
        if let Some(fault) = &fault {
            if matches!(fault, Fault::HangBeforeHeaders | Fault::HangAfterHeaders) {
                std::future::pending::<()>().await;
            }
            reply = spoil::spoiled(reply, fault, request);
        }
        if let Some(Fault::SlowFirstToken { ms }) = fault {
            sleep(Duration::from_millis(ms)).await;
        }
        reply.first_token = Some(begun.elapsed());
        if request.stream {
            stream(&reply, fault.as_ref(), sink).await?;
        } else if let Some(failure) =
            fault.as_ref().and_then(|fault| broken(fault, Progress::ResponseStarted))
        {
            return Err(failure);
        }
        if fault == Some(Fault::MissingUsage) {
            // What a provider leaf does when it is told nothing.
            reply.usage = Usage { estimated: true, ..reply.usage };
        }
        Ok(reply)
    }
}

impl Model for SimModel {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(async move { self.answer(&call.request, sink).await.map_err(|failure| self.named(failure)) })
    }
}

/// The failure of a fault that comes before anything else.
fn before_content(fault: &Fault) -> Option<Failure> {
    match fault {
        Fault::Error { row, hint } => Some(refused(*row, *hint)),
        Fault::HtmlError => Some(classify(
            Dialect::Messages,
            502,
            &http::HeaderMap::new(),
            b"<html><body>502 Bad Gateway</body></html>",
            Timestamp::EPOCH,
        )),
        Fault::CutBeforeBody => Some(Failure::new(
            FailureKind::UnknownOutcome,
            Progress::Sent,
            "the connection was closed before an answer came",
        )),
        _ => None,
    }
}

/// The failure that a provider leaf makes of an error answer.
fn refused(row: Row, hint: Hint) -> Failure {
    let answer = row.answer(Dialect::Messages, hint, Timestamp::EPOCH);
    let mut headers = http::HeaderMap::new();
    for (name, value) in answer.headers {
        headers.insert(name, value.parse().expect("a hint is a header's value"));
    }
    classify(Dialect::Messages, answer.status, &headers, answer.body.to_string().as_bytes(), Timestamp::EPOCH)
}

/// The failure of a fault that breaks an answer that has begun.
fn broken(fault: &Fault, progress: Progress) -> Option<Failure> {
    let failure = match fault {
        Fault::CutAt { .. } | Fault::EndEarly => {
            Failure::new(FailureKind::Transient, progress, "the answer was cut").with_code(Code::StreamCut)
        }
        Fault::MalformedJson | Fault::MalformedStream { .. } | Fault::GarbageText => {
            Failure::new(FailureKind::Malformed, progress, "the answer is no JSON")
        }
        Fault::HugeBody { .. } => {
            Failure::new(FailureKind::Malformed, progress, "the answer is larger than is taken")
        }
        Fault::InStreamError { row, .. } => {
            let inner = refused(*row, Hint::None);
            Failure { progress, ..inner }
        }
        _ => return None,
    };
    Some(failure)
}

/// Sends the chunks of a reply, as far as the fault lets them come.
async fn stream(reply: &Reply, fault: Option<&Fault>, sink: &mut dyn Sink) -> Result<(), Failure> {
    let mut chunks = chunks_of(reply, PIECE_CHARS);
    if fault == Some(&Fault::MissingUsage) {
        chunks.retain(|chunk| !matches!(chunk, Chunk::Usage(_)));
    }
    let end = fault.map_or(chunks.len(), |fault| held(&chunks, fault));
    let mut sent = Assembly::default();
    let mut committed = false;
    for chunk in chunks.drain(..end) {
        if let Some(Fault::SlowChunks { ms }) = fault {
            sleep(Duration::from_millis(*ms)).await;
        }
        committed |= chunk.is_content();
        sent.push(&chunk);
        deliver(sink, chunk).await.map_err(|Closed| {
            let mut failure = Failure::new(FailureKind::Cancelled, Progress::Committed, Closed.to_string());
            failure.detail.produced_chars = sent.content_chars();
            failure
        })?;
    }
    let progress = if committed { Progress::Committed } else { Progress::ResponseStarted };
    match fault.and_then(|fault| broken(fault, progress)) {
        Some(mut failure) => {
            failure.detail.produced_chars = sent.content_chars();
            failure.detail.usage = sent.usage();
            // An error before content is the provider's own word that there is nothing to bill.
            failure.detail.unbilled = !committed && matches!(fault, Some(Fault::InStreamError { .. }));
            Err(failure)
        }
        None => Ok(()),
    }
}

/// How many chunks come before the fault strikes.
fn held(chunks: &[Chunk], fault: &Fault) -> usize {
    let first = chunks.iter().position(Chunk::is_content).unwrap_or(chunks.len());
    match fault {
        // A byte of the content here: there are no frames.
        Fault::CutAt { byte } => {
            let mut room = *byte;
            let fits = |chunk: &&Chunk| {
                let size = match chunk {
                    Chunk::Delta {
                        delta:
                            ContentDelta::Text(text)
                            | ContentDelta::Thinking(text)
                            | ContentDelta::ToolInput(text),
                        ..
                    } => text.len(),
                    _ => 0,
                };
                let fits = size <= room;
                room = room.saturating_sub(size);
                fits
            };
            chunks.iter().take_while(fits).count().min(chunks.len() - 1)
        }
        Fault::EndEarly => chunks.len() / 2,
        Fault::MalformedJson => 0,
        Fault::MalformedStream { after } => (*after).min(chunks.len() - 1),
        Fault::InStreamError { committed: false, .. } => first,
        Fault::InStreamError { committed: true, .. } | Fault::GarbageText | Fault::HugeBody { .. } => {
            (first + 2).min(chunks.len() - 1)
        }
        _ => chunks.len(),
    }
}

#[cfg(test)]
mod tests;
