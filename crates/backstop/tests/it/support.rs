//! A simulated provider that plays several providers, and a Backstop over them.

use backstop::call::{
    Call, Chunk, Closed, Context, Dialect, Failure, Message, Model, Reply, Request, Sink, Speaker, Timestamp,
    ToolSpec,
};
use backstop::provider::{Auth, BaseUrl, Endpoint, Timeouts};
use backstop::stack::SystemClock;
use backstop::{Backstop, ModelSettings, Settings};
use backstop_sim::{ModelSpec, Scenario, Sim, SimConfig};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

/// A calm simulated provider on a free port.
pub(crate) async fn sim() -> Sim {
    sim_with("calm").await
}

/// A simulated provider under one of the built-in scenarios.
pub(crate) async fn sim_with(scenario: &str) -> Sim {
    let mut config = SimConfig::new(Arc::new(SystemClock::new()));
    config.scenario = Scenario::named(scenario).expect("it is built in");
    Sim::start(config).await.expect("a free loopback port")
}

/// The provider `name` of the sim at this address, in a dialect.
pub(crate) fn endpoint(url: &str, name: &str, dialect: Dialect) -> Endpoint {
    let base = format!("{url}/p/{name}");
    let (base, known) = match dialect {
        Dialect::Messages => (base, "anthropic"),
        Dialect::Chat | Dialect::Responses => (format!("{base}/v1"), "openai"),
    };
    let known = backstop::provider::known_provider(known).expect("it is built in");
    let endpoint = known.endpoint(None).expect("its address is one");
    Endpoint {
        name: name.into(),
        base_url: BaseUrl::parse(&base).expect("a base URL"),
        dialect,
        auth: Auth::None,
        ..endpoint
    }
}

/// The sim's own model at one of its providers, at the sim's own price.
pub(crate) fn model(sim: &Sim, provider: &str, dialect: Dialect) -> ModelSettings {
    let spec = ModelSpec::defaults().remove(0);
    let mut model = ModelSettings::at(
        endpoint(&format!("http://{}", sim.addr()), provider, dialect),
        provider,
        &spec.id,
        Timestamp::EPOCH,
    );
    model.price = spec.price;
    model.context_window = spec.context_tokens;
    model.max_output = 1_000;
    model
}

/// Settings with waits that tests can afford: what is waited for is asserted by the planner's own tests.
pub(crate) fn settings(models: Vec<ModelSettings>) -> Settings {
    let names = models.iter().map(|model| model.name.clone()).collect();
    let mut settings = Settings { models, chains: vec![("chain".into(), names)], ..Settings::default() };
    let attempt = &mut settings.stack.attempt;
    (attempt.base_not_sent_ms, attempt.base_transient_ms) = (1, 1);
    (attempt.base_overloaded_ms, attempt.base_throttled_ms) = (1, 1);
    settings.timeouts = Timeouts { connect_ms: 5_000, first_byte_ms: 1_000, idle_ms: 1_000 };
    settings
}

/// A call of the chain, outside runs.
pub(crate) fn call(backstop: &Backstop, stream: bool) -> Call {
    let messages = vec![Message::text(Speaker::User, "Tell me what you see from where you stand.")];
    let schema = serde_json::json!({"type": "object", "properties": {"path": {"type": "string"}}});
    let tools = vec![ToolSpec {
        name: "list_files".into(),
        description: "Lists the files of a directory.".into(),
        schema,
        other: serde_json::Map::new(),
    }];
    let request = Request {
        model: "chain".into(),
        messages,
        tools: tools.into(),
        max_tokens: Some(500),
        stream,
        ..Request::default()
    };
    Call::new(
        backstop.call_id(),
        Arc::new(request),
        Arc::new(Context::default()),
        backstop.clock().now() + Duration::from_secs(30),
    )
}

/// What a caller of a stream sees.
#[derive(Default)]
pub(crate) struct Seen(pub(crate) Vec<Chunk>);

impl Sink for Seen {
    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Chunk) {
        self.0.push(chunk);
    }
}

impl Seen {
    /// Whether anything that is content came.
    pub(crate) fn content(&self) -> bool {
        self.0.iter().any(Chunk::is_content)
    }

    /// How many messages began and ended.
    pub(crate) fn starts_and_stops(&self) -> (usize, usize) {
        let count = |wanted: fn(&Chunk) -> bool| self.0.iter().filter(|chunk| wanted(chunk)).count();
        (
            count(|chunk| matches!(chunk, Chunk::Start { .. })),
            count(|chunk| matches!(chunk, Chunk::Stop { .. })),
        )
    }
}

/// Makes a call and gives what came of it, with what the caller saw on the way.
pub(crate) async fn ask(backstop: &Backstop, stream: bool) -> (Result<Reply, Failure>, Seen) {
    let mut seen = Seen::default();
    let result = backstop.stack().call(call(backstop, stream), &mut seen).await;
    (result, seen)
}
