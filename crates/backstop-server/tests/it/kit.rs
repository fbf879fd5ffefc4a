//! A gateway made from the text of a config, and a client that writes and reads HTTP by hand: nothing between the tests and
//! the bytes.

use backstop::{Backstop, Settings};
use backstop_allowance::{Account, Balance, Scope};
use backstop_call::Clock;
use backstop_journal::event::{CallFailed, CallFinished, KeyScope};
use backstop_journal::{EventBody, StreamId};
use backstop_server::config::{self, Config, Surroundings};
use backstop_server::gateway::{
    ApprovalsParts, Bell, BellLimits, Drained, EngineParts, Gateway, GatewayLimits, GatewayParts, Live,
    Notices, serve,
};
use backstop_server::jobs::JobBook;
use backstop_server::keys::{NewKey, create};
use backstop_server::numbers::{Numbers, Pulse};
use backstop_server::settings::{Plan, base};
use backstop_sim::{Scenario, Sim, SimConfig};
use backstop_stack::SystemClock;
use serde_json::Value;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long a test waits for what must come. Only a test that fails waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The key of every provider.
pub(crate) const UPSTREAM_KEY: &str = "sk-upstream-canary-4711";

/// Waits for what must come.
pub(crate) async fn in_time<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("this never came: {what}"))
}

/// Looks again and again until there is something to see.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut pause = tokio::time::interval(Duration::from_millis(2));
        loop {
            if let Some(seen) = look().await {
                return seen;
            }
            pause.tick().await;
        }
    };
    in_time(what, looking).await
}

/// A simulated provider that is calm until a test says otherwise.
pub(crate) async fn sim() -> Sim {
    sim_under("name = \"calm\"").await
}

/// A simulated provider under a scenario.
pub(crate) async fn sim_under(scenario: &str) -> Sim {
    let mut config = SimConfig::new(Arc::new(SystemClock::new()));
    config.scenario = Scenario::parse(scenario, "test.toml").unwrap();
    Sim::start(config).await.unwrap()
}

/// The base URL of a Chat provider that the sim plays.
pub(crate) fn chat_url(sim: &Sim, provider: &str) -> String {
    format!("{}/v1", sim.base_url(provider))
}

/// A config with a chain `main` over these providers: name, dialect, base URL. Each has one model, of the same name, whose id
/// is `sim`, for 3 and 15 dollars per million tokens. Waits are short; nothing else differs from the defaults.
pub(crate) fn config(providers: &[(&str, &str, String)]) -> String {
    let mut text = String::new();
    for (name, dialect, url) in providers {
        write!(
            text,
            "[providers.{name}]\ndialect = \"{dialect}\"\nbase-url = \"{url}\"\nkey = \"env:UPSTREAM_KEY\"\n\n\
             [models.{name}]\nprovider = \"{name}\"\nid = \"sim\"\ncontext-window = 20000000\nmax-output = 1000\n\
             price = {{ input = 3, output = 15 }}\n\n"
        )
        .unwrap();
    }
    let names: Vec<_> = providers.iter().map(|(name, ..)| format!("\"{name}\"")).collect();
    write!(text, "[chains.main]\nmodels = [{}]\n\n", names.join(", ")).unwrap();
    text.push_str(
        "[retry]\nbase-not-sent = \"1ms\"\nbase-transient = \"1ms\"\nbase-overloaded = \"1ms\"\nbase-throttled = \"1ms\"\n\n",
    );
    text
}

/// An environment of the test's own.
#[derive(Clone, Default)]
pub(crate) struct World(pub(crate) HashMap<String, String>);

impl Surroundings for World {
    fn var(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// A gateway that serves.
pub(crate) struct Gate {
    pub(crate) addr: SocketAddr,
    pub(crate) gateway: Arc<Gateway>,
    pub(crate) backstop: Backstop,
    pub(crate) dir: TempDir,
    world: World,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

impl Gate {
    pub(crate) async fn start(text: &str) -> Self {
        Self::start_with(text, |_, _| ()).await
    }

    /// A gateway with something that the config has no words for.
    pub(crate) async fn start_with(
        text: &str,
        change: impl FnOnce(&mut GatewayLimits, &mut Settings),
    ) -> Self {
        Self::start_ringing(text, &[], BellLimits::default(), change).await
    }

    /// A gateway with more in its environment, and a bell of the test's own.
    pub(crate) async fn start_ringing(
        text: &str,
        vars: &[(&str, &str)],
        bell: BellLimits,
        change: impl FnOnce(&mut GatewayLimits, &mut Settings),
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let vars = [("UPSTREAM_KEY", UPSTREAM_KEY)].iter().chain(vars);
        let world = World(vars.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect());
        let config = read_config(dir.path(), text, &world);
        let pulse = Pulse::default();
        let mut engine = engine_parts(&config, &world);
        let approvals = ApprovalsParts::of(&config, &world, Bell::new(bell)).unwrap();
        let live = Live::default();
        engine.settings.observers.extend([pulse.observer(), approvals.bell.observer(), live.observer()]);
        let mut limits = limits(&config);
        change(&mut limits, &mut engine.settings);
        let backstop = Backstop::open(engine.settings.clone()).await.unwrap();
        let numbers = Numbers::of(&backstop, &config);
        let counting = (numbers.clone(), pulse);
        tokio::spawn(async move { counting.0.keep_up(&counting.1, |_| ()).await });
        let parts = GatewayParts {
            backstop: backstop.clone(),
            engine,
            limits,
            environment: config.keys.environment.clone(),
            data_dir: dir.path().to_owned(),
            numbers,
            jobs: JobBook::of(&config),
            approvals,
            live,
        };
        let gateway = Gateway::open(parts).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let stopping = async move { drop(stopped.await) };
        let serving = tokio::spawn(serve(listener, Arc::clone(&gateway), stopping));
        Self { addr, gateway, backstop, dir, world, stop, serving }
    }

    /// Takes another config, as SIGHUP does.
    pub(crate) async fn reload(&self, text: &str) -> Result<(), backstop::OpenError> {
        self.reload_with(text, |_| ()).await
    }

    /// The same, with something that the config has no words for.
    pub(crate) async fn reload_with(
        &self,
        text: &str,
        change: impl FnOnce(&mut Settings),
    ) -> Result<(), backstop::OpenError> {
        let config = read_config(self.dir.path(), text, &self.world);
        let notices = Notices::of(&config, &self.world).unwrap();
        let mut parts = engine_parts(&config, &self.world);
        change(&mut parts.settings);
        self.gateway.reload(parts, notices).await
    }

    /// Makes a key, known to the gateway when this returns; gives its secret.
    pub(crate) async fn key(&self, name: &str, scope: KeyScope) -> String {
        let new = NewKey { name: name.into(), scope, by: "test".to_owned() };
        let made = create(&**self.backstop.journal(), new, self.backstop.clock().now()).await.unwrap();
        self.gateway.refresh_keys().await.unwrap();
        made.secret.expose().to_owned()
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.addr).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut client = self.client().await;
        client.send(method, path, headers, body.as_bytes()).await;
        client.answer().await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[], body).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    /// Every event of a stream, all that was appended before included.
    pub(crate) async fn events(&self, stream: StreamId) -> Vec<EventBody> {
        self.backstop.files().unwrap().0.flush().await.unwrap();
        let events = self.backstop.journal().read(&stream, 0).await.unwrap();
        events.into_iter().map(|event| event.body).collect()
    }

    /// How every call ended, once so many are over.
    pub(crate) async fn ends(&self, count: usize) -> Vec<End> {
        until("the ends of the calls", async || {
            let events = self.events(StreamId::Calls).await;
            let ends: Vec<_> = events.into_iter().filter_map(End::of).collect();
            (ends.len() >= count).then_some(ends)
        })
        .await
    }

    /// What is held and spent by everything together.
    pub(crate) async fn balance(&self) -> Balance {
        self.balance_of(Account::today(Scope::Total, self.backstop.clock().now())).await
    }

    pub(crate) async fn balance_of(&self, account: Account) -> Balance {
        self.backstop.ledger().balance(account).await.unwrap()
    }

    /// Asks it to end, without waiting for it.
    pub(crate) fn stop(self) -> Stopping {
        let _ = self.stop.send(());
        Stopping { serving: self.serving, backstop: self.backstop, _gateway: self.gateway, _dir: self.dir }
    }
}

/// A gateway on its way out.
pub(crate) struct Stopping {
    serving: JoinHandle<Drained>,
    pub(crate) backstop: Backstop,
    _gateway: Arc<Gateway>,
    _dir: TempDir,
}

impl Stopping {
    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> Drained {
        in_time("the end of the gateway", &mut self.serving).await.unwrap()
    }
}

/// How a call ended.
#[derive(Debug, Clone)]
pub(crate) enum End {
    Finished(Box<CallFinished>),
    Failed(Box<CallFailed>),
}

impl End {
    fn of(body: EventBody) -> Option<Self> {
        match body {
            EventBody::CallFinished(event) => Some(Self::Finished(Box::new(event))),
            EventBody::CallFailed(event) => Some(Self::Failed(Box::new(event))),
            _ => None,
        }
    }

    pub(crate) fn finished(&self) -> &CallFinished {
        match self {
            Self::Finished(event) => event,
            Self::Failed(event) => panic!("the call failed: {event:?}"),
        }
    }

    pub(crate) fn failed(&self) -> &CallFailed {
        match self {
            Self::Failed(event) => event,
            Self::Finished(event) => panic!("the call was answered: {event:?}"),
        }
    }
}

fn read_config(dir: &Path, text: &str, world: &World) -> Config {
    let path: PathBuf = dir.join("backstop.toml");
    std::fs::write(&path, text).unwrap();
    config::load(&path, None, world).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

fn engine_parts(config: &Config, world: &World) -> EngineParts {
    let plan = Plan { config, world, now: SystemClock::new().now() };
    let mut settings = base(config, world);
    plan.all(&mut settings);
    let endpoints = if config.serve.unnamed_models { plan.endpoints() } else { Vec::new() };
    let keyless = plan.keyless();
    let config = Arc::new(config.clone());
    EngineParts { settings, patterns: config.asked.clone(), endpoints, keyless, config }
}

fn limits(config: &Config) -> GatewayLimits {
    let size = |count: u32| usize::try_from(count).unwrap();
    GatewayLimits {
        body_bytes_max: size(config.serve.body) << 20,
        bodies_bytes_max: size(config.serve.bodies) << 20,
        connections_max: size(config.serve.connections),
        calls_max: size(config.serve.calls),
        idle: config.serve.idle.0,
        call: config.timeouts.call.0,
        drain: config.serve.drain.0,
    }
}

/// One connection to the gateway.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response's line and headers.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
}

impl Head {
    /// The value of a header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

impl Answer {
    pub(crate) fn status(&self) -> u16 {
        self.head.status
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.head.header(name)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.text()))
    }

    /// Everything of it in one text, to search.
    pub(crate) fn all(&self) -> String {
        format!("{:?}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

impl Client {
    pub(crate) async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    /// A connection that takes little before it is read.
    pub(crate) async fn with_little_room(addr: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        Self { stream: socket.connect(addr).await.unwrap(), buffer: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    pub(crate) async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) {
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {}\r\n", body.len());
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            head.push_str("content-type: application/json\r\n");
        }
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        head.push_str("\r\n");
        // In one piece: a server that answers before it has read all must not break the second write.
        self.write([head.as_bytes(), body].concat()).await;
    }

    /// More bytes; whether there were any before the end.
    async fn fill(&mut self) -> bool {
        in_time("more bytes of a response", self.stream.read_buf(&mut self.buffer))
            .await
            .is_ok_and(|read| read > 0)
    }

    /// The head of the next response; `None` when the connection ends before it.
    pub(crate) async fn try_head(&mut self) -> Option<Head> {
        let end = loop {
            if let Some(end) = self.buffer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
            if !self.fill().await {
                return None;
            }
        };
        let text = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = text.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase(), value.trim().to_owned())
        };
        Some(Head { status, headers: lines.map(header).collect() })
    }

    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.expect("a response")
    }

    /// The next chunk of a streamed body; `None` at its proper end.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(end) = self.buffer.windows(2).position(|two| two == b"\r\n") {
                break String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
            }
            assert!(self.fill().await, "the body ended in its middle");
        };
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        while self.buffer.len() < length + 2 {
            assert!(self.fill().await, "the body ended in its middle");
        }
        let chunk: Vec<u8> = self.buffer.drain(..length + 2).take(length).collect();
        (length > 0).then_some(chunk)
    }

    /// The chunks to the end, put together.
    pub(crate) async fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(chunk) = self.chunk().await {
            body.extend_from_slice(&chunk);
        }
        body
    }

    /// Reads until the streamed body holds this text.
    pub(crate) async fn read_until(&mut self, text: &str) -> String {
        let mut body = String::new();
        while !body.contains(text) {
            let chunk = self.chunk().await.unwrap_or_else(|| panic!("it ended before `{text}`: {body}"));
            body.push_str(std::str::from_utf8(&chunk).unwrap());
        }
        body
    }

    /// A whole response.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.head().await;
        let body = if head.header("transfer-encoding") == "chunked" {
            self.chunks().await
        } else {
            let length: usize = head.header("content-length").parse().unwrap_or(0);
            while self.buffer.len() < length {
                assert!(self.fill().await, "the body ended in its middle");
            }
            self.buffer.drain(..length).collect()
        };
        Answer { head, body }
    }

    /// Waits for the server to close; gives what came before.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }
}

/// A small Messages request to a model.
pub(crate) fn messages(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":100,"stream":{stream},"messages":[{{"role":"user","content":"Say hello."}}]}}"#
    )
}

/// A small Chat request to a model.
pub(crate) fn chat(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":100,"stream":{stream},"messages":[{{"role":"user","content":"Say hello."}}]}}"#
    )
}

pub(crate) const MESSAGES: &str = "/v1/messages";
pub(crate) const CHAT: &str = "/v1/chat/completions";
