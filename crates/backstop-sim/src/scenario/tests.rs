//! Reading schedules, and what they decide.

use super::*;
use crate::{Hint, Row};
use std::error::Error;

fn parse(text: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse(text, "my.toml")
}

/// The error with its sources, as the rim prints it.
fn told(text: &str) -> String {
    let error = parse(text).unwrap_err();
    let source = error.source().map(ToString::to_string).unwrap_or_default();
    format!("{error}\n{source}")
}

fn asked<'a>(provider: &'a str, content: &'a str) -> Asked<'a> {
    Asked { provider, model: "sim", stream: true, content: content.as_bytes(), elapsed: Duration::ZERO }
}

fn schedule(rules: &str) -> Schedule {
    Schedule::new(parse(&format!("name = \"t\"\n{rules}")).unwrap(), 1)
}

#[test]
fn every_built_in_is_read() {
    for name in Scenario::NAMES {
        let scenario = Scenario::open(name).unwrap();
        assert_eq!(scenario.name, *name);
        assert!(!scenario.description.is_empty());
    }
}

#[test]
fn errors_name_the_line_and_what_is_allowed() {
    let rows = [
        ("name = \"x\"\nspeed = 3\n", vec!["my.toml is no scenario", "line 2", "speed", "spare-after"]),
        ("name = \"x\"\n[[rule]]\nfault = \"boom\"\n", vec!["line 3", "`boom` is no fault", "cut-at"]),
        ("name = \"x\"\n[[rule]]\nfault = \"server\"\nprob = 1\n", vec!["line 4", "prob", "probability"]),
        (
            "name = \"x\"\n[[rule]]\nfault = \"server\"\nprobability = 2\n",
            vec!["rule 1 of my.toml", "from 0 to 1"],
        ),
        ("name = \"x\"\n[[rule]]\nfault = \"server\"\nevery = 0\n", vec!["`every` must be 1"]),
        (
            "name = \"x\"\n[[rule]]\nfault = \"server\"\nfirst = 3\nlast = 2\n",
            vec!["`first` must not be after"],
        ),
        ("name = \n", vec!["my.toml is no scenario", "line 1"]),
        ("", vec!["missing field `name`"]),
    ];
    for (text, wanted) in rows {
        let told = told(text);
        for part in wanted {
            assert!(told.contains(part), "{text}\n{part}\n{told}");
        }
    }
    let error = Scenario::open("no-such-scenario").unwrap_err().to_string();
    assert!(error.contains("calm, storm, outage, flaky, hostile"), "{error}");
}

#[test]
fn counts_and_prefixes() {
    let mut schedule = schedule(
        "[[rule]]\nfault = \"rate-limit:1\"\nprovider = \"a\"\nlast = 3\n\
         [[rule]]\nfault = \"overloaded\"\nprovider = \"a\"\nfirst = 2\ntimes = 2\n\
         [[rule]]\nfault = \"server\"\nprovider = \"b\"\nevery = 2\n",
    );
    let limit = Some(Fault::Error { row: Row::RateLimit, hint: Hint::Seconds(1) });
    let over = Some(Fault::Error { row: Row::Overloaded, hint: Hint::Usual });
    let server = Some(Fault::Error { row: Row::Server, hint: Hint::Usual });
    let mut at = |provider| schedule.next(&asked(provider, "x"));
    let a: Vec<_> = (0..7).map(|_| at("a1")).collect();
    // The second rule sees only what the first let pass: its own first request does not count yet.
    assert_eq!(a, [limit.clone(), limit.clone(), limit, None, over.clone(), over, None]);
    assert_eq!([at("b"), at("b"), at("b"), at("b")], [None, server.clone(), None, server]);
    assert_eq!(at("c"), None);
}

#[test]
fn time_windows() {
    let mut schedule = schedule("[[rule]]\nfault = \"server\"\nfrom-ms = 10\nuntil-ms = 20\n");
    let mut at = |ms| {
        let asked = Asked { elapsed: Duration::from_millis(ms), ..asked("a", "x") };
        schedule.next(&asked).is_some()
    };
    assert_eq!([at(9), at(10), at(19), at(20)], [false, true, true, false]);
}

#[test]
fn draws_do_not_depend_on_the_order_of_requests() {
    let rule = "[[rule]]\nfault = \"server\"\nprobability = 0.5\n";
    let contents: Vec<String> = (0..200).map(|n| format!("request {n}")).collect();
    let (mut forward, mut backward) = (schedule(rule), schedule(rule));
    let ahead: Vec<bool> = contents.iter().map(|text| forward.next(&asked("a", text)).is_some()).collect();
    let mut back: Vec<bool> =
        contents.iter().rev().map(|text| backward.next(&asked("a", text)).is_some()).collect();
    back.reverse();
    assert_eq!(ahead, back);
    let hits = ahead.iter().filter(|hit| **hit).count();
    assert!((70..130).contains(&hits), "{hits} of 200 at one half");
    // The same content again is another draw.
    let again: Vec<bool> = contents.iter().map(|text| forward.next(&asked("a", text)).is_some()).collect();
    assert_ne!(ahead, again);
}

#[test]
fn a_storm_spares_what_it_hit_twice() {
    let mut schedule = Schedule::new(Scenario::named("storm").unwrap(), 7);
    let mut struck = 0;
    for request in 0..300 {
        let content = format!("request {request}");
        let hits = (0..10)
            .filter_map(|_| schedule.next(&asked("primary", &content)))
            .filter(|fault| !matches!(fault, Fault::SlowFirstToken { .. }))
            .count();
        assert!(hits <= 2, "{hits} faults on one conversation");
        struck += hits;
    }
    assert!(struck > 200, "{struck}: it is no storm");
}

#[test]
fn what_is_put_in_line_comes_first_and_a_reset_forgets_all() {
    let mut schedule = schedule("[[rule]]\nfault = \"server\"\nlast = 1\n");
    schedule.enqueue("a", Fault::Refusal);
    assert_eq!(schedule.next(&asked("b", "x")).unwrap().to_string(), "server");
    assert_eq!(schedule.next(&asked("a", "x")), Some(Fault::Refusal));
    assert_eq!(schedule.next(&asked("a", "x")), None);
    schedule.reset();
    assert_eq!(schedule.next(&asked("a", "x")).unwrap().to_string(), "server");
}
