//! SIGKILL to the real binary, at points all over a run of 20 writes: the resumed run ends like one that was never killed,
//! nothing is written twice, and every cent that the provider billed is settled or in suspense.

use super::kit::{Place, block_on, now, signal, until};
use super::provider::Simulated;
use backstop_allowance::{Account, Ledger, Scope};
use backstop_call::{Clock, Money, ReservationId, Seed, Timestamp};
use backstop_journal::projections::timeline::{Timeline, ToolOutcome};
use backstop_journal::{Event, EventBody, Journal, RunFilter, StreamId};
use backstop_sim::Bill;
use backstop_stack::SystemClock;
use backstop_store::LedgerMode;
use rustix::process::Signal;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Child;

const TASK: &str = "Write steps 1 to 20 into steps/";
const STEPS: usize = 20;
const MORE: &str = "[budgets]\nday = \"$50\"\n[agents.a]\nmax-tokens = 2000";

/// When the process is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Once the provider has seen so many requests, and the answer has gone on for so many glances.
    Request(usize, u64),
    /// Once the journal holds so many events of the run.
    Event(usize),
}

/// What a run left behind.
struct Left {
    files: Vec<(PathBuf, Vec<u8>)>,
    events: Vec<Event>,
    bill: Bill,
    settled: Money,
    suspense: BTreeMap<ReservationId, Money>,
}

fn start(place: &Place) -> Child {
    let mut command = place.command(&["run", "--quiet", "--agent", "a", "--workspace", "work", TASK]);
    command.env("P_KEY", "any-key").spawn().unwrap()
}

/// Waits for the moment. Says whether the run was still going on.
fn reached(moment: Moment, place: &Place, provider: &Simulated, child: &mut Child) -> bool {
    let mut store = None;
    let mut glances = 0;
    until(&format!("{moment:?}"), || {
        if child.try_wait().unwrap().is_some() {
            return Some(false);
        }
        let here = match moment {
            Moment::Request(count, more) => {
                glances += u64::from(provider.sim.requests().len() >= count);
                glances > more
            }
            Moment::Event(count) => {
                store = store.take().or_else(|| place.store());
                let events = store.as_ref().map_or(0, |store| {
                    block_on(async {
                        let runs = store.runs(RunFilter::default()).await.unwrap_or_default();
                        let Some(run) = runs.first() else { return 0 };
                        store.read(&StreamId::Run(run.run.clone()), 0).await.map_or(0, |events| events.len())
                    })
                });
                events >= count
            }
        };
        here.then_some(true)
    })
}

fn place_of(provider: &Simulated) -> Place {
    let place = Place::new();
    provider.config(&place, MORE);
    std::fs::create_dir(place.path().join("work")).unwrap();
    place
}

/// Everything there is to know after the end.
fn left(place: &Place, provider: Simulated, began: Timestamp) -> Left {
    let bill = provider.shutdown();
    let store = place.store().unwrap();
    let (settled, suspense) = block_on(async {
        let (ledger, _) = store.ledger(LedgerMode::Written, now()).await.unwrap();
        // A test may run at midnight.
        let days = BTreeSet::from([Account::today(Scope::Total, began), Account::today(Scope::Total, now())]);
        let mut settled = Money::ZERO;
        for day in days {
            settled += ledger.balance(day).await.unwrap().settled;
        }
        (settled, ledger.suspense().await.unwrap().into_iter().collect())
    });
    drop(store);
    Left { files: place.files("work"), events: place.events(), bill, settled, suspense }
}

/// Runs, kills, resumes. `None` when the run was over before it could be killed.
fn killed(moment: Moment, seed: u64) -> Option<Left> {
    let began = SystemClock::new().now();
    let provider = Simulated::start(|config| {
        config.seed = seed;
        config.frame_ms = seed % 2;
    });
    let place = place_of(&provider);
    let mut child = start(&place);
    let alive = reached(moment, &place, &provider, &mut child);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    // One that was killed on its way out had nothing left to do.
    let is_over =
        || matches!(place.events().last().map(|event| &event.body), Some(EventBody::RunFinished(_)));
    if !alive || is_over() {
        return None;
    }
    let run = place.newest_run();
    let mut resume = place.command(&["resume", &run, "--quiet"]);
    let done = place.done(&resume.env("P_KEY", "any-key").output().unwrap());
    assert_eq!(done.code, 0, "{moment:?}, seed {seed}: {}", done.shown());
    Some(left(&place, provider, began))
}

fn never_killed(seed: u64) -> Left {
    let began = SystemClock::new().now();
    let provider = Simulated::start(|config| config.seed = seed);
    let place = place_of(&provider);
    assert!(start(&place).wait().unwrap().success());
    left(&place, provider, began)
}

/// How often each file was written, by the journal.
fn writes(events: &[Event]) -> BTreeMap<String, u32> {
    let mut writes = BTreeMap::new();
    for tool in Timeline::fold(events).unwrap().tools().filter(|tool| tool.tool == "write_file") {
        if let (ToolOutcome::Finished { is_error: false, .. }, Some(args)) =
            (&tool.outcome, tool.args.value())
        {
            *writes.entry(args["path"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    writes
}

/// The calls that a crash cut off: those that began and have no end.
fn cut_off(events: &[Event]) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for event in events {
        match &event.body {
            EventBody::CallStarted(started) => drop(open.insert(started.call.to_string())),
            EventBody::CallFinished(finished) => drop(open.remove(finished.call.as_str())),
            EventBody::CallFailed(failed) => drop(open.remove(failed.call.as_str())),
            _ => {}
        }
    }
    open
}

fn compare(name: &str, left: &Left, whole: &Left) {
    assert_eq!(left.files, whole.files, "{name}: the files differ");
    let last = |events: &[Event]| match &events.last().unwrap().body {
        EventBody::RunFinished(finished) => Some(finished.clone()),
        _ => None,
    };
    assert!(last(&whole.events).is_some(), "{name}: it has not ended");
    assert_eq!(last(&left.events), last(&whole.events), "{name}");
    let writes = writes(&left.events);
    assert_eq!(writes.len(), STEPS, "{name}: {writes:?}");
    assert!(writes.values().all(|times| *times == 1), "{name}: {writes:?}");

    // What is not in suspense was settled to the nano-dollar; what is in suspense counts for no less than it cost.
    let mut settled = Money::ZERO;
    let open = cut_off(&left.events);
    for charge in &left.bill.entries {
        let id = charge.client_request_id.as_deref().unwrap();
        match left.suspense.get(&ReservationId::from(id)) {
            Some(held) => assert!(charge.cost <= *held, "{name}: {id} cost {} and holds {held}", charge.cost),
            None => settled += charge.cost,
        }
    }
    assert_eq!(left.settled, settled, "{name}: what was settled, and what was billed outside suspense");
    for id in left.suspense.keys() {
        let explained = open.iter().any(|call| id.as_str().starts_with(call.as_str()));
        assert!(explained, "{name}: {id} is in suspense and belongs to none of {open:?}");
    }
}

#[test]
fn a_run_that_is_killed_anywhere_ends_the_same() {
    const SEED: u64 = 20_261_122;
    let whole = never_killed(SEED);
    assert_eq!((whole.files.len(), whole.suspense.len()), (STEPS, 0));
    let events = whole.events.len();
    let requests = usize::try_from(whole.bill.requests).unwrap();
    let draw = Seed::new(SEED);
    // Two in each tenth of the run: one by what the provider saw, one by what the journal holds.
    let moments: Vec<(Moment, u64)> = (0..10)
        .flat_map(|tenth| {
            let within = |whole: usize| {
                let width = u64::try_from(whole / 10).unwrap().max(1);
                usize::try_from(draw.below(width)).unwrap() + tenth * whole / 10 + 1
            };
            let glances = draw.below(3) * 200;
            [Moment::Request(within(requests), glances), Moment::Event(within(events - 2))]
        })
        .map(|moment| (moment, draw.below(1 << 32)))
        .collect();
    let kills: usize = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let mine: Vec<_> = moments.iter().copied().skip(half).step_by(2).collect();
            let whole = &whole;
            scope.spawn(move || {
                let mut kills = 0;
                for (moment, seed) in mine {
                    if let Some(left) = killed(moment, seed) {
                        compare(&format!("{moment:?}, seed {seed}"), &left, whole);
                        kills += 1;
                    }
                }
                kills
            })
        });
        halves.into_iter().map(|half| half.join().unwrap()).sum()
    });
    assert!(kills >= 15, "only {kills} of {} runs were killed in the middle", moments.len());
}
