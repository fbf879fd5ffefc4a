//! The ledger in SQLite. A process spends from a book in memory, within a lease that stands in the database; only to
//! get a larger lease does a reservation wait for the disk. Every movement is an event of the ledger's stream, and the
//! accounts in the database are folded from these events in the same commit.
//!
//! A reservation that is under way stands in an intent (see `intents.rs`) and in no event; until it ends, the accounts of the
//! database count it in the lease it comes from. Its end is in the next commit.
//!
//! What a process has leased and does not use is not free for others: near a limit one process may be denied while
//! another one holds what is left. A lease is 5 % of a limit at most (25 % of a run's own: mostly one process pays from
//! it), it goes back when its process closes, releases the run or dies, and
//! [`SqliteLedger::give_back`] returns it on request.

mod extend;
mod outbox;
mod recover;
mod state;

pub use recover::Recovered;

use super::intents;
use super::writer::{About, Sender};
use super::{Durability, JournalError, SqliteStore};
use backstop_allowance::{
    Account, Balance, Denied, Ledger, LedgerError, Reserve, Resolution, Scope, Settled,
};
use backstop_call::{BoxFuture, Money, ReservationId, RunId, Timestamp};
use backstop_journal::StreamId;
use backstop_journal::event::{LeaseClosed, MoneyCorrected};
use backstop_journal::projections::spend::Spent;
use state::{Payers, State};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Events that may wait to be written before new reservations are refused.
const OUTBOX_MAX: usize = 100_000;

/// When a reservation counts as made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerMode {
    /// At once, in memory, within the lease. After a crash the rest of the lease counts as spent until it is corrected,
    /// for a call may have been sent whose reservation was never written.
    Leased,
    /// When its intent survives kill -9: one write to a file of this process. After a crash each call is known, and the rest
    /// of the lease is free again, unless the machine itself was started anew.
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
    sender: Sender,
    state: Mutex<State>,
}

/// A reservation that nobody has been told of yet: voided when it is dropped.
struct Fresh {
    purse: Arc<Purse>,
    id: Option<ReservationId>,
    at: Timestamp,
    /// It does not count as made before what waits is written.
    waits: bool,
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
        let open = move |tx: &mut super::tx::Tx<'_, '_>| tx.open_ledger(mode);
        let (name, intents) = sender.submit(Durability::Synced, About::nothing(), open).await?;
        let state = Mutex::new(State::new(now, intents));
        let purse = Arc::new(Purse { name, sender, state });
        let ledger = Self { _closer: Arc::new(Closer(Arc::clone(&purse))), purse, store };
        let recovered = ledger.recover(now).await?;
        Ok((ledger, recovered))
    }

    /// Looks for processes that died: their calls under way are suspended, one by one; the rest of their leases goes
    /// back, or is suspended where calls may have been sent that were never written.
    pub async fn recover(&self, now: Timestamp) -> Result<Recovered, JournalError> {
        let recover = move |tx: &mut super::tx::Tx<'_, '_>| tx.recover(now);
        let recovered: Recovered =
            self.store.inner.sender.submit(Durability::Synced, About::nothing(), recover).await?;
        // Only now: what stood in them is in the database.
        let dir = intents::beside(self.store.path());
        recovered.owners.iter().for_each(|owner| intents::remove(&dir, owner));
        Ok(recovered)
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

    /// What an account holds over all processes, with what is leased to them. What calls of other processes hold is in what
    /// is leased to those.
    pub async fn spent(&self, account: &Account) -> Result<(Money, Spent), JournalError> {
        let account = account.clone();
        let purse = Arc::clone(&self.purse);
        self.purse.write_soon();
        let read = move |tx: &mut super::tx::Tx<'_, '_>| {
            let mut row = tx.account(&account.to_string())?;
            let open = purse.lock().intended(&account);
            row.spent.reserved += open;
            row.spent.leased -= open;
            Ok(row)
        };
        let row = self.store.inner.sender.submit(Durability::Written, About::nothing(), read).await?;
        Ok((row.limit, row.spent))
    }

    pub(super) fn purse(&self) -> Weak<Purse> {
        Arc::downgrade(&self.purse)
    }

    async fn reserve(&self, reserve: Reserve) -> Result<(), LedgerError> {
        let fresh = match self.purse.take(&reserve)? {
            Taken::Held => return Ok(()),
            Taken::Fresh(fresh) => fresh,
            // In a box: most reservations need no room for this.
            Taken::Short => Box::pin(self.purse.extend(reserve)).await?,
        };
        if fresh.waits {
            Box::pin(self.purse.written()).await.map_err(unwritable)?;
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
        let work = move |tx: &mut super::tx::Tx<'_, '_>| {
            let held = tx.held(&event.reservation)?.filter(|held| held.suspended.is_some());
            let Some(held) = held else { return Ok(None) };
            tx.append_ledger(event.into(), at)?;
            Ok(Some((held.amount, held.accounts)))
        };
        let of = About::within(StreamId::Ledger);
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
        let read = |tx: &mut super::tx::Tx<'_, '_>| tx.holds(None);
        let suspended = self.store.inner.sender.submit(Durability::Written, About::nothing(), read);
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

    /// Reserves within the lease, without waiting.
    fn take(self: &Arc<Self>, reserve: &Reserve) -> Result<Taken, LedgerError> {
        let (waits, due) = {
            let mut state = self.lock();
            if state.closed || state.outbox.len() >= OUTBOX_MAX {
                let why = if state.closed { "it is closed" } else { "too much waits to be written" };
                return Err(LedgerError::Unwritable(why.to_owned()));
            }
            if state.is_held(&reserve.id) {
                return Ok(Taken::Held);
            }
            match state.hold(&self.name, reserve) {
                Ok(waits) => (waits, state.write_is_due()),
                Err(LedgerError::Denied(_)) => return Ok(Taken::Short),
                Err(error) => return Err(error),
            }
        };
        if due {
            self.send_write();
        }
        Ok(Taken::Fresh(self.fresh(reserve, waits)))
    }

    fn fresh(self: &Arc<Self>, reserve: &Reserve, waits: bool) -> Fresh {
        Fresh { purse: Arc::clone(self), id: Some(reserve.id.clone()), at: reserve.at, waits }
    }

    fn resolve(
        self: &Arc<Self>,
        id: &ReservationId,
        resolution: Resolution,
        at: Timestamp,
    ) -> Option<Settled> {
        let (settled, due) = {
            let mut state = self.lock();
            (state.resolve(&self.name, id, (resolution, at))?, state.write_is_due())
        };
        if due {
            self.send_write();
        }
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

#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unwritable(error: JournalError) -> LedgerError {
    LedgerError::Unwritable(error.to_string())
}

fn denied(account: &Account, available: Money, asked: Money) -> LedgerError {
    Denied { account: account.clone(), available, asked }.into()
}
