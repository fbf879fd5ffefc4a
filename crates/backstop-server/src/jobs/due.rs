//! What is due of a job, and what is left out: decided from its terms, from how it stands, and from the time. No clock, no
//! store: the scheduler asks, and does as it is told.

use super::schedule::Schedule;
use backstop_call::Timestamp;
use backstop_journal::event::JobSkip;
use backstop_journal::projections::jobs::JobRecord;
use std::time::Duration;

/// What comes later than this after its time was missed.
pub(super) const LATE: Duration = Duration::from_mins(1);
/// Tasks of one job that may wait or be worked on at a time, where they may queue.
const QUEUED_MAX: usize = 50;
/// Times of one job that are decided at a time; what comes after them is decided at the next look. A week of minutes.
const TIMES_MAX: usize = 10_080;

/// What becomes of a time that comes while the task of an earlier one is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// It is left out.
    Skip,
    /// It waits for the earlier ones.
    Queue,
    /// The earlier ones are cancelled.
    Replace,
}

/// What becomes of times at which nobody was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    Never,
    /// The last of them is made up for.
    Last,
    /// All of them are.
    All,
}

/// When a job is due, and what becomes of times that cannot be kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Terms {
    /// When.
    pub schedule: Schedule,
    /// While an earlier one is under way.
    pub overlap: Overlap,
    /// When nobody was there.
    pub catch_up: CatchUp,
    /// How old a time may be that is made up for.
    pub window: Duration,
    /// The task begins by so much later at most.
    pub jitter: Duration,
}

/// How a job stands.
#[derive(Debug, Clone, Copy)]
pub struct Standing<'a> {
    /// What the journal says.
    pub record: &'a JobRecord,
    /// Up to which time all is decided.
    pub decided: Timestamp,
    /// How many of its tasks wait or are worked on.
    pub under_way: usize,
}

/// What becomes of one time, or of several in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// There is to be no task for them.
    Skip {
        /// The times, in order; at least one.
        times: Vec<Timestamp>,
        /// Why.
        why: JobSkip,
    },
    /// There is to be a task for it.
    Start(Timestamp),
}

/// What is to be done at `now`, in the order of the times.
pub fn due(terms: &Terms, standing: Standing<'_>, now: Timestamp) -> Vec<Verdict> {
    let times = terms.schedule.times_after(standing.decided).take_while(|time| *time <= now);
    let times: Vec<_> = times.take(TIMES_MAX).filter(|time| !standing.record.has_started(*time)).collect();
    let wanted = if times.len() == TIMES_MAX { TIMES_MAX } else { first_wanted(terms, &times, now) };
    let room = match terms.overlap {
        Overlap::Skip => usize::from(standing.under_way == 0),
        Overlap::Replace => 1,
        Overlap::Queue => QUEUED_MAX.saturating_sub(standing.under_way),
    };
    // Where not all have room, the newest are worth most.
    let begun = wanted.max(times.len().saturating_sub(room));
    let skip =
        |times: &[Timestamp], why| (!times.is_empty()).then(|| Verdict::Skip { times: times.to_vec(), why });
    let left_out = [skip(&times[..wanted], JobSkip::Missed), skip(&times[wanted..begun], JobSkip::Overlap)];
    left_out.into_iter().flatten().chain(times[begun..].iter().copied().map(Verdict::Start)).collect()
}

/// Which of these times is the first that there is to be a task for: none before it.
fn first_wanted(terms: &Terms, times: &[Timestamp], now: Timestamp) -> usize {
    let age = |time: &Timestamp| now.since(*time);
    let in_time = times.partition_point(|time| age(time) > LATE);
    let in_window = times.partition_point(|time| age(time) > terms.window);
    match terms.catch_up {
        CatchUp::Never => in_time,
        CatchUp::Last => times.len().saturating_sub(1).max(in_time.min(in_window)),
        CatchUp::All => in_time.min(in_window),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_journal::event::JobStarted;

    /// Midnight of a day.
    const START: Timestamp = Timestamp::from_secs(1_795_392_000);

    fn minute(minute: u64) -> Timestamp {
        START + Duration::from_mins(minute)
    }

    fn terms(catch_up: CatchUp, overlap: Overlap) -> Terms {
        let schedule = Schedule::parse("*/10 * * * *", "UTC").unwrap();
        Terms { schedule, overlap, catch_up, window: Duration::from_mins(30), jitter: Duration::ZERO }
    }

    /// What is decided, in minutes: `-10..30 missed`, `+40`.
    fn told(terms: &Terms, decided: Timestamp, under_way: usize, now: Timestamp) -> Vec<String> {
        let record = JobRecord::default();
        let minutes = |time: &Timestamp| time.since(START).as_secs() / 60;
        let shown = |verdict: &Verdict| match verdict {
            Verdict::Start(time) => format!("+{}", minutes(time)),
            Verdict::Skip { times, why } => {
                format!("-{}..{} {}", minutes(&times[0]), minutes(&times[times.len() - 1]), why.as_str())
            }
        };
        due(terms, Standing { record: &record, decided, under_way }, now).iter().map(shown).collect()
    }

    #[test]
    fn what_comes_in_time_and_what_nobody_was_there_for() {
        use CatchUp::{All, Last, Never};
        let rows: &[(CatchUp, u64, u64, &[&str])] = &[
            (Never, 0, 9, &[]),
            (Never, 0, 10, &["+10"]),
            // Decided is decided.
            (All, 10, 10, &[]),
            (All, 10, 19, &[]),
            // A clock that went back.
            (All, 50, 20, &[]),
            (Never, 0, 11, &["+10"]),
            (Never, 0, 12, &["-10..10 missed"]),
            (Last, 0, 12, &["+10"]),
            (All, 0, 12, &["+10"]),
            (Never, 0, 30, &["-10..20 missed", "+30"]),
            (Last, 0, 30, &["-10..20 missed", "+30"]),
            (All, 0, 30, &["+10", "+20", "+30"]),
            (Never, 0, 95, &["-10..90 missed"]),
            (Last, 0, 95, &["-10..80 missed", "+90"]),
            (All, 0, 95, &["-10..60 missed", "+70", "+80", "+90"]),
        ];
        for (catch_up, decided, now, want) in rows {
            let told = told(&terms(*catch_up, Overlap::Queue), minute(*decided), 0, minute(*now));
            assert_eq!(told, *want, "{catch_up:?} {decided} {now}");
        }
    }

    #[test]
    fn what_is_older_than_the_window_is_not_made_up_for() {
        for catch_up in [CatchUp::Last, CatchUp::All] {
            let short = Terms { window: Duration::from_mins(3), ..terms(catch_up, Overlap::Queue) };
            assert_eq!(told(&short, START, 0, minute(24)), ["-10..20 missed"]);
            assert_eq!(told(&short, START, 0, minute(23)), ["-10..10 missed", "+20"]);
            // What comes in time needs no window.
            let none = Terms { window: Duration::ZERO, ..short };
            assert_eq!(told(&none, START, 0, minute(21)), ["-10..10 missed", "+20"]);
        }
    }

    #[test]
    fn what_comes_while_another_is_under_way() {
        let rows: &[(Overlap, usize, &[&str])] = &[
            (Overlap::Skip, 0, &["-10..20 overlap", "+30"]),
            (Overlap::Skip, 1, &["-10..30 overlap"]),
            (Overlap::Replace, 1, &["-10..20 overlap", "+30"]),
            (Overlap::Queue, 1, &["+10", "+20", "+30"]),
            (Overlap::Queue, QUEUED_MAX - 1, &["-10..20 overlap", "+30"]),
            (Overlap::Queue, QUEUED_MAX, &["-10..30 overlap"]),
            (Overlap::Queue, QUEUED_MAX + 5, &["-10..30 overlap"]),
        ];
        for (overlap, under_way, want) in rows {
            let told = told(&terms(CatchUp::All, *overlap), START, *under_way, minute(30));
            assert_eq!(told, *want, "{overlap:?} {under_way}");
        }
    }

    #[test]
    fn however_long_nobody_was_there_a_look_is_bounded_and_the_next_one_goes_on() {
        let every = Schedule::parse("* * * * *", "UTC").unwrap();
        let every = Terms { schedule: every, ..terms(CatchUp::Last, Overlap::Skip) };
        let (days, record) = (Duration::from_hours(24 * 15), JobRecord::default());
        let (mut decided, now, mut looks, mut left_out) = (START, START + days, 0, 0);
        loop {
            let verdicts = due(&every, Standing { record: &record, decided, under_way: 0 }, now);
            for verdict in &verdicts {
                match verdict {
                    Verdict::Skip { times, .. } => {
                        left_out += times.len();
                        decided = times[times.len() - 1];
                    }
                    Verdict::Start(time) => decided = *time,
                }
            }
            looks += 1;
            if verdicts.contains(&Verdict::Start(now)) {
                break;
            }
        }
        assert_eq!((looks, left_out), (21_600 / TIMES_MAX + 1, 21_599));
    }

    #[test]
    fn a_time_that_has_its_task_gets_no_other() {
        let started = JobStarted {
            job: "j".into(),
            task: "t".into(),
            run: "r".into(),
            time: Some(minute(20)),
            by: None,
        };
        let record = JobRecord { started: [(minute(20), started)].into(), ..JobRecord::default() };
        let standing = Standing { record: &record, decided: START, under_way: 1 };
        let verdicts = due(&terms(CatchUp::All, Overlap::Queue), standing, minute(30));
        assert_eq!(verdicts, [Verdict::Start(minute(10)), Verdict::Start(minute(30))]);
    }
}
