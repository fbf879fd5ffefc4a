//! What is left of the budgets that a call is paid from, for its answer's header: as the ledger knew it a moment ago. It is asked
//! beside the call and never waited for; what holds is what the ledger reserves, not what is shown here.

use backstop_allowance::{Account, Ledger};
use backstop_call::{Money, Timestamp};
use foldhash::fast::RandomState;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For how long what the ledger said is told again.
const FRESH: Duration = Duration::from_secs(1);
/// Lists of accounts that are remembered. A day's accounts are of no use the day after: when there are more, all are
/// forgotten.
const LISTS_MAX: usize = 4_096;

/// By the accounts with their limits.
type Lists = HashMap<Box<[(Account, Money)]>, Known, RandomState>;

/// What was left of each list of accounts when the ledger was asked last. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Left(Arc<Mutex<Lists>>);

#[derive(Debug, Clone, Copy)]
struct Known {
    /// When it was asked.
    at: Timestamp,
    /// The least that was left in any of them; `None` until the first answer.
    least: Option<Money>,
}

impl Left {
    fn lock(&self) -> MutexGuard<'_, Lists> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least that is left in any of the accounts; `None` where nothing is known yet or there is no budget. The ledger is
    /// asked anew when that is long ago.
    pub(crate) fn least(
        &self,
        ledger: &Arc<dyn Ledger>,
        accounts: Vec<(Account, Money)>,
        now: Timestamp,
    ) -> Option<Money> {
        let (least, is_due) = self.known(&accounts, now);
        if is_due {
            tokio::spawn(self.clone().ask(Arc::clone(ledger), accounts));
        }
        least
    }

    /// What is known, and whether the ledger is to be asked now: only once in a while, whatever comes of it.
    fn known(&self, accounts: &[(Account, Money)], now: Timestamp) -> (Option<Money>, bool) {
        let mut lists = self.lock();
        match lists.get_mut(accounts) {
            Some(known) => {
                let is_due = now.since(known.at) >= FRESH;
                if is_due {
                    known.at = now;
                }
                (known.least, is_due)
            }
            None if accounts.is_empty() => (None, false),
            None => {
                if lists.len() >= LISTS_MAX {
                    lists.clear();
                }
                lists.insert(accounts.into(), Known { at: now, least: None });
                (None, true)
            }
        }
    }

    async fn ask(self, ledger: Arc<dyn Ledger>, accounts: Vec<(Account, Money)>) {
        let mut least: Option<Money> = None;
        for (account, limit) in &accounts {
            let Ok(balance) = ledger.balance(account.clone()).await else { return };
            // An overrun leaves nothing.
            let left = *limit - (balance.settled + balance.suspense + balance.reserved);
            least = Some(least.unwrap_or(left).min(left).max(Money::ZERO));
        }
        if let Some(known) = self.lock().get_mut(&accounts[..]) {
            known.least = least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_allowance::{Balance, LedgerError, Reserve, Resolution, Scope, Settled};
    use backstop_call::{BoxFuture, ReservationId};

    /// A ledger in which so many dollars of each account are spent.
    struct Spent(u32);

    impl Ledger for Spent {
        fn reserve(&self, _: Reserve) -> BoxFuture<'_, Result<(), LedgerError>> {
            unreachable!("nothing is reserved here")
        }
        fn resolve(&self, _: &ReservationId, _: Resolution, _: Timestamp) -> Option<Settled> {
            None
        }
        fn correct(
            &self,
            _: ReservationId,
            _: Money,
            _: Timestamp,
        ) -> BoxFuture<'_, Result<Option<Settled>, LedgerError>> {
            unreachable!("nothing is corrected here")
        }
        fn balance(&self, _: Account) -> BoxFuture<'_, Result<Balance, LedgerError>> {
            let settled = Money::from_dollars(self.0.into());
            Box::pin(async move { Ok(Balance { settled, ..Balance::default() }) })
        }
        fn suspense(&self) -> BoxFuture<'_, Result<Vec<(ReservationId, Money)>, LedgerError>> {
            unreachable!("nobody asks for it here")
        }
    }

    #[tokio::test]
    async fn the_least_is_told_and_the_ledger_is_asked_once_in_a_while() {
        let left = Left::default();
        let of = |scope, dollars| (Account::whole(scope), Money::from_dollars(dollars));
        let accounts = vec![of(Scope::Total, 5), of(Scope::Role("r".into()), 2)];
        let at = Timestamp::from_secs;
        assert_eq!(left.known(&[], at(10)), (None, false), "there is no budget");
        assert_eq!(left.known(&accounts, at(10)), (None, true), "nothing is known yet");
        assert_eq!(left.known(&accounts, at(10)), (None, false));
        left.clone().ask(Arc::new(Spent(1)), accounts.clone()).await;
        assert_eq!(left.known(&accounts, at(10)), (Some(Money::from_dollars(1)), false));
        assert_eq!(left.known(&accounts, at(11)), (Some(Money::from_dollars(1)), true));
        left.clone().ask(Arc::new(Spent(3)), accounts.clone()).await;
        assert_eq!(left.known(&accounts, at(11)).0, Some(Money::ZERO), "an overrun leaves nothing");
    }
}
