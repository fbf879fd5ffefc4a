//! The ledger: a book that survives a crash and is shared by several processes. Its implementations live in the store.

use crate::{Account, Balance, Denied, Resolution, Scope, Settled};
use backstop_call::{BoxFuture, Context, Money, ProviderName, ReservationId, RunId, Timestamp};
use serde::{Deserialize, Serialize};

/// A limit from config: so many dollars for a scope, per window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// Whose money it is. `Run` and `Key` are not written here: a run and a key bring their own limits.
    pub scope: Scope,
    /// Over which time.
    pub per: Per,
    /// The most that may be spent.
    pub limit: Money,
}

/// The window of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each day anew, UTC.
    Day,
    /// Once.
    Ever,
}

/// A reservation to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// Its id; asking again with the same id changes nothing.
    pub id: ReservationId,
    /// The worst case.
    pub amount: Money,
    /// The accounts it is taken from, each with its limit, in the order of the accounts.
    pub accounts: Vec<(Account, Money)>,
    /// Now.
    pub at: Timestamp,
}

/// A reservation that was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// There is no room.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The ledger cannot be written; nothing is spent without it.
    #[error("the ledger cannot be written: {0}")]
    Unwritable(String),
}

/// Reserve, then settle, void or suspend. Invariant over all processes: settled + suspense + reserved ≤ limit, but for
/// reported overruns. What a process holds when it dies counts as spent until recovery has read the journal.
pub trait Ledger: Send + Sync {
    /// Holds the worst case in all accounts, or in none. Completes without IO while the lease of this process lasts.
    fn reserve(&self, reserve: Reserve) -> BoxFuture<'_, Result<(), LedgerError>>;

    /// Ends a reservation: at once in memory, and durably no later than the next event that is appended to the journal
    /// durably. `None` when it is resolved already.
    fn resolve(&self, id: &ReservationId, resolution: Resolution, at: Timestamp) -> Option<Settled>;

    /// Replaces a suspended worst case by what was really billed.
    fn correct(
        &self,
        id: ReservationId,
        actual: Money,
        at: Timestamp,
    ) -> BoxFuture<'_, Result<Option<Settled>, LedgerError>>;

    /// What an account holds, over all processes.
    fn balance(&self, account: Account) -> BoxFuture<'_, Result<Balance, LedgerError>>;

    /// The reservations whose cost is unknown, with the worst case each counts for.
    fn suspense(&self) -> BoxFuture<'_, Result<Vec<(ReservationId, Money)>, LedgerError>>;
}

/// The accounts that a call at a provider is paid from, each with its limit, in the order of the accounts.
pub fn accounts_for(
    budgets: &[Budget],
    context: &Context,
    provider: &ProviderName,
    now: Timestamp,
) -> Vec<(Account, Money)> {
    let applies = |scope: &Scope| match scope {
        Scope::Total => true,
        Scope::Run(run) => context.run.as_ref() == Some(run),
        Scope::Role(role) => context.role.as_ref() == Some(role),
        Scope::Provider(name) => name == provider,
        Scope::Key(key) => context.key.as_ref() == Some(key),
    };
    let account = |budget: &Budget| match budget.per {
        Per::Day => Account::today(budget.scope.clone(), now),
        Per::Ever => Account::whole(budget.scope.clone()),
    };
    let mut accounts: Vec<_> = budgets
        .iter()
        .filter(|budget| applies(&budget.scope))
        .map(|budget| (account(budget), budget.limit))
        .collect();
    let of_run = |run: &RunId, limit| (Account::whole(Scope::Run(run.clone())), limit);
    if let (Some(run), Some(limit)) = (&context.run, context.run_limit) {
        accounts.push(of_run(run, limit));
    }
    accounts.extend(context.payers.iter().map(|(run, limit)| of_run(run, *limit)));
    if let Some(key) = &context.key {
        let scope = || Scope::Key(key.clone());
        accounts.extend(context.key_limits.day.map(|limit| (Account::today(scope(), now), limit)));
        accounts.extend(context.key_limits.whole.map(|limit| (Account::whole(scope()), limit)));
    }
    accounts.sort();
    accounts
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::KeyLimits;

    #[test]
    fn a_call_is_paid_from_every_account_it_belongs_to() {
        let budget = |scope, per, dollars| Budget { scope, per, limit: Money::from_dollars(dollars) };
        let budgets = [
            budget(Scope::Role("writer".into()), Per::Day, 2),
            budget(Scope::Role("other".into()), Per::Day, 1),
            budget(Scope::Total, Per::Day, 5),
            budget(Scope::Provider("anthropic".into()), Per::Ever, 9),
        ];
        let context = Context {
            run: Some("r1".into()),
            run_limit: Some(Money::from_dollars(1)),
            payers: vec![("r0".into(), Money::from_dollars(7))],
            role: Some("writer".into()),
            key: Some("ci".into()),
            key_limits: KeyLimits { day: Some(Money::from_dollars(3)), whole: Some(Money::from_dollars(20)) },
            ..Context::default()
        };
        let accounts = accounts_for(&budgets, &context, &"anthropic".into(), Timestamp::from_secs(86_400));
        let shown: Vec<_> = accounts.iter().map(|(account, limit)| format!("{account} {limit}")).collect();
        assert_eq!(
            shown,
            [
                "total@1 $5.00",
                "run/r0 $7.00",
                "run/r1 $1.00",
                "role/writer@1 $2.00",
                "provider/anthropic $9.00",
                "key/ci $20.00",
                "key/ci@1 $3.00"
            ]
        );
        let unlimited = Context { key_limits: KeyLimits::default(), ..context };
        assert_eq!(accounts_for(&budgets, &unlimited, &"anthropic".into(), Timestamp::EPOCH).len(), 5);
    }
}
