//! How much a request says: what every estimate of tokens is made from. What a token is worth of it, those say who estimate.

use crate::{Block, DocumentSource, ImageSource, Request, ToolSpec};
use serde::Serialize;
use std::io;
use std::ops::AddAssign;

/// How much a request, or a part of one, says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes, those of pictures and documents left out.
    pub bytes: u64,
    /// Characters, those of pictures and documents left out.
    pub chars: u64,
    /// Bytes of documents, as base64.
    pub documents: u64,
    /// Documents at an address.
    pub linked_documents: u64,
    /// Pictures. A document is one more, for its first page; in the bytes that a client sent it is not.
    pub images: u64,
    /// Messages, blocks and tools; 0 in the bytes that a client sent, where what stands around them is counted.
    pub parts: u64,
}

/// What has a size.
pub trait Measure {
    /// Adds its own.
    fn add_to(&self, size: &mut Size);
}

impl Size {
    /// The size of some items together.
    pub fn of<T: Measure>(items: &[T]) -> Self {
        let mut size = Self::default();
        for item in items {
            size.parts += 1;
            item.add_to(&mut size);
        }
        size
    }

    fn add_text(&mut self, text: &str) {
        self.bytes += text.len() as u64;
        self.chars += text.chars().count() as u64;
    }

    fn add_json<T: Serialize>(&mut self, value: &T) {
        let mut counter = Counter(0);
        // Writing to a counter cannot fail, and our values have string keys.
        let _ = serde_json::to_writer(&mut counter, value);
        self.bytes += counter.0;
        self.chars += counter.0;
    }
}

impl AddAssign for Size {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.chars += other.chars;
        self.documents += other.documents;
        self.linked_documents += other.linked_documents;
        self.images += other.images;
        self.parts += other.parts;
    }
}

impl Request {
    /// How much it says. What it shares with others is counted once for all of them.
    pub fn size(&self) -> Size {
        let mut size = self.system.size();
        for message in &self.messages {
            size.parts += 1;
            size += message.content.size();
        }
        size += self.tools.size();
        if let Some(output) = &self.output {
            size.add_json(output);
        }
        if !self.other.is_empty() {
            size.add_json(&self.other);
        }
        size
    }
}

impl Measure for ToolSpec {
    fn add_to(&self, size: &mut Size) {
        size.add_text(&self.name);
        size.add_text(&self.description);
        size.add_json(&self.schema);
    }
}

impl Measure for Block {
    fn add_to(&self, size: &mut Size) {
        match self {
            Self::Text { text, .. } => size.add_text(text),
            Self::Thinking { text, signature } => {
                size.add_text(text);
                size.add_text(signature.as_deref().unwrap_or_default());
            }
            Self::RedactedThinking { data } => size.add_text(data),
            Self::Image { source, .. } => {
                size.images += 1;
                if let ImageSource::Url(url) = source {
                    size.add_text(url);
                }
            }
            Self::Document { source, name, .. } => {
                size.add_text(name.as_deref().unwrap_or_default());
                add_document(source, size);
            }
            Self::ToolUse { id, name, input, .. } => {
                size.add_text(id);
                size.add_text(name);
                size.add_json(input);
            }
            Self::ToolResult { id, content, .. } => {
                size.add_text(id);
                *size += Size::of(content);
            }
            Self::Other { value, .. } => size.add_json(value),
        }
    }
}

fn add_document(source: &DocumentSource, size: &mut Size) {
    match source {
        DocumentSource::Text(text) => size.add_text(text),
        DocumentSource::Base64 { data, .. } => {
            size.images += 1;
            size.documents += data.len() as u64;
        }
        DocumentSource::Url(url) => {
            size.images += 1;
            size.linked_documents += 1;
            size.add_text(url);
        }
    }
}

struct Counter(u64);

impl io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
