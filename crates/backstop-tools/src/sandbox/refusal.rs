//! Why a program is not run, as the processes of the sandbox say it.

use super::order::Report;

/// Nothing was run, or nobody knows what was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What this machine does not enforce.
    Lacks(String),
    /// The program cannot be started.
    NotStarted(String),
    /// It was started, and what kept watch over it failed.
    Lost(String),
}

impl From<Refusal> for Report {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Lacks(what) => Self::Lacks(what),
            Refusal::NotStarted(why) => Self::NotStarted(why),
            Refusal::Lost(why) => Self::Lost(why),
        }
    }
}

/// This machine does not give what is needed.
pub(super) fn lacking<E: Into<std::io::Error>>(what: &str) -> impl Fn(E) -> Refusal {
    move |error| Refusal::Lacks(format!("{what}: {}", error.into()))
}
