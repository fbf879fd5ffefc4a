//! Every text in a request, a reply, a failure, an event: looked at, and cleaned where there is something to clean. What
//! is clean is neither copied nor changed.

use super::{Redactor, raw};
use backstop_call::{
    ApprovalId, Block, BoxFuture, DocumentSource, Failure, ImageSource, Reply, Request, RunId, Source,
    StopReason, Timestamp, Told, apply,
};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{
    Append, Epoch, Event, EventBody, Head, Journal, JournalError, ListedRun, Position, RunFilter, Seq,
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
    clean_blocks(redactor, &mut clean.system);
    for message in &mut clean.messages {
        clean_blocks(redactor, &mut message.content);
    }
    for tool in &mut clean.tools {
        clean_text(redactor, &mut tool.description);
        clean_value(redactor, &mut tool.schema);
        clean_map(redactor, &mut tool.other);
    }
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
    clean_blocks(redactor, &mut reply.content);
    clean_map(redactor, &mut reply.other);
    reply.told.iter_mut().for_each(|told| clean_told(redactor, told));
    if let StopReason::Other(text) | StopReason::StopSequence(Some(text)) = &mut reply.stop {
        clean_text(redactor, text);
    }
    for attempt in &mut reply.attempts {
        clean_text(redactor, &mut attempt.message);
    }
}

/// Takes secrets out of a failure: providers quote keys and requests in their errors.
pub(super) fn clean_failure(redactor: &Redactor, failure: &mut Failure) {
    let detail = &mut failure.detail;
    clean_text(redactor, &mut detail.message);
    detail.provider_code.iter_mut().for_each(|text| clean_text(redactor, text));
    detail.request_id.iter_mut().for_each(|text| clean_text(redactor, text));
    if let Some(told) = &mut detail.told {
        clean_told(redactor, told);
        clean_headers(redactor, &mut told.headers);
    }
    for attempt in &mut detail.attempts {
        clean_text(redactor, &mut attempt.message);
    }
}

/// Takes secrets out of a block.
pub(super) fn clean_block(redactor: &Redactor, block: &mut Block) {
    match block {
        Block::Text { text, .. } | Block::Thinking { text, .. } => clean_text(redactor, text),
        Block::Image { source: ImageSource::Url(url), .. } => clean_text(redactor, url),
        Block::Document { source, name, .. } => {
            if let Some(name) = name {
                clean_text(redactor, name);
            }
            if let DocumentSource::Url(text) | DocumentSource::Text(text) = source {
                clean_text(redactor, text);
            }
        }
        Block::Image { .. } | Block::RedactedThinking { .. } => {}
        Block::ToolUse { input, .. } => clean_value(redactor, input),
        Block::ToolResult { content, .. } => clean_blocks(redactor, content),
        Block::Other { value, .. } => clean_value(redactor, value),
    }
}

fn clean_blocks(redactor: &Redactor, blocks: &mut [Block]) {
    for block in blocks {
        clean_block(redactor, block);
    }
}

fn clean_text(redactor: &Redactor, text: &mut String) {
    if let Cow::Owned(clean) = redactor.text(text) {
        *text = clean;
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
    let text = |text: &str| matches!(redactor.text(text), Cow::Owned(_));
    let map = |map: &Map<String, Value>| !map.is_empty() && map_is_dirty(redactor, map);
    blocks_are_dirty(redactor, &request.system)
        || request.messages.iter().any(|message| blocks_are_dirty(redactor, &message.content))
        || request
            .tools
            .iter()
            .any(|tool| text(&tool.description) || value_is_dirty(redactor, &tool.schema) || map(&tool.other))
        || request.stop.iter().any(|stop| text(stop))
        || matches!(&request.output, Some(backstop_call::OutputFormat::Schema { schema, .. })
            if value_is_dirty(redactor, schema))
        || map(&request.other)
}

fn blocks_are_dirty(redactor: &Redactor, blocks: &[Block]) -> bool {
    let text = |text: &str| matches!(redactor.text(text), Cow::Owned(_));
    blocks.iter().any(|block| match block {
        Block::Text { text: it, .. } | Block::Thinking { text: it, .. } => text(it),
        Block::Image { source: ImageSource::Url(url), .. } => text(url),
        Block::Document { source, name, .. } => {
            let of_source = match source {
                DocumentSource::Url(it) | DocumentSource::Text(it) => text(it),
                DocumentSource::Base64 { .. } => false,
            };
            of_source || name.as_deref().is_some_and(text)
        }
        Block::Image { .. } | Block::RedactedThinking { .. } => false,
        Block::ToolUse { input, .. } => value_is_dirty(redactor, input),
        Block::ToolResult { content, .. } => blocks_are_dirty(redactor, content),
        Block::Other { value, .. } => value_is_dirty(redactor, value),
    })
}

fn value_is_dirty(redactor: &Redactor, value: &Value) -> bool {
    match value {
        Value::String(text) => matches!(redactor.text(text), Cow::Owned(_)),
        Value::Array(items) => items.iter().any(|item| value_is_dirty(redactor, item)),
        Value::Object(map) => map_is_dirty(redactor, map),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn map_is_dirty(redactor: &Redactor, map: &Map<String, Value>) -> bool {
    map.iter()
        .any(|(key, value)| matches!(redactor.text(key), Cow::Owned(_)) || value_is_dirty(redactor, value))
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
fn clean_event(redactor: &Redactor, event: &mut EventBody, text: &mut String) -> Option<()> {
    // JSON escapes are among the encodings that are looked for, so the encoded event shows every secret in it.
    if let Cow::Borrowed(_) = redactor.text(text) {
        return Some(());
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

    fn verify(&self, stream: &StreamId) -> BoxFuture<'_, Result<Head, JournalError>> {
        self.inner.verify(stream)
    }
}
