//! What is left of the budgets that a call is paid from, for its answer's header: as the ledger knew it a moment ago. It is asked
//! beside the call and never waited for; what holds is what the ledger reserves, not what is shown here.

use backstop_allowance::{Account, Ledger};
use backstop_call::{Money, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// For how long what the ledger said is told again.
const FRESH: Duration = Duration::from_secs(1);
/// Accounts that are remembered. A day's accounts are of no use the day after: when there are more, all are forgotten.
const ACCOUNTS_MAX: usize = 4_096;

/// What was spent from each account when the ledger was asked last. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Left(Arc<Mutex<HashMap<Account, Asked>>>);

#[derive(Debug, Clone, Copy)]
struct Asked {
    at: Timestamp,
    /// `None` until the first answer.
    used: Option<Money>,
}

impl Left {
    fn lock(&self) -> MutexGuard<'_, HashMap<Account, Asked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the ledger about those accounts that it was not asked about lately.
    pub(crate) fn ask(&self, ledger: &Arc<dyn Ledger>, accounts: &[(Account, Money)], now: Timestamp) {
        for account in self.stale(accounts, now) {
            let (left, ledger) = (self.clone(), Arc::clone(ledger));
            tokio::spawn(async move {
                if let Ok(balance) = ledger.balance(account.clone()).await {
                    let used = balance.settled + balance.suspense + balance.reserved;
                    left.lock().insert(account, Asked { at: now, used: Some(used) });
                }
            });
        }
    }

    /// The accounts to be asked about now; each only once in a while, whatever comes of it.
    fn stale(&self, accounts: &[(Account, Money)], now: Timestamp) -> Vec<Account> {
        let mut known = self.lock();
        if known.len() > ACCOUNTS_MAX {
            known.clear();
        }
        let mut stale = Vec::new();
        for (account, _) in accounts {
            let before = known.get(account).copied();
            if before.is_none_or(|asked| now.since(asked.at) >= FRESH) {
                known.insert(account.clone(), Asked { at: now, used: before.and_then(|asked| asked.used) });
                stale.push(account.clone());
            }
        }
        stale
    }

    /// The least that is left in any of the accounts; `None` where nothing is known yet or there is no budget.
    pub(crate) fn least(&self, accounts: &[(Account, Money)]) -> Option<Money> {
        let known = self.lock();
        let left = |(account, limit): &(Account, Money)| Some(*limit - known.get(account)?.used?);
        accounts.iter().filter_map(left).min().map(|left| left.max(Money::ZERO))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_allowance::Scope;

    #[test]
    fn the_least_is_told_and_the_ledger_is_asked_once_in_a_while() {
        let left = Left::default();
        let of = |scope, dollars| (Account::whole(scope), Money::from_dollars(dollars));
        let accounts = [of(Scope::Total, 5), of(Scope::Role("r".into()), 2), of(Scope::Key("k".into()), 9)];
        let at = Timestamp::from_secs;
        assert_eq!(left.least(&accounts), None, "nothing is known yet");
        assert_eq!(left.stale(&accounts, at(10)).len(), 3);
        assert_eq!(left.stale(&accounts, at(10)).len(), 0);
        assert_eq!(left.stale(&accounts, at(11)).len(), 3);
        let put = |n: usize, dollars| {
            let used = Some(Money::from_dollars(dollars));
            left.lock().insert(accounts[n].0.clone(), Asked { at: at(11), used });
        };
        put(0, 4);
        assert_eq!(left.least(&accounts), Some(Money::from_dollars(1)));
        put(1, 3);
        assert_eq!(left.least(&accounts), Some(Money::ZERO), "an overrun leaves nothing");
        assert_eq!(left.least(&[]), None);
    }
}
