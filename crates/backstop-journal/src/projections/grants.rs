//! What people allowed beforehand, and what is left of it. The order of the events decides who has a use of a grant: it is
//! never a matter of who looked first.

use crate::event::{GrantCreated, GrantScope};
use crate::{Event, EventBody};
use backstop_call::{AgentName, ApprovalId, GrantId, RunId, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;

/// Every grant, by its id, which sorts by time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Grants(pub BTreeMap<GrantId, Grant>);

/// A grant as it stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Grant {
    /// What was allowed.
    pub created: GrantCreated,
    /// The questions that it answered, in order.
    pub used: Vec<ApprovalId>,
    /// Who ended it.
    pub revoked: Option<String>,
}

impl Grants {
    /// Folds the events of the stream `grants`, oldest first.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut grants = Self::default();
        for event in events {
            grants.apply(event);
        }
        grants
    }

    fn apply(&mut self, event: &Event) {
        match &event.body {
            EventBody::GrantCreated(created) => {
                let grant = Grant { created: created.clone(), used: Vec::new(), revoked: None };
                self.0.entry(created.grant.clone()).or_insert(grant);
            }
            EventBody::GrantUsed(used) => {
                let Some(grant) = self.0.get_mut(&used.grant) else { return };
                if grant.is_good(event.at) {
                    grant.used.push(used.approval.clone());
                }
            }
            EventBody::GrantRevoked(revoked) => {
                let Some(grant) = self.0.get_mut(&revoked.grant) else { return };
                grant.revoked.get_or_insert_with(|| revoked.by.clone());
            }
            _ => {}
        }
    }

    /// The grants that are good for calls of a tool in this run, the oldest first.
    pub fn good_for<'a>(
        &'a self,
        (run, agent): (&'a RunId, &'a AgentName),
        tool: &'a str,
        now: Timestamp,
    ) -> impl Iterator<Item = &'a Grant> {
        let fits = move |grant: &&Grant| {
            let scope = match &grant.created.scope {
                GrantScope::Run(of) => of == run,
                GrantScope::Agent(of) => of == agent,
            };
            scope && grant.created.tool == tool && grant.is_good(now)
        };
        self.0.values().filter(fits)
    }

    /// Whether a question was answered by this grant.
    pub fn answered(&self, grant: &GrantId, approval: &ApprovalId) -> bool {
        self.0.get(grant).is_some_and(|grant| grant.used.contains(approval))
    }
}

impl Grant {
    /// The uses that are left.
    pub fn left(&self) -> u32 {
        self.created.uses.saturating_sub(u32::try_from(self.used.len()).unwrap_or(u32::MAX))
    }

    /// Whether it answers questions at this time.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked.is_none() && now < self.created.until && self.left() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{GrantRevoked, GrantUsed};
    use crate::{Hash, StreamId};
    use backstop_label::ConstraintText;
    use std::time::Duration;

    const START: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn created(uses: u32) -> EventBody {
        GrantCreated {
            grant: "g".into(),
            scope: GrantScope::Run("r".into()),
            tool: "send".into(),
            constraint: ConstraintText::default(),
            uses,
            until: START + Duration::from_secs(10),
            by: "owner".into(),
            channel: "terminal".into(),
        }
        .into()
    }

    fn used(approval: &str) -> EventBody {
        GrantUsed { grant: "g".into(), run: "r".into(), approval: approval.into() }.into()
    }

    /// Folds these events, each at its second.
    fn fold(events: Vec<(u64, EventBody)>) -> Grants {
        let event = |(seq, (second, body)): (u64, (u64, EventBody))| Event {
            position: seq,
            stream: StreamId::Grants,
            seq,
            at: START + Duration::from_secs(second),
            epoch: 0,
            body,
            hash: Hash::default(),
        };
        let events: Vec<_> = (1..).zip(events).map(event).collect();
        Grants::fold(&events)
    }

    #[test]
    fn the_order_decides_who_has_the_last_use() {
        let grants = fold(vec![(0, created(2)), (1, used("a")), (1, used("b")), (1, used("c"))]);
        let answered = ["a", "b", "c"].map(|id| grants.answered(&"g".into(), &id.into()));
        assert_eq!(answered, [true, true, false]);
        assert_eq!(grants.0[&"g".into()].left(), 0);
    }

    #[test]
    fn what_comes_after_its_end_is_not_answered() {
        let revoked = GrantRevoked { grant: "g".into(), by: "owner".into(), channel: "page".into() };
        let rows = [
            (vec![(0, created(9)), (9, used("a"))], true),
            (vec![(0, created(9)), (10, used("a"))], false),
            (vec![(0, created(9)), (1, revoked.into()), (2, used("a"))], false),
            (vec![(1, used("a")), (2, created(9))], false),
        ];
        for (events, want) in rows {
            let shown = format!("{events:?}");
            assert_eq!(fold(events).answered(&"g".into(), &"a".into()), want, "{shown}");
        }
    }

    #[test]
    fn a_grant_is_for_its_scope_and_its_tool() {
        let grants = fold(vec![(0, created(1))]);
        let good = |run: &str, tool: &str, second| {
            let (run, agent) = (RunId::from(run), AgentName::from("a"));
            grants.good_for((&run, &agent), tool, START + Duration::from_secs(second)).count()
        };
        assert_eq!(
            [good("r", "send", 1), good("q", "send", 1), good("r", "pay", 1), good("r", "send", 10)],
            [1, 0, 0, 0]
        );
    }
}
