//! The event parser against the rules of the standard, and against itself with the bytes cut everywhere.

use crate::events::{Said, push, said};
use backstop_wire::sse::{SseError, SseParser, render};
use proptest::prelude::*;

const LIMIT: usize = 1 << 16;

fn event(event: Option<&str>, data: &str) -> Said {
    (event.map(str::to_owned), data.to_owned())
}

fn whole(bytes: &[u8]) -> Result<Vec<Said>, SseError> {
    in_pieces([bytes])
}

fn in_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<Said>, SseError> {
    let mut parser = SseParser::new(LIMIT);
    let mut events = Vec::new();
    for piece in pieces {
        events.extend(push(&mut parser, piece)?);
    }
    said(&events)
}

/// Everything that a stream may hold, in one text.
const CORPUS: &str = "\u{FEFF}event: a\ndata: one\n\n: comment\r\rdata:two\r\ndata:  three\r\n\r\nid: 7\nretry: 10\n\
    data: \u{2028}\u{2029}\u{85} grüße 🦀 \u{FEFF}\nunknown: x\ndata\n\nevent: no-data\n\nevent:\ndata: last\r\r\n\ndata: cut";

#[test]
fn reads_what_the_standard_says() {
    let want = [
        event(Some("a"), "one"),
        event(None, "two\n three"),
        event(None, "\u{2028}\u{2029}\u{85} grüße 🦀 \u{FEFF}\n"),
        event(None, "last"),
    ];
    assert_eq!(whole(CORPUS.as_bytes()).unwrap(), want);
}

#[test]
fn a_cut_at_any_byte_changes_nothing() {
    let want = whole(CORPUS.as_bytes()).unwrap();
    for at in 0..=CORPUS.len() {
        let (left, right) = CORPUS.as_bytes().split_at(at);
        assert_eq!(in_pieces([left, right]).unwrap(), want, "cut at byte {at}");
        assert_eq!(in_pieces([left, &[], right]).unwrap(), want, "an empty read at byte {at}");
    }
    assert_eq!(in_pieces(CORPUS.as_bytes().chunks(1)).unwrap(), want, "byte by byte");
}

#[test]
fn an_event_is_given_out_with_its_last_byte_and_not_later() {
    let mut parser = SseParser::new(LIMIT);
    let mut read = |bytes: &[u8]| said(&push(&mut parser, bytes).unwrap()).unwrap();
    assert_eq!(read(b"data: x\n"), []);
    assert_eq!(read(b"\r"), [event(None, "x")], "a carriage return ends a line at once");
    assert_eq!(read(b"\ndata: y\n"), [], "its line feed is no line of its own");
    assert_eq!(read(b"\n"), [event(None, "y")]);
}

#[test]
fn an_event_over_the_limit_is_an_error_and_stays_one() {
    let error = Err(SseError::TooLarge { limit_bytes: 12 });
    let mut parser = SseParser::new(12);
    assert_eq!(push(&mut parser, b"data:12345\n\n").map(|events| events.len()), Ok(1));
    assert_eq!(push(&mut parser, b"data:12345\n"), Ok(Vec::new()));
    assert_eq!(push(&mut parser, b"id"), error);
    assert_eq!(push(&mut parser, b"\n\n"), error);

    let whole = b"data:1\ndata:2\n\n";
    assert_eq!(push(&mut SseParser::new(12), whole), error, "lines of one event count together");
    let comments = b": ping\n: ping\n";
    assert_eq!(push(&mut SseParser::new(12), comments), error, "comments without an end are bounded too");
    let mut parser = SseParser::new(12);
    for _ in 0..100 {
        assert_eq!(push(&mut parser, b": ping\n\n").map(|events| events.len()), Ok(1), "each has an end");
    }
}

#[test]
fn bytes_that_are_no_text_are_an_error_only_where_text_is() {
    assert_eq!(whole(b"data: \xFF\n\n"), Err(SseError::NotUtf8));
    assert_eq!(whole(b"event: \xC3\ndata: x\n\n"), Err(SseError::NotUtf8));
    assert_eq!(whole(b": \xFF\ndata: x\n\n").unwrap(), [event(None, "x")]);
}

fn cut(bytes: &[u8], mut at: Vec<usize>) -> Vec<&[u8]> {
    for at in &mut at {
        *at %= bytes.len() + 1;
    }
    at.sort_unstable();
    let ends = at.iter().copied().chain([bytes.len()]);
    ends.scan(0, |from, to| Some(&bytes[std::mem::replace(from, to)..to])).collect()
}

proptest! {
    #[test]
    fn garbage_cut_anywhere_gives_the_same_and_never_panics(
        bytes in prop::collection::vec(prop_oneof![any::<u8>(), prop::sample::select(b"\n\r: dataevent\xEF\xBB\xBF".to_vec())], 0..400),
        at in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        prop_assert_eq!(in_pieces(cut(&bytes, at)), whole(&bytes));
    }

    #[test]
    fn what_is_rendered_is_read_back(name in prop::option::of("[a-z_]{1,12}"), data in "(\\PC|\n|\u{2028}){0,60}") {
        let bytes = render(name.as_deref(), &data);
        prop_assert_eq!(whole(&bytes).unwrap(), [(name, data)]);
    }
}

#[test]
fn raw_bytes_are_all_there_wherever_the_reads_are_cut() {
    let bytes = CORPUS.as_bytes();
    for at in 0..=bytes.len() {
        let mut parser = SseParser::new(LIMIT);
        let mut raw = push(&mut parser, &bytes[..at]).unwrap();
        raw.extend(push(&mut parser, &bytes[at..]).unwrap());
        let all: Vec<u8> = raw.iter().flat_map(|raw| raw.bytes.to_vec()).collect();
        let rest = bytes.strip_prefix(all.as_slice()).unwrap();
        assert_eq!(rest, b"data: cut", "cut at byte {at}: what is left is the event that has no end");
    }
}
