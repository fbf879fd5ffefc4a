//! Asks the person at the terminal about the open questions of a run that just parked, while they are still there. Who
//! answers nothing leaves them open: `backstop approvals` has them.

use crate::card::card;
use crate::progress::Screen;
use crate::prompt;
use backstop::RunResult;
use backstop_agent::run::OpenQuestion;
use std::thread;
use tokio::sync::oneshot;

/// What the person said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Yes, to exactly this.
    Yes,
    /// No, and why.
    No(String),
    /// Nothing, or later.
    Later,
}

/// Shows a question and waits for the answer. Dropping the future leaves the question open.
pub(crate) async fn ask(result: &RunResult, open: &OpenQuestion, screen: &Screen) -> Said {
    let shown = card(&result.run, result.cost, open, false, screen.look());
    let screen = screen.clone();
    let (answer, answered) = oneshot::channel();
    // A thread of its own: a read of the terminal cannot be taken back, and must not keep the program from ending.
    thread::spawn(move || {
        let said = screen.suspended(|| {
            crate::ui::tell(format_args!("\n{}", shown.trim_end()));
            said()
        });
        drop(answer.send(said));
    });
    answered.await.unwrap_or(Said::Later)
}

fn said() -> Said {
    loop {
        let Some(line) = prompt::ask("may it? [y]es, [n]o, or [l]ater:") else { return Said::Later };
        match line.to_lowercase().as_str() {
            "y" | "yes" => return Said::Yes,
            "n" | "no" => {
                let reason = prompt::ask("why not? (the model is told; may be empty)").unwrap_or_default();
                return Said::No(reason);
            }
            "l" | "later" => return Said::Later,
            _ => {}
        }
    }
}
