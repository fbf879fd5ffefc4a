//! The durable format: one golden file per kind and version. A file that changes means that old journals cannot be read;
//! give the kind a new version and an upcaster instead, and keep the old file.

use crate::example::{BLIND, answered, every_kind, failed_attempt, good_attempt, planned, run_stream};
use backstop_call::{AttemptRecord, Code, FailureKind, Money, Progress, Usage};
use backstop_journal::event::{CallFinished, ToolPlanned};
use backstop_journal::{Body, EventBody, Parts, Remains};
use backstop_label::Class;
use expect_test::expect_file;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn file(kind: &str, version: u32) -> PathBuf {
    directory().join(format!("{kind}.v{version}.json"))
}

#[test]
fn every_kind_is_written_as_its_golden_file_says() {
    for body in every_kind() {
        let whole = serde_json::to_string(&body).unwrap();
        let kind = format!("{{\"kind\":\"{}\",", body.kind());
        assert_eq!(whole.strip_prefix(&kind), body.encode().strip_prefix('{'), "all but the kind is stored");
        let decode = |text: &str| EventBody::decode(body.kind(), body.version(), text).unwrap();
        assert_eq!((decode(&whole), decode(&body.encode())), (body.clone(), body.clone()));
        let value: Value = serde_json::from_str(&whole).unwrap();
        let pretty = serde_json::to_string_pretty(&value).unwrap() + "\n";
        expect_file![file(body.kind(), body.version())].assert_eq(&pretty);
    }
}

#[test]
fn every_golden_file_of_this_version_is_read_as_its_example() {
    for body in every_kind() {
        let golden = std::fs::read_to_string(file(body.kind(), body.version())).unwrap();
        assert_eq!(EventBody::decode(body.kind(), body.version(), &golden).unwrap(), body);
    }
}

#[test]
fn a_usage_leaves_out_what_is_zero_and_nothing_else() {
    let full = Usage {
        input_tokens: 1,
        output_tokens: 2,
        cache_read_tokens: 3,
        cache_write_tokens: 4,
        reasoning_tokens: 5,
        estimated: true,
    };
    let rows = [
        (Usage::default(), r#""usage":{"input_tokens":0,"output_tokens":0}"#),
        (
            full,
            r#""usage":{"input_tokens":1,"output_tokens":2,"cache_read_tokens":3,"cache_write_tokens":4,"reasoning_tokens":5,"estimated":true}"#,
        ),
    ];
    for (usage, shown) in rows {
        let body = EventBody::from(CallFinished { usage, ..answered("c1", 1, Body::default()) });
        let json = body.encode();
        assert!(json.contains(shown), "{json}");
        assert_eq!(EventBody::decode(body.kind(), body.version(), &json).unwrap(), body);
    }
}

/// What older versions said otherwise, at greater length, or twice, is read as the same event. Where their example was another
/// one, that is said.
#[test]
fn an_older_version_is_read_as_the_same_event() {
    for (kind, version) in [
        ("call.finished", 1),
        ("call.finished", 2),
        ("tool.planned", 2),
        ("tool.started", 2),
        ("tool.finished", 2),
    ] {
        let old = std::fs::read_to_string(file(kind, version)).unwrap();
        let mut read = EventBody::decode(kind, version, &old).unwrap();
        if let EventBody::ToolStarted(started) = &mut read {
            started.attempt += 1;
        }
        let example = every_kind().into_iter().find(|body| body.kind() == kind).unwrap();
        assert_eq!(read, example, "{kind} v{version}");
    }
}

/// The only attempt of a call is told by the call, but for what that does not say; where more is to be said, all is.
#[test]
fn an_only_attempt_says_what_its_call_does_not_and_is_had_back_whole() {
    let plain = AttemptRecord { waited: Duration::ZERO, ..good_attempt(1, 7) };
    let short = r#""attempts":{"started":1795348802300000000,"duration":1200000000,"progress":"committed"}"#;
    let named = r#""attempts":{"started":1795348802300000000,"duration":1200000000,"model":"alias","progress":"committed"}"#;
    let unseen = r#""attempts":{"started":1795348802300000000,"duration":1200000000}"#;
    let rows = [
        (vec![plain.clone()], Some(short)),
        (vec![AttemptRecord { model: "alias".into(), ..plain.clone() }], Some(named)),
        (vec![AttemptRecord { progress: Progress::ResponseStarted, ..plain.clone() }], Some(unseen)),
        (vec![AttemptRecord { attempt: 2, ..plain.clone() }], None),
        (vec![AttemptRecord { provider: "other".into(), ..plain.clone() }], None),
        (vec![AttemptRecord { waited: Duration::from_nanos(1), ..plain.clone() }], None),
        (vec![AttemptRecord { failure: Some(FailureKind::Throttled), ..plain.clone() }], None),
        (vec![AttemptRecord { code: Some(Code::RateLimited), ..plain.clone() }], None),
        (vec![AttemptRecord { message: "slow".into(), ..plain.clone() }], None),
        (vec![AttemptRecord { cost: Money::from_nanos(6), ..plain.clone() }], None),
        (vec![AttemptRecord { suspense: true, ..plain.clone() }], None),
        (vec![failed_attempt(), good_attempt(2, 7)], None),
        (Vec::new(), None),
    ];
    for (attempts, short) in rows {
        let call = CallFinished {
            attempts: attempts.clone().into(),
            cost: Money::from_nanos(7),
            ..answered("c1", 1, Body::default())
        };
        let body = EventBody::from(call.clone().brief());
        let json = body.encode();
        match short {
            Some(short) => assert!(json.contains(short), "{json}"),
            None => assert_eq!(body, call.into(), "nothing is left out"),
        }
        let read = EventBody::decode(body.kind(), body.version(), &json).unwrap();
        assert_eq!(read, body);
        let EventBody::CallFinished(read) = read else { panic!("it is one") };
        assert_eq!(read.attempts(), attempts, "{json}");
    }
}

/// An approval is bound to a hash of the arguments: it is that of what stands there, in the event or beside it, unless the event says
/// that something else stood there.
#[test]
fn the_hash_of_arguments_is_theirs_wherever_they_lie() {
    let args = json!({"path": "a.md", "at": 0.1});
    let want = blake3::hash(args.to_string().as_bytes()).to_hex().to_string();
    let mut planned =
        ToolPlanned { args: Body::of(&args), args_hash: None, ..planned("t1", "write_file", Class::Write) };
    assert_eq!(planned.args_hash(), want);
    planned.args.spill(0).unwrap();
    assert_eq!(planned.args_hash(), want, "also when they lie in a blob");
    let said = ToolPlanned { args_hash: Some("1c7a".into()), ..planned };
    assert_eq!(said.args_hash(), "1c7a");
}

#[test]
fn every_kind_has_one_example_and_every_golden_file_is_still_read() {
    let examples: Vec<_> = every_kind().iter().map(|body| (body.kind(), body.version())).collect();
    assert_eq!(examples, EventBody::KINDS, "one example of each kind, in the order of the list");

    let mut files = BTreeSet::new();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let (kind, version) = name.rsplit_once(".v").expect("a golden file is named KIND.vVERSION.json");
        let json = std::fs::read_to_string(&path).unwrap();
        EventBody::decode(kind, version.parse().unwrap(), &json).unwrap();
        files.insert(name);
    }
    for (kind, version) in EventBody::KINDS {
        for version in 1..=*version {
            assert!(files.contains(&format!("{kind}.v{version}")), "{kind} v{version} has no golden file");
        }
    }
}

#[test]
fn no_field_of_an_example_is_left_out() {
    // A default that is skipped would hide a field from the golden file.
    for body in every_kind() {
        let json = body.encode();
        assert!(!json.contains("null"), "{}: an option is empty in {json}", body.kind());
    }
    let skipped = [
        "max_tokens",
        "result_schema",
        "labels",
        "request_id",
        "retry_after",
        "until",
        "turn",
        "content",
        "waited",
        "suspense",
    ];
    let all: String = every_kind().iter().map(EventBody::encode).collect();
    for field in skipped {
        assert!(all.contains(&format!("\"{field}\"")), "{field}");
    }
}

#[test]
fn what_is_not_known_is_refused_by_name() {
    let newer = EventBody::decode("run.created", 4, "{}").unwrap_err();
    assert_eq!(newer.to_string(), "event run.created v4 cannot be read");
    assert!(EventBody::decode("run.invented", 1, "{}").is_err());
    assert!(EventBody::decode("run.claimed", 1, r#"{"kind":"run.claimed"}"#).is_err(), "a field is missing");
    let other = EventBody::decode("job.resumed", 1, r#"{"kind":"job.dropped","job":"j","by":"me"}"#);
    assert!(other.is_err(), "the text says that it is of another kind");
}

#[test]
fn bodies_can_be_moved_out_of_every_event_that_has_some() {
    for mut body in every_kind() {
        let kind = body.kind();
        for part in body.bodies_mut() {
            part.spill(0).expect("an example's body stands in its event");
        }
        let json = body.encode();
        let left: Vec<_> = json.match_indices("\"inline\"").collect();
        assert_eq!(left, [], "{kind} has a body that `bodies_mut` does not name");
        let again = EventBody::decode(kind, body.version(), &json).unwrap();
        assert_eq!(again, body);
    }
    assert_eq!(Body::from("x").value(), Some(&Value::from("x")));
}

/// What is left of each kind when it is erased: look at every line that changes, for whatever in it quotes what was said.
#[test]
fn what_is_left_of_every_kind_in_a_run() {
    let mut left = String::new();
    for body in every_kind() {
        let text = body.encode();
        let remains = Parts::of(&run_stream(), body.kind(), &text).erase(&text, &BLIND);
        let mut again = EventBody::decode(body.kind(), body.version(), &remains.text).unwrap();
        let is_gone = |body: &mut Body| matches!(body, Body::Erased { .. });
        assert!(again.bodies_mut().into_iter().all(is_gone), "{again:?}");
        assert_eq!(again.encode(), remains.text);
        if remains.parts > 0 {
            let digests = remains.text.split(r#"{"erased":{"digest":""#).map(|rest| {
                match rest.split_once(r#"","bytes""#) {
                    Some((_, behind)) => behind.split_once("}}").map_or(rest, |(_, behind)| behind),
                    None => rest,
                }
            });
            let text = digests.collect::<Vec<_>>().join("…");
            let Remains { parts, bytes, .. } = remains;
            writeln!(left, "{} ({parts}, {bytes} bytes): {text}", body.kind()).unwrap();
        }
    }
    expect_file!["example.erased"].assert_eq(&left);
}

/// What an approval is bound to is worked out again from what was written, so that each number must come back as it was.
#[test]
fn numbers_of_any_length_are_read_as_they_were_written() {
    let seed = backstop_call::Seed::new(7);
    for _ in 0..10_000 {
        let number = f64::from_bits(seed.next_u64());
        if !number.is_finite() {
            continue;
        }
        let planned = ToolPlanned { args: Body::of(&number), ..planned("t1", "pay", Class::Write) };
        let body = EventBody::from(planned);
        let read = EventBody::decode(body.kind(), body.version(), &body.encode()).unwrap();
        assert_eq!(read, body, "{number:e}");
    }
}
