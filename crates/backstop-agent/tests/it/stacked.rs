//! An agent on the real stack, over a leaf of the test's own: what the two do together.

use crate::kit::{TestClock, agent};
use backstop_agent::{Agent, Toolbox};
use backstop_call::{Clock, Model, Price, Seed};
use backstop_label::ModelPlace;
use backstop_stack::{Config, Limits, Parts, Target, stack};
use backstop_store::{MemoryLedger, MemoryStore};
use std::sync::Arc;

/// An agent whose chain `m` is this leaf, at this price; everything else is as it is by default.
pub(crate) fn stacked(leaf: Arc<dyn Model>, price: Price, tools: Toolbox) -> Agent {
    booked(leaf, price, tools).0
}

/// The same, with the books of what it spends.
pub(crate) fn booked(leaf: Arc<dyn Model>, price: Price, tools: Toolbox) -> (Agent, Arc<MemoryLedger>) {
    let ledger = Arc::new(MemoryLedger::new());
    let clock: Arc<dyn Clock> = Arc::new(TestClock::new());
    let journal = Arc::new(MemoryStore::new());
    let target = Target {
        provider: "p".into(),
        model: "leaf".into(),
        place: ModelPlace::Cloud,
        price,
        context_window: 200_000,
        max_output: 1_000,
        hidden_output: false,
        limits: Limits::default(),
        leaf,
    };
    let model = stack(Parts {
        clock: Arc::clone(&clock),
        seed: Arc::new(Seed::new(7)),
        journal: journal.clone(),
        ledger: Arc::clone(&ledger) as _,
        budgets: Vec::new(),
        secrets: Vec::new(),
        chains: vec![("m".into(), vec![target])],
        config: Config::default(),
    });
    (Agent { clock, ..agent(Arc::new(model), journal, tools) }, ledger)
}
