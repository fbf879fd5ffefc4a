//! What is found in a body, what is not, and that both agree with reading the whole of it.

use super::*;
use proptest::prelude::*;
use serde::de::IgnoredAny;

fn found(body: &str) -> Skim {
    skim(Dialect::Chat, body.as_bytes()).unwrap()
}

#[test]
fn what_decides_is_found_wherever_it_stands() {
    let body = r#" {"messages":[{"role":"user","content":"model"}],"n":2,"model" : "a\u0062c","stream":true,
        "max_completion_tokens":7,"stream_options":{"include_usage":true},"x":12345678901234567890123} "#;
    let skim = found(body);
    assert_eq!((skim.model.as_str(), skim.stream, skim.max_tokens, skim.choices), ("abc", true, Some(7), 2));
    assert!(skim.include_usage);
    assert_eq!(&body[skim.places.model.clone()], r#""a\u0062c""#);
    assert_eq!(&body[skim.places.output_limit_name.unwrap()], r#""max_completion_tokens""#);
    assert_eq!(&body[skim.places.stream_options.unwrap()], r#"{"include_usage":true}"#);
    assert_eq!(&body[..skim.places.front], " {");
    assert_eq!(skim.size.bytes, body.len() as u64);
    // With both names there, neither can take the other's.
    for body in [
        r#"{"model":"m","max_completion_tokens":7,"max_tokens":null}"#,
        r#"{"max_tokens":9,"model":"m","max_completion_tokens":7}"#,
    ] {
        let skim = found(body);
        assert_eq!((skim.max_tokens, skim.places.output_limit_name), (Some(7), None));
        assert_eq!(&body[skim.places.output_limit.unwrap()], "7");
    }
}

#[test]
fn threads_of_messages() {
    let of = |thread: &str| {
        let body = format!(r#"{{"model":"m","messages":[],"thread":{thread}}}"#);
        skim(Dialect::Messages, body.as_bytes()).unwrap().leans_on
    };
    assert_eq!(of(r#"{"type":"create"}"#), Some(LeansOn::ThreadBegins));
    assert_eq!(of(r#"{"type":"continue","previous_message_id":"m1"}"#), Some(LeansOn::Thread("m1".into())));
    assert_eq!(of("null"), None);
}

#[test]
fn pictures_count_by_the_piece() {
    let png = format!("iVBORw0KGgo{}", "A".repeat(10_000));
    let rows = [
        (format!(r#"{{"source":{{"data":"{png}","type":"base64"}}}}"#), 1, true),
        (format!(r#"{{"image_url":{{"url":"data:image/png;base64,{png}"}}}}"#), 1, true),
        (format!(r#"{{"image_url":"data:image/png;base64,{png}"}}"#), 1, true),
        (r#"{"source":{"type":"url","url":"https://example.com/a.png"}}"#.to_owned(), 1, false),
        (r#"{"source":{"type":"url","url":"https://example.com/A.PDF"}}"#.to_owned(), 0, false),
        // No pictures: a document, a text, an address in a text, and whatever a tool is given.
        (format!(r#"{{"source":{{"data":"JVBERi0{png}"}}}}"#), 0, true),
        (format!(r#"{{"file_data":"data:application/pdf;base64,{png}"}}"#), 0, true),
        (format!(r#"{{"text":"{png}"}}"#), 0, false),
        (r#"{"citation":{"url":"https://example.com"}}"#.to_owned(), 0, false),
        (format!(r#"{{"type":"tool_use","input":{{"source":{{"data":"{png}"}}}}}}"#), 0, false),
    ];
    for (block, images, left_out) in rows {
        let body = format!(r#"{{"model":"m","messages":[{{"role":"user","content":[{block}]}}]}}"#);
        let size = found(&body).size;
        assert_eq!(size.images, images, "{block:.60}");
        assert_eq!(size.bytes < 200, left_out || block.len() < 100, "{block:.60}: {size:?}");
    }
}

#[test]
fn what_a_provider_might_read_otherwise_is_refused() {
    let rows = [
        ("[1]", "body: must be a JSON object"),
        ("", "body: must be a JSON object"),
        ("{}", "model: is missing"),
        (r#"{"model":1}"#, "model: must be a string"),
        (r#"{"model":"a","mod\u0065l":"b"}"#, "body: has the field `model` twice"),
        (r#"{"model":"a","max_tokens":1,"max_tokens":9}"#, "body: has the field `max_tokens` twice"),
        (r#"{"model":"a","max_tokens":-1}"#, "max_tokens: must be a whole number from 0 up"),
        (r#"{"model":"a","stream":"yes"}"#, "stream: must be true or false"),
        (r#"{"model":"a"} x"#, "body: is no valid JSON (something follows at byte 14)"),
        (r#"{"model":"a""#, "body: is no valid JSON (expected `,` or `}` at byte 12)"),
        (r#"{"model":"\ud80"}"#, "body: is no valid JSON (an unknown escape at byte 11)"),
        (r#"{"model":"\ud800"}"#, "model: is missing"),
    ];
    for (body, want) in rows {
        let got = skim(Dialect::Chat, body.as_bytes()).unwrap_err().to_string();
        assert_eq!(got, want, "{body}");
    }
    assert!(skim(Dialect::Chat, b"{\"model\":\"\xff\"}").is_err());
    let deep = format!(r#"{{"model":"m","x":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    assert!(skim(Dialect::Chat, deep.as_bytes()).unwrap_err().to_string().contains("too many levels"));
}

/// JSON with the blanks, escapes and depths that real bodies have, whole or damaged.
fn nearly_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,3})?([eE][+-]?[0-9]{1,2})?",
        "\"([a-z \u{2028}é]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,40}\"",
        Just("\"\\ud83d\\ude00\"".to_owned()),
    ];
    let value = leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(|items| format!("[{}]", items.join(" , "))),
            prop::collection::vec(("\"[a-z]{1,6}\"", inner), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(name, value)| format!("{name}: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    });
    (value, any::<prop::sample::Index>(), prop::option::of("[\\[\\]{},:\"0-9a-u\\\\ \n\t\u{1}]")).prop_map(
        |(value, at, damage)| {
            let mut body = format!(r#"{{"model":"m","x":{value}}}"#);
            if let Some(damage) = damage {
                let at = at.index(body.len());
                if body.is_char_boundary(at) {
                    body.insert_str(at, &damage);
                }
            }
            body
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// What passes here is JSON for everybody, and what is JSON passes.
    #[test]
    fn is_json_where_serde_says_so(body in nearly_json()) {
        let ours = skim(Dialect::Chat, body.as_bytes());
        let theirs = serde_json::from_str::<IgnoredAny>(&body);
        let only_about_fields = ours.as_ref().is_err_and(|error| !error.to_string().contains("no valid JSON"));
        prop_assert!(ours.is_ok() == theirs.is_ok() || only_about_fields, "{body}: {ours:?} {theirs:?}");
    }
}
