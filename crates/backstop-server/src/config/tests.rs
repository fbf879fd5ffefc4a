//! The config as people write it: what is right, and what every mistake is answered with.

#![expect(clippy::needless_raw_string_hashes, reason = "expect-test writes them")]

use super::*;
use backstop_tools::http::HttpGrant;
use backstop_tools::mail::MailGrant;
use backstop_tools::mcp::McpGrant;
use backstop_tools::program::ProgramGrant;
use backstop_tools::sqlite::SqliteGrant;
use expect_test::{Expect, expect, expect_file};
use serde_json::json;
use std::collections::BTreeMap;

/// An environment and files that are only in memory.
#[derive(Default)]
struct Fixed {
    vars: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Surroundings for Fixed {
    fn var(&self, name: &str) -> Option<String> {
        self.vars.get(name).map(|&value| value.to_owned())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.files.get(path).cloned().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn world(text: &str) -> Fixed {
    let file = |path: &str, bytes: &[u8]| (PathBuf::from(path), bytes.to_vec());
    let files = [
        file("backstop.toml", text.as_bytes()),
        file("prompts/writer.md", b"You write."),
        file("prompts/writer.schema.json", br#"{"type":"object"}"#),
        file("empty.md", b" \n"),
        file("latin.md", b"caf\xe9"),
        file("list.json", b"[1]"),
        file("bad-schema.json", br#"{"type":"objekt"}"#),
    ];
    Fixed { files: files.into(), ..Fixed::default() }
}

fn read(text: &str) -> Result<Config, Problems> {
    load(Path::new("backstop.toml"), None, &world(text))
}

fn check_problems(text: &str, want: &Expect) {
    let problems = read(text).unwrap_err().0;
    let shown: Vec<_> = problems
        .iter()
        .map(|problem| format!("{} {problem}\n  hint: {}\n", problem.code, problem.hint))
        .collect();
    want.assert_eq(&shown.concat());
}

/// The default file with every option set.
fn everything() -> String {
    let lines = DEFAULT_FILE.lines().map(|line| match line.strip_prefix('#') {
        Some(option) if option.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => option,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_default_file_changes_nothing() {
    assert_eq!(read(DEFAULT_FILE).unwrap(), read("").unwrap());
}

#[test]
fn every_option_of_the_default_file_is_right_and_shows_the_default() {
    let config = read(&everything()).unwrap();
    let standard = read("").unwrap();
    assert_eq!(config.chains.len(), 1);
    assert_eq!(config.agents[&"writer".into()].prompt.as_deref(), Some("You write."));
    assert_eq!(config.budgets.len(), 3);
    shows_the_defaults_of_tools(&config);
    let settings = |c: &Config| (c.retry.clone(), c.breaker.clone(), c.timeouts.clone(), c.limits.clone());
    assert_eq!(settings(&config), settings(&standard), "the numbers in the file are the defaults");
    assert_eq!(config.numbers, standard.numbers);
    assert_eq!(
        (config.logs, config.journal, config.redact, config.keys.warn_age, config.keys.warn_expiry),
        (standard.logs, standard.journal, standard.redact, standard.keys.warn_age, standard.keys.warn_expiry)
    );
}

/// What is an example in the file is put aside; the rest must be the defaults.
fn shows_the_defaults_of_tools(config: &Config) {
    let file::Tools { shell, git, http, email, sqlite } = config.tools.clone();
    let (shell, git, http, sqlite) = (shell.unwrap(), git.unwrap(), http.unwrap(), sqlite.unwrap());
    assert_eq!(shell.programs, ProgramGrant::default());
    assert_eq!(git.programs, ProgramGrant::default());
    assert_eq!(HttpGrant { hosts: Vec::new(), ..http }, HttpGrant::default());
    assert_eq!(SqliteGrant { files: Vec::new(), ..sqlite }, SqliteGrant::default());
    let email = email.unwrap();
    let least = json!({"server": email.server, "from": email.from, "recipients": email.recipients});
    let least: MailGrant = serde_json::from_value(least).unwrap();
    let shown = MailGrant { user: None, password: None, port: None, ..email };
    assert_eq!(shown, least);
    let (shown, standard) = (&config.mcp["files"], McpGrant::default());
    assert_eq!((&shown.limits, &shown.programs.limits), (&standard.limits, &standard.programs.limits));
    assert_eq!((shown.sandboxed, shown.programs.network), (standard.sandboxed, standard.programs.network));
    let names: Vec<_> = config.mcp["files"].tools.keys().map(String::as_str).collect();
    assert_eq!((names, config.commands.len()), (vec!["read_text_file"], 1));
}

/// Every option of the schema, by its path; tables with names of the user's own are `*`.
fn options(path: &str, schema: &Value, found: &mut Vec<(String, String)>) {
    let schema = schema["anyOf"].as_array().map_or(schema, |all| &all[0]);
    for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{key}");
        found.push((path.clone(), inner["description"].as_str().unwrap_or_default().to_owned()));
        options(&format!("{path}."), inner, found);
        options(&format!("{path}[]."), &inner["items"], found);
        options(&format!("{path}.*."), &inner["additionalProperties"], found);
    }
}

#[test]
fn every_option_says_since_when_and_stands_in_the_default_file() {
    let mut found = Vec::new();
    options("", &inlined_schema(), &mut found);
    assert!(found.len() > 60, "{found:#?}");
    let text = everything();
    for (path, description) in found {
        assert!(description.contains("Since 0."), "{path}: {description}");
        let key = path.rsplit('.').next().unwrap();
        let written = [format!("{key} = "), format!("[{key}"), format!(".{key}")];
        assert!(
            written.iter().any(|form| text.contains(form.as_str())),
            "{path} does not stand in the default file"
        );
    }
}

#[test]
fn the_schema_is_fresh() {
    let schema = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    expect_file!["../../../../docs/reference/backstop.schema.json"].assert_eq(&schema);
}

#[test]
fn a_config_means_what_it_says() {
    let config = read(
        r#"
        model = "main"
        [providers.anthropic]
        [providers.box]
        dialect = "chat"
        base-url = "http://127.0.0.1:8000/v1"
        local = true
        headers = { x-team = "docs", x-token = "file:token" }
        [models.big]
        provider = "anthropic"
        id = "claude-sonnet-5"
        price = { input = 3, output = 15.000000001 }
        [models.small]
        provider = "box"
        id = "qwen"
        [chains.main]
        models = ["big", "small"]
        [budgets]
        day = 0.1
        run = "$0.05"
        [agents.clerk]
        limits = { time = "1h30m", turns = 7 }
        "#,
    )
    .unwrap();
    let big = &config.models[&"big".into()];
    assert_eq!(big.price.unwrap().output.nanos(), 15_000_000_001, "no float in between");
    assert_eq!(big.price.unwrap().cache_write, big.price.unwrap().input);
    assert!(!big.local && config.models[&"small".into()].local);
    assert_eq!(config.providers[&"anthropic".into()].key, Some("env:ANTHROPIC_API_KEY".parse().unwrap()));
    assert_eq!(config.providers[&"box".into()].headers[1].1, Header::Secret("file:token".parse().unwrap()));
    assert_eq!(config.budgets[0].limit.nanos(), 100_000_000);
    let clerk = &config.agents[&"clerk".into()];
    assert_eq!((clerk.limits.time.as_secs(), clerk.limits.turns, clerk.limits.tokens), (5_400, 7, 1_000_000));
    assert_eq!(clerk.limits.cost.unwrap().nanos(), 50_000_000);
    assert_eq!(clerk.role.as_str(), "clerk");
    assert_eq!(config.data_dir, Path::new(".backstop"));
    assert_eq!(config.journal, Path::new(".backstop/backstop.db"));
}

#[test]
fn a_known_key_is_not_sent_to_another_address() {
    let config = read("[providers.anthropic]\nbase-url = \"https://elsewhere.example\"").unwrap();
    assert_eq!(config.providers[&"anthropic".into()].key, None);
}

#[test]
fn all_problems_are_told_at_once() {
    check_problems(
        r#"
modle = "main"
[providers.anthropic]
dialect = "mesages"
key = "sk-ant-api03-canary"
limits = { requests-per-minute = 0, concurrent = "8" }
[providers.other]
dialect = "chat"
[models.big]
provider = "antropic"
[chains.main]
models = ["big", "smal"]
[budgets]
day = "five"
[agents.writer]
time = "3m"
tools = ["read_fil"]
limits = { time = 3, turns = -1 }
[retry]
attempts = 3.5
"#,
        &expect![[r#"
            BS1002 backstop.toml:2:1: unknown key `modle`
              hint: did you mean `model`? allowed keys: agents, alerts, approvals, breaker, budgets, chains, commands, delegation, gates, jobs, journal, keys, limits, logs, mcp, model, models, numbers, otlp, providers, redact, retention, retry, roles, serve, timeouts, tools, workers
            BS1003 backstop.toml:4:11: `providers.anthropic.dialect`: `mesages` is not allowed
              hint: did you mean `messages`? allowed values: chat, messages, responses
            BS1003 backstop.toml:5:7: `providers.anthropic.key`: a secret is named by where it is, "env:NAME" or "file:PATH"; its value must not stand in the config
              hint: key: Where its key is: "env:NAME" or "file:PATH"
            BS1003 backstop.toml:6:34: `providers.anthropic.limits.requests-per-minute`: must be a whole number, 1 or more
              hint: requests-per-minute: Requests per minute
            BS1003 backstop.toml:6:50: `providers.anthropic.limits.concurrent`: expected a whole number, found a string
              hint: concurrent: Requests at the same time
            BS1003 backstop.toml:9:9: `models.big.id` is missing
              hint: add `id = …`: The provider's id of it
            BS1003 backstop.toml:14:7: `budgets.day`: dollars are written like 5, 0.25 or "$5.00", with at most nine decimals
              hint: day: Dollars per day (UTC), everything together
            BS1002 backstop.toml:16:1: unknown key `time` in `agents.writer`
              hint: allowed keys: backoff, description, limits, max-tokens, model, on-failure, prompt, result-schema, role, tools, tries, workspace
            BS1003 backstop.toml:18:19: `agents.writer.limits.time`: a span of time is written like "500ms", "20s", "3m" or "1h30m"
              hint: time: Working time; 3m when left out
            BS1003 backstop.toml:18:30: `agents.writer.limits.turns`: must be a whole number from 1 to 10000
              hint: turns: Model calls; 50 when left out
            BS1003 backstop.toml:20:12: `retry.attempts`: expected a whole number, found a float
              hint: attempts: Attempts of a call in all, over every model of its chain
        "#]],
    );
}

#[test]
fn what_runs_said_is_kept_for_good_or_for_an_hour_at_least() {
    let kept = |text: &str| read(text).unwrap().retention.bodies.map(|span| span.to_string());
    assert_eq!(kept(""), None);
    assert_eq!(kept("[retention]\nbodies = \"30d\""), Some("30d".to_owned()));
    assert_eq!(kept("[retention]\nbodies = \"60m\""), Some("1h".to_owned()));
    check_problems(
        "[retention]\nbodies = \"30s\"\n",
        &expect![[r#"
            BS1003 backstop.toml:2:1: `retention.bodies`: it is looked once an hour for what is older
              hint: keep them for "1h" or longer
        "#]],
    );
}

#[test]
fn tools_are_granted_and_can_be_named() {
    let config = read(
        r#"
        [tools.shell]
        allow = ["make *"]
        [tools.git]
        [tools.email]
        server = "127.0.0.1"
        tls = "none"
        from = "agent@example.com"
        recipients = ["*@example.com"]
        [commands.note]
        description = "Notes."
        run = ["notes", "{text}"]
        private = "health"
        [commands.note.arguments]
        type = "object"
        properties = { text = { type = "string", maxLength = 1_000, enum = [1, 2.5, true, "x"] } }
        [mcp.files]
        command = ["files"]
        tools = { read = { class = "read", confidentiality = "public" }, "a.b" = { confidentiality = { private = "health" } } }
        [mcp.any]
        url = "https://mcp.example.com"
        unlisted = "as-worst"
        [agents.clerk]
        tools = ["read_file", "run_command", "git_status", "send_email", "note", "files__read", "any__whatever"]
        "#,
    )
    .unwrap();
    let want = json!({
        "type": "object",
        "properties": {"text": {"type": "string", "maxLength": 1000, "enum": [1, 2.5, true, "x"]}},
    });
    assert_eq!(config.commands["note"].arguments, want);
    let names: Vec<_> = crate::tools::declared(&config).iter().map(|tool| tool.spec().name).collect();
    assert_eq!(names, ["run_command", "git_status", "git_diff", "git_log", "send_email", "note"]);
    let private = &config.mcp["files"].tools["a.b"].confidentiality;
    assert_eq!(serde_json::to_value(private).unwrap(), json!({"private": "health"}));
}

#[test]
fn every_config_of_the_page_about_tools_works() {
    let page = include_str!("../../../../docs/tools.md");
    let blocks: Vec<_> =
        page.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 8);
    for block in blocks {
        let config = read(block).unwrap_or_else(|problems| panic!("{problems}\n{block}"));
        // The one that gives out parts needs somebody to give them to.
        let agents = if block.contains("delegate") { 2 } else { 1 };
        assert_eq!(config.agents.len(), agents, "{block}");
    }
}

#[test]
fn what_is_wrong_with_grants() {
    check_problems(
        r#"
[timeouts]
tool = "50s"
[tools.shell]
allow = ["make | rm"]
[tools.http]
timeout-seconds = 60
hosts = [{ host = "api.example.com", headers = { authorization = "Bearer canary" }, methods = ["GETT"] }]
[tools.email]
server = "smtp.example.com"
user = "agent"
from = "nobody"
recipients = ["*@example.com"]
[tools.sqlite]
files = ["/etc/*"]
[commands.note]
description = "Notes."
run = ["notes", "{txet}"]
class = "wirte"
programs = { limits = { wall-secs = 10 } }
[commands.read_file]
description = "Reads."
run = ["cat"]
programs = { limits = { wall-secs = 10 } }
[mcp.Files]
command = ["files"]
env = { API_KEY = "sk-ant-api03-canary" }
tools = { read = { clas = "read", args = { path = "objekt" } } }
[mcp.web]
url = "http://example.com"
limits = { total-ms = 50000 }
[agents.clerk]
tools = ["run_comand", "web__search", "gone__x"]
"#,
        &expect![[r#"
            BS1003 backstop.toml:4:8: `tools.shell`: `make | rm` is no command: `|` pipes into another command, which needs a shell, and there is none: run the commands one after the other, each in a call of its own
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:4:8: `tools.shell.programs.limits.wall-secs`: a call may take 2m, and `timeouts.tool` ends it after 50s
              hint: make this shorter, or `timeouts.tool` longer
            BS1003 backstop.toml:7:1: `tools.http.timeout-seconds`: a call may take 1m, and `timeouts.tool` ends it after 50s
              hint: make this shorter, or `timeouts.tool` longer
            BS1003 backstop.toml:8:66: `tools.http.hosts[0].headers.authorization`: a secret is named by where it is, "env:NAME" or "file:PATH"; its value must not stand in the config
              hint: authorization: Where a secret is: "env:NAME" or "file:PATH"
            BS1003 backstop.toml:8:96: `tools.http.hosts[0].methods[0]`: `GETT` is not allowed
              hint: did you mean `GET`? allowed values: DELETE, GET, HEAD, PATCH, POST, PUT
            BS1003 backstop.toml:9:8: `tools.email`: a user needs a password, and a password a user
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:14:8: `tools.sqlite`: `/etc/*` is no pattern of paths: it leads from the workspace's root, and never up
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:16:11: `commands.note`: `run`: `{txet}` is no argument; there is {key}
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:19:9: `commands.note.class`: `wirte` is not allowed
              hint: did you mean `write`? allowed values: idempotent, irreversible, read, write
            BS1003 backstop.toml:21:11: `commands.read_file`: there is a tool `read_file` already
              hint: give the command another name
            BS1003 backstop.toml:25:6: `mcp.Files`: `Files` is no name of an MCP server: at most 24 of a-z, 0-9 and -, the first a letter
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:25:6: `mcp.Files.limits.total-ms`: a call may take 55s, and `timeouts.tool` ends it after 50s
              hint: make this shorter, or `timeouts.tool` longer
            BS1003 backstop.toml:27:9: `mcp.Files.env.API_KEY`: a secret is named by where it is; its value must not stand in the config
              hint: put it into `secret-env`, as "env:NAME" or "file:PATH"
            BS1002 backstop.toml:28:20: unknown key `clas` in `mcp.Files.tools.read`
              hint: did you mean `class`? allowed keys: args, class, confidentiality, effect, integrity
            BS1003 backstop.toml:28:51: `mcp.Files.tools.read.args.path`: `objekt` is not allowed
              hint: did you mean `object`? allowed values: amount, content, flag, object, query, sink, time, value
            BS1003 backstop.toml:29:6: `mcp.web`: the url of MCP server web has no TLS; that is for private-addresses = true only
              hint: docs/tools.md has a config of each kind that works
            BS1003 backstop.toml:31:12: `mcp.web.limits.total-ms`: a call may take 50s, and `timeouts.tool` ends it after 50s
              hint: make this shorter, or `timeouts.tool` longer
            BS1010 backstop.toml:33:1: `agents.clerk.tools`: there is no tool `run_comand`
              hint: tools: Files__read, delegate, delete_file, edit_file, list_files, move_file, read_file, read_result, search_files, submit_task, write_file
            BS1010 backstop.toml:33:1: `agents.clerk.tools`: there is no tool `web__search`
              hint: list it in `mcp.web.tools`, with its class and effect
            BS1010 backstop.toml:33:1: `agents.clerk.tools`: there is no tool `gone__x`
              hint: tools: Files__read, delegate, delete_file, edit_file, list_files, move_file, read_file, read_result, search_files, submit_task, write_file
        "#]],
    );
}

#[test]
fn names_that_lead_nowhere() {
    check_problems(
        r#"
model = "mian"
[providers.box]
base-url = "ftp://box"
dialect = "chat"
headers = { authorization = "Bearer canary" }
[models.sim]
provider = "box"
id = "x"
[models.a]
provider = "bx"
id = "x"
[chains.a]
models = []
[chains.main]
models = ["a", "a", "b"]
[budgets.providers]
boxx = 1
[agents.one]
model = "b"
prompt = "gone.md"
[agents.two]
prompt = "empty.md"
result-schema = "list.json"
[agents.three]
prompt = "latin.md"
result-schema = "bad-schema.json"
"#,
        &expect![[r#"
            BS1006 backstop.toml:2:1: `model`: there is no model `mian`
              hint: did you mean `main`? models and chains: a, main, sim
            BS1003 backstop.toml:4:1: `providers.box.base-url`: the base-url begins with neither http:// nor https://
              hint: write it like "https://api.example.com", without user, query or fragment
            BS1003 backstop.toml:6:13: `providers.box.headers.authorization`: a secret is named by where it is, "env:NAME" or "file:PATH"; its value must not stand in the config
              hint: put it into the environment or a file, and write "env:NAME" or "file:PATH"
            BS1003 backstop.toml:7:9: `models.sim`: this name belongs to the simulated model that is always there
              hint: choose another name
            BS1003 backstop.toml:11:1: `models.a.provider`: there is no provider `bx`
              hint: did you mean `box`? providers: box
            BS1003 backstop.toml:13:9: `chains.a`: a model has this name already
              hint: give the chain or the model another name
            BS1003 backstop.toml:14:1: `chains.a.models`: the list is empty
              hint: name at least one model: `models = ["…"]`
            BS1003 backstop.toml:16:1: `chains.main.models`: `a` stands twice
              hint: name each model once
            BS1006 backstop.toml:16:1: `chains.main.models`: there is no model `b`
              hint: did you mean `a`? models: a, sim
            BS1003 backstop.toml:18:1: `budgets.providers.boxx`: there is no provider `boxx`
              hint: did you mean `box`? providers: box
            BS1006 backstop.toml:20:1: `agents.one.model`: there is no model `b`
              hint: did you mean `a`? models and chains: a, main, sim
            BS1008 backstop.toml:21:1: `agents.one.prompt`: gone.md cannot be read: entity not found
              hint: create the file, or change `prompt` of the agent
            BS1008 backstop.toml:23:1: `agents.two.prompt`: empty.md is empty
              hint: write the agent's instructions
            BS1003 backstop.toml:24:1: `agents.two.result-schema`: list.json is no JSON Schema: not an object
              hint: the file must hold a JSON Schema, like {"type": "object", "properties": …}
            BS1008 backstop.toml:26:1: `agents.three.prompt`: latin.md is no UTF-8 text
              hint: create the file, or change `prompt` of the agent
            BS1003 backstop.toml:27:1: `agents.three.result-schema`: bad-schema.json is no JSON Schema: "objekt" is not valid under any of the schemas listed in the 'anyOf' keyword
              hint: the file must hold a JSON Schema, like {"type": "object", "properties": …}
        "#]],
    );
}

#[test]
fn what_is_no_toml() {
    check_problems(
        "[providers\nx = 1\n",
        &expect![[r#"
        BS1001 backstop.toml:1:11: unclosed table, expected `]`
          hint: mend the line named above; `backstop init` writes a file that works
    "#]],
    );
    check_problems(
        "model = \"a\"\nmodel = \"b\"\n",
        &expect![[r#"
        BS1001 backstop.toml:2:1: duplicate key
          hint: mend the line named above; `backstop init` writes a file that works
    "#]],
    );
    let mut world = Fixed::default();
    world.files.insert("backstop.toml".into(), b"\xff".to_vec());
    let error = load(Path::new("backstop.toml"), None, &world).unwrap_err();
    expect!["backstop.toml is no UTF-8 text"].assert_eq(&error.to_string());
    let error = load(Path::new("gone.toml"), None, &world).unwrap_err();
    expect!["gone.toml cannot be read: entity not found"].assert_eq(&error.to_string());
}

#[test]
fn secrets_are_loaded_when_needed_and_never_named_by_value() {
    let mut world = world("");
    world.vars.insert("KEY", " canary\n");
    world.files.insert("conf/key".into(), b"canary\n".to_vec());
    let config = Some(Path::new("conf/backstop.toml"));
    let load = |reference: &str| load_secret(&reference.parse().unwrap(), config, &world);
    assert_eq!(load("env:KEY").unwrap().expose(), "canary");
    assert_eq!(load("file:key").unwrap().expose(), "canary");
    let missing: Vec<_> = ["env:NONE", "file:none"]
        .map(|name| load(name).unwrap_err())
        .iter()
        .map(|p| format!("{p}\n"))
        .collect();
    expect![[r#"
        the environment variable NONE is not set
        conf/none cannot be read: entity not found
    "#]]
    .assert_eq(&missing.concat());
}
