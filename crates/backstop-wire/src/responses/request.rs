//! Requests of Responses.

use super::{
    ENCRYPTED, Side, is_held_item, is_part, item_kind, read_call, read_part, read_reasoning, read_result,
    render_call, render_document, render_image, render_summary,
};
use crate::read::{self, Object, Path, WireError, merge};
use crate::{LeftOut, Lost, foreign, sealed};
use backstop_call::{
    Block, Dialect, DocumentSource, Labels, Message, OutputFormat, Request, Speaker, Thinking, ToolChoice,
    ToolSpec,
};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

pub(crate) fn parse_request(body: &[u8], left_out: &mut LeftOut) -> Result<Request, WireError> {
    let mut body = read::body(body)?;
    let instructions = body.text("instructions")?.filter(|text| !text.is_empty());
    let input = read_input(&mut body, left_out)?;
    let refers = input.iter().any(|item| item.refers);
    let (system, messages) = joined(instructions, input);
    let is_set = |key: &str| body.peek(key).is_some_and(|value| !value.is_null());
    let continued = refers || is_set("previous_response_id") || is_set("conversation");
    let (tool_choice, thinking, output) =
        (read_tool_choice(&mut body)?, read_thinking(&mut body)?, read_output(&mut body)?);
    read_store(&mut body)?;
    Ok(Request {
        model: body.required_text("model")?,
        system: system.into(),
        messages,
        tools: body.each("tools", read_tool)?.unwrap_or_default().into(),
        tool_choice,
        parallel_tools: body.flag("parallel_tool_calls")?,
        max_tokens: body.count("max_output_tokens")?,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop: Vec::new(),
        thinking,
        output,
        stream: body.flag("stream")?.unwrap_or(false),
        continued,
        other: body.rest(),
    })
}

/// An item: who speaks in it, and whether it begins a message of its own. A call, its result, a thought each are part of the
/// turn that they stand in.
struct Item {
    speaker: Speaker,
    is_message: bool,
    content: Vec<Block>,
    /// Whether it is one that the provider holds, and only named here.
    refers: bool,
}

impl Item {
    fn part(speaker: Speaker, block: Block) -> Self {
        Self { speaker, is_message: false, content: vec![block], refers: false }
    }
}

fn read_input(body: &mut Object<'_>, left_out: &mut LeftOut) -> Result<Vec<Item>, WireError> {
    match body.peek("input") {
        Some(Value::String(_)) => {
            let content = body.content("input", read_part)?.unwrap_or_default();
            Ok(vec![Item { speaker: Speaker::User, is_message: true, content, refers: false }])
        }
        Some(Value::Array(items)) => {
            let own_calls = own_calls(items);
            let read = |value: Value, path: Path<'_>| read_item(value, path, &own_calls, left_out);
            Ok(body.each("input", read)?.unwrap_or_default())
        }
        // A stored prompt or conversation may be all there is.
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(_) => Err(body.wrong("input", "must be a string or an array")),
    }
}

/// The ids of the calls that have more than our words hold, so that their results stay what they are, too.
fn own_calls(items: &[Value]) -> BTreeSet<String> {
    let is_own = |item: &&Value| item_kind(item) == "function_call" && !is_held_item(item, "function_call");
    let id = |item: &Value| item.get("call_id")?.as_str().map(str::to_owned);
    items.iter().filter(is_own).filter_map(id).collect()
}

fn read_item(
    value: Value,
    path: Path<'_>,
    own_calls: &BTreeSet<String>,
    left_out: &mut LeftOut,
) -> Result<Item, WireError> {
    if !value.is_object() {
        return Err(path.wrong("must be an object"));
    }
    let kind = item_kind(&value).to_owned();
    let is_own_result = kind == "function_call_output"
        && value.get("call_id").and_then(Value::as_str).is_some_and(|id| own_calls.contains(id));
    if is_own_result || !is_held_item(&value, &kind) {
        return read_own_item(value, &kind, path);
    }
    let is_completed = value.get("status").is_some_and(|status| status == "completed");
    let mut item = Object::of(value, path)?;
    item.value("type");
    let read = match kind.as_str() {
        "message" => {
            let speaker = read_role(&item.required_text("role")?, path)?;
            let content = item.content("content", read_part)?.ok_or_else(|| item.missing("content"))?;
            Item { speaker, is_message: true, content, refers: false }
        }
        "function_call" => Item::part(Speaker::Assistant, read_call(&mut item)?),
        "function_call_output" => Item::part(Speaker::User, read_result(&mut item)?),
        // Its id is kept: the encrypted content belongs to it.
        _ => Item::part(Speaker::Assistant, read_reasoning(&mut item, Side::Request)?),
    };
    if is_completed {
        item.value("status");
    }
    item.leave_out("input", left_out);
    Ok(read)
}

/// An item that only this dialect has, or that has more than our words hold.
fn read_own_item(value: Value, kind: &str, path: Path<'_>) -> Result<Item, WireError> {
    if kind.is_empty() {
        return Err(Path::Field(&path, "type").wrong("is missing"));
    }
    let role = || value.get("role").and_then(Value::as_str).unwrap_or_default();
    let (speaker, is_message) = match kind {
        "message" => (read_role(role(), path)?, true),
        "reasoning" => (Speaker::Assistant, false),
        _ if kind.ends_with("_call") => (Speaker::Assistant, false),
        _ => (Speaker::User, false),
    };
    let content = vec![Block::Other { dialect: Dialect::Responses, value }];
    Ok(Item { speaker, is_message, content, refers: kind == "item_reference" })
}

fn read_role(role: &str, path: Path<'_>) -> Result<Speaker, WireError> {
    match role {
        "user" => Ok(Speaker::User),
        "assistant" => Ok(Speaker::Assistant),
        "system" | "developer" => Ok(Speaker::System),
        role => {
            let problem = format!("`{role}` is not user, assistant, system or developer");
            Err(Path::Field(&path, "role").wrong(problem))
        }
    }
}

/// Whatever the model says, thinks and calls without a word between is one message; so are results. Messages of the system
/// at the beginning are the instructions, where there are no others.
fn joined(instructions: Option<String>, items: Vec<Item>) -> (Vec<Block>, Vec<Message>) {
    let has_instructions = instructions.is_some();
    let mut system: Vec<Block> = instructions.map(Block::text).into_iter().collect();
    let mut messages: Vec<Message> = Vec::new();
    let mut in_results = false;
    for item in items {
        let is_first = messages.is_empty() && !has_instructions;
        let is_held = item.content.iter().all(|block| !is_item(block));
        if item.speaker == Speaker::System && is_first && is_held {
            system.extend(item.content);
            continue;
        }
        let goes_on = match item.speaker {
            Speaker::Assistant => true,
            Speaker::User => in_results && !item.is_message,
            Speaker::System => false,
        };
        in_results = item.speaker == Speaker::User && !item.is_message;
        match messages.last_mut().filter(|last| goes_on && last.speaker == item.speaker) {
            Some(last) => last.content.change(|content| content.extend(item.content)),
            None => messages.push(Message {
                speaker: item.speaker,
                content: item.content.into(),
                labels: Labels::default(),
            }),
        }
    }
    (system, messages)
}

/// Whether a block is an item as it stands, as against a part of a message.
fn is_item(block: &Block) -> bool {
    matches!(block, Block::Other { dialect: Dialect::Responses, value } if !is_part(value))
}

fn read_tool(value: Value, path: Path<'_>) -> Result<ToolSpec, WireError> {
    let mut tool = Object::of(value.clone(), path)?;
    let kind = tool.required_text("type")?;
    if kind != "function" {
        // A tool of the provider's own: it goes out as it came.
        let name = match tool.text("name")? {
            Some(name) => Some(name),
            None => tool.text("server_label")?,
        };
        let name = name.unwrap_or(kind);
        return Ok(foreign::spec_of_responses_own(name, value));
    }
    let strict = tool.value("strict");
    let (name, description) = (tool.required_text("name")?, tool.text("description")?.unwrap_or_default());
    let schema = tool.value("parameters").unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    let mut other = tool.rest();
    // Elsewhere a function is not strict unless it says so; here it is left to the provider, which is kept as null.
    if strict != Some(json!(false)) {
        other.insert("strict".to_owned(), strict.unwrap_or_default());
    }
    Ok(ToolSpec { name, description, schema, other })
}

/// A choice that our words do not hold (`allowed_tools`, the provider's own tools) stays among the other fields.
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
    let mut object = Object::of(choice.clone(), body.path("tool_choice"))?;
    if object.required_text("type")? == "function" {
        return Ok(Some(ToolChoice::Tool(object.required_text("name")?)));
    }
    body.keep("tool_choice", choice);
    Ok(None)
}

fn read_thinking(body: &mut Object<'_>) -> Result<Option<Thinking>, WireError> {
    let effort = body.nested("reasoning", |reasoning| reasoning.text("effort"))?.flatten();
    Ok(effort.map(|effort| if effort == "none" { Thinking::Off } else { Thinking::Effort(effort) }))
}

fn read_output(body: &mut Object<'_>) -> Result<Option<OutputFormat>, WireError> {
    let read = |format: &mut Object<'_>| match format.required_text("type")?.as_str() {
        "text" => Ok(None),
        "json_object" => Ok(Some(OutputFormat::Json)),
        "json_schema" => Ok(Some(OutputFormat::Schema {
            name: format.required_text("name")?,
            strict: format.flag("strict")?.unwrap_or(false),
            schema: format.value("schema").ok_or_else(|| format.missing("schema"))?,
        })),
        kind => Err(format.wrong("type", format!("`{kind}` is not text, json_object or json_schema"))),
    };
    Ok(body.nested("text", |text| text.nested("format", read))?.flatten().flatten())
}

/// Elsewhere nothing is stored unless it is asked for; here it is left to the provider, which is kept as null.
fn read_store(body: &mut Object<'_>) -> Result<(), WireError> {
    let store = body.flag("store")?;
    if store != Some(false) {
        body.keep("store", store.map_or(Value::Null, Value::Bool));
    }
    Ok(())
}

pub(crate) fn render_request(request: &Request) -> (Vec<u8>, Lost) {
    let mut lost = Lost::new();
    let mut body = Map::new();
    body.insert("model".into(), request.model.clone().into());
    let mut input = Vec::new();
    match &request.system[..] {
        [Block::Text { text, cache: None }] if !text.is_empty() => {
            body.insert("instructions".into(), text.clone().into());
        }
        system => render_message(Speaker::System, system, (request, &mut input), &mut lost),
    }
    for message in &request.messages {
        render_message(message.speaker, &message.content, (request, &mut input), &mut lost);
    }
    body.insert("input".into(), input.into());
    let tools: Vec<Value> =
        request.tools.iter().filter_map(|tool| render_tool(request, tool, &mut lost)).collect();
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
        let choice = foreign::choice(Dialect::Responses, request, &mut lost);
        body.extend(choice.map(|choice| ("tool_choice".to_owned(), render_choice(choice))));
        body.extend(
            request.parallel_tools.map(|parallel| ("parallel_tool_calls".to_owned(), parallel.into())),
        );
    }
    body.extend(request.max_tokens.map(|tokens| ("max_output_tokens".to_owned(), tokens.into())));
    let numbers = [("temperature", request.temperature), ("top_p", request.top_p)];
    body.extend(numbers.into_iter().filter_map(|(key, number)| Some((key.to_owned(), number?.into()))));
    if !request.stop.is_empty() {
        lost.insert("stop sequences");
    }
    render_thinking(request, &mut body, &mut lost);
    render_text(request, &mut body);
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    let mut other = foreign::without(Dialect::Responses, &request.other, &mut lost);
    match other.get("store") {
        Some(Value::Null) => drop(other.shift_remove("store")),
        Some(_) => {}
        None => drop(body.insert("store".into(), false.into())),
    }
    merge(&mut body, &other);
    (Value::Object(body).to_string().into_bytes(), lost)
}

/// Whether the provider keeps what it answers, so that an item of it can be named later.
fn is_stored(request: &Request) -> bool {
    request.other.contains_key("store")
}

fn render_thinking(request: &Request, body: &mut Map<String, Value>, lost: &mut Lost) {
    if let Some(effort) = foreign::effort(request, lost) {
        body.insert("reasoning".into(), json!({ "effort": effort }));
    }
    // Without it a thought that is not stored cannot be sent back, and the model begins anew after each tool.
    let thinks = !matches!(request.thinking, None | Some(Thinking::Off));
    if thinks && !is_stored(request) && !request.other.contains_key("include") {
        body.insert("include".into(), json!([foreign::ENCRYPTED_REASONING]));
    }
}

fn render_text(request: &Request, body: &mut Map<String, Value>) {
    let mut text = Map::new();
    if let Some(output) = &request.output {
        text.insert("format".into(), render_output(output));
    }
    if let Some(verbosity) = request.other.get("verbosity").filter(|word| word.is_string()) {
        text.insert("verbosity".into(), verbosity.clone());
    }
    if !text.is_empty() {
        body.insert("text".into(), text.into());
    }
}

fn render_output(output: &OutputFormat) -> Value {
    match output {
        OutputFormat::Json => json!({"type": "json_object"}),
        OutputFormat::Schema { name, schema, strict } => {
            let name = if name.is_empty() { read::SCHEMA_NAME } else { name };
            json!({"type": "json_schema", "name": name, "schema": schema, "strict": strict})
        }
    }
}

/// The items of one message: its parts go together, whatever is an item of its own stands between them in its place.
fn render_message(
    speaker: Speaker,
    blocks: &[Block],
    (request, input): (&Request, &mut Vec<Value>),
    lost: &mut Lost,
) {
    let role = match speaker {
        Speaker::System => "system",
        Speaker::User => "user",
        Speaker::Assistant => "assistant",
    };
    let mut parts = Vec::new();
    for block in foreign::translated(Dialect::Responses, blocks, lost).iter() {
        match render_item(block, is_stored(request), lost) {
            Some(item) => {
                flush(role, &mut parts, input);
                input.push(item);
            }
            None => parts.extend(render_part(block, speaker, lost)),
        }
    }
    flush(role, &mut parts, input);
}

fn flush(role: &str, parts: &mut Vec<Value>, input: &mut Vec<Value>) {
    if !parts.is_empty() {
        input.push(json!({"type": "message", "role": role, "content": std::mem::take(parts)}));
    }
}

/// A block that is an item of its own.
fn render_item(block: &Block, is_stored: bool, lost: &mut Lost) -> Option<Value> {
    let (item, cache) = match block {
        Block::ToolUse { id, name, input, cache } => (render_call(id, name, input), cache),
        Block::ToolResult { id, content, is_error, cache } => {
            if *is_error {
                lost.insert("the mark of a tool result as an error");
            }
            let parts: Vec<Value> =
                content.iter().filter_map(|block| render_part(block, Speaker::User, lost)).collect();
            let output = match parts.as_slice() {
                [] => "".into(),
                [part] if part["type"] == "input_text" => part["text"].clone(),
                _ => parts.into(),
            };
            (json!({"type": "function_call_output", "call_id": id, "output": output}), cache)
        }
        Block::Thinking { text, signature } => {
            let (id, encrypted) = sealed::reasoning(signature.as_deref()?)?;
            if encrypted.is_empty() && !is_stored {
                return None;
            }
            let mut item = json!({"type": "reasoning", "summary": render_summary(text)});
            let own = [("id", id), ("encrypted_content", encrypted)];
            for (key, value) in own.into_iter().filter(|(_, value)| !value.is_empty()) {
                item[key] = value.into();
            }
            (item, &None)
        }
        Block::Other { value, .. } if is_item(block) => (value.clone(), &None),
        _ => return None,
    };
    if cache.is_some() {
        lost.insert("cache_control");
    }
    Some(item)
}

/// A part of a message; what the dialect cannot say is left out and named.
fn render_part(block: &Block, speaker: Speaker, lost: &mut Lost) -> Option<Value> {
    let (part, cache) = match block {
        Block::Text { text, cache } => {
            let kind = if speaker == Speaker::Assistant { "output_text" } else { "input_text" };
            (json!({"type": kind, "text": text}), cache)
        }
        Block::Image { .. } | Block::Document { .. } if speaker == Speaker::Assistant => {
            lost.insert("pictures and documents of the model's");
            return None;
        }
        Block::Image { source, cache } => (render_image(source), cache),
        Block::Document { source, name, cache } => {
            match source {
                DocumentSource::Text(_) => drop(lost.insert("text documents as documents")),
                DocumentSource::Url(_) if name.is_some() => {
                    lost.insert("the names of documents at an address");
                }
                DocumentSource::Base64 { .. } | DocumentSource::Url(_) => {}
            }
            (render_document(source, name.as_deref()), cache)
        }
        Block::Other { value, .. } => (value.clone(), &None),
        Block::Thinking { signature, .. } => {
            let is_own = signature.as_deref().is_some_and(|signature| sealed::reasoning(signature).is_some());
            lost.insert(if is_own { ENCRYPTED } else { "thinking" });
            return None;
        }
        Block::RedactedThinking { .. } => {
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

fn render_tool(request: &Request, tool: &ToolSpec, lost: &mut Lost) -> Option<Value> {
    if let Some(own) = foreign::responses_own_tool(tool) {
        return Some(own.clone());
    }
    if foreign::is_chats_own_tool(tool) {
        lost.insert("tools that only Chat has");
        return None;
    }
    if foreign::is_messages_own_tool(tool) {
        lost.insert("tools that the provider runs");
        return None;
    }
    let loads_later = request
        .tools
        .iter()
        .any(|tool| foreign::responses_own_tool(tool).is_some_and(|own| own["type"] == "tool_search"));
    let mut fields = foreign::function_fields(tool, loads_later, lost);
    let strict = fields.shift_remove("strict");
    let mut function = Map::new();
    function.insert("type".into(), "function".into());
    function.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        function.insert("description".into(), tool.description.clone().into());
    }
    function.insert("parameters".into(), tool.schema.clone());
    function.insert("strict".into(), strict.unwrap_or(Value::Bool(false)));
    merge(&mut function, &fields);
    Some(Value::Object(function))
}

fn render_choice(choice: &ToolChoice) -> Value {
    match choice {
        ToolChoice::Auto => "auto".into(),
        ToolChoice::Required => "required".into(),
        ToolChoice::None => "none".into(),
        ToolChoice::Tool(name) => json!({"type": "function", "name": name}),
    }
}
