//! A larger lease: one durable transaction over all accounts of a reservation, all or nothing. Reservations that wait
//! at the same time share it.

use super::{Fresh, Purse, State, denied, unwritable};
use crate::sqlite::fault::Fail;
use crate::sqlite::tx::Tx;
use crate::sqlite::writer::Work;
use backstop_allowance::{Account, LedgerError, Reserve, Scope};
use backstop_call::Money;
use backstop_journal::event::LeaseGranted;
use backstop_journal::{Durability, JournalError, StreamId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// The part of a limit, in percent, that is leased at once while more than that is left.
const GRANT_PERCENT: u32 = 5;
/// The same of a run's own limit: it is worked on by one process, but tasks that it gave out may be by others.
const RUN_GRANT_PERCENT: u32 = 25;

/// A reservation that waits for a larger lease.
pub(super) struct Want {
    reserve: Reserve,
    reply: oneshot::Sender<Result<Fresh, LedgerError>>,
}

/// A want with what the book had for it, taken out so that nobody else spends it meanwhile.
struct Placed {
    want: Want,
    /// By account, in the order of the reservation.
    shorts: Vec<Short>,
    verdict: Result<(), LedgerError>,
}

#[derive(Clone, Copy)]
struct Short {
    /// Taken from the book.
    pocket: Money,
    /// What is missing, overruns of before included.
    need: Money,
}

struct Extend {
    purse: Arc<Purse>,
    begun: bool,
    placed: Vec<Placed>,
    plan: Plan,
}

/// What the lease is to grow by.
#[derive(Default)]
struct Plan {
    shares: BTreeMap<Account, Money>,
    /// The part of the shares that no want of this transaction needs.
    spare: BTreeMap<Account, Money>,
}

impl Purse {
    /// Waits until the lease is large enough and the reservation is made, or denied.
    pub(super) async fn extend(self: &Arc<Self>, reserve: Reserve) -> Result<Fresh, LedgerError> {
        match self.extend_once(reserve.clone()).await {
            // What a run gave back when it was let go of may have stood behind this in the queue.
            Err(LedgerError::Denied(denied)) if matches!(denied.account.scope, Scope::Run(_)) => {
                self.written().await.map_err(unwritable)?;
                self.extend_once(reserve).await
            }
            made => made,
        }
    }

    async fn extend_once(self: &Arc<Self>, reserve: Reserve) -> Result<Fresh, LedgerError> {
        let (reply, answer) = oneshot::channel();
        let first = {
            let mut state = self.lock();
            state.wants.push(Want { reserve, reply });
            !std::mem::replace(&mut state.extending, true)
        };
        if first {
            let plan = Plan::default();
            let extend = Extend { purse: Arc::clone(self), begun: false, placed: Vec::new(), plan };
            // Refused, it is dropped, and says so to everybody who waits.
            drop(self.sender.send(Durability::Synced, 0, Box::new(extend)));
        }
        let gone = |_| Err(LedgerError::Unwritable("the lease could not be extended".to_owned()));
        answer.await.unwrap_or_else(gone)
    }
}

impl Drop for Extend {
    /// Nobody may wait for a transaction that will not be.
    fn drop(&mut self) {
        if !self.begun {
            let mut state = self.purse.lock();
            state.extending = false;
            let wants = std::mem::take(&mut state.wants);
            drop(state);
            drop(wants);
        }
    }
}

impl Work for Extend {
    fn stream(&self) -> Option<&StreamId> {
        None
    }

    fn is_refused_late(&self) -> bool {
        true
    }

    fn apply(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), Fail> {
        {
            let mut state = self.purse.lock();
            state.extending = false;
            self.begun = true;
            let wants = std::mem::take(&mut state.wants);
            // What was given up meanwhile takes no money from those that wait.
            let waiting = wants.into_iter().filter(|want| !want.reply.is_closed());
            self.placed = waiting.map(|want| state.place(want)).collect();
        }
        for placed in &mut self.placed {
            placed.verdict = self.plan.fit(tx, &placed.want.reserve, &placed.shorts)?;
        }
        let at = self.placed.iter().map(|placed| placed.want.reserve.at).max().unwrap_or_default();
        let shares: Vec<_> =
            self.plan.shares.iter().map(|(account, share)| (account.to_string(), *share)).collect();
        if !shares.is_empty() {
            let owner = self.purse.name.clone();
            tx.append_ledger(LeaseGranted { owner, shares }.into(), at)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: Result<(), JournalError>) {
        let placed = std::mem::take(&mut self.placed);
        let mut answers = Vec::with_capacity(placed.len());
        let mut unbegun = Vec::new();
        {
            let mut state = self.purse.lock();
            if !self.begun {
                self.begun = true;
                state.extending = false;
                unbegun = std::mem::take(&mut state.wants);
            }
            if outcome.is_ok() {
                state.grow(&std::mem::take(&mut self.plan.shares));
            }
            for placed in &placed {
                state.put_back(placed);
            }
            for Placed { want, verdict, .. } in placed {
                let verdict = outcome.clone().map_err(unwritable).and(verdict);
                let made = verdict.and_then(|()| state.hold(&self.purse.name, &want.reserve));
                answers.push((want, made));
            }
        }
        self.purse.write_soon();
        if let Err(error) = outcome {
            for want in unbegun {
                drop(want.reply.send(Err(unwritable(error.clone()))));
            }
        }
        for (want, made) in answers {
            let answer = made.map(|waits| self.purse.fresh(&want.reserve, waits));
            // Whoever asked may have gone: then the reservation is dropped here, and voided by that.
            drop(want.reply.send(answer));
        }
    }
}

impl State {
    fn place(&mut self, want: Want) -> Placed {
        let amount = want.reserve.amount;
        let mut shorts = Vec::with_capacity(want.reserve.accounts.len());
        for (account, _) in &want.reserve.accounts {
            self.accounts.insert(account.clone());
            let balance = self.book.balance(account);
            let available = balance.available();
            let pocket = available.clamp(Money::ZERO, amount.max(Money::ZERO));
            self.book.allow(account, balance.allowed - pocket);
            shorts.push(Short { pocket, need: amount - pocket - available.min(Money::ZERO) });
        }
        Placed { want, shorts, verdict: Ok(()) }
    }

    fn put_back(&mut self, placed: &Placed) {
        for ((account, _), short) in placed.want.reserve.accounts.iter().zip(&placed.shorts) {
            let allowed = self.book.balance(account).allowed;
            self.book.allow(account, allowed + short.pocket);
        }
    }

    fn grow(&mut self, shares: &BTreeMap<Account, Money>) {
        for (account, share) in shares {
            let allowed = self.book.balance(account).allowed;
            self.book.allow(account, allowed + *share);
        }
    }
}

impl Plan {
    /// Plans what one reservation needs, in all its accounts or in none.
    fn fit(
        &mut self,
        tx: &Tx<'_, '_>,
        reserve: &Reserve,
        shorts: &[Short],
    ) -> Result<Result<(), LedgerError>, Fail> {
        let mut grants = Vec::new();
        for ((account, limit), short) in reserve.accounts.iter().zip(shorts) {
            let spare = self.spare.get(account).copied().unwrap_or_default();
            let from_spare = spare.min(short.need).max(Money::ZERO);
            let rest = short.need - from_spare;
            let mut grant = Money::ZERO;
            if rest > Money::ZERO {
                let key = account.to_string();
                let holding = tx.account(&key)?;
                if holding.limit != *limit {
                    tx.see_limit(&key, *limit)?;
                }
                let planned = self.shares.get(account).copied().unwrap_or_default();
                let free = *limit - holding.spent.used() - planned;
                if free < rest {
                    let available = free.max(Money::ZERO) + short.pocket + from_spare;
                    return Ok(Err(denied(account, available, reserve.amount)));
                }
                grant = grant_of(account, *limit, free, rest);
            }
            grants.push((account, grant, spare - from_spare + (grant - rest.max(Money::ZERO))));
        }
        for (account, grant, spare) in grants {
            if grant > Money::ZERO {
                *self.shares.entry(account.clone()).or_default() += grant;
            }
            self.spare.insert(account.clone(), spare);
        }
        Ok(Ok(()))
    }
}

/// How much to lease of an account with `free` left where `rest` is needed now. Near the end exactly that, so that
/// others find what is left.
fn grant_of(account: &Account, limit: Money, free: Money, rest: Money) -> Money {
    let part = limit.percent(match account.scope {
        Scope::Run(_) => RUN_GRANT_PERCENT,
        Scope::Total | Scope::Role(_) | Scope::Provider(_) | Scope::Key(_) => GRANT_PERCENT,
    });
    if free < part { rest } else { rest.max(part) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_grant() {
        // limit, free, rest, the grant of a shared account, the grant of a run's own
        let rows = [
            (1_000, 1_000, 10, 50, 250),
            (1_000, 1_000, 400, 400, 400),
            (1_000, 250, 10, 50, 250),
            (1_000, 50, 10, 50, 10),
            (1_000, 49, 10, 10, 10),
            (1_000, 10, 10, 10, 10),
        ];
        for (limit, free, rest, shared, own) in rows {
            let [limit, free, rest] = [limit, free, rest].map(Money::from_nanos);
            let of = |scope| grant_of(&Account::whole(scope), limit, free, rest).nanos();
            assert_eq!(of(Scope::Total), shared, "{limit:?} {free:?} {rest:?}");
            assert_eq!(of(Scope::Key("k".into())), shared, "{limit:?} {free:?} {rest:?}");
            assert_eq!(of(Scope::Run("r".into())), own, "{limit:?} {free:?} {rest:?}");
        }
    }
}
