//! The REST API: questions as JSON, and answers to them. Whoever asks needs a key that approves; without it all paths look
//! the same.

use super::Act;
use super::desk::{By, Card, Decision, Going, Standing};
use super::refused::Refused;
use crate::gateway::answer::{self, Reply};
use crate::gateway::context;
use crate::gateway::visit::Visit;
use backstop_agent::run::Preview;
use backstop_call::Code;
use backstop_journal::event::ApprovalDecision;
use http::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};

/// The way by which answers of the API come.
pub(super) const CHANNEL: &str = "api";

/// What is sent with a no.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deny {
    #[serde(default)]
    reason: String,
}

/// What is sent to see what other arguments would do.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Try {
    args: Value,
}

/// What is sent with other arguments.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    args: Value,
    preview_hash: String,
    #[serde(default)]
    reason: String,
}

impl Visit {
    /// Answers a request of the API.
    pub(crate) async fn api(self, act: Act, body: Incoming) -> Reply {
        match self.api_answer(act, body).await {
            Ok(body) => answer::json(StatusCode::OK, &body),
            Err(refused) => refused.reply(),
        }
    }

    async fn api_answer(&self, act: Act, body: Incoming) -> Result<Value, Refused> {
        let secret = context::secret(&self.head.headers);
        let admitted = self.approver(secret)?;
        let (name, approval) = (admitted.key().name().as_str(), self.name());
        let desk = &self.gateway.approvals.desk;
        let decision = match act {
            Act::List => {
                let open = desk.open().await?;
                let all: Vec<_> = open.iter().map(|card| card_json(card, None)).collect();
                return Ok(json!({"approvals": all}));
            }
            Act::Show => {
                let card = desk.find(approval).await?;
                return Ok(card_json(&card, desk.going(&card.run).await?));
            }
            Act::Preview => {
                let Try { args } = read(&self.body(body).await?)?;
                let (_, preview) = desk.preview(approval, &args).await?;
                return Ok(preview_json(&preview));
            }
            Act::Approve => Decision::Approve,
            Act::Deny => {
                let sent = self.body(body).await?;
                let Deny { reason } =
                    if sent.is_empty() { Deny { reason: String::new() } } else { read(&sent)? };
                Decision::Deny { reason }
            }
            Act::Edit => {
                let Edit { args, preview_hash, reason } = read(&self.body(body).await?)?;
                Decision::Edit { args, preview_hash, reason }
            }
        };
        let card = desk.decide(approval, &decision, By { name, channel: CHANNEL }).await?;
        Ok(card_json(&card, desk.going(&card.run).await?))
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| {
        let message = format!("the body is not what is wanted here: {error}");
        Refused::new(StatusCode::BAD_REQUEST, Code::Usage, message)
            .with_hint("see the REST API in docs/approvals.md")
    })
}

/// A question as JSON.
pub(super) fn card_json(card: &Card, going: Option<Going>) -> Value {
    let asked = &card.asked;
    let mut json = json!({
        "approval": asked.approval,
        "status": card.standing.word(),
        "run": card.run,
        "agent": card.agent,
        "task": card.task,
        "call": asked.call,
        "tool": asked.tool,
        "args": asked.args,
        "args_hash": card.args_hash,
        "preview": asked.preview,
        "preview_hash": card.preview_hash,
        "why": asked.why,
        "effect": asked.effect,
        "reversible": asked.reversible,
        "labels": asked.labels,
        "cost_usd": card.cost.decimal(),
        "asked": card.asked_at.rfc3339(),
        "expires": asked.expires.rfc3339(),
        "default": "deny",
    });
    if let Standing::Answered { decision, by, channel, at } = &card.standing {
        let mut decided = json!({"by": by, "channel": channel, "at": at.rfc3339()});
        match &**decision {
            ApprovalDecision::Deny { reason } => decided["reason"] = json!(reason),
            ApprovalDecision::Edit { args, reason, .. } => {
                decided["reason"] = json!(reason);
                decided["args"] = json!(args.value());
            }
            ApprovalDecision::Approve | ApprovalDecision::Withdraw { .. } => {}
        }
        json["decided"] = decided;
    }
    if let Some(going) = going {
        json["run_goes_on"] = json!(going.word());
    }
    json
}

pub(super) fn preview_json(preview: &Preview) -> Value {
    json!({"preview": preview.text, "preview_hash": preview.hash, "reversible": preview.reversible})
}
