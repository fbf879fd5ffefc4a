//! Every text in a request, a reply, a failure, an event: looked at, and cleaned where there is something to clean. What
//! is clean is neither copied nor changed.

use super::{Redactor, raw};
use backstop_call::{
    ApprovalId, Block, BoxFuture, DocumentSource, Failure, FreeText, ImageSource, Reply, Request, RunId,
    Shared, Source, StopReason, Timestamp, Told, ToolSpec, apply,
};
use backstop_journal::event::RunErased;
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Epoch, Erase, Event, EventBody, Head, Journal, JournalError, ListedRun, Position, RunFilter, Seq,
    StreamId,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::sync::Arc;

/// The request without secrets: the same one when there were none.
pub(super) fn clean_request(redactor: &Redactor, request: &Arc<Request>) -> Arc<Request> {
    if !is_dirty(redactor, request) {
        return Arc::clone(request);
    }
    let mut clean = Request::clone(request);
    clean_shared(redactor, &mut clean.system);
    for message in &mut clean.messages {
        clean_shared(redactor, &mut message.content);
    }
    clean_shared(redactor, &mut clean.tools);
    for stop in &mut clean.stop {
        clean_text(redactor, stop);
    }
    if let Some(backstop_call::OutputFormat::Schema { schema, .. }) = &mut clean.output {
        clean_value(redactor, schema);
    }
    clean_map(redactor, &mut clean.other);
    Arc::new(clean)
}

/// What a client sent, without secrets: the same when there were none.
pub(super) fn clean_source(redactor: &Redactor, source: &Arc<Source>) -> Arc<Source> {
    if raw::is_clean(redactor, &source.body) {
        return Arc::clone(source);
    }
    let text =
        std::str::from_utf8(&source.body).expect("a source is JSON that was looked over, and so UTF-8");
    let edits = raw::edits(redactor, text);
    if edits.is_empty() { Arc::clone(source) } else { Arc::new(source.edited(&edits)) }
}

/// Takes secrets out of what a provider sent.
fn clean_told(redactor: &Redactor, told: &mut Told) {
    if raw::is_clean(redactor, &told.body) {
        return;
    }
    match std::str::from_utf8(&told.body) {
        Ok(text) => told.body = apply(&told.body, &raw::edits(redactor, text)),
        Err(_) => told.body = Bytes::new(),
    }
}

/// Takes secrets out of the headers of a refusal, which may quote what it refuses.
fn clean_headers(redactor: &Redactor, headers: &mut HeaderMap) {
    for value in headers.values_mut() {
        if let Some(Cow::Owned(clean)) = value.to_str().ok().map(|text| redactor.text(text)) {
            // What was taken out is visible ASCII, as what stands in its place.
            *value = HeaderValue::from_str(&clean).unwrap_or(HeaderValue::from_static(""));
        }
    }
}

/// Takes secrets out of an answer.
pub(super) fn clean_reply(redactor: &Redactor, reply: &mut Reply) {
    reply.content.iter_mut().for_each(|block| block.clean(redactor));
    clean_map(redactor, &mut reply.other);
    reply.told.iter_mut().for_each(|told| clean_told(redactor, told));
    if let StopReason::Other(text) | StopReason::StopSequence(Some(text)) = &mut reply.stop {
        clean_text(redactor, text);
    }
    for attempt in &mut reply.attempts {
        clean_free(redactor, &mut attempt.message);
    }
}

/// Takes secrets out of a failure: providers quote keys and requests in their errors.
pub(super) fn clean_failure(redactor: &Redactor, failure: &mut Failure) {
    let detail = &mut failure.detail;
    clean_free(redactor, &mut detail.message);
    detail.provider_code.iter_mut().for_each(|text| clean_text(redactor, text));
    detail.request_id.iter_mut().for_each(|text| clean_text(redactor, text));
    if let Some(told) = &mut detail.told {
        clean_told(redactor, told);
        clean_headers(redactor, &mut told.headers);
    }
    for attempt in &mut detail.attempts {
        clean_free(redactor, &mut attempt.message);
    }
}

/// What may hold secrets.
pub(super) trait Scrub {
    /// Whether it does.
    fn is_dirty(&self, redactor: &Redactor) -> bool;
    /// Takes them out.
    fn clean(&mut self, redactor: &Redactor);
}

impl Scrub for Block {
    fn is_dirty(&self, redactor: &Redactor) -> bool {
        let text = |text: &str| text_is_dirty(redactor, text);
        match self {
            Self::Text { text: it, .. } | Self::Thinking { text: it, .. } => text(it),
            Self::Image { source: ImageSource::Url(url), .. } => text(url),
            Self::Document { source, name, .. } => {
                let of_source = match source {
                    DocumentSource::Url(it) | DocumentSource::Text(it) => text(it),
                    DocumentSource::Base64 { .. } => false,
                };
                of_source || name.as_deref().is_some_and(text)
            }
            Self::Image { .. } | Self::RedactedThinking { .. } => false,
            Self::ToolUse { input, .. } => value_is_dirty(redactor, input),
            Self::ToolResult { content, .. } => content.iter().any(|block| block.is_dirty(redactor)),
            Self::Other { value, .. } => value_is_dirty(redactor, value),
        }
    }

    fn clean(&mut self, redactor: &Redactor) {
        match self {
            Self::Text { text, .. } | Self::Thinking { text, .. } => clean_text(redactor, text),
            Self::Image { source: ImageSource::Url(url), .. } => clean_text(redactor, url),
            Self::Document { source, name, .. } => {
                if let Some(name) = name {
                    clean_text(redactor, name);
                }
                if let DocumentSource::Url(text) | DocumentSource::Text(text) = source {
                    clean_text(redactor, text);
                }
            }
            Self::Image { .. } | Self::RedactedThinking { .. } => {}
            Self::ToolUse { input, .. } => clean_value(redactor, input),
            Self::ToolResult { content, .. } => content.iter_mut().for_each(|block| block.clean(redactor)),
            Self::Other { value, .. } => clean_value(redactor, value),
        }
    }
}

impl Scrub for ToolSpec {
    fn is_dirty(&self, redactor: &Redactor) -> bool {
        text_is_dirty(redactor, &self.description)
            || value_is_dirty(redactor, &self.schema)
            || map_is_dirty(redactor, &self.other)
    }

    fn clean(&mut self, redactor: &Redactor) {
        clean_text(redactor, &mut self.description);
        clean_value(redactor, &mut self.schema);
        clean_map(redactor, &mut self.other);
    }
}

/// What is shared is looked through once: a conversation is sent again with each turn, and most of it was sent before.
fn clean_shared<T: Scrub + Clone>(redactor: &Redactor, shared: &mut Shared<T>) {
    if shared_is_dirty(redactor, shared) {
        shared.change(|items| items.iter_mut().for_each(|item| item.clean(redactor)));
    }
}

fn shared_is_dirty<T: Scrub>(redactor: &Redactor, shared: &Shared<T>) -> bool {
    if shared.is_cleared_by(redactor.number) {
        return false;
    }
    let dirty = shared.iter().any(|item| item.is_dirty(redactor));
    if !dirty {
        shared.clear_by(redactor.number);
    }
    dirty
}

fn clean_text(redactor: &Redactor, text: &mut String) {
    if let Cow::Owned(clean) = redactor.text(text) {
        *text = clean;
    }
}

fn clean_free(redactor: &Redactor, text: &mut FreeText) {
    if let Some(text) = text.here_mut() {
        clean_text(redactor, text);
    }
}

fn clean_value(redactor: &Redactor, value: &mut Value) {
    match value {
        Value::String(text) => clean_text(redactor, text),
        Value::Array(items) => items.iter_mut().for_each(|item| clean_value(redactor, item)),
        Value::Object(map) => clean_map(redactor, map),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Keys are looked at too: a model may make a secret one.
fn clean_map(redactor: &Redactor, map: &mut Map<String, Value>) {
    if map.keys().any(|key| matches!(redactor.text(key), Cow::Owned(_))) {
        let old = std::mem::take(map);
        map.extend(old.into_iter().map(|(key, value)| (redactor.text(&key).into_owned(), value)));
    }
    for value in map.values_mut() {
        clean_value(redactor, value);
    }
}

fn is_dirty(redactor: &Redactor, request: &Request) -> bool {
    shared_is_dirty(redactor, &request.system)
        || request.messages.iter().any(|message| shared_is_dirty(redactor, &message.content))
        || shared_is_dirty(redactor, &request.tools)
        || request.stop.iter().any(|stop| text_is_dirty(redactor, stop))
        || matches!(&request.output, Some(backstop_call::OutputFormat::Schema { schema, .. })
            if value_is_dirty(redactor, schema))
        || map_is_dirty(redactor, &request.other)
}

fn text_is_dirty(redactor: &Redactor, text: &str) -> bool {
    matches!(redactor.text(text), Cow::Owned(_))
}

fn value_is_dirty(redactor: &Redactor, value: &Value) -> bool {
    match value {
        Value::String(text) => text_is_dirty(redactor, text),
        Value::Array(items) => items.iter().any(|item| value_is_dirty(redactor, item)),
        Value::Object(map) => map_is_dirty(redactor, map),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn map_is_dirty(redactor: &Redactor, map: &Map<String, Value>) -> bool {
    map.iter().any(|(key, value)| text_is_dirty(redactor, key) || value_is_dirty(redactor, value))
}

/// A journal that no secret gets into: every event passes the redactor on its way.
pub struct RedactingJournal {
    inner: Arc<dyn Journal>,
    redactor: Arc<Redactor>,
}

impl RedactingJournal {
    /// A journal before this one.
    pub fn new(inner: Arc<dyn Journal>, redactor: Arc<Redactor>) -> Self {
        Self { inner, redactor }
    }
}

/// Takes secrets out of an event and of its text. `None` when that cannot be done: the secret stands where the event's type
/// allows no text of ours.
pub(super) fn clean_event(redactor: &Redactor, event: &mut EventBody, text: &mut String) -> Option<()> {
    // JSON escapes are among the encodings that are looked for, so the encoded event shows every secret in it.
    if let Cow::Borrowed(_) = redactor.text(text) {
        return Some(());
    }
    if let EventBody::ToolPlanned(planned) = event {
        // Of the arguments as they were: that is what an approval is bound to.
        planned.args_hash = Some(planned.args_hash().into_owned());
    }
    let mut value = serde_json::to_value(&*event).ok()?;
    clean_value(redactor, &mut value);
    *event = serde_json::from_value(value).ok()?;
    *text = event.encode();
    Some(())
}

impl Journal for RedactingJournal {
    fn append(&self, append: Append) -> BoxFuture<'static, Result<Head, JournalError>> {
        let texts = append.events.iter().map(EventBody::encode).collect();
        self.append_encoded(append, texts)
    }

    fn append_encoded(
        &self,
        mut append: Append,
        mut texts: Vec<String>,
    ) -> BoxFuture<'static, Result<Head, JournalError>> {
        let mut encoded = append.events.iter_mut().zip(&mut texts);
        match encoded.try_for_each(|(event, text)| clean_event(&self.redactor, event, text)) {
            Some(()) => self.inner.append_encoded(append, texts),
            None => Box::pin(async {
                let why = "an event held a secret where it cannot be taken out; it was not written";
                Err(JournalError::Unusable(why.to_owned()))
            }),
        }
    }

    fn read(&self, stream: &StreamId, after: Seq) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.read(stream, after)
    }

    fn tail(&self, after: Position, limit: usize) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.tail(after, limit)
    }

    fn part(
        &self,
        stream: &StreamId,
        after: Seq,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Event>, JournalError>> {
        self.inner.part(stream, after, limit)
    }

    fn end(&self) -> BoxFuture<'_, Result<Position, JournalError>> {
        self.inner.end()
    }

    fn asked_by(&self, approval: &ApprovalId) -> BoxFuture<'_, Result<Option<RunId>, JournalError>> {
        self.inner.asked_by(approval)
    }

    fn list(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<ListedRun>, JournalError>> {
        self.inner.list(filter)
    }

    fn runs(&self, filter: RunFilter) -> BoxFuture<'_, Result<Vec<RunSummary>, JournalError>> {
        self.inner.runs(filter)
    }

    fn claim(&self, run: &RunId, at: Timestamp) -> BoxFuture<'_, Result<Epoch, JournalError>> {
        self.inner.claim(run, at)
    }

    fn release(&self, run: &RunId, epoch: Epoch) -> BoxFuture<'_, Result<(), JournalError>> {
        self.inner.release(run, epoch)
    }

    fn erase(&self, mut erase: Erase) -> BoxFuture<'_, Result<RunErased, JournalError>> {
        clean_text(&self.redactor, &mut erase.reason);
        self.inner.erase(erase)
    }

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.inner.verify(stream)
    }
}
