//! Builds the request of the next model call from the state, and estimates its size. Pure.

use crate::{Rules, RunState};
use backstop_call::{Block, DocumentSource, ModelName, Request};

/// JSON bytes that make a token. Prose has about 4, code and JSON about 3; too few bytes is the safe side, because what
/// does not fit is refused before it is sent.
const BYTES_PER_TOKEN: u64 = 3;
/// What a picture counts, whatever its bytes: the most that providers document for one they have scaled.
const IMAGE_TOKENS: u64 = 1_600;

/// The request for the next call, and its estimated input in tokens.
///
/// It asks for a stream though nobody sees it: of a streamed answer every chunk is a sign of life, so that an answer may
/// take as long as it is long, and one that fell silent is noticed. The sink it goes to is [`backstop_call::Discard`], so
/// that one which breaks off may be asked for again all the same.
///
/// The conversation is copied for each request. Over a run of 500 turns and a megabyte that is a fifth of a second in
/// all, half of what it takes to write the same requests as JSON (`benches/long_run.rs`): not worth a shared type.
pub(crate) fn next_request(state: &RunState, rules: &Rules) -> (Request, u64) {
    let created = state.created.as_ref();
    let system = created.and_then(|created| created.system.read::<String>()).unwrap_or_default();
    let mut request = Request {
        model: created.map(|created| ModelName::to_string(&created.model)).unwrap_or_default(),
        system: if system.is_empty() { Vec::new() } else { vec![Block::text(system)] },
        messages: state.messages.clone(),
        tools: rules.tools.clone(),
        max_tokens: created.and_then(|created| created.max_tokens),
        stream: true,
        ..Request::default()
    };
    let input_tokens = estimate_tokens(&request);
    let left = state.limits.tokens.saturating_sub(state.tokens()).saturating_sub(input_tokens);
    request.max_tokens = request.max_tokens.map(|most| most.min(left.max(1)));
    (request, input_tokens)
}

/// The size of a request's input in tokens, estimated from its bytes on the high side.
pub fn estimate_tokens(request: &Request) -> u64 {
    let messages = request.messages.iter().flat_map(|message| &message.content);
    let content: u64 = request.system.iter().chain(messages).map(block_tokens).sum();
    let tools: u64 = request
        .tools
        .iter()
        .map(|tool| tokens(tool.name.len() + tool.description.len() + tool.schema.to_string().len()))
        .sum();
    content + tools + 4 * request.messages.len() as u64
}

fn block_tokens(block: &Block) -> u64 {
    match block {
        Block::Text { text, .. } => tokens(text.len()),
        Block::Thinking { text, signature } => tokens(text.len() + signature.as_ref().map_or(0, String::len)),
        Block::RedactedThinking { data } => tokens(data.len()),
        Block::Image { .. } => IMAGE_TOKENS,
        Block::Document { source, .. } => match source {
            DocumentSource::Text(text)
            | DocumentSource::Base64 { data: text, .. }
            | DocumentSource::Url(text) => tokens(text.len()),
        },
        Block::ToolUse { id, name, input, .. } => tokens(id.len() + name.len() + input.to_string().len()) + 8,
        Block::ToolResult { id, content, .. } => {
            tokens(id.len()) + 8 + content.iter().map(block_tokens).sum::<u64>()
        }
        Block::Other { value, .. } => tokens(value.to_string().len()),
    }
}

fn tokens(bytes: usize) -> u64 {
    (bytes as u64).div_ceil(BYTES_PER_TOKEN)
}
