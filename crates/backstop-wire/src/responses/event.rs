//! The fields of a stream's events that matter, by where they stand. What they mean is known to `stream.rs`.

use crate::raw::Raw;
use crate::read::WireError;

/// A block's place on the wire: the item, and the part in it where the item is a message.
pub(super) type Place = (u64, Option<u64>);

/// The fields of an event, each of which only some events have.
pub(super) struct Event<'p, 'a> {
    pub(super) kind: Raw<'p, 'a>,
    pub(super) error: Raw<'p, 'a>,
    pub(super) response: Raw<'p, 'a>,
    pub(super) output_index: Raw<'p, 'a>,
    pub(super) item: Raw<'p, 'a>,
    pub(super) content_index: Raw<'p, 'a>,
    pub(super) part: Raw<'p, 'a>,
    pub(super) delta: Raw<'p, 'a>,
    pub(super) text: Raw<'p, 'a>,
    pub(super) refusal: Raw<'p, 'a>,
    pub(super) arguments: Raw<'p, 'a>,
}

impl<'p, 'a> Event<'p, 'a> {
    pub(super) fn of(body: &'p Raw<'_, 'a>) -> Result<Self, WireError> {
        let [kind, error, response, output_index, item, content_index, part, delta, text, refusal, arguments] =
            body.fields([
                "type",
                "error",
                "response",
                "output_index",
                "item",
                "content_index",
                "part",
                "delta",
                "text",
                "refusal",
                "arguments",
            ])?;
        Ok(Self {
            kind,
            error,
            response,
            output_index,
            item,
            content_index,
            part,
            delta,
            text,
            refusal,
            arguments,
        })
    }

    pub(super) fn item_index(&self) -> Result<u64, WireError> {
        self.output_index.count()?.ok_or_else(|| self.output_index.missing())
    }

    pub(super) fn place(&self) -> Result<Place, WireError> {
        Ok((self.item_index()?, Some(self.content_index.count()?.unwrap_or(0))))
    }

    pub(super) fn not_open(&self, (item, part): Place) -> WireError {
        match part {
            Some(part) => self.content_index.wrong(format!("part {part} of item {item} is not open")),
            None => self.output_index.wrong(format!("item {item} is not open")),
        }
    }
}
