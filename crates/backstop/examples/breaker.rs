//! The breaker alone: a state machine that is told the time and never asks for it.

use backstop::call::{FailureKind, Timestamp};
use backstop::stack::layers::breaker::{Admission, Config, Door, Observation, Phase, State};
use std::time::Duration;

fn main() {
    let mut now = Timestamp::from_secs(1_800_000_000);
    let mut breaker = State::new(Config::default());

    // Five failures in a row open it.
    for _ in 0..5 {
        let (Admission::Pass(ticket), _) = breaker.admit(now, Door::Normal, 0.5) else { unreachable!() };
        breaker.report(now, ticket, Observation::Failure(FailureKind::Transient), 0.5);
    }
    let Phase::Open { until } = breaker.phase() else { unreachable!("it opened") };
    assert!(matches!(breaker.admit(now, Door::Normal, 0.5).0, Admission::Refuse { .. }));

    // When its time is over one probe may go; a second one may not.
    now = until;
    let (Admission::Pass(probe), _) = breaker.admit(now, Door::Normal, 0.5) else { unreachable!() };
    assert!(matches!(breaker.admit(now, Door::Normal, 0.5).0, Admission::Refuse { .. }));

    // Three successes close it.
    breaker.report(now, probe, Observation::Success, 0.5);
    for _ in 0..2 {
        now = now + Duration::from_secs(1);
        let (Admission::Pass(probe), _) = breaker.admit(now, Door::Normal, 0.5) else { unreachable!() };
        breaker.report(now, probe, Observation::Success, 0.5);
    }
    assert_eq!(breaker.phase(), Phase::Closed);
}
