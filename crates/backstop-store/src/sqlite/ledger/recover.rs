//! What becomes of the money of a process that died.

use super::LedgerMode;
use crate::record::Record;
use crate::sqlite::fault::{Fail, io_error};
use crate::sqlite::intents::{self, Intents, Left};
use crate::sqlite::owner::boot_id;
use crate::sqlite::read;
use crate::sqlite::tx::{Entry, Tx};
use backstop_call::{Money, ReservationId, Timestamp};
use backstop_journal::event::{LeaseClosed, MoneyReserved, MoneySuspended};
use backstop_journal::projections::spend::reservations;
use backstop_journal::{EventBody, StreamId};
use rusqlite::{OptionalExtension, params};
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

/// How a process that writes intents is known. Before there were any, `written` said that all its reservations are events.
const INTENTS: &str = "intents";

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The processes that had died.
    pub owners: Vec<String>,
    /// What was suspended for them, each with its worst case: calls under way, and `lease.PROCESS.ACCOUNT` for the
    /// rest of a lease from which calls may have been sent that were never written.
    pub suspended: Vec<(ReservationId, Money)>,
    /// What of their leases is free again, by account.
    pub freed: Vec<(String, Money)>,
}

struct Dead {
    id: i64,
    name: String,
    /// Whether every call it sent had been written before: the reservations are all there.
    all_written: bool,
    /// Whether they stand in intents.
    intended: bool,
}

impl LedgerMode {
    fn as_str(self) -> &'static str {
        match self {
            Self::Leased => "leased",
            Self::Written => INTENTS,
        }
    }
}

impl Tx<'_, '_> {
    /// Appends an event of the ledger.
    pub(crate) fn append_ledger(&mut self, event: EventBody, at: Timestamp) -> Result<(), Fail> {
        let records = vec![Record::of(&StreamId::Ledger, event)];
        self.append(Entry { stream: StreamId::Ledger, epoch: None, at, records })?;
        Ok(())
    }

    /// Notes how this process reserves, and gives its name and its intents. Who has ever reserved in memory only stays in that
    /// mode.
    pub(super) fn open_ledger(&mut self, mode: LedgerMode) -> Result<(String, Option<Intents>), Fail> {
        let (id, name) = self.seat()?;
        let sql = "UPDATE owners SET mode = CASE WHEN mode = 'leased' THEN mode ELSE ?2 END WHERE id = ?1";
        self.db.execute(sql, params![id, mode.as_str()])?;
        if mode == LedgerMode::Leased {
            return Ok((name, None));
        }
        let dir = self.owners.intents();
        let intents = Intents::create(dir, &name).map_err(|error| io_error(&error, dir))?;
        Ok((name, Some(intents)))
    }

    /// Closes the books of every process that has died since they were last looked at.
    pub(super) fn recover(&mut self, at: Timestamp) -> Result<Recovered, Fail> {
        let mut found = Recovered::default();
        self.sweep()?;
        for mut dead in self.dead()? {
            if dead.intended && dead.all_written {
                dead.all_written = self.tell_intents(&dead)?;
            }
            for (reservation, amount) in self.holds(Some(&dead.name))? {
                let reason = format!("process {} died while the call was under way", dead.name);
                found.suspended.push((reservation.clone(), amount));
                self.append_ledger(MoneySuspended { reservation, amount, reason }.into(), at)?;
            }
            self.close_lease(&dead, at, &mut found)?;
            self.db.execute("UPDATE owners SET ended = 'recovered' WHERE id = ?1", [dead.id])?;
            self.owners.bury(&dead.name);
            found.owners.push(dead.name);
        }
        Ok(found)
    }

    /// Writes what stands in a dead process's intents and in no event. Whether its intents are there.
    fn tell_intents(&mut self, dead: &Dead) -> Result<bool, Fail> {
        let dir = self.owners.intents();
        let left = intents::left_by(dir, &dead.name).map_err(|error| io_error(&error, dir))?;
        let Some(Left { open, announced }) = left else { return Ok(false) };
        let mut told = HashSet::new();
        for seqs in announced {
            for event in read::range(self.db, &StreamId::Ledger, &seqs)? {
                told.extend(reservations(&event.body).cloned());
            }
        }
        let mut open: Vec<_> = open.into_iter().filter(|intent| !told.contains(&*intent.id)).collect();
        open.sort_by_key(|intent| Reverse(intent.at));
        let mut lease: BTreeMap<String, Money> = self.leases(&dead.name)?.into_iter().collect();
        for intent in open {
            let accounts: Vec<String> = intent.accounts.iter().map(ToString::to_string).collect();
            let amount = within(&mut lease, &accounts, intent.amount);
            let (owner, reservation) = (dead.name.clone(), intent.id.into_owned());
            self.append_ledger(MoneyReserved { reservation, owner, amount, accounts }.into(), intent.at)?;
        }
        Ok(true)
    }

    /// Removes intents that are in the database already: whoever recovered their owner was killed before it could.
    fn sweep(&self) -> Result<(), Fail> {
        let dir = self.owners.intents();
        for name in intents::owners(dir) {
            let sql = "SELECT ended IS NOT 'recovered' FROM owners WHERE name = ?1";
            let row = self.db.prepare_cached(sql)?.query_row([&name], |row| row.get(0)).optional()?;
            // No row: its opening was rolled back.
            if !row.unwrap_or(false) && !self.owners.is_alive(&name) {
                intents::remove(dir, &name);
            }
        }
        Ok(())
    }

    fn dead(&self) -> Result<Vec<Dead>, Fail> {
        let boot = boot_id();
        let sql = "SELECT id, name, mode IS NOT 'leased' AND boot = ?1 AND boot <> '', mode IS ?2 FROM owners
                   WHERE ended IS NOT 'recovered' ORDER BY id";
        let mut statement = self.db.prepare_cached(sql)?;
        let rows = statement.query_map([&boot, INTENTS], |row| {
            Ok(Dead { id: row.get(0)?, name: row.get(1)?, all_written: row.get(2)?, intended: row.get(3)? })
        })?;
        let owners: Vec<_> = rows.collect::<Result<_, _>>()?;
        Ok(owners.into_iter().filter(|owner| !self.owners.is_alive(&owner.name)).collect())
    }

    fn close_lease(&mut self, dead: &Dead, at: Timestamp, found: &mut Recovered) -> Result<(), Fail> {
        // What is below zero was overrun: it is taken from everybody either way.
        let (lost, back): (Vec<_>, Vec<_>) = self
            .leases(&dead.name)?
            .into_iter()
            .partition(|(_, rest)| !dead.all_written && *rest > Money::ZERO);
        for (account, amount) in lost {
            let reservation = ReservationId::from(format!("lease.{}.{account}", dead.name));
            let owner = dead.name.clone();
            let held =
                MoneyReserved { reservation: reservation.clone(), owner, amount, accounts: vec![account] };
            let reason =
                format!("process {} died; calls may have been sent that were never written", dead.name);
            found.suspended.push((reservation.clone(), amount));
            self.append_ledger(held.into(), at)?;
            self.append_ledger(MoneySuspended { reservation, amount, reason }.into(), at)?;
        }
        if !back.is_empty() {
            found.freed.extend(back.iter().cloned());
            self.append_ledger(
                LeaseClosed { owner: dead.name.clone(), shares: back, recovered: true }.into(),
                at,
            )?;
        }
        Ok(())
    }
}

/// What of a worst case the lease still has room for, taken out of it. Calls that had ended and were not committed yet stand in
/// intents beside those that took their room, so that all of them together may be more than the process could spend; what it
/// really spent was never more than its lease.
fn within(lease: &mut BTreeMap<String, Money>, accounts: &[String], worst_case: Money) -> Money {
    let room = |account: &String| lease.get(account).copied().unwrap_or_default().max(Money::ZERO);
    let amount = accounts.iter().map(room).fold(worst_case, Money::min);
    for account in accounts {
        *lease.entry(account.clone()).or_default() -= amount;
    }
    amount
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_process_held_is_never_more_than_its_lease() {
        let cents = |cents: i64| Money::from_nanos(cents * 10_000_000);
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut lease = BTreeMap::from([("total".to_owned(), cents(5)), ("role/a".to_owned(), cents(3))]);
        let rows = [
            (names(&["total", "role/a"]), 2, 2),
            (names(&["total", "role/a"]), 2, 1),
            (names(&["total"]), 4, 2),
            (names(&["total"]), 4, 0),
            (names(&[]), 4, 4),
        ];
        for (accounts, worst_case, want) in rows {
            assert_eq!(within(&mut lease, &accounts, cents(worst_case)), cents(want), "{accounts:?}");
        }
    }
}
