//! The book: accounts and reservations in memory, and the arithmetic that keeps them within what is allowed.

use crate::Account;
use backstop_call::{Money, ReservationId};
use foldhash::fast::RandomState;
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What one account holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Balance {
    /// The most that may be spent from here: the limit, or the part of it that is leased to this process.
    pub allowed: Money,
    /// What was spent for certain, overruns included.
    pub settled: Money,
    /// What may have been billed, counted as spent.
    pub suspense: Money,
    /// What calls under way may cost at worst.
    pub reserved: Money,
    /// The part of `settled` that went over its reservation: the only way past `allowed`.
    pub overrun: Money,
}

impl Balance {
    /// What is still free. Negative only by overruns.
    pub fn available(&self) -> Money {
        self.allowed - self.settled - self.suspense - self.reserved
    }
}

/// Where some accounts stand in a book, so that those who pay from the same ones again and again need not look for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places(Arc<[usize]>);

/// A reservation that is not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold<N> {
    /// The worst case that is held.
    pub amount: Money,
    /// What whoever made it has to remember of it.
    pub note: N,
    /// The accounts it is held in.
    places: Places,
}

/// There is no room for the worst case in one of the accounts. Nothing was reserved in any.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{account} has {available} left, the call may cost {asked}")]
pub struct Denied {
    /// The first account without room.
    pub account: Account,
    /// What was free in it.
    pub available: Money,
    /// What was asked for.
    pub asked: Money,
}

/// How a reservation ends. It ends once; the first wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// It cost this much.
    Settle(Money),
    /// It was never sent, or is known not to be billed.
    Void,
    /// It may have been billed, at most this much (and never more than was reserved): that counts as spent until it is
    /// corrected.
    Suspend(Money),
}

/// What a resolution did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settled {
    /// What counts as spent now.
    pub spent: Money,
    /// What went over the reservation.
    pub overrun: Money,
}

/// Accounts and open reservations, each with a note of whoever keeps the book.
#[derive(Debug, Clone)]
pub struct Book<N = ()> {
    /// Where each account stands.
    places: BTreeMap<Account, usize>,
    balances: Vec<Balance>,
    // Ids are made by us, so that nobody can choose them to collide.
    holds: HashMap<ReservationId, Hold<N>, RandomState>,
    suspended: HashMap<ReservationId, Hold<()>, RandomState>,
}

impl<N> Default for Book<N> {
    fn default() -> Self {
        Self {
            places: BTreeMap::new(),
            balances: Vec::new(),
            holds: HashMap::default(),
            suspended: HashMap::default(),
        }
    }
}

impl<N> Book<N> {
    /// Sets what may be spent from an account, and opens it if it is new.
    pub fn allow(&mut self, account: &Account, allowed: Money) {
        let place = self.place(account);
        self.balances[place].allowed = allowed;
    }

    /// What an account holds; nothing for one that was never opened.
    pub fn balance(&self, account: &Account) -> Balance {
        self.places.get(account).map(|place| self.balances[*place]).unwrap_or_default()
    }

    /// Where accounts stand; those that are new are opened. Good for this book only.
    pub fn places<'a>(&mut self, accounts: impl IntoIterator<Item = &'a Account>) -> Places {
        Places(accounts.into_iter().map(|account| self.place(account)).collect())
    }

    /// The reservations that are not resolved.
    pub fn holds(&self) -> impl Iterator<Item = (&ReservationId, &Hold<N>)> {
        self.holds.iter()
    }

    /// Whether a reservation is not resolved.
    pub fn is_held(&self, id: &ReservationId) -> bool {
        self.holds.contains_key(id)
    }

    /// Whether `amount` is free in all accounts.
    pub fn has_room(&self, amount: Money, places: &Places) -> Result<(), Denied> {
        let short = |place: &&usize| amount > self.balances[**place].available();
        let Some(place) = places.0.iter().find(short) else { return Ok(()) };
        let account = self.places.iter().find(|(_, at)| *at == place).map(|(account, _)| account.clone());
        let account = account.expect("every place is an account's");
        Err(Denied { account, available: self.balances[*place].available(), asked: amount })
    }

    /// Holds `amount` in all accounts. A reservation that is held already stays as it is. The room is the caller's to look
    /// for, see [`Book::has_room`].
    pub fn hold(&mut self, id: ReservationId, amount: Money, places: Places, note: N) {
        if let Entry::Vacant(free) = self.holds.entry(id) {
            for place in &*places.0 {
                self.balances[*place].reserved += amount;
            }
            free.insert(Hold { amount, note, places });
        }
    }

    /// Ends a reservation, and gives what it was. `None` when it is not held (any more): a second resolution changes nothing.
    pub fn resolve(&mut self, id: &ReservationId, resolution: Resolution) -> Option<(Settled, Hold<N>)> {
        let hold = self.holds.remove(id)?;
        let settled = match resolution {
            Resolution::Settle(actual) => {
                Settled { spent: actual, overrun: (actual - hold.amount).max(Money::ZERO) }
            }
            Resolution::Void => Settled::default(),
            Resolution::Suspend(most) => Settled { spent: most.min(hold.amount), overrun: Money::ZERO },
        };
        for place in &*hold.places.0 {
            let balance = &mut self.balances[*place];
            balance.reserved -= hold.amount;
            match resolution {
                Resolution::Settle(actual) => balance.settled += actual,
                Resolution::Void => {}
                Resolution::Suspend(_) => balance.suspense += settled.spent,
            }
            balance.overrun += settled.overrun;
        }
        if let Resolution::Suspend(_) = resolution {
            let suspended = Hold { amount: settled.spent, note: (), places: hold.places.clone() };
            self.suspended.insert(id.clone(), suspended);
        }
        Some((settled, hold))
    }

    /// Replaces a suspended worst case by what was really billed. `None` when nothing is suspended under this id.
    pub fn correct(&mut self, id: &ReservationId, actual: Money) -> Option<Settled> {
        let hold = self.suspended.remove(id)?;
        let overrun = (actual - hold.amount).max(Money::ZERO);
        for place in &*hold.places.0 {
            let balance = &mut self.balances[*place];
            balance.suspense -= hold.amount;
            balance.settled += actual;
            balance.overrun += overrun;
        }
        Some(Settled { spent: actual, overrun })
    }

    /// Where the balance of an account stands; opens it if it is new.
    fn place(&mut self, account: &Account) -> usize {
        if let Some(place) = self.places.get(account) {
            return *place;
        }
        self.places.insert(account.clone(), self.balances.len());
        self.balances.push(Balance::default());
        self.balances.len() - 1
    }
}

impl Book {
    /// Holds `amount` in all accounts, or in none. A reservation that is held already stays as it is.
    pub fn reserve(&mut self, id: &ReservationId, amount: Money, accounts: &[Account]) -> Result<(), Denied> {
        if self.is_held(id) {
            return Ok(());
        }
        let places = self.places(accounts);
        self.has_room(amount, &places)?;
        self.hold(id.clone(), amount, places, ());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Scope;
    use proptest::prelude::*;

    fn total() -> Account {
        Account::whole(Scope::Total)
    }

    fn run() -> Account {
        Account::whole(Scope::Run("r".into()))
    }

    #[test]
    fn reserves_in_all_accounts_or_in_none() {
        let mut book = Book::default();
        book.allow(&total(), Money::from_nanos(100));
        book.allow(&run(), Money::from_nanos(10));
        let denied = book.reserve(&"a".into(), Money::from_nanos(11), &[total(), run()]).unwrap_err();
        assert_eq!(denied.account, run());
        assert_eq!(book.balance(&total()).reserved, Money::ZERO);
    }

    #[test]
    fn resolves_once_and_reports_overruns() {
        let mut book = Book::default();
        book.allow(&total(), Money::from_nanos(10));
        book.reserve(&"a".into(), Money::from_nanos(10), &[total()]).unwrap();
        let (settled, _) = book.resolve(&"a".into(), Resolution::Settle(Money::from_nanos(12))).unwrap();
        assert_eq!(settled, Settled { spent: Money::from_nanos(12), overrun: Money::from_nanos(2) });
        assert_eq!(book.resolve(&"a".into(), Resolution::Void), None);
        assert_eq!(book.balance(&total()).available(), Money::from_nanos(-2));
    }

    #[test]
    fn suspense_counts_as_spent_until_corrected() {
        let mut book = Book::default();
        book.allow(&total(), Money::from_nanos(10));
        book.reserve(&"a".into(), Money::from_nanos(8), &[total()]).unwrap();
        book.resolve(&"a".into(), Resolution::Suspend(Money::from_nanos(9))).unwrap();
        assert_eq!(book.balance(&total()).suspense, Money::from_nanos(8), "never more than was reserved");
        assert!(book.reserve(&"b".into(), Money::from_nanos(3), &[total()]).is_err());
        book.correct(&"a".into(), Money::from_nanos(1)).unwrap();
        assert_eq!(book.correct(&"a".into(), Money::ZERO), None);
        assert_eq!(book.balance(&total()).available(), Money::from_nanos(9));
    }

    proptest! {
        /// The invariant, whatever happens in whatever order.
        #[test]
        fn never_more_than_allowed(
            allowed in 0_i64..1000,
            ops in prop::collection::vec((0_u8..5, 0_u8..20, 0_i64..200), 0..300),
        ) {
            let mut book = Book::default();
            book.allow(&total(), Money::from_nanos(allowed));
            for (op, id, amount) in ops {
                let id = ReservationId::from(id.to_string());
                let amount = Money::from_nanos(amount);
                match op {
                    0 | 1 => drop(book.reserve(&id, amount, &[total()])),
                    2 => drop(book.resolve(&id, Resolution::Settle(amount))),
                    3 => drop(book.resolve(&id, Resolution::Suspend(amount))),
                    _ => drop(book.resolve(&id, Resolution::Void)),
                }
                let balance = book.balance(&total());
                let used = balance.settled + balance.suspense + balance.reserved;
                prop_assert!(used <= balance.allowed + balance.overrun);
                let held: Money = book.holds().map(|(_, hold)| hold.amount).sum();
                prop_assert_eq!(held, balance.reserved);
            }
        }
    }
}
