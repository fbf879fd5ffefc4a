//! Well-known credentials by their form. The forms are the issuers' documented ones; where a form alone is common text,
//! entropy or a checksum decides. Each is found by a fixed prefix first, so that clean text costs one pass.

use regex::Regex;
use std::sync::OnceLock;

/// A kind of credential.
pub(super) struct Pattern {
    /// Its name in `[REDACTED:name]`.
    pub(super) name: &'static str,
    /// How it begins.
    pub(super) prefixes: &'static [&'static str],
    /// The whole of it, from its beginning; group 1, if there is one, is what has to be random.
    form: &'static str,
    /// Bits per character that the random part must have at least; 0 for forms that nothing else has.
    entropy_min: f64,
    /// Whether it has a long word that begins with its prefix or right behind it.
    pub(super) has_long_word: bool,
    /// A check of the whole text.
    check: fn(&str) -> bool,
    compiled: OnceLock<Regex>,
}

/// No credential of these kinds is longer; in a stream, no more is held back.
const BYTES_MAX: usize = 16 * 1024;

const fn pattern(
    name: &'static str,
    prefixes: &'static [&'static str],
    form: &'static str,
    entropy_min: f64,
) -> Pattern {
    let compiled = OnceLock::new();
    Pattern { name, prefixes, form, entropy_min, has_long_word: true, check: always, compiled }
}

/// The kinds. A longer prefix of the same issuer comes as its own kind where its form differs.
pub(super) static PATTERNS: [Pattern; 30] = [
    // A key of our own gateway.
    pattern("backstop-key", &["bsk_"], r"bsk_[A-Za-z0-9]{32,}", 0.0),
    pattern("anthropic-key", &["sk-ant-"], r"sk-ant-[A-Za-z0-9]+-[A-Za-z0-9_-]{32,}", 0.0),
    pattern(
        "openai-key",
        &["sk-proj-", "sk-svcacct-", "sk-admin-"],
        r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{32,}",
        0.0,
    ),
    pattern("openai-key", &["sk-"], r"sk-([A-Za-z0-9]{32,})", 3.5),
    pattern("openrouter-key", &["sk-or-v1-"], r"sk-or-v1-[0-9a-f]{64}", 0.0),
    Pattern {
        name: "github-token",
        prefixes: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        form: r"gh[pousr]_[A-Za-z0-9]{36,251}",
        entropy_min: 0.0,
        has_long_word: true,
        check: github_checksum,
        compiled: OnceLock::new(),
    },
    pattern("github-token", &["github_pat_"], r"github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", 0.0),
    pattern(
        "gitlab-token",
        &["glpat-", "gldt-", "glrt-", "glptt-"],
        r"gl(?:pat|dt|rt|ptt)-[A-Za-z0-9_-]{20,}",
        0.0,
    ),
    pattern("aws-access-key", &["AKIA", "ASIA"], r"(?:AKIA|ASIA)([A-Z2-7]{16})", 2.5),
    pattern("google-api-key", &["AIza"], r"AIza[A-Za-z0-9_-]{35}", 0.0),
    pattern("google-oauth-token", &["ya29."], r"ya29\.([A-Za-z0-9_-]{20,})", 3.0),
    pattern("google-oauth-secret", &["GOCSPX-"], r"GOCSPX-[A-Za-z0-9_-]{28}", 0.0),
    pattern(
        "slack-token",
        &["xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-"],
        r"xox[bparse]-[A-Za-z0-9-]{20,}",
        0.0,
    ),
    pattern("slack-token", &["xapp-"], r"xapp-[0-9]-[A-Za-z0-9-]{20,}", 0.0),
    pattern(
        "slack-webhook",
        &["hooks.slack.com/services/"],
        r"hooks\.slack\.com/services/T[A-Z0-9]+/B[A-Z0-9]+/[A-Za-z0-9]{20,}",
        0.0,
    ),
    pattern(
        "stripe-key",
        &["sk_live_", "rk_live_", "sk_test_", "rk_test_"],
        r"[sr]k_(?:live|test)_[A-Za-z0-9]{20,}",
        0.0,
    ),
    pattern("stripe-webhook-secret", &["whsec_"], r"whsec_([A-Za-z0-9+/=]{24,})", 3.0),
    pattern("huggingface-token", &["hf_"], r"hf_([A-Za-z]{34,})", 3.5),
    pattern("groq-key", &["gsk_"], r"gsk_[A-Za-z0-9]{48,}", 0.0),
    pattern("xai-key", &["xai-"], r"xai-([A-Za-z0-9]{70,})", 3.5),
    pattern("npm-token", &["npm_"], r"npm_([A-Za-z0-9]{36})", 3.0),
    pattern("pypi-token", &["pypi-AgEI"], r"pypi-AgEI[A-Za-z0-9_-]{50,}", 0.0),
    pattern("sendgrid-key", &["SG."], r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", 0.0),
    pattern("digitalocean-token", &["dop_v1_", "doo_v1_", "dor_v1_"], r"do[opr]_v1_[0-9a-f]{64}", 0.0),
    pattern("telegram-token", &["/bot"], r"/bot[0-9]{8,10}:[A-Za-z0-9_-]{35}", 0.0),
    pattern(
        "discord-webhook",
        &["discord.com/api/webhooks/"],
        r"discord\.com/api/webhooks/[0-9]{17,20}/[A-Za-z0-9_-]{60,}",
        0.0,
    ),
    pattern("age-key", &["AGE-SECRET-KEY-1"], r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", 0.0),
    pattern("jwt", &["eyJ"], r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{16,}", 0.0),
    pattern("bearer-token", &["Bearer ", "bearer "], r"[Bb]earer ([A-Za-z0-9_.~+/=-]{24,})", 3.5),
    Pattern {
        name: "private-key",
        prefixes: &["-----BEGIN "],
        form: PRIVATE_KEY,
        entropy_min: 0.0,
        // Its first line has none, and what follows may be cut off.
        has_long_word: false,
        check: always,
        compiled: OnceLock::new(),
    },
];

/// The first line; where the block ends is found by [`private_key_end`].
const PRIVATE_KEY: &str = r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----";

impl Pattern {
    /// Where a credential of this kind that begins here ends.
    pub(super) fn matches(&self, text: &str, start: usize) -> Option<usize> {
        if !begins_word(text, start) {
            return None;
        }
        let from = &text[start..];
        let found = self.regex().captures(from)?;
        let whole = found.get(0)?;
        let random = found.get(1).map_or("", |group| group.as_str());
        let random_enough = self.entropy_min == 0.0 || entropy(random) >= self.entropy_min;
        if !random_enough || !(self.check)(whole.as_str()) {
            return None;
        }
        let end = if self.form == PRIVATE_KEY { private_key_end(from, whole.end()) } else { whole.end() };
        Some(start + end)
    }

    /// Whether text that goes on could still make, or make longer, a credential that begins here.
    pub(super) fn open_at(&self, text: &str, start: usize) -> bool {
        if !begins_word(text, start) {
            return false;
        }
        let rest = &text[start..];
        if self.form == PRIVATE_KEY {
            return rest.len() < BYTES_MAX && private_key_open(rest);
        }
        let prefix = self.prefixes.iter().filter(|prefix| rest.starts_with(**prefix)).map(|p| p.len()).max();
        let body = &rest[prefix.unwrap_or(0)..];
        rest.len() < BYTES_MAX && body.bytes().all(is_token_byte)
    }

    fn regex(&self) -> &Regex {
        self.compiled.get_or_init(|| {
            Regex::new(&format!("^(?:{})", self.form)).expect("each form is compiled by a test")
        })
    }
}

fn always(_: &str) -> bool {
    true
}

/// A key that follows a letter or digit is the middle of a longer word (`task-…`), unless the form begins with a mark. The
/// letter of an escape is none: in JSON a line begins behind `\n`.
pub(super) fn begins_word(text: &str, start: usize) -> bool {
    let bytes = text.as_bytes();
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    match bytes[..start] {
        _ if !word(bytes[start]) => true,
        [] | [.., b'\\', b'b' | b'f' | b'n' | b'r' | b't'] => true,
        [.., before] => !word(before),
    }
}

/// Where the block ends whose first line ends at `header`: after its last line, or where nothing more can belong to it. Half
/// a key is a secret too.
fn private_key_end(text: &str, header: usize) -> usize {
    let body = &text[header..];
    let run = body.bytes().take_while(|byte| is_key_byte(*byte)).count();
    let last_line = body[..run].find(KEY_END).and_then(|at| {
        let rest = &body[at + KEY_END.len()..run];
        rest.find("-----").map(|dashes| at + KEY_END.len() + dashes + 5)
    });
    header + last_line.unwrap_or(run)
}

const KEY_END: &str = "-----END ";

/// Whether a block that begins here may go on in what comes next.
fn private_key_open(rest: &str) -> bool {
    let line = &rest["-----BEGIN ".len()..];
    let name =
        line.bytes().take_while(|byte| byte.is_ascii_uppercase() || b" 0123456789".contains(byte)).count();
    if !line[..name].contains("PRIVATE KEY") {
        return name == line.len() && name < 40;
    }
    let run = line.bytes().take_while(|byte| is_key_byte(*byte)).count();
    let ended = line[..run].find(KEY_END).is_some_and(|at| line[at + KEY_END.len()..].contains("-----"));
    run == line.len() && !ended
}

/// What a PEM block consists of: base64, line ends (escaped in JSON too), header fields.
fn is_key_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte.is_ascii_whitespace() || b"+/=-\\:,.()".contains(&byte)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_-./:=+~".contains(&byte)
}

/// Shannon's entropy of the characters, in bits per character.
#[expect(clippy::cast_precision_loss, reason = "lengths of tokens are far below 2^52")]
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let total = text.len() as f64;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / total)
        .map(|share| -share * share.log2())
        .sum()
}

/// GitHub's tokens of 40 characters end in the CRC-32 of the 30 random ones, in base 62. Newer, longer ones are taken by
/// their form.
fn github_checksum(token: &str) -> bool {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    if token.len() != 40 {
        return true;
    }
    let (random, checksum) = token[4..].split_at(30);
    let mut crc = u64::from(crc32(random.as_bytes()));
    let mut digits = [b'0'; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[usize::try_from(crc % 62).unwrap_or(0)];
        crc /= 62;
    }
    // A sample from a document has a wrong checksum and is no secret, but one that looks random is taken for safety.
    checksum.as_bytes() == digits || entropy(random) >= 3.5
}

/// CRC-32 as in IEEE 802.3, bit by bit: it runs over 30 bytes, and seldom.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_compiles_and_begins_as_it_says() {
        for pattern in &PATTERNS {
            assert!(pattern.regex().as_str().len() > 5);
            assert!(!pattern.prefixes.is_empty(), "{}", pattern.name);
        }
    }

    #[test]
    fn crc_is_the_reference() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
}
