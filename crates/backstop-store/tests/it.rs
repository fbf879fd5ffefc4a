//! Everything that a store promises, over every store.

#[cfg(test)]
mod it {
    mod conformance;
    mod crash;
    mod file;
    mod intents;
    mod ledger;
    mod migration;
    mod numbers;
    mod sample;
    mod spree;
}
