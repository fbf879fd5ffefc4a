//! The world of the durable scenarios: a model that answers at once with so many bytes, a tool that does one thing per
//! step, and the file in which both leave a line each time they are run.

use backstop::agent::tool::{Job, Plan, Probe, Tool, ToolContext, ToolError, ToolOutput};
use backstop::call::{
    Block, BoxFuture, Call, Clock, Failure, Model, Reply, Sink, Speaker, StopReason, ToolSpec, Usage,
};
use backstop::label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use backstop::stack::SystemClock;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;

/// The tool of each step.
pub(super) const TOOL: &str = "act";

/// Text of so many bytes that does not compress.
pub(super) fn payload(bytes: usize, seed: u64) -> String {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut text = String::with_capacity(bytes);
    while text.len() < bytes {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        text.push(char::from(b'a' + u8::try_from(x % 26).unwrap_or(0)));
    }
    text
}

/// Nanoseconds since 1970: what several processes tell the same.
pub(super) fn now() -> u128 {
    u128::from(SystemClock::new().now().nanos())
}

/// The file that remembers what was done; none is kept where nobody asks.
#[derive(Debug, Clone, Default)]
pub(super) struct Effects(Option<Arc<File>>);

impl Effects {
    /// Appends to a file.
    pub(super) fn in_file(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).read(true).open(path)?;
        Ok(Self(Some(Arc::new(file))))
    }

    /// One line, in one write: `M` for the model, `E` for the tool.
    fn note(&self, kind: char, task: &str, step: usize) {
        let Some(file) = &self.0 else { return };
        let line = format!("{kind} {task} {step} {} {}\n", std::process::id(), now());
        // A line that cannot be written is a step that is missing, which the count shows.
        drop((&**file).write_all(line.as_bytes()));
    }

    fn has(&self, task: &str, step: usize) -> bool {
        let Some(file) = &self.0 else { return false };
        let mut bytes = Vec::new();
        let length = file.metadata().map_or(0, |file| file.len());
        bytes.resize(usize::try_from(length).unwrap_or(0), 0);
        let read = std::os::unix::fs::FileExt::read_at(&**file, &mut bytes, 0).unwrap_or(0);
        let wanted = format!("E {task} {step} ");
        String::from_utf8_lossy(&bytes[..read]).lines().any(|line| line.starts_with(&wanted))
    }
}

/// A model that does step after step, and ends with the last one.
pub(super) struct Steps {
    pub(super) count: usize,
    pub(super) bytes: usize,
    pub(super) effects: Effects,
}

impl Model for Steps {
    fn call<'a>(&'a self, call: Call, _sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        let messages = &call.request.messages;
        let step = messages.iter().filter(|message| message.speaker == Speaker::Assistant).count();
        let task = messages.first().and_then(|first| first.content.first()?.as_text()).unwrap_or_default();
        self.effects.note('M', task, step);
        let use_tool = |name: &str, input: Value| Block::ToolUse {
            id: format!("{name}-{step}"),
            name: name.to_owned(),
            input,
            cache: None,
        };
        let seed = u64::try_from(step).unwrap_or(0);
        let text = payload(self.bytes, seed);
        let mut content = vec![Block::text(text), use_tool(TOOL, json!({ "task": task, "step": step }))];
        if step + 1 >= self.count {
            content.push(use_tool("finish", json!({ "summary": "done" })));
        }
        let usage = Usage { input_tokens: 1, output_tokens: 1, ..Usage::default() };
        let model = call.request.model.clone();
        Box::pin(async move { Ok(Reply::new(model, content, StopReason::ToolUse, usage)) })
    }
}

/// A tool that writes a line, and can find out whether it has.
pub(super) struct Act {
    declaration: Declaration,
    bytes: usize,
    effects: Effects,
}

impl Act {
    pub(super) fn new(bytes: usize, effects: Effects) -> Self {
        let declaration = Declaration {
            class: Class::Write,
            effect: Effect::Write,
            integrity: Integrity::Trusted,
            confidentiality: Confidentiality::Public,
            args: [("task", ArgRole::Object), ("step", ArgRole::Value)]
                .map(|(name, role)| (name.into(), role))
                .into(),
        };
        Self { declaration, bytes, effects }
    }

    fn said(&self, step: usize) -> ToolOutput {
        let seed = u64::try_from(step + 500).unwrap_or(0);
        let mut text = payload(self.bytes.saturating_sub(8), seed);
        let _ = write!(text, " {step:07}");
        ToolOutput::text(text)
    }
}

fn of(job: &Job) -> (String, usize) {
    let task = job.args["task"].as_str().unwrap_or_default().to_owned();
    (task, job.args["step"].as_u64().and_then(|step| usize::try_from(step).ok()).unwrap_or(0))
}

impl Tool for Act {
    fn spec(&self) -> ToolSpec {
        ToolSpec {
            name: TOOL.to_owned(),
            description: "Does one step.".to_owned(),
            schema: json!({
                "type": "object",
                "properties": { "task": { "type": "string" }, "step": { "type": "integer" } },
                "required": ["task", "step"],
            }),
            other: serde_json::Map::new(),
        }
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(&'a self, _: &'a Value, _: &'a ToolContext) -> BoxFuture<'a, Result<Plan, ToolError>> {
        // That it can be taken back is what keeps it from asking a person each time.
        Box::pin(async { Ok(Plan { undo: Some(Value::Null), ..Plan::default() }) })
    }

    fn run<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        let (task, step) = of(job);
        self.effects.note('E', &task, step);
        Box::pin(async move { Ok(self.said(step)) })
    }

    fn probe<'a>(&'a self, job: &'a Job, _: &'a ToolContext) -> BoxFuture<'a, Probe> {
        let (task, step) = of(job);
        let probe =
            if self.effects.has(&task, step) { Probe::Happened(self.said(step)) } else { Probe::DidNot };
        Box::pin(async move { probe })
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        Some(Arc::new(Self::new(self.bytes, self.effects.clone())))
    }
}
