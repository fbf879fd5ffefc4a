//! Why a command ends early, and how that is told: `error[BS1002]: …`, the place, `hint: …`, and an exit code.

use crate::ui::{Look, Tone, tell};
use backstop_call::Code;
use backstop_journal::JournalError;
use backstop_server::config::{Problem, Problems};
use backstop_stack::Redactor;
use backstop_stack::layers::redact::Config;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::LazyLock;

/// Knows credentials by their form: a config or a command line may hold one where it must not, and is quoted.
static REDACTOR: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(&[], Config::default()));

/// Why a command ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something is wrong; all of it.
    Problems(Vec<Problem>),
    /// Nobody reads our output any more: that is theirs to decide.
    BrokenPipe,
}

impl Stop {
    /// One problem with the hint of its code.
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Problem::new(code, message).into()
    }

    /// What is wrong with a database, with its path once.
    pub(crate) fn in_file(path: &Path, error: &JournalError) -> Self {
        let (path, text) = (path.display().to_string(), error.to_string());
        let message = if text.contains(&path) { text } else { format!("{path}: {text}") };
        Self::new(error.code(), message)
    }

    /// Tells what is wrong, and gives the exit code.
    pub(crate) fn tell(&self) -> ExitCode {
        let Self::Problems(problems) = self else { return ExitCode::SUCCESS };
        for problem in problems {
            tell(render(problem, Look::of_stderr()));
        }
        // The first one decides: it is what must be done first.
        problems.first().map_or(ExitCode::FAILURE, |problem| ExitCode::from(problem.code.exit_code()))
    }
}

/// A problem as it is told, without a last line end.
pub(crate) fn render(problem: &Problem, look: Look) -> String {
    let head = look.paint(Tone::Bad, format_args!("error[{}]", problem.code));
    let clean = |text: &str| REDACTOR.text(text).into_owned();
    let place = match &problem.place {
        Some(place) => format!("\n  --> {place}"),
        None => String::new(),
    };
    let (message, hint) = (clean(&problem.message), clean(&problem.hint));
    format!("{head}: {message}{place}\n{}: {hint}", look.paint(Tone::Strong, "hint"))
}

impl From<Problem> for Stop {
    fn from(problem: Problem) -> Self {
        Self::Problems(vec![problem])
    }
}

impl From<Problems> for Stop {
    fn from(problems: Problems) -> Self {
        Self::Problems(problems.0)
    }
}

impl From<JournalError> for Stop {
    fn from(error: JournalError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// What goes wrong with our own output.
impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::BrokenPipe;
        }
        Self::new(Code::Internal, format!("the output cannot be written: {error}"))
            .with_hint("see where standard output goes")
    }
}

impl Stop {
    /// The same with another hint for its last problem.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        if let Self::Problems(problems) = &mut self
            && let Some(problem) = problems.last_mut()
        {
            problem.hint = hint.into();
        }
        self
    }
}
