//! THE order. [`stack()`] is the one place that puts layers on each other; what [`Stack::order`] tells is collected by the
//! same calls that push them, so that it cannot drift from what is built.

use crate::layers::attempt::{self, Credential, Path, RetryQuota, SharedCredential, SharedQuota, Tools};
use crate::layers::breaker::{self, Breaker, Door, Phase};
use crate::layers::budget::{self, Purse};
use crate::layers::limit::{self, Limiter};
use crate::layers::record::{self, Recorder};
use crate::layers::redact::{self, RedactingJournal, Redactor};
use crate::layers::{privacy, route, timeout, validate};
use crate::target::{Limits, Target, TargetKey};
use backstop_allowance::{Budget, Ledger};
use backstop_call::{
    BoxFuture, Call, Clock, Failure, FailureKind, Model, ModelName, Progress, ProviderName, Reply, Secret,
    Seed, Sink,
};
use backstop_journal::Journal;
use backstop_label::ModelPlace;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// What a stack is made of.
pub struct Parts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Jitter and sampling.
    pub seed: Arc<Seed>,
    /// Where events go. No secret gets there through the stack.
    pub journal: Arc<dyn Journal>,
    /// Where the money is.
    pub ledger: Arc<dyn Ledger>,
    /// What may be spent.
    pub budgets: Vec<Budget>,
    /// What must not be seen.
    pub secrets: Vec<Secret>,
    /// The chains by name, each with its targets, the preferred one first.
    pub chains: Vec<(ModelName, Vec<Target>)>,
    /// The layers' rules.
    pub config: Config,
}

/// The rules of each layer that has some.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// What is redacted.
    pub redact: redact::Config,
    /// Retry and failover.
    pub attempt: attempt::Config,
    /// When a target is left alone.
    pub breaker: breaker::Config,
    /// What counts as fitting.
    pub validate: validate::Config,
    /// How long a call waits for its turn.
    pub limit: limit::Config,
    /// How the worst case is reckoned.
    pub budget: budget::Config,
    /// How long an attempt may take.
    pub timeout: timeout::Config,
}

/// A layer, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerInfo {
    /// Its name: that of its file and of its table in the config.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
}

/// All layers over all chains. A call goes to the chain that its request names as its model.
pub struct Stack {
    top: Arc<dyn Model>,
    order: Vec<LayerInfo>,
    redactor: Arc<Redactor>,
    breakers: Vec<(TargetKey, Arc<Breaker>)>,
    kept: Kept,
}

/// What was learnt of targets and goes on when another stack takes the place of one: whether they work, what was asked of
/// them, which credentials rest.
#[derive(Clone, Default)]
struct Kept {
    config: Config,
    breakers: HashMap<TargetKey, Arc<Breaker>>,
    limiters: HashMap<TargetKey, (Limits, Arc<Limiter>)>,
    quotas: HashMap<TargetKey, SharedQuota>,
    credentials: HashMap<ProviderName, SharedCredential>,
}

impl Kept {
    /// What of it still holds under these rules: a layer with other rules begins anew.
    fn under(&self, config: Config) -> Self {
        let mut kept = Self { config, ..self.clone() };
        if config.breaker != self.config.breaker {
            kept.breakers.clear();
        }
        if config.limit != self.config.limit {
            kept.limiters.clear();
        }
        if config.attempt != self.config.attempt {
            kept.quotas.clear();
        }
        kept
    }
}

impl Stack {
    /// The layers a call passes, the outermost first; the last one is what answers.
    pub fn order(&self) -> &[LayerInfo] {
        &self.order
    }

    /// What takes secrets out of everything here: for logs and pages to use too.
    pub fn redactor(&self) -> &Arc<Redactor> {
        &self.redactor
    }

    /// Each target's breaker: provider, model, phase.
    pub fn breakers(&self) -> impl Iterator<Item = (&ProviderName, &str, Phase)> {
        self.breakers.iter().map(|(key, breaker)| (&key.provider, key.model.as_str(), breaker.phase()))
    }
}

impl Model for Stack {
    fn call<'a>(&'a self, call: Call, sink: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
        self.top.call(call, sink)
    }
}

/// Builds the stack.
///
/// `record ▸ redact ▸ route ▸ privacy ▸ attempt ▸ (per target) breaker ▸ validate ▸ limit ▸ budget ▸ timeout ▸ leaf`
///
/// Why this order: the record sees everything, also what nothing below may see unredacted; a text is clean before anything
/// decides over it; who may see it is settled before any target is chosen; the planner is above all that a target can refuse
/// by; the breaker sees what the provider did and nothing of what is refused below it; what is wrong waits for nothing; money
/// is held only while a request has its turn; the timeout runs on nothing but the provider.
pub fn stack(parts: Parts) -> Stack {
    build(parts, Kept::default())
}

/// Builds the stack that takes the place of another one, and goes on with what that one learnt of its targets.
pub fn restack(before: &Stack, parts: Parts) -> Stack {
    let kept = before.kept.under(parts.config);
    build(parts, kept)
}

fn build(parts: Parts, kept: Kept) -> Stack {
    let redactor = Arc::new(Redactor::new(&parts.secrets, parts.config.redact));
    let journal: Arc<dyn Journal> =
        Arc::new(RedactingJournal::new(Arc::clone(&parts.journal), Arc::clone(&redactor)));
    let recorder = Recorder::new(journal, Arc::clone(&parts.clock));
    let kept = Kept { config: parts.config, ..kept };
    let mut shared = Shared::new(&parts, recorder.clone(), kept);

    let keys: Vec<_> = parts.chains.iter().flat_map(|(_, targets)| targets).map(Target::key).collect();
    let chains: Vec<(ModelName, Pile)> =
        parts.chains.into_iter().map(|(name, targets)| (name, shared.chain(&targets))).collect();
    let below = match chains.first() {
        Some((_, pile)) => pile.order.clone(),
        None => shared.chain(&[]).order,
    };
    let chains = chains.into_iter().map(|(name, pile)| (name, pile.top)).collect();
    let pile = Pile { top: route::layer(chains), order: below }
        .told(route::INFO)
        .push(redact::INFO, |inner| redact::layer(inner, Arc::clone(&redactor)))
        .push(record::INFO, |inner| record::layer(inner, recorder));

    let mut told = HashSet::new();
    let breakers = keys
        .into_iter()
        // A target that stands in two chains is taken once.
        .filter(|key| told.insert(key.clone()))
        .filter_map(|key| shared.kept.breakers.get(&key).map(|breaker| (key, Arc::clone(breaker))))
        .collect();
    let order = pile.order.into_iter().rev().collect();
    Stack { top: pile.top, order, redactor, breakers, kept: shared.kept }
}

/// A model with the layers put on it so far, the innermost first.
struct Pile {
    top: Arc<dyn Model>,
    order: Vec<LayerInfo>,
}

impl Pile {
    fn leaf(leaf: Arc<dyn Model>) -> Self {
        let info = LayerInfo { name: "leaf", what: "the provider: sends the request and reads the answer" };
        Self { top: leaf, order: vec![info] }
    }

    /// Puts one layer on top.
    fn push(self, info: LayerInfo, layer: impl FnOnce(Arc<dyn Model>) -> Arc<dyn Model>) -> Self {
        Self { top: layer(self.top), order: self.order }.told(info)
    }

    fn told(mut self, info: LayerInfo) -> Self {
        self.order.push(info);
        self
    }
}

/// What targets share over all chains.
struct Shared {
    clock: Arc<dyn Clock>,
    seed: Arc<Seed>,
    config: Config,
    purse: Purse,
    recorder: Recorder,
    kept: Kept,
}

impl Shared {
    fn new(parts: &Parts, recorder: Recorder, kept: Kept) -> Self {
        let purse = Purse {
            ledger: Arc::clone(&parts.ledger),
            budgets: parts.budgets.clone().into(),
            clock: Arc::clone(&parts.clock),
            recorder: recorder.clone(),
            config: parts.config.budget,
        };
        Self {
            clock: Arc::clone(&parts.clock),
            seed: Arc::clone(&parts.seed),
            config: parts.config,
            purse,
            recorder,
            kept,
        }
    }

    /// The middle of the stack: privacy over the planner over the targets. Private text goes to a planner that knows no
    /// other targets than the local ones.
    fn chain(&mut self, targets: &[Target]) -> Pile {
        let paths: Vec<(ModelPlace, Path, Vec<LayerInfo>)> =
            targets.iter().enumerate().map(|(at, target)| self.path(target, at > 0)).collect();
        let tools = Tools {
            clock: Arc::clone(&self.clock),
            seed: Arc::clone(&self.seed),
            recorder: self.recorder.clone(),
            config: self.config.attempt,
        };
        let order = match paths.first() {
            Some((_, _, order)) => order.clone(),
            // Without targets, what one would be made of.
            None => self.path(&nowhere(), false).2,
        };
        let planner = |paths: Vec<Path>| attempt::layer(paths, tools.clone());
        let local: Vec<Path> = paths
            .iter()
            .filter(|(place, _, _)| *place == ModelPlace::Local)
            .map(|(_, path, _)| path.clone())
            .collect();
        let local = (!local.is_empty()).then(|| planner(local));
        let all = planner(paths.into_iter().map(|(_, path, _)| path).collect());
        Pile { top: all, order }
            .told(attempt::INFO)
            .push(privacy::INFO, |all| privacy::layer(privacy::Paths { all, local }))
    }

    /// The bottom of the stack: the layers of one target.
    fn path(&mut self, target: &Target, is_fallback: bool) -> (ModelPlace, Path, Vec<LayerInfo>) {
        let key = target.key();
        let (config, clock) = (self.config, Arc::clone(&self.clock));
        let limiter = self.limiter(target);
        let breaker = self.breaker(&key);
        let purse = self.purse.clone();
        let bounds = validate::Bounds {
            target: key.clone(),
            context_window: target.context_window,
            max_output: target.max_output,
            is_fallback,
        };

        let below = Pile::leaf(Arc::clone(&target.leaf))
            .push(timeout::INFO, |inner| timeout::layer(inner, clock, config.timeout))
            .push(budget::INFO, |inner| budget::layer(inner, purse, budget::Terms::of(target)))
            .push(limit::INFO, |inner| limit::layer(inner, limiter))
            .push(validate::INFO, |inner| validate::layer(inner, bounds, config.validate));
        let last_standing = breaker::layer(Arc::clone(&below.top), Arc::clone(&breaker), Door::LastStanding);
        let normal = below.push(breaker::INFO, |inner| breaker::layer(inner, breaker, Door::Normal));

        let quota = self
            .kept
            .quotas
            .entry(key.clone())
            .or_insert_with(|| Arc::new(RetryQuota::new(&config.attempt).into()));
        let credential = self
            .kept
            .credentials
            .entry(target.provider.clone())
            .or_insert_with(|| Arc::new(Credential::default().into()));
        let path = Path {
            target: key,
            context_window: target.context_window,
            normal: normal.top,
            last_standing,
            quota: Arc::clone(quota),
            credential: Arc::clone(credential),
        };
        (target.place, path, normal.order)
    }

    fn breaker(&mut self, key: &TargetKey) -> Arc<Breaker> {
        let (config, clock, seed) = (self.config.breaker, &self.clock, &self.seed);
        let recorder = &self.recorder;
        let make =
            || Breaker::new(key.clone(), config, Arc::clone(clock), Arc::clone(seed), recorder.clone());
        Arc::clone(self.kept.breakers.entry(key.clone()).or_insert_with(make))
    }

    fn limiter(&mut self, target: &Target) -> Arc<Limiter> {
        let (config, clock) = (self.config.limit, &self.clock);
        let make = || Limiter::new(target.key(), target.limits, config, Arc::clone(clock));
        let limiters = &mut self.kept.limiters;
        match limiters.get(&target.key()) {
            Some((limits, limiter)) if *limits == target.limits => Arc::clone(limiter),
            _ => {
                let limiter = make();
                limiters.insert(target.key(), (target.limits, Arc::clone(&limiter)));
                limiter
            }
        }
    }
}

/// A target that stands for those that are not there, to tell the order of.
fn nowhere() -> Target {
    struct Nowhere;
    impl Model for Nowhere {
        fn call<'a>(&'a self, _: Call, _: &'a mut dyn Sink) -> BoxFuture<'a, Result<Reply, Failure>> {
            Box::pin(async {
                Err(Failure::new(FailureKind::Transient, Progress::NotSent, "there is no provider"))
            })
        }
    }
    Target {
        provider: "nowhere".into(),
        model: String::new(),
        place: ModelPlace::Local,
        price: backstop_call::Price::FREE,
        context_window: 0,
        max_output: 0,
        hidden_output: false,
        limits: Limits::default(),
        leaf: Arc::new(Nowhere),
    }
}
