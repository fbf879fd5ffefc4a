//! Lists of runs: which of them, in which order, and no more of each than is shown. A list costs what is in it, not what is in
//! the database.

use super::fault::Fail;
use super::read::{rows_max, summary};
use super::tx::head;
use crate::listing::Search;
use backstop_call::{AgentName, ApprovalId, ModelName, Role, RunId, Timestamp};
use backstop_journal::projections::history::RunSummary;
use backstop_journal::{ListedRun, RunCursor, RunFilter, RunStatus};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, Row, params, params_from_iter};

/// Of the runs that have the words of a search, so many of the newest are looked at.
const FOUND_MAX: usize = 5_000;

/// Runs, newest first.
pub(crate) fn runs(db: &Connection, filter: &RunFilter) -> Result<Vec<RunSummary>, Fail> {
    select(db, filter, "stream, seq, summary", summary_of)
}

/// Runs with what a list says of them, newest first.
pub(crate) fn list(db: &Connection, filter: &RunFilter) -> Result<Vec<ListedRun>, Fail> {
    let text = "(SELECT message FROM runs_text WHERE rowid = runs_raw.stream)";
    select(db, filter, &format!("stream, seq, summary, {text}"), |db, row| {
        let text = row.get::<_, Option<String>>(3)?.unwrap_or_default();
        Ok(ListedRun { summary: summary_of(db, row)?, text, head: head(db, row.get(0)?)? })
    })
}

/// The run that asked a question.
pub(crate) fn asked_by(db: &Connection, approval: &ApprovalId) -> Result<Option<RunId>, Fail> {
    let sql = "SELECT run FROM questions JOIN runs_raw USING (stream) WHERE approval = ?1";
    let mut statement = db.prepare_cached(sql)?;
    let run = statement.query_row([approval.as_str()], |row| row.get::<_, String>(0)).optional()?;
    Ok(run.map(RunId::from))
}

fn summary_of(db: &Connection, row: &Row<'_>) -> Result<RunSummary, Fail> {
    summary(db, &row.get::<_, String>(2)?, row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())
}

fn select<T>(
    db: &Connection,
    filter: &RunFilter,
    columns: &str,
    read: impl Fn(&Connection, &Row<'_>) -> Result<T, Fail>,
) -> Result<Vec<T>, Fail> {
    let search = found_by(db, filter.search.as_deref())?;
    let mut filter = filter.clone();
    match search {
        Some(Search::Words(terms)) => return hits(db, &filter, &terms, columns, read),
        Some(Search::Id(id)) if filter.id_prefix.is_none() => filter.id_prefix = Some(id),
        Some(Search::Id(_)) | None => {}
    }
    let Wanted { conditions, values, order } = wanted(&filter);
    let sql = format!("SELECT {columns} FROM runs_raw WHERE {conditions} ORDER BY {order} LIMIT ?");
    let mut statement = db.prepare_cached(&sql)?;
    let limit = Value::from(rows_max(filter.limit));
    let mut rows = statement.query(params_from_iter(values.into_iter().chain([limit])))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read(db, row)?);
    }
    Ok(found)
}

/// What a search looks for.
pub(super) fn found_by(db: &Connection, search: Option<&str>) -> Result<Option<Search>, Fail> {
    search.map(|search| Search::of(search, |id| begins(db, id))).transpose()
}

/// Words as the table of texts is asked for them; empty where there are none. They are letters and digits: nothing in them means
/// anything to SQLite.
pub(super) fn phrases(terms: &[Vec<String>]) -> String {
    let phrases: Vec<_> = terms.iter().map(|words| format!("\"{}\" *", words.join(" "))).collect();
    phrases.join(" ")
}

/// Whether the id of any run begins so.
fn begins(db: &Connection, id: &str) -> Result<bool, Fail> {
    let mut statement = db.prepare_cached("SELECT 1 FROM runs_raw WHERE run >= ?1 AND run < ?2 LIMIT 1")?;
    Ok(statement.exists([id, &behind(id)])?)
}

/// Runs whose tasks have these words, the newest first. One after the other, so that a word which all of them have costs no
/// more than a page.
fn hits<T>(
    db: &Connection,
    filter: &RunFilter,
    terms: &[Vec<String>],
    columns: &str,
    read: impl Fn(&Connection, &Row<'_>) -> Result<T, Fail>,
) -> Result<Vec<T>, Fail> {
    let phrases = phrases(terms);
    if phrases.is_empty() {
        return Ok(Vec::new());
    }
    let before = filter.before.as_ref().map(|before| stream_of(db, before)).transpose()?.flatten();
    let mut words = db.prepare_cached(
        "SELECT rowid FROM runs_text WHERE runs_text MATCH ?1 AND rowid < ?2 ORDER BY rowid DESC LIMIT ?3",
    )?;
    let most = rows_max(Some(FOUND_MAX));
    let mut streams = words.query(params![phrases, before.unwrap_or(i64::MAX), most])?;
    let Wanted { conditions, values, .. } = wanted(&RunFilter { before: None, ..filter.clone() });
    let mut run =
        db.prepare_cached(&format!("SELECT {columns} FROM runs_raw WHERE {conditions} AND stream = ?"))?;
    let mut found = Vec::new();
    while let Some(hit) = streams.next()? {
        let stream = Value::from(hit.get::<_, i64>(0)?);
        let mut rows = run.query(params_from_iter(values.iter().chain([&stream])))?;
        if let Some(row) = rows.next()? {
            found.push(read(db, row)?);
        }
        if filter.limit.is_some_and(|limit| found.len() >= limit) {
            break;
        }
    }
    Ok(found)
}

fn stream_of(db: &Connection, cursor: &RunCursor) -> Result<Option<i64>, Fail> {
    let mut statement = db.prepare_cached("SELECT stream FROM runs_raw WHERE run = ?1")?;
    Ok(statement.query_row([cursor.run.as_str()], |row| row.get(0)).optional()?)
}

/// A filter as SQL. Only texts of this file are in it; what was asked is bound.
struct Wanted {
    conditions: String,
    values: Vec<Value>,
    order: &'static str,
}

fn wanted(filter: &RunFilter) -> Wanted {
    let text = |text: &str| Value::from(text.to_owned());
    let mut conditions = vec!["TRUE"];
    let mut values = Vec::new();
    let mut add = |condition: &'static str, more: Vec<Value>| {
        conditions.push(condition);
        values.extend(more);
    };
    match &filter.status[..] {
        [] => {}
        // So that the indexes of those are taken.
        [RunStatus::Parked] => add("status = 'parked'", Vec::new()),
        [RunStatus::Running] => add("status = 'running'", Vec::new()),
        some => {
            let names: Vec<_> = some.iter().map(|status| status.as_str()).collect();
            let names = serde_json::json!(names).to_string();
            add("status IN (SELECT value FROM json_each(?))", vec![names.into()]);
        }
    }
    let names = [
        ("agent = ?", filter.agent.as_ref().map(AgentName::as_str)),
        ("role = ?", filter.role.as_ref().map(Role::as_str)),
        ("model = ?", filter.model.as_ref().map(ModelName::as_str)),
    ];
    for (condition, name) in names {
        if let Some(name) = name {
            add(condition, vec![text(name)]);
        }
    }
    if let Some(from) = filter.from {
        add("created >= ?", vec![moment(from)]);
    }
    if let Some(until) = filter.until {
        add("created < ?", vec![moment(until)]);
    }
    if let Some(before) = &filter.before {
        let place = vec![moment(before.created), text(before.run.as_str())];
        add("(created, run) < (?, ?)", place);
    }
    let mut order = "created DESC, run DESC";
    if let Some(prefix) = &filter.id_prefix {
        // Few runs begin so: they are found by their ids and then put in order.
        add("run >= ? AND run < ?", vec![text(prefix), text(&behind(prefix))]);
        order = "+created DESC, run DESC";
    }
    Wanted { conditions: conditions.join(" AND "), values, order }
}

/// A moment as the database has it. Whatever is later than it can hold is later than every run.
fn moment(at: Timestamp) -> Value {
    i64::try_from(at.nanos()).unwrap_or(i64::MAX).into()
}

/// The least text that is behind every text that begins so.
pub(super) fn behind(prefix: &str) -> String {
    format!("{prefix}\u{10ffff}")
}
