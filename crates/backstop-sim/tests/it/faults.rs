//! Every fault, as it looks on the wire.

use crate::client::{Got, ask, call, head, open, post, sim, until};
use backstop_call::{Dialect, Timestamp};
use backstop_sim::{Fault, Hint, Row, Scenario};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

const EACH: [(&str, Dialect); 3] =
    [("messages", Dialect::Messages), ("chat", Dialect::Chat), ("responses", Dialect::Responses)];

#[tokio::test]
async fn every_error_row_in_each_dialect_streamed_or_not() {
    let sim = sim(|_| {}).await;
    for row in Row::ALL {
        for (name, dialect) in EACH {
            for stream in [false, true] {
                let got = call(&sim, name, &ask(stream), row.as_str()).await;
                let want = row.answer(dialect, Hint::Usual, Timestamp::EPOCH);
                assert_eq!(got.status, want.status, "{row:?} {name}");
                assert_eq!(got.json()["error"], want.body["error"], "{row:?} {name}");
                let hint = got.headers.get("retry-after").map(String::as_str);
                assert_eq!(hint, row.usual_secs().map(|_| "1"), "{row:?} {name}");
            }
        }
    }
    assert_eq!(sim.bill().requests, 0);
}

#[tokio::test]
async fn retry_after_in_all_its_forms() {
    let sim = sim(|_| {}).await;
    let rows = [
        ("ms=1500", "retry-after-ms", "1500"),
        ("s=2", "retry-after", "2"),
        ("fraction=1250", "retry-after", "1.250"),
        ("date=8", "retry-after", "Sun, 22 Nov 2026 12:34:00 GMT"),
        ("long", "retry-after", "86400"),
        ("zero", "retry-after", "0"),
        ("negative", "retry-after", "-5"),
        ("nan", "retry-after", "NaN"),
        ("garbage", "retry-after", "soon"),
        ("do-not", "x-should-retry", "false"),
    ];
    for (hint, name, value) in rows {
        let got = call(&sim, "messages", &ask(false), &format!("rate-limit:{hint}")).await;
        assert_eq!(got.headers.get(name).map(String::as_str), Some(value), "{hint}");
    }
    let got = call(&sim, "messages", &ask(false), "rate-limit:none").await;
    assert!(!got.headers.contains_key("retry-after"));
}

/// A cut at every byte of a short stream and of a whole answer: exactly so many bytes come, and the end is no end.
#[tokio::test]
async fn a_cut_at_any_byte() {
    let sim = sim(|_| {}).await;
    for (name, _) in EACH {
        for stream in [false, true] {
            let whole = call(&sim, name, &ask(stream), "").await;
            assert!(whole.complete);
            // A stream of Responses tells everything twice.
            let step = if name == "responses" { 61 } else { 7 };
            for byte in (0..whole.body.len()).step_by(step).chain([whole.body.len() - 1]) {
                let got = call(&sim, name, &ask(stream), &format!("cut-at:{byte}")).await;
                assert_eq!(
                    (got.status, got.body.len(), got.complete),
                    (200, byte, false),
                    "{name} {stream} at {byte}"
                );
                assert_eq!(got.body[..], whole.body[..byte]);
            }
            let got = call(&sim, name, &ask(stream), "cut-at:1000000").await;
            assert!(!got.complete, "a cut beyond the end cuts the end");
        }
    }
}

#[tokio::test]
async fn broken_bodies_and_streams() {
    let sim = sim(|_| {}).await;
    let is_json = |got: &Got| serde_json::from_slice::<Value>(&got.body).is_ok();
    let sound = |got: &Got| {
        got.events()
            .iter()
            .filter(|data| *data != "[DONE]")
            .all(|data| serde_json::from_str::<Value>(data).is_ok())
    };
    for (name, _) in EACH {
        let got = call(&sim, name, &ask(false), "malformed-json").await;
        assert!(got.status == 200 && got.complete && !is_json(&got), "{name}");
        for fault in ["malformed-json", "malformed-stream:3"] {
            let got = call(&sim, name, &ask(true), fault).await;
            let broken =
                got.events().iter().position(|data| serde_json::from_str::<Value>(data).is_err()).unwrap();
            // The frames that begin a stream and a block are two events each in Responses.
            let third = if name == "responses" { 5 } else { 3 };
            assert_eq!(broken, if fault == "malformed-json" { 0 } else { third }, "{name} {fault}");
        }
        let got = call(&sim, name, &ask(true), "end-early").await;
        assert!(got.complete && sound(&got), "{name}: a clean end without the closing event");
        let ends = ["message_stop", "[DONE]", "response.completed"];
        assert!(!ends.iter().any(|end| got.text().contains(end)), "{name}");
        let got = call(&sim, name, &ask(false), "html-error").await;
        assert_eq!((got.status, got.headers["content-type"].as_str()), (502, "text/html"));
        for stream in [false, true] {
            let got = call(&sim, name, &ask(stream), "garbage-text").await;
            assert!(got.complete && String::from_utf8(got.body.clone()).is_err(), "{name} {stream}");
            let got = call(&sim, name, &ask(stream), "missing-usage").await;
            assert!(got.complete && !got.text().contains("usage"), "{name} {stream}: {}", got.text());
            let got = call(&sim, name, &ask(stream), "huge-body:3").await;
            assert!(got.complete && got.body.len() >= 3 * 1024 * 1024, "{name} {stream}");
            assert!(if stream { sound(&got) } else { is_json(&got) });
        }
    }
}

#[tokio::test]
async fn errors_inside_a_stream() {
    let sim = sim(|_| {}).await;
    for (name, dialect) in EACH {
        for (fault, committed) in [("in-stream:overloaded", false), ("in-stream-late:server", true)] {
            let got = call(&sim, name, &ask(true), fault).await;
            assert_eq!((got.status, got.complete), (200, true), "{name} {fault}");
            let row = if committed { Row::Server } else { Row::Overloaded };
            let last: Value = serde_json::from_str(got.events().last().unwrap()).unwrap();
            assert_eq!(last["error"], row.body(dialect, None)["error"], "{name} {fault}");
            assert_eq!(last.get("type").is_some_and(|kind| kind == "error"), dialect != Dialect::Chat);
            let text = got.text();
            assert_eq!(
                text.contains("You asked") || text.contains("your words") || text.contains("About"),
                committed,
                "{text}"
            );
            assert_eq!(text.contains("event: error"), dialect != Dialect::Chat, "{text}");
            assert_eq!(text.contains("event: response.failed"), dialect == Dialect::Responses, "{text}");
        }
        let got = call(&sim, name, &ask(false), "in-stream:overloaded").await;
        assert_eq!(got.status, Row::Overloaded.status(dialect), "without a stream it is an answer");
    }
}

fn with_tool() -> Value {
    let mut body = ask(false);
    body["tools"] = json!([{"name": "read_file", "description": "", "input_schema":
        {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}}]);
    body["messages"] = json!([{"role": "user", "content": "Summarise notes.md"}]);
    body
}

#[tokio::test]
async fn answers_that_are_wrong_in_themselves() {
    let sim = sim(|_| {}).await;
    let tool = |got: &Got| {
        got.json()["content"].as_array().unwrap().iter().find(|b| b["type"] == "tool_use").cloned().unwrap()
    };
    let got = call(&sim, "messages", &with_tool(), "").await;
    assert_eq!(
        (tool(&got)["input"].clone(), got.json()["stop_reason"].clone()),
        (json!({"path": "notes.md"}), json!("tool_use"))
    );
    let got = call(&sim, "messages", &with_tool(), "wrong-tool-arguments").await;
    assert!(tool(&got)["input"]["path"].is_null());
    let got = call(&sim, "messages", &with_tool(), "unknown-tool").await;
    assert_eq!(tool(&got)["name"], "sim_no_such_tool");
    let mut streamed = with_tool();
    streamed["stream"] = json!(true);
    let got = call(&sim, "messages", &streamed, "broken-tool-arguments").await;
    let pieces: String = got
        .events()
        .iter()
        .map(|data| serde_json::from_str::<Value>(data).unwrap())
        .filter_map(|event| event["delta"]["partial_json"].as_str().map(str::to_owned))
        .collect();
    assert!(pieces.starts_with("{\"path\"") && serde_json::from_str::<Value>(&pieces).is_err(), "{pieces}");
    let rows = [
        ("empty-answer", "end_turn", "stop", json!(null)),
        ("truncated", "max_tokens", "length", json!({"reason": "max_output_tokens"})),
        ("refusal", "refusal", "content_filter", json!({"reason": "content_filter"})),
    ];
    for (fault, messages, chat, responses) in rows {
        let got = call(&sim, "messages", &ask(false), fault).await.json();
        assert_eq!(got["stop_reason"], messages, "{fault}");
        assert_eq!(got["content"].as_array().unwrap().is_empty(), fault == "empty-answer");
        let got = call(&sim, "chat", &ask(false), fault).await.json();
        assert_eq!(got["choices"][0]["finish_reason"], chat, "{fault}");
        let got = call(&sim, "responses", &ask(false), fault).await.json();
        assert_eq!(got["incomplete_details"], responses, "{fault}");
        assert_eq!(got["status"], if responses.is_null() { "completed" } else { "incomplete" }, "{fault}");
    }
    for (fault, stop) in [("pause", "pause_turn"), ("context-window", "model_context_window_exceeded")] {
        assert_eq!(call(&sim, "messages", &ask(false), fault).await.json()["stop_reason"], stop);
    }
}

/// Nothing comes; after a quarter of an hour the connection is cut.
#[tokio::test(start_paused = true)]
async fn a_hang_is_bounded() {
    let sim = sim(|_| {}).await;
    for (fault, status) in [("hang-before-headers", 0), ("hang-after-headers", 200)] {
        for stream in [false, true] {
            let begun = Instant::now();
            let got = call(&sim, "messages", &ask(stream), fault).await;
            assert_eq!((got.status, got.body.len(), got.complete), (status, 0, false), "{fault} {stream}");
            assert!(begun.elapsed().as_secs() >= 900, "{fault}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn slow_answers_are_late_and_whole() {
    let sim = sim(|_| {}).await;
    for stream in [false, true] {
        for (fault, least_ms) in
            [("slow-first-token:5000", 5_000), ("slow-chunks:1000", if stream { 5_000 } else { 1_000 })]
        {
            let begun = Instant::now();
            let got = call(&sim, "chat", &ask(stream), fault).await;
            assert!(got.complete && got.status == 200, "{fault}");
            assert!(begun.elapsed().as_millis() >= least_ms, "{fault} {stream}: {:?}", begun.elapsed());
        }
    }
}

#[tokio::test]
async fn a_shutdown_ends_every_hang() {
    let sim = sim(|_| {}).await;
    let (path, version) = head("messages");
    let mut streams = Vec::new();
    for fault in ["hang-before-headers", "hang-after-headers"] {
        let request = post(path, &format!("{version}x-sim-fault: {fault}\r\n"), &ask(true).to_string());
        streams.push(open(&sim, &request).await);
    }
    until("both requests", || sim.requests().len() == 2).await;
    sim.shutdown().await;
    for mut stream in streams {
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!String::from_utf8_lossy(&rest).contains("data:"));
    }
}

/// A suffix of the model, a line, a scenario: each way of asking for a fault.
#[tokio::test]
async fn ways_to_ask_for_a_fault() {
    let scenario =
        Scenario::parse("name = \"t\"\n[[rule]]\nfault = \"server\"\nprovider = \"bad\"\n", "t").unwrap();
    let sim = sim(|config| config.scenario = scenario).await;
    let mut body = ask(true);
    body["model"] = json!("sim!cut-at-20");
    assert_eq!(call(&sim, "chat", &body, "").await.body.len(), 20);
    assert_eq!(sim.requests().last().unwrap().fault.as_deref(), Some("cut-at:20"));
    sim.enqueue("sim", Fault::HtmlError);
    assert_eq!(call(&sim, "chat", &ask(false), "").await.status, 502);
    assert_eq!(call(&sim, "chat", &ask(false), "").await.status, 200);
    let got =
        crate::client::send(&sim, &post("/p/bad/v1/chat/completions", "", &ask(false).to_string())).await;
    assert_eq!(got.status, 500);
    let got = call(&sim, "chat", &ask(false), "no-such-fault").await;
    assert!(got.status == 400 && got.text().contains("is no fault; there are: invalid"), "{}", got.text());
}
