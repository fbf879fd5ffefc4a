//! The numbers of one busy journal: `stats`, SQL over the events, and the scraper's page say the same. And what SQL may not.

use super::kit::{Place, block_on};
use backstop_call::{
    AttemptRecord, Failure, FailureKind, Money, Progress, ProviderName, StopReason, Timestamp, Usage,
};
use backstop_journal::event::{
    ApprovalDecided, ApprovalDecision, ApprovalRequested, Asked, AttemptFailed, CallFailed, CallFinished,
    CallStarted, RunCreated, RunFinished, RunLimits, RunStatus, ToolFinished, ToolPlanned, ToolUnknown,
};
use backstop_journal::{Append, Body, Durability, EventBody, Journal, StreamId};
use backstop_label::Class;
use backstop_server::numbers::Numbers;
use backstop_stack::SystemClock;
use backstop_store::{SqliteStore, StoreOptions};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

fn attempt(number: u32, failure: Option<FailureKind>) -> AttemptRecord {
    AttemptRecord {
        attempt: number,
        provider: if failure.is_some() { "near".into() } else { "far".into() },
        model: "large-1".into(),
        started: now(),
        duration: Duration::from_millis(120),
        waited: Duration::ZERO,
        failure,
        progress: Progress::Sent,
        code: None,
        message: "".into(),
        cost: Money::ZERO,
        suspense: false,
    }
}

fn now() -> Timestamp {
    backstop_call::Clock::now(&SystemClock::new())
}

fn finished(call: &str, cost: i64, attempts: Vec<AttemptRecord>, asked: Option<Asked>) -> EventBody {
    CallFinished {
        call: call.into(),
        turn: u32::from(asked.is_none()),
        provider: ProviderName::from("far"),
        model: "large-1".into(),
        content: Body::default(),
        stop: StopReason::End,
        usage: Usage { input_tokens: 1_000, output_tokens: 70, cache_read_tokens: 9, ..Usage::default() },
        cost: Money::from_nanos(cost),
        duration: Duration::from_millis(800),
        first_token: Some(Duration::from_millis(300)),
        request_id: None,
        attempts,
        labels: backstop_call::Labels::default(),
        asked,
        status: None,
    }
    .into()
}

fn asked(key: &str) -> Asked {
    Asked {
        model: "main".into(),
        input_tokens: 10,
        task: None,
        role: Some("visitor".into()),
        key: Some(key.into()),
        dialect: None,
    }
}

fn created(agent: &str) -> EventBody {
    RunCreated {
        task: "t".into(),
        role: "writer".into(),
        agent: agent.into(),
        agent_hash: "00".into(),
        model: "main".into(),
        system: Body::from("You write."),
        message: Body::from("Write."),
        max_tokens: None,
        tools: Vec::new(),
        workspace: "/w".into(),
        limits: RunLimits::default(),
        result_schema: None,
        priority: backstop_call::Priority::Standard,
        labels: backstop_call::Labels::default(),
        dry_run: false,
        applies: None,
        parent: None,
        bounds: Vec::new(),
        on_failure: backstop_journal::event::OnFailure::default(),
        queue: None,
        origin: Box::default(),
    }
    .into()
}

fn planned(id: &str, tool: &str) -> EventBody {
    ToolPlanned {
        id: id.into(),
        tool: tool.into(),
        args: Body::default(),
        args_hash: "00".into(),
        class: Class::Write,
        key: id.into(),
        plan: Body::default(),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: backstop_call::Labels::default(),
    }
    .into()
}

fn returned(id: &str, is_error: bool) -> EventBody {
    ToolFinished {
        id: id.into(),
        is_error,
        result: Body::from("done"),
        whole: Body::default(),
        labels: backstop_call::Labels::default(),
        duration: Duration::from_millis(4),
        probed: false,
        spent: None,
    }
    .into()
}

/// A run with a retry, two tools and a question; how it ends is the caller's.
fn run(agent: &str, status: RunStatus) -> Vec<EventBody> {
    let failed = attempt(1, Some(FailureKind::Overloaded));
    vec![
        created(agent),
        CallStarted {
            call: "c1".into(),
            model: "main".into(),
            turn: 1,
            input_tokens: 10,
            task: None,
            role: None,
            key: None,
            labels: backstop_call::Labels::default(),
        }
        .into(),
        AttemptFailed { call: "c1".into(), attempt: failed.clone() }.into(),
        finished("c1", 4_000_001, vec![failed, attempt(2, None)], None),
        planned("t1", "write_file"),
        planned("t2", "=HYPERLINK(\"x\")\u{202e}"),
        ApprovalRequested {
            approval: "a1".into(),
            id: "t1".into(),
            args_hash: "00".into(),
            preview_hash: "00".into(),
            why: "it destroys".into(),
            expires: now() + Duration::from_hours(1),
        }
        .into(),
        ApprovalDecided {
            approval: "a1".into(),
            id: "t1".into(),
            decision: ApprovalDecision::Approve,
            by: "owner".into(),
            channel: "terminal".into(),
            grant: None,
        }
        .into(),
        returned("t1", false),
        returned("t2", true),
        ToolUnknown { id: "t1".into(), reason: "crash".into() }.into(),
        RunFinished { status, result: None, code: None, message: "".into() }.into(),
    ]
}

/// Five runs and twelve calls outside them.
fn busy(place: &Place) -> SqliteStore {
    let path = place.path().join(".backstop/backstop.db");
    let store = SqliteStore::open(path, StoreOptions::default()).unwrap();
    let append = |stream: StreamId, events: Vec<EventBody>| {
        let append = Append { stream, epoch: None, events, at: now(), durability: Durability::Written };
        block_on(store.append(append)).unwrap();
    };
    for (number, status) in
        [(0, RunStatus::Done), (1, RunStatus::Done), (2, RunStatus::Failed), (3, RunStatus::Stopped)]
    {
        append(StreamId::Run(format!("r{number}").into()), run(&format!("agent-{}", number % 2), status));
    }
    append(StreamId::Run("r4".into()), run("agent-1", RunStatus::Done).drain(..9).collect());
    for number in 0..9 {
        let call = format!("g{number}");
        append(StreamId::Calls, vec![finished(&call, 1_500_000, vec![attempt(1, None)], Some(asked("ci")))]);
    }
    for number in 0..3 {
        let call = format!("f{number}");
        let told = attempt(1, Some(FailureKind::Auth));
        let mut failure = Failure::new(FailureKind::Auth, Progress::ResponseStarted, "no".to_owned());
        failure.detail.attempts = vec![told.clone()];
        let failed = CallFailed {
            call: call.as_str().into(),
            turn: 0,
            failure,
            cost: Money::from_nanos(7),
            duration: Duration::from_millis(90),
            labels: backstop_call::Labels::default(),
            asked: Some(asked("laptop")),
            status: Some(401),
        };
        append(
            StreamId::Calls,
            vec![AttemptFailed { call: call.as_str().into(), attempt: told }.into(), failed.into()],
        );
    }
    store
}

fn stats(place: &Place, args: &[&str]) -> Value {
    let done = place.run(&[&["stats", "--json"], args].concat());
    assert_eq!(done.code, 0, "{}", done.shown());
    serde_json::from_str(&done.out).unwrap()
}

/// The rows of a query, as JSON.
fn sql(place: &Place, sql: &str) -> Vec<Value> {
    let done = place.run(&["query", "--json", sql]);
    assert_eq!(done.code, 0, "{}", done.shown());
    done.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn stats_sql_and_the_scrapers_page_say_the_same() {
    let place = Place::new();
    let store = busy(&place);
    let all = &stats(&place, &[])["rows"][0];
    // By hand.
    assert_eq!(
        (&all["runs"]["created"], &all["calls"]["ok"], &all["calls"]["failed"]["auth"]),
        (&5.into(), &14.into(), &3.into())
    );
    assert_eq!(all["cost_nanos"], 5 * 4_000_001 + 9 * 1_500_000 + 3 * 7);
    // By SQL, from the events.
    let calls = &sql(&place, "SELECT sum(outcome = 'ok') AS ok, sum(outcome = 'auth') AS auth, sum(attempts) - count(*) AS retries,
        sum(input_tokens) AS input, sum(output_tokens) AS output, sum(cache_read_tokens) AS cache, sum(cost_nanos) AS cost FROM calls")[0];
    let tokens = &all["tokens"];
    let pairs = [
        (&calls["ok"], &all["calls"]["ok"]),
        (&calls["auth"], &all["calls"]["failed"]["auth"]),
        (&calls["retries"], &all["calls"]["retries"]),
        (&calls["input"], &tokens["input"]),
        (&calls["output"], &tokens["output"]),
        (&calls["cache"], &tokens["cache_read"]),
        (&calls["cost"], &all["cost_nanos"]),
    ];
    for (place, (sql, stats)) in pairs.iter().enumerate() {
        assert_eq!(sql, stats, "pair {place}");
    }
    let other = &sql(&place, "SELECT (SELECT count(*) FROM runs) AS runs, (SELECT count(*) FROM runs WHERE status = 'done') AS done,
        (SELECT count(*) FROM tool_calls WHERE outcome = 'ok') AS ok, (SELECT count(*) FROM tool_calls WHERE outcome = 'error') AS error,
        (SELECT count(*) FROM tool_calls WHERE outcome = 'in-doubt') AS doubt, (SELECT count(*) FROM attempts WHERE outcome = 'ok') AS attempts,
        (SELECT count(*) FROM attempts WHERE outcome = 'overloaded') AS overloaded, (SELECT count(*) FROM approvals) AS asked,
        (SELECT count(*) FROM approvals WHERE answer = 'approve') AS approved, (SELECT sum(cost_nanos) FROM spend_by_day) AS cost,
        (SELECT sum(calls) FROM spend_by_day) AS calls")[0];
    let pairs = [
        (&other["runs"], &all["runs"]["created"]),
        (&other["done"], &all["runs"]["ended"]["done"]),
        (&other["ok"], &all["tools"]["ok"]),
        (&other["error"], &all["tools"]["failed"]),
        (&other["doubt"], &all["tools"]["in_doubt"]),
        (&other["attempts"], &all["attempts"]["ok"]),
        (&other["overloaded"], &all["attempts"]["failed"]["overloaded"]),
        (&other["asked"], &all["approvals"]["asked"]),
        (&other["approved"], &all["approvals"]["decided"]["approved"]),
        (&other["cost"], &all["cost_nanos"]),
        (&other["calls"], &17.into()),
    ];
    for (place, (sql, stats)) in pairs.iter().enumerate() {
        assert_eq!(sql, stats, "pair {place}");
    }
    // The scraper's page.
    let numbers = Numbers::new(
        Arc::new(store),
        Arc::new(SystemClock::new()),
        backstop_journal::projections::numbers::Kept::default(),
    );
    let page = block_on(numbers.openmetrics(None, Vec::new())).unwrap();
    for (sample, want) in [
        ("backstop_calls_total{model=\"main\",role=\"visitor\",outcome=\"ok\"}", "9"),
        ("backstop_calls_total{model=\"main\",role=\"writer\",outcome=\"ok\"}", "5"),
        ("backstop_cost_usd_total{model=\"main\",role=\"visitor\"}", "0.013500021"),
        ("backstop_key_calls_total{key=\"laptop\",outcome=\"auth\"}", "3"),
        ("backstop_attempts_total{provider=\"near\",model=\"large-1\",outcome=\"overloaded\"}", "5"),
        ("backstop_runs{status=\"running\"}", "1"),
        ("backstop_runs{status=\"stopped\"}", "1"),
        ("backstop_call_duration_seconds_count{model=\"main\",outcome=\"ok\"}", "14"),
    ] {
        let line = format!("{sample} {want}\n");
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
}

#[test]
fn stats_by_each_thing_add_up_to_all() {
    let place = Place::new();
    drop(busy(&place));
    let cost = |by: &str| -> (i64, Vec<String>) {
        let rows = stats(&place, &["--by", by])["rows"].as_array().unwrap().clone();
        let names = rows.iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect();
        (rows.iter().map(|row| row["cost_nanos"].as_i64().unwrap()).sum(), names)
    };
    let all = stats(&place, &[])["rows"][0]["cost_nanos"].as_i64().unwrap();
    for (by, names) in [
        ("model", vec!["main"]),
        ("role", vec!["writer", "visitor"]),
        ("agent", vec!["", "agent-1", "agent-0"]),
        ("key", vec!["", "ci", "laptop"]),
    ] {
        let (sum, mut found) = cost(by);
        let mut names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        found.sort();
        names.sort();
        assert_eq!((sum, found), (all, names), "{by}");
    }
    let days = stats(&place, &["--by", "day", "--since", "48h"]);
    let days: i64 =
        days["rows"].as_array().unwrap().iter().map(|row| row["cost_nanos"].as_i64().unwrap()).sum();
    assert_eq!(days, all);
    let table = place.run(&["stats", "--by", "tool"]);
    assert!(table.out.contains("write_file") && !table.out.contains('\u{202e}'), "{}", table.out);
    for args in [&["stats"][..], &["stats", "--by", "model"], &["stats", "--by", "day"]] {
        let shown = place.run(args);
        assert!(shown.code == 0 && shown.out.contains("$0.03"), "{}", shown.shown());
    }
}

#[test]
fn numbers_are_there_before_anything_was_run() {
    let place = Place::new();
    assert_eq!(stats(&place, &[])["rows"][0]["runs"]["created"], 0);
    assert!(!place.path().join(".backstop").exists());
    let query = place.run(&["query", "SELECT 1"]);
    assert_eq!(query.code, 2, "{}", query.shown());
}

/// Every statement of the page runs, and every view it lists has exactly the columns it lists.
#[test]
fn the_page_about_sql_is_right() {
    let place = Place::new();
    drop(busy(&place));
    let page = include_str!("../../../../docs/sql.md");
    let examples: Vec<_> =
        page.split("```sql\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 8);
    for example in examples {
        let done = place.run(&["query", "--json", example]);
        assert_eq!((done.code, done.err.as_str()), (0, ""), "{example}\n{}", done.shown());
    }
    let views = sql(&place, "SELECT name FROM pragma_table_list WHERE type = 'view' ORDER BY name");
    let mut listed: Vec<&str> = Vec::new();
    for line in page.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let view = cells[1].trim_matches('`');
        listed.push(view);
        // What stands in brackets are values.
        let columns: Vec<_> = cells[3].split('`').skip(1).step_by(2).collect();
        let found = sql(&place, &format!("SELECT name FROM pragma_table_info('{view}')"));
        let found: Vec<_> = found.iter().map(|row| row["name"].as_str().unwrap()).collect();
        assert_eq!(found, columns, "{view}");
    }
    listed.sort_unstable();
    assert_eq!(views.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), listed);
}

#[test]
fn a_query_only_reads_one_statement_in_time() {
    let place = Place::new();
    drop(busy(&place));
    let before = place.files(".backstop");
    let rows = [
        ("DELETE FROM events_raw", "a query only reads"),
        ("UPDATE runs_raw SET status = 'done'", "a query only reads"),
        ("DROP VIEW runs", "a query only reads"),
        ("CREATE TEMP TABLE t (x)", "a query only reads"),
        ("PRAGMA user_version = 9", "a query only reads"),
        ("PRAGMA journal_mode = DELETE", "a query only reads"),
        ("ATTACH 'other.db' AS other", "a query only reads"),
        ("VACUUM INTO 'copy.db'", "no SELECT"),
        ("BEGIN", "a query only reads"),
        ("SELECT load_extension('x')", "not authorized to use function: load_extension"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("SELECT price FROM runs", "no such column: price"),
        ("SELECT ?1", "parameters"),
        ("", "no SELECT"),
        (
            "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n",
            "longer than 0.2 s",
        ),
    ];
    for (sql, why) in rows {
        let done = place.run(&["query", "--time", "200ms", sql]);
        let told = done.err.contains("error[BS1013]") && done.err.contains(why) && done.out.is_empty();
        assert!(done.code == 2 && told, "{sql}: {}", done.shown());
    }
    let after = place.files(".backstop");
    let db = |files: &[(std::path::PathBuf, Vec<u8>)]| {
        files.iter().find(|(path, _)| path.ends_with("backstop.db")).map(|(_, bytes)| bytes.len()).unwrap()
    };
    assert!(db(&after) >= db(&before) && !place.path().join("copy.db").exists());
    assert_eq!(sql(&place, "SELECT count(*) AS n FROM runs")[0]["n"], 5);
}

#[test]
fn rows_are_given_as_table_csv_and_json_and_to_a_file() {
    let place = Place::new();
    drop(busy(&place));
    let sql = "SELECT tool, outcome, count(*) AS n, NULL AS none, x'00ff' AS bytes FROM tool_calls GROUP BY 1, 2 ORDER BY 2 DESC, 1";
    let table = place.run(&["query", sql]);
    expect_test::expect![[r#"
        exit 0
        --- stdout
        TOOL                     OUTCOME   N  NONE  BYTES
        write_file               ok        5        00ff
        write_file               in-doubt  4        00ff
        =HYPERLINK("x")\u{202e}  error     4        00ff
    "#]]
    .assert_eq(&table.shown());
    let csv = place.run(&["query", "--csv", sql]);
    assert_eq!(csv.out.lines().next(), Some("tool,outcome,n,none,bytes"));
    assert!(csv.out.contains("\"=HYPERLINK(\"\"x\"\")\u{202e}\",error,4,,00ff\n"), "{}", csv.out);
    let file = place.run(&["query", "--output", "out.csv", sql]);
    assert_eq!((file.code, file.out.as_str(), place.read("out.csv")), (0, "", csv.out));
    let json =
        place.run(&["query", "--json", "--output", "out.json", "SELECT 1.5 AS x, NULL AS y, 'z' AS z"]);
    assert_eq!((json.code, place.read("out.json").as_str()), (0, "{\"x\":1.5,\"y\":null,\"z\":\"z\"}\n"));
    let failed = place.run(&["query", "--output", "out.json", "SELECT nothing"]);
    assert_eq!(
        (failed.code, place.read("out.json").len() > 10, place.path().join("out.json.part").exists()),
        (2, true, false)
    );
    let cut = place.run(&["query", "--rows", "2", "--csv", "SELECT run FROM runs ORDER BY run"]);
    assert_eq!((cut.code, cut.out.as_str()), (1, "run\nr0\nr1\n"), "{}", cut.shown());
    assert!(cut.err.contains("there are more than 2 rows"), "{}", cut.err);
}
