//! The dashboard over HTTP: who sees what, what a page holds, and how a page that is open is told of what happens.

use crate::it::approvals::Desk;
use crate::it::kit::{Answer, Gate, MESSAGES, config, in_time, messages, until};
use crate::it::page::Browser;
use crate::it::upstream::{JSON, MESSAGES_REPLY, Upstream, answer};
use backstop::Task;
use backstop_agent::run::Reply;
use backstop_call::{Code, Money, RunId};
use backstop_journal::event::{
    AlertFired, AlertResolved, KeyRight, KeyScope, QueueTerms, RunCreated, RunFinished, Severity,
};
use backstop_journal::projections::alerts::Alerts;
use backstop_journal::projections::queue::TaskState;
use backstop_journal::{Append, Durability, EventBody, RunStatus, StreamId, TaskFilter};
use backstop_server::gateway::{BellLimits, paths};
use backstop_server::jobs::JobState;
use std::fmt::Write as _;

/// Pages that want no run and no question.
const PAGES: [&str; 8] =
    ["/", "/runs", "/tasks", "/approvals", "/alerts", "/providers", "/spending", "/audit"];

const HTML: (&str, &str) = ("accept", "text/html,application/xhtml+xml");

/// A look with a browser at this machine, without any key.
async fn look(gate: &Gate, path: &str, more: &[(&str, &str)]) -> Answer {
    let mut request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\naccept: text/html\r\n", gate.addr);
    for (name, value) in more {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    let mut client = gate.client().await;
    client.write(request + "\r\n").await;
    client.answer().await
}

async fn keyless() -> Gate {
    Gate::start(&config(&[("a", "messages", "http://127.0.0.1:9".to_owned())])).await
}

#[tokio::test]
async fn without_any_key_this_machine_looks_and_decides_nothing() {
    let gate = keyless().await;
    let mut task = Task::new("a", "Look around.");
    task.workspace = gate.dir.path().join("work");
    std::fs::create_dir_all(&task.workspace).unwrap();
    let run = gate.backstop.create(task).await.unwrap();
    let runs = [format!("/runs/{run}"), format!("/runs/{run}/cancel")];
    for path in PAGES.into_iter().chain(runs.iter().map(String::as_str)) {
        let page = look(&gate, path, &[]).await;
        assert_eq!((page.status(), page.text().contains("this machine, looks only")), (200, true), "{path}");
        assert!(!page.text().contains("method=\"post\""), "{path} has a form: {}", page.text());
    }
    let rows = [
        ("host: evil.example", "a name that somebody has pointed here"),
        ("x-forwarded-for: 10.0.0.7", "a proxy at this machine"),
    ];
    for (header, why) in rows {
        let (name, value) = header.split_once(": ").unwrap();
        let answer = if name == "host" {
            let mut client = gate.client().await;
            client.write(format!("GET / HTTP/1.1\r\n{header}\r\naccept: text/html\r\n\r\n")).await;
            client.answer().await
        } else {
            look(&gate, "/", &[(name, value)]).await
        };
        assert_eq!((answer.status(), answer.text().contains("Sign in")), (401, true), "{why}");
    }
    let form = [("content-type", "application/x-www-form-urlencoded"), ("host", &*gate.addr.to_string())];
    for change in ["resume", "cancel", "undo", "erase"] {
        let answer = gate.ask("POST", &format!("/runs/{run}/{change}"), &form, "form=").await;
        assert_eq!(answer.status(), 401, "{change}");
    }
    gate.key("ci", KeyScope::default()).await;
    assert_eq!(look(&gate, "/", &[]).await.status(), 401, "where there is a key, everybody needs one");
}

#[tokio::test]
async fn a_client_of_models_that_looks_whether_somebody_is_there_is_told_so() {
    let gate = keyless().await;
    for headers in [&[][..], &[("accept", "*/*")], &[("accept", "application/json")]] {
        let answer = gate.ask("GET", "/", headers, "").await;
        assert_eq!((answer.status(), answer.json()["name"].as_str()), (200, Some("backstop")), "{headers:?}");
    }
    assert_eq!(gate.ask("GET", "/", &[HTML], "").await.header("content-type"), "text/html; charset=utf-8");
}

#[tokio::test]
async fn a_key_to_look_sees_everything_and_changes_nothing() {
    let desk = Desk::new("hello").await;
    let (run, question) = desk.ask().await;
    let wall = desk.gate.key("wall", KeyScope { right: KeyRight::View, ..KeyScope::default() }).await;
    let viewer = Browser::log_in_with(&desk, &wall).await;
    let runs = [format!("/runs/{run}"), format!("/runs/{run}/audit"), format!("/runs/{run}/cancel")];
    let question_page = format!("/approvals/{question}");
    let pages = PAGES[1..].iter().copied().chain(runs.iter().map(String::as_str)).chain([&*question_page]);
    for path in pages {
        let page = viewer.get(path).await;
        assert_eq!((page.status(), page.text().contains("(looks only)")), (200, true), "{path}");
        let forms = page.text().matches("method=\"post\"").count();
        assert_eq!(forms, 1, "the way out and nothing else on {path}: {}", page.text());
    }
    let form = viewer.form().await;
    let paths = [
        format!("/approvals/{question}/approve"),
        format!("/approvals/{question}/deny"),
        format!("/runs/{run}/cancel"),
        format!("/runs/{run}/resume"),
        format!("/runs/{run}/undo"),
        format!("/runs/{run}/erase"),
    ];
    for path in paths {
        let answer = viewer.post(&path, &[("form", &form)]).await;
        assert_eq!(answer.status(), 403, "{path}");
        assert!(answer.text().contains("Key wall may look and change nothing"), "{}", answer.text());
    }
    let answer = desk.gate.ask("GET", "/api/v1/approvals", &[("x-api-key", &wall)], "").await;
    assert_eq!(answer.status(), 403, "the API of approvals is for those who answer");
    let asked = messages("sender", false);
    assert_eq!(desk.gate.ask("POST", "/v1/messages", &[("x-api-key", &wall)], &asked).await.status(), 403);
    assert!(desk.decided(&run).await.is_empty());
    assert_eq!(desk.gate.backstop.inspect(&run).await.unwrap().status, RunStatus::Parked);
}

#[tokio::test]
async fn what_a_run_said_is_erased_on_its_page_and_shown_as_erased() {
    let desk = Desk::new("hello").await;
    let (run, question) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let (path, form) = (format!("/runs/{run}"), browser.form().await);
    let erase = format!("{path}/erase");
    let early = browser.get(&erase).await;
    assert!(early.text().contains("is parked, so it may still go on"), "{}", early.text());
    assert!(!early.text().contains("name=\"reason\""), "there is no button for it: {}", early.text());
    assert_eq!(browser.post(&erase, &[("form", &form)]).await.status(), 409);
    assert!(!browser.get(&path).await.text().contains("Erase what it said"), "it may go on");
    assert_eq!(browser.post(&format!("{path}/cancel"), &[("form", &form)]).await.status(), 303);
    assert!(browser.get(&path).await.text().contains(&format!("href=\"{erase}\"")));
    let ask = browser.get(&erase).await;
    assert!(
        ask.text().contains("Erase it for good") && ask.text().contains("name=\"reason\""),
        "{}",
        ask.text()
    );
    assert!(browser.get(&path).await.text().contains("Send it."), "to look erases nothing");
    let stale = browser.post(&erase, &[("form", "another"), ("reason", "x")]).await;
    assert_eq!(stale.status(), 403, "{}", stale.text());
    let done = browser.post(&erase, &[("form", &form), ("reason", "she <b>asked</b> for it")]).await;
    assert_eq!((done.status(), done.header("location")), (303, path.as_str()), "{}", done.text());
    let page = browser.get(&path).await;
    assert_eq!(page.status(), 200);
    for shown in ["What it said was erased on", "erased by anna: she &lt;b&gt;asked&lt;/b&gt; for it"] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    for gone in ["Send it.", "anna cancelled it", "/undo\"", "/erase\""] {
        assert!(!page.text().contains(gone), "{gone}: {}", page.text());
    }
    assert!(browser.get("/runs").await.text().contains(" · erased"));
    assert!(
        !browser.get("/runs?q=send").await.text().contains(run.as_str()),
        "no search finds what it was about"
    );
    let asked = browser.get(&format!("/approvals/{question}")).await;
    assert_eq!((asked.status(), asked.text().contains("BS5017")), (410, true), "{}", asked.text());
    for pages in
        ["/approvals", "/tasks", "/jobs", "/audit", &format!("{path}/audit"), &format!("{path}/audit.jsonl")]
    {
        let page = browser.get(pages).await;
        assert_eq!((page.status(), page.text().contains("Send it.")), (200, false), "{pages}");
    }
    let dead = format!("/runs/{}", queued(&desk).await);
    let erased = browser.post(&format!("{dead}/erase"), &[("form", &form), ("reason", "old")]).await;
    assert_eq!(erased.status(), 303, "{}", erased.text());
    for page in ["/tasks", &dead] {
        let page = browser.get(page).await;
        assert!(page.text().contains("(erased)"), "why it gave up: {}", page.text());
        assert!(!page.text().contains("/retry") && !page.text().contains("gave"), "{}", page.text());
    }
    let undo = browser.post(&format!("{path}/undo"), &[("form", &form)]).await;
    assert_eq!((undo.status(), undo.text().contains("BS5017")), (409, true), "{}", undo.text());
}

#[tokio::test]
async fn a_run_is_found_shown_and_cancelled() {
    let desk = Desk::new("hello").await;
    let (run, question) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let found = browser.get("/runs?q=send&status=parked&agent=default").await;
    assert!(found.text().contains(&format!("/runs/{run}")), "{}", found.text());
    for nothing in ["/runs?q=receive", "/runs?status=done", "/runs?agent=other", "/runs?from=2500-01-01"] {
        assert!(!browser.get(nothing).await.text().contains(run.as_str()), "{nothing}");
    }
    let path = format!("/runs/{run}");
    let page = browser.get(&path).await;
    for shown in [
        "Send it.",
        "waits for a person",
        &format!("/approvals/{question}"),
        "it cannot be taken back",
        "Turn 1",
    ] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    let short = &path[..path.len() - 2];
    assert_eq!(browser.get(short).await.status(), 200, "the beginning of its id is enough");
    assert_eq!(browser.get("/runs/nothing").await.status(), 404);
    let ask = browser.get(&format!("{path}/cancel")).await;
    assert!(ask.text().contains("Cancel it for good"), "{}", ask.text());
    assert_eq!(
        desk.gate.backstop.inspect(&run).await.unwrap().status,
        RunStatus::Parked,
        "to look cancels nothing"
    );
    let form = browser.form().await;
    let undo = browser.post(&format!("{path}/undo"), &[("form", &form)]).await;
    assert_eq!(undo.status(), 409, "it is not over");
    let done = browser.post(&format!("{path}/cancel"), &[("form", &form)]).await;
    assert_eq!((done.status(), done.header("location")), (303, path.as_str()));
    let ended = desk.gate.backstop.inspect(&run).await.unwrap();
    assert_eq!((ended.status, ended.message.as_str()), (RunStatus::Cancelled, "anna cancelled it (page)"));
    let again = browser.post(&format!("{path}/cancel"), &[("form", &form)]).await;
    assert_eq!(again.status(), 409);
    let audit = browser.get(&format!("{path}/audit")).await;
    assert!(audit.text().contains("run.finished") && audit.text().contains("approval.requested"));
    let file = browser.get(&format!("{path}/audit.jsonl")).await;
    let kinds: Vec<_> = file
        .text()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["what"].clone())
        .collect();
    assert_eq!(kinds[0], "run.created");
    assert!(kinds.iter().any(|kind| kind == "run.finished"), "{kinds:?}");
}

#[tokio::test]
async fn a_long_run_is_shown_in_parts() {
    let desk = Desk::new("hello").await;
    let (run, _) = desk.ask().await;
    let finished = EventBody::BudgetWarned(backstop_journal::event::BudgetWarned {
        account: "total@1".to_owned(),
        percent: 80,
        spent: Money::from_dollars(8),
        limit: Money::from_dollars(10),
        run: None,
        call: None,
        provider: None,
    });
    let append = Append {
        stream: StreamId::Run(run.clone()),
        epoch: None,
        events: vec![finished; 1_000],
        at: desk.gate.backstop.clock().now(),
        durability: Durability::Written,
    };
    let last = desk.gate.backstop.journal().append(append).await.unwrap().seq;
    let browser = Browser::log_in(&desk).await;
    let rows = async |path: &str| browser.get(path).await.text().matches("<li id=\"s").count();
    let path = format!("/runs/{run}");
    let newest = usize::try_from((last - 1) % 400 + 1).unwrap();
    assert_eq!(rows(&path).await, newest);
    let first = rows(&format!("{path}?after=0")).await;
    assert!(first < 400 && first > 380, "{first}");
    assert_eq!(rows(&format!("{path}?after=400")).await, 400);
    let page = browser.get(&format!("{path}?after=400")).await;
    assert!(page.text().contains("after=0\"") && page.text().contains("after=800\""), "{}", page.text());
}

#[tokio::test]
async fn a_page_that_is_open_is_told_of_what_happens_by_anybody() {
    let desk = Desk::new("hello").await;
    let (run, question) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let mut client = desk.gate.client().await;
    let headers = [("cookie", browser.cookie.as_str())];
    client.send("GET", &format!("/events?run={run}"), &headers, b"").await;
    let head = client.head().await;
    assert_eq!((head.status, head.header("content-type")), (200, "text/event-stream; charset=utf-8"));
    let stands = client.read_until("\n\n").await;
    let id = |text: &str| -> u64 {
        let (_, rest) = text.split_once("id: ").unwrap();
        rest.split('\n').next().unwrap().parse().unwrap()
    };
    assert!(stands.starts_with("retry: "), "{stands}");
    // By this process.
    let answer = backstop_agent::run::Answer::Deny("no");
    let reply = Reply { approval: &question, answer, by: "anna", channel: "page" };
    desk.gate.backstop.answer(&run, reply).await.unwrap();
    let told = client.read_until("event: change").await;
    assert!(id(&told) > id(&stands), "{told} after {stands}");
    // By another one.
    let path = desk.gate.dir.path().join(".backstop/backstop.db");
    let other = backstop_store::SqliteStore::open(path, backstop_store::StoreOptions::default()).unwrap();
    client.read_until("\n\n").await;
    let epoch =
        backstop_journal::Journal::claim(&other, &run, desk.gate.backstop.clock().now()).await.unwrap();
    let again = client.read_until("event: change").await;
    assert!(epoch > 0 && id(&again) > id(&told), "{again} after {told}");
    drop(other);
    // And lets go at the end.
    let mut ending = desk.gate.stop();
    in_time("the end of the notices", async { client.closed().await }).await;
    ending.ended().await;
}

#[tokio::test]
async fn no_page_is_cached_framed_or_fed_from_elsewhere() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    queued(&desk).await;
    let browser = Browser::log_in(&desk).await;
    for path in paths().filter(|path| path.is_for_people && path.methods.contains(&http::Method::GET)) {
        if path.path.starts_with("/api/") || path.path == "/events" {
            continue;
        }
        let name = match path.path {
            path if path.starts_with("/runs") => run.as_str(),
            path if path.starts_with("/tasks") => "letter",
            _ => &id,
        };
        let there = path.path.replace("/assets/*", "/assets/script.js").replace('*', name);
        let answer = browser.get(&there).await;
        assert!(answer.status() < 400, "{there}: {}", answer.text());
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{there}: {policy}");
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{there}");
        assert_eq!(answer.header("cache-control"), "no-store", "{there}");
        let text = answer.text();
        assert!(!text.contains(" style=") && !text.contains(" onclick="), "{there}");
    }
}

/// A run that was created and nothing else.
fn created(run: &str, message: &str) -> (StreamId, EventBody) {
    let created = serde_json::json!({
        "kind": "run.created", "task": run, "role": "r", "agent": "a", "agent_hash": "", "model": "m",
        "system": {"inline": ""}, "message": {"inline": message}, "tools": [], "workspace": "/",
        "limits": {"time": {"secs": 1, "nanos": 0}, "turns": 1, "tokens": 1}, "priority": "standard",
    });
    let created: RunCreated = serde_json::from_value(created).unwrap();
    (StreamId::Run(RunId::from(run)), created.into())
}

#[tokio::test]
async fn runs_are_paged_by_where_the_page_before_ended() {
    let desk = Desk::new("hello").await;
    let journal = desk.gate.backstop.journal();
    for n in 0..120 {
        let (stream, event) = created(&format!("0{n:03}"), "Count.");
        let at = desk.gate.backstop.clock().now();
        let events = vec![event];
        journal
            .append(Append { stream, epoch: None, events, at, durability: Durability::Queued })
            .await
            .unwrap();
    }
    let browser = Browser::log_in(&desk).await;
    let (mut path, mut seen) = ("/runs?q=count".to_owned(), Vec::new());
    loop {
        let page = browser.get(&path).await;
        let rows = page.text().split("<tr id=\"run-").skip(1);
        seen.extend(rows.map(|row| row[..4].to_owned()));
        let Some((_, next)) = page.text().split_once("rel=\"next\" href=\"") else { break };
        path = next.split('"').next().unwrap().replace("&amp;", "&");
        assert!(path.starts_with("/runs?q=count&before="), "{path}");
    }
    let want: Vec<_> = (0..120).rev().map(|n| format!("0{n:03}")).collect();
    assert_eq!(seen, want);
}

#[tokio::test]
async fn the_numbers_of_a_page_are_those_of_the_journal_and_of_the_scraper() {
    let upstream = Upstream::always(answer("200 OK", &[JSON], MESSAGES_REPLY)).await;
    let gate = Gate::start(&config(&[("a", "messages", upstream.url())])).await;
    for _ in 0..3 {
        assert_eq!(gate.post(MESSAGES, &messages("main", false)).await.status(), 200);
    }
    let ends = gate.ends(3).await;
    let cost: Money = ends.iter().map(|end| end.finished().cost).sum();
    assert!(cost > Money::ZERO);
    let page = until("the numbers", async || {
        let page = look(&gate, "/", &[]).await;
        page.text().contains("3 calls, 0 retries").then_some(page)
    })
    .await;
    assert!(
        page.text().contains("<figcaption>Calls answered</figcaption><p class=\"whole\">100.0 %</p>"),
        "{}",
        page.text()
    );
    for span in ["day", "week", "month"] {
        let spending = look(&gate, &format!("/spending?span={span}"), &[]).await;
        for by in ["model", "role", "key", "day"] {
            let (_, table) = spending.text().split_once(&format!("aria-label=\"Spending by {by}\"")).unwrap();
            let (table, _) = table.split_once("</table>").unwrap();
            assert!(table.contains(&format!("<td class=\"number\">{cost}</td>")), "{by}, {span}: {table}");
        }
    }
    let scraped = gate.get("/metrics").await;
    let told = format!("backstop_cost_usd_total{{model=\"main\",role=\"\"}} {}", cost.decimal());
    assert!(scraped.text().contains(&told), "{told} in {}", scraped.text());
}

async fn overview(desk: &Desk, browser: &Browser<'_>) -> String {
    desk.gate.ask("GET", "/", &[HTML, ("cookie", &browser.cookie)], "").await.text().to_owned()
}

/// A task that no worker takes, and one whose model gave up.
async fn queued(desk: &Desk) -> RunId {
    let now = desk.gate.backstop.clock().now();
    let task = |id: &str, what: &str| {
        let mut task = Task::new("sender", what);
        task.id = id.into();
        task.workspace = desk.gate.dir.path().join("work");
        task.tools = Vec::new();
        task
    };
    std::fs::create_dir_all(desk.gate.dir.path().join("work")).unwrap();
    let terms = QueueTerms { key: Some("shop".to_owned()), ..QueueTerms::once(now) };
    let backstop = &desk.gate.backstop;
    let dead = backstop.submit(task("dead/1", "Give <b>up</b>."), QueueTerms::once(now)).await.unwrap().run;
    let finished = RunFinished {
        status: RunStatus::Failed,
        result: None,
        code: Some(Code::TaskFailed),
        message: "it <i>gave</i> up".into(),
    };
    let append = Append {
        stream: StreamId::Run(dead.clone()),
        epoch: None,
        events: vec![finished.into()],
        at: now,
        durability: Durability::Synced,
    };
    backstop.journal().append(append).await.unwrap();
    backstop.submit(task("letter", "Write a letter."), terms).await.unwrap();
    dead
}

#[tokio::test]
async fn the_queue_is_shown_searched_and_its_tasks_are_retried_and_cancelled() {
    let desk = Desk::new("hello").await;
    let dead = queued(&desk).await;
    let browser = Browser::log_in(&desk).await;
    let page = browser.get("/tasks").await;
    for shown in [
        "Give &lt;b&gt;up&lt;/b&gt;.",
        "it &lt;i&gt;gave&lt;/i&gt; up",
        "Write a letter.",
        "key shop",
        "<td class=\"number soft\">1/1</td>",
        "action=\"/tasks/dead%2F1/retry\"",
        "href=\"/tasks/letter/cancel\"",
        "<strong>1</strong> dead",
        "data-events=\"/events\"",
    ] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    assert!(!page.text().contains("/tasks/letter/retry"), "what waits needs no retry");
    let rows = [
        ("state=dead", true),
        ("state=waiting", false),
        ("q=give+up", true),
        ("agent=other", false),
        ("state=done", false),
    ];
    for (query, want) in rows {
        let found = browser.get(&format!("/tasks?{query}")).await.text().contains("dead/1");
        assert_eq!(found, want, "{query}");
    }
    assert!(overview(&desk, &browser).await.contains("<strong>1</strong> dead"), "it tells of it");
    let run = browser.get(&format!("/runs/{dead}")).await;
    assert!(run.text().contains("action=\"/tasks/dead%2F1/retry\""), "{}", run.text());

    for (form, status) in [("", 403), ("forged", 403)] {
        for path in ["/tasks/dead%2F1/retry", "/tasks/letter/cancel"] {
            assert_eq!(browser.post(path, &[("form", form)]).await.status(), status, "{path}");
        }
    }
    let form = browser.form().await;
    let states = async || {
        let tasks = desk.gate.backstop.queue().tasks(TaskFilter::default()).await.unwrap();
        tasks.iter().map(|task| task.queued().unwrap().state).collect::<Vec<_>>()
    };
    assert_eq!(states().await, [TaskState::Waiting, TaskState::Dead]);
    let retried = browser.post("/tasks/dead%2F1/retry", &[("form", &form)]).await;
    assert_eq!((retried.status(), retried.header("location")), (303, "/tasks"));
    assert_eq!(states().await, [TaskState::Waiting, TaskState::Waiting]);
    let asked = browser.get("/tasks/letter/cancel").await;
    assert!(asked.text().contains("Cancel this task?"), "{}", asked.text());
    assert_eq!(states().await, [TaskState::Waiting, TaskState::Waiting], "to look changes nothing");
    // Also one whose last run failed, and that waits for its next.
    for path in ["/tasks/letter/cancel", "/tasks/dead%2F1/cancel"] {
        let cancelled = browser.post(path, &[("form", &form)]).await;
        assert_eq!((cancelled.status(), cancelled.header("location")), (303, "/tasks"), "{path}");
    }
    assert_eq!(states().await, [TaskState::Cancelled, TaskState::Cancelled]);
    assert_eq!(browser.post("/tasks/letter/retry", &[("form", &form)]).await.status(), 409);
    assert_eq!(browser.post("/tasks/nobody/retry", &[("form", &form)]).await.status(), 404);
    let wall = desk.gate.key("wall", KeyScope { right: KeyRight::View, ..KeyScope::default() }).await;
    let viewer = Browser::log_in_with(&desk, &wall).await;
    assert_eq!(viewer.post("/tasks/letter/retry", &[("form", &viewer.form().await)]).await.status(), 403);
}

#[tokio::test]
async fn jobs_are_shown_paused_resumed_and_run() {
    let jobs = "\n[agents.clerk]\nworkspace = \".\"\n\n[jobs.letter]\nschedule = \"0 7 * * *\"\ntimezone = \"Europe/Berlin\"\n\
                agent = \"clerk\"\ntask = \"Write <b>a letter</b>.\"\n";
    let desk = Desk::with("hello", jobs, &[], BellLimits::default()).await;
    let browser = Browser::log_in(&desk).await;
    let page = browser.get("/jobs").await;
    for shown in [
        "letter",
        "0 7 * * *",
        "Europe/Berlin",
        "scheduled",
        "never",
        "action=\"/jobs/letter/run\"",
        "data-events=\"/events\"",
    ] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    let form = browser.form().await;
    let post = async |act: &str, form: &str| {
        browser.post(&format!("/jobs/letter/{act}"), &[("form", form)]).await.status()
    };
    for act in ["run", "pause", "resume"] {
        assert_eq!((post(act, "").await, post(act, "forged").await), (403, 403), "{act}");
    }
    assert_eq!(browser.post("/jobs/other/run", &[("form", &form)]).await.status(), 404);
    let state = async || {
        let (journal, queue) = (desk.gate.backstop.journal(), desk.gate.backstop.queue());
        let now = desk.gate.backstop.clock().now();
        let jobs = desk.gate.gateway.jobs().view((&**journal, &**queue), now).await.unwrap();
        jobs[0].state
    };
    assert_eq!((post("pause", &form).await, state().await), (303, JobState::Paused));
    let page = browser.get("/jobs").await;
    assert!(page.text().contains("paused by anna (page)"), "{}", page.text());
    assert_eq!((post("resume", &form).await, state().await), (303, JobState::Scheduled));
    assert_eq!((post("run", &form).await, state().await), (303, JobState::UnderWay));
    let tasks = desk.gate.backstop.queue().tasks(TaskFilter::default()).await.unwrap();
    let [task] = &tasks[..] else { panic!("{tasks:?}") };
    assert!(
        task.task.as_str().starts_with("letter@") && task.task.as_str().ends_with("-by-hand"),
        "{task:?}"
    );
    let page = browser.get("/jobs").await;
    assert!(page.text().contains("wanted by anna (page)"), "{}", page.text());
    let wall = desk.gate.key("wall", KeyScope { right: KeyRight::View, ..KeyScope::default() }).await;
    let viewer = Browser::log_in_with(&desk, &wall).await;
    assert_eq!(viewer.post("/jobs/letter/run", &[("form", &viewer.form().await)]).await.status(), 403);
    assert!(!viewer.get("/jobs").await.text().contains("/jobs/letter/run"), "a viewer is offered nothing");
}

#[tokio::test]
async fn alerts_are_shown_looked_after_and_silenced() {
    let desk = Desk::new("hello").await;
    let browser = Browser::log_in(&desk).await;
    let page = browser.get("/alerts").await;
    assert!(page.text().contains("Nothing is wrong."), "{}", page.text());
    assert!(page.text().contains("watchdog"), "its rules are shown: {}", page.text());
    let fired = |alert: &str, severity| AlertFired {
        alert: alert.to_owned(),
        rule: "slow".to_owned(),
        severity,
        labels: [("model".to_owned(), format!("<m>{alert}"))].into(),
        summary: format!("<script>{alert}</script> is slow"),
    };
    let now = desk.gate.backstop.clock().now();
    let append = async |events: Vec<EventBody>| {
        let (stream, durability) = (StreamId::Alerts, Durability::Synced);
        let append = Append { stream, epoch: None, events, at: now, durability };
        desk.gate.backstop.journal().append(append).await.unwrap();
    };
    append(vec![fired("a1", Severity::Warning).into(), fired("b2", Severity::Critical).into()]).await;
    let page = browser.get("/alerts").await;
    let (bad, less) = (page.text().find("b2&lt;/script&gt;"), page.text().find("a1&lt;/script&gt;"));
    assert!(bad.is_some() && bad < less, "the worst in front: {}", page.text());
    assert!(overview(&desk, &browser).await.contains("b2&lt;/script&gt; is slow"), "it tells of it");

    let form = browser.form().await;
    let silence = [("form", form.as_str()), ("for", "4h"), ("what", "alert"), ("reason", "a known job")];
    for (n, wrong) in [("form", "forged"), ("for", "99d"), ("what", "all")].iter().enumerate() {
        let mut fields = silence;
        fields[n] = *wrong;
        let answer = browser.post("/alerts/a1/silence", &fields).await;
        assert_eq!(answer.status(), if n == 0 { 403 } else { 422 }, "{wrong:?}");
    }
    assert_eq!(browser.post("/alerts/zz/silence", &silence).await.status(), 409);
    assert_eq!(browser.post("/alerts/a1/silence", &silence).await.header("location"), "/alerts");
    assert_eq!(browser.post("/alerts/b2/acknowledge", &[("form", &form)]).await.status(), 303);
    let alerts =
        async || Alerts::fold(&desk.gate.backstop.journal().read(&StreamId::Alerts, 0).await.unwrap());
    let known = alerts().await;
    let silenced: Vec<_> = known.silences.values().cloned().collect();
    let [said] = &silenced[..] else { panic!("{silenced:?}") };
    assert_eq!((said.by.as_str(), said.reason.as_str()), ("anna", "a known job"));
    let is_silent = ["a1", "b2"].map(|alert| known.silenced(&known.firing[alert].fired, now).is_some());
    assert_eq!((is_silent, known.firing["b2"].acknowledged.as_deref()), ([true, false], Some("anna")));
    let page = browser.get("/alerts").await;
    for shown in ["anna looks after it", "a known job", &format!("/alerts/{}/unsilence", said.silence)] {
        assert!(page.text().contains(shown), "{shown}: {}", page.text());
    }
    let path = format!("/alerts/{}/unsilence", said.silence);
    assert_eq!(browser.post(&path, &[("form", &form)]).await.status(), 303);
    assert!(alerts().await.silences.is_empty());
    assert_eq!(browser.post(&path, &[("form", &form)]).await.status(), 409);
    append(vec![AlertResolved { alert: "a1".to_owned() }.into()]).await;
    let page = browser.get("/alerts").await;
    let (over, a1) = (page.text().find("Over").unwrap(), page.text().find("a1&lt;/script&gt;").unwrap());
    assert!(over < a1, "it is history: {}", page.text());
}
