//! What follows, played second by second: each step by a process that knows only what the journal says.

use super::*;
use backstop_journal::event::{AlertAcknowledged, AlertSilenced};

fn finding(rule: &str, model: &str) -> Finding {
    Finding {
        rule: rule.to_owned(),
        severity: if rule == "bad" { Severity::Critical } else { Severity::Warning },
        labels: [("model".to_owned(), model.to_owned())].into(),
        summary: format!("{model} is {rule}"),
    }
}

fn routing() -> Routing {
    Routing {
        group_wait: Duration::from_secs(30),
        group_interval: Duration::from_mins(5),
        repeat: Duration::from_hours(4),
        routes: vec![Route {
            receiver: "ops".into(),
            severity: Severity::Warning,
            rules: BTreeSet::new(),
            repeat: None,
        }],
        inhibitions: vec![Inhibition { by: "bad".into(), of: "odd".into(), same: vec!["model".into()] }],
    }
}

/// Plays what is found at each second; gives what was decided, with when.
struct Play {
    alerts: Alerts,
    routing: Routing,
    told: Vec<String>,
}

impl Play {
    fn new() -> Self {
        Self { alerts: Alerts::default(), routing: routing(), told: Vec::new() }
    }

    fn at(&mut self, secs: u64, findings: &[Finding]) {
        self.found(secs, &Found { findings: findings.to_vec(), undecided: BTreeSet::new() });
    }

    fn found(&mut self, secs: u64, found: &Found) {
        let now = Timestamp::from_secs(secs);
        // A process that was started this moment knows what the journal says and nothing else.
        for event in decide(&self.alerts.clone(), found, &self.routing, now) {
            self.alerts.take(&event, now);
            self.told.push(format!("{secs} {}", shown(&event, &self.alerts)));
        }
    }

    fn says(&mut self, secs: u64, event: impl Into<EventBody>) {
        self.alerts.take(&event.into(), Timestamp::from_secs(secs));
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

fn shown(event: &EventBody, alerts: &Alerts) -> String {
    let name = |alert: &String| alerts.alert(alert).unwrap().fired.summary.clone();
    match event {
        EventBody::AlertFired(fired) => format!("fires: {}", fired.summary),
        EventBody::AlertResolved(resolved) => format!("over: {}", name(&resolved.alert)),
        EventBody::AlertQueued(queued) => {
            let list = |alerts: &[String]| alerts.iter().map(name).collect::<BTreeSet<_>>();
            format!("{} hears: {:?} {:?}", queued.receiver, list(&queued.firing), list(&queued.resolved))
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_fires_once_is_quiet_repeats_and_resolves() {
    let mut play = Play::new();
    let wrong = [finding("bad", "a")];
    for secs in [0, 15, 30, 45, 600, 14_000, 14_430, 14_445] {
        play.at(secs, &wrong);
    }
    play.at(14_800, &[]);
    play.at(14_815, &[]);
    assert_eq!(
        play.told(),
        [
            "0 fires: a is bad",
            r#"30 ops hears: {"a is bad"} {}"#,
            r#"14430 ops hears: {"a is bad"} {}"#,
            "14800 over: a is bad",
            r#"14800 ops hears: {} {"a is bad"}"#,
        ]
    );
    assert_eq!((play.alerts.firing.len(), play.alerts.told.len()), (0, 0));
}

#[test]
fn what_is_over_before_anybody_was_told_is_not_told() {
    let mut play = Play::new();
    play.at(0, &[finding("bad", "a")]);
    play.at(20, &[]);
    play.at(400, &[]);
    assert_eq!(play.told(), ["0 fires: a is bad", "20 over: a is bad"]);
}

#[test]
fn alerts_of_a_rule_are_told_together_and_no_more_often_than_the_interval() {
    let mut play = Play::new();
    let (a, b, c) = (finding("bad", "a"), finding("bad", "b"), finding("bad", "c"));
    play.at(0, std::slice::from_ref(&a));
    play.at(15, &[a.clone(), b.clone()]);
    play.at(30, &[a.clone(), b.clone()]);
    play.at(60, &[a.clone(), b.clone(), c.clone()]);
    play.at(90, &[b.clone(), c.clone()]);
    play.at(329, &[b.clone(), c.clone()]);
    play.at(330, &[b.clone(), c.clone()]);
    assert_eq!(
        play.told(),
        [
            "0 fires: a is bad",
            "15 fires: b is bad",
            r#"30 ops hears: {"a is bad", "b is bad"} {}"#,
            "60 fires: c is bad",
            "90 over: a is bad",
            r#"330 ops hears: {"b is bad", "c is bad"} {"a is bad"}"#,
        ]
    );
}

#[test]
fn what_is_silenced_is_not_told_but_its_end_is() {
    let mut play = Play::new();
    let wrong = [finding("bad", "a")];
    let silence = |until| AlertSilenced {
        silence: "s".into(),
        matchers: [("model".to_owned(), "a".to_owned()), ("rule".to_owned(), "bad".to_owned())].into(),
        until: Timestamp::from_secs(until),
        by: "owner".into(),
        reason: String::new(),
    };
    play.says(0, silence(1_000));
    play.at(1, &wrong);
    play.at(900, &wrong);
    play.at(1_000, &wrong);
    assert_eq!(play.told(), ["1 fires: a is bad", r#"1000 ops hears: {"a is bad"} {}"#]);
    // Told, then silenced: not repeated, and its end is told all the same.
    play.says(1_010, silence(90_000));
    play.at(20_000, &wrong);
    play.at(20_100, &[]);
    assert_eq!(play.told(), ["20100 over: a is bad", r#"20100 ops hears: {} {"a is bad"}"#]);
}

#[test]
fn what_something_worse_explains_is_not_told() {
    let mut play = Play::new();
    let both = [finding("bad", "a"), finding("odd", "a"), finding("odd", "b")];
    play.at(0, &both);
    play.at(30, &both);
    let told = play.told();
    assert_eq!(told[3..], [r#"30 ops hears: {"a is bad"} {}"#, r#"30 ops hears: {"b is odd"} {}"#]);
    // The worse is over, and the other still fires.
    play.at(400, &both[1..]);
    assert_eq!(
        play.told(),
        [
            "400 over: a is bad",
            r#"400 ops hears: {} {"a is bad"}"#,
            r#"400 ops hears: {"a is odd", "b is odd"} {}"#,
        ]
    );
}

#[test]
fn what_somebody_looks_after_is_not_repeated() {
    let mut play = Play::new();
    let wrong = [finding("bad", "a")];
    play.at(0, &wrong);
    play.at(30, &wrong);
    play.says(40, AlertAcknowledged { alert: wrong[0].alert(), by: "owner".into() });
    play.at(50_000, &wrong);
    assert_eq!(play.told().len(), 2);
    play.at(50_015, &[wrong[0].clone(), finding("bad", "b")]);
    assert_eq!(
        play.told(),
        ["50015 fires: b is bad", r#"50015 ops hears: {"a is bad", "b is bad"} {}"#],
        "what is new is told"
    );
}

#[test]
fn a_rule_that_cannot_be_worked_out_changes_nothing() {
    let mut play = Play::new();
    play.at(0, &[finding("bad", "a")]);
    play.at(30, &[finding("bad", "a")]);
    play.told();
    play.found(60, &Found { findings: Vec::new(), undecided: ["bad".to_owned()].into() });
    assert_eq!(play.told(), Vec::<String>::new());
    play.at(400, &[]);
    assert_eq!(play.told().len(), 2);
}

#[test]
fn each_receiver_is_told_what_it_takes() {
    let mut play = Play::new();
    let route = |receiver: &str, severity, rules: &[&str]| Route {
        receiver: receiver.to_owned(),
        severity,
        rules: rules.iter().map(|rule| (*rule).to_owned()).collect(),
        repeat: None,
    };
    play.routing.routes = vec![
        route("all", Severity::Warning, &[]),
        route("pager", Severity::Critical, &[]),
        route("odd", Severity::Critical, &["odd"]),
    ];
    play.routing.group_wait = Duration::ZERO;
    play.at(0, &[finding("bad", "a"), finding("odd", "b")]);
    assert_eq!(
        play.told()[2..],
        [
            r#"0 all hears: {"a is bad"} {}"#,
            r#"0 all hears: {"b is odd"} {}"#,
            r#"0 pager hears: {"a is bad"} {}"#,
            r#"0 odd hears: {"b is odd"} {}"#,
        ]
    );
}
