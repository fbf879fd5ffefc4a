//! What is told of alerts, in the words of each kind of receiver. Texts of models and tools are never markup, and bounded.

use backstop_agent::visible_line;
use backstop_call::Timestamp;
use backstop_journal::event::Severity;
use backstop_journal::projections::alerts::{Alert, Alerts, Notice};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// The most characters of a summary in a message.
const SUMMARY_CHARS_MAX: usize = 500;
/// The most alerts that a message lists; the others are counted.
const LISTED_MAX: usize = 20;

/// A notice with the alerts that it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The notice: the same at every attempt.
    pub notice: String,
    /// Who is told.
    pub receiver: String,
    /// The rule.
    pub group: String,
    /// Those that fire, and those that are over.
    pub alerts: Vec<Alert>,
}

impl Message {
    /// What a notice says, as alerts stand.
    pub fn of(notice: &Notice, alerts: &Alerts) -> Self {
        let queued = &notice.queued;
        // What began to fire again since is told as it was: over.
        let firing = queued.firing.iter().filter_map(|name| alerts.alert(name).cloned());
        let over = queued.resolved.iter().filter_map(|name| {
            let alert = alerts.alert(name)?.clone();
            Some(Alert { resolved: alert.resolved.or(Some(notice.at)), ..alert })
        });
        Self {
            notice: queued.notice.clone(),
            receiver: queued.receiver.clone(),
            group: queued.group.clone(),
            alerts: firing.map(|alert| Alert { resolved: None, ..alert }).chain(over).collect(),
        }
    }

    fn fires(&self) -> bool {
        self.alerts.iter().any(|alert| alert.resolved.is_none())
    }

    /// On one line.
    pub fn title(&self) -> String {
        let (over, firing): (Vec<_>, Vec<_>) = self.alerts.iter().partition(|alert| alert.resolved.is_some());
        let worst = firing.iter().map(|alert| alert.fired.severity).max();
        match (worst, firing.len(), over.len()) {
            (Some(worst), 1, _) => format!("[{}] {}: {}", worst.as_str(), self.group, summary(firing[0])),
            (Some(worst), many, _) => format!("[{}] {}: {many} alerts", worst.as_str(), self.group),
            (None, _, 1) => format!("[resolved] {}: {}", self.group, summary(over[0])),
            (None, _, many) => format!("[resolved] {}: {many} alerts", self.group),
        }
    }

    /// One line for each alert.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for alert in self.alerts.iter().take(LISTED_MAX) {
            let (state, at) = match alert.resolved {
                Some(at) => ("resolved", at),
                None => (alert.fired.severity.as_str(), alert.since),
            };
            writeln!(text, "{state}: {} (since {})", summary(alert), at.rfc3339())
                .expect("a string takes all");
        }
        if self.alerts.len() > LISTED_MAX {
            writeln!(text, "and {} more", self.alerts.len() - LISTED_MAX).expect("a string takes all");
        }
        text
    }

    /// As Alertmanager sends it (version 4), so that what takes its webhooks takes these.
    pub fn webhook(&self) -> Value {
        let status = |fires: bool| if fires { "firing" } else { "resolved" };
        let alerts = self.alerts.iter().map(|alert| {
            json!({
                "status": status(alert.resolved.is_none()),
                "labels": labels(alert),
                "annotations": {"summary": summary(alert)},
                "startsAt": alert.since.rfc3339(),
                "endsAt": alert.resolved.unwrap_or(Timestamp::EPOCH).rfc3339(),
                "fingerprint": alert.fired.alert,
            })
        });
        let alerts: Vec<_> = alerts.collect();
        json!({
            "version": "4",
            "groupKey": format!("backstop:{}", self.group),
            "truncatedAlerts": 0,
            "status": status(self.fires()),
            "receiver": self.receiver,
            "groupLabels": {"alertname": self.group},
            "commonLabels": {"alertname": self.group},
            "commonAnnotations": {},
            "alerts": alerts,
        })
    }

    /// For an incoming webhook of Slack.
    pub fn slack(&self) -> Value {
        let plain = |text: String| json!({"type": "plain_text", "text": text, "emoji": false});
        let title: String = self.title().chars().take(150).collect();
        json!({
            "text": escaped(&title),
            "blocks": [
                {"type": "header", "text": plain(title)},
                {"type": "section", "text": plain(self.text().chars().take(2_900).collect())},
            ],
        })
    }

    /// Events for PagerDuty (Events API v2): one for each alert, under its own key, so that its end closes what it opened.
    pub fn pagerduty(&self, routing_key: &str) -> Vec<Value> {
        let event = |alert: &Alert| {
            let severity = match alert.fired.severity {
                Severity::Critical => "critical",
                Severity::Warning => "warning",
                Severity::Info => "info",
            };
            let key = &alert.fired.alert;
            if alert.resolved.is_some() {
                return json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": key});
            }
            let summary: String = summary(alert).chars().take(1_024).collect();
            json!({
                "routing_key": routing_key,
                "event_action": "trigger",
                "dedup_key": key,
                "payload": {
                    "summary": summary,
                    "source": "backstop",
                    "severity": severity,
                    "timestamp": alert.since.rfc3339(),
                    "component": alert.fired.rule,
                    "custom_details": labels(alert),
                },
            })
        };
        self.alerts.iter().map(event).collect()
    }
}

fn labels(alert: &Alert) -> Map<String, Value> {
    let own = alert.fired.labels.iter().map(|(name, value)| (name.clone(), Value::from(bounded(value))));
    let common = [
        ("alertname".to_owned(), Value::from(alert.fired.rule.as_str())),
        ("severity".to_owned(), Value::from(alert.fired.severity.as_str())),
    ];
    common.into_iter().chain(own).collect()
}

fn summary(alert: &Alert) -> String {
    bounded(&alert.fired.summary)
}

fn bounded(text: &str) -> String {
    visible_line(text).chars().take(SUMMARY_CHARS_MAX).collect()
}

/// Text in Slack's markup: these three are all that steers it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
