//! Against the simulated provider: every error row and every fault it has, streamed or not, and its own bill beside what we
//! say of it.

use crate::fixtures::{DIALECTS, Fixed, LONG, SHORT_FIRST_BYTE, SHORT_IDLE, call, endpoint};
use backstop_call::{Code, Dialect, Discard, Failure, FailureKind, Model, Progress, Reply, StopReason};
use backstop_provider::{HttpClient, HttpModel, probe};
use backstop_sim::{Bill, DEFAULT_PROVIDER, FAULT_HEADER, Fault, Hint, Row, Sim, SimConfig};
use std::sync::Arc;

fn base_url(sim: &Sim, dialect: Dialect) -> String {
    let root = sim.base_url(DEFAULT_PROVIDER);
    if dialect == Dialect::Messages { root } else { format!("{root}/v1") }
}

/// One call under a fault, and what the provider charged for it in the end.
async fn under(fault: Option<&Fault>, dialect: Dialect, stream: bool) -> (Result<Reply, Failure>, Bill) {
    let sim = Sim::start(SimConfig::new(Arc::new(Fixed))).await.unwrap();
    let mut endpoint = endpoint(dialect, &base_url(&sim, dialect));
    let mut timeouts = LONG;
    if let Some(fault) = fault {
        endpoint.insert_header(FAULT_HEADER, &fault.to_string()).unwrap();
        timeouts = match fault {
            Fault::HangBeforeHeaders => SHORT_FIRST_BYTE,
            Fault::HangAfterHeaders => SHORT_IDLE,
            _ => LONG,
        };
    }
    let model = HttpModel::new(&HttpClient::new(), endpoint, "sim".into(), timeouts, Arc::new(Fixed));
    let result = model.call(call(stream), &mut Discard).await;
    drop(model);
    let bill = sim.shutdown().await;
    for charge in &bill.entries {
        assert_eq!(charge.client_request_id.as_deref(), Some("c1.1"), "the bill can be matched");
    }
    if let Err(failure) = &result {
        let says_unbilled = failure.detail.unbilled || failure.progress == Progress::NotSent;
        assert!(!says_unbilled || bill.requests == 0, "billed, and we say it is not: {failure:?} {bill:?}");
    }
    (result, bill)
}

#[tokio::test]
async fn a_calm_call_uses_what_is_billed() {
    for dialect in DIALECTS {
        for stream in [false, true] {
            let (reply, bill) = under(None, dialect, stream).await;
            let reply = reply.unwrap();
            let billed = (bill.input_tokens, bill.output_tokens);
            assert_eq!((reply.usage.total_input_tokens(), reply.usage.output_tokens), billed, "{dialect:?}");
            assert!(!reply.usage.estimated && reply.request_id.is_some(), "{reply:?}");
        }
    }
}

/// More than the request allows for: what a budget did not reserve is told and billed all the same.
#[tokio::test]
async fn an_overrun_is_billed_as_told() {
    for dialect in DIALECTS {
        let calm = under(None, dialect, true).await.1;
        for stream in [false, true] {
            let (reply, bill) = under(Some(&Fault::WrongUsage { times: 10 }), dialect, stream).await;
            let usage = reply.unwrap().usage;
            let told = (usage.total_input_tokens(), usage.output_tokens);
            assert_eq!(told, (bill.input_tokens, bill.output_tokens), "{dialect:?} stream: {stream}");
            assert_eq!(
                told,
                (calm.input_tokens * 10, calm.output_tokens * 10),
                "{dialect:?} stream: {stream}"
            );
        }
    }
}

#[tokio::test]
async fn every_error_row() {
    for dialect in DIALECTS {
        for row in Row::ALL {
            for stream in [false, true] {
                let fault = Fault::Error { row: *row, hint: Hint::Usual };
                let failure = under(Some(&fault), dialect, stream).await.0.unwrap_err();
                let place = format!("{dialect:?} {row:?} stream: {stream}: {failure:?}");
                assert_eq!(failure.progress, Progress::ResponseStarted, "{place}");
                assert_eq!(failure.detail.status, Some(row.status(dialect)), "{place}");
                assert_eq!(failure.retry_after, Hint::Usual.wait(row.usual_secs()), "{place}");
                // Messages has no code of its own for a filter: it is a request that is wrong.
                let no_code = dialect == Dialect::Messages && *row == Row::Policy;
                assert!(failure.kind == row.kind() || no_code, "{place}");
                let late = matches!(row, Row::Timeout | Row::RequestTimeout);
                assert_eq!(failure.detail.unbilled, !late, "{place}");
            }
        }
    }
}

#[tokio::test]
async fn every_error_row_inside_a_stream() {
    for dialect in DIALECTS {
        for row in Row::ALL {
            for committed in [false, true] {
                let fault = Fault::InStreamError { row: *row, committed };
                let failure = under(Some(&fault), dialect, true).await.0.unwrap_err();
                let place = format!("{dialect:?} {row:?} {committed}: {failure:?}");
                assert_eq!(failure.progress, Progress::ResponseStarted, "{place}");
                assert_eq!(failure.detail.produced_chars > 0, committed, "{place}");
                assert_eq!(failure.detail.status, Some(200), "{place}");
                // What has a code of its own is known by it; what has only a status is, inside a stream, a failed server
                // or a wrong request.
                let vague = matches!(failure.kind, FailureKind::Transient | FailureKind::Invalid);
                assert!(failure.kind == row.kind() || vague, "{place}");
                if matches!(row, Row::Overloaded | Row::RateLimit | Row::Server) {
                    assert_eq!(failure.kind, row.kind(), "{place}");
                }
            }
        }
    }
}

#[tokio::test]
async fn every_form_of_a_wait() {
    let hints = [
        Hint::None,
        Hint::Millis(1_500),
        Hint::Seconds(7),
        Hint::Fraction(1_500),
        Hint::Date(30),
        Hint::Long,
        Hint::Zero,
        Hint::Negative,
        Hint::NotANumber,
        Hint::Garbage,
        Hint::Both,
        Hint::DoNot,
    ];
    for dialect in DIALECTS {
        for hint in hints {
            for row in [Row::RateLimit, Row::Unavailable] {
                let failure = under(Some(&Fault::Error { row, hint }), dialect, true).await.0.unwrap_err();
                assert_eq!(failure.retry_after, hint.wait(row.usual_secs()), "{dialect:?} {row:?} {hint:?}");
            }
        }
    }
}

#[tokio::test]
async fn every_fault_of_the_connection_and_the_body() {
    use FailureKind::{Malformed, Transient, UnknownOutcome};
    use Progress::{ResponseStarted, Sent};
    let faults = [
        (Fault::HtmlError, Transient, ResponseStarted, Code::ProviderFailed),
        (Fault::HangBeforeHeaders, UnknownOutcome, Sent, Code::OutcomeUnknown),
        (Fault::HangAfterHeaders, UnknownOutcome, ResponseStarted, Code::OutcomeUnknown),
        (Fault::CutBeforeBody, UnknownOutcome, Sent, Code::OutcomeUnknown),
        (Fault::CutAt { byte: 1 }, Transient, ResponseStarted, Code::StreamCut),
        (Fault::CutAt { byte: 200 }, Transient, ResponseStarted, Code::StreamCut),
        (Fault::EndEarly, Transient, ResponseStarted, Code::StreamCut),
        (Fault::MalformedJson, Malformed, ResponseStarted, Code::AnswerMalformed),
        (Fault::GarbageText, Malformed, ResponseStarted, Code::AnswerMalformed),
    ];
    for dialect in DIALECTS {
        for (fault, kind, progress, code) in &faults {
            for stream in [false, true] {
                let (result, _) = under(Some(fault), dialect, stream).await;
                let failure = result.unwrap_err();
                let got = (failure.kind, failure.progress, failure.code());
                assert_eq!(
                    got,
                    (*kind, *progress, *code),
                    "{dialect:?} {fault} stream: {stream}: {failure:?}"
                );
            }
        }
        let (result, _) = under(Some(&Fault::MalformedStream { after: 2 }), dialect, true).await;
        assert_eq!(result.unwrap_err().kind, Malformed, "{dialect:?}");
    }
    // Just above the limit for an answer. A flood of small events is slow without optimisation: see `failures`.
    for dialect in DIALECTS {
        let (result, _) = under(Some(&Fault::HugeBody { mib: 33 }), dialect, false).await;
        let failure = result.unwrap_err();
        assert_eq!((failure.kind, failure.progress), (Malformed, ResponseStarted), "{dialect:?} {failure:?}");
        assert!(failure.detail.message.contains("larger than"), "{failure:?}");
    }
}

#[tokio::test]
async fn every_fault_that_is_an_answer() {
    let faults = [
        (Fault::MissingUsage, None),
        (Fault::SlowFirstToken { ms: 50 }, None),
        (Fault::SlowChunks { ms: 5 }, None),
        (Fault::EmptyAnswer, None),
        (Fault::Truncated, Some(StopReason::MaxTokens)),
        (Fault::Refusal, Some(StopReason::Refusal)),
    ];
    for dialect in DIALECTS {
        for (fault, stop) in &faults {
            for stream in [false, true] {
                let (result, bill) = under(Some(fault), dialect, stream).await;
                let place = format!("{dialect:?} {fault} stream: {stream}: {result:?}");
                let reply = result.expect(&place);
                assert!(stop.as_ref().is_none_or(|stop| *stop == reply.stop), "{place}");
                let usage = reply.usage;
                assert_eq!(usage.estimated, *fault == Fault::MissingUsage, "{place}");
                if usage.estimated {
                    assert!(usage.input_tokens >= bill.input_tokens, "{place}: estimated low: {bill:?}");
                    assert!(usage.output_tokens >= bill.output_tokens, "{place}: estimated low: {bill:?}");
                } else {
                    let billed = (bill.input_tokens, bill.output_tokens);
                    assert_eq!((usage.total_input_tokens(), usage.output_tokens), billed, "{place}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_models_are_listed() {
    let sim = Sim::start(SimConfig::new(Arc::new(Fixed))).await.unwrap();
    for dialect in DIALECTS {
        let endpoint = endpoint(dialect, &base_url(&sim, dialect));
        let report = probe(&HttpClient::new(), &endpoint, &Fixed).await.unwrap();
        assert_eq!(report.models.unwrap(), ["sim", "sim-small"], "{dialect:?}");
    }
}

/// The newest version of Messages refuses sampling parameters, which requests of other dialects have.
#[tokio::test]
async fn a_temperature_is_taken_in_each_dialect() {
    let sim = Sim::start(SimConfig::new(Arc::new(Fixed))).await.unwrap();
    for dialect in DIALECTS {
        let endpoint = endpoint(dialect, &base_url(&sim, dialect));
        let model = HttpModel::new(&HttpClient::new(), endpoint, "sim".into(), LONG, Arc::new(Fixed));
        let mut request = crate::fixtures::request(false);
        (request.temperature, request.top_p) = (Some(0.5), Some(0.9));
        let reply = model.call(crate::fixtures::call_of("c1", request), &mut Discard).await.unwrap();
        assert_eq!(reply.stop, StopReason::End, "{dialect:?}");
    }
}
