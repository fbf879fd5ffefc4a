//! Token counts before the provider has told any: one that is never too low, for money, and one that is likely, for
//! rates and context windows. No tokenizer is run: Claude's is not public, and a wrong one is no bound.

use backstop_call::{Block, Call, Request, Size, Usage};

/// Tokens of one picture at most: Anthropic's largest is about 4,800, OpenAI's high detail about 1,500. Models that
/// count pictures at a multiple (gpt-4o-mini does, at a fraction of the price) can overrun it, which is reported.
pub const IMAGE_TOKENS_MAX: u64 = 6_000;
/// Tokens of one picture as a rule.
const IMAGE_TOKENS_LIKELY: u64 = 1_600;
/// What a document at an address is reserved for: some thirty dense pages, each counted as text and as a picture. Nobody
/// knows its size before it is read; one with more is an overrun, which is reported.
const LINKED_DOCUMENT_TOKENS: u64 = 150_000;
/// Bytes of base64 for one token of a document, as a rule: a page of some 40 KB counts about 3,000.
const DOCUMENT_BYTES_PER_TOKEN: u64 = 16;
/// What a provider's chat template and its own instructions for tools add. Anthropic documents up to 530 tokens.
const TEMPLATE_TOKENS_MAX: u64 = 800;
/// What the template adds per message, block or tool.
const PART_TOKENS_MAX: u64 = 16;
/// What a provider may have written on between the last chunk we saw and our hanging up.
const IN_FLIGHT_TOKENS_MAX: u64 = 64;

/// A count of input tokens that the provider's will not exceed.
///
/// Tokenizers of the byte-pair family give at most one token per byte of text, so the bytes are the bound; what
/// templates add is added. `bytes_per_token` above 1 gives up the proof for a smaller reservation: English prose has about
/// four bytes per token, base64 and rare scripts about one.
pub fn input_tokens_max(request: &Request, bytes_per_token: u64) -> u64 {
    let size = request.size();
    (size.bytes + size.documents).div_ceil(bytes_per_token.max(1))
        + size.linked_documents * LINKED_DOCUMENT_TOKENS
        + size.parts * PART_TOKENS_MAX
        + size.images * IMAGE_TOKENS_MAX
        + TEMPLATE_TOKENS_MAX
}

/// A count of input tokens that is about right: four bytes of ASCII per token, one token per other character.
pub fn input_tokens_likely(request: &Request) -> u64 {
    let size = request.size();
    let documents = size.documents / DOCUMENT_BYTES_PER_TOKEN;
    likely(size.bytes, size.chars) + documents + size.parts * 4 + size.images * IMAGE_TOKENS_LIKELY
}

/// [`input_tokens_max`] of a call, from the bytes that its client sent where it has some: what the JSON around the texts
/// takes is more than a template adds.
pub(crate) fn call_tokens_max(call: &Call, bytes_per_token: u64) -> u64 {
    let Some(source) = &call.source else { return input_tokens_max(&call.request, bytes_per_token) };
    let Size { bytes, documents, linked_documents, images, .. } = source.size;
    (bytes + documents).div_ceil(bytes_per_token.max(1))
        + linked_documents * LINKED_DOCUMENT_TOKENS
        + images * IMAGE_TOKENS_MAX
        + TEMPLATE_TOKENS_MAX
}

/// [`input_tokens_likely`] of a call, from the bytes that its client sent where it has some.
pub(crate) fn call_tokens_likely(call: &Call) -> u64 {
    let Some(source) = &call.source else { return input_tokens_likely(&call.request) };
    sent_tokens_likely(source.size)
}

fn sent_tokens_likely(size: Size) -> u64 {
    let Size { bytes, chars, documents, images, .. } = size;
    // A scan has a megabyte for a page: how long a large file is, only its provider can say.
    let documents = (documents / DOCUMENT_BYTES_PER_TOKEN).min(LINKED_DOCUMENT_TOKENS);
    likely(bytes, chars) + documents + images * IMAGE_TOKENS_LIKELY
}

fn likely(bytes: u64, chars: u64) -> u64 {
    let wide = bytes.saturating_sub(chars).min(chars);
    chars.saturating_sub(wide) / 4 + wide
}

/// The most tokens an answer may have had of which so many bytes were seen: at most one per byte, and a little that was
/// on its way. Never above what was allowed.
pub(crate) fn output_tokens_max(seen_bytes: u64, allowed: u64) -> u64 {
    (seen_bytes + IN_FLIGHT_TOKENS_MAX).min(allowed)
}

/// What an answer used of which the provider told nothing or only a part: an upper bound, marked as estimated.
pub(crate) fn usage_max(told: Option<Usage>, input_max: u64, output_max: u64) -> Usage {
    let told = told.unwrap_or_default();
    let input_known = told.total_input_tokens() > 0;
    Usage {
        input_tokens: if input_known { told.input_tokens } else { input_max },
        output_tokens: told.output_tokens.max(output_max),
        estimated: true,
        ..told
    }
}

/// The bytes that blocks of an answer show.
pub(crate) fn content_bytes(blocks: &[Block]) -> u64 {
    let size = Size::of(blocks);
    size.bytes + size.documents
}

#[cfg(test)]
mod tests {
    use super::*;
    use backstop_call::{DocumentSource, ImageSource, Message, Speaker};
    use serde_json::json;

    fn request(blocks: Vec<Block>) -> Request {
        let mut message = Message::text(Speaker::User, "");
        message.content = blocks.into();
        Request { messages: vec![message], ..Request::default() }
    }

    #[test]
    fn the_bound_covers_every_byte() {
        let text = "é".repeat(1_000);
        let tool = Block::ToolUse { id: "t".into(), name: "f".into(), input: json!({"k": "v"}), cache: None };
        let nested = Block::ToolResult { id: "t".into(), content: vec![tool], is_error: false, cache: None };
        let max = input_tokens_max(&request(vec![Block::text(text.clone()), nested]), 1);
        assert!(max >= 2_000 + 9 + 2, "{max}");
        let likely = input_tokens_likely(&request(vec![Block::text(text)]));
        assert!((1_000..1_300).contains(&likely), "{likely}");
        assert!(likely < max);
    }

    #[test]
    fn pictures_count_by_the_piece_and_not_by_their_bytes() {
        let picture = |data: String| Block::Image {
            source: ImageSource::Base64 { media_type: "image/png".into(), data },
            cache: None,
        };
        let small = input_tokens_max(&request(vec![picture("a".into())]), 1);
        let large = input_tokens_max(&request(vec![picture("a".repeat(1_000_000))]), 1);
        assert_eq!(small, large);
        assert!(small >= IMAGE_TOKENS_MAX);
    }

    #[test]
    fn documents_count_by_their_bytes_and_one_at_an_address_by_a_guess() {
        let document = |source| request(vec![Block::Document { source, name: None, cache: None }]);
        let bytes = |data: String| DocumentSource::Base64 { media_type: "application/pdf".into(), data };
        let pdf = document(bytes("a".repeat(160_000)));
        assert!(input_tokens_max(&pdf, 1) >= 160_000 + IMAGE_TOKENS_MAX);
        assert!((10_000..13_000).contains(&input_tokens_likely(&pdf)), "{}", input_tokens_likely(&pdf));
        let text = document(DocumentSource::Text("a".repeat(4_000)));
        assert!((1_000..1_300).contains(&input_tokens_likely(&text)), "{}", input_tokens_likely(&text));
        assert!(
            input_tokens_max(&document(DocumentSource::Url("https://a".into())), 4) >= LINKED_DOCUMENT_TOKENS
        );
    }

    /// A scan of some pages has more bytes than a text that fills any window.
    #[test]
    fn a_large_file_is_not_called_too_long_before_its_provider_has_looked() {
        let likely = |documents: u64| {
            sent_tokens_likely(Size { bytes: 400, chars: 400, documents, ..Size::default() })
        };
        assert_eq!(likely(16_000), 100 + 1_000);
        assert_eq!(likely(20_000_000), 100 + LINKED_DOCUMENT_TOKENS);
    }

    #[test]
    fn a_partly_told_usage_keeps_what_was_told() {
        let told = Usage { input_tokens: 10, cache_read_tokens: 5, output_tokens: 1, ..Usage::default() };
        let usage = usage_max(Some(told), 999, 40);
        assert_eq!((usage.input_tokens, usage.cache_read_tokens, usage.output_tokens), (10, 5, 40));
        assert!(usage.estimated);
        assert_eq!(usage_max(None, 999, 40).input_tokens, 999);
        assert_eq!(output_tokens_max(1_000, 100), 100);
    }
}
