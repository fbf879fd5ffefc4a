//! The plan of a dry run, told: each step with what it would do, what it would ask, and what cannot be taken back.

#![expect(clippy::format_push_string, reason = "a few lines, once per step")]

use crate::card::preview;
use crate::narrate::object_of;
use crate::ui::{Look, Mark, Tone, count};
use backstop_agent::visible_line;
use backstop_journal::projections::timeline::{Timeline, ToolOutcome, ToolRow};
use backstop_label::Class;
use serde_json::{Value, json};

/// The steps of a plan: what the dry run would have changed, and what it noted.
fn steps(timeline: &Timeline) -> Vec<&ToolRow> {
    let good = |tool: &&ToolRow| matches!(tool.outcome, ToolOutcome::Finished { is_error: false, .. });
    timeline.tools().filter(good).filter(|tool| tool.class != Class::Read).collect()
}

/// The plan, for a person.
pub(crate) fn told(timeline: &Timeline, full: bool, look: Look) -> String {
    let steps = steps(timeline);
    let mut text = String::new();
    for (number, step) in (1..).zip(&steps) {
        let object =
            step.args.value().and_then(object_of).map_or_else(String::new, |object| format!(" {object}"));
        let name = look.paint(Tone::Strong, visible_line(&format!("{}{object}", step.tool)));
        text += &format!("{number}. {name}\n");
        match step.preview.read::<String>() {
            Some(shown) if !shown.is_empty() => text += &preview(&shown, full, look),
            _ => {
                let args = step.args.value().map(ToString::to_string).unwrap_or_default();
                text += &format!("    {}\n", visible_line(&args));
            }
        }
        if let Some(why) = &step.asks {
            text += &format!("    {} a person is asked: {why}\n", look.mark(Mark::Wait));
        }
        if !step.reversible {
            text += &format!("    {} cannot be taken back\n", look.mark(Mark::Warn));
        }
    }
    let asking = steps.iter().filter(|step| step.asks.is_some()).count();
    let run = &timeline.summary.run;
    if steps.is_empty() {
        return "the plan changes nothing\n".to_owned();
    }
    let asks = if asking == 0 { String::new() } else { format!(", {asking} of them ask a person first") };
    text += &format!(
        "\n{}{asks}; making the plan cost {}; nothing was done yet\n`backstop apply {run}` carries it out\n",
        count(steps.len(), "step"),
        timeline.summary.cost,
    );
    text
}

/// The plan as data.
pub(crate) fn as_json(timeline: &Timeline) -> Value {
    let step = |step: &&ToolRow| {
        json!({
            "call": step.id,
            "tool": step.tool,
            "args": step.args.value(),
            "preview": step.preview.read::<String>(),
            "effect": step.effect,
            "reversible": step.reversible,
            "asks": step.asks,
        })
    };
    json!({
        "run": timeline.summary.run,
        "cost_usd": timeline.summary.cost.decimal(),
        "steps": steps(timeline).iter().map(step).collect::<Vec<_>>(),
    })
}
