//! Figures to be seen: gauges, drawn by the server. Each stands as a number beside its picture, for whoever does not see it.

use backstop_agent::visible_line;
use backstop_call::Money;
use maud::{Markup, html};

/// From here on a gauge is drawn as nearly full, in percent: where budgets warn.
const HIGH_PERCENT: i64 = 80;

/// What is used of what may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Gauge {
    pub(super) name: String,
    /// What is spent, and what may have been billed.
    pub(super) spent: Money,
    /// What calls under way may cost at worst.
    pub(super) held: Money,
    pub(super) limit: Money,
}

impl Gauge {
    /// A part of the limit, in percent, rounded up: a little is never nothing.
    fn percent(&self, part: Money) -> i64 {
        let (part, limit) = (i128::from(part.nanos().max(0)), i128::from(self.limit.nanos().max(1)));
        i64::try_from((part * 100 + limit - 1) / limit).unwrap_or(i64::MAX)
    }
}

/// Gauges, below each other.
pub(super) fn gauges(gauges: &[Gauge]) -> Markup {
    html! {
        @if gauges.is_empty() { p.empty { "No budget is set." } }
        ul.gauges { @for gauge in gauges { li { (one(gauge)) } } }
    }
}

fn one(gauge: &Gauge) -> Markup {
    let spent = gauge.percent(gauge.spent);
    let with_held = gauge.percent(gauge.spent + gauge.held);
    let level = match spent {
        100.. => "full",
        HIGH_PERCENT..100 => "high",
        _ => "part",
    };
    html! {
        p { strong { (visible_line(&gauge.name)) } span.number { (spent) " %" } }
        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
            rect.all width="100" height="8" {}
            rect.held width=(with_held.min(100)) height="8" {}
            rect class=(level) width=(spent.min(100)) height="8" {}
        }
        p.dim {
            (gauge.spent) " of " (gauge.limit)
            @if gauge.held > Money::ZERO { ", " (gauge.held) " held for calls under way" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_is_full_when_all_is_spent_and_empty_only_when_nothing_is() {
        let gauge = |spent: i64, held: i64, limit: i64| Gauge {
            name: "day".to_owned(),
            spent: Money::from_nanos(spent),
            held: Money::from_nanos(held),
            limit: Money::from_nanos(limit),
        };
        let rows = [
            (gauge(0, 0, 100), "0 %", "part"),
            (gauge(1, 0, 1_000_000), "1 %", "part"),
            (gauge(80, 0, 100), "80 %", "high"),
            (gauge(100, 0, 100), "100 %", "full"),
            (gauge(250, 0, 100), "250 %", "full"),
            (gauge(5, 0, 0), "500 %", "full"),
            (gauge(i64::MAX, 0, i64::MAX), "100 %", "full"),
        ];
        for (gauge, percent, level) in rows {
            let shown = one(&gauge).0;
            assert!(shown.contains(&format!(">{percent}<")) && shown.contains(level), "{gauge:?}: {shown}");
        }
        assert!(one(&gauge(10, 30, 100)).0.contains("<rect class=\"held\" width=\"40\""));
    }
}
