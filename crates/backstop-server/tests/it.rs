//! The gateway as its clients and its providers see it: real HTTP on loopback, with the simulated provider or servers of raw
//! bytes behind it.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod it {
    pub(crate) mod across;
    pub(crate) mod alerts;
    pub(crate) mod approvals;
    pub(crate) mod bell;
    pub(crate) mod dashboard;
    pub(crate) mod drain;
    pub(crate) mod failover;
    pub(crate) mod fidelity;
    pub(crate) mod health;
    pub(crate) mod hostile;
    pub(crate) mod jobs;
    pub(crate) mod keys;
    pub(crate) mod kit;
    pub(crate) mod money;
    pub(crate) mod otlp;
    pub(crate) mod page;
    pub(crate) mod retention;
    pub(crate) mod routes;
    pub(crate) mod streams;
    pub(crate) mod tasks;
    pub(crate) mod threads;
    pub(crate) mod upstream;
}
