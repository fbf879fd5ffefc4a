//! What people look at: the figures of a stretch of time, in all or by one thing that sets them apart.

use super::{Cell, Family, Grain, Series, Spread, Sums, Tokens};
use backstop_call::{Money, Timestamp};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What sets figures apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Nothing: one row.
    All,
    /// The model or chain that was asked for.
    Model,
    /// The provider that was called.
    Provider,
    /// The role.
    Role,
    /// The agent.
    Agent,
    /// The key of the gateway.
    Key,
    /// The tool.
    Tool,
    /// The day, UTC.
    Day,
}

impl By {
    /// The families that have it, of those that figures are made of.
    pub fn families(self) -> &'static [Family] {
        use Family::{Addresses, Approvals, Attempts, Budgets, Calls, Runs, Tools};
        match self {
            Self::All | Self::Day => &[Calls, Attempts, Tools, Runs, Approvals, Budgets, Addresses],
            Self::Model => &[Calls],
            Self::Provider => &[Calls, Attempts],
            Self::Role | Self::Agent => &[Calls, Tools, Runs, Approvals],
            Self::Key => &[Calls, Addresses],
            Self::Tool => &[Tools, Approvals],
        }
    }

    /// The name of the row that a cell belongs to. The model of an attempt is the provider's name for it, and no model
    /// that was asked for: of some families a label means something else.
    fn name(self, cell: &Cell) -> Option<String> {
        if !self.families().contains(&cell.series.family) {
            return None;
        }
        let label = match self {
            Self::All => return Some(String::new()),
            Self::Day => return Some(Grain::Day.start(cell.start).date()),
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Role => "role",
            Self::Agent => "agent",
            Self::Key => "key",
            Self::Tool => "tool",
        };
        cell.series.label(label).map(str::to_owned)
    }
}

/// The middle of durations and their upper ends, each at most [`super::WORST_PERCENT`] off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// Half take no longer.
    pub p50: Option<Duration>,
    /// 95 of a hundred take no longer.
    pub p95: Option<Duration>,
    /// 99 of a hundred take no longer.
    pub p99: Option<Duration>,
}

impl From<&Spread> for Percentiles {
    fn from(spread: &Spread) -> Self {
        let at = |percent| spread.percentile(percent);
        Self { p50: at(50), p95: at(95), p99: at(99) }
    }
}

/// The figures of one row. What its families do not tell is zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs that were created.
    pub runs_created: u64,
    /// Runs that ended or stopped, by status.
    pub runs_ended: BTreeMap<String, u64>,
    /// How long runs took from their creation to an end, parked time included.
    pub run_took: Spread,
    /// Calls that were answered.
    pub calls_ok: u64,
    /// Calls that failed, by kind.
    pub calls_failed: BTreeMap<String, u64>,
    /// Attempts after the first.
    pub retries: u64,
    /// Attempts that failed, by kind.
    pub attempts_failed: BTreeMap<String, u64>,
    /// Attempts that succeeded.
    pub attempts_ok: u64,
    /// Tokens.
    pub tokens: Tokens,
    /// What calls cost, suspense included.
    pub cost: Money,
    /// How long calls took, waits and retries included.
    pub call_took: Spread,
    /// How long first tokens took.
    pub first_token: Spread,
    /// Tool calls that came back well.
    pub tools_ok: u64,
    /// Tool calls that came back with an error.
    pub tools_failed: u64,
    /// Tool calls of which it was not known whether they happened.
    pub tools_in_doubt: u64,
    /// How long tool calls took.
    pub tool_took: Spread,
    /// Questions that were asked.
    pub approvals_asked: u64,
    /// Questions that were answered, by answer.
    pub approvals_decided: BTreeMap<String, u64>,
    /// Thresholds that budgets passed.
    pub budget_warnings: u64,
    /// Keys that were used from an address for the first time.
    pub new_addresses: u64,
}

impl Figures {
    /// Adds a cell.
    pub fn add(&mut self, series: &Series, sums: &Sums) {
        let count = u64::try_from(sums.count).unwrap_or(0);
        let last = series.labels.last().map_or("", String::as_str);
        let named = |map: &mut BTreeMap<String, u64>| *map.entry(last.to_owned()).or_default() += count;
        match series.family {
            Family::Calls => {
                if last == "ok" {
                    self.calls_ok += count;
                } else {
                    named(&mut self.calls_failed);
                }
                self.retries += sums.retries;
                self.tokens.add(&sums.tokens);
                self.cost += sums.cost;
                self.call_took.merge(&sums.took);
                self.first_token.merge(&sums.first_token);
            }
            Family::Attempts if last == "ok" => self.attempts_ok += count,
            Family::Attempts => named(&mut self.attempts_failed),
            Family::Tools => {
                match last {
                    "ok" => self.tools_ok += count,
                    "in-doubt" => self.tools_in_doubt += count,
                    _ => self.tools_failed += count,
                }
                self.tool_took.merge(&sums.took);
            }
            Family::Runs if last == "created" => self.runs_created += count,
            Family::Runs => {
                named(&mut self.runs_ended);
                self.run_took.merge(&sums.took);
            }
            Family::Approvals if last == "asked" => self.approvals_asked += count,
            Family::Approvals => named(&mut self.approvals_decided),
            Family::Budgets => self.budget_warnings += count,
            Family::Addresses => self.new_addresses += count,
            Family::Money | Family::Breakers | Family::Standing | Family::Events => {}
        }
    }

    /// All calls that ended.
    pub fn calls(&self) -> u64 {
        self.calls_ok + self.failed_calls()
    }

    /// Calls that failed.
    pub fn failed_calls(&self) -> u64 {
        self.calls_failed.values().sum()
    }

    /// Runs that ended so.
    pub fn ended(&self, status: &str) -> u64 {
        self.runs_ended.get(status).copied().unwrap_or(0)
    }

    /// Of the runs that ended or stopped, the share that is done, in thousandths; those that somebody cancelled do not count.
    /// `None` where none ended.
    pub fn success_permille(&self) -> Option<u64> {
        let ended: u64 = self.runs_ended.values().sum::<u64>() - self.ended("cancelled");
        (self.ended("done") * 1_000).checked_div(ended)
    }
}

/// One row of a window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What sets it apart; empty where the events do not say it, and where nothing does.
    pub name: String,
    /// Its figures.
    pub figures: Figures,
}

/// The figures of a stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// Where it begins: no later than asked, at the beginning of what is kept.
    pub since: Timestamp,
    /// Where it ends.
    pub until: Timestamp,
    /// What sets its rows apart.
    pub by: By,
    /// Its rows: days in their order, others with the most spent first.
    pub rows: Vec<Row>,
}

impl Window {
    /// The window that these cells make up.
    pub fn of(by: By, (since, until): (Timestamp, Timestamp), cells: &[Cell]) -> Self {
        let mut rows: BTreeMap<String, Figures> = BTreeMap::new();
        for cell in cells {
            if let Some(name) = by.name(cell) {
                rows.entry(name).or_default().add(&cell.series, &cell.sums);
            }
        }
        if by == By::All {
            rows.entry(String::new()).or_default();
        }
        let mut rows: Vec<_> = rows.into_iter().map(|(name, figures)| Row { name, figures }).collect();
        if by != By::Day {
            let weight = |row: &Row| (row.figures.cost, row.figures.calls() + row.figures.tools_ok);
            rows.sort_by(|a, b| weight(b).cmp(&weight(a)).then_with(|| a.name.cmp(&b.name)));
        }
        Self { since, until, by, rows }
    }
}

/// One stretch of a chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Point {
    /// Where it begins.
    pub start: Timestamp,
    /// Its rows, by name.
    pub rows: BTreeMap<String, Figures>,
}

/// Figures over time, every stretch there, also those in which nothing happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chart {
    /// How long each stretch is.
    pub grain: Grain,
    /// What sets its rows apart.
    pub by: By,
    /// The stretches, the oldest first.
    pub points: Vec<Point>,
}

impl Chart {
    /// The chart that these cells make up, all of one grain.
    pub fn of(by: By, grain: Grain, (since, until): (Timestamp, Timestamp), cells: &[Cell]) -> Self {
        let mut points: BTreeMap<Timestamp, BTreeMap<String, Figures>> = BTreeMap::new();
        let mut start = grain.start(since);
        while start < until && grain != Grain::Whole {
            points.insert(start, BTreeMap::new());
            start = start + Duration::from_secs(grain.secs());
        }
        for cell in cells {
            if let Some((rows, name)) = points.get_mut(&cell.start).zip(by.name(cell)) {
                rows.entry(name).or_default().add(&cell.series, &cell.sums);
            }
        }
        let points = points.into_iter().map(|(start, rows)| Point { start, rows }).collect();
        Self { grain, by, points }
    }

    /// The grain that shows a span in some dozens to some hundreds of stretches.
    pub fn grain(span: Duration) -> Grain {
        match span.as_secs() {
            0..=21_600 => Grain::Minute,
            21_601..=864_000 => Grain::Hour,
            _ => Grain::Day,
        }
    }
}
