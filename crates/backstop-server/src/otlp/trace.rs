//! Events become spans. Pure: what is known of a run is a fold of its events, and every id comes from what it stands for, so that
//! a restart goes on with the same trace.
//!
//! A run is `invoke_agent` from where it began, or was taken up again, to where it came to rest; below it `chat` for each call with
//! all its attempts, and `execute_tool`. A part that another run does is in the trace of the run it is a part of. A call outside runs
//! is a trace of its own.

use super::span::{Attribute, Kind, Span, SpanId, TraceId};
use Attribute::{Count, Flag, Seconds, Text, Texts};
use backstop_call::{
    AgentName, AttemptRecord, CallId, ModelName, Money, Role, RunId, StopReason, TaskId, Timestamp, Usage,
};
use backstop_journal::event::{
    Asked, CallFailed, CallFinished, RunCreated, RunFinished, ToolFinished, ToolPlanned,
};
use backstop_journal::{Event, EventBody, RunStatus, StreamId};
use std::collections::HashMap;
use std::time::Duration;

/// Runs that are known at a time. One that is not is read again.
const RUNS_MAX: usize = 4_096;

/// What a span hangs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Above {
    /// The trace.
    pub trace: TraceId,
    /// The span it is a part of.
    pub span: Option<SpanId>,
}

/// What is known of the runs that are under way.
#[derive(Debug, Default)]
pub struct Traces {
    runs: HashMap<RunId, Run>,
}

/// What is known of a run. One that is over stays known as long as there is room: runs that did parts for it may be told of later.
#[derive(Debug)]
struct Run {
    agent: AgentName,
    model: ModelName,
    task: TaskId,
    role: Role,
    above: Above,
    /// The span that is open, and since when.
    span: SpanId,
    began: Timestamp,
    /// Whether it came to rest, so that another span opens when it goes on.
    rests: bool,
    usage: Usage,
    cost: Money,
    /// The tools of the calls that are not back, by the ids of these.
    tools: HashMap<String, String>,
}

impl Run {
    fn inside(&self) -> Above {
        Above { trace: self.above.trace, span: Some(self.span) }
    }
}

impl Traces {
    /// Whether a run is known.
    pub fn knows(&self, run: &RunId) -> bool {
        self.runs.contains_key(run)
    }

    /// Gets to know a run by its events up to now. Nothing is told of them: it was told before, or happened when nobody listened.
    pub fn meet<'a>(&mut self, run: &RunId, events: impl IntoIterator<Item = &'a Event>) {
        if self.runs.len() >= RUNS_MAX {
            self.runs.retain(|_, run| !run.rests);
        }
        if self.runs.len() >= RUNS_MAX {
            self.runs.clear();
        }
        for event in events {
            match &event.body {
                EventBody::RunCreated(created) => self.begin(run, created, event.at),
                _ => drop(self.take(event)),
            }
        }
    }

    fn begin(&mut self, run: &RunId, created: &RunCreated, at: Timestamp) {
        let parent = created.parent.as_ref().and_then(|parent| self.runs.get(parent));
        let above =
            parent.map_or_else(|| Above { trace: TraceId::of(run.as_str()), span: None }, Run::inside);
        let run_span = SpanId::of(&format!("{run} 1"));
        let RunCreated { agent, model, task, role, .. } = created.clone();
        let facts = Run {
            agent,
            model,
            task,
            role,
            above,
            span: run_span,
            began: at,
            rests: false,
            usage: Usage::default(),
            cost: Money::ZERO,
            tools: HashMap::new(),
        };
        self.runs.insert(run.clone(), facts);
    }

    /// The spans that end with an event. Of a run that is not known nothing is told.
    pub fn take(&mut self, event: &Event) -> Vec<Span> {
        let StreamId::Run(id) = &event.stream else { return outside(event) };
        let Some(run) = self.runs.get_mut(id) else { return Vec::new() };
        match &event.body {
            EventBody::RunResumed(_) if run.rests => {
                run.span = SpanId::of(&format!("{id} {}", event.seq));
                (run.began, run.rests, run.usage, run.cost) =
                    (event.at, false, Usage::default(), Money::ZERO);
                Vec::new()
            }
            EventBody::ToolPlanned(ToolPlanned { id, tool, .. }) => {
                run.tools.insert(id.clone(), tool.clone());
                Vec::new()
            }
            EventBody::ToolFinished(finished) => vec![tool(id, run, finished, event.at)],
            EventBody::CallFinished(finished) => {
                run.usage.add(&finished.usage);
                run.cost += finished.cost;
                answered(run.inside(), Some(run), finished, event.at)
            }
            EventBody::CallFailed(failed) => {
                run.cost += failed.cost;
                unanswered(run.inside(), Some(run), failed, event.at)
            }
            EventBody::RunFinished(finished) => {
                run.rests = true;
                run.tools.clear();
                vec![whole(id, run, finished, event.at)]
            }
            _ => Vec::new(),
        }
    }
}

/// A call outside runs is a trace of its own.
fn outside(event: &Event) -> Vec<Span> {
    let above = |call: &CallId| Above { trace: TraceId::of(call.as_str()), span: None };
    match &event.body {
        EventBody::CallFinished(finished) => answered(above(&finished.call), None, finished, event.at),
        EventBody::CallFailed(failed) => unanswered(above(&failed.call), None, failed, event.at),
        _ => Vec::new(),
    }
}

fn whole(id: &RunId, run: &Run, finished: &RunFinished, end: Timestamp) -> Span {
    let Run { agent, model, task, role, .. } = run;
    let mut attributes = vec![
        ("gen_ai.operation.name", Text("invoke_agent".to_owned())),
        ("gen_ai.agent.name", Text(agent.to_string())),
        ("gen_ai.conversation.id", Text(id.to_string())),
        ("gen_ai.request.model", Text(model.to_string())),
        ("backstop.run", Text(id.to_string())),
        ("backstop.task", Text(task.to_string())),
        ("backstop.role", Text(role.to_string())),
        ("backstop.run.status", Text(finished.status.as_str().to_owned())),
    ];
    attributes.extend(used(&run.usage, run.cost));
    let failed = !matches!(finished.status, RunStatus::Done | RunStatus::Cancelled);
    if let Some(code) = finished.code.filter(|_| failed) {
        attributes.push(("error.type", Text(code.to_string())));
    }
    Span {
        trace: run.above.trace,
        id: run.span,
        parent: run.above.span,
        name: format!("invoke_agent {agent}"),
        kind: Kind::Internal,
        start: run.began,
        end,
        attributes,
        error: failed.then(|| finished.message.to_string()),
    }
}

fn tool(id: &RunId, run: &mut Run, finished: &ToolFinished, end: Timestamp) -> Span {
    let name = run.tools.remove(&finished.id).unwrap_or_else(|| "unknown".to_owned());
    let mut attributes = vec![
        ("gen_ai.operation.name", Text("execute_tool".to_owned())),
        ("gen_ai.tool.name", Text(name.clone())),
        ("gen_ai.tool.call.id", Text(finished.id.clone())),
    ];
    if finished.is_error {
        attributes.push(("error.type", Text("tool_error".to_owned())));
    }
    if finished.probed {
        attributes.push(("backstop.tool.probed", Flag(true)));
    }
    Span {
        trace: run.above.trace,
        id: SpanId::of(&format!("{id} {}", finished.id)),
        parent: Some(run.span),
        name: format!("execute_tool {name}"),
        kind: Kind::Internal,
        start: end - finished.duration,
        end,
        attributes,
        // What it said may be anything.
        error: finished.is_error.then(|| "the tool failed".to_owned()),
    }
}

fn answered(above: Above, run: Option<&Run>, finished: &CallFinished, end: Timestamp) -> Vec<Span> {
    let CallFinished { call, asked, duration, usage, cost, .. } = finished;
    let mut attributes = asks(call, run, asked.as_ref());
    attributes.push(("gen_ai.provider.name", Text(finished.provider.to_string())));
    attributes.push(("gen_ai.response.model", Text(finished.model.clone())));
    attributes.push(("gen_ai.response.finish_reasons", Texts(vec![reason(&finished.stop)])));
    attributes.extend(used(usage, *cost));
    if let Some(first) = finished.first_token {
        attributes.push(("gen_ai.response.time_to_first_chunk", Seconds(first.as_secs_f64())));
    }
    if let Some(id) = &finished.request_id {
        attributes.push(("backstop.request_id", Text(id.clone())));
    }
    chat(above, (call, *duration, end), attributes, &finished.attempts(), None)
}

fn unanswered(above: Above, run: Option<&Run>, failed: &CallFailed, end: Timestamp) -> Vec<Span> {
    let CallFailed { call, asked, duration, failure, cost, .. } = failed;
    let mut attributes = asks(call, run, asked.as_ref());
    if let Some(provider) = &failure.detail.provider {
        attributes.push(("gen_ai.provider.name", Text(provider.to_string())));
    }
    attributes.push(("error.type", Text(failure.kind.as_str().to_owned())));
    attributes.push(("backstop.code", Text(failure.code().to_string())));
    attributes.push(("backstop.cost.usd_nano", Count(nanos(*cost))));
    let attempts = &failure.detail.attempts;
    chat(above, (call, *duration, end), attributes, attempts, Some(failure.detail.message.to_string()))
}

/// What was asked, and by whom.
fn asks(call: &CallId, run: Option<&Run>, asked: Option<&Asked>) -> Vec<(&'static str, Attribute)> {
    let model = asked.map(|asked| asked.model.to_string()).or_else(|| Some(run?.model.to_string()));
    let mut attributes = vec![
        ("gen_ai.operation.name", Text("chat".to_owned())),
        ("gen_ai.request.model", Text(model.unwrap_or_default())),
        ("backstop.call", Text(call.to_string())),
    ];
    let role = asked.and_then(|asked| asked.role.as_ref()).or_else(|| Some(&run?.role));
    attributes.extend(role.map(|role| ("backstop.role", Text(role.to_string()))));
    let key = asked.and_then(|asked| asked.key.as_ref());
    attributes.extend(key.map(|key| ("backstop.key", Text(key.to_string()))));
    attributes
}

/// A call, and each of its attempts where there were several.
fn chat(
    above: Above,
    (call, duration, end): (&CallId, Duration, Timestamp),
    attributes: Vec<(&'static str, Attribute)>,
    attempts: &[AttemptRecord],
    error: Option<String>,
) -> Vec<Span> {
    let model = attributes.iter().find(|(key, _)| *key == "gen_ai.request.model");
    let model = if let Some((_, Text(model))) = model { model.clone() } else { String::new() };
    let id = SpanId::of(call.as_str());
    let whole = Span {
        trace: above.trace,
        id,
        parent: above.span,
        name: format!("chat {model}"),
        kind: Kind::Client,
        start: end - duration,
        end,
        attributes,
        error,
    };
    let each = attempts.iter().filter(|_| attempts.len() > 1).map(|record| attempt(&whole, call, record));
    let attempts: Vec<_> = each.collect();
    [whole].into_iter().chain(attempts).collect()
}

fn attempt(whole: &Span, call: &CallId, record: &AttemptRecord) -> Span {
    let mut attributes = vec![
        ("gen_ai.provider.name", Text(record.provider.to_string())),
        ("gen_ai.request.model", Text(record.model.clone())),
        ("http.request.resend_count", Count(u64::from(record.attempt.saturating_sub(1)))),
        ("backstop.attempt", Count(u64::from(record.attempt))),
        ("backstop.attempt.waited", Seconds(record.waited.as_secs_f64())),
        ("backstop.cost.usd_nano", Count(nanos(record.cost))),
    ];
    if let Some(kind) = record.failure {
        attributes.push(("error.type", Text(kind.as_str().to_owned())));
    }
    Span {
        trace: whole.trace,
        id: SpanId::of(&format!("{call} {}", record.attempt)),
        parent: Some(whole.id),
        name: format!("attempt {}", record.provider),
        kind: Kind::Client,
        start: record.started,
        end: record.started + record.duration,
        attributes,
        error: record.failure.map(|_| record.message.to_string()),
    }
}

/// Tokens and dollars. A cache's writes have two names: the conventions changed theirs after 1.41.
fn used(usage: &Usage, cost: Money) -> Vec<(&'static str, Attribute)> {
    let rare = [
        ("gen_ai.usage.cache_read.input_tokens", usage.cache_read_tokens),
        ("gen_ai.usage.cache_write.input_tokens", usage.cache_write_tokens),
        ("gen_ai.usage.cache_creation.input_tokens", usage.cache_write_tokens),
        ("gen_ai.usage.reasoning.output_tokens", usage.reasoning_tokens),
    ];
    let mut attributes = vec![
        ("gen_ai.usage.input_tokens", Count(usage.total_input_tokens())),
        ("gen_ai.usage.output_tokens", Count(usage.output_tokens)),
        ("backstop.cost.usd_nano", Count(nanos(cost))),
    ];
    attributes
        .extend(rare.into_iter().filter(|(_, tokens)| *tokens > 0).map(|(key, tokens)| (key, Count(tokens))));
    attributes
}

fn nanos(cost: Money) -> u64 {
    u64::try_from(cost.nanos()).unwrap_or(0)
}

fn reason(stop: &StopReason) -> String {
    match stop {
        StopReason::End => "stop".to_owned(),
        StopReason::ToolUse => "tool_calls".to_owned(),
        StopReason::MaxTokens => "length".to_owned(),
        StopReason::ContextWindow => "context_window".to_owned(),
        StopReason::StopSequence(_) => "stop_sequence".to_owned(),
        StopReason::Refusal => "refusal".to_owned(),
        StopReason::Pause => "pause".to_owned(),
        StopReason::Other(text) => text.clone(),
    }
}
