//! The section of `backstop.toml` about who is told that an agent asks something, and where they answer. Values only: they are
//! looked at when the gateway starts.

use super::value::SecretRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who is told of questions, and where they are answered.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Approvals {
    /// The address under which people reach the gateway, without a path: links lead there. The address it listens on when
    /// left out. Since 0.1.
    pub public_url: Option<String>,
    /// Programs that are told of every question. Since 0.1.
    pub webhooks: Vec<Webhook>,
    /// Where the address of an incoming webhook of Slack is: "env:NAME" or "file:PATH". Since 0.1.
    pub slack: Option<SecretRef>,
}

/// A program that is told of every question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Webhook {
    /// Its address: https, or http to an address of this machine or of a private network. Since 0.1.
    pub url: String,
    /// Where the secret is that what is sent is signed with: "env:NAME" or "file:PATH". Since 0.1.
    pub secret: SecretRef,
}
