//! A planted secret gets through nowhere: not to the leaf, not to the reader, not into an event.

use crate::bench::{Act, Script, bench_with, failure, target};
use backstop_call::{
    Block, DocumentSource, Failure, FailureKind, Message, Progress, Request, Secret, Speaker,
};
use backstop_journal::StreamId;
use backstop_stack::Config;
use serde_json::json;
use std::sync::Arc;

const CANARY: &str = "canary-7f3Kq9ZsLw";

#[tokio::test(start_paused = true)]
async fn a_canary_is_seen_nowhere() {
    let quoted = |kind| Failure::new(kind, Progress::ResponseStarted, format!("bad key {CANARY}"));
    let mut told = failure(FailureKind::Overloaded, Progress::ResponseStarted);
    told.detail.message = format!("request {CANARY} failed").into();
    let answer = "the key is canary-7f3Kq9ZsLw, keep it";
    let script = Script::new([Act::Fail(told), Act::Answer(answer), Act::Fail(quoted(FailureKind::Invalid))]);
    let secrets = vec![Secret::new(CANARY)];
    let bench = bench_with(vec![target("a", script.clone())], None, Config::default(), secrets);

    let mut call = bench.call(true);
    let used =
        Block::ToolUse { id: "t".into(), name: "f".into(), input: json!({"k": [CANARY]}), cache: None };
    let result = Block::ToolResult {
        id: "t".into(),
        content: vec![Block::text(CANARY)],
        is_error: false,
        cache: None,
    };
    let document = |source| Block::Document { source, name: Some(format!("{CANARY}.pdf")), cache: None };
    let message = |speaker, block| Message { content: [block].into(), ..Message::text(speaker, "") };
    call.request = Arc::new(Request {
        system: [Block::text(format!("the password is {CANARY}"))].into(),
        messages: vec![
            Message::text(Speaker::User, "hi"),
            message(Speaker::Assistant, used),
            message(Speaker::User, result),
            message(Speaker::User, document(DocumentSource::Text(format!("notes: {CANARY}")))),
            message(Speaker::User, document(DocumentSource::Url(format!("https://a.example/?key={CANARY}")))),
        ],
        ..Request::clone(&call.request)
    });
    let (answered, reader) = bench.ask(call.clone()).await;
    let reply = answered.unwrap();
    assert_eq!(reply.text(), "the key is [REDACTED:secret], keep it");
    assert_eq!(reader.text(), reply.text());
    let refused = bench.ask(call).await.0.unwrap_err();

    let sent = format!("{:?}", script.seen.lock().unwrap());
    let events = format!("{:?}", bench.events(StreamId::Calls).await);
    assert!(events.contains("bad key [REDACTED:secret]"));
    for (name, text) in [
        ("sent", sent),
        ("events", events),
        ("reply", format!("{reply:?}")),
        ("chunks", format!("{:?}", reader.0)),
        ("failure", format!("{refused:?}")),
    ] {
        assert!(!text.contains(CANARY), "{name}: {text}");
    }
}
