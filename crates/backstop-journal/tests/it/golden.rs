//! The durable format: one golden file per kind and version. A file that changes means that old journals cannot be read;
//! give the kind a new version and an upcaster instead, and keep the old file.

use crate::example::{BLIND, answered, every_kind, run_stream};
use backstop_call::Usage;
use backstop_journal::event::CallFinished;
use backstop_journal::{Body, EventBody, Parts, Remains};
use expect_test::expect_file;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

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

/// The first version said what is zero, and seconds and nanoseconds apart.
#[test]
fn an_older_version_is_read_as_the_same_call() {
    let old = std::fs::read_to_string(file("call.finished", 1)).unwrap();
    let example = every_kind().into_iter().find(|body| body.kind() == "call.finished").unwrap();
    assert_eq!(EventBody::decode("call.finished", 1, &old).unwrap(), example);
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
