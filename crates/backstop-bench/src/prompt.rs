//! What is asked: requests as an agent sends them, of a given size, and the text of the answers. Pure.

use clap::ValueEnum;
use serde::Serialize;
use serde_json::{Value, json};

/// The wire format that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Dialect {
    /// OpenAI Chat Completions.
    Chat,
    /// Anthropic Messages.
    Messages,
}

impl Dialect {
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Messages => "/v1/messages",
        }
    }
}

/// Whether the answer comes in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Whole,
    /// As a stream with so many chunks of text.
    Stream {
        chunks: u64,
    },
}

const SYSTEM: &str = "You keep the stock of a workshop that mends bicycles. Look a part up before you say that it is \
there, and name its shelf. When fewer than three are left, propose an order, and wait for a yes before you place it. \
Answer in the language you are asked in, in at most four sentences.";

const ASKED: &str = "A customer brings a touring bicycle from 1998 whose rear hub has play. The cones are pitted, the \
cups look sound. Which cones fit, do we have them, and if not, what does a whole wheel cost beside the hours of \
rebuilding this one? She needs it back by Friday, since she leaves for the coast on Saturday morning. ";

/// The text of an answer, about the length of a paragraph. Needs no escaping in JSON.
pub(crate) const ANSWERED: &str = "Cones of the old 10 mm pattern fit this hub; four pairs lie on shelf C7, and two of \
them are the sealed kind that suits touring. Rebuilding takes an hour with new bearings and grease, so it can be done \
tomorrow, well before Friday. A whole wheel of the same quality costs more than twice the work and the parts together, \
and the rim on this one is true and hardly worn. I would change the cones and the balls, and look at the cups again \
once they are clean: should a cup be marked after all, we still have the time to lace a new hub into her rim. Shall I \
set two pairs aside and book the stand for tomorrow at ten?";

/// A request of exactly `bytes`, padded in its last question. Never smaller than what an agent needs to ask at all.
pub(crate) fn request(dialect: Dialect, model: &str, answer: Answer, bytes: usize) -> String {
    let bare = document(dialect, model, answer, "").to_string();
    let padding = ASKED.chars().cycle().take(bytes.saturating_sub(bare.len()));
    document(dialect, model, answer, &padding.collect::<String>()).to_string()
}

fn document(dialect: Dialect, model: &str, answer: Answer, asked: &str) -> Value {
    let parameters = json!({
        "type": "object",
        "properties": { "part": { "type": "string" }, "shelf": { "type": "boolean" } },
        "required": ["part"],
    });
    let about = "Tells how many of a part are there, and on which shelf.";
    let turns =
        [("user", ASKED), ("assistant", "Which maker's hub is it, and how many gears?"), ("user", asked)];
    let turns = turns.map(|(role, content)| json!({ "role": role, "content": content }));
    let mut document = json!({ "model": model, "max_tokens": 512 });
    match dialect {
        Dialect::Chat => {
            let system = json!({ "role": "system", "content": SYSTEM });
            document["messages"] = std::iter::once(system).chain(turns).collect();
            let function = json!({ "name": "stock", "description": about, "parameters": parameters });
            document["tools"] = json!([{ "type": "function", "function": function }]);
        }
        Dialect::Messages => {
            document["system"] = json!(SYSTEM);
            document["messages"] = turns.into_iter().collect();
            document["tools"] =
                json!([{ "name": "stock", "description": about, "input_schema": parameters }]);
        }
    }
    if let Answer::Stream { .. } = answer {
        document["stream"] = json!(true);
        if dialect == Dialect::Chat {
            document["stream_options"] = json!({ "include_usage": true });
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_size_that_is_asked_for() {
        for dialect in [Dialect::Chat, Dialect::Messages] {
            for answer in [Answer::Whole, Answer::Stream { chunks: 3 }] {
                for bytes in [2_048, 400_000] {
                    let text = request(dialect, "mock-1", answer, bytes);
                    assert_eq!(text.len(), bytes, "{dialect:?} {answer:?}");
                    let read: Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(read["stream"].as_bool().unwrap_or(false), answer != Answer::Whole);
                }
            }
        }
    }

    #[test]
    fn the_answer_needs_no_escaping() {
        assert_eq!(serde_json::to_string(ANSWERED).unwrap(), format!("\"{ANSWERED}\""));
    }
}
