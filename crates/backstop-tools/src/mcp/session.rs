//! What the rest asks of a connection to a server, in words of our own: no type of the protocol's library passes here.

use super::definition::Definition;
use backstop_call::BoxFuture;
use serde_json::{Map, Value};

/// A connection that is up. Dropping it ends the server that was started for it.
pub(super) trait Session: Send + Sync {
    /// Every tool as the server defines it now. Never from a cache.
    fn tools(&self) -> BoxFuture<'_, Result<Vec<Definition>, Fault>>;

    /// Makes a call, once.
    fn call<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Fault>>;

    /// How often the server has said that its tools are not the same any more.
    fn changes(&self) -> u64;

    /// Why nothing more can come of it; `None` as long as something can.
    fn ended(&self) -> Option<String>;
}

/// How a session begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// With a handshake, as all servers did up to 2025.
    Handshake,
    /// Without one: the server is asked what it is, and every request says what it needs to.
    Question,
}

/// A call of a tool.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The tool, by the server's own name for it.
    pub(super) tool: &'a str,
    /// Its arguments.
    pub(super) args: &'a Map<String, Value>,
    /// The same at every attempt of one call.
    pub(super) key: &'a str,
}

/// What a server answered a call with.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) content: Vec<Piece>,
    /// What is checked by the tool's output schema.
    pub(super) structured: Option<Value>,
    /// Whether the server says that the call failed.
    pub(super) is_error: bool,
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    Image {
        media_type: String,
        base64: String,
    },
    /// Something that is told of in words only.
    Other(String),
}

/// A request that was not answered as it should be. The text is for whoever made it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// The server did not take it up. The connection is as it was.
    #[error("{0}")]
    Refused(String),
    /// It never reached the server, and the connection is of no use any more.
    #[error("{0}")]
    Unsent(String),
    /// No answer in time: it may have taken effect. An answer that comes later is nobody's.
    #[error("{0}")]
    Silent(String),
    /// The connection ended on the way: it may have taken effect.
    #[error("{0}")]
    Broken(String),
    /// The answer is of no use: it may have taken effect.
    #[error("{0}")]
    Odd(String),
}

impl Fault {
    /// Whether it is certain that nothing was done.
    pub(super) fn is_undone(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Unsent(_) => true,
            Self::Silent(_) | Self::Broken(_) | Self::Odd(_) => false,
        }
    }

    /// Whether the connection is of no use any more.
    pub(super) fn is_end(&self) -> bool {
        match self {
            Self::Unsent(_) | Self::Broken(_) => true,
            Self::Refused(_) | Self::Silent(_) | Self::Odd(_) => false,
        }
    }
}
