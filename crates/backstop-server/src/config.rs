//! The config: typed → resolved → settings. `backstop.toml` is read by the schema of its types ([`mod@file`]), so that every
//! problem is found with its line; then its names and files are looked up ([`Config`]). The environment and the files are
//! [`Surroundings`], given by the caller: nothing here is global.

pub mod alerts;
pub mod approvals;
pub mod file;
mod grants;
pub mod jobs;
pub mod policy;
mod problem;
mod read;
mod resolve;
mod resolved;
mod secret;
pub mod sections;
mod value;

pub use problem::{Place, Problem, Problems, allowed};
pub use resolve::SIM;
pub use resolved::{Agent, Config, Logs, Model, Provider};
pub use secret::{Header, load as load_secret};
pub use value::{BadValue, Dollars, SecretRef, Span};

use backstop_agent::tools::{READ_RESULT, add_file_tools};
use backstop_agent::{DELEGATE, SUBMIT, Toolbox};
use backstop_call::Code;
use file::File;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use std::io;
use std::path::{Path, PathBuf};

/// The commented default file: what `backstop init` writes, and the reference of every option.
pub const DEFAULT_FILE: &str = include_str!("../../../docs/reference/backstop.toml");

/// The environment and the files that a config hangs on.
pub trait Surroundings {
    /// A variable of the environment, when it is set and UTF-8.
    fn var(&self, name: &str) -> Option<String>;

    /// The bytes of a file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
}

/// The environment and the files of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ThisProcess;

impl Surroundings for ThisProcess {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}

/// Reads, checks and resolves a config file. Tells everything that is wrong with it at once.
pub fn load(path: &Path, data_dir: Option<PathBuf>, world: &dyn Surroundings) -> Result<Config, Problems> {
    let shown = path.display().to_string();
    let unreadable = |why: String| Problem::new(Code::ConfigSyntax, format!("{shown} {why}"));
    let bytes = world.read(path).map_err(|error| {
        unreadable(format!("cannot be read: {error}"))
            .with_hint("name a file that exists, or write one with `backstop init`")
    })?;
    let text = String::from_utf8(bytes)
        .map_err(|_| unreadable("is no UTF-8 text".into()).with_hint("save the file as UTF-8"))?;
    let mut read = read::read(&shown, &text, &inlined_schema());
    let typed = match serde_json::from_value::<File>(read.value.take()) {
        Ok(typed) => typed,
        Err(_) if !read.problems.is_empty() => return Err(sorted(read.problems)),
        Err(error) => return Err(Problem::new(Code::ConfigValue, format!("{shown}: {error}")).into()),
    };
    let data_dir = data_dir.unwrap_or_else(|| path.parent().unwrap_or(Path::new("")).join(".backstop"));
    let ground = resolve::Ground { path, data_dir, world, tools: tool_names(), places: &read.places };
    match resolve::resolve(&typed, &ground) {
        Ok(config) if read.problems.is_empty() => Ok(config),
        Ok(_) => Err(sorted(read.problems)),
        Err(more) => Err(sorted([read.problems, more.0].concat())),
    }
}

/// The JSON Schema of the config file, for editors.
pub fn schema() -> Value {
    let generator = SchemaSettings::draft07().for_deserialize().into_generator();
    let mut schema = generator.into_root_schema_for::<File>().to_value();
    schema["title"] = Value::from("backstop.toml");
    schema
}

/// The same without references, for the reader.
fn inlined_schema() -> Value {
    let settings =
        SchemaSettings::draft07().for_deserialize().with(|settings| settings.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<File>().to_value()
}

/// The names of the tools that are built in.
fn tool_names() -> Vec<String> {
    let mut tools = Toolbox::new();
    add_file_tools(&mut tools)
        .expect("the built-in tools have names of their own and schemas that are tested");
    tools.names().chain([READ_RESULT, DELEGATE, SUBMIT]).map(str::to_owned).collect()
}

fn sorted(mut problems: Vec<Problem>) -> Problems {
    problems.sort_by(|a, b| a.place.cmp(&b.place));
    Problems(problems)
}

#[cfg(test)]
mod tests;
