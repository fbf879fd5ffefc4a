//! A watch as the config says: its secrets loaded, its addresses looked at.

use super::receiver::Receiver;
use super::watch::{Watch, WatchParts};
use crate::config::alerts::AlertReceiver;
use crate::config::{Config, Problem, SecretRef, Surroundings, load_secret};
use crate::numbers::Numbers;
use backstop_call::{Clock, Code, Secret};
use backstop_journal::{Journal, JournalError, Queue};
use backstop_tools::mail::Postman;
use std::sync::Arc;

/// Everybody who is told, as the config says.
///
/// # Errors
/// A secret that is not there, an address that nothing may be sent to.
pub fn receivers(config: &Config, world: &dyn Surroundings) -> Result<Vec<Arc<Receiver>>, Problem> {
    config.alerts.receivers.iter().map(|typed| receiver(typed, config, world).map(Arc::new)).collect()
}

fn receiver(typed: &AlertReceiver, config: &Config, world: &dyn Surroundings) -> Result<Receiver, Problem> {
    let AlertReceiver { name, webhook, slack, pagerduty, email, .. } = typed;
    let wrong = |why: String| {
        Problem::new(Code::ConfigValue, format!("the receiver `{name}` of alerts: {why}"))
            .with_hint("see docs/alerts.md")
    };
    let load = |reference: &SecretRef| load_secret(reference, config.file.as_deref(), world);
    if let Some(webhook) = webhook {
        let secret = load(&webhook.secret)?;
        return Receiver::webhook(name, &webhook.url, &secret).map_err(|bad| wrong(bad.to_string()));
    }
    if let Some(address) = slack {
        return Receiver::slack(name, &load(address)?).map_err(|bad| wrong(bad.to_string()));
    }
    if let Some(pager) = pagerduty {
        let key = load(&pager.routing_key)?;
        return Receiver::pagerduty(name, &pager.url, key).map_err(|bad| wrong(bad.to_string()));
    }
    let Some(grant) = email else { return Err(wrong("nothing says how it is told".to_owned())) };
    let secret = |text: &str| -> Result<Secret, String> {
        let reference: SecretRef = text.parse().map_err(|bad: crate::config::BadValue| bad.to_string())?;
        load(&reference).map_err(|problem| problem.message)
    };
    let postman = Postman::new(grant, &secret).map_err(|bad| wrong(bad.to_string()))?;
    Ok(Receiver::email(name, postman))
}

impl Watch {
    /// A watch over what the config says, whose receivers are these.
    pub async fn of(
        config: &Config,
        receivers: Vec<Arc<Receiver>>,
        numbers: Numbers,
        (journal, queue, clock): (Arc<dyn Journal>, Arc<dyn Queue>, Arc<dyn Clock>),
    ) -> Result<Self, JournalError> {
        // What cannot be resolved was told when the config was read.
        let rules = config.alerts.resolved_rules().unwrap_or_default();
        let routing = config.alerts.routing();
        Self::open(WatchParts { rules, routing, receivers, numbers, journal, queue, clock }).await
    }
}
