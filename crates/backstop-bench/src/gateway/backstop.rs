//! What the harness takes for granted about Backstop: its command line, its config, its ledger. Nothing else here knows
//! any of it.

use crate::Stop;
use crate::prompt::Dialect;
use backstop_allowance::{Account, Scope, Window};
use backstop_call::{Money, Timestamp};
use backstop_store::{LedgerMode, SqliteStore, StoreOptions};
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Answers with 200 as soon as calls are taken.
pub(super) const READY: &str = "/readyz";

/// The key at the mock, and how its bill names it.
const MOCK_KEY: &str = "mock-key-of-backstop";

/// How the mock's bill names what Backstop sent.
pub(super) fn billed_to(dialect: Dialect) -> String {
    match dialect {
        Dialect::Chat => format!("Bearer {MOCK_KEY}"),
        Dialect::Messages => MOCK_KEY.to_owned(),
    }
}

/// The config, with the place still to be filled in.
pub(super) fn config(dialect: Dialect) -> String {
    let name = match dialect {
        Dialect::Chat => "chat",
        Dialect::Messages => "messages",
    };
    include_str!("backstop.toml").replace("{dialect}", name)
}

pub(super) fn env() -> Vec<(String, String)> {
    vec![("MOCK_KEY".to_owned(), MOCK_KEY.to_owned())]
}

pub(super) fn serve_args(config: &str) -> Vec<String> {
    ["serve", "--config", config].map(str::to_owned).to_vec()
}

/// A key with everything that a key can have. Its limits are counted and never reached.
const KEY: &[&str] = &[
    "--role=bench",
    "--model=mock-*",
    "--from=127.0.0.0/8",
    "--budget-day=1000000",
    "--budget=1000000",
    "--requests-per-minute=60000000",
    "--tokens-per-minute=60000000000",
    "--concurrent=65536",
    "--expires=30d",
];

/// Has Backstop make the key.
pub(super) fn create_key(program: &Path, config: &str) -> Result<String, Stop> {
    let args = [&["keys", "create", "bench", "--config", config], KEY].concat();
    let output = Command::new(program).args(&args).envs(env()).output();
    let line = format!("{} {}", program.display(), args.join(" "));
    let output = output.map_err(|error| Stop::usage(format!("`{line}` cannot be run: {error}")))?;
    let told = String::from_utf8_lossy(&output.stdout);
    find_key(&told).map(str::to_owned).ok_or_else(|| {
        let why = String::from_utf8_lossy(&output.stderr);
        Stop::failed(format!("`{line}` gave no key: {}", why.trim()))
    })
}

fn find_key(told: &str) -> Option<&str> {
    told.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '-')
        .find(|word| word.starts_with("bsk_"))
}

/// What the ledger in `dir` says was spent since `from`.
pub(super) struct Spent {
    pub(super) settled: Money,
    /// Of calls whose cost is not known for certain.
    pub(super) suspense: Money,
    /// Of calls under way, of which there must be none.
    pub(super) reserved: Money,
}

/// Reads the ledger as it stands on the disk. Backstop must have ended.
pub(super) async fn read_ledger(dir: &Path, from: Timestamp) -> Result<Spent, Stop> {
    let path = dir.join("backstop.db");
    let failed = |error: &dyn Error| Stop::failed(format!("{}: {error}", path.display()));
    let now = today();
    let store = SqliteStore::open(&path, StoreOptions::default()).map_err(|error| failed(&error))?;
    let (ledger, _) = store.ledger(LedgerMode::Leased, now).await.map_err(|error| failed(&error))?;
    let mut sum = Spent { settled: Money::ZERO, suspense: Money::ZERO, reserved: Money::ZERO };
    // A run may go over midnight.
    for day in from.day()..=now.day() {
        let account = &Account { scope: Scope::Total, window: Window::Day(day) };
        let (_, spent) = ledger.spent(account).await.map_err(|error| failed(&error))?;
        sum.settled = sum.settled.saturating_add(spent.settled);
        sum.suspense = sum.suspense.saturating_add(spent.suspense);
        sum.reserved = sum.reserved.saturating_add(spent.reserved);
    }
    Ok(sum)
}

/// The time of day, for the name of the account.
#[expect(clippy::disallowed_methods, reason = "the account of a day is named by the calendar's day")]
pub(super) fn today() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_allowance::{Ledger, Reserve, Resolution};
    use backstop_call::ReservationId;

    #[test]
    fn the_key_is_found_in_what_is_told() {
        let rows = [
            ("bsk_0a-Z\n", Some("bsk_0a-Z")),
            ("{\"id\":\"k1\",\"key\":\"bsk_ab\"}", Some("bsk_ab")),
            ("error: no", None),
        ];
        for (told, want) in rows {
            assert_eq!(find_key(told), want, "{told}");
        }
    }

    #[tokio::test]
    async fn the_ledger_is_read_as_it_lies_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let yesterday = Timestamp::from_nanos(today().nanos() - 86_400_000_000_000);
        {
            let store = SqliteStore::open(dir.path().join("backstop.db"), StoreOptions::default()).unwrap();
            let (ledger, _) = store.ledger(LedgerMode::Leased, yesterday).await.unwrap();
            let spend = async |id: &str, at: Timestamp, resolution: Resolution| {
                let account = Account::today(Scope::Total, at);
                let amount = Money::from_nanos(900);
                let accounts = vec![(account, Money::from_dollars(1_000_000))];
                let id = ReservationId::from(id);
                Ledger::reserve(&ledger, Reserve { id: id.clone(), amount, accounts, at }).await.unwrap();
                Ledger::resolve(&ledger, &id, resolution, at).unwrap();
            };
            spend("a", yesterday, Resolution::Settle(Money::from_nanos(700))).await;
            spend("b", today(), Resolution::Settle(Money::from_nanos(41))).await;
            spend("c", today(), Resolution::Suspend(Money::from_nanos(900))).await;
            ledger.close().await.unwrap();
        }
        let spent = read_ledger(dir.path(), yesterday).await.unwrap();
        let nanos = [spent.settled, spent.suspense, spent.reserved].map(Money::nanos);
        assert_eq!(nanos, [741, 900, 0]);
    }

    #[test]
    fn the_prices_are_those_of_the_mock() {
        use crate::mock::Bill;
        // Prices are told for a million tokens.
        let dollars = |bill: Bill| bill.total() / 1_000_000_000;
        let (input, output) =
            (dollars(Bill::of_request(1_000_000, 0)), dollars(Bill::of_request(0, 1_000_000)));
        let line = format!("price = {{ input = \"${input}\", output = \"${output}\" }}");
        assert!(config(Dialect::Chat).contains(&line), "{line}");
    }
}
