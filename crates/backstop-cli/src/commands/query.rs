//! `backstop query`: what a person asks of the record in SQL, as a table, CSV or JSON.

use crate::args::Global;
use crate::complaint::Stop;
use crate::home::{Home, open_store};
use crate::ui::{Align, Look, Mark, Table, Tone, count, shortened, tell};
use backstop_agent::visible_line;
use backstop_call::{Clock, Code};
use backstop_journal::Tally;
use backstop_server::config::Span;
use backstop_server::numbers::kept;
use backstop_stack::SystemClock;
use backstop_store::{QueryError, QueryLimits, QueryValue, Rows, query};
use serde_json::{Map, Value};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The rows that a table has when nothing else is said, and that a file has.
const TABLE_ROWS: usize = 1_000;
const FILE_ROWS: usize = 1_000_000;
/// The most characters of a cell in a table.
const CELL_CHARS: usize = 120;

/// Ask the record in SQL
///
/// One SELECT over the views `runs`, `calls`, `attempts`, `tool_calls`, `approvals`, `budgets`, `spend_by_day`, `job_runs` and `events`;
/// docs/sql.md lists their columns. A query can only read. The same views are there for `sqlite3 .backstop/backstop.db`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  backstop query \"SELECT run, status, cost_usd FROM runs ORDER BY cost_nanos DESC LIMIT 10\"
  backstop query --csv --output spend.csv \"SELECT * FROM spend_by_day\"
  backstop query --json \"SELECT tool, count(*) AS errors FROM tool_calls WHERE outcome = 'error' GROUP BY tool\"")]
pub(crate) struct Args {
    /// One statement that reads
    #[arg(value_name = "SQL")]
    sql: String,
    /// Print CSV, the names of the columns first
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON, one object per line
    #[arg(long)]
    json: bool,
    /// Write to this file instead of standard output; CSV if nothing else is said
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// At most so many rows [default: 1000 in a table, 1000000 otherwise]
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// At most so long
    #[arg(long, value_name = "SPAN", default_value = "30s")]
    time: Span,
}

pub(crate) async fn main(args: Args, global: &Global) -> Result<ExitCode, Stop> {
    let home = Home::find(global)?;
    let path = home.config.journal.clone();
    if !path.exists() {
        let stop = Stop::new(Code::QueryFailed, format!("{}: nothing was recorded yet", path.display()));
        return Err(stop.with_hint("run something first"));
    }
    // Brings an old file up to date, and what is counted.
    open_store(&path)?.catch_up(SystemClock::new().now(), kept(&home.config)).await?;
    let asking = tokio::task::spawn_blocking(move || ask(&args, &path)).await;
    asking.map_err(|error| Stop::new(Code::Internal, error.to_string()))?
}

fn ask(args: &Args, path: &Path) -> Result<ExitCode, Stop> {
    let table = !args.csv && !args.json && args.output.is_none();
    let rows = args.rows.unwrap_or(if table { TABLE_ROWS } else { FILE_ROWS });
    let limits = QueryLimits { rows, time: args.time.0 };
    let run = |sink: &mut dyn Rows| query(path, &args.sql, limits, sink).map_err(refused);
    let whole = match &args.output {
        Some(file) => to_file(file, args.json, run)?,
        None if args.json => run(&mut Lines::new(io::stdout().lock()))?,
        None if args.csv => run(&mut Csv(BufWriter::new(io::stdout().lock())))?,
        None => {
            let mut shown = Shown::default();
            let whole = run(&mut shown)?;
            shown.print()?;
            whole
        }
    };
    if whole {
        return Ok(ExitCode::SUCCESS);
    }
    let mark = Look::of_stderr().mark(Mark::Warn);
    tell(format_args!("{mark} there are more than {}; see --rows", count(rows, "row")));
    Ok(ExitCode::FAILURE)
}

/// A file that is there is replaced when all of it is written, and not before.
fn to_file(
    path: &Path,
    json: bool,
    run: impl FnOnce(&mut dyn Rows) -> Result<bool, Stop>,
) -> Result<bool, Stop> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let beside = PathBuf::from(beside);
    let wrong = |error: io::Error| {
        Stop::new(Code::Usage, format!("{}: {error}", path.display()))
            .with_hint("name a file that can be written")
    };
    let file = BufWriter::new(File::create(&beside).map_err(wrong)?);
    let (whole, file) = if json {
        let mut lines = Lines::new(file);
        (run(&mut lines), lines.out)
    } else {
        let mut csv = Csv(file);
        (run(&mut csv), csv.0)
    };
    let done = whole.and_then(|whole| {
        file.into_inner().map_err(|error| wrong(error.into_error()))?.sync_all().map_err(wrong)?;
        std::fs::rename(&beside, path).map_err(wrong)?;
        Ok(whole)
    });
    if done.is_err() {
        drop(std::fs::remove_file(&beside));
    }
    done
}

fn refused(error: QueryError) -> Stop {
    match error {
        QueryError::Refused(_) | QueryError::TooLong(_) => {
            Stop::new(Code::QueryFailed, visible_line(&error.to_string()))
        }
        QueryError::Sink(error) => error.into(),
        QueryError::Journal(error) => error.into(),
    }
}

/// A table that is printed when it is whole: its columns are as wide as they must be.
#[derive(Default)]
struct Shown {
    names: Vec<String>,
    numbers: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Rows for Shown {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.names = names.iter().map(|name| visible_line(name)).collect();
        self.numbers = vec![true; names.len()];
        Ok(())
    }

    fn row(&mut self, values: &[QueryValue<'_>]) -> io::Result<()> {
        for (number, value) in self.numbers.iter_mut().zip(values) {
            *number &= !matches!(value, QueryValue::Text(_) | QueryValue::Blob(_));
        }
        self.rows
            .push(values.iter().map(|value| shortened(&visible_line(&text(*value)), CELL_CHARS)).collect());
        Ok(())
    }
}

impl Shown {
    fn print(self) -> Result<(), Stop> {
        let heads = self.names.into_iter().zip(self.numbers);
        let heads = heads.map(|(name, number)| (name, if number { Align::Right } else { Align::Left }));
        let mut table = Table::named(heads.collect());
        for row in self.rows {
            table.row(row.into_iter().map(|cell| (Tone::Plain, cell)).collect());
        }
        crate::ui::out(table.render(Look { width: None, ..Look::of_stdout() }))?;
        Ok(())
    }
}

/// RFC 4180, but for its line ends.
struct Csv<W: Write>(W);

impl<W: Write> Rows for Csv<W> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.line(names.iter().map(|name| quoted(name)))
    }

    fn row(&mut self, values: &[QueryValue<'_>]) -> io::Result<()> {
        self.line(values.iter().map(|value| quoted(&text(*value))))
    }
}

impl<W: Write> Csv<W> {
    fn line(&mut self, cells: impl Iterator<Item = String>) -> io::Result<()> {
        writeln!(self.0, "{}", cells.collect::<Vec<_>>().join(","))
    }
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// One object per line.
struct Lines<W: Write> {
    names: Vec<String>,
    out: W,
}

impl<W: Write> Lines<W> {
    fn new(out: W) -> Self {
        Self { names: Vec::new(), out }
    }
}

impl<W: Write> Rows for Lines<W> {
    fn columns(&mut self, names: &[String]) -> io::Result<()> {
        self.names = names.to_vec();
        Ok(())
    }

    fn row(&mut self, values: &[QueryValue<'_>]) -> io::Result<()> {
        let json = |value: &QueryValue<'_>| match value {
            QueryValue::Null => Value::Null,
            QueryValue::Integer(number) => Value::from(*number),
            QueryValue::Real(number) => Value::from(*number),
            QueryValue::Text(_) | QueryValue::Blob(_) => Value::from(text(*value)),
        };
        let object: Map<_, _> = self.names.iter().cloned().zip(values.iter().map(json)).collect();
        writeln!(self.out, "{}", Value::Object(object))
    }
}

/// A value as a text; bytes in hex, nothing as nothing.
fn text(value: QueryValue<'_>) -> String {
    match value {
        QueryValue::Null => String::new(),
        QueryValue::Integer(number) => number.to_string(),
        QueryValue::Real(number) => number.to_string(),
        QueryValue::Text(text) => text.to_owned(),
        QueryValue::Blob(bytes) => bytes.iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").expect("a string takes all");
            hex
        }),
    }
}
