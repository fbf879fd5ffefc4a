//! The commit point. What a provider sends before its first content is held back; when the attempt fails before that, it
//! is dropped, and the next attempt begins as if nothing had been. From the first content on everything passes, and nothing is
//! tried again: two models are never spliced. Where nobody sees the chunks, there is no such point, and nothing passes.

use crate::outbox::Outbox;
use backstop_call::{Block, Chunk, Closed, Sink};
use std::task::{Context, Poll};

/// More than this is never held: a provider that sends so many signs of life without content is answering.
const HELD_MAX: usize = 64;

/// One attempt's way to the caller.
pub(super) struct Gate<'a> {
    sink: &'a mut dyn Sink,
    /// Whether the caller sees chunks at all. One who does not can be given another answer as long as there is time.
    seen: bool,
    committed: bool,
    held: Vec<Chunk>,
    outbox: Outbox,
}

impl<'a> Gate<'a> {
    /// A gate before the caller's sink.
    pub(super) fn new(sink: &'a mut dyn Sink, streamed: bool) -> Self {
        let seen = streamed && sink.is_seen();
        Self { sink, seen, committed: false, held: Vec::new(), outbox: Outbox::default() }
    }

    /// The attempt is over. Hands on what is left to hand on; says whether content reached the caller.
    pub(super) async fn end(mut self, answered: bool) -> bool {
        if answered {
            self.commit();
        }
        // The reader may be gone; the call's result is returned all the same.
        let _ = self.outbox.flush(self.sink).await;
        self.committed
    }

    fn commit(&mut self) {
        if self.seen {
            self.committed |= !self.held.is_empty();
            self.held.drain(..).for_each(|chunk| self.outbox.push(chunk));
        }
    }
}

/// An empty block tells the caller nothing yet; providers open one and then fail.
fn is_first_content(chunk: &Chunk) -> bool {
    match chunk {
        Chunk::BlockStart { block: Block::Text { text, .. } | Block::Thinking { text, .. }, .. } => {
            !text.is_empty()
        }
        Chunk::Frame(frame) => frame.says.iter().any(is_first_content),
        chunk => chunk.is_content(),
    }
}

impl Sink for Gate<'_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.outbox.poll_ready(self.sink, cx)
    }

    fn send(&mut self, chunk: Chunk) {
        if !self.seen {
            return;
        }
        if self.committed {
            return self.outbox.send(chunk, self.sink);
        }
        // One sign of life says as much as many.
        if chunk == Chunk::Ping && self.held.contains(&Chunk::Ping) {
            return;
        }
        let first = is_first_content(&chunk);
        self.held.push(chunk);
        if first || self.held.len() >= HELD_MAX {
            self.commit();
            self.outbox.drain(self.sink);
        }
    }

    fn is_seen(&self) -> bool {
        self.seen
    }
}
