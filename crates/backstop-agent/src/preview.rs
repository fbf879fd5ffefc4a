//! What a person is shown before they say yes. Everything in it can be seen: nothing steers a terminal, hides, or turns the
//! order of what is read.

use similar::TextDiff;

/// The most bytes of a preview; what is beyond is counted.
const SHOWN_MAX_BYTES: usize = 32 * 1024;
/// Texts that are longer together are not compared line by line: it could take minutes.
const DIFFED_MAX_BYTES: usize = 1024 * 1024;
/// Lines around a change.
const CONTEXT_LINES: usize = 3;

/// The text with every character that would not be seen as itself written as its number: control characters but line ends
/// and tabs, marks that turn the direction of text, and those of no width.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_hidden(character) {
            shown.extend(character.escape_unicode());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// The same for a text that must stay on its line.
pub fn visible_line(text: &str) -> String {
    visible(text).replace('\n', "\\n").replace('\t', "\\t")
}

/// Whether a character shows nothing by itself, or changes how others are shown. A line end and a tab are seen, and so is the
/// mark that only asks for a picture (U+FE0F).
pub fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Soft hyphen and joiner, Arabic letter mark, fillers of Hangul and Khmer, Mongolian separators; zero width and
        // direction marks; line separators and embeddings; invisible operators and isolates; byte order mark; annotations;
        // shorthand and musical controls; variation selectors and tags, which carry text that nobody sees.
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{115f}'..='\u{1160}'
        | '\u{17b4}'..='\u{17b5}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0e}'
        | '\u{feff}'
        | '\u{ffa0}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{1bca0}'..='\u{1bca3}'
        | '\u{1d173}'..='\u{1d17a}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        other => other.is_control(),
    }
}

/// The lines that go and come between two texts, with some around them.
pub fn diff(before: &str, after: &str) -> String {
    if before.len() + after.len() > DIFFED_MAX_BYTES {
        return format!("{} lines become {} lines\n", before.lines().count(), after.lines().count());
    }
    let diff = TextDiff::from_lines(before, after);
    shortened(&visible(&diff.unified_diff().context_radius(CONTEXT_LINES).to_string()))
}

/// The beginning of a text, by whole lines, and how much is left out.
pub fn shortened(text: &str) -> String {
    if text.len() <= SHOWN_MAX_BYTES {
        return text.to_owned();
    }
    let cut = text.floor_char_boundary(SHOWN_MAX_BYTES);
    let end = text[..cut].rfind('\n').map_or(cut, |at| at + 1);
    let rest = &text[end..];
    format!("{}… {} more lines, {} bytes\n", &text[..end], rest.lines().count(), rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn nothing_hides() {
        let rows = [
            ("plain\ttext\n", "plain\ttext\n"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\rb", "a\\u{d}b"),
            ("pay \u{202e}evil", "pay \\u{202e}evil"),
            ("zero\u{200b}width", "zero\\u{200b}width"),
            ("ünïcödé 你好 🙂", "ünïcödé 你好 🙂"),
        ];
        for (text, want) in rows {
            assert_eq!(visible(text), want);
        }
        assert_eq!(visible_line("a\n\tb"), "a\\n\\tb");
    }

    #[test]
    fn a_diff_shows_what_goes_and_comes() {
        expect![[r"
            @@ -1,3 +1,4 @@
             a
            -b
            +B
             c
            +d
        "]]
        .assert_eq(&diff("a\nb\nc\n", "a\nB\nc\nd\n"));
        let long = "a line\n".repeat(10_000);
        let shown = diff("", &long);
        assert!(shown.len() < SHOWN_MAX_BYTES + 100 && shown.contains(" more lines, "), "{}", shown.len());
    }
}
