//! `backstop audit`: who did what, and whether the record of it is whole.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::{Home, find_run};
use crate::ui::{Look, Mark, count, out, tell};
use backstop_call::{Clock, Code, Role, RunId, Timestamp};
use backstop_journal::projections::audit::rows_in_role;
use backstop_journal::{Event, EventBody, Journal, RunFilter, Seq, StreamId};
use backstop_server::config::Span;
use backstop_stack::SystemClock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

/// How many events are read at once.
const PAGE_EVENTS: usize = 1_000;

/// Check the record of everything that happened, or export it
///
/// Every event is hashed together with the one before it, so that a change, a gap or an insertion breaks the chain there.
/// That the end of a chain was cut off shows only against a link that was kept elsewhere: keep what `verify --json` prints.
#[derive(Debug, clap::Args)]
#[command(
    after_long_help = "Examples:\n  backstop audit verify\n  backstop audit verify --json > links.json\n  backstop audit verify --against links.json\n  backstop audit export --since 24h\n  backstop audit export --since 2026-11-27\n  backstop audit export --run 01k4 --full"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Check the chain of every stream
    Verify {
        /// Only this run; the beginning of its id is enough
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Check as well that these links, as --json printed them once, are still in their chains
        #[arg(long, value_name = "FILE")]
        against: Option<PathBuf>,
        /// Print the last link of each stream as JSON
        #[arg(long)]
        json: bool,
    },
    /// Print one line of JSON for each act
    Export {
        /// Only this run; the beginning of its id is enough
        #[arg(long, value_name = "RUN")]
        run: Option<String>,
        /// Only what happened since then: a span before now, like 24h, or a time, like 2026-11-27 or 2026-11-27T09:30:00Z
        #[arg(long, value_name = "WHEN")]
        since: Option<Since>,
        /// With the whole event: arguments, previews, answers, results
        #[arg(long)]
        full: bool,
    },
}

/// From when on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    /// From then.
    At(Timestamp),
    /// From so long before now.
    Before(Span),
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let span = || text.parse().map(Self::Before).ok();
        Timestamp::of_text(text).map(Self::At).or_else(span).ok_or_else(|| {
            "write a span like 24h, a date like 2026-11-27, or a time like 2026-11-27T09:30:00Z".to_owned()
        })
    }
}

/// The last link of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Link {
    stream: StreamId,
    seq: Seq,
    hash: String,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let journal = Home::find(global)?.journal()?;
    let journal = journal.as_ref();
    match args.what {
        What::Verify { run, against, json } => {
            let streams = streams(journal, run.as_deref()).await?;
            verify(journal, &streams, against.as_deref(), json).await
        }
        What::Export { run, since, full } => {
            let only = match run {
                Some(prefix) => Some(find_run(journal, &prefix).await?),
                None => None,
            };
            let from = match since {
                None => Timestamp::EPOCH,
                Some(Since::At(time)) => time,
                Some(Since::Before(span)) => SystemClock::new().now() - span.0,
            };
            export(journal, &Export { only, from, full }).await
        }
    }
}

/// Every stream there is, or the one of a run.
async fn streams(journal: &dyn Journal, run: Option<&str>) -> Result<Vec<StreamId>, Stop> {
    if let Some(prefix) = run {
        return Ok(vec![StreamId::Run(find_run(journal, prefix).await?)]);
    }
    let runs = journal.runs(RunFilter::default()).await?;
    let runs = runs.into_iter().map(|summary| StreamId::Run(summary.run));
    Ok(StreamId::SHARED.iter().cloned().chain(runs).collect())
}

async fn verify(
    journal: &dyn Journal,
    streams: &[StreamId],
    against: Option<&Path>,
    json: bool,
) -> Result<ExitCode, Stop> {
    let kept = against.map(read_links).transpose()?.unwrap_or_default();
    let mut links = Vec::new();
    let (mut events, mut vouched) = (0, 0);
    for stream in streams {
        let head = journal.verify(stream).await?;
        vouched += usize::from(is_vouched_for(journal, stream).await?);
        if head.seq > 0 {
            events += usize::try_from(head.seq).unwrap_or(usize::MAX);
            links.push(Link { stream: stream.clone(), seq: head.seq, hash: head.hash.to_string() });
        }
    }
    for link in &kept {
        still_there(journal, link).await?;
    }
    if json {
        out(format_args!("{:#}\n", json!(links)))?;
    }
    let look = Look::of_stderr();
    let kept = match kept.len() {
        0 => String::new(),
        many => format!(", and {} that was kept is still there", count(many, "link")),
    };
    let vouched = match vouched {
        0 => String::new(),
        many => format!(
            "; the beginning of {} that an older version wrote is vouched for by its erasure alone",
            count(many, "run")
        ),
    };
    tell(format_args!(
        "{} {} in {} are whole{kept}{vouched}",
        look.mark(Mark::Good),
        count(events, "event"),
        count(links.len(), "stream"),
    ));
    Ok(ExitCode::SUCCESS)
}

/// Whether links of a run cannot be worked out any more: they went over what was erased, and the event that tells of it says that
/// they were right.
async fn is_vouched_for(journal: &dyn Journal, stream: &StreamId) -> Result<bool, Stop> {
    let StreamId::Run(run) = stream else { return Ok(false) };
    let only = RunFilter { id_prefix: Some(run.to_string()), ..RunFilter::default() };
    if journal.runs(only).await?.iter().all(|summary| summary.erased.is_none()) {
        return Ok(false);
    }
    let vouches =
        |event: &Event| matches!(&event.body, EventBody::RunErased(erased) if erased.rechained.is_some());
    Ok(journal.read(stream, 0).await?.iter().any(vouches))
}

fn read_links(path: &Path) -> Result<Vec<Link>, Stop> {
    let wrong = |why: String| {
        Stop::new(Code::Usage, format!("{} {why}", path.display()))
            .with_hint("give a file that `backstop audit verify --json` wrote")
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| wrong(format!("holds no links: {error}")))
}

/// Whether a link that was kept elsewhere is in its chain: what was cut off behind it shows here.
async fn still_there(journal: &dyn Journal, link: &Link) -> Result<(), Stop> {
    let found = journal.read(&link.stream, link.seq.saturating_sub(1)).await?.into_iter().next();
    match found {
        Some(event) if event.hash.to_string() == link.hash => Ok(()),
        Some(_) => Err(broken(link, "is another one now")),
        None => Err(broken(link, "is missing: the chain ends before it")),
    }
}

fn broken(link: &Link, why: &str) -> Stop {
    Stop::new(Code::ChainBroken, format!("{}: event {} {why}", link.stream, link.seq))
}

/// What is exported.
struct Export {
    only: Option<RunId>,
    from: Timestamp,
    full: bool,
}

async fn export(journal: &dyn Journal, export: &Export) -> Result<ExitCode, Stop> {
    let mut roles = BTreeMap::new();
    let mut after = 0;
    loop {
        let events = journal.tail(after, PAGE_EVENTS).await?;
        let Some(last) = events.last() else { return Ok(ExitCode::SUCCESS) };
        after = last.position;
        let mut text = String::new();
        for event in &events {
            if let Some(line) = export.line(event, &mut roles) {
                writeln!(text, "{line}").expect("a string takes all");
            }
        }
        out(text)?;
    }
}

impl Export {
    fn line(&self, event: &Event, roles: &mut BTreeMap<StreamId, Role>) -> Option<Value> {
        if let EventBody::RunCreated(created) = &event.body {
            roles.insert(event.stream.clone(), created.role.clone());
        }
        let wanted = self.only.as_ref().is_none_or(|run| event.stream == StreamId::Run(run.clone()));
        if !wanted || event.at < self.from {
            return None;
        }
        let row = rows_in_role([event], roles.get(&event.stream).cloned()).pop()?;
        let mut line = serde_json::to_value(&row).ok()?;
        if self.full {
            line["event"] = serde_json::to_value(&event.body).ok()?;
        }
        Some(line)
    }
}
