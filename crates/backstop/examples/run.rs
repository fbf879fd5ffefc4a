//! Do a task: a model, a directory, a budget, and a result.
//!
//! The model here is a few lines of Rust; with `ModelSettings::at(endpoint, ..)` it is a provider over HTTP.

use backstop::call::{Block, BoxFuture, Call, Failure, Model, Money, Price, Reply, Sink, StopReason, Usage};
use backstop::{Backstop, Leaf, ModelSettings, Settings, Task};
use std::error::Error;
use std::sync::Arc;

/// Writes a greeting, then finishes.
struct Greeter;

impl Model for Greeter {
    fn call<'a>(&'a self, call: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let (name, input) = match call.request.messages.len() {
            1 => ("write_file", serde_json::json!({"path": "hello.txt", "content": "Hello\n"})),
            _ => ("finish", serde_json::json!({"summary": "wrote hello.txt", "result": "hello.txt"})),
        };
        let id = format!("call-{}", call.request.messages.len());
        let content = vec![Block::ToolUse { id, name: name.into(), input, cache: None }];
        let usage = Usage { input_tokens: 100, output_tokens: 20, ..Usage::default() };
        Box::pin(async move { Ok(Reply::new("greeter-1", content, StopReason::ToolUse, usage)) })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let greeter = ModelSettings {
        name: "greeter".into(),
        id: "greeter-1".into(),
        leaf: Leaf::Model("here".into(), Arc::new(Greeter)),
        place: backstop::label::ModelPlace::Local,
        price: Price { input: Money::from_dollars(3), output: Money::from_dollars(15), ..Price::FREE },
        context_window: 10_000,
        max_output: 1_000,
        hidden_output: false,
        limits: backstop::stack::Limits::default(),
    };
    let backstop = Backstop::open(Settings { models: vec![greeter], ..Settings::default() }).await?;

    let workspace = tempfile::tempdir()?;
    let mut task = Task::new("greeter", "Write a greeting to hello.txt.");
    task.workspace = workspace.path().to_owned();
    task.limits.cost = Some("0.10".parse()?);
    let result = backstop.run(task).await?;

    assert_eq!(std::fs::read_to_string(workspace.path().join("hello.txt"))?, "Hello\n");
    assert_eq!((result.content.as_str(), result.turns), ("hello.txt", 2));
    assert_eq!(result.cost.to_string(), "$0.0012");
    Ok(())
}
