//! What can be counted, by which labels, and what is kept of it.

use super::Spread;
use backstop_call::{Money, Usage};
use serde::Serialize;

/// How many series one family keeps. What comes beyond is counted together by outcome, with [`OVERFLOW`] in every
/// other label.
pub const SERIES_MAX: usize = 1_000;

/// The value of every label of what was too much.
pub const OVERFLOW: &str = "overflow";

/// The most characters of a label's value: a model can write a tool's name of any length.
pub const LABEL_CHARS_MAX: usize = 128;

macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = $text:literal $labels:expr,)*) => {
        /// What is counted.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Family {
            $($(#[$doc])* $name,)*
        }

        impl Family {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name as a store keeps it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The names of its labels, in their order.
            pub fn labels(self) -> &'static [&'static str] {
                match self { $(Self::$name => $labels,)* }
            }
        }
    };
}

families! {
    /// Model calls that ended: how many, retries, tokens, cost, how long they took, and their first tokens.
    Calls = "calls" &["agent", "role", "model", "provider", "key", "outcome"],
    /// Attempts of calls at a provider. One that failed is counted by the event that tells of it, one that succeeded by
    /// the end of its call.
    Attempts = "attempts" &["provider", "model", "outcome"],
    /// Tool calls that came back, or did not: how many, and how long they took.
    Tools = "tools" &["agent", "role", "tool", "outcome"],
    /// Runs that were created, and how they ended or stopped: how many, and how long after they were created.
    Runs = "runs" &["agent", "role", "status"],
    /// Questions that were asked, and what was answered: how many, and how long after they were asked.
    Approvals = "approvals" &["agent", "role", "tool", "answer"],
    /// Thresholds that budgets passed.
    Budgets = "budgets" &["account", "percent"],
    /// Keys that were used from an address for the first time.
    Addresses = "addresses" &["key"],
    /// Amounts that were suspended or overran.
    Money = "money" &["what"],
    /// How often a breaker opened; its state in [`Sums::level`].
    Breakers = "breakers" &["provider", "model"],
    /// How many stand so at present: runs that are not over, questions that wait. Only over the whole.
    Standing = "standing" &["what", "state"],
    /// Events by kind.
    Events = "events" &["kind"],
}

impl Family {
    /// Whether its last label has a few values that Backstop itself gives: an outcome, a status.
    pub fn ends_in_outcome(self) -> bool {
        match self {
            Self::Calls | Self::Attempts | Self::Tools | Self::Runs | Self::Approvals | Self::Budgets => true,
            Self::Addresses | Self::Money | Self::Breakers | Self::Standing | Self::Events => false,
        }
    }

    /// The family of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|family| family.as_str() == name)
    }
}

/// A family with a value for each of its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Series {
    /// The family.
    pub family: Family,
    /// The values, in the order of [`Family::labels`].
    pub labels: Vec<String>,
}

impl Series {
    /// The series of these values.
    pub fn new<const N: usize>(family: Family, labels: [&str; N]) -> Self {
        debug_assert_eq!(N, family.labels().len());
        Self { family, labels: labels.map(str::to_owned).into() }
    }

    /// The series that this one is counted under when its family has no room for it. The outcome stays.
    #[must_use]
    pub fn overflow(&self) -> Self {
        let mut labels = vec![OVERFLOW.to_owned(); self.labels.len()];
        if self.family.ends_in_outcome()
            && let (Some(to), Some(outcome)) = (labels.last_mut(), self.labels.last())
        {
            to.clone_from(outcome);
        }
        Self { family: self.family, labels }
    }

    /// The value of a label. `None` where the family has none of that name.
    pub fn label(&self, name: &str) -> Option<&str> {
        let place = self.family.labels().iter().position(|label| *label == name)?;
        self.labels.get(place).map(String::as_str)
    }
}

/// Tokens by kind; the kinds do not overlap, but for reasoning, which is a part of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tokens {
    /// Input that was neither read from nor written to the provider's cache.
    pub input: u64,
    /// Output.
    pub output: u64,
    /// Input read from the cache.
    pub cache_read: u64,
    /// Input written to the cache.
    pub cache_write: u64,
    /// The part of the output that was reasoning.
    pub reasoning: u64,
}

impl From<&Usage> for Tokens {
    fn from(usage: &Usage) -> Self {
        Self {
            input: usage.input_tokens,
            output: usage.output_tokens,
            cache_read: usage.cache_read_tokens,
            cache_write: usage.cache_write_tokens,
            reasoning: usage.reasoning_tokens,
        }
    }
}

impl Tokens {
    /// Adds others.
    pub fn add(&mut self, other: &Self) {
        self.input += other.input;
        self.output += other.output;
        self.cache_read += other.cache_read;
        self.cache_write += other.cache_write;
        self.reasoning += other.reasoning;
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.input + self.output + self.cache_read + self.cache_write
    }
}

/// What is kept of a series in a stretch of time. What a family has no use for stays zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sums {
    /// How many. Below zero only where what stands is counted, in a part of the whole.
    pub count: i64,
    /// Attempts after the first.
    pub retries: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What it cost, suspense included.
    pub cost: Money,
    /// How long it took.
    pub took: Spread,
    /// How long the first token took.
    pub first_token: Spread,
    /// The last state, where a state is told: of a breaker 0 closed, 1 half open, 2 open.
    pub level: Option<u8>,
}

impl Sums {
    /// Adds what came later.
    pub fn merge(&mut self, later: &Self) {
        self.count += later.count;
        self.retries += later.retries;
        self.tokens.add(&later.tokens);
        self.cost += later.cost;
        self.took.merge(&later.took);
        self.first_token.merge(&later.first_token);
        self.level = later.level.or(self.level);
    }
}
