//! What can be erased is found where it stands, and the chain is the same without it.

use super::*;
use crate::event::{ParkReason, RunClaimed, RunFinished, RunParked, RunStatus, ToolFinished, ToolUnknown};
use crate::{Body, ChainError, Erasure, Event, EventBody, Links, Stored, erase, link, old_link, verify};
use backstop_call::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;

const BLIND: Blind = Blind([7; 32]);

fn stream() -> StreamId {
    StreamId::Run("r".into())
}

fn parts_of<'a>(kind: &str, text: &'a str) -> Vec<&'a str> {
    Parts::of(&stream(), kind, text).0.into_iter().map(|part| &text[part]).collect()
}

#[test]
fn parts_stand_where_the_table_says() {
    let rows: [(&str, &str, &[&str]); 9] = [
        ("tool.unknown", r#"{"id":"1","reason":"a \"}, b"}"#, &[r#""a \"}, b""#]),
        ("tool.unknown", r#"{"kind":"tool.unknown","id":"1","reason":"a"}"#, &[r#""a""#]),
        ("tool.unknown", r#"{"id":"1","reason":""}"#, &[]),
        (
            "tool.finished",
            r#"{"id":"1","result":{"inline":{"result":{"inline":"x"}}},"whole":{"inline":null}}"#,
            &[r#"{"inline":{"result":{"inline":"x"}}}"#],
        ),
        ("tool.finished", r#"{"result":{"blob":{"hash":"00","bytes":2}},"reason":"a"}"#, &[]),
        (
            "call.finished",
            r#"{"attempts":[{"message":"a","x":[{"message":"no"}]},{"n":1.5},{"message":"b"}],"message":"no"}"#,
            &[r#""a""#, r#""b""#],
        ),
        (
            "call.failed",
            r#"{"failure":{"kind":"x","detail":{"message":"a","attempts":[]}},"cost":17}"#,
            &[r#""a""#],
        ),
        ("approval.decided", r#"{"decision":{"answer":"deny","reason":"no"}}"#, &[r#""no""#]),
        ("run.claimed", r#"{"owner":"1","message":"a"}"#, &[]),
    ];
    for (kind, text, want) in rows {
        assert_eq!(parts_of(kind, text), want, "{text}");
        assert!(Parts::of(&StreamId::Calls, kind, text).is_empty(), "only runs say something");
    }
}

#[test]
fn a_digest_is_read_to_the_byte_or_not_at_all() {
    let digest = Digest::of(r#"{"inline":"yes"}"#, &BLIND);
    assert_eq!(digest.bytes, 5, "the length of the value");
    let text = digest.to_string();
    assert_eq!(Digest::read(&text), Some(digest));
    let others = [
        text.replace(",\"", ", \""),
        text.replace(":5", ":05"),
        text.to_uppercase(),
        text.replace("}}", "} }"),
        text.replacen("digest\":\"", "digest\":\"é", 1),
        String::new(),
    ];
    for other in others {
        assert_eq!(Digest::read(&other), None, "{other}");
    }
    assert_ne!(
        Digest::of("\"yes\"", &BLIND).hash,
        Digest::of("\"yes\"", &Blind([8; 32])).hash,
        "it is blinded"
    );
}

/// Texts of events, as a run might write them.
fn body() -> impl Strategy<Value = EventBody> {
    let value = prop_oneof![
        any::<String>().prop_map(Value::from),
        (any::<String>(), any::<i64>())
            .prop_map(|(name, number)| json!({ name: [number, {"inline": null}] })),
        Just(Value::Null),
    ];
    let result = value.prop_map(Body::Inline);
    prop_oneof![
        any::<String>().prop_map(|owner| RunClaimed { owner }.into()),
        (any::<String>(), any::<String>())
            .prop_map(|(id, reason)| ToolUnknown { id, reason: reason.into() }.into()),
        (any::<String>(), result.clone(), result.clone()).prop_map(|(id, result, whole)| {
            let (labels, duration) = (backstop_call::Labels::default(), Duration::ZERO);
            ToolFinished { id, is_error: false, result, whole, labels, duration, probed: false, spent: None }
                .into()
        }),
        (result, any::<String>()).prop_map(|(result, message)| {
            let (result, message) = (Some(result), message.into());
            RunFinished { status: RunStatus::Failed, result, code: None, message }.into()
        }),
    ]
}

/// What is stored of a run: its events with their texts, up to `framed` as older versions wrote them.
fn written(bodies: Vec<EventBody>, framed: u64) -> Vec<(Event, String)> {
    let mut last = Hash::default();
    let mut events = Vec::new();
    for (seq, body) in (1..).zip(bodies) {
        let at = Timestamp::from_secs(seq);
        let text = if seq < framed { serde_json::to_string(&body).unwrap() } else { body.encode() };
        let mut event = Event { position: seq, stream: stream(), seq, at, epoch: 1, body, hash: last };
        let stored = Stored { event: &event, version: event.body.version(), text: &text };
        last = if seq < framed {
            old_link(last, &stored.place(), &text)
        } else {
            link(last, &stored.place(), &text, &stored.parts(), &BLIND)
        };
        event.hash = last;
        events.push((event, text));
    }
    events
}

fn stored(events: &[(Event, String)]) -> Vec<Stored<'_>> {
    events.iter().map(|(event, text)| Stored { event, version: event.body.version(), text }).collect()
}

fn check(links: &Links, events: &[(Event, String)]) -> Result<Hash, ChainError> {
    verify(links, stored(events))
}

/// The text with digests in the place of those parts of which `chosen` says so.
fn erased(text: &str, kind: &str, mut chosen: impl FnMut() -> bool) -> String {
    let (mut left, mut from) = (String::new(), 0);
    for part in Parts::of(&stream(), kind, text).0 {
        left += &text[from..part.start];
        let part_text = &text[part.clone()];
        left += &if chosen() { Digest::of(part_text, &BLIND).to_string() } else { part_text.to_owned() };
        from = part.end;
    }
    left + &text[from..]
}

proptest! {
    #[test]
    fn whatever_is_erased_the_last_link_is_the_same(
        bodies in prop::collection::vec(body(), 1..8),
        chosen in prop::collection::vec(any::<bool>(), 64),
    ) {
        let links = Links { framed: 1, blind: Some(BLIND) };
        let mut events = written(bodies, 1);
        let head = check(&links, &events).unwrap();
        let mut chosen = chosen.into_iter().cycle();
        for (event, text) in &mut events {
            *text = erased(text, event.body.kind(), || chosen.next().unwrap());
            event.body = EventBody::decode(event.body.kind(), event.body.version(), text).unwrap();
        }
        prop_assert_eq!(check(&links, &events), Ok(head));
        // All of it, and the blind with it.
        let Erasure { texts, rechained, .. } = erase(&links, &stored(&events)).unwrap();
        prop_assert_eq!(rechained, None);
        for (seq, text) in texts {
            events[usize::try_from(seq).unwrap() - 1].1 = text;
        }
        let links = Links { blind: None, ..links };
        prop_assert_eq!(check(&links, &events), Ok(head));
        prop_assert_eq!(erase(&links, &stored(&events)).unwrap().parts, 0, "there is nothing left");
    }

    #[test]
    fn any_byte_that_is_changed_breaks_the_link(
        bodies in prop::collection::vec(body(), 2..5),
        chosen in prop::collection::vec(any::<bool>(), 16),
        which in any::<prop::sample::Index>(),
        byte in any::<prop::sample::Index>(),
        other in b' '..b'~',
    ) {
        let links = Links { framed: 1, blind: Some(BLIND) };
        let mut events = written(bodies, 1);
        let mut chosen = chosen.into_iter().cycle();
        for (event, text) in &mut events {
            *text = erased(text, event.body.kind(), || chosen.next().unwrap());
        }
        let (index, text) = (which.index(events.len()), which.get(&events).1.clone());
        let mut bytes = text.into_bytes();
        let place = byte.index(bytes.len());
        prop_assume!(bytes[place].is_ascii() && bytes[place] != other);
        bytes[place] = other;
        events[index].1 = String::from_utf8(bytes).unwrap();
        let want = ChainError::Changed { stream: stream(), seq: index as u64 + 1 };
        prop_assert_eq!(check(&links, &events), Err(want));
    }

    #[test]
    fn a_text_of_any_shape_has_parts_or_none(text in "[a-z\"\\\\{}\\[\\],:é\u{0}]{0,40}", cut in any::<prop::sample::Index>()) {
        let whole = r#"{"id":"1","result":{"inline":{"a":["é","\\"]}},"whole":{"inline":"b"},"probed":false}"#;
        let cut = (0..=cut.index(whole.len())).rev().find(|at| whole.is_char_boundary(*at)).unwrap();
        for text in [text.clone(), whole[..cut].to_owned() + &text] {
            let parts = Parts::of(&stream(), "tool.finished", &text);
            prop_assert_eq!(parts.erase(&text, &BLIND).parts, parts.0.len() as u64);
        }
    }
}

/// The same at every place of one text, also with what would be as good a digest or length.
#[test]
fn every_byte_of_what_is_left_is_in_the_link() {
    let bodies = vec![ToolUnknown { id: "1".to_owned(), reason: "it died".into() }.into()];
    let events = written(bodies, 1);
    let text = erased(&events[0].1, "tool.unknown", || true);
    assert!(text.len() > 100, "{text}");
    for place in 0..text.len() {
        for other in "09af\" }".bytes().filter(|other| *other != text.as_bytes()[place]) {
            let mut bytes = text.clone().into_bytes();
            bytes[place] = other;
            let changed = String::from_utf8(bytes).unwrap();
            let links = Links { framed: 1, blind: Some(BLIND) };
            assert!(check(&links, &[(events[0].0.clone(), changed.clone())]).is_err(), "{changed}");
        }
    }
}

type Change = fn(&mut Event, &mut u32);
type Tampering = fn(&mut [(Event, String)]);

#[test]
fn what_stands_beside_the_text_is_in_the_link() {
    let bodies = || {
        let unknown = |reason: &str| ToolUnknown { id: "1".to_owned(), reason: reason.into() }.into();
        vec![unknown("a"), RunClaimed { owner: "1".to_owned() }.into(), unknown("c")]
    };
    let links = Links { framed: 1, blind: Some(BLIND) };
    let changes: [(&str, Change); 5] = [
        ("time", |event, _| event.at = Timestamp::from_secs(9)),
        ("epoch", |event, _| event.epoch = 2),
        ("version", |_, version| *version = 2),
        ("kind", |event, _| event.body = RunParked { reason: ParkReason::Wait, until: None }.into()),
        ("link", |event, _| event.hash = Hash([1; 32])),
    ];
    for (what, change) in changes {
        let mut events = written(bodies(), 1);
        let mut version = 1;
        change(&mut events[1].0, &mut version);
        let mut stored = stored(&events);
        stored[1].version = version;
        let want = ChainError::Changed { stream: stream(), seq: 2 };
        assert_eq!(verify(&links, stored), Err(want), "{what}");
    }
    let events = written(bodies(), 1);
    let other = Links { blind: Some(Blind([8; 32])), ..links };
    assert!(check(&other, &events).is_err(), "what is there verifies with its blind alone");
}

/// A run of an older version: nobody can work out its links once it is erased, and what is left is vouched for.
#[test]
fn an_old_run_is_erased_and_what_is_left_cannot_be_changed() {
    let unknown = |reason: &str| ToolUnknown { id: "1".to_owned(), reason: reason.into() }.into();
    let claimed = || RunClaimed { owner: "1".to_owned() }.into();
    let bodies = vec![unknown("old"), claimed(), unknown("older"), unknown("new"), claimed()];
    let links = Links { framed: 4, blind: Some(BLIND) };
    let events = written(bodies.clone(), 4);
    assert_eq!(check(&links, &events).unwrap(), events[4].0.hash);
    let Erasure { texts, parts, bytes, rechained } = erase(&links, &stored(&events)).unwrap();
    assert_eq!((texts.len(), parts, bytes), (3, 3, 17));
    let vouch = rechained.unwrap();
    assert_eq!(vouch.was, events[2].0.hash);
    let by_whom = ("me".to_owned(), "asked for".to_owned());
    let word = crate::event::RunErased { by: by_whom.0, reason: by_whom.1, bodies: 3, bytes, rechained };
    let mut after = written(bodies.into_iter().chain([word.into()]).collect(), 4);
    for (seq, text) in texts {
        after[usize::try_from(seq).unwrap() - 1].1 = text;
    }
    let links = Links { blind: None, ..links };
    assert_eq!(check(&links, &after), Ok(after[5].0.hash));
    assert_eq!(&after[4].0.hash, &events[4].0.hash, "a link that was kept elsewhere is still there");

    let changes: [(&str, Tampering, u64); 4] = [
        ("a frame", |events| events[0].1 = events[0].1.replace("\"1\"", "\"2\""), 1),
        ("a time", |events| events[2].0.at = Timestamp::from_secs(9), 1),
        ("a newer frame", |events| events[3].1 = events[3].1.replace("\"1\"", "\"2\""), 4),
        ("the word on it", |events| events[5].1 = events[5].1.replace("me", "us"), 6),
    ];
    for (what, change, seq) in changes {
        let mut events = after.clone();
        change(&mut events);
        let want = ChainError::Changed { stream: stream(), seq };
        assert_eq!(check(&links, &events), Err(want), "{what}");
    }
    // What was changed before it is erased is not erased over.
    let mut events = events;
    events[1].1 = events[1].1.replace('1', "2");
    let links = Links { blind: Some(BLIND), ..links };
    assert!(erase(&links, &stored(&events)).is_err());
}
