//! OpenTelemetry: what the journal says of calls, tools and runs, as spans and metrics for a collector (OTLP over HTTP, in JSON).
//! Names are those of the conventions for generative AI. It reads the journal behind everybody else: no call waits for a collector, and
//! none that is down makes anything be forgotten. Texts are never sent.

mod metric;
mod span;
mod trace;

pub use span::{Attribute, Kind, Span, SpanId, TraceId};
pub use trace::{Above, Traces};

use crate::config::{Config, Problem, Surroundings, load_secret};
use crate::numbers::Numbers;
use crate::post::{BadHook, Post};
use backstop_call::{Code, RunId};
use backstop_journal::{Event, EventBody, Journal, JournalError, Position, StreamId};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Events that go into one request at most.
const BATCH_MAX: usize = 512;
/// How long what happens is gathered: the delay that the SDKs of OpenTelemetry have as well.
pub const GATHER: Duration = Duration::from_secs(5);
/// How often the metrics are sent: once a minute, as the SDKs of OpenTelemetry do.
const ROUNDS_PER_METRICS: u64 = 12;

/// A collector.
pub struct Collector {
    traces: Post,
    metrics: Post,
    headers: HeaderMap,
    service: String,
}

/// Why something did not get to the collector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// The journal cannot be read.
    #[error("the journal cannot be read: {0}")]
    Journal(#[from] JournalError),
    /// It did not take it; it is sent again.
    #[error("the collector {collector} did not take it: {why}")]
    Later {
        /// Its host.
        collector: String,
        /// Why.
        why: String,
    },
    /// It will never take it; it is left out.
    #[error("the collector {collector} refused {what} for good: status {status}")]
    Refused {
        /// Its host.
        collector: String,
        /// `12 spans`, or `the metrics`.
        what: String,
        /// What it answered.
        status: u16,
    },
}

impl Collector {
    /// A collector at an address, which is told that it hears of this service.
    pub fn new(endpoint: &str, headers: HeaderMap, service: &str) -> Result<Self, BadHook> {
        let post = |what: &str| Post::new(&format!("{}/v1/{what}", endpoint.trim_end_matches('/')));
        Ok(Self { traces: post("traces")?, metrics: post("metrics")?, headers, service: service.to_owned() })
    }

    /// The collector of the config, if it names one.
    ///
    /// # Errors
    /// A secret that is not there, an address that nothing may be sent to.
    pub fn of(config: &Config, world: &dyn Surroundings) -> Result<Option<Self>, Problem> {
        let Some(endpoint) = &config.otlp.endpoint else { return Ok(None) };
        let wrong = |key: &str, why: String| {
            Problem::new(Code::ConfigValue, format!("`otlp.{key}`: {why}")).with_hint("see docs/otlp.md")
        };
        let mut headers = HeaderMap::new();
        for (name, reference) in &config.otlp.headers {
            let secret = load_secret(reference, config.file.as_deref(), world)?;
            let header = name.parse::<HeaderName>().map_err(|bad| wrong("headers", bad.to_string()))?;
            let value = HeaderValue::from_str(secret.expose());
            let mut value =
                value.map_err(|_| wrong("headers", format!("the value of `{name}` is no header")))?;
            value.set_sensitive(true);
            headers.insert(header, value);
        }
        let collector = Self::new(endpoint, headers, &config.otlp.service);
        collector.map(Some).map_err(|bad| wrong("endpoint", bad.to_string()))
    }

    async fn send(&self, to: &Post, (what, body): (&str, String)) -> Result<(), ExportError> {
        let collector = to.name().to_owned();
        match to.send(self.headers.clone(), body).await {
            Ok(status) if status.is_success() => Ok(()),
            Ok(status) if is_for_good(status) => {
                Err(ExportError::Refused { collector, what: what.to_owned(), status: status.as_u16() })
            }
            Ok(status) => Err(ExportError::Later { collector, why: format!("status {}", status.as_u16()) }),
            Err(why) => Err(ExportError::Later { collector, why }),
        }
    }
}

/// Sends what happens to a collector.
pub struct Exporter {
    collector: Collector,
    journal: Arc<dyn Journal>,
    numbers: Numbers,
    traces: Traces,
    /// Up to here everything was read.
    position: Position,
    /// What was read and not taken yet.
    waiting: Option<(usize, String)>,
}

impl Exporter {
    /// Sends what happens from now on.
    pub async fn open(
        collector: Collector,
        journal: Arc<dyn Journal>,
        numbers: Numbers,
    ) -> Result<Self, JournalError> {
        let position = journal.end().await?;
        Ok(Self { collector, journal, numbers, traces: Traces::default(), position, waiting: None })
    }

    /// Sends as things happen, until it is dropped, and says each time what came of it.
    pub async fn keep_up(&mut self, mut heard: impl FnMut(Result<(), &ExportError>)) {
        for round in 1_u64.. {
            tokio::time::sleep(GATHER).await;
            let mut done = self.round().await;
            if done.is_ok() && round.is_multiple_of(ROUNDS_PER_METRICS) {
                done = self.measure().await;
            }
            heard(done.as_ref().copied());
        }
    }

    /// Sends what was counted since the journal began. What is not taken now is in what is sent the next time.
    pub async fn measure(&self) -> Result<(), ExportError> {
        self.numbers.catch_up().await?;
        let whole = self.numbers.whole().await?;
        let Some(first) = self.journal.tail(0, 1).await?.pop() else { return Ok(()) };
        let request = metric::request(&self.collector.service, &whole, (first.at, self.numbers.now()));
        self.collector.send(&self.collector.metrics, ("the metrics", request.to_string())).await
    }

    /// Sends all that happened since the last time. What is not taken waits where it is: in the journal.
    pub async fn round(&mut self) -> Result<(), ExportError> {
        loop {
            while self.waiting.is_none() {
                let events = self.journal.tail(self.position, BATCH_MAX).await?;
                let Some(last) = events.last().map(|event| event.position) else { return Ok(()) };
                let spans = self.spans(&events).await?;
                self.position = last;
                self.waiting = (!spans.is_empty())
                    .then(|| (spans.len(), span::request(&self.collector.service, &spans).to_string()));
            }
            self.deliver().await?;
        }
    }

    async fn spans(&mut self, events: &[Event]) -> Result<Vec<Span>, JournalError> {
        let mut spans = Vec::new();
        for event in events {
            if let StreamId::Run(run) = &event.stream {
                self.meet(run, event.position).await?;
            }
            spans.extend(self.traces.take(event));
        }
        Ok(spans)
    }

    /// Reads what was to be known, before a position, of a run that is not known yet, and of those above it.
    async fn meet(&mut self, run: &RunId, before: Position) -> Result<(), JournalError> {
        let (mut unknown, mut read) = (vec![run.clone()], BTreeSet::new());
        while let Some(run) = unknown.pop() {
            if self.traces.knows(&run) {
                continue;
            }
            let events = self.journal.read(&StreamId::Run(run.clone()), 0).await?;
            let Some(EventBody::RunCreated(created)) = events.first().map(|event| &event.body) else {
                continue;
            };
            match &created.parent {
                Some(parent) if !self.traces.knows(parent) && read.insert(parent.clone()) => {
                    unknown.extend([run, parent.clone()]);
                }
                _ => self.traces.meet(&run, events.iter().filter(|it| it.seq == 1 || it.position < before)),
            }
        }
        Ok(())
    }

    async fn deliver(&mut self) -> Result<(), ExportError> {
        let Some((spans, body)) = &self.waiting else { return Ok(()) };
        let what = (&*format!("{spans} spans"), body.clone());
        let sent = self.collector.send(&self.collector.traces, what).await;
        if !matches!(sent, Err(ExportError::Later { .. })) {
            self.waiting = None;
        }
        sent
    }
}

/// Whether a request need not be sent again, by OTLP's list of those that may be: 429, 502, 503, 504.
fn is_for_good(status: StatusCode) -> bool {
    !matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
