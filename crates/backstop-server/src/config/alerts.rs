//! The section of `backstop.toml` about alerts: what is looked at, and who is told. Values only: names and expressions are
//! looked at when the config is resolved, secrets when the gateway starts.

use super::value::{SecretRef, Span};
use crate::alerts::{Each, Inhibition, PAGERDUTY, Route, Routing, Rule, built_in};
use backstop_journal::event::Severity;
use backstop_tools::mail::MailGrant;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const fn mins(mins: u64) -> Span {
    Span(Duration::from_secs(mins * 60))
}

/// What is looked at, and who is told when something is wrong.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Alerts {
    /// How often the rules are looked at. Since 0.1.
    pub every: Span,
    /// How long the first notice of a rule waits for more alerts of it. Since 0.1.
    pub group_wait: Span,
    /// The least time between two notices of a rule in which something changed. Since 0.1.
    pub group_interval: Span,
    /// After how long is told again what is still wrong. Since 0.1.
    pub repeat: Span,
    /// Rules, by name: changes of those that are built in, and your own. Since 0.1.
    pub rules: BTreeMap<String, AlertRule>,
    /// What is not told while something worse is wrong. Since 0.1.
    pub inhibit: Vec<Inhibit>,
    /// Who is told. Since 0.1.
    pub receivers: Vec<AlertReceiver>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            every: Span(Duration::from_secs(15)),
            group_wait: Span(Duration::from_secs(30)),
            group_interval: mins(5),
            repeat: mins(240),
            rules: BTreeMap::new(),
            inhibit: Vec::new(),
            receivers: Vec::new(),
        }
    }
}

/// A rule. What is left out is as the rule of that name has it that is built in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AlertRule {
    /// Whether it is not looked at. Since 0.1.
    pub off: bool,
    /// What it looks at, one after the other. Since 0.1.
    pub each: Option<EachWord>,
    /// The last stretch of time that its figures are of. Since 0.1.
    pub over: Option<Span>,
    /// When something is wrong: an expression in CEL. Since 0.1.
    pub when: Option<String>,
    /// How bad that is. Since 0.1.
    pub severity: Option<SeverityWord>,
    /// In what words it is told; facts in braces are filled in, as in "{name} failed {tools.failed} times". Since 0.1.
    pub summary: Option<String>,
}

/// What a rule looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum EachWord {
    /// Everything together.
    All,
    /// The models that were asked for.
    Model,
    /// The providers that were called.
    Provider,
    /// The roles.
    Role,
    /// The agents.
    Agent,
    /// The keys of the gateway.
    Key,
    /// The tools.
    Tool,
    /// The tools of each role.
    RoleTool,
    /// The budgets.
    Budget,
    /// The breakers.
    Breaker,
    /// The runs that are not over, or stopped lately.
    Run,
    /// The jobs.
    Job,
}

impl From<EachWord> for Each {
    fn from(word: EachWord) -> Self {
        match word {
            EachWord::All => Self::All,
            EachWord::Model => Self::Model,
            EachWord::Provider => Self::Provider,
            EachWord::Role => Self::Role,
            EachWord::Agent => Self::Agent,
            EachWord::Key => Self::Key,
            EachWord::Tool => Self::Tool,
            EachWord::RoleTool => Self::RoleTool,
            EachWord::Budget => Self::Budget,
            EachWord::Breaker => Self::Breaker,
            EachWord::Run => Self::Run,
            EachWord::Job => Self::Job,
        }
    }
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SeverityWord {
    /// Nothing is wrong: a sign of life.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Somebody must act.
    Critical,
}

impl From<SeverityWord> for Severity {
    fn from(word: SeverityWord) -> Self {
        match word {
            SeverityWord::Info => Self::Info,
            SeverityWord::Warning => Self::Warning,
            SeverityWord::Critical => Self::Critical,
        }
    }
}

/// While one rule finds something, another is not told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Inhibit {
    /// The rule that counts. Since 0.1.
    pub by: String,
    /// The rule that is not told. Since 0.1.
    pub of: String,
    /// The labels in which both must agree. Since 0.1.
    #[serde(default)]
    pub same: Vec<String>,
}

/// Somebody who is told: by exactly one of `webhook`, `slack`, `pagerduty` and `email`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertReceiver {
    /// A name of your own. Since 0.1.
    pub name: String,
    /// The least severity that it is told of. Since 0.1.
    #[serde(default = "warning")]
    pub severity: SeverityWord,
    /// The rules that it is told of, whatever their severity; all when left out. Since 0.1.
    #[serde(default)]
    pub rules: Vec<String>,
    /// After how long it is told again what is still wrong, if not as the others are. Since 0.1.
    #[serde(default)]
    pub repeat: Option<Span>,
    /// A program that takes JSON, signed by Standard Webhooks: its address, and where the secret is. Since 0.1.
    #[serde(default)]
    pub webhook: Option<AlertWebhook>,
    /// Where the address of an incoming webhook of Slack is: "env:NAME" or "file:PATH". Since 0.1.
    #[serde(default)]
    pub slack: Option<SecretRef>,
    /// A service of PagerDuty's: where the key of its integration is. Since 0.1.
    #[serde(default)]
    pub pagerduty: Option<AlertPager>,
    /// People, by mail: the server, from whom and to whom. Since 0.1.
    #[serde(default)]
    pub email: Option<MailGrant>,
}

fn warning() -> SeverityWord {
    SeverityWord::Warning
}

/// A program that is told of alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertWebhook {
    /// Its address: https, or http to an address of this machine or of a private network. Since 0.1.
    pub url: String,
    /// Where the secret is that what is sent is signed with: "env:NAME" or "file:PATH". Since 0.1.
    pub secret: SecretRef,
}

/// A service of PagerDuty's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AlertPager {
    /// Where the key of its integration is: "env:NAME" or "file:PATH". Since 0.1.
    pub routing_key: SecretRef,
    /// Where events are sent to, if not to PagerDuty itself. Since 0.1.
    #[serde(default = "pagerduty")]
    pub url: String,
}

fn pagerduty() -> String {
    PAGERDUTY.to_owned()
}

impl AlertReceiver {
    /// Everything that it refers to as a secret.
    pub fn references(&self) -> Vec<SecretRef> {
        let webhook = self.webhook.iter().map(|webhook| webhook.secret.clone());
        let pager = self.pagerduty.iter().map(|pager| pager.routing_key.clone());
        let password = self.email.iter().filter_map(|grant| grant.password.as_deref()?.parse().ok());
        webhook.chain(self.slack.clone()).chain(pager).chain(password).collect()
    }

    fn ways(&self) -> usize {
        let ways =
            [self.webhook.is_some(), self.slack.is_some(), self.pagerduty.is_some(), self.email.is_some()];
        ways.into_iter().filter(|way| *way).count()
    }
}

impl Alerts {
    /// What is wrong with the receivers and the inhibitions, by key.
    pub fn wrong_names(&self) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let rules: Vec<String> =
            self.resolved_rules().unwrap_or_default().into_iter().map(|rule| rule.name).collect();
        let mut seen = BTreeSet::new();
        for (number, receiver) in self.receivers.iter().enumerate() {
            let key = format!("alerts.receivers.{number}");
            if !seen.insert(&receiver.name) {
                wrong.push((format!("{key}.name"), format!("two receivers are called `{}`", receiver.name)));
            }
            if receiver.ways() != 1 {
                let why =
                    "it is told by exactly one of `webhook`, `slack`, `pagerduty` and `email`".to_owned();
                wrong.push((key.clone(), why));
            }
            let unknown = receiver.rules.iter().filter(|rule| !rules.contains(rule));
            wrong.extend(unknown.map(|rule| (format!("{key}.rules"), format!("there is no rule `{rule}`"))));
        }
        for (number, inhibit) in self.inhibit.iter().enumerate() {
            let unknown = [&inhibit.by, &inhibit.of].into_iter().filter(|rule| !rules.contains(rule));
            wrong.extend(
                unknown
                    .map(|rule| (format!("alerts.inhibit.{number}"), format!("there is no rule `{rule}`"))),
            );
        }
        wrong
    }

    /// The rules that are looked at: the built-in ones, changed, and those of the config. The errors name the key.
    pub fn resolved_rules(&self) -> Result<Vec<Rule>, Vec<(String, String)>> {
        let (mut rules, mut wrong) = (built_in(), Vec::new());
        for (name, typed) in &self.rules {
            let place = rules.iter().position(|rule| rule.name == *name);
            match rule(name, typed, place.map(|place| &rules[place])) {
                Ok(rule) => match place {
                    Some(place) => rules[place] = rule,
                    None => rules.push(rule),
                },
                Err((key, why)) => wrong.push((format!("alerts.rules.{name}{key}"), why)),
            }
        }
        rules.retain(|rule| !self.rules.get(&rule.name).is_some_and(|typed| typed.off));
        if wrong.is_empty() { Ok(rules) } else { Err(wrong) }
    }

    /// Who is told when.
    pub fn routing(&self) -> Routing {
        let route = |receiver: &AlertReceiver| Route {
            receiver: receiver.name.clone(),
            severity: receiver.severity.into(),
            rules: receiver.rules.iter().cloned().collect(),
            repeat: receiver.repeat.map(|span| span.0),
        };
        let inhibition = |typed: &Inhibit| Inhibition {
            by: typed.by.clone(),
            of: typed.of.clone(),
            same: typed.same.clone(),
        };
        // A budget that is used up is at 80 per cent as well.
        let known =
            Inhibition { by: "budget-100".into(), of: "budget-80".into(), same: vec!["budget".into()] };
        Routing {
            group_wait: self.group_wait.0,
            group_interval: self.group_interval.0,
            repeat: self.repeat.0,
            routes: self.receivers.iter().map(route).collect(),
            inhibitions: self.inhibit.iter().map(inhibition).chain([known]).collect(),
        }
    }
}

/// One rule; the error has what follows the rule's name in its key.
fn rule(name: &str, typed: &AlertRule, known: Option<&Rule>) -> Result<Rule, (&'static str, String)> {
    let missing = |key: &str| ("", format!("the rule `{name}` is not built in, so it needs `{key}`"));
    let when = typed.when.as_deref().or(known.map(|rule| rule.when.text())).ok_or_else(|| missing("when"))?;
    let summary = typed.summary.as_deref().or(known.map(|rule| rule.summary.as_str()));
    let summary = summary.ok_or_else(|| missing("summary"))?;
    let each = typed.each.map(Each::from).or(known.map(|rule| rule.each)).unwrap_or(Each::All);
    let over = typed.over.map(|span| span.0).or(known.map(|rule| rule.over)).unwrap_or(mins(15).0);
    let severity = typed.severity.map(Severity::from).or(known.map(|rule| rule.severity));
    let severity = severity.unwrap_or(Severity::Warning);
    Rule::new((name, each, over), when, severity, summary).map_err(|error| (".when", error.to_string()))
}
