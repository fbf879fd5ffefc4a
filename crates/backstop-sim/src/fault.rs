//! What can go wrong at a provider: a closed list, each with a name that scenarios, headers and model suffixes use. The
//! error rows are in [`row`]; how a fault is carried out is the server's and the in-process model's.

mod hint;
mod name;
mod row;

#[cfg(test)]
mod tests;

pub use hint::Hint;
pub use name::FaultError;
pub use row::{ErrorAnswer, Row};

/// One fault.
///
/// What the simulated provider bills under it is [`Fault::billing`].
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// An error answer of the provider's tables, before anything was produced.
    Error {
        /// The row of the table.
        row: Row,
        /// What it says about waiting.
        hint: Hint,
    },
    /// A web page from a proxy in the way: status 502, `text/html`.
    HtmlError,
    /// The request is taken and nothing ever comes back.
    HangBeforeHeaders,
    /// The status line and the headers come, and then nothing.
    HangAfterHeaders,
    /// The connection is closed without a byte of answer, after the model did its work.
    CutBeforeBody,
    /// The connection breaks after so many bytes of the body.
    CutAt {
        /// Bytes of the body that arrive. An answer that is shorter is cut at its end: a stream loses its last frame's end.
        byte: usize,
    },
    /// The stream ends cleanly after half of its frames, without the event that ends it. A whole answer is cut like
    /// [`Fault::CutAt`] in its middle.
    EndEarly,
    /// The body is no JSON: a status of 200 and half an object. On a stream, the first event is broken.
    MalformedJson,
    /// One event of the stream is no JSON.
    MalformedStream {
        /// How many frames come before it.
        after: usize,
    },
    /// An error event in the stream, after a status of 200. A request without a stream gets the row as an answer.
    InStreamError {
        /// The row whose type, code and message it carries.
        row: Row,
        /// Whether content comes before it.
        committed: bool,
    },
    /// A tool call whose arguments are JSON, but not what the schema wants.
    WrongToolArguments,
    /// A tool call whose arguments are no JSON.
    BrokenToolArguments,
    /// A call of a tool that was not offered.
    UnknownTool,
    /// No usage anywhere in the answer.
    MissingUsage,
    /// More usage than the request allows for. It is billed in full as it is told, however far the answer went out.
    WrongUsage {
        /// How many times the true usage.
        times: u64,
    },
    /// The first content comes late.
    SlowFirstToken {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// Every frame comes late.
    SlowChunks {
        /// How late, in milliseconds.
        ms: u64,
    },
    /// An answer without content.
    EmptyAnswer,
    /// The answer stops in its middle at the output limit.
    Truncated,
    /// The answer stops in its middle because the context window is full.
    ContextWindow,
    /// The model declines.
    Refusal,
    /// The provider pauses the turn.
    Pause,
    /// A body far larger than any answer.
    HugeBody {
        /// Its size in mebibytes.
        mib: usize,
    },
    /// Bytes in a text that are no UTF-8.
    GarbageText,
}

/// What a provider bills for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Billing {
    /// Nothing: it failed before anything was produced.
    Nothing,
    /// The input, and the output up to the end, the cut or the moment the client went away.
    Produced,
    /// The input and the whole answer, although the client never saw it.
    Whole,
}

impl Fault {
    /// What a provider bills under this fault.
    ///
    /// Errors before content, and a request that was never taken up, cost nothing. An answer that was made and lost on
    /// the way is billed whole: it is the case that makes an outcome unknown.
    pub fn billing(&self) -> Billing {
        match self {
            Self::Error { .. }
            | Self::HtmlError
            | Self::HangBeforeHeaders
            | Self::InStreamError { committed: false, .. } => Billing::Nothing,
            Self::CutBeforeBody | Self::MalformedJson | Self::WrongUsage { .. } => Billing::Whole,
            Self::HangAfterHeaders
            | Self::CutAt { .. }
            | Self::EndEarly
            | Self::MalformedStream { .. }
            | Self::InStreamError { .. }
            | Self::WrongToolArguments
            | Self::BrokenToolArguments
            | Self::UnknownTool
            | Self::MissingUsage
            | Self::SlowFirstToken { .. }
            | Self::SlowChunks { .. }
            | Self::EmptyAnswer
            | Self::Truncated
            | Self::ContextWindow
            | Self::Refusal
            | Self::Pause
            | Self::HugeBody { .. }
            | Self::GarbageText => Billing::Produced,
        }
    }
}
