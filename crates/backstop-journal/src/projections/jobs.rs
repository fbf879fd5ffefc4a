//! How jobs stand, folded from the stream `jobs`: which schedule holds, up to which time all is decided, what was begun and
//! what was left out. What is due next is decided elsewhere; here is all that is needed for it, so that a restart forgets
//! nothing and does nothing twice.

use crate::event::{JobDefined, JobPaused, JobSkipped, JobStarted};
use crate::{Event, EventBody, Seq};
use backstop_call::{JobName, Timestamp};
use std::collections::{BTreeMap, VecDeque};

/// What was begun, and what was left out, is remembered so far back, each by job.
pub const REMEMBERED_MAX: usize = 100;

/// How a job stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobRecord {
    /// The schedule that holds; `None` where the config has it no more, or off.
    pub defined: Option<JobDefined>,
    /// Up to which time all is decided, this one included.
    pub decided: Timestamp,
    /// Since when and by whom its schedule does not count.
    pub paused: Option<(Timestamp, JobPaused)>,
    /// What was begun, and when; the newest is the last.
    pub started: VecDeque<(Timestamp, JobStarted)>,
    /// What was left out, and when that was decided; the newest is the last. What follows one another for the same reason is one.
    pub skipped: VecDeque<(Timestamp, JobSkipped)>,
}

/// How all jobs stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jobs {
    records: BTreeMap<JobName, JobRecord>,
    seq: Seq,
}

impl JobRecord {
    /// Whether there is a task for this time of the schedule, as far back as is remembered.
    pub fn has_started(&self, time: Timestamp) -> bool {
        self.started.iter().any(|(_, started)| started.time == Some(time))
    }

    fn start(&mut self, started: &JobStarted, at: Timestamp) {
        if let Some(time) = started.time {
            self.decided = self.decided.max(time);
            // Two processes may have seen the same time come: their task is one.
            if self.has_started(time) {
                return;
            }
        }
        self.started.push_back((at, started.clone()));
        if self.started.len() > REMEMBERED_MAX {
            self.started.pop_front();
        }
    }

    fn skip(&mut self, skipped: &JobSkipped, at: Timestamp) {
        // The second of two processes says nothing new.
        if self.skipped.back().is_some_and(|(_, before)| before.last >= skipped.last) {
            return;
        }
        self.decided = self.decided.max(skipped.last);
        let began = self.started.back().map(|(began, _)| *began);
        match self.skipped.back_mut() {
            Some((since, before))
                if before.why == skipped.why && began.is_none_or(|began| began <= *since) =>
            {
                before.last = skipped.last;
                before.times += skipped.times;
            }
            _ => {
                self.skipped.push_back((at, skipped.clone()));
                if self.skipped.len() > REMEMBERED_MAX {
                    self.skipped.pop_front();
                }
            }
        }
    }
}

impl Jobs {
    /// Folds a stream from its first event on.
    pub fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut jobs = Self::default();
        events.into_iter().for_each(|event| jobs.apply(event));
        jobs
    }

    /// Folds the next event in.
    pub fn apply(&mut self, event: &Event) {
        self.seq = event.seq;
        let at = event.at;
        match &event.body {
            EventBody::JobDefined(defined) => {
                let record = self.record(&defined.job);
                if record.defined.as_ref() != Some(defined) {
                    record.decided = record.decided.max(at);
                    record.defined = Some(defined.clone());
                }
            }
            EventBody::JobDropped(dropped) => self.record(&dropped.job).defined = None,
            EventBody::JobStarted(started) => self.record(&started.job).start(started, at),
            EventBody::JobSkipped(skipped) => self.record(&skipped.job).skip(skipped, at),
            EventBody::JobPaused(paused) => {
                self.record(&paused.job).paused.get_or_insert_with(|| (at, paused.clone()));
            }
            EventBody::JobResumed(resumed) => {
                let record = self.record(&resumed.job);
                if record.paused.take().is_some() {
                    record.decided = record.decided.max(at);
                }
            }
            _ => {}
        }
    }

    /// The last event that was folded in: read the stream after it.
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// A job by its name.
    pub fn get(&self, job: &JobName) -> Option<&JobRecord> {
        self.records.get(job)
    }

    /// Every job, by name, those that the config has no more too.
    pub fn iter(&self) -> impl Iterator<Item = (&JobName, &JobRecord)> {
        self.records.iter()
    }

    fn record(&mut self, job: &JobName) -> &mut JobRecord {
        self.records.entry(job.clone()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{JobDropped, JobResumed, JobSkip};
    use crate::{Hash, StreamId};

    const JOB: &str = "letter";

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn folded(events: Vec<(u64, EventBody)>) -> Jobs {
        let event = |(seq, (secs, body)): (usize, (u64, EventBody))| Event {
            position: 0,
            stream: StreamId::Jobs,
            seq: seq as u64 + 1,
            at: at(secs),
            epoch: 0,
            body,
            hash: Hash::default(),
        };
        let events: Vec<_> = events.into_iter().enumerate().map(event).collect();
        // In pieces it is the same.
        let mut pieces = Jobs::fold(&events[..events.len() / 2]);
        events[events.len() / 2..].iter().for_each(|event| pieces.apply(event));
        assert_eq!(pieces, Jobs::fold(&events));
        pieces
    }

    fn defined(schedule: &str) -> EventBody {
        JobDefined { job: JOB.into(), schedule: schedule.into(), timezone: "UTC".into() }.into()
    }

    fn started(time: u64) -> EventBody {
        let task = format!("{JOB}@{time}");
        let run = format!("r{time}");
        let time = Some(at(time));
        JobStarted { job: JOB.into(), task: task.into(), run: run.into(), time, by: None }.into()
    }

    fn skipped(first: u64, last: u64, why: JobSkip) -> EventBody {
        let times = last - first + 1;
        JobSkipped { job: JOB.into(), first: at(first), last: at(last), times, why }.into()
    }

    /// The times that were left out: how many from when to when.
    fn left_out(jobs: &Jobs) -> Vec<(u64, u64, u64, JobSkip)> {
        let record = jobs.get(&JOB.into()).unwrap();
        let shown =
            |(_, skip): &(Timestamp, JobSkipped)| (skip.first.secs(), skip.last.secs(), skip.times, skip.why);
        record.skipped.iter().map(shown).collect()
    }

    #[test]
    fn up_to_where_all_is_decided() {
        let paused =
            || EventBody::from(JobPaused { job: JOB.into(), by: "ann".into(), reason: String::new() });
        let resumed = || EventBody::from(JobResumed { job: JOB.into(), by: "ann".into() });
        let dropped = || EventBody::from(JobDropped { job: JOB.into() });
        let rows = [
            (vec![(5, defined("@daily"))], 5),
            // The same again is no change; another schedule is.
            (vec![(5, defined("@daily")), (9, defined("@daily"))], 5),
            (vec![(5, defined("@daily")), (9, defined("@hourly"))], 9),
            (vec![(5, defined("@daily")), (7, dropped()), (9, defined("@daily"))], 9),
            (vec![(5, defined("@daily")), (21, started(20))], 20),
            // A clock that goes back takes nothing back.
            (vec![(5, defined("@daily")), (31, started(30)), (11, started(10))], 30),
            (vec![(5, defined("@daily")), (50, skipped(10, 40, JobSkip::Missed))], 40),
            (vec![(5, defined("@daily")), (9, paused()), (60, resumed())], 60),
            // Who never stopped does not go on.
            (vec![(5, defined("@daily")), (60, resumed())], 5),
        ];
        for (events, want) in rows {
            let jobs = folded(events.clone());
            assert_eq!(jobs.get(&JOB.into()).unwrap().decided, at(want), "{events:?}");
        }
    }

    #[test]
    fn what_two_processes_say_is_said_once() {
        let jobs = folded(vec![(20, started(20)), (20, started(20)), (31, started(30))]);
        let times: Vec<_> =
            jobs.get(&JOB.into()).unwrap().started.iter().map(|(_, started)| started.time).collect();
        assert_eq!(times, [Some(at(20)), Some(at(30))]);
        let twice = skipped(40, 40, JobSkip::Overlap);
        assert_eq!(
            left_out(&folded(vec![(40, twice.clone()), (40, twice)])),
            [(40, 40, 1, JobSkip::Overlap)]
        );
    }

    #[test]
    fn what_is_left_out_in_a_row_is_one_line() {
        use JobSkip::{Missed, Overlap};
        let jobs = folded(vec![
            (10, started(10)),
            (11, skipped(11, 11, Overlap)),
            (12, skipped(12, 12, Overlap)),
            (14, skipped(13, 14, Missed)),
            (15, skipped(15, 15, Missed)),
            (16, started(16)),
            (17, skipped(17, 17, Missed)),
        ]);
        assert_eq!(left_out(&jobs), [(11, 12, 2, Overlap), (13, 15, 3, Missed), (17, 17, 1, Missed)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let why = |time| if time % 2 == 0 { JobSkip::Missed } else { JobSkip::Overlap };
        let many = (1..=300).flat_map(|time| [(time, started(time)), (time, skipped(time, time, why(time)))]);
        let jobs = folded(many.collect());
        let record = jobs.get(&JOB.into()).unwrap();
        assert_eq!((record.started.len(), record.skipped.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert!(record.has_started(at(300)) && !record.has_started(at(200)));
    }
}
