//! The jobs as straight code over the desk. Each reads through the tools, computes, writes, looks whether it arrived, and
//! reports what it did.

use super::Report;
use super::desk::{Ask, Desk, Outcome, Stop};
use super::offer::Verb;
use super::task::{Extract, Job, Measure, Sources, Unit};
use super::{team, text};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Does the job as far as the conversation goes.
pub(super) fn run(job: &Job, desk: &mut Desk<'_>) -> Result<Report, Stop> {
    match job {
        Job::Calls(asks) => calls(desk, asks),
        Job::HandOut { source } => team::hand_out(desk, source),
        Job::Letter(letter) => team::letter(desk, letter),
        Job::Send { file, to } => team::send(desk, file, to),
        Job::Review(review) => team::review(desk, review),
        Job::Steps { first, last, dir } => steps(desk, *first..=*last, dir),
        Job::Replace { file, old, new } => replace(desk, file, &[(old.clone(), new.clone())]),
        Job::Uppercase { file, title_only } => uppercase(desk, file, *title_only),
        Job::Todos { dir, target } => todos(desk, dir, target),
        Job::Contents { dir, target } => contents(desk, dir, target),
        Job::Table { source, target } => table(desk, source, target),
        Job::Column { source, target, measure, column } => {
            let value = measured(desk, source, *measure, column)?;
            number(desk, target.as_deref(), &value, &format!("the {} of {column}", word(*measure)))
        }
        Job::Extract { source, target, what } => extract(desk, source, target, *what),
        Job::Merge { from, target } => merge(desk, from, target),
        Job::Sort { source, target, reverse, unique } => {
            let (path, content) = desk.read(source)?;
            let target = if target == source { &path } else { target };
            desk.write(target, &text::sorted(&content, *reverse, *unique))?;
            let lines = content.lines().count();
            Ok(done(
                desk,
                format!("sorted the {lines} lines of {path} into {target}"),
                json!({"lines": lines}),
            ))
        }
        Job::Count { source, target, unit } => {
            let (path, content) = desk.read(source)?;
            let (count, unit) = counted(&content, *unit);
            number(desk, target.as_deref(), &count.to_string(), &format!("the number of {unit} in {path}"))
        }
        Job::Summarise { source, target } => summarise(desk, source, target.as_deref()),
        Job::Look { files } => look(desk, files),
    }
}

pub(super) fn done(desk: &Desk<'_>, summary: String, data: Value) -> Report {
    let data = if let Value::Object(data) = data { data } else { Map::new() };
    Report { done: true, summary, data, files: desk.written().to_vec() }
}

/// Makes the calls, each once, until one fails; what they said is the result.
fn calls(desk: &mut Desk<'_>, asks: &[Ask]) -> Result<Report, Stop> {
    let mut said = Vec::new();
    for ask in asks {
        match desk.call(ask)? {
            Outcome::Done(text) => said.push(text),
            Outcome::Failed(why) => return Err(Stop::GiveUp(format!("{} failed: {why}", ask.name))),
        }
    }
    let names: Vec<_> = asks.iter().map(|ask| ask.name.as_str()).collect();
    Ok(done(desk, format!("called {}", names.join(", ")), json!({"said": said})))
}

fn counted(content: &str, unit: Unit) -> (usize, &'static str) {
    match unit {
        Unit::Words => (text::words(content), "words"),
        Unit::Lines => (content.lines().count(), "lines"),
        Unit::Characters => (content.chars().count(), "characters"),
    }
}

/// Reports one value, after writing it where that is wanted.
fn number(desk: &mut Desk<'_>, target: Option<&str>, value: &str, what: &str) -> Result<Report, Stop> {
    let mut summary = format!("{what} is {value}");
    if let Some(target) = target {
        desk.write(target, &format!("{value}\n"))?;
        write!(summary, "; it is in {target}").expect("a string takes all");
    }
    let data = value.parse::<f64>().map_or_else(
        |_| json!({"value": value}),
        |_| json!({"value": serde_json::from_str::<Value>(value).unwrap_or(Value::Null)}),
    );
    Ok(done(desk, summary, data))
}

fn word(measure: Measure) -> &'static str {
    match measure {
        Measure::Sum => "sum",
        Measure::Average => "average",
        Measure::Least => "minimum",
        Measure::Greatest => "maximum",
    }
}

fn measured(desk: &mut Desk<'_>, source: &str, measure: Measure, column: &str) -> Result<String, Stop> {
    let (path, content) = desk.read(source)?;
    let rows = text::csv(&content);
    let Some(values) = text::column(&rows, column) else {
        let head = rows.first().map(|row| row.join(", ")).unwrap_or_default();
        return Err(Stop::GiveUp(format!("{path} has no column {column}; its columns are: {head}")));
    };
    if values.is_empty() {
        return Err(Stop::GiveUp(format!("the column {column} of {path} holds no numbers")));
    }
    let sum: f64 = values.iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a file has fewer rows than 2^52")]
    let count = values.len() as f64;
    Ok(text::number(match measure {
        Measure::Sum => sum,
        Measure::Average => sum / count,
        Measure::Least => values.iter().copied().fold(f64::INFINITY, f64::min),
        Measure::Greatest => values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
    }))
}

fn steps(desk: &mut Desk<'_>, numbers: std::ops::RangeInclusive<u32>, dir: &str) -> Result<Report, Stop> {
    let (first, last) = (*numbers.start(), *numbers.end());
    let width = last.to_string().len().max(2);
    for number in numbers {
        let path = format!("{dir}/step-{number:0width$}.md");
        desk.write_only(&path, &format!("# Step {number} of {last}\n\nThis is step {number}.\n"))?;
    }
    let count = last - first + 1;
    if desk.can(Verb::List) {
        let there = desk.list(dir)?;
        let missing: Vec<&String> = desk.written().iter().filter(|path| !there.contains(path)).collect();
        if let Some(path) = missing.first() {
            return Err(Stop::GiveUp(format!(
                "{} of {count} steps are not there, {path} first",
                missing.len()
            )));
        }
    }
    Ok(done(desk, format!("wrote steps {first} to {last} into {dir}"), json!({"steps": count})))
}

/// Replaces in one file, by edits where there is a tool for it. An edit that does not fit makes it read again.
fn replace(desk: &mut Desk<'_>, file: &str, changes: &[(String, String)]) -> Result<Report, Stop> {
    let (path, mut content) = desk.read(file)?;
    let mut count = 0;
    for (old, new) in changes {
        let found = content.matches(old.as_str()).count();
        if found == 0 {
            return Err(Stop::GiveUp(format!("{path} does not hold \"{old}\"")));
        }
        count += found;
        let replaced = content.replace(old.as_str(), new);
        // One edit changes one place, so what stands in several, or is in its own replacement, is written whole.
        let edit = found == 1 && desk.can(Verb::Edit) || !desk.can(Verb::Write);
        content = replaced;
        if !edit {
            desk.write_only(&path, &content)?;
        } else if let Outcome::Failed(why) = desk.edit(&path, old, new)? {
            let (_, now) = desk.read(&path)?;
            if !now.contains(old.as_str()) {
                return Err(Stop::GiveUp(format!("{path} changed while it was edited: {why}")));
            }
            content = now.replace(old.as_str(), new);
            desk.write_only(&path, &content)?;
        }
    }
    let (_, now) = desk.read(&path)?;
    if now.trim_end() != content.trim_end() {
        return Err(Stop::GiveUp(format!("{path} does not hold what was written to it")));
    }
    Ok(done(desk, format!("changed {count} places in {path}"), json!({"replacements": count})))
}

fn uppercase(desk: &mut Desk<'_>, file: &str, title_only: bool) -> Result<Report, Stop> {
    let (path, content) = desk.read(file)?;
    if text::headings(&content).is_empty() {
        return Err(Stop::GiveUp(format!("{path} has no headings")));
    }
    let mut changed = content.clone();
    for (old, new) in text::uppercase_headings(&content, title_only) {
        changed = replace_line(&changed, &old, &new);
    }
    if changed == content {
        return Ok(done(desk, format!("the headings of {path} were in capitals already"), json!({})));
    }
    desk.write(&path, &changed)?;
    Ok(done(desk, format!("put the headings of {path} in capitals"), json!({})))
}

/// Replaces the first line that reads `old`.
fn replace_line(content: &str, old: &str, new: &str) -> String {
    let mut open = true;
    let lines = content.split_inclusive('\n').map(|line| {
        let hit = open && line.trim_end() == old;
        open &= !hit;
        if hit { line.replacen(old, new, 1) } else { line.to_owned() }
    });
    lines.collect()
}

fn todos(desk: &mut Desk<'_>, dir: &str, target: &str) -> Result<Report, Stop> {
    let mut hits = desk.search("TODO", dir)?;
    hits.retain(|hit| hit.path != target && hit.text.contains("TODO"));
    hits.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    let mut out = String::from("# To do\n\n");
    for hit in &hits {
        let said = hit.text.split_once("TODO").map_or("", |(_, rest)| rest).trim_start_matches([':', ' ']);
        writeln!(out, "- [ ] {} ({}:{})", said.trim(), hit.path, hit.line).expect("a string takes all");
    }
    desk.write(target, &out)?;
    Ok(done(desk, format!("collected {} TODOs into {target}", hits.len()), json!({"todos": hits.len()})))
}

/// The markdown files under a directory, sorted; at most 200, and not the one that is to be written.
fn markdown(desk: &mut Desk<'_>, dir: &str, target: &str) -> Result<Vec<String>, Stop> {
    const FILES_MAX: usize = 200;
    const DIRS_MAX: usize = 20;
    let mut files = Vec::new();
    let mut dirs = vec![dir.trim_end_matches('/').to_owned()];
    let mut at = 0;
    while let Some(dir) = dirs.get(at).cloned() {
        at += 1;
        for entry in desk.list(&dir)? {
            let inner = entry.trim_end_matches('/').to_owned();
            if entry.ends_with('/') && dirs.len() < DIRS_MAX && !dirs.contains(&inner) {
                dirs.push(inner);
            } else if entry.to_lowercase().ends_with(".md") && entry != target && !files.contains(&entry) {
                files.push(entry);
            }
        }
    }
    files.sort_unstable();
    files.truncate(FILES_MAX);
    Ok(files)
}

fn contents(desk: &mut Desk<'_>, dir: &str, target: &str) -> Result<Report, Stop> {
    let files = markdown(desk, dir, target)?;
    let mut out = String::from("# Contents\n");
    let mut count = 0;
    for (path, content) in desk.read_all(&files)? {
        writeln!(out, "\n## {path}\n").expect("a string takes all");
        for (level, words) in text::headings(&content) {
            let indent = "  ".repeat(level - 1);
            writeln!(out, "{indent}- [{words}]({path}#{})", text::anchor(&words))
                .expect("a string takes all");
            count += 1;
        }
    }
    desk.write(target, &out)?;
    let summary = format!("wrote the {count} headings of {} files to {target}", files.len());
    Ok(done(desk, summary, json!({"headings": count, "sources": files.len()})))
}

fn table(desk: &mut Desk<'_>, source: &str, target: &str) -> Result<Report, Stop> {
    let (path, content) = desk.read(source)?;
    let rows = text::csv(&content);
    if rows.is_empty() {
        return Err(Stop::GiveUp(format!("{path} holds no rows")));
    }
    desk.write(target, &text::table(&rows))?;
    let count = rows.len() - 1;
    Ok(done(desk, format!("wrote the {count} rows of {path} as a table to {target}"), json!({"rows": count})))
}

fn extract(desk: &mut Desk<'_>, source: &str, target: &str, what: Extract) -> Result<Report, Stop> {
    let (path, content) = desk.read(source)?;
    let (found, word) = match what {
        Extract::Emails => (text::emails(&content), "e-mail addresses"),
        Extract::Links => (text::links(&content), "links"),
    };
    let lines = found.iter().fold(String::new(), |sum, item| sum + item + "\n");
    desk.write(target, &lines)?;
    let count = found.len();
    Ok(done(desk, format!("wrote the {count} {word} of {path} to {target}"), json!({"found": count})))
}

fn merge(desk: &mut Desk<'_>, from: &Sources, target: &str) -> Result<Report, Stop> {
    let files = match from {
        Sources::Files(files) => files.clone(),
        Sources::Dir(dir) => markdown(desk, dir, target)?,
    };
    let mut out = String::new();
    for (_, content) in desk.read_all(&files)? {
        if !out.is_empty() {
            out.push('\n');
        }
        out.push_str(content.trim_end());
        out.push('\n');
    }
    desk.write(target, &out)?;
    let count = files.len();
    Ok(done(desk, format!("merged {count} files into {target}"), json!({"sources": count})))
}

fn summarise(desk: &mut Desk<'_>, source: &str, target: Option<&str>) -> Result<Report, Stop> {
    let (path, content) = desk.read(source)?;
    let summary = text::summary(&content);
    let Some(target) = target else {
        return Ok(done(desk, format!("{path} in short: {summary}"), json!({"text": summary})));
    };
    desk.write(target, &format!("{summary}\n"))?;
    let count = summary.lines().count();
    Ok(done(desk, format!("summarised {path} in {count} sentences in {target}"), json!({"sentences": count})))
}

/// The most files that the fallback reads.
const LOOK_MAX: usize = 5;

fn look(desk: &mut Desk<'_>, files: &[String]) -> Result<Report, Stop> {
    let there = if desk.can(Verb::List) { desk.list("")? } else { Vec::new() };
    let named: Vec<String> = files.iter().take(LOOK_MAX).cloned().collect();
    if named.is_empty() || !desk.can(Verb::Read) {
        let summary = format!(
            "the task is none that this model knows how to do; the workspace holds {} entries, and nothing was changed",
            there.len()
        );
        return Ok(Report { done: false, ..done(desk, summary, json!({})) });
    }
    let mut parts = Vec::new();
    for (path, content) in desk.read_all(&named)? {
        parts.push(format!(
            "{path} has {} lines and {} words",
            content.lines().count(),
            text::words(&content)
        ));
    }
    let summary = format!("read what the task names and changed nothing: {}", parts.join("; "));
    Ok(done(desk, summary, json!({"read": named})))
}
