//! What the mock bills, by key. Pure.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Nano-dollars for a token of a request: $1 for a million.
const PRICE_INPUT: u64 = 1_000;
/// Nano-dollars for a token of an answer: $2 for a million.
const PRICE_OUTPUT: u64 = 2_000;

/// What one key owes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bill {
    pub(crate) requests: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
}

impl Bill {
    pub(crate) fn of_request(input_tokens: u64, output_tokens: u64) -> Self {
        Self { requests: 1, input_tokens, output_tokens }
    }

    /// One more chunk of a stream, which is one token.
    pub(crate) fn of_chunk() -> Self {
        Self { output_tokens: 1, ..Self::default() }
    }

    /// In nano-dollars.
    pub(crate) fn total(self) -> u64 {
        self.input_tokens * PRICE_INPUT + self.output_tokens * PRICE_OUTPUT
    }

    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            input_tokens: self.input_tokens + other.input_tokens,
            output_tokens: self.output_tokens + other.output_tokens,
        }
    }
}

/// All bills, by the key that was sent, as it was sent.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Bills(BTreeMap<String, Bill>);

impl Bills {
    pub(crate) fn add(&mut self, key: &str, bill: Bill) {
        if let Some(there) = self.0.get_mut(key) {
            *there = there.plus(bill);
        } else {
            self.0.insert(key.to_owned(), bill);
        }
    }

    pub(crate) fn of(&self, key: &str) -> Bill {
        self.0.get(key).copied().unwrap_or_default()
    }

    /// Requests over all keys.
    pub(crate) fn requests(&self) -> u64 {
        self.0.values().map(|bill| bill.requests).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_own_bill() {
        let mut bills = Bills::default();
        bills.add("a", Bill::of_request(500, 150));
        bills.add("b", Bill::of_request(10, 0));
        bills.add("b", Bill::of_chunk());
        bills.add("b", Bill::of_chunk());
        assert_eq!(bills.of("a"), Bill { requests: 1, input_tokens: 500, output_tokens: 150 });
        assert_eq!(bills.of("b"), Bill { requests: 1, input_tokens: 10, output_tokens: 2 });
        assert_eq!((bills.of("b").total(), bills.of("c").total(), bills.requests()), (14_000, 0, 2));
    }
}
