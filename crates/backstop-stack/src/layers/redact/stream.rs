//! The redactor over a stream: a secret that is cut across chunks is found all the same, because what may be the
//! beginning of one is held back until it is known.

use super::Redactor;
use crate::layers::redact::walk;
use crate::outbox::Outbox;
use backstop_call::{Block, Chunk, Closed, ContentDelta, Sink};
use std::collections::BTreeMap;
use std::mem;
use std::task::{Context, Poll};

/// A sink that hands on chunks without secrets.
pub struct Scrubbed<'a> {
    sink: &'a mut dyn Sink,
    redactor: &'a Redactor,
    outbox: Outbox,
    /// What is held back of each block, and as which kind of delta it came.
    held: BTreeMap<usize, Held>,
}

struct Held {
    text: String,
    wrap: fn(String) -> ContentDelta,
}

impl<'a> Scrubbed<'a> {
    /// A sink before this one.
    pub fn new(sink: &'a mut dyn Sink, redactor: &'a Redactor) -> Self {
        Self { sink, redactor, outbox: Outbox::default(), held: BTreeMap::new() }
    }

    /// Hands on whatever is still held back: no more text comes.
    pub async fn finish(&mut self) -> Result<(), Closed> {
        self.release_all();
        self.outbox.flush(self.sink).await
    }

    fn take(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Delta { index, delta } => match delta {
                ContentDelta::Text(text) => self.hold(index, &text, ContentDelta::Text),
                ContentDelta::Thinking(text) => self.hold(index, &text, ContentDelta::Thinking),
                ContentDelta::ToolInput(text) => self.hold(index, &text, ContentDelta::ToolInput),
                delta @ ContentDelta::Signature(_) => {
                    self.release(index);
                    self.outbox.push(Chunk::Delta { index, delta });
                }
            },
            Chunk::BlockStart { index, mut block } => {
                let first = match &mut block {
                    Block::Text { text, .. } | Block::Thinking { text, .. } => mem::take(text),
                    other => {
                        walk::clean_block(self.redactor, other);
                        String::new()
                    }
                };
                let wrap = match &block {
                    Block::Thinking { .. } => ContentDelta::Thinking,
                    _ => ContentDelta::Text,
                };
                self.outbox.push(Chunk::BlockStart { index, block });
                if !first.is_empty() {
                    self.hold(index, &first, wrap);
                }
            }
            Chunk::BlockStop { index } => {
                self.release(index);
                self.outbox.push(Chunk::BlockStop { index });
            }
            Chunk::Stop { reason } => {
                self.release_all();
                self.outbox.push(Chunk::Stop { reason });
            }
            Chunk::Other { event, data } => {
                let data = self.redactor.text(&data).into_owned();
                self.outbox.push(Chunk::Other { event, data });
            }
            chunk @ (Chunk::Start { .. } | Chunk::Usage(_) | Chunk::Ping) => self.outbox.push(chunk),
        }
    }

    fn hold(&mut self, index: usize, more: &str, wrap: fn(String) -> ContentDelta) {
        let held = self.held.entry(index).or_insert_with(|| Held { text: String::new(), wrap });
        held.text.push_str(more);
        held.wrap = wrap;
        let mut cut = self.redactor.settled(&held.text);
        // A match that is whole already may reach over the cut: it goes as one.
        for found in self.redactor.find(&held.text) {
            if found.start < cut && cut < found.end {
                cut = found.start;
            }
        }
        if cut > 0 {
            let rest = held.text.split_off(cut);
            let settled = mem::replace(&mut held.text, rest);
            let clean = self.redactor.text(&settled).into_owned();
            self.outbox.push(Chunk::Delta { index, delta: wrap(clean) });
        }
    }

    fn release(&mut self, index: usize) {
        if let Some(Held { text, wrap }) = self.held.remove(&index)
            && !text.is_empty()
        {
            let clean = self.redactor.text(&text).into_owned();
            self.outbox.push(Chunk::Delta { index, delta: wrap(clean) });
        }
    }

    fn release_all(&mut self) {
        while let Some(index) = self.held.keys().next().copied() {
            self.release(index);
        }
    }
}

impl Sink for Scrubbed<'_> {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        self.outbox.poll_ready(self.sink, cx)
    }

    fn send(&mut self, chunk: Chunk) {
        self.take(chunk);
        self.outbox.drain(self.sink);
    }

    fn is_seen(&self) -> bool {
        self.sink.is_seen()
    }
}
