//! What comes back: a whole reply, or its chunks.

use crate::{AttemptRecord, Block, Frame, Head, Told};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;

/// Tokens that were used, by kind. The kinds do not overlap, but for `reasoning_tokens`, which are part of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Input that was neither read from nor written to the provider's cache.
    pub input_tokens: u64,
    /// Output, reasoning included.
    pub output_tokens: u64,
    /// Input read from the provider's cache.
    #[serde(default)]
    pub cache_read_tokens: u64,
    /// Input written to the provider's cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// The part of the output that was reasoning.
    #[serde(default)]
    pub reasoning_tokens: u64,
    /// Counted by us, because the provider did not say: never zero for a call that was answered.
    #[serde(default)]
    pub estimated: bool,
}

impl Usage {
    /// All input, cached or not.
    pub fn total_input_tokens(&self) -> u64 {
        self.input_tokens + self.cache_read_tokens + self.cache_write_tokens
    }

    /// Adds another call's usage.
    pub fn add(&mut self, other: &Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cache_read_tokens += other.cache_read_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.estimated |= other.estimated;
    }
}

/// Why the model stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// It was done.
    End,
    /// It wants tools to be called.
    ToolUse,
    /// The output limit was reached: the answer is truncated.
    MaxTokens,
    /// The context window was full: the answer is truncated.
    ContextWindow,
    /// A stop text was reached.
    StopSequence(Option<String>),
    /// It declined, or a filter did; asking the same model again gives the same.
    Refusal,
    /// The provider paused a long turn; send the content back to go on.
    Pause,
    /// A reason that only this provider has.
    Other(String),
}

/// What the provider's headers say is left of our share. Only what it said; a limit it did not name is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitHint {
    /// Requests left now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_remaining: Option<u64>,
    /// Tokens left now: the smallest of those it named (all, input, output).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_remaining: Option<u64>,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// The provider's id of the message.
    pub id: String,
    /// The model that answered, as the provider names it.
    pub model: String,
    /// What it said, in order.
    pub content: Vec<Block>,
    /// Why it stopped.
    pub stop: StopReason,
    /// What it used.
    pub usage: Usage,
    /// From sending the request to the first content.
    #[serde(default)]
    pub first_token: Option<Duration>,
    /// The provider's id of the request, to quote to its support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What is left of our share at the provider.
    #[serde(default)]
    pub limits: LimitHint,
    /// Every attempt that was made, the one that answered last. Filled by the stack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptRecord>,
    /// Top-level fields of the provider's answer that have no place above.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub other: serde_json::Map<String, Value>,
    /// The answer as it came, where the client speaks the provider's dialect; `content` and `other` are empty then.
    #[serde(skip)]
    pub told: Option<Box<Told>>,
    /// What of the request the provider's dialect could not carry, in words for people.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
}

impl Reply {
    /// A reply with what every reply has; the rest is empty.
    pub fn new(model: impl Into<String>, content: Vec<Block>, stop: StopReason, usage: Usage) -> Self {
        Self {
            id: String::new(),
            model: model.into(),
            content,
            stop,
            usage,
            first_token: None,
            request_id: None,
            limits: LimitHint::default(),
            attempts: Vec::new(),
            other: serde_json::Map::new(),
            told: None,
            lost: Vec::new(),
        }
    }

    /// All its text, in order.
    pub fn text(&self) -> String {
        self.content.iter().filter_map(Block::as_text).collect()
    }
}

/// A piece of a streamed reply. Their order is a protocol: `Start`, then for each block `BlockStart`, deltas and
/// `BlockStop`, then `Stop`, with `Usage` and `Ping` anywhere after `Start`. [`crate::Assembly`] folds them into a
/// [`Reply`].
#[derive(Debug, Clone, PartialEq)]
pub enum Chunk {
    /// Who answers, ahead of everything else. Only for a call that has a [`crate::Source`].
    Head(Box<Head>),
    /// Bytes of the client's own dialect, and the chunks that they are.
    Frame(Frame),
    /// The provider began. No content yet: the commit point is not reached.
    Start {
        /// The provider's id of the message.
        id: String,
        /// The model that answers.
        model: String,
    },
    /// A block begins; texts and inputs in it are empty or the first piece.
    BlockStart {
        /// Its index in the content.
        index: usize,
        /// The block.
        block: Block,
    },
    /// A block grows.
    Delta {
        /// The index of the block.
        index: usize,
        /// By what.
        delta: ContentDelta,
    },
    /// A block is complete.
    BlockStop {
        /// Its index.
        index: usize,
    },
    /// Usage so far; a later one replaces an earlier one.
    Usage(Usage),
    /// The provider is done.
    Stop {
        /// Why.
        reason: StopReason,
    },
    /// The provider is alive.
    Ping,
    /// An event that only this dialect has, as it stands on the wire.
    Other {
        /// The `event:` line's value.
        event: Option<String>,
        /// The `data:` line's value.
        data: String,
    },
}

impl Chunk {
    /// Whether this is content: the first such chunk that goes to the caller is the commit point.
    pub fn is_content(&self) -> bool {
        match self {
            Self::BlockStart { .. } | Self::Delta { .. } | Self::Other { .. } => true,
            Self::Frame(frame) => frame.says.iter().any(Self::is_content),
            Self::Head(_)
            | Self::Start { .. }
            | Self::BlockStop { .. }
            | Self::Usage(_)
            | Self::Stop { .. }
            | Self::Ping => false,
        }
    }
}

/// By what a block grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentDelta {
    /// Text.
    Text(String),
    /// A thought.
    Thinking(String),
    /// The signature over a thought.
    Signature(String),
    /// A piece of a tool call's arguments: JSON text, cut anywhere.
    ToolInput(String),
}
