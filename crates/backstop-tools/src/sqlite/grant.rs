//! What an owner grants: which databases, and how much of them at once.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Duration;

/// What SQLite databases an agent may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SqliteGrant {
    /// The databases, as patterns of paths from the workspace's root: `*.db`, `data/**/*.sqlite`. Since 0.1.
    pub files: Vec<String>,
    /// Whether they may be changed. Since 0.1.
    pub write: bool,
    /// Whether what stands in them can be relied on: only when nobody but the owner writes to them. Since 0.1.
    pub trusted: bool,
    /// The most rows that a query gives. Since 0.1.
    #[schemars(range(min = 1, max = 100_000))]
    pub query_max_rows: usize,
    /// The most bytes of text that a query gives. Since 0.1.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub query_max_bytes: usize,
    /// How long a call may take, in seconds. Since 0.1.
    #[schemars(range(min = 1, max = 3_600))]
    pub timeout_seconds: u64,
    /// How much memory a call may take, in bytes; sorting is done in memory. Since 0.1.
    #[schemars(range(min = 16_777_216))]
    pub max_memory_bytes: u64,
    /// A table with more rows is not compared row by row, so a change of it cannot be undone. Since 0.1.
    #[schemars(range(max = 10_000_000))]
    pub compare_max_rows: usize,
    /// A change of more rows of one table is not kept, and cannot be undone. Since 0.1.
    #[schemars(range(max = 100_000))]
    pub undo_max_rows: usize,
    /// A change whose rows in one table have more bytes is not kept, and cannot be undone. Since 0.1.
    #[schemars(range(max = 67_108_864))]
    pub undo_max_bytes: usize,
}

/// A grant that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SqliteGrantError {
    /// A pattern that is none.
    #[error("`{pattern}` is no pattern of paths: {reason}")]
    Pattern {
        /// As it was written.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A number outside of what is allowed.
    #[error("{0}")]
    Range(&'static str),
}

impl Default for SqliteGrant {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            write: false,
            trusted: false,
            query_max_rows: 200,
            query_max_bytes: 64 * 1024,
            timeout_seconds: 20,
            max_memory_bytes: 256 * 1024 * 1024,
            compare_max_rows: 200_000,
            undo_max_rows: 1_000,
            undo_max_bytes: 1024 * 1024,
        }
    }
}

/// A grant that was checked.
pub(super) struct Granted {
    patterns: GlobSet,
    texts: Vec<String>,
    pub(super) query_max_rows: usize,
    pub(super) query_max_bytes: usize,
    pub(super) timeout: Duration,
    pub(super) max_memory_bytes: u64,
    pub(super) bounds: Bounds,
}

/// How far changes are followed row by row.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) compare_max_rows: usize,
    pub(super) undo_max_rows: usize,
    pub(super) undo_max_bytes: usize,
}

impl Granted {
    pub(super) fn check(grant: &SqliteGrant) -> Result<Self, SqliteGrantError> {
        if !(1..=3_600).contains(&grant.timeout_seconds) {
            return Err(SqliteGrantError::Range("the timeout is between 1 and 3600 seconds"));
        }
        if grant.query_max_rows == 0 || grant.query_max_bytes == 0 {
            return Err(SqliteGrantError::Range("a query that gives nothing is of no use"));
        }
        if grant.max_memory_bytes < 16 * 1024 * 1024 {
            return Err(SqliteGrantError::Range("a call needs at least 16777216 bytes of memory"));
        }
        let mut patterns = GlobSetBuilder::new();
        for text in &grant.files {
            let bad = |reason: String| SqliteGrantError::Pattern { pattern: text.clone(), reason };
            if text.starts_with('/') || text.split('/').any(|part| part == "..") {
                return Err(bad("it leads from the workspace's root, and never up".to_owned()));
            }
            let glob = GlobBuilder::new(text).literal_separator(true).build();
            patterns.add(glob.map_err(|error| bad(error.kind().to_string()))?);
        }
        let patterns = patterns.build().map_err(|error| SqliteGrantError::Pattern {
            pattern: grant.files.join(" "),
            reason: error.to_string(),
        })?;
        Ok(Self {
            patterns,
            texts: grant.files.clone(),
            query_max_rows: grant.query_max_rows,
            query_max_bytes: grant.query_max_bytes,
            timeout: Duration::from_secs(grant.timeout_seconds),
            max_memory_bytes: grant.max_memory_bytes,
            bounds: Bounds {
                compare_max_rows: grant.compare_max_rows,
                undo_max_rows: grant.undo_max_rows,
                undo_max_bytes: grant.undo_max_bytes,
            },
        })
    }

    /// Whether a path from the workspace's root, without links, is granted.
    pub(super) fn is_granted(&self, path: &Path) -> bool {
        self.patterns.is_match(path)
    }

    /// What is granted, for the model.
    pub(super) fn shown(&self) -> String {
        if self.texts.is_empty() { "none".to_owned() } else { self.texts.join(", ") }
    }
}
