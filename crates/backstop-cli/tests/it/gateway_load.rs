//! What many requests and many connections cost the gateway's process: resident memory, in bounds. Times are measured elsewhere.

use super::kit::Place;
use super::provider::Simulated;
use super::serving::{Caller, Serving, ask, body, line_of};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::disable_transparent_huge_pages;
use std::net::{SocketAddr, TcpStream};

const MIB: u64 = 1 << 20;

/// So many requests over so many connections, every eighth a stream.
fn load(addr: SocketAddr, requests: usize, lanes: usize) {
    let lanes: Vec<_> = (0..lanes)
        .map(|_| {
            std::thread::spawn(move || {
                let mut caller = Caller::connect(addr).unwrap();
                for n in 0..requests / lanes {
                    let (status, text) = caller.ask(&body("m", n % 8 == 0)).unwrap();
                    assert_eq!(status, 200, "{text}");
                }
            })
        })
        .collect();
    for lane in lanes {
        lane.join().unwrap();
    }
}

/// BerriAI/litellm#12685, #27954, #38193: memory grew with every request, to the end of the machine's.
#[test]
fn memory_stays_flat_over_twenty_thousand_requests() {
    let (place, provider) = (Place::new(), Simulated::start(|_| ()));
    provider.config(&place, "[budgets]\nday = \"$5000.00\"\n");
    let serving = Serving::start(&place);
    load(serving.addr, 4_000, 8);
    let warm = serving.resident_bytes();
    load(serving.addr, 16_000, 8);
    let after = serving.resident_bytes();
    println!("{} MiB after 4,000 requests, {} MiB after 20,000", warm / MIB, after / MIB);
    // A kilobyte that each request left behind would be 16 MiB.
    assert!(after < warm + 12 * MIB, "{warm} bytes grew to {after}");
    assert_eq!(serving.stop(&place).code, 0);
}

/// Each thread has a small heap of its own, and pages of two megabytes made each of them large. What the gateway starts is asked
/// for nothing of the kind.
#[test]
fn its_own_memory_comes_in_small_pages_and_that_of_programs_it_starts_as_ever() {
    let (place, provider) = (Place::new(), Simulated::start(|_| ()));
    provider.config(&place, "");
    let serving = Serving::start(&place);
    let huge = "THP_enabled";
    let ours = serving.status(huge);
    assert_eq!(serving.stop(&place).code, 0);
    // As a program of the gateway's: from a process that has none, by the helper that starts it.
    disable_transparent_huge_pages(true).unwrap();
    let us = std::process::id().to_string();
    let started = place.command(&["tether", &us, "/bin/cat", "/proc/self/status"]).output().unwrap();
    let theirs = line_of(&String::from_utf8_lossy(&started.stdout), huge);
    assert_eq!((ours.as_deref(), theirs.as_deref()), (Some("0"), Some("1")));
}

/// Ten thousand connections that do nothing, half of which have asked before. A request is still answered, though the process was
/// started with 1,024 open files allowed.
#[test]
fn ten_thousand_idle_connections_cost_bounded_memory() {
    const EACH_MAX: u64 = 24 << 10;
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let room = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let count = usize::try_from(room.saturating_sub(600).min(10_000)).unwrap();
    assert!(count >= 3_000, "this machine allows {room} open files, too few to show anything");
    let (place, provider) = (Place::new(), Simulated::start(|_| ()));
    provider.config(&place, "[serve]\nidle = \"10m\"\nconnections = 12000\n");
    let serving = Serving::start_with_open_files(&place, 1_024);
    load(serving.addr, 200, 4);
    let before = serving.resident_bytes();
    let mut asked = Vec::new();
    let mut silent = Vec::new();
    for n in 0..count {
        if n % 20 == 0 {
            let mut caller = Caller::connect(serving.addr).unwrap();
            assert_eq!(caller.ask(&body("m", false)).unwrap().0, 200);
            asked.push(caller);
        } else {
            silent.push(TcpStream::connect(serving.addr).unwrap());
        }
    }
    // The last of them is taken only after all before it.
    assert_eq!(ask(serving.addr, &body("m", true)).0, 200);
    let after = serving.resident_bytes();
    let each = after.saturating_sub(before) / count as u64;
    println!(
        "{count} connections: {} MiB before, {} MiB after, {each} bytes each",
        before / MIB,
        after / MIB
    );
    assert!(each <= EACH_MAX, "{each} bytes for each connection");
    assert!(
        asked.iter_mut().all(|caller| caller.ask(&body("m", false)).is_some_and(|(status, _)| status == 200))
    );
    drop(silent);
    assert_eq!(serving.stop(&place).code, 0);
}
