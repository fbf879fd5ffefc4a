//! How an intent is written into its slot, and read back. Pure.

use backstop_call::{Money, ReservationId, Timestamp};
use std::borrow::Cow;

/// Room for one intent. A slot never crosses a page, and four accounts with long names fit.
pub(crate) const SLOT_BYTES: usize = 512;
/// Digest, length, number, amount, time.
const HEAD_BYTES: usize = 8 + 8 + 8 + 8 + 8;

/// A reservation that is about to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Intent<'a> {
    /// Its id.
    pub(crate) id: Cow<'a, ReservationId>,
    /// The worst case.
    pub(crate) amount: Money,
    /// When it was made.
    pub(crate) at: Timestamp,
    /// The accounts, by their keys.
    pub(crate) accounts: Cow<'a, [Box<str>]>,
}

impl Intent<'_> {
    /// Encodes it into `slot`; gives how many bytes of it are used. `None` when it does not fit.
    pub(crate) fn encode(&self, number: u64, slot: &mut [u8; SLOT_BYTES]) -> Option<usize> {
        let mut end = HEAD_BYTES;
        let texts = self.accounts.iter().map(AsRef::as_ref);
        for text in std::iter::once(self.id.as_str()).chain(texts) {
            let length = u16::try_from(text.len()).ok()?;
            let from = end + 2;
            end = from + text.len();
            slot.get_mut(from..end)?.copy_from_slice(text.as_bytes());
            slot[from - 2..from].copy_from_slice(&length.to_le_bytes());
        }
        let amount = self.amount.nanos().cast_unsigned();
        for (at, value) in [end as u64, number, amount, self.at.nanos()].into_iter().enumerate() {
            slot[8 + at * 8..16 + at * 8].copy_from_slice(&value.to_le_bytes());
        }
        let digest = digest(&slot[8..end]);
        slot[..8].copy_from_slice(&digest.to_le_bytes());
        Some(end)
    }
}

impl Intent<'static> {
    /// The number and the intent that stand in a slot. `None` when it is empty, or does not pass its checksum.
    pub(crate) fn decode(slot: &[u8]) -> Option<(u64, Self)> {
        let number = |at: usize| slot.get(at..at + 8)?.try_into().map(u64::from_le_bytes).ok();
        let end = usize::try_from(number(8)?).ok().filter(|end| *end > HEAD_BYTES)?;
        if digest(slot.get(8..end)?) != number(0)? {
            return None;
        }
        let mut texts = Vec::new();
        let mut from = HEAD_BYTES;
        while from < end {
            let length = u16::from_le_bytes(slot.get(from..from + 2)?.try_into().ok()?);
            let text = slot.get(from + 2..from + 2 + usize::from(length))?;
            texts.push(std::str::from_utf8(text).ok()?);
            from += 2 + usize::from(length);
        }
        let (id, accounts) = texts.split_first()?;
        let intent = Self {
            id: Cow::Owned(ReservationId::from(*id)),
            amount: Money::from_nanos(number(24)?.cast_signed()),
            at: Timestamp::from_nanos(number(32)?),
            accounts: accounts.iter().map(|text| Box::from(*text)).collect::<Vec<_>>().into(),
        };
        Some((number(16)?, intent))
    }
}

/// Two numbers with their checksum.
pub(crate) fn sealed(numbers: [u64; 2]) -> [u8; 24] {
    let mut bytes = [0; 24];
    bytes[..8].copy_from_slice(&numbers[0].to_le_bytes());
    bytes[8..16].copy_from_slice(&numbers[1].to_le_bytes());
    let digest = digest(&bytes[..16]);
    bytes[16..].copy_from_slice(&digest.to_le_bytes());
    bytes
}

/// The first eight bytes of the BLAKE3.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    blake3::hash(bytes).as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes)
}
