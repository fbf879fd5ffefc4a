//! The ledger alone: reserve the worst case, settle what it cost, and never spend more than is there.

use backstop::allowance::{Account, Ledger, LedgerError, Reserve, Resolution, Scope};
use backstop::call::{Money, Timestamp};
use backstop::store::MemoryLedger;
use std::error::Error;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let now = Timestamp::from_secs(1_800_000_000);
    let ledger = MemoryLedger::default();
    let day = Account::today(Scope::Total, now);
    let limit: Money = "1.00".parse()?;
    let reserve = |id: &str, amount: &str| Reserve {
        id: id.into(),
        amount: amount.parse().expect("an amount"),
        accounts: vec![(day.clone(), limit)],
        at: now,
    };

    // The worst case of a call is held before it is sent.
    ledger.reserve(reserve("first.1", "0.60")).await?;
    // A second one of that size does not fit: nothing is sent, nothing is spent.
    let denied = ledger.reserve(reserve("second.1", "0.60")).await;
    assert!(matches!(denied, Err(LedgerError::Denied(_))));

    // The call cost a fraction of its worst case; the rest is free again.
    ledger.resolve(&"first.1".into(), Resolution::Settle("0.07".parse()?), now);
    ledger.reserve(reserve("second.1", "0.60")).await?;
    // Nobody knows whether the second one was billed: it counts as spent until somebody does.
    ledger.resolve(&"second.1".into(), Resolution::Suspend(Money::MAX), now);

    let balance = ledger.balance(day.clone()).await?;
    assert_eq!((balance.settled.to_string(), balance.suspense.to_string()), ("$0.07".into(), "$0.60".into()));
    ledger.correct("second.1".into(), "0.05".parse()?, now).await?;
    assert_eq!(ledger.balance(day).await?.available().to_string(), "$0.88");
    Ok(())
}
