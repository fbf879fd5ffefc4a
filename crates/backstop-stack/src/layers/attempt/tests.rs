//! The planner by table: every kind of failure, however far it got, wherever in the chain.

use super::*;
use backstop_call::Timestamp;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_secs(1_000);
const KINDS: [FailureKind; 15] = [
    FailureKind::Transient,
    FailureKind::Overloaded,
    FailureKind::Throttled,
    FailureKind::Quota,
    FailureKind::Auth,
    FailureKind::Invalid,
    FailureKind::ContextLength,
    FailureKind::Policy,
    FailureKind::Malformed,
    FailureKind::UnknownOutcome,
    FailureKind::Downstream,
    FailureKind::Cancelled,
    FailureKind::Budget,
    FailureKind::Private,
    FailureKind::Deadline,
];
const STEPS: [Progress; 4] =
    [Progress::NotSent, Progress::Sent, Progress::ResponseStarted, Progress::Committed];

/// Targets at providers of their own; the window grows along the chain.
fn planner(targets: usize, deadline_secs: u64) -> Planner {
    let facts = (0..targets)
        .map(|i| Facts { provider: format!("p{i}").into(), context_window: 1_000 * (i as u64 + 1) });
    let deadline = START + Duration::from_secs(deadline_secs);
    Planner::new(Config::default(), facts.collect(), Priority::Interactive, deadline)
}

fn healthy(targets: usize) -> Vec<View> {
    vec![View { quota_left: 500, quarantined: None }; targets]
}

fn failure(kind: FailureKind, progress: Progress) -> Failure {
    Failure::new(kind, progress, "it failed")
}

fn target_of(verdict: Verdict) -> Result<usize, Why> {
    match verdict {
        Verdict::Try { target, .. } => Ok(target),
        Verdict::GiveUp(why) => Err(why),
    }
}

/// What follows the first failure: of a lone target, of the first of two, of the last of two.
fn expected(kind: FailureKind, progress: Progress) -> [Result<usize, Why>; 3] {
    if progress == Progress::Committed {
        return [Err(Why::Committed); 3];
    }
    match kind {
        FailureKind::Transient | FailureKind::Overloaded | FailureKind::UnknownOutcome => {
            [Ok(0), Ok(1), Ok(0)]
        }
        FailureKind::Throttled | FailureKind::Malformed => [Ok(0), Ok(0), Ok(1)],
        FailureKind::Quota | FailureKind::Auth => [Err(Why::NoTarget), Ok(1), Ok(0)],
        FailureKind::ContextLength => [Err(Why::NoTarget), Ok(1), Err(Why::NoTarget)],
        FailureKind::Invalid
        | FailureKind::Policy
        | FailureKind::Downstream
        | FailureKind::Cancelled
        | FailureKind::Budget
        | FailureKind::Private
        | FailureKind::Deadline => [Err(Why::Final); 3],
    }
}

#[test]
fn every_kind_however_far_wherever_in_the_chain() {
    for kind in KINDS {
        for progress in STEPS {
            let failure = failure(kind, progress);
            let after = |targets: usize, target: usize| {
                let mut planner = planner(targets, 600);
                let views = healthy(targets);
                assert_eq!(target_of(planner.next(START, Input::Begin, &views, 0.5)), Ok(0));
                target_of(planner.next(START, Input::Failed { target, failure: &failure }, &views, 0.5))
            };
            let got = [after(1, 0), after(2, 0), after(2, 1)];
            assert_eq!(got, expected(kind, progress), "{kind:?} {progress:?}");
        }
    }
}

#[test]
fn the_wait_is_jitter_under_a_doubling_cap_with_the_hint_as_a_floor() {
    let ms = Duration::from_millis;
    let rows = [
        (FailureKind::Transient, Progress::NotSent, None, [ms(25), ms(50)]),
        (FailureKind::Transient, Progress::Sent, None, [ms(250), ms(500)]),
        (FailureKind::Overloaded, Progress::Sent, None, [ms(500), ms(1_000)]),
        (FailureKind::Throttled, Progress::Sent, None, [ms(500), ms(1_000)]),
        (FailureKind::Throttled, Progress::Sent, Some(ms(700)), [ms(700), ms(1_000)]),
        (FailureKind::UnknownOutcome, Progress::Sent, None, [ms(250), ms(500)]),
    ];
    for (kind, progress, hint, waits) in rows {
        let mut planner = planner(1, 600);
        for want in waits {
            let failed = failure(kind, progress).with_retry_after(hint);
            let input = Input::Failed { target: 0, failure: &failed };
            match planner.next(START, input, &healthy(1), 0.5) {
                Verdict::Try { after, .. } => assert_eq!(after, want, "{kind:?} {progress:?} {hint:?}"),
                Verdict::GiveUp(why) => panic!("{kind:?}: {why:?}"),
            }
        }
    }
    let facts = vec![Facts { provider: "p".into(), context_window: 1 }];
    let config = Config { attempts_max: 99, ..Config::default() };
    let mut planner = Planner::new(config, facts, Priority::Batch, START + Duration::from_mins(10));
    let failed = failure(FailureKind::Overloaded, Progress::Sent);
    for _ in 0..40 {
        let input = Input::Failed { target: 0, failure: &failed };
        let Verdict::Try { after, .. } = planner.next(START, input, &healthy(1), 1.0) else { panic!() };
        assert!(after <= Duration::from_secs(20), "the cap holds at any number of attempts");
    }
}

#[test]
fn a_hint_longer_than_the_caller_can_wait_means_another_target_or_the_end() {
    let long =
        failure(FailureKind::Throttled, Progress::Sent).with_retry_after(Some(Duration::from_secs(11)));
    let input = Input::Failed { target: 0, failure: &long };
    assert_eq!(target_of(planner(2, 600).next(START, input, &healthy(2), 0.5)), Ok(1));
    assert_eq!(target_of(planner(1, 600).next(START, input, &healthy(1), 0.5)), Err(Why::HintTooLong));
    let fits = failure(FailureKind::Throttled, Progress::Sent).with_retry_after(Some(Duration::from_secs(9)));
    let input = Input::Failed { target: 0, failure: &fits };
    assert_eq!(target_of(planner(1, 600).next(START, input, &healthy(1), 0.5)), Ok(0));
    assert_eq!(target_of(planner(1, 9).next(START, input, &healthy(1), 0.5)), Err(Why::HintTooLong));
}

#[test]
fn attempts_are_counted_over_all_targets_and_the_untried_come_first() {
    let mut planner = planner(3, 600);
    let views = healthy(3);
    let failed = failure(FailureKind::Overloaded, Progress::Sent);
    let next = |planner: &mut Planner, target| {
        target_of(planner.next(START, Input::Failed { target, failure: &failed }, &views, 0.5))
    };
    assert_eq!([next(&mut planner, 0), next(&mut planner, 1)], [Ok(1), Ok(2)]);
    assert_eq!(next(&mut planner, 2), Err(Why::Attempts));
}

#[test]
fn refusals_on_this_machine_use_up_no_attempt() {
    let mut planner = planner(3, 600);
    let views = healthy(3);
    let full = failure(FailureKind::Throttled, Progress::NotSent);
    let shut = failure(FailureKind::Overloaded, Progress::NotSent)
        .with_code(Code::NoTarget)
        .with_retry_after(Some(Duration::from_secs(8)));
    let poor = failure(FailureKind::Budget, Progress::NotSent);
    let refused = |planner: &mut Planner, target, failure: &Failure| {
        planner.next(START, Input::Refused { target, failure }, &views, 0.5)
    };
    assert_eq!(target_of(refused(&mut planner, 0, &shut)), Ok(1));
    assert_eq!(target_of(refused(&mut planner, 1, &full)), Ok(2));
    assert_eq!(
        refused(&mut planner, 2, &poor),
        Verdict::Try { target: 0, after: Duration::ZERO, door: Door::LastStanding, quota_cost: 0 },
        "the least bad one is tried when nothing else is left"
    );
    assert_eq!(target_of(refused(&mut planner, 0, &shut)), Err(Why::NoTarget));
    assert_eq!(planner.attempts(), 0);
}

#[test]
fn the_least_bad_of_all_shut_targets_is_the_one_that_opens_first() {
    let mut planner = planner(2, 600);
    let shut = |secs| {
        failure(FailureKind::Overloaded, Progress::NotSent)
            .with_code(Code::NoTarget)
            .with_retry_after(Some(Duration::from_secs(secs)))
    };
    planner.next(START, Input::Refused { target: 0, failure: &shut(90) }, &healthy(2), 0.5);
    let last = planner.next(START, Input::Refused { target: 1, failure: &shut(8) }, &healthy(2), 0.5);
    assert!(matches!(last, Verdict::Try { target: 1, door: Door::LastStanding, .. }), "{last:?}");
}

#[test]
fn a_conflict_is_tried_once_more_and_nowhere_else() {
    let mut planner = planner(2, 600);
    let mut conflict = failure(FailureKind::Transient, Progress::ResponseStarted);
    conflict.detail.status = Some(409);
    let input = Input::Failed { target: 0, failure: &conflict };
    assert_eq!(target_of(planner.next(START, input, &healthy(2), 0.5)), Ok(0));
    assert_eq!(target_of(planner.next(START, input, &healthy(2), 0.5)), Err(Why::Final));
}

#[test]
fn a_wrong_key_is_wrong_at_the_whole_provider() {
    let facts = ["a", "a", "b"].map(|provider| Facts { provider: provider.into(), context_window: 1 });
    let fresh = || {
        Planner::new(Config::default(), facts.to_vec(), Priority::Standard, START + Duration::from_mins(1))
    };
    let mut refused = failure(FailureKind::Auth, Progress::ResponseStarted);
    refused.detail.status = Some(401);
    let input = Input::Failed { target: 0, failure: &refused };
    assert_eq!(target_of(fresh().next(START, input, &healthy(3), 0.5)), Ok(2));
    refused.detail.status = Some(403);
    let input = Input::Failed { target: 0, failure: &refused };
    assert_eq!(target_of(fresh().next(START, input, &healthy(3), 0.5)), Ok(1));
}

#[test]
fn retries_draw_on_the_quota_of_their_target_and_failover_does_not() {
    let failed = failure(FailureKind::Transient, Progress::Sent);
    let input = Input::Failed { target: 0, failure: &failed };
    let poor = |left| vec![View { quota_left: left, quarantined: None }; 2];
    assert!(matches!(
        planner(1, 600).next(START, input, &poor(14), 0.5),
        Verdict::Try { quota_cost: 14, .. }
    ));
    assert_eq!(target_of(planner(1, 600).next(START, input, &poor(13), 0.5)), Err(Why::RetryQuota));
    assert!(matches!(
        planner(2, 600).next(START, input, &poor(0), 0.5),
        Verdict::Try { target: 1, quota_cost: 0, .. }
    ));
    let unsent = failure(FailureKind::Transient, Progress::NotSent);
    let input = Input::Failed { target: 0, failure: &unsent };
    assert!(matches!(planner(1, 600).next(START, input, &poor(0), 0.5), Verdict::Try { quota_cost: 0, .. }));

    let mut quota = RetryQuota::new(&Config::default());
    quota.take(14);
    quota.repay(14);
    assert_eq!(quota.left(), 500);
    quota.take(3);
    quota.repay(0);
    assert_eq!(quota.left(), 498);
}

#[test]
fn no_attempt_begins_without_time_for_it() {
    let mut late = planner(1, 0);
    assert_eq!(target_of(late.next(START, Input::Begin, &healthy(1), 0.5)), Err(Why::Deadline));
    let failed = failure(FailureKind::Transient, Progress::Sent);
    let input = Input::Failed { target: 0, failure: &failed };
    assert_eq!(target_of(planner(1, 1).next(START, input, &healthy(1), 0.9)), Err(Why::Deadline));
    assert_eq!(target_of(planner(1, 2).next(START, input, &healthy(1), 0.9)), Ok(0));
}

#[test]
fn credentials_rest_after_one_empty_purse_or_two_refused_keys() {
    let config = Config::default();
    let mut credential = Credential::default();
    let auth = failure(FailureKind::Auth, Progress::ResponseStarted);
    assert_eq!(credential.judge(START, &auth, &config), None);
    credential.worked();
    assert_eq!(credential.judge(START, &auth, &config), None);
    let until = START + Duration::from_mins(5);
    assert_eq!(credential.judge(START, &auth, &config), Some(until));
    assert_eq!(credential.quarantined(START), Some((FailureKind::Auth, until)));
    assert_eq!(credential.quarantined(until), None);

    let mut credential = Credential::default();
    let quota = failure(FailureKind::Quota, Progress::ResponseStarted)
        .with_retry_after(Some(Duration::from_hours(2)));
    assert_eq!(credential.judge(START, &quota, &config), Some(START + Duration::from_hours(2)));
    assert_eq!(credential.judge(START, &quota, &config), None, "it is told once");
    let resting = View { quota_left: 500, quarantined: credential.quarantined(START) };
    let verdict = planner(1, 600).next(START, Input::Begin, &[resting], 0.5);
    assert!(matches!(verdict, Verdict::GiveUp(Why::Quarantined { kind: FailureKind::Quota, .. })));
}

proptest! {
    /// Whatever fails and refuses: it ends, never more attempts than allowed, none after the commit point, none that
    /// would begin after the deadline, and never a target that was ruled out.
    #[test]
    fn every_plan_ends(
        targets in 1_usize..4,
        deadline in 0_u64..40,
        draws in prop::collection::vec((0_usize..15, 0_usize..4, 0_u64..20, 0.0_f64..1.0, any::<bool>()), 1..40),
    ) {
        let mut planner = planner(targets, deadline);
        let views = healthy(targets);
        let (mut now, end) = (START, START + Duration::from_secs(deadline));
        let mut attempts = 0;
        let mut verdict = planner.next(now, Input::Begin, &views, 0.5);
        let mut steps = 0;
        for (kind, progress, hint, draw, refuses) in draws.into_iter().cycle() {
            let Verdict::Try { target, after, .. } = verdict else { break };
            steps += 1;
            prop_assert!(steps <= 3 + 2 * targets, "it does not end");
            now = now + after;
            prop_assert!(now < end);
            let mut failed = failure(KINDS[kind], STEPS[progress]).with_retry_after(Some(Duration::from_secs(hint)));
            let input = if refuses {
                failed.detail.code = Code::NoTarget;
                Input::Refused { target, failure: &failed }
            } else {
                attempts += 1;
                Input::Failed { target, failure: &failed }
            };
            verdict = planner.next(now, input, &views, draw);
            if !refuses && failed.progress == Progress::Committed {
                prop_assert_eq!(verdict, Verdict::GiveUp(Why::Committed));
            }
        }
        prop_assert!(attempts <= 3);
    }
}
