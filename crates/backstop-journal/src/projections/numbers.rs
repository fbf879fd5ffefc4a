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
use serde::{Deserialize, Serialize};

/// What was counted of one series in one stretch of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// Of what.
    pub series: Series,
    /// How long the stretch is.
    pub grain: Grain,
    /// Where it begins.
    pub start: Timestamp,
    /// What was counted.
    pub sums: Sums,
}
