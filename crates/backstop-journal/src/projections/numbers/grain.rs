//! Stretches of time, and of which of them a window is made up.

use super::Family;
use backstop_call::Timestamp;
use std::time::Duration;

/// How long a stretch is. All begin at multiples of their length since 1970, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Grain {
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// Since the beginning.
    Whole,
}

impl Grain {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Minute, Self::Hour, Self::Day, Self::Whole];

    /// Its length in seconds; 0 has no end.
    pub fn secs(self) -> u64 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Whole => 0,
        }
    }

    /// The grain of this length.
    pub fn of_secs(secs: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|grain| grain.secs() == secs)
    }

    /// Where the stretch begins that a moment is in.
    pub fn start(self, at: Timestamp) -> Timestamp {
        let secs = at.secs().checked_rem(self.secs()).map_or(0, |rest| at.secs() - rest);
        Timestamp::from_secs(secs)
    }

    /// Where the first stretch begins that is not before a moment.
    fn start_after(self, at: Timestamp) -> Timestamp {
        let start = self.start(at);
        if start == at { start } else { start + Duration::from_secs(self.secs()) }
    }
}

/// How long stretches are kept. Days, and the whole, are kept for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Minutes.
    pub minutes: Duration,
    /// Hours.
    pub hours: Duration,
}

impl Default for Kept {
    /// Minutes for 3 days, hours for 90.
    fn default() -> Self {
        Self { minutes: Duration::from_hours(3 * 24), hours: Duration::from_hours(90 * 24) }
    }
}

impl Kept {
    /// Before when stretches of this grain may be gone.
    pub fn since(&self, grain: Grain, now: Timestamp) -> Timestamp {
        match grain {
            Grain::Minute => grain.start(now - self.minutes),
            Grain::Hour => grain.start(now - self.hours),
            Grain::Day | Grain::Whole => Timestamp::EPOCH,
        }
    }

    /// The finest grain that was kept as far back as this.
    pub fn finest(&self, at: Timestamp, now: Timestamp) -> Grain {
        let mut grains = [Grain::Minute, Grain::Hour].into_iter();
        grains.find(|grain| at >= self.since(*grain, now)).unwrap_or(Grain::Day)
    }
}

/// Stretches of one grain that follow on one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// How long each is.
    pub grain: Grain,
    /// Where the first begins.
    pub since: Timestamp,
    /// Where the last has ended.
    pub until: Timestamp,
    /// What is wanted of them.
    pub families: &'static [Family],
}

/// The fewest stretches that make up a window: days, with hours at its ends, with minutes at theirs. The window is widened to
/// whole minutes, or to the hours or days that were kept, and ends with the present minute.
pub fn slices(
    (since, until): (Timestamp, Timestamp),
    kept: &Kept,
    now: Timestamp,
    families: &'static [Family],
) -> Vec<Slice> {
    let since = kept.finest(since, now).start(since);
    // The present minute is not over, and belongs to what is asked for until now.
    let until = if until < now {
        kept.finest(until, now).start_after(until)
    } else {
        Grain::Minute.start(now) + Duration::from_mins(1)
    };
    let mut slices = Vec::new();
    cover((since, until), Grain::Day, &mut |grain, since, until| {
        slices.push(Slice { grain, since, until, families });
    });
    slices
}

fn cover(
    (since, until): (Timestamp, Timestamp),
    grain: Grain,
    found: &mut impl FnMut(Grain, Timestamp, Timestamp),
) {
    if since >= until {
        return;
    }
    let finer = match grain {
        Grain::Day => Grain::Hour,
        Grain::Hour => Grain::Minute,
        Grain::Minute | Grain::Whole => return found(grain, since, until),
    };
    let (first, last) = (grain.start_after(since), grain.start(until));
    if first >= last {
        return cover((since, until), finer, found);
    }
    cover((since, first), finer, found);
    found(grain, first, last);
    cover((last, until), finer, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 86_400;

    /// A grain, and from where to where, in seconds from the beginning of the day of now.
    type Part = (Grain, i64, i64);

    #[test]
    fn a_window_is_made_of_the_longest_stretches_that_fit() {
        use Grain::{Day, Hour, Minute};
        let now = 20_000 * DAY + 12 * 3_600 + 30 * 60 + 5;
        // now, since, until, slices in seconds from the beginning of the day of now
        let day = i64::try_from(20_000 * DAY).unwrap();
        let even = 20_000 * DAY;
        let rows: [(u64, u64, u64, &[Part]); 8] = [
            // What happens this moment is in the last minutes, also at the beginning of a minute.
            (even, even - 60, even, &[(Minute, -60, 60)]),
            (now, now - 90, now, &[(Minute, 44_880, 45_060)]),
            (
                now,
                now - 5_400,
                now,
                &[(Minute, 39_600, 39_600), (Hour, 39_600, 43_200), (Minute, 43_200, 45_060)],
            ),
            (
                now,
                now - DAY,
                now,
                &[(Minute, -41_400, -39_600), (Hour, -39_600, 43_200), (Minute, 43_200, 45_060)],
            ),
            (now, 20_000 * DAY - 2 * DAY, 20_000 * DAY, &[(Day, -172_800, 0)]),
            // Minutes are gone after 3 days, hours after 90.
            (now, now - 4 * DAY, 20_000 * DAY, &[(Hour, -302_400, -259_200), (Day, -259_200, 0)]),
            (now, now - 100 * DAY, 20_000 * DAY, &[(Day, -100 * 86_400, 0)]),
            (now, now - 100 * DAY, now - 95 * DAY, &[(Day, -100 * 86_400, -94 * 86_400)]),
        ];
        for (now, since, until, want) in rows {
            let (since, until) = (Timestamp::from_secs(since), Timestamp::from_secs(until));
            let found = slices((since, until), &Kept::default(), Timestamp::from_secs(now), Family::ALL);
            let secs = |at: Timestamp| i64::try_from(at.secs()).unwrap() - day;
            let found: Vec<Part> =
                found.iter().map(|slice| (slice.grain, secs(slice.since), secs(slice.until))).collect();
            let mut want: Vec<Part> = want.to_vec();
            want.retain(|(_, since, until)| since < until);
            assert_eq!(found, want, "{since} to {until}");
        }
    }

    #[test]
    fn stretches_of_a_window_neither_overlap_nor_leave_a_gap() {
        let now = Timestamp::from_secs(20_000 * DAY + 40_000);
        let seed = backstop_call::Seed::new(3);
        for _ in 0..500 {
            let back = seed.next_u64() % (100 * DAY);
            let since = now - Duration::from_secs(back);
            let found = slices((since, now), &Kept::default(), now, Family::ALL);
            assert!(found[0].since <= since && found[found.len() - 1].until >= now);
            assert!(found.windows(2).all(|pair| pair[0].until == pair[1].since), "{found:?}");
        }
    }
}
