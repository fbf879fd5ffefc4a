//! Streams of all dialects: what providers send, what they must not send, and the way there and back.

use crate::events;
use crate::generate::reply;
use backstop_call::{
    Assembly, Block, Chunk, ContentDelta, Dialect, Failure, FailureKind, Frame, Progress, Reply, StopReason,
    Timestamp, Usage,
};
use backstop_wire::sse::SseParser;
use backstop_wire::{StreamError, StreamOptions, StreamParser, StreamRenderer, chunks_of};
use proptest::prelude::*;
use serde_json::{Value, json};

use Dialect::{Chat, Messages, Responses};

/// Every chunk of a stream, and whether it ended whole.
fn read(dialect: Dialect, stream: &str) -> Result<(Vec<Chunk>, bool), StreamError> {
    let mut parser = StreamParser::new(dialect);
    let chunks = events::chunks(&mut parser, stream.as_bytes())?;
    Ok((chunks, parser.finished()))
}

fn assembled(chunks: &[Chunk]) -> Option<(Reply, Option<Usage>)> {
    let mut assembly = Assembly::default();
    for chunk in chunks {
        assembly.push(chunk);
    }
    assembly.finish()
}

fn rendered(dialect: Dialect, chunks: &[Chunk], include_usage: bool) -> String {
    let options = StreamOptions { include_usage, created: Timestamp::from_secs(1) };
    let mut renderer = StreamRenderer::new(dialect, options);
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| renderer.chunk(chunk)).collect();
    bytes.extend(renderer.end());
    String::from_utf8(bytes).unwrap()
}

/// What the doc of `Chunk` promises. Panics where it is broken.
pub(crate) fn check_order(chunks: &[Chunk]) {
    let (mut started, mut stopped, mut begun, mut open) = (false, false, 0, None);
    for chunk in chunks {
        match chunk {
            Chunk::Start { .. } => assert!(!std::mem::replace(&mut started, true), "two starts"),
            Chunk::BlockStart { index, .. } => {
                assert!(started && !stopped && open.is_none() && *index == begun, "block {index} begins");
                begun += 1;
                open = Some(*index);
            }
            Chunk::Delta { index, .. } => assert_eq!(open, Some(*index), "a delta for a closed block"),
            Chunk::BlockStop { index } => assert_eq!(open.take(), Some(*index), "a closed block ends"),
            Chunk::Usage(_) => assert!(started, "a usage before the start"),
            Chunk::Stop { .. } => {
                assert!(started && open.is_none(), "a stop while a block is open");
                assert!(!std::mem::replace(&mut stopped, true), "two stops");
            }
            Chunk::Head(_) | Chunk::Frame(_) | Chunk::Ping | Chunk::Other { .. } => {}
        }
    }
}

fn check_round_trip(dialect: Dialect, reply: &Reply, piece_chars: usize) {
    let stream = rendered(dialect, &chunks_of(reply, piece_chars), true);
    let (chunks, finished) = read(dialect, &stream).unwrap();
    check_order(&chunks);
    assert!(finished, "{stream}");
    let want = Reply { other: serde_json::Map::new(), ..reply.clone() };
    assert_eq!(assembled(&chunks), Some((want, Some(reply.usage))), "{stream}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_streamed_reply_of_messages_is_the_reply(reply in reply(Messages), piece_chars in 1_usize..40) {
        check_round_trip(Messages, &reply, piece_chars);
    }

    #[test]
    fn a_streamed_reply_of_chat_is_the_reply(reply in reply(Chat), piece_chars in 1_usize..40) {
        check_round_trip(Chat, &reply, piece_chars);
    }

    #[test]
    fn a_streamed_reply_of_responses_is_the_reply(reply in reply(Responses), piece_chars in 1_usize..40) {
        check_round_trip(Responses, &reply, piece_chars);
    }

    /// A stream that is cut after any event is no reply; and no cut is taken for an end.
    /// A client of Responses holds what is written against what was passed before.
    #[test]
    fn what_follows_a_frame_fits_as_if_it_had_been_written(
        reply in reply(Responses),
        piece_chars in 1_usize..40,
        cut in any::<prop::sample::Index>(),
    ) {
        let options = StreamOptions { include_usage: true, created: Timestamp::from_secs(1) };
        let chunks = chunks_of(&reply, piece_chars);
        let (before, behind) = chunks.split_at(cut.index(chunks.len()));
        let mut passing = StreamRenderer::new(Responses, options);
        passing.pass(&Frame { bytes: "x".into(), says: before.to_vec() });
        let mut writing = StreamRenderer::new(Responses, options);
        for chunk in before {
            writing.chunk(chunk);
        }
        for chunk in behind {
            prop_assert_eq!(passing.chunk(chunk), writing.chunk(chunk));
        }
        let failure = Failure::new(FailureKind::Transient, Progress::ResponseStarted, "cut");
        prop_assert_eq!(passing.error(&failure), writing.error(&failure));
    }

    #[test]
    fn a_cut_stream_is_never_whole(
        (dialect, reply) in prop_oneof![
            reply(Messages).prop_map(|reply| (Messages, reply)),
            reply(Chat).prop_map(|reply| (Chat, reply)),
            reply(Responses).prop_map(|reply| (Responses, reply)),
        ],
        at in any::<prop::sample::Index>(),
    ) {
        let stream = rendered(dialect, &chunks_of(&reply, 5), true);
        let events: Vec<&str> = stream.split_inclusive("\n\n").collect();
        let cut = events[..at.index(events.len())].concat();
        let (chunks, finished) = read(dialect, &cut).unwrap();
        check_order(&chunks);
        prop_assert!(!finished && assembled(&chunks).is_none());
    }
}

const MESSAGES: &str = include_str!("../golden/messages.sse");
const CHAT: &str = include_str!("../golden/chat.sse");
const RESPONSES: &str = include_str!("../golden/responses.sse");

fn call(id: &str, name: &str) -> Block {
    Block::ToolUse { id: id.into(), name: name.into(), input: json!({}), cache: None }
}

#[test]
fn reads_a_stream_of_messages() {
    let (chunks, finished) = read(Messages, MESSAGES).unwrap();
    check_order(&chunks);
    assert!(finished);
    let first = Usage {
        input_tokens: 25,
        output_tokens: 1,
        cache_read_tokens: 10,
        estimated: true,
        ..Usage::default()
    };
    assert_eq!(chunks[1], Chunk::Usage(first), "the first usage is marked: its output is a placeholder");
    let (reply, usage) = assembled(&chunks).unwrap();
    let input = json!({"path": "a\u{2028}b"});
    let want = [
        Block::Thinking { text: "Let me see.".into(), signature: Some("sig==".into()) },
        Block::text("Hello"),
        Block::ToolUse { id: "toolu_1".into(), name: "read_file".into(), input, cache: None },
    ];
    assert_eq!((reply.id.as_str(), reply.model.as_str()), ("msg_1", "claude-x"));
    assert_eq!((reply.content.as_slice(), reply.stop), (want.as_slice(), StopReason::ToolUse));
    let last = Usage { output_tokens: 89, reasoning_tokens: 12, estimated: false, ..first };
    assert_eq!(usage, Some(last));
    let others: Vec<&Chunk> = chunks.iter().filter(|chunk| matches!(chunk, Chunk::Other { .. })).collect();
    assert_eq!(others.len(), 2, "an unknown event and an unknown delta pass: {others:?}");
    assert!(chunks.contains(&Chunk::Ping));
}

#[test]
fn reads_a_stream_of_chat() {
    let (chunks, finished) = read(Chat, CHAT).unwrap();
    check_order(&chunks);
    assert!(finished);
    let (reply, usage) = assembled(&chunks).unwrap();
    let with = |block, value: Value| match block {
        Block::ToolUse { id, name, cache, .. } => Block::ToolUse { id, name, input: value, cache },
        other => other,
    };
    let want = [
        Block::Thinking { text: "Hm.".into(), signature: None },
        Block::text("Hello"),
        with(call("call_a", "read_file"), json!({"path": "a"})),
        with(call("call_b", "read_file"), json!({"path": "b"})),
    ];
    assert_eq!((reply.content.as_slice(), reply.stop), (want.as_slice(), StopReason::ToolUse));
    let want = Usage {
        input_tokens: 60,
        output_tokens: 30,
        cache_read_tokens: 40,
        reasoning_tokens: 7,
        ..Usage::default()
    };
    assert_eq!(usage, Some(want));
}

#[test]
fn reads_a_stream_of_responses() {
    let (chunks, finished) = read(Responses, RESPONSES).unwrap();
    check_order(&chunks);
    assert!(finished);
    let (reply, usage) = assembled(&chunks).unwrap();
    let search = json!({"id": "ws_1", "type": "web_search_call", "status": "completed", "action": {"type": "search", "query": "x"}});
    let want = [
        Block::Thinking {
            text: "Let me see.\n\nSo.".into(),
            signature: Some(backstop_wire::reasoning_signature("rs_1", "gAAA==")),
        },
        Block::Other { dialect: Responses, value: search },
        Block::text("Hello"),
        Block::ToolUse {
            id: "call_a".into(),
            name: "read_file".into(),
            input: json!({"path": "a\u{2028}b"}),
            cache: None,
        },
    ];
    assert_eq!((reply.id.as_str(), reply.model.as_str()), ("resp_1", "gpt-x"));
    assert_eq!((reply.content.as_slice(), reply.stop), (want.as_slice(), StopReason::ToolUse));
    let want = Usage {
        input_tokens: 60,
        output_tokens: 30,
        cache_read_tokens: 40,
        reasoning_tokens: 7,
        ..Usage::default()
    };
    assert_eq!(usage, Some(want));
    let others: Vec<&str> = chunks
        .iter()
        .filter_map(|chunk| if let Chunk::Other { event, .. } = chunk { event.as_deref() } else { None })
        .collect();
    let want = [
        "response.web_search_call.searching",
        "response.from_the_future",
        "response.output_text.annotation.added",
    ];
    assert_eq!(others, want, "what we have no words for passes");
}

/// The recorded streams, their bytes cut at any place between two reads: it is always the same.
#[test]
fn a_stream_that_comes_in_any_two_pieces_says_the_same() {
    for (dialect, stream) in [(Messages, MESSAGES), (Chat, CHAT), (Responses, RESPONSES)] {
        // What parsers of text take for the end of a line.
        let stream = stream.replacen("Hel", "H\u{2028}\u{2029}\u{85}üe🦀l", 1);
        let whole = read(dialect, &stream).unwrap().0;
        let reply = assembled(&whole).unwrap().0;
        assert_eq!(reply.text(), "H\u{2028}\u{2029}\u{85}üe🦀llo", "{dialect:?}");
        let whole = events::push(&mut SseParser::new(1 << 20), stream.as_bytes()).unwrap();
        for at in 0..stream.len() {
            let (first, second) = stream.as_bytes().split_at(at);
            let mut parser = SseParser::new(1 << 20);
            let mut read = |piece: &[u8]| events::push(&mut parser, piece).unwrap();
            let pieces = [read(first), read(second)].concat();
            assert_eq!(pieces, whole, "{dialect:?} cut at {at}");
        }
    }
}

/// Servers that tell only wholes, or leave out that a part begins, or close nothing.
#[test]
fn responses_are_read_from_servers_that_tell_less() {
    let created = r#"{"type":"response.created","response":{"id":"r","model":"m"}}"#;
    let call = |kind: &str| {
        format!(
            r#"{{"type":"response.output_item.{kind}","output_index":0,"item":{{"type":"function_call","call_id":"c","name":"f","arguments":"{{\"x\":1}}"}}}}"#
        )
    };
    let message = r#"{"type":"message","content":[{"type":"output_text","text":"Hi"}]}"#;
    let text = |kind: &str, key: &str| {
        format!(r#"{{"type":"response.output_text.{kind}","output_index":0,"{key}":"Hi"}}"#)
    };
    let end = r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#;
    let whole = format!(
        r#"{{"type":"response.completed","response":{{"id":"r","model":"m","output":[{message}]}}}}"#
    );
    let done = format!(r#"{{"type":"response.output_item.done","output_index":0,"item":{message}}}"#);
    let says_hi = [Block::text("Hi")];
    let calls = [Block::ToolUse { id: "c".into(), name: "f".into(), input: json!({"x": 1}), cache: None }];
    let rows: [(&[&str], &[Block]); 6] = [
        (&[&whole], &says_hi),
        (&[created, &whole], &says_hi),
        (&[created, &done, end], &says_hi),
        (&[created, &text("delta", "delta"), end], &says_hi),
        (&[created, &text("done", "text"), &text("done", "text"), end], &says_hi),
        (&[created, &call("done"), end], &calls),
    ];
    for (events, want) in rows {
        let stream = events.iter().fold(String::new(), |stream, event| stream + "data: " + event + "\n\n");
        let (chunks, finished) = read(Responses, &format!("{stream}data: [DONE]\n\n")).unwrap();
        check_order(&chunks);
        assert!(finished);
        assert_eq!(assembled(&chunks).unwrap().0.content, want, "{stream}");
    }
}

/// Servers that count every call as 0, leave the index out, or forget the id.
#[test]
fn calls_are_told_apart_without_an_index() {
    let delta = |calls: &str| {
        format!(
            "data: {{\"id\":\"c\",\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{calls}]}}}}]}}\n\n"
        )
    };
    let stream = [
        delta(r#"{"index":0,"id":"a","function":{"name":"f","arguments":"{}"}}"#),
        delta(r#"{"index":0,"id":"b","function":{"name":"f","arguments":"{\"x\""}}"#),
        delta(r#"{"index":0,"id":"b","function":{"arguments":":1}"}}"#),
        delta(r#"{"function":{"name":"g","arguments":""},"id":"c"},{"index":7,"function":{"name":"h"}}"#),
        "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n"
            .into(),
    ]
    .concat();
    let (chunks, _) = read(Chat, &stream).unwrap();
    check_order(&chunks);
    let (reply, usage) = assembled(&chunks).unwrap();
    let b = Block::ToolUse { id: "b".into(), name: "f".into(), input: json!({"x": 1}), cache: None };
    assert_eq!(reply.content, [call("a", "f"), b, call("c", "g"), call("call_3", "h")]);
    assert_eq!(reply.stop, StopReason::ToolUse, "`stop` with calls is a wish for tools");
    assert_eq!(usage, None, "a usage that was never told is seen");
}

#[test]
fn the_usage_that_a_stream_leaves_out_is_never_taken_for_the_placeholder() {
    let stream = MESSAGES
        .replace(",\"usage\":{\"output_tokens\":89,\"output_tokens_details\":{\"thinking_tokens\":12}}", "");
    assert_ne!(stream, MESSAGES);
    let (_, usage) = assembled(&read(Messages, &stream).unwrap().0).unwrap();
    assert!(usage.unwrap().estimated);
}

#[test]
fn a_stop_that_was_told_is_whole_even_without_the_closing_event() {
    for (dialect, stream, last) in [(Messages, MESSAGES, "event: message_stop"), (Chat, CHAT, "data: [DONE]")]
    {
        let mut parser = StreamParser::new(dialect);
        let cut = &stream[..stream.find(last).unwrap()];
        events::chunks(&mut parser, cut.as_bytes()).unwrap();
        assert!(!parser.finished());
        assert_eq!(parser.eof(), [Chunk::Stop { reason: StopReason::ToolUse }]);
        assert!(parser.finished());
        assert_eq!(parser.eof(), []);
    }
}

#[test]
fn an_error_inside_a_stream_has_the_kind_of_its_type() {
    let rows = [
        (
            Messages,
            r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
            FailureKind::Overloaded,
        ),
        (
            Messages,
            r#"{"type":"error","error":{"type":"rate_limit_error","message":"m"}}"#,
            FailureKind::Throttled,
        ),
        (Messages, r#"{"type":"error","error":{"type":"api_error","message":"m"}}"#, FailureKind::Transient),
        (
            Messages,
            r#"{"type":"error","error":{"type":"timeout_error","message":"m"}}"#,
            FailureKind::Transient,
        ),
        (
            Messages,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"m"}}"#,
            FailureKind::Invalid,
        ),
        (
            Messages,
            r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long"}}"#,
            FailureKind::ContextLength,
        ),
        (
            Messages,
            r#"{"type":"error","error":{"type":"from_the_future","message":"m"}}"#,
            FailureKind::Transient,
        ),
        (Messages, r#"{"type":"error"}"#, FailureKind::Transient),
        (Chat, r#"{"error":{"message":"m","type":"server_error","code":null}}"#, FailureKind::Transient),
        (Chat, r#"{"error":{"message":"m","code":"rate_limit_exceeded"}}"#, FailureKind::Throttled),
        (Chat, r#"{"error":{"message":"m","code":"insufficient_quota"}}"#, FailureKind::Quota),
        (Chat, r#"{"error":{"message":"m","code":502}}"#, FailureKind::Transient),
        (Chat, r#"{"error":{"message":"m","code":429},"choices":[]}"#, FailureKind::Throttled),
        (Chat, r#"{"error":{"message":"m","code":"invalid_prompt"}}"#, FailureKind::Policy),
        (Chat, r#"{"error":"out of memory"}"#, FailureKind::Transient),
        (
            Responses,
            r#"{"type":"error","code":"rate_limit_exceeded","message":"m","param":null,"sequence_number":3}"#,
            FailureKind::Throttled,
        ),
        (
            Responses,
            r#"{"type":"error","error":{"type":"invalid_request_error","code":"context_length_exceeded","message":"m"}}"#,
            FailureKind::ContextLength,
        ),
        (
            Responses,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"server_error","message":"m"}}}"#,
            FailureKind::Transient,
        ),
        (
            Responses,
            r#"{"type":"response.failed","response":{"status":"failed","error":{"code":"insufficient_quota","message":"m"}}}"#,
            FailureKind::Quota,
        ),
        (
            Responses,
            r#"{"type":"response.failed","response":{"error":{"code":"image_parse_error","message":"m"}}}"#,
            FailureKind::Invalid,
        ),
        (Responses, r#"{"type":"response.failed","response":{"status":"failed"}}"#, FailureKind::Transient),
        (Responses, r#"{"error":"out of memory"}"#, FailureKind::Transient),
    ];
    for (dialect, data, kind) in rows {
        let error = read(dialect, &format!("event: error\ndata: {data}\n\n")).unwrap_err();
        let StreamError::Failed(failure) = error else { panic!("{error:?}") };
        assert_eq!((failure.kind, failure.progress), (kind, Progress::ResponseStarted), "{data}");
        assert!(!failure.detail.unbilled, "a stream that began may be billed");
    }
}

#[test]
fn an_error_that_is_told_is_read_as_the_same() {
    for kind in
        [FailureKind::Overloaded, FailureKind::Throttled, FailureKind::Transient, FailureKind::ContextLength]
    {
        for dialect in Dialect::ALL {
            let mut renderer = StreamRenderer::new(dialect, StreamOptions::default());
            let mut bytes = renderer.chunk(&Chunk::Start { id: "i".into(), model: "m".into() });
            bytes.extend(renderer.error(&Failure::new(kind, Progress::Committed, "it broke")));
            bytes.extend(renderer.end());
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{text}");
            let StreamError::Failed(failure) = read(dialect, &text).unwrap_err() else { panic!("{text}") };
            assert_eq!(failure.kind, kind, "{text}");
        }
    }
}

#[test]
fn breaches_of_the_protocol_are_malformed_and_say_where() {
    let start = r#"{"type":"message_start","message":{"id":"m","model":"x"}}"#;
    let begin = r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#;
    let delta = r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"x"}}"#;
    let end = r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#;
    let stop = r#"{"type":"message_stop"}"#;
    let created = r#"{"type":"response.created","response":{"id":"r","model":"m"}}"#;
    let added = r#"{"type":"response.output_item.added","output_index":0,"item":{"type":"function_call","call_id":"c","name":"f"}}"#;
    let text = r#"{"type":"response.output_text.delta","delta":"x"}"#;
    let completed = r#"{"type":"response.completed","response":{"status":"completed","output":[]}}"#;
    let rows: &[(Dialect, &[&str], &str)] = &[
        (Messages, &["{"], "body: is no valid JSON (expected `\"` at byte 1)"),
        (Messages, &[begin], "type: content_block_start comes before message_start"),
        (Messages, &[start, start], "type: message_start comes a second time"),
        (Messages, &[start, delta], "index: block 0 is not open"),
        (Messages, &[start, begin, begin], "index: 0 begins, but 1 is next"),
        (
            Messages,
            &[
                start,
                begin,
                r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":""}}"#,
            ],
            "index: 1 begins before 0 stopped",
        ),
        (
            Messages,
            &[start, begin, r#"{"type":"content_block_stop","index":1}"#],
            "index: block 1 is not open",
        ),
        (
            Messages,
            &[
                start,
                begin,
                r#"{"type":"content_block_delta","index":0,"delta":{"type":"input_json_delta","partial_json":"{"}}"#,
            ],
            "delta.type: does not fit block 0",
        ),
        (
            Messages,
            &[start, begin, r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta"}}"#],
            "delta.text: is missing",
        ),
        (Messages, &[start, begin, r#"{"type":"content_block_delta","delta":{}}"#], "index: is missing"),
        (Messages, &[start, stop], "type: message_stop comes without a stop_reason"),
        (Messages, &[start, begin, end, stop], "type: message_stop comes while a block is open"),
        (Messages, &[start, end, stop, end], "type: message_delta comes after message_stop"),
        (Messages, &[r#"{"type":"message_start","message":{"id":7}}"#], "message.id: must be a string"),
        (
            Chat,
            &["{\"choices\":[{\"delta\":{\"content\":7}}]}"],
            "choices[0].delta.content: must be a string",
        ),
        (Chat, &["{\"choices\":[7]}"], "choices[0]: must be an object"),
        (Responses, &[added], "type: response.output_item.added comes before response.created"),
        (Responses, &[created, added, added], "output_index: item 0 begins a second time"),
        (Responses, &[created, text], "output_index: is missing"),
        (
            Responses,
            &[created, r#"{"type":"response.function_call_arguments.delta","output_index":4,"delta":"x"}"#],
            "output_index: item 4 is not open",
        ),
        (
            Responses,
            &[created, added, r#"{"type":"response.reasoning_text.delta","output_index":0,"delta":"x"}"#],
            "delta: does not fit item 0",
        ),
        (Responses, &[created, completed, added], "type: response.output_item.added comes after the end"),
        (Responses, &[created, "[DONE]"], "body: [DONE] comes before the response is completed"),
        (Responses, &[r#"{"type":"response.created"}"#], "response: is missing"),
        (Chat, &["[DONE]"], "body: [DONE] comes without a finish_reason"),
        (Chat, &["no json"], "body: is no valid JSON (an unknown word at byte 0)"),
        (
            Chat,
            &[r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]}}]}"#],
            "choices[0].delta.tool_calls: goes on with a call that is not open",
        ),
        (
            Chat,
            &[
                r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
                r#"{"choices":[{"delta":{"content":"more"}}]}"#,
            ],
            "body: content comes after finish_reason",
        ),
        (
            Chat,
            &[r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, "[DONE]", r#"{"choices":[]}"#],
            "body: comes after [DONE]",
        ),
    ];
    for (dialect, events, want) in rows {
        let stream: String = events.iter().flat_map(|data| ["data: ", data, "\n\n"]).collect();
        let StreamError::Malformed(error) = read(*dialect, &stream).unwrap_err() else { panic!("{stream}") };
        assert_eq!(error.to_string(), *want, "{stream}");
    }
}

#[test]
fn chat_tells_the_usage_only_to_who_asked_and_messages_begins_with_it() {
    let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
    let chunks = [
        Chunk::Start { id: "i".into(), model: "m".into() },
        Chunk::Usage(usage),
        Chunk::BlockStart { index: 0, block: Block::text("") },
        Chunk::Delta { index: 0, delta: ContentDelta::Text("x".into()) },
        Chunk::BlockStop { index: 0 },
        Chunk::Stop { reason: StopReason::End },
    ];
    assert!(!rendered(Chat, &chunks, false).contains("usage"));
    assert!(rendered(Chat, &chunks, true).contains("\"total_tokens\":5"));
    let first = rendered(Messages, &chunks, false);
    assert!(first.lines().nth(1).unwrap().contains("\"input_tokens\":3"), "{first}");
    let mut renderer = StreamRenderer::new(Messages, StreamOptions::default());
    assert!(renderer.chunk(&chunks[0]).is_empty(), "it waits for the usage");
    let bytes = String::from_utf8(renderer.chunk(&Chunk::Ping)).unwrap();
    assert!(bytes.starts_with("event: message_start") && bytes.contains("event: ping"), "but not for long");
}

#[test]
fn a_refusal_is_a_text_and_a_reason() {
    let stream = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[{\"delta\":{\"refusal\":\"I cannot.\"}}]}\n\n\
        data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let (reply, _) = assembled(&read(Chat, stream).unwrap().0).unwrap();
    assert_eq!((reply.text().as_str(), reply.stop), ("I cannot.", StopReason::Refusal));
}
