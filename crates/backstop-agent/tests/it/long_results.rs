//! What a call gives is kept whole, however little of it a model is told at once, and the model can read on in it.

use crate::kit::{Script, agent, results, spoken, task, tool_use};
use backstop_agent::tool::{Job, Whole, spec_of};
use backstop_agent::tools::ReadResult;
use backstop_agent::{Agent, Tool, ToolContext, ToolError, ToolOutput, Toolbox};
use backstop_call::{Block, BoxFuture, ImageSource, Message, StopReason, ToolSpec};
use backstop_journal::event::ToolFinished;
use backstop_journal::{EventBody, Journal, RunStatus, StreamId};
use backstop_label::{Class, Declaration, Effect, Labels, Policy, Rights};
use backstop_store::MemoryStore;
use schemars::JsonSchema;
use serde_json::json;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// So much is told of it.
const TOLD: usize = 100;

/// A tool that gives a text and a picture, of which it tells the beginning.
struct Dig(Declaration);

#[derive(JsonSchema)]
struct Nothing {}

fn text() -> String {
    // More than two parts, and characters of several bytes at the ends of them.
    "€".repeat(50_000)
}

fn picture() -> Block {
    let source = ImageSource::Base64 { media_type: "image/png".into(), data: "AAAA".into() };
    Block::Image { source, cache: None }
}

fn whole() -> Vec<Block> {
    vec![Block::text(text()), picture(), Block::text("the end")]
}

impl Tool for Dig {
    fn spec(&self) -> ToolSpec {
        spec_of::<Nothing>("dig", "Gives much.")
    }

    fn declaration(&self) -> &Declaration {
        &self.0
    }

    fn run<'a>(&'a self, _: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        let told = text()[..99].to_owned();
        let whole = Some(Whole { content: whole(), told_bytes: told.len() });
        Box::pin(async { Ok(ToolOutput { whole, ..ToolOutput::text(told) }) })
    }

    fn has_more(&self) -> bool {
        true
    }
}

type Heard = Arc<Mutex<Vec<Message>>>;

/// An agent that digs, reads on for as long as it is told that there is more, and finishes.
fn digging(journal: &Arc<dyn Journal>, reads_on: bool) -> (Agent, Heard) {
    let heard = Heard::default();
    let kept = Arc::clone(&heard);
    let model = Script(Box::new(move |request| {
        let turn = spoken(request);
        let last = request.messages.last().unwrap();
        kept.lock().unwrap().push(last.clone());
        let said = results(last).pop().unwrap_or_default();
        let call = match said.rsplit_once("from_byte=") {
            _ if turn == 0 => tool_use("c1", "dig", json!({})),
            Some((_, from)) => {
                let from: usize = from.parse().unwrap();
                tool_use(&format!("r{turn}"), "read_result", json!({"call": "c1", "from_byte": from}))
            }
            None => tool_use("end", "finish", json!({"summary": "done"})),
        };
        Ok((vec![call], StopReason::ToolUse))
    }));
    let declaration = Declaration { class: Class::Read, effect: Effect::Read, ..Declaration::undeclared() };
    let mut tools = Toolbox::new();
    tools.add(Dig(declaration)).unwrap();
    if reads_on {
        tools.add(ReadResult::over(Arc::clone(journal))).unwrap();
    }
    (agent(Arc::new(model), Arc::clone(journal), tools), heard)
}

/// What the calls of a run gave, in their order.
async fn ended(journal: &dyn Journal, run: &backstop_call::RunId) -> Vec<ToolFinished> {
    let events = journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let ended = events.into_iter().filter_map(|event| match event.body {
        EventBody::ToolFinished(ended) => Some(ended),
        _ => None,
    });
    ended.collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_too_long_is_kept_whole_and_read_on_to_its_end() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryStore::new());
    let (agent, heard) = digging(&journal, true);
    let run = agent.create(task(Path::new(""), &["dig"])).await.unwrap();
    assert_eq!(agent.drive(&run).await.unwrap().status, RunStatus::Done);
    let ended = ended(&*journal, &run).await;
    assert_eq!(ended[0].whole.read::<Vec<Block>>(), Some(whole()));
    assert!(ended[1..].iter().all(|ended| ended.whole.is_nothing()), "what is read is kept once");
    let heard = heard.lock().unwrap();
    let said: Vec<_> = heard.iter().flat_map(results).collect();
    let parts: Vec<_> = said[..said.len()].iter().map(|said| said.split("\n… ").next().unwrap()).collect();
    let wanted = format!("{}[a picture of 4 bytes as base64]the end", text());
    assert_eq!(parts.concat(), wanted);
    assert_eq!(parts.len(), 4, "the beginning and three parts");
    let first = format!("\n… {} more bytes; ask read_result for call=\"c1\" from_byte=99", wanted.len() - 99);
    assert!(said[0].ends_with(&first), "{}", &said[0][99..]);
    assert!(parts[0].len() <= TOLD);
    // What is read on is no more to be relied on than what it was read from.
    assert!(heard.iter().skip(1).all(|message| message.labels == Labels::untrusted()));
}

#[tokio::test(start_paused = true)]
async fn who_may_not_read_on_is_told_where_the_rest_is() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryStore::new());
    let only = Rights::parse(&serde_json::from_value(json!({"dig": {}})).unwrap()).unwrap();
    let roles = [("writer".to_owned(), only)].into();
    let (bare, _) = digging(&journal, false);
    let (bound, _) = digging(&journal, true);
    let bound = Agent { policy: Arc::new(Policy { roles, ..Policy::default() }), ..bound };
    for agent in [bare, bound] {
        let run = agent.create(task(Path::new(""), &["dig"])).await.unwrap();
        assert_eq!(agent.drive(&run).await.unwrap().status, RunStatus::Done);
        let ended = ended(&*journal, &run).await;
        let told: Vec<Block> = ended[0].result.read().unwrap();
        let note = "\n… 149940 more bytes, which stand in the record of this run and nowhere else";
        assert_eq!(told, [Block::text(&text()[..99]), Block::text(note)]);
        assert_eq!(ended[0].whole.read::<Vec<Block>>(), Some(whole()));
        assert_eq!(ended.len(), 2, "it has dug and finished");
    }
}

#[tokio::test]
async fn only_what_there_is_can_be_read() {
    let journal: Arc<dyn Journal> = Arc::new(MemoryStore::new());
    let (agent, _) = digging(&journal, true);
    let run = agent.create(task(Path::new(""), &["dig"])).await.unwrap();
    agent.drive(&run).await.unwrap();
    let tool = agent.tools.tool("read_result").unwrap();
    let context = |run: &str| ToolContext {
        run: run.into(),
        call: "c".into(),
        workspace: None,
        labels: Labels::default(),
        undone: None,
        rehearsed: None,
    };
    let rows = [
        (run.as_str(), "c1", 150_039, "`c1` gave 150039 bytes; there is nothing from byte 150039."),
        (
            run.as_str(),
            "end",
            0,
            "No call `end` of this run gave more than you were told. Name one whose result ends by saying so.",
        ),
        (
            "another",
            "c1",
            0,
            "No call `c1` of this run gave more than you were told. Name one whose result ends by saying so.",
        ),
    ];
    for (run, call, from_byte, want) in rows {
        let args = json!({"call": call, "from_byte": from_byte});
        let job = Job { args, plan: json!(null), key: "k".into() };
        assert_eq!(tool.run(&job, &context(run)).await, Err(ToolError::Failed(want.to_owned())));
    }
    // In the middle of a character it begins with that.
    let job = Job { args: json!({"call": "c1", "from_byte": 149_999}), plan: json!(null), key: "k".into() };
    let said = tool.run(&job, &context(run.as_str())).await.unwrap();
    assert_eq!(said.content, [Block::text("€[a picture of 4 bytes as base64]the end")]);
}
