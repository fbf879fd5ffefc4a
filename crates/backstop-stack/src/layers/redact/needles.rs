//! A secret's value in the encodings it may turn up in.

use base64::Engine;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::{GeneralPurpose, general_purpose::NO_PAD};
use std::fmt::Write;

/// Below so many bytes a piece of base64 says too little to be looked for.
const BASE64_BYTES_MIN: usize = 8;

/// The value as it is, in JSON, in a URL, in hex, and in base64 at each of its three alignments.
pub(super) fn encodings(secret: &str) -> Vec<Vec<u8>> {
    let mut texts = vec![secret.to_owned(), json_escaped(secret)];
    texts.extend([url_encoded(secret, true), url_encoded(secret, false)]);
    let lower = hex(secret);
    texts.push(lower.to_uppercase());
    texts.push(lower);
    for alphabet in [&STANDARD, &URL_SAFE] {
        texts.extend((0..3).map(|shift| base64_core(secret.as_bytes(), shift, alphabet)));
    }
    texts.retain(|text| !text.is_empty());
    texts.sort();
    texts.dedup();
    texts.into_iter().map(String::into_bytes).collect()
}

fn hex(secret: &str) -> String {
    secret.bytes().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

fn json_escaped(secret: &str) -> String {
    let quoted = serde_json::Value::from(secret).to_string();
    quoted[1..quoted.len() - 1].to_owned()
}

/// Percent-encoded as by `encodeURIComponent`, but for the five marks that it leaves and others do not.
fn url_encoded(secret: &str, upper: bool) -> String {
    secret.bytes().fold(String::new(), |mut text, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                text.push(char::from(byte));
            }
            // Writing to a string cannot fail.
            _ if upper => drop(write!(text, "%{byte:02X}")),
            _ => drop(write!(text, "%{byte:02x}")),
        }
        text
    })
}

/// What the base64 of any text shows that has the secret at this offset (modulo 3): the letters that depend on the
/// secret alone.
fn base64_core(secret: &[u8], shift: usize, alphabet: &Alphabet) -> String {
    if secret.len() < BASE64_BYTES_MIN {
        return String::new();
    }
    let mut bytes = vec![0; shift];
    bytes.extend_from_slice(secret);
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&bytes);
    let first = (shift * 8).div_ceil(6);
    let end = bytes.len() * 8 / 6;
    encoded[first..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

    #[test]
    fn each_encoding_contains_a_needle() {
        let secret = "p/ss \"w\u{f6}rd\"+1?x>y";
        let needles = encodings(secret);
        let mut texts = vec![secret.to_owned(), serde_json::json!({ "k": secret }).to_string()];
        for around in ["", "a", "ab", "abc"] {
            texts.push(BASE64_STANDARD.encode(format!("{around}{secret}{around}")));
            texts.push(BASE64_URL_SAFE_NO_PAD.encode(format!("{around}{secret}{around}")));
        }
        texts.push("702f737320".to_owned() + &hex(&secret[5..]));
        texts.push("p%2Fss%20%22w%C3%B6rd%22%2B1%3Fx%3Ey".to_owned());
        for text in texts {
            assert!(needles.iter().any(|needle| contains(text.as_bytes(), needle)), "{text}");
        }
    }

    fn contains(text: &[u8], needle: &[u8]) -> bool {
        text.windows(needle.len()).any(|window| window == needle)
    }
}
