//! Everything that a store promises, over every store.

#[cfg(test)]
mod it {
    mod conformance;
    mod crash;
    mod erasing;
    mod file;
    mod intents;
    mod ledger;
    mod migration;
    mod numbers;
    mod queue;
    mod sample;
    mod spree;
}
