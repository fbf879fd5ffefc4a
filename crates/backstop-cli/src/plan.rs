//! The plan of a dry run, told: each step with what it would do, what it would ask, and what cannot be taken back.

#![expect(clippy::format_push_string, reason = "a few lines, once per step")]

use crate::card::preview;
use crate::narrate::object_of;
use crate::ui::{Look, Mark, Tone, count};
use backstop_agent::{DELEGATE, child_of, visible_line};
use backstop_call::{BoxFuture, Money, RunId};
use backstop_journal::projections::timeline::{Timeline, ToolOutcome, ToolRow};
use backstop_journal::{Journal, JournalError, StreamId};
use backstop_label::Class;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A plan: what a dry run did, with what the runs did that did parts for it.
pub(crate) struct Plan {
    timeline: Timeline,
    /// By the call that gave it out.
    parts: BTreeMap<String, Self>,
}

impl Plan {
    /// Reads a run as a plan; `None` where there is none.
    pub(crate) fn read<'a>(
        journal: &'a dyn Journal,
        run: &'a RunId,
    ) -> BoxFuture<'a, Result<Option<Self>, JournalError>> {
        Box::pin(async move {
            let events = journal.read(&StreamId::Run(run.clone()), 0).await?;
            let Some(timeline) = Timeline::fold(&events).filter(|timeline| timeline.created.dry_run) else {
                return Ok(None);
            };
            let given_out: Vec<_> =
                timeline.tools().filter(|row| row.tool == DELEGATE).map(|row| row.id.clone()).collect();
            let mut parts = BTreeMap::new();
            for id in given_out {
                let part = child_of(run, &id);
                parts.extend(Self::read(journal, &part).await?.map(|plan| (id, plan)));
            }
            Ok(Some(Self { timeline, parts }))
        })
    }

    /// Whether what it says was erased.
    pub(crate) fn is_erased(&self) -> bool {
        self.timeline.summary.erased.is_some()
    }

    /// What the dry run would have changed, and what it noted; those of a part right after the call that gives it out, also
    /// where the part was not done.
    fn steps(&self) -> Vec<&ToolRow> {
        let mut steps = Vec::new();
        for tool in self.timeline.tools().filter(|tool| tool.class != Class::Read) {
            let part = self.parts.get(&tool.id);
            let good = matches!(tool.outcome, ToolOutcome::Finished { is_error: false, .. });
            steps.extend((good || part.is_some()).then_some(tool));
            steps.extend(part.into_iter().flat_map(Self::steps));
        }
        steps
    }

    /// What making it cost.
    fn cost(&self) -> Money {
        self.timeline.summary.cost + self.parts.values().map(Self::cost).sum()
    }
}

/// The plan, for a person.
pub(crate) fn told(plan: &Plan, full: bool, look: Look) -> String {
    let steps = plan.steps();
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
    let run = &plan.timeline.summary.run;
    if steps.is_empty() {
        return "the plan changes nothing\n".to_owned();
    }
    let asks = if asking == 0 { String::new() } else { format!(", {asking} of them ask a person first") };
    text += &format!(
        "\n{}{asks}; making the plan cost {}; nothing was done yet\n`backstop apply {run}` carries it out\n",
        count(steps.len(), "step"),
        plan.cost(),
    );
    text
}

/// The plan as data.
pub(crate) fn as_json(plan: &Plan) -> Value {
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
        "run": plan.timeline.summary.run,
        "cost_usd": plan.cost().decimal(),
        "steps": plan.steps().iter().map(step).collect::<Vec<_>>(),
    })
}
