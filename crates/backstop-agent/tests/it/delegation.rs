//! Runs that do parts for other runs: they can do nothing that these could not, spend nothing that these have not, wait and end
//! with them, and are taken back with them.

use crate::kit::{
    LineArgs, LineTool, Script, Watched, agent, declared, file_tools, results, spoken, task, tool_use, turns,
    unsure,
};
use backstop_agent::run::{Answer, Reply};
use backstop_agent::tool::{ToolError, ToolOutput, read_args};
use backstop_agent::tools::{Delegate, SubmitTask};
use backstop_agent::{
    Agent, AgentConfig, DELEGATE, Delegation, RunError, RunOutcome, RunState, Template, child_of,
};
use backstop_call::{Block, Labels, Request, RunId, StopReason};
use backstop_journal::event::{ParkReason, RunCreated};
use backstop_journal::{EventBody, JournalError, RunFilter, RunStatus, StreamId};
use backstop_label::{Class, Effect, Integrity, Policy, Rights};
use backstop_store::MemoryStore;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What each agent does, turn by turn, by its name.
pub(crate) type Cast = Vec<(&'static str, Vec<Vec<Block>>)>;

/// The model of a cast: each agent asks the model of its own name.
pub(crate) fn cast(cast: Cast) -> Arc<Script> {
    let cast: BTreeMap<_, _> = cast.into_iter().map(|(name, script)| (name, turns(script))).collect();
    Arc::new(Script(Box::new(move |request: &Request| (cast[request.model.as_str()].0)(request))))
}

/// What a run of an agent is made from.
pub(crate) fn template(name: &str, tools: &[&str]) -> Template {
    let run = RunCreated {
        agent: name.into(),
        role: name.into(),
        model: name.into(),
        ..task(Path::new("/"), tools)
    };
    Template { about: format!("does what a {name} does"), run }
}

/// Gives an agent others that it may give parts to.
pub(crate) fn among(agent: Agent, agents: &[(&str, &[&str])]) -> Agent {
    let agents = agents.iter().map(|(name, tools)| ((*name).into(), template(name, tools)));
    let delegation = Delegation { agents: agents.collect(), ..Delegation::default() };
    let mut tools = agent.tools;
    tools.add(Delegate::to(delegation.told())).unwrap().add(SubmitTask::to(delegation.told())).unwrap();
    Agent { tools, config: AgentConfig { delegation, ..agent.config }, ..agent }
}

pub(crate) fn part(id: &str, agent: &str, what: &str) -> Block {
    tool_use(id, DELEGATE, json!({"agent": agent, "task": what}))
}

pub(crate) fn write(id: &str, path: &str, content: &str) -> Block {
    tool_use(id, "write_file", json!({"path": path, "content": content}))
}

pub(crate) fn send(id: &str, line: &str) -> Block {
    tool_use(id, "send", json!({"line": line}))
}

pub(crate) fn end(summary: &str) -> Vec<Block> {
    vec![tool_use("end", "finish", json!({"summary": summary}))]
}

pub(crate) struct House {
    dir: tempfile::TempDir,
    pub(crate) agent: Agent,
    sent: Arc<Mutex<Vec<String>>>,
}

const LEAD: [&str; 8] =
    [DELEGATE, "read_file", "write_file", "edit_file", "move_file", "delete_file", "send", "fetch"];
const WRITER: &[&str] = &["read_file", "write_file", "send", "fetch", DELEGATE];

impl House {
    /// A lead, a writer and a reader.
    pub(crate) fn new(script: Cast) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let sent: Arc<Mutex<Vec<String>>> = Arc::default();
        let keep = Arc::clone(&sent);
        let line = |name, class, effect, run| LineTool {
            name,
            declaration: declared(class, effect),
            run,
            probe: unsure,
        };
        let sends = line(
            "send",
            Class::Irreversible,
            Effect::External,
            Box::new(move |job| {
                let args: LineArgs = read_args(&job.args).unwrap();
                keep.lock().unwrap().push(args.line.clone());
                Box::pin(async move {
                    match args.line.as_str() {
                        "lost" => Err(ToolError::Unknown("the line went dead".into())),
                        _ => Ok(ToolOutput::text("sent")),
                    }
                })
            }),
        );
        let mut fetches = line(
            "fetch",
            Class::Read,
            Effect::External,
            Box::new(|_| Box::pin(async { Ok(ToolOutput::text("from the web")) })),
        );
        fetches.declaration.integrity = Integrity::Untrusted;
        let mut tools = file_tools();
        tools.add(sends).unwrap().add(fetches).unwrap();
        let mut agent = agent(cast(script), Arc::new(MemoryStore::new()), tools);
        agent.config = AgentConfig { copies: Some(dir.path().join("copies")), ..agent.config };
        let agent = among(agent, &[("lead", &LEAD), ("writer", WRITER), ("reader", &["read_file"])]);
        Self { dir, agent, sent }
    }

    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn copies(&self) -> PathBuf {
        self.dir.path().join("copies")
    }

    pub(crate) fn read(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.work().join(name)).ok()
    }

    pub(crate) fn lead(&self) -> RunCreated {
        RunCreated { workspace: self.work().to_str().unwrap().into(), ..template("lead", &LEAD).run }
    }

    pub(crate) async fn start(&self) -> (RunId, RunOutcome) {
        self.start_as(self.lead()).await
    }

    pub(crate) async fn start_as(&self, created: RunCreated) -> (RunId, RunOutcome) {
        let run = self.agent.create(created).await.unwrap();
        let outcome = self.agent.drive(&run).await.unwrap();
        (run, outcome)
    }

    pub(crate) async fn state(&self, run: &RunId) -> RunState {
        self.agent.journal.verify(&StreamId::Run(run.clone())).await.unwrap();
        RunState::fold(&self.agent.journal.read(&StreamId::Run(run.clone()), 0).await.unwrap())
    }

    pub(crate) async fn told(&self, run: &RunId) -> Vec<String> {
        self.state(run).await.messages.iter().flat_map(results).collect()
    }

    pub(crate) async fn runs(&self) -> Vec<(String, RunStatus)> {
        let runs = self.agent.journal.runs(RunFilter::default()).await.unwrap();
        let mut runs: Vec<_> = runs.into_iter().map(|run| (run.run, run.agent, run.status)).collect();
        runs.sort();
        runs.into_iter().map(|(_, agent, status)| (agent.to_string(), status)).collect()
    }

    pub(crate) async fn answer(
        &self,
        outcome: &RunOutcome,
        answer: Answer<'_>,
    ) -> Result<RunOutcome, RunError> {
        let question = &outcome.questions[0];
        let approval = question.approval.as_str();
        let reply = Reply { approval, answer, by: "owner", channel: "terminal" };
        self.agent.answer(&question.run, reply).await
    }

    pub(crate) fn sent(&self) -> Vec<String> {
        self.sent.lock().unwrap().clone()
    }
}

#[tokio::test(start_paused = true)]
async fn another_agent_does_a_part_and_its_result_comes_back() {
    let house = House::new(vec![
        (
            "lead",
            vec![
                vec![part("p1", "writer", "Write a.md.")],
                vec![tool_use("r", "read_file", json!({"path": "a.md"}))],
                end("all"),
            ],
        ),
        ("writer", vec![vec![write("w1", "a.md", "one\n")], end("wrote a.md")]),
    ]);
    let (run, outcome) = house.start().await;
    assert_eq!((outcome.status, outcome.message.as_str()), (RunStatus::Done, "all"));
    assert_eq!(house.told(&run).await, ["wrote a.md", "one\n", "The run is finished."]);
    let child = child_of(&run, "p1");
    let state = house.state(&child).await;
    let created = state.created.clone().unwrap();
    assert_eq!(
        (created.parent.as_ref(), created.message.read()),
        (Some(&run), Some("Write a.md.".to_owned()))
    );
    assert_eq!((created.task, created.workspace), (house.lead().task, house.lead().workspace));
    assert_eq!(created.tools, WRITER, "the lead has them all");
    // 3 turns of the lead and 2 of the writer, each of 10 and 5 tokens.
    assert_eq!((outcome.usage.input_tokens, outcome.usage.output_tokens, outcome.turns), (50, 25, 3));
    assert_eq!(state.spent(), house.state(&run).await.given_out);
}

#[tokio::test(start_paused = true)]
async fn what_it_did_not_do_is_said_and_the_lead_goes_on() {
    let fail = vec![tool_use("end", "finish", json!({"summary": "no pen", "failed": true}))];
    let left = "What it had changed is as it left it; look at it, then do the rest another way.";
    let rows: [(Vec<Vec<Block>>, String); 2] = [
        (
            vec![vec![write("w1", "a.md", "half\n")], fail],
            format!("ERROR `writer` did not do it: no pen. {left}"),
        ),
        (
            vec![vec![write("w1", "a.md", "half\n")]; 60],
            format!(
                "ERROR `writer` stopped before it was done: write_file was called again and again with the same arguments. {left}"
            ),
        ),
    ];
    for (writer, want) in rows {
        let house = House::new(vec![
            ("lead", vec![vec![part("p1", "writer", "x")], end("without")]),
            ("writer", writer),
        ]);
        let (run, outcome) = house.start().await;
        assert_eq!(outcome.status, RunStatus::Done);
        assert_eq!(house.told(&run).await[0], want);
        assert!(
            house.state(&child_of(&run, "p1")).await.status.is_final(),
            "nobody goes on with it behind its parent"
        );
        assert!(matches!(house.agent.resume(&child_of(&run, "p1"), None).await, Err(RunError::Over { .. })));
        // What it had changed is taken back with the rest.
        house.agent.undo(&run, None).await.unwrap();
        assert_eq!(house.read("a.md"), None);
    }
}

pub(crate) fn rights(text: Value) -> Rights {
    Rights::parse(&serde_json::from_value(text).unwrap()).unwrap()
}

/// What the lead may do, what the writer's tools come to, how its two writes end, what is written.
type Row = (Option<Rights>, &'static [&'static str], [&'static str; 2], [bool; 2]);

#[tokio::test(start_paused = true)]
async fn no_agent_reaches_more_through_another_than_it_could_itself() {
    let all = || rights(json!({"*": {}}));
    let docs = json!({"delegate": {}, "write_file": {"args": {"path": ["docs/**"]}}});
    let only_readers = json!({"delegate": {"args": {"agent": ["reader"]}}, "write_file": {}});
    let forbidden =
        "Refused: write_file may not be called like this: `path` may be `docs/**`, and is `src/a`.";
    let lacks = "There is no tool `write_file`.";
    let rows: [Row; 4] = [
        (Some(all()), WRITER, ["Wrote src/a", "Wrote docs/a"], [true, true]),
        (Some(rights(docs)), &["write_file", DELEGATE], [forbidden, "Wrote docs/a"], [false, true]),
        (
            Some(rights(json!({"delegate": {}, "read_file": {}}))),
            &["read_file", DELEGATE],
            [lacks; 2],
            [false; 2],
        ),
        // A role without rights may use what its agent lists, and hands on no more.
        (None, &["read_file", DELEGATE], [lacks; 2], [false; 2]),
    ];
    for (lead, want_tools, want_told, want_files) in rows {
        let mut house = House::new(vec![
            ("lead", vec![vec![part("p1", "writer", "x")], end("done")]),
            ("writer", vec![vec![write("w1", "src/a", "a")], vec![write("w2", "docs/a", "a")], end("done")]),
        ]);
        let roles = lead.clone().into_iter().map(|rights| ("lead".to_owned(), rights));
        house.agent.policy = Arc::new(Policy {
            roles: roles.chain([("writer".to_owned(), all())]).collect(),
            gates: Vec::new(),
        });
        let created = RunCreated { tools: vec![DELEGATE.into(), "read_file".into()], ..house.lead() };
        let (run, _) = house.start_as(created).await;
        let child = house.state(&child_of(&run, "p1")).await;
        assert_eq!(child.created.unwrap().tools, want_tools, "{lead:?}");
        let told = house.told(&child_of(&run, "p1")).await;
        for (told, want) in told.iter().zip(want_told) {
            assert!(told.trim_start_matches("ERROR ").starts_with(want), "{told} {want}");
        }
        assert_eq!(["src/a", "docs/a"].map(|name| house.read(name).is_some()), want_files, "{lead:?}");
    }
    // Who may be given parts is an argument like any other, and nobody hears of the rest.
    let told = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&told);
    let mut house = House::new(vec![("lead", Vec::new())]);
    house.agent.model = Arc::new(Script(Box::new(move |request| {
        let tool = request.tools.iter().find(|tool| tool.name == DELEGATE).unwrap();
        heard.lock().unwrap().push(tool.schema["properties"]["agent"]["enum"].clone());
        let turn = [vec![part("p1", "writer", "x")], end("done")][spoken(request)].clone();
        Ok((turn, StopReason::ToolUse))
    })));
    house.agent.policy =
        Arc::new(Policy { roles: [("lead".to_owned(), rights(only_readers))].into(), gates: Vec::new() });
    let (run, _) = house.start().await;
    assert_eq!(told.lock().unwrap()[0], json!(["reader"]));
    let want =
        "ERROR Refused: delegate may not be called like this: `agent` may be `reader`, and is `writer`.";
    assert!(house.told(&run).await[0].starts_with(want));
    assert_eq!(house.runs().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_bounds_the_lead_bounds_those_below_its_parts_too() {
    // Each may do everything but the lead, and each gives the whole to the next.
    let mut house = House::new(vec![
        ("lead", vec![vec![part("p1", "writer", "x")], end("done")]),
        ("writer", vec![vec![part("p2", "reader", "x")], end("done")]),
        ("reader", vec![vec![write("w1", "src/a", "a")], end("done")]),
    ]);
    let all = rights(json!({"*": {}}));
    let lead = rights(json!({"delegate": {}, "write_file": {"args": {"path": ["docs/**"]}}}));
    let roles =
        [("lead", lead), ("writer", all.clone()), ("reader", all)].map(|(name, it)| (name.to_owned(), it));
    house.agent.policy = Arc::new(Policy { roles: roles.into(), gates: Vec::new() });
    house.agent.config.delegation.agents.get_mut(&"reader".into()).unwrap().run.tools =
        vec!["write_file".into()];
    let (run, _) = house.start().await;
    let told = house.told(&child_of(&child_of(&run, "p1"), "p2")).await;
    assert!(told[0].contains("`path` may be `docs/**`, and is `src/a`"), "{told:?}");
    assert_eq!(house.read("src/a"), None);
}

#[tokio::test(start_paused = true)]
async fn what_a_part_has_read_labels_what_it_says() {
    let house = House::new(vec![
        (
            "lead",
            vec![
                vec![part("p1", "writer", "x")],
                vec![tool_use("f", "fetch", json!({"line": "two"}))],
                end("done"),
            ],
        ),
        ("writer", vec![vec![tool_use("f", "fetch", json!({"line": "one"}))], end("it says so")]),
    ]);
    let (run, outcome) = house.start().await;
    assert!(house.state(&run).await.labels().untrusted);
    assert_eq!(outcome.parked, Some(ParkReason::Approval), "the lead was told by who has read the web");
    let why = "it reaches outside, and what decided it is untrusted or private";
    assert_eq!((outcome.questions[0].why.as_str(), &outcome.questions[0].run), (why, &run));
    // And the other way round: what the lead knows, it hands on.
    let house = House::new(vec![
        ("lead", vec![vec![part("p1", "reader", "x")], end("done")]),
        ("reader", vec![end("read")]),
    ]);
    let (run, _) = house.start_as(RunCreated { labels: Labels::untrusted(), ..house.lead() }).await;
    assert!(house.state(&child_of(&run, "p1")).await.labels().untrusted);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_cannot_be_had_is_said_to_be_not_there() {
    let mut house = House::new(vec![(
        "lead",
        vec![vec![part("p1", "writer", "x")], vec![part("p2", "nobody", "x")], end("done")],
    )]);
    house.agent.config.delegation.agents.get_mut(&"writer".into()).unwrap().run.tools.push("pray".into());
    let roles = [("lead".to_owned(), rights(json!({"*": {}})))].into();
    house.agent.policy = Arc::new(Policy { roles, gates: Vec::new() });
    let (run, outcome) = house.start().await;
    assert_eq!(outcome.status, RunStatus::Done);
    let told = house.told(&run).await;
    assert!(
        told[0].starts_with("ERROR This part cannot be given out: there is no tool `pray`"),
        "{}",
        told[0]
    );
    assert!(told[1].contains("\"nobody\" is not one of"), "{}", told[1]);
    assert_eq!(house.runs().await.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_part_that_a_crash_cut_off_before_it_began_is_begun_once() {
    let mut house = House::new(vec![
        ("lead", vec![vec![part("p1", "writer", "x")], end("done")]),
        ("writer", vec![vec![write("w1", "a.md", "one\n")], end("written")]),
    ]);
    let inner = Arc::clone(&house.agent.journal);
    let run = house.agent.create(house.lead()).await.unwrap();
    for number in 1..40 {
        let mut journal = Watched::new(Arc::clone(&inner));
        journal.before = Box::new(move |at, _| (at == number).then(|| JournalError::Unusable("gone".into())));
        house.agent.journal = Arc::new(journal);
        let outcome = house.agent.drive(&run).await;
        house.agent.journal = Arc::clone(&inner);
        // Each drive gets one append further at most.
        if outcome.is_ok_and(|outcome| outcome.status == RunStatus::Done) {
            break;
        }
    }
    assert_eq!(
        house.runs().await,
        [("lead".to_owned(), RunStatus::Done), ("writer".to_owned(), RunStatus::Done)]
    );
    let starts = |events: Vec<backstop_journal::Event>| {
        events.into_iter().filter(|event| matches!(&event.body, EventBody::ToolStarted(_))).count()
    };
    for run in [run.clone(), child_of(&run, "p1")] {
        assert_eq!(starts(inner.read(&StreamId::Run(run.clone()), 0).await.unwrap()), 1, "{run}");
    }
}
