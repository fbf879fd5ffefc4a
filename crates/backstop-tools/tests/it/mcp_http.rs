//! MCP servers at an address: what one does wrong over HTTP harms nothing. The server speaks HTTP by hand, so that it can
//! break off wherever it wants.

use super::kit::Room;
use super::mcp::{call, called, names, server, tool};
use backstop_agent::ToolError;
use backstop_tools::mcp::{McpGrant, McpServer};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A server on this machine; it ends with the test's runtime.
struct Site {
    url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

#[derive(Debug, Clone)]
struct Seen {
    line: String,
    headers: Vec<String>,
    body: Value,
}

impl Site {
    /// `elsewhere` is where it redirects to.
    async fn start(elsewhere: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/mcp", listener.local_addr().unwrap());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (record, elsewhere) = (Arc::clone(&seen), elsewhere.to_owned());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&record), elsewhere.clone()));
            }
        });
        Self { url, seen }
    }

    fn grant(&self) -> McpGrant {
        serde_json::from_value(json!({
            "url": self.url,
            "private-addresses": true,
            "headers": {"x-team": "blue"},
            "secret-headers": {"authorization": "env:TOKEN"},
            "unlisted": "as-worst",
            "limits": {"idle-ms": 1_000, "total-ms": 10_000, "message-bytes": 65_536, "messages": 500},
        }))
        .unwrap()
    }

    fn server(&self, dir: &Path) -> McpServer {
        server("web", self.grant(), dir)
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

/// `None` ends the connection.
async fn serve(stream: TcpStream, record: Arc<Mutex<Vec<Seen>>>, elsewhere: String) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let seen = request(&mut stream).await?;
        record.lock().unwrap().push(seen.clone());
        answer(stream.get_mut(), &seen, &elsewhere).await?;
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let length = lines.iter().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    let line = lines.remove(0);
    Some(Seen { line, headers: lines, body })
}

async fn answer(out: &mut TcpStream, seen: &Seen, elsewhere: &str) -> Option<()> {
    let id = &seen.body["id"];
    if !seen.line.starts_with("POST") {
        return head(out, "405 Method Not Allowed", "", Some(0)).await;
    }
    let path = seen.line.split(' ').nth(1).unwrap();
    match seen.body["method"].as_str().unwrap_or_default() {
        "initialize" if path != "/mcp" => misbehave(out, &path[1..], id, elsewhere).await,
        "initialize" => {
            let result = json!({
                "protocolVersion": seen.body["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "site", "version": "1"},
            });
            whole(out, "content-type: application/json\r\nmcp-session-id: session-1\r\n", &reply(id, &result))
                .await
        }
        "tools/list" => {
            let tools: Vec<_> =
                TOOLS.iter().map(|name| json!({"name": name, "inputSchema": {"type": "object"}})).collect();
            whole(out, "content-type: application/json\r\n", &reply(id, &json!({"tools": tools}))).await
        }
        "tools/call" => misbehave(out, seen.body["params"]["name"].as_str().unwrap(), id, elsewhere).await,
        "server/discover" => head(out, "400 Bad Request", "", Some(0)).await,
        _ => head(out, "202 Accepted", "", Some(0)).await,
    }
}

const TOOLS: [&str; 19] = [
    "json",
    "events",
    "other_id",
    "hangs",
    "closes",
    "half",
    "half_events",
    "redirects",
    "large",
    "large_event",
    "crlf_event",
    "many_events",
    "comments",
    "page",
    "unauthorized",
    "gone",
    "busy",
    "conflict",
    "fails",
];

async fn misbehave(out: &mut TcpStream, how: &str, id: &Value, elsewhere: &str) -> Option<()> {
    const JSON: &str = "content-type: application/json\r\n";
    const EVENTS: &str = "content-type: text/event-stream\r\n";
    let text = |text: &str| json!({"content": [{"type": "text", "text": text}]});
    let event = |message: &str| format!("event: message\ndata: {message}\n\n");
    match how {
        "json" => whole(out, JSON, &reply(id, &text("hello"))).await,
        "events" => {
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
            let body =
                format!(": a comment\n\n{}{}", event(&log.to_string()), event(&reply(id, &text("hello"))));
            whole(out, EVENTS, &body).await
        }
        "other_id" => whole(out, JSON, &reply(&json!(9_999), &text("not yours"))).await,
        "hangs" => std::future::pending().await,
        "closes" => None,
        "half" => {
            head(out, "200 OK", JSON, Some(500)).await?;
            out.write_all(b"{\"jsonrpc\":").await.ok()?;
            None
        }
        "half_events" => {
            head(out, "200 OK", EVENTS, None).await?;
            out.write_all(b"5\r\ndata:\r\n").await.ok()?;
            None
        }
        "redirects" => {
            head(out, "307 Temporary Redirect", &format!("location: {elsewhere}\r\n"), Some(0)).await
        }
        "large" => whole(out, JSON, &reply(id, &text(&"x".repeat(70_000)))).await,
        "large_event" => endless(out, EVENTS, &"x".repeat(1_000)).await,
        "crlf_event" => endless(out, EVENTS, "data: xxxxxxxxxxxxxxxxxxxxxxxx\r\n").await,
        "many_events" => {
            let log = json!({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x"}});
            endless(out, EVENTS, &event(&log.to_string())).await
        }
        "comments" => endless(out, EVENTS, &format!(": {}\n\n", "x".repeat(1_000))).await,
        "page" => whole(out, "content-type: text/html\r\n", "<h1>hello</h1>").await,
        "unauthorized" => head(out, "401 Unauthorized", "www-authenticate: Bearer\r\n", Some(0)).await,
        "gone" => head(out, "404 Not Found", "", Some(0)).await,
        "busy" => head(out, "429 Too Many Requests", "", Some(0)).await,
        "conflict" => head(out, "409 Conflict", "", Some(0)).await,
        "fails" => head(out, "500 Internal Server Error", "", Some(0)).await,
        name => panic!("{name}"),
    }
}

fn reply(id: &Value, result: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
}

async fn head(out: &mut TcpStream, status: &str, headers: &str, length: Option<usize>) -> Option<()> {
    let framing = length.map_or_else(
        || "transfer-encoding: chunked".to_owned(),
        |length| format!("content-length: {length}"),
    );
    let head = format!("HTTP/1.1 {status}\r\n{headers}{framing}\r\n\r\n");
    out.write_all(head.as_bytes()).await.ok()
}

async fn whole(out: &mut TcpStream, headers: &str, body: &str) -> Option<()> {
    head(out, "200 OK", headers, Some(body.len())).await?;
    out.write_all(body.as_bytes()).await.ok()
}

/// Sends the same piece until nobody reads any more.
async fn endless(out: &mut TcpStream, headers: &str, piece: &str) -> Option<()> {
    head(out, "200 OK", headers, None).await?;
    let chunk = format!("{:x}\r\n{piece}\r\n", piece.len());
    loop {
        out.write_all(chunk.as_bytes()).await.ok()?;
    }
}

/// What a call of a tool gives, each on a connection of its own.
async fn outcome(site: &Site, name: &str) -> String {
    let room = Room::new(&[]);
    let report = site.server(room.path()).connect().await;
    match called(&room, &report, name).await {
        Ok(text) => format!("ok: {text}"),
        Err(ToolError::Failed(text)) => format!("failed: {text}"),
        Err(ToolError::Unknown(text)) => format!("unknown: {text}"),
    }
}

#[tokio::test]
async fn what_goes_wrong_over_http_is_told_and_harms_nothing() {
    let elsewhere = Site::start("").await;
    let site = Site::start(&elsewhere.url).await;
    let not_done = |reason: &str| format!("failed: Not done: the MCP server web: {reason}.");
    let unknown = |reason: &str| {
        format!("unknown: the MCP server web had been given the call: {reason}; it may have been carried out")
    };
    let rows = [
        ("json", "ok: hello".to_owned()),
        ("events", "ok: hello".to_owned()),
        ("other_id", unknown("it did not answer in time")),
        ("hangs", unknown("it did not answer in time")),
        ("closes", unknown("the connection broke: connection closed before message completed")),
        ("half", unknown("the answer broke off: end of file before message length reached")),
        ("half_events", unknown("the connection ended")),
        ("redirects", not_done("it answered with HTTP 307 Temporary Redirect (redirects are not followed)")),
        ("large", unknown("it sent a message of more than 65536 bytes")),
        ("large_event", unknown("it sent a message of more than 65536 bytes")),
        ("crlf_event", unknown("it sent a message of more than 65536 bytes")),
        ("many_events", unknown("it sent too many messages at once")),
        ("comments", unknown("it sends more than can be read")),
        ("page", unknown("its answer is neither JSON nor events")),
        (
            "unauthorized",
            not_done("it answered with HTTP 401 Unauthorized (it does not take the credentials)"),
        ),
        ("gone", not_done("it answered with HTTP 404 Not Found")),
        ("busy", not_done("it answered with HTTP 429 Too Many Requests")),
        ("conflict", unknown("it answered with HTTP 409 Conflict")),
        ("fails", unknown("it answered with HTTP 500 Internal Server Error")),
    ];
    let mut found = Vec::new();
    for (name, _) in &rows {
        found.push((*name, outcome(&site, name).await));
    }
    assert_eq!(found, rows);
    assert!(elsewhere.seen().is_empty(), "no redirect is followed");
}

#[tokio::test]
async fn what_goes_wrong_at_the_beginning_over_http_is_told() {
    let elsewhere = Site::start("").await;
    let site = Site::start(&elsewhere.url).await;
    let rows = [
        ("hangs", "it did not tell its tools in time"),
        ("closes", "the connection broke: connection closed before message completed"),
        ("redirects", "it answered with HTTP 307 Temporary Redirect (redirects are not followed)"),
        ("large", "it sent a message of more than 65536 bytes"),
        ("large_event", "it sent a message of more than 65536 bytes"),
        ("many_events", "it sends more than can be read"),
        ("page", "its answer is neither JSON nor events"),
        ("unauthorized", "it answered with HTTP 401 Unauthorized (it does not take the credentials)"),
        ("gone", "it answered with HTTP 404 Not Found"),
        ("json", "it does not begin as an MCP server does"),
    ];
    let mut found = Vec::new();
    for (how, _) in &rows {
        let room = Room::new(&[]);
        let mut grant = site.grant();
        grant.url = Some(site.url.replace("/mcp", &format!("/{how}")));
        // Only what hangs is to run out of time, however busy the machine is.
        grant.limits.startup_ms = if *how == "hangs" { 3_000 } else { 30_000 };
        found.push((*how, server("web", grant, room.path()).connect().await.failure.unwrap()));
    }
    assert_eq!(found, rows.map(|(how, want)| (how, want.to_owned())));
    assert!(elsewhere.seen().is_empty());
}

#[tokio::test]
async fn each_request_carries_the_servers_own_headers_and_is_sent_once() {
    let site = Site::start("").await;
    let room = Room::new(&[]);
    let report = site.server(room.path()).connect().await;
    assert_eq!(
        called(&room, &report, "fails").await.map_err(|error| matches!(error, ToolError::Unknown(_))),
        Err(true)
    );
    let seen = site.seen();
    for request in &seen {
        for header in ["authorization: s3cret-value", "x-team: blue"] {
            assert!(request.headers.iter().any(|sent| sent == header), "{header} in {request:?}");
        }
        let has_session = request.headers.iter().any(|sent| sent == "mcp-session-id: session-1");
        assert_eq!(has_session, request.body["method"] != "initialize", "{request:?}");
    }
    let calls: Vec<_> = seen.iter().filter(|request| request.body["method"] == "tools/call").collect();
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].body["params"]["_meta"]["dev.backstop/idempotency-key"], "key-1");
}

#[tokio::test]
async fn an_address_that_was_not_granted_is_not_reached() {
    let site = Site::start("").await;
    let room = Room::new(&[]);
    let port = site.url.split(':').nth(2).unwrap().split('/').next().unwrap().to_owned();
    let mut grant = site.grant();
    grant.private_addresses = false;
    // A name that leads to this machine: only looking it up shows that.
    grant.url = Some(format!("https://localhost:{port}/mcp"));
    let report = server("web", grant, room.path()).connect().await;
    assert_eq!(names(&report), Vec::<String>::new());
    assert_eq!(
        report.failure.as_deref(),
        Some("it cannot be reached: its name is a private address, which private-addresses does not allow")
    );
    assert!(site.seen().is_empty());
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_and_nothing_was_done() {
    let site = Site::start("").await;
    let room = Room::new(&[]);
    let mut grant = site.grant();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    grant.url = Some(format!("http://{}/mcp", listener.local_addr().unwrap()));
    drop(listener);
    let report = server("web", grant, room.path()).connect().await;
    assert_eq!(report.failure.as_deref(), Some("it cannot be reached: Connection refused (os error 111)"));
    let there = site.server(room.path()).connect().await;
    assert_eq!(call(&room, &tool(&there, "json"), json!({})).await, Ok("hello".to_owned()));
}
