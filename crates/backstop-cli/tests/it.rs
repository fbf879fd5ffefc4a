//! The real binary, as people and scripts use it: what it prints, where, and with which exit code.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

mod it {
    pub(crate) mod alerts;
    pub(crate) mod budget;
    pub(crate) mod codes;
    pub(crate) mod control;
    pub(crate) mod demo;
    pub(crate) mod erasing;
    pub(crate) mod errors;
    pub(crate) mod full;
    pub(crate) mod gateway;
    pub(crate) mod gateway_load;
    pub(crate) mod help;
    pub(crate) mod interrupt;
    pub(crate) mod jobs;
    pub(crate) mod keys;
    pub(crate) mod kill;
    pub(crate) mod kit;
    pub(crate) mod numbers;
    pub(crate) mod parts;
    pub(crate) mod provider;
    pub(crate) mod queue;
    pub(crate) mod round_trip;
    pub(crate) mod secrets;
    pub(crate) mod servers;
    pub(crate) mod serving;
    pub(crate) mod site;
    pub(crate) mod tools;
}
