//! The numbers as they are asked for: windows, charts and the scraper's page, all from what the store has counted. Nothing
//! here counts, and nothing here reads an event. A page that shows a number asks here.

use crate::config::Config;
use backstop::{Backstop, Observer};
use backstop_call::{Clock, Timestamp};
use backstop_journal::projections::metrics::{JobSummary, Present, QueueState, openmetrics};
use backstop_journal::projections::numbers::{
    By, Cell, Chart, Family, Figures, Grain, Kept, Slice, Window, slices,
};
use backstop_journal::{JournalError, Tally};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// How long events are gathered before they are counted: a batch costs as much as some events do.
const GATHER: Duration = Duration::from_secs(1);

/// What is counted of everything that happens. Cheap to clone.
#[derive(Clone)]
pub struct Numbers {
    tally: Arc<dyn Tally>,
    clock: Arc<dyn Clock>,
    kept: Kept,
}

/// Knows that something happened. What it is told of, it does not keep.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<Notify>);

impl Pulse {
    /// What is to be told of every event, when the engine is opened.
    pub fn observer(&self) -> Observer {
        let pulse = Arc::clone(&self.0);
        Arc::new(move |_| pulse.notify_one())
    }
}

/// How long the config keeps what is counted.
pub fn kept(config: &Config) -> Kept {
    Kept { minutes: config.numbers.minutes.0, hours: config.numbers.hours.0 }
}

impl Numbers {
    /// The numbers of a store, of which stretches are kept so long.
    pub fn new(tally: Arc<dyn Tally>, clock: Arc<dyn Clock>, kept: Kept) -> Self {
        Self { tally, clock, kept }
    }

    /// The numbers of an engine, kept as long as its config says.
    pub fn of(backstop: &Backstop, config: &Config) -> Self {
        Self::new(Arc::clone(backstop.tally()), Arc::clone(backstop.clock()), kept(config))
    }

    /// What time it is.
    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Counts everything that was committed until now. What is asked for after this is as new as that.
    pub async fn catch_up(&self) -> Result<(), JournalError> {
        self.tally.catch_up(self.clock.now(), self.kept).await.map(drop)
    }

    /// Counts as things happen, until it is dropped: what is asked for is some second old. An error is told, and what was
    /// not counted is counted the next time.
    pub async fn keep_up(&self, pulse: &Pulse, mut failed: impl FnMut(&JournalError)) {
        loop {
            if let Err(error) = self.catch_up().await {
                failed(&error);
            }
            tokio::time::sleep(GATHER).await;
            pulse.0.notified().await;
        }
    }

    /// The figures from one moment to another, set apart by something. The window is widened to whole minutes, or to the
    /// hours or days that are kept that far back, and never reaches into the future; by day, to whole days.
    pub async fn window(&self, since: Timestamp, until: Timestamp, by: By) -> Result<Window, JournalError> {
        let since = if by == By::Day { Grain::Day.start(since) } else { since };
        let slices = slices((since, until), &self.kept, self.clock.now(), by.families());
        let since = slices.first().map_or(since, |slice| slice.since);
        let until = slices.last().map_or(until, |slice| slice.until);
        let cells = self.tally.cells(slices).await?;
        Ok(Window::of(by, (since, until), &cells))
    }

    /// All figures over the last stretch of so long.
    pub async fn last(&self, span: Duration) -> Result<Figures, JournalError> {
        let now = self.clock.now();
        let window = self.window(now - span, now, By::All).await?;
        Ok(window.rows.into_iter().next().map(|row| row.figures).unwrap_or_default())
    }

    /// The figures over time, in stretches that a chart can show, set apart by something.
    pub async fn chart(&self, since: Timestamp, until: Timestamp, by: By) -> Result<Chart, JournalError> {
        let now = self.clock.now();
        let until = until.min(now + Duration::from_secs(1));
        let grain = Chart::grain(until.since(since)).max(self.kept.finest(since, now));
        let since = grain.start(since);
        let slice = Slice { grain, since, until, families: by.families() };
        let cells = self.tally.cells(vec![slice]).await?;
        Ok(Chart::of(by, grain, (since, until), &cells))
    }

    /// The cells that make up a window of these families.
    pub async fn cells(
        &self,
        since: Timestamp,
        until: Timestamp,
        families: &'static [Family],
    ) -> Result<Vec<Cell>, JournalError> {
        self.tally.cells(slices((since, until), &self.kept, self.clock.now(), families)).await
    }

    /// Everything that was ever counted, by series.
    pub async fn whole(&self) -> Result<Vec<Cell>, JournalError> {
        let (since, until) = (Timestamp::EPOCH, Timestamp::from_secs(1));
        self.tally.cells(vec![Slice { grain: Grain::Whole, since, until, families: Family::ALL }]).await
    }

    /// What is so at present, with the queue where there is one, and the jobs.
    pub async fn present(
        &self,
        queue: Option<QueueState>,
        jobs: Vec<JobSummary>,
    ) -> Result<Present, JournalError> {
        Ok(Present { budgets: self.tally.budgets(self.clock.now()).await?, queue, jobs })
    }

    /// The page for a scraper.
    pub async fn openmetrics(
        &self,
        queue: Option<QueueState>,
        jobs: Vec<JobSummary>,
    ) -> Result<String, JournalError> {
        Ok(openmetrics(&self.whole().await?, &self.present(queue, jobs).await?))
    }
}
