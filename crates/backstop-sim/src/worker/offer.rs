//! The tools a request offers, by what they are for. Names and argument names are looked up in the offered schemas, so that
//! agents with other names for the same tools are served as well.

use super::desk::Ask;
use super::schema;
use backstop_call::ToolSpec;
use serde_json::{Map, Value};

/// What a tool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    List,
    Search,
    Write,
    Edit,
    Finish,
}

impl Verb {
    /// The verb, for a sentence.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::List => "list files",
            Self::Search => "search",
            Self::Write => "write",
            Self::Edit => "edit",
            Self::Finish => "finish",
        }
    }

    /// Names of such tools in lower case, the likeliest first.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Read => &["read_file", "read", "view", "open_file", "cat"],
            Self::List => &["list_files", "list_directory", "list_dir", "list", "ls"],
            Self::Search => &["search_files", "search", "grep"],
            Self::Write => &["write_file", "write", "create_file"],
            Self::Edit => &["edit_file", "edit", "str_replace"],
            Self::Finish => &["finish", "done", "submit_result", "complete"],
        }
    }
}

/// What an argument is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    Path,
    FromLine,
    Pattern,
    Content,
    Old,
    New,
    Summary,
    Status,
    Failed,
    Result,
    Files,
}

impl Slot {
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Path => &["path", "file_path", "file", "filename", "directory", "dir"],
            Self::FromLine => &["from_line", "offset", "start_line"],
            Self::Pattern => &["pattern", "query", "regex", "text"],
            Self::Content => &["content", "contents", "text", "file_text"],
            Self::Old => &["old", "old_string", "old_str", "old_text", "search"],
            Self::New => &["new", "new_string", "new_str", "new_text", "replace"],
            Self::Summary => &["summary", "message", "answer", "text"],
            Self::Status => &["status", "outcome", "success", "done"],
            Self::Failed => &["failed"],
            Self::Result => &["result", "data", "output", "details"],
            Self::Files => &["files", "files_changed", "changed", "paths"],
        }
    }
}

/// The tools of a request.
pub(super) struct Offer<'a>(&'a [ToolSpec]);

impl<'a> Offer<'a> {
    pub(super) fn of(tools: &'a [ToolSpec]) -> Self {
        Self(tools)
    }

    /// Whether there is a tool for this.
    pub(super) fn can(&self, verb: Verb) -> bool {
        self.find(verb).is_some()
    }

    /// Whether there is a tool of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|tool| tool.name == name)
    }

    /// Whether any file tool is there: else the model answers in text.
    pub(super) fn has_file_tools(&self) -> bool {
        [Verb::Read, Verb::List, Verb::Write].into_iter().any(|verb| self.can(verb))
    }

    fn find(&self, verb: Verb) -> Option<&'a ToolSpec> {
        verb.names().iter().find_map(|name| self.0.iter().find(|tool| tool.name.eq_ignore_ascii_case(name)))
    }

    /// The call of a tool with these arguments, by the names its schema has for them; what else the schema requires gets
    /// the smallest value that fits.
    pub(super) fn ask(&self, verb: Verb, args: &[(Slot, &str)]) -> Option<Ask> {
        let tool = self.find(verb)?;
        let mut input = Map::new();
        for (slot, value) in args {
            let name = property(tool, *slot);
            let kind = tool.schema.pointer(&format!("/properties/{name}/type"));
            let wants_text = kind.is_none_or(|kind| kind == "string");
            let number = value.parse::<u64>().ok().filter(|_| *slot == Slot::FromLine || !wants_text);
            let value = number.map_or_else(|| Value::String((*value).to_owned()), Value::from);
            input.insert(name.into(), value);
        }
        fill(tool, &mut input, "");
        Some(Ask { name: tool.name.clone(), input: Value::Object(input) })
    }

    /// The call that ends the task, if there is a tool for it.
    pub(super) fn finish(&self, report: &super::Report) -> Option<Ask> {
        let tool = self.find(Verb::Finish)?;
        let properties = tool.schema.get("properties").and_then(Value::as_object)?;
        let mut input = Map::new();
        for slot in [Slot::Summary, Slot::Status, Slot::Failed, Slot::Result, Slot::Files] {
            let Some(name) = slot.names().iter().find(|name| properties.contains_key(**name)) else {
                continue;
            };
            if let Some(value) = report_value(slot, &properties[*name], report) {
                input.insert((*name).to_owned(), value);
            }
        }
        fill(tool, &mut input, &report.summary);
        Some(Ask { name: tool.name.clone(), input: Value::Object(input) })
    }
}

/// The value of a report's part in the shape that a property's schema wants; `None` where nothing sensible fits.
fn report_value(slot: Slot, schema: &Value, report: &super::Report) -> Option<Value> {
    let kind = schema.get("type").and_then(Value::as_str).unwrap_or_default();
    match slot {
        Slot::Summary => Some(Value::String(report.summary.clone())),
        Slot::Status => Some(status(schema, kind, report.done)),
        Slot::Failed => (!report.done).then_some(Value::Bool(true)),
        Slot::Files if kind == "string" => Some(Value::String(report.files.join(", "))),
        Slot::Files => Some(report.files.iter().cloned().map(Value::String).collect()),
        Slot::Result if kind == "string" => {
            Some(Value::String(Value::Object(report.data.clone()).to_string()))
        }
        Slot::Result if matches!(kind, "object" | "") => {
            let mut data = report.data.clone();
            if let Value::Object(least) = schema::instance(schema, &report.summary) {
                least.into_iter().for_each(|(key, value)| {
                    data.entry(key).or_insert(value);
                });
            }
            let closed = schema.get("additionalProperties") == Some(&Value::Bool(false));
            if closed && let Some(known) = schema.get("properties").and_then(Value::as_object) {
                data.retain(|key, _| known.contains_key(key));
            }
            Some(Value::Object(data))
        }
        Slot::Result
        | Slot::Path
        | Slot::FromLine
        | Slot::Pattern
        | Slot::Content
        | Slot::Old
        | Slot::New => None,
    }
}

/// Done or not, in the words that the schema allows.
fn status(schema: &Value, kind: &str, done: bool) -> Value {
    if kind == "boolean" {
        return Value::Bool(done);
    }
    let words: &[&str] = if done {
        &["done", "success", "succeeded", "ok", "completed"]
    } else {
        &["failed", "failure", "error", "not-done"]
    };
    let allowed = schema.get("enum").and_then(Value::as_array);
    let Some(allowed) = allowed else { return Value::String(words[0].to_owned()) };
    let known = |value: &&Value| value.as_str().is_some_and(|text| words.contains(&text));
    let by_place = if done { allowed.first() } else { allowed.last() };
    allowed.iter().find(known).or(by_place).cloned().unwrap_or(Value::Null)
}

/// The name that a tool's schema has for an argument.
fn property(tool: &ToolSpec, slot: Slot) -> &'static str {
    let properties = tool.schema.get("properties").and_then(Value::as_object);
    let known = |name: &&&str| properties.is_some_and(|have| have.contains_key(**name));
    slot.names().iter().find(known).copied().unwrap_or(slot.names()[0])
}

/// Adds what a tool's schema requires and the input lacks.
fn fill(tool: &ToolSpec, input: &mut Map<String, Value>, text: &str) {
    let Value::Object(least) = schema::instance(&tool.schema, text) else { return };
    for (key, value) in least {
        input.entry(key).or_insert(value);
    }
}
