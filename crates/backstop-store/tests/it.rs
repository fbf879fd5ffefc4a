//! Everything that a store promises, over every store.

mod it {
    mod conformance;
    mod crash;
    mod file;
    mod ledger;
    mod sample;
    mod spree;
}
