//! Secrets: from a reference to its value, only when it is needed. A value is never part of a message.

use super::Surroundings;
use super::problem::Problem;
use super::value::SecretRef;
use backstop_call::{Code, Secret};
use std::path::{Path, PathBuf};

/// The value of a header that is sent with every request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// As it stands.
    Plain(String),
    /// A secret.
    Secret(SecretRef),
}

/// Loads a secret; relative paths are beside the config file. An empty one counts as missing.
pub fn load(
    reference: &SecretRef,
    config: Option<&Path>,
    world: &dyn Surroundings,
) -> Result<Secret, Problem> {
    let missing = |message: String| Problem::new(Code::SecretMissing, message);
    match reference {
        SecretRef::Env(name) => match world.var(name) {
            Some(value) if !value.trim().is_empty() => Ok(Secret::new(value.trim())),
            _ => Err(missing(format!("the environment variable {name} is not set"))
                .with_hint(format!("run `export {name}=…` first, or change the reference in the config"))),
        },
        SecretRef::File(path) => {
            let path = beside(config, path);
            let shown = path.display();
            let bytes =
                world.read(&path).map_err(|error| missing(format!("{shown} cannot be read: {error}")))?;
            let text = String::from_utf8(bytes).map_err(|_| missing(format!("{shown} is no text")))?;
            match text.trim() {
                "" => Err(missing(format!("{shown} is empty"))),
                value => Ok(Secret::new(value)),
            }
        }
    }
}

impl SecretRef {
    /// The file that it is in, when it is in one; relative paths are beside the config file.
    pub fn file(&self, config: Option<&Path>) -> Option<PathBuf> {
        match self {
            Self::Env(_) => None,
            Self::File(path) => Some(beside(config, path)),
        }
    }
}

fn beside(config: Option<&Path>, path: &Path) -> PathBuf {
    config.and_then(Path::parent).unwrap_or(Path::new("")).join(path)
}

/// Whether a header's value must not stand in a config: by the header's name, or by the shape of the value.
pub(super) fn looks_like_a_key(name: &str, value: &str) -> bool {
    let secret_headers = ["authorization", "x-api-key", "api-key", "cookie", "proxy-authorization"];
    let shapes =
        ["bsk_", "sk-", "sk_", "Bearer ", "Basic ", "ghp_", "github_pat_", "xoxb-", "AKIA", "AIza", "gsk_"];
    secret_headers.contains(&name.to_ascii_lowercase().as_str())
        || shapes.iter().any(|shape| value.trim_start().starts_with(shape))
}
