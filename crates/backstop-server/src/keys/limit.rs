//! How much a key may do at once: requests and tokens per minute, calls at the same time. [`Limits`] decides and waits for
//! nothing; [`Pass`] holds a place until the call is over, however it ends.

use super::ring::Key;
use backstop_allowance::{Gcra, Rate};
use backstop_call::Timestamp;
use backstop_journal::event::KeyScope;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a client is told to wait when all places are taken: nobody knows when one becomes free.
const PLACE_WAIT: Duration = Duration::from_secs(1);

/// A limit of a key, with its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyLimit {
    /// Requests per minute.
    Requests(u64),
    /// Tokens per minute, input and output together.
    Tokens(u64),
    /// Calls at the same time.
    Concurrent(u32),
}

/// `60 requests per minute`, `4 calls at the same time`.
impl fmt::Display for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requests(limit) => write!(f, "{limit} requests per minute"),
            Self::Tokens(limit) => write!(f, "{limit} tokens per minute"),
            Self::Concurrent(limit) => write!(f, "{limit} calls at the same time"),
        }
    }
}

/// A limit has no room. Nothing was taken of any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// The limit.
    pub limit: KeyLimit,
    /// When to try again.
    pub wait: Duration,
}

/// The state of a key's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    requests: Option<(u64, Gcra)>,
    tokens: Option<(u64, Gcra)>,
    concurrent: Option<u32>,
    under_way: u32,
}

impl Limits {
    /// Limits that nothing has used yet.
    pub fn new(scope: &KeyScope) -> Self {
        let rate = |limit: u64| (limit, Gcra::new(Rate::per_minute(limit)));
        Self {
            requests: scope.requests_per_minute.map(rate),
            tokens: scope.tokens_per_minute.map(rate),
            concurrent: scope.concurrent,
            under_way: 0,
        }
    }

    /// Takes a place, a request and `tokens`, or nothing at all.
    pub fn enter(&mut self, now: Timestamp, tokens: u64) -> Result<(), Full> {
        if let Some(limit) = self.concurrent
            && self.under_way >= limit
        {
            return Err(Full { limit: KeyLimit::Concurrent(limit), wait: PLACE_WAIT });
        }
        // On copies: what is refused by the second limit must not be taken of the first.
        let (mut requests, mut budget) = (self.requests, self.tokens);
        if let Some((limit, requests)) = &mut requests {
            requests.take(now, 1).map_err(|wait| Full { limit: KeyLimit::Requests(*limit), wait })?;
        }
        if let Some((limit, budget)) = &mut budget {
            budget.take(now, tokens).map_err(|wait| Full { limit: KeyLimit::Tokens(*limit), wait })?;
        }
        (self.requests, self.tokens) = (requests, budget);
        self.under_way += 1;
        Ok(())
    }

    /// Gives the place back, and corrects what was estimated to what was used.
    pub fn leave(&mut self, estimated: u64, used: u64) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some((_, budget)) = &mut self.tokens {
            budget.settle(estimated, used);
        }
    }

    /// Calls under way.
    pub fn under_way(&self) -> u32 {
        self.under_way
    }
}

/// A call that came in with a key and is not over. Dropping it gives its place back; its tokens stay as they were
/// estimated, because unknown is never zero.
#[derive(Debug)]
pub struct Pass {
    key: Arc<Key>,
    estimated: u64,
    used: u64,
}

impl Pass {
    pub(super) fn new(key: Arc<Key>, estimated: u64) -> Self {
        Self { key, estimated, used: estimated }
    }

    /// The key.
    pub fn key(&self) -> &Arc<Key> {
        &self.key
    }

    /// The call is over and used so many tokens, input and output; 0 when nothing was sent.
    pub fn settle(mut self, tokens: u64) {
        self.used = tokens;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.key.leave(self.estimated, self.used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Timestamp = Timestamp::from_secs(1_000);

    fn limits(requests: Option<u64>, tokens: Option<u64>, concurrent: Option<u32>) -> Limits {
        let (requests_per_minute, tokens_per_minute) = (requests, tokens);
        Limits::new(&KeyScope { requests_per_minute, tokens_per_minute, concurrent, ..KeyScope::default() })
    }

    fn full(limit: KeyLimit, wait_ms: u64) -> Result<(), Full> {
        Err(Full { limit, wait: Duration::from_millis(wait_ms) })
    }

    #[test]
    fn a_key_without_limits_is_never_full() {
        let mut free = limits(None, None, None);
        let all_in = (0..10_000).all(|_| free.enter(START, u64::MAX).is_ok());
        assert!(all_in && free.under_way() == 10_000);
    }

    #[test]
    fn each_limit_says_when_to_come_again() {
        let mut two = limits(Some(2), None, None);
        assert_eq!([two.enter(START, 1), two.enter(START, 1)], [Ok(()); 2]);
        assert_eq!(two.enter(START, 1), full(KeyLimit::Requests(2), 30_000));
        assert_eq!(two.enter(START + Duration::from_secs(30), 1), Ok(()));
        let mut tokens = limits(None, Some(600), None);
        assert_eq!(tokens.enter(START, 600), Ok(()));
        assert_eq!(tokens.enter(START, 10), full(KeyLimit::Tokens(600), 1_000));
        let mut places = limits(None, None, Some(1));
        assert_eq!(places.enter(START, 1), Ok(()));
        assert_eq!(places.enter(START, 1), full(KeyLimit::Concurrent(1), 1_000));
        places.leave(1, 1);
        assert_eq!(places.enter(START, 1), Ok(()));
    }

    #[test]
    fn what_is_refused_takes_nothing() {
        let mut both = limits(Some(2), Some(100), Some(5));
        assert_eq!(both.enter(START, 100), Ok(()));
        for _ in 0..10 {
            let before = both.clone();
            assert!(matches!(both.enter(START, 100), Err(Full { limit: KeyLimit::Tokens(100), .. })));
            assert_eq!(both, before);
        }
        both.leave(100, 0);
        assert_eq!(both.enter(START, 100), Ok(()), "the second request is still there");
    }

    #[test]
    fn an_estimate_is_corrected_to_what_was_used() {
        let mut tokens = limits(None, Some(600), None);
        assert_eq!(tokens.enter(START, 600), Ok(()));
        tokens.leave(600, 100);
        assert_eq!(tokens.enter(START, 500), Ok(()));
        tokens.leave(500, 800);
        assert_eq!(tokens.enter(START, 1), full(KeyLimit::Tokens(600), 30_100), "300 more than was left");
    }

    #[derive(Debug, Clone)]
    enum Act {
        Enter { pause_ms: u64, tokens: u64 },
        Leave { used: u64 },
    }

    fn act() -> impl Strategy<Value = Act> {
        prop_oneof![
            (0_u64..3_000, 0_u64..200).prop_map(|(pause_ms, tokens)| Act::Enter { pause_ms, tokens }),
            (0_u64..200).prop_map(|used| Act::Leave { used }),
        ]
    }

    proptest! {
        /// Whatever comes and goes: never more calls at once than allowed, never more requests than the burst and what
        /// the time since has given; what is refused changes nothing.
        #[test]
        fn no_history_gets_past_the_limits(acts in prop::collection::vec(act(), 1..200)) {
            let mut limits = limits(Some(30), Some(1_000), Some(3));
            let (mut now, mut open, mut requests) = (START, Vec::new(), 0_u128);
            for act in acts {
                match act {
                    Act::Enter { pause_ms, tokens } => {
                        now = now + Duration::from_millis(pause_ms);
                        let before = limits.clone();
                        if limits.enter(now, tokens).is_ok() {
                            open.push(tokens);
                            requests += 1;
                        } else {
                            prop_assert_eq!(&limits, &before);
                        }
                    }
                    Act::Leave { used } => {
                        if let Some(estimated) = open.pop() {
                            limits.leave(estimated, used);
                        }
                    }
                }
                prop_assert_eq!(usize::try_from(limits.under_way()).unwrap(), open.len());
                prop_assert!(open.len() <= 3);
                prop_assert!(requests <= 30 + now.since(START).as_millis() * 30 / 60_000 + 1);
            }
        }
    }
}
