//! Reading streams of Responses: items and their parts, which may be told side by side, become blocks one after another.

use super::reply::{Said, read_item, read_stop, read_usage};
use super::{PARAGRAPH, is_held_item, kind_of, read_call, told_error};
use crate::event::{self, Fields, Json};
use crate::read::{Object, Path, WireError};
use crate::sealed;
use crate::sse::SseEvent;
use crate::{StreamError, failure};
use backstop_call::{Block, Chunk, ContentDelta};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

/// A block's place on the wire: the item, and the part in it where the item is a message.
type Place = (u64, Option<u64>);

/// A block in the making. Only the first is told on as it grows; those behind it wait.
#[derive(Debug)]
struct Lane {
    place: Place,
    kind: Kind,
    begun: bool,
    waiting: Vec<Piece>,
    grew: bool,
    done: bool,
}

/// What grows in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    Input,
    /// Nothing: an item of the dialect's own is told when it is whole.
    Own,
}

fn kind(block: &Block) -> Kind {
    match block {
        Block::Text { .. } => Kind::Text,
        Block::Thinking { .. } => Kind::Thinking,
        Block::ToolUse { .. } => Kind::Input,
        Block::Image { .. }
        | Block::Document { .. }
        | Block::RedactedThinking { .. }
        | Block::ToolResult { .. }
        | Block::Other { .. } => Kind::Own,
    }
}

#[derive(Debug)]
enum Piece {
    Begins(Block),
    Grows(ContentDelta),
}

#[derive(Debug, Default)]
pub(crate) struct StreamParser {
    started: bool,
    finished: bool,
    lanes: VecDeque<Lane>,
    /// Every place that a block was at.
    seen: BTreeSet<Place>,
    /// How many blocks are told whole.
    told: usize,
    said: Said,
}

impl StreamParser {
    pub(crate) fn push(&mut self, event: &SseEvent<'_>) -> Result<Vec<Chunk>, StreamError> {
        if event.data.trim() == "[DONE]" {
            let early = || Path::Root.wrong("[DONE] comes before the response is completed").into();
            return if self.finished { Ok(Vec::new()) } else { Err(early()) };
        }
        let value = match event::read::<Json<'_>>(&event.data) {
            Ok(value) => value,
            Err(_) if event.event.is_some_and(|name| !is_known(name)) => return Ok(vec![event.other()]),
            Err(error) => return Err(error.into()),
        };
        let name = value.text("type").cloned().or(event.event.map(Cow::Borrowed)).unwrap_or_default();
        let is_error = value.get("error").is_some_and(|error| !error.is_null());
        if is_error || matches!(&*name, "error" | "response.failed") {
            return Err(StreamError::Failed(failure::in_stream(&told_error(&value.into()))));
        }
        if name == "keepalive" {
            return Ok(vec![Chunk::Ping]);
        }
        let other = || Chunk::Other { event: Some(name.to_string()), data: event.data.to_string() };
        if !is_known(&name) {
            return Ok(vec![other()]);
        }
        let body = Fields::of(value, Path::Root)?;
        if self.finished {
            return Err(body.wrong("type", format!("{name} comes after the end")).into());
        }
        if !self.started && !LIFECYCLE.contains(&&*name) {
            return Err(body.wrong("type", format!("{name} comes before response.created")).into());
        }
        Ok(self.known(&name, body, other)?)
    }

    fn known(
        &mut self,
        name: &str,
        mut body: Fields<'_, '_>,
        other: impl Fn() -> Chunk,
    ) -> Result<Vec<Chunk>, WireError> {
        let is_taken = match name {
            "response.created" | "response.in_progress" | "response.queued" => return self.start(body),
            "response.completed" | "response.incomplete" => return self.finish(name, body),
            "response.output_item.added" => self.item_added(&mut body),
            "response.output_item.done" => self.item_done(&mut body),
            "response.content_part.added" => self.part_added(&mut body),
            "response.content_part.done" => self.part_done(&mut body),
            "response.output_text.delta" => self.part_grows(&mut body, "delta"),
            "response.output_text.done" => self.part_grows(&mut body, "text"),
            "response.refusal.delta" => {
                self.said.take(&[], true);
                self.part_grows(&mut body, "delta")
            }
            "response.refusal.done" => {
                self.said.take(&[], true);
                self.part_grows(&mut body, "refusal")
            }
            "response.function_call_arguments.delta" => self.call_grows(&mut body, "delta"),
            "response.function_call_arguments.done" => self.call_grows(&mut body, "arguments"),
            "response.reasoning_summary_part.added" => self.summary_part(&mut body),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.thought_grows(&mut body, "delta")
            }
            // What was told in pieces, told whole.
            _ => Ok(true),
        }?;
        let mut chunks = self.flush();
        if !is_taken {
            chunks.push(other());
        }
        Ok(chunks)
    }

    fn start(&mut self, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(vec![Chunk::Ping]);
        }
        let (id, model) = body.nested("response", read_ids)?.ok_or_else(|| body.missing("response"))?;
        Ok(vec![Chunk::Start { id, model }])
    }

    /// Begins a lane; one whose block is known only at its end has none yet.
    fn begin(&mut self, place: Place, block: Option<Block>) {
        self.seen.insert(place);
        self.said.take(block.as_slice(), false);
        let kind = block.as_ref().map_or(Kind::Own, kind);
        let waiting = block.map(Piece::Begins).into_iter().collect();
        self.lanes.push_back(Lane { place, kind, begun: false, waiting, grew: false, done: false });
    }

    fn lane(&mut self, place: Place) -> Option<&mut Lane> {
        self.lanes.iter_mut().find(|lane| lane.place == place && !lane.done)
    }

    /// Tells on what has come of the first block, and of those behind it as far as they are whole.
    fn flush(&mut self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        while let Some(lane) = self.lanes.front_mut() {
            let index = self.told;
            for piece in lane.waiting.drain(..) {
                chunks.push(match piece {
                    Piece::Begins(block) => {
                        lane.begun = true;
                        Chunk::BlockStart { index, block }
                    }
                    Piece::Grows(delta) => Chunk::Delta { index, delta },
                });
            }
            if !lane.done {
                break;
            }
            if lane.begun {
                chunks.push(Chunk::BlockStop { index });
                self.told += 1;
            }
            self.lanes.pop_front();
        }
        chunks
    }

    fn item_added(&mut self, body: &mut Fields<'_, '_>) -> Result<bool, WireError> {
        let at = read_index(body, "output_index")?;
        let item = body.value("item").ok_or_else(|| body.missing("item"))?;
        if self.seen.iter().any(|(item, _)| *item == at) {
            return Err(body.wrong("output_index", format!("item {at} begins a second time")));
        }
        match kind_of(&item) {
            // Its parts follow.
            "message" => {}
            "function_call" if is_held_item(&item, "function_call") => {
                let arguments = item.get("arguments").and_then(Value::as_str).unwrap_or("").to_owned();
                let mut call = Object::of(item, body.path("item"))?;
                call.value("arguments");
                self.begin((at, None), Some(read_call(&mut call)?));
                self.grow((at, None), ContentDelta::ToolInput(arguments));
            }
            "reasoning" => {
                let id = item.get("id").and_then(Value::as_str).unwrap_or_default();
                let signature =
                    Some(id).filter(|id| !id.is_empty()).map(|id| sealed::reasoning_signature(id, ""));
                self.begin((at, None), Some(Block::Thinking { text: String::new(), signature }));
            }
            // An item of the dialect's own is told when it is whole.
            _ => self.begin((at, None), None),
        }
        Ok(true)
    }

    fn item_done(&mut self, body: &mut Fields<'_, '_>) -> Result<bool, WireError> {
        let at = read_index(body, "output_index")?;
        let item = body.value("item").ok_or_else(|| body.missing("item"))?;
        let was_told = self.seen.iter().any(|(item, _)| *item == at);
        let is_own = self.lane((at, None)).is_some_and(|lane| lane.kind == Kind::Own);
        let grew = self.lane((at, None)).is_some_and(|lane| lane.grew);
        if !was_told || is_own {
            let (blocks, is_refusal) = read_item(item, body.path("item"))?;
            self.said.take(&blocks, is_refusal);
            self.whole_blocks(at, blocks, is_own);
            return Ok(true);
        }
        match kind_of(&item) {
            "reasoning" if self.lane((at, None)).is_some_and(|lane| lane.kind == Kind::Thinking) => {
                let encrypted =
                    item.get("encrypted_content").and_then(Value::as_str).unwrap_or("").to_owned();
                let (blocks, _) = read_item(item, body.path("item"))?;
                if let Some(Block::Thinking { text, .. }) = blocks.into_iter().next().filter(|_| !grew) {
                    self.grow((at, None), ContentDelta::Thinking(text));
                }
                self.grow((at, None), ContentDelta::Signature(encrypted));
            }
            "function_call"
                if self.lane((at, None)).is_some_and(|lane| lane.kind == Kind::Input && !grew) =>
            {
                let arguments = item.get("arguments").and_then(Value::as_str).unwrap_or("").to_owned();
                self.grow((at, None), ContentDelta::ToolInput(arguments));
            }
            _ => {}
        }
        self.lanes.iter_mut().filter(|lane| lane.place.0 == at).for_each(|lane| lane.done = true);
        Ok(true)
    }

    /// Blocks that are told at once: the first in the lane that was kept for it, others behind all that are there.
    fn whole_blocks(&mut self, at: u64, blocks: Vec<Block>, has_lane: bool) {
        let mut blocks = blocks.into_iter();
        if has_lane && let Some(lane) = self.lane((at, None)) {
            lane.waiting.extend(blocks.next().map(Piece::Begins));
            lane.done = true;
        }
        for (part, block) in (0..).zip(blocks) {
            let place = (at, Some(part));
            self.begin(place, Some(block));
            if let Some(lane) = self.lane(place) {
                lane.done = true;
            }
        }
    }

    /// The block at a place, to add to. None, where its whole is told later or was told before.
    fn open(
        &mut self,
        body: &Fields<'_, '_>,
        place: Place,
        (wanted, key): (Kind, &str),
    ) -> Result<Option<&mut Lane>, WireError> {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.place == place && !lane.done) else {
            // A text that is told whole after all of it is harmless; a piece that comes then is not.
            return if key == "delta" { Err(not_open(body, place)) } else { Ok(None) };
        };
        match lane.kind {
            Kind::Own => Ok(None),
            kind if kind == wanted => Ok(Some(lane)),
            _ => Err(body.wrong(key, format!("does not fit item {}", place.0))),
        }
    }

    /// Adds to a block. An empty piece adds nothing.
    fn grow(&mut self, place: Place, delta: ContentDelta) {
        let (ContentDelta::Text(piece)
        | ContentDelta::Thinking(piece)
        | ContentDelta::Signature(piece)
        | ContentDelta::ToolInput(piece)) = &delta;
        if piece.is_empty() {
            return;
        }
        if let Some(lane) = self.lane(place) {
            lane.grew = true;
            lane.waiting.push(Piece::Grows(delta));
        }
    }

    fn part_added(&mut self, body: &mut Fields<'_, '_>) -> Result<bool, WireError> {
        let place = read_place(body)?;
        let part = body.value("part").ok_or_else(|| body.missing("part"))?;
        match kind_of(&part) {
            "output_text" | "refusal" => {
                if self.seen.contains(&place) {
                    return Err(body.wrong("content_index", "begins a second time"));
                }
                self.begin(place, Some(Block::text("")));
                let text = part.get("text").and_then(Value::as_str).unwrap_or("");
                self.grow(place, ContentDelta::Text(text.to_owned()));
                Ok(true)
            }
            "reasoning_text" => Ok(true),
            _ => Ok(false),
        }
    }

    fn part_done(&mut self, body: &mut Fields<'_, '_>) -> Result<bool, WireError> {
        let place = read_place(body)?;
        if let Some(lane) = self.lane(place) {
            lane.done = true;
        }
        Ok(true)
    }

    /// A text grows by a delta, or is told whole where no delta came. Some servers leave out that it begins.
    fn part_grows(&mut self, body: &mut Fields<'_, '_>, key: &str) -> Result<bool, WireError> {
        let place = read_place(body)?;
        let text = body.required_text(key)?;
        if !self.seen.contains(&place) {
            self.begin(place, Some(Block::text("")));
        }
        let grew = self.open(body, place, (Kind::Text, key))?.is_none_or(|lane| lane.grew);
        if key == "delta" || !grew {
            self.grow(place, ContentDelta::Text(text.into_owned()));
        }
        Ok(true)
    }

    fn call_grows(&mut self, body: &mut Fields<'_, '_>, key: &str) -> Result<bool, WireError> {
        let place = (read_index(body, "output_index")?, None);
        let text = body.text(key)?.unwrap_or_default();
        let Some(lane) = self.open(body, place, (Kind::Input, key))? else { return Ok(false) };
        if key == "delta" || !lane.grew {
            self.grow(place, ContentDelta::ToolInput(text.into_owned()));
        }
        Ok(true)
    }

    fn summary_part(&mut self, body: &mut Fields<'_, '_>) -> Result<bool, WireError> {
        let place = (read_index(body, "output_index")?, None);
        if self.lane(place).is_some_and(|lane| lane.grew && lane.kind == Kind::Thinking) {
            self.grow(place, ContentDelta::Thinking(PARAGRAPH.to_owned()));
        }
        Ok(true)
    }

    fn thought_grows(&mut self, body: &mut Fields<'_, '_>, key: &str) -> Result<bool, WireError> {
        let place = (read_index(body, "output_index")?, None);
        let text = body.required_text(key)?;
        if !self.seen.contains(&place) {
            self.begin(place, Some(Block::Thinking { text: String::new(), signature: None }));
        }
        if self.open(body, place, (Kind::Thinking, key))?.is_none() {
            return Ok(false);
        }
        self.grow(place, ContentDelta::Thinking(text.into_owned()));
        Ok(true)
    }

    /// The whole response is told at the end; its items were told before, but by servers that tell nothing else.
    fn finish(&mut self, name: &str, mut body: Fields<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let nothing_told = self.seen.is_empty();
        let read = |response: &mut Fields<'_, '_>| {
            let reason = response.nested("incomplete_details", |details| details.text("reason"))?.flatten();
            let reason = reason.map(Cow::into_owned);
            let usage = response.take("usage").whole(response.path("usage"), read_usage)?.flatten();
            let read_item = |item: Json<'_>, path: Path<'_>| read_item(item.into(), path);
            let items = if nothing_told {
                response.take("output").each(response.path("output"), read_item)?
            } else {
                None
            };
            let status = response.text("status")?.map(Cow::into_owned);
            Ok(((status, reason), usage, items.unwrap_or_default(), read_ids(response)?))
        };
        let told = body.nested("response", read)?.ok_or_else(|| body.missing("response"))?;
        let ((status, reason), usage, items, (id, model)) = told;
        let mut chunks = Vec::new();
        if !std::mem::replace(&mut self.started, true) {
            chunks.push(Chunk::Start { id, model });
        }
        for (at, (blocks, is_refusal)) in (0..).zip(items) {
            self.said.take(&[], is_refusal);
            self.whole_blocks(at, blocks, false);
        }
        self.lanes.iter_mut().for_each(|lane| lane.done = true);
        chunks.extend(self.flush());
        chunks.extend(usage.map(Chunk::Usage));
        let status = status.as_deref().filter(|status| matches!(*status, "completed" | "incomplete"));
        let status = status.or(name.strip_prefix("response.")).unwrap_or(name);
        chunks.push(Chunk::Stop { reason: read_stop(status, reason, &self.said) });
        self.finished = true;
        Ok(chunks)
    }

    /// The end is told whole or not at all.
    pub(crate) fn finished(&self) -> bool {
        self.finished
    }
}

/// Events that hold the whole response, so that a stream may be taken up at any of them.
const LIFECYCLE: [&str; 5] = [
    "response.created",
    "response.in_progress",
    "response.queued",
    "response.completed",
    "response.incomplete",
];

/// The other events that we have words for.
const CONTENT: [&str; 16] = [
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.refusal.delta",
    "response.refusal.done",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.reasoning_summary_part.added",
    "response.reasoning_summary_text.delta",
    "response.reasoning_text.delta",
    "response.reasoning_summary_text.done",
    "response.reasoning_summary_part.done",
    "response.reasoning_text.done",
];

fn is_known(name: &str) -> bool {
    matches!(name, "error" | "response.failed") || LIFECYCLE.contains(&name) || CONTENT.contains(&name)
}

fn not_open(body: &Fields<'_, '_>, (item, part): Place) -> WireError {
    match part {
        Some(part) => body.wrong("content_index", format!("part {part} of item {item} is not open")),
        None => body.wrong("output_index", format!("item {item} is not open")),
    }
}

fn read_index(body: &mut Fields<'_, '_>, key: &str) -> Result<u64, WireError> {
    body.count(key)?.ok_or_else(|| body.missing(key))
}

fn read_place(body: &mut Fields<'_, '_>) -> Result<Place, WireError> {
    let item = read_index(body, "output_index")?;
    Ok((item, Some(body.count("content_index")?.unwrap_or(0))))
}

/// The id of a response, and its model.
fn read_ids(response: &mut Fields<'_, '_>) -> Result<(String, String), WireError> {
    let (id, model) = (response.text("id")?.unwrap_or_default(), response.text("model")?.unwrap_or_default());
    Ok((id.into_owned(), model.into_owned()))
}
