//! Reading streams of Responses: items and their parts, which may be told side by side, become blocks one after another.

use super::event::{Event, Place};
use super::reply::{Said, read_item, read_stop, read_usage};
use super::{PARAGRAPH, is_held_item, kind_of, read_call, told_error};
use crate::raw::{Json, Raw};
use crate::read::{Object, Path, WireError};
use crate::sealed;
use crate::sse::SseEvent;
use crate::{StreamError, failure};
use backstop_call::{Block, Chunk, ContentDelta};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};

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
        let json = match Json::read(&event.data) {
            Ok(json) => json,
            Err(_) if event.event.is_some_and(|name| !is_known(name)) => return Ok(vec![event.other()]),
            Err(error) => return Err(error.into()),
        };
        let root = json.root().if_object();
        let body = Event::of(&root)?;
        let name = if body.kind.is_text() { body.kind.text()? } else { event.event.map(Cow::Borrowed) };
        let name = name.unwrap_or_default();
        if !body.error.is_absent() || matches!(&*name, "error" | "response.failed") {
            let told = told_error(&json.root().value()?.unwrap_or_default());
            return Err(StreamError::Failed(failure::in_stream(&told)));
        }
        if name == "keepalive" {
            return Ok(vec![Chunk::Ping]);
        }
        let other = || Chunk::Other { event: Some(name.to_string()), data: event.data.to_string() };
        if !is_known(&name) {
            return Ok(vec![other()]);
        }
        if self.finished {
            return Err(body.kind.wrong(format!("{name} comes after the end")).into());
        }
        if !self.started && !LIFECYCLE.contains(&&*name) {
            return Err(body.kind.wrong(format!("{name} comes before response.created")).into());
        }
        Ok(self.known(&name, &body, other)?)
    }

    fn known(
        &mut self,
        name: &str,
        body: &Event<'_, '_>,
        other: impl Fn() -> Chunk,
    ) -> Result<Vec<Chunk>, WireError> {
        let is_taken = match name {
            "response.created" | "response.in_progress" | "response.queued" => return self.start(body),
            "response.completed" | "response.incomplete" => return self.finish(name, body),
            "response.output_item.added" => self.item_added(body),
            "response.output_item.done" => self.item_done(body),
            "response.content_part.added" => self.part_added(body),
            "response.content_part.done" => self.part_done(body),
            "response.output_text.delta" => self.part_grows(body, None),
            "response.output_text.done" => self.part_grows(body, Some(&body.text)),
            "response.refusal.delta" => {
                self.said.take(&[], true);
                self.part_grows(body, None)
            }
            "response.refusal.done" => {
                self.said.take(&[], true);
                self.part_grows(body, Some(&body.refusal))
            }
            "response.function_call_arguments.delta" => self.call_grows(body, None),
            "response.function_call_arguments.done" => self.call_grows(body, Some(&body.arguments)),
            "response.reasoning_summary_part.added" => self.summary_part(body),
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.thought_grows(body)
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

    fn start(&mut self, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        if std::mem::replace(&mut self.started, true) {
            return Ok(vec![Chunk::Ping]);
        }
        let response = body.response.required()?;
        let [id, model] = response.fields(["id", "model"])?;
        Ok(vec![Chunk::Start { id: id.owned_text()?, model: model.owned_text()? }])
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

    fn item_added(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let at = body.item_index()?;
        let item = body.item.required()?.value()?.unwrap_or_default();
        if self.seen.iter().any(|(item, _)| *item == at) {
            return Err(body.output_index.wrong(format!("item {at} begins a second time")));
        }
        match kind_of(&item) {
            // Its parts follow.
            "message" => {}
            "function_call" if is_held_item(&item, "function_call") => {
                let arguments = item.get("arguments").and_then(Value::as_str).unwrap_or("").to_owned();
                let mut call = Object::of(item, ITEM)?;
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

    fn item_done(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let at = body.item_index()?;
        let item = body.item.required()?.value()?.unwrap_or_default();
        let was_told = self.seen.iter().any(|(item, _)| *item == at);
        let is_own = self.lane((at, None)).is_some_and(|lane| lane.kind == Kind::Own);
        let grew = self.lane((at, None)).is_some_and(|lane| lane.grew);
        if !was_told || is_own {
            let (blocks, is_refusal) = read_item(item, ITEM)?;
            self.said.take(&blocks, is_refusal);
            self.whole_blocks(at, blocks, is_own);
            return Ok(true);
        }
        match kind_of(&item) {
            "reasoning" if self.lane((at, None)).is_some_and(|lane| lane.kind == Kind::Thinking) => {
                let encrypted =
                    item.get("encrypted_content").and_then(Value::as_str).unwrap_or("").to_owned();
                let (blocks, _) = read_item(item, ITEM)?;
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

    /// The block at a place, to add a piece to, or the whole that is told there. None, where its whole is told later or was
    /// told before.
    fn open(
        &mut self,
        body: &Event<'_, '_>,
        place: Place,
        (wanted, whole): (Kind, Option<&Raw<'_, '_>>),
    ) -> Result<Option<&mut Lane>, WireError> {
        let Some(lane) = self.lanes.iter_mut().find(|lane| lane.place == place && !lane.done) else {
            // A text that is told whole after all of it is harmless; a piece that comes then is not.
            return if whole.is_none() { Err(body.not_open(place)) } else { Ok(None) };
        };
        match lane.kind {
            Kind::Own => Ok(None),
            kind if kind == wanted => Ok(Some(lane)),
            _ => Err(whole.unwrap_or(&body.delta).wrong(format!("does not fit item {}", place.0))),
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

    fn part_added(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let place = body.place()?;
        let part = body.part.required()?.value()?.unwrap_or_default();
        match kind_of(&part) {
            "output_text" | "refusal" => {
                if self.seen.contains(&place) {
                    return Err(body.content_index.wrong("begins a second time"));
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

    fn part_done(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let place = body.place()?;
        if let Some(lane) = self.lane(place) {
            lane.done = true;
        }
        Ok(true)
    }

    /// A text grows by a delta, or is told whole where no delta came. Some servers leave out that it begins.
    fn part_grows(&mut self, body: &Event<'_, '_>, whole: Option<&Raw<'_, '_>>) -> Result<bool, WireError> {
        let place = body.place()?;
        let text = whole.unwrap_or(&body.delta).required_text()?;
        if !self.seen.contains(&place) {
            self.begin(place, Some(Block::text("")));
        }
        let grew = self.open(body, place, (Kind::Text, whole))?.is_none_or(|lane| lane.grew);
        if whole.is_none() || !grew {
            self.grow(place, ContentDelta::Text(text.into_owned()));
        }
        Ok(true)
    }

    fn call_grows(&mut self, body: &Event<'_, '_>, whole: Option<&Raw<'_, '_>>) -> Result<bool, WireError> {
        let place = (body.item_index()?, None);
        let text = whole.unwrap_or(&body.delta).owned_text()?;
        let Some(lane) = self.open(body, place, (Kind::Input, whole))? else { return Ok(false) };
        if whole.is_none() || !lane.grew {
            self.grow(place, ContentDelta::ToolInput(text));
        }
        Ok(true)
    }

    fn summary_part(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let place = (body.item_index()?, None);
        if self.lane(place).is_some_and(|lane| lane.grew && lane.kind == Kind::Thinking) {
            self.grow(place, ContentDelta::Thinking(PARAGRAPH.to_owned()));
        }
        Ok(true)
    }

    fn thought_grows(&mut self, body: &Event<'_, '_>) -> Result<bool, WireError> {
        let place = (body.item_index()?, None);
        let text = body.delta.required_text()?;
        if !self.seen.contains(&place) {
            self.begin(place, Some(Block::Thinking { text: String::new(), signature: None }));
        }
        if self.open(body, place, (Kind::Thinking, None))?.is_none() {
            return Ok(false);
        }
        self.grow(place, ContentDelta::Thinking(text.into_owned()));
        Ok(true)
    }

    /// The whole response is told at the end; its items were told before, but by servers that tell nothing else.
    fn finish(&mut self, name: &str, body: &Event<'_, '_>) -> Result<Vec<Chunk>, WireError> {
        let response = body.response.required()?;
        let [id, model, status, details, usage, output] =
            response.fields(["id", "model", "status", "incomplete_details", "usage", "output"])?;
        let [reason] = details.fields(["reason"])?;
        let reason = reason.text()?.map(Cow::into_owned);
        let usage = usage.object(read_usage)?.flatten();
        let mut items = Vec::new();
        if self.seen.is_empty() {
            output.each(|item| {
                items.push(read_item(item.value()?.unwrap_or_default(), item.path)?);
                Ok(())
            })?;
        }
        let (status, id, model) = (status.text()?, id.owned_text()?, model.owned_text()?);
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

const ITEM: Path<'_> = Path::Field(&Path::Root, "item");
