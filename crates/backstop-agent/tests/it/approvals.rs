//! What asks a person, what they can say, and what a yes is good for: once, for these arguments, for what was shown, as long
//! as it stands, and as long as no rule forbids it.

use crate::kit::{
    LineArgs, LineTool, SECOND, agent, declared, file_tools, results, task, tool_use, turns, unsure,
};
use backstop_agent::run::{Answer, Reply, Rest};
use backstop_agent::tool::{ToolOutput, read_args};
use backstop_agent::{Agent, RunError, RunOutcome, RunState, Toolbox};
use backstop_call::{Block, Code, RunId};
use backstop_journal::event::{ApprovalDecision, ParkReason, RunCreated};
use backstop_journal::{EventBody, RunStatus, StreamId};
use backstop_label::{
    Action, Class, Condition, ConstraintText, Effect, Gate, Integrity, Pattern, Policy, Rights, RightsText,
};
use backstop_store::{MemoryStore, SqliteStore, StoreOptions};
use serde_json::json;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What a tool that reaches outside has sent.
type Sent = Arc<Mutex<Vec<String>>>;

fn sender(name: &'static str, class: Class, effect: Effect) -> (LineTool, Sent) {
    let sent = Sent::default();
    let keep = Arc::clone(&sent);
    let tool = LineTool {
        name,
        declaration: declared(class, effect),
        run: Box::new(move |job| {
            let args: LineArgs = read_args(&job.args).unwrap();
            keep.lock().unwrap().push(args.line);
            Box::pin(async { Ok(ToolOutput::text("sent")) })
        }),
        probe: unsure,
    };
    (tool, sent)
}

fn send(id: &str, line: &str) -> Block {
    tool_use(id, "send", json!({"line": line}))
}

fn finish() -> Vec<Block> {
    vec![tool_use("end", "finish", json!({"summary": "done"}))]
}

/// A run in which a model sends a line and finishes.
struct Desk {
    dir: tempfile::TempDir,
    agent: Agent,
    sent: Sent,
}

impl Desk {
    fn new(script: Vec<Vec<Block>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (tool, sent) = sender("send", Class::Irreversible, Effect::External);
        let mut tools = file_tools();
        tools.add(tool).unwrap();
        let agent = agent(turns(script), Arc::new(MemoryStore::new()), tools);
        Self { dir, agent, sent }
    }

    async fn start(&self) -> (RunId, RunOutcome) {
        let run =
            self.agent.create(task(self.dir.path(), &["send", "write_file", "read_file"])).await.unwrap();
        let outcome = self.agent.drive(&run).await.unwrap();
        (run, outcome)
    }

    async fn answer(
        &self,
        run: &RunId,
        outcome: &RunOutcome,
        answer: Answer<'_>,
    ) -> Result<RunOutcome, RunError> {
        let approval = outcome.questions[0].approval.as_str();
        self.agent.answer(run, Reply { approval, answer, by: "owner", channel: "terminal" }).await
    }

    fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }

    async fn told(&self, run: &RunId) -> Vec<String> {
        let events = self.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
        RunState::fold(&events).messages.iter().flat_map(results).collect()
    }

    async fn kinds(&self, run: &RunId) -> Vec<String> {
        let events = self.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
        let kinds = events.iter().map(|event| event.body.kind());
        kinds
            .filter(|kind| kind.starts_with("approval") || kind.starts_with("tool"))
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_asked_for_shown_given_and_used_up() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    assert_eq!((outcome.status, outcome.parked), (RunStatus::Parked, Some(ParkReason::Approval)));
    assert_eq!(outcome.code, Some(Code::ApprovalNeeded));
    let question = &outcome.questions[0];
    assert_eq!((question.tool.as_str(), &question.args), ("send", &json!({"line": "hello"})));
    assert_eq!(question.why, "it cannot be taken back");
    assert_eq!(outcome.until, Some(question.expires));
    assert!(desk.sent().is_empty(), "nothing happens before the yes");

    // Asking again changes nothing and asks nothing new.
    let still = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!(still.questions, outcome.questions);

    desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
    assert!(desk.sent().is_empty(), "an answer is no resume");
    let done = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!((done.status, desk.sent()), (RunStatus::Done, vec!["hello".to_owned()]));
    assert_eq!(
        desk.kinds(&run).await,
        [
            "tool.planned",
            "approval.requested",
            "approval.decided",
            "tool.planned",
            "tool.started",
            "tool.finished",
            "tool.planned",
            "tool.finished"
        ]
    );
    let events = desk.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let used = events.iter().find_map(|event| match &event.body {
        EventBody::ToolStarted(started) => started.approval.clone(),
        _ => None,
    });
    assert_eq!(
        used.as_ref(),
        Some(&question.approval),
        "the yes is used up in the commit that starts the call"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_counts_once() {
    for (first, want) in [(Answer::Approve, 1), (Answer::Deny("no"), 0)] {
        let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
        let (run, outcome) = desk.start().await;
        desk.answer(&run, &outcome, first).await.unwrap();
        for late in [Answer::Approve, Answer::Deny("changed my mind")] {
            let refused = desk.answer(&run, &outcome, late).await.unwrap_err();
            assert!(matches!(refused, RunError::NoSuchQuestion { found: 0, .. }), "{refused}");
        }
        let done = desk.agent.resume(&run, None).await.unwrap();
        assert_eq!((done.status, desk.sent().len()), (RunStatus::Done, want), "{first:?}");
        let late = desk.answer(&run, &outcome, Answer::Approve).await.unwrap_err();
        assert!(matches!(late, RunError::NoSuchQuestion { .. }), "also when the run is over: {late}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_no_tells_the_model_why() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    desk.answer(&run, &outcome, Answer::Deny("she is on holiday")).await.unwrap();
    assert_eq!(desk.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert!(desk.sent().is_empty());
    let told = desk.told(&run).await;
    assert!(
        told[0].starts_with("ERROR Refused by a person: she is on holiday. send was not called."),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_yes_with_other_arguments_is_checked_shown_and_told() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    let approval = outcome.questions[0].approval.clone();
    let bad = desk.agent.preview(&run, approval.as_str(), &json!({"lin": "x"})).await.unwrap_err();
    assert!(matches!(&bad, RunError::Edit(text) if text.contains("it takes `line` (required)")), "{bad}");
    let args = json!({"line": "good evening"});
    let preview = desk.agent.preview(&run, approval.as_str(), &args).await.unwrap();
    let edit = |args, hash| Answer::Edit { args, preview_hash: hash, reason: "it is late" };
    let stale = desk.answer(&run, &outcome, edit(&args, "0000")).await.unwrap_err();
    assert_eq!(stale.code(), Code::ApprovalVoid, "what was not shown is not approved");
    desk.answer(&run, &outcome, edit(&args, &preview.hash)).await.unwrap();
    assert_eq!(desk.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert_eq!(desk.sent(), ["good evening"]);
    let told = desk.told(&run).await.remove(0);
    assert!(
        told.contains(
            r#"owner changed the arguments of this call to {"line":"good evening"}, because: it is late."#
        ),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_answers_and_the_answer_is_no() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    tokio::time::advance(backstop_label::ASK_EXPIRES + SECOND).await;
    let late = desk.answer(&run, &outcome, Answer::Approve).await.unwrap_err();
    assert_eq!((late.code(), matches!(late, RunError::Expired { .. })), (Code::ApprovalVoid, true));
    let done = desk.agent.drive(&run).await.unwrap();
    assert_eq!((done.status, desk.sent().len()), (RunStatus::Done, 0));
    assert!(desk.told(&run).await[0].contains("nobody answered in time"));
    let events = desk.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let by = events.iter().find_map(|event| match &event.body {
        EventBody::ApprovalDecided(decided) => Some((decided.by.clone(), decided.channel.clone())),
        _ => None,
    });
    assert_eq!(by, Some(("backstop".to_owned(), "expiry".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_yes_that_waited_too_long_is_asked_for_again() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
    tokio::time::advance(backstop_label::ASK_EXPIRES + SECOND).await;
    let again = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!((again.status, desk.sent().len()), (RunStatus::Parked, 0));
    assert_eq!(again.questions[0].why, "the yes has expired; it cannot be taken back");
    assert_ne!(again.questions[0].approval, outcome.questions[0].approval);
}

/// A gate that asks before every write of a file.
fn ask_for_writes() -> Arc<Policy> {
    let gate = Gate {
        name: "careful".into(),
        tools: vec![Pattern::parse("write_*").unwrap()],
        classes: Vec::new(),
        effects: Vec::new(),
        when: None,
        labelled: false,
        then: Action::Ask,
        expires: Duration::from_hours(1),
    };
    Arc::new(Policy { gates: vec![gate], ..Policy::default() })
}

#[tokio::test(start_paused = true)]
async fn a_yes_is_good_for_what_was_shown_and_nothing_else() {
    let write = tool_use("w", "write_file", json!({"path": "notes.md", "content": "new\n"}));
    let mut desk = Desk::new(vec![vec![write], finish()]);
    desk.agent.policy = ask_for_writes();
    let notes = desk.dir.path().join("notes.md");
    std::fs::write(&notes, "old\n").unwrap();
    let (run, outcome) = desk.start().await;
    let question = &outcome.questions[0];
    assert_eq!(question.preview, "change notes.md\n@@ -1 +1 @@\n-old\n+new\n");
    assert!(question.reversible);
    desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
    std::fs::write(&notes, "somebody else's\n").unwrap();
    let again = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "somebody else's\n");
    let question = &again.questions[0];
    assert_eq!(question.why, "what it would do has changed since the yes; the rule `careful` asks");
    assert_eq!(question.preview, "change notes.md\n@@ -1 +1 @@\n-somebody else's\n+new\n");
    desk.answer(&run, &again, Answer::Approve).await.unwrap();
    assert_eq!(desk.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert_eq!(std::fs::read_to_string(&notes).unwrap(), "new\n");
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_now_forbids_it_beats_the_yes() {
    let forbid = Gate {
        name: "no sending".into(),
        tools: vec![Pattern::parse("send").unwrap()],
        classes: Vec::new(),
        effects: Vec::new(),
        when: None,
        labelled: false,
        then: Action::Deny,
        expires: Duration::from_hours(1),
    };
    let lacking = |constraint: ConstraintText| {
        let rights = RightsText([("send".to_owned(), constraint)].into());
        Policy { roles: [("writer".to_owned(), Rights::parse(&rights).unwrap())].into(), ..Policy::default() }
    };
    let short = ConstraintText { when: Some("size(args.line) < 3".into()), ..ConstraintText::default() };
    for policy in [Policy { gates: vec![forbid], ..Policy::default() }, lacking(short)] {
        let mut desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
        let (run, outcome) = desk.start().await;
        desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
        desk.agent.policy = Arc::new(policy);
        assert_eq!(desk.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
        assert!(desk.sent().is_empty());
        assert!(desk.told(&run).await[0].starts_with("ERROR Refused: send may not be called like this: "));
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_together_is_shown_together_and_done_in_order() {
    let write = tool_use("w", "write_file", json!({"path": "after.md", "content": "x"}));
    let desk = Desk::new(vec![vec![send("a", "one"), send("b", "two"), write], finish()]);
    let (run, outcome) = desk.start().await;
    let asked: Vec<_> = outcome.questions.iter().map(|question| question.call.as_str()).collect();
    assert_eq!(asked, ["a", "b"]);
    assert!(!desk.dir.path().join("after.md").exists(), "what the model wants after it waits for it");
    // The second is answered first, and waits for its turn.
    let second = outcome.questions[1].approval.as_str();
    let reply = Reply { approval: second, answer: Answer::Approve, by: "owner", channel: "terminal" };
    desk.agent.answer(&run, reply).await.unwrap();
    let waiting = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!((waiting.status, desk.sent().len()), (RunStatus::Parked, 0));
    desk.answer(&run, &waiting, Answer::Approve).await.unwrap();
    assert_eq!(desk.agent.resume(&run, None).await.unwrap().status, RunStatus::Done);
    assert_eq!(desk.sent(), ["one", "two"]);
    assert!(desk.dir.path().join("after.md").exists());
}

#[tokio::test(start_paused = true)]
async fn a_question_survives_its_process_and_holds_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (work, journal) = (dir.path().join("work"), dir.path().join("journal.db"));
    std::fs::create_dir(&work).unwrap();
    let open = || {
        let (tool, sent) = sender("send", Class::Irreversible, Effect::External);
        let mut tools = Toolbox::new();
        tools.add(tool).unwrap();
        let store = SqliteStore::open(journal.clone(), StoreOptions::default()).unwrap();
        (agent(turns(vec![vec![send("a", "hello")], finish()]), Arc::new(store), tools), sent)
    };
    let run = {
        let (agent, _) = open();
        let run = agent.create(task(&work, &["send"])).await.unwrap();
        agent.drive(&run).await.unwrap();
        run
    };
    {
        let (agent, sent) = open();
        let outcome = agent.inspect(&run).await.unwrap();
        let approval = outcome.questions[0].approval.as_str();
        agent
            .answer(&run, Reply { approval, answer: Answer::Approve, by: "owner", channel: "api" })
            .await
            .unwrap();
        assert!(sent.lock().unwrap().is_empty());
    }
    let (agent, sent) = open();
    assert_eq!(agent.drive(&run).await.unwrap().status, RunStatus::Done);
    assert_eq!(*sent.lock().unwrap(), ["hello"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_role_lacks_its_model_never_sees() {
    let mut desk = Desk::new(vec![
        vec![send("a", "hello"), tool_use("w", "write_file", json!({"path": "src/a", "content": "x"}))],
        vec![tool_use("v", "write_file", json!({"path": "docs/a", "content": "x"}))],
        finish(),
    ]);
    let constraint =
        ConstraintText { args: [("path".to_owned(), vec!["docs/**".to_owned()])].into(), when: None };
    let rights = RightsText(
        [("write_file".to_owned(), constraint), ("read_*".to_owned(), ConstraintText::default())].into(),
    );
    desk.agent.policy = Arc::new(Policy {
        roles: [("writer".to_owned(), Rights::parse(&rights).unwrap())].into(),
        ..Policy::default()
    });
    let (run, outcome) = desk.start().await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = desk.told(&run).await;
    assert_eq!(told[0], "ERROR There is no tool `send`. Use one of: write_file, read_file, finish.");
    assert!(told[1].contains("`path` may be `docs/**`, and is `src/a`"), "{}", told[1]);
    assert!(told[2].starts_with("Wrote docs/a"), "{}", told[2]);
    assert!(desk.sent().is_empty() && !desk.dir.path().join("src").exists());
    let events = desk.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let EventBody::RunCreated(created) = &events[0].body else { panic!("the first event creates the run") };
    assert_eq!(created.bounds, [rights], "what the role may do later can only narrow what the run may do");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_done_is_not_even_worked_out() {
    // The file's lines, or its absence, would be told by an edit that does not fit.
    let edit = |path: &str| {
        vec![tool_use(path, "edit_file", json!({"path": path, "old_text": "nowhere", "new_text": "x"}))]
    };
    let mut desk = Desk::new(vec![edit("secret"), edit("none"), finish()]);
    std::fs::write(desk.dir.path().join("secret"), "the line that is no business of this role\n").unwrap();
    let constraint =
        ConstraintText { args: [("path".to_owned(), vec!["docs/**".to_owned()])].into(), when: None };
    let bound = RightsText([("edit_file".to_owned(), constraint)].into());
    desk.agent.policy = Arc::default();
    let created = RunCreated { bounds: vec![bound], ..task(desk.dir.path(), &["edit_file"]) };
    let run = desk.agent.create(created).await.unwrap();
    desk.agent.drive(&run).await.unwrap();
    let told = desk.told(&run).await;
    for (path, said) in ["secret", "none"].iter().zip(&told) {
        let want = format!(
            "ERROR Refused: edit_file may not be called like this: `path` may be `docs/**`, and is `{path}`."
        );
        assert!(said.starts_with(&want), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_rights_of_those_above_bound_a_run() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let bound = |tool: &str| RightsText([(tool.to_owned(), ConstraintText::default())].into());
    let created =
        RunCreated { bounds: vec![bound("send"), bound("read_file")], ..task(desk.dir.path(), &["send"]) };
    let run = desk.agent.create(created).await.unwrap();
    let outcome = desk.agent.drive(&run).await.unwrap();
    assert_eq!((outcome.status, desk.sent().len()), (RunStatus::Done, 0));
    assert_eq!(desk.told(&run).await[0], "ERROR There is no tool `send`. Use one of: finish.");
}

#[tokio::test(start_paused = true)]
async fn what_reaches_outside_after_something_untrusted_was_read_asks() {
    let dir = tempfile::tempdir().unwrap();
    let (web, _) = sender("web", Class::Read, Effect::External);
    let (mut page, _) = sender("page", Class::Read, Effect::Read);
    page.declaration.integrity = Integrity::Untrusted;
    let mut tools = Toolbox::new();
    tools.add(web).unwrap().add(page).unwrap();
    let line = |id: &str, tool: &str| vec![tool_use(id, tool, json!({"line": "x"}))];
    let model = turns(vec![line("a", "web"), line("b", "page"), line("c", "web"), finish()]);
    let agent = agent(model, Arc::new(MemoryStore::new()), tools);
    let run = agent.create(task(dir.path(), &["web", "page"])).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    let asked: Vec<_> =
        outcome.questions.iter().map(|open| (open.call.as_str(), open.why.as_str())).collect();
    assert_eq!(asked, [("c", "it reaches outside, and what decided it is untrusted or private")]);
    assert!(outcome.questions[0].labels.untrusted, "the card says where it came from");
}

#[tokio::test(start_paused = true)]
async fn a_gate_with_a_condition_lets_small_things_by() {
    let small = Gate {
        name: "short lines".into(),
        tools: vec![Pattern::parse("send").unwrap()],
        classes: Vec::new(),
        effects: Vec::new(),
        when: Some(Condition::parse("size(args.line) <= 3").unwrap()),
        labelled: false,
        then: Action::Allow,
        expires: Duration::from_hours(1),
    };
    let mut desk = Desk::new(vec![vec![send("a", "hi")], vec![send("b", "hello")], finish()]);
    desk.agent.policy = Arc::new(Policy { gates: vec![small], ..Policy::default() });
    let (_, outcome) = desk.start().await;
    assert_eq!((desk.sent(), outcome.questions[0].call.as_str()), (vec!["hi".to_owned()], "b"));
}

#[tokio::test(start_paused = true)]
async fn every_decision_is_in_the_audit() {
    let desk = Desk::new(vec![vec![send("a", "hello")], finish()]);
    let (run, outcome) = desk.start().await;
    desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
    let events = desk.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let decided = events.iter().find_map(|event| match &event.body {
        EventBody::ApprovalDecided(decided) => Some(decided.clone()),
        _ => None,
    });
    let decided = decided.unwrap();
    assert_eq!(
        (decided.by.as_str(), decided.channel.as_str(), &decided.decision),
        ("owner", "terminal", &ApprovalDecision::Approve)
    );
    let rows = backstop_journal::projections::audit::rows(&events);
    let told: Vec<_> =
        rows.iter().filter(|row| row.what.starts_with("approval")).map(|row| &row.detail).collect();
    let approval = &outcome.questions[0].approval;
    assert!(told[0].starts_with(&format!("{approval}: it cannot be taken back, until ")), "{told:?}");
    assert_eq!(*told[1], format!("{approval}: yes, by terminal"));
}

/// A desk whose model sends these lines, one a turn.
fn sending(lines: &[&str]) -> Desk {
    let mut script: Vec<_> =
        (0..).zip(lines).map(|(turn, line)| vec![send(&format!("s{turn}"), line)]).collect();
    script.push(finish());
    Desk::new(script)
}

/// The rights of the roles stay what they are: a grant answers questions, and nothing else.
#[tokio::test(start_paused = true)]
async fn a_grant_answers_so_many_calls_of_its_kind_and_no_more() {
    let desk = sending(&["a", "b", "c", "d"]);
    let (run, outcome) = desk.start().await;
    let approval = outcome.questions[0].approval.as_str();
    let rest = Rest { uses: 2, span: Duration::from_hours(1), agent: false };
    let grant = desk.agent.grant(&run, approval, &rest, ("owner", "terminal")).await.unwrap();
    desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
    let outcome = desk.agent.resume(&run, None).await.unwrap();
    assert_eq!(desk.sent(), ["a", "b", "c"], "one by the yes, two by the grant");
    assert_eq!(outcome.questions[0].args, json!({"line": "d"}));
    let grants = desk.agent.grants().await.unwrap();
    assert_eq!(grants.0[&grant.grant].left(), 0);
    let events = desk.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap();
    let by: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ApprovalDecided(decided) => Some((decided.channel.as_str(), decided.grant.is_some())),
            _ => None,
        })
        .collect();
    assert_eq!(by, [("terminal", false), ("grant", true), ("grant", true)]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_ends_by_time_by_word_and_at_its_kind() {
    let rest = Rest { uses: 9, span: Duration::from_mins(5), agent: false };
    // What ends it, and what is asked then.
    for ended in ["nothing", "time", "word"] {
        let desk = sending(&["a", "b"]);
        let (run, outcome) = desk.start().await;
        let approval = outcome.questions[0].approval.as_str();
        let grant = desk.agent.grant(&run, approval, &rest, ("owner", "terminal")).await.unwrap();
        desk.answer(&run, &outcome, Answer::Approve).await.unwrap();
        match ended {
            "time" => tokio::time::advance(Duration::from_mins(5)).await,
            "word" => desk.agent.revoke(&grant.grant, ("owner", "terminal")).await.unwrap(),
            _ => {}
        }
        let outcome = desk.agent.resume(&run, None).await.unwrap();
        let want = if ended == "nothing" { RunStatus::Done } else { RunStatus::Parked };
        assert_eq!(outcome.status, want, "{ended}");
    }
    // The line is an argument whose role is not declared: whoever it goes to, it is that one and no other.
    let dir = tempfile::tempdir().unwrap();
    let (mut tool, sent) = sender("send", Class::Irreversible, Effect::External);
    tool.declaration.args.clear();
    let mut tools = Toolbox::new();
    tools.add(tool).unwrap();
    let script = vec![vec![send("a", "x@one")], vec![send("b", "x@one")], vec![send("c", "x@two")], finish()];
    let agent = agent(turns(script), Arc::new(MemoryStore::new()), tools);
    let run = agent.create(task(dir.path(), &["send"])).await.unwrap();
    let outcome = agent.drive(&run).await.unwrap();
    let approval = outcome.questions[0].approval.to_string();
    agent.grant(&run, &approval, &rest, ("owner", "terminal")).await.unwrap();
    let reply = Reply { approval: &approval, answer: Answer::Approve, by: "owner", channel: "terminal" };
    agent.answer(&run, reply).await.unwrap();
    let outcome = agent.resume(&run, None).await.unwrap();
    assert_eq!(*sent.lock().unwrap(), ["x@one", "x@one"]);
    assert_eq!(outcome.questions[0].args, json!({"line": "x@two"}));
}

#[tokio::test(start_paused = true)]
async fn where_a_rule_looks_at_paths_no_link_leads_elsewhere() {
    let write = |id: &str| tool_use(id, "write_file", json!({"path": "docs/up/secret", "content": "x"}));
    for (constrained, want) in [(false, "x"), (true, "old")] {
        let mut desk = Desk::new(vec![vec![write("w")], finish()]);
        std::fs::create_dir(desk.dir.path().join("docs")).unwrap();
        std::os::unix::fs::symlink("..", desk.dir.path().join("docs/up")).unwrap();
        std::fs::write(desk.dir.path().join("secret"), "old").unwrap();
        if constrained {
            let constraint =
                ConstraintText { args: [("path".to_owned(), vec!["docs/**".to_owned()])].into(), when: None };
            let rights = Rights::parse(&RightsText([("write_file".to_owned(), constraint)].into())).unwrap();
            desk.agent.policy =
                Arc::new(Policy { roles: [("writer".to_owned(), rights)].into(), ..Policy::default() });
        }
        let (_, outcome) = desk.start().await;
        assert_eq!(outcome.status, RunStatus::Done);
        assert_eq!(std::fs::read_to_string(desk.dir.path().join("secret")).unwrap(), want);
    }
}
