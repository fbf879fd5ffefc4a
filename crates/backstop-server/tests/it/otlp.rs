//! Spans for a collector: what they tell, over real HTTP, and that a collector that is away, or a restart, loses and repeats nothing.

use crate::it::kit::in_time;
use crate::it::upstream::{Upstream, answer};
use backstop_call::{Clock, RunId, Timestamp};
use backstop_journal::projections::numbers::Kept;
use backstop_journal::{Append, Durability, EventBody, Journal, StreamId};
use backstop_server::numbers::Numbers;
use backstop_server::otlp::{Collector, ExportError, Exporter};
use backstop_store::MemoryStore;
use expect_test::expect;
use http::HeaderMap;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// 2026-11-28T12:00:00Z.
const START: u64 = 1_795_867_200;

const RUN: &str = "1m8g6kjkpc62z66v";
const PART: &str = "1m8g6kjkpc62z66w";

/// A clock that stands a minute after the start.
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(START + 60)
    }
}

struct Place {
    store: MemoryStore,
    upstream: Upstream,
}

impl Place {
    async fn of(statuses: &'static [&'static str]) -> Self {
        let answers = statuses.iter().map(|status| answer(status, &[], "{}")).collect();
        Self { store: MemoryStore::new(), upstream: Upstream::in_turn(answers).await }
    }

    async fn exporter(&self) -> Exporter {
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, "Bearer t".parse().unwrap())]);
        let collector = Collector::new(&self.upstream.url(), headers, "tests").unwrap();
        let store = Arc::new(self.store.clone());
        let numbers = Numbers::new(store.clone(), Arc::new(Still), Kept::default());
        Exporter::open(collector, store, numbers).await.unwrap()
    }

    async fn happens(&self, stream: StreamId, second: u64, events: &[Value]) {
        let events = events.iter().map(|event| serde_json::from_value::<EventBody>(event.clone()).unwrap());
        let append = Append {
            stream,
            epoch: None,
            events: events.collect(),
            at: Timestamp::from_secs(START + second),
            durability: Durability::Written,
        };
        self.store.append(append).await.unwrap();
    }

    async fn in_run(&self, run: &str, second: u64, event: Value) {
        self.happens(StreamId::Run(RunId::from(run)), second, &[event]).await;
    }

    /// Every span that the collector has heard of, with what request it came.
    fn spans(&self) -> Vec<Value> {
        let asked = self.upstream.seen().asked;
        let bodies = asked.iter().map(|asked| serde_json::from_str::<Value>(asked.text()).unwrap());
        bodies
            .flat_map(|body| body["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
            .collect()
    }
}

fn created(parent: Option<&str>) -> Value {
    let mut event = json!({
        "kind": "run.created", "task": "t1", "role": "writer", "agent": "scribe", "agent_hash": "", "model": "smart",
        "system": { "inline": "Write." }, "message": { "inline": "Do it." }, "tools": ["write_file", "delegate"],
        "workspace": "", "limits": { "time": { "secs": 60, "nanos": 0 }, "turns": 9, "tokens": 9_000 },
        "priority": "standard",
    });
    if let Some(parent) = parent {
        event["parent"] = parent.into();
    }
    event
}

fn attempt(number: u32, second: u64, failure: Option<&str>) -> Value {
    let mut attempt = json!({
        "attempt": number, "provider": "anthropic", "model": "claude-5", "started": (START + second) * 1_000_000_000,
        "duration": 1_000_000_000, "progress": "response-started", "cost": 300,
    });
    if let Some(failure) = failure {
        attempt["failure"] = failure.into();
        attempt["message"] = "it is busy".into();
    }
    attempt
}

fn finished(call: &str, attempts: &[Value]) -> Value {
    json!({
        "kind": "call.finished", "call": call, "turn": 1, "provider": "anthropic", "model": "claude-5",
        "content": { "inline": [{ "type": "text", "text": "a private word" }] }, "stop": "tool-use",
        "usage": { "input_tokens": 10, "output_tokens": 5, "cache_write_tokens": 90 }, "cost": 600,
        "duration": 2_000_000_000, "first_token": 500_000_000, "request_id": "req_1", "attempts": attempts,
    })
}

fn planned(id: &str, tool: &str) -> Value {
    json!({
        "kind": "tool.planned", "id": id, "tool": tool, "args": { "inline": {} }, "args_hash": "", "class": "write",
        "key": "k", "plan": { "inline": null },
    })
}

fn came_back(id: &str, is_error: bool) -> Value {
    json!({
        "kind": "tool.finished", "id": id, "is_error": is_error, "result": { "inline": "a private word" },
        "duration": { "secs": 1, "nanos": 0 },
    })
}

fn done(status: &str) -> Value {
    json!({ "kind": "run.finished", "status": status, "message": "that was it" })
}

/// The spans as a tree: name, seconds from the start to its beginning and end, what went wrong.
fn tree(spans: &[Value]) -> String {
    let mut below: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for span in spans {
        below.entry(span["parentSpanId"].as_str().unwrap_or_default()).or_default().push(span);
    }
    let mut lines = String::new();
    let mut open: Vec<(usize, &Value)> =
        below.get("").into_iter().flatten().rev().map(|span| (0, *span)).collect();
    while let Some((depth, span)) = open.pop() {
        let second = |key: &str| span[key].as_str().unwrap().parse::<u64>().unwrap() / 1_000_000_000 - START;
        let (from, to) = (second("startTimeUnixNano"), second("endTimeUnixNano"));
        let wrong = span["status"]["message"].as_str().unwrap_or_default();
        let _ =
            writeln!(lines, "{}{} {from}..{to} {wrong}", "  ".repeat(depth), span["name"].as_str().unwrap());
        let children = below.get(span["spanId"].as_str().unwrap()).into_iter().flatten().rev();
        open.extend(children.map(|span| (depth + 1, *span)));
    }
    lines
}

#[tokio::test]
async fn a_run_is_one_trace_with_its_calls_attempts_tools_and_parts() {
    let place = Place::of(&["200 OK"]).await;
    let mut exporter = place.exporter().await;
    place.in_run(RUN, 0, created(None)).await;
    let attempts = [attempt(1, 1, Some("overloaded")), attempt(2, 2, None)];
    place.in_run(RUN, 3, finished("c1", &attempts)).await;
    place.in_run(RUN, 3, planned("w", "write_file")).await;
    place.in_run(RUN, 3, planned("d", "delegate")).await;
    place.in_run(RUN, 4, came_back("w", true)).await;
    place.in_run(PART, 5, created(Some(RUN))).await;
    place.in_run(PART, 7, finished("c2", &[attempt(1, 6, None)])).await;
    place.in_run(PART, 8, done("done")).await;
    place.in_run(RUN, 8, came_back("d", false)).await;
    place.in_run(RUN, 9, done("done")).await;
    exporter.round().await.unwrap();
    let spans = place.spans();
    expect![[r"
        invoke_agent scribe 0..9 
          chat smart 1..3 
            attempt anthropic 1..2 it is busy
            attempt anthropic 2..3 
          execute_tool write_file 3..4 the tool failed
          invoke_agent scribe 5..8 
            chat smart 5..7 
          execute_tool delegate 7..8 
    "]]
    .assert_eq(&tree(&spans));
    let trace = &spans[0]["traceId"];
    assert!(spans.iter().all(|span| span["traceId"] == *trace), "one trace");
    let whole = place.upstream.only();
    assert_eq!(whole.header("authorization"), Some("Bearer t"));
    assert!(!whole.text().contains("private"), "no text leaves");
}

#[tokio::test]
async fn a_call_of_the_gateway_is_told_with_what_the_conventions_name() {
    let place = Place::of(&["200 OK"]).await;
    let mut exporter = place.exporter().await;
    let mut call = finished("c1", &[attempt(1, 1, None)]);
    call["asked"] = json!({ "model": "smart", "input_tokens": 100, "role": "writer", "key": "laptop" });
    place.happens(StreamId::Calls, 3, &[call]).await;
    exporter.round().await.unwrap();
    let body: Value = serde_json::from_str(place.upstream.only().text()).unwrap();
    expect![[r#"
        {
          "resourceSpans": [
            {
              "resource": {
                "attributes": [
                  {
                    "key": "service.name",
                    "value": {
                      "stringValue": "tests"
                    }
                  },
                  {
                    "key": "service.version",
                    "value": {
                      "stringValue": "0.1.0"
                    }
                  }
                ]
              },
              "scopeSpans": [
                {
                  "scope": {
                    "name": "backstop",
                    "version": "0.1.0"
                  },
                  "spans": [
                    {
                      "traceId": "26d65c79b33e002d5b0ba6a90c62fd2a",
                      "spanId": "26d65c79b33e002d",
                      "name": "chat smart",
                      "kind": 3,
                      "startTimeUnixNano": "1795867201000000000",
                      "endTimeUnixNano": "1795867203000000000",
                      "attributes": [
                        {
                          "key": "gen_ai.operation.name",
                          "value": {
                            "stringValue": "chat"
                          }
                        },
                        {
                          "key": "gen_ai.request.model",
                          "value": {
                            "stringValue": "smart"
                          }
                        },
                        {
                          "key": "backstop.call",
                          "value": {
                            "stringValue": "c1"
                          }
                        },
                        {
                          "key": "backstop.role",
                          "value": {
                            "stringValue": "writer"
                          }
                        },
                        {
                          "key": "backstop.key",
                          "value": {
                            "stringValue": "laptop"
                          }
                        },
                        {
                          "key": "gen_ai.provider.name",
                          "value": {
                            "stringValue": "anthropic"
                          }
                        },
                        {
                          "key": "gen_ai.response.model",
                          "value": {
                            "stringValue": "claude-5"
                          }
                        },
                        {
                          "key": "gen_ai.response.finish_reasons",
                          "value": {
                            "arrayValue": {
                              "values": [
                                {
                                  "stringValue": "tool_calls"
                                }
                              ]
                            }
                          }
                        },
                        {
                          "key": "gen_ai.usage.input_tokens",
                          "value": {
                            "intValue": "100"
                          }
                        },
                        {
                          "key": "gen_ai.usage.output_tokens",
                          "value": {
                            "intValue": "5"
                          }
                        },
                        {
                          "key": "backstop.cost.usd_nano",
                          "value": {
                            "intValue": "600"
                          }
                        },
                        {
                          "key": "gen_ai.usage.cache_write.input_tokens",
                          "value": {
                            "intValue": "90"
                          }
                        },
                        {
                          "key": "gen_ai.usage.cache_creation.input_tokens",
                          "value": {
                            "intValue": "90"
                          }
                        },
                        {
                          "key": "gen_ai.response.time_to_first_chunk",
                          "value": {
                            "doubleValue": 0.5
                          }
                        },
                        {
                          "key": "backstop.request_id",
                          "value": {
                            "stringValue": "req_1"
                          }
                        }
                      ]
                    }
                  ]
                }
              ]
            }
          ]
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&body).unwrap());
}

#[tokio::test]
async fn a_collector_that_is_away_hears_it_later_and_one_that_refuses_never() {
    let place = Place::of(&["503 Later", "200 OK", "400 Bad", "200 OK"]).await;
    let mut exporter = place.exporter().await;
    let calls = |id: &str| [finished(id, &[attempt(1, 1, None)])];
    place.happens(StreamId::Calls, 3, &calls("c1")).await;
    assert!(matches!(exporter.round().await, Err(ExportError::Later { .. })));
    exporter.round().await.unwrap();
    place.happens(StreamId::Calls, 4, &calls("c2")).await;
    assert!(
        matches!(exporter.round().await, Err(ExportError::Refused { what, status: 400, .. }) if what == "1 spans")
    );
    place.happens(StreamId::Calls, 5, &calls("c3")).await;
    exporter.round().await.unwrap();
    let spans = place.spans();
    let ids: Vec<_> = spans.iter().map(|span| span["spanId"].as_str().unwrap()).collect();
    assert_eq!((ids.len(), ids[0] == ids[1], ids[1] == ids[2], ids[2] == ids[3]), (4, true, false, false));
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_trace_and_tells_nothing_twice() {
    let place = Place::of(&["200 OK"]).await;
    let mut exporter = place.exporter().await;
    place.in_run(RUN, 0, created(None)).await;
    place.in_run(RUN, 2, finished("c1", &[attempt(1, 1, None)])).await;
    place.in_run(RUN, 2, planned("w", "write_file")).await;
    exporter.round().await.unwrap();
    let mut exporter = place.exporter().await;
    place.in_run(RUN, 4, came_back("w", false)).await;
    place.in_run(RUN, 5, done("stopped")).await;
    exporter.round().await.unwrap();
    place.in_run(RUN, 8, json!({ "kind": "run.resumed", "limits": { "time": { "secs": 60, "nanos": 0 }, "turns": 9, "tokens": 9_000 } })).await;
    place.in_run(RUN, 9, finished("c2", &[attempt(1, 8, None)])).await;
    place.in_run(RUN, 9, done("done")).await;
    exporter.round().await.unwrap();
    expect![[r"
        invoke_agent scribe 0..5 that was it
          chat smart 0..2 
          execute_tool write_file 3..4 
        invoke_agent scribe 8..9 
          chat smart 7..9 
    "]]
    .assert_eq(&tree(&place.spans()));
}

/// A run that is over before one that does a part for it, as when both are cancelled, and that nobody knows any more.
#[tokio::test]
async fn a_part_that_outlives_its_run_is_told_of_in_its_trace() {
    let place = Place::of(&["200 OK"]).await;
    place.in_run(RUN, 0, created(None)).await;
    place.in_run(PART, 1, created(Some(RUN))).await;
    place.in_run(RUN, 2, done("cancelled")).await;
    let mut exporter = place.exporter().await;
    place.in_run(PART, 3, done("cancelled")).await;
    // One whose run is in no journal is told of as well.
    place.in_run("1m8g6kjkpc62z66x", 4, created(Some("1m8g6kjkpc62z000"))).await;
    place.in_run("1m8g6kjkpc62z66x", 5, done("done")).await;
    in_time("a round", exporter.round()).await.unwrap();
    let spans = place.spans();
    let [part, alone] = &spans[..] else { panic!("{spans:?}") };
    assert_eq!((part["parentSpanId"].is_string(), alone["parentSpanId"].is_null()), (true, true));
}

/// Each point of each metric: its value, or its count, its sum, and the seconds up to which there were how many.
fn points(body: &Value) -> String {
    let mut lines = String::new();
    for metric in body["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap() {
        let _ =
            writeln!(lines, "{} in {}", metric["name"].as_str().unwrap(), metric["unit"].as_str().unwrap());
        let data = if metric["sum"].is_object() { &metric["sum"] } else { &metric["histogram"] };
        assert_eq!(data["aggregationTemporality"], 2);
        for point in data["dataPoints"].as_array().unwrap() {
            assert_eq!(point["startTimeUnixNano"], format!("{START}000000000"));
            assert_eq!(point["timeUnixNano"], format!("{}000000000", START + 60));
            let named = point["attributes"].as_array().unwrap().iter();
            let named: Vec<_> = named.map(|named| named["value"]["stringValue"].as_str().unwrap()).collect();
            let _ = write!(lines, "  {}:", named.join(", "));
            if let Some(value) = point["asInt"].as_str() {
                let _ = writeln!(lines, " {value}");
                continue;
            }
            let counts = point["bucketCounts"].as_array().unwrap();
            let bounds = point["explicitBounds"].as_array().unwrap();
            assert_eq!(counts.len(), bounds.len() + 1);
            let filled = counts.iter().enumerate().filter(|(_, count)| *count != "0");
            let filled = filled.map(|(at, count)| {
                let bound = bounds.get(at).map_or("more".to_owned(), Value::to_string);
                format!("{}<={bound}", count.as_str().unwrap())
            });
            let filled: Vec<_> = filled.collect();
            let _ = writeln!(
                lines,
                " {} in {}: {}",
                point["count"].as_str().unwrap(),
                point["sum"],
                filled.join(" ")
            );
        }
    }
    lines
}

#[tokio::test]
async fn what_was_counted_is_told_by_the_names_of_the_conventions() {
    let place = Place::of(&["503 Later", "200 OK"]).await;
    let exporter = place.exporter().await;
    exporter.measure().await.unwrap();
    assert_eq!(place.upstream.seen().asked.len(), 0, "nothing happened yet");
    place.in_run(RUN, 0, created(None)).await;
    let asked = json!({ "model": "smart", "input_tokens": 100 });
    let mut call = finished("c1", &[attempt(1, 1, None)]);
    call["asked"] = asked.clone();
    place.happens(StreamId::Calls, 3, &[call.clone(), call]).await;
    let failure = json!({ "kind": "overloaded", "progress": "response-started", "detail": { "code": "BS2003", "message": "busy", "attempts": [] } });
    let failed = json!({ "kind": "call.failed", "call": "c3", "turn": 1, "failure": failure, "cost": 40, "duration": 90_000_000, "asked": asked });
    place.happens(StreamId::Calls, 4, &[failed]).await;
    place.in_run(RUN, 4, planned("w", "write_file")).await;
    place.in_run(RUN, 5, came_back("w", true)).await;
    place.in_run(RUN, 9, done("failed")).await;
    assert!(matches!(exporter.measure().await, Err(ExportError::Later { .. })));
    exporter.measure().await.unwrap();
    let asked = place.upstream.seen().asked;
    assert!(asked.iter().all(|asked| asked.head.starts_with("POST /v1/metrics ")), "{asked:?}");
    expect![[r"
        gen_ai.client.inference.duration in s
          chat, smart, overloaded: 1 in 0.09: 1<=0.16
          chat, anthropic, smart: 2 in 4.0: 2<=2.56
        gen_ai.client.operation.duration in s
          chat, smart, overloaded: 1 in 0.09: 1<=0.16
          chat, anthropic, smart: 2 in 4.0: 2<=2.56
        gen_ai.client.inference.time_to_first_chunk in s
          chat, anthropic, smart: 2 in 1.0: 2<=0.64
        gen_ai.client.inference.usage.input_tokens in {token}
          chat, smart: 0
          chat, anthropic, smart: 200
        gen_ai.client.inference.usage.output_tokens in {token}
          chat, smart: 0
          chat, anthropic, smart: 10
        gen_ai.client.inference.usage.cache_read.input_tokens in {token}
          chat, smart: 0
          chat, anthropic, smart: 0
        gen_ai.client.inference.usage.cache_write.input_tokens in {token}
          chat, smart: 0
          chat, anthropic, smart: 180
        gen_ai.client.inference.usage.reasoning.output_tokens in {token}
          chat, smart: 0
          chat, anthropic, smart: 0
        gen_ai.execute_tool.duration in s
          execute_tool, write_file, error: 1 in 1.0: 1<=1.28
        gen_ai.invoke_agent.duration in s
          invoke_agent, scribe, failed: 1 in 9.0: 1<=10.24
        backstop.cost.usd_nano in {nano-dollar}
          chat, smart: 40
          chat, anthropic, smart: 1200
    "]]
    .assert_eq(&points(&serde_json::from_str(asked[1].text()).unwrap()));
}
