//! One call through the whole stack, without an agent: what a program uses that has a loop of its own.

use backstop::call::{Block, BoxFuture, Call, Context, Discard, Failure, FailureKind, Message, Model};
use backstop::call::{Price, Progress, Reply, Request, Sink, Speaker, StopReason, Timestamp, Usage};
use backstop::{Backstop, Leaf, ModelSettings, Settings};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Has no room at its first two calls.
#[derive(Default)]
struct Busy(AtomicU32);

impl Model for Busy {
    fn call<'a>(&'a self, _: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let nth = self.0.fetch_add(1, Ordering::Relaxed);
        let usage = Usage { input_tokens: 5, output_tokens: 1, ..Usage::default() };
        Box::pin(async move {
            if nth < 2 {
                return Err(Failure::new(FailureKind::Transient, Progress::NotSent, "connection refused"));
            }
            Ok(Reply::new("busy-1", vec![Block::text("4")], StopReason::End, usage))
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let model = ModelSettings {
        name: "busy".into(),
        id: "busy-1".into(),
        leaf: Leaf::Model("here".into(), Arc::new(Busy::default())),
        place: backstop::label::ModelPlace::Local,
        price: Price::FREE,
        context_window: 1_000,
        max_output: 100,
        hidden_output: false,
        limits: backstop::stack::Limits::default(),
    };
    let backstop = Backstop::open(Settings { models: vec![model], ..Settings::default() }).await?;
    let messages = vec![Message::text(Speaker::User, "What is 2 + 2?")];
    let request = Arc::new(Request { model: "busy".into(), messages, ..Request::default() });
    let call = Call::new(backstop.call_id(), request, Arc::new(Context::default()), Timestamp::FAR);
    let reply = backstop.stack().call(call, &mut Discard).await?;
    assert_eq!((reply.text().as_str(), reply.attempts.len()), ("4", 3));
    Ok(())
}
