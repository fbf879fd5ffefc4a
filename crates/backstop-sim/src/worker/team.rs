//! The jobs of a team that keeps something together: goals are handed out as tasks, a letter goes to many as a task for each, one
//! mail is sent, and what was changed is reviewed and pushed. They call Backstop's own tools by their names.

use super::Report;
use super::desk::{Ask, Desk, Outcome, Stop};
use super::jobs::done;
use super::text;
use serde_json::{Value, json};
use std::fmt::Write;

/// The longest subject of a mail, in characters.
const SUBJECT_CHARS_MAX: usize = 80;
/// The most files that are reviewed.
const REVIEWED_MAX: usize = 50;

/// A letter to many.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Letter {
    /// Who writes it, and how that is worded.
    pub(super) writer: String,
    pub(super) part: String,
    /// Who sends it.
    pub(super) mailer: String,
    pub(super) file: String,
    /// The file with the addresses.
    pub(super) list: String,
}

/// A review, and where what was found right is pushed to.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Review {
    /// The file for the remarks.
    pub(super) target: String,
    pub(super) branch: String,
    pub(super) remote: String,
}

/// Makes a call that must succeed.
fn must(desk: &mut Desk<'_>, name: &str, input: Value) -> Result<String, Stop> {
    match desk.call(&Ask { name: name.to_owned(), input })? {
        Outcome::Done(text) => Ok(text),
        Outcome::Failed(why) => Err(Stop::GiveUp(format!("{name} failed: {why}"))),
    }
}

/// Puts a task into the queue for each goal of a list, `- AGENT: TASK`, in their order.
pub(super) fn hand_out(desk: &mut Desk<'_>, source: &str) -> Result<Report, Stop> {
    let (path, content) = desk.read(source)?;
    let goals: Vec<(&str, &str)> = content.lines().filter_map(goal).collect();
    if goals.is_empty() {
        return Err(Stop::GiveUp(format!("{path} has no goals, which are lines like `- AGENT: TASK`")));
    }
    for (agent, task) in &goals {
        must(desk, "submit_task", json!({"agent": agent, "task": task}))?;
    }
    let count = goals.len();
    Ok(done(desk, format!("put the {count} goals of {path} into the queue"), json!({"tasks": count})))
}

fn goal(line: &str) -> Option<(&str, &str)> {
    let (agent, task) = line.strip_prefix("- ")?.split_once(": ")?;
    let is_name = !agent.is_empty() && agent.chars().all(|c| c.is_alphanumeric() || "-_".contains(c));
    is_name.then(|| (agent, task.trim()))
}

/// Has the letter written, then puts in a task for each address.
pub(super) fn letter(desk: &mut Desk<'_>, letter: &Letter) -> Result<Report, Stop> {
    let Letter { writer, part, mailer, file, list } = letter;
    let mut words = part.chars();
    let first: String = words.next().into_iter().flat_map(char::to_uppercase).collect();
    must(desk, "delegate", json!({"agent": writer, "task": format!("{first}{}.", words.as_str())}))?;
    let (path, content) = desk.read(list)?;
    let addresses = text::emails(&content);
    for address in &addresses {
        must(desk, "submit_task", json!({"agent": mailer, "task": format!("Send {file} to {address}.")}))?;
    }
    let count = addresses.len();
    let summary = format!("had {file} written and put in a mail for each of the {count} addresses of {path}");
    Ok(done(desk, summary, json!({"tasks": count})))
}

/// Sends a file to one address. Its first line is the subject.
pub(super) fn send(desk: &mut Desk<'_>, file: &str, to: &str) -> Result<Report, Stop> {
    let (path, content) = desk.read(file)?;
    let first = content.lines().find(|line| !line.trim().is_empty()).unwrap_or("News");
    let plain = first.trim_start_matches('#').trim().trim_end_matches('.');
    let subject: String = plain.chars().take(SUBJECT_CHARS_MAX).collect();
    must(desk, "send_email", json!({"to": [to], "subject": subject, "body": content}))?;
    Ok(done(desk, format!("sent {path} to {to}"), json!({"to": to})))
}

/// Reads what was changed and writes remarks. What has nothing wrong is committed and pushed.
pub(super) fn review(desk: &mut Desk<'_>, review: &Review) -> Result<Report, Stop> {
    let Review { target, branch, remote } = review;
    let status = must(desk, "git_status", json!({}))?;
    let mut changed: Vec<Change<'_>> = status.lines().filter_map(change).collect();
    changed.retain(|change| change.path != target);
    if changed.is_empty() {
        return Ok(done(desk, "there is nothing to review".to_owned(), json!({"wrong": 0})));
    }
    if changed.len() > REVIEWED_MAX {
        let count = changed.len();
        return Err(Stop::GiveUp(format!(
            "{count} files are changed, and {REVIEWED_MAX} are reviewed at once"
        )));
    }
    let (mut remarks, mut wrong) = ("# Review\n\n".to_owned(), 0);
    for Change { path, gone } in &changed {
        let remark = if *gone {
            "taken away"
        } else {
            remark(&desk.read(path)?.1).inspect(|_| wrong += 1).unwrap_or("nothing wrong")
        };
        writeln!(remarks, "- {path}: {remark}").expect("a string takes all");
    }
    desk.write(target, &remarks)?;
    let count = changed.len();
    if wrong > 0 {
        return Err(Stop::GiveUp(format!(
            "{wrong} of {count} files are not right, as {target} says; nothing was committed"
        )));
    }
    let paths: Vec<&str> = changed.iter().map(|change| change.path).collect();
    must(
        desk,
        "git_commit",
        json!({"message": format!("Publish {count} files that were reviewed"), "paths": paths}),
    )?;
    must(desk, "git_push", json!({"remote": remote, "branch": branch}))?;
    let summary =
        format!("reviewed {count} files, with nothing wrong, and pushed them to {branch} of {remote}");
    Ok(done(desk, summary, json!({"reviewed": count, "wrong": wrong})))
}

/// A file that differs from the last commit.
#[derive(Debug, PartialEq, Eq)]
struct Change<'a> {
    path: &'a str,
    gone: bool,
}

/// A line of `git status --porcelain`. A name that git quotes is passed over.
fn change(line: &str) -> Option<Change<'_>> {
    let (state, path) = line.split_at_checked(3)?;
    let path = path.rsplit_once(" -> ").map_or(path, |(_, path)| path);
    let is_file =
        !state.starts_with("##") && state.ends_with(' ') && !path.is_empty() && !path.starts_with('"');
    is_file.then(|| Change { path, gone: state.contains('D') })
}

/// What is wrong with a file, if anything is.
fn remark(content: &str) -> Option<&'static str> {
    if content.trim().is_empty() {
        return Some("it is empty");
    }
    content.contains("TODO").then_some("it says TODO")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goals_changes_and_remarks() {
        let rows = [
            ("- writer: Do it: now. ", Some(("writer", "Do it: now."))),
            ("- just a line", None),
            ("- two words: no", None),
            ("writer: no list", None),
        ];
        for (line, want) in rows {
            assert_eq!(goal(line), want, "{line}");
        }
        let rows = [
            ("## main...published/main", None),
            ("?? pages/hours.md", Some(("pages/hours.md", false))),
            (" M index.md", Some(("index.md", false))),
            (" D old.md", Some(("old.md", true))),
            ("R  a.md -> b c.md", Some(("b c.md", false))),
            ("?? \"\\303\\274.md\"", None),
            ("", None),
        ];
        for (line, want) in rows {
            assert_eq!(change(line), want.map(|(path, gone)| Change { path, gone }), "{line}");
        }
        let rows = [("# Page\n", None), (" \n", Some("it is empty")), ("a TODO b", Some("it says TODO"))];
        for (content, want) in rows {
            assert_eq!(remark(content), want, "{content}");
        }
    }
}
