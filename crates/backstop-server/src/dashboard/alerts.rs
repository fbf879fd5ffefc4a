//! What is wrong, since when, and who was told; the rules that say so; and what people say to it.

use super::door::{Form, Looker, field};
use super::frame::{Frame, Part, Watch, token};
use super::{AlertChange, live, see, show, text};
use crate::alerts::{Rule, only, say, silence};
use crate::config::Span;
use crate::gateway::answer::Reply;
use crate::gateway::approvals::Refused;
use crate::gateway::visit::Visit;
use backstop_agent::visible_line;
use backstop_call::{Code, Timestamp};
use backstop_journal::event::{AlertAcknowledged, AlertSilenced, AlertUnsilenced, Severity};
use backstop_journal::projections::alerts::{Alert, Alerts, Notice};
use backstop_journal::{EventBody, JournalError, StreamId};
use http::StatusCode;
use hyper::body::Incoming;
use maud::{Markup, html};
use std::collections::BTreeMap;
use tokio::sync::{Mutex, MutexGuard};

/// Alerts that are over, and notices, that are shown.
const PAST_SHOWN: usize = 50;
/// For how long somebody may be told nothing.
const SPANS: [(&str, &str); 4] = [("1h", "1 hour"), ("4h", "4 hours"), ("1d", "1 day"), ("7d", "1 week")];
/// The longest reason of a silence.
const REASON_CHARS_MAX: usize = 500;

/// How alerts stand, as far as the journal was read.
#[derive(Default)]
pub(super) struct Known(Mutex<Alerts>);

impl Known {
    /// How they stand now: of the journal what is new is read.
    pub(super) async fn now(&self, visit: &Visit) -> Result<MutexGuard<'_, Alerts>, JournalError> {
        let mut alerts = self.0.lock().await;
        let journal = visit.gateway.backstop.journal();
        for event in journal.read(&StreamId::Alerts, alerts.seq).await? {
            alerts.apply(&event);
        }
        Ok(alerts)
    }
}

impl Visit {
    /// The page.
    pub(super) async fn alerts(&self) -> Result<Reply, Refused> {
        let Some(looker) = self.looker() else { return Ok(self.ask_to_log_in(None)) };
        let shown = self.gateway.backstop.journal().end().await?;
        let now = self.gateway.clock.now();
        let config = self.gateway.engine();
        let config = &config.config().alerts;
        let rules = config.resolved_rules().unwrap_or_default();
        let receivers: Vec<_> = config.receivers.iter().map(|receiver| receiver.name.as_str()).collect();
        let alerts = self.gateway.dashboard.alerts.now(self).await?;
        let body = html! {
            h1 { "Alerts" }
            section #firing data-part {
                @if !is_wrong(&alerts) { p.good { "Nothing is wrong." } }
                @if !alerts.firing.is_empty() { ul.alerts { @for alert in worst_first(&alerts) { li { (card(&alerts, alert, &looker, now)) } } } }
            }
            section #silences data-part { (silences(&alerts, &looker, now)) }
            section #past data-part { (past(&alerts, now)) }
            section #told data-part { (told(&alerts, &receivers, now)) }
            section { (rules_table(&rules)) }
        };
        let watch = Some(Watch { events: live::path(None), shown });
        let frame = Frame { watch, ..Frame::of("Alerts", Part::Alerts, Some(&looker)) };
        Ok(show(StatusCode::OK, &frame.around(&body)))
    }

    /// What a person says to an alert, or to a silence.
    pub(super) async fn change_alert(&self, change: AlertChange, body: Incoming) -> Result<Reply, Refused> {
        let form = self.form(body).await?;
        let by = self.decider(&form)?.name.to_string();
        let now = self.gateway.clock.now();
        let said: EventBody = {
            let alerts = self.gateway.dashboard.alerts.now(self).await?;
            let firing =
                || alerts.firing.get(self.name()).ok_or_else(|| gone("this alert is over, or never was"));
            match change {
                AlertChange::Acknowledge => {
                    AlertAcknowledged { alert: firing()?.fired.alert.clone(), by }.into()
                }
                AlertChange::Silence => silenced(firing()?, &form, by, now)?.into(),
                AlertChange::Unsilence => {
                    let found = alerts.silences.get(self.name());
                    let found = found.ok_or_else(|| gone("this silence is over, or never was"))?;
                    AlertUnsilenced { silence: found.silence.clone(), by }.into()
                }
            }
        };
        say(&**self.gateway.backstop.journal(), said, now).await?;
        Ok(see("/alerts"))
    }
}

fn gone(message: &str) -> Refused {
    Refused::new(StatusCode::CONFLICT, Code::FormStale, message.to_owned())
}

/// The silence that a form asks for.
fn silenced(alert: &Alert, form: &Form, by: String, now: Timestamp) -> Result<AlertSilenced, Refused> {
    let wrong = |message: &str| {
        Refused::new(StatusCode::UNPROCESSABLE_ENTITY, Code::Usage, message.to_owned())
            .with_hint("choose what is offered")
    };
    let known = SPANS.iter().find(|(span, _)| *span == field(form, "for"));
    let span: Span =
        known.and_then(|(span, _)| span.parse().ok()).ok_or_else(|| wrong("that is no such time"))?;
    let matchers = match field(form, "what") {
        "alert" => only(&alert.fired),
        "rule" => BTreeMap::from([("rule".to_owned(), alert.fired.rule.clone())]),
        _ => return Err(wrong("that is nothing to be silent about")),
    };
    let reason = field(form, "reason").trim().chars().take(REASON_CHARS_MAX).collect();
    Ok(silence(matchers, span.0, (by, reason), now))
}

fn worst_first(alerts: &Alerts) -> Vec<&Alert> {
    let mut firing: Vec<_> = alerts.firing.values().collect();
    firing.sort_by_key(|alert| (std::cmp::Reverse(alert.fired.severity), std::cmp::Reverse(alert.since)));
    firing
}

/// Whether anything fires but signs of life.
fn is_wrong(alerts: &Alerts) -> bool {
    alerts.firing.values().any(|alert| alert.fired.severity > Severity::Info)
}

fn severity(severity: Severity) -> Markup {
    html! { span class={ "pill " (severity.as_str()) } { (severity.as_str()) } }
}

fn card(alerts: &Alerts, alert: &Alert, looker: &Looker, now: Timestamp) -> Markup {
    let fired = &alert.fired;
    let silence = alerts.silenced(fired, now);
    html! {
        div.card.alert #{ "alert-" (visible_line(&fired.alert)) } {
            p.stand {
                (severity(fired.severity)) " " strong { (visible_line(&fired.rule)) } " "
                span.dim { "since " (text::ago(alert.since, now)) }
            }
            p { (text::bounded(&fired.summary)) }
            (labels(&fired.labels))
            @if let Some(silence) = silence {
                p.dim { "Nobody is told until " (text::moment(silence.until)) " UTC (" (visible_line(&silence.by)) ")." }
            }
            @if let Some(by) = &alert.acknowledged { p.dim { (visible_line(by)) " looks after it." } }
            @if let (Some(form), true) = (looker.form(), fired.severity > Severity::Info) {
                (acts(alert, silence.is_some(), form))
            }
        }
    }
}

fn labels(labels: &BTreeMap<String, String>) -> Markup {
    html! {
        @if !labels.is_empty() {
            ul.counts.dim { @for (name, value) in labels { li { (text::line(name, 60)) ": " (text::line(value, 100)) } } }
        }
    }
}

fn acts(alert: &Alert, silent: bool, form: &str) -> Markup {
    let name = visible_line(&alert.fired.alert);
    html! {
        div.row-acts {
            @if alert.acknowledged.is_none() {
                form method="post" action={ "/alerts/" (name) "/acknowledge" } {
                    (token(form)) button.small type="submit" { "I look after it" }
                }
            }
            @if !silent {
                details {
                    summary { "Silence…" }
                    form.filters method="post" action={ "/alerts/" (name) "/silence" } {
                        (token(form))
                        div.field {
                            label for={ "for-" (name) } { "For" }
                            select #{ "for-" (name) } name="for" { @for (span, words) in SPANS { option value=(span) { (words) } } }
                        }
                        div.field {
                            label for={ "what-" (name) } { "What" }
                            select #{ "what-" (name) } name="what" {
                                option value="alert" { "This alert" } option value="rule" { "All of its rule" }
                            }
                        }
                        div.field.wide {
                            label for={ "reason-" (name) } { "Why" }
                            input #{ "reason-" (name) } name="reason" maxlength=(REASON_CHARS_MAX) autocomplete="off";
                        }
                        div.buttons { button type="submit" { "Silence" } }
                    }
                }
            }
        }
    }
}

fn silences(alerts: &Alerts, looker: &Looker, now: Timestamp) -> Markup {
    let holding: Vec<_> = alerts.silences.values().filter(|silence| silence.until > now).collect();
    html! {
        @if !holding.is_empty() {
            h2 { "Silences" }
            ul.steps {
                @for silence in holding {
                    li.row-acts {
                        span {
                            @for (name, value) in &silence.matchers { code { (text::line(&format!("{name}={value}"), 120)) } " " }
                            "until " (text::moment(silence.until)) " UTC, by " (visible_line(&silence.by))
                            @if !silence.reason.is_empty() { ": " (text::line(&silence.reason, 200)) }
                        }
                        @if let Some(form) = looker.form() {
                            form method="post" action={ "/alerts/" (visible_line(&silence.silence)) "/unsilence" } {
                                (token(form)) button.small type="submit" { "End it" }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn past(alerts: &Alerts, now: Timestamp) -> Markup {
    let mut past: Vec<_> = alerts.past.values().collect();
    past.sort_by_key(|alert| std::cmp::Reverse(alert.resolved));
    html! {
        h2 { "Over" }
        @if past.is_empty() { p.empty { "Nothing was wrong before." } } @else {
            table.list {
                caption.hidden { "Alerts that are over, the latest first" }
                thead { tr {
                    th scope="col" { "Severity" } th scope="col" { "Alert" }
                    th.number.soft scope="col" { "Lasted" } th.number.soft scope="col" { "Over" }
                } }
                tbody {
                    @for alert in past.into_iter().take(PAST_SHOWN) {
                        @let over = alert.resolved.unwrap_or(now);
                        tr {
                            td { (severity(alert.fired.severity)) }
                            td.task {
                                strong { (visible_line(&alert.fired.rule)) }
                                span.dim { (text::line(&alert.fired.summary, 160)) }
                                span.dim.brief { (text::ago(over, now)) ", after " (text::span(over.since(alert.since))) }
                            }
                            td.number.soft { (text::span(over.since(alert.since))) }
                            td.number.soft { (text::ago(over, now)) }
                        }
                    }
                }
            }
        }
    }
}

/// Who is told, and what did not reach them.
fn told(alerts: &Alerts, receivers: &[&str], now: Timestamp) -> Markup {
    let row = |notice: &Notice, class: &str, state: String| {
        html! {
            li {
                span class=(class) { (state) } " " (text::line(&notice.queued.group, 60)) " to " strong { (text::line(&notice.queued.receiver, 60)) }
                " " span.dim { (text::ago(notice.at, now)) }
                @if let Some(why) = &notice.lost { span.dim { ": " (text::line(why, 200)) } }
            }
        }
    };
    html! {
        h2 { "Who is told" }
        @if receivers.is_empty() {
            p.empty { "Nobody: the config has no " code { "[[alerts.receivers]]" } "." }
        } @else { p { @for (n, name) in receivers.iter().enumerate() { @if n > 0 { ", " } (visible_line(name)) } "." } }
        @if !alerts.outbox.is_empty() || !alerts.lost.is_empty() {
            ul.steps {
                @for notice in alerts.outbox.values().rev().take(PAST_SHOWN) { (row(notice, "warn", "waits:".to_owned())) }
                @for notice in alerts.lost.values().rev().take(PAST_SHOWN) { (row(notice, "bad", "given up:".to_owned())) }
            }
        }
    }
}

fn rules_table(rules: &[Rule]) -> Markup {
    html! {
        h2 { "Rules" }
        @if rules.is_empty() { p.empty { "There are none." } } @else {
            table.list {
                caption.hidden { "The rules" }
                thead { tr { th scope="col" { "Severity" } th scope="col" { "Rule" } th.soft scope="col" { "Looks at" } th.soft scope="col" { "Over" } } }
                tbody {
                    @for rule in rules {
                        @let each = rule.each.label().map_or_else(|| "all together".to_owned(), |label| format!("each {label}"));
                        tr {
                            td { (severity(rule.severity)) }
                            td.task {
                                strong { (visible_line(&rule.name)) }
                                span.dim { code { (text::bounded(rule.when.text())) } }
                                span.dim.brief { (each) ", over " (Span(rule.over)) }
                            }
                            td.soft { (each) }
                            td.soft { (Span(rule.over)) }
                        }
                    }
                }
            }
        }
    }
}

/// The worst of what is wrong, for the overview.
pub(super) fn brief(alerts: &Alerts, shown: usize) -> Markup {
    let mut firing = worst_first(alerts);
    firing.retain(|alert| alert.fired.severity > Severity::Info);
    html! {
        @if !firing.is_empty() {
            h2 { "What is wrong" }
            ul.alerts {
                @for alert in firing.iter().take(shown) {
                    li { a href="/alerts" { (severity(alert.fired.severity)) " " (text::line(&alert.fired.summary, 120)) } }
                }
            }
        }
        @if firing.len() > shown { p { a href="/alerts" { "All " (firing.len()) " alerts" } } }
    }
}
