//! Requests of Chat Completions.

use super::{is_call, read_assistant, read_part, render_image};
use crate::read::{self, Object, Path, WireError, merge};
use crate::stream::arguments_text;
use crate::{LeftOut, Lost, foreign, responses, sealed};
use backstop_call::{
    Block, Dialect, DocumentSource, Labels, Message, OutputFormat, Request, Speaker, Thinking, ToolChoice,
    ToolSpec,
};
use serde_json::{Map, Value, json};

pub(crate) fn parse_request(body: &[u8], left_out: &mut LeftOut) -> Result<Request, WireError> {
    let mut body = read::body(body)?;
    let turns = body
        .each("messages", |value, path| read_message(value, path, left_out))?
        .ok_or_else(|| body.missing("messages"))?;
    let (system, messages) = joined(turns);
    let (tool_choice, max_tokens) = (read_tool_choice(&mut body)?, read_max_tokens(&mut body)?);
    Ok(Request {
        model: body.required_text("model")?,
        system: system.into(),
        messages,
        tools: body.each("tools", read_tool)?.unwrap_or_default().into(),
        tool_choice,
        parallel_tools: body.flag("parallel_tool_calls")?,
        max_tokens,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop: read_stop(&mut body)?,
        thinking: body.text("reasoning_effort")?.map(read_effort),
        output: read_output(&mut body)?,
        stream: body.flag("stream")?.unwrap_or(false),
        continued: false,
        other: body.rest(),
    })
}

/// A message as it stands here: a tool's result is a message of its own.
enum Turn {
    Message(Message),
    Result(Block),
}

fn read_message(value: Value, path: Path<'_>, left_out: &mut LeftOut) -> Result<Turn, WireError> {
    let mut message = Object::of(value, path)?;
    let turn = read_turn(&mut message)?;
    message.leave_out("messages", left_out);
    Ok(turn)
}

fn read_turn(message: &mut Object<'_>) -> Result<Turn, WireError> {
    let speaker = match message.required_text("role")?.as_str() {
        "system" | "developer" => Speaker::System,
        "user" => Speaker::User,
        "assistant" => {
            let content = read_assistant(message)?.into();
            return Ok(Turn::Message(Message {
                speaker: Speaker::Assistant,
                content,
                labels: Labels::default(),
            }));
        }
        "tool" => {
            return Ok(Turn::Result(Block::ToolResult {
                id: message.required_text("tool_call_id")?,
                content: message.content("content", read_part)?.unwrap_or_default(),
                is_error: false,
                cache: None,
            }));
        }
        role => {
            let problem = format!("`{role}` is not system, developer, user, assistant or tool");
            return Err(message.wrong("role", problem));
        }
    };
    let content = message.content("content", read_part)?.ok_or_else(|| message.missing("content"))?;
    Ok(Turn::Message(Message { speaker, content: content.into(), labels: Labels::default() }))
}

/// The instructions at the beginning are the system's; results that follow each other are one turn of the user's.
fn joined(turns: Vec<Turn>) -> (Vec<Block>, Vec<Message>) {
    let mut system = Vec::new();
    let mut messages: Vec<Message> = Vec::new();
    let mut in_results = false;
    for turn in turns {
        match turn {
            Turn::Message(message) if message.speaker == Speaker::System && messages.is_empty() => {
                system.extend(message.content);
            }
            Turn::Message(message) => {
                messages.push(message);
                in_results = false;
            }
            Turn::Result(result) => {
                match messages.last_mut() {
                    Some(last) if in_results => last.content.change(|content| content.push(result)),
                    _ => messages.push(Message {
                        speaker: Speaker::User,
                        content: [result].into(),
                        labels: Labels::default(),
                    }),
                }
                in_results = true;
            }
        }
    }
    (system, messages)
}

fn read_tool(value: Value, path: Path<'_>) -> Result<ToolSpec, WireError> {
    let mut tool = Object::of(value, path)?;
    let kind = tool.required_text("type")?;
    if kind != "function" {
        // A tool of the provider's own: it goes out as it came.
        let own_name = tool.peek(&kind).and_then(|own| own.get("name")?.as_str().map(str::to_owned));
        let name = own_name.unwrap_or_else(|| kind.clone());
        tool.keep("type", kind.into());
        return Ok(ToolSpec { name, description: String::new(), schema: Value::Null, other: tool.rest() });
    }
    let read = |function: &mut Object<'_>| {
        let name = function.required_text("name")?;
        let description = function.text("description")?.unwrap_or_default();
        let schema = function.value("parameters");
        Ok((name, description, schema.unwrap_or_else(|| json!({"type": "object", "properties": {}}))))
    };
    let (name, description, schema) =
        tool.nested("function", read)?.ok_or_else(|| tool.missing("function"))?;
    // What the function has beyond that (`strict`) is the tool's.
    let mut other = tool.rest();
    if let Some(Value::Object(more)) = other.shift_remove("function") {
        merge(&mut other, &more);
    }
    Ok(ToolSpec { name, description, schema, other })
}

/// A choice that our words do not hold (`allowed_tools`) stays among the other fields.
fn read_tool_choice(body: &mut Object<'_>) -> Result<Option<ToolChoice>, WireError> {
    let Some(choice) = body.value("tool_choice") else { return Ok(None) };
    match choice.as_str() {
        Some("auto") => return Ok(Some(ToolChoice::Auto)),
        Some("required") => return Ok(Some(ToolChoice::Required)),
        Some("none") => return Ok(Some(ToolChoice::None)),
        Some(word) => {
            return Err(body.wrong("tool_choice", format!("`{word}` is not auto, required or none")));
        }
        None => {}
    }
    if choice.get("type").is_some_and(|kind| kind == "function") {
        let mut choice = Object::of(choice, body.path("tool_choice"))?;
        let name = choice.nested("function", |function| function.required_text("name"))?;
        return name.map(|name| Some(ToolChoice::Tool(name))).ok_or_else(|| choice.missing("function"));
    }
    body.keep("tool_choice", choice);
    Ok(None)
}

fn read_max_tokens(body: &mut Object<'_>) -> Result<Option<u64>, WireError> {
    let old = body.count("max_tokens")?;
    Ok(body.count("max_completion_tokens")?.or(old))
}

/// One text or several.
fn read_stop(body: &mut Object<'_>) -> Result<Vec<String>, WireError> {
    match body.value("stop") {
        None => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(list) => {
            body.keep("stop", list);
            Ok(body.each("stop", read::text_item)?.unwrap_or_default())
        }
    }
}

fn read_effort(effort: String) -> Thinking {
    if effort == "none" { Thinking::Off } else { Thinking::Effort(effort) }
}

fn read_output(body: &mut Object<'_>) -> Result<Option<OutputFormat>, WireError> {
    let read = |format: &mut Object<'_>| match format.required_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputFormat::Json)),
        "json_schema" => {
            let schema = format.nested("json_schema", |schema| {
                Ok(OutputFormat::Schema {
                    name: schema.required_text("name")?,
                    strict: schema.flag("strict")?.unwrap_or(false),
                    schema: schema.value("schema").ok_or_else(|| schema.missing("schema"))?,
                })
            })?;
            schema.map(Some).ok_or_else(|| format.missing("json_schema"))
        }
        kind => Err(format.wrong("type", format!("`{kind}` is not text, json_object or json_schema"))),
    };
    Ok(body.nested("response_format", read)?.flatten())
}

pub(crate) fn render_request(request: &Request) -> (Vec<u8>, Lost) {
    let mut lost = Lost::new();
    let mut body = Map::new();
    body.insert("model".into(), request.model.clone().into());
    body.insert("messages".into(), render_messages(request, &mut lost).into());
    let tools: Vec<Value> = request.tools.iter().filter_map(|tool| render_tool(tool, &mut lost)).collect();
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
        body.extend(foreign::choice(Dialect::Chat, request, &mut lost).map(render_tool_choice));
        body.extend(
            request.parallel_tools.map(|parallel| ("parallel_tool_calls".to_owned(), parallel.into())),
        );
    }
    if let Some(tokens) = request.max_tokens {
        body.insert(max_tokens_field(&request.model).into(), tokens.into());
    }
    let numbers = [("temperature", request.temperature), ("top_p", request.top_p)];
    body.extend(numbers.into_iter().filter_map(|(key, number)| Some((key.to_owned(), number?.into()))));
    if !request.stop.is_empty() {
        body.insert("stop".into(), request.stop.clone().into());
    }
    if let Some(effort) = foreign::effort(request, &mut lost) {
        body.insert("reasoning_effort".into(), effort.into());
    }
    body.extend(request.output.as_ref().map(|output| ("response_format".to_owned(), render_output(output))));
    if request.stream {
        body.insert("stream".into(), true.into());
        // Without it the stream tells no usage. Whoever renders the stream for a client that did not ask leaves it out.
        body.insert("stream_options".into(), json!({ "include_usage": true }));
    }
    if request.other.get("n").and_then(Value::as_u64).is_some_and(|choices| choices > 1) {
        lost.insert("all choices but the first");
    }
    if let Some(verbosity) = request.other.get("text").and_then(|text| text.get("verbosity")) {
        body.insert("verbosity".into(), verbosity.clone());
    }
    merge(&mut body, &foreign::without(Dialect::Chat, &request.other, &mut lost));
    (Value::Object(body).to_string().into_bytes(), lost)
}

/// OpenAI's own models refuse the old name of the limit; most other servers know only that one.
fn max_tokens_field(model: &str) -> &'static str {
    const OPENAI: [&str; 6] = ["gpt-", "chatgpt-", "o1", "o3", "o4", "o5"];
    // `gpt-oss` runs on everybody's servers.
    let is_openai = OPENAI.iter().any(|prefix| model.starts_with(prefix)) && !model.starts_with("gpt-oss");
    if is_openai { "max_completion_tokens" } else { "max_tokens" }
}

fn render_messages(request: &Request, lost: &mut Lost) -> Vec<Value> {
    let mut out = Vec::new();
    let system = parts(&request.system, lost);
    if !system.is_empty() {
        out.push(json!({"role": "system", "content": content(system)}));
    }
    for message in &request.messages {
        match message.speaker {
            Speaker::System => {
                let content = content(parts(&message.content, lost));
                out.push(json!({"role": "system", "content": content}));
            }
            Speaker::User => render_user(&message.content, &mut out, lost),
            Speaker::Assistant => out.extend(render_assistant(&message.content, lost)),
        }
    }
    out
}

/// Results first, each a message; pictures in them follow as the user's, because a result holds text only.
fn render_user(blocks: &[Block], out: &mut Vec<Value>, lost: &mut Lost) {
    let mut said = Vec::new();
    let mut rest = Vec::new();
    for block in foreign::translated(Dialect::Chat, blocks, lost).iter() {
        let Block::ToolResult { id, content: result, is_error, cache } = block else {
            rest.push(block.clone());
            continue;
        };
        if *is_error {
            lost.insert("the mark of a tool result as an error");
        }
        if cache.is_some() {
            lost.insert("cache_control");
        }
        let (texts, pictures): (Vec<Value>, Vec<Value>) =
            parts(result, lost).into_iter().partition(|part| part["type"] == "text");
        out.push(json!({"role": "tool", "tool_call_id": id, "content": content(texts)}));
        said.extend(pictures);
    }
    said.extend(parts(&rest, lost));
    if !said.is_empty() {
        out.push(json!({"role": "user", "content": content(said)}));
    }
}

fn render_assistant(blocks: &[Block], lost: &mut Lost) -> Option<Value> {
    let mut calls = Vec::new();
    let mut said = Vec::new();
    for block in foreign::translated(Dialect::Chat, blocks, lost).iter() {
        match block {
            Block::ToolUse { id, name, input, cache } => {
                if cache.is_some() {
                    lost.insert("cache_control");
                }
                calls.push(render_call(id, name, input));
            }
            Block::Other { dialect: Dialect::Chat, value } if is_call(value) => calls.push(value.clone()),
            _ => said.push(block.clone()),
        }
    }
    let said = parts(&said, lost);
    if said.is_empty() && calls.is_empty() {
        return None;
    }
    let said = if said.is_empty() { Value::Null } else { content(said) };
    let mut message = json!({"role": "assistant", "content": said});
    if !calls.is_empty() {
        message["tool_calls"] = calls.into();
    }
    Some(message)
}

pub(super) fn render_call(id: &str, name: &str, input: &Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments_text(input)}})
}

/// Content parts of what the dialect can say; what it cannot is left out and named.
fn parts(blocks: &[Block], lost: &mut Lost) -> Vec<Value> {
    let blocks = foreign::translated(Dialect::Chat, blocks, lost);
    blocks.iter().filter_map(|block| render_part(block, lost)).collect()
}

fn render_part(block: &Block, lost: &mut Lost) -> Option<Value> {
    let (part, cache) = match block {
        Block::Text { text, cache } => (json!({"type": "text", "text": text}), cache),
        Block::Image { source, cache } => (render_image(source), cache),
        Block::Document { source, name, cache } => (render_document(source, name.as_deref(), lost)?, cache),
        Block::Other { dialect: Dialect::Chat, value } => (value.clone(), &None),
        // Those of other dialects were translated.
        Block::Other { dialect: Dialect::Messages | Dialect::Responses, .. } => return None,
        Block::Thinking { signature: Some(signature), .. } if sealed::reasoning(signature).is_some() => {
            lost.insert(responses::ENCRYPTED);
            return None;
        }
        Block::Thinking { .. } | Block::RedactedThinking { .. } => {
            lost.insert("thinking");
            return None;
        }
        Block::ToolUse { .. } | Block::ToolResult { .. } => {
            lost.insert("tool calls and results out of their place");
            return None;
        }
    };
    if cache.is_some() {
        lost.insert("cache_control");
    }
    Some(part)
}

/// A document whose bytes are here; what stands at an address has no place here, plain text only as text.
fn render_document(source: &DocumentSource, name: Option<&str>, lost: &mut Lost) -> Option<Value> {
    match source {
        DocumentSource::Base64 { media_type, data } => {
            let name = name.unwrap_or(read::file_name(media_type));
            let data = format!("data:{media_type};base64,{data}");
            Some(json!({"type": "file", "file": {"filename": name, "file_data": data}}))
        }
        DocumentSource::Url(_) => {
            lost.insert("documents at an address");
            None
        }
        DocumentSource::Text(text) => {
            lost.insert("text documents as documents");
            Some(json!({"type": "text", "text": text}))
        }
    }
}

/// A single text is a string, which every server knows.
fn content(parts: Vec<Value>) -> Value {
    match parts.as_slice() {
        [] => "".into(),
        [part] if part["type"] == "text" => part["text"].clone(),
        _ => parts.into(),
    }
}

fn render_tool(tool: &ToolSpec, lost: &mut Lost) -> Option<Value> {
    if foreign::responses_own_tool(tool).is_some() {
        lost.insert("tools that only Responses has");
        return None;
    }
    if foreign::is_messages_own_tool(tool) {
        lost.insert("tools that the provider runs");
        return None;
    }
    if foreign::is_chats_own_tool(tool) {
        return Some(Value::Object(tool.other.clone()));
    }
    let mut function = Map::new();
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    function.insert("parameters".into(), tool.schema.clone());
    let mut fields = foreign::function_fields(tool, false, lost);
    fields.retain(|key, value| key != "strict" || !value.is_null());
    merge(&mut function, &fields);
    Some(json!({"type": "function", "function": function}))
}

fn render_tool_choice(choice: &ToolChoice) -> (String, Value) {
    let value = match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Tool(name) => json!({"type": "function", "function": {"name": name}}),
    };
    ("tool_choice".to_owned(), value)
}

fn render_output(output: &OutputFormat) -> Value {
    match output {
        OutputFormat::Json => json!({"type": "json_object"}),
        OutputFormat::Schema { name, schema, strict } => {
            let name = if name.is_empty() { read::SCHEMA_NAME } else { name };
            json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema, "strict": strict}})
        }
    }
}
