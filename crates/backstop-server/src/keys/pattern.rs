//! Names of models and agents with `*` in them.

/// A text that is no name of a model or an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a name is one word, where `*` stands for any letters: claude-*, mini, *")]
pub struct BadPattern;

/// Whether a text can stand in a key's list of models or agents.
pub(super) fn check(pattern: &str) -> Result<(), BadPattern> {
    let plain = !pattern.is_empty() && !pattern.contains(|c: char| c.is_whitespace() || c.is_control());
    if plain { Ok(()) } else { Err(BadPattern) }
}

/// Whether a name is one of those that a pattern stands for. Each `*` takes as little as it can, and only the last one is
/// ever tried again: linear in practice, at worst the product of both lengths, and nothing is allocated.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut in_name) = (0, 0);
    // Where the last star is, and the first byte that it does not take yet.
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
            }
            Some(byte) if *byte == name[in_name] => (at, in_name) = (at + 1, in_name + 1),
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, in_name) = (place + 1, taken + 1);
            }
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_pattern_stands_for() {
        let rows = [
            ("mini", "mini", true),
            ("mini", "mini2", false),
            ("mini", "", false),
            ("*", "", true),
            ("*", "anything", true),
            ("claude-*", "claude-sonnet-5", true),
            ("claude-*", "claude-", true),
            ("claude-*", "gpt-5", false),
            ("*-mini", "gpt-5-mini", true),
            ("*-mini", "gpt-5-mini-2", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "acb", false),
            ("**a", "bba", true),
            ("Claude-*", "claude-sonnet-5", false),
        ];
        for (pattern, name, want) in rows {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
        assert_eq!([check("a*"), check(""), check("a b")], [Ok(()), Err(BadPattern), Err(BadPattern)]);
    }

    /// As it is defined: a star takes nothing, or one letter and stays.
    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern, name) {
            ([], name) => name.is_empty(),
            ([b'*', rest @ ..], _) => naive(rest, name) || (!name.is_empty() && naive(pattern, &name[1..])),
            ([a, rest @ ..], [b, more @ ..]) => a == b && naive(rest, more),
            ([_, ..], []) => false,
        }
    }

    proptest! {
        #[test]
        fn as_it_is_defined(pattern in "[ab*]{0,7}", name in "[ab]{0,9}") {
            prop_assert_eq!(matches(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
