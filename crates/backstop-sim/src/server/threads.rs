//! Message threads, the beta of Messages in which the provider keeps the conversation: the first request says it whole, each
//! later one only what is new. Kept by provider, as one knows nothing of another's. Simpler than the real one: nothing
//! expires, and beyond a bound all are forgotten.

use super::validate::{Refusal, refusal};
use crate::Row;
use backstop_call::{Dialect, Reply, Timestamp};
use backstop_wire::render_reply;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The value of `anthropic-beta` without which there are no threads.
const BETA: &str = "message-threads-2026-08-12";

/// Conversations that are remembered; beyond it, all are forgotten.
const KEPT_MAX: usize = 10_000;

/// The whole request that led to a reply, by the provider and the reply's id.
#[derive(Debug, Default)]
pub(super) struct Threads(Mutex<HashMap<(String, String), Map<String, Value>>>);

impl Threads {
    /// The whole conversation of a request with the field `thread`, without that field; `None` where it has no such field.
    pub(super) fn whole(
        &self,
        provider: &str,
        asked: &Value,
        betas: &str,
    ) -> Result<Option<Map<String, Value>>, Refusal> {
        let Some(mut asked) = asked.as_object().cloned() else { return Ok(None) };
        let Some(thread) = asked.remove("thread").filter(|thread| !thread.is_null()) else { return Ok(None) };
        if !betas.split(',').any(|beta| beta.trim() == BETA) {
            return Err(refusal(Row::Invalid, "thread: Extra inputs are not permitted"));
        }
        match (thread["type"].as_str(), thread["previous_message_id"].as_str()) {
            (Some("create"), None) => Ok(Some(asked)),
            (Some("continue"), Some(id)) => self.goes_on(provider, id, asked).map(Some),
            _ => Err(refusal(
                Row::Invalid,
                "thread: must be `create`, or `continue` with a previous_message_id",
            )),
        }
    }

    fn goes_on(
        &self,
        provider: &str,
        id: &str,
        mut asked: Map<String, Value>,
    ) -> Result<Map<String, Value>, Refusal> {
        let key = (provider.to_owned(), id.to_owned());
        let Some(mut whole) = self.kept().get(&key).cloned() else {
            let message = format!("thread: no thread with the message {id} is known");
            return Err(Refusal { detail: Some("thread_not_found"), ..refusal(Row::NotFound, message) });
        };
        if whole.get("model") != asked.get("model") {
            let message = "thread: the model is not the one that the thread began with";
            return Err(Refusal {
                detail: Some("thread_fingerprint_mismatch"),
                ..refusal(Row::Invalid, message)
            });
        }
        let new = asked.remove("messages").unwrap_or_default();
        if let Some(Value::Array(messages)) = whole.get_mut("messages") {
            messages.extend(new.as_array().cloned().unwrap_or_default());
        }
        whole.extend(asked);
        Ok(whole)
    }

    /// Keeps a conversation with its newest reply.
    pub(super) fn keep(&self, provider: &str, mut whole: Map<String, Value>, reply: &Reply, now: Timestamp) {
        let rendered = render_reply(Dialect::Messages, reply, now);
        let rendered: Value = serde_json::from_slice(&rendered).unwrap_or_default();
        if let Some(Value::Array(messages)) = whole.get_mut("messages") {
            messages.push(json!({"role": "assistant", "content": rendered["content"]}));
        }
        let mut kept = self.kept();
        if kept.len() >= KEPT_MAX {
            kept.clear();
        }
        kept.insert((provider.to_owned(), reply.id.clone()), whole);
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.kept().clear();
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<(String, String), Map<String, Value>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
