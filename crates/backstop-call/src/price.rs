//! What tokens cost.

use crate::{Money, Usage};
use serde::{Deserialize, Serialize};

/// A model's price: nano-dollars per million tokens of each kind, and per request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Price {
    /// Input that was not cached, per million tokens.
    pub input: Money,
    /// Output, reasoning included, per million tokens.
    pub output: Money,
    /// Input read from the provider's cache, per million tokens.
    #[serde(default)]
    pub cache_read: Money,
    /// Input written to the provider's cache, per million tokens.
    #[serde(default)]
    pub cache_write: Money,
    /// Each request, whatever its size.
    #[serde(default)]
    pub request: Money,
}

impl Price {
    /// A model that costs nothing, on a machine of the owner's.
    pub const FREE: Self = Self {
        input: Money::ZERO,
        output: Money::ZERO,
        cache_read: Money::ZERO,
        cache_write: Money::ZERO,
        request: Money::ZERO,
    };

    /// What this usage costs, rounded up to a whole nano-dollar.
    pub fn cost(&self, usage: &Usage) -> Money {
        let tokens = |count: u64, price: Money| i128::from(count) * i128::from(price.nanos());
        let per_million = tokens(usage.input_tokens, self.input)
            + tokens(usage.output_tokens, self.output)
            + tokens(usage.cache_read_tokens, self.cache_read)
            + tokens(usage.cache_write_tokens, self.cache_write);
        let nanos = (per_million + 999_999).div_euclid(1_000_000);
        self.request + Money::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    /// The most a request may cost: every input token at the dearest input price (it may be written to the cache),
    /// and all the output that it allows.
    pub fn worst_case(&self, input_tokens: u64, output_tokens: u64) -> Money {
        let dearest = Self { input: self.input.max(self.cache_write).max(self.cache_read), ..*self };
        dearest.cost(&Usage { input_tokens, output_tokens, ..Usage::default() })
    }

    /// For each kind the dearer of the two: what an unknown model of a provider is reserved at.
    #[must_use]
    pub fn dearest(self, other: Self) -> Self {
        Self {
            input: self.input.max(other.input),
            output: self.output.max(other.output),
            cache_read: self.cache_read.max(other.cache_read),
            cache_write: self.cache_write.max(other.cache_write),
            request: self.request.max(other.request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_and_counts_each_kind() {
        let dollars = Money::from_dollars;
        let price = Price {
            input: dollars(3),
            output: dollars(15),
            cache_read: Money::from_nanos(300_000_000),
            cache_write: Money::from_nanos(3_750_000_000),
            request: Money::ZERO,
        };
        let usage = Usage {
            input_tokens: 1_000,
            output_tokens: 100,
            cache_read_tokens: 10_000,
            cache_write_tokens: 1_000,
            ..Usage::default()
        };
        assert_eq!(price.cost(&usage).nanos(), 3_000_000 + 1_500_000 + 3_000_000 + 3_750_000);
        let tiny = Price { input: Money::from_nanos(1), ..Price::FREE };
        assert_eq!(
            tiny.cost(&Usage { input_tokens: 1, ..Usage::default() }).nanos(),
            1,
            "never rounds to nothing"
        );
        assert!(price.worst_case(12_000, 100) >= price.cost(&usage));
    }
}
