//! A client that hides nothing: a TCP stream, and what came over it.

use backstop_call::{Clock, Timestamp};
use backstop_sim::{Sim, SimConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A clock that stands still at 2026-11-22T12:33:52Z.
pub(crate) struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_795_350_832)
    }
}

/// A simulated provider, set up as wanted.
pub(crate) async fn sim(change: impl FnOnce(&mut SimConfig)) -> Sim {
    let mut config = SimConfig::new(Arc::new(Still));
    change(&mut config);
    Sim::start(config).await.unwrap()
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    /// 0 when no status line came.
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as its framing says.
    pub(crate) complete: bool,
}

impl Got {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The `data:` lines.
    pub(crate) fn events(&self) -> Vec<String> {
        self.text().lines().filter_map(|line| line.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

/// The path and headers of a dialect.
pub(crate) fn head(dialect: &str) -> (&'static str, &'static str) {
    match dialect {
        "messages" => ("/v1/messages", "anthropic-version: 2023-06-01\r\n"),
        "responses" => ("/v1/responses", ""),
        _ => ("/v1/chat/completions", ""),
    }
}

/// A small request in a dialect.
pub(crate) fn ask(stream: bool) -> Value {
    json!({"model": "sim", "max_tokens": 500, "stream": stream,
           "messages": [{"role": "user", "content": "How many roads must a man walk down?"}]})
}

/// The same in the words of Responses.
pub(crate) fn said_in(dialect: &str, body: &Value) -> Value {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut().filter(|_| dialect == "responses") {
        for (from, to) in [("messages", "input"), ("max_tokens", "max_output_tokens")] {
            let value = fields.remove(from);
            fields.extend(value.map(|value| (to.to_owned(), value)));
        }
    }
    body
}

pub(crate) async fn open(sim: &Sim, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(sim.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n{headers}\r\n{body}",
        body.len()
    )
}

/// Sends a request and reads until the connection ends.
pub(crate) async fn send(sim: &Sim, request: &str) -> Got {
    let mut stream = open(sim, request).await;
    let mut bytes = Vec::new();
    // A connection that is reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    read(&bytes)
}

/// Posts to a dialect's path, with a fault.
pub(crate) async fn call(sim: &Sim, dialect: &str, body: &Value, fault: &str) -> Got {
    let (path, version) = head(dialect);
    let fault = if fault.is_empty() { String::new() } else { format!("x-sim-fault: {fault}\r\n") };
    send(sim, &post(path, &format!("{version}{fault}"), &said_in(dialect, body).to_string())).await
}

pub(crate) async fn fetch(sim: &Sim, line: &str, headers: &str) -> Got {
    send(sim, &format!("{line} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n{headers}\r\n")).await
}

fn read(bytes: &[u8]) -> Got {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        assert!(bytes.is_empty(), "half a head");
        return Got { status: 0, headers: BTreeMap::new(), body: Vec::new(), complete: false };
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.into()))
        .collect();
    let rest = &bytes[end + 4..];
    let (body, complete) = match headers.get("content-length") {
        Some(length) => (rest.to_vec(), rest.len() == length.parse::<usize>().unwrap()),
        None => chunked(rest),
    };
    Got { status, headers, body, complete }
}

/// The body of a chunked answer, and whether its last chunk came.
fn chunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|window| window == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        let from = line + 2;
        if size == 0 {
            return (body, true);
        }
        let to = (from + size).min(rest.len());
        body.extend_from_slice(&rest[from..to]);
        rest = rest.get(to + 2..).unwrap_or_default();
    }
    (body, false)
}

/// Lets everything else run until something is so.
pub(crate) async fn until(what: &str, so: impl Fn() -> bool) {
    for _ in 0..5_000_000 {
        if so() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("it never came to be: {what}");
}
