//! Commands as a run calls them.

use crate::kit::Room;
use crate::sandbox::sandbox;
use backstop_agent::tool::Job;
use backstop_agent::{Rehearsal, Tool, ToolError};
use backstop_label::{ArgRole, Class, Effect};
use backstop_tools::program::{ProgramGrant, ProgramGrantError};
use backstop_tools::sandbox::{Limits, Sandbox};
use backstop_tools::shell::{PatternError, Shell, ShellGrant, ShellGrantError};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

fn grant(allow: &[&str], read: &[&str]) -> ShellGrant {
    let list = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    ShellGrant { allow: list(allow), read: list(read), programs: ProgramGrant::default() }
}

fn tools(grant: &ShellGrant) -> Vec<Arc<dyn Tool>> {
    let env = BTreeMap::from([
        ("GRANTED".to_owned(), "yes".to_owned()),
        ("SECRET".to_owned(), "s3cret".to_owned()),
    ]);
    let tools = Shell::tools(grant, &sandbox(), &env).unwrap();
    tools.into_iter().map(|tool| Arc::new(tool) as Arc<dyn Tool>).collect()
}

fn tool(allow: &[&str]) -> Arc<dyn Tool> {
    tools(&grant(allow, &[])).remove(0)
}

#[tokio::test]
async fn a_command_gives_its_code_and_both_outputs() {
    let room = Room::new(&[("notes/a.txt", "one\ntwo\n")]);
    let tool = tool(&["wc *", "cat *", "ls *", "pwd", "sh -c *", "false"]);
    let cases = [
        (json!({"command": "wc -l notes/a.txt"}), "exit code 0\nstdout:\n2 notes/a.txt\nstderr: nothing"),
        (
            json!({"argv": ["cat", "a.txt"], "cwd": "notes"}),
            "exit code 0\nstdout:\none\ntwo\nstderr: nothing",
        ),
        (json!({"command": "cat", "stdin": "given"}), "exit code 0\nstdout:\ngiven\nstderr: nothing"),
        (json!({"command": "false"}), "exit code 1\nstdout: nothing\nstderr: nothing"),
        (
            json!({"command": "cat missing"}),
            "exit code 1\nstdout: nothing\nstderr:\ncat: missing: No such file or directory",
        ),
        (
            json!({"command": "cat /etc/shadow"}),
            "exit code 1\nstdout: nothing\nstderr:\ncat: /etc/shadow: Permission denied",
        ),
        (json!({"command": "sh -c 'kill -9 $$'"}), "ended by signal 9\nstdout: nothing\nstderr: nothing"),
    ];
    for (args, want) in cases {
        assert_eq!(room.call(&tool, args.clone()).await.as_deref(), Ok(want), "{args}");
    }
}

#[tokio::test]
async fn only_what_is_allowed_runs() {
    let room = Room::new(&[("a", "x")]);
    let tool = tool(&["ls *", "rm a"]);
    let not_allowed = |shown: &str| {
        format!(
            "Not run: `{shown}` is not among the commands that are allowed here: `ls *`, `rm a`. Use one of these, or do it \
             by another tool."
        )
    };
    let cases = [
        (json!({"command": "rm -rf ."}), not_allowed("rm -rf .")),
        (json!({"argv": ["rm", "a", "b"]}), not_allowed("rm a b")),
        (json!({"argv": ["./ls"]}), not_allowed("./ls")),
        (json!({"argv": ["rm\u{202e}"]}), not_allowed("'rm\\u{202e}'")),
        (
            json!({"command": "ls; rm b"}),
            "Not run: `;` ends a command, which needs a shell, and there is none: run the commands one after the other, \
             each in a call of its own."
                .to_owned(),
        ),
        (json!({}), "Give either command or argv, and not both.".to_owned()),
        (json!({"command": "ls", "argv": ["ls"]}), "Give either command or argv, and not both.".to_owned()),
        (json!({"argv": ["ls", "a\0b"]}), "A command cannot hold a NUL character.".to_owned()),
        (
            json!({"command": "ls", "cwd": ".."}),
            ".. leads outside the workspace. Give a directory of the workspace, from its root.".to_owned(),
        ),
        (
            json!({"command": "ls", "cwd": "a"}),
            "a is not a directory. Give a directory of the workspace, from its root.".to_owned(),
        ),
    ];
    for (args, want) in cases {
        assert_eq!(room.call(&tool, args.clone()).await, Err(want), "{args}");
    }
    let empty = room.call(&tool, json!({"argv": []})).await.unwrap_err();
    assert!(empty.contains("`/argv`"), "{empty}");
    assert!(room.path().join("a").exists());
    let words = json!({"argv": ["ls", "a;b", "$(c)"]});
    let told = room.call(&tool, words).await.unwrap();
    assert!(told.contains("cannot access 'a;b'") && told.contains("cannot access '$(c)'"), "{told}");
}

#[tokio::test]
async fn a_person_is_shown_what_would_run() {
    let room = Room::new(&[("sub/a", "")]);
    let mut grant = grant(&["echo *", "cat"], &["ls *"]);
    grant.programs.network = true;
    grant.programs.git = true;
    grant.programs.write = vec![PathBuf::from("/var/cache/x")];
    let [run, read] = &tools(&grant)[..] else { panic!() };
    let plan = room
        .plan(run, &json!({"argv": ["echo", "a b", "\u{1b}[2K\u{202e}x", "\n"], "cwd": "sub"}))
        .await
        .unwrap();
    expect_test::expect![[r"
        $ echo 'a b' '\u{1b}[2K\u{202e}x' '\n'
        in sub; reads and writes the workspace, and its .git, reaches the network, writes /var/cache/x; at most 120 seconds"]]
    .assert_eq(&plan.preview);
    assert_eq!(plan.touches.as_deref(), Some("."));
    let plan = room.plan(run, &json!({"command": "cat", "stdin": "a\u{200b}\nb"})).await.unwrap();
    assert!(plan.preview.ends_with("with this as its input:\na\\u{200b}\nb"), "{}", plan.preview);
    let plan = room.plan(read, &json!({"command": "ls -l"})).await.unwrap();
    assert_eq!(plan.preview, "$ ls -l\nin .; reads the workspace, writes nothing; at most 120 seconds");
    assert_eq!((plan.touches, plan.undo), (None, None));
}

#[tokio::test]
async fn what_a_grant_gives_is_what_is_declared() {
    let mut grant = grant(&["ls"], &["ls"]);
    let declared = |grant: &ShellGrant| {
        let tools = tools(grant);
        let one = |tool: &Arc<dyn Tool>| {
            let declaration = tool.declaration();
            (declaration.class, declaration.effect, declaration.role_of("argv"), tool.rehearsal())
        };
        tools.iter().map(one).collect::<Vec<_>>()
    };
    let read = (Class::Read, Effect::Read, ArgRole::Object, Rehearsal::OnCopy);
    assert_eq!(declared(&grant), [(Class::Write, Effect::Write, ArgRole::Object, Rehearsal::OnCopy), read]);
    grant.programs.network = true;
    assert_eq!(declared(&grant), [(Class::Write, Effect::External, ArgRole::Sink, Rehearsal::Noted), read]);
    grant.programs.network = false;
    grant.programs.write = vec![PathBuf::from("/var/x")];
    assert_eq!(declared(&grant), [(Class::Write, Effect::External, ArgRole::Object, Rehearsal::Noted), read]);
    grant.allow.clear();
    assert_eq!(tools(&grant)[0].spec().name, "read_command");
}

#[tokio::test]
async fn a_command_that_is_said_to_read_cannot_write() {
    let room = Room::new(&[("a", "x")]);
    let mut grant = grant(&[], &["rm *", "touch *"]);
    grant.programs.write = vec![room.path().to_owned()];
    grant.programs.network = true;
    let tool = &tools(&grant)[0];
    for command in ["rm a", "touch b"] {
        let told = room.call(tool, json!({"command": command})).await.unwrap();
        assert!(told.starts_with("exit code 1") && told.contains("Read-only file system"), "{told}");
    }
    assert!(room.path().join("a").exists());
}

#[tokio::test]
async fn only_granted_variables_are_there() {
    let room = Room::new(&[]);
    let mut grant = grant(&["printenv *"], &[]);
    grant.programs.env = vec!["GRANTED".to_owned(), "NOT_SET".to_owned()];
    let tool = &tools(&grant)[0];
    let told = room.call(tool, json!({"command": "printenv GRANTED SECRET NOT_SET"})).await.unwrap();
    assert_eq!(told, "exit code 1\nstdout:\nyes\nstderr: nothing");
}

#[tokio::test]
async fn what_goes_beyond_a_limit_is_told() {
    let room = Room::new(&[]);
    let mut grant = grant(&["sleep *", "yes", "perl *"], &[]);
    grant.programs.limits =
        Limits { wall_secs: 1, output_kib: 1, file_mib: 1, processes: 20, ..Limits::default() };
    let tool = &tools(&grant)[0];
    let stopped = "stopped, with all that it had started:";
    let changed = "What it had changed by then is changed";
    let nothing = "stdout: nothing\nstderr: nothing";
    let told = room.call(tool, json!({"command": "sleep 60"})).await.unwrap();
    assert_eq!(told, format!("{stopped} it ran for the 1 seconds that it may. {changed}\n{nothing}"));
    let told = room.call(tool, json!({"argv": ["perl", "-e", "fork while 1"]})).await.unwrap();
    assert_eq!(
        told,
        format!("{stopped} it had more than the 20 processes and threads that it may. {changed}\n{nothing}")
    );
    let script = "open F, '>', 'f'; $SIG{XFSZ} = 'DEFAULT'; $x = 'x' x 500000; syswrite F, $x for 1..9";
    let told = room.call(tool, json!({"argv": ["perl", "-e", script]})).await.unwrap();
    assert_eq!(
        told,
        format!("ended by signal 25: it wrote a file larger than the 1 MiB that it may\n{nothing}")
    );
    let told = room.call(tool, json!({"command": "yes"})).await.unwrap();
    assert!(told.contains("y\n\n[… ") && told.contains(" bytes left out …]\n"), "{told}");
    assert!(told.len() < 1_500, "{}", told.len());
}

#[tokio::test]
async fn what_cannot_run_changed_nothing() {
    let room = Room::new(&[]);
    let tool = tool(&["no-such-program"]);
    let job =
        Job { args: json!({}), plan: json!({"argv": ["no-such-program"], "cwd": "."}), key: "k".into() };
    let error = room.run(&tool, &job).await.unwrap_err();
    let want = "Not run: nothing was run: no-such-program: No such file or directory (os error 2). Check the program's \
        name and that it is installed.";
    assert_eq!(error, ToolError::Failed(want.to_owned()));
    let helper = Sandbox::new("/bin/true", Vec::<String>::new());
    let tools = Shell::tools(&grant(&["ls"], &[]), &helper, &BTreeMap::new()).unwrap();
    let tool: Arc<dyn Tool> = Arc::new(tools.into_iter().next().unwrap());
    let job = Job { args: json!({}), plan: json!({"argv": ["ls"], "cwd": "."}), key: "k".into() };
    assert!(matches!(room.run(&tool, &job).await, Err(ToolError::Unknown(_))));
}

#[test]
fn a_grant_that_is_none_is_refused() {
    let refused = |grant: &ShellGrant| Shell::tools(grant, &sandbox(), &BTreeMap::new()).err().unwrap();
    assert_eq!(
        refused(&grant(&["* -rf"], &[])),
        ShellGrantError::Pattern(PatternError::Program("* -rf".to_owned()))
    );
    let with = |programs: ProgramGrant| refused(&ShellGrant { programs, ..grant(&["ls"], &[]) });
    let relative = ProgramGrant { read: vec!["a/b".into()], ..ProgramGrant::default() };
    assert_eq!(with(relative), ProgramGrantError::Relative("a/b".into()).into());
    let everything = ProgramGrant { write: vec!["/".into()], ..ProgramGrant::default() };
    assert_eq!(with(everything), ProgramGrantError::Everything("/".into()).into());
    let variable = ProgramGrant { env: vec!["A=b".into()], ..ProgramGrant::default() };
    assert_eq!(with(variable), ProgramGrantError::Variable("A=b".into()).into());
    for (limits, name, given, least) in [
        (Limits { wall_secs: 0, ..Limits::default() }, "wall-secs", 0, 1),
        (Limits { open_files: 8, ..Limits::default() }, "open-files", 8, 32),
    ] {
        let low = ProgramGrant { limits, ..ProgramGrant::default() };
        assert_eq!(with(low), ProgramGrantError::TooLow { name, given, least }.into());
    }
    let read: ShellGrant = serde_json::from_value(json!({
        "allow": ["cargo test *"], "programs": {"network": true, "limits": {"wall-secs": 5}},
    }))
    .unwrap();
    assert_eq!((read.programs.network, read.programs.limits.wall_secs), (true, 5));
    assert!(serde_json::from_value::<ShellGrant>(json!({"alow": []})).is_err());
}
