//! Every failure of the tables × dialect × streaming or not × before or after the first content, through the whole stack
//! and over real HTTP: whether it is tried again, by whom it is answered in the end, and what the caller sees.

use crate::support::{Seen, ask, model, settings, sim};
use backstop::Backstop;
use backstop::call::{Dialect, Failure, FailureKind, Progress, Reply};
use backstop_sim::{Fault, Hint, Row, Sim};

const DIALECTS: [Dialect; 3] = Dialect::ALL;

/// What comes of one fault at the first provider of a chain.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// Answered by the provider of this name, at the attempt of this number.
    Answered(&'static str, usize),
    /// Failed for good, after so many attempts.
    Failed(FailureKind, usize),
}

use FailureKind as K;
use Outcome::{Answered, Failed};

/// With a chain of one, and with a fallback.
fn of_row(row: Row) -> (Outcome, Outcome) {
    match row {
        Row::Invalid | Row::Unprocessable => (Failed(K::Invalid, 1), Failed(K::Invalid, 1)),
        // Another provider may have the model, or take more.
        Row::NotFound | Row::TooLarge => (Failed(K::Invalid, 1), Answered("b", 2)),
        // The fallback's window is no larger.
        Row::ContextLength => (Failed(K::ContextLength, 1), Failed(K::ContextLength, 1)),
        Row::Policy => (Failed(K::Policy, 1), Failed(K::Policy, 1)),
        Row::OwnSpendLimit
        | Row::Billing
        | Row::EnforcedSpendLimit
        | Row::CreditExhausted
        | Row::OrganizationSpendLimit
        | Row::ProjectSpendLimit
        | Row::OrganizationUsageLimit => (Failed(K::Quota, 1), Answered("b", 2)),
        Row::Authentication | Row::Permission => (Failed(K::Auth, 1), Answered("b", 2)),
        // A conflict is the target's own: once more there, nowhere else. And a short wait at the preferred target is better
        // than another model.
        Row::Conflict | Row::RateLimit | Row::SlowDown => (Answered("a", 2), Answered("a", 2)),
        Row::RequestTimeout
        | Row::Server
        | Row::BadGateway
        | Row::Unavailable
        | Row::Timeout
        | Row::Overloaded => (Answered("a", 2), Answered("b", 2)),
    }
}

fn outcome(result: &Result<Reply, Failure>) -> Outcome {
    match result {
        Ok(reply) => {
            let last = reply.attempts.last().expect("a reply has an attempt");
            Answered(if last.provider.as_str() == "a" { "a" } else { "b" }, reply.attempts.len())
        }
        Err(failure) => Failed(failure.kind, failure.detail.attempts.len()),
    }
}

/// One call with one fault at `a`, over a chain of one and over a chain with a fallback.
async fn both(fault: &Fault, dialect: Dialect, stream: bool) -> [(Result<Reply, Failure>, Seen, Sim); 2] {
    let one = |fallback: bool| async move {
        let sim = sim().await;
        let mut models = vec![model(&sim, "a", dialect)];
        models.extend(fallback.then(|| model(&sim, "b", dialect)));
        let backstop = Backstop::open(settings(models)).await.expect("nothing to go wrong in memory");
        sim.enqueue("a", fault.clone());
        let (result, seen) = ask(&backstop, stream).await;
        (result, seen, sim)
    };
    [one(false).await, one(true).await]
}

/// What a caller of a stream must see, whatever happened behind it.
fn check_stream(name: &str, stream: bool, result: &Result<Reply, Failure>, seen: &Seen) {
    let (starts, stops) = seen.starts_and_stops();
    match result {
        Ok(_) if stream => assert_eq!((starts, stops), (1, 1), "{name}: one answer and no trace of another"),
        Ok(_) => assert_eq!(seen.0.len(), 0, "{name}: nothing was to be streamed"),
        Err(failure) => {
            assert_eq!(stops, 0, "{name}: what failed must not look finished");
            let committed = failure.progress == Progress::Committed;
            assert_eq!(seen.content(), committed, "{name}: committed means that content was seen");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_error_row_ends_as_the_tables_say() {
    for row in Row::ALL {
        for (dialect, stream) in DIALECTS.into_iter().flat_map(|dialect| [(dialect, false), (dialect, true)])
        {
            let name = format!("{} {dialect:?} stream={stream}", row.as_str());
            let hint = if row.usual_secs().is_some() { Hint::Millis(2) } else { Hint::None };
            let [(alone, alone_seen, _), (chain, chain_seen, _)] =
                both(&Fault::Error { row: *row, hint }, dialect, stream).await;
            assert_eq!((outcome(&alone), outcome(&chain)), of_row(*row), "{name}");
            check_stream(&name, stream, &alone, &alone_seen);
            check_stream(&name, stream, &chain, &chain_seen);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_stream_is_hidden_before_the_first_content_and_told_after_it() {
    for (row, dialect) in Row::ALL.iter().flat_map(|row| DIALECTS.map(|dialect| (*row, dialect))) {
        let name = format!("{} {dialect:?}", row.as_str());
        let before = Fault::InStreamError { row, committed: false };
        for (result, seen, _) in both(&before, dialect, true).await {
            check_stream(&name, true, &result, &seen);
            assert!(!matches!(&result, Err(failure) if failure.progress == Progress::Committed), "{name}");
        }
        let after = Fault::InStreamError { row, committed: true };
        for (result, seen, sim) in both(&after, dialect, true).await {
            check_stream(&name, true, &result, &seen);
            let failure = result.expect_err(&name);
            assert_eq!(failure.progress, Progress::Committed, "{name}");
            assert_eq!(failure.detail.attempts.len(), 1, "{name}: no retry after content");
            assert_eq!(sim.requests().len(), 1, "{name}: and no other model is asked");
        }
    }
}

/// Faults of the connection and of the protocol: with a chain of one every one of them is survived by asking again, as long
/// as nothing has reached the caller.
#[tokio::test(flavor = "multi_thread")]
async fn broken_answers_are_asked_for_again_and_paid_for() {
    let faults = [
        "html-error",
        "hang-before-headers",
        "hang-after-headers",
        "cut-before-body",
        "cut-at-1",
        "cut-at-40",
        "malformed-json",
        "malformed-stream-0",
        "empty-answer",
    ];
    for (fault, dialect) in faults.iter().flat_map(|fault| DIALECTS.map(|dialect| (*fault, dialect))) {
        for stream in [false, true] {
            let name = format!("{fault} {dialect:?} stream={stream}");
            let fault: Fault = fault.parse().expect(&name);
            for (result, seen, sim) in both(&fault, dialect, stream).await {
                check_stream(&name, stream, &result, &seen);
                let reply = result.unwrap_or_else(|failure| panic!("{name}: {failure}"));
                assert_eq!(reply.attempts.len(), 2, "{name}");
                // What the provider billed for the lost answer is counted, at least at what it was.
                let counted: backstop::call::Money = reply.attempts.iter().map(|attempt| attempt.cost).sum();
                assert!(
                    sim.bill().total <= counted,
                    "{name}: billed {}, counted {counted}",
                    sim.bill().total
                );
            }
        }
    }
}

/// A call of a tool that was not offered, or with arguments that are no JSON: asked for again while the caller has seen
/// nothing of it, and never told as finished when it has.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_tool_calls_are_asked_for_again_or_told_as_broken() {
    for (fault, dialect) in ["unknown-tool", "broken-tool-arguments"]
        .iter()
        .flat_map(|fault| DIALECTS.map(|dialect| (*fault, dialect)))
    {
        for stream in [false, true] {
            let name = format!("{fault} {dialect:?} stream={stream}");
            for (result, seen, _) in both(&fault.parse().expect(&name), dialect, stream).await {
                check_stream(&name, stream, &result, &seen);
                let expected = if stream { Failed(K::Malformed, 1) } else { Answered("a", 2) };
                assert_eq!(outcome(&result), expected, "{name}");
            }
        }
    }
}

/// After content has reached the caller a broken stream is told as broken, by every way it can break.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_after_content_is_never_spliced() {
    let faults = ["cut-at-700", "end-early", "malformed-stream-6"];
    for (fault, dialect) in faults.iter().flat_map(|fault| DIALECTS.map(|dialect| (*fault, dialect))) {
        // Responses begins with the whole of what is known, twice.
        let fault = match (dialect, fault) {
            (Dialect::Responses, "cut-at-700") => "cut-at-2400",
            (_, fault) => fault,
        };
        let name = format!("{fault} {dialect:?}");
        let fault: Fault = fault.parse().expect(&name);
        for (result, seen, sim) in both(&fault, dialect, true).await {
            check_stream(&name, true, &result, &seen);
            let failure = result.expect_err(&name);
            assert_eq!(failure.progress, Progress::Committed, "{name}: {failure}");
            assert_eq!(sim.requests().len(), 1, "{name}");
        }
    }
}
