//! Git on real repositories, some of them hostile.

use crate::kit::Room;
use crate::sandbox::sandbox;
use backstop_agent::tool::{Job, Probe};
use backstop_agent::{Plan, Rehearsal, Tool, ToolError};
use backstop_call::Secret;
use backstop_label::{Class, Effect};
use backstop_tools::git::{GitGrant, GitGrantError, PushGrant, tools};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

/// Calls git as a person would, without their config.
pub(crate) fn git(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A workspace with a repository and one commit in it.
pub(crate) fn room() -> Room {
    let room = Room::new(&[("a.txt", "one\n"), ("b.txt", "two\n")]);
    let dir = room.path();
    git(dir, &["init", "--quiet", "--initial-branch=main"]);
    git(dir, &["config", "user.name", "A Person"]);
    git(dir, &["config", "user.email", "person@example.com"]);
    git(dir, &["add", "."]);
    git(dir, &["commit", "--quiet", "-m", "First"]);
    room
}

pub(crate) fn grant() -> GitGrant {
    GitGrant { commit: true, ..GitGrant::default() }
}

fn tool(grant: &GitGrant, name: &str) -> Arc<dyn Tool> {
    let tools = tools(grant, &sandbox(), &BTreeMap::new()).unwrap();
    tools.into_iter().find(|tool| tool.spec().name == name).unwrap()
}

fn write(room: &Room, path: &str, text: &str) {
    std::fs::write(room.path().join(path), text).unwrap();
}

pub(crate) fn head(room: &Room) -> String {
    git(room.path(), &["rev-parse", "HEAD"]).trim().to_owned()
}

pub(crate) fn job(args: &Value, plan: &Plan) -> Job {
    Job { args: args.clone(), plan: plan.body.clone(), key: "k".into() }
}

/// Plans a commit and makes it.
async fn commit(room: &Room, args: &Value) -> (Plan, Result<String, ToolError>) {
    let tool = tool(&grant(), "git_commit");
    let plan = room.plan(&tool, args).await.unwrap();
    let said = room.run(&tool, &job(args, &plan)).await;
    (plan, said)
}

#[tokio::test]
async fn it_tells_what_is_changed_and_what_was_done() {
    let room = room();
    let index = std::fs::read(room.path().join(".git/index")).unwrap();
    let [status, diff, log] = ["git_status", "git_diff", "git_log"].map(|name| tool(&grant(), name));
    assert_eq!(room.call(&status, json!({})).await.as_deref(), Ok("## main\n"));
    assert_eq!(room.call(&diff, json!({})).await.as_deref(), Ok("There is no difference."));
    write(&room, "a.txt", "one\nmore\n");
    write(&room, "new\n.txt", "");
    let told = room.call(&status, json!({})).await.unwrap();
    assert_eq!(told, "## main\n M a.txt\n?? \"new\\n.txt\"\n");
    let told = room.call(&diff, json!({"paths": ["a.txt"]})).await.unwrap();
    assert!(told.contains("\n one\n+more\n"), "{told}");
    for args in [
        json!({"staged": true}),
        json!({"paths": ["b.txt"]}),
        json!({"revision": "HEAD", "paths": ["b.txt"]}),
    ] {
        assert_eq!(room.call(&diff, args).await.as_deref(), Ok("There is no difference."));
    }
    let told = room.call(&log, json!({"count": 1})).await.unwrap();
    assert!(told.contains(" A Person\n    First"), "{told}");
    assert_eq!(std::fs::read(room.path().join(".git/index")).unwrap(), index);

    for args in [json!({"revision": "--output=x"}), json!({"revision": ""})] {
        let refused = room.call(&diff, args).await.unwrap_err();
        assert!(refused.starts_with("Not done: a revision does not begin with `-`"), "{refused}");
    }
    let refused = room.call(&log, json!({"revision": "nowhere"})).await.unwrap_err();
    assert!(refused.starts_with("Not done: git log did not work: exit code 128"), "{refused}");
    let nothing = Room::new(&[]).call(&status, json!({})).await.unwrap_err();
    assert_eq!(nothing, "Not done: there is no git repository at the workspace's root (a directory .git).");
}

#[tokio::test]
async fn a_file_that_was_changed_in_the_second_it_was_staged_in_is_committed() {
    let room = room();
    let then = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_hours(400_000);
    let date = |path: &str| {
        std::fs::File::options()
            .write(true)
            .open(room.path().join(path))
            .unwrap()
            .set_modified(then)
            .unwrap();
    };
    date("a.txt");
    git(room.path(), &["add", "--renormalize", "."]);
    date(".git/index");
    write(&room, "a.txt", "eno\n");
    date("a.txt");
    let (plan, said) = commit(&room, &json!({"message": "Second", "paths": ["."]})).await;
    assert!(said.is_ok() && plan.preview.contains("+eno"), "{said:?} {}", plan.preview);
    assert_eq!(git(room.path(), &["show", "HEAD:a.txt"]), "eno\n");
}

#[tokio::test]
async fn a_commit_is_shown_made_and_taken_back() {
    let room = room();
    let first = head(&room);
    write(&room, "a.txt", "changed\n");
    write(&room, "new.txt", "new\n");
    write(&room, "left.txt", "left\n");
    let objects = git(room.path(), &["count-objects"]);
    let args = json!({"message": "Second\n\nFor a \u{202e}reason.", "paths": ["a.txt", "new.txt"]});
    let tool = tool(&grant(), "git_commit");
    let plan = room.plan(&tool, &args).await.unwrap();
    assert!(
        plan.preview.starts_with("Commit to main:\nSecond\n\nFor a \\u{202e}reason.\n\n"),
        "{}",
        plan.preview
    );
    for shown in [" a.txt   | 2 +-\n", " new.txt | 1 +\n", "\n-one\n+changed\n", "\n+new\n"] {
        assert!(plan.preview.contains(shown), "{}", plan.preview);
    }
    // To plan changes nothing.
    assert_eq!(git(room.path(), &["count-objects"]), objects);
    assert_eq!(git(room.path(), &["status", "--short"]), " M a.txt\n?? left.txt\n?? new.txt\n");
    assert_eq!(tool.probe(&job(&args, &plan), &room.context).await, Probe::DidNot);

    let said = room.run(&tool, &job(&args, &plan)).await.unwrap();
    let second = head(&room);
    assert_eq!(said, format!("Committed to main: {second}"));
    assert_eq!(plan.body["commit"], json!(second));
    assert_eq!(git(room.path(), &["status", "--short"]), "?? left.txt\n");
    let shown = git(room.path(), &["log", "-1", "--format=%an <%ae> %cn|%P|%B"]);
    assert_eq!(
        shown,
        format!("A Person <person@example.com> A Person|{first}|Second\n\nFor a \u{202e}reason.\n\n")
    );
    assert!(matches!(tool.probe(&job(&args, &plan), &room.context).await, Probe::Happened(_)));
    // A second attempt makes nothing more.
    assert_eq!(room.run(&tool, &job(&args, &plan)).await, Ok(said));
    assert_eq!(head(&room), second);

    write(&room, "a.txt", "later\n");
    let undo = tool.undoing().unwrap();
    let undo_args = plan.undo.unwrap();
    let planned = room.plan(&undo, &undo_args).await.unwrap();
    let want =
        format!("Move refs/heads/main from {second} back to {first}; files and index stay as they are.");
    assert_eq!(planned.preview, want);
    room.run(&undo, &job(&undo_args, &planned)).await.unwrap();
    assert_eq!(head(&room), first);
    assert_eq!(git(room.path(), &["status", "--short"]), "MM a.txt\nA  new.txt\n?? left.txt\n");
    let again = room.plan(&undo, &undo_args).await.unwrap_err();
    assert_eq!(again, format!("Not done: refs/heads/main is no longer at {second}, but at {first}."));
}

#[tokio::test]
async fn a_commit_that_was_rehearsed_has_the_date_of_then() {
    let mut room = room();
    write(&room, "a.txt", "changed\n");
    let (tool, args) = (tool(&grant(), "git_commit"), json!({"message": "More", "paths": ["a.txt"]}));
    let mut then = room.plan(&tool, &args).await.unwrap().body;
    then["date"] = "1700000000 +0000".into();
    room.context.rehearsed = Some(then);
    let plan = room.plan(&tool, &args).await.unwrap();
    room.run(&tool, &job(&args, &plan)).await.unwrap();
    assert_eq!(git(room.path(), &["log", "-1", "--format=%ct %at"]), "1700000000 1700000000\n");
}

#[tokio::test]
async fn the_first_commit_of_a_repository_is_taken_back_too() {
    let room = Room::new(&[("a.txt", "one\n")]);
    git(room.path(), &["init", "--quiet", "--initial-branch=main"]);
    let grant =
        GitGrant { author_name: Some("Agent".into()), author_email: Some("agent@x".into()), ..grant() };
    let tool = tool(&grant, "git_commit");
    let args = json!({"message": "First", "paths": ["."]});
    let plan = room.plan(&tool, &args).await.unwrap();
    room.run(&tool, &job(&args, &plan)).await.unwrap();
    assert_eq!(git(room.path(), &["log", "--format=%an %s"]), "Agent First\n");
    let undo_args = plan.undo.unwrap();
    let undo = tool.undoing().unwrap();
    let planned = room.plan(&undo, &undo_args).await.unwrap();
    room.run(&undo, &job(&undo_args, &planned)).await.unwrap();
    assert_eq!(git(room.path(), &["status", "--short"]), "A  a.txt\n");
}

#[tokio::test]
async fn what_changed_since_the_plan_is_not_committed() {
    let room = room();
    let tool = tool(&grant(), "git_commit");
    let args = json!({"message": "Second", "paths": ["."]});
    write(&room, "a.txt", "planned\n");
    let plan = room.plan(&tool, &args).await.unwrap();
    write(&room, "a.txt", "other\n");
    let want = "Not done: what was to be committed has changed since it was planned; plan it again.";
    assert_eq!(room.run(&tool, &job(&args, &plan)).await, Err(ToolError::Failed(want.to_owned())));
    assert_eq!(git(room.path(), &["status", "--short"]), " M a.txt\n");
    write(&room, "a.txt", "planned\n");
    git(room.path(), &["commit", "--quiet", "--allow-empty", "-m", "Somebody's"]);
    assert_eq!(room.run(&tool, &job(&args, &plan)).await, Err(ToolError::Failed(want.to_owned())));
    let Probe::Unsure(reason) = tool.probe(&job(&args, &plan), &room.context).await else { panic!() };
    assert_eq!(reason, "refs/heads/main was moved by somebody else");
}

#[tokio::test]
async fn a_commit_that_makes_no_sense_is_refused() {
    let room = room();
    let tool = tool(&grant(), "git_commit");
    let refused = async |args: Value| room.plan(&tool, &args).await.unwrap_err();
    let nothing = "Not done: there is nothing to commit in these paths; look at git_status.";
    assert_eq!(refused(json!({"message": "m", "paths": ["."]})).await, nothing);
    write(&room, "a.txt", "changed\n");
    let outside = refused(json!({"message": "m", "paths": ["../x"]})).await;
    assert!(outside.contains("outside repository"), "{outside}");
    assert!(refused(json!({"message": "m", "paths": ["*.txt"]})).await.contains("did not match any files"));
    assert!(refused(json!({"message": "", "paths": ["."]})).await.contains("/message"));
    write(&room, ".git/MERGE_HEAD", &head(&room));
    assert!(refused(json!({"message": "m", "paths": ["."]})).await.contains("something else is under way"));
    std::fs::remove_file(room.path().join(".git/MERGE_HEAD")).unwrap();
    git(room.path(), &["checkout", "--quiet", "--detach"]);
    assert!(refused(json!({"message": "m", "paths": ["."]})).await.contains("no branch is checked out"));
    git(room.path(), &["checkout", "--quiet", "main"]);
    write(&room, ".gitattributes", "*.txt filter=lfs\n");
    let filtered = refused(json!({"message": "m", "paths": ["."]})).await;
    assert!(filtered.starts_with("Not done: a.txt goes through the filter lfs"), "{filtered}");
}

/// A repository whose config names a program wherever git would run one.
fn hostile() -> Room {
    let room = room();
    let dir = room.path();
    let evil = dir.join("evil");
    std::fs::write(&evil, format!("#!/bin/sh\ntouch {}/ran $TMPDIR/ran; cat\n", dir.display())).unwrap();
    let mut permissions = evil.metadata().unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    std::fs::set_permissions(&evil, permissions).unwrap();
    let evil = evil.to_str().unwrap();
    for name in
        ["pre-commit", "post-commit", "commit-msg", "reference-transaction", "post-index-change", "pre-push"]
    {
        std::fs::copy(evil, dir.join(".git/hooks").join(name)).unwrap();
    }
    for key in [
        "core.fsmonitor",
        "core.sshCommand",
        "core.pager",
        "core.editor",
        "core.askPass",
        "diff.external",
        "diff.evil.textconv",
        "diff.evil.command",
        "filter.evil.clean",
        "filter.evil.smudge",
        "filter.evil.process",
        "gpg.program",
        "credential.helper",
        "alias.status",
        "alias.commit-tree",
        "sequence.editor",
        "pager.log",
        "uploadpack.packObjectsHook",
    ] {
        git(dir, &["config", key, evil]);
    }
    for (key, value) in [
        ("commit.gpgSign", "true"),
        ("log.showSignature", "true"),
        ("push.gpgSign", "true"),
        ("core.hooksPath", ".git/hooks"),
        ("protocol.ext.allow", "always"),
    ] {
        git(dir, &["config", key, value]);
    }
    std::fs::write(dir.join(".git/info/attributes"), "*.md diff=evil filter=evil\n").unwrap();
    std::fs::write(dir.join("a.txt"), "changed\n").unwrap();
    std::fs::write(dir.join("c.md"), "filtered\n").unwrap();
    room
}

#[tokio::test]
async fn a_hostile_config_makes_nothing_run() {
    let room = hostile();
    let ran = room.path().join("ran");
    for (name, args) in [("git_status", json!({})), ("git_diff", json!({})), ("git_log", json!({}))] {
        room.call(&tool(&grant(), name), args).await.unwrap();
    }
    let (_, said) = commit(&room, &json!({"message": "Second", "paths": ["a.txt"]})).await;
    said.unwrap();
    let target = tempfile::tempdir().unwrap();
    git(target.path(), &["init", "--quiet", "--bare"]);
    let evil = room.path().join("evil").display().to_string();
    let url = target.path().to_str().unwrap();
    git(room.path(), &["config", &format!("url.ext::{evil}.insteadOf"), url]);
    let push = PushGrant {
        name: "there".into(),
        url: url.into(),
        branches: vec!["main".into()],
        token: None,
        authority: None,
    };
    let push = tool(&GitGrant { push: vec![push], ..grant() }, "git_push");
    let told = room.call(&push, json!({"remote": "there", "branch": "main"})).await;
    assert!(told.is_ok(), "{told:?}");
    assert!(!ran.exists(), "a program of the repository's ran");
    // The same by a git that reads the config: the trap is one.
    let status = Command::new("git").args(["status"]).current_dir(room.path()).output().unwrap();
    assert!(ran.exists(), "{status:?}");
}

#[tokio::test]
async fn a_repository_that_is_laid_out_otherwise_is_refused() {
    let room = room();
    let status = tool(&grant(), "git_status");
    git(room.path(), &["config", "core.worktree", "/"]);
    let refused = room.call(&status, json!({})).await.unwrap_err();
    assert!(refused.contains("has its files elsewhere (core.worktree)"), "{refused}");
    let elsewhere = self::room();
    std::fs::remove_dir_all(room.path().join(".git")).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join(".git"), room.path().join(".git")).unwrap();
    assert!(room.call(&status, json!({})).await.unwrap_err().contains("there is no git repository"));
}

#[tokio::test]
async fn a_branch_is_pushed_where_it_may_be_and_never_by_force() {
    let room = room();
    let target = tempfile::tempdir().unwrap();
    git(target.path(), &["init", "--quiet", "--bare"]);
    let remote = PushGrant {
        name: "origin".into(),
        url: target.path().to_str().unwrap().into(),
        branches: vec!["main".into(), "agent/*".into()],
        token: None,
        authority: None,
    };
    let grant = GitGrant { push: vec![remote], ..grant() };
    let push = tool(&grant, "git_push");
    let declaration = push.declaration();
    assert_eq!((declaration.class, declaration.effect), (Class::Irreversible, Effect::External));
    assert_eq!(push.rehearsal(), Rehearsal::Noted);
    for (args, want) in [
        (
            json!({"remote": "evil", "branch": "main"}),
            "Not done: nothing may be pushed to evil; there is origin.",
        ),
        (
            json!({"remote": "origin", "branch": "release"}),
            "Not done: the branch release may not be pushed to origin; allowed: main, agent/*.",
        ),
    ] {
        assert_eq!(room.plan(&push, &args).await, Err(want.to_owned()));
    }
    let args = json!({"remote": "origin", "branch": "main"});
    write(&room, "a.txt", "changed\n");
    let (made, said) = commit(&room, &json!({"message": "Second", "paths": ["."]})).await;
    said.unwrap();
    let second = head(&room);
    let plan = room.plan(&push, &args).await.unwrap();
    let url = target.path().display();
    assert!(
        plan.preview.starts_with(&format!("Push main ({second}) to origin, {url}:\n")),
        "{}",
        plan.preview
    );
    assert!(plan.preview.contains(" Second\n") && plan.preview.contains(" First\n"), "{}", plan.preview);
    let said = room.run(&push, &job(&args, &plan)).await;
    assert_eq!(said, Ok(format!("Pushed {second} to origin, branch main.")));
    assert_eq!(git(target.path(), &["rev-parse", "main"]).trim(), second);

    // What is out is not taken back.
    let undo = tool(&grant, "git_commit").undoing().unwrap();
    let refused = room.plan(&undo, &made.undo.unwrap()).await.unwrap_err();
    assert!(refused.starts_with("Not done: the commit was pushed (refs/remotes/origin/main)"), "{refused}");
    // And what is there is not written over.
    git(room.path(), &["reset", "--quiet", "--hard", "HEAD~1"]);
    git(room.path(), &["commit", "--quiet", "--allow-empty", "-m", "Another"]);
    let plan = room.plan(&push, &args).await.unwrap();
    let refused = room.run(&push, &job(&args, &plan)).await.unwrap_err();
    assert!(matches!(&refused, ToolError::Failed(text) if text.contains("rejected")), "{refused}");
    assert_eq!(git(target.path(), &["rev-parse", "main"]).trim(), second);
}

#[test]
fn a_grant_that_is_none_is_refused() {
    let refused = |name: &str, url: &str, token: Option<&str>| {
        let token = token.map(str::to_owned);
        let push = PushGrant {
            name: name.into(),
            url: url.into(),
            branches: vec!["main".into()],
            token,
            authority: None,
        };
        let other = BTreeMap::from([("other".to_owned(), Secret::new("x"))]);
        tools(&GitGrant { push: vec![push], ..grant() }, &sandbox(), &other).err().unwrap()
    };
    for url in
        ["ext::sh -c evil", "http://example.com/x", "git@example.com:x", "https://me:pw@example.com/x", "x"]
    {
        assert_eq!(refused("origin", url, None), GitGrantError::Address("origin".into()));
    }
    assert_eq!(refused("a b", "/x", None), GitGrantError::Name("a b".into()));
    assert_eq!(refused("origin", "https://x.example", Some("env:T")), GitGrantError::Secret("origin".into()));
    let names = |grant: &GitGrant| {
        let tools = tools(grant, &sandbox(), &BTreeMap::new()).unwrap();
        tools.iter().map(|tool| tool.spec().name).collect::<Vec<_>>()
    };
    assert_eq!(names(&GitGrant::default()), ["git_status", "git_diff", "git_log"]);
}

#[tokio::test]
async fn a_lock_that_a_killed_git_left_is_named_and_nothing_is_committed() {
    let room = room();
    let first = head(&room);
    write(&room, "a.txt", "changed\n");
    write(&room, ".git/index.lock", "");
    let (plan, said) = commit(&room, &json!({"message": "Second", "paths": ["a.txt"]})).await;
    let said = said.unwrap_err();
    assert!(matches!(&said, ToolError::Unknown(text) if text.contains("index.lock")), "{said}");
    let args = json!({"message": "Second", "paths": ["a.txt"]});
    let tool = tool(&grant(), "git_commit");
    assert_eq!(tool.probe(&job(&args, &plan), &room.context).await, Probe::DidNot);
    assert_eq!(head(&room), first);
    // Without it, the same call is made.
    std::fs::remove_file(room.path().join(".git/index.lock")).unwrap();
    room.run(&tool, &job(&args, &plan)).await.unwrap();
    assert_ne!(head(&room), first);
}
