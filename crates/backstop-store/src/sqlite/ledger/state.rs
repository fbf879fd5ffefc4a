//! What the ledger of this process keeps in memory: the book, where each open reservation is written down, and what waits to
//! be written. Nothing here waits; the only IO is the one write of an intent.

use super::extend::Want;
use super::outbox::{Ended, Outbox};
use crate::sqlite::intents::{Intent, Intents, NotKept, Slot};
use backstop_allowance::{Account, Book, LedgerError, Places, Reserve, Resolution, Settled};
use backstop_call::{Money, ReservationId, Timestamp};
use backstop_journal::event::{MoneyReserved, MoneySettled, MoneySuspended, MoneyVoided};
use backstop_journal::{EventBody, JournalError, Seq};
use foldhash::fast::RandomState;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Lists of accounts that are remembered. Runs and days come and go.
const PAYERS_MAX: usize = 1024;

/// Accounts with their limits, as reservations name them.
type Limits = Box<[(Account, Money)]>;

/// The state behind the lock.
#[derive(Default)]
pub(super) struct State {
    pub(super) book: Book<Kept>,
    pub(super) accounts: BTreeSet<Account>,
    payers: HashMap<Limits, Arc<Payers>, RandomState>,
    /// `None` when reservations are made in memory only.
    pub(super) intents: Option<Intents>,
    pub(super) outbox: Outbox,
    /// A transaction that writes the outbox is in the queue.
    pub(super) writing: bool,
    /// The first event of the commit under way that ends reservations, and how many transactions of it are not marked.
    announced: Seq,
    pub(super) unmarked: usize,
    pub(super) wants: Vec<Want>,
    /// A transaction that extends the lease is in the queue.
    pub(super) extending: bool,
    /// The time of the last event.
    pub(super) at: Timestamp,
    pub(super) closed: bool,
}

/// The accounts that some reservations are paid from, shared by all of them.
#[derive(Debug)]
pub(super) struct Payers {
    accounts: Box<[Account]>,
    /// By their keys.
    pub(super) keys: Box<[Box<str>]>,
    /// In the book.
    places: Places,
}

/// How a reservation that is not resolved is written down.
pub(super) struct Kept {
    payers: Arc<Payers>,
    at: Timestamp,
    place: Place,
}

/// Where that is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In an intent.
    Intent(Slot),
    /// In an event.
    Event,
    /// Nowhere: it holds no money, so that nothing is lost with it. No event tells of it, unless it costs something after all, or
    /// may: what is suspended can be corrected.
    Nowhere,
}

impl State {
    /// Nothing is held yet.
    pub(super) fn new(at: Timestamp, intents: Option<Intents>) -> Self {
        Self { intents, at, ..Self::default() }
    }

    /// Whether a reservation is under way.
    pub(super) fn is_held(&self, id: &ReservationId) -> bool {
        self.book.is_held(id)
    }

    /// Holds a reservation in the book and writes it down, or does neither. Whether it counts as made only when what waits is
    /// written.
    pub(super) fn hold(&mut self, owner: &str, reserve: &Reserve) -> Result<bool, LedgerError> {
        if self.is_held(&reserve.id) {
            // Asked for twice while both waited for a larger lease: a second intent would be nobody's.
            return Ok(false);
        }
        let payers = self.payers_of(reserve);
        self.book.has_room(reserve.amount, &payers.places)?;
        let place = self.intend(reserve, &payers).map_err(LedgerError::Unwritable)?;
        if place == Place::Event {
            self.note(reserved(owner, &reserve.id, reserve.amount, &payers), reserve.at);
        }
        let places = payers.places.clone();
        let kept = Kept { payers, at: reserve.at, place };
        self.book.hold(reserve.id.clone(), reserve.amount, places, kept);
        Ok(place == Place::Event && self.intents.is_some())
    }

    /// Ends a reservation: in the book, and in what waits to be written. `None` when it is not held.
    pub(super) fn resolve(
        &mut self,
        owner: &str,
        id: &ReservationId,
        (resolution, at): (Resolution, Timestamp),
    ) -> Option<Settled> {
        let (settled, hold) = self.book.resolve(id, resolution)?;
        let Kept { payers, at: reserved_at, place } = hold.note;
        let unknown = matches!(resolution, Resolution::Suspend(_));
        if place == Place::Nowhere && settled.spent == Money::ZERO && !unknown {
            return Some(settled);
        }
        self.at = self.at.max(at);
        let cost = match resolution {
            Resolution::Settle(cost) if settled.overrun == Money::ZERO => Some(Some(cost)),
            Resolution::Void => Some(None),
            Resolution::Settle(_) | Resolution::Suspend(_) => None,
        };
        if let (Place::Intent(slot), Some(cost)) = (place, cost) {
            self.outbox.end(Ended { id: id.clone(), payers, cost, slot }, at);
            return Some(settled);
        }
        if place != Place::Event {
            self.note(reserved(owner, id, hold.amount, &payers), reserved_at);
        }
        if let Place::Intent(slot) = place {
            self.outbox.done(slot);
        }
        self.note(ended(id, resolution, settled), at);
        Some(settled)
    }

    /// Notes an event to be written.
    pub(super) fn note(&mut self, event: EventBody, at: Timestamp) {
        self.at = self.at.max(at);
        self.outbox.put(event, at);
    }

    /// Whether a transaction must be sent that writes what waits; from here on it counts as sent.
    pub(super) fn write_is_due(&mut self) -> bool {
        self.outbox.len() > 0 && !std::mem::replace(&mut self.writing, true)
    }

    /// What the calls under way of this process hold in an account, of which no event tells.
    pub(super) fn intended(&self, account: &Account) -> Money {
        let is_paid_from =
            |kept: &Kept| matches!(kept.place, Place::Intent(_)) && kept.payers.accounts.contains(account);
        self.book.holds().filter(|(_, hold)| is_paid_from(&hold.note)).map(|(_, hold)| hold.amount).sum()
    }

    /// Announces the events of a transaction that ends reservations. Those of one commit are announced together.
    pub(super) fn announce(&mut self, first: Seq, last: Seq) -> Result<(), JournalError> {
        if self.unmarked == 0 {
            self.announced = first;
        }
        if let Some(intents) = &self.intents {
            intents.announce(self.announced..=last)?;
        }
        self.unmarked += 1;
        Ok(())
    }

    /// The ends of these are committed.
    pub(super) fn mark(&mut self, slots: impl IntoIterator<Item = Slot>) {
        if let Some(intents) = &mut self.intents {
            // What could not be marked is tried again before the next commit, which fails if that does.
            drop(intents.mark(slots));
        }
    }

    /// The book gives the difference back to this lease; in the database it went back to everybody.
    pub(super) fn correct(
        &mut self,
        id: &ReservationId,
        (amount, cost): (Money, Money),
        accounts: &[String],
    ) {
        if self.book.correct(id, cost).is_none() {
            return;
        }
        for account in self.accounts.iter().filter(|account| accounts.contains(&account.to_string())) {
            let allowed = self.book.balance(account).allowed;
            self.book.allow(account, allowed - (amount - cost));
        }
    }

    /// Writes an intent, where they are written and it fits.
    fn intend(&mut self, reserve: &Reserve, payers: &Payers) -> Result<Place, String> {
        if reserve.amount == Money::ZERO {
            return Ok(Place::Nowhere);
        }
        let Some(intents) = &mut self.intents else { return Ok(Place::Event) };
        let intent = Intent {
            id: Cow::Borrowed(&reserve.id),
            amount: reserve.amount,
            at: reserve.at,
            accounts: Cow::Borrowed(&payers.keys),
        };
        match intents.keep(&intent) {
            Ok(slot) => Ok(Place::Intent(slot)),
            Err(NotKept::TooLong) => Ok(Place::Event),
            Err(NotKept::Full) => Err("too many reservations are open".to_owned()),
            Err(NotKept::Failed(error)) => Err(error.to_string()),
        }
    }

    fn payers_of(&mut self, reserve: &Reserve) -> Arc<Payers> {
        if let Some(payers) = self.payers.get(&reserve.accounts[..]) {
            return Arc::clone(payers);
        }
        if self.payers.len() >= PAYERS_MAX {
            self.payers.clear();
        }
        let accounts: Box<[_]> = reserve.accounts.iter().map(|(account, _)| account.clone()).collect();
        let keys = accounts.iter().map(|account| account.to_string().into()).collect();
        let payers = Arc::new(Payers { places: self.book.places(&accounts), accounts, keys });
        self.payers.insert(reserve.accounts.clone().into(), Arc::clone(&payers));
        payers
    }
}

fn reserved(owner: &str, id: &ReservationId, amount: Money, payers: &Payers) -> EventBody {
    MoneyReserved {
        reservation: id.clone(),
        owner: owner.to_owned(),
        amount,
        accounts: payers.keys.iter().map(ToString::to_string).collect(),
    }
    .into()
}

fn ended(id: &ReservationId, resolution: Resolution, settled: Settled) -> EventBody {
    let reservation = id.clone();
    match resolution {
        Resolution::Settle(cost) => MoneySettled { reservation, cost, overrun: settled.overrun }.into(),
        Resolution::Void => MoneyVoided { reservation }.into(),
        Resolution::Suspend(_) => {
            let reason = "it may have been billed".to_owned();
            MoneySuspended { reservation, amount: settled.spent, reason }.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::intents::left_by;
    use backstop_allowance::Scope;
    use std::fs::File;

    fn reserve(id: &str) -> Reserve {
        let accounts = vec![(Account::whole(Scope::Total), Money::from_nanos(100))];
        Reserve { id: id.into(), amount: Money::from_nanos(60), accounts, at: Timestamp::from_secs(2) }
    }

    #[test]
    fn a_reservation_asked_for_twice_has_one_intent() {
        let dir = tempfile::tempdir().unwrap();
        let intents = Intents::create(dir.path(), "1-1").unwrap();
        let mut state = State::new(Timestamp::from_secs(1), Some(intents));
        state.book.allow(&Account::whole(Scope::Total), Money::from_nanos(100));
        assert_eq!(
            [state.hold("p", &reserve("a.1")), state.hold("p", &reserve("a.1"))],
            [Ok(false), Ok(false)]
        );
        assert_eq!(state.book.balance(&Account::whole(Scope::Total)).reserved, Money::from_nanos(60));
        assert_eq!(left_by(dir.path(), "1-1").unwrap().unwrap().open.len(), 1);
    }

    #[test]
    fn what_costs_nothing_is_written_nowhere_and_what_may_cost_something_is() {
        let rows = [
            (Resolution::Settle(Money::ZERO), 0),
            (Resolution::Void, 0),
            // Reserved, and how it ended.
            (Resolution::Settle(Money::from_nanos(5)), 2),
            (Resolution::Suspend(Money::ZERO), 2),
        ];
        for (resolution, events) in rows {
            let dir = tempfile::tempdir().unwrap();
            let intents = Intents::create(dir.path(), "1-1").unwrap();
            let mut state = State::new(Timestamp::from_secs(1), Some(intents));
            let free = Reserve { amount: Money::ZERO, ..reserve("a.1") };
            assert_eq!(state.hold("p", &free), Ok(false), "it does not wait for a commit");
            assert_eq!(left_by(dir.path(), "1-1").unwrap().unwrap().open, []);
            assert!(state.is_held(&free.id) && !state.write_is_due());
            let settled = state.resolve("p", &free.id, (resolution, Timestamp::from_secs(3)));
            assert_eq!((settled.is_some(), state.outbox.len()), (true, events), "{resolution:?}");
        }
    }

    /// A disk that has room for nothing.
    fn full() -> Intents {
        let full = File::options().write(true).open("/dev/full").unwrap();
        Intents::over(full, "/dev/full".into())
    }

    #[test]
    fn what_cannot_be_written_down_is_not_reserved() {
        let mut state = State::new(Timestamp::from_secs(1), Some(full()));
        let total = Account::whole(Scope::Total);
        state.book.allow(&total, Money::from_nanos(100));
        let (id, at) = (ReservationId::from("a.1"), Timestamp::from_secs(2));
        for _ in 0..2 {
            let refused = state.hold("p", &reserve("a.1"));
            assert!(matches!(refused, Err(LedgerError::Unwritable(_))), "{refused:?}");
        }
        assert_eq!(state.book.balance(&total).available(), Money::from_nanos(100));
        assert!(!state.is_held(&id) && !state.write_is_due());
        assert_eq!(state.resolve("p", &id, (Resolution::Void, at)), None);
    }
}
