//! Every mistake is answered with what is wrong, where, and what to do; and with the exit code that says whose turn it is.

use super::kit::Place;
use expect_test::{Expect, expect};

fn check(place: &Place, args: &[&str], want: &Expect) {
    want.assert_eq(&place.run(args).shown());
}

#[test]
fn a_wrong_command_line() {
    let place = Place::new();
    check(
        &place,
        &["rum"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1011]: unrecognized subcommand 'rum'

          tip: some similar subcommands exist: 'runs', 'run', 'resume'

        Usage: backstop [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
    check(
        &place,
        &["run", "--time", "soon", "x"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1011]: invalid value 'soon' for '--time <SPAN>': a span of time is written like "500ms", "20s", "3m" or "1h30m"

        For more information, try '--help'.
    "#]],
    );
    check(
        &place,
        &["explain", "BS0"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1011]: `BS0` is no code of Backstop's
        hint: `backstop explain` lists them all; `backstop explain stack` prints the stack
    "#]],
    );
}

#[test]
fn a_config_with_mistakes() {
    let place = Place::new();
    place.write("backstop.toml", "[agents.writer]\nmodle = \"sim\"\n\n[budgets]\nday = \"lots\"\n");
    check(
        &place,
        &["runs"],
        &expect![[r#"
            exit 2
            --- stderr
            error[BS1002]: unknown key `modle` in `agents.writer`
              --> backstop.toml:2:1
            hint: did you mean `model`? allowed keys: backoff, description, limits, max-tokens, model, on-failure, prompt, result-schema, role, tools, tries, workspace
            error[BS1003]: `budgets.day`: dollars are written like 5, 0.25 or "$5.00", with at most nine decimals
              --> backstop.toml:5:7
            hint: day: Dollars per day (UTC), everything together
        "#]],
    );
    place.write(
        "backstop.toml",
        "[agents.writer]\nprompt = \"writer.md\"\nmodel = \"sim\"\ntools = [\"shell\"]\n",
    );
    check(
        &place,
        &["run", "--agent", "writer", "x"],
        &expect![[r#"
            exit 2
            --- stderr
            error[BS1008]: `agents.writer.prompt`: writer.md cannot be read: No such file or directory (os error 2)
              --> backstop.toml:2:1
            hint: create the file, or change `prompt` of the agent
            error[BS1010]: `agents.writer.tools`: there is no tool `shell`
              --> backstop.toml:4:1
            hint: tools: delegate, delete_file, edit_file, list_files, move_file, read_file, read_result, search_files, submit_task, write_file
        "#]],
    );
    place.write("backstop.toml", "[agents\n");
    check(
        &place,
        &["check"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1001]: unclosed table, expected `]`
          --> backstop.toml:1:8
        hint: mend the line named above; `backstop init` writes a file that works
    "#]],
    );
    check(
        &place,
        &["check", "--config", "gone.toml"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1001]: gone.toml cannot be read: No such file or directory (os error 2)
        hint: name a file that exists, or write one with `backstop init`
    "#]],
    );
}

#[test]
fn no_provider_and_no_such_names() {
    let place = Place::new();
    check(
        &place,
        &["run", "do it"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1005]: there is no provider to call
        hint: set ANTHROPIC_API_KEY or OPENAI_API_KEY, start Ollama, or use --model sim
    "#]],
    );
    check(
        &place,
        &["run", "--agent", "writer", "do it"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1007]: there is no agent `writer`
        hint: there are no agents yet
    "#]],
    );
    check(
        &place,
        &["show", "zzz"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS4006]: there is no run zzz
        hint: `backstop runs` lists them
    "#]],
    );
    check(
        &place,
        &["resume", "zzz"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS4006]: there is no run zzz
        hint: `backstop runs` lists them
    "#]],
    );
    check(
        &place,
        &["run", "--model", "sim", " "],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1011]: the task is empty
        hint: give the task as an argument, with --file, or on standard input
    "#]],
    );
    assert!(!place.path().join(".backstop").exists(), "nothing is made by a command that did nothing");
}

#[test]
fn a_missing_key_is_named_and_needed_only_when_it_is() {
    let place = Place::new();
    let config = "model = \"m\"\n[providers.anthropic]\n[models.m]\nprovider = \"anthropic\"\nid = \"claude-sonnet-5\"\n";
    place.write("backstop.toml", config);
    check(
        &place,
        &["run", "x"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1004]: provider anthropic: the environment variable ANTHROPIC_API_KEY is not set
        hint: run `export ANTHROPIC_API_KEY=…` first, or change the reference in the config
    "#]],
    );
    assert_eq!(place.run(&["runs"]).code, 0);
}

#[test]
fn a_workspace_that_cannot_be_used() {
    let place = Place::new();
    place.write("file", "x");
    check(
        &place,
        &["run", "--model", "sim", "--workspace", "gone", "x"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1009]: the workspace gone cannot be used: No such file or directory (os error 2)
        hint: name a directory that you may read and write
    "#]],
    );
    check(
        &place,
        &["run", "--model", "sim", "--workspace", "file", "x"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1009]: the workspace file is no directory
        hint: name a directory that you may read and write
    "#]],
    );
}

#[test]
fn a_damaged_database_is_left_as_it_is() {
    let place = Place::new();
    let damaged = "this is no database at all, and long enough to be read as one".repeat(100);
    place.write(".backstop/backstop.db", &damaged);
    check(
        &place,
        &["runs"],
        &expect![[r#"
            exit 2
            --- stderr
            error[BS4002]: the database is damaged: .backstop/backstop.db: it is no SQLite database
            hint: restore a copy, or move the file away to start anew; nothing was written to it
        "#]],
    );
    check(
        &place,
        &["run", "--model", "sim", "x"],
        &expect![[r#"
            exit 2
            --- stderr
            error[BS4002]: the database is damaged: .backstop/backstop.db: it is no SQLite database
            hint: restore a copy, or move the file away to start anew; nothing was written to it
        "#]],
    );
    assert_eq!(place.read(".backstop/backstop.db"), damaged);
}

#[test]
fn a_log_level_that_is_none() {
    let place = Place::new();
    let done = place.command(&["run", "--model", "sim", "x"]).env("BACKSTOP_LOG", "loud").output().unwrap();
    expect![[r#"
        exit 2
        --- stderr
        error[BS1003]: BACKSTOP_LOG: `loud` is no level (debug, info, warn or error)
        hint: set it to debug, info, warn, error or off
    "#]]
    .assert_eq(&place.done(&done).shown());
}

#[test]
fn init_never_overwrites() {
    let place = Place::new();
    place.write("backstop.toml", "# mine\n");
    check(
        &place,
        &["init"],
        &expect![[r#"
        exit 2
        --- stderr
        error[BS1011]: backstop.toml exists already, and is left as it is
        hint: move it away first, or name another file with --config
    "#]],
    );
    assert_eq!(place.read("backstop.toml"), "# mine\n");
}
