//! The state machine by table, and against its invariants under random histories.

use super::*;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_secs(1_000);
const FAILED: Observation = Observation::Failure(FailureKind::Transient);
/// The middle of the jitter: none.
const MIDDLE: f64 = 0.5;

fn after(secs: u64) -> Timestamp {
    START + Duration::from_secs(secs)
}

fn pass(state: &mut State, at: Timestamp, door: Door) -> Ticket {
    match state.admit(at, door, MIDDLE).0 {
        Admission::Pass(ticket) => ticket,
        Admission::Refuse { retry_at } => panic!("refused at {at:?} until {retry_at:?}: {state:?}"),
    }
}

fn feed(state: &mut State, at: Timestamp, observations: &[Observation]) -> Option<Transition> {
    let mut last = None;
    for observation in observations {
        let ticket = pass(state, at, Door::Normal);
        last = state.report(at, ticket, *observation, MIDDLE);
        if last.is_some() {
            break;
        }
    }
    last
}

fn refused(state: &mut State, at: Timestamp) -> bool {
    matches!(state.admit(at, Door::Normal, 0.0).0, Admission::Refuse { .. })
}

#[test]
fn what_opens_it() {
    use Observation::{Nothing, Slow, Success};
    let rows: [(&str, Vec<Observation>, bool); 8] = [
        ("five in a row", vec![FAILED; 5], true),
        ("four in a row", vec![FAILED; 4], false),
        ("four, a success, four", [vec![FAILED; 4], vec![Success], vec![FAILED; 4]].concat(), false),
        ("half of ten", [FAILED, Success].repeat(5), true),
        ("half of nine", [[FAILED, Success].repeat(4), vec![FAILED]].concat(), false),
        ("nothing that counts", vec![Nothing; 50], false),
        ("eight of ten slow", [vec![Success; 2], vec![Slow; 8]].concat(), true),
        ("seven of ten slow", [vec![Success; 3], vec![Slow; 7]].concat(), false),
    ];
    for (name, observations, opens) in rows {
        let mut state = State::new(Config::default());
        let last = feed(&mut state, START, &observations);
        let is_open = matches!(state.phase(), Phase::Open { .. });
        assert_eq!(is_open, opens, "{name}: {last:?}");
    }
}

#[test]
fn the_window_forgets_after_a_minute() {
    let mut state = State::new(Config { consecutive_failures: 100, ..Config::default() });
    feed(&mut state, START, &[FAILED; 9]);
    assert!(feed(&mut state, after(61), &[FAILED]).is_none());
    assert_eq!(state.phase(), Phase::Closed);
    assert!(feed(&mut state, after(61), &[FAILED; 9]).is_some());
}

#[test]
fn opens_longer_each_time_and_closes_after_three_probes() {
    let mut state = State::new(Config { ramp_ms: 0, ..Config::default() });
    let opened = feed(&mut state, START, &[FAILED; 5]).unwrap();
    assert_eq!(opened.reason, "5 failures in a row; open for 10.0 s");
    assert!(refused(&mut state, after(9)));
    let probe = pass(&mut state, after(10), Door::Normal);
    assert!(refused(&mut state, after(10)), "one probe at a time");
    let again = state.report(after(11), probe, FAILED, MIDDLE).unwrap();
    assert_eq!((again.from, again.to), ("half-open", "open"));
    assert!(refused(&mut state, after(30)), "20 s the second time");
    for second in [31, 32] {
        let probe = pass(&mut state, after(second), Door::Normal);
        assert_eq!(state.report(after(second), probe, Observation::Success, MIDDLE), None);
    }
    let cancelled = pass(&mut state, after(33), Door::Normal);
    state.report(after(33), cancelled, Observation::Nothing, MIDDLE);
    let probe = pass(&mut state, after(33), Door::Normal);
    let closed = state.report(after(33), probe, Observation::Success, MIDDLE).unwrap();
    assert_eq!((closed.to, closed.reason.as_str()), ("closed", "3 successes"));
    let soon = feed(&mut state, after(34), &[FAILED; 5]).unwrap();
    assert!(soon.reason.ends_with("open for 40.0 s"), "{}", soon.reason);
}

#[test]
fn a_calm_time_forgets_the_doubling() {
    let config = Config { probe_successes: 1, ramp_ms: 0, ..Config::default() };
    let mut state = State::new(config);
    feed(&mut state, START, &[FAILED; 5]);
    feed(&mut state, after(10), &[Observation::Success]).unwrap();
    let later = feed(&mut state, after(311), &[FAILED; 5]).unwrap();
    assert!(later.reason.ends_with("open for 10.0 s"), "{}", later.reason);
}

#[test]
fn the_open_time_is_capped_and_spread() {
    let mut state = State::new(Config::default());
    state.openings = 9;
    assert_eq!(state.open_span(MIDDLE), Duration::from_mins(5));
    assert_eq!(state.open_span(0.0), Duration::from_mins(4));
    state.openings = 0;
    assert_eq!(state.open_span(0.0), Duration::from_secs(8));
}

#[test]
fn a_result_from_before_the_change_does_not_count() {
    let mut state = State::new(Config::default());
    let old = pass(&mut state, START, Door::Normal);
    feed(&mut state, START, &[FAILED; 5]);
    for second in [10, 11] {
        let probe = pass(&mut state, after(second), Door::Normal);
        assert_eq!(state.report(after(second), probe, Observation::Success, MIDDLE), None);
    }
    assert_eq!(state.report(after(11), old, FAILED, MIDDLE), None);
    let probe = pass(&mut state, after(12), Door::Normal);
    let closed = state.report(after(12), probe, Observation::Success, MIDDLE);
    assert_eq!(closed.unwrap().to, "closed", "the late failure took nothing from the two successes");
}

#[test]
fn a_closed_breaker_lets_its_traffic_grow() {
    let mut state = State::new(Config { probe_successes: 1, ..Config::default() });
    feed(&mut state, START, &[FAILED; 5]);
    feed(&mut state, after(10), &[Observation::Success]).unwrap();
    let passes =
        |state: &mut State, at, draw| matches!(state.admit(at, Door::Normal, draw).0, Admission::Pass(_));
    assert!(passes(&mut state, after(10), 0.09));
    assert!(!passes(&mut state, after(10), 0.11));
    assert!(passes(&mut state, after(25), 0.54));
    assert!(!passes(&mut state, after(25), 0.56));
    assert!(passes(&mut state, after(40), 0.999));
}

#[test]
fn the_last_standing_target_is_narrowed_and_never_shut() {
    let mut state = State::new(Config::default());
    feed(&mut state, START, &[FAILED; 5]);
    let passes = |state: &mut State, draw| {
        matches!(state.admit(after(1), Door::LastStanding, draw).0, Admission::Pass(_))
    };
    assert!(passes(&mut state, 0.81), "one in five always passes");
    assert!(!passes(&mut state, 0.79), "five of five failed: four in five are refused");
    for _ in 0..3 {
        let Admission::Pass(ticket) = state.admit(after(1), Door::LastStanding, 0.99).0 else { panic!() };
        state.report(after(1), ticket, Observation::Success, MIDDLE);
    }
    assert_eq!(state.phase(), Phase::Closed, "its successes close it as probes do");
}

proptest! {
    /// I19: by the normal door an open breaker admits nothing, a half-open one a single probe at a time; a target that
    /// stands last is tried with some luck; and from any state, successes close it again.
    #[test]
    fn invariants_hold_under_any_history(
        steps in prop::collection::vec((0_u8..8, 0_u64..20, 0.0_f64..1.0), 1..300),
    ) {
        let mut state = State::new(Config::default());
        let mut now = START;
        let mut held: Vec<Ticket> = Vec::new();
        for (step, secs, draw) in steps {
            now = now + Duration::from_secs(secs);
            match step {
                0..=3 => {
                    let before = state.phase();
                    let (admission, _) = state.admit(now, Door::Normal, draw);
                    if let Admission::Pass(ticket) = admission {
                        match before {
                            Phase::Open { until } => prop_assert!(now >= until && ticket.probe),
                            Phase::HalfOpen { probing, since } => prop_assert!(
                                !probing || now.since(since) >= Duration::from_mins(5)
                            ),
                            Phase::Closed => prop_assert!(!ticket.probe),
                        }
                        held.push(ticket);
                    }
                }
                4 => {
                    let (admission, _) = state.admit(now, Door::LastStanding, 0.8);
                    prop_assert!(matches!(admission, Admission::Pass(_)));
                }
                _ => if let Some(ticket) = held.pop() {
                    let observation = [FAILED, Observation::Success, Observation::Nothing];
                    state.report(now, ticket, observation[usize::from(step - 5)], draw);
                }
            }
            if let Phase::Open { until } = state.phase() {
                prop_assert!(until.since(now) <= Duration::from_mins(6));
            }
        }
        for _ in 0..4 {
            now = now + Duration::from_mins(7);
            if let Admission::Pass(ticket) = state.admit(now, Door::Normal, 0.0).0 {
                state.report(now, ticket, Observation::Success, 0.0);
            }
        }
        prop_assert_eq!(state.phase(), Phase::Closed);
    }
}
