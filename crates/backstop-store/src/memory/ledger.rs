//! The ledger in memory: a book behind a lock. It warns nobody and writes no events.

use super::lock;
use backstop_allowance::{Account, Balance, Book, Ledger, LedgerError, Reserve, Resolution, Settled};
use backstop_call::{BoxFuture, Money, ReservationId, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

/// A ledger of one process that ends with it. Clones share the book.
#[derive(Debug, Clone, Default)]
pub struct MemoryLedger {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    book: Book,
    suspended: BTreeMap<ReservationId, Money>,
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// The reservations that are not resolved, each with its worst case, by id.
    pub fn held(&self) -> Vec<(ReservationId, Money)> {
        let state = lock(&self.state);
        let mut held: Vec<_> = state.book.holds().map(|(id, hold)| (id.clone(), hold.amount)).collect();
        held.sort();
        held
    }
}

impl Ledger for MemoryLedger {
    fn reserve(&self, reserve: Reserve) -> BoxFuture<'_, Result<(), LedgerError>> {
        // Only when it is polled, and then at once: a future that is dropped has reserved nothing.
        Box::pin(async move {
            let mut state = lock(&self.state);
            for (account, limit) in &reserve.accounts {
                state.book.allow(account, *limit);
            }
            let accounts: Vec<Account> = reserve.accounts.into_iter().map(|(account, _)| account).collect();
            Ok(state.book.reserve(&reserve.id, reserve.amount, &accounts)?)
        })
    }

    fn resolve(&self, id: &ReservationId, resolution: Resolution, _at: Timestamp) -> Option<Settled> {
        let mut state = lock(&self.state);
        let (settled, _) = state.book.resolve(id, resolution)?;
        if let Resolution::Suspend(_) = resolution {
            state.suspended.insert(id.clone(), settled.spent);
        }
        Some(settled)
    }

    fn correct(
        &self,
        id: ReservationId,
        actual: Money,
        _at: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Settled>, LedgerError>> {
        let mut state = lock(&self.state);
        state.suspended.remove(&id);
        let settled = state.book.correct(&id, actual);
        Box::pin(std::future::ready(Ok(settled)))
    }

    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Balance, LedgerError>> {
        let balance = lock(&self.state).book.balance(&account);
        Box::pin(std::future::ready(Ok(balance)))
    }

    fn suspense(&self) -> BoxFuture<'_, Result<Vec<(ReservationId, Money)>, LedgerError>> {
        let suspended = lock(&self.state).suspended.clone();
        Box::pin(std::future::ready(Ok(suspended.into_iter().collect())))
    }
}
