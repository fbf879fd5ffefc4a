//! What a model is given of a server's answer: cleaned, bounded, and held against the tool's own output schema.

use super::session::{Answer, Piece};
use super::text::{cleaned, cut};
use backstop_call::{Block, ImageSource};
use backstop_label::Class;
use jsonschema::Validator;

/// The most pictures of one answer.
const IMAGES_MAX: usize = 8;
/// The most faults of an answer that are told.
const FAULTS_MAX: usize = 3;

/// An answer as a model is given it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Told {
    /// What the call gave.
    Result(Vec<Block>),
    /// A call that changes nothing gave nothing of use. The text is for the model.
    Nothing(String),
}

/// Reads an answer. What a server says of a call that may have changed something is its result, also when that is an error:
/// nobody can know from it that nothing was done.
pub(super) fn told(answer: Answer, output: Option<&Validator>, class: Class, max_bytes: usize) -> Told {
    if let Some(reason) = unfit(&answer, output) {
        return match class {
            Class::Read => Told::Nothing(format!("No result: {reason}.")),
            Class::Idempotent | Class::Write | Class::Irreversible => {
                let text = format!("The call was made, but its answer is withheld: {reason}.");
                Told::Result(vec![Block::text(text)])
            }
        };
    }
    let is_error = answer.is_error;
    let mut blocks = blocks(answer, class, max_bytes);
    if !is_error {
        return Told::Result(blocks);
    }
    if class == Class::Read {
        let text: Vec<_> = blocks.iter().filter_map(Block::as_text).collect();
        return Told::Nothing(format!("The server reports an error: {}", text.join("\n")));
    }
    blocks.insert(
        0,
        Block::text("The server reports an error; something may have been changed all the same:\n"),
    );
    Told::Result(blocks)
}

/// Why an answer is not as the tool says that its answers are.
fn unfit(answer: &Answer, output: Option<&Validator>) -> Option<String> {
    let validator = output?;
    // An error has no other shape than a text.
    if answer.is_error && answer.structured.is_none() {
        return None;
    }
    let Some(structured) = &answer.structured else {
        return Some("it has not the shape that the server says its answers have".to_owned());
    };
    let mut faults = validator.iter_errors(structured).map(|error| {
        let place = error.instance_path().to_string();
        format!("{} {error}", if place.is_empty() { "/" } else { &place })
    });
    let first: Vec<_> = faults.by_ref().take(FAULTS_MAX).collect();
    if first.is_empty() {
        return None;
    }
    let (faults, _) = cleaned(&first.join("; "));
    Some(format!("it does not fit what the server says its answers are: {}", cut(&faults, 600)))
}

fn blocks(answer: Answer, class: Class, max_bytes: usize) -> Vec<Block> {
    let Answer { mut content, structured, .. } = answer;
    if let Some(structured) = structured.filter(|_| content.is_empty()) {
        content.push(Piece::Text(structured.to_string()));
    }
    let mut reading = Reading { blocks: Vec::new(), left: max_bytes, images: 0, hidden: 0, cut: 0 };
    for piece in content {
        reading.take(piece);
    }
    reading.end(class)
}

struct Reading {
    blocks: Vec<Block>,
    left: usize,
    images: usize,
    hidden: usize,
    cut: usize,
}

impl Reading {
    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) | Piece::Other(text) => self.text(&text),
            Piece::Image { media_type, base64 } => {
                let is_good =
                    media_type.starts_with("image/") && media_type.len() < 64 && media_type.is_ascii();
                self.images += 1;
                if !is_good || self.images > IMAGES_MAX || base64.len() > self.left {
                    return self.text(&format!("[a picture of {} bytes as base64, not shown]", base64.len()));
                }
                self.left -= base64.len();
                self.blocks.push(Block::Image {
                    source: ImageSource::Base64 { media_type, data: base64 },
                    cache: None,
                });
            }
        }
    }

    fn text(&mut self, text: &str) {
        let (text, hidden) = cleaned(text);
        self.hidden += hidden;
        let kept = cut(&text, self.left);
        self.cut += text.len() - kept.len();
        self.left -= kept.len();
        if !kept.is_empty() {
            self.blocks.push(Block::text(kept));
        }
    }

    fn end(mut self, class: Class) -> Vec<Block> {
        let mut notes = Vec::new();
        if self.cut > 0 {
            // What acts is not to be called again for the rest of its answer.
            let advice = match class {
                Class::Read => "; ask for less at once",
                Class::Idempotent | Class::Write | Class::Irreversible => {
                    ", and kept nowhere; the call was made, so do not make it again to see them"
                }
            };
            notes.push(format!("{} bytes more are cut off{advice}", self.cut));
        }
        if self.hidden > 0 {
            notes.push(format!("{} characters that nobody sees were taken out", self.hidden));
        }
        if !notes.is_empty() {
            self.blocks.push(Block::text(format!("\n[{}]", notes.join("; "))));
        }
        if self.blocks.is_empty() {
            self.blocks.push(Block::text("[done; the server said nothing]"));
        }
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Answer {
        Answer { content: vec![Piece::Text(text.to_owned())], ..Answer::default() }
    }

    fn shown(answer: Answer, class: Class) -> String {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let validator = answer.structured.is_some().then(|| jsonschema::validator_for(&schema).unwrap());
        match told(answer, validator.as_ref(), class, 16) {
            Told::Result(blocks) => blocks.iter().filter_map(Block::as_text).collect::<Vec<_>>().join("|"),
            Told::Nothing(text) => format!("nothing: {text}"),
        }
    }

    #[test]
    fn answers_are_cleaned_bounded_and_checked() {
        let structured = |value, content| Answer { structured: Some(value), content, is_error: false };
        let error = |text_of: &str| Answer { is_error: true, ..text(text_of) };
        let withheld =
            "it does not fit what the server says its answers are: /n \"x\" is not of type \"integer\".";
        let rows = [
            (text("hello"), Class::Read, "hello".to_owned()),
            (
                text("a\u{202e}b"),
                Class::Read,
                "ab|\n[1 characters that nobody sees were taken out]".to_owned(),
            ),
            (
                text("12345678901234567890"),
                Class::Read,
                "1234567890123456|\n[4 bytes more are cut off; ask for less at once]".to_owned(),
            ),
            (
                text("12345678901234567890"),
                Class::Write,
                "1234567890123456|\n[4 bytes more are cut off, and kept nowhere; the call was made, so do not make it \
                 again to see them]"
                    .to_owned(),
            ),
            (Answer::default(), Class::Write, "[done; the server said nothing]".to_owned()),
            (structured(json!({"n": 1}), vec![]), Class::Read, "{\"n\":1}".to_owned()),
            (structured(json!({"n": 1}), vec![Piece::Text("one".into())]), Class::Read, "one".to_owned()),
            (structured(json!({"n": "x"}), vec![]), Class::Read, format!("nothing: No result: {withheld}")),
            (
                structured(json!({"n": "x"}), vec![]),
                Class::Write,
                format!("The call was made, but its answer is withheld: {withheld}"),
            ),
            (
                error("no such file"),
                Class::Read,
                "nothing: The server reports an error: no such file".to_owned(),
            ),
            (
                error("no such file"),
                Class::Write,
                "The server reports an error; something may have been changed all the same:\n|no such file"
                    .to_owned(),
            ),
            (
                Answer {
                    content: vec![Piece::Image { media_type: "text/html".into(), base64: "AAAA".into() }],
                    ..Answer::default()
                },
                Class::Read,
                "[a picture of 4 |\n[27 bytes more are cut off; ask for less at once]".to_owned(),
            ),
        ];
        for (answer, class, want) in rows {
            assert_eq!(shown(answer.clone(), class), want, "{answer:?}");
        }
    }

    #[test]
    fn an_answer_without_the_shape_it_must_have_is_not_used() {
        let validator = jsonschema::validator_for(&json!({"type": "object"})).unwrap();
        let want = Told::Nothing(
            "No result: it has not the shape that the server says its answers have.".to_owned(),
        );
        assert_eq!(told(text("hello"), Some(&validator), Class::Read, 100), want);
    }
}
