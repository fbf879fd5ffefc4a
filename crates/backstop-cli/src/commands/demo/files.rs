//! The files of the demo, compiled in from `examples/demo/`, so that it works from anywhere.

macro_rules! demo_files {
    ($prefix:literal: $($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../../../examples/demo/", $prefix, $path)))),*]
    };
}

/// The tasks.
pub(super) const TASKS: &str = include_str!("../../../../../examples/demo/tasks.toml");

/// The config, with `{primary}` and `{fallback}` where the addresses go.
pub(super) const CONFIG: &str = include_str!("../../../../../examples/demo/backstop.toml");

/// The workspace: path and text.
pub(super) const FILES: &[(&str, &str)] = demo_files! { "":
    "data/expenses.csv" "data/orders.csv" "data/team.csv"
    "docs/faq.md" "docs/guide.md" "docs/install.md"
    "mail/inbox.txt" "names.txt"
    "notes/friday.md" "notes/monday.md" "notes/wednesday.md"
    "src/reading.py" "src/report.py"
};

const EXPECTED: &[(&str, &str)] = demo_files! { "expected/":
    "docs/faq.md" "out/addresses.txt" "out/average.txt" "out/contents.md" "out/expenses.txt" "out/links.txt"
    "out/names.txt" "out/steps/step-12.md" "out/team.md" "out/todo.md" "out/week.md"
};

/// What a file must hold afterwards.
pub(super) fn expected(path: &str) -> Option<&'static str> {
    EXPECTED.iter().find(|(known, _)| *known == path).map(|(_, text)| *text)
}
