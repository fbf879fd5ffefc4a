//! What is found, what is left alone, and that a stream hides no seam.

use super::*;
use crate::outbox::Outbox;
use backstop_call::{Block, Chunk, Closed, ContentDelta, Frame, Message, Request, Speaker, ToolSpec};
use backstop_journal::event::ToolPlanned;
use backstop_journal::{Body, EventBody};
use backstop_label::Class;
use proptest::prelude::*;
use std::task::{Context, Poll};

const SECRET: &str = "hunter2-Xy\"Zq/98";

fn redactor() -> Redactor {
    Redactor::new(&[Secret::new(SECRET), Secret::new("ab")], Config::default())
}

/// What is shared remembers who looked it through: not that somebody did.
#[test]
fn what_one_redactor_found_clean_another_looks_through_itself() {
    let message = Message::text(Speaker::User, format!("The word is {SECRET}."));
    let tools = [ToolSpec {
        name: "t".to_owned(),
        description: SECRET.to_owned(),
        schema: serde_json::json!({}),
        other: serde_json::Map::new(),
    }]
    .into();
    let request = Arc::new(Request { messages: vec![message], tools, ..Request::default() });
    let knows_nothing = Redactor::new(&[], Config::default());
    let same = |redactor: &Redactor| Arc::ptr_eq(&walk::clean_request(redactor, &request), &request);
    assert!(same(&knows_nothing) && same(&knows_nothing));
    for _ in 0..2 {
        let clean = walk::clean_request(&redactor(), &request);
        assert!(!format!("{clean:?}").contains("hunter2"), "{clean:?}");
    }
    assert!(same(&knows_nothing), "the one that it was made from is as it was");
}

/// An approval is bound to the arguments as they were: what is left of them after a secret was taken out has another hash.
#[test]
fn arguments_that_lose_a_secret_keep_their_hash() {
    for (text, says) in [(SECRET, true), ("nothing", false)] {
        let planned = ToolPlanned {
            id: "t1".to_owned(),
            tool: "send".to_owned(),
            args: Body::of(&serde_json::json!({ "text": text })),
            args_hash: None,
            class: Class::Write,
            key: None,
            plan: Body::default(),
            effect: None,
            preview: Body::default(),
            undo: Body::default(),
            asks: None,
            undoes: None,
            labels: backstop_call::Labels::default(),
        };
        let want = planned.args_hash().into_owned();
        let mut event = EventBody::from(planned);
        let mut json = event.encode();
        walk::clean_event(&redactor(), &mut event, &mut json).unwrap();
        assert!(!json.contains("hunter2"), "{json}");
        let read = EventBody::decode(event.kind(), event.version(), &json).unwrap();
        let EventBody::ToolPlanned(read) = read else { panic!("it is one") };
        assert_eq!((read.args_hash(), read.args_hash.is_some()), (want.into(), says), "{json}");
    }
}

fn token(length: usize) -> String {
    "aB3dE5gH7jK9mN1pQ2sT4vW6xY8zC0fL".chars().cycle().take(length).collect()
}

#[test]
fn known_kinds_are_found_and_named() {
    let rows = [
        (format!("bsk_{}", token(40)), "backstop-key"),
        (format!("sk-ant-api03-{}", token(80)), "anthropic-key"),
        (format!("sk-proj-{}", token(60)), "openai-key"),
        (format!("sk-{}", token(48)), "openai-key"),
        (format!("ghp_{}", token(36)), "github-token"),
        (format!("github_pat_{}_{}", token(22), token(59)), "github-token"),
        (format!("glpat-{}", token(20)), "gitlab-token"),
        ("AKIAQYLPMN5HFIQR7XYA".to_owned(), "aws-access-key"),
        (format!("AIza{}", token(35)), "google-api-key"),
        (format!("xoxb-123456789012-{}", token(24)), "slack-token"),
        (format!("sk_live_{}", token(24)), "stripe-key"),
        (format!("hf_{}", "aBcDeFgHiJkLmNoPqRsTuVwXyZ".repeat(2)), "huggingface-token"),
        (format!("gsk_{}", token(52)), "groq-key"),
        (format!("npm_{}", token(36)), "npm-token"),
        (format!("SG.{}.{}", token(22), token(43)), "sendgrid-key"),
        (format!("eyJ{}.eyJ{}.{}", token(20), token(40), token(43)), "jwt"),
        (format!("dop_v1_{}", "0123456789abcdef".repeat(4)), "digitalocean-token"),
        (format!("sk-or-v1-{}", "0123456789abcdef".repeat(4)), "openrouter-key"),
        (format!("ya29.{}", token(20)), "google-oauth-token"),
        (format!("GOCSPX-{}", token(28)), "google-oauth-secret"),
        (format!("xapp-1-{}", token(20)), "slack-token"),
        (format!("hooks.slack.com/services/T0/B0/{}", token(20)), "slack-webhook"),
        (format!("whsec_{}", token(24)), "stripe-webhook-secret"),
        (format!("xai-{}", token(70)), "xai-key"),
        (format!("pypi-AgEI{}", token(50)), "pypi-token"),
        (format!("/bot12345678:{}", token(35)), "telegram-token"),
        (format!("discord.com/api/webhooks/12345678901234567/{}", token(60)), "discord-webhook"),
        (
            format!("AGE-SECRET-KEY-1{}", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA".repeat(2)[..58].to_owned()),
            "age-key",
        ),
    ];
    let redactor = redactor();
    for (secret, name) in &rows {
        let text = format!("use {secret}, please");
        assert_eq!(redactor.text(&text), format!("use [REDACTED:{name}], please"), "{secret}");
    }
    let named: Vec<_> = rows.iter().map(|(_, name)| *name).chain(["bearer-token", "private-key"]).collect();
    assert!(PATTERNS.iter().all(|pattern| named.contains(&pattern.name)), "each kind is tried");
    let header = format!("authorization: Bearer {}", token(24));
    assert_eq!(redactor.text(&header), "authorization: [REDACTED:bearer-token]");
    let key = "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\nabc\n-----END RSA PRIVATE KEY-----";
    assert_eq!(redactor.text(&format!("a {key} b")), "a [REDACTED:private-key] b");
    assert_eq!(
        redactor.text("{\"k\":\"-----BEGIN PRIVATE KEY-----\\nMII\"}"),
        "{\"k\":\"[REDACTED:private-key]\"}"
    );
}

#[test]
fn ordinary_text_is_left_alone() {
    let redactor = redactor();
    let rows = [
        "the task-list and the risk-free disk-cache",
        "sk-learn-is-a-library-with-a-rather-long-name-but-no-key",
        "sk-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "AKIAAAAAAAAAAAAAAAAA",
        "eyJust a text. eyJ.not.one",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "Bearer of good news, bearer of bad",
        "hf_transformers ghp_short xoxb-1",
        "0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "ab is too short to be looked for",
    ];
    for text in rows {
        assert!(matches!(redactor.text(text), Cow::Borrowed(_)), "{}", redactor.text(text));
    }
}

#[test]
fn a_loaded_secret_is_found_in_every_encoding() {
    let redactor = redactor();
    for needle in needles::encodings(SECRET) {
        let text = format!("<{}>", String::from_utf8(needle).unwrap());
        assert!(redactor.text(&text).contains("[REDACTED:secret]"), "{text}");
    }
    let twice = format!("{SECRET}{SECRET} and {SECRET}");
    assert_eq!(redactor.text(&twice), "[REDACTED:secret][REDACTED:secret] and [REDACTED:secret]");
}

fn everywhere(redactor: &Redactor, text: &str) -> Vec<Found> {
    let mut found = Vec::new();
    redactor.find_in(0..text.len(), text, &mut found);
    merged(found)
}

proptest! {
    #[test]
    fn looking_at_some_places_finds_what_looking_everywhere_finds(
        pieces in prop::collection::vec((0..9_usize, "[a-z0-9 _.\"]{0,12}"), 0..12),
    ) {
        let long = "pass phrase: 0a1b2c3d4e5f60718293a4b5c6d7 (old)";
        let redactor = Redactor::new(&[Secret::new(SECRET), Secret::new(long)], Config::default());
        let known = [
            SECRET.to_owned(),
            long.to_owned(),
            format!("sk-ant-api03-{}", token(32)),
            "AKIAQYLPMN5HFIQR7XYA".to_owned(),
            format!("Bearer {}", token(24)),
            "-----BEGIN EC PRIVATE KEY-----\\nMHc".to_owned(),
            format!("/bot12345678:{}", token(35)),
            format!("call_{}", token(24)),
            String::new(),
        ];
        let text: String = pieces.iter().flat_map(|(at, other)| [other.as_str(), &known[*at]]).collect();
        prop_assert_eq!(redactor.find(&text), everywhere(&redactor, &text), "{}", text);
    }
}

#[derive(Default)]
struct Collected(Vec<Chunk>);

impl Sink for Collected {
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        Poll::Ready(Ok(()))
    }

    fn send(&mut self, chunk: Chunk) {
        self.0.push(chunk);
    }
}

/// What a reader sees of a text that comes in these pieces.
fn streamed(redactor: &Redactor, pieces: &[&str]) -> Vec<String> {
    let mut sink = Collected::default();
    let mut scrubbed = Scrubbed::new(&mut sink, redactor);
    scrubbed.send(Chunk::BlockStart { index: 0, block: Block::text("") });
    for piece in pieces {
        scrubbed.send(Chunk::Delta { index: 0, delta: ContentDelta::Text((*piece).to_owned()) });
    }
    scrubbed.send(Chunk::BlockStop { index: 0 });
    let text = |chunk: &Chunk| match chunk {
        Chunk::Delta { delta: ContentDelta::Text(text), .. } => Some(text.clone()),
        _ => None,
    };
    assert_eq!(sink.0.last(), Some(&Chunk::BlockStop { index: 0 }));
    sink.0.iter().filter_map(text).collect()
}

/// The same where the pieces come in frames; and how many of those wait when there are no more.
fn framed(redactor: &Redactor, pieces: &[&str]) -> (String, usize) {
    let frame =
        |says: Chunk, bytes: &str| Chunk::Frame(Frame { bytes: bytes.to_owned().into(), says: vec![says] });
    let mut sink = Collected::default();
    let mut scrubbed = Scrubbed::new(&mut sink, redactor);
    for piece in pieces {
        let says = Chunk::Delta { index: 0, delta: ContentDelta::Text((*piece).to_owned()) };
        scrubbed.send(frame(says, piece));
    }
    let held = scrubbed.waiting();
    scrubbed.send(frame(Chunk::BlockStop { index: 0 }, "the end"));
    let said = |chunk: Chunk| match chunk {
        Chunk::Frame(frame) => String::from_utf8(frame.bytes.to_vec()).unwrap(),
        Chunk::Delta { delta: ContentDelta::Text(text), .. } => text,
        Chunk::BlockStop { .. } => "the end".to_owned(),
        other => panic!("{other:?}"),
    };
    let said: String = sink.0.into_iter().map(said).collect();
    (said.strip_suffix("the end").unwrap().to_owned(), held)
}

/// A text whose every piece ends as a secret may begin was held back to its end, and searched anew from its beginning
/// with every piece.
#[test]
fn frames_wait_only_for_what_may_still_be_a_secret() {
    let redactor = redactor();
    let pieces = vec!["mixes x"; 500];
    assert_eq!(
        framed(&redactor, &pieces),
        (pieces.concat(), 1),
        "the last one may be the beginning of xoxb-"
    );
    for said in ["all is said. ", "so it is", "the task"] {
        let other = vec![said; 5];
        assert_eq!(framed(&redactor, &other), (other.concat(), 0), "{said}");
    }
}

/// The letter of the escape was taken for the middle of a word.
#[test]
fn a_key_at_the_beginning_of_a_line_is_found_in_json() {
    let key = format!("sk-ant-api03-{}", token(40));
    let redactor = redactor();
    for escape in ["\\n", "\\t", "\\r"] {
        let json = format!("{{\"text\":\"keys:{escape}{key} is one\"}}");
        assert_eq!(redactor.text(&json), json.replace(&key, "[REDACTED:anthropic-key]"));
    }
    assert_eq!(redactor.text("C:\\task-list"), "C:\\task-list", "no key follows");
}

/// Only the frame's bytes were searched for a secret that comes in one piece, and they may be written otherwise.
#[test]
fn a_secret_behind_escapes_is_found_in_a_frame() {
    let redactor = redactor();
    let json = serde_json::Value::from(SECRET).to_string();
    for (plain, escaped) in [("/", "\\/"), ("h", "\\u0068")] {
        let bytes = format!("data: {{\"text\":{}}}\n\n", json.replacen(plain, escaped, 1));
        let says = vec![Chunk::Delta { index: 0, delta: ContentDelta::Text(SECRET.to_owned()) }];
        let mut sink = Collected::default();
        let mut scrubbed = Scrubbed::new(&mut sink, &redactor);
        scrubbed.send(Chunk::Frame(Frame { bytes: bytes.clone().into(), says }));
        scrubbed.send(Chunk::BlockStop { index: 0 });
        let clean = ContentDelta::Text("[REDACTED:secret]".to_owned());
        assert_eq!(sink.0[0], Chunk::Delta { index: 0, delta: clean }, "{bytes}");
    }
}

#[test]
fn a_secret_is_found_whatever_the_cut() {
    let redactor = redactor();
    let key = format!("sk-ant-api03-{}", token(40));
    let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----";
    for secret in [SECRET, key.as_str(), pem] {
        let text = format!("before {secret} after");
        let whole = redactor.text(&text).into_owned();
        assert!(whole.contains("[REDACTED:"));
        for cut in 1..text.len() {
            let seen = streamed(&redactor, &[&text[..cut], &text[cut..]]).concat();
            assert_eq!(seen, whole, "cut at {cut}");
            let (seen, _) = framed(&redactor, &[&text[..cut], &text[cut..]]);
            assert_eq!(seen, whole, "framed, cut at {cut}");
        }
        let letters: Vec<_> = text.char_indices().map(|(at, c)| &text[at..at + c.len_utf8()]).collect();
        assert_eq!(streamed(&redactor, &letters).concat(), whole);
        assert_eq!(framed(&redactor, &letters).0, whole);
    }
}

#[test]
fn clean_text_is_not_held_back() {
    let redactor = redactor();
    assert_eq!(streamed(&redactor, &["Good ", "morning, ", "you."]), ["Good ", "morning, ", "you."]);
    assert_eq!(streamed(&redactor, &["the task", "-list"]), ["the task", "-list"], "no key begins in a word");
    let held = ["the ", "sk-list"];
    assert_eq!(streamed(&redactor, &["the sk", "-list"]), held, "only what may begin a key waits for more");
}

proptest! {
    /// In any text, cut anywhere, no piece that reaches the reader shows the secret, and nothing else is lost.
    #[test]
    fn no_seam(parts in prop::collection::vec("[ a-z\u{e9}-]{0,9}|SECRET|sk-|eyJ", 0..12), cuts in prop::collection::vec(0_usize..200, 0..12)) {
        let redactor = Redactor::new(&[Secret::new(SECRET)], Config { patterns: false });
        let text = parts.concat().replace("SECRET", SECRET);
        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| text.is_char_boundary(*cut)).collect();
        cuts.push(text.len());
        cuts.sort_unstable();
        let mut from = 0;
        let pieces: Vec<_> = cuts.iter().map(|cut| { let piece = &text[from..*cut]; from = *cut; piece }).collect();
        for seen in [streamed(&redactor, &pieces).concat(), framed(&redactor, &pieces).0] {
            prop_assert!(!seen.contains(SECRET));
            prop_assert_eq!(seen, text.replace(SECRET, "[REDACTED:secret]"));
        }
    }
}

#[test]
fn the_outbox_keeps_the_order() {
    let mut outbox = Outbox::default();
    let mut sink = Collected::default();
    outbox.push(Chunk::Ping);
    outbox.push(Chunk::BlockStop { index: 1 });
    outbox.drain(&mut sink);
    assert_eq!(sink.0, [Chunk::Ping, Chunk::BlockStop { index: 1 }]);
}
