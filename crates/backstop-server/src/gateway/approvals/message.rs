//! What is told of a question: JSON for programs, and a card for Slack. What is private stays here: then only the link is sent.
//! Texts of models and tools are never markup.

use super::desk::{Card, reach};
use backstop_agent::{visible, visible_line};
use serde_json::{Value, json};

/// The most characters of a preview in a message.
const PREVIEW_CHARS_MAX: usize = 1_500;
/// The most characters of anything else.
const TEXT_CHARS_MAX: usize = 500;

/// A question to be told, and where it is seen.
pub(super) struct Told<'a> {
    pub(super) card: &'a Card,
    pub(super) link: &'a str,
}

/// For a program.
pub(super) fn webhook(told: &Told<'_>) -> Value {
    let Told { card, link } = told;
    let asked = &card.asked;
    let withheld = card.is_private();
    let shown = |value: Value| if withheld { Value::Null } else { value };
    json!({
        "event": "approval.requested",
        "approval": asked.approval,
        "run": card.run,
        "agent": card.agent,
        "task": card.task,
        "tool": asked.tool,
        "args": shown(asked.args.clone()),
        "args_hash": card.args_hash,
        "preview": shown(Value::from(shortened(&asked.preview, PREVIEW_CHARS_MAX))),
        "preview_hash": card.preview_hash,
        "withheld": withheld,
        "why": asked.why,
        "effect": asked.effect,
        "reversible": asked.reversible,
        "labels": asked.labels,
        "cost_usd": card.cost.decimal(),
        "expires": asked.expires.rfc3339(),
        "default": "deny",
        "link": link,
    })
}

/// For an incoming webhook of Slack.
pub(super) fn slack(told: &Told<'_>) -> Value {
    let Told { card, link } = told;
    let asked = &card.asked;
    let tool = shortened(&visible_line(&asked.tool), 100);
    let preview = match (card.is_private(), asked.preview.is_empty()) {
        (true, _) => "It is about private text, which is shown on the page only.".to_owned(),
        (false, false) => visible(&asked.preview),
        (false, true) => visible(&format!("{:#}", asked.args)),
    };
    let back = if asked.reversible { "can be taken back" } else { "cannot be taken back" };
    let facts = format!(
        "Reaches: {}\nAfterwards: {back}\nAgent {}, run {}, {} so far\nStands to {}, then the answer is no",
        reach(asked.effect),
        visible_line(card.agent.as_str()),
        card.run,
        card.cost,
        asked.expires,
    );
    let plain = |text: &str| json!({"type": "plain_text", "text": text, "emoji": false});
    let preformatted = json!({
        "type": "rich_text_preformatted",
        "elements": [{"type": "text", "text": shortened(&preview, PREVIEW_CHARS_MAX)}],
    });
    json!({
        "text": format!("An agent asks whether it may call {}", escaped(&tool)),
        "blocks": [
            {"type": "header", "text": plain(&format!("May it call {tool}?"))},
            {"type": "section", "text": plain(&shortened(&visible(&asked.why), TEXT_CHARS_MAX))},
            {"type": "rich_text", "elements": [preformatted]},
            {"type": "section", "text": plain(&facts)},
            {"type": "section", "text": {"type": "mrkdwn", "text": format!("<{}|Look at it and answer>", escaped(link))}},
        ],
    })
}

fn shortened(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        None => text.to_owned(),
        Some((end, _)) => format!("{}… {} more characters", &text[..end], text[end..].chars().count()),
    }
}

/// Text in Slack's markup: these three are all that steers it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_say_what_is_left_out() {
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("äbcde", 3), "äbc… 2 more characters");
        assert_eq!(escaped("<!channel> & co"), "&lt;!channel&gt; &amp; co");
    }
}
