//! Commands that are tools, as a run calls them.

use crate::kit::Room;
use crate::sandbox::sandbox;
use backstop_agent::tool::{Job, Probe};
use backstop_agent::{Rehearsal, Tool, ToolError, ToolOutput};
use backstop_call::Secret;
use backstop_label::{ArgRole, Category, Class, Declaration, Effect, Integrity};
use backstop_tools::command::{CommandGrant, CommandGrantError, CommandTool};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A grant with what every one of them has, and more.
fn grant(more: Value) -> CommandGrant {
    let mut grant = json!({
        "description": "Writes a note.",
        "run": ["sh", "-c", "shift; echo \"$1\" > \"$2\"; echo \"{{\\\"id\\\": \\\"$2\\\"}}\"", "sh", "--", "{text}", "{file}"],
        "arguments": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "file": {"type": "string"}, "count": {"type": "integer"}},
        },
    });
    let Value::Object(fields) = more else { panic!("{more} is no object") };
    grant.as_object_mut().unwrap().extend(fields);
    serde_json::from_value(grant).unwrap()
}

fn made(grant: CommandGrant) -> Result<Arc<dyn Tool>, CommandGrantError> {
    named("note", grant)
}

fn named(name: &str, grant: CommandGrant) -> Result<Arc<dyn Tool>, CommandGrantError> {
    let env = BTreeMap::from([("OTHER".to_owned(), "other".to_owned())]);
    let secrets = BTreeMap::from([("TOKEN".to_owned(), Secret::new("t0ps3cret"))]);
    CommandTool::new(name, grant, &sandbox(), &env, secrets).map(|tool| Arc::new(tool) as Arc<dyn Tool>)
}

fn tool(more: Value) -> Arc<dyn Tool> {
    made(grant(more)).unwrap()
}

fn job(args: Value) -> Job {
    Job { args, plan: Value::Null, key: "k-1".into() }
}

#[tokio::test]
async fn an_argument_stays_one_word() {
    let room = Room::new(&[]);
    for sandboxed in [true, false] {
        let tool = tool(json!({
            "run": ["printf", "[%s]", "{text}", "--count={count}", "{file}", "{key}"], "sandboxed": sandboxed,
        }));
        let args = json!({"text": "a b; rm -rf $HOME `x` 'q' \"", "count": 3});
        let told = room.call(&tool, args).await.unwrap();
        assert_eq!(told, "[a b; rm -rf $HOME `x` 'q' \"][--count=3][k]");
        let error = room.call(&tool, json!({"text": "--help"})).await.unwrap_err();
        assert_eq!(
            error,
            "Not run: the value of `text` may not begin with `-`: --help would be taken for an option of the command. \
             Give another value."
        );
        let error = room.call(&tool, json!({"text": "x", "other": 1})).await.unwrap_err();
        assert!(error.contains("'other' was unexpected"), "{error}");
    }
}

#[tokio::test]
async fn what_it_prints_is_the_result_and_a_failure_is_told() {
    let room = Room::new(&[]);
    for sandboxed in [true, false] {
        let script = "read line; echo \"got $line\"; echo warned >&2; exit $1";
        let tool = tool(json!({
            "run": ["sh", "-c", script, "sh", "{count}"], "stdin": "{{{text}}}\n", "sandboxed": sandboxed,
        }));
        let told = room.call(&tool, json!({"text": "x", "count": 0})).await;
        assert_eq!(told.as_deref(), Ok("got {x}\n"));
        let told = room.call(&tool, json!({"text": "x", "count": 4})).await;
        assert_eq!(told.as_deref(), Ok("exit code 4\nstdout:\ngot {x}\nstderr:\nwarned"));
    }
    let silent = tool(json!({"run": ["true"]}));
    assert_eq!(room.call(&silent, json!({})).await.as_deref(), Ok("Done; it printed nothing."));
    let missing = tool(json!({"run": ["no-such-program"], "sandboxed": false}));
    let error = room.run(&missing, &job(json!({}))).await.unwrap_err();
    assert!(matches!(&error, ToolError::Failed(text) if text.starts_with("Not run: ")), "{error}");
    let limits = json!({"limits": {"wall-secs": 1}});
    let slow =
        tool(json!({"run": ["sh", "-c", "sleep 60 & sleep 60"], "sandboxed": false, "programs": limits}));
    let told = room.call(&slow, json!({})).await.unwrap();
    assert!(told.starts_with("stopped, with all that it had started: it ran for the 1 seconds"), "{told}");
}

#[tokio::test]
async fn secrets_are_given_and_not_told() {
    let room = Room::new(&[]);
    for sandboxed in [true, false] {
        let tool = tool(json!({
            "run": ["sh", "-c", "echo \"$TOKEN\" > token; echo \"${{OTHER-unset}} $TOKEN\"; exit {count}"],
            "secrets": {"TOKEN": "env:NOTE_TOKEN"},
            "sandboxed": sandboxed,
        }));
        let told = room.call(&tool, json!({"count": 0})).await;
        assert_eq!(told.as_deref(), Ok("unset [the secret in TOKEN]\n"));
        let told = room.call(&tool, json!({"count": 1})).await.unwrap();
        assert!(told.contains("unset [the secret in TOKEN]"), "{told}");
        assert_eq!(std::fs::read_to_string(room.path().join("token")).unwrap(), "t0ps3cret\n");
        let plan = room.plan(&tool, &json!({"count": 0})).await.unwrap();
        assert!(plan.preview.ends_with("TOKEN is the secret env:NOTE_TOKEN"), "{}", plan.preview);
    }
    let error = made(grant(json!({"secrets": {"NOT_RESOLVED": "env:X"}}))).err();
    assert_eq!(error, Some(CommandGrantError::Secret("NOT_RESOLVED".to_owned())));
}

#[tokio::test]
async fn a_call_is_taken_back_by_what_it_said() {
    let mut room = Room::new(&[]);
    let tool = tool(json!({"undo": ["rm", "{result.id}"], "effect": "write"}));
    let args = json!({"text": "x", "file": "made"});
    let plan = room.plan(&tool, &args).await.unwrap();
    expect_test::expect![[r#"
        $ sh -c 'shift; echo "$1" > "$2"; echo "{\"id\": \"$2\"}"' sh -- x made
        in the sandbox, can be taken back"#]]
    .assert_eq(&plan.preview);
    assert_eq!(plan.undo, Some(json!({"args": args})));
    let said = room.run(&tool, &job(args)).await.unwrap();
    assert!(room.path().join("made").exists());

    let undo = tool.undoing().unwrap();
    assert_eq!((undo.declaration().class, undo.declaration().effect), (Class::Write, Effect::Write));
    room.context.undone = Some(format!("{said}\n\nWarning: this is the same call as before"));
    let undo_args = plan.undo.unwrap();
    let planned = room.plan(&undo, &undo_args).await.unwrap();
    assert_eq!(planned.preview, "$ rm made\nin the sandbox, cannot be taken back");
    assert_eq!(room.run(&undo, &job(undo_args.clone())).await, Ok("Done; it printed nothing.".to_owned()));
    assert!(!room.path().join("made").exists());
    // Again: it is not there, and nobody knows more.
    let again = room.run(&undo, &job(undo_args.clone())).await.unwrap_err();
    assert!(matches!(&again, ToolError::Unknown(text) if text.contains("exit code 1")), "{again}");

    // What may have failed is not taken back, nor what said something else.
    for (said, want) in [
        ("exit code 1\nstdout: nothing", "Not taken back: the command did not end well then (exit code 1)"),
        ("stopped, with all that it had started: …", "Not taken back: "),
        ("{\"id\": null}", "Not run: what the call said has no `id`"),
        ("{\"id\": \"-rf\"}", "Not run: the value of `result` may not begin with `-`"),
    ] {
        room.context.undone = Some(said.to_owned());
        let refused = room.plan(&undo, &undo_args).await.unwrap_err();
        assert!(refused.starts_with(want), "{refused}");
    }
}

#[tokio::test]
async fn a_probe_tells_what_a_crash_hid() {
    let room = Room::new(&[("k-1", "")]);
    let probed = |probe: Value| {
        let tool = tool(json!({"probe": probe}));
        let room = &room;
        async move { tool.probe(&job(json!({"file": "a"})), &room.context).await }
    };
    assert_eq!(
        probed(json!(["sh", "-c", "test -e {key} && echo there"])).await,
        Probe::Happened(ToolOutput::text("there\n"))
    );
    assert_eq!(probed(json!(["test", "-e", "{file}"])).await, Probe::DidNot);
    let Probe::Unsure(reason) = probed(json!(["sh", "-c", "echo why >&2; exit 2"])).await else { panic!() };
    assert_eq!(reason, "its probe could not tell: exit code 2\nstdout: nothing\nstderr:\nwhy");
    let Probe::Unsure(_) = probed(json!(["no-such-program"])).await else { panic!() };
    // It only looks.
    assert_eq!(probed(json!(["touch", "looked"])).await, Probe::DidNot);
    assert!(!room.path().join("looked").exists());
}

#[tokio::test]
async fn whether_it_was_taken_back_is_found_out_by_a_command_of_its_own() {
    let mut room = Room::new(&[("left", "")]);
    room.context.undone = Some("{\"id\": \"left\"}".to_owned());
    let happened = || Probe::Happened(ToolOutput::text("Done; it printed nothing."));
    let could_not = |told: &str| Probe::Unsure(format!("its probe could not tell: {told}"));
    let rows = [
        (json!(["test", "!", "-e", "{result.id}"]), Probe::DidNot),
        (json!(["test", "!", "-e", "gone"]), happened()),
        (json!(["test", "{key}", "=", "k-1"]), happened()),
        (json!(["sh", "-c", "exit 7"]), could_not("exit code 7\nstdout: nothing\nstderr: nothing")),
        // It can change nothing.
        (json!(["sh", "-c", "rm left 2>&-; test ! -e left"]), Probe::DidNot),
    ];
    let undo_of = |more: Value| tool(more).undoing().unwrap();
    let asked = job(json!({"args": {"text": "x"}}));
    for (words, want) in rows {
        let more = json!({"undo": ["false"], "probe": ["true"], "undo-probe": words});
        assert_eq!(undo_of(more).probe(&asked, &room.context).await, want, "{words}");
    }
    // That a call happened says nothing of whether it was taken back.
    let without = undo_of(json!({"undo": ["false"], "probe": ["true"]}));
    let want = Probe::Unsure("the tool has no way to find out".to_owned());
    assert_eq!(without.probe(&asked, &room.context).await, want);
}

#[tokio::test]
async fn what_is_not_declared_counts_as_the_worst() {
    let plain = tool(json!({}));
    let want = Declaration { args: BTreeMap::new(), ..Declaration::undeclared() };
    assert_eq!((plain.declaration(), plain.rehearsal()), (&want, Rehearsal::Noted));
    assert!(plain.undoing().is_none());
    assert_eq!(plain.spec().schema["additionalProperties"], json!(false));
    let tool = tool(json!({
        "class": "read", "effect": "read", "integrity": "trusted", "private": "financial", "roles": {"file": "object"},
    }));
    let declaration = tool.declaration();
    assert_eq!((declaration.class, declaration.effect), (Class::Read, Effect::Read));
    assert_eq!((declaration.role_of("file"), declaration.role_of("text")), (ArgRole::Object, ArgRole::Sink));
    assert_eq!(declaration.integrity, Integrity::Trusted);
    assert_eq!(declaration.output_labels().private, [Category::Financial].into());
    // And it can only read.
    let room = Room::new(&[]);
    room.call(&tool, json!({"text": "x", "file": "a"})).await.unwrap();
    assert!(!room.path().join("a").exists());
    let loud = json!({"class": "read", "effect": "read", "run": ["touch", "{file}"]});
    let told = room.call(&self::tool(loud), json!({"file": "a"})).await.unwrap();
    assert!(told.contains("touch: cannot touch 'a': Read-only file system"), "{told}");
}

#[test]
fn a_grant_that_is_none_is_refused() {
    let understated = |said, granted| CommandGrantError::Understated { said, granted };
    let outside = understated("read or write in the workspace", "it is granted the network or paths outside");
    let cases = [
        (json!({"arguments": {"type": "array"}}), CommandGrantError::Arguments),
        (
            json!({"arguments": {"type": "object", "properties": {"key": {}}}, "run": ["a"]}),
            CommandGrantError::Taken("key"),
        ),
        (json!({"roles": {"nobody": "sink"}}), CommandGrantError::NoArgument("nobody".to_owned())),
        (json!({"dashed": ["nobody"]}), CommandGrantError::NoArgument("nobody".to_owned())),
        (json!({"class": "idempotent"}), CommandGrantError::NoKey),
        (json!({"class": "read", "undo": ["true"]}), CommandGrantError::Undo),
        (json!({"undo-probe": ["true"]}), CommandGrantError::UndoProbe),
        (json!({"class": "irreversible", "undo": ["true"]}), CommandGrantError::Undo),
        (json!({"effect": "write", "programs": {"network": true}}), outside.clone()),
        (json!({"effect": "write", "programs": {"write": ["/var/x"]}}), outside),
        (json!({"effect": "read"}), understated("read", "its class says that it changes something")),
        (json!({"class": "read", "effect": "write"}), understated("read", "its effect is more than to look")),
        (
            json!({"class": "read", "programs": {"write": ["/var/x"]}}),
            understated("read", "it is granted paths to write to"),
        ),
    ];
    for (more, want) in cases {
        assert_eq!(made(grant(more.clone())).err(), Some(want), "{more}");
    }
    for more in
        [json!({"run": ["a", "{result}"]}), json!({"probe": ["a", "{result}"]}), json!({"stdin": "{x}"})]
    {
        assert!(matches!(made(grant(more.clone())), Err(CommandGrantError::Template { .. })), "{more}");
    }
    assert!(made(grant(json!({"class": "idempotent", "stdin": "{key}"}))).is_ok());
}
