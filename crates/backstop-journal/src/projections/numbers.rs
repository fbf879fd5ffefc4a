//! What is counted: every event is turned into counts by minute, hour, day and for good, by who did what with which model,
//! and nothing that shows a number has another source. Pure: a store keeps the [`Cell`]s with the position that they were
//! folded up to, and feeds [`Fold`] with what came after.
//!
//! A series is a family with a value for each of its labels. Names of tools and models are among them, and some of those
//! are written by models; so a family keeps at most [`SERIES_MAX`] series, and what comes beyond is counted together.

mod fold;
mod grain;
mod series;
mod spread;
mod window;

pub use fold::{Batch, Fold, RUNS_MAX, Table};
pub use grain::{Grain, Kept, Slice, slices};
pub use series::{Family, LABEL_CHARS_MAX, OVERFLOW, SERIES_MAX, Series, Sums, Tokens};
pub use spread::{Spread, WORST_PERCENT};
pub use window::{By, Chart, Figures, Percentiles, Point, Row, Window};

use backstop_call::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The upper bounds of a histogram's buckets, in milliseconds: those that OpenTelemetry's semantic conventions for
/// generative AI advise, 10 ms and its doublings, and longer ones for runs. The spreads are exact there.
const BOUNDS_MS: [u64; 20] = [
    10, 20, 40, 80, 160, 320, 640, 1_280, 2_560, 5_120, 10_240, 20_480, 40_960, 81_920, 163_840, 327_680,
    655_360, 1_310_720, 2_621_440, 5_242_880,
];

/// The upper bounds of a histogram's buckets.
pub fn bounds() -> impl Iterator<Item = Duration> {
    BOUNDS_MS.into_iter().map(Duration::from_millis)
}

/// What was counted of a family, by some of its labels in their order here, the others added up.
pub fn folded<'a>(cells: &'a [Cell], family: Family, labels: &[&str]) -> BTreeMap<Vec<&'a str>, Sums> {
    let mut rows: BTreeMap<Vec<&str>, Sums> = BTreeMap::new();
    for cell in cells.iter().filter(|cell| cell.series.family == family) {
        let values = labels.iter().filter_map(|label| cell.series.label(label)).collect();
        rows.entry(values).or_default().merge(&cell.sums);
    }
    rows
}

/// What was counted of one series in one stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Of what.
    pub series: Arc<Series>,
    /// How long the stretch is.
    pub grain: Grain,
    /// Where it begins.
    pub start: Timestamp,
    /// What was counted.
    pub sums: Sums,
}
