//! What a job works at: the tools that were offered, and the steps that the conversation already holds.
//!
//! A job is straight code that asks the desk for results. What the conversation already holds is given back; the
//! first thing it does not hold stops the job with the tool calls that would get it. So each request replays the job from its
//! start, and the next turn is a pure function of the conversation. Steps that the job did not ask for (a call that a
//! fault garbled) are passed over.

use super::offer::{Offer, Slot, Verb};
use super::parse;
use backstop_call::{Block, Message, Request};
use serde_json::Value;
use std::collections::BTreeMap;

/// A tool call that the model wants to make.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    pub(super) name: String,
    pub(super) input: Value,
}

/// Why a job goes no further now.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Stop {
    /// It needs the results of these calls.
    Call(Vec<Ask>),
    /// It cannot be done, and why.
    GiveUp(String),
}

/// How a tool call ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
    Done(String),
    Failed(String),
}

struct Step {
    name: String,
    input: Value,
    outcome: Outcome,
    used: bool,
}

/// The desk of one job.
pub(super) struct Desk<'a> {
    offer: Offer<'a>,
    steps: Vec<Step>,
    parallel: bool,
    written: Vec<String>,
}

/// How often a write is tried before the job gives up.
const WRITES_MAX: u32 = 2;
/// How many parts of a long file are read.
const PARTS_MAX: u32 = 50;

impl<'a> Desk<'a> {
    /// A desk with what the conversation from message `from` on already holds.
    pub(super) fn new(request: &'a Request, from: usize, parallel: bool) -> Self {
        let messages = request.messages.get(from..).unwrap_or_default();
        let offer = Offer::of(&request.tools);
        let parallel = parallel && request.parallel_tools != Some(false);
        Self { offer, steps: steps(messages), parallel, written: Vec::new() }
    }

    /// Whether a tool for this was offered.
    pub(super) fn can(&self, verb: Verb) -> bool {
        self.offer.can(verb)
    }

    /// The tools that were offered.
    pub(super) fn offer(&self) -> &Offer<'a> {
        &self.offer
    }

    /// The files the job wrote, in order, each once.
    pub(super) fn written(&self) -> &[String] {
        &self.written
    }

    fn ask(&self, verb: Verb, args: &[(Slot, &str)]) -> Result<Ask, Stop> {
        self.offer
            .ask(verb, args)
            .ok_or_else(|| Stop::GiveUp(format!("there is no tool to {} with", verb.as_str())))
    }

    fn held(&mut self, ask: &Ask) -> Option<Outcome> {
        let fits = |step: &&mut Step| !step.used && step.name == ask.name && step.input == ask.input;
        let step = self.steps.iter_mut().find(fits)?;
        step.used = true;
        Some(step.outcome.clone())
    }

    /// Makes a call that the task itself words. There must be such a tool; its arguments are the agent's to judge.
    pub(super) fn call(&mut self, ask: &Ask) -> Result<Outcome, Stop> {
        if !self.offer.has(&ask.name) {
            return Err(Stop::GiveUp(format!("there is no tool `{}`", ask.name)));
        }
        self.held(ask).ok_or_else(|| Stop::Call(vec![ask.clone()]))
    }

    fn take(&mut self, verb: Verb, args: &[(Slot, &str)]) -> Result<Outcome, Stop> {
        let ask = self.ask(verb, args)?;
        self.held(&ask).ok_or_else(|| Stop::Call(vec![ask]))
    }

    /// Reads a file. Where there is none of that name, looks through its directory, then the workspace, for one that
    /// was probably meant. Gives the path that was read, and the text.
    pub(super) fn read(&mut self, path: &str) -> Result<(String, String), Stop> {
        let why = match self.take(Verb::Read, &[(Slot::Path, path)])? {
            Outcome::Done(text) => return Ok((path.to_owned(), self.whole(path, &text)?)),
            Outcome::Failed(why) => why,
        };
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        for dir in if parent.is_empty() { vec![""] } else { vec![parent, ""] } {
            let near = self.list(dir).map(|entries| nearest(path, &entries));
            let found = match near {
                Ok(found) => found,
                Err(Stop::GiveUp(_)) => None,
                Err(call @ Stop::Call(_)) => return Err(call),
            };
            if let Some(found) = found
                && let Outcome::Done(text) = self.take(Verb::Read, &[(Slot::Path, &found)])?
            {
                let text = self.whole(&found, &text)?;
                return Ok((found, text));
            }
        }
        Err(Stop::GiveUp(format!("{path} could not be read: {}", first_line(&why))))
    }

    /// The whole of a file whose first part was read: asks for the others.
    fn whole(&mut self, path: &str, part: &str) -> Result<String, Stop> {
        let mut text = String::new();
        let mut part = part.to_owned();
        for _ in 0..PARTS_MAX {
            let Some((shown, from)) = parse::more(&part) else {
                return Ok(text + &parse::file(&part));
            };
            text.push_str(shown);
            part = match self.take(Verb::Read, &[(Slot::Path, path), (Slot::FromLine, from)])? {
                Outcome::Done(next) => next,
                Outcome::Failed(why) => {
                    return Err(Stop::GiveUp(format!("{path} could not be read on: {}", first_line(&why))));
                }
            };
        }
        Err(Stop::GiveUp(format!("{path} has more than {PARTS_MAX} parts")))
    }

    /// Reads several files; all at once where the model works so.
    pub(super) fn read_all(&mut self, paths: &[String]) -> Result<Vec<(String, String)>, Stop> {
        if self.parallel {
            let mut missing = Vec::new();
            for path in paths {
                let ask = self.ask(Verb::Read, &[(Slot::Path, path)])?;
                if !self.steps.iter().any(|step| step.name == ask.name && step.input == ask.input) {
                    missing.push(ask);
                }
            }
            if !missing.is_empty() {
                return Err(Stop::Call(missing));
            }
        }
        paths.iter().map(|path| self.read(path)).collect()
    }

    /// The entries of a directory, as paths from the workspace; directories end in `/`. `""` is the workspace.
    pub(super) fn list(&mut self, dir: &str) -> Result<Vec<String>, Stop> {
        let dir = dir.trim_end_matches('/');
        let args: &[(Slot, &str)] = if dir.is_empty() { &[] } else { &[(Slot::Path, dir)] };
        match self.take(Verb::List, args)? {
            Outcome::Done(text) => Ok(parse::entries(&text, dir)),
            Outcome::Failed(why) => Err(Stop::GiveUp(format!(
                "{} could not be listed: {}",
                if dir.is_empty() { "the workspace" } else { dir },
                first_line(&why)
            ))),
        }
    }

    /// The lines that contain a pattern: path, number, text.
    pub(super) fn search(&mut self, pattern: &str, dir: &str) -> Result<Vec<parse::Hit>, Stop> {
        let dir = dir.trim_end_matches('/');
        let mut args = vec![(Slot::Pattern, pattern)];
        if !dir.is_empty() {
            args.push((Slot::Path, dir));
        }
        match self.take(Verb::Search, &args)? {
            Outcome::Done(text) => Ok(parse::hits(&text)),
            Outcome::Failed(why) => Err(Stop::GiveUp(format!("the search failed: {}", first_line(&why)))),
        }
    }

    /// Writes a file, without looking whether it arrived.
    pub(super) fn write_only(&mut self, path: &str, content: &str) -> Result<(), Stop> {
        let mut why = String::new();
        for _ in 0..WRITES_MAX {
            match self.take(Verb::Write, &[(Slot::Path, path), (Slot::Content, content)])? {
                Outcome::Done(_) => {
                    self.note(path);
                    return Ok(());
                }
                Outcome::Failed(reason) => why = reason,
            }
        }
        Err(Stop::GiveUp(format!("{path} could not be written: {}", first_line(&why))))
    }

    /// Writes a file and reads it back; once more when it is not what was written.
    pub(super) fn write(&mut self, path: &str, content: &str) -> Result<(), Stop> {
        for _ in 0..WRITES_MAX {
            self.write_only(path, content)?;
            if !self.can(Verb::Read) {
                return Ok(());
            }
            match self.take(Verb::Read, &[(Slot::Path, path)])? {
                Outcome::Done(text) if self.whole(path, &text)?.trim_end() == content.trim_end() => {
                    return Ok(());
                }
                Outcome::Done(_) | Outcome::Failed(_) => {}
            }
        }
        Err(Stop::GiveUp(format!("{path} does not hold what was written to it")))
    }

    /// Puts `new` in the place of `old`, which must stand in the file.
    pub(super) fn edit(&mut self, path: &str, old: &str, new: &str) -> Result<Outcome, Stop> {
        let outcome = self.take(Verb::Edit, &[(Slot::Path, path), (Slot::Old, old), (Slot::New, new)])?;
        if matches!(outcome, Outcome::Done(_)) {
            self.note(path);
        }
        Ok(outcome)
    }

    fn note(&mut self, path: &str) {
        if !self.written.iter().any(|have| have == path) {
            self.written.push(path.to_owned());
        }
    }
}

/// The tool calls of a conversation that have a result, in order.
fn steps(messages: &[Message]) -> Vec<Step> {
    let mut results: BTreeMap<&str, Outcome> = BTreeMap::new();
    let blocks = || messages.iter().flat_map(|message| &message.content);
    for block in blocks() {
        if let Block::ToolResult { id, content, is_error, .. } = block {
            let text: String = content.iter().filter_map(Block::as_text).collect();
            let outcome = if *is_error { Outcome::Failed(text) } else { parse::outcome(text) };
            results.insert(id, outcome);
        }
    }
    let mut steps = Vec::new();
    for block in blocks() {
        if let Block::ToolUse { id, name, input, .. } = block
            && let Some(outcome) = results.get(id.as_str())
        {
            let (name, input, outcome) = (name.clone(), input.clone(), outcome.clone());
            steps.push(Step { name, input, outcome, used: false });
        }
    }
    steps
}

/// The entry that was probably meant: the same file name in another case or directory, else the same name with another
/// ending, else one that is a letter or two off.
fn nearest(path: &str, entries: &[String]) -> Option<String> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let stem =
        |path: &str| name(path).rsplit_once('.').map_or_else(|| name(path), |(stem, _)| stem.to_owned());
    let files = || entries.iter().filter(|entry| !entry.ends_with('/') && entry.as_str() != path);
    let same = files().find(|entry| name(entry) == name(path));
    let alike = || files().find(|entry| stem(entry) == stem(path));
    let close = || files().find(|entry| distance(&name(entry), &name(path)) <= 2);
    same.or_else(alike).or_else(close).cloned()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != *right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("no reason given").trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_file_that_was_meant() {
        let entries: Vec<String> =
            ["Notes.md", "data/", "data/report.csv", "todo.txt"].map(str::to_owned).into();
        let rows = [
            ("notes.md", Some("Notes.md")),
            ("report.csv", Some("data/report.csv")),
            ("notes.txt", Some("Notes.md")),
            ("tood.txt", Some("todo.txt")),
            ("entirely-else.rs", None),
        ];
        for (path, want) in rows {
            assert_eq!(nearest(path, &entries).as_deref(), want, "{path}");
        }
    }
}
