//! Every kind of event. This file is the list; the structs are in `event/`, by what they are about.
//!
//! The JSON of these types is the durable format. A change that an old journal cannot be read with needs a new version
//! of that kind and an upcaster in [`EventBody::decode`].

mod alert;
mod approval;
mod call;
mod job;
mod key;
mod money;
mod network;
mod run;
mod tool;

pub use alert::{
    AlertAcknowledged, AlertDelivered, AlertFired, AlertLost, AlertQueued, AlertResolved, AlertSilenced,
    AlertUnsilenced, Severity,
};
pub use approval::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, EXPIRY, GrantCreated, GrantRevoked, GrantScope,
    GrantUsed,
};
pub use call::{
    Asked, AttemptFailed, Attempts, BreakerChanged, CallFailed, CallFinished, CallStarted, OnlyAttempt,
};
pub use job::{JobDefined, JobDropped, JobPaused, JobResumed, JobSkip, JobSkipped, JobStarted};
pub use key::{
    BadKeyHash, KeyCreated, KeyFirstUsedFrom, KeyHash, KeyRevoked, KeyRight, KeyRotated, KeyScope,
};
pub use money::{
    BudgetWarned, LeaseClosed, LeaseGranted, MoneyCorrected, MoneyMoved, MoneyReserved, MoneySettled,
    MoneySuspended, MoneyVoided, Paid,
};
pub use network::{BadNetwork, Network};
pub use run::{
    OnFailure, Origin, ParkReason, QueueTerms, RETENTION, Rechained, RunClaimed, RunCreated, RunErased,
    RunFinished, RunLimits, RunParked, RunQueued, RunResumed, RunStatus,
};
pub use tool::{Spent, ToolDecision, ToolFinished, ToolPlanned, ToolResolved, ToolStarted, ToolUnknown};

use crate::{Body, Epoch, Hash, Position, Seq, json};
use backstop_call::{RunId, Timestamp};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

/// An event as it stands in the journal.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Its number over all streams.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its number in the stream.
    pub seq: Seq,
    /// When it happened.
    pub at: Timestamp,
    /// The epoch of the claim under which it was written; 0 where nobody owns the stream.
    pub epoch: Epoch,
    /// What happened.
    pub body: EventBody,
    /// Its link in the chain.
    pub hash: Hash,
}

/// A sequence of events of its own, with a hash chain of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum StreamId {
    /// What happened in one run.
    Run(RunId),
    /// What happened to calls outside runs.
    Calls,
    /// What was leased, reserved, settled.
    Ledger,
    /// What happened to this installation: breakers, limits.
    Node,
    /// What happened to the keys of the gateway.
    Keys,
    /// What people allowed beforehand, and what was made of it.
    Grants,
    /// What is wrong, and who was told.
    Alerts,
    /// What is done at its times, and what was not.
    Jobs,
}

impl StreamId {
    /// The streams that are not one run's.
    pub const SHARED: &[Self] =
        &[Self::Calls, Self::Ledger, Self::Node, Self::Keys, Self::Grants, Self::Alerts, Self::Jobs];

    /// Its name, as it is stored and hashed: `run/ID`, `calls`, `ledger`, `node`, `keys`, `grants`, `alerts`, `jobs`.
    pub fn text(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::Run(run) => return Cow::Owned(format!("run/{run}")),
            Self::Calls => "calls",
            Self::Ledger => "ledger",
            Self::Node => "node",
            Self::Keys => "keys",
            Self::Grants => "grants",
            Self::Alerts => "alerts",
            Self::Jobs => "jobs",
        })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

/// A text that names no stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no stream")]
pub struct UnknownStream(String);

impl FromStr for StreamId {
    type Err = UnknownStream;
    fn from_str(text: &str) -> Result<Self, UnknownStream> {
        match (text, text.strip_prefix("run/")) {
            (_, Some(run)) if !run.is_empty() => Ok(Self::Run(run.into())),
            ("calls", _) => Ok(Self::Calls),
            ("ledger", _) => Ok(Self::Ledger),
            ("node", _) => Ok(Self::Node),
            ("keys", _) => Ok(Self::Keys),
            ("grants", _) => Ok(Self::Grants),
            ("alerts", _) => Ok(Self::Alerts),
            ("jobs", _) => Ok(Self::Jobs),
            _ => Err(UnknownStream(text.to_owned())),
        }
    }
}

impl TryFrom<String> for StreamId {
    type Error = UnknownStream;
    fn try_from(text: String) -> Result<Self, UnknownStream> {
        text.parse()
    }
}

impl From<StreamId> for String {
    fn from(stream: StreamId) -> Self {
        stream.to_string()
    }
}

macro_rules! events {
    ($($(#[$doc:meta])* $name:ident = $kind:literal v $version:literal,)*) => {
        /// What happened.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "kind")]
        pub enum EventBody {
            $($(#[$doc])* #[serde(rename = $kind)] $name($name),)*
        }

        impl EventBody {
            /// Every kind with its version.
            pub const KINDS: &[(&str, u32)] = &[$(($kind, $version),)*];

            /// The kind: `run.created`.
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => $kind,)* }
            }

            /// The version that is written of this kind.
            pub fn version(&self) -> u32 {
                match self { $(Self::$name(_) => $version,)* }
            }

            fn write(&self, text: &mut String) -> Result<(), serde_json::Error> {
                match self { $(Self::$name(event) => json::write(text, event),)* }
            }

            /// `None` for a kind that there is not.
            fn read(kind: &str, text: &str) -> Option<Result<Self, serde_json::Error>> {
                match kind {
                    $($kind => Some(serde_json::from_str(text).map(Self::$name)),)*
                    _ => None,
                }
            }
        }

        $(impl From<$name> for EventBody {
            fn from(event: $name) -> Self {
                Self::$name(event)
            }
        })*
    };
}

events! {
    /// A run exists; everything that defines it.
    RunCreated = "run.created" v 4,
    /// A process took the run over.
    RunClaimed = "run.claimed" v 1,
    /// The run waits and holds nothing.
    RunParked = "run.parked" v 1,
    /// The run waits for a worker.
    RunQueued = "run.queued" v 1,
    /// The run goes on.
    RunResumed = "run.resumed" v 1,
    /// The run is over.
    RunFinished = "run.finished" v 1,
    /// What it said at length is gone.
    RunErased = "run.erased" v 1,
    /// A model call begins.
    CallStarted = "call.started" v 1,
    /// An attempt of it failed; another one follows, or the call fails.
    AttemptFailed = "call.attempt-failed" v 2,
    /// The call was answered.
    CallFinished = "call.finished" v 3,
    /// The call failed for good.
    CallFailed = "call.failed" v 2,
    /// A breaker changed its state.
    BreakerChanged = "breaker.changed" v 1,
    /// The model asked for a tool call; what it would do was worked out.
    ToolPlanned = "tool.planned" v 3,
    /// The tool is about to be dispatched. Durable before it is.
    ToolStarted = "tool.started" v 3,
    /// The tool came back.
    ToolFinished = "tool.finished" v 3,
    /// Whether the tool did it is not known: in doubt.
    ToolUnknown = "tool.unknown" v 1,
    /// A person decided what is true about a call in doubt.
    ToolResolved = "tool.resolved" v 1,
    /// A person is asked whether a tool call may be made.
    ApprovalRequested = "approval.requested" v 1,
    /// A question was answered.
    ApprovalDecided = "approval.decided" v 1,
    /// Calls of one kind need no further yes for a while.
    GrantCreated = "grant.created" v 1,
    /// A call asks for a use of a grant.
    GrantUsed = "grant.used" v 1,
    /// A grant holds no more.
    GrantRevoked = "grant.revoked" v 1,
    /// A process may spend this much without asking.
    LeaseGranted = "lease.granted" v 1,
    /// It gave back what it did not spend, or died and recovery closed it.
    LeaseClosed = "lease.closed" v 1,
    /// The worst case of an attempt is held.
    MoneyReserved = "money.reserved" v 1,
    /// The attempt cost this much.
    MoneySettled = "money.settled" v 1,
    /// Attempts ended; the ordinary ones of a commit in one event.
    MoneyMoved = "money.moved" v 1,
    /// The attempt was not sent, or not billed.
    MoneyVoided = "money.voided" v 1,
    /// The attempt may have been billed: its worst case counts as spent.
    MoneySuspended = "money.suspended" v 1,
    /// What a suspended attempt really cost.
    MoneyCorrected = "money.corrected" v 1,
    /// A budget passed a threshold.
    BudgetWarned = "budget.warned" v 1,
    /// A key of the gateway exists, and what it may do.
    KeyCreated = "key.created" v 3,
    /// A key has a new secret; the old one is good for a while.
    KeyRotated = "key.rotated" v 1,
    /// A key is good no more.
    KeyRevoked = "key.revoked" v 1,
    /// A key was used from an address for the first time.
    KeyFirstUsedFrom = "key.first-used-from" v 1,
    /// Something is wrong.
    AlertFired = "alert.fired" v 1,
    /// It is wrong no more.
    AlertResolved = "alert.resolved" v 1,
    /// Somebody is to be told.
    AlertQueued = "alert.queued" v 1,
    /// They were.
    AlertDelivered = "alert.delivered" v 1,
    /// They could not be.
    AlertLost = "alert.lost" v 1,
    /// Nobody is told for a while.
    AlertSilenced = "alert.silenced" v 1,
    /// They are told again.
    AlertUnsilenced = "alert.unsilenced" v 1,
    /// Somebody looks after it.
    AlertAcknowledged = "alert.acknowledged" v 1,
    /// A job has a schedule.
    JobDefined = "job.defined" v 1,
    /// It has none any more.
    JobDropped = "job.dropped" v 1,
    /// A task was made of it.
    JobStarted = "job.started" v 1,
    /// There is no task for a time.
    JobSkipped = "job.skipped" v 1,
    /// Its schedule does not count for now.
    JobPaused = "job.paused" v 1,
    /// It counts again.
    JobResumed = "job.resumed" v 1,
}

/// An event of a kind or version that this program does not know.
#[derive(Debug, thiserror::Error)]
#[error("event {kind} v{version} cannot be read")]
pub struct UnreadableEvent {
    kind: String,
    version: u32,
    #[source]
    source: Option<serde_json::Error>,
}

/// Room for the text of most events, so that it is not moved while it grows.
const ENCODED_BYTES: usize = 1024;

impl EventBody {
    /// The JSON text that is hashed and stored. The kind stands beside it, and is hashed with it.
    pub fn encode(&self) -> String {
        let mut text = String::with_capacity(ENCODED_BYTES);
        // Our own types have string keys: there is nothing in them to refuse.
        drop(self.write(&mut text));
        text
    }

    /// Reads what [`EventBody::encode`] wrote, in this or an older version. Before format 3 the text began with the kind, which
    /// was hashed with it there and nowhere else: it must be that of the event.
    pub fn decode(kind: &str, version: u32, json: &str) -> Result<Self, UnreadableEvent> {
        let unreadable = |source| UnreadableEvent { kind: kind.to_owned(), version, source };
        let known = Self::KINDS.iter().any(|(name, newest)| *name == kind && version <= *newest);
        let said = json.strip_prefix("{\"kind\":\"").and_then(|rest| rest.split('"').next());
        if !known || said.is_some_and(|said| said != kind) {
            return Err(unreadable(None));
        }
        let read = Self::read(kind, json).ok_or_else(|| unreadable(None))?;
        read.map_err(|error| unreadable(Some(error)))
    }

    /// The bodies in it: what can be moved out to blobs, and erased.
    pub fn bodies_mut(&mut self) -> Vec<&mut Body> {
        match self {
            Self::RunCreated(event) => vec![&mut event.system, &mut event.message],
            Self::RunFinished(event) => event.result.iter_mut().collect(),
            Self::CallFinished(event) => vec![&mut event.content],
            Self::ToolPlanned(event) => {
                vec![&mut event.args, &mut event.plan, &mut event.preview, &mut event.undo]
            }
            Self::ToolFinished(event) => vec![&mut event.result, &mut event.whole],
            Self::ToolResolved(event) => event.result.iter_mut().collect(),
            Self::ApprovalDecided(event) => match &mut event.decision {
                ApprovalDecision::Edit { args, .. } => vec![args],
                ApprovalDecision::Approve
                | ApprovalDecision::Deny { .. }
                | ApprovalDecision::Withdraw { .. } => Vec::new(),
            },
            Self::RunClaimed(_)
            | Self::RunParked(_)
            | Self::RunQueued(_)
            | Self::RunResumed(_)
            | Self::RunErased(_)
            | Self::CallStarted(_)
            | Self::AttemptFailed(_)
            | Self::CallFailed(_)
            | Self::BreakerChanged(_)
            | Self::ToolStarted(_)
            | Self::ToolUnknown(_)
            | Self::ApprovalRequested(_)
            | Self::GrantCreated(_)
            | Self::GrantUsed(_)
            | Self::GrantRevoked(_)
            | Self::LeaseGranted(_)
            | Self::LeaseClosed(_)
            | Self::MoneyReserved(_)
            | Self::MoneySettled(_)
            | Self::MoneyMoved(_)
            | Self::MoneyVoided(_)
            | Self::MoneySuspended(_)
            | Self::MoneyCorrected(_)
            | Self::BudgetWarned(_)
            | Self::KeyCreated(_)
            | Self::KeyRotated(_)
            | Self::KeyRevoked(_)
            | Self::KeyFirstUsedFrom(_)
            | Self::AlertFired(_)
            | Self::AlertResolved(_)
            | Self::AlertQueued(_)
            | Self::AlertDelivered(_)
            | Self::AlertLost(_)
            | Self::AlertSilenced(_)
            | Self::AlertUnsilenced(_)
            | Self::AlertAcknowledged(_)
            | Self::JobDefined(_)
            | Self::JobDropped(_)
            | Self::JobStarted(_)
            | Self::JobSkipped(_)
            | Self::JobPaused(_)
            | Self::JobResumed(_) => Vec::new(),
        }
    }
}
