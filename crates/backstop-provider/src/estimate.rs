//! Usage that a provider did not tell, estimated from the text so that it never counts as nothing. Pure.

use backstop_call::{Block, Call, DocumentSource, Usage};

/// Bytes of UTF-8 for one token. English text has about 4 with the tokenizers of 2024 and about 3 with those since; code
/// and other scripts have fewer. 3 errs on the side of counting too much.
const BYTES_PER_TOKEN: u64 = 3;
/// Tokens of one picture, whatever its bytes: the largest that the vendors' formulas give for a picture which is scaled
/// down to their usual limit (Anthropic: width × height / 750 at 1.15 megapixels, about 1,600).
const TOKENS_PER_IMAGE: u64 = 1_600;
/// What a message, a block or a tool costs beside its text.
const TOKENS_PER_PART: u64 = 4;

/// The usage of an answered call. What the provider told counts; what it did not tell is estimated, and marked so:
/// `max(1, bytes / 3)` for the text of the request and of the answer, 1,600 for a picture.
pub(crate) fn usage_of(told: Option<Usage>, call: &Call, content_bytes: usize) -> Usage {
    match told {
        Some(usage) if !usage.estimated && usage.total_input_tokens() + usage.output_tokens > 0 => usage,
        // The beginning of a Messages stream tells the input exactly and the output as a placeholder.
        Some(usage) if usage.total_input_tokens() > 0 => {
            let output_tokens = usage.output_tokens.max(tokens(content_bytes as u64));
            Usage { output_tokens, estimated: true, ..usage }
        }
        Some(_) | None => Usage {
            input_tokens: call_tokens(call),
            output_tokens: tokens(content_bytes as u64),
            estimated: true,
            ..Usage::default()
        },
    }
}

/// How many bytes of content a reply has, counted as [`backstop_call::Assembly::content_chars`] counts them.
pub(crate) fn content_bytes(content: &[Block]) -> usize {
    content.iter().map(text_bytes).sum()
}

/// From the bytes that the client sent, where there are some.
fn call_tokens(call: &Call) -> u64 {
    let size = call.source.as_ref().map_or_else(|| call.request.size(), |source| source.size);
    tokens(size.bytes + size.documents) + size.images * TOKENS_PER_IMAGE + size.parts * TOKENS_PER_PART
}

fn tokens(bytes: u64) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN).max(1)
}

fn text_bytes(block: &Block) -> usize {
    match block {
        Block::Text { text, .. } | Block::Thinking { text, .. } => text.len(),
        Block::RedactedThinking { data } => data.len(),
        Block::ToolUse { name, input, .. } => name.len() + input.to_string().len(),
        Block::ToolResult { content, .. } => content.iter().map(text_bytes).sum(),
        Block::Other { value, .. } => value.to_string().len(),
        Block::Document { source, .. } => document_bytes(source),
        Block::Image { .. } => 0,
    }
}

/// What a document is made of tells how long its text can be; one at an address may have any length and is not guessed.
fn document_bytes(source: &DocumentSource) -> usize {
    match source {
        DocumentSource::Text(text) => text.len(),
        DocumentSource::Base64 { data, .. } => data.len(),
        DocumentSource::Url(url) => url.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{ImageSource, Message, Request, Speaker, Timestamp};
    use std::sync::Arc;

    #[test]
    fn a_missing_usage_is_never_nothing() {
        let now = Timestamp::FAR;
        let empty = Call::new("c".into(), Arc::default(), Arc::default(), now);
        let usage = usage_of(None, &empty, 0);
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.estimated), (1, 1, true));
        assert_eq!(usage_of(Some(Usage::default()), &empty, 0), usage, "zeros are no usage");
        let told = Usage { input_tokens: 5, output_tokens: 2, ..Usage::default() };
        assert_eq!(usage_of(Some(told), &empty, 3_000), told);
        let begun = Usage { estimated: true, ..told };
        assert_eq!(usage_of(Some(begun), &empty, 3_000).output_tokens, 1_000);
        assert_eq!(usage_of(Some(begun), &empty, 0), begun);
    }

    #[test]
    fn text_counts_by_its_bytes_and_a_picture_as_one() {
        let picture = Block::Image {
            source: ImageSource::Base64 { media_type: "image/png".into(), data: "A".repeat(90_000) },
            cache: None,
        };
        let text = Block::text("x".repeat(3_000));
        let tokens = |content: Vec<Block>| {
            let message = Message { content: content.into(), ..Message::text(Speaker::User, "") };
            let request = Request { messages: vec![message], ..Request::default() };
            call_tokens(&Call::new("c".into(), request.into(), Arc::default(), Timestamp::FAR))
        };
        assert_eq!(tokens(vec![text.clone()]), 1_000 + 2 * 4);
        assert_eq!(tokens(vec![text, picture]), 1_000 + 1_600 + 3 * 4);
    }
}
