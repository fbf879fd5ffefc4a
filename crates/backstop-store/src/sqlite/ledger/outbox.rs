//! Events of the ledger on their way to the database. They leave memory only when they are committed: what a full disk
//! refuses is written by the next transaction that gets through, in the same order.

use super::Purse;
use crate::sqlite::fault::Fail;
use crate::sqlite::tx::Tx;
use crate::sqlite::writer::Work;
use backstop_call::Timestamp;
use backstop_journal::{Durability, EventBody, JournalError, StreamId};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

type Waiting = BTreeMap<u64, (EventBody, Timestamp)>;

/// Events that wait, oldest first.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Waiting,
    next: u64,
}

impl Outbox {
    /// Events that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Puts an event behind the others.
    pub(super) fn put(&mut self, event: EventBody, at: Timestamp) {
        self.waiting.insert(self.next, (event, at));
        self.next += 1;
    }
}

/// A transaction that writes what waits.
struct Write {
    purse: Arc<Purse>,
    taken: Waiting,
    reply: Option<oneshot::Sender<Result<(), JournalError>>>,
}

impl Work for Write {
    fn stream(&self) -> Option<&StreamId> {
        None
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), Fail> {
        {
            let mut state = self.purse.lock();
            state.writing = false;
            self.taken = std::mem::take(&mut state.outbox.waiting);
        }
        for (event, at) in self.taken.values() {
            tx.append_ledger(event.clone(), *at)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, outcome: Result<(), JournalError>) {
        if outcome.is_err() {
            let mut state = self.purse.lock();
            state.writing = false;
            state.outbox.waiting.append(&mut self.taken);
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
        {
            let mut state = self.lock();
            if state.writing || state.outbox.len() == 0 {
                return;
            }
            state.writing = true;
        }
        let write = Write { purse: Arc::clone(self), taken: Waiting::new(), reply: None };
        if self.sender.send(Durability::Queued, 0, Box::new(write)).is_err() {
            self.lock().writing = false;
        }
    }

    /// Writes what waits; the future ends when it survives kill -9.
    pub(super) fn written(self: &Arc<Self>) -> impl Future<Output = Result<(), JournalError>> + use<> {
        let (reply, answer) = oneshot::channel();
        let write = Write { purse: Arc::clone(self), taken: Waiting::new(), reply: Some(reply) };
        let sent = self.sender.send(Durability::Written, 0, Box::new(write));
        async move {
            sent?;
            let gone = |_| Err(JournalError::Unusable("the writer of the store ended".to_owned()));
            answer.await.unwrap_or_else(gone)
        }
    }
}
