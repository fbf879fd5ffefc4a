//! The numbers over time, as pages show them: what the store has counted, put into plots and shares. Nothing is counted here, and no
//! event is read.

use super::figures::{Bar, Plot, Share};
use super::text;
use crate::gateway::approvals::Refused;
use crate::numbers::Numbers;
use backstop_call::Timestamp;
use backstop_journal::projections::numbers::{By, Chart, Figures, Grain, Row, Window};
use std::time::Duration;

/// How far back is looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Span {
    #[default]
    Day,
    Week,
    Month,
}

impl Span {
    pub(super) const ALL: [Self; 3] = [Self::Day, Self::Week, Self::Month];

    /// What an address asks for; a day where it asks for nothing that there is.
    pub(super) fn of(asked: Option<&str>) -> Self {
        Self::ALL.into_iter().find(|span| Some(span.word()) == asked).unwrap_or_default()
    }

    /// As it stands in an address.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Day => "24 hours",
            Self::Week => "7 days",
            Self::Month => "30 days",
        }
    }

    fn hours(self) -> u64 {
        match self {
            Self::Day => 24,
            Self::Week => 7 * 24,
            Self::Month => 30 * 24,
        }
    }

    fn since(self, now: Timestamp) -> Timestamp {
        now - Duration::from_hours(self.hours())
    }
}

/// What is shown of some time: the figures over all of it, and how they came about.
pub(super) struct Overview {
    span: Span,
    whole: Figures,
    /// Since midnight, UTC.
    today: Figures,
    chart: Chart,
}

/// Reads what an overview shows.
pub(super) async fn overview(numbers: &Numbers, span: Span, now: Timestamp) -> Result<Overview, Refused> {
    let since = span.since(now);
    Ok(Overview {
        span,
        whole: only(numbers.window(since, now, By::All).await?),
        today: only(numbers.window(Grain::Day.start(now), now, By::All).await?),
        chart: numbers.chart(since, now, By::All).await?,
    })
}

/// The one row of a window that nothing sets apart.
fn only(window: Window) -> Figures {
    window.rows.into_iter().next().map(|row| row.figures).unwrap_or_default()
}

impl Overview {
    /// Whether there were runs at all.
    pub(super) fn has_runs(&self) -> bool {
        self.whole.runs_created > 0 || !self.whole.runs_ended.is_empty()
    }

    /// Whether there were model calls at all.
    pub(super) fn has_calls(&self) -> bool {
        self.whole.calls() > 0
    }

    /// The four numbers of runs.
    pub(super) fn of_runs(&self) -> [Plot; 4] {
        let done = self.whole.ended("done");
        let ended: u64 = self.whole.runs_ended.values().sum();
        [
            Plot {
                title: "Tasks done per hour",
                whole: per_hour(done, self.span.hours()),
                beside: format!("{} done of {} ended", text::grouped(done), text::grouped(ended)),
                bars: self.bars(|figures| {
                    let done = figures.ended("done");
                    (Some(done), text::grouped(done))
                }),
            },
            Plot {
                title: "Success rate",
                whole: permille(self.whole.success_permille()),
                beside: format!(
                    "{} failed, {} stopped",
                    self.whole.ended("failed"),
                    self.whole.ended("stopped")
                ),
                bars: self.bars(|figures| {
                    let rate = figures.success_permille();
                    (rate, permille(rate))
                }),
            },
            self.cost(),
            Plot {
                title: "Duration, 95 of 100",
                whole: span_or_none(self.whole.run_took.percentile(95)),
                beside: format!(
                    "half take no longer than {}",
                    span_or_none(self.whole.run_took.percentile(50))
                ),
                bars: self.bars(|figures| {
                    let took = figures.run_took.percentile(95);
                    (took.map(millis), span_or_none(took))
                }),
            },
        ]
    }

    /// The numbers of model calls, of runs and of clients alike.
    pub(super) fn of_calls(&self) -> [Plot; 4] {
        let tokens = &self.whole.tokens;
        [
            Plot {
                title: "Model calls per hour",
                whole: per_hour(self.whole.calls(), self.span.hours()),
                beside: format!(
                    "{}, {}",
                    text::count(self.whole.calls(), "call"),
                    retries(self.whole.retries)
                ),
                bars: self.bars(|figures| (Some(figures.calls()), text::grouped(figures.calls()))),
            },
            Plot {
                title: "Calls answered",
                whole: permille(answered(&self.whole)),
                beside: format!("{} failed", text::grouped(self.whole.failed_calls())),
                bars: self.bars(|figures| (answered(figures), permille(answered(figures)))),
            },
            Plot {
                title: "Tokens",
                whole: text::tokens(tokens.total()),
                beside: format!(
                    "{} in, {} out, {} from caches",
                    text::tokens(tokens.input),
                    text::tokens(tokens.output),
                    text::tokens(tokens.cache_read)
                ),
                bars: self
                    .bars(|figures| (Some(figures.tokens.total()), text::grouped(figures.tokens.total()))),
            },
            Plot {
                title: "First token, 95 of 100",
                whole: span_or_none(self.whole.first_token.percentile(95)),
                beside: format!("half come within {}", span_or_none(self.whole.first_token.percentile(50))),
                bars: self.bars(|figures| {
                    let first = figures.first_token.percentile(95);
                    (first.map(millis), span_or_none(first))
                }),
            },
        ]
    }

    fn cost(&self) -> Plot {
        Plot {
            title: "Cost today",
            whole: self.today.cost.to_string(),
            beside: format!("{} in {}", self.whole.cost, self.span.words()),
            bars: self.bars(|figures| (u64::try_from(figures.cost.nanos()).ok(), figures.cost.to_string())),
        }
    }

    fn bars(&self, of: impl Fn(&Figures) -> (Option<u64>, String)) -> Vec<Bar> {
        let nothing = Figures::default();
        let bar = |point: &backstop_journal::projections::numbers::Point| {
            let (value, said) = of(point.rows.get("").unwrap_or(&nothing));
            Bar { when: when(point.start, self.chart.grain), value, said }
        };
        self.chart.points.iter().map(bar).collect()
    }
}

/// What was spent in some time, set apart by something.
pub(super) async fn spending(
    numbers: &Numbers,
    span: Span,
    by: By,
    now: Timestamp,
) -> Result<Vec<Share>, Refused> {
    let mut window = numbers.window(span.since(now), now, by).await?;
    if by == By::Day {
        // The newest first.
        window.rows.reverse();
    }
    Ok(window.rows.into_iter().filter(|row| row.figures.calls() > 0).map(share).collect())
}

/// The heads of what [`spending`] tells beside the cost.
pub(super) const SPENDING_HEADS: [&str; 4] = ["Calls", "Failed", "Tokens in", "Tokens out"];

fn share(row: Row) -> Share {
    let Row { name, figures } = row;
    let tokens = &figures.tokens;
    let input = tokens.input + tokens.cache_read + tokens.cache_write;
    let more = vec![
        text::grouped(figures.calls()),
        text::grouped(figures.failed_calls()),
        text::tokens(input),
        text::tokens(tokens.output),
    ];
    Share { name, cost: figures.cost, more }
}

fn answered(figures: &Figures) -> Option<u64> {
    (figures.calls_ok * 1_000).checked_div(figures.calls())
}

fn retries(count: u64) -> String {
    if count == 1 { "1 retry".to_owned() } else { format!("{} retries", text::grouped(count)) }
}

/// A rate to one place.
fn per_hour(count: u64, hours: u64) -> String {
    let tenths = count * 10 / hours.max(1);
    match (count, tenths) {
        (1.., 0) => "< 0.1".to_owned(),
        (_, 0..1_000) => format!("{}.{}", tenths / 10, tenths % 10),
        _ => text::grouped(tenths / 10),
    }
}

/// A share to one place, where there is one.
fn permille(share: Option<u64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{}.{} %", share / 10, share % 10))
}

fn span_or_none(span: Option<Duration>) -> String {
    span.map_or_else(|| "–".to_owned(), text::span)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A stretch of time as a chart names it.
fn when(start: Timestamp, grain: Grain) -> String {
    let text = start.rfc3339();
    match grain {
        Grain::Minute | Grain::Hour => format!("{} {}", &text[5..10], &text[11..16]),
        Grain::Day | Grain::Whole => text[..10].to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_said_to_one_place_and_something_is_never_nothing() {
        let rates = [(0, "0.0"), (1, "< 0.1"), (3, "0.1"), (60, "2.5"), (2_400, "100"), (240_000, "10,000")];
        for (count, want) in rates {
            assert_eq!(per_hour(count, 24), want, "{count}");
        }
        assert_eq!(
            [None, Some(0), Some(999), Some(1_000)].map(permille),
            ["–", "0.0 %", "99.9 %", "100.0 %"]
        );
    }

    #[test]
    fn an_address_asks_for_a_span_that_there_is() {
        for span in Span::ALL {
            assert_eq!(Span::of(Some(span.word())), span);
        }
        assert_eq!([Span::of(None), Span::of(Some("year"))], [Span::Day, Span::Day]);
    }
}
