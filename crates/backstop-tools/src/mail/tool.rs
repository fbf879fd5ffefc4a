//! The tool: what it declares, plans and does.

use super::deliver::deliver;
use super::grant::Granted;
use super::message::{Args, Attached, Draft};
use backstop_agent::tool::{Job, read_args, spec_of};
use backstop_agent::{Plan, Tool, ToolContext, ToolError, ToolOutput};
use backstop_call::{BoxFuture, ToolSpec};
use backstop_label::{ArgRole, Class, Confidentiality, Declaration, Effect, Integrity};
use serde_json::Value;
use std::sync::Arc;

pub(super) struct SendEmail {
    granted: Arc<Granted>,
    declaration: Declaration,
}

impl SendEmail {
    pub(super) fn new(granted: Granted) -> Self {
        let args = [
            ("to", ArgRole::Sink),
            ("cc", ArgRole::Sink),
            ("bcc", ArgRole::Sink),
            ("subject", ArgRole::Content),
            ("body", ArgRole::Content),
            ("attachments", ArgRole::Object),
        ];
        let declaration = Declaration {
            class: Class::Irreversible,
            effect: Effect::External,
            args: args.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect(),
            // What a server says when it refuses is not the owner's text.
            integrity: Integrity::Untrusted,
            confidentiality: Confidentiality::Public,
        };
        Self { granted: Arc::new(granted), declaration }
    }

    /// The message, with its attachments as they are now.
    async fn draft(&self, args: &Value, context: &ToolContext) -> Result<Draft, ToolError> {
        let args: Args = read_args(args)?;
        let (granted, workspace) = (Arc::clone(&self.granted), context.workspace.clone());
        let read = tokio::task::spawn_blocking(move || Draft::read(&granted, args, workspace.as_deref()));
        let read =
            read.await.map_err(|error| ToolError::Failed(format!("The mail tool crashed: {error}.")))?;
        read.map_err(ToolError::Failed)
    }
}

impl Tool for SendEmail {
    fn spec(&self) -> ToolSpec {
        spec_of::<Args>("send_email", "Send one plain text email. It cannot be taken back.")
    }

    fn declaration(&self) -> &Declaration {
        &self.declaration
    }

    fn plan<'a>(
        &'a self,
        args: &'a Value,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<Plan, ToolError>> {
        Box::pin(async move {
            let draft = self.draft(args, context).await?;
            let (_, message) = draft.message(&self.granted.from, "").map_err(ToolError::Failed)?;
            if message.len() as u64 > self.granted.max_bytes {
                return Err(ToolError::Failed(format!(
                    "The message has {} bytes, more than the {} that may be sent. Make it shorter.",
                    message.len(),
                    self.granted.max_bytes
                )));
            }
            let body = serde_json::to_value(draft.attached())
                .map_err(|error| ToolError::Failed(format!("The plan cannot be written down: {error}.")))?;
            Ok(Plan { body, preview: draft.preview(&self.granted.from), ..Plan::default() })
        })
    }

    fn run<'a>(
        &'a self,
        job: &'a Job,
        context: &'a ToolContext,
    ) -> BoxFuture<'a, Result<ToolOutput, ToolError>> {
        Box::pin(async move {
            let planned: Vec<Attached> = read_args(&job.plan)?;
            let draft = self.draft(&job.args, context).await?;
            if draft.attached() != planned {
                return Err(ToolError::Failed(
                    "An attachment was changed since it was shown; nothing was sent. Look at it, then decide.".to_owned(),
                ));
            }
            let (envelope, message) =
                draft.message(&self.granted.from, &job.key).map_err(ToolError::Failed)?;
            deliver(&self.granted, &envelope, &message).await?;
            let recipients = draft.recipients();
            let recipients: Vec<&str> = recipients.iter().map(AsRef::as_ref).collect();
            Ok(ToolOutput::text(format!("The mail server took the message for {}.", recipients.join(", "))))
        })
    }
}
