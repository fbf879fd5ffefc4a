//! Pushes over https, to git's own server side behind a server of a few lines: the token reaches the address that it is for, and is
//! seen nowhere else.

use crate::deadly::{Script, Wall, use_of};
use crate::git::{git, grant, head, job, room};
use crate::kit::Room;
use crate::sandbox::sandbox;
use backstop_agent::run::{Answer, Reply as Said};
use backstop_agent::{Agent, AgentConfig, Tool, ToolError, Toolbox};
use backstop_call::{Priority, Secret, Seed};
use backstop_journal::event::{OnFailure, RunCreated, RunLimits};
use backstop_journal::{Body, Journal, RunStatus, StreamId};
use backstop_label::Labels;
use backstop_store::{SqliteStore, StoreOptions};
use backstop_tools::git::{GitGrant, GitGrantError, PushGrant, tools};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

const TOKEN: &str = "canary-token-4711";

fn basic(token: &str) -> String {
    STANDARD.encode(format!("x-access-token:{token}"))
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures").join(name)
}

/// What the server was asked, and what it saw of the processes of this machine meanwhile.
#[derive(Default)]
struct Seen {
    heads: Vec<String>,
    command_lines: Vec<String>,
}

/// What a server does.
#[derive(Debug, Clone, PartialEq)]
enum Way {
    Serves,
    /// To another address.
    SendsOn(String),
    /// Where it is sent something.
    HangsUp,
}

/// A server of git. It ends with this.
struct Hub {
    address: String,
    seen: Arc<Mutex<Seen>>,
    _task: JoinSet<()>,
}

impl Hub {
    /// A server for the repositories of a directory.
    async fn start(repositories: &Path, way: Way) -> Self {
        let certificate = CertificateDer::from_pem_file(fixture("git.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(fixture("git.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("https://{}", listener.local_addr().unwrap());
        let (seen, root) = (Arc::new(Mutex::new(Seen::default())), repositories.to_owned());
        let kept = Arc::clone(&seen);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, kept, root, way) = (tls.clone(), Arc::clone(&kept), root.clone(), way.clone());
                connections.spawn(async move {
                    // Whoever does not trust this server says nothing.
                    let Ok(stream) = tls.accept(stream).await else { return };
                    serve(stream, &kept, &root, &way).await;
                });
            }
        });
        Self { address, seen, _task: task }
    }

    fn heads(&self) -> Vec<String> {
        self.seen.lock().unwrap().heads.clone()
    }

    fn push(&self, token: &str) -> Arc<dyn Tool> {
        self.push_by(token, Some(fixture("git.authority.pem")))
    }

    fn push_by(&self, token: &str, authority: Option<PathBuf>) -> Arc<dyn Tool> {
        let remote = PushGrant {
            name: "hub".into(),
            url: format!("{}/docs.git", self.address),
            branches: vec!["main".into()],
            token: Some("env:GIT_TOKEN".into()),
            authority,
        };
        let tokens = BTreeMap::from([("hub".to_owned(), Secret::new(token))]);
        let tools = tools(&GitGrant { push: vec![remote], ..grant() }, &sandbox(), &tokens).unwrap();
        tools.into_iter().find(|tool| tool.spec().name == "git_push").unwrap()
    }
}

/// The command lines of all processes.
fn command_lines() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let line = |entry: std::fs::DirEntry| std::fs::read(entry.path().join("cmdline")).ok();
    entries.filter_map(line).map(|line| String::from_utf8_lossy(&line).into_owned()).collect()
}

/// One request, by git's own program for it.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, seen: &Mutex<Seen>, root: &Path, way: &Way) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let lower = head.to_ascii_lowercase();
    let header = |name: &str| {
        let at = lower.find(&format!("\r\n{name}: "))? + name.len() + 4;
        head[at..].split("\r\n").next().map(str::to_owned)
    };
    let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    {
        let mut seen = seen.lock().unwrap();
        seen.heads.push(head.clone());
        seen.command_lines.extend(command_lines());
    }
    let answer = if *way == Way::HangsUp && head.starts_with("POST ") {
        return;
    } else if let Way::SendsOn(elsewhere) = way {
        let path = head.split(' ').nth(1).unwrap();
        format!(
            "HTTP/1.1 307 X\r\nlocation: {elsewhere}{path}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
        )
        .into_bytes()
    } else if header("authorization") == Some(format!("Basic {}", basic(TOKEN))) {
        by_git(root, &head, header("content-type"), &body).await
    } else {
        let asks = "www-authenticate: Basic realm=\"git\"\r\nconnection: close\r\ncontent-length: 0";
        format!("HTTP/1.1 401 X\r\n{asks}\r\n\r\n").into_bytes()
    };
    // Whoever hangs up is not answered any more.
    let _ = stream.write_all(&answer).await;
    let _ = stream.shutdown().await;
}

/// `git http-backend`, as a server calls it. Its hooks are told how it was asked.
async fn by_git(root: &Path, head: &str, kind: Option<String>, body: &[u8]) -> Vec<u8> {
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("REQUEST_METHOD", method)
        .env("PATH_INFO", path)
        .env("QUERY_STRING", query)
        .env("CONTENT_TYPE", kind.unwrap_or_default())
        .env("CONTENT_LENGTH", body.len().to_string())
        .env("REMOTE_USER", "agent")
        .env("TOLD", format!("{TOKEN} {}", basic(TOKEN)))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(body).await.unwrap();
    drop(stdin);
    let said = child.wait_with_output().await.unwrap().stdout;
    let status = said.strip_prefix(b"Status: ").map_or("200 OK", |rest| {
        let end = rest.iter().position(|byte| *byte == b'\r').unwrap();
        std::str::from_utf8(&rest[..end]).unwrap()
    });
    [format!("HTTP/1.1 {status}\r\nconnection: close\r\n").as_bytes(), &said].concat()
}

/// A directory with an empty repository `docs.git`.
fn repositories() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    git(root.path(), &["init", "--quiet", "--bare", "docs.git"]);
    root
}

async fn pushed(room: &Room, push: &Arc<dyn Tool>) -> Result<String, ToolError> {
    let args = json!({"remote": "hub", "branch": "main"});
    let plan = room.plan(push, &args).await.unwrap();
    room.run(push, &job(&args, &plan)).await
}

/// A run that may push.
fn task(workspace: String) -> RunCreated {
    RunCreated {
        task: "t".into(),
        role: "writer".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("be good"),
        message: Body::from("push it"),
        max_tokens: None,
        tools: vec!["git_push".to_owned()],
        workspace,
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
}

fn holds_no_token(text: &str) {
    assert!(!text.contains(TOKEN) && !text.contains(&basic(TOKEN)), "{text}");
}

#[tokio::test]
async fn a_push_over_https_carries_the_token_and_shows_it_nowhere() {
    let (room, root) = (room(), repositories());
    let hub = Hub::start(root.path(), Way::Serves).await;
    let journal = root.path().join("journal.db");
    let store: Arc<dyn Journal> = Arc::new(SqliteStore::open(&journal, StoreOptions::default()).unwrap());
    let mut tools = Toolbox::new();
    tools.add(hub.push(TOKEN)).unwrap();
    let calls =
        [("git_push", json!({"remote": "hub", "branch": "main"})), ("finish", json!({"summary": "done"}))];
    let script = calls.map(|(name, args)| use_of(name, name, args));
    let agent = Agent {
        model: Arc::new(Script(script.to_vec())),
        journal: Arc::clone(&store),
        clock: Arc::new(Wall),
        seed: Arc::new(Seed::new(7)),
        tools,
        policy: Arc::default(),
        draining: Arc::default(),
        keeps: Arc::new(|_| true),
        config: AgentConfig::default(),
    };
    let workspace = room.path().to_str().unwrap().to_owned();
    let created = task(workspace);
    let run = agent.create(created).await.unwrap();
    let asked = agent.drive(&run).await.unwrap();
    let approval = asked.questions[0].approval.as_str();
    let yes = Said { approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
    agent.answer(&run, yes).await.unwrap();
    let outcome = agent.resume(&run, None).await.unwrap();
    assert_eq!(outcome.status, RunStatus::Done, "{outcome:?}");
    assert_eq!(git(&root.path().join("docs.git"), &["rev-parse", "main"]).trim(), head(&room));

    let Seen { heads, command_lines } = std::mem::take(&mut *hub.seen.lock().unwrap());
    let carried = format!("Authorization: Basic {}", basic(TOKEN));
    assert!(heads.len() >= 2 && heads.iter().all(|head| head.contains(&carried)), "{heads:?}");
    // It was looked while git was at work, where it could be seen.
    assert!(command_lines.iter().any(|line| line.contains("push\0--porcelain")));
    holds_no_token(&command_lines.join("\n"));
    let events = store.read(&StreamId::Run(run), 0).await.unwrap();
    assert!(events.len() > 5);
    holds_no_token(&format!("{events:?} {asked:?} {outcome:?}"));
    drop((agent, store));
    for entry in std::fs::read_dir(root.path()).unwrap().filter_map(Result::ok) {
        if entry.file_name().to_string_lossy().starts_with("journal.db") && entry.path().is_file() {
            holds_no_token(&String::from_utf8_lossy(&std::fs::read(entry.path()).unwrap()));
        }
    }
}

#[tokio::test]
async fn no_error_holds_the_token_whoever_writes_it() {
    let (room, root) = (room(), repositories());
    let hub = Hub::start(root.path(), Way::Serves).await;
    let hook = root.path().join("docs.git/hooks/pre-receive");
    std::fs::write(&hook, "#!/bin/sh\necho \"you are $TOLD\" >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    // The server tells it back.
    let refused = pushed(&room, &hub.push(TOKEN)).await.unwrap_err();
    let ToolError::Failed(text) = &refused else { panic!("it was refused whole: {refused:?}") };
    assert!(text.contains("you are [the token] [the token]"), "{text}");
    holds_no_token(text);
    // A token that is not the right one: nothing was sent.
    let refused = pushed(&room, &hub.push("another-token-0815")).await.unwrap_err();
    assert!(matches!(refused, ToolError::Failed(_)), "{refused:?}");
    let refused = refused.to_string();
    assert!(
        !refused.contains("another-token-0815") && !refused.contains(&basic("another-token-0815")),
        "{refused}"
    );
    assert_eq!(git(&root.path().join("docs.git"), &["for-each-ref"]), "");
}

#[tokio::test]
async fn the_token_goes_to_no_other_address_and_to_no_server_that_is_not_trusted() {
    let (room, root) = (room(), repositories());
    let hub = Hub::start(root.path(), Way::Serves).await;
    let sends_on = Hub::start(root.path(), Way::SendsOn(hub.address.clone())).await;
    let refused = pushed(&room, &sends_on.push(TOKEN)).await.unwrap_err();
    assert!(matches!(refused, ToolError::Failed(_)), "{refused:?}");
    let refused = refused.to_string();
    holds_no_token(&refused);
    assert!(!sends_on.heads().is_empty() && hub.heads().is_empty(), "{refused}");
    let untrusted = pushed(&room, &hub.push_by(TOKEN, None)).await.unwrap_err();
    assert!(matches!(untrusted, ToolError::Failed(_)), "{untrusted:?}");
    let untrusted = untrusted.to_string();
    holds_no_token(&untrusted);
    assert!(untrusted.to_lowercase().contains("certificate") && hub.heads().is_empty(), "{untrusted}");
    assert!(pushed(&room, &hub.push(TOKEN)).await.is_ok());
}

#[tokio::test]
async fn what_broke_off_after_something_was_sent_is_in_doubt() {
    let (room, root) = (room(), repositories());
    let hub = Hub::start(root.path(), Way::HangsUp).await;
    let lost = pushed(&room, &hub.push(TOKEN)).await.unwrap_err();
    assert!(matches!(lost, ToolError::Unknown(_)), "{lost:?}");
    holds_no_token(&lost.to_string());
    assert!(hub.heads().iter().any(|head| head.starts_with("POST ")));
}

#[test]
fn an_authority_is_a_file_for_https() {
    let refused = |url: &str, authority: &str| {
        let authority = Some(PathBuf::from(authority));
        let push =
            PushGrant { name: "hub".into(), url: url.into(), branches: Vec::new(), token: None, authority };
        tools(&GitGrant { push: vec![push], ..grant() }, &sandbox(), &BTreeMap::new()).err().unwrap()
    };
    for (url, authority) in [("https://git.example", "team.pem"), ("/srv/docs.git", "/etc/team.pem")] {
        assert_eq!(refused(url, authority), GitGrantError::Authority("hub".into()));
    }
}
