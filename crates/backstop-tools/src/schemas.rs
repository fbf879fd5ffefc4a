//! What a config's schema says of values whose types are another crate's or plain texts: the words of a declaration, and
//! references to secrets. Only schemas; the values are read by their types.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// Where a secret is, as it is written in a config. A reader of the config knows the format by its name, and refuses what
/// is no reference before it gets here.
pub(crate) struct SecretReference;

impl JsonSchema for SecretReference {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "SecretReference".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "format": "secret-reference",
            "description": "Where a secret is: \"env:NAME\" or \"file:PATH\".",
        })
    }
}

/// [`backstop_label::Class`].
pub(crate) fn class(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["read", "idempotent", "write", "irreversible"]})
}

/// [`backstop_label::Effect`].
pub(crate) fn effect(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["read", "write", "external", "destructive"]})
}

/// [`backstop_label::ArgRole`] by the name of the argument.
pub(crate) fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "additionalProperties": {"enum": ["sink", "object", "amount", "value", "content", "time", "flag", "query"]},
    })
}

/// [`backstop_label::Integrity`].
pub(crate) fn integrity(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"enum": ["trusted", "untrusted"]})
}

/// [`backstop_label::Confidentiality`].
pub(crate) fn confidentiality(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"anyOf": [
        {"enum": ["public"]},
        {
            "type": "object",
            "properties": {"private": {
                "type": "string",
                "description": "The category: `credential`, `financial`, `health`, `strategy`, or a word of your own. Since 0.1.",
            }},
            "required": ["private"],
            "additionalProperties": false,
        },
    ]})
}
