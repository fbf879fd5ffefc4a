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

/// The attempt was not sent, or not billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneyVoided {
    /// The reservation.
    pub reservation: ReservationId,
}

/// The attempt may have been billed: its worst case counts as spent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoneySuspended {
    /// The reservation.
    pub reservation: ReservationId,
    /// The worst case.
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
