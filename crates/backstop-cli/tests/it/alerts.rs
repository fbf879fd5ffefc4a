//! What people see of alerts, and say to them.

use super::kit::{Place, block_on, now, until};
use super::serving::Serving;
use backstop_journal::event::{AlertFired, AlertResolved, Severity};
use backstop_journal::{Append, Durability, EventBody, Journal, StreamId};
use backstop_store::{SqliteStore, StoreOptions};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
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

/// The body of the next request.
fn body_of(reader: &mut BufReader<TcpStream>) -> Value {
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
    serde_json::from_slice(&body).unwrap()
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
            bodies.push(body_of(&mut reader));
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

/// Takes whatever is sent, for as long as the test goes on.
fn listening() -> (String, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let heard = Arc::<Mutex<Vec<Value>>>::default();
    let keep = Arc::clone(&heard);
    std::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let mut reader = BufReader::new(stream);
            keep.lock().unwrap().push(body_of(&mut reader));
            drop(
                reader
                    .get_mut()
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
            );
        }
    });
    (url, heard)
}

/// A config whose rule `NAME` finds something at once and for ever, told to an address.
fn told_to(url: &str, rule: &str) -> String {
    format!(
        "[providers.p]\ndialect = \"messages\"\nbase-url = \"http://127.0.0.1:9\"\nkey = \"env:P_KEY\"\n\
         [models.m]\nprovider = \"p\"\nid = \"m\"\ncontext-window = 1000\nmax-output = 100\nprice = {{ input = 1, output = 1 }}\n\
         [workers]\nslots = 0\n\
         [alerts]\nevery = \"100ms\"\ngroup-wait = \"0s\"\ngroup-interval = \"0s\"\n\
         [alerts.rules.{rule}]\neach = \"all\"\nover = \"1m\"\nwhen = \"true\"\nseverity = \"critical\"\nsummary = \"{rule} is so\"\n\
         [[alerts.receivers]]\nname = \"ops\"\nrules = [\"{rule}\"]\nseverity = \"critical\"\nwebhook = {{ url = \"{url}\", secret = \"file:key\" }}\n"
    )
}

fn rules_of(heard: &Mutex<Vec<Value>>) -> Vec<(String, String)> {
    let heard = heard.lock().unwrap();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    heard.iter().map(|body| (word(&body["commonLabels"]["alertname"]), word(&body["status"]))).collect()
}

/// Two that serve over one database tell once of what is wrong; when the one that looks after it is killed, the other does, and
/// a new config is told by whoever does.
#[test]
fn of_two_that_serve_one_tells_and_the_other_takes_over() {
    let place = Place::new();
    let (url, heard) = listening();
    place.write("backstop.toml", told_to(&url, "first"));
    place.write("key", "a-secret-canary");
    let said = |rule: &str, status: &str| (rule.to_owned(), status.to_owned());
    let one = Serving::start(&place);
    until("the first notice", || rules_of(&heard).contains(&said("first", "firing")).then_some(()));
    let other = Serving::start(&place);
    // A new rule, which both are told to look at: told once.
    place.write("backstop.toml", told_to(&url, "second"));
    for serving in [&one, &other] {
        serving.signal(Signal::HUP);
        serving.says("the config was read anew");
    }
    until("the second notice", || rules_of(&heard).contains(&said("second", "firing")).then_some(()));
    until("the end of the first", || rules_of(&heard).contains(&said("first", "resolved")).then_some(()));
    // What was sent and not written down before a kill is sent again: that is not what is looked at here.
    until("an empty outbox", || listed(&place)["outbox"].as_array().unwrap().is_empty().then_some(()));
    one.signal(Signal::KILL);
    drop(one.ended(&place));
    place.write("backstop.toml", told_to(&url, "third"));
    other.signal(Signal::HUP);
    until("the third notice", || rules_of(&heard).contains(&said("third", "firing")).then_some(()));
    until("the end of the second", || rules_of(&heard).contains(&said("second", "resolved")).then_some(()));
    let done = other.stop(&place);
    assert_eq!(done.code, 0, "{}", done.shown());
    let mut all = rules_of(&heard);
    all.sort();
    let want = [
        ("first", "firing"),
        ("first", "resolved"),
        ("second", "firing"),
        ("second", "resolved"),
        ("third", "firing"),
    ];
    assert_eq!(all, want.map(|(rule, status)| said(rule, status)), "each was told once");
}
