//! Figures to be seen: gauges and charts, drawn by the server. Each stands as a number beside its picture or in a table behind it,
//! for whoever does not see it. What is drawn was counted elsewhere.

use super::text;
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

/// A figure over time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// The figure over all of the time, as it is said.
    pub(super) whole: String,
    /// What else there is to say of it.
    pub(super) beside: String,
    pub(super) bars: Vec<Bar>,
}

/// A stretch of time in a plot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bar {
    /// When it was.
    pub(super) when: String,
    /// How high it is; `None` where there is nothing to say.
    pub(super) value: Option<u64>,
    /// The value as it is said.
    pub(super) said: String,
}

/// How wide a stretch is drawn, and how much of that is left free.
const BAR_WIDTH: u64 = 10;
const BAR_GAP: u64 = 2;
const PLOT_HEIGHT: u64 = 60;

/// A plot, with a table of the same.
pub(super) fn plot(plot: &Plot) -> Markup {
    html! {
        figure.plot {
            figcaption { (plot.title) }
            p.whole { (plot.whole) }
            p.dim { (plot.beside) }
            (bars(&plot.bars))
            details {
                summary { "As a table" }
                div.scroll tabindex="0" role="region" aria-label={ (plot.title) ", as a table" } { table {
                    thead { tr { th scope="col" { "From (UTC)" } th.number scope="col" { (plot.title) } } }
                    tbody {
                        // The newest first: what is looked for is there without a scroll.
                        @for bar in plot.bars.iter().rev() { tr { td { (bar.when) } td.number { (bar.said) } } }
                    }
                } }
            }
        }
    }
}

fn bars(bars: &[Bar]) -> Markup {
    let highest = bars.iter().filter_map(|bar| bar.value).max().unwrap_or(0).max(1);
    let width = BAR_WIDTH * bars.len().max(1) as u64;
    // Something is never drawn as nothing.
    let height = |value: u64| (value.saturating_mul(PLOT_HEIGHT) / highest).max(u64::from(value > 0));
    html! {
        svg.chart viewBox={ "0 0 " (width) " " (PLOT_HEIGHT) } preserveAspectRatio="none" aria-hidden="true" {
            line.ground x1="0" x2=(width) y1=(PLOT_HEIGHT) y2=(PLOT_HEIGHT) {}
            @for (place, bar) in (0_u64..).zip(bars) {
                @let height = height(bar.value.unwrap_or(0));
                @if height > 0 {
                    rect x=(place * BAR_WIDTH + BAR_GAP / 2) y=(PLOT_HEIGHT - height) width=(BAR_WIDTH - BAR_GAP) height=(height) {
                        title { (bar.when) ": " (bar.said) }
                    }
                }
            }
        }
    }
}

/// Parts of a whole by name, each with its share drawn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    /// What it is of; empty where that is not known.
    pub(super) name: String,
    pub(super) cost: Money,
    /// Further figures, in the order of the heads.
    pub(super) more: Vec<String>,
}

/// Shares in a table.
pub(super) fn shares(what: &str, heads: &[&str], shares: &[Share]) -> Markup {
    let most = shares.iter().map(|share| share.cost.nanos()).max().unwrap_or(0).max(1);
    let percent = |cost: Money| i128::from(cost.nanos().max(0)) * 100 / i128::from(most);
    html! {
        @if shares.is_empty() { p.empty { "Nothing was spent." } } @else {
            div.scroll tabindex="0" role="region" aria-label={ "Spending by " (what) } { table.shares {
                thead { tr {
                    th scope="col" { (text::capitalised(what)) } th.number scope="col" { "Cost" }
                    @for head in heads { th.number scope="col" { (head) } }
                } }
                tbody { @for share in shares { tr {
                    th scope="row" {
                        @if share.name.is_empty() { span.dim { "no " (what) } } @else { (text::line(&share.name, 60)) }
                        svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                            rect.part width=(percent(share.cost)) height="8" {}
                        }
                    }
                    td.number { (share.cost) }
                    @for figure in &share.more { td.number { (figure) } }
                } } }
            } }
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

    #[test]
    fn a_plot_draws_what_its_table_says() {
        let bar = |when: &str, value, said: &str| Bar { when: when.to_owned(), value, said: said.to_owned() };
        let bars = vec![
            bar("10:00", Some(0), "0"),
            bar("11:00", Some(1_000), "1,000"),
            bar("12:00", None, "–"),
            bar("13:00", Some(1), "1"),
            bar("14:00", Some(500), "500"),
        ];
        let shown = plot(&Plot { title: "Runs", whole: "1,501".to_owned(), beside: String::new(), bars }).0;
        let heights: Vec<_> =
            shown.split("height=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(heights, ["60", "1", "30"], "{shown}");
        assert!(
            shown.contains("viewBox=\"0 0 50 60\"") && shown.contains("<title>11:00: 1,000</title>"),
            "{shown}"
        );
        assert_eq!(shown.matches("<tr><td>").count(), 5);
        let largest = vec![bar("10:00", Some(u64::MAX), "much"), bar("11:00", Some(u64::MAX / 2), "less")];
        let shown = super::bars(&largest).0;
        assert!(shown.contains("height=\"1\"") || shown.contains("height=\"60\""), "{shown}");
    }
}
