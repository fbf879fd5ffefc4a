//! Where the money is: accounts, leases and holds, folded from the events of the ledger.
//!
//! Each event is first turned into a [`Step`], which says what it changes. The fold applies steps to maps; a store
//! applies the same steps to its tables, so that both can only agree. For every account it always holds that
//! `settled + suspense + reserved + leased` = what was granted − what went back.

use crate::EventBody;
use crate::event::MoneyMoved;
use backstop_call::{Money, ReservationId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What one account holds over all processes, or a change of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Spent for certain, overruns included.
    pub settled: Money,
    /// May have been billed; counts as spent.
    pub suspense: Money,
    /// Held for calls under way.
    pub reserved: Money,
    /// Leased to processes and held for no call. Below zero by what overran.
    pub leased: Money,
    /// The part of `settled` that went over its reservation.
    pub overrun: Money,
}

impl Spent {
    /// What is no longer free: spent, held or leased.
    pub fn used(&self) -> Money {
        self.settled + self.suspense + self.reserved + self.leased
    }

    /// Adds a change.
    pub fn add(&mut self, change: &Self) {
        self.settled += change.settled;
        self.suspense += change.suspense;
        self.reserved += change.reserved;
        self.leased += change.leased;
        self.overrun += change.overrun;
    }
}

/// A reservation that still counts for more than nothing: under way, or suspended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The process whose lease it came from.
    pub owner: String,
    /// The worst case.
    pub amount: Money,
    /// The accounts, by their keys.
    pub accounts: Vec<String>,
    /// Why its cost is unknown; `None` while the call is under way.
    pub suspended: Option<String>,
}

/// What one event changes in one account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The account's key.
    pub account: String,
    /// The process whose lease changes by `by.leased`.
    pub owner: String,
    /// The differences.
    pub by: Spent,
}

/// What becomes of the reservation that an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// It is about none, or changes nothing.
    Same,
    /// It is this now.
    Set(Held),
    /// It counts no more.
    Gone,
}

/// What one event changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// In the accounts.
    pub changes: Vec<Change>,
    /// In the reservation.
    pub hold: Hold,
}

/// The reservation an event is about.
pub fn reservation(event: &EventBody) -> Option<&ReservationId> {
    match event {
        EventBody::MoneyReserved(event) => Some(&event.reservation),
        EventBody::MoneySettled(event) => Some(&event.reservation),
        EventBody::MoneyVoided(event) => Some(&event.reservation),
        EventBody::MoneySuspended(event) => Some(&event.reservation),
        EventBody::MoneyCorrected(event) => Some(&event.reservation),
        _ => None,
    }
}

/// Every reservation an event tells of.
pub fn reservations(event: &EventBody) -> impl Iterator<Item = &ReservationId> {
    let paid = if let EventBody::MoneyMoved(event) = event { &event.paid[..] } else { &[] };
    let settled = paid.iter().flat_map(|paid| &paid.settled).map(|(id, _)| id);
    reservation(event).into_iter().chain(settled).chain(paid.iter().flat_map(|paid| &paid.voided))
}

/// What an event changes, where `held` is its reservation as it stands. A resolution of what is not held, and a second
/// one, change nothing: the first wins.
pub fn step(event: &EventBody, held: Option<&Held>) -> Step {
    let under_way = held.filter(|held| held.suspended.is_none());
    let suspended = held.filter(|held| held.suspended.is_some());
    match (event, under_way, suspended) {
        (EventBody::LeaseGranted(event), ..) => leased(&event.owner, &event.shares, |amount| amount),
        (EventBody::LeaseClosed(event), ..) => leased(&event.owner, &event.shares, |amount| -amount),
        (EventBody::MoneyReserved(event), None, None) => {
            let held = Held {
                owner: event.owner.clone(),
                amount: event.amount,
                accounts: event.accounts.clone(),
                suspended: None,
            };
            let by = Spent { reserved: held.amount, leased: -held.amount, ..Spent::default() };
            Step { changes: in_all(&held, by), hold: Hold::Set(held) }
        }
        (EventBody::MoneySettled(event), Some(held), _) => {
            let by = Spent {
                reserved: -held.amount,
                settled: event.cost,
                leased: held.amount - event.cost,
                overrun: event.overrun,
                ..Spent::default()
            };
            Step { changes: in_all(held, by), hold: Hold::Gone }
        }
        (EventBody::MoneyMoved(event), ..) => moved(event),
        (EventBody::MoneyVoided(_), Some(held), _) => {
            let by = Spent { reserved: -held.amount, leased: held.amount, ..Spent::default() };
            Step { changes: in_all(held, by), hold: Hold::Gone }
        }
        (EventBody::MoneySuspended(event), Some(held), _) => {
            // Less than the worst case where more is known; the rest goes back to the lease.
            let amount = event.amount.min(held.amount);
            let by = Spent {
                reserved: -held.amount,
                suspense: amount,
                leased: held.amount - amount,
                ..Spent::default()
            };
            let set = Held { amount, suspended: Some(event.reason.clone()), ..held.clone() };
            Step { changes: in_all(held, by), hold: Hold::Set(set) }
        }
        (EventBody::MoneyCorrected(event), _, Some(held)) => {
            let by = Spent {
                suspense: -held.amount,
                settled: event.cost,
                overrun: (event.cost - held.amount).max(Money::ZERO),
                ..Spent::default()
            };
            Step { changes: in_all(held, by), hold: Hold::Gone }
        }
        _ => Step { changes: Vec::new(), hold: Hold::Same },
    }
}

/// What became of reservations that no event told of while they were held: they never left the lease, so that only what
/// they cost does. One change for each account.
fn moved(event: &MoneyMoved) -> Step {
    let mut costs: BTreeMap<&String, Money> = BTreeMap::new();
    for paid in &event.paid {
        let cost = paid.cost();
        paid.accounts.iter().for_each(|account| *costs.entry(account).or_default() += cost);
    }
    let change = |(account, cost): (&String, Money)| Change {
        account: account.clone(),
        owner: event.owner.clone(),
        by: Spent { settled: cost, leased: -cost, ..Spent::default() },
    };
    Step { changes: costs.into_iter().map(change).collect(), hold: Hold::Same }
}

fn leased(owner: &str, shares: &[(String, Money)], sign: impl Fn(Money) -> Money) -> Step {
    let change = |(account, amount): &(String, Money)| Change {
        account: account.clone(),
        owner: owner.to_owned(),
        by: Spent { leased: sign(*amount), ..Spent::default() },
    };
    Step { changes: shares.iter().map(change).collect(), hold: Hold::Same }
}

fn in_all(held: &Held, by: Spent) -> Vec<Change> {
    let change = |account: &String| Change { account: account.clone(), owner: held.owner.clone(), by };
    held.accounts.iter().map(change).collect()
}

/// Where the money is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Spend {
    /// By account.
    pub accounts: BTreeMap<String, Spent>,
    /// What each process holds of each account and has reserved for no call: by process, then by account.
    pub leases: BTreeMap<(String, String), Money>,
    /// Reservations under way and suspended.
    pub holds: BTreeMap<ReservationId, Held>,
}

impl Spend {
    /// Folds the next event of the ledger in.
    pub fn apply(&mut self, event: &EventBody) {
        let id = reservation(event);
        let step = step(event, id.and_then(|id| self.holds.get(id)));
        for change in step.changes {
            self.accounts.entry(change.account.clone()).or_default().add(&change.by);
            let lease = self.leases.entry((change.owner, change.account));
            *lease.or_default() += change.by.leased;
        }
        match (step.hold, id) {
            (Hold::Set(held), Some(id)) => drop(self.holds.insert(id.clone(), held)),
            (Hold::Gone, Some(id)) => drop(self.holds.remove(id)),
            (Hold::Same, _) | (_, None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{
        LeaseClosed, LeaseGranted, MoneyCorrected, MoneyReserved, MoneySettled, MoneySuspended, MoneyVoided,
        Paid,
    };

    fn nanos(amount: i64) -> Money {
        Money::from_nanos(amount)
    }

    fn granted(amount: i64) -> EventBody {
        LeaseGranted { owner: "p".into(), shares: vec![("total".into(), nanos(amount))] }.into()
    }

    fn reserved(id: &str, amount: i64) -> EventBody {
        let accounts = vec!["total".into()];
        MoneyReserved { reservation: id.into(), owner: "p".into(), amount: nanos(amount), accounts }.into()
    }

    fn settled(id: &str, cost: i64, overrun: i64) -> EventBody {
        MoneySettled { reservation: id.into(), cost: nanos(cost), overrun: nanos(overrun) }.into()
    }

    fn suspended(id: &str, amount: i64) -> EventBody {
        MoneySuspended { reservation: id.into(), amount: nanos(amount), reason: "cut".into() }.into()
    }

    fn fold(events: &[EventBody]) -> Spend {
        let mut spend = Spend::default();
        for event in events {
            spend.apply(event);
        }
        spend
    }

    #[test]
    fn every_event_moves_money_and_makes_none() {
        let voided = || MoneyVoided { reservation: "a".into() }.into();
        let corrected = || MoneyCorrected { reservation: "a".into(), cost: nanos(4) }.into();
        let closed = || {
            let shares = vec![("total".into(), nanos(90))];
            EventBody::from(LeaseClosed { owner: "p".into(), shares, recovered: false })
        };
        // settled, suspense, reserved, leased, overrun
        let rows: [(Vec<EventBody>, [i64; 5]); 11] = [
            (vec![], [0, 0, 10, 90, 0]),
            (vec![reserved("a", 50)], [0, 0, 10, 90, 0]),
            (vec![settled("a", 3, 0)], [3, 0, 0, 97, 0]),
            (vec![settled("a", 12, 2), settled("a", 1, 0)], [12, 0, 0, 88, 2]),
            (vec![voided(), settled("a", 5, 0)], [0, 0, 0, 100, 0]),
            (vec![suspended("a", 10), settled("a", 5, 0)], [0, 10, 0, 90, 0]),
            (vec![suspended("a", 10), corrected()], [4, 0, 0, 90, 0]),
            (vec![suspended("a", 6)], [0, 6, 0, 94, 0]),
            (vec![suspended("a", 6), corrected()], [4, 0, 0, 94, 0]),
            (vec![corrected()], [0, 0, 10, 90, 0]),
            (vec![closed()], [0, 0, 10, 0, 0]),
        ];
        for (more, want) in rows {
            let events = [vec![granted(100), reserved("a", 10)], more].concat();
            let spend = fold(&events);
            let total = spend.accounts["total"];
            let found = [total.settled, total.suspense, total.reserved, total.leased, total.overrun];
            assert_eq!(found.map(Money::nanos), want, "{events:?}");
            assert_eq!(spend.leases[&("p".into(), "total".into())], total.leased, "{events:?}");
            let held: Money = spend.holds.values().map(|held| held.amount).sum();
            assert_eq!(held, total.reserved + total.suspense, "{events:?}");
        }
    }

    #[test]
    fn one_event_for_many_moves_what_their_own_events_would() {
        let voided = |id: &str| EventBody::from(MoneyVoided { reservation: id.into() });
        let single = [
            granted(100),
            reserved("a", 10),
            reserved("b", 20),
            settled("a", 3, 0),
            reserved("c", 30),
            voided("c"),
            settled("b", 20, 0),
        ];
        let paid = Paid {
            accounts: vec!["total".into()],
            settled: vec![("a".into(), nanos(3)), ("b".into(), nanos(20))],
            voided: vec!["c".into()],
        };
        let moved = MoneyMoved { owner: "p".into(), paid: vec![paid] };
        assert_eq!((moved.attempts(), moved.cost()), (3, nanos(23)));
        assert_eq!(fold(&[granted(100), moved.into()]), fold(&single));
    }

    #[test]
    fn an_account_of_several_groups_changes_once() {
        let paid = |account: &str, id: &str, cost| Paid {
            accounts: vec!["total".into(), account.into()],
            settled: vec![(id.into(), nanos(cost))],
            voided: Vec::new(),
        };
        let moved =
            MoneyMoved { owner: "p".into(), paid: vec![paid("role/a", "1", 4), paid("role/b", "2", 5)] };
        let changes = step(&moved.into(), None).changes;
        let found: Vec<_> =
            changes.iter().map(|change| (change.account.as_str(), change.by.settled.nanos())).collect();
        assert_eq!(found, [("role/a", 4), ("role/b", 5), ("total", 9)]);
    }
}
