//! The hash chain finds whatever is done to a stream, and lets bodies go.

use crate::example::{self, BLIND, LINKS, START, example_run, run_stream};
use backstop_call::Timestamp;
use backstop_journal::event::RunClaimed;
use backstop_journal::{
    Body, ChainError, Event, EventBody, Hash, Parts, Place, StreamId, link, old_link, verify,
};
use std::time::Duration;

type Stored = Vec<(Event, String)>;
type Change = fn(&mut Event, &mut String);

fn stored() -> Stored {
    example_run().into_iter().filter(|(event, _)| event.stream == run_stream()).collect()
}

fn check(stored: &[(Event, String)]) -> Result<Hash, ChainError> {
    verify(&LINKS, example::stored(stored))
}

fn hash_of(prev: Hash, event: &Event, json: &str) -> Hash {
    let stored = backstop_journal::Stored { event, version: event.body.version(), text: json };
    link(prev, &stored.place(), json, &stored.parts(), &BLIND)
}

/// The number at which the chain breaks.
fn broken_at(error: &ChainError) -> u64 {
    match error {
        ChainError::Gap { expected, .. } => *expected,
        ChainError::Changed { seq, .. } => *seq,
    }
}

#[test]
fn an_untouched_stream_is_whole() {
    let stored = stored();
    assert_eq!(check(&stored), Ok(stored.last().unwrap().0.hash));
    assert_eq!(check(&[]), Ok(Hash::default()));
}

#[test]
fn whatever_is_changed_is_found_where_it_stands() {
    let changes: [(&str, Change); 6] = [
        ("a byte of the text", |_, json| *json = json.replacen("1.0", "1.1", 1) + " "),
        ("the time", |event, _| event.at = event.at + Duration::from_nanos(1)),
        ("the epoch", |event, _| event.epoch += 1),
        ("the number", |event, _| event.seq += 1),
        ("the stream", |event, _| event.stream = StreamId::Run("another".into())),
        ("the hash", |event, _| event.hash = Hash([7; 32])),
    ];
    for index in 0..stored().len() {
        for (what, change) in changes {
            let mut stored = stored();
            let (event, json) = &mut stored[index];
            change(event, json);
            let error = check(&stored).expect_err(what);
            assert_eq!(broken_at(&error), index as u64 + 1, "{what} of event {}", index + 1);
        }
    }
}

#[test]
fn what_is_dropped_reordered_or_put_in_is_found() {
    let length = stored().len();
    for index in 0..length - 1 {
        let mut dropped = stored();
        dropped.remove(index);
        assert_eq!(broken_at(&check(&dropped).unwrap_err()), index as u64 + 1, "dropped {index}");

        let mut swapped = stored();
        swapped.swap(index, index + 1);
        assert_eq!(broken_at(&check(&swapped).unwrap_err()), index as u64 + 1, "swapped {index}");

        let mut twice = stored();
        twice.insert(index, twice[index].clone());
        assert_eq!(broken_at(&check(&twice).unwrap_err()), index as u64 + 2, "twice {index}");
    }
}

/// Somebody who renumbers everything after the change and hashes the new event rightly is still found: the next event
/// was hashed over the one that stood there before.
#[test]
fn an_inserted_event_with_a_right_hash_breaks_the_next_one() {
    let mut stored = stored();
    let index = 4;
    let prev = stored[index - 1].0.clone();
    let body = EventBody::from(RunClaimed { owner: "nobody".into() });
    let json = body.encode();
    let event = Event { seq: prev.seq + 1, body, ..prev.clone() };
    let hash = hash_of(prev.hash, &event, &json);
    stored.insert(index, (Event { hash, ..event }, json));
    for (event, _) in &mut stored[index + 1..] {
        event.seq += 1;
    }
    assert_eq!(broken_at(&check(&stored).unwrap_err()), index as u64 + 2);
}

#[test]
fn the_end_can_be_cut_off_unseen_and_only_the_head_tells() {
    let whole = stored();
    let mut cut = stored();
    cut.pop();
    assert_ne!(check(&cut).unwrap(), check(&whole).unwrap());
}

#[test]
fn an_erased_blob_leaves_the_chain_whole() {
    let mut stored = stored();
    let mut prev = Hash::default();
    let mut blobs = Vec::new();
    for (event, json) in &mut stored {
        blobs.extend(event.body.bodies_mut().into_iter().filter_map(|body| body.spill(0)));
        *json = event.body.encode();
        event.hash = hash_of(prev, event, json);
        prev = event.hash;
    }
    assert!(blobs.len() > 5, "the example has bodies: {}", blobs.len());
    // The blobs are gone now: what is read back stays a reference to nothing.
    drop(blobs);
    for (event, json) in &stored {
        assert_eq!(EventBody::decode(event.body.kind(), event.body.version(), json).unwrap(), event.body);
    }
    assert!(check(&stored).is_ok());

    // Another hash in the place of an erased body is a change like any other.
    let (_, json) = &mut stored[0];
    let mut other = Body::from("You obey me.");
    let hash = other.spill(0).unwrap().hash;
    let place = json.find("\"hash\":\"").unwrap() + 8;
    json.replace_range(place..place + 64, hash.as_str());
    assert_eq!(broken_at(&check(&stored).unwrap_err()), 1);
}

/// The chain is a format: a journal written today verifies in ten years, and one of the first versions does today.
#[test]
fn the_hash_is_what_it_always_was() {
    let calls =
        Place { stream: &StreamId::Calls, seq: 1, at: START, epoch: 0, kind: "call.finished", version: 2 };
    let node = Place { stream: &StreamId::Node, at: Timestamp::EPOCH, ..calls };
    let old = old_link(Hash::default(), &calls, "{}");
    assert_eq!(old.to_string(), "107464987c81fba3e6fcc50241bb33b947c11cda59d8fdb8e59e8b4edfb88521");
    assert_ne!(old, old_link(Hash::default(), &node, "{}"));

    let run = run_stream();
    let said = Place { stream: &run, epoch: 1, kind: "tool.unknown", version: 1, ..calls };
    let text = r#"{"id":"t1","reason":"it died"}"#;
    let rows = [
        (calls, "{}", "efd15526894ee6e25d117ee734c3d85dae5543869898dbc9caf48c8498bd6624"),
        (said, text, "504ff125d049e17c098dd610e3b32030c89de78e6967f6ec5d508de6d9e63b1c"),
    ];
    for (place, text, want) in rows {
        let parts = Parts::of(place.stream, place.kind, text);
        assert_eq!(link(Hash::default(), &place, text, &parts, &BLIND).to_string(), want);
    }
}
