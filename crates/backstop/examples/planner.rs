//! The planner alone: what to do after a failure, as a pure function. No runtime, no clock, no network.

use backstop::call::{Failure, FailureKind, Priority, Progress, Timestamp};
use backstop::stack::layers::attempt::{Config, Facts, Input, Planner, Verdict, View, Why};
use std::time::Duration;

fn main() {
    let now = Timestamp::from_secs(1_800_000_000);
    let deadline = now + Duration::from_mins(10);
    let target = |provider: &str| Facts { provider: provider.into(), context_window: 200_000 };
    let chain = vec![target("anthropic"), target("openai")];
    let mut planner = Planner::new(Config::default(), chain, Priority::Standard, deadline);
    let healthy = [View { quota_left: 500, quarantined: None }; 2];

    // The first attempt goes to the first target, at once.
    let verdict = planner.next(now, Input::Begin, &healthy, 0.5);
    assert!(matches!(verdict, Verdict::Try { target: 0, after: Duration::ZERO, .. }));

    // It is overloaded: the second goes to the other one, which is not made to wait for it.
    let overloaded = Failure::new(FailureKind::Overloaded, Progress::Sent, "no room");
    let verdict = planner.next(now, Input::Failed { target: 0, failure: &overloaded }, &healthy, 0.5);
    assert!(matches!(verdict, Verdict::Try { target: 1, after: Duration::ZERO, .. }));

    // The request itself is wrong: asking anybody again gives the same.
    let invalid = Failure::new(FailureKind::Invalid, Progress::Sent, "no such field");
    let verdict = planner.next(now, Input::Failed { target: 1, failure: &invalid }, &healthy, 0.5);
    assert_eq!(verdict, Verdict::GiveUp(Why::Final));
    assert_eq!(planner.attempts(), 2);
}
