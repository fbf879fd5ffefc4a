//! Which purse an amount comes from.

use backstop_call::{KeyName, ProviderName, Role, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Whose money it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything Backstop spends.
    Total,
    /// One run.
    Run(RunId),
    /// Everything done in a role.
    Role(Role),
    /// Everything spent at a provider.
    Provider(ProviderName),
    /// Everything that came with a key of the gateway.
    Key(KeyName),
}

/// Over which time. A call belongs to the window in which it was reserved, also when it ends in the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Window {
    /// For ever.
    Whole,
    /// One day, UTC, counted from 1970-01-01.
    Day(u64),
}

/// A purse: a scope over a window. Ordered, so that several are always taken in the same order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Account {
    /// Whose money it is.
    pub scope: Scope,
    /// Over which time.
    pub window: Window,
}

impl Account {
    /// The account of a scope for as long as it exists.
    pub fn whole(scope: Scope) -> Self {
        Self { scope, window: Window::Whole }
    }

    /// The account of a scope for the day of `now`.
    pub fn today(scope: Scope, now: Timestamp) -> Self {
        Self { scope, window: Window::Day(now.day()) }
    }
}

/// `run/ID`, `role/NAME@DAY`, `key/NAME`, `total@DAY`: the key in the store and the name in messages.
impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Scope::Total => f.write_str("total")?,
            Scope::Run(run) => write!(f, "run/{run}")?,
            Scope::Role(role) => write!(f, "role/{role}")?,
            Scope::Provider(provider) => write!(f, "provider/{provider}")?,
            Scope::Key(key) => write!(f, "key/{key}")?,
        }
        match self.window {
            Window::Whole => Ok(()),
            Window::Day(day) => write!(f, "@{day}"),
        }
    }
}

/// An account by the words of a person: `total@20779` is the day's budget. What is no account stays as it is.
pub fn account_in_words(account: &str) -> String {
    let (scope, day) = match account.rsplit_once('@') {
        Some((scope, day)) if day.parse::<u64>().is_ok() => (scope, true),
        _ => (account, false),
    };
    let budget = if day { "the day's budget" } else { "the budget" };
    match scope.split_once('/') {
        Some(("run", _)) if !day => "the run's budget".to_owned(),
        Some((kind @ ("role" | "provider" | "key"), name)) => format!("{budget} of {kind} {name}"),
        None if scope == "total" => budget.to_owned(),
        _ => account.to_owned(),
    }
}

/// A message that may begin with an account, in the words of a person.
pub fn message_in_words(message: &str) -> String {
    match message.split_once(' ') {
        Some((first, rest)) => format!("{} {rest}", account_in_words(first)),
        None => message.to_owned(),
    }
}
