//! Asks the person at the terminal. What is no clear yes is no.

use crate::ui::tell;
use std::io::{self, BufRead, IsTerminal, Write};

/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// Whether there is a person to ask: both ends of the conversation are a terminal.
pub(crate) fn is_possible() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks, and gives the line that was answered; `None` where nothing more comes.
pub(crate) fn ask(question: &str) -> Option<String> {
    use io::Read as _;
    drop(write!(io::stderr().lock(), "{question} "));
    drop(io::stderr().lock().flush());
    let mut line = String::new();
    match io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line) {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(line.trim().to_owned()),
    }
}

/// Asks for a yes. Where nobody can be asked, the answer is no.
pub(crate) fn yes(question: &str) -> bool {
    if !is_possible() {
        tell("nobody can be asked here; --yes says yes beforehand");
        return false;
    }
    matches!(ask(&format!("{question} [y/N]")).as_deref(), Some("y" | "Y" | "yes"))
}
