//! The file tools in a real directory: what they do, what they say, and what their probes find out after a crash.

use super::add_file_tools;
use crate::tool::{Job, Plan};
use crate::{Probe, ToolContext, ToolError, Toolbox, Workspace};
use backstop_call::{Block, Labels};
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use std::sync::Arc;

struct Room {
    dir: tempfile::TempDir,
    toolbox: Toolbox,
    context: ToolContext,
}

impl Room {
    fn new(files: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let mut toolbox = Toolbox::new();
        add_file_tools(&mut toolbox).unwrap();
        let context = ToolContext {
            run: "r".into(),
            call: "c".into(),
            workspace: Some(Arc::new(Workspace::open(dir.path()).unwrap())),
            labels: Labels::default(),
            undone: None,
            rehearsed: None,
        };
        Self { dir, toolbox, context }
    }

    async fn plan(&self, tool: &str, args: &Value) -> Result<Plan, String> {
        let registered = self.toolbox.find(tool).unwrap();
        registered.check(args)?;
        registered.tool.plan(args, &self.context).await.map_err(|error| error.to_string())
    }

    async fn run(&self, tool: &str, job: &Job) -> Result<String, ToolError> {
        let output = self.toolbox.find(tool).unwrap().tool.run(job, &self.context).await?;
        Ok(output.content.iter().filter_map(Block::as_text).collect())
    }

    /// As the agent would: check, plan, run. Both outcomes are what the model would be told.
    async fn call(&self, tool: &str, args: Value) -> String {
        match self.plan(tool, &args).await {
            Ok(plan) => {
                let job = Job { args, plan: plan.body, key: "k".into() };
                self.run(tool, &job).await.unwrap_or_else(|error| format!("ERROR {error}"))
            }
            Err(error) => format!("ERROR {error}"),
        }
    }

    async fn check(&self, tool: &str, args: Value, want: Expect) {
        want.assert_eq(&self.call(tool, args).await);
    }

    fn text(&self, path: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

#[tokio::test]
async fn files_are_listed_and_found() {
    let room = Room::new(&[
        ("a.md", "one\ntwo\n"),
        ("src/main.rs", "fn main() {}\n"),
        ("src/deep/b.md", "Two three\n"),
        ("target/x", "two"),
        ("logs/y.log", "two"),
        (".gitignore", "target/\n*.log\n"),
        (".git/HEAD", "two"),
        ("bin", "two\0"),
    ]);
    room.check(
        "list_files",
        json!({}),
        expect![[r"
        .gitignore
        a.md
        bin
        logs/
        src/
        src/deep/
        src/deep/b.md
        src/main.rs"]],
    )
    .await;
    room.check("list_files", json!({"pattern": "*.md"}), expect!["a.md\nsrc/deep/b.md"]).await;
    room.check("list_files", json!({"path": "src", "pattern": "*.rs"}), expect!["src/main.rs"]).await;
    room.check("list_files", json!({"path": "logs"}), expect!["No files here."]).await;
    let all = room.call("list_files", json!({"path": "target", "include_ignored": true})).await;
    assert_eq!(all, "target/x");
    room.check("search_files", json!({"pattern": "two"}), expect!["a.md:2: two"]).await;
    room.check(
        "search_files",
        json!({"pattern": "two", "ignore_case": true, "path": "src"}),
        expect!["src/deep/b.md:1: Two three"],
    )
    .await;
    room.check("search_files", json!({"pattern": "t.o", "path": "a.md"}), expect!["a.md:2: two"]).await;
    room.check(
        "search_files",
        json!({"pattern": "zzz", "files": "*.md"}),
        expect!["No line in 2 files matches `zzz`. Try a shorter pattern, or ignore_case."],
    )
    .await;
    room.check("list_files", json!({"path": "none"}), expect!["ERROR File not found: none. Verify the path; the directory holds: .git/, .gitignore, a.md, bin, logs/, src/, target/."]).await;
    assert!(room.call("search_files", json!({"pattern": "("})).await.contains("is no regular expression"));
}

#[tokio::test]
async fn reading_says_how_to_go_on() {
    let long: String = (1..=2_100).map(|n| format!("line {n}")).collect::<Vec<_>>().join("\n") + "\n";
    let room = Room::new(&[
        ("notes.md", "one\ntwo\nthree"),
        ("long", &long),
        ("wide", &"y".repeat(70_000)),
        ("bin", "a\0b"),
        ("empty", ""),
    ]);
    room.check("read_file", json!({"path": "notes.md"}), expect!["one\ntwo\nthree"]).await;
    room.check("read_file", json!({"path": "notes.md", "from_line": 2, "to_line": 2}), expect!["two\n"])
        .await;
    room.check(
        "read_file",
        json!({"path": "notes.md", "from_line": 9}),
        expect!["ERROR `notes.md` has 3 lines; there is nothing from line 9 to 3."],
    )
    .await;
    let first = room.call("read_file", json!({"path": "long"})).await;
    assert!(first.ends_with("line 2000\n… 100 more lines; ask for from_line=2001"), "{first}");
    let rest = room.call("read_file", json!({"path": "long", "from_line": 2001})).await;
    assert!(rest.starts_with("line 2001\n") && rest.ends_with("line 2100\n"));
    let wide = room.call("read_file", json!({"path": "wide"})).await;
    assert!(wide.ends_with("y\n… 4464 more bytes in line 1"), "{}", &wide[65_530..]);
    room.check("read_file", json!({"path": "empty"}), expect!["(the file is empty)"]).await;
    room.check(
        "read_file",
        json!({"path": "bin"}),
        expect![
            "ERROR `bin` is not text (binary, or no UTF-8; 3 bytes), so it cannot be read or edited as text."
        ],
    )
    .await;
    room.check("read_file", json!({"path": "note.md"}), expect!["ERROR File not found: note.md. Verify the path; the directory holds: bin, empty, long, notes.md, wide."]).await;
    room.check("read_file", json!({"path": "x/y"}), expect!["ERROR File not found: x/y. Verify the path; the directory holds: bin, empty, long, notes.md, wide."]).await;
    room.check("read_file", json!({"path": "../x"}), expect!["ERROR `../x` leads outside the workspace. Use a path from the workspace's root, like `notes.md` or `src/main.rs`, without `..`."]).await;
    room.check("read_file", json!({"file": "x"}), expect![[r#"
        ERROR The arguments do not fit the schema of read_file:
        - at the arguments: Additional properties are not allowed ('file' was unexpected); it takes `path` (required), `from_line`, `to_line`
        - at the arguments: "path" is a required property; it takes `path` (required), `from_line`, `to_line`"#]]).await;
    room.check(
        "read_file",
        json!("{\"pa"),
        expect![[r#"
        ERROR The arguments do not fit the schema of read_file:
        - at the arguments: "{\"pa" is not of type "object""#]],
    )
    .await;
}

#[tokio::test]
async fn writing_and_editing() {
    let room = Room::new(&[("a.txt", "alpha\n  beta one\ngamma\nbeta two\n")]);
    room.check(
        "write_file",
        json!({"path": "new/b.txt", "content": "x\ny\n"}),
        expect!["Wrote new/b.txt: 4 bytes, 2 lines."],
    )
    .await;
    assert_eq!(room.text("new/b.txt"), "x\ny\n");
    room.check(
        "edit_file",
        json!({"path": "a.txt", "old_text": "gamma", "new_text": "delta"}),
        expect!["Edited a.txt: 1 lines became 1."],
    )
    .await;
    assert_eq!(room.text("a.txt"), "alpha\n  beta one\ndelta\nbeta two\n");
    room.check("edit_file", json!({"path": "a.txt", "old_text": "beta", "new_text": "b"}), expect!["ERROR old_text occurs 2 times in a.txt (lines 2, 4). Add lines around it until it occurs once, or set replace_all."]).await;
    room.check(
        "edit_file",
        json!({"path": "a.txt", "old_text": "beta one\n  delta", "new_text": "b"}),
        expect![[r"
        ERROR old_text does not occur in a.txt. Lines 2-3 differ from it only in white space or line ends:
          beta one
        delta
        Read the file again and copy the text exactly."]],
    )
    .await;
    room.check(
        "edit_file",
        json!({"path": "a.txt", "old_text": "alpna\nbeta", "new_text": "b"}),
        expect![[r"
        ERROR old_text does not occur in a.txt. The nearest is at lines 1-2:
        alpha
          beta one
        Read the file again and copy the text exactly."]],
    )
    .await;
    room.check("edit_file", json!({"path": "a.txt", "old_text": "1234567", "new_text": "b"}), expect!["ERROR old_text does not occur in a.txt. Nothing in it is like it. Read the file again and copy the text exactly."]).await;
    room.check(
        "edit_file",
        json!({"path": "a.txt", "old_text": "beta", "new_text": "B", "replace_all": true}),
        expect!["Edited a.txt: 1 lines became 1."],
    )
    .await;
    assert_eq!(room.text("a.txt"), "alpha\n  B one\ndelta\nB two\n");
    room.check(
        "edit_file",
        json!({"path": "none", "old_text": "a", "new_text": "b"}),
        expect!["ERROR File not found: none. Verify the path; the directory holds: a.txt, new/."],
    )
    .await;
    room.check(
        "write_file",
        json!({"path": "new", "content": ""}),
        expect!["ERROR `new` is a directory, not a file. Use list_files to see what it holds."],
    )
    .await;
    room.check(
        "write_file",
        json!({"path": "", "content": ""}),
        expect!["ERROR `` is a directory, not a file. Use list_files to see what it holds."],
    )
    .await;
    room.check(
        "edit_file",
        json!({"path": "a.txt", "old_text": "", "new_text": "b"}),
        expect![[r#"
        ERROR The arguments do not fit the schema of edit_file:
        - at `/old_text`: "" is shorter than 1 character"#]],
    )
    .await;
}

#[tokio::test]
async fn a_probe_tells_what_happened_by_what_the_file_is() {
    let room = Room::new(&[("a.txt", "old")]);
    let args = json!({"path": "a.txt", "content": "new"});
    let plan = room.plan("write_file", &args).await.unwrap();
    assert_eq!(plan.touches.as_deref(), Some("a.txt"));
    assert_eq!(plan.undo.unwrap()["was"]["content"]["text"], "old", "the state before is kept for an undo");
    let job = Job { args, plan: plan.body, key: "k1".into() };
    let probe = || async { room.toolbox.find("write_file").unwrap().tool.probe(&job, &room.context).await };
    let beside = room.dir.path().join(".backstop-k1.tmp");
    std::fs::write(&beside, "half").unwrap();
    assert_eq!(probe().await, Probe::DidNot);
    assert!(!beside.exists(), "what the crash left is cleared away");
    let told = room.run("write_file", &job).await.unwrap();
    let Probe::Happened(output) = probe().await else { panic!("it did happen") };
    assert_eq!(
        output.content,
        [Block::text(told)],
        "the model is told the same as if nothing had been in between"
    );
    std::fs::write(room.dir.path().join("a.txt"), "somebody else's").unwrap();
    assert!(matches!(probe().await, Probe::Unsure(_)));
    std::fs::remove_file(room.dir.path().join("a.txt")).unwrap();
    assert!(matches!(probe().await, Probe::Unsure(_)));
}

#[tokio::test]
async fn what_changed_since_it_was_planned_is_not_overwritten() {
    let room = Room::new(&[("a.txt", "old")]);
    for (tool, args) in [
        ("write_file", json!({"path": "a.txt", "content": "new"})),
        ("edit_file", json!({"path": "a.txt", "old_text": "old", "new_text": "new"})),
        ("write_file", json!({"path": "b.txt", "content": "new"})),
    ] {
        std::fs::write(room.dir.path().join("a.txt"), "old").unwrap();
        let plan = room.plan(tool, &args).await.unwrap();
        std::fs::write(room.dir.path().join("a.txt"), "theirs, old").unwrap();
        std::fs::write(room.dir.path().join("b.txt"), "theirs").unwrap();
        let error = room.run(tool, &Job { args, plan: plan.body, key: "k".into() }).await.unwrap_err();
        assert!(
            matches!(&error, ToolError::Failed(text) if text.contains("changed by somebody else")),
            "{error}"
        );
        assert_eq!(room.text("a.txt"), "theirs, old");
        assert_eq!(room.text("b.txt"), "theirs");
        std::fs::remove_file(room.dir.path().join("b.txt")).unwrap();
    }
}
