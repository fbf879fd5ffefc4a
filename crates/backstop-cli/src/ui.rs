//! How things look on a terminal: colour only where somebody sees it, symbols with a text for where they cannot be shown,
//! tables, and the words for times and amounts. Knows nothing of runs or calls.

mod format;
mod table;

pub(crate) use format::{count, moment, one_line, shortened, span, tokens};
pub(crate) use table::{Align, Table};

use std::env;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

/// How loud a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Strong,
    Dim,
    Good,
    Warn,
    Bad,
}

/// A symbol in front of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Good,
    Bad,
    Warn,
    Wait,
    Step,
}

/// What a stream can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether colours are wanted and seen.
    pub(crate) colour: bool,
    /// Whether other symbols than ASCII can be shown.
    pub(crate) symbols: bool,
    /// Whether a person looks at it now.
    pub(crate) live: bool,
    /// The columns there are, where a longer line would be broken.
    pub(crate) width: Option<usize>,
}

impl Look {
    /// No colours, no symbols: what a file or a pipe gets.
    #[cfg(test)]
    pub(crate) const PLAIN: Self = Self { colour: false, symbols: false, live: false, width: None };

    /// What standard output shows.
    pub(crate) fn of_stdout() -> Self {
        Self::of(&io::stdout())
    }

    /// What standard error shows.
    pub(crate) fn of_stderr() -> Self {
        Self::of(&io::stderr())
    }

    fn of(stream: &(impl IsTerminal + AsFd)) -> Self {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let dumb = set("TERM").is_some_and(|term| term == "dumb");
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG")).unwrap_or_default();
        let utf8 = locale.to_lowercase().replace('-', "").contains("utf8");
        let live = stream.is_terminal() && !dumb;
        // A terminal that does not know its size says 0.
        let size = live.then(|| rustix::termios::tcgetwinsize(stream).ok()).flatten();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        Self { colour: live && set("NO_COLOR").is_none(), symbols: live && utf8, live, width }
    }

    /// How many characters a text may have that so many others stand before: what is left of the line, within reason.
    pub(crate) fn room(self, before: usize, chars_max: usize) -> usize {
        self.width.map_or(chars_max, |width| width.saturating_sub(before).clamp(20, chars_max))
    }

    /// A text in its tone.
    pub(crate) fn paint(self, tone: Tone, text: impl fmt::Display) -> String {
        let code = match tone {
            _ if !self.colour => return text.to_string(),
            Tone::Plain => return text.to_string(),
            Tone::Strong => "1",
            Tone::Dim => "2",
            Tone::Good => "32",
            Tone::Warn => "33",
            Tone::Bad => "31",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// A symbol, or its text, in its tone.
    pub(crate) fn mark(self, mark: Mark) -> String {
        let (tone, symbol, text) = match mark {
            Mark::Good => (Tone::Good, "✓", "ok"),
            Mark::Bad => (Tone::Bad, "✗", "x "),
            Mark::Warn => (Tone::Warn, "▲", "! "),
            Mark::Wait => (Tone::Dim, "…", ".."),
            Mark::Step => (Tone::Dim, "·", "- "),
        };
        self.paint(tone, if self.symbols { symbol } else { text })
    }
}

/// Writes data to standard output. A reader that went away is no error of ours: see [`crate::complaint::Stop`].
pub(crate) fn out(text: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    write!(stdout, "{text}")?;
    stdout.flush()
}

/// Writes a line for people to standard error. Nobody can be told when that fails.
pub(crate) fn tell(text: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}
