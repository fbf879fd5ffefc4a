//! The file of intents: what is read back after each way to die, and that slots are used again only when they may be.

use super::*;
use backstop_call::{Money, ReservationId, Timestamp};
use std::borrow::Cow;

fn intent(id: &str) -> Intent<'static> {
    Intent {
        id: Cow::Owned(ReservationId::from(id)),
        amount: Money::from_nanos(70),
        at: Timestamp::from_secs(9),
        accounts: Cow::Owned(vec!["total@20779".into(), "role/writer".into()]),
    }
}

fn open(dir: &Path) -> Vec<String> {
    let left = left_by(dir, "1-1").unwrap().unwrap();
    left.open.into_iter().map(|intent| intent.id.to_string()).collect()
}

#[test]
fn what_is_kept_is_read_back_until_it_is_marked() {
    let dir = tempfile::tempdir().unwrap();
    assert!(left_by(dir.path(), "1-1").unwrap().is_none());
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let slots: Vec<_> = ["a.1", "b.1", "c.1"].map(|id| intents.keep(&intent(id)).unwrap()).into();
    let left = left_by(dir.path(), "1-1").unwrap().unwrap();
    assert_eq!((left.open, left.announced), (["a.1", "b.1", "c.1"].map(intent).into(), vec![]));
    intents.announce(4..=7).unwrap();
    intents.mark([slots[1]]).unwrap();
    assert_eq!(open(dir.path()), ["a.1", "c.1"]);
    assert_eq!(left_by(dir.path(), "1-1").unwrap().unwrap().announced, [4..=7]);
    // Only what is marked is used again.
    let again = intents.keep(&intent("d.1")).unwrap();
    assert_eq!(again.place, slots[1].place);
    assert_eq!(intents.keep(&intent("e.1")).unwrap().place, 3);
    assert_eq!(open(dir.path()), ["a.1", "c.1", "d.1", "e.1"]);
}

#[test]
fn a_mark_is_for_one_intent_and_not_for_the_next_in_its_slot() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    for n in 0..2_000 {
        let slot = intents.keep(&intent(&format!("{n}.1"))).unwrap();
        assert_eq!(open(dir.path()), [format!("{n}.1")]);
        intents.mark([slot]).unwrap();
        assert_eq!(slot.place, 0, "one slot is enough for one at a time");
    }
    assert!(open(dir.path()).is_empty());
}

#[test]
fn slots_of_several_segments_are_marked_each_in_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let count = SEGMENT_SLOTS * 2 + 10;
    let slots: Vec<_> = (0..count).map(|n| intents.keep(&intent(&n.to_string())).unwrap()).collect();
    // Every third stays open.
    intents.mark(slots.iter().copied().enumerate().filter(|(n, _)| n % 3 > 0).map(|(_, slot)| slot)).unwrap();
    let want: Vec<_> = (0..count).step_by(3).map(|n| n.to_string()).collect();
    assert_eq!(open(dir.path()), want);
}

/// A write that a crash cut short at any byte, over an intent that is done: nothing is read, least of all half of it.
#[test]
fn a_torn_slot_counts_as_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let slot = intents.keep(&intent("before.1")).unwrap();
    intents.mark([slot]).unwrap();
    let path = file_of(dir.path(), "1-1", 0);
    let before = fs::read(&path).unwrap();
    intents.keep(&intent("after.1")).unwrap();
    let after = fs::read(&path).unwrap();
    assert_eq!(open(dir.path()), ["after.1"]);
    let at = usize::try_from(slot_at(0)).unwrap();
    let changed = (at..after.len()).rfind(|byte| before.get(*byte) != after.get(*byte)).unwrap();
    for cut in at..=changed {
        let torn = [&after[..cut], before.get(cut..).unwrap_or_default()].concat();
        fs::write(&path, torn).unwrap();
        assert!(open(dir.path()).is_empty(), "cut after {} bytes", cut - at);
    }
}

#[test]
fn what_does_not_fit_is_refused_and_takes_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let long = Intent { accounts: Cow::Owned(vec!["x".repeat(SLOT_BYTES).into()]), ..intent("a.1") };
    assert!(matches!(intents.keep(&long), Err(NotKept::TooLong)));
    // The longest that fits: the head, and each text with its length.
    let most = SLOT_BYTES - 40 - (2 + "a.1".len()) - 2;
    let fits = Intent { accounts: Cow::Owned(vec!["x".repeat(most).into()]), ..intent("a.1") };
    assert_eq!(intents.keep(&fits).unwrap().place, 0);
    assert_eq!(left_by(dir.path(), "1-1").unwrap().unwrap().open, [fits]);
    let over = Intent { accounts: Cow::Owned(vec!["x".repeat(most + 1).into()]), ..intent("a.1") };
    assert!(matches!(intents.keep(&over), Err(NotKept::TooLong)));
}

#[test]
fn more_than_may_be_open_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let mut slots: Vec<_> = (0..SLOTS_MAX).map(|_| intents.keep(&intent("a.1")).unwrap()).collect();
    assert!(matches!(intents.keep(&intent("b.1")), Err(NotKept::Full)));
    intents.mark(slots.pop()).unwrap();
    intents.keep(&intent("b.1")).unwrap();
}

#[test]
fn files_belong_to_their_owner_alone() {
    let dir = tempfile::tempdir().unwrap();
    for owner in ["1-1", "1-1", "1-11", "11-1"] {
        Intents::create(dir.path(), owner).unwrap();
    }
    assert_eq!(owners(dir.path()), ["1-1", "1-11", "11-1"]);
    remove(dir.path(), "1-1");
    assert_eq!(owners(dir.path()), ["1-11", "11-1"]);
}

#[test]
fn what_cannot_be_marked_stays_taken_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let mut intents = Intents::create(dir.path(), "1-1").unwrap();
    let slot = intents.keep(&intent("a.1")).unwrap();
    let path = file_of(dir.path(), "1-1", 0);
    // Open for reading only: no mark goes in.
    let good = std::mem::replace(&mut intents.file, File::open(&path).unwrap());
    assert!(intents.mark([slot]).is_err());
    assert!(intents.mark([]).is_err(), "it is still due");
    assert!(intents.free.is_empty());
    intents.file = good;
    assert_eq!(intents.keep(&intent("b.1")).unwrap().place, 1);
    intents.mark([]).unwrap();
    assert_eq!((open(dir.path()), intents.free), (vec!["b.1".to_owned()], vec![0]));
}
