//! What a model is given of a server's answer: cleaned, bounded, and held against the tool's own output schema. What is beyond the
//! bound is given along, to be kept.

use super::session::{Answer, Piece};
use super::text::{cleaned, cut};
use backstop_agent::ToolOutput;
use backstop_agent::tool::{Whole, spelled};
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
    Result(ToolOutput),
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
                Told::Result(ToolOutput::text(text))
            }
        };
    }
    let is_error = answer.is_error;
    let mut output = read(answer, max_bytes);
    if !is_error {
        return Told::Result(output);
    }
    if class == Class::Read {
        let text: Vec<_> = output.content.iter().filter_map(Block::as_text).collect();
        let more = if output.whole.is_some() { "\n[the rest is cut off]" } else { "" };
        return Told::Nothing(format!("The server reports an error: {}{more}", text.join("\n")));
    }
    let warning = "The server reports an error; something may have been changed all the same:\n";
    output.content.insert(0, Block::text(warning));
    Told::Result(output)
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

fn read(answer: Answer, max_bytes: usize) -> ToolOutput {
    let Answer { mut content, structured, .. } = answer;
    if let Some(structured) = structured.filter(|_| content.is_empty()) {
        content.push(Piece::Text(structured.to_string()));
    }
    let mut reading = Reading { left: max_bytes, ..Reading::default() };
    for piece in content {
        reading.take(piece);
    }
    reading.end()
}

/// What of an answer is told, which is the beginning of it, and all of it.
#[derive(Default)]
struct Reading {
    told: Vec<Block>,
    whole: Vec<Block>,
    told_bytes: usize,
    /// Bytes that may still be told.
    left: usize,
    images: usize,
    hidden: usize,
    /// Nothing more is told.
    is_cut: bool,
    /// There is more in the whole than is told.
    has_more: bool,
}

impl Reading {
    fn take(&mut self, piece: Piece) {
        match piece {
            Piece::Text(text) | Piece::Other(text) => {
                let (text, hidden) = cleaned(&text);
                self.hidden += hidden;
                self.text(&text);
                self.whole.push(Block::text(text));
            }
            Piece::Image { media_type, base64 } => self.image(media_type, base64),
        }
    }

    fn image(&mut self, media_type: String, base64: String) {
        let is_good = media_type.starts_with("image/") && media_type.len() < 64 && media_type.is_ascii();
        if !is_good {
            let text = format!("[{} bytes as base64 of a type that is none of a picture]", base64.len());
            self.text(&text);
            return self.whole.push(Block::text(text));
        }
        let bytes = base64.len();
        let image = Block::Image { source: ImageSource::Base64 { media_type, data: base64 }, cache: None };
        let spelled = spelled(std::slice::from_ref(&image));
        self.images += 1;
        if self.is_cut || self.images > IMAGES_MAX || bytes > self.left {
            self.has_more = true;
            self.text(&spelled);
        } else {
            self.left -= bytes;
            self.told_bytes += spelled.len();
            self.told.push(image.clone());
        }
        self.whole.push(image);
    }

    /// Tells as much of a text as may be told.
    fn text(&mut self, text: &str) {
        let kept = if self.is_cut { "" } else { cut(text, self.left) };
        self.is_cut |= kept.len() < text.len();
        self.has_more |= self.is_cut;
        self.left -= kept.len();
        self.told_bytes += kept.len();
        if !kept.is_empty() {
            self.told.push(Block::text(kept));
        }
    }

    fn end(mut self) -> ToolOutput {
        if self.hidden > 0 {
            let note = format!("\n[{} characters that nobody sees were taken out]", self.hidden);
            self.told.push(Block::text(note));
        }
        if self.told.is_empty() {
            self.told.push(Block::text("[done; the server said nothing]"));
        }
        let whole = Whole { content: self.whole, told_bytes: self.told_bytes };
        ToolOutput { content: self.told, whole: self.has_more.then_some(whole), ..ToolOutput::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(text: &str) -> Answer {
        Answer { content: vec![Piece::Text(text.to_owned())], ..Answer::default() }
    }

    fn parts(texts: [&str; 2]) -> Answer {
        Answer { content: texts.map(|text| Piece::Text(text.to_owned())).to_vec(), ..Answer::default() }
    }

    fn shown(answer: Answer, class: Class) -> String {
        let schema = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let validator = answer.structured.is_some().then(|| jsonschema::validator_for(&schema).unwrap());
        match told(answer, validator.as_ref(), class, 16) {
            Told::Result(output) => {
                let mut told: Vec<_> =
                    output.content.iter().filter_map(Block::as_text).map(str::to_owned).collect();
                told.extend(
                    output.whole.map(|whole| format!("{} of: {}", whole.told_bytes, spelled(&whole.content))),
                );
                told.join("|")
            }
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
                "1234567890123456|16 of: 12345678901234567890".to_owned(),
            ),
            (
                parts(["123456789012345€", "after"]),
                Class::Write,
                "123456789012345|15 of: 123456789012345€after".to_owned(),
            ),
            (
                parts(["1234567890123456", "after"]),
                Class::Write,
                "1234567890123456|16 of: 1234567890123456after".to_owned(),
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
                "[4 bytes as base|16 of: [4 bytes as base64 of a type that is none of a picture]".to_owned(),
            ),
            (
                error("12345678901234567890"),
                Class::Read,
                "nothing: The server reports an error: 1234567890123456\n[the rest is cut off]".to_owned(),
            ),
        ];
        for (answer, class, want) in rows {
            assert_eq!(shown(answer.clone(), class), want, "{answer:?}");
        }
    }

    #[test]
    fn pictures_that_are_too_many_or_too_large_are_told_of_and_kept() {
        let image = |base64: &str| Piece::Image { media_type: "image/png".into(), base64: base64.into() };
        let kept = |base64: &str| Block::Image {
            source: ImageSource::Base64 { media_type: "image/png".into(), data: base64.into() },
            cache: None,
        };
        let large = "A".repeat(60);
        let content =
            vec![image("AAAA"), Piece::Text("then".into()), image(&large), Piece::Text("end".into())];
        let Told::Result(output) = told(Answer { content, ..Answer::default() }, None, Class::Read, 60)
        else {
            panic!("it is a result");
        };
        let spelled = "[a picture of 60 bytes as base64]";
        let told = [kept("AAAA"), Block::text("then"), Block::text(spelled), Block::text("end")];
        assert_eq!(output.content, told);
        let content = vec![kept("AAAA"), Block::text("then"), kept(&large), Block::text("end")];
        let told_bytes = super::spelled(&content).len();
        assert_eq!(output.whole, Some(Whole { content, told_bytes }));

        let many = vec![image("AAAA"); IMAGES_MAX + 1];
        let Told::Result(output) =
            super::told(Answer { content: many, ..Answer::default() }, None, Class::Read, 999)
        else {
            panic!("it is a result");
        };
        assert_eq!(output.content.last(), Some(&Block::text("[a picture of 4 bytes as base64]")));
        assert_eq!(output.whole.map(|whole| whole.content), Some(vec![kept("AAAA"); IMAGES_MAX + 1]));
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
