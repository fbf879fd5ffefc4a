//! Thoughts that only their provider can read, as they travel through a client of another dialect and come back. Each
//! dialect seals them in its own way (a signature, encrypted content); a mark before them says whose they are, so that
//! none is ever sent to a provider that cannot open it.

/// Before the id and the encrypted content of Responses' reasoning, where a signature stands in our words and in Messages.
const RESPONSES: &str = "backstop.responses:";
/// Before a signature of Messages, where encrypted content stands in Responses.
const SIGNATURE: &str = "backstop.messages:";
/// Before an opaque thought of Messages, where encrypted content stands in Responses.
const OPAQUE: &str = "backstop.messages-opaque:";

/// What a thought of Responses is signed with in our words: the id of its item, and its encrypted content, which is empty
/// when the provider keeps it.
pub fn reasoning_signature(id: &str, encrypted: &str) -> String {
    format!("{RESPONSES}{id}:{encrypted}")
}

/// The id and the encrypted content of a thought of Responses; `None` for any other signature.
pub(crate) fn reasoning(signature: &str) -> Option<(&str, &str)> {
    signature.strip_prefix(RESPONSES)?.split_once(':')
}

/// A signature as a stream tells it: what is known when the thought begins, and what comes at its end.
pub(crate) fn in_two(signature: &str) -> (Option<&str>, &str) {
    match reasoning(signature) {
        Some((_, encrypted)) => {
            let (start, rest) = signature.split_at(signature.len() - encrypted.len());
            (Some(start), rest)
        }
        None => (None, signature),
    }
}

/// A signature of Messages as encrypted content.
pub(crate) fn of_signature(signature: &str) -> String {
    format!("{SIGNATURE}{signature}")
}

/// An opaque thought of Messages as encrypted content.
pub(crate) fn of_opaque(data: &str) -> String {
    format!("{OPAQUE}{data}")
}

/// Whose encrypted content it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Encrypted<'a> {
    /// A signature of Messages.
    Signature(&'a str),
    /// An opaque thought of Messages.
    Opaque(&'a str),
    /// The dialect's own.
    Own(&'a str),
}

/// Opens encrypted content that a client sent.
pub(crate) fn encrypted(content: &str) -> Encrypted<'_> {
    if let Some(signature) = content.strip_prefix(SIGNATURE) {
        Encrypted::Signature(signature)
    } else if let Some(data) = content.strip_prefix(OPAQUE) {
        Encrypted::Opaque(data)
    } else {
        Encrypted::Own(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_opened_as_it_was() {
        let signature = reasoning_signature("rs_1", "gAAA:B==");
        assert_eq!(reasoning(&signature), Some(("rs_1", "gAAA:B==")));
        assert_eq!(in_two(&signature), (Some("backstop.responses:rs_1:"), "gAAA:B=="));
        assert_eq!(in_two("EqQB"), (None, "EqQB"));
        assert_eq!(reasoning("EqQB:x"), None);
        assert_eq!(encrypted(&of_signature("EqQB")), Encrypted::Signature("EqQB"));
        assert_eq!(encrypted(&of_opaque("ErQB")), Encrypted::Opaque("ErQB"));
        assert_eq!(encrypted("gAAA"), Encrypted::Own("gAAA"));
    }
}
