//! What a tool is. A tool is a plain function with typed arguments ([`function`]), or an implementation of [`Tool`]
//! where it can plan and probe its effect.
//!
//! A tool decides nothing about when it runs again: that is the declaration's class and the effect protocol in
//! [`crate::run`].

use crate::Workspace;
use backstop_call::{Block, BoxFuture, ImageSource, RunId, ToolSpec};
use backstop_label::{Declaration, Effect, Labels};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;

/// Something the model can call.
pub trait Tool: Send + Sync {
    /// What the model is told of it. Its arguments are checked against the schema before anything else is asked of it.
    fn spec(&self) -> ToolSpec;

    /// What policy and recovery need to know.
    fn declaration(&self) -> &Declaration;

    /// Works out what the call would do, changing nothing. What it gives is durable before [`Tool::run`] begins.
    fn plan<'a>(
        &'a self,
        _args: &'a Value,
        _context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async { Ok(Plan::default()) })
    }

    /// Does it. `job.key` is the same at every attempt of one call.
    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>>;

    /// Finds out whether a call that was started took effect. Without one, nobody knows.
    fn probe<'a>(&'a self, _job: &'a Job, _context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        Box::pin(async { Probe::Unsure("the tool has no way to find out".to_owned()) })
    }

    /// The tool that takes a call of this one back. Its arguments are what [`Plan::undo`] said; its plan fails when the
    /// world is no longer as the call left it. No model is told of it. Without one, nothing can be taken back.
    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        None
    }

    /// What a dry run does with a call that changes something.
    fn rehearsal(&self) -> Rehearsal {
        Rehearsal::Noted
    }

    /// Whether it may give more than a model is told at once ([`ToolOutput::whole`]). Who may call such a tool may read on.
    fn has_more(&self) -> bool {
        false
    }
}

/// A tool that is shared is a tool.
impl<T: Tool + ?Sized> Tool for Arc<T> {
    fn spec(&self) -> ToolSpec {
        (**self).spec()
    }

    fn declaration(&self) -> &Declaration {
        (**self).declaration()
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        (**self).plan(args, context)
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        (**self).run(job, context)
    }

    fn probe<'a>(&'a self, job: &'a Job, context: &'a ToolContext) -> BoxFuture<'a, Probe> {
        (**self).probe(job, context)
    }

    fn undoing(&self) -> Option<Arc<dyn Tool>> {
        (**self).undoing()
    }

    fn rehearsal(&self) -> Rehearsal {
        (**self).rehearsal()
    }

    fn has_more(&self) -> bool {
        (**self).has_more()
    }
}

/// What a dry run does with a call. A [`Class::Read`](backstop_label::Class::Read) is made all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rehearsal {
    /// Makes it: the run works on a copy of its workspace, and the call changes nothing outside of that.
    OnCopy,
    /// Notes it, and tells the model that it was only noted: it reaches something that there is no copy of.
    Noted,
}

/// A call as it is dispatched: the same at every attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The arguments, valid by the schema.
    pub args: Value,
    /// What [`Tool::plan`] gave: [`Plan::body`].
    pub plan: Value,
    /// The idempotency key.
    pub key: String,
}

/// Where a call is made.
#[derive(Debug, Clone)]
pub struct ToolContext {
    /// The run.
    pub run: RunId,
    /// The id of the tool call.
    pub call: String,
    /// The directory the run works in; `None` when it has none.
    pub workspace: Option<Arc<Workspace>>,
    /// The labels of what the arguments were made from.
    pub labels: Labels,
    /// In an undo: what the call that is taken back had said.
    pub undone: Option<String>,
    /// Where a plan is carried out: what [`Tool::plan`] gave for this call in the dry run ([`Plan::body`]). The call must come
    /// out the same, so what would differ each time, a date, is taken from there.
    pub rehearsed: Option<Value>,
}

/// What a call would do.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plan {
    /// What the tool needs to run, probe or undo it, in a shape of its own.
    pub body: Value,
    /// What it changes, by a name of the tool's choice (a path). A second call of the same turn that changes the same
    /// is planned only after the first is done. `None` when planning looks at nothing that another call can change.
    pub touches: Option<String>,
    /// What a person is shown before they say yes: the diff, the message, the command. The tool writes it from what it
    /// would do, never from what the model says about it. Empty shows the arguments alone.
    pub preview: String,
    /// The arguments for [`Tool::undoing`], with all that is needed to put things back as they are now. `None` when this
    /// call cannot be taken back.
    pub undo: Option<Value>,
    /// How far this very call reaches, when that is further than the tool declares.
    pub effect: Option<Effect>,
}

/// What a tool gives back.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ToolOutput {
    /// What the model is told.
    pub content: Vec<Block>,
    /// Labels beside those that the declaration and the arguments give it.
    pub labels: Labels,
    /// All that it gave, where that is too much to be told at once. It is kept with the run, and a model that may can read on.
    pub whole: Option<Whole>,
}

/// All that a call gave, of which a model is told the beginning.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// All of it.
    pub content: Vec<Block>,
    /// How much of it the model is told, in bytes of what [`spelled`] makes of it.
    pub told_bytes: usize,
}

/// Blocks as one text: what a model reads on in, and what places in it are counted by.
pub fn spelled(content: &[Block]) -> String {
    content.iter().map(spelled_one).collect()
}

fn spelled_one(block: &Block) -> Cow<'_, str> {
    match block {
        Block::Text { text, .. } => Cow::Borrowed(text),
        Block::Image { source: ImageSource::Base64 { data, .. }, .. } => {
            Cow::Owned(format!("[a picture of {} bytes as base64]", data.len()))
        }
        // No tool gives anything else back.
        _ => Cow::Borrowed(""),
    }
}

impl ToolOutput {
    /// A text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { content: vec![Block::text(text)], ..Self::default() }
    }
}

impl From<String> for ToolOutput {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// A call that gave no result. The text is for the model: what was wrong and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// It failed, and nothing was changed.
    #[error("{0}")]
    Failed(String),
    /// It may have taken effect: the same case as a crash.
    #[error("{0}")]
    Unknown(String),
}

/// What a probe found out.
#[derive(Debug, Clone, PartialEq)]
pub enum Probe {
    /// It took effect, with this result.
    Happened(ToolOutput),
    /// It did not.
    DidNot,
    /// It cannot tell, and why.
    Unsure(String),
}

/// A tool from a plain function over typed arguments. The schema is made from the type; the doc comments of its fields
/// are what the model reads about them.
pub fn function<A, F>(name: &str, description: &str, declaration: Declaration, run: F) -> impl Tool
where
    A: DeserializeOwned + JsonSchema + Send + Sync + 'static,
    F: Fn(A, ToolContext, String) -> BoxFuture<'static, Result<ToolOutput, ToolError>> + Send + Sync,
{
    Function { spec: spec_of::<A>(name, description), declaration, run, args: PhantomData }
}

/// What the model is told of a tool whose arguments are an `A`.
pub fn spec_of<A: JsonSchema>(name: &str, description: &str) -> ToolSpec {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<A>();
    schema.remove("title");
    schema.remove("description");
    ToolSpec {
        name: name.to_owned(),
        description: description.to_owned(),
        schema: schema.to_value(),
        other: serde_json::Map::new(),
    }
}

/// Reads arguments that have passed the schema.
pub fn read_args<A: DeserializeOwned>(args: &Value) -> Result<A, ToolError> {
    A::deserialize(args).map_err(|error| ToolError::Failed(format!("The arguments cannot be read: {error}.")))
}

struct Function<A, F> {
    spec: ToolSpec,
    declaration: Declaration,
    run: F,
    args: PhantomData<fn() -> A>,
}

impl<A, F> Tool for Function<A, F>
where
    A: DeserializeOwned + Send + Sync + 'static,
    F: Fn(A, ToolContext, String) -> BoxFuture<'static, Result<ToolOutput, ToolError>> + Send + Sync,
{
    fn spec(&self) -> ToolSpec {
        self.spec.clone()
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        match read_args(&job.args) {
            Ok(args) => (self.run)(args, context.clone(), job.key.clone()),
            Err(error) => Box::pin(async { Err(error) }),
        }
    }
}
