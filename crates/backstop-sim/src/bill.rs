//! What a provider would charge, and what it was asked: the books of the simulated provider, kept apart from everything
//! that the client believes.

use crate::{Billing, tokens};
use backstop_call::{Money, Price, Usage};
use serde::Serialize;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many single requests the books hold; the sums are over all.
const ENTRIES_MAX: usize = 10_000;
/// How much of a request's body is kept.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// What was charged.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Bill {
    /// All of it, in nano-dollars.
    pub total: Money,
    /// Requests that were charged for.
    pub requests: u64,
    /// Input tokens that did not go through the cache.
    pub input_tokens: u64,
    /// Output tokens.
    pub output_tokens: u64,
    /// Input tokens that were read from the cache.
    pub cache_read_tokens: u64,
    /// Input tokens that were written to the cache.
    pub cache_write_tokens: u64,
    /// The sums by provider.
    pub by_provider: BTreeMap<String, Money>,
    /// The sums by model.
    pub by_model: BTreeMap<String, Money>,
    /// The newest single charges, oldest first; at most 10,000.
    pub entries: VecDeque<Charge>,
}

/// The charge for one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Charge {
    /// The provider's id of the request.
    pub request_id: String,
    /// What the client called it: its header `x-client-request-id`.
    pub client_request_id: Option<String>,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Input tokens that did not go through the cache.
    pub input_tokens: u64,
    /// Output tokens that were produced.
    pub output_tokens: u64,
    /// Input tokens that were read from the cache.
    pub cache_read_tokens: u64,
    /// Input tokens that were written to the cache.
    pub cache_write_tokens: u64,
    /// What it costs, in nano-dollars.
    pub cost: Money,
    /// Whether the answer went out whole.
    pub complete: bool,
    /// The fault that hit it.
    pub fault: Option<String>,
}

/// A request as it came in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// The provider's id of the request.
    pub request_id: String,
    /// What the client called it: its header `x-client-request-id`.
    pub client_request_id: Option<String>,
    /// The provider.
    pub provider: String,
    /// The path, without the provider's prefix.
    pub path: String,
    /// The model, without a fault's suffix.
    pub model: String,
    /// Whether the answer is to be streamed.
    pub stream: bool,
    /// The fault that hit it.
    pub fault: Option<String>,
    /// The status of the answer; `None` when none was sent.
    pub status: Option<u16>,
    /// The beginning of the body, at most 64 KiB.
    pub body: String,
}

/// The books. Shared; every change is one short lock.
#[derive(Debug, Clone, Default)]
pub(crate) struct Books(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    bill: Bill,
    seen: VecDeque<Seen>,
    numbers: u64,
}

impl Books {
    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bill(&self) -> Bill {
        self.pages().bill.clone()
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.pages().seen.iter().cloned().collect()
    }

    /// A number that no other request has, also after a reset.
    pub(crate) fn next_number(&self) -> u64 {
        let mut pages = self.pages();
        pages.numbers += 1;
        pages.numbers
    }

    pub(crate) fn reset(&self) {
        let mut pages = self.pages();
        *pages = Pages { numbers: pages.numbers, ..Pages::default() };
    }

    pub(crate) fn note(&self, mut seen: Seen) {
        seen.body.truncate(seen.body.floor_char_boundary(BODY_BYTES_MAX));
        let mut pages = self.pages();
        push(&mut pages.seen, seen);
    }

    fn charge(&self, charge: Charge) {
        let mut pages = self.pages();
        let bill = &mut pages.bill;
        bill.total += charge.cost;
        bill.requests += 1;
        bill.input_tokens += charge.input_tokens;
        bill.output_tokens += charge.output_tokens;
        bill.cache_read_tokens += charge.cache_read_tokens;
        bill.cache_write_tokens += charge.cache_write_tokens;
        *bill.by_provider.entry(charge.provider.clone()).or_default() += charge.cost;
        *bill.by_model.entry(charge.model.clone()).or_default() += charge.cost;
        push(&mut bill.entries, charge);
    }
}

fn push<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= ENTRIES_MAX {
        list.pop_front();
    }
    list.push_back(item);
}

/// The meter of one request. It charges when it is dropped: at the end of the answer, at a cut, or when the client
/// goes away, whichever comes first.
#[derive(Debug)]
pub(crate) struct Meter {
    books: Books,
    charge: Charge,
    price: Price,
    billing: Billing,
    /// The output tokens of the whole answer.
    whole: u64,
    produced_bytes: usize,
}

impl Meter {
    /// A meter for an answer of this usage.
    pub(crate) fn new(books: &Books, charge: Charge, price: Price, billing: Billing) -> Self {
        let whole = charge.output_tokens;
        let charge = Charge { output_tokens: 0, ..charge };
        Self { books: books.clone(), charge, price, billing, whole, produced_bytes: 0 }
    }

    /// So many bytes of content went out.
    pub(crate) fn produce(&mut self, bytes: usize) {
        self.produced_bytes += bytes;
    }

    /// The answer went out whole.
    pub(crate) fn complete(&mut self) {
        self.charge.complete = true;
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let output_tokens = match self.billing {
            Billing::Nothing => return,
            Billing::Whole => self.whole,
            Billing::Produced if self.charge.complete => self.whole,
            Billing::Produced => tokens::of_bytes(self.produced_bytes).min(self.whole),
        };
        let usage = Usage {
            input_tokens: self.charge.input_tokens,
            output_tokens,
            cache_read_tokens: self.charge.cache_read_tokens,
            cache_write_tokens: self.charge.cache_write_tokens,
            ..Usage::default()
        };
        let charge = Charge { output_tokens, cost: self.price.cost(&usage), ..self.charge.clone() };
        self.books.charge(charge);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charged(billing: Billing, produced_bytes: usize, complete: bool) -> (u64, u64, i64) {
        let books = Books::default();
        let charge = Charge {
            request_id: "r".into(),
            client_request_id: None,
            provider: "p".into(),
            model: "m".into(),
            input_tokens: 10,
            output_tokens: 20,
            cache_read_tokens: 0,
            cache_write_tokens: 0,
            cost: Money::ZERO,
            complete: false,
            fault: None,
        };
        let price = Price { input: Money::from_dollars(1), output: Money::from_dollars(2), ..Price::FREE };
        let mut meter = Meter::new(&books, charge, price, billing);
        meter.produce(produced_bytes);
        if complete {
            meter.complete();
        }
        drop(meter);
        let bill = books.bill();
        (bill.input_tokens, bill.output_tokens, bill.total.nanos())
    }

    #[test]
    fn charges_what_was_produced() {
        assert_eq!(charged(Billing::Nothing, 0, false), (0, 0, 0));
        assert_eq!(charged(Billing::Produced, 0, false), (10, 0, 10_000), "the input, as soon as it began");
        assert_eq!(charged(Billing::Produced, 9, false), (10, 3, 16_000));
        assert_eq!(charged(Billing::Produced, 80, true), (10, 20, 50_000));
        assert_eq!(charged(Billing::Whole, 0, false), (10, 20, 50_000));
    }
}
