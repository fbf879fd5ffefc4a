//! Processes that are asked to end, that watch one another, and a person who decides what a crash hid.

use super::kit::{Place, block_on, now, signal, until, until_true};
use super::provider::Simulated;
use backstop_call::RunId;
use backstop_journal::{Append, Durability, Event, EventBody, Journal, StreamId};
use backstop_sim::Fault;
use backstop_store::{SqliteStore, StoreOptions};
use rustix::process::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

const TASK: &str = "Write the sum of the column \"amount\" of data.csv to total.txt";
const KEY: &[(&str, &str)] = &[("P_KEY", "any-key")];

fn place() -> Place {
    let place = Place::new();
    place.write("data.csv", "item,amount\npen,1.50\nink,2.25\n");
    place
}

#[test]
fn asked_to_end_a_run_says_how_it_goes_on() {
    for asked in [Signal::INT, Signal::TERM] {
        let provider = Simulated::start(|_| {});
        let place = place();
        provider.config(&place, "");
        provider.sim.enqueue("sim", "slow-first-token:0".parse::<Fault>().unwrap());
        provider.sim.enqueue("sim", Fault::HangBeforeHeaders);
        let child = place.start_with(&["run", TASK], KEY);
        until_true("the second request", || provider.sim.requests().len() == 2);
        signal(&child, asked);
        let done = place.end(child);
        let run = place.newest_run();
        assert_eq!((done.code, done.out.as_str()), (1, ""), "{asked:?}: {}", done.shown());
        assert!(
            done.err.contains(&format!("stopped; `backstop resume {run}` goes on where it was")),
            "{}",
            done.shown()
        );
        let resumed = place.end(place.start_with(&["resume", &run, "--quiet"], KEY));
        assert_eq!(resumed.code, 0, "{}", resumed.shown());
        assert_eq!(place.read("total.txt").trim(), "3.75");
    }
}

#[test]
fn a_sim_serves_until_it_is_asked_to_end() {
    for asked in [Signal::INT, Signal::TERM] {
        let place = place();
        let mut sim = place.start_with(&["sim", "--listen", "127.0.0.1:0", "--json"], &[]);
        let mut said = BufReader::new(sim.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let url = line.split("http://").nth(1).and_then(|rest| rest.split(';').next()).unwrap().to_owned();
        let vars = [("ANTHROPIC_API_KEY", "any"), ("ANTHROPIC_BASE_URL", &format!("http://{url}"))];
        let run = place.end(place.start_with(&["run", "--model", "anthropic/sim", TASK], &vars));
        assert_eq!(run.code, 0, "{}", run.shown());
        signal(&sim, asked);
        let done = place.end(sim);
        assert_eq!(done.code, 0, "{asked:?}: {}", done.shown());
        let bill: Value = serde_json::from_str(&done.out).unwrap();
        assert!(bill["requests"].as_u64().unwrap() >= 3, "{bill}");
    }
}

/// Kills what a failed test would leave behind.
struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_follower_sees_what_other_processes_do() {
    let place = place();
    let mut command: Command = place.command(&["logs", "--follow"]);
    let mut follower = Follower(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(follower.0.stdout.take().unwrap()).lines();
    // Nothing is there yet, not even a database.
    for id in ["first", "second"] {
        let run = place.run(&["run", "--model", "sim", "--id", id, "--quiet", TASK]);
        assert_eq!(run.code, 0, "{}", run.shown());
        let last = until("the end of the run in the log", || {
            let line: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            (line["event"] == "run.finished").then_some(line)
        });
        assert_eq!((last["task"].as_str(), last["status"].as_str()), (Some(id), Some("done")), "{last}");
    }
    signal(&follower.0, Signal::INT);
    assert_eq!(follower.0.wait().unwrap().code(), Some(0));
}

/// Copies a run up to and with the start of its first write, as a crash would have left it, and lets somebody else change
/// the file in between.
fn in_doubt() -> (Place, RunId) {
    let whole = place();
    let done = whole.run(&["run", "--model", "sim", "--quiet", TASK]);
    assert_eq!(done.code, 0, "{}", done.shown());
    let events = whole.events();
    let writes = events.iter().find_map(|event| match &event.body {
        EventBody::ToolPlanned(planned) if planned.tool == "write_file" => Some(planned.id.clone()),
        _ => None,
    });
    let started = |event: &&Event| matches!(&event.body, EventBody::ToolStarted(started) if Some(&started.id) == writes.as_ref());
    let upto = events.iter().find(started).unwrap().seq;
    let place = place();
    let run = RunId::from(whole.newest_run());
    block_on(async {
        let store =
            SqliteStore::open(place.path().join(".backstop/backstop.db"), StoreOptions::default()).unwrap();
        let mut epoch = None;
        for event in events.iter().take_while(|event| event.seq <= upto) {
            let body = match &event.body {
                EventBody::RunClaimed(_) => {
                    epoch = Some(store.claim(&run, now()).await.unwrap());
                    continue;
                }
                EventBody::RunCreated(created) => {
                    let mut created = created.clone();
                    place.path().to_str().unwrap().clone_into(&mut created.workspace);
                    created.into()
                }
                other => other.clone(),
            };
            let stream = StreamId::Run(run.clone());
            let append =
                Append { stream, epoch, events: vec![body], at: event.at, durability: Durability::Synced };
            store.append(append).await.unwrap();
        }
    });
    place.write("total.txt", "what somebody else wrote\n");
    (place, run)
}

#[test]
fn what_a_crash_hid_is_decided_by_a_person() {
    const SECRET: &str = "canary-8Gk2LpQw71";
    for verdict in [&["--happened", &format!("it did, {SECRET}")][..], &["--run-it"], &["--unknown"]] {
        let (place, run) = in_doubt();
        let run = run.as_str();
        let resume = || place.run(&["resume", run, "--quiet"]);
        let parked = resume();
        assert_eq!(parked.code, 1, "{}", parked.shown());
        assert!(parked.err.starts_with("error[BS5001]: "), "{}", parked.shown());
        let call = parked
            .err
            .split(&format!("backstop resolve {run} "))
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .to_owned();
        assert_eq!(place.read("total.txt"), "what somebody else wrote\n");
        // Asking again changes nothing.
        assert_eq!(resume().code, 1);
        let show = place.run(&["show", run]);
        assert!(
            show.out.contains("in doubt: ") && show.out.contains(&format!("backstop resolve {run} {call}")),
            "{}",
            show.out
        );
        assert_eq!(place.run(&["runs", "--status", "parked"]).out.lines().count(), 2);

        let args: Vec<_> = ["resolve", run, &call].into_iter().chain(verdict.iter().copied()).collect();
        let resolved = place.end(place.start_with(&args, &[("OPENAI_API_KEY", SECRET)]));
        assert_eq!(resolved.code, 0, "{verdict:?}: {}", resolved.shown());
        assert!(resolved.err.contains(&format!("`backstop resume {run}` goes on")), "{}", resolved.shown());
        let twice = place.run(&args);
        assert_eq!(twice.code, 2, "{verdict:?} a second time: {}", twice.shown());
        let done = resume();
        let story = place.run(&["show", run]);
        let told = if verdict[0] == "--run-it" { "(dispatch 2)" } else { " said: " };
        assert!(story.out.contains(told), "{verdict:?}: {}", story.out);
        // The simulated model reads back what it wrote: it writes again what it does not find.
        assert!([0, 1].contains(&done.code), "{verdict:?}: {}", done.shown());
        if done.code == 0 {
            assert_eq!(place.read("total.txt").trim(), "3.75", "{verdict:?}: {}", story.out);
        }
        for (path, bytes) in place.files(".backstop") {
            let text = String::from_utf8_lossy(&bytes);
            assert!(!text.contains(SECRET), "{} shows the secret", path.display());
        }
    }
}
