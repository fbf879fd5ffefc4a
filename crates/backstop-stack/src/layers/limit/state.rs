//! The limiter's state: two GCRA limits, a count of calls under way, and a queue by priority. Pure.

use crate::target::Limits;
use backstop_allowance::Gcra;
use backstop_call::{LimitHint, Priority, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// The longest that a provider's `retry-after` closes the door to everybody: what is longer is the planner's business.
const CLOSED_MAX: Duration = Duration::from_mins(5);
/// What an answer is taken to be before any was seen.
const OUTPUT_FIRST_GUESS: u64 = 1_000;

/// A place in the queue. The order is the queue's: a higher priority first, then who came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WaiterId {
    /// 0 is the highest.
    rank: u8,
    number: u64,
    tokens: u64,
}

/// What a call is taken to use before it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Tokens, input and output.
    pub tokens: u64,
}

/// What it did use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Actual {
    /// Whether it reached the provider and counts as a request there.
    pub sent: bool,
    /// Tokens, as the provider counts them: without what was read from its cache.
    pub tokens: u64,
    /// Output tokens of an answer, to learn from.
    pub output_tokens: Option<u64>,
    /// How long the provider wants to hear nothing more.
    pub closed_for: Option<Duration>,
}

/// Whether a waiting call may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may; what it is estimated to use is taken.
    Enter,
    /// It is the first and may go then, if nothing changes.
    At(Timestamp),
    /// It is not its turn, or all places are taken: wait to be woken.
    NotYet,
}

/// The state of one limiter.
#[derive(Debug, Clone)]
pub struct State {
    requests: Option<Gcra>,
    tokens: Option<Gcra>,
    concurrent: Option<usize>,
    under_way: usize,
    queue: BTreeSet<WaiterId>,
    next_number: u64,
    closed_until: Timestamp,
    output_average: Option<u64>,
}

impl State {
    /// A limiter that nothing has passed yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            requests: limits.requests.map(Gcra::new),
            tokens: limits.tokens.map(Gcra::new),
            concurrent: limits.concurrent,
            under_way: 0,
            queue: BTreeSet::new(),
            next_number: 0,
            closed_until: Timestamp::EPOCH,
            output_average: None,
        }
    }

    /// Lets a call in that need not wait, or gives it a place in the queue.
    pub fn arrive(&mut self, now: Timestamp, priority: Priority, estimate: Estimate) -> Result<(), WaiterId> {
        let rank = match priority {
            Priority::Interactive => 0,
            Priority::Standard => 1,
            Priority::Batch => 2,
        };
        let id = WaiterId { rank, number: self.next_number, tokens: estimate.tokens };
        self.next_number += 1;
        self.queue.insert(id);
        match self.ask(now, id) {
            Verdict::Enter => Ok(()),
            Verdict::At(_) | Verdict::NotYet => Err(id),
        }
    }

    /// May this one go now? Takes what it needs if so.
    pub fn ask(&mut self, now: Timestamp, id: WaiterId) -> Verdict {
        if self.first() != Some(id) || self.concurrent.is_some_and(|most| self.under_way >= most) {
            return Verdict::NotYet;
        }
        if self.closed_until > now {
            return Verdict::At(self.closed_until);
        }
        let (mut requests, mut tokens) = (self.requests, self.tokens);
        let request_wait = requests.as_mut().and_then(|limit| limit.take(now, 1).err());
        let token_wait = tokens.as_mut().and_then(|limit| limit.take(now, id.tokens).err());
        if let Some(wait) = request_wait.max(token_wait) {
            return Verdict::At(now + wait);
        }
        (self.requests, self.tokens) = (requests, tokens);
        self.under_way += 1;
        self.queue.remove(&id);
        Verdict::Enter
    }

    /// Takes one out of the queue that no longer waits.
    pub fn forget(&mut self, id: WaiterId) {
        self.queue.remove(&id);
    }

    /// Who is to go next.
    pub fn first(&self) -> Option<WaiterId> {
        self.queue.first().copied()
    }

    /// A call is over: its estimate becomes what it used, and what the provider says is left caps what we think is left.
    pub fn leave(&mut self, now: Timestamp, estimate: Estimate, actual: Actual, hint: LimitHint) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(limit) = &mut self.requests {
            limit.settle(1, u64::from(actual.sent));
            if let Some(remaining) = hint.requests_remaining {
                limit.cap(now, remaining);
            }
        }
        if let Some(limit) = &mut self.tokens {
            limit.settle(estimate.tokens, actual.tokens);
            if let Some(remaining) = hint.tokens_remaining {
                limit.cap(now, remaining);
            }
        }
        if let Some(span) = actual.closed_for {
            self.closed_until = self.closed_until.max(now + span.min(CLOSED_MAX));
        }
        if let Some(tokens) = actual.output_tokens {
            // One part in eight is new: the average follows the last dozen answers.
            let average = self.output_average.unwrap_or(tokens);
            self.output_average = Some((average * 7 + tokens).div_ceil(8));
        }
    }

    /// What an answer is taken to be: twice the average of the last ones.
    pub fn output_likely(&self) -> u64 {
        self.output_average.map_or(OUTPUT_FIRST_GUESS, |average| average * 2)
    }
}
