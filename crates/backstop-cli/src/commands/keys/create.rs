//! `backstop keys create`: makes a key and shows its secret, once.

use super::{Desk, show_secret};
use crate::complaint::Stop;
use crate::home::{Home, person};
use crate::ui::{Look, Mark, tell};
use backstop_call::{Category, Clock, Code, KeyLimits, Labels, Priority, Timestamp};
use backstop_journal::event::{KeyRight, KeyScope, Network};
use backstop_server::config::{BadValue, Dollars, Span};
use backstop_server::keys::{NewKey, create, key_name};
use backstop_stack::SystemClock;
use clap::ValueEnum;
use std::process::ExitCode;
use std::str::FromStr;

/// Make a key, and show its secret once
///
/// The secret goes to standard output, alone; everything else to standard error. What is not said is not limited by the
/// key: the budgets and limits of the config hold all the same.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "Examples:
  KEY=$(backstop keys create ci)
  backstop keys create nightly --role clerk --budget-day 5 --budget 100 --priority batch
  backstop keys create laptop --model 'claude-haiku-*' --model mini --expires 30d
  backstop keys create web --environment prod --from 10.0.0.0/8 --requests-per-minute 600
  backstop keys create anna --approver --expires 30d
  backstop keys create wall --viewer --from 10.0.0.0/8
  backstop keys create shop --submit --agent writer --budget-day 5
  backstop keys create ci --json | jq -r .secret")]
pub(crate) struct Args {
    /// Its name: budgets, limits and logs go by it, and it is never used again
    name: String,
    #[command(flatten)]
    opens: Opens,
    /// The role its calls are made in, whatever they ask for
    #[arg(long, value_name = "ROLE")]
    role: Option<Word>,
    /// A model or chain it may ask for, by the client's name for it; `*` stands for any letters; may be given several times
    #[arg(long, value_name = "MODEL")]
    model: Vec<String>,
    /// Dollars it may spend per day (UTC)
    #[arg(long, value_name = "DOLLARS")]
    budget_day: Option<Dollars>,
    /// Dollars it may spend in all
    #[arg(long, value_name = "DOLLARS")]
    budget: Option<Dollars>,
    /// Requests it may make per minute
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    requests_per_minute: Option<u64>,
    /// Tokens it may use per minute, input and output together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    tokens_per_minute: Option<u64>,
    /// Calls it may have open at the same time
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    concurrent: Option<u32>,
    /// Addresses it may be used from: 10.0.0.0/8, 2001:db8::/32, 192.0.2.7; may be given several times
    #[arg(long, value_name = "CIDR")]
    from: Vec<Network>,
    /// The environment it is for: only a gateway with this `keys.environment` takes it
    #[arg(long, value_name = "WORD")]
    environment: Option<Word>,
    /// How urgent its calls are, whatever they ask for
    #[arg(long, value_name = "PRIORITY", value_enum)]
    priority: Option<PriorityArg>,
    /// A label that all it sends carries: `untrusted`, or a category of what is private; may be given several times
    #[arg(long, value_name = "LABEL")]
    label: Vec<Word>,
    /// When it ends: after a span like 30d, or where a date like 2027-01-31 begins (UTC)
    #[arg(long, value_name = "SPAN|DATE")]
    expires: Option<Expiry>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the key opens: models, where nothing is said.
#[derive(Debug, clap::Args)]
struct Opens {
    /// A key for a person, to see and answer what agents ask; it asks no model, and no other key approves anything
    #[arg(long, conflicts_with_all = [
        "role", "model", "budget_day", "budget", "requests_per_minute", "tokens_per_minute", "concurrent", "priority", "label",
    ])]
    approver: bool,
    /// A key for a person, to see the dashboard and change nothing on it; it asks no model and answers nothing
    #[arg(long, conflicts_with_all = [
        "approver", "role", "model", "budget_day", "budget", "requests_per_minute", "tokens_per_minute", "concurrent", "priority",
        "label",
    ])]
    viewer: bool,
    /// A key for a program, to put tasks into the queue and see what becomes of them; it asks no model and answers nothing
    #[arg(long, conflicts_with_all = ["approver", "viewer", "tokens_per_minute", "concurrent"])]
    submit: bool,
    /// With --submit: an agent its tasks may be for; `*` stands for any letters; may be given several times
    #[arg(long, value_name = "AGENT", requires = "submit")]
    agent: Vec<String>,
}

impl Opens {
    fn right(&self) -> KeyRight {
        match (self.approver, self.viewer, self.submit) {
            (true, ..) => KeyRight::Approve,
            (_, true, _) => KeyRight::View,
            (.., true) => KeyRight::Submit,
            (false, false, false) => KeyRight::Call,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PriorityArg {
    Interactive,
    Standard,
    Batch,
}

impl From<PriorityArg> for Priority {
    fn from(priority: PriorityArg) -> Self {
        match priority {
            PriorityArg::Interactive => Self::Interactive,
            PriorityArg::Standard => Self::Standard,
            PriorityArg::Batch => Self::Batch,
        }
    }
}

/// A word without white space.
#[derive(Debug, Clone)]
struct Word(String);

impl FromStr for Word {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let plain = !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control());
        if plain { Ok(Self(text.to_owned())) } else { Err(BadValue("it is one word, like prod".into())) }
    }
}

/// When a key ends.
#[derive(Debug, Clone, Copy)]
enum Expiry {
    After(Span),
    At(Timestamp),
}

impl FromStr for Expiry {
    type Err = BadValue;

    fn from_str(text: &str) -> Result<Self, BadValue> {
        let date = || Timestamp::of_date(text).map(Self::At);
        let bad = || BadValue("it is a span like 30d or 12h, or a date like 2027-01-31".into());
        text.parse().map(Self::After).ok().or_else(date).ok_or_else(bad)
    }
}

impl Args {
    fn scope(&self, now: Timestamp) -> KeyScope {
        let mut labels = Labels::default();
        for Word(label) in &self.label {
            match label.as_str() {
                "untrusted" => labels.untrusted = true,
                category => drop(labels.private.insert(Category::from(category.to_owned()))),
            }
        }
        let dollars = |dollars: Option<Dollars>| dollars.map(|dollars| dollars.0);
        KeyScope {
            right: self.opens.right(),
            agents: self.opens.agent.clone(),
            role: self.role.as_ref().map(|Word(role)| role.as_str().into()),
            models: self.model.clone(),
            budget: KeyLimits { day: dollars(self.budget_day), whole: dollars(self.budget) },
            requests_per_minute: self.requests_per_minute,
            tokens_per_minute: self.tokens_per_minute,
            concurrent: self.concurrent,
            from: self.from.clone(),
            environment: self.environment.clone().map(|Word(environment)| environment),
            priority: self.priority.map(Into::into),
            labels,
            expires: self.expires.map(|expiry| match expiry {
                Expiry::After(span) => now + span.0,
                Expiry::At(date) => date,
            }),
        }
    }
}

pub(super) async fn main(args: Args, home: &Home) -> Result<ExitCode, Stop> {
    let now = SystemClock::new().now();
    let name = key_name(&args.name).map_err(|bad| {
        Stop::new(Code::Usage, format!("`{}` is no name of a key", args.name)).with_hint(bad.0)
    })?;
    let new = NewKey { name, scope: args.scope(now), by: person() };
    // Before there is a database: a command that does nothing makes nothing.
    new.check(now)?;
    let desk = Desk::open(home)?;
    let made = create(&desk.store, new, now).await;
    desk.close();
    let made = made?;
    show_secret(&made, args.json)?;
    let (look, record) = (Look::of_stderr(), &made.record);
    let mark = look.mark(Mark::Good);
    tell(format_args!("{mark} key {}, {}..., may: {}", record.key, record.prefix, record.scope));
    tell("  its secret is shown this once; what is kept is a hash of it");
    Ok(ExitCode::SUCCESS)
}
