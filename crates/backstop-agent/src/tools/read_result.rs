//! `read_result`: reads on in what a call of this run gave, where that was too much to be told at once. Reads the run's own
//! journal, and no other.

use super::READ_RESULT;
use super::files::declaration;
use crate::tool::{Job, Tool, ToolContext, ToolError, ToolOutput, read_args, spec_of, spelled};
use backstop_call::{Block, BoxFuture, ToolSpec};
use backstop_journal::{Body, EventBody, Journal, StreamId};
use backstop_label::{ArgRole, Class, Declaration, Effect, Labels};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// The most bytes that are shown at once.
const SHOWN_MAX_BYTES: usize = 64 * 1024;

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Args {
    /// The call, as the end of its result names it.
    call: String,
    /// The first byte that is wanted, from 0.
    from_byte: usize,
}

/// The tool.
pub struct ReadResult {
    journal: Arc<dyn Journal>,
    declaration: Declaration,
}

impl ReadResult {
    /// The tool for runs that are kept in this journal.
    pub fn over(journal: Arc<dyn Journal>) -> Self {
        let roles = [("call", ArgRole::Object), ("from_byte", ArgRole::Value)];
        Self { journal, declaration: declaration(Class::Read, Effect::Read, &roles) }
    }

    async fn read(&self, args: &Value, context: &ToolContext) -> Result<ToolOutput, ToolError> {
        let args: Args = read_args(args)?;
        let events = self.journal.read(&StreamId::Run(context.run.clone()), 0).await;
        let events =
            events.map_err(|error| ToolError::Failed(format!("The record cannot be read: {error}.")))?;
        let whole = events.iter().rev().find_map(|event| match &event.body {
            EventBody::ToolFinished(ended) if ended.id == args.call => Some((&ended.whole, &ended.labels)),
            _ => None,
        });
        match whole {
            Some((whole, labels)) if !whole.is_nothing() => part(whole, labels, &args),
            _ => Err(ToolError::Failed(format!(
                "No call `{}` of this run gave more than you were told. Name one whose result ends by saying so.",
                args.call
            ))),
        }
    }
}

fn part(whole: &Body, labels: &Labels, args: &Args) -> Result<ToolOutput, ToolError> {
    let Args { call, from_byte } = args;
    let Some(content) = whole.read::<Vec<Block>>() else {
        return Err(ToolError::Failed(format!("What `{call}` gave was erased.")));
    };
    let text = spelled(&content);
    if *from_byte >= text.len() {
        let all = text.len();
        return Err(ToolError::Failed(format!(
            "`{call}` gave {all} bytes; there is nothing from byte {from_byte}."
        )));
    }
    let from = text.floor_char_boundary(*from_byte);
    let to = text.floor_char_boundary(from.saturating_add(SHOWN_MAX_BYTES));
    let mut shown = text[from..to].to_owned();
    if to < text.len() {
        shown.push_str(&more(call, to, text.len() - to));
    }
    Ok(ToolOutput { labels: labels.clone(), ..ToolOutput::text(shown) })
}

/// How to go on from this byte of a result, which has so many more.
pub(crate) fn more(call: &str, from_byte: usize, bytes: usize) -> String {
    format!("\n… {bytes} more bytes; ask {READ_RESULT} for call={call:?} from_byte={from_byte}")
}

impl Tool for ReadResult {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>(
            READ_RESULT,
            "Read on in what a call gave that was too long: its result then ends by saying how to ask for the next part.",
        )
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(self.read(&job.args, context))
    }
}
