//! What the tests share: a scripted model, a clock on tokio's time, and tools that leave traces.

pub(crate) use crate::deadly::Watched;
use backstop_agent::tool::{Job, Plan, Probe, Tool, ToolContext, ToolError, ToolOutput, spec_of};
use backstop_agent::tools::add_file_tools;
use backstop_agent::{Agent, AgentConfig, Toolbox};
use backstop_call::{
    Block, BoxFuture, Call, Clock, Failure, Model, Priority, Reply, Request, Seed, Sink, StopReason,
    Timestamp, ToolSpec, Usage,
};
use backstop_journal::event::{RunCreated, RunLimits};
use backstop_journal::{Body, Journal};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity, Labels};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Tokio's time, so that it can be paused.
pub(crate) struct TestClock(tokio::time::Instant);

impl TestClock {
    pub(crate) fn new() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_800_000_000) + self.0.elapsed()
    }
}

type Answer = Result<(Vec<Block>, StopReason), Failure>;

/// A model that answers as a function of what it is sent.
pub(crate) struct Script(pub(crate) Box<dyn Fn(&Request) -> Answer + Send + Sync>);

impl Model for Script {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let answer = (self.0)(&call.request);
        Box::pin(async move {
            let (content, stop) = answer?;
            Ok(Reply {
                id: "m".into(),
                model: "scripted".into(),
                content,
                stop,
                usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
                first_token: None,
                request_id: None,
                limits: backstop_call::LimitHint::default(),
                attempts: Vec::new(),
                other: serde_json::Map::new(),
                told: None,
                lost: Vec::new(),
            })
        })
    }
}

/// A model that takes the turns one after the other, by how often it has spoken.
pub(crate) fn turns(turns: Vec<Vec<Block>>) -> Arc<Script> {
    Arc::new(Script(Box::new(move |request| {
        let turn = spoken(request);
        let content =
            turns.get(turn).cloned().unwrap_or_else(|| vec![Block::text("I do not know what to do")]);
        let stop = if content.iter().any(|block| matches!(block, Block::ToolUse { .. })) {
            StopReason::ToolUse
        } else {
            StopReason::End
        };
        Ok((content, stop))
    })))
}

/// How often the model has spoken.
pub(crate) fn spoken(request: &Request) -> usize {
    request.messages.iter().filter(|message| message.speaker == backstop_call::Speaker::Assistant).count()
}

/// The results in a message, in order, failed ones with a mark.
pub(crate) fn results(message: &backstop_call::Message) -> Vec<String> {
    let text = |blocks: &[Block]| blocks.iter().filter_map(Block::as_text).collect::<String>();
    let result = |block: &Block| match block {
        Block::ToolResult { content, is_error: true, .. } => Some(format!("ERROR {}", text(content))),
        Block::ToolResult { content, .. } => Some(text(content)),
        _ => None,
    };
    message.content.iter().filter_map(result).collect()
}

pub(crate) fn tool_use(id: &str, name: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input, cache: None }
}

pub(crate) fn task(workspace: &Path, tools: &[&str]) -> RunCreated {
    RunCreated {
        task: "t1".into(),
        role: "writer".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("be good"),
        message: Body::from("do it"),
        max_tokens: None,
        tools: tools.iter().map(ToString::to_string).collect(),
        workspace: workspace.to_str().unwrap().to_owned(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
}

pub(crate) fn agent(model: Arc<dyn Model>, journal: Arc<dyn Journal>, tools: Toolbox) -> Agent {
    Agent {
        model,
        journal,
        clock: Arc::new(TestClock::new()),
        seed: Arc::new(Seed::new(7)),
        tools,
        policy: Arc::default(),
        draining: Arc::default(),
        keeps: Arc::new(|_| true),
        config: AgentConfig::default(),
    }
}

pub(crate) fn file_tools() -> Toolbox {
    let mut tools = Toolbox::new();
    add_file_tools(&mut tools).unwrap();
    tools
}

pub(crate) fn declared(class: Class, effect: Effect) -> Declaration {
    Declaration {
        class,
        effect,
        args: [("line".to_owned(), ArgRole::Content)].into(),
        integrity: Integrity::Trusted,
        confidentiality: Confidentiality::Public,
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LineArgs {
    pub(crate) line: String,
}

type Run = Box<dyn Fn(&Job) -> BoxFuture<'static, Result<ToolOutput, ToolError>> + Send + Sync>;

/// A tool over one line, as the test wants it.
pub(crate) struct LineTool {
    pub(crate) name: &'static str,
    pub(crate) declaration: Declaration,
    pub(crate) run: Run,
    pub(crate) probe: fn() -> Probe,
}

impl Tool for LineTool {
    fn spec(&self) -> ToolSpec {
        spec_of::<LineArgs>(self.name, "A tool of the test.")
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(&'a self, _: &'a Value, _: &'a ToolContext) -> BoxFuture<'a, Result<Plan, ToolError>> {
        // As a tool would that can be taken back: what may be done without a yes is another test's subject.
        Box::pin(async { Ok(Plan { undo: Some(Value::Null), ..Plan::default() }) })
    }

    fn run<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        (self.run)(job)
    }

    fn probe<'a>(&'a self, _: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async { (self.probe)() })
    }
}

pub(crate) fn unsure() -> Probe {
    Probe::Unsure("nobody looked".into())
}

pub(crate) const SECOND: Duration = Duration::from_secs(1);
