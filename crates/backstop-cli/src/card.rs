//! What a person is shown before they decide: the exact call, what it would do, why it is asked, what it was decided from.
//! Everything on it comes from the journal; nothing is the model's description.

#![expect(clippy::format_push_string, reason = "a few lines, once per question")]

use crate::ui::{Look, Mark, Tone, moment};
use backstop_agent::run::OpenQuestion;
use backstop_agent::visible;
use backstop_call::{Money, RunId};
use backstop_label::Effect;
use serde_json::Value;

/// The most lines of a preview on a card; `show --full` has all.
const PREVIEW_LINES_MAX: usize = 40;

/// A question, as a person sees it.
pub(crate) fn card(run: &RunId, cost: Money, open: &OpenQuestion, full: bool, look: Look) -> String {
    let dim = |text: &str| look.paint(Tone::Dim, format!("{text:<10}"));
    let mut text = format!(
        "{} {} {}\n",
        look.mark(Mark::Wait),
        look.paint(Tone::Strong, visible(&open.tool)),
        look.paint(Tone::Dim, format!("({}, run {run})", open.approval)),
    );
    text += &format!("  {} {}\n", dim("why"), open.why);
    for (name, value) in args(&open.args) {
        text += &format!("  {} {}\n", dim(&visible(&name)), indented(&value, 13));
    }
    if !open.preview.is_empty() {
        text += &format!("  {}\n", dim("would do"));
        text += &preview(&open.preview, full, look);
    }
    text += &format!("  {} {}\n", dim("reaches"), reach(open.effect));
    let back = if open.reversible { "can be taken back: `backstop undo`" } else { "cannot be taken back" };
    let tone = if open.reversible { Tone::Plain } else { Tone::Warn };
    text += &format!("  {} {}\n", dim("afterwards"), look.paint(tone, back));
    if let Some(labels) = labels(open) {
        text += &format!("  {} {}\n", dim("based on"), look.paint(Tone::Warn, labels));
    }
    text += &format!("  {} {cost} so far\n", dim("run cost"));
    text += &format!("  {} {}, then the answer is no\n", dim("stands to"), moment(open.expires));
    text
}

/// The arguments, one by one; what is no object as a whole.
fn args(args: &Value) -> Vec<(String, String)> {
    let shown = |value: &Value| match value {
        Value::String(text) => visible(text),
        other => visible(&other.to_string()),
    };
    match args {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), shown(value))).collect(),
        other => vec![("arguments".to_owned(), shown(other))],
    }
}

/// The lines of a preview: what goes and what comes can be told apart.
pub(crate) fn preview(preview: &str, full: bool, look: Look) -> String {
    let lines: Vec<_> = preview.lines().collect();
    let shown = if full { lines.len() } else { lines.len().min(PREVIEW_LINES_MAX) };
    let mut text = String::new();
    for line in &lines[..shown] {
        let tone = match line.chars().next() {
            Some('+') => Tone::Good,
            Some('-') => Tone::Bad,
            Some('@') => Tone::Dim,
            _ => Tone::Plain,
        };
        text += &format!("    {}\n", look.paint(tone, visible(line)));
    }
    if shown < lines.len() {
        text += &format!("    … {} more lines, see `backstop approvals show --full`\n", lines.len() - shown);
    }
    text
}

fn reach(effect: Option<Effect>) -> &'static str {
    match effect {
        Some(Effect::Read) => "nothing: it only looks",
        Some(Effect::Write) => "the run's own space",
        Some(Effect::External) => "somebody or something outside",
        Some(Effect::Destructive) => "it destroys something",
        None => "not declared, so it may reach anything",
    }
}

fn labels(open: &OpenQuestion) -> Option<String> {
    let private = open.labels.private.iter().map(|category| format!("private text ({category})"));
    let untrusted = open.labels.untrusted.then(|| "text that somebody else may have written".to_owned());
    let all: Vec<_> = untrusted.into_iter().chain(private).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// Further lines of a value stand below its first.
fn indented(text: &str, by: usize) -> String {
    text.trim_end().replace('\n', &format!("\n{:by$}", ""))
}
