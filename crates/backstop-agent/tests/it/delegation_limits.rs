//! What runs that do parts may use: of money, tokens and time what those above them have left, so many levels and so many of
//! them, and what a gate says.

use crate::delegation::{House, among, cast, end, part};
use crate::kit::{
    LineTool, SECOND, Script, Watched, agent, declared, file_tools, spoken, task, tool_use, unsure,
};
use crate::stacked::booked;
use backstop_agent::tool::ToolOutput;
use backstop_agent::{Agent, DELEGATE, RunError, child_of};
use backstop_allowance::{Account, Ledger as _, Scope};
use backstop_call::{Block, Code, Money, Price, Request, StopReason};
use backstop_journal::event::{RunCreated, RunLimits};
use backstop_journal::{JournalError, RunStatus};
use backstop_label::{Action, Class, Condition, Effect, Gate, Pattern, Policy};
use backstop_store::MemoryStore;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A call costs a dollar, whatever its size.
const A_DOLLAR: Price = Price {
    input: Money::ZERO,
    output: Money::ZERO,
    cache_read: Money::ZERO,
    cache_write: Money::ZERO,
    request: Money::from_dollars(1),
};

/// Two agents on the stack. The lead gives out one part after the other, the worker reads without end.
fn paid() -> (tempfile::TempDir, Agent, Arc<backstop_store::MemoryLedger>) {
    let dir = tempfile::tempdir().unwrap();
    let model = Arc::new(Script(Box::new(|request: &Request| {
        let turn = spoken(request);
        let works = request.messages[0].content[0].as_text() == Some("work");
        let call = if works {
            tool_use(&format!("r{turn}"), "read_file", json!({"path": format!("{turn}")}))
        } else {
            part(&format!("p{turn}"), "m", "work")
        };
        Ok((vec![call], StopReason::ToolUse))
    })));
    let (agent, ledger) = booked(model, A_DOLLAR, file_tools());
    (dir, among(agent, &[("m", &["read_file"])]), ledger)
}

#[tokio::test(start_paused = true)]
async fn what_a_part_costs_is_paid_by_all_above_it_to_the_nano_dollar() {
    let limit = Money::from_nanos(4_999_999_999);
    // Crashed before any of its appends, and let go on: the books are the same.
    for crash in 0..16 {
        let (dir, mut agent, ledger) = paid();
        let created = RunCreated {
            limits: RunLimits { cost: Some(limit), ..RunLimits::default() },
            ..task(dir.path(), &[DELEGATE, "read_file"])
        };
        let run = agent.create(created).await.unwrap();
        let inner = Arc::clone(&agent.journal);
        let mut journal = Watched::new(Arc::clone(&inner));
        journal.before =
            Box::new(move |number, _| (number == crash).then(|| JournalError::Unusable("gone".into())));
        agent.journal = Arc::new(journal);
        let first = agent.drive(&run).await;
        agent.journal = inner;
        let outcome = agent.drive(&run).await.unwrap();
        let (code, status) = (outcome.code, outcome.status);
        assert_eq!((status, code), (RunStatus::Stopped, Some(Code::BudgetExceeded)), "{crash} {first:?}");
        let balance = ledger.balance(Account::whole(Scope::Run(run.clone()))).await.unwrap();
        let held = balance.settled + balance.suspense + balance.reserved;
        // The fifth dollar does not fit: four calls in all, by whomever.
        assert_eq!(held, Money::from_dollars(4), "crash before append {crash}");
        assert!(outcome.cost <= held, "crash before append {crash}: {}", outcome.cost);
        if crash == 0 {
            assert_eq!(outcome.cost, held);
        }
        let child = ledger.balance(Account::whole(Scope::Run(child_of(&run, "p0")))).await.unwrap();
        // A call that a crash made the lead ask for again is one fewer for its part.
        let of_child = child.settled + child.suspense;
        assert!((Money::from_dollars(2)..=Money::from_dollars(3)).contains(&of_child), "{crash}: {of_child}");
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_and_time_of_a_part_are_its_parents() {
    let read =
        |turn: usize| vec![tool_use(&format!("r{turn}"), "read_file", json!({"path": format!("{turn}")}))];
    let house = House::new(vec![
        ("lead", vec![vec![part("p1", "reader", "x")], vec![part("p2", "reader", "x")], end("done")]),
        ("reader", (0..40).map(read).collect()),
    ]);
    let limits = RunLimits { tokens: 2_500, ..RunLimits::default() };
    let (run, outcome) = house.start_as(RunCreated { limits, ..house.lead() }).await;
    let (first, second) =
        (house.state(&child_of(&run, "p1")).await, house.state(&child_of(&run, "p2")).await);
    assert_eq!(first.limits.tokens, 2_500 - 15, "what the lead had left after its own call");
    assert_eq!(second.limits.tokens, 2_500 - 30 - first.tokens(), "and after the part before");
    let told = house.told(&run).await;
    let want = format!(
        "ERROR `reader` stopped before it was done: the run has used {} of 2485 tokens",
        first.tokens()
    );
    assert!(told[0].starts_with(&want), "{}", told[0]);
    let used = outcome.usage.input_tokens + outcome.usage.output_tokens;
    assert_eq!(used, house.state(&run).await.tokens());
    assert!(first.tokens() + second.tokens() < used && used < 2_500, "{used}");

    // A part that takes as long as there is: both stop, both go on with more.
    let dir = tempfile::tempdir().unwrap();
    let slow = LineTool {
        name: "slow",
        declaration: declared(Class::Read, Effect::Read),
        run: Box::new(|_| {
            Box::pin(async {
                tokio::time::sleep(SECOND).await;
                Ok(ToolOutput::text("slowly"))
            })
        }),
        probe: unsure,
    };
    let mut tools = file_tools();
    tools.add(slow).unwrap();
    let step = |turn: usize| vec![tool_use(&format!("s{turn}"), "slow", json!({"line": format!("{turn}")}))];
    let mut slowly: Vec<_> = (0..8).map(step).collect();
    slowly.push(end("at last"));
    let model = cast(vec![("m", vec![vec![part("p1", "slow", "x")], end("done")]), ("slow", slowly)]);
    let agent = among(agent(model, Arc::new(MemoryStore::new()), tools), &[("slow", &["slow"])]);
    let limits = RunLimits { time: SECOND * 5, ..RunLimits::default() };
    let run = agent.create(RunCreated { limits, ..task(dir.path(), &[DELEGATE, "slow"]) }).await.unwrap();
    let stopped = agent.drive(&run).await.unwrap();
    assert_eq!((stopped.status, stopped.code), (RunStatus::Stopped, Some(Code::TimeLimit)));
    assert_eq!(stopped.duration, SECOND * 5);
    let child = child_of(&run, "p1");
    assert_eq!(agent.inspect(&child).await.unwrap().status, RunStatus::Stopped);
    let refused = agent.resume(&child, Some(limits)).await.unwrap_err();
    assert!(
        matches!(refused, RunError::PartOf { .. }),
        "a part has no limits of its own to raise: {refused}"
    );
    let done = agent.resume(&run, Some(RunLimits { time: SECOND * 20, ..limits })).await.unwrap();
    assert_eq!((done.status, done.duration), (RunStatus::Done, SECOND * 8));
    assert_eq!(agent.inspect(&child).await.unwrap().status, RunStatus::Done);
}

#[tokio::test(start_paused = true)]
async fn parts_of_parts_end_somewhere_and_so_do_parts() {
    // Each gives the whole to another of its kind.
    let house = House::new(vec![("lead", vec![vec![part("p1", "lead", "x")], end("done")])]);
    let (run, outcome) = house.start().await;
    assert_eq!(outcome.status, RunStatus::Done);
    assert_eq!(house.runs().await, vec![("lead".to_owned(), RunStatus::Done); 4], "3 levels below the first");
    let deepest = (0..3).fold(run, |run, _| child_of(&run, "p1"));
    let want = "ERROR Refused: this run does a part of a part already, 3 deep, and may give out none itself. Do it yourself.";
    assert_eq!(house.told(&deepest).await[0], want);

    // One that gives out part after part, several at a time.
    let parts = |turn: usize| -> Vec<Block> {
        (0..3).map(|n| part(&format!("p{turn}{n}"), "reader", &format!("{turn} {n}"))).collect()
    };
    let mut script: Vec<_> = (0..4).map(parts).collect();
    script.push(end("done"));
    let house = House::new(vec![("lead", script), ("reader", vec![end("read")])]);
    let (run, outcome) = house.start().await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = house.told(&run).await;
    assert_eq!(told[..8], ["read"; 8]);
    let want =
        "ERROR Refused: this run has given out 8 parts, and may give out no more. Do the rest yourself.";
    assert_eq!(told[8..12], [want; 4]);
    assert_eq!(house.runs().await.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn a_gate_may_look_at_what_a_part_may_cost() {
    let mut house = House::new(vec![
        ("lead", vec![vec![part("p1", "writer", "Write\u{1b}[2J it.")], end("done")]),
        ("writer", vec![end("done")]),
    ]);
    let gate = Gate {
        name: "dear".into(),
        tools: vec![Pattern::parse(DELEGATE).unwrap()],
        classes: Vec::new(),
        effects: Vec::new(),
        when: Some(Condition::parse("call_cost > 0.5").unwrap()),
        labelled: false,
        then: Action::Ask,
        expires: Duration::from_mins(5),
    };
    house.agent.policy = Arc::new(Policy { roles: BTreeMap::new(), gates: vec![gate] });
    let half = Money::from_nanos(500_000_000);
    let cost = |cost| RunLimits { cost, ..RunLimits::default() };
    // What the writer may cost, what the lead may, whether it is asked. Without a limit nobody knows, and that is no yes.
    let rows = [
        (Some(half), None, false),
        (Some(half + half), None, true),
        (Some(half + half), Some(half), false),
        (None, Some(half), false),
        (None, None, true),
    ];
    for (writer, lead, asks) in rows {
        house.agent.config.delegation.agents.get_mut(&"writer".into()).unwrap().run.limits = cost(writer);
        let (_, outcome) = house.start_as(RunCreated { limits: cost(lead), ..house.lead() }).await;
        assert_eq!(outcome.parked.is_some(), asks, "{writer:?} {lead:?}");
    }
    let (_, outcome) = house.start().await;
    let shown = "agent: writer\ntools: read_file, write_file, send, fetch, delegate\nat most: 50 turns, 1000000 tokens\ntask:\n\
        Write\\u{1b}[2J it.";
    assert_eq!(outcome.questions[0].preview, shown);
    assert!(outcome.questions[0].reversible);
}
