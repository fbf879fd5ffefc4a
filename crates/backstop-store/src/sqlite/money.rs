//! The tables of the ledger: the same steps as `projections::spend`, applied in the commit of the events.

use super::fault::Fail;
use super::tx::Tx;
use backstop_call::{Money, ReservationId};
use backstop_journal::event::{BudgetWarned, MoneyMoved};
use backstop_journal::projections::spend::{Change, Held, Hold, Spent, reservation, step};
use backstop_journal::{EventBody, JournalError};
use rusqlite::{OptionalExtension, Row, params};

/// Parts of a limit, in percent, at which a budget is warned of.
const THRESHOLDS: [u32; 2] = [80, 100];

/// What an account holds over all processes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    /// The limit it was last asked with.
    pub(crate) limit: Money,
    /// What it holds.
    pub(crate) spent: Spent,
}

impl Tx<'_, '_> {
    /// Applies an event of the ledger, and gives the warnings it causes.
    pub(super) fn move_money(&mut self, event: &EventBody) -> Result<Vec<EventBody>, Fail> {
        let id = reservation(event);
        let held = id.map(|id| self.held(id)).transpose()?.flatten();
        let step = step(event, held.as_ref());
        let mut warnings = Vec::new();
        for change in &step.changes {
            self.change(change)?;
            if change.by.settled + change.by.suspense > Money::ZERO {
                warnings.extend(self.warn(change, event, held.as_ref())?);
            }
        }
        match (step.hold, id) {
            (Hold::Set(held), Some(id)) => self.hold(id, &held)?,
            (Hold::Gone, Some(id)) => {
                self.db.prepare_cached("DELETE FROM holds WHERE reservation = ?1")?.execute([id.as_str()])?;
            }
            (Hold::Same, _) | (_, None) => {}
        }
        Ok(warnings)
    }

    /// What an account holds.
    pub(super) fn account(&self, account: &str) -> Result<Holding, Fail> {
        let sql = "SELECT limit_seen, settled, suspense, reserved, leased, overrun FROM accounts WHERE account = ?1";
        let row = self.db.prepare_cached(sql)?.query_row([account], account_of).optional()?;
        Ok(row.unwrap_or_default())
    }

    /// Remembers the limit of an account, for warnings and for whoever asks.
    pub(super) fn see_limit(&self, account: &str, limit: Money) -> Result<(), Fail> {
        self.db
            .prepare_cached(
                "INSERT INTO accounts (account, limit_seen) VALUES (?1, ?2)
                 ON CONFLICT (account) DO UPDATE SET limit_seen = ?2",
            )?
            .execute(params![account, limit.nanos()])?;
        Ok(())
    }

    /// The reservation as it stands, if it still counts.
    pub(super) fn held(&self, id: &ReservationId) -> Result<Option<Held>, Fail> {
        let sql = "SELECT owner, amount, accounts, suspended FROM holds WHERE reservation = ?1";
        let held = self
            .db
            .prepare_cached(sql)?
            .query_row([id.as_str()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get::<_, String>(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((owner, amount, accounts, suspended)) = held else { return Ok(None) };
        let accounts = serde_json::from_str(&accounts)
            .map_err(|error| JournalError::Damaged(format!("the accounts of reservation {id}: {error}")))?;
        Ok(Some(Held { owner, amount: Money::from_nanos(amount), accounts, suspended }))
    }

    /// Reservations, by id: those under way of a process, or all suspended ones.
    pub(super) fn holds(&self, under_way_of: Option<&str>) -> Result<Vec<(ReservationId, Money)>, Fail> {
        let sql = "SELECT reservation, amount FROM holds
                   WHERE CASE WHEN ?1 IS NULL THEN suspended IS NOT NULL ELSE suspended IS NULL AND owner = ?1 END
                   ORDER BY reservation";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([under_way_of], |row| {
            Ok((ReservationId::from(row.get::<_, String>(0)?), Money::from_nanos(row.get(1)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What a process holds of each account and has reserved for no call.
    pub(super) fn leases(&self, owner: &str) -> Result<Vec<(String, Money)>, Fail> {
        let sql = "SELECT account, amount FROM leases WHERE owner = ?1 AND amount <> 0 ORDER BY account";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([owner], |row| Ok((row.get(0)?, Money::from_nanos(row.get(1)?))))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn change(&self, change: &Change) -> Result<(), Fail> {
        let by = &change.by;
        self.db
            .prepare_cached(
                "INSERT INTO accounts (account, settled, suspense, reserved, leased, overrun)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
                 ON CONFLICT (account) DO UPDATE SET settled = settled + ?2, suspense = suspense + ?3,
                     reserved = reserved + ?4, leased = leased + ?5, overrun = overrun + ?6",
            )?
            .execute(params![
                change.account,
                by.settled.nanos(),
                by.suspense.nanos(),
                by.reserved.nanos(),
                by.leased.nanos(),
                by.overrun.nanos(),
            ])?;
        if by.leased != Money::ZERO {
            self.db
                .prepare_cached(
                    "INSERT INTO leases (owner, account, amount) VALUES (?1, ?2, ?3)
                     ON CONFLICT (owner, account) DO UPDATE SET amount = amount + ?3",
                )?
                .execute(params![change.owner, change.account, by.leased.nanos()])?;
        }
        Ok(())
    }

    fn hold(&self, id: &ReservationId, held: &Held) -> Result<(), Fail> {
        let accounts = serde_json::to_string(&held.accounts).unwrap_or_default();
        self.db
            .prepare_cached(
                "INSERT INTO holds (reservation, owner, amount, accounts, suspended) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (reservation) DO UPDATE SET amount = ?3, suspended = ?5",
            )?
            .execute(params![id.as_str(), held.owner, held.amount.nanos(), accounts, held.suspended])?;
        Ok(())
    }

    /// The warnings that are due for an account after a change of it, each threshold once.
    fn warn(&self, change: &Change, event: &EventBody, held: Option<&Held>) -> Result<Vec<EventBody>, Fail> {
        let account = change.account.as_str();
        let row = self.account(account)?;
        let spent = row.spent.settled + row.spent.suspense;
        let passed = |percent: &u32| row.limit > Money::ZERO && spent >= row.limit.percent(*percent);
        if !passed(&THRESHOLDS[0]) {
            return Ok(Vec::new());
        }
        let sql = "SELECT warned FROM accounts WHERE account = ?1";
        let warned: u32 = self.db.prepare_cached(sql)?.query_row([account], |row| row.get(0))?;
        let due: Vec<u32> =
            THRESHOLDS.into_iter().filter(passed).filter(|percent| *percent > warned).collect();
        if let Some(percent) = due.last() {
            self.db
                .prepare_cached("UPDATE accounts SET warned = ?2 WHERE account = ?1")?
                .execute(params![account, percent])?;
        }
        let warning = |percent: u32| {
            let passing = match event {
                EventBody::MoneyMoved(moved) => {
                    passing(moved, account, (spent - change.by.settled, row.limit.percent(percent)))
                }
                _ => Passing {
                    id: reservation(event),
                    accounts: held.map_or(&[], |held| &held.accounts),
                    spent,
                },
            };
            passing.warning(account, percent, row.limit)
        };
        Ok(due.into_iter().map(warning).collect())
    }
}

/// What made an account pass a threshold.
struct Passing<'a> {
    id: Option<&'a ReservationId>,
    /// What it was paid from.
    accounts: &'a [String],
    /// What was spent with it.
    spent: Money,
}

/// Which of the attempts that an event tells of made `account`, in which so much was spent before, pass a threshold.
fn passing<'a>(moved: &'a MoneyMoved, account: &str, (mut spent, threshold): (Money, Money)) -> Passing<'a> {
    let mut last = Passing { id: None, accounts: &[], spent };
    for paid in moved.paid.iter().filter(|paid| paid.accounts.iter().any(|name| name == account)) {
        for (id, cost) in &paid.settled {
            spent += *cost;
            last = Passing { id: Some(id), accounts: &paid.accounts, spent };
            if spent >= threshold {
                return last;
            }
        }
    }
    last
}

impl Passing<'_> {
    fn warning(&self, account: &str, percent: u32, limit: Money) -> EventBody {
        let scope =
            |kind: &str| self.accounts.iter().find_map(|key| key.strip_prefix(kind)?.split('@').next());
        let call = self.id.and_then(|id| id.as_str().rsplit_once('.'));
        BudgetWarned {
            account: account.to_owned(),
            percent,
            spent: self.spent,
            limit,
            run: scope("run/").map(Into::into),
            call: call.map(|(call, _)| call.into()),
            provider: scope("provider/").map(Into::into),
        }
        .into()
    }
}

fn account_of(row: &Row<'_>) -> rusqlite::Result<Holding> {
    let money = |column| Ok::<_, rusqlite::Error>(Money::from_nanos(row.get(column)?));
    let spent = Spent {
        settled: money(1)?,
        suspense: money(2)?,
        reserved: money(3)?,
        leased: money(4)?,
        overrun: money(5)?,
    };
    Ok(Holding { limit: money(0)?, spent })
}
