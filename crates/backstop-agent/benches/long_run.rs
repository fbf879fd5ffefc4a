//! What a long run's own thinking costs. Every request holds the whole conversation, so all that is done per request is
//! done over a text that grows: over a run it is quadratic, here and at the provider. This tells what of it is ours (the
//! fold of the events and the decision, with the copy of the conversation and the estimate of its size), beside what no
//! client gets round: writing each request down as JSON to send it.
//! Run with `cargo bench -p backstop-agent --bench long_run`.
#![expect(clippy::print_stdout, reason = "a benchmark tells what it measured")]

use backstop_agent::{Rules, RunState, Step, decide};
use backstop_call::{Block, Labels, Money, Priority, Request, StopReason, Timestamp, Usage};
use backstop_journal::event::{
    CallFinished, RunClaimed, RunCreated, RunLimits, ToolFinished, ToolPlanned, ToolStarted,
};
use backstop_journal::{Body, EventBody};
use backstop_label::Class;
use serde_json::json;
use std::hint::black_box;
use std::time::Duration;
use tokio::time::Instant;

const TURNS: u32 = 500;
const ROUNDS: usize = 3;
/// Bytes that a tool gives back: a file of some forty lines.
const RESULT_BYTES: usize = 2_000;
const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

fn created() -> EventBody {
    RunCreated {
        task: "t1".into(),
        role: "reader".into(),
        agent: "a".into(),
        agent_hash: String::new(),
        model: "m".into(),
        system: Body::from("Read every file and tell what is in it."),
        message: Body::from("Go on until all are read."),
        max_tokens: None,
        tools: vec!["read_file".into()],
        workspace: String::new(),
        limits: RunLimits { turns: u32::MAX, tokens: u64::MAX, ..RunLimits::default() },
        result_schema: None,
        priority: Priority::Standard,
        labels: Labels::default(),
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

/// One turn: the model reads a file, and the file comes back.
fn turn(n: u32) -> [EventBody; 4] {
    let id = format!("t{n}");
    let args = json!({"path": format!("chapter-{n}.md"), "offset": n});
    let said = [
        Block::text(format!("Chapter {n} is next; I read it before I go on with the list.")),
        Block::ToolUse { id: id.clone(), name: "read_file".into(), input: args.clone(), cache: None },
    ];
    let answered = CallFinished {
        call: "c".into(),
        turn: n,
        provider: "p".into(),
        model: "m".into(),
        content: Body::of(&said),
        stop: StopReason::ToolUse,
        usage: Usage { input_tokens: 10, output_tokens: 5, ..Usage::default() },
        cost: Money::ZERO,
        duration: Duration::ZERO,
        first_token: None,
        request_id: None,
        attempts: Vec::new().into(),
        labels: Labels::default(),
        asked: None,
        status: None,
    };
    let planned = ToolPlanned {
        id: id.clone(),
        tool: "read_file".into(),
        args: Body::of(&args),
        args_hash: None,
        class: Class::Read,
        key: None,
        plan: Body::default(),
        effect: None,
        preview: Body::default(),
        undo: Body::default(),
        asks: None,
        undoes: None,
        labels: Labels::default(),
    };
    let text = format!("{n}: the mast stood in the wind, and the sensor counted. ");
    let finished = ToolFinished {
        id: id.clone(),
        is_error: false,
        result: Body::from(text.repeat(RESULT_BYTES / text.len()).as_str()),
        whole: Body::default(),
        labels: Labels::default(),
        duration: Duration::ZERO,
        probed: false,
        spent: None,
    };
    [answered.into(), planned.into(), ToolStarted { id, attempt: 1, approval: None }.into(), finished.into()]
}

/// What the whole run took.
#[derive(Default)]
struct Took {
    deciding: Duration,
    copying: Duration,
    writing: Duration,
    bytes: usize,
}

fn run() -> Took {
    let mut state = RunState::default();
    let rules = Rules::default();
    let mut took = Took::default();
    state.take(NOW, &created());
    state.take(NOW, &RunClaimed { owner: "p1".into() }.into());
    for n in 1..=TURNS {
        let events = turn(n);
        let began = Instant::now();
        let request = match decide(&state, &rules, NOW) {
            Step::CallModel { request, .. } => request,
            other => unreachable!("turn {n} asks the model, and not {other:?}"),
        };
        for event in &events {
            state.take(NOW, event);
        }
        took.deciding += began.elapsed();

        let began = Instant::now();
        black_box(Request::clone(&request));
        took.copying += began.elapsed();

        let began = Instant::now();
        let written = serde_json::to_vec(&*request).expect("a request is JSON");
        took.writing += began.elapsed();
        took.bytes = written.len();
    }
    took
}

fn main() {
    println!("{TURNS} turns, {RESULT_BYTES} bytes each; over the whole run:");
    for round in 1..=ROUNDS {
        let Took { deciding, copying, writing, bytes } = run();
        println!(
            "round {round}  last request {bytes} bytes  fold and decide {deciding:.0?} ({:.0?} a turn), of which one copy \
             of each conversation {copying:.0?}  writing each request as JSON {writing:.0?}  ratio {:.2}",
            deciding / TURNS,
            deciding.as_secs_f64() / writing.as_secs_f64()
        );
    }
}
