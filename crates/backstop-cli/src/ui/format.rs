//! Words for times, amounts and long texts.

use backstop_call::Timestamp;
use std::time::Duration;

/// `340ms`, `12.3s`, `2m03s`, `1h05m`.
pub(crate) fn span(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        60_000..3_600_000 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

/// `2026-11-22 12:33:52`, UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    let text = at.rfc3339();
    text.get(..19).unwrap_or(&text).replace('T', " ")
}

/// `812`, `12.3k`, `4.5M`.
pub(crate) fn tokens(count: u64) -> String {
    match count {
        0..10_000 => count.to_string(),
        10_000..1_000_000 => format!("{}.{}k", count / 1_000, count % 1_000 / 100),
        _ => format!("{}.{}M", count / 1_000_000, count % 1_000_000 / 100_000),
    }
}

/// `1 run`, `2 runs`.
pub(crate) fn count(number: usize, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}

/// A text on one line: white space becomes single blanks, control characters go.
pub(crate) fn one_line(text: &str) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(clean).collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same, cut to so many characters.
pub(crate) fn shortened(text: &str, chars_max: usize) -> String {
    let line = one_line(text);
    if line.chars().count() <= chars_max {
        return line;
    }
    let kept: String = line.chars().take(chars_max.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_amounts() {
        let rows = [(0, "0ms"), (999, "999ms"), (1_250, "1.2s"), (123_000, "2m03s"), (3_900_000, "1h05m")];
        for (ms, want) in rows {
            assert_eq!(span(Duration::from_millis(ms)), want);
        }
        assert_eq!([tokens(9_999), tokens(12_345), tokens(4_560_000)], ["9999", "12.3k", "4.5M"]);
        assert_eq!([count(1, "run"), count(0, "run")], ["1 run", "0 runs"]);
        assert_eq!(moment(Timestamp::from_secs(1_795_348_800)), "2026-11-22 12:00:00");
    }

    #[test]
    fn a_terminal_is_never_steered_by_a_text() {
        assert_eq!(one_line("a\u{1b}[31m\tb\r\n\u{7}c"), "a [31m b c");
        assert_eq!(shortened("one two three", 9), "one tw...");
        assert_eq!(shortened("short", 9), "short");
    }
}
