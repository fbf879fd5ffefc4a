//! The layers, one file each: its `Config`, its pure decision, its thin shell. A layer sees its own config and the
//! call, never another layer. Their order stands in `stack.rs`.

pub mod attempt;
pub mod breaker;
pub mod budget;
pub mod limit;
pub mod privacy;
pub mod record;
pub mod redact;
pub mod route;
pub mod timeout;
pub mod validate;

use backstop_call::{Call, Chunk, ContentDelta, Labels};

/// The labels of everything that a call sends: the context's and each message's.
pub(crate) fn labels_of(call: &Call) -> Labels {
    let mut labels = call.context.labels.clone();
    for message in &call.request.messages {
        labels.join(&message.labels);
    }
    labels
}

/// The bytes of content that a chunk carries: what an estimate of the output is made from.
pub(crate) fn content_bytes_of(chunk: &Chunk) -> u64 {
    match chunk {
        Chunk::Delta { delta, .. } => match delta {
            ContentDelta::Text(text) | ContentDelta::Thinking(text) | ContentDelta::ToolInput(text) => {
                text.len() as u64
            }
            ContentDelta::Signature(_) => 0,
        },
        Chunk::BlockStart { block, .. } => crate::estimate::content_bytes(std::slice::from_ref(block)),
        Chunk::Other { data, .. } => data.len() as u64,
        Chunk::Frame(frame) => frame.says.iter().map(content_bytes_of).sum(),
        Chunk::Head(_)
        | Chunk::Start { .. }
        | Chunk::BlockStop { .. }
        | Chunk::Usage(_)
        | Chunk::Stop { .. }
        | Chunk::Ping => 0,
    }
}
