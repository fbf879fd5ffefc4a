//! Deterministic fuzzing: damaged and invented bytes through every parser. The seed of a failure is printed; it is the
//! whole reproduction.

use crate::streams::check_order;
use backstop_call::{Chunk, Dialect, Seed, Timestamp};
use backstop_wire::sse::{SseError, SseParser};
use backstop_wire::{StreamParser, classify, parse_reply, parse_request};
use http::HeaderMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const CORPUS: &[&str] = &[
    include_str!("../golden/messages.sse"),
    include_str!("../golden/chat.sse"),
    include_str!("../golden/responses.sse"),
    "data: {\"error\":{\"message\":\"m\",\"code\":429}}\n\n",
    "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"m\"}}\n\n",
];

const BODIES: &[&str] = &[
    include_str!("../golden/requests/claude-code.messages.json"),
    include_str!("../golden/requests/openai-sdk.chat.json"),
    include_str!("../golden/requests/codex.responses.json"),
    include_str!("../golden/replies/tools.responses.json"),
    include_str!("../golden/replies/tools.messages.json"),
    include_str!("../golden/replies/tools.chat.json"),
    "{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\",\"message\":\"m\",\"details\":{\"error_code\":\"x\"}}}",
];

/// What turns up where it should not.
const SPLINTERS: &[&str] = &[
    "null",
    "true",
    "-1",
    "1e400",
    "\"\"",
    "[]",
    "{}",
    "{",
    "\\u0000",
    "\n",
    "\n\n",
    "\r",
    "data:",
    "event:",
    "\u{2028}",
    "\"index\":0",
    "\"output_index\":0",
    "\"type\":\"message\"",
    "\"index\":99999999999999999999",
    "[DONE]",
    "\"type\":\"text\"",
    "\"error\":{}",
];

fn index(seed: &Seed, bound: usize) -> usize {
    usize::try_from(seed.below(bound as u64)).unwrap()
}

fn pick<'a>(seed: &Seed, from: &[&'a str]) -> &'a str {
    from[index(seed, from.len())]
}

/// A few cuts, copies, splinters and random bytes.
fn damage(seed: &Seed, text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    for _ in 0..seed.below(6) {
        let at = index(seed, bytes.len() + 1);
        let until = (at + index(seed, 40)).min(bytes.len());
        match seed.below(5) {
            0 => drop(bytes.drain(at..until)),
            1 => drop(bytes.splice(at..until, pick(seed, SPLINTERS).bytes())),
            2 => drop(bytes.splice(at..at, bytes[at..until].to_vec())),
            3 if at < bytes.len() => bytes[at] = u8::try_from(seed.below(256)).unwrap(),
            _ => bytes.truncate(bytes.len() - index(seed, 20).min(bytes.len())),
        }
    }
    bytes
}

/// The recorded events in any order, some of them twice or not at all.
fn shuffled(seed: &Seed) -> String {
    let events: Vec<&str> = CORPUS[index(seed, 3)].split_inclusive("\n\n").collect();
    let keep_from = index(seed, events.len());
    let order = (0..events.len()).map(|at| if at < keep_from { at } else { index(seed, events.len()) });
    order.map(|at| events[at]).collect()
}

fn read_stream(seed: &Seed, dialect: Dialect, bytes: &[u8]) -> Vec<Chunk> {
    let mut events = SseParser::new(1 << 14);
    let mut parser = StreamParser::new(dialect);
    let mut chunks = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, more) = rest.split_at((1 + index(seed, 200)).min(rest.len()));
        rest = more;
        let Ok(complete) = crate::events::push(&mut events, piece) else { return chunks };
        for raw in complete {
            let event = match raw.event() {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(_) => return chunks,
            };
            match parser.push(&event) {
                Ok(more) => chunks.extend(more),
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    return chunks;
                }
            }
        }
    }
    chunks.extend(parser.eof());
    chunks
}

/// Runs a case for each seed, and names the seed of the first that fails.
fn for_seeds(count: u64, case: impl Fn(&Seed)) {
    for number in 0..count {
        let outcome = catch_unwind(AssertUnwindSafe(|| case(&Seed::new(number))));
        assert!(outcome.is_ok(), "failed with seed {number}");
    }
}

#[test]
fn damaged_streams_never_panic_nor_break_the_order_of_chunks() {
    for_seeds(1500, |seed| {
        let stream = if seed.below(2) == 0 { shuffled(seed) } else { pick(seed, CORPUS).to_owned() };
        let bytes = damage(seed, &stream);
        for dialect in Dialect::ALL {
            check_order(&read_stream(seed, dialect, &bytes));
        }
    });
}

#[test]
fn invented_bytes_never_panic() {
    for_seeds(1000, |seed| {
        let bytes: Vec<u8> = (0..seed.below(300))
            .flat_map(|_| match seed.below(3) {
                0 => vec![u8::try_from(seed.below(256)).unwrap()],
                _ => pick(seed, SPLINTERS).as_bytes().to_vec(),
            })
            .collect();
        for dialect in Dialect::ALL {
            check_order(&read_stream(seed, dialect, &bytes));
            let _ = (parse_request(dialect, &bytes), parse_reply(dialect, &bytes));
        }
    });
}

#[test]
fn damaged_bodies_never_panic_and_are_refused_with_words() {
    for_seeds(1500, |seed| {
        let bytes = damage(seed, pick(seed, BODIES));
        for dialect in Dialect::ALL {
            for error in [parse_request(dialect, &bytes).err(), parse_reply(dialect, &bytes).err()] {
                assert!(error.is_none_or(|error| !error.problem.is_empty()));
            }
            let status = 100 + u16::try_from(seed.below(900)).unwrap();
            let failure = classify(dialect, status, &HeaderMap::new(), &bytes, Timestamp::EPOCH);
            assert!(failure.detail.message.chars().count() <= 500);
        }
    });
}

/// An endless line and an endless event are both refused at the limit, however they come.
#[test]
fn memory_is_bounded() {
    for_seeds(50, |seed| {
        for pattern in ["x", "data: x\n", "data:\n", "event: y\n", ": still here\n"] {
            let mut parser = SseParser::new(1000);
            let endless = pattern.repeat(20_000);
            let mut rest = endless.as_bytes();
            let error = loop {
                let (piece, more) = rest.split_at((1 + index(seed, 500)).min(rest.len()));
                rest = more;
                if let Err(error) = crate::events::push(&mut parser, piece) {
                    break error;
                }
                assert!(!rest.is_empty(), "an endless `{pattern}` was taken");
            };
            assert_eq!(error, SseError::TooLarge { limit_bytes: 1000 });
        }
    });
}
