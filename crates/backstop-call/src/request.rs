//! What a model is asked: the canonical request that every dialect is read into and rendered from.

use crate::Shared;
use backstop_label::Labels;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A wire format that providers speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// Anthropic Messages.
    Messages,
    /// OpenAI Chat Completions.
    Chat,
    /// OpenAI Responses.
    Responses,
}

impl Dialect {
    /// Every dialect.
    pub const ALL: [Self; 3] = [Self::Messages, Self::Chat, Self::Responses];
}

/// A request to a model, whatever dialect it came in or goes out by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The model or chain that was asked for.
    pub model: String,
    /// Instructions before the conversation.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub system: Shared<Block>,
    /// The conversation, oldest first.
    pub messages: Vec<Message>,
    /// The tools the model may call.
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    pub tools: Shared<ToolSpec>,
    /// Which of them it must or may call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether it may call several at once; `None` leaves it to the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_tools: Option<bool>,
    /// The most tokens it may write.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u64>,
    /// Sampling temperature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Nucleus sampling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Texts at which it stops.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// Whether and how much it may think first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thinking: Option<Thinking>,
    /// The shape its answer must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<OutputFormat>,
    /// Whether the answer is wanted as it comes.
    #[serde(default)]
    pub stream: bool,
    /// Whether the provider holds the beginning of the conversation, so that `messages` are only what is new: results in
    /// them may answer calls that do not stand here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
    /// Top-level fields of the dialect it came in that have no place above, by their wire names.
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub other: serde_json::Map<String, Value>,
}

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Speaker {
    /// Instructions in the middle of a conversation.
    System,
    /// The person, or the results of tools.
    User,
    /// The model.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks.
    pub speaker: Speaker,
    /// What they say, in order.
    pub content: Shared<Block>,
    /// Where it came from and who may see it.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl Message {
    /// A turn that is one text.
    pub fn text(speaker: Speaker, text: impl Into<String>) -> Self {
        Self { speaker, content: [Block::text(text)].into(), labels: Labels::default() }
    }
}

/// A piece of content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Block {
    /// Plain text.
    Text {
        /// The text.
        text: String,
        /// The provider's cache mark after it, as it stands on the wire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// A picture.
    Image {
        /// Where its bytes are.
        source: ImageSource,
        /// The provider's cache mark after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// A document.
    Document {
        /// Where its bytes or its text are.
        source: DocumentSource,
        /// Its title or the name of its file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// The provider's cache mark after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// What the model thought, with the signature the provider needs back.
    Thinking {
        /// The thought.
        text: String,
        /// The provider's signature over it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signature: Option<String>,
    },
    /// A thought that only the provider can read.
    RedactedThinking {
        /// The provider's bytes.
        data: String,
    },
    /// The model calls a tool.
    ToolUse {
        /// The provider's id of this call; its result carries the same.
        id: String,
        /// The tool.
        name: String,
        /// The arguments. What was no JSON object is kept as a JSON string, so that nothing is lost.
        input: Value,
        /// The provider's cache mark after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// What a tool gave back.
    ToolResult {
        /// The id of the call it answers.
        id: String,
        /// The result: text, pictures and documents.
        content: Vec<Block>,
        /// Whether it failed.
        #[serde(default)]
        is_error: bool,
        /// The provider's cache mark after it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Value>,
    },
    /// A block that only one dialect has, as it stands there.
    Other {
        /// The dialect it came in.
        dialect: Dialect,
        /// The block.
        value: Value,
    },
}

impl Block {
    /// A text without a cache mark.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text { text: text.into(), cache: None }
    }

    /// The text of it, when it is text.
    pub fn as_text(&self) -> Option<&str> {
        if let Self::Text { text, .. } = self { Some(text) } else { None }
    }
}

/// Where a picture's bytes are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageSource {
    /// In the request, base64.
    Base64 {
        /// `image/png` and the like.
        media_type: String,
        /// The bytes, base64.
        data: String,
    },
    /// At an address.
    Url(String),
}

/// Where a document's bytes or its text are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DocumentSource {
    /// In the request, base64.
    Base64 {
        /// `application/pdf` and the like.
        media_type: String,
        /// The bytes, base64.
        data: String,
    },
    /// At an address.
    Url(String),
    /// In the request, plain text.
    Text(String),
}

/// A tool as the model is told of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolSpec {
    /// Its name.
    pub name: String,
    /// What it does and when to use it.
    #[serde(default)]
    pub description: String,
    /// JSON Schema of its arguments.
    pub schema: Value,
    /// Fields of the dialect it came in that have no place above (cache marks, strictness, server tools).
    #[serde(default, skip_serializing_if = "serde_json::Map::is_empty")]
    pub other: serde_json::Map<String, Value>,
}

/// Which tools the model must or may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolChoice {
    /// As it sees fit.
    Auto,
    /// Any one, but one.
    Required,
    /// None.
    None,
    /// This one.
    Tool(String),
}

/// Whether and how much a model may think before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thinking {
    /// Not at all.
    Off,
    /// As it sees fit.
    Adaptive,
    /// Up to so many tokens.
    Budget(u64),
    /// By a word of the provider's: `low`, `medium`, `high`.
    Effort(String),
}

/// The shape an answer must have.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutputFormat {
    /// Any JSON object.
    Json,
    /// JSON that fits a schema.
    Schema {
        /// The schema's name; OpenAI demands one.
        name: String,
        /// The JSON Schema.
        schema: Value,
        /// Whether the provider is to hold the model to it.
        strict: bool,
    },
}
