//! The codes that users see. Each has a page in `docs/errors`, which `backstop explain CODE` prints; a test holds
//! the two together.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $hint:literal;)*) => {
        /// What went wrong, as a user can look it up. Numbers are never used again for something else.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// Every code, by number.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The number: `1002` of `BS1002`.
            pub const fn number(self) -> u16 {
                match self { $(Self::$name => $number,)* }
            }

            /// What to do about it, in one sentence.
            pub const fn hint(self) -> &'static str {
                match self { $(Self::$name => $hint,)* }
            }
        }
    };
}

codes! {
    /// The config file is no TOML.
    ConfigSyntax = 1001, "mend the line named above; `backstop init` writes a file that works";
    /// A key that does not exist.
    ConfigKey = 1002, "use one of the keys named above; the schema and `backstop init` list them all";
    /// A value of the wrong type, or one that is not allowed.
    ConfigValue = 1003, "change the value to what is allowed";
    /// A secret that is referred to is not there.
    SecretMissing = 1004, "set the environment variable or create the file that the config refers to";
    /// There is no provider to call.
    NoProvider = 1005, "set ANTHROPIC_API_KEY or OPENAI_API_KEY, start Ollama, or use --model sim";
    /// A model or chain that config does not define.
    UnknownModel = 1006, "use one of the models or chains named above";
    /// An agent that config does not define.
    UnknownAgent = 1007, "use one of the agents named above";
    /// A prompt file cannot be read.
    PromptMissing = 1008, "create the file, or change `prompt` of the agent";
    /// The workspace directory cannot be used.
    WorkspaceUnusable = 1009, "name a directory that you may read and write";
    /// A tool that does not exist.
    UnknownTool = 1010, "use one of the tools named above";
    /// A wrong command line.
    Usage = 1011, "see --help";
    /// An address cannot be listened on.
    ListenFailed = 1012, "choose another address, or end what uses it";
    /// A query is no statement that reads, or took too long.
    QueryFailed = 1013, "ask one SELECT over the views that docs/sql.md lists";

    /// The provider or the way to it failed.
    ProviderFailed = 2001, "try again; if it stays, add a fallback to the chain";
    /// The provider has no room.
    ProviderOverloaded = 2002, "try later, or add a fallback to the chain";
    /// Too many requests or tokens for the moment.
    RateLimited = 2003, "wait as long as the message says, lower the concurrency, or raise the limit";
    /// Money or credit at the provider is used up.
    QuotaExhausted = 2004, "add credit at the provider, or raise the spend limit there";
    /// The provider refused the key.
    KeyRefused = 2005, "check the key the config refers to, and what it may do";
    /// The provider refused the request as wrong.
    RequestInvalid = 2006, "see the provider's message; the request is not sent again";
    /// The request does not fit the context window.
    ContextTooLong = 2007, "shorten the task or its files, or use a model with a larger window";
    /// The model or its provider declined.
    PolicyRefused = 2008, "change the request, or use another model";
    /// The answer was not what the protocol or the schema demands.
    AnswerMalformed = 2009, "try again; if it stays, use another model";
    /// The provider could not be reached.
    Unreachable = 2010, "check the network and the provider's base-url";
    /// A request was sent and its outcome is unknown.
    OutcomeUnknown = 2011, "it may have been billed and counts as spent; see `backstop show`";
    /// The stream ended before the answer did.
    StreamCut = 2012, "try again; what had come is in the journal";
    /// The caller went away.
    Cancelled = 2013, "nothing to do; what was produced is counted";
    /// Every target of the chain is out of service.
    NoTarget = 2014, "wait until a breaker closes, or add a fallback to the chain";
    /// Private text, and no local model to see it.
    NoLocalModel = 2015, "add a model with `local = true` to the chain";
    /// The provider does not have this model.
    ModelNotFound = 2016, "check the model's id; `backstop check` probes it";
    /// The request is larger than the provider takes.
    RequestTooLarge = 2017, "send less at once";
    /// The caller's time is over.
    DeadlineExceeded = 2018, "give it more time, or a faster model";

    /// A budget has no room for the worst case of a call.
    BudgetExceeded = 3001, "raise the budget named above, wait for its next window, or lower max-tokens";
    /// The price of a model is not known.
    PriceUnknown = 3002, "add `price` to the model in the config";

    /// The disk is full.
    DiskFull = 4001, "make room, then `backstop resume`; everything that was acknowledged is kept";
    /// The database is damaged.
    DatabaseDamaged = 4002, "restore a copy, or move the file away to start anew; nothing was written to it";
    /// The database cannot be opened or written.
    DatabaseUnusable = 4003, "check the path and its permissions";
    /// Another process works on this run.
    OwnedElsewhere = 4004, "wait for it, or end that process; a dead owner is noticed at once";
    /// The database was written by a newer version.
    DatabaseNewer = 4005, "use the version that wrote it, or a newer one";
    /// There is no such run.
    RunNotFound = 4006, "`backstop runs` lists them";
    /// The hash chain does not verify.
    ChainBroken = 4007, "somebody changed the database from outside; compare with a copy";
    /// The journal took too long.
    JournalBusy = 4008, "another process holds the database; end it or wait";
    /// A task with this id is in the queue already.
    TaskExists = 4009, "it is done once, whoever asks; another task needs another id";
    /// There is no such task.
    TaskNotFound = 4010, "`backstop tasks` lists them";
    /// The config has no such job.
    JobNotFound = 4011, "`backstop jobs` lists them; add one under `[jobs.NAME]`";
    /// A run has gone on since it was looked at.
    RunMoved = 4012, "look at it again, then ask again: nothing was changed";

    /// A crash hid whether an effect happened.
    InDoubt = 5001, "look at what the effect would have changed, then `backstop resolve`";
    /// The run's time is over.
    TimeLimit = 5002, "raise `time` of the agent, then `backstop resume`";
    /// The run's turns are used up.
    TurnLimit = 5003, "raise `turns` of the agent, then `backstop resume`";
    /// The run's tokens are used up.
    TokenLimit = 5004, "raise `tokens` of the agent, then `backstop resume`";
    /// The same tool with the same arguments again and again.
    LoopGuard = 5005, "see `backstop show`; a clearer prompt or another model helps";
    /// A tool failed.
    ToolFailed = 5006, "see the tool's message in `backstop show`";
    /// A path outside the workspace.
    OutsideWorkspace = 5007, "use a path inside the workspace";
    /// Arguments that do not fit the tool's schema.
    ToolArguments = 5008, "the model is told what fits";
    /// The run is over.
    RunOver = 5009, "start a new one with `backstop run`";
    /// The model ended without the result that was asked for.
    NoResult = 5010, "see `backstop show`; a clearer prompt or another model helps";
    /// The model said that the task cannot be done.
    TaskFailed = 5011, "see what the model said in `backstop show`";
    /// A person must say whether a tool call may be made.
    ApprovalNeeded = 5012, "look at it with `backstop approvals show`, then approve or deny it";
    /// An answer to a question that does not stand any more.
    ApprovalVoid = 5013, "look at what is asked now: `backstop approvals`";
    /// What a run did cannot be taken back, because somebody has changed it since.
    UndoConflict = 5014, "look at what was changed; mend it by hand, or undo single steps with `--step`";
    /// A plan cannot be carried out, because what it was made from has changed.
    PlanChanged = 5015, "make a new plan with `backstop run --dry-run`";
    /// The processes that worked on a run died, one after the other.
    WorkersDied = 5016, "see what it does that ends them (memory, a signal), then `backstop tasks retry`";
    /// What a run said was erased, and is needed.
    RunErased = 5017, "what it said is gone for good; start a new one with `backstop run`";

    /// A request to the gateway without a key.
    KeyMissing = 6001, "send a key as `x-api-key` or `authorization: Bearer`; `backstop keys create` makes one";
    /// A key that this gateway does not know.
    KeyUnknown = 6002, "check what the client sends; `backstop keys list` shows how each key begins";
    /// A key that was revoked.
    KeyRevoked = 6003, "make another one with `backstop keys create`";
    /// A key whose time is over.
    KeyExpired = 6004, "make another one with `backstop keys create`";
    /// A secret that a rotation replaced.
    KeyReplaced = 6005, "give the client the secret that `backstop keys rotate` printed";
    /// An address that the key may not be used from.
    KeyAddress = 6006, "call from an address the key is for, or make a key with another `--from`";
    /// A key of another environment.
    KeyEnvironment = 6007, "use a key of this environment; `keys.environment` in the config names it";
    /// A model that the key may not ask for.
    KeyModel = 6008, "ask for a model the key is for, or make a key with another `--model`";
    /// A key's requests, tokens or concurrent calls are used up for the moment.
    KeyBusy = 6009, "wait as long as `retry-after` says, or make a key with higher limits";
    /// The name of a key is taken.
    KeyExists = 6010, "choose another name: a name is never used again";
    /// There is no such key.
    KeyNotFound = 6011, "`backstop keys list` shows them";
    /// A path or method that the gateway does not have.
    NoRoute = 6012, "ask at one of the paths named above";
    /// The gateway would let everybody in.
    KeysNeeded = 6013, "make a key with `backstop keys create NAME`, or listen on 127.0.0.1";
    /// The gateway has as much to do as it can.
    GatewayBusy = 6014, "wait as long as `retry-after` says, or raise the limits of `[serve]`";
    /// A key that is not for this: one that asks models approves nothing, and one that approves asks no model.
    KeyRight = 6015, "use a key that was made for this: `backstop keys create NAME`, with `--approver` for approvals, with `--submit` for tasks";
    /// The page was asked by a form that it did not make, or made too long ago.
    FormStale = 6016, "open the page again and decide there";
    /// An agent that the key may not submit tasks for.
    KeyAgent = 6017, "name an agent the key is for, or make a key with another `--agent`";

    /// A defect in Backstop.
    Internal = 9001, "please report it with the output of `backstop show --json`";
}

impl Code {
    /// Whose turn it is, as an exit code: 1 the answer is no, 2 you must change something, 3 upstream failed.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::ProviderFailed
            | Self::ProviderOverloaded
            | Self::RateLimited
            | Self::Unreachable
            | Self::OutcomeUnknown
            | Self::StreamCut
            | Self::NoTarget
            | Self::AnswerMalformed
            | Self::QuotaExhausted
            | Self::DeadlineExceeded
            | Self::KeyBusy => 3,
            Self::BudgetExceeded
            | Self::InDoubt
            | Self::TimeLimit
            | Self::TurnLimit
            | Self::TokenLimit
            | Self::LoopGuard
            | Self::ToolFailed
            | Self::NoResult
            | Self::TaskFailed
            | Self::ApprovalNeeded
            | Self::ApprovalVoid
            | Self::UndoConflict
            | Self::PlanChanged
            | Self::WorkersDied
            | Self::PolicyRefused
            | Self::Cancelled
            | Self::ChainBroken
            | Self::Internal => 1,
            _ => 2,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BS{}", self.number())
    }
}

/// A text that is no code of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no code of Backstop's")]
pub struct UnknownCode(String);

impl FromStr for Code {
    type Err = UnknownCode;

    /// Reads `BS1002`, `bs1002` or `1002`.
    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        let digits = text.trim().trim_start_matches(['B', 'b']).trim_start_matches(['S', 's']);
        let number: u16 = digits.parse().map_err(|_| UnknownCode(text.to_owned()))?;
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.number() == number)
            .ok_or_else(|| UnknownCode(text.to_owned()))
    }
}

impl TryFrom<String> for Code {
    type Error = UnknownCode;
    fn try_from(text: String) -> Result<Self, UnknownCode> {
        text.parse()
    }
}

impl From<Code> for String {
    fn from(code: Code) -> Self {
        code.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_unique_sorted_and_readable() {
        assert!(Code::ALL.windows(2).all(|pair| pair[0].number() < pair[1].number()));
        for code in Code::ALL {
            assert_eq!(code.to_string().parse::<Code>().unwrap(), *code);
            assert!(!code.hint().is_empty() && !code.hint().ends_with('.'));
        }
        assert!("BS0".parse::<Code>().is_err());
    }
}
