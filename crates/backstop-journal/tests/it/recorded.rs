//! Journals that were recorded once and are never written anew: each must verify, decode and tell the story it told when
//! it was recorded. `NAME.jsonl` holds the events, `NAME.expect` the story.
//!
//! A line is `{"position", "stream", "seq", "at", "epoch", "v", "hash", "body"}`, its body as it was stored, byte for
//! byte. To add one, put the lines of a real run there and run the test once with `UPDATE_EXPECT=1`.

use crate::example;
use crate::timeline::show;
use backstop_call::Timestamp;
use backstop_journal::projections::timeline::Timeline;
use backstop_journal::{Event, EventBody, Hash, Links, StreamId, verify};
use expect_test::expect_file;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Line {
    position: u64,
    stream: StreamId,
    seq: u64,
    at: Timestamp,
    epoch: u64,
    v: u32,
    hash: String,
    body: Value,
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals")
}

fn hash_of(hex: &str) -> Hash {
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    Hash(std::array::from_fn(byte))
}

/// Reads a line; the text of the body is what was hashed, because JSON objects keep their order here.
fn read(line: &str) -> (Event, String) {
    let line: Line = serde_json::from_str(line).unwrap();
    let json = line.body.to_string();
    let kind = line.body["kind"].as_str().unwrap();
    let body = EventBody::decode(kind, line.v, &json).unwrap();
    let Line { position, stream, seq, at, epoch, .. } = line;
    (Event { position, stream, seq, at, epoch, body, hash: hash_of(&line.hash) }, json)
}

#[test]
fn recorded_journals_tell_the_same_story_still() {
    let mut seen = 0;
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        seen += 1;
        let stored: Vec<_> = std::fs::read_to_string(&path).unwrap().lines().map(read).collect();
        // Recorded before links went over frames.
        verify(&Links { framed: u64::MAX, blind: None }, example::stored(&stored))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let timeline = Timeline::fold(stored.iter().map(|(event, _)| event)).unwrap();
        let summary = serde_json::to_string_pretty(&timeline.summary).unwrap();
        expect_file![path.with_extension("expect")].assert_eq(&format!("{summary}\n{}", show(&timeline)));
    }
    assert!(seen > 0, "no recorded journal was found");
}
