//! How long each part of a call may take. Values only.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long each part of a call may take, in milliseconds. The time of the whole call is its deadline, which the stack
/// holds; these tell a dead connection from a slow model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together. Nothing has been sent when it is over.
    pub connect_ms: u64,
    /// From the connection to the head of the answer. Models that think before they answer need more.
    pub first_byte_ms: u64,
    /// Between two pieces of the answer; pings count as pieces.
    pub idle_ms: u64,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect_ms: 5_000, first_byte_ms: 60_000, idle_ms: 60_000 }
    }
}

impl Timeouts {
    pub(crate) fn connect(&self) -> Duration {
        Duration::from_millis(self.connect_ms)
    }

    pub(crate) fn first_byte(&self) -> Duration {
        Duration::from_millis(self.first_byte_ms)
    }

    pub(crate) fn idle(&self) -> Duration {
        Duration::from_millis(self.idle_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_its_default() {
        let read: Timeouts = toml::from_str("first-byte-ms = 300000").unwrap();
        assert_eq!(read, Timeouts { first_byte_ms: 300_000, ..Timeouts::default() });
        assert!(toml::from_str::<Timeouts>("first-byte = 1").is_err());
    }
}
