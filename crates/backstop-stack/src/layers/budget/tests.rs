//! How each end of an attempt resolves its reservation.

use super::*;
use backstop_call::{Block, LimitHint, Request, StopReason};

fn bounds() -> Bounds {
    let price =
        Price { input: Money::from_nanos(1_000_000), output: Money::from_nanos(10_000_000), ..Price::FREE };
    Bounds { input_max: 1_000, output_max: 500, price, hidden_output: false }
}

fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
    Usage { input_tokens, output_tokens, ..Usage::default() }
}

fn reply(usage: Usage) -> Reply {
    Reply {
        id: String::new(),
        model: String::new(),
        content: vec![Block::text("x".repeat(100))],
        stop: StopReason::End,
        usage,
        first_token: None,
        request_id: None,
        limits: LimitHint::default(),
        attempts: Vec::new(),
        other: serde_json::Map::new(),
        told: None,
        lost: Vec::new(),
    }
}

fn failed(kind: FailureKind, progress: Progress, told: Option<Usage>) -> Failure {
    let mut failure = Failure::new(kind, progress, "it failed");
    failure.detail.usage = told;
    failure
}

#[test]
fn table() {
    use FailureKind::{Cancelled, Deadline, Transient, UnknownOutcome};
    use Progress::{NotSent, ResponseStarted, Sent};
    let nanos = |nanos| Resolution::Settle(Money::from_nanos(nanos));
    let answered = reply(usage(10, 20));
    let untold = reply(Usage::default());
    let half_told = reply(usage(10, 0));
    let estimated = reply(Usage { estimated: true, ..usage(1, 1) });
    let nothing = Seen::default();
    let some = Seen { bytes: 100, usage: Some(usage(10, 1)) };
    let unknown = Seen { bytes: 100, usage: None };
    let unbilled = {
        let mut failure = failed(Transient, ResponseStarted, None);
        failure.detail.unbilled = true;
        failure
    };
    let fails: [Failure; 8] = [
        failed(Transient, NotSent, None),
        unbilled,
        failed(Transient, ResponseStarted, Some(usage(10, 20))),
        failed(Transient, Sent, None),
        failed(UnknownOutcome, ResponseStarted, Some(usage(10, 20))),
        failed(Transient, ResponseStarted, Some(usage(10, 1))),
        failed(Cancelled, ResponseStarted, None),
        failed(Deadline, ResponseStarted, None),
    ];
    let most = |nanos| Resolution::Suspend(Money::from_nanos(nanos));
    let worst = Resolution::Suspend(bounds().worst_case());
    let rows: [(&str, Seen, Ending<'_>, Resolution); 17] = [
        ("answered", nothing, Ending::Answered(&answered), nanos(10 + 200)),
        ("answered, no usage", nothing, Ending::Answered(&untold), most(1_000 + 1_640)),
        ("answered, half a usage", nothing, Ending::Answered(&half_told), most(10 + 1_640)),
        ("answered, usage estimated", nothing, Ending::Answered(&estimated), most(1_000 + 1_640)),
        ("not sent", nothing, Ending::Failed(&fails[0]), Resolution::Void),
        ("known not to be billed", nothing, Ending::Failed(&fails[1]), Resolution::Void),
        ("said to be unbilled, but content came", unknown, Ending::Failed(&fails[1]), most(1_000 + 1_640)),
        ("failed, usage told, nothing seen", nothing, Ending::Failed(&fails[2]), worst),
        ("failed, nothing told", nothing, Ending::Failed(&fails[3]), worst),
        ("outcome unknown", nothing, Ending::Failed(&fails[4]), worst),
        ("cut, more seen than told", some, Ending::Failed(&fails[5]), most(10 + 1_640)),
        ("the reader went, content seen", unknown, Ending::Failed(&fails[6]), most(1_000 + 1_640)),
        ("the reader went, nothing seen", nothing, Ending::Failed(&fails[6]), worst),
        ("deadline in the middle", some, Ending::Failed(&fails[7]), worst),
        ("dropped, nothing seen", nothing, Ending::Cancelled, worst),
        ("dropped, content seen", unknown, Ending::Cancelled, most(1_000 + 1_640)),
        ("dropped, content and usage seen", some, Ending::Cancelled, most(10 + 1_640)),
    ];
    for (name, seen, ending, want) in rows {
        assert_eq!(decide(&bounds(), seen, ending).0, want, "{name}");
    }
}

#[test]
fn an_estimate_is_marked_and_never_above_the_worst_case() {
    let much = Seen { bytes: 1_000_000, usage: None };
    let (resolution, usage) = decide(&bounds(), much, Ending::Cancelled);
    assert_eq!(resolution, Resolution::Suspend(bounds().worst_case()));
    assert!(usage.unwrap().estimated);
}

#[test]
fn several_choices_are_reserved_for() {
    let mut request = Request { max_tokens: Some(100), ..Request::default() };
    let key = TargetKey { provider: "p".into(), model: "m".to_owned() };
    let terms = Terms { key, price: Price::FREE, max_output: 9, hidden_output: false };
    let of = |request: &Request| {
        let call = Call::new("c".into(), Arc::new(request.clone()), Arc::default(), Timestamp::FAR);
        Bounds::of(&call, &terms, Config::default())
    };
    let one = of(&request);
    request.other.insert("n".to_owned(), 4.into());
    let four = of(&request);
    assert_eq!((one.output_max, four.output_max), (100, 400));
}

#[test]
fn what_thinks_out_of_sight_is_counted_at_its_worst_when_it_breaks_off() {
    let some = Seen { bytes: 100, usage: None };
    let hidden = Bounds { hidden_output: true, ..bounds() };
    let (resolution, _) = decide(&hidden, some, Ending::Cancelled);
    assert_eq!(resolution, Resolution::Suspend(bounds().worst_case()));
}
