//! Secrets that are planted wherever they can come from turn up nowhere: not in what is printed, not in a log, not in any
//! byte of the data directory. The places they come from: the key in the environment, a reference to a file, the result of
//! a tool, the arguments and texts of a model, the errors of a provider.

use super::kit::{Done, Place, signal, until_true};
use super::provider::{Asked, Scripted, config};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fmt::Write;

/// The key in the environment. The marks in it make each encoding differ from the text itself.
const ENV: &str = "canary/env+7f3Kq9Zs\"Lw=x";
/// The key in a file.
const FILE: &str = "canary/file+Qm4Tz8\u{e4}Rv&y";
/// The key of a known provider in the environment, with which nobody is called.
const IDLE: &str = "canary/idle+Hs6Wp2?Dk#z";
/// A credential that only its form gives away.
const SHAPED: &str = "sk-ant-api03-canaryKd93hfQx71MzPq0LwTu5VbNc2ReYsAoGj";
const LOADED: [&str; 3] = [ENV, FILE, IDLE];

fn url_encoded(secret: &str, small: bool) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            _ if byte.is_ascii_alphanumeric() => text.push(char::from(byte)),
            _ if small => write!(text, "%{byte:02x}").unwrap(),
            _ => write!(text, "%{byte:02X}").unwrap(),
        }
        text
    })
}

/// What must be seen nowhere: each secret as it is and in each form it was planted in.
fn needles() -> Vec<(String, String)> {
    let mut needles = vec![("shaped".to_owned(), SHAPED.to_owned())];
    for secret in LOADED {
        let json = Value::from(secret).to_string();
        needles.extend([
            (format!("{secret} as it is"), secret.to_owned()),
            (format!("{secret} in JSON"), json[1..json.len() - 1].to_owned()),
            // A message that was cut to a length may end within a secret.
            (format!("the beginning of {secret}"), secret.chars().take(15).collect()),
            (format!("{secret} in base64"), BASE64_STANDARD.encode(secret)[..24].to_owned()),
            (
                format!("{secret} in base64 within a text"),
                BASE64_STANDARD.encode(format!("k={secret}"))[4..26].to_owned(),
            ),
            (format!("{secret} in base64 for URLs"), BASE64_URL_SAFE_NO_PAD.encode(secret)[..24].to_owned()),
            (format!("{secret} in a URL"), url_encoded(secret, false)),
            (format!("{secret} in a URL, in small letters"), url_encoded(secret, true)),
        ]);
    }
    needles
}

/// A text with all secrets in all forms.
fn planted() -> String {
    let mut text = format!("A note with secrets.\nshaped: {SHAPED}\n");
    for secret in LOADED {
        writeln!(text, "plain: {secret}\nbase64: {}", BASE64_STANDARD.encode(secret)).unwrap();
        writeln!(text, "shifted: {}", BASE64_STANDARD.encode(format!("k={secret}"))).unwrap();
        writeln!(text, "for urls: {}", BASE64_URL_SAFE_NO_PAD.encode(secret)).unwrap();
        writeln!(
            text,
            "in a url: https://example.com/?k={}&l={}",
            url_encoded(secret, false),
            url_encoded(secret, true)
        )
        .unwrap();
    }
    text
}

fn leaks(text: &[u8]) -> Vec<String> {
    let holds = |needle: &str| text.windows(needle.len()).any(|window| window == needle.as_bytes());
    needles().into_iter().filter(|(_, needle)| holds(needle)).map(|(name, _)| name).collect()
}

/// A place with the secrets in it. `note.md` and `key.txt` are where they were planted.
fn place(url: &str) -> Place {
    let place = Place::new();
    let more = format!(
        "[providers.q]\ndialect = \"chat\"\nbase-url = \"{url}\"\nkey = \"file:key.txt\"\n[models.n]\nprovider = \"q\"\nid = \"sim\"\n\
         price = {{ input = 3, output = 15 }}\n[chains.both]\nmodels = [\"m\", \"n\"]\n[logs]\nlevel = \"debug\""
    );
    place.write("backstop.toml", config(url, &more));
    place.write("key.txt", format!("{FILE}\n"));
    place.write("note.md", planted());
    place
}

fn command(place: &Place, args: &[&str]) -> std::process::Command {
    let mut command = place.command(args);
    command.env("P_KEY", ENV).env("OPENAI_API_KEY", IDLE).env("BACKSTOP_LOG", "debug");
    command
}

fn run(place: &Place, args: &[&str]) -> Done {
    let done = place.done(&command(place, args).output().unwrap());
    for (stream, text) in [("stdout", &done.out), ("stderr", &done.err)] {
        let found = leaks(text.as_bytes());
        assert!(found.is_empty(), "{stream} of {args:?} shows {found:?}:\n{text}");
    }
    done
}

/// Looks at every byte that was kept, and at every way to show it.
fn nothing_is_kept(place: &Place) {
    let files = place.files("");
    assert!(files.iter().any(|(path, _)| path.ends_with("backstop.db")), "there is no database to look into");
    assert!(files.iter().any(|(path, _)| path.starts_with(".backstop/logs")), "there is no log to look into");
    for (path, bytes) in files {
        if path.to_str() == Some("note.md") || path.to_str() == Some("key.txt") {
            continue;
        }
        let found = leaks(&bytes);
        assert!(found.is_empty(), "{} shows {found:?}", path.display());
    }
    let id = place.newest_run();
    for args in [
        &["show", &id, "--full"][..],
        &["show", &id],
        &["show", &id, "--json"],
        &["runs"],
        &["runs", "--json"],
        &["logs", "--level", "debug"],
    ] {
        assert_eq!(run(place, args).code, 0);
    }
    // What was looked for is there, or the test shows nothing.
    assert!(
        !leaks(&place.files("").iter().find(|(path, _)| path.ends_with("note.md")).unwrap().1).is_empty()
    );
}

/// A turn of a model.
struct Turn {
    text: String,
    tool: &'static str,
    input: Value,
}

/// A turn in the form that was asked for: whole, or streamed with its texts in small pieces.
fn told(asked: &Asked, turn: &Turn) -> (u16, &'static str, String) {
    let Turn { text, tool, input } = turn;
    let call = |input: Value| json!({"type": "tool_use", "id": format!("t{}", asked.nth), "name": tool, "input": input});
    let usage = json!({"input_tokens": 10, "output_tokens": 10});
    let mut message = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "sim", "content": [],
        "stop_reason": null, "stop_sequence": null, "usage": usage});
    let body: Value = serde_json::from_str(&asked.body).unwrap();
    if body["stream"] != true {
        message["content"] = json!([{"type": "text", "text": text}, call(input.clone())]);
        message["stop_reason"] = "tool_use".into();
        return (200, "application/json", message.to_string());
    }
    let mut events = vec![json!({"type": "message_start", "message": message})];
    let mut block = |index: usize, start: Value, (kind, field): (&str, &str), text: &str| {
        events.push(json!({"type": "content_block_start", "index": index, "content_block": start}));
        for piece in text.chars().collect::<Vec<_>>().chunks(7) {
            let delta = json!({"type": kind, field: piece.iter().collect::<String>()});
            events.push(json!({"type": "content_block_delta", "index": index, "delta": delta}));
        }
        events.push(json!({"type": "content_block_stop", "index": index}));
    };
    block(0, json!({"type": "text", "text": ""}), ("text_delta", "text"), text);
    block(1, call(json!({})), ("input_json_delta", "partial_json"), &input.to_string());
    let delta = json!({"stop_reason": "tool_use", "stop_sequence": null});
    events.push(json!({"type": "message_delta", "delta": delta, "usage": {"output_tokens": 10}}));
    events.push(json!({"type": "message_stop"}));
    let text = events.iter().fold(String::new(), |mut text, event| {
        write!(text, "event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).unwrap();
        text
    });
    (200, "text/event-stream", text)
}

/// A model that reads the note, quotes all it knows, and writes it down.
fn gossip(asked: &Asked) -> (u16, &'static str, String) {
    let all = planted();
    let (tool, input) = match asked.nth {
        0 => ("read_file", json!({"path": "note.md"})),
        1 => ("write_file", json!({"path": "copy.md", "content": all})),
        2 => ("search_files", json!({"pattern": "canary"})),
        3 => ("read_file", json!({"path": format!("no/{ENV}")})),
        _ => ("finish", json!({"summary": all})),
    };
    told(asked, &Turn { text: all, tool, input })
}

#[test]
fn a_model_that_quotes_every_secret() {
    let provider = Scripted::start(|asked| Some(gossip(asked)));
    let place = place(&provider.url());
    let task = format!("Copy note.md. The keys: {}", planted());
    let done = run(&place, &["run", "--id", ENV, &task]);
    assert_eq!(done.code, 0, "{}", done.shown());
    assert!(done.out.contains("[REDACTED:"), "the answer quoted no secret:\n{}", done.shown());
    assert!(provider.asked() >= 5, "the model was asked {} times", provider.asked());
    nothing_is_kept(&place);
}

#[test]
fn what_is_sent_to_a_model_holds_no_secret_either() {
    let provider = Scripted::start(|asked| {
        let found = leaks(asked.body.as_bytes());
        if !found.is_empty() {
            return Some((400, "application/json", json!({"type": "error", "error": {"type": "invalid_request_error", "message": "a secret came"}}).to_string()));
        }
        Some(gossip(asked))
    });
    let place = place(&provider.url());
    let done = run(&place, &["run", "Copy note.md"]);
    assert_eq!(done.code, 0, "{}", done.shown());
}

#[test]
fn a_process_that_is_killed_while_it_knows_them() {
    let provider = Scripted::start(|asked| (asked.nth != 3).then(|| gossip(asked)));
    let place = place(&provider.url());
    let mut child = command(&place, &["run", "Copy note.md"]).spawn().unwrap();
    until_true("the fourth request", || provider.asked() == 4);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    nothing_is_kept(&place);
    let resumed = run(&place, &["resume", &place.newest_run()]);
    assert_eq!(resumed.code, 0, "{}", resumed.shown());
    nothing_is_kept(&place);
}

/// How a provider may say no, with all it knows in every corner.
#[test]
fn providers_that_quote_the_key_in_their_errors() {
    let secrets = planted();
    let messages =
        json!({"type": "error", "error": {"type": ENV, "message": secrets}, "request_id": ENV}).to_string();
    let chat = json!({"error": {"message": secrets, "type": FILE, "code": FILE, "param": ENV}}).to_string();
    let page = format!("<html><head><title>{secrets}</title></head><body>{secrets}</body></html>");
    let rows: Vec<(u16, &'static str, String, i32)> = vec![
        (401, "application/json", messages.clone(), 2),
        (401, "application/json", chat, 2),
        (400, "application/json", messages.clone(), 2),
        (403, "text/plain", secrets.clone(), 2),
        (404, "application/json", messages.clone(), 2),
        (429, "application/json", messages.clone(), 3),
        (500, "application/json", messages, 3),
        (502, "text/html", page, 3),
        // Messages are cut to 500 characters: here within a secret.
        (
            500,
            "application/json",
            json!({"type": "error", "error": {"type": "api_error", "message": "y ".repeat(242) + FILE}})
                .to_string(),
            3,
        ),
        (200, "application/json", secrets.clone(), 3),
        (200, "text/event-stream", format!("event: error\ndata: {secrets}\n\n"), 3),
    ];
    for (status, kind, body, code) in rows {
        let answer = body.clone();
        let provider = Scripted::start(move |_| Some((status, kind, answer.clone())));
        let place = place(&provider.url());
        for model in ["m", "both"] {
            let done = run(&place, &["run", "--model", model, "--time", "20s", "Copy note.md"]);
            assert_eq!(done.code, code, "{status} {kind} of {model}: {}", done.shown());
        }
        nothing_is_kept(&place);
        run(&place, &["check"]);
        run(&place, &["check", "--json"]);
    }
}

/// The simulated model needs no key, but the files it reads may hold one.
#[test]
fn secrets_that_nobody_is_called_with() {
    let place = place("http://127.0.0.1:9");
    let done = run(&place, &["run", "--model", "sim", "Merge note.md and note.md into all.md"]);
    assert_eq!(done.code, 0, "{}", done.shown());
    nothing_is_kept(&place);
}

/// A value that stands where only a reference may stand is not repeated.
#[test]
fn a_config_with_the_value_itself() {
    for line in [
        format!("key = \"{SHAPED}\""),
        format!("headers = {{ authorization = \"Bearer {SHAPED}\" }}"),
        format!("base-url = \"http://user:{SHAPED}@127.0.0.1\""),
        format!("dialect = \"{SHAPED}\""),
        format!("key = {SHAPED}"),
    ] {
        let place = Place::new();
        place.write("backstop.toml", format!("[providers.anthropic]\n{line}\n"));
        let done = run(&place, &["check"]);
        assert_eq!(done.code, 2, "{line}: {}", done.shown());
    }
}
