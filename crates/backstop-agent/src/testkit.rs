//! What the unit tests share: events by hand, without a journal.

use crate::RunState;
use backstop_call::{Block, Failure, Labels, Money, Priority, StopReason, Timestamp, Usage};
use backstop_journal::event::{
    CallFailed, CallFinished, CallStarted, RunClaimed, RunCreated, RunLimits, ToolFinished, ToolPlanned,
    ToolStarted, ToolUnknown,
};
use backstop_journal::{Body, EventBody};
use backstop_label::Class;
use serde_json::Value;
use std::time::Duration;

pub(crate) const START: Timestamp = Timestamp::from_secs(1_800_000_000);

pub(crate) fn created() -> RunCreated {
    RunCreated {
        task: "t1".into(),
        role: "writer".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("be good"),
        message: Body::from("do it"),
        max_tokens: None,
        tools: vec!["read".into(), "write".into()],
        workspace: String::new(),
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

pub(crate) fn claimed() -> EventBody {
    RunClaimed { owner: "p1".into() }.into()
}

pub(crate) fn asked() -> EventBody {
    CallStarted {
        call: "c".into(),
        model: "m".into(),
        turn: 1,
        input_tokens: 1,
        task: None,
        role: None,
        key: None,
        labels: Labels::default(),
    }
    .into()
}

pub(crate) fn answered(content: &[Block], stop: StopReason) -> EventBody {
    CallFinished {
        call: "c".into(),
        turn: 1,
        provider: "p".into(),
        model: "m".into(),
        content: Body::of(&content),
        stop,
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        cost: Money::from_nanos(100),
        duration: Duration::ZERO,
        first_token: None,
        request_id: None,
        attempts: Vec::new().into(),
        labels: Labels::default(),
        asked: None,
        status: None,
    }
    .into()
}

pub(crate) fn tool_use(id: &str, name: &str, input: Value) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input, cache: None }
}

pub(crate) fn call_failed(failure: Failure) -> EventBody {
    CallFailed {
        call: "c".into(),
        turn: 1,
        failure,
        cost: Money::ZERO,
        duration: Duration::ZERO,
        labels: Labels::default(),
        asked: None,
        status: None,
    }
    .into()
}

pub(crate) fn planned(id: &str, tool: &str, class: Class) -> EventBody {
    ToolPlanned {
        id: id.into(),
        tool: tool.into(),
        args: Body::Inline(Value::Null),
        args_hash: None,
        class,
        key: None,
        plan: Body::default(),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: Labels::default(),
    }
    .into()
}

pub(crate) fn started(id: &str, attempt: u32) -> EventBody {
    ToolStarted { id: id.into(), attempt, approval: None }.into()
}

pub(crate) fn finished(id: &str, is_error: bool, text: &str) -> EventBody {
    ToolFinished {
        id: id.into(),
        is_error,
        result: Body::from(text),
        whole: Body::default(),
        labels: Labels::default(),
        duration: Duration::ZERO,
        probed: false,
        spent: None,
    }
    .into()
}

pub(crate) fn unknown(id: &str) -> EventBody {
    ToolUnknown { id: id.into(), reason: "crash".into() }.into()
}

/// Folds these events, one second apart.
pub(crate) fn fold(events: &[EventBody]) -> RunState {
    let mut state = RunState::default();
    for (second, event) in (0..).zip(events) {
        state.take(START + Duration::from_secs(second), event);
    }
    state
}
