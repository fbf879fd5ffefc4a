//! Money: whole nano-dollars in an `i64`. No floats decide anything.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

/// An amount in nano-dollars (1e-9 USD). The range is about ±9.2 billion dollars; one nano-dollar is the price of
/// one token at $0.001 per million.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Money(i64);

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than anybody has: the limit of what has no limit.
    pub const MAX: Self = Self(i64::MAX);

    /// An amount in nano-dollars.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Whole dollars. Saturates at the range's end.
    pub const fn from_dollars(dollars: i64) -> Self {
        Self(dollars.saturating_mul(1_000_000_000))
    }

    /// The amount in nano-dollars.
    pub const fn nanos(self) -> i64 {
        self.0
    }

    /// The exact amount in dollars, without sign of currency: `12.345`, `-0.0042`, `0`. [`fmt::Display`] rounds from a
    /// dollar up; this never does, and is what logs and metrics carry.
    pub fn decimal(self) -> String {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        let (dollars, fraction) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
        if fraction == 0 {
            return format!("{sign}{dollars}");
        }
        let digits = format!("{fraction:09}");
        format!("{sign}{dollars}.{}", digits.trim_end_matches('0'))
    }

    /// Adds, stopping at the range's end instead of wrapping.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// Subtracts, stopping at the range's end instead of wrapping.
    #[must_use]
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// `percent` hundredths of the amount, rounded down.
    #[must_use]
    pub fn percent(self, percent: u32) -> Self {
        Self(i64::try_from(i128::from(self.0) * i128::from(percent) / 100).unwrap_or(i64::MAX))
    }
}

impl Add for Money {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.saturating_add(other)
    }
}

impl AddAssign for Money {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Money {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.saturating_sub(other)
    }
}

impl SubAssign for Money {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Money {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Self::add)
    }
}

/// Two decimals from a dollar up, else as many as the amount needs (at least two): `$12.30`, `$0.0042`, `$0.00`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.0 < 0 { "-" } else { "" };
        let nanos = self.0.unsigned_abs();
        if nanos >= 1_000_000_000 {
            let cents = nanos.saturating_add(5_000_000) / 10_000_000;
            return write!(f, "{sign}${}.{:02}", cents / 100, cents % 100);
        }
        let (mut digits, mut rest) = ([b'0'; 9], nanos);
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789"[usize::try_from(rest % 10).unwrap_or(0)];
            rest /= 10;
        }
        let kept = digits.iter().rposition(|digit| *digit != b'0').map_or(2, |last| (last + 1).max(2));
        f.write_str(sign)?;
        f.write_str("$0.")?;
        f.write_str(std::str::from_utf8(&digits[..kept]).unwrap_or_default())
    }
}

/// Reads what config says: `5`, `5.00`, `$0.25`; at most nine decimals.
impl FromStr for Money {
    type Err = MoneyError;

    fn from_str(text: &str) -> Result<Self, MoneyError> {
        let bad = || MoneyError { text: text.to_owned() };
        let amount = text.trim().strip_prefix('$').unwrap_or(text.trim());
        let (dollars, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if dollars.is_empty() || fraction.len() > 9 || !digits(dollars) || !digits(fraction) {
            return Err(bad());
        }
        let nanos: i64 = format!("{dollars}{fraction:0<9}").parse().map_err(|_| bad())?;
        Ok(Self(nanos))
    }
}

/// A text that is no amount of dollars.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no amount of dollars (write it like 5 or 0.25)")]
pub struct MoneyError {
    text: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_shows() {
        let rows = [
            ("5", "$5.00"),
            ("$0.25", "$0.25"),
            ("0.000000001", "$0.000000001"),
            ("0.0042", "$0.0042"),
            ("0", "$0.00"),
            ("12.345", "$12.35"),
            ("1000000", "$1000000.00"),
        ];
        for (text, shown) in rows {
            assert_eq!(text.parse::<Money>().unwrap().to_string(), shown, "{text}");
        }
        for bad in ["", "-1", "1.0000000001", "five", "1e3", "99999999999", "1.-1"] {
            assert!(bad.parse::<Money>().is_err(), "{bad}");
        }
    }

    #[test]
    fn decimals_are_exact() {
        for text in ["0", "5", "0.000000001", "12.345678901", "9223372036.854775807"] {
            assert_eq!(text.parse::<Money>().unwrap().decimal(), text);
        }
        assert_eq!(Money::from_nanos(-4_200_000).decimal(), "-0.0042");
        assert_eq!(Money::from_nanos(i64::MIN).decimal(), "-9223372036.854775808");
    }

    #[test]
    fn never_wraps() {
        assert_eq!(Money::MAX + Money::from_nanos(1), Money::MAX);
        assert_eq!(Money::MAX.percent(80).nanos(), 7_378_697_629_483_820_645);
    }
}
