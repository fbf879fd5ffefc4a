//! A span, and how OTLP writes it in JSON: ids in hexadecimal, 64-bit numbers as text, as its specification has it.

use backstop_call::Timestamp;
use serde_json::{Value, json};

/// The id of a trace, 16 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId([u8; 16]);

/// The id of a span, 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// The same from the same text, in every process.
    pub fn of(text: &str) -> Self {
        Self(beginning(text))
    }
}

impl SpanId {
    /// The same from the same text, in every process.
    pub fn of(text: &str) -> Self {
        Self(beginning(text))
    }
}

fn beginning<const N: usize>(text: &str) -> [u8; N] {
    let hash = blake3::hash(text.as_bytes());
    std::array::from_fn(|byte| hash.as_bytes()[byte])
}

/// Whether it leaves this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It does not.
    Internal = 1,
    /// It asks another one.
    Client = 3,
}

/// What is told of a span.
#[derive(Debug, Clone, PartialEq)]
pub enum Attribute {
    /// A text.
    Text(String),
    /// Texts.
    Texts(Vec<String>),
    /// A whole number.
    Count(u64),
    /// Seconds.
    Seconds(f64),
    /// Yes or no.
    Flag(bool),
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// The trace it belongs to.
    pub trace: TraceId,
    /// Its id.
    pub id: SpanId,
    /// What it is a part of.
    pub parent: Option<SpanId>,
    /// Its name.
    pub name: String,
    /// Whether it leaves this process.
    pub kind: Kind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is told of it.
    pub attributes: Vec<(&'static str, Attribute)>,
    /// What went wrong.
    pub error: Option<String>,
}

/// A request to a collector, with spans of this service.
pub(super) fn request(service: &str, spans: &[Span]) -> Value {
    json!({
        "resourceSpans": [{
            "resource": resource(service),
            "scopeSpans": [{ "scope": scope(), "spans": spans.iter().map(written).collect::<Vec<_>>() }],
        }],
    })
}

/// Who tells it.
pub(super) fn resource(service: &str) -> Value {
    let named = [
        ("service.name", Attribute::Text(service.to_owned())),
        ("service.version", Attribute::Text(env!("CARGO_PKG_VERSION").to_owned())),
    ];
    json!({ "attributes": attributes(&named) })
}

/// What it is told by.
pub(super) fn scope() -> Value {
    json!({ "name": "backstop", "version": env!("CARGO_PKG_VERSION") })
}

fn written(span: &Span) -> Value {
    let mut value = json!({
        "traceId": hex(&span.trace.0),
        "spanId": hex(&span.id.0),
        "name": span.name,
        "kind": span.kind as u8,
        "startTimeUnixNano": span.start.nanos().to_string(),
        "endTimeUnixNano": span.end.nanos().to_string(),
        "attributes": attributes(&span.attributes),
    });
    if let Some(parent) = span.parent {
        value["parentSpanId"] = hex(&parent.0).into();
    }
    if let Some(error) = &span.error {
        value["status"] = json!({ "code": 2, "message": error });
    }
    value
}

pub(super) fn attributes(attributes: &[(&'static str, Attribute)]) -> Value {
    attributes.iter().map(|(key, value)| json!({ "key": key, "value": any(value) })).collect()
}

fn any(value: &Attribute) -> Value {
    match value {
        Attribute::Text(text) => json!({ "stringValue": text }),
        Attribute::Texts(texts) => {
            let values: Vec<_> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
        Attribute::Count(number) => json!({ "intValue": number.to_string() }),
        Attribute::Seconds(seconds) => json!({ "doubleValue": seconds }),
        Attribute::Flag(flag) => json!({ "boolValue": flag }),
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
