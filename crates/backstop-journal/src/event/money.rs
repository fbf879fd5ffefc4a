//! Events of the ledger. They are written by the store's ledger and folded by `projections::spend`.

use backstop_call::{CallId, Money, ProviderName, ReservationId, RunId};
use serde::{Deserialize, Serialize};

/// An amount in an account, by the account's key (`total@20779`, `run/ID`).
pub(super) type Share = (String, Money);

/// A process may spend this much without asking: it counts as spent until it is settled or given back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseGranted {
    /// The process, as the store knows it.
    pub owner: String,
    /// What it may spend more, by account.
    pub shares: Vec<Share>,
}

/// What is left of a process's lease went back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseClosed {
    /// The process.
    pub owner: String,
    /// What went back, by account.
    pub shares: Vec<Share>,
    /// Whether the process had died and recovery closed it.
    pub recovered: bool,
}

/// The worst case of an attempt is held in these accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyReserved {
    /// The reservation.
    pub reservation: ReservationId,
    /// The process whose lease it comes from.
    pub owner: String,
    /// The worst case.
    pub amount: Money,
    /// The accounts.
    pub accounts: Vec<String>,
}

/// The attempt cost this much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneySettled {
    /// The reservation.
    pub reservation: ReservationId,
    /// What it cost.
    pub cost: Money,
    /// What of that went over the worst case.
    #[serde(default)]
    pub overrun: Money,
}

/// Attempts that ended since the last commit of their process, and of which no event told before: one event for all that
/// is ordinary. What overran its worst case, and what may have been billed, has events of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyMoved {
    /// The process whose lease they came from.
    pub owner: String,
    /// The attempts, by the accounts they were paid from.
    pub paid: Vec<Paid>,
}

/// Attempts that were paid from the same accounts, in the order in which they ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paid {
    /// The accounts.
    pub accounts: Vec<String>,
    /// What cost something for certain, never more than its worst case: the reservation and the cost.
    pub settled: Vec<(ReservationId, Money)>,
    /// What was not sent, or not billed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub voided: Vec<ReservationId>,
}

impl MoneyMoved {
    /// How many attempts it tells of.
    pub fn attempts(&self) -> usize {
        self.paid.iter().map(|paid| paid.settled.len() + paid.voided.len()).sum()
    }

    /// What they cost together.
    pub fn cost(&self) -> Money {
        self.paid.iter().map(Paid::cost).sum()
    }
}

impl Paid {
    /// What its attempts cost together.
    pub fn cost(&self) -> Money {
        self.settled.iter().map(|(_, cost)| *cost).sum()
    }
}

/// The attempt was not sent, or not billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyVoided {
    /// The reservation.
    pub reservation: ReservationId,
}

/// The attempt may have been billed: the most it can have cost counts as spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneySuspended {
    /// The reservation.
    pub reservation: ReservationId,
    /// The most it can have cost: the worst case, or less where something was seen of it.
    pub amount: Money,
    /// Why nothing better is known.
    pub reason: String,
}

/// What a suspended attempt really cost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyCorrected {
    /// The reservation.
    pub reservation: ReservationId,
    /// What it really cost.
    pub cost: Money,
}

/// A budget passed a threshold, once per window.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetWarned {
    /// The account.
    pub account: String,
    /// The threshold: 80 or 100.
    pub percent: u32,
    /// What is spent.
    pub spent: Money,
    /// The limit.
    pub limit: Money,
    /// The run that passed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The call that passed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<CallId>,
    /// The provider it went to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderName>,
}
