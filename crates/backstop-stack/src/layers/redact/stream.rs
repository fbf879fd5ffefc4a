//! The redactor over a stream: a secret that is cut across chunks is found all the same, because what may be the
//! beginning of one is held back until it is known.

use super::Redactor;
use crate::layers::redact::raw;
use crate::layers::redact::walk::Scrub as _;
use crate::outbox::Outbox;
use backstop_call::{Block, Chunk, Closed, ContentDelta, Frame, Sink};
use std::collections::{BTreeMap, VecDeque};
use std::mem;
use std::task::{Context, Poll};

/// A sink that hands on chunks without secrets.
pub struct Scrubbed<'a> {
    sink: &'a mut dyn Sink,
    redactor: &'a Redactor,
    outbox: Outbox,
    /// What is held back of each block, and as which kind of delta it came.
    held: BTreeMap<usize, Held>,
    /// Frames that are held back because a text in them may be the beginning of a secret, and what they say of each block.
    frames: VecDeque<Frame>,
    /// The number of the first of them, counted over the whole stream.
    first: u64,
    tails: BTreeMap<usize, Tail>,
}

/// The end of a block's text that may be the beginning of a secret.
#[derive(Default)]
struct Tail {
    text: String,
    /// The frames that the text came in, by number, each with where in the text its part ends.
    parts: VecDeque<(u64, usize)>,
}

impl Tail {
    fn grow(&mut self, frame: u64, text: &str) {
        self.text.push_str(text);
        self.parts.push_back((frame, self.text.len()));
    }

    /// Lets go of what no secret can begin in; whether anything is left. So what is searched again with every frame, and
    /// what is held back, is no more than a secret can be long.
    fn settle(&mut self, redactor: &Redactor) -> bool {
        let settled = redactor.settled(&self.text);
        // The character before the rest stays: by it one knows whether a word begins.
        let from = self.text[..settled].char_indices().next_back().map_or(0, |(at, _)| at);
        self.parts.retain(|(_, end)| *end > settled);
        self.parts.iter_mut().for_each(|(_, end)| *end -= from);
        self.text.drain(..from);
        !self.parts.is_empty()
    }
}

struct Held {
    text: String,
    wrap: fn(String) -> ContentDelta,
}

impl<'a> Scrubbed<'a> {
    /// A sink before this one.
    pub fn new(sink: &'a mut dyn Sink, redactor: &'a Redactor) -> Self {
        Self {
            sink,
            redactor,
            outbox: Outbox::default(),
            held: BTreeMap::new(),
            frames: VecDeque::new(),
            first: 0,
            tails: BTreeMap::new(),
        }
    }

    /// Frames that are held back.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.frames.len()
    }

    /// Hands on whatever is still held back: no more text comes.
    pub async fn finish(&mut self) -> Result<(), Closed> {
        self.tails.clear();
        self.release_frames(u64::MAX);
        self.release_all();
        self.outbox.flush(self.sink).await
    }

    /// A frame goes on as it came while nothing in it is or may become a secret. Where something is, the frames that hold
    /// a part of it are told anew by what they say.
    fn take_frame(&mut self, frame: Frame) {
        if !self.held.is_empty() || !self.is_clean(&frame) {
            self.frames.push_back(frame);
            return self.tell_anew();
        }
        let number = self.first + self.frames.len() as u64;
        for (index, text) in frame.says.iter().filter_map(grown) {
            match self.tails.get_mut(&index) {
                Some(tail) => tail.grow(number, text),
                None if self.redactor.settled(text) == text.len() => {}
                None => self.tails.entry(index).or_default().grow(number, text),
            }
        }
        let is_dirty = self.tails.values().any(|tail| !self.redactor.find(&tail.text).is_empty());
        // At its end a text is what it is.
        let ends = |at: &usize| {
            let end = |chunk: &Chunk| match chunk {
                Chunk::BlockStop { index } => index == at,
                chunk => matches!(chunk, Chunk::Stop { .. }),
            };
            frame.says.iter().any(end)
        };
        self.tails.retain(|at, tail| !ends(at) && tail.settle(self.redactor));
        self.frames.push_back(frame);
        if is_dirty {
            self.tell_anew();
        } else {
            let needed = self.tails.values().filter_map(|tail| tail.parts.front()).map(|part| part.0).min();
            self.release_frames(needed.unwrap_or(number + 1));
        }
    }

    fn is_clean(&self, frame: &Frame) -> bool {
        std::str::from_utf8(&frame.bytes).is_ok_and(|text| raw::edits(self.redactor, text).is_empty())
    }

    /// Hands on the frames before this one.
    fn release_frames(&mut self, before: u64) {
        while self.first < before
            && let Some(frame) = self.frames.pop_front()
        {
            self.first += 1;
            self.outbox.push(Chunk::Frame(frame));
        }
    }

    fn tell_anew(&mut self) {
        self.tails.clear();
        self.first += self.frames.len() as u64;
        for chunk in mem::take(&mut self.frames).into_iter().flat_map(|frame| frame.says) {
            self.take(chunk);
        }
    }

    fn take(&mut self, chunk: Chunk) {
        match chunk {
            Chunk::Frame(frame) => self.take_frame(frame),
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
                        other.clean(self.redactor);
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
            chunk @ (Chunk::Head(_) | Chunk::Start { .. } | Chunk::Usage(_) | Chunk::Ping) => {
                self.outbox.push(chunk);
            }
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

/// The block that a chunk makes grow, and by which text.
fn grown(chunk: &Chunk) -> Option<(usize, &str)> {
    match chunk {
        Chunk::Delta {
            index,
            delta: ContentDelta::Text(text) | ContentDelta::Thinking(text) | ContentDelta::ToolInput(text),
        } => Some((*index, text)),
        _ => None,
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
