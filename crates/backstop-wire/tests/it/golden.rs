//! What real clients and providers send, beside what we make of it. `UPDATE_EXPECT=1` writes the files anew.

use backstop_call::{Assembly, Dialect, Timestamp};
use backstop_wire::{
    StreamOptions, StreamParser, StreamRenderer, chunks_of, losses, parse_reply, parse_request,
    parse_request_telling, render_reply, render_request,
};
use expect_test::{ExpectFile, expect_file};
use serde_json::{Value, json};

use Dialect::{Chat, Messages, Responses};

const NOW: Timestamp = Timestamp::from_secs(1_795_305_600);

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn check(got: &Value, want: &ExpectFile) {
    want.assert_eq(&format!("{got:#}\n"));
}

fn check_request(dialect: Dialect, body: &str, want: &ExpectFile) {
    let request = parse_request(dialect, body.as_bytes()).unwrap();
    let got = json!({
        "request": request,
        "as messages": value(&render_request(Messages, &request)),
        "lost in messages": losses(Messages, &request),
        "as chat": value(&render_request(Chat, &request)),
        "lost in chat": losses(Chat, &request),
        "as responses": value(&render_request(Responses, &request)),
        "lost in responses": losses(Responses, &request),
    });
    check(&got, want);
}

#[test]
fn a_request_of_claude_code() {
    let body = include_str!("../golden/requests/claude-code.messages.json");
    check_request(Messages, body, &expect_file!["../golden/requests/claude-code.read.json"]);
}

#[test]
fn a_request_of_the_openai_sdk() {
    let body = include_str!("../golden/requests/openai-sdk.chat.json");
    check_request(Chat, body, &expect_file!["../golden/requests/openai-sdk.read.json"]);
}

#[test]
fn a_request_of_codex() {
    let body = include_str!("../golden/requests/codex.responses.json");
    check_request(Responses, body, &expect_file!["../golden/requests/codex.read.json"]);
}

/// What Codex sends reaches a provider of Responses as it was sent.
#[test]
fn a_request_of_responses_goes_through_unchanged() {
    let body = include_str!("../golden/requests/codex.responses.json");
    let mut want = value(body.as_bytes());
    // Said in another way, with the same meaning.
    let items = want["input"].as_array_mut().unwrap();
    let more = items.remove(1)["content"].as_array().unwrap().clone();
    items[0]["role"] = "system".into();
    items[0]["content"].as_array_mut().unwrap().extend(more);
    for item in &mut items[..3] {
        item.as_object_mut().unwrap().shift_remove("id");
    }
    want["input"][3].as_object_mut().unwrap().shift_remove("content");
    let said = want["input"][11].as_object_mut().unwrap();
    said.retain(|key, _| key != "id" && key != "status");
    said["content"] = json!([{"type": "output_text", "text": "Done."}]);
    want["input"][12] = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Now run it."}]});
    let (request, left_out) = parse_request_telling(Responses, body.as_bytes()).unwrap();
    assert_eq!(left_out, ["input.id"]);
    assert_eq!(losses(Responses, &request), Vec::<&str>::new());
    let got = value(&render_request(Responses, &request));
    assert_eq!(got, want);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&got["tools"][0]["parameters"]["properties"]), ["yield_time_ms", "cmd"]);
}

/// Not a field of these bodies is lost on the way to a provider of the same dialect.
#[test]
fn a_request_of_messages_goes_through_unchanged() {
    let body = include_str!("../golden/requests/claude-code.messages.json");
    let mut want = value(body.as_bytes());
    // Said in another way, with the same meaning.
    want["messages"][1]["content"][3].as_object_mut().unwrap().shift_remove("caller");
    want["messages"][2]["content"][1]["content"] = json!([{"type": "text", "text": "no such directory"}]);
    want["messages"][3]["content"] = json!([{"type": "text", "text": "Be brief."}]);
    let got = value(&render_request(Messages, &parse_request(Messages, body.as_bytes()).unwrap()));
    assert_eq!(got, want);
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let schema = |value: &Value| keys(&value["tools"][0]["input_schema"]["properties"]);
    assert_eq!(schema(&got), ["z", "a"], "prompt caches see the order of keys");
}

fn check_reply(dialect: Dialect, body: &str, want: &ExpectFile) {
    let (reply, usage) = parse_reply(dialect, body.as_bytes()).unwrap();
    assert_eq!(usage, Some(reply.usage));
    let got = json!({
        "reply": reply,
        "as messages": value(&render_reply(Messages, &reply, NOW)),
        "as chat": value(&render_reply(Chat, &reply, NOW)),
        "as responses": value(&render_reply(Responses, &reply, NOW)),
    });
    check(&got, want);
}

#[test]
fn a_reply_of_messages() {
    let body = include_str!("../golden/replies/tools.messages.json");
    check_reply(Messages, body, &expect_file!["../golden/replies/tools.messages.read.json"]);
    let mut again = value(&render_reply(Messages, &parse_reply(Messages, body.as_bytes()).unwrap().0, NOW));
    let mut want = value(body.as_bytes());
    want["content"][2].as_object_mut().unwrap().shift_remove("citations");
    again.sort_all_objects();
    want.sort_all_objects();
    assert_eq!(again, want, "nothing is lost on the way through");
}

#[test]
fn a_reply_of_chat() {
    let body = include_str!("../golden/replies/tools.chat.json");
    check_reply(Chat, body, &expect_file!["../golden/replies/tools.chat.read.json"]);
}

#[test]
fn a_reply_of_responses() {
    let body = include_str!("../golden/replies/tools.responses.json");
    check_reply(Responses, body, &expect_file!["../golden/replies/tools.responses.read.json"]);
}

/// The recorded streams, told on in every dialect.
#[test]
fn streams_told_on() {
    let streams = [
        (Messages, include_str!("../golden/messages.sse"), expect_file!["../golden/messages.told-on.txt"]),
        (Chat, include_str!("../golden/chat.sse"), expect_file!["../golden/chat.told-on.txt"]),
        (Responses, include_str!("../golden/responses.sse"), expect_file!["../golden/responses.told-on.txt"]),
    ];
    for (dialect, stream, want) in streams {
        let mut parser = StreamParser::new(dialect);
        let chunks = crate::events::chunks(&mut parser, stream.as_bytes()).unwrap();
        let mut told = String::new();
        for dialect in Dialect::ALL {
            let options = StreamOptions { include_usage: true, created: NOW };
            let mut renderer = StreamRenderer::new(dialect, options);
            let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| renderer.chunk(chunk)).collect();
            bytes.extend(renderer.end());
            let stream = String::from_utf8(bytes).unwrap();
            told += &["# as ", &format!("{dialect:?}"), "\n\n", &stream].concat();
        }
        want.assert_eq(&told);
    }
}

/// A whole reply that is told as a stream is the same reply, across the dialects too.
#[test]
fn a_reply_of_messages_streamed_to_a_client_of_chat() {
    let body = include_str!("../golden/replies/tools.messages.json");
    let (reply, _) = parse_reply(Messages, body.as_bytes()).unwrap();
    let mut renderer = StreamRenderer::new(Chat, StreamOptions { include_usage: true, created: NOW });
    let mut bytes: Vec<u8> = chunks_of(&reply, 3).iter().flat_map(|chunk| renderer.chunk(chunk)).collect();
    bytes.extend(renderer.end());
    let mut parser = StreamParser::new(Chat);
    let mut assembly = Assembly::default();
    let chunks = crate::events::chunks(&mut parser, &bytes).unwrap();
    for chunk in &chunks {
        assembly.push(chunk);
    }
    let (streamed, _) = assembly.finish().unwrap();
    let whole = parse_reply(Chat, &render_reply(Chat, &reply, NOW)).unwrap().0;
    assert_eq!((streamed.content, streamed.stop, streamed.usage), (whole.content, whole.stop, whole.usage));
}
