//! What the ledger has to tell the database. It leaves memory only when it is committed: what a full disk refuses is written
//! by the next transaction that gets through.
//!
//! The ordinary ends of reservations that stood in intents become one event for each commit; everything else has an event of
//! its own.

use super::{Payers, Purse};
use crate::sqlite::fault::Fail;
use crate::sqlite::intents::Slot;
use crate::sqlite::tx::Tx;
use crate::sqlite::writer::Work;
use backstop_call::{Money, ReservationId, Timestamp};
use backstop_journal::event::{MoneyMoved, Paid};
use backstop_journal::{Durability, EventBody, JournalError, StreamId};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Ends of reservations that one event tells of at most: some 30 KB.
const MOVED_MAX: usize = 1024;

/// What waits, oldest first.
#[derive(Default)]
pub(super) struct Outbox {
    events: Vec<(EventBody, Timestamp)>,
    ended: Vec<Ended>,
    /// Of reservations that have events of their own.
    slots: Vec<Slot>,
    /// The time of what ended last.
    at: Timestamp,
}

/// A reservation that ended as most do.
pub(super) struct Ended {
    /// Its id.
    pub(super) id: ReservationId,
    /// What it was paid from.
    pub(super) payers: Arc<Payers>,
    /// What it cost; `None` when it was not sent, or not billed.
    pub(super) cost: Option<Money>,
    /// Where its intent stands.
    pub(super) slot: Slot,
}

impl Outbox {
    /// How much waits.
    pub(super) fn len(&self) -> usize {
        self.events.len() + self.ended.len()
    }

    /// Puts an event behind the others.
    pub(super) fn put(&mut self, event: EventBody, at: Timestamp) {
        self.events.push((event, at));
    }

    /// Puts a reservation that ended behind the others.
    pub(super) fn end(&mut self, ended: Ended, at: Timestamp) {
        self.ended.push(ended);
        self.at = self.at.max(at);
    }

    /// An intent that is done once what waits is committed.
    pub(super) fn done(&mut self, slot: Slot) {
        self.slots.push(slot);
    }

    fn is_about_intents(&self) -> bool {
        !self.ended.is_empty() || !self.slots.is_empty()
    }

    fn slots(&self) -> impl Iterator<Item = Slot> {
        self.slots.iter().copied().chain(self.ended.iter().map(|ended| ended.slot))
    }

    /// Puts what was taken out and not written before what came since.
    fn put_back(&mut self, taken: Self) {
        let since = std::mem::replace(self, taken);
        self.events.extend(since.events);
        self.ended.extend(since.ended);
        self.slots.extend(since.slots);
        self.at = self.at.max(since.at);
    }

    /// The events of all that ended as most do.
    fn moved(&self, owner: &str) -> impl Iterator<Item = EventBody> {
        self.ended.chunks(MOVED_MAX).map(|ended| moved(owner, ended))
    }
}

fn moved(owner: &str, ended: &[Ended]) -> EventBody {
    let mut groups: HashMap<*const Payers, usize> = HashMap::new();
    let mut paid: Vec<Paid> = Vec::new();
    for ended in ended {
        let group = *groups.entry(Arc::as_ptr(&ended.payers)).or_insert_with(|| {
            let accounts = ended.payers.keys.iter().map(ToString::to_string).collect();
            paid.push(Paid { accounts, settled: Vec::new(), voided: Vec::new() });
            paid.len() - 1
        });
        match ended.cost {
            Some(cost) => paid[group].settled.push((ended.id.clone(), cost)),
            None => paid[group].voided.push(ended.id.clone()),
        }
    }
    MoneyMoved { owner: owner.to_owned(), paid }.into()
}

/// A transaction that writes what waits.
struct Write {
    purse: Arc<Purse>,
    taken: Outbox,
    announced: bool,
    reply: Option<oneshot::Sender<Result<(), JournalError>>>,
}

impl Work for Write {
    fn stream(&self) -> Option<&StreamId> {
        None
    }

    fn is_refused_late(&self) -> bool {
        false
    }

    fn apply(&mut self, tx: &mut Tx<'_, '_>) -> Result<(), Fail> {
        {
            let mut state = self.purse.lock();
            state.writing = false;
            if let Some(intents) = &mut state.intents {
                // Marks that the file would not take come before anything that needs marks.
                intents.mark([])?;
            }
            self.taken = std::mem::take(&mut state.outbox);
        }
        let before = if self.taken.is_about_intents() { Some(tx.last_seq(&StreamId::Ledger)?) } else { None };
        for (event, at) in &self.taken.events {
            tx.append_ledger(event.clone(), *at)?;
        }
        for moved in self.taken.moved(&self.purse.name) {
            tx.append_ledger(moved, self.taken.at)?;
        }
        if let Some(before) = before {
            let last = tx.last_seq(&StreamId::Ledger)?;
            self.purse.lock().announce(before + 1, last)?;
            self.announced = true;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: Result<(), JournalError>) {
        {
            let mut state = self.purse.lock();
            let taken = std::mem::take(&mut self.taken);
            if outcome.is_ok() {
                state.mark(taken.slots());
            } else {
                state.writing = false;
                state.outbox.put_back(taken);
            }
            if self.announced {
                state.unmarked -= 1;
            }
        }
        if let Some(reply) = self.reply.take() {
            // Whoever waited may have gone.
            drop(reply.send(outcome));
        }
    }
}

impl Purse {
    /// Sees to it that what waits is written with the next commit.
    pub(super) fn write_soon(self: &Arc<Self>) {
        let due = self.lock().write_is_due();
        if due {
            self.send_write();
        }
    }

    /// Puts the transaction that [`super::State::write_is_due`] asked for into the queue.
    pub(super) fn send_write(self: &Arc<Self>) {
        if self.sender.send(Durability::Queued, 0, Box::new(self.write(None))).is_err() {
            self.lock().writing = false;
        }
    }

    /// Writes what waits; the future ends when it survives kill -9.
    pub(super) fn written(self: &Arc<Self>) -> impl Future<Output = Result<(), JournalError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = self.sender.send(Durability::Written, 0, Box::new(self.write(Some(reply))));
        async move {
            sent?;
            let gone = |_| Err(JournalError::Unusable("the writer of the store ended".to_owned()));
            answer.await.unwrap_or_else(gone)
        }
    }

    fn write(self: &Arc<Self>, reply: Option<oneshot::Sender<Result<(), JournalError>>>) -> Write {
        Write { purse: Arc::clone(self), taken: Outbox::default(), announced: false, reply }
    }
}
