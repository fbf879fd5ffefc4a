//! What people see of alerts, and say to them.

use super::kit::{Place, block_on, now};
use backstop_journal::event::{AlertFired, AlertResolved, Severity};
use backstop_journal::{Append, Durability, EventBody, Journal, StreamId};
use backstop_store::{SqliteStore, StoreOptions};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

fn fired(alert: &str, rule: &str, severity: Severity) -> EventBody {
    let labels = [("model".to_owned(), "main".to_owned())].into();
    let summary = format!("{rule} is wrong\u{202e}");
    AlertFired { alert: alert.into(), rule: rule.into(), severity, labels, summary }.into()
}

fn happens(place: &Place, events: Vec<EventBody>) {
    let path = place.path().join(".backstop/backstop.db");
    let store = SqliteStore::open(path, StoreOptions::default()).unwrap();
    let at = now();
    let append =
        Append { stream: StreamId::Alerts, epoch: None, events, at, durability: Durability::Written };
    block_on(store.append(append)).unwrap();
}

fn listed(place: &Place) -> Value {
    let done = place.run(&["alerts", "list", "--past", "--json"]);
    assert_eq!(done.code, 0, "{}", done.shown());
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn alerts_are_listed_looked_after_and_silenced() {
    let place = Place::new();
    let nothing = place.run(&["alerts"]);
    assert_eq!((nothing.code, nothing.err.as_str(), nothing.out.as_str()), (0, "ok nothing is wrong\n", ""));
    happens(
        &place,
        vec![fired("aa11", "queue", Severity::Warning), fired("bb22", "health", Severity::Critical)],
    );
    let table = place.run(&["alerts"]);
    assert!(table.out.contains("bb22") && table.out.contains("critical"), "{}", table.out);
    assert!(
        table.out.contains("queue is wrong\\u{202e}") && !table.out.contains('\u{202e}'),
        "{}",
        table.out
    );

    assert_eq!(place.run(&["alerts", "ack", "bb"]).code, 0);
    let wrong = place.run(&["alerts", "ack", "cc"]);
    assert!(wrong.code == 2 && wrong.err.contains("there is no alert `cc`"), "{}", wrong.shown());
    let silence =
        place.run(&["alerts", "silence", "rule=queue", "model=main", "--for", "2h", "--reason", "a job"]);
    assert_eq!(silence.code, 0, "{}", silence.shown());
    assert_eq!(place.run(&["alerts", "silence", "queue"]).code, 2);
    let told = listed(&place);
    let state = |alert: &str| {
        let firing = told["firing"].as_array().unwrap();
        let found = firing.iter().find(|found| found["alert"] == alert).unwrap();
        (found["silenced"].clone(), found["acknowledged_by"].is_string())
    };
    assert_eq!((state("aa11"), state("bb22")), ((true.into(), false), (false.into(), true)));
    let listing = place.run(&["alerts"]);
    assert!(listing.err.contains("model=main rule=queue"), "{}", listing.err);

    assert_eq!(place.run(&["alerts", "unsilence", silence.out.trim()]).code, 0);
    happens(&place, vec![AlertResolved { alert: "aa11".into() }.into()]);
    let told = listed(&place);
    assert_eq!((told["silences"].as_array().unwrap().len(), &told["past"][0]["alert"]), (0, &"aa11".into()));
    let past = place.run(&["alerts", "list", "--past"]);
    assert!(past.out.contains("over since"), "{}", past.out);
}

/// Answers so many requests with a status, and gives their bodies.
fn receiver(status: &'static str, requests: usize) -> (String, JoinHandle<Vec<Value>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let mut bodies = Vec::new();
        while bodies.len() < requests {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.push(serde_json::from_slice(&body).unwrap());
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
        bodies
    });
    (url, serving)
}

#[test]
fn a_test_says_who_hears() {
    for (status, requests, code) in [("200 OK", 2, 0), ("500 Oops", 1, 1)] {
        let place = Place::new();
        let none = place.run(&["alerts", "test"]);
        assert!(none.code == 2 && none.err.contains("[[alerts.receivers]]"), "{}", none.shown());
        let (url, serving) = receiver(status, requests);
        place.write(
            "backstop.toml",
            format!("[[alerts.receivers]]\nname = \"ops\"\nwebhook = {{ url = \"{url}\", secret = \"file:key\" }}\n"),
        );
        place.write("key", "a-secret-canary");
        let test = place.run(&["alerts", "test", "ops"]);
        assert_eq!(test.code, code, "{}", test.shown());
        assert!(!test.err.contains("canary") && !test.err.contains(&url), "{}", test.err);
        let bodies = serving.join().unwrap();
        let statuses: Vec<_> = bodies.iter().map(|body| body["status"].as_str().unwrap()).collect();
        assert_eq!(statuses, ["firing", "resolved"][..requests]);
        assert!(!place.path().join(".backstop/backstop.db").exists(), "a test is no alert");
    }
}
