//! Which failure a call ends with, when several things went wrong in it. Pure.
//!
//! | what happened | the call ends with |
//! |---|---|
//! | a failure that is final, content that had reached the caller, no attempt or no time left | the last failure |
//! | else, a budget had no room for an attempt | the budget's refusal, with every attempt made before it |
//! | else, attempts failed | the last failure |
//! | else, targets refused without being asked | the refusal that helps most |
//!
//! Money comes before what goes away by waiting, a breaker or a rate limit or the failure of an attempt: waiting brings no
//! money, and a target that only rests is paid from the same accounts as a rule. Who was told to wait would wait in vain.

use super::Why;
use backstop_call::{Failure, FailureKind};
use std::time::Duration;

/// What went wrong in a call, in the order it happened.
#[derive(Debug, Default)]
pub struct Wrong {
    /// The last failure of an attempt.
    pub failure: Option<Failure>,
    /// What targets refused without being asked.
    pub refusals: Vec<Failure>,
}

/// The failure that the caller is told, without the attempts. `None` when no target was even tried.
pub fn ending(wrong: Wrong, why: Why) -> Option<Failure> {
    let Wrong { failure, refusals } = wrong;
    let refusal = refusals.into_iter().min_by_key(helpful);
    match (failure, refusal) {
        (Some(failure), Some(refusal)) if refusal.kind == FailureKind::Budget && stopped_by_refusal(why) => {
            Some(after(refusal, &failure))
        }
        (Some(failure), _) => Some(noted(failure, why)),
        (None, refusal) => refusal,
    }
}

/// Whether another attempt would have been made, had no target refused.
fn stopped_by_refusal(why: Why) -> bool {
    match why {
        Why::NoTarget | Why::Quarantined { .. } | Why::HintTooLong | Why::RetryQuota => true,
        Why::Final | Why::Committed | Why::Attempts | Why::Deadline => false,
    }
}

/// A refusal of a further attempt, which says what the attempt before it came to: last, as in [`noted`].
fn after(mut refusal: Failure, failure: &Failure) -> Failure {
    refusal.detail.message =
        format!("{}, after an attempt that failed: {failure}", refusal.detail.message).into();
    refusal
}

/// A failure with what else is to be said. The provider's words stay last: they may have been cut within a secret, and the
/// layer that looks for secrets can tell only at the end of a text.
fn noted(mut failure: Failure, why: Why) -> Failure {
    if let Some(note) = why.note() {
        failure.detail.message = format!("{note}: {}", failure.detail.message).into();
    }
    failure
}

/// Lower is more helpful to the caller: first what is final for any target, then money, then what goes away by waiting,
/// the soonest first.
fn helpful(refusal: &Failure) -> (u8, Option<Duration>) {
    let rank = match refusal.kind {
        FailureKind::Invalid | FailureKind::Deadline | FailureKind::Cancelled => 0,
        FailureKind::Budget => 1,
        FailureKind::Throttled | FailureKind::Overloaded => 2,
        FailureKind::ContextLength => 3,
        FailureKind::Transient
        | FailureKind::Quota
        | FailureKind::Auth
        | FailureKind::Policy
        | FailureKind::Malformed
        | FailureKind::UnknownOutcome
        | FailureKind::Downstream
        | FailureKind::Private => 4,
    };
    (rank, refusal.retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;
    use FailureKind::{
        Auth, Budget, ContextLength, Deadline, Invalid, Malformed, Overloaded, Throttled, Transient,
    };
    use backstop_call::{Progress, Timestamp};

    fn failed(kind: FailureKind) -> Failure {
        Failure::new(kind, Progress::ResponseStarted, "it failed")
    }

    fn refused((kind, wait): &(FailureKind, u64)) -> Failure {
        Failure::new(*kind, Progress::NotSent, "it has no room")
            .with_retry_after(Some(Duration::from_secs(*wait)))
    }

    /// What failed, what refused (with the seconds it asks to wait), why no more; and what the call ends with.
    type Row<'a> = (Option<FailureKind>, &'a [(FailureKind, u64)], Why, Option<(FailureKind, u64)>);

    #[test]
    fn table() {
        let resting = Why::Quarantined { kind: Auth, until: Timestamp::EPOCH };
        let rows: &[Row<'_>] = &[
            (None, &[], Why::NoTarget, None),
            // One thing alone.
            (Some(Malformed), &[], Why::NoTarget, Some((Malformed, 0))),
            (None, &[(Budget, 1)], Why::NoTarget, Some((Budget, 1))),
            // Money first, whatever failed before and whatever else refused, in any order.
            (Some(Malformed), &[(Budget, 1)], Why::NoTarget, Some((Budget, 1))),
            (Some(Malformed), &[(Overloaded, 9), (Budget, 1)], Why::NoTarget, Some((Budget, 1))),
            (Some(Auth), &[(Budget, 1), (Throttled, 0)], resting, Some((Budget, 1))),
            (Some(Throttled), &[(Budget, 1)], Why::HintTooLong, Some((Budget, 1))),
            (Some(Transient), &[(Budget, 1)], Why::RetryQuota, Some((Budget, 1))),
            (None, &[(Overloaded, 0), (Budget, 1)], Why::NoTarget, Some((Budget, 1))),
            (None, &[(Budget, 1)], resting, Some((Budget, 1))),
            // Where no further attempt would have been made, money has nothing to do with it.
            (Some(Invalid), &[(Budget, 1)], Why::Final, Some((Invalid, 0))),
            (Some(Transient), &[(Budget, 1)], Why::Committed, Some((Transient, 0))),
            (Some(Transient), &[(Budget, 1)], Why::Attempts, Some((Transient, 0))),
            (Some(Transient), &[(Budget, 1)], Why::Deadline, Some((Transient, 0))),
            // A failure says more than a target that was never asked.
            (Some(Malformed), &[(Overloaded, 9)], Why::NoTarget, Some((Malformed, 0))),
            (Some(Transient), &[(ContextLength, 0)], Why::NoTarget, Some((Transient, 0))),
            (Some(Transient), &[(Deadline, 0)], Why::Final, Some((Transient, 0))),
            // Of refusals: what is final, then what goes away the soonest.
            (None, &[(Budget, 1), (Invalid, 0)], Why::Final, Some((Invalid, 0))),
            (None, &[(Overloaded, 90), (Throttled, 8)], Why::NoTarget, Some((Throttled, 8))),
            (None, &[(ContextLength, 0), (Overloaded, 90)], Why::NoTarget, Some((Overloaded, 90))),
        ];
        for (failure, refusals, why, want) in rows {
            let wrong =
                Wrong { failure: failure.map(failed), refusals: refusals.iter().map(refused).collect() };
            let got = ending(wrong, *why);
            let shown = got.map(|got| (got.kind, got.retry_after.unwrap_or_default().as_secs()));
            assert_eq!(shown, *want, "{failure:?} {refusals:?} {why:?}");
        }
    }

    #[test]
    fn the_message_says_both() {
        let wrong = Wrong { failure: Some(failed(Malformed)), refusals: vec![refused(&(Budget, 0))] };
        let told = ending(wrong, Why::NoTarget).unwrap();
        assert_eq!(told.detail.message, "it has no room, after an attempt that failed: it failed");
        let wrong = Wrong { failure: Some(failed(Transient)), refusals: Vec::new() };
        let told = ending(wrong, Why::Deadline).unwrap();
        assert_eq!(told.detail.message, "no time is left for another attempt: it failed");
    }
}
