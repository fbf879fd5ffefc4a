//! Whole conversations: an executor over a map of files plays the agent's tools until the model is done.

use super::*;
use backstop_call::{Message, ToolSpec};
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write;

type Files = BTreeMap<String, String>;

/// The tools as an agent offers them.
fn tools() -> Vec<ToolSpec> {
    let tool = |name: &str, properties: Value, required: Value| ToolSpec {
        name: name.into(),
        description: String::new(),
        schema: json!({"type": "object", "properties": properties, "required": required}),
        other: Map::new(),
    };
    let text = || json!({"type": "string"});
    vec![
        tool("list_files", json!({"path": text()}), json!([])),
        tool("read_file", json!({"path": text()}), json!(["path"])),
        tool("search_files", json!({"pattern": text(), "path": text()}), json!(["pattern"])),
        tool("write_file", json!({"path": text(), "content": text()}), json!(["path", "content"])),
        tool(
            "edit_file",
            json!({"path": text(), "old": text(), "new": text()}),
            json!(["path", "old", "new"]),
        ),
        tool(
            "finish",
            json!({"summary": text(), "status": {"enum": ["done", "failed"]}, "result": {"type": "object"}}),
            json!(["summary"]),
        ),
    ]
}

fn execute(files: &mut Files, name: &str, input: &Value) -> Result<String, String> {
    let arg = |key: &str| input.get(key).and_then(Value::as_str).unwrap_or_default();
    let path = arg("path");
    let inside = |file: &str| path.is_empty() || file.starts_with(&format!("{path}/"));
    match name {
        "list_files" => {
            let found: Vec<&str> = files.keys().map(String::as_str).filter(|file| inside(file)).collect();
            if found.is_empty() { Err(format!("no such directory: {path}")) } else { Ok(found.join("\n")) }
        }
        "read_file" => {
            files.get(path).cloned().ok_or_else(|| format!("File not found: {path}. Verify the path"))
        }
        "search_files" => {
            let mut out = String::new();
            for (file, content) in files.iter().filter(|(file, _)| inside(file)) {
                for (at, line) in
                    content.lines().enumerate().filter(|(_, line)| line.contains(arg("pattern")))
                {
                    writeln!(out, "{file}:{}: {line}", at + 1).unwrap();
                }
            }
            Ok(out)
        }
        "write_file" => {
            files.insert(path.into(), arg("content").into());
            Ok(format!("wrote {path}"))
        }
        "edit_file" => {
            let content = files.get_mut(path).ok_or_else(|| format!("File not found: {path}"))?;
            if content.matches(arg("old")).count() != 1 {
                return Err("the text to replace must occur exactly once".into());
            }
            *content = content.replace(arg("old"), arg("new"));
            Ok("edited".into())
        }
        "git_status" => {
            Ok(files.keys().fold("## main\n".to_owned(), |said, path| said + &format!("?? {path}\n")))
        }
        "submit_task" | "delegate" | "send_email" | "git_commit" | "git_push" => Ok("done".into()),
        other => Err(format!("there is no tool {other}")),
    }
}

/// How a conversation went.
#[derive(Debug, Clone, PartialEq)]
struct Story {
    files: Files,
    calls: Vec<(String, Value)>,
    finish: Option<Value>,
    text: String,
}

impl Story {
    fn called(&self, name: &str) -> usize {
        self.calls.iter().filter(|(tool, _)| tool == name).count()
    }
}

struct Play {
    files: Files,
    request: Request,
    seed: u64,
}

impl Play {
    fn new(task: &str, files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let messages = vec![Message::text(Speaker::User, task)];
        Self { files, request: Request { messages, tools: tools().into(), ..Request::default() }, seed: 1 }
    }

    /// Runs to the end, with a hook that may spoil a call.
    fn run_with(mut self, mut spoil: impl FnMut(usize, &mut Files, &str) -> Option<String>) -> Story {
        let mut story = Story { files: Files::new(), calls: Vec::new(), finish: None, text: String::new() };
        for _ in 0..200 {
            let reply = answer(&self.request, self.seed);
            self.request.messages.push(Message {
                speaker: Speaker::Assistant,
                content: reply.content.clone().into(),
                labels: backstop_call::Labels::default(),
            });
            let mut results = Vec::new();
            for block in &reply.content {
                let Block::ToolUse { id, name, input, .. } = block else { continue };
                story.calls.push((name.clone(), input.clone()));
                if name == "finish" {
                    story.finish = Some(input.clone());
                }
                let spoiled = spoil(story.calls.len(), &mut self.files, name);
                let outcome = spoiled.map_or_else(|| execute(&mut self.files, name, input), Err);
                let is_error = outcome.is_err();
                let content = vec![Block::text(outcome.unwrap_or_else(|why| why))];
                results.push(Block::ToolResult { id: id.clone(), content, is_error, cache: None });
            }
            if story.finish.is_some() || results.is_empty() {
                story.text = reply.text();
                story.files = self.files;
                return story;
            }
            self.request.messages.push(Message {
                speaker: Speaker::User,
                content: results.into(),
                labels: backstop_call::Labels::default(),
            });
        }
        panic!("the model does not come to an end: {:?}", story.calls);
    }

    fn run(self) -> Story {
        self.run_with(|_, _, _| None)
    }
}

/// Each job: task, files before, the file to look at, what it must hold.
#[test]
fn every_job_does_its_work() {
    let notes = "# Notes\n\nFirst point here. More of it.\n\nSecond point! TODO: buy milk\n";
    let data = "name,amount\nann,10\nbob,2.5\n";
    let rows: &[(&str, &str, &str)] = &[
        ("Count the words in notes.md and write the number to n.txt", "n.txt", "13\n"),
        ("Count the lines of notes.md and write the number to n.txt", "n.txt", "5\n"),
        ("Sort the lines of names.txt", "names.txt", "ann\nbob\ncarl\n"),
        ("Sort the lines of names.txt in reverse into out.txt", "out.txt", "carl\nbob\nann\n"),
        ("Replace \"First\" by \"Top\" in notes.md", "notes.md", &notes.replace("First", "Top")),
        ("Replace \"point\" by \"item\" in notes.md", "notes.md", &notes.replace("point", "item")),
        (
            "Rename the heading \"Notes\" to \"Thoughts\" in notes.md",
            "notes.md",
            &notes.replace("Notes", "Thoughts"),
        ),
        ("Uppercase the title of notes.md", "notes.md", &notes.replace("# Notes", "# NOTES")),
        (
            "Collect all TODOs into todo.md",
            "todo.md",
            "# To do\n\n- [ ] buy milk (notes.md:5)\n- [ ] call bob (sub/b.md:3)\n",
        ),
        (
            "Write a table of contents of sub/ to toc.md",
            "toc.md",
            "# Contents\n\n## sub/a.md\n\n- [Alpha](sub/a.md#alpha)\n  - [Inner part](sub/a.md#inner-part)\n\n## sub/b.md\n\n- [Beta](sub/b.md#beta)\n",
        ),
        (
            "Convert data.csv into a markdown table in data.md",
            "data.md",
            "| name | amount |\n| --- | --- |\n| ann | 10 |\n| bob | 2.5 |\n",
        ),
        ("Write the sum of the column \"amount\" of data.csv to sum.txt", "sum.txt", "12.5\n"),
        ("Write the average of column amount in data.csv to a.txt", "a.txt", "6.25\n"),
        ("Extract all links from page.md into links.txt", "links.txt", "https://example.com/x\n"),
        ("Extract the e-mail addresses of page.md to mails.txt", "mails.txt", "ann@example.com\n"),
        (
            "Merge sub/a.md and sub/b.md into all.md",
            "all.md",
            "# Alpha\n## Inner part\n\n# Beta\n\nTODO call bob\n",
        ),
        ("Merge sub/*.md into all.md", "all.md", "# Alpha\n## Inner part\n\n# Beta\n\nTODO call bob\n"),
        ("Summarise notes.md into short.md", "short.md", "First point here.\nSecond point!\n"),
    ];
    let before = [
        ("notes.md", notes),
        ("names.txt", "bob\nann\ncarl\n"),
        ("data.csv", data),
        ("page.md", "See https://example.com/x. Ask ann@example.com.\n"),
        ("sub/a.md", "# Alpha\n## Inner part\n"),
        ("sub/b.md", "# Beta\n\nTODO call bob\n"),
    ];
    for (task, path, want) in rows {
        for seed in 0..4 {
            let story = Play { seed, ..Play::new(task, &before) }.run();
            assert_eq!(story.files.get(*path).map(String::as_str), Some(*want), "{task}, seed {seed}");
            let finish = story.finish.unwrap_or_else(|| panic!("{task}, seed {seed}: never finished"));
            assert_eq!(finish["status"], "done", "{task}: {finish}");
            let changed: Vec<&String> =
                story.files.iter().filter(|(file, _)| file.as_str() != *path).map(|(file, _)| file).collect();
            assert!(
                before.iter().filter(|(file, _)| file != path).count() == changed.len(),
                "{task}: {changed:?}"
            );
        }
    }
}

#[test]
fn steps_are_written_once_each_in_order() {
    let story = Play::new("Please write steps 1 to 20 into steps/.", &[("readme.md", "x")]).run();
    assert_eq!(story.called("write_file"), 20);
    let written: Vec<&String> = story.files.keys().filter(|path| path.starts_with("steps/")).collect();
    assert_eq!(written.len(), 20);
    assert_eq!(written[0], "steps/step-01.md");
    assert_eq!(story.files["steps/step-20.md"], "# Step 20 of 20\n\nThis is step 20.\n");
    assert_eq!(story.finish.unwrap()["result"], json!({"steps": 20}));
}

#[test]
fn it_reads_before_it_writes_and_looks_whether_it_arrived() {
    let story = Play::new("Count the words in a.md and write the number to n.txt", &[("a.md", "x y")]).run();
    let names: Vec<&str> = story.calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["read_file", "write_file", "read_file", "finish"]);
    assert_eq!(story.finish.unwrap()["result"], json!({"value": 2}));
}

#[test]
fn a_wrong_path_is_looked_for() {
    let files = [("docs/Notes.md", "one two three")];
    let story = Play::new("Count the words in notes.md and write the number to n.txt", &files).run();
    assert_eq!(story.files["n.txt"], "3\n");
    assert_eq!(story.called("list_files"), 1);
    let story = Play::new("Count the words in absent.md and write it to n.txt", &files).run();
    let finish = story.finish.unwrap();
    assert_eq!(finish["status"], "failed");
    assert!(
        finish["summary"].as_str().unwrap().contains("absent.md could not be read: File not found"),
        "{finish}"
    );
    assert!(!story.files.contains_key("n.txt"));
}

/// A reader that shows three lines at a time, and says how to go on.
#[test]
fn a_long_file_is_read_in_parts() {
    let lines = "d\nb\na\nc\nh\ng\nj\nf\ni\ne\n";
    let mut play = Play::new("Sort the lines of a.txt", &[("a.txt", lines)]);
    let mut asked = Vec::new();
    for _ in 0..20 {
        let reply = answer(&play.request, 1);
        let call = reply.content.iter().find_map(|block| match block {
            Block::ToolUse { id, name, input, .. } => Some((id.clone(), name.clone(), input.clone())),
            _ => None,
        });
        let Some((id, name, input)) = call.filter(|call| call.1 != "finish") else { break };
        let text = if name == "read_file" {
            let from = input.get("from_line").and_then(Value::as_u64).unwrap_or(1);
            asked.push(from);
            let from = usize::try_from(from).unwrap();
            let all: Vec<&str> = play.files["a.txt"].split_inclusive('\n').collect();
            let shown = all[from - 1..].iter().take(3).copied().collect::<String>();
            let left = all.len().saturating_sub(from + 2);
            let next = from + 3;
            if left > 0 { format!("{shown}… {left} more lines; ask for from_line={next}") } else { shown }
        } else {
            execute(&mut play.files, &name, &input).unwrap()
        };
        let result = Block::ToolResult { id, content: vec![Block::text(text)], is_error: false, cache: None };
        for (speaker, content) in [(Speaker::Assistant, reply.content), (Speaker::User, vec![result])] {
            play.request.messages.push(Message {
                speaker,
                content: content.into(),
                labels: backstop_call::Labels::default(),
            });
        }
    }
    assert_eq!(asked, [1, 4, 7, 10, 1, 4, 7, 10], "to read, and to look whether it arrived");
    assert_eq!(play.files["a.txt"], "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n");
}

#[test]
fn a_tool_that_fails_once_is_tried_again_and_one_that_stays_broken_is_told() {
    let play = || Play::new("Sort the lines of a.txt", &[("a.txt", "b\na\n")]);
    let story =
        play().run_with(|at, _, name| (at == 2 && name == "write_file").then(|| "disk is busy".into()));
    assert_eq!(story.files["a.txt"], "a\nb\n");
    let story = play().run_with(|_, _, name| (name == "write_file").then(|| "disk is full".into()));
    assert!(
        story.finish.clone().unwrap()["summary"]
            .as_str()
            .unwrap()
            .contains("could not be written: disk is full")
    );
    assert_eq!(story.called("write_file"), 2);
}

#[test]
fn an_edit_that_does_not_fit_reads_again() {
    let play = Play::new("Replace \"old\" by \"new\" in a.txt", &[("a.txt", "old text")]);
    let story = play.run_with(|at, files, name| {
        if at == 2 && name == "edit_file" {
            files.insert("a.txt".into(), "old old text".into());
        }
        None
    });
    assert_eq!(story.files["a.txt"], "new new text");
    assert_eq!(story.finish.unwrap()["status"], "done");
}

#[test]
fn garbled_calls_in_the_conversation_are_passed_over() {
    let mut play = Play::new("Sort the lines of a.txt", &[("a.txt", "b\na\n")]);
    let wrong =
        Block::ToolUse { id: "w".into(), name: "read_file".into(), input: json!({"sim": 1}), cache: None };
    let refused =
        Block::ToolResult { id: "w".into(), content: vec![Block::text("no")], is_error: true, cache: None };
    for (speaker, block) in [(Speaker::Assistant, wrong), (Speaker::User, refused)] {
        let message = Message { speaker, content: [block].into(), labels: backstop_call::Labels::default() };
        play.request.messages.push(message);
    }
    assert_eq!(play.run().files["a.txt"], "a\nb\n");
}

#[test]
fn the_same_seed_gives_the_same_story_and_another_gives_another() {
    let files = [("sub/a.md", "# A"), ("sub/b.md", "# B"), ("sub/c.md", "# C")];
    let play = |seed| Play { seed, ..Play::new("Merge sub/*.md into all.md", &files) };
    let ids = |seed| answer(&play(seed).request, seed).id;
    assert_eq!(play(3).run(), play(3).run());
    assert_eq!(ids(3), ids(3));
    assert_ne!(ids(3), ids(4));
    // Turns that call several tools at once: some seeds work so, and none when it is forbidden.
    let parallel = |seed, allowed: Option<bool>| {
        let mut play = play(seed);
        play.request.parallel_tools = allowed;
        play.request.messages.extend([
            Message {
                speaker: Speaker::Assistant,
                content: [Block::ToolUse {
                    id: "1".into(),
                    name: "list_files".into(),
                    input: json!({"path": "sub"}),
                    cache: None,
                }]
                .into(),
                labels: backstop_call::Labels::default(),
            },
            Message {
                speaker: Speaker::User,
                content: [Block::ToolResult {
                    id: "1".into(),
                    content: vec![Block::text("sub/a.md\nsub/b.md\nsub/c.md")],
                    is_error: false,
                    cache: None,
                }]
                .into(),
                labels: backstop_call::Labels::default(),
            },
        ]);
        let reply = answer(&play.request, seed);
        reply.content.iter().filter(|block| matches!(block, Block::ToolUse { .. })).count()
    };
    let counts: std::collections::BTreeSet<usize> = (0..16).map(|seed| parallel(seed, None)).collect();
    assert_eq!(counts, [1, 3].into());
    assert!((0..16).all(|seed| parallel(seed, Some(false)) == 1));
}

#[test]
fn tools_of_other_names_are_used_by_their_schemas() {
    let mut play = Play::new("Sort the lines of a.txt", &[]);
    let schema = json!({"type": "object", "properties": {"file_path": {"type": "string"}, "limit": {"type": "integer"}},
                        "required": ["file_path", "limit"]});
    play.request.tools =
        [ToolSpec { name: "Read".into(), description: String::new(), schema, other: Map::new() }].into();
    let reply = answer(&play.request, 1);
    let call = reply.content.iter().find_map(|block| match block {
        Block::ToolUse { name, input, .. } => Some((name.as_str(), input.clone())),
        _ => None,
    });
    assert_eq!(call, Some(("Read", json!({"file_path": "a.txt", "limit": 0}))));
}

#[test]
fn without_tools_it_answers_in_text_or_in_the_shape_that_is_asked_for() {
    let mut request =
        Request { messages: vec![Message::text(Speaker::User, "How are you?")], ..Request::default() };
    let reply = answer(&request, 1);
    assert!(reply.text().contains("How are you?"), "{}", reply.text());
    assert_eq!(reply.stop, StopReason::End);
    let schema = json!({"type": "object", "properties": {"mood": {"enum": ["good"]}}, "required": ["mood"]});
    request.output = Some(OutputFormat::Schema { name: "m".into(), schema, strict: true });
    assert_eq!(answer(&request, 1).text(), r#"{"mood":"good"}"#);
    request.thinking = Some(Thinking::Budget(1_024));
    let reply = answer(&request, 1);
    assert!(matches!(&reply.content[0], Block::Thinking { signature: Some(_), .. }));
    assert!(reply.usage.reasoning_tokens > 0 && reply.usage.reasoning_tokens < reply.usage.output_tokens);
}

#[test]
fn calls_that_a_task_words_are_made_once_each_and_end_at_a_failure() {
    let task = "Call write_file with {\"path\": \"a.md\", \"content\": \"x\"}, then call read_file with {\"path\": \"a.md\"}.";
    let story = Play::new(task, &[]).run();
    let names: Vec<&str> = story.calls.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["write_file", "read_file", "finish"]);
    assert_eq!(story.calls[0].1, json!({"path": "a.md", "content": "x"}));
    assert_eq!(
        story.finish.unwrap(),
        json!({"summary": "called write_file, read_file", "status": "done", "result": {"said": ["wrote a.md", "x"]}})
    );
    let mut alone = Play::new("Call delete_all with {} and call read_file with {\"path\": \"b.md\"}", &[]);
    let missing = |play: Play| play.run().finish.unwrap()["summary"].clone();
    assert_eq!(missing(alone), json!("there is no tool `delete_all`"));
    alone = Play::new("call read_file with {\"path\": \"b.md\"} then call list_files with {}", &[]);
    alone
        .request
        .tools
        .change(|tools| tools.retain(|tool| ["read_file", "finish"].contains(&tool.name.as_str())));
    assert_eq!(missing(alone), json!("read_file failed: File not found: b.md. Verify the path"));
    let broken = Play::new("Call write_file with {\"path\": }", &[]).run();
    assert_eq!(broken.called("write_file"), 0);
}

#[test]
fn tool_choice_is_obeyed() {
    let mut request = Play::new("hello", &[]).request;
    request.tool_choice = Some(ToolChoice::None);
    assert_eq!(answer(&request, 1).stop, StopReason::End);
    request.tool_choice = Some(ToolChoice::Tool("write_file".into()));
    let reply = answer(&request, 1);
    assert_eq!(reply.stop, StopReason::ToolUse);
    assert!(reply.content.iter().any(|b| matches!(b, Block::ToolUse { name, input, .. }
        if name == "write_file" && input["path"] == "hello" && input["content"] == "hello")));
}

#[test]
fn the_output_limit_and_stop_texts_hold() {
    let mut request = Play::new("Sort the lines of a.txt", &[]).request;
    request.thinking = Some(Thinking::Adaptive);
    let whole = answer(&request, 1).usage.output_tokens;
    for tokens_max in 1..40 {
        request.max_tokens = Some(tokens_max);
        let reply = answer(&request, 1);
        assert!(reply.usage.output_tokens <= tokens_max, "{tokens_max}: {:?}", reply.content);
        assert_eq!(reply.stop == StopReason::MaxTokens, tokens_max < whole, "{:?}", reply.content);
    }
    let mut request =
        Request { messages: vec![Message::text(Speaker::User, "one STOP two")], ..Request::default() };
    request.stop = vec!["STOP".into()];
    let reply = answer(&request, 1);
    assert!(reply.text().ends_with("one "));
    assert_eq!(reply.stop, StopReason::StopSequence(Some("STOP".into())));
}

#[test]
fn a_later_task_in_the_same_conversation_is_taken_up() {
    let mut play = Play::new("Sort the lines of a.txt", &[("a.txt", "b\na\n")]);
    play.request.messages.push(Message::text(Speaker::Assistant, "Done."));
    play.request
        .messages
        .push(Message::text(Speaker::User, "Count the lines in a.txt and write that to n.txt"));
    let story = play.run();
    assert_eq!(story.files["n.txt"], "2\n");
    assert_eq!(story.files["a.txt"], "b\na\n");
}

/// The calls of a member of a team but reads and the last, with how it ended.
fn of_a_team(task: &str, files: &[(&str, &str)]) -> (Vec<(String, Value)>, Value) {
    let mut play = Play::new(task, files);
    let more = ["submit_task", "delegate", "send_email", "git_status", "git_commit", "git_push"];
    let more = more.map(|name| ToolSpec {
        name: name.into(),
        description: String::new(),
        schema: json!({"type": "object"}),
        other: Map::new(),
    });
    play.request.tools = tools().into_iter().chain(more).collect();
    let mut story = play.run_with(|_, _, _| None);
    story.calls.retain(|(name, _)| !["read_file", "finish"].contains(&name.as_str()));
    (story.calls, story.finish.unwrap()["status"].clone())
}

#[test]
fn a_team_hands_out_reviews_and_sends() {
    let call = |name: &str, input: Value| (name.to_owned(), input);
    let goals = [("goals.md", "# Goals\n\n- writer: Write a.md.\n- no goal\n- writer: Write b.md.\n")];
    let submit = |agent: &str, task: &str| call("submit_task", json!({"agent": agent, "task": task}));
    let want = vec![submit("writer", "Write a.md."), submit("writer", "Write b.md.")];
    let task = "Turn the goals in goals.md into tasks.";
    assert_eq!(of_a_team(task, &goals), (want, json!("done")));
    assert_eq!(of_a_team(task, &[("goals.md", "none\n")]), (vec![], json!("failed")));

    let task =
        "Have the writer sum up n.md into l.md, then have the mailer send l.md to each address in list.txt.";
    let want = vec![
        call("delegate", json!({"agent": "writer", "task": "Sum up n.md into l.md."})),
        submit("mailer", "Send l.md to ann@example.com."),
        submit("mailer", "Send l.md to bob@example.com."),
    ];
    let list = [("list.txt", "ann@example.com\nbob@example.com\n")];
    assert_eq!(of_a_team(task, &list), (want, json!("done")));

    let letter = [("l.md", "# The news.\n\nOne.\n")];
    let mail = json!({"to": ["ann@example.com"], "subject": "The news", "body": letter[0].1});
    let want = vec![call("send_email", mail)];
    assert_eq!(of_a_team("Send l.md to ann@example.com.", &letter), (want, json!("done")));

    let task = "Review what has changed, write your remarks to r.md, and push it to the branch main of origin if all is right.";
    let wrote = |remark: &str| {
        let content = format!("# Review\n\n- a.md: nothing wrong\n- b.md: {remark}\n");
        vec![call("git_status", json!({})), call("write_file", json!({"path": "r.md", "content": content}))]
    };
    let mut want = wrote("nothing wrong");
    let commit = json!({"message": "Publish 2 files that were reviewed", "paths": ["a.md", "b.md"]});
    want.extend([
        call("git_commit", commit),
        call("git_push", json!({"remote": "origin", "branch": "main"})),
    ]);
    assert_eq!(of_a_team(task, &[("a.md", "one\n"), ("b.md", "two\n")]), (want, json!("done")));
    let found = of_a_team(task, &[("a.md", "one\n"), ("b.md", "TODO\n")]);
    assert_eq!(found, (wrote("it says TODO"), json!("failed")));
}
