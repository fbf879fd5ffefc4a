//! Erasing in memory: as in a file.

use super::{Shared, owner};
use crate::record::new_blind;
use backstop_journal::event::RunErased;
use backstop_journal::{Body, Erase, Erasure, EventBody, JournalError, Links, StreamId};

impl Shared {
    pub(super) fn erase(&mut self, erase: Erase) -> Result<RunErased, JournalError> {
        let id = StreamId::Run(erase.run.clone());
        let Some(stream) = self.streams.get(&id).filter(|_| self.runs.contains_key(&erase.run)) else {
            return Err(JournalError::NotFound(erase.run));
        };
        if let Some(holder) = stream.owner.filter(|holder| self.alive.contains(holder)) {
            return Err(JournalError::Owned { run: erase.run, owner: owner(holder).0 });
        }
        if stream.head.seq != erase.head {
            return Err(JournalError::Moved(erase.run));
        }
        let links = Links { framed: 1, blind: Some(stream.blind.map_or_else(new_blind, Ok)?) };
        let places = stream.places.clone();
        let stored: Vec<_> = places.iter().map(|place| self.events[*place].stored()).collect();
        let Erasure { texts, parts, bytes, rechained } = backstop_journal::erase(&links, &stored)?;
        let mut erased = RunErased { by: erase.by, reason: erase.reason, bodies: parts, bytes, rechained };
        for place in &places {
            for body in self.events[*place].event.body.bodies_mut() {
                if let Body::Blob { hash, bytes } = body
                    && self.uses.remove(&(hash.clone(), id.clone()))
                {
                    erased.bodies += 1;
                    erased.bytes += *bytes;
                }
            }
        }
        if erased.bodies == 0 {
            return Ok(erased);
        }
        let used: Vec<_> = self.uses.iter().map(|(hash, _)| hash).collect();
        self.blobs.retain(|hash, _| used.binary_search(&hash).is_ok());
        for (seq, text) in texts {
            let written = &mut self.events[places[usize::try_from(seq).unwrap_or(usize::MAX) - 1]];
            let unreadable =
                |error: backstop_journal::event::UnreadableEvent| JournalError::Damaged(error.to_string());
            written.event.body =
                EventBody::decode(written.event.body.kind(), written.version, &text).map_err(unreadable)?;
            written.text = text;
        }
        self.texts.remove(&erase.run);
        self.streams.entry(id.clone()).or_default().blind = None;
        self.push(&id, 0, erase.at, erased.clone().into())?;
        Ok(erased)
    }
}
