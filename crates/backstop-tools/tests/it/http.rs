//! The HTTP tools against real servers on this machine, with names that resolve to what a test says.

use crate::kit::Room;
use crate::web::{Reply, Server, ok, redirect};
use backstop_agent::tool::Job;
use backstop_agent::{Plan, Probe, Tool, ToolError};
use backstop_call::{BoxFuture, Secret};
use backstop_label::{ArgRole, Class, Effect};
use backstop_tools::http::{HostGrant, HttpGrant, HttpMethod, Network, Resolve, http_tools};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Names with the addresses that each lookup gives, the last for ever.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<BTreeMap<String, Vec<Vec<IpAddr>>>>>);

impl Names {
    fn new(names: &[(&str, &[&[&str]])]) -> Self {
        let lookups = |lookups: &[&[&str]]| {
            lookups.iter().map(|given| given.iter().map(|text| text.parse().unwrap()).collect()).collect()
        };
        let names = names.iter().map(|(name, given)| ((*name).to_owned(), lookups(given))).collect();
        Self(Arc::new(Mutex::new(names)))
    }
}

impl Resolve for Names {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        let mut names = self.0.lock().unwrap();
        let found = names.get_mut(host).map(|lookups| match lookups.len() {
            1 => lookups[0].clone(),
            _ => lookups.remove(0),
        });
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such name")) })
    }
}

fn private(host: String) -> HostGrant {
    HostGrant { private: true, ..HostGrant::new(host) }
}

/// A host on this machine that may be asked for everything.
fn sending(server: &Server) -> HostGrant {
    use HttpMethod::{Delete, Get, Head, Patch, Post, Put};
    let methods = vec![Get, Head, Post, Put, Patch, Delete];
    HostGrant { methods, ..private(format!("http://127.0.0.1:{}", server.port())) }
}

fn grant(hosts: Vec<HostGrant>) -> HttpGrant {
    HttpGrant { hosts, timeout_seconds: 10, ..HttpGrant::default() }
}

fn secrets(reference: &str) -> Result<Secret, String> {
    match reference {
        "env:TOKEN" => Ok(Secret::new("Bearer canary-token")),
        other => Err(format!("{other} is not set")),
    }
}

fn tools(grant: &HttpGrant, names: &Names) -> BTreeMap<String, Arc<dyn Tool>> {
    let network = Network::new(names.clone(), RootCertStore::empty());
    let tools = http_tools(grant, &secrets, &network).unwrap();
    tools.into_iter().map(|tool| (tool.spec().name, tool)).collect()
}

fn tool(grant: &HttpGrant, names: &Names, name: &str) -> Arc<dyn Tool> {
    Arc::clone(&tools(grant, names)[name])
}

async fn get(tool: &Arc<dyn Tool>, url: impl Into<String>) -> Result<String, String> {
    Room::new(&[]).call(tool, json!({"url": url.into()})).await
}

/// What became of a call, as the run sees it.
async fn outcome(tool: &Arc<dyn Tool>, args: Value) -> Result<String, ToolError> {
    let room = Room::new(&[]);
    room.plan(tool, &args).await.map_err(ToolError::Failed)?;
    room.run(tool, &Job { args, plan: Value::Null, key: "key-1".into() }).await
}

#[tokio::test]
async fn a_read_gives_status_headers_and_text() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/missing" => {
            Reply::Bytes(b"HTTP/1.1 404 Not Found\r\netag: \"e\"\r\nset-cookie: s=canary\r\n\r\nno".to_vec())
        }
        _ => ok("application/json", "{\"a\":1}"),
    })
    .await;
    let base = format!("http://127.0.0.1:{}", server.port());
    let read = tool(&grant(vec![private(base.clone())]), &Names::default(), "http_get");
    let got = get(&read, format!("{base}/x?y=%20#frag")).await.unwrap();
    assert_eq!(got, format!("200 OK from {base}/x?y=%20\ncontent-type: application/json\n\n{{\"a\":1}}"));
    let got = get(&read, format!("{base}/missing")).await.unwrap();
    assert_eq!(got, format!("404 Not Found from {base}/missing\netag: \"e\"\n\nno"));
    let head = json!({"url": base, "method": "HEAD", "headers": {"accept": "text/html"}});
    let got = Room::new(&[]).call(&read, head).await.unwrap();
    assert_eq!(got, format!("200 OK from {base}/\ncontent-type: application/json\n\n(no body)"));
    let host = format!("127.0.0.1:{}", server.port());
    let rest = format!("user-agent: backstop\r\nhost: {host}\r\naccept-encoding: identity\r\n\r\n");
    assert_eq!(
        server.requests(),
        [
            format!("GET /x?y=%20 HTTP/1.1\r\n{rest}"),
            format!("GET /missing HTTP/1.1\r\n{rest}"),
            format!("HEAD / HTTP/1.1\r\n{}", rest.replace("host:", "accept: text/html\r\nhost:")),
        ],
    );
}

#[tokio::test]
async fn each_tool_declares_the_worst_of_what_it_does() {
    let server = Server::start(|_| ok("text/plain", "x")).await;
    let keyed = HostGrant { keyed: vec![HttpMethod::Put], ..sending(&server) };
    let tools = tools(&grant(vec![keyed]), &Names::default());
    let declared: Vec<_> = tools
        .iter()
        .map(|(name, tool)| (name.as_str(), tool.declaration().class, tool.declaration().effect))
        .collect();
    let want = [
        ("http_get", Class::Read, Effect::External),
        ("http_request", Class::Irreversible, Effect::External),
        ("http_request_keyed", Class::Idempotent, Effect::External),
    ];
    assert_eq!(declared, want);
    for tool in tools.values() {
        assert_eq!(tool.declaration().role_of("url"), ArgRole::Sink);
        assert!(tool.declaration().output_labels().untrusted);
    }
    let only_reads =
        http_tools(&grant(vec![HostGrant::new("h.test")]), &secrets, &Network::system()).unwrap();
    assert_eq!(only_reads.iter().map(|tool| tool.spec().name).collect::<Vec<_>>(), ["http_get"]);
    assert!(http_tools(&grant(Vec::new()), &secrets, &Network::system()).unwrap().is_empty());
}

#[tokio::test]
async fn names_that_lead_where_none_may_go_are_not_spoken_to() {
    let server = Server::start(|_| ok("text/plain", "reached")).await;
    let port = server.port();
    let names = Names::new(&[
        ("local.test", &[&["127.0.0.1"]]),
        ("both.test", &[&["8.8.8.8", "127.0.0.1"]]),
        ("mapped.test", &[&["::ffff:127.0.0.1"]]),
        ("meta.test", &[&["169.254.169.254"]]),
        ("linked.test", &[&["127.0.0.1", "fe80::1"]]),
        ("none.test", &[&[]]),
    ]);
    let open = |name: &str| HostGrant::new(format!("http://{name}.test:{port}"));
    let granted = |name: &str| HostGrant { private: true, ..open(name) };
    let read = tool(
        &grant(vec![
            open("local"),
            open("both"),
            open("mapped"),
            granted("meta"),
            granted("linked"),
            open("none"),
            open("unknown"),
            HostGrant::new(format!("http://127.0.0.1:{port}")),
            HostGrant::new(format!("http://[::1]:{port}")),
        ]),
        &names,
        "http_get",
    );
    let not_granted = "and private addresses are not granted for it. Use another host.";
    let loopback = |origin: &str, address: &str| {
        format!("http://{origin}:{port} is not used: its address {address} is loopback, {not_granted}")
    };
    let never = |name: &str, address: &str, kind: &str| {
        format!(
            "http://{name}.test:{port} is not used: its address {address} is {kind}, which is never granted. Use another host."
        )
    };
    for (host, want) in [
        ("local.test", loopback("local.test", "127.0.0.1")),
        ("both.test", loopback("both.test", "127.0.0.1")),
        ("mapped.test", loopback("mapped.test", "::ffff:127.0.0.1")),
        ("meta.test", never("meta", "169.254.169.254", "a cloud's metadata service")),
        ("linked.test", never("linked", "fe80::1", "link-local")),
        ("none.test", "The host `none.test` was not found. Verify its name.".to_owned()),
        ("unknown.test", "The host `unknown.test` was not found. Verify its name.".to_owned()),
        ("0177.1", loopback("127.0.0.1", "127.0.0.1")),
        ("[::1]", loopback("[::1]", "::1")),
    ] {
        assert_eq!(get(&read, format!("http://{host}:{port}/")).await, Err(want), "{host}");
    }
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn a_name_is_resolved_once_and_the_checked_address_is_used() {
    let server = Server::start(|_| ok("text/plain", "reached")).await;
    // A second lookup would say what is forbidden, or lead nowhere.
    let names = Names::new(&[("api.test", &[&["127.0.0.1"], &["169.254.169.254"]])]);
    let url = format!("http://api.test:{}", server.port());
    let read = tool(&grant(vec![private(url.clone())]), &names, "http_get");
    assert!(get(&read, &*url).await.unwrap().ends_with("reached"));
    let host = format!("host: api.test:{}\r\n", server.port());
    assert!(server.requests()[0].contains(&host), "{:?}", server.requests());
    assert!(get(&read, &*url).await.unwrap_err().contains("metadata"), "each call looks anew");
}

#[tokio::test]
async fn the_next_address_is_tried_where_one_does_not_answer() {
    let server = Server::start(|_| ok("text/plain", "reached")).await;
    // Nobody listens at the first.
    let names = Names::new(&[("api.test", &[&["127.0.0.2", "127.0.0.1"]])]);
    let url = format!("http://api.test:{}", server.port());
    let read = tool(&grant(vec![private(url.clone())]), &names, "http_get");
    assert!(get(&read, url).await.unwrap().ends_with("reached"));
}

#[tokio::test]
async fn redirects_are_followed_as_far_as_each_is_granted() {
    let other = Server::start(|_| ok("text/plain", "the other")).await;
    let other_port = other.port();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/once" => redirect(302, "/here"),
        "/loop" => redirect(307, "loop"),
        "/other" => redirect(301, &format!("http://other.test:{other_port}/x")),
        "/evil" => redirect(302, "http://evil.test/"),
        "/inside" => redirect(302, &format!("http://inside.test:{other_port}/")),
        "/scheme" => redirect(302, "file:///etc/passwd"),
        "/user" => redirect(302, "//a:b@other.test/"),
        _ => ok("text/plain", "here"),
    })
    .await;
    let port = server.port();
    let names = Names::new(&[
        ("api.test", &[&["127.0.0.1"]]),
        ("other.test", &[&["127.0.0.1"]]),
        ("inside.test", &[&["127.0.0.1"]]),
    ]);
    let base = format!("http://api.test:{port}");
    let mut api = private(base.clone());
    api.headers.insert("authorization".into(), "env:TOKEN".into());
    let hosts = vec![
        api,
        private(format!("http://other.test:{other_port}")),
        HostGrant::new(format!("http://inside.test:{other_port}")),
    ];
    let read = tool(&HttpGrant { redirects_max: 3, ..grant(hosts) }, &names, "http_get");
    let got = get(&read, format!("{base}/once")).await.unwrap();
    assert_eq!(got, format!("200 OK from {base}/here\ncontent-type: text/plain\n\nhere"));
    let args = json!({"url": format!("{base}/other"), "headers": {"accept": "text/canary"}});
    let got = Room::new(&[]).call(&read, args).await.unwrap();
    assert!(got.starts_with(&format!("200 OK from http://other.test:{other_port}/x\n")), "{got}");
    let first = &server.requests()[2];
    assert!(
        first.contains("accept: text/canary\r\n") && first.contains("authorization: Bearer canary-token\r\n")
    );
    assert!(
        !other.requests()[0].contains("canary"),
        "nothing goes on to another host: {:?}",
        other.requests()
    );
    let asked = server.requests().len();
    for (path, want) in [
        ("loop", "after the 3 redirects that are followed. Ask for that address instead"),
        ("evil", "redirects to where no request may go. GET http://evil.test/ is not granted. Granted is:"),
        ("inside", "its address 127.0.0.1 is loopback, and private addresses are not granted for it"),
        (
            "scheme",
            "redirects to `file:///etc/passwd`, which is not used: only http:// and https:// are spoken",
        ),
        ("user", "which is not used: it holds a user or password before the host"),
    ] {
        let refused = get(&read, format!("{base}/{path}")).await.unwrap_err();
        assert!(refused.contains(want) && !refused.contains("canary"), "{path}: {refused}");
    }
    assert_eq!(
        server.requests().len() - asked,
        4 + 4,
        "the first and three more of the loop, one of each other"
    );
    assert_eq!(other.requests().len(), 1);
}

#[tokio::test]
async fn a_sent_requests_redirect_is_told_and_not_followed() {
    let server = Server::start(|_| redirect(307, "/again")).await;
    let send = tool(&grant(vec![sending(&server)]), &Names::default(), "http_request");
    let url = format!("http://127.0.0.1:{}/", server.port());
    let got = outcome(&send, json!({"method": "POST", "url": url, "body": "b"})).await.unwrap();
    assert_eq!(got, format!("307 Temporary Redirect from {url}\nlocation: /again\n\n(no body)"));
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn bodies_of_every_kind_are_told_for_what_they_are() {
    let raw =
        |head: &str, body: &[u8]| [format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n").as_bytes(), body].concat();
    let server = Server::start(move |request| match request.split(' ').nth(1).unwrap() {
        "/binary" => ok("image/png", b"\x89PNG\0\xff"),
        "/latin" => ok("text/plain; charset=latin1", b"caf\xe9"),
        "/unsaid" => ok("application/octet-stream", b"caf\xe9"),
        "/zip" => Reply::Bytes(raw("content-encoding: gzip\r\ncontent-type: text/plain", b"\x1f\x8b\x08")),
        "/long" => ok("text/plain", "0123456789".repeat(4)),
        "/long-char" => ok("text/plain", "é".repeat(20)),
        "/endless" => Reply::Endless(raw("content-type: text/plain", b"")),
        "/endless-chunks" => Reply::Endless(raw("transfer-encoding: chunked", b"ffffffff\r\n")),
        "/lying" => Reply::Bytes(raw("content-length: 99", b"half")),
        "/lying-empty" => Reply::Bytes(raw("content-length: 99", b"")),
        "/exact" => ok("text/plain", "x".repeat(31)),
        "/echo" => ok("text/plain", request),
        _ => Reply::Bytes(b"SMTP ready\r\n\r\n".to_vec()),
    })
    .await;
    let base = format!("http://127.0.0.1:{}", server.port());
    let small = |hosts| HttpGrant { response_max_bytes: 31, shown_headers: Vec::new(), ..grant(hosts) };
    let mut host = private(base.clone());
    host.headers.insert("authorization".into(), "env:TOKEN".into());
    let read = tool(&small(vec![host.clone()]), &Names::default(), "http_get");
    let cut = "… cut off after 31 bytes: the answer is longer than the 31 bytes that are read";
    for (path, want) in [
        ("binary", "(not text: 6 bytes, image/png)".to_owned()),
        ("latin", "caf\u{fffd}".to_owned()),
        ("unsaid", "(not text: 4 bytes, application/octet-stream)".to_owned()),
        (
            "zip",
            "(not text: 3 bytes, text/plain, encoded as gzip although that was not asked for)".to_owned(),
        ),
        ("long", format!("0123456789012345678901234567890\n{cut}")),
        ("long-char", format!("{}\n{cut}", "é".repeat(15))),
        ("endless", format!("{}\n{cut}", "x".repeat(31))),
        ("endless-chunks", format!("{}\n{cut}", "x".repeat(31))),
        (
            "lying",
            "half\n… cut off after 4 bytes: the connection broke before the end of the answer".to_owned(),
        ),
        ("exact", "x".repeat(31)),
    ] {
        let got = get(&read, format!("{base}/{path}")).await;
        assert_eq!(got, Ok(format!("200 OK from {base}/{path}\n\n{want}")), "{path}");
    }
    for (path, want) in
        [("lying-empty", "did not send the body of its answer"), ("smtp", "answered with what is no HTTP")]
    {
        let got = get(&read, format!("{base}/{path}")).await;
        assert_eq!(
            got,
            Err(format!("{base} {want}. Nothing was changed; try again later, or ask for less."))
        );
    }
    let whole = tool(&grant(vec![host]), &Names::default(), "http_get");
    let echoed = get(&whole, format!("{base}/echo")).await.unwrap();
    assert!(echoed.contains("authorization: [secret]") && !echoed.contains("canary"), "{echoed}");
}

#[tokio::test]
async fn what_is_not_sent_has_failed_and_what_is_lost_is_unknown() {
    let server = Server::start(|request| match request.split(' ').nth(1).unwrap() {
        "/drop" => Reply::Bytes(Vec::new()),
        "/hang" => Reply::Stall(Vec::new()),
        "/half" => Reply::Stall(b"HTTP/1.1 201 Created\r\ncontent-length: 9\r\n\r\nhalf".to_vec()),
        _ => Reply::Bytes(b"what\r\n\r\n".to_vec()),
    })
    .await;
    let base = format!("http://127.0.0.1:{}", server.port());
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = format!("http://127.0.0.1:{}", closed.local_addr().unwrap().port());
    drop(closed);
    let methods = vec![HttpMethod::Get, HttpMethod::Post];
    let hosts = vec![sending(&server), HostGrant { methods, ..private(nobody.clone()) }];
    let tools = tools(&HttpGrant { timeout_seconds: 1, ..grant(hosts) }, &Names::default());
    let unknown = |why: &str| {
        Err(ToolError::Unknown(format!("the request was sent, but {base} {why}; it may have been done")))
    };
    let post = |url: String| json!({"method": "POST", "url": url, "body": "b"});
    let failed = |text: String| Err(ToolError::Failed(text));
    let half = format!(
        "201 Created from {base}/half\n\nhalf\n… cut off after 4 bytes: the rest did not come within 1 seconds"
    );
    let later = "Nothing was changed; try again later, or ask for less.";
    for (name, args, want) in [
        ("http_request", post(format!("{base}/drop")), unknown("closed the connection without an answer")),
        ("http_request", post(format!("{base}/hang")), unknown("did not answer in time")),
        ("http_request", post(format!("{base}/odd")), unknown("answered with what is no HTTP")),
        ("http_request", post(format!("{base}/half")), Ok(half)),
        (
            "http_request",
            post(format!("{nobody}/")),
            failed(format!("No connection to {nobody}: connection refused.")),
        ),
        (
            "http_get",
            json!({"url": format!("{base}/hang")}),
            failed(format!("{base} did not answer in time. {later}")),
        ),
        (
            "http_get",
            json!({"url": format!("{nobody}/")}),
            failed(format!("No connection to {nobody}: connection refused.")),
        ),
    ] {
        assert_eq!(outcome(&tools[name], args.clone()).await, want, "{name} {args}");
    }
    let job = Job { args: post(base), plan: Value::Null, key: "k".into() };
    let room = Room::new(&[]);
    assert!(matches!(tools["http_request"].probe(&job, &room.context).await, Probe::Unsure(_)));
}

#[tokio::test]
async fn what_is_keyed_goes_with_the_calls_key_and_by_its_own_tool() {
    let server = Server::start(|_| ok("text/plain", "done")).await;
    let keyed = vec![HttpMethod::Post];
    let host = HostGrant { keyed, key_header: "x-request-key".into(), ..sending(&server) };
    let tools = tools(&grant(vec![host]), &Names::default());
    let url = format!("http://127.0.0.1:{}/", server.port());
    let post = json!({"method": "POST", "url": url, "body": "b", "headers": {"content-type": "text/plain"}});
    for _ in 0..2 {
        outcome(&tools["http_request_keyed"], post.clone()).await.unwrap();
    }
    let requests = server.requests();
    assert!(requests[0].contains("x-request-key: key-1\r\n") && requests[0].ends_with("\r\n\r\nb"));
    assert_eq!(requests[0], requests[1], "a second attempt is the same request");
    let refused = outcome(&tools["http_request"], post).await.unwrap_err();
    assert!(
        refused.to_string().contains("is not granted. Granted is: GET/HEAD/PUT/PATCH/DELETE"),
        "{refused}"
    );
    let delete = json!({"method": "DELETE", "url": url});
    assert!(outcome(&tools["http_request_keyed"], delete.clone()).await.is_err());
    assert!(outcome(&tools["http_request"], delete).await.is_ok());
}

#[tokio::test]
async fn a_preview_is_the_request_and_tells_no_secret() {
    let server = Server::start(|_| ok("text/plain", "done")).await;
    let mut host = sending(&server);
    host.headers.insert("authorization".into(), "env:TOKEN".into());
    let send = tool(&grant(vec![host]), &Names::default(), "http_request");
    let room = Room::new(&[]);
    let url = format!("http://127.0.0.1:{}", server.port());
    let args = json!({
        "method": "DELETE",
        "url": format!("{url}/a/../b"),
        "headers": {"content-type": "text/plain"},
        "body": "line\r\n\u{202e}hidden\u{1b}[2J",
    });
    let plan = room.plan(&send, &args).await.unwrap();
    let preview = format!(
        "DELETE {url}/b\ncontent-type: text/plain\nauthorization: (the owner's)\n\nline\\u{{d}}\n\\u{{202e}}hidden\\u{{1b}}[2J"
    );
    assert_eq!(plan, Plan { preview, effect: Some(Effect::Destructive), ..Plan::default() });
    let post = json!({"method": "POST", "url": url});
    assert_eq!(room.plan(&send, &post).await.unwrap().effect, None);
    assert_eq!(server.requests(), [""; 0], "planning asks nobody");
}

#[tokio::test]
async fn hostile_arguments_are_refused_in_words_that_help() {
    let server = Server::start(|_| ok("text/plain", "x")).await;
    let port = server.port();
    let granted = HttpGrant { request_max_bytes: 8, ..grant(vec![sending(&server)]) };
    let tools = tools(&granted, &Names::default());
    let url = format!("http://127.0.0.1:{port}");
    let room = Room::new(&[]);
    for (name, args, want) in [
        (
            "http_get",
            json!({"url": format!("http://127.0.0.1:{port}@evil.test/")}),
            "holds a user or password",
        ),
        ("http_get", json!({"url": format!("http://evil.test#@127.0.0.1:{port}/")}), "is not granted"),
        ("http_get", json!({"url": format!("{url}/\r\nhost: evil")}), "holds a space, a control character"),
        (
            "http_get",
            json!({"url": url, "headers": {"Host": "evil.test"}}),
            "`Host` cannot be set. You may set: accept",
        ),
        ("http_get", json!({"url": url, "headers": {"accept": "a\r\nx: y"}}), "holds a line break"),
        ("http_get", json!({"url": url, "method": "POST"}), "\"POST\" is not one of \"GET\" or \"HEAD\""),
        ("http_get", json!({"url": url, "body": "x"}), "'body' was unexpected"),
        ("http_request", json!({"url": url, "method": "CONNECT"}), "is not one of"),
        (
            "http_request",
            json!({"url": url, "method": "POST", "body": "123456789"}),
            "9 bytes, more than the 8",
        ),
        ("http_request", json!({"url": "x", "method": "POST"}), "write it like https://host/path"),
    ] {
        let refused = room.call(&tools[name], args.clone()).await.unwrap_err();
        assert!(refused.contains(want), "{name} {args}: {refused}");
    }
    assert_eq!(server.requests(), [""; 0]);
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name)
}

#[tokio::test]
async fn tls_is_spoken_with_the_name_and_to_the_checked_address() {
    let certificate = CertificateDer::from_pem_file(fixture("api.test.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("api.test.key")).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
    let server = Server::start_tls(config, |_| ok("text/plain", "safe")).await;
    let names = Names::new(&[("api.test", &[&["127.0.0.1"]]), ("evil.test", &[&["127.0.0.1"]])]);
    let url = |name: &str| format!("https://{name}.test:{}", server.port());
    let granted = grant(vec![private(url("api")), private(url("evil"))]);
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(fixture("authority.pem")).unwrap()).unwrap();
    let trusting = http_tools(&granted, &secrets, &Network::new(names.clone(), roots)).unwrap().remove(0);
    assert!(get(&trusting, url("api")).await.unwrap().ends_with("safe"));
    for refused in
        [get(&trusting, url("evil")).await, get(&tool(&granted, &names, "http_get"), url("api")).await]
    {
        let refused = refused.unwrap_err();
        assert!(
            refused.contains("The TLS handshake with https://") && refused.contains("failed"),
            "{refused}"
        );
    }
    assert_eq!(server.requests().len(), 1, "whoever is not who he should be is told nothing");
}
