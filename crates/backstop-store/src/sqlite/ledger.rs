//! The ledger in SQLite. A process spends from a book in memory, within a lease that stands in the database; only to
//! get a larger lease does a reservation wait for the disk. Every movement is an event of the ledger's stream, and the
//! accounts in the database are folded from these events in the same commit.
//!
//! What a process has leased and does not use is not free for others: near a limit one process may be denied while
//! another one holds what is left. A lease is 5 % of a limit at most (a run's own account is leased whole, to the
//! process that works on it), it goes back when its process closes, releases the run or dies, and
//! [`SqliteLedger::give_back`] returns it on request.

mod extend;
mod outbox;
mod recover;

pub use recover::Recovered;

use super::writer::Sender;
use super::{Durability, JournalError, SqliteStore};
use backstop_allowance::{
    Account, Balance, Book, Denied, Ledger, LedgerError, Reserve, Resolution, Scope, Settled,
};
use backstop_call::{BoxFuture, Money, ReservationId, RunId, Timestamp};
use backstop_journal::event::{
    LeaseClosed, MoneyCorrected, MoneyReserved, MoneySettled, MoneySuspended, MoneyVoided,
};
use backstop_journal::projections::spend::Spent;
use backstop_journal::{EventBody, StreamId};
use extend::Want;
use outbox::Outbox;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Events that may wait to be written before new reservations are refused.
const OUTBOX_MAX: usize = 100_000;

/// When a reservation counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerMode {
    /// At once, in memory, within the lease. After a crash the rest of the lease counts as spent until it is corrected,
    /// for a call may have been sent whose reservation was never written.
    Leased,
    /// When its event survives kill -9. After a crash each call is known, and the rest of the lease is free again.
    Written,
}

/// The ledger of this process over the accounts of all processes. Clones share it; dropping the last one gives back
/// what is not used.
#[derive(Clone)]
pub struct SqliteLedger {
    purse: Arc<Purse>,
    // Dropped in this order: what is given back is written by the store.
    _closer: Arc<Closer>,
    store: SqliteStore,
}

struct Closer(Arc<Purse>);

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.give_back(true, |_| true);
    }
}

/// What this process may spend.
pub(crate) struct Purse {
    name: String,
    mode: LedgerMode,
    sender: Sender,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    book: Book,
    accounts: BTreeSet<Account>,
    held: HashSet<ReservationId>,
    outbox: Outbox,
    /// A transaction that writes the outbox is in the queue.
    writing: bool,
    wants: Vec<Want>,
    /// A transaction that extends the lease is in the queue.
    extending: bool,
    /// The time of the last event.
    at: Timestamp,
    closed: bool,
}

/// A reservation that nobody has been told of yet: voided when it is dropped.
struct Fresh {
    purse: Arc<Purse>,
    id: Option<ReservationId>,
    at: Timestamp,
}

impl Fresh {
    fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(id) = self.id.take() {
            self.purse.resolve(&id, Resolution::Void, self.at);
        }
    }
}

impl SqliteLedger {
    pub(super) async fn open(
        store: SqliteStore,
        mode: LedgerMode,
        now: Timestamp,
    ) -> Result<(Self, Recovered), JournalError> {
        let sender = store.inner.sender.clone();
        let seat = sender.submit(Durability::Synced, (None, 0), move |tx| tx.open_ledger(mode)).await?;
        let state = Mutex::new(State { at: now, ..State::default() });
        let purse = Arc::new(Purse { name: seat, mode, sender, state });
        let ledger = Self { _closer: Arc::new(Closer(Arc::clone(&purse))), purse, store };
        let recovered = ledger.recover(now).await?;
        Ok((ledger, recovered))
    }

    /// Looks for processes that died: their calls under way are suspended, one by one; the rest of their leases goes
    /// back, or is suspended where calls may have been sent that were never written.
    pub async fn recover(&self, now: Timestamp) -> Result<Recovered, JournalError> {
        self.store.inner.sender.submit(Durability::Synced, (None, 0), move |tx| tx.recover(now)).await
    }

    /// Gives back what this process has leased of `account` and not reserved.
    pub async fn give_back(&self, account: &Account) -> Result<(), JournalError> {
        self.purse.give_back(false, |other| other == account);
        self.purse.written().await
    }

    /// Gives back what is not reserved and takes no more reservations. Calls under way can still be resolved.
    pub async fn close(&self) -> Result<(), JournalError> {
        self.purse.give_back(true, |_| true);
        self.purse.written().await
    }

    /// What an account holds over all processes, with what is leased to them.
    pub async fn spent(&self, account: &Account) -> Result<(Money, Spent), JournalError> {
        let key = account.to_string();
        self.purse.write_soon();
        let read = move |tx: &mut super::tx::Tx<'_>| tx.account(&key);
        let row = self.store.inner.sender.submit(Durability::Written, (None, 0), read).await?;
        Ok((row.limit, row.spent))
    }

    pub(super) fn purse(&self) -> Weak<Purse> {
        Arc::downgrade(&self.purse)
    }

    async fn reserve(&self, reserve: Reserve) -> Result<(), LedgerError> {
        let fresh = match self.purse.take(&reserve)? {
            Taken::Held => return Ok(()),
            Taken::Fresh(fresh) => fresh,
            Taken::Short => self.purse.extend(reserve).await?,
        };
        if self.purse.mode == LedgerMode::Written {
            self.purse.written().await.map_err(unwritable)?;
        }
        fresh.keep();
        Ok(())
    }

    async fn correct(
        &self,
        id: ReservationId,
        cost: Money,
        at: Timestamp,
    ) -> Result<Option<Settled>, JournalError> {
        self.purse.write_soon();
        let event = MoneyCorrected { reservation: id.clone(), cost };
        let work = move |tx: &mut super::tx::Tx<'_>| {
            let held = tx.held(&event.reservation)?.filter(|held| held.suspended.is_some());
            let Some(held) = held else { return Ok(None) };
            tx.append_ledger(event.into(), at)?;
            Ok(Some((held.amount, held.accounts)))
        };
        let of = (Some(StreamId::Ledger), 0);
        let corrected = self.store.inner.sender.submit(Durability::Written, of, work).await?;
        let Some((amount, accounts)) = corrected else { return Ok(None) };
        let overrun = (cost - amount).max(Money::ZERO);
        self.purse.lock().correct(&id, (amount, cost), &accounts);
        Ok(Some(Settled { spent: cost, overrun }))
    }
}

impl Ledger for SqliteLedger {
    fn reserve(&self, reserve: Reserve) -> BoxFuture<'_, Result<(), LedgerError>> {
        Box::pin(Self::reserve(self, reserve))
    }

    fn resolve(&self, id: &ReservationId, resolution: Resolution, at: Timestamp) -> Option<Settled> {
        self.purse.resolve(id, resolution, at)
    }

    fn correct(
        &self,
        id: ReservationId,
        actual: Money,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Settled>, LedgerError>> {
        Box::pin(async move { Self::correct(self, id, actual, at).await.map_err(unwritable) })
    }

    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Balance, LedgerError>> {
        Box::pin(async move {
            let (limit, spent) = self.spent(&account).await.map_err(unwritable)?;
            Ok(Balance {
                allowed: limit,
                settled: spent.settled,
                suspense: spent.suspense,
                reserved: spent.reserved,
                overrun: spent.overrun,
            })
        })
    }

    fn suspense(&self) -> BoxFuture<'_, Result<Vec<(ReservationId, Money)>, LedgerError>> {
        self.purse.write_soon();
        let read = |tx: &mut super::tx::Tx<'_>| tx.holds(None);
        let suspended = self.store.inner.sender.submit(Durability::Written, (None, 0), read);
        Box::pin(async move { suspended.await.map_err(unwritable) })
    }
}

enum Taken {
    /// It was held already.
    Held,
    /// It is held now.
    Fresh(Fresh),
    /// The lease is short.
    Short,
}

impl Purse {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves within the lease, without IO.
    fn take(self: &Arc<Self>, reserve: &Reserve) -> Result<Taken, LedgerError> {
        let accounts: Vec<_> = reserve.accounts.iter().map(|(account, _)| account.clone()).collect();
        {
            let mut state = self.lock();
            if state.closed || state.outbox.len() >= OUTBOX_MAX {
                let why = if state.closed { "it is closed" } else { "too much waits to be written" };
                return Err(LedgerError::Unwritable(why.to_owned()));
            }
            if state.held.contains(&reserve.id) {
                return Ok(Taken::Held);
            }
            if state.book.reserve(&reserve.id, reserve.amount, &accounts).is_err() {
                return Ok(Taken::Short);
            }
            state.note_reserved(&self.name, reserve);
        }
        self.write_soon();
        Ok(Taken::Fresh(self.fresh(reserve)))
    }

    fn fresh(self: &Arc<Self>, reserve: &Reserve) -> Fresh {
        Fresh { purse: Arc::clone(self), id: Some(reserve.id.clone()), at: reserve.at }
    }

    fn resolve(
        self: &Arc<Self>,
        id: &ReservationId,
        resolution: Resolution,
        at: Timestamp,
    ) -> Option<Settled> {
        let settled = {
            let mut state = self.lock();
            let settled = state.book.resolve(id, resolution)?;
            state.held.remove(id);
            let reservation = id.clone();
            let event = match resolution {
                Resolution::Settle(cost) => {
                    MoneySettled { reservation, cost, overrun: settled.overrun }.into()
                }
                Resolution::Void => MoneyVoided { reservation }.into(),
                Resolution::Suspend(_) => {
                    let reason = "it may have been billed".to_owned();
                    MoneySuspended { reservation, amount: settled.spent, reason }.into()
                }
            };
            state.note(event, at);
            settled
        };
        self.write_soon();
        Some(settled)
    }

    /// Gives back what a run's own account still holds: whoever goes on with the run needs it.
    pub(super) fn give_back_run(self: &Arc<Self>, run: &RunId) {
        self.give_back(false, |account| account.scope == Scope::Run(run.clone()));
    }

    fn give_back(self: &Arc<Self>, close: bool, which: impl Fn(&Account) -> bool) {
        {
            let mut state = self.lock();
            state.closed |= close;
            let accounts: Vec<_> = state.accounts.iter().filter(|account| which(account)).cloned().collect();
            let mut shares = Vec::new();
            for account in accounts {
                let balance = state.book.balance(&account);
                let idle = balance.available();
                if idle != Money::ZERO {
                    state.book.allow(&account, balance.allowed - idle);
                    shares.push((account.to_string(), idle));
                }
            }
            if shares.is_empty() {
                return;
            }
            let at = state.at;
            state.note(LeaseClosed { owner: self.name.clone(), shares, recovered: false }.into(), at);
        }
        self.write_soon();
    }
}

impl State {
    fn note(&mut self, event: EventBody, at: Timestamp) {
        self.at = self.at.max(at);
        self.outbox.put(event, at);
    }

    fn note_reserved(&mut self, owner: &str, reserve: &Reserve) {
        let event = MoneyReserved {
            reservation: reserve.id.clone(),
            owner: owner.to_owned(),
            amount: reserve.amount,
            accounts: reserve.accounts.iter().map(|(account, _)| account.to_string()).collect(),
        };
        self.held.insert(reserve.id.clone());
        self.note(event.into(), reserve.at);
    }

    /// The book gives the difference back to this lease; in the database it went back to everybody.
    fn correct(&mut self, id: &ReservationId, (amount, cost): (Money, Money), accounts: &[String]) {
        if self.book.correct(id, cost).is_none() {
            return;
        }
        for account in self.accounts.iter().filter(|account| accounts.contains(&account.to_string())) {
            let allowed = self.book.balance(account).allowed;
            self.book.allow(account, allowed - (amount - cost));
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unwritable(error: JournalError) -> LedgerError {
    LedgerError::Unwritable(error.to_string())
}

fn denied(account: &Account, available: Money, asked: Money) -> LedgerError {
    Denied { account: account.clone(), available, asked }.into()
}
