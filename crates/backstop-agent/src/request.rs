//! Builds the request of the next model call from the state, and estimates its size. Pure.

use crate::{Rules, RunState};
use backstop_call::{Block, ModelName, Request};

/// JSON bytes that make a token. Prose has about 4, code and JSON about 3; too few bytes is the safe side, because what
/// does not fit is refused before it is sent.
const BYTES_PER_TOKEN: u64 = 3;
/// What a picture counts, whatever its bytes: the most that providers document for one they have scaled.
const IMAGE_TOKENS: u64 = 1_600;
/// What stands around a message, a block or a tool.
const TOKENS_PER_PART: u64 = 4;

/// The request for the next call, and its estimated input in tokens.
///
/// It asks for a stream though nobody sees it: of a streamed answer every chunk is a sign of life, so that an answer may
/// take as long as it is long, and one that fell silent is noticed. The sink it goes to is [`backstop_call::Discard`], so
/// that one which breaks off may be asked for again all the same.
pub(crate) fn next_request(state: &RunState, rules: &Rules) -> (Request, u64) {
    let created = state.created.as_ref();
    let system = created.and_then(|created| created.system.read::<String>()).unwrap_or_default();
    let mut request = Request {
        model: created.map(|created| ModelName::to_string(&created.model)).unwrap_or_default(),
        system: (!system.is_empty()).then(|| Block::text(system)).into_iter().collect(),
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

/// The size of a request's input in tokens, estimated from its bytes on the high side. What was sent before is not counted
/// again.
pub fn estimate_tokens(request: &Request) -> u64 {
    let size = request.size();
    (size.bytes + size.documents).div_ceil(BYTES_PER_TOKEN)
        + size.images * IMAGE_TOKENS
        + size.parts * TOKENS_PER_PART
}
