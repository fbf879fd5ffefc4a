//! How a text is shown to a person who decides by it: what cannot be seen, or makes other text be seen in another order,
//! stands there by its number. Nothing here shortens a text.

/// The text with every character that cannot be seen written as `\u{…}`. Line ends and tabs stay.
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

fn is_hidden(character: char) -> bool {
    match character {
        '\n' | '\t' => false,
        // Soft hyphen, Arabic letter mark, Mongolian vowel separator, Hangul fillers; zero width, direction marks; line
        // separators and embeddings; invisible operators and isolates; byte order mark; annotations; variation selectors
        // and tags, which carry text that nobody sees.
        '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{115f}'
        | '\u{1160}'
        | '\u{3164}'
        | '\u{ffa0}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{fe00}'..='\u{fe0e}'
        | '\u{e0000}'..='\u{e0fff}' => true,
        other => other.is_control(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_written_out() {
        for (text, want) in [
            ("plain, ünïcode ✓\n\tx", "plain, ünïcode ✓\n\tx"),
            ("a\r\nb\u{1b}[2J\0", "a\\u{d}\nb\\u{1b}[2J\\u{0}"),
            ("pay \u{202e}001\u{202c} to\u{200b}me", "pay \\u{202e}001\\u{202c} to\\u{200b}me"),
            ("\u{feff}\u{e0041}\u{2066}\u{85}", "\\u{feff}\\u{e0041}\\u{2066}\\u{85}"),
        ] {
            assert_eq!(visible(text), want);
        }
        assert_eq!(visible_line("a\n\tb"), "a\\n\\tb");
    }
}
