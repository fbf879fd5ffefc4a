//! The audit: who did what and when.

use crate::example::{example_run, run_stream};
use backstop_journal::projections::audit::{Actor, rows};
use expect_test::expect;

#[test]
fn every_act_has_an_actor() {
    let events = example_run().into_iter().map(|(event, _)| event);
    let events: Vec<_> = events.filter(|event| event.stream == run_stream()).collect();
    let shown: Vec<_> = rows(&events)
        .iter()
        .map(|row| {
            let who = match &row.who {
                Actor::Agent(role) => format!("agent {role}"),
                Actor::Person(name) => format!("person {name}"),
                Actor::Process(name) => format!("process {name}"),
                Actor::Backstop => "backstop".to_owned(),
            };
            let detail = row.detail.replace(&"1c7a".repeat(16), "ARGS");
            format!("{} {who} | {} | {} | {detail}", row.at, row.what, row.object)
        })
        .collect();
    expect![[r"
        2026-11-22T12:00:00.000Z agent clerk | run.created | sort-notes | agent librarian (af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262) in /srv/notes
        2026-11-22T12:00:00.001Z process host-1:4711 | run.claimed |  | 
        2026-11-22T12:00:00.900Z agent clerk | call.started | c1 | main
        2026-11-22T12:00:01.800Z agent clerk | call.attempt-failed | c1 | anthropic claude-sonnet-4-5: overloaded
        2026-11-22T12:00:03.400Z agent clerk | call.finished | c1 | openai gpt-5, $0.0042
        2026-11-22T12:00:03.400Z agent clerk | tool.planned | t1 | write_file ARGS
        2026-11-22T12:00:03.400Z agent clerk | tool.started | t1 | dispatch 1
        2026-11-22T12:00:03.403Z agent clerk | tool.finished | t1 | ok
        2026-11-22T12:00:03.404Z agent clerk | call.started | c2 | main
        2026-11-22T12:00:10.000Z process host-2:99 | run.claimed |  | 
        2026-11-22T12:00:10.001Z agent clerk | call.started | c3 | main
        2026-11-22T12:00:12.501Z agent clerk | call.finished | c3 | openai gpt-5, $0.001000001
        2026-11-22T12:00:12.501Z agent clerk | tool.planned | t2 | send_mail ARGS
        2026-11-22T12:00:12.501Z agent clerk | tool.started | t2 | dispatch 1
        2026-11-22T12:00:20.000Z process host-2:100 | run.claimed |  | 
        2026-11-22T12:00:20.001Z backstop | tool.unknown | t2 | the process died while it ran
        2026-11-22T12:00:20.002Z backstop | run.parked |  | in doubt
        2026-11-22T12:00:50.000Z person owner | tool.resolved | t2 | it happened
        2026-11-22T12:00:50.001Z backstop | run.resumed |  | 50 turns
        2026-11-22T12:00:50.002Z process host-2:101 | run.claimed |  | 
        2026-11-22T12:00:50.003Z agent clerk | call.started | c4 | main
        2026-11-22T12:00:52.503Z agent clerk | call.finished | c4 | openai gpt-5, $0.001000001
        2026-11-22T12:00:52.504Z backstop | run.finished |  | done
    "]].assert_eq(&(shown.join("\n") + "\n"));
}
