//! `backstop logs`: the JSON log lines, made anew from the journal. What the daily files dropped or never had is here.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::{Home, find_run};
use crate::signals::asked_to_end;
use crate::ui::out;
use backstop_journal::projections::log::{Level, Log, LogLine};
use backstop_journal::{Event, Journal, Position, StreamId};
use clap::ValueEnum;
use std::fmt::Write;
use std::process::ExitCode;
use std::time::Duration;

/// How many events are read at once.
const PAGE_EVENTS: usize = 1_000;
/// How long a follower waits before it looks again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Print the JSON log lines, one per event
///
/// They are made from the journal, so they are whole whatever the log files kept.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop logs --level info\n  backstop logs --run 01k4 --level debug\n  backstop logs --follow | jq -c 'select(.code)'"
)]
pub(crate) struct Args {
    /// Go on with what happens from now
    #[arg(long, short)]
    follow: bool,
    /// Only this run; the beginning of its id is enough
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
    /// The least urgent lines to print
    #[arg(long, value_name = "LEVEL", value_enum, default_value_t = LevelArg::Info)]
    level: LevelArg,
    /// Accepted for symmetry: log lines are JSON always
    #[arg(long, hide = true)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelArg {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<LevelArg> for Level {
    fn from(level: LevelArg) -> Self {
        match level {
            LevelArg::Error => Self::Error,
            LevelArg::Warn => Self::Warn,
            LevelArg::Info => Self::Info,
            LevelArg::Debug => Self::Debug,
        }
    }
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let journal = home.journal()?;
    let only = match &args.run {
        Some(prefix) => Some(StreamId::Run(find_run(journal.as_ref(), prefix).await?)),
        None => None,
    };
    let mut printer = Printer { log: Log::default(), only, level: args.level.into(), after: 0 };
    printer.page_through(journal.as_ref()).await?;
    if !args.follow {
        return Ok(ExitCode::SUCCESS);
    }
    let end = asked_to_end();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return Ok(ExitCode::SUCCESS),
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        // A database that was not there at the beginning may be there now.
        printer.page_through(home.journal()?.as_ref()).await?;
    }
}

struct Printer {
    log: Log,
    only: Option<StreamId>,
    level: Level,
    after: Position,
}

impl Printer {
    /// Prints everything that has come since the last time.
    async fn page_through(&mut self, journal: &dyn Journal) -> Result<(), Stop> {
        loop {
            let events = journal.tail(self.after, PAGE_EVENTS).await?;
            let Some(last) = events.last() else { return Ok(()) };
            self.after = last.position;
            let mut text = String::new();
            for line in events.iter().filter_map(|event| self.line(event)) {
                let line = serde_json::to_string(&line).map_err(std::io::Error::from)?;
                writeln!(text, "{line}").expect("a string takes all");
            }
            out(text)?;
        }
    }

    fn line(&mut self, event: &Event) -> Option<LogLine> {
        let line = self.log.push(event);
        let wanted = self.only.as_ref().is_none_or(|stream| *stream == event.stream);
        (wanted && line.level >= self.level).then_some(line)
    }
}
