//! Runs stream, and nobody sees it: silence is noticed, long answers are not cut, and what broke off is asked for again.

use crate::kit::{Script, file_tools, spoken, task, tool_use};
use crate::stacked::stacked;
use backstop_agent::{Agent, RunOutcome};
use backstop_call::{
    Block, BoxFuture, Call, Chunk, ContentDelta, Failure, FailureKind, Model, Price, Progress, Reply, Sink,
    StopReason, deliver,
};
use backstop_journal::event::{CallFinished, RunCreated, RunLimits};
use backstop_journal::{EventBody, RunStatus, StreamId};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What happens to the first answer.
#[derive(Clone, Copy)]
enum Fate {
    /// It breaks off after some content.
    Cut,
    /// It falls silent after some content.
    Silent,
    /// It comes slowly: a word each so often.
    Slow(Duration),
}

/// A provider that streams: ten words, then the answer of the script. The first one has a fate.
struct Provider {
    script: Script,
    fate: Fate,
    asked: AtomicUsize,
}

impl Provider {
    async fn answer(&self, call: Call, sink: &mut dyn Sink) -> Result<Reply, Failure> {
        assert!(call.request.stream, "a run asks for a stream");
        let first = self.asked.fetch_add(1, Ordering::SeqCst) == 0;
        say(sink, Chunk::Start { id: "m".into(), model: "leaf".into() }).await?;
        say(sink, Chunk::BlockStart { index: 0, block: Block::text("") }).await?;
        for word in 0..10 {
            match self.fate {
                Fate::Cut if first && word == 5 => {
                    let lost = "the stream ended before the answer did";
                    return Err(Failure::new(FailureKind::Transient, Progress::ResponseStarted, lost));
                }
                Fate::Silent if first && word == 5 => std::future::pending().await,
                Fate::Slow(pause) if first => tokio::time::sleep(pause).await,
                _ => {}
            }
            let delta = ContentDelta::Text("half a thought ".into());
            say(sink, Chunk::Delta { index: 0, delta }).await?;
        }
        self.script.call(call, sink).await
    }
}

async fn say(sink: &mut dyn Sink, chunk: Chunk) -> Result<(), Failure> {
    let gone = |_| Failure::new(FailureKind::Cancelled, Progress::ResponseStarted, "the reader went away");
    deliver(sink, chunk).await.map_err(gone)
}

impl Model for Provider {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        Box::pin(self.answer(call, sink))
    }
}

/// A run that writes one file; the first answer of its provider has this fate. Its outcome, its answered calls, and how
/// often the provider was asked.
async fn run(fate: Fate) -> (RunOutcome, Vec<CallFinished>, usize) {
    let dir = tempfile::tempdir().unwrap();
    let script = Script(Box::new(|request| {
        let call = match spoken(request) {
            0 => tool_use("w", "write_file", json!({"path": "a", "content": "a"})),
            _ => tool_use("f", "finish", json!({"summary": "done"})),
        };
        assert!(
            !format!("{request:?}").contains("half a thought"),
            "what broke off is not in the conversation"
        );
        Ok((vec![call], StopReason::ToolUse))
    }));
    let provider = Arc::new(Provider { script, fate, asked: AtomicUsize::new(0) });
    let agent: Agent = stacked(Arc::clone(&provider) as _, Price::FREE, file_tools());
    let limits = RunLimits { time: Duration::from_hours(1), ..RunLimits::default() };
    let id = agent.create(RunCreated { limits, ..task(dir.path(), &["write_file"]) }).await.unwrap();
    let outcome = agent.drive(&id).await.unwrap();
    assert_eq!(std::fs::read_to_string(dir.path().join("a")).unwrap(), "a");
    let answered = agent.journal.read(&StreamId::Run(id), 0).await.unwrap().into_iter();
    let answered = answered.filter_map(|event| match event.body {
        EventBody::CallFinished(finished) => Some(finished),
        _ => None,
    });
    (outcome, answered.collect(), provider.asked.load(Ordering::SeqCst))
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_after_content_is_asked_for_again_and_the_run_does_not_notice() {
    for (fate, failure) in [(Fate::Cut, FailureKind::Transient), (Fate::Silent, FailureKind::UnknownOutcome)]
    {
        let (outcome, calls, asked) = run(fate).await;
        assert_eq!((outcome.status, outcome.turns, asked), (RunStatus::Done, 2, 3), "{outcome:?}");
        let story: Vec<_> = calls[0].attempts().iter().map(|a| (a.failure, a.progress)).collect();
        let begun = Progress::ResponseStarted;
        assert_eq!(story, [(Some(failure), begun), (None, begun)]);
        let long = Duration::from_secs(62);
        assert!(calls[0].duration < long, "silence is noticed within a minute: {:?}", calls[0].duration);
    }
}

/// 50 s between two words and 500 s in all: longer than any single wait that is allowed, and whole.
#[tokio::test(start_paused = true)]
async fn an_answer_may_take_as_long_as_it_keeps_coming() {
    let (outcome, calls, asked) = run(Fate::Slow(Duration::from_secs(50))).await;
    assert_eq!((outcome.status, asked), (RunStatus::Done, 2), "{outcome:?}");
    assert_eq!(calls[0].attempts().len(), 1);
    assert!(calls[0].duration >= Duration::from_secs(500), "{:?}", calls[0].duration);
}
