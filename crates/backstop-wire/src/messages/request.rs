//! Requests of Anthropic Messages.

use super::{Side, read_block, render_block};
use crate::read::{self, Object, Path, WireError, merge};
use crate::{LeftOut, Lost, foreign};
use backstop_call::{
    Block, Dialect, Message, OutputFormat, Request, Speaker, Thinking, ToolChoice, ToolSpec,
};
use serde_json::{Map, Value, json};

/// The dialect demands a limit on the output; this stands in where none was given.
const MAX_TOKENS_DEFAULT: u64 = 4096;

pub(crate) fn parse_request(body: &[u8], left_out: &mut LeftOut) -> Result<Request, WireError> {
    let mut body = read::body(body)?;
    let (tool_choice, parallel_tools) = read_tool_choice(&mut body)?;
    Ok(Request {
        model: body.required_text("model")?,
        system: body.content("system", read_block)?.unwrap_or_default().into(),
        messages: body
            .each("messages", |value, path| read_message(value, path, left_out))?
            .ok_or_else(|| body.missing("messages"))?,
        tools: body.each("tools", read_tool)?.unwrap_or_default().into(),
        tool_choice,
        parallel_tools,
        max_tokens: body.count("max_tokens")?,
        temperature: body.number("temperature")?,
        top_p: body.number("top_p")?,
        stop: body.each("stop_sequences", read::text_item)?.unwrap_or_default(),
        output: read_output(&mut body)?,
        thinking: read_thinking(&mut body)?,
        stream: body.flag("stream")?.unwrap_or(false),
        continued: is_continued(&body),
        other: body.rest(),
    })
}

/// Whether the provider holds what was said before: a thread goes on with it.
fn is_continued(body: &Object<'_>) -> bool {
    let kind = body.peek("thread").and_then(|thread| thread.get("type"));
    kind.is_some_and(|kind| kind == "continue")
}

fn read_message(value: Value, path: Path<'_>, left_out: &mut LeftOut) -> Result<Message, WireError> {
    let mut message = Object::of(value, path)?;
    let speaker = match message.required_text("role")?.as_str() {
        "user" => Speaker::User,
        "assistant" => Speaker::Assistant,
        "system" => Speaker::System,
        role => return Err(message.wrong("role", format!("`{role}` is not user, assistant or system"))),
    };
    let content = message.content("content", read_block)?.ok_or_else(|| message.missing("content"))?;
    message.leave_out("messages", left_out);
    Ok(Message { speaker, content: content.into(), labels: backstop_call::Labels::default() })
}

fn read_tool(value: Value, path: Path<'_>) -> Result<ToolSpec, WireError> {
    let mut tool = Object::of(value, path)?;
    Ok(ToolSpec {
        name: tool.required_text("name")?,
        description: tool.text("description")?.unwrap_or_default(),
        schema: tool.value("input_schema").unwrap_or_default(),
        other: tool.rest(),
    })
}

fn read_tool_choice(body: &mut Object<'_>) -> Result<(Option<ToolChoice>, Option<bool>), WireError> {
    let read = body.nested("tool_choice", |choice| {
        let parallel = choice.flag("disable_parallel_tool_use")?.map(|disabled| !disabled);
        let kind = match choice.required_text("type")?.as_str() {
            "auto" => ToolChoice::Auto,
            "any" => ToolChoice::Required,
            "none" => ToolChoice::None,
            "tool" => ToolChoice::Tool(choice.required_text("name")?),
            kind => return Err(choice.wrong("type", format!("`{kind}` is not auto, any, none or tool"))),
        };
        Ok((Some(kind), parallel))
    })?;
    Ok(read.unwrap_or_default())
}

/// `thinking` says whether, `output_config.effort` how hard. Where both stand, the second stays among the other fields.
fn read_thinking(body: &mut Object<'_>) -> Result<Option<Thinking>, WireError> {
    let thinking = body.nested("thinking", |thinking| match thinking.required_text("type")?.as_str() {
        "disabled" => Ok(Thinking::Off),
        "adaptive" => Ok(Thinking::Adaptive),
        "enabled" => thinking
            .count("budget_tokens")?
            .map(Thinking::Budget)
            .ok_or_else(|| thinking.missing("budget_tokens")),
        kind => Err(thinking.wrong("type", format!("`{kind}` is not enabled, disabled or adaptive"))),
    })?;
    if thinking.is_some() {
        return Ok(thinking);
    }
    let effort = body.nested("output_config", |config| config.text("effort"))?.flatten();
    Ok(effort.map(Thinking::Effort))
}

/// `output_config.format`, or `output_format` as it was called in the beta.
fn read_output(body: &mut Object<'_>) -> Result<Option<OutputFormat>, WireError> {
    let format = body.nested("output_config", |config| config.nested("format", read_format))?.flatten();
    match format {
        Some(format) => Ok(Some(format)),
        None => body.nested("output_format", read_format),
    }
}

fn read_format(format: &mut Object<'_>) -> Result<OutputFormat, WireError> {
    match format.required_text("type")?.as_str() {
        "json_schema" => Ok(OutputFormat::Schema {
            name: read::SCHEMA_NAME.to_owned(),
            schema: format.value("schema").ok_or_else(|| format.missing("schema"))?,
            strict: true,
        }),
        kind => Err(format.wrong("type", format!("`{kind}` is not json_schema"))),
    }
}

pub(crate) fn render_request(request: &Request) -> (Vec<u8>, Lost) {
    let mut lost = Lost::new();
    let mut body = Map::new();
    body.insert("model".into(), request.model.clone().into());
    body.insert("max_tokens".into(), max_tokens(request).into());
    // The conversation begins with the user: instructions before that belong to those before the conversation.
    let first = request.messages.iter().take_while(|message| message.speaker == Speaker::System).count();
    let (instructions, messages) = request.messages.split_at(first);
    let mut system = render_all(&request.system, &mut lost);
    system.extend(instructions.iter().flat_map(|message| render_all(&message.content, &mut lost)));
    if !system.is_empty() {
        body.insert("system".into(), system.into());
    }
    body.insert("messages".into(), render_messages(messages, &mut lost).into());
    let tools: Vec<Value> = request.tools.iter().filter_map(|tool| render_tool(tool, &mut lost)).collect();
    if !tools.is_empty() {
        body.insert("tools".into(), tools.into());
        let choice = foreign::choice(Dialect::Messages, request, &mut lost);
        let choice = render_tool_choice(choice, request.parallel_tools);
        body.extend(choice.map(|choice| ("tool_choice".to_owned(), choice)));
    }
    let numbers = [("temperature", request.temperature), ("top_p", request.top_p)];
    body.extend(numbers.into_iter().filter_map(|(key, number)| Some((key.to_owned(), number?.into()))));
    if !request.stop.is_empty() {
        body.insert("stop_sequences".into(), request.stop.clone().into());
    }
    render_thinking(request.thinking.as_ref(), &mut body);
    render_output(request.output.as_ref(), &mut body, &mut lost);
    if request.stream {
        body.insert("stream".into(), true.into());
    }
    merge(&mut body, &foreign::without(Dialect::Messages, &request.other, &mut lost));
    (Value::Object(body).to_string().into_bytes(), lost)
}

/// The limit on the output; the thoughts count towards it.
fn max_tokens(request: &Request) -> u64 {
    let thoughts = match request.thinking {
        Some(Thinking::Budget(tokens)) => tokens,
        _ => 0,
    };
    request.max_tokens.unwrap_or(MAX_TOKENS_DEFAULT.saturating_add(thoughts))
}

fn render_all(blocks: &[Block], lost: &mut Lost) -> Vec<Value> {
    let blocks = foreign::translated(Dialect::Messages, blocks, lost);
    blocks.iter().filter_map(|block| render_block(block, Side::Request, lost)).collect()
}

/// The roles must take turns, so neighbours with the same speaker become one message; what is left empty is left out. Tool
/// results must come first in their turn.
fn render_messages(messages: &[Message], lost: &mut Lost) -> Vec<Value> {
    let mut turns: Vec<(Speaker, Vec<Value>)> = Vec::new();
    for message in messages {
        let content = render_all(&message.content, lost);
        match turns.last_mut() {
            _ if content.is_empty() => {}
            Some((speaker, turn)) if *speaker == message.speaker => turn.extend(content),
            _ => turns.push((message.speaker, content)),
        }
    }
    let render = |(speaker, mut content): (Speaker, Vec<Value>)| {
        let role = match speaker {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
            Speaker::System => "system",
        };
        content.sort_by_key(|block| block["type"] != "tool_result");
        json!({"role": role, "content": content})
    };
    turns.into_iter().map(render).collect()
}

fn render_tool(tool: &ToolSpec, lost: &mut Lost) -> Option<Value> {
    if foreign::is_chats_own_tool(tool) {
        lost.insert("tools that only Chat has");
        return None;
    }
    if foreign::responses_own_tool(tool).is_some() {
        lost.insert("tools that only Responses has");
        return None;
    }
    let mut out = Map::new();
    out.insert("name".into(), tool.name.clone().into());
    if !tool.description.is_empty() {
        out.insert("description".into(), tool.description.clone().into());
    }
    if !tool.schema.is_null() {
        out.insert("input_schema".into(), tool.schema.clone());
    }
    merge(&mut out, &tool.other);
    // Left to the provider is what it is here, too.
    if out.get("strict").is_some_and(Value::is_null) {
        out.shift_remove("strict");
    }
    Some(Value::Object(out))
}

fn render_tool_choice(choice: Option<&ToolChoice>, parallel: Option<bool>) -> Option<Value> {
    let mut choice = match choice {
        None if parallel.is_none() => return None,
        None | Some(ToolChoice::Auto) => json!({"type": "auto"}),
        Some(ToolChoice::Required) => json!({"type": "any"}),
        Some(ToolChoice::None) => return Some(json!({"type": "none"})),
        Some(ToolChoice::Tool(name)) => json!({"type": "tool", "name": name}),
    };
    if let Some(parallel) = parallel {
        choice["disable_parallel_tool_use"] = (!parallel).into();
    }
    Some(choice)
}

fn render_thinking(thinking: Option<&Thinking>, body: &mut Map<String, Value>) {
    let value = match thinking {
        None => return,
        Some(Thinking::Off) => json!({"type": "disabled"}),
        Some(Thinking::Adaptive) => json!({"type": "adaptive"}),
        Some(Thinking::Budget(tokens)) => json!({"type": "enabled", "budget_tokens": tokens}),
        Some(Thinking::Effort(effort)) => {
            // Chat's `minimal` is not known here.
            let effort = if effort == "minimal" { "low" } else { effort };
            merge(body, &one("output_config", json!({ "effort": effort })));
            return;
        }
    };
    body.insert("thinking".into(), value);
}

fn render_output(output: Option<&OutputFormat>, body: &mut Map<String, Value>, lost: &mut Lost) {
    match output {
        None => {}
        Some(OutputFormat::Json) => {
            lost.insert("JSON output without a schema");
        }
        Some(OutputFormat::Schema { schema, .. }) => {
            let format = json!({"format": {"type": "json_schema", "schema": schema}});
            merge(body, &one("output_config", format));
        }
    }
}

fn one(key: &str, value: Value) -> Map<String, Value> {
    Map::from_iter([(key.to_owned(), value)])
}
