//! The list of exceptions. It may only shrink: each has a reason, and one that is not needed any more is a problem.

use super::Problem;
use toml::{Table, Value};

pub(super) const FILE: &str = "xtask/exceptions.toml";

/// Rules that know no exception.
const HARD: &[&str] = &["file-size-hard", "cycle", "pure", "exception"];

/// A breach that is let pass.
struct Exception {
    file: String,
    rule: String,
    subject: String,
    reason: String,
    line: usize,
}

/// Takes the excepted problems out and adds those of the list itself.
pub(super) fn apply(list: &str, problems: Vec<Problem>) -> Result<Vec<Problem>, String> {
    let exceptions = read(list)?;
    let covers = |exception: &Exception, problem: &Problem| {
        let same = exception.file == problem.file && exception.rule == problem.rule;
        same && exception.subject == problem.subject && !HARD.contains(&problem.rule)
    };
    let mut own = Vec::new();
    for exception in &exceptions {
        let about = format!("{} in {}", exception.rule, exception.file);
        let complain = |what: String| Problem::new(FILE, exception.line, "exception", what);
        if exception.reason.trim().len() < 20 {
            own.push(complain(format!("{about}: say in `reason` why it must be so")));
        }
        if !problems.iter().any(|problem| covers(exception, problem)) {
            own.push(complain(format!("{about}: not needed any more; take it out")));
        }
    }
    let left =
        problems.into_iter().filter(|problem| !exceptions.iter().any(|exception| covers(exception, problem)));
    Ok(left.chain(own).collect())
}

fn read(list: &str) -> Result<Vec<Exception>, String> {
    let table: Table = list.parse().map_err(|error| format!("{FILE}: {error}"))?;
    if let Some(key) = table.keys().find(|key| *key != "exception") {
        return Err(format!("{FILE}: `{key}` is not known; each exception is an [[exception]]"));
    }
    let starts: Vec<_> = (1..).zip(list.lines()).filter(|(_, line)| line.trim() == "[[exception]]").collect();
    let entries = table.get("exception").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut exceptions = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let field = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        exceptions.push(Exception {
            file: field("file"),
            rule: field("rule"),
            subject: field("subject"),
            reason: field("reason"),
            line: starts.get(index).map_or(1, |(line, _)| *line),
        });
    }
    Ok(exceptions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
# Why.
[[exception]]
file = \"a.rs\"
rule = \"function-size\"
subject = \"parse\"
reason = \"a table of states, one line each\"
";

    fn problem(rule: &'static str, subject: &str) -> Problem {
        Problem::new("a.rs", 3, rule, "too large").about(subject)
    }

    fn shown(list: &str, problems: Vec<Problem>) -> Vec<String> {
        apply(list, problems).unwrap().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_exception_covers_one_breach() {
        assert_eq!(shown(LIST, vec![problem("function-size", "parse")]), [""; 0]);
        let two = vec![problem("function-size", "parse"), problem("function-size", "other")];
        assert_eq!(shown(LIST, two), ["a.rs:3: function-size: too large"]);
    }

    #[test]
    fn the_list_may_only_shrink() {
        let unneeded = shown(LIST, Vec::new());
        assert_eq!(
            unneeded,
            ["xtask/exceptions.toml:2: exception: function-size in a.rs: not needed any more; take it out"]
        );
        let bare = LIST.replace("a table of states, one line each", "");
        assert_eq!(shown(&bare, vec![problem("function-size", "parse")]).len(), 1, "a reason is demanded");
        let hard = LIST.replace("function-size", "pure");
        assert_eq!(shown(&hard, vec![problem("pure", "parse")]).len(), 2, "some rules know no exception");
        assert!(apply("[[exeption]]\n", Vec::new()).is_err());
    }
}
