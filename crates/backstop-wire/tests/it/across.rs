//! From each dialect into each: what goes in one way comes out equal, or is named as lost.

use crate::generate::{reply, request};
use backstop_call::{
    Assembly, Block, Chunk, Dialect, DocumentSource, Message, OutputFormat, Reply, Request, Speaker,
    StopReason, Thinking, Timestamp, ToolChoice, ToolSpec, Usage,
};
use backstop_wire::{
    StreamOptions, StreamParser, StreamRenderer, chunks_of, losses, parse_reply, parse_request, render_reply,
    render_request,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use Dialect::{Chat, Messages, Responses};

const NOW: Timestamp = Timestamp::from_secs(1_795_305_600);

fn pairs() -> impl Iterator<Item = (Dialect, Dialect)> {
    Dialect::ALL.into_iter().flat_map(|from| Dialect::ALL.map(|to| (from, to)))
}

/// What a request says, apart from how its turns are cut.
#[derive(Debug, PartialEq)]
struct Says {
    blocks: Vec<(Speaker, Block)>,
    tools: Vec<(String, String, Value)>,
    choice: Option<ToolChoice>,
    parallel: Option<bool>,
    numbers: (Option<u64>, Option<f64>, Option<f64>),
    stop: Vec<String>,
    thinking: Option<Thinking>,
    output: Option<OutputFormat>,
    stream: bool,
}

fn says(request: &Request) -> Says {
    let system = request.system.iter().map(|block| (Speaker::System, block.clone()));
    let said = request
        .messages
        .iter()
        .flat_map(|message| message.content.iter().map(|block| (message.speaker, block.clone())));
    let tool = |tool: &ToolSpec| (tool.name.clone(), tool.description.clone(), tool.schema.clone());
    Says {
        blocks: system.chain(said).collect(),
        tools: request.tools.iter().map(tool).collect(),
        choice: request.tool_choice.clone(),
        parallel: request.parallel_tools,
        numbers: (request.max_tokens, request.temperature, request.top_p),
        stop: request.stop.clone(),
        thinking: request.thinking.clone(),
        output: request.output.clone(),
        stream: request.stream,
    }
}

/// The request as it must come out: the same, but for what is named, and for what each dialect says in its own way.
fn expected(request: &Request, to: Dialect, lost: &[&str]) -> Says {
    let is_lost = |what: &str| lost.contains(&what);
    let mut request = request.clone();
    let mut messages = Vec::new();
    request.system = request.system.iter().filter_map(|block| carried(block, to, lost)).collect();
    for message in &request.messages {
        let mut content: Vec<Block> =
            message.content.iter().filter_map(|block| carried(block, to, lost)).collect();
        if to == Chat {
            content = as_chat_has_it(content);
        }
        messages.push(Message { content: content.into(), ..message.clone() });
    }
    request.messages = if to == Messages { as_messages_has_it(messages) } else { messages };
    let own = ["tools that only Chat has", "tools that only Responses has", "tools that the provider runs"];
    if own.iter().any(|name| is_lost(name)) {
        request.tools.change(|tools| tools.retain(|tool| !tool.schema.is_null()));
    }
    if request.tools.is_empty() {
        (request.tool_choice, request.parallel_tools) = (None, None);
    }
    if is_lost("stop sequences") {
        request.stop.clear();
    }
    request.thinking = match request.thinking {
        Some(Thinking::Adaptive) if to != Messages => None,
        Some(Thinking::Budget(tokens)) if to != Messages => {
            assert!(is_lost("the exact budget for thinking"));
            Some(Thinking::Effort(
                if tokens < 2048 {
                    "low"
                } else if tokens < 4096 {
                    "medium"
                } else {
                    "high"
                }
                .into(),
            ))
        }
        other => other,
    };
    request.output = match request.output {
        Some(OutputFormat::Json) if is_lost("JSON output without a schema") => None,
        // Messages has no name for it, and always holds the model to it.
        Some(OutputFormat::Schema { schema, .. }) if to == Messages => {
            Some(OutputFormat::Schema { name: "output".into(), schema, strict: true })
        }
        other => other,
    };
    says(&request)
}

/// A block as another dialect carries it; `None` when it is lost, which must be named.
fn carried(block: &Block, to: Dialect, lost: &[&str]) -> Option<Block> {
    let is_lost = |what: &str| lost.contains(&what);
    let unmarked = |cache: &Option<Value>| cache.clone().filter(|_| !is_lost("cache_control"));
    Some(match block {
        Block::Text { text, cache } => Block::Text { text: text.clone(), cache: unmarked(cache) },
        Block::Image { source, cache } => Block::Image { source: source.clone(), cache: unmarked(cache) },
        Block::Document { source: DocumentSource::Text(text), .. }
            if is_lost("text documents as documents") =>
        {
            Block::text(text.clone())
        }
        Block::Document { source: DocumentSource::Url(_), .. } if is_lost("documents at an address") => {
            return None;
        }
        Block::Document { source, name, cache } => {
            let unnamed = match source {
                DocumentSource::Base64 { .. } if to != Messages => Some("document.pdf".to_owned()),
                _ => None,
            };
            let at_address = matches!(source, DocumentSource::Url(_));
            let name =
                name.clone().filter(|_| !(at_address && is_lost("the names of documents at an address")));
            Block::Document { source: source.clone(), name: name.or(unnamed), cache: unmarked(cache) }
        }
        Block::Thinking { .. } | Block::RedactedThinking { .. }
            if is_lost("thinking") || is_lost("encrypted reasoning") =>
        {
            return None;
        }
        Block::ToolUse { id, name, input, cache } => {
            let (id, name, input) = (id.clone(), name.clone(), input.clone());
            Block::ToolUse { id, name, input, cache: unmarked(cache) }
        }
        Block::ToolResult { id, content, is_error, cache } => Block::ToolResult {
            id: id.clone(),
            content: content.iter().filter_map(|block| carried(block, to, lost)).collect(),
            is_error: *is_error && !is_lost("the mark of a tool result as an error"),
            cache: unmarked(cache),
        },
        Block::Other { dialect, .. } if *dialect != to => {
            let names = [
                "blocks that only Messages has",
                "content parts that only Chat has",
                "content parts that only Responses has",
                "items that only Responses has",
            ];
            assert!(names.iter().any(|name| is_lost(name)), "{block:?} is lost and not named");
            return None;
        }
        Block::Thinking { .. } | Block::RedactedThinking { .. } | Block::Other { .. } => block.clone(),
    })
}

/// In Messages the speakers take turns, and results come first in theirs.
fn as_messages_has_it(messages: Vec<Message>) -> Vec<Message> {
    let mut turns: Vec<Message> = Vec::new();
    for message in messages.into_iter().filter(|message| !message.content.is_empty()) {
        match turns.last_mut() {
            Some(last) if last.speaker == message.speaker => {
                last.content.change(|content| content.extend(message.content));
            }
            _ => turns.push(message),
        }
    }
    for turn in &mut turns {
        turn.content
            .change(|content| content.sort_by_key(|block| !matches!(block, Block::ToolResult { .. })));
    }
    turns
}

/// In Chat calls come after what was said with them, and a result holds text only: the rest follows the results.
fn as_chat_has_it(content: Vec<Block>) -> Vec<Block> {
    let mut results = Vec::new();
    let (calls, mut said): (Vec<Block>, Vec<Block>) =
        content.into_iter().partition(|block| matches!(block, Block::ToolUse { .. }));
    let mut pictures = Vec::new();
    said.retain(|block| {
        let Block::ToolResult { id, content, is_error, cache } = block else { return true };
        let (texts, more): (Vec<Block>, Vec<Block>) =
            content.iter().cloned().partition(|block| matches!(block, Block::Text { .. }));
        pictures.extend(more);
        results.push(Block::ToolResult {
            id: id.clone(),
            content: texts,
            is_error: *is_error,
            cache: cache.clone(),
        });
        false
    });
    [results, pictures, said, calls].concat()
}

/// Whether a field is named, or carried in another way, or says nothing elsewhere.
fn is_told(key: &str, value: &Value, (from, to): (Dialect, Dialect), lost: &[&str]) -> bool {
    let named = match key {
        "reasoning" => "reasoning.summary",
        key => key,
    };
    let silent = match key {
        "stream_options" => to != Chat,
        "store" => value.is_null(),
        "text" => to == Chat,
        "include" => {
            *value == json!(["reasoning.encrypted_content"]) && (to == Messages || from != Responses)
        }
        _ => false,
    };
    lost.contains(&named) || silent
}

fn check_crossing(request: &Request, from: Dialect, to: Dialect) {
    let lost = losses(to, request);
    let body = render_request(to, request);
    let out = parse_request(to, &body).unwrap();
    assert_eq!(says(&out), expected(request, to, &lost), "{from:?} to {to:?}, lost {lost:?}");
    for (key, value) in &request.other {
        let is_kept = out.other.get(key) == Some(value);
        assert!(
            is_kept || is_told(key, value, (from, to), &lost),
            "{from:?} to {to:?}: `{key}` is gone: {lost:?}"
        );
    }
    let functions = |request: &Request| {
        request.tools.iter().filter(|tool| !tool.schema.is_null()).cloned().collect::<Vec<_>>()
    };
    for (tool, out) in functions(request).iter().zip(functions(&out)) {
        for (key, value) in &tool.other {
            let is_kept = out.other.get(key) == Some(value);
            let is_silent = key == "strict" && value.is_null();
            assert!(
                is_kept || is_silent || lost.contains(&key.as_str()),
                "{from:?} to {to:?}: `{key}` of a tool"
            );
        }
    }
    assert_eq!(losses(to, &out), Vec::<&str>::new(), "what came out is {to:?}'s own");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_request_comes_out_equal_or_its_losses_are_named(
        (from, request) in prop_oneof![
            request(Messages).prop_map(|request| (Messages, request)),
            request(Chat).prop_map(|request| (Chat, request)),
            request(Responses).prop_map(|request| (Responses, request)),
        ],
    ) {
        for to in Dialect::ALL {
            check_crossing(&request, from, to);
        }
    }

    /// Whatever way a reply is told on, whole or streamed, it says the same.
    #[test]
    fn a_reply_told_on_whole_or_streamed_is_the_same(
        (from, reply) in prop_oneof![
            reply(Messages).prop_map(|reply| (Messages, reply)),
            reply(Chat).prop_map(|reply| (Chat, reply)),
            reply(Responses).prop_map(|reply| (Responses, reply)),
        ],
        piece_chars in 1_usize..40,
    ) {
        let told = streamed(from, &chunks_of(&reply, piece_chars));
        for to in Dialect::ALL {
            let whole = parse_reply(to, &render_reply(to, &reply, NOW)).unwrap().0;
            let (streamed, _) = assembled(&streamed(to, &told));
            prop_assert_eq!(content(&streamed), content(&whole), "{:?} to {:?}", from, to);
            prop_assert_eq!((&streamed.stop, streamed.usage), (&whole.stop, whole.usage));
            prop_assert_eq!(whole.usage, reply.usage, "{:?} to {:?}", from, to);
        }
    }
}

/// The chunks that a client of this dialect reads out of a stream of these.
fn streamed(dialect: Dialect, chunks: &[Chunk]) -> Vec<Chunk> {
    let mut renderer = StreamRenderer::new(dialect, StreamOptions { include_usage: true, created: NOW });
    let mut bytes: Vec<u8> = chunks.iter().flat_map(|chunk| renderer.chunk(chunk)).collect();
    bytes.extend(renderer.end());
    let mut parser = StreamParser::new(dialect);
    let chunks = crate::events::chunks(&mut parser, &bytes).unwrap();
    assert!(parser.finished());
    crate::streams::check_order(&chunks);
    chunks
}

fn assembled(chunks: &[Chunk]) -> (Reply, Option<Usage>) {
    let mut assembly = Assembly::default();
    for chunk in chunks {
        assembly.push(chunk);
    }
    assembly.finish().unwrap()
}

/// All text, all thoughts, all calls: Chat has one of each.
fn content(reply: &Reply) -> (String, String, Vec<&Block>) {
    let thought =
        |block: &Block| if let Block::Thinking { text, .. } = block { Some(text.clone()) } else { None };
    let calls = reply.content.iter().filter(|block| matches!(block, Block::ToolUse { .. }));
    (reply.content.iter().filter_map(thought).collect(), reply.text(), calls.collect())
}

/// Every reason to stop, from each dialect into each.
#[test]
fn a_stop_arrives_as_what_the_dialect_has_for_it() {
    let other = || StopReason::Other("from_the_future".into());
    let sequence = || StopReason::StopSequence(Some("END".into()));
    // As Messages, Chat and Responses tell it.
    let rows = [
        (StopReason::End, [StopReason::End, StopReason::End, StopReason::End]),
        (StopReason::ToolUse, [StopReason::ToolUse, StopReason::ToolUse, StopReason::ToolUse]),
        (StopReason::MaxTokens, [StopReason::MaxTokens, StopReason::MaxTokens, StopReason::MaxTokens]),
        (
            StopReason::ContextWindow,
            [StopReason::ContextWindow, StopReason::MaxTokens, StopReason::MaxTokens],
        ),
        (sequence(), [sequence(), StopReason::End, StopReason::End]),
        (StopReason::Refusal, [StopReason::Refusal, StopReason::Refusal, StopReason::Refusal]),
        (StopReason::Pause, [StopReason::Pause, StopReason::End, StopReason::End]),
        (other(), [other(), other(), other()]),
    ];
    let told = |dialect, reply: &Reply| {
        let whole = parse_reply(dialect, &render_reply(dialect, reply, NOW)).unwrap().0;
        let (streamed, _) = assembled(&streamed(dialect, &chunks_of(reply, 7)));
        assert_eq!(streamed.stop, whole.stop, "{dialect:?}");
        whole
    };
    for (stop, wants) in rows {
        let calls = stop == StopReason::ToolUse;
        let call = Block::ToolUse { id: "t".into(), name: "f".into(), input: json!({}), cache: None };
        let content = if calls { vec![call] } else { vec![Block::text("x")] };
        let usage = Usage { input_tokens: 3, output_tokens: 2, ..Usage::default() };
        let reply = Reply::new("m", content, stop.clone(), usage);
        for (from, to) in pairs() {
            let came = told(from, &reply);
            let want = wants[from as usize].clone();
            assert_eq!((&came.stop, came.usage), (&want, usage), "{stop:?} from {from:?}");
            let went = told(to, &Reply { id: "i".into(), ..came });
            let want = match (&want, to) {
                (want, Messages) => want.clone(),
                (StopReason::ContextWindow, _) => StopReason::MaxTokens,
                (StopReason::StopSequence(_) | StopReason::Pause, _) => StopReason::End,
                (want, _) => want.clone(),
            };
            assert_eq!((&went.stop, went.usage), (&want, usage), "{stop:?} from {from:?} to {to:?}");
        }
    }
}

/// One conversation with all that agents send, from each dialect into each: what is lost on the way stands here.
#[test]
fn what_an_agent_sends_is_carried_but_for_what_stands_here() {
    let picture = || Block::Image {
        source: backstop_call::ImageSource::Base64 { media_type: "image/png".into(), data: "AAAA".into() },
        cache: None,
    };
    let document =
        |source, name: Option<&str>| Block::Document { source, name: name.map(str::to_owned), cache: None };
    let pdf = || DocumentSource::Base64 { media_type: "application/pdf".into(), data: "JVBERi0=".into() };
    let call =
        |id: &str| Block::ToolUse { id: id.into(), name: "read".into(), input: json!({"p": 1}), cache: None };
    let result =
        |id: &str, content, is_error| Block::ToolResult { id: id.into(), content, is_error, cache: None };
    let turn = |speaker, content| Message { content, ..Message::text(speaker, "") };
    let request = Request {
        model: "m".into(),
        system: [Block::text("Be exact."), Block::text("Be brief.")].into(),
        messages: vec![
            turn(
                Speaker::User,
                [
                    Block::text("Look."),
                    picture(),
                    document(pdf(), Some("a.pdf")),
                    document(DocumentSource::Url("https://a.example/b.pdf".into()), None),
                    document(DocumentSource::Text("notes".into()), None),
                ]
                .into(),
            ),
            turn(Speaker::Assistant, [Block::text("I do."), call("a"), call("b")].into()),
            turn(
                Speaker::User,
                [
                    result("a", vec![Block::text("one"), picture(), document(pdf(), Some("c.pdf"))], false),
                    result("b", vec![Block::text("no")], true),
                ]
                .into(),
            ),
            turn(Speaker::System, [Block::text("Hurry.")].into()),
            turn(Speaker::Assistant, [Block::text("Yes.")].into()),
            turn(Speaker::User, [Block::text("Now?")].into()),
        ],
        tools: [ToolSpec {
            name: "read".into(),
            description: "Reads.".into(),
            schema: json!({"type": "object"}),
            other: serde_json::Map::new(),
        }]
        .into(),
        tool_choice: Some(ToolChoice::Tool("read".into())),
        parallel_tools: Some(false),
        max_tokens: Some(900),
        temperature: Some(0.5),
        top_p: Some(0.9),
        stop: vec!["END".into()],
        thinking: Some(Thinking::Effort("high".into())),
        output: Some(OutputFormat::Schema {
            name: "output".into(),
            schema: json!({"type": "object"}),
            strict: true,
        }),
        stream: true,
        ..Request::default()
    };
    let error = "the mark of a tool result as an error";
    let rows: [(Dialect, &[&str]); 3] = [
        (Messages, &[]),
        (Chat, &["documents at an address", "text documents as documents", error]),
        (Responses, &["stop sequences", "text documents as documents", error]),
    ];
    for (first, want) in rows {
        assert_eq!(losses(first, &request), want, "{first:?}");
        check_crossing(&request, Messages, first);
        let came = parse_request(first, &render_request(first, &request)).unwrap();
        for to in Dialect::ALL {
            check_crossing(&came, first, to);
        }
    }
}
