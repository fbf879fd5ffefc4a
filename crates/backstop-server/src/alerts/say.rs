//! What people say to alerts: nobody is told of some for a while, somebody looks after one.

use backstop_call::{Seed, Timestamp};
use backstop_journal::event::{AlertFired, AlertSilenced};
use backstop_journal::{Append, Durability, EventBody, Journal, JournalError, StreamId};
use std::collections::BTreeMap;
use std::time::Duration;

/// A silence from now on, for so long.
pub fn silence(
    matchers: BTreeMap<String, String>,
    span: Duration,
    (by, reason): (String, String),
    now: Timestamp,
) -> AlertSilenced {
    let until = now + span;
    let silence = format!("s{:08x}", Seed::new(now.nanos()).next_u64() >> 32);
    AlertSilenced { silence, matchers, until, by, reason }
}

/// What a silence must say that is about this alert and no other.
pub fn only(fired: &AlertFired) -> BTreeMap<String, String> {
    let labels = fired.labels.iter().map(|(name, value)| (name.clone(), value.clone()));
    labels.chain([("rule".to_owned(), fired.rule.clone())]).collect()
}

/// Writes down what somebody said.
///
/// # Errors
/// What ails the journal.
pub async fn say(
    journal: &dyn Journal,
    said: impl Into<EventBody>,
    at: Timestamp,
) -> Result<(), JournalError> {
    let (stream, durability) = (StreamId::Alerts, Durability::Synced);
    journal.append(Append { stream, epoch: None, events: vec![said.into()], at, durability }).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_journal::event::Severity;
    use backstop_journal::projections::alerts::Alerts;

    #[test]
    fn a_silence_of_one_alert_fits_no_other() {
        let now = Timestamp::from_secs(1_000);
        let fired = |rule: &str, model: &str| AlertFired {
            alert: format!("{rule}-{model}"),
            rule: rule.to_owned(),
            severity: Severity::Warning,
            labels: [("model".to_owned(), model.to_owned())].into(),
            summary: String::new(),
        };
        let silenced = silence(only(&fired("slow", "a")), Duration::from_hours(1), Default::default(), now);
        let mut alerts = Alerts::default();
        alerts.take(&silenced.clone().into(), now);
        let rows = [
            (fired("slow", "a"), now, true),
            (fired("slow", "b"), now, false),
            (fired("dear", "a"), now, false),
            (fired("slow", "a"), silenced.until, false),
        ];
        for (fired, at, want) in rows {
            assert_eq!(alerts.silenced(&fired, at).is_some(), want, "{fired:?} {at}");
        }
    }
}
