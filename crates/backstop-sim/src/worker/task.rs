//! What a task asks for: in plain English, or tool calls to the letter. The first row of the table whose words stand in a paragraph wins; files and
//! directories are the tokens of that paragraph that look like ones, in their order: what is read first, what is written last.
//!
//! | kind | words | example |
//! |---|---|---|
//! | call | `call TOOL with {JSON}`, as often as wanted | call create_ticket with {"title": "Ink"}, then call git_status with {} |
//! | hand out | `turn … goals … into tasks` | turn the goals in goals.md into tasks |
//! | letter | `have the A …, then have the B send F to each address in L` | have the writer summarise news.md into letter.md, then have the mailer send letter.md to each address in list.txt |
//! | review | `review …, remarks to F … push … branch B of R` | review what has changed, write your remarks to review.md, and push it to the branch main of origin if nothing is wrong |
//! | send | `send F to ADDRESS` | send letter.md to ann@example.com |
//! | steps | `write steps N to M` | write steps 1 to 20 into steps/ |
//! | replace | `replace "A" by/with "B"` | replace "foo" with "bar" in notes.md |
//! | rename heading | `rename the heading "A" to "B"` | rename the heading "Old" to "New" in notes.md |
//! | uppercase | `uppercase … title / headings` | uppercase the title of notes.md |
//! | to-dos | `collect … TODOs` | collect the TODOs from src/ into todo.md |
//! | contents | `table of contents`, `index … markdown/headings` | write a table of contents of docs/ to index.md |
//! | table | `markdown table` | convert data.csv into a markdown table in data.md |
//! | column | `sum/total/average/… column "X"` | write the sum of the column "amount" of data.csv to sum.txt |
//! | extract | `extract … e-mail addresses / links` | extract all links from page.md into links.txt |
//! | merge | `merge/concatenate/combine/join` | merge a.md and b.md into all.md |
//! | sort | `sort` | sort the lines of names.txt (in reverse, without duplicates) into sorted.txt |
//! | count | `count … words/lines/characters` | count the words in notes.md and write the number to count.txt |
//! | summarise | `summarise/summarize/summary` | summarise notes.md into summary.md |

use super::desk::Ask;
use super::team::{Letter, Review};
use regex::Regex;
use serde_json::Value;
use std::sync::LazyLock;

/// A job, ready to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Job {
    /// Tool calls as the task words them, one after the other.
    Calls(Vec<Ask>),
    /// A task for each goal of a list.
    HandOut {
        source: String,
    },
    /// A letter to many, as a task for each.
    Letter(Letter),
    /// One mail.
    Send {
        file: String,
        to: String,
    },
    /// A review that ends in a push.
    Review(Review),
    Steps {
        first: u32,
        last: u32,
        dir: String,
    },
    Replace {
        file: String,
        old: String,
        new: String,
    },
    Uppercase {
        file: String,
        title_only: bool,
    },
    Todos {
        dir: String,
        target: String,
    },
    Contents {
        dir: String,
        target: String,
    },
    Table {
        source: String,
        target: String,
    },
    Column {
        source: String,
        target: Option<String>,
        measure: Measure,
        column: String,
    },
    Extract {
        source: String,
        target: String,
        what: Extract,
    },
    Merge {
        from: Sources,
        target: String,
    },
    Sort {
        source: String,
        target: String,
        reverse: bool,
        unique: bool,
    },
    Count {
        source: String,
        target: Option<String>,
        unit: Unit,
    },
    Summarise {
        source: String,
        target: Option<String>,
    },
    /// Anything else: look, read what is named, say so.
    Look {
        files: Vec<String>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Sum,
    Average,
    Least,
    Greatest,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extract {
    Emails,
    Links,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Words,
    Lines,
    Characters,
}

/// What to merge.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Sources {
    Files(Vec<String>),
    Dir(String),
}

/// The most steps a task may ask for.
const STEPS_MAX: u32 = 1_000;

/// The job that a text asks for, when it is one of the table's.
pub(super) fn recognise(text: &str) -> Option<Job> {
    text.split("\n\n").find_map(paragraph).or_else(|| paragraph(text))
}

/// What to do when nothing of the table fits.
pub(super) fn fallback(text: &str) -> Job {
    Job::Look { files: Mentions::of(text).files }
}

fn paragraph(text: &str) -> Option<Job> {
    let mentions = Mentions::of(text);
    TABLE.iter().find_map(|row| row.words.captures(text).and_then(|found| (row.job)(text, &found, &mentions)))
}

/// Every `call TOOL with {…}` of a text, in its order. What stands within the arguments of one is no call. `None` where
/// arguments are no JSON: a call that was meant otherwise is not made.
fn calls(text: &str) -> Option<Vec<Ask>> {
    static CALL: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?i)\bcall\s+([\w-]+)\s+with\s*\{").expect("the pattern is fixed"));
    let (mut asks, mut at) = (Vec::new(), 0);
    while let Some(found) = CALL.captures_at(text, at) {
        let from = found.get(0)?.end() - 1;
        let mut values = serde_json::Deserializer::from_str(&text[from..]).into_iter::<Value>();
        let input = values.next()?.ok()?;
        at = from + values.byte_offset();
        asks.push(Ask { name: found[1].to_owned(), input });
    }
    Some(asks)
}

type Found<'t> = regex::Captures<'t>;

struct Row {
    words: Regex,
    job: fn(&str, &Found<'_>, &Mentions) -> Option<Job>,
}

fn row(words: &str, job: fn(&str, &Found<'_>, &Mentions) -> Option<Job>) -> Row {
    Row { words: Regex::new(&format!("(?is){words}")).expect("the pattern is fixed"), job }
}

static TABLE: LazyLock<Vec<Row>> = LazyLock::new(|| {
    const QUOTED: &str = r#"["'“`‘]([^"'”`’]+)["'”`’]"#;
    vec![
        row(r"\bcall\s+[\w-]+\s+with\s*\{", |text, _, _| calls(text).map(Job::Calls)),
        row(r"\bturn\b.*\bgoals\b.*\binto tasks\b", |_, _, mentions| {
            Some(Job::HandOut { source: mentions.first()? })
        }),
        row(
            r"\bhave the ([\w-]+) (.+?), then have the ([\w-]+) send (\S+) to (?:each|every) address in (\S+\w)",
            |_, found, _| {
                let [writer, part, mailer, file, list] = [1, 2, 3, 4, 5].map(|at| found[at].to_owned());
                Some(Job::Letter(Letter { writer, part, mailer, file, list }))
            },
        ),
        row(r"\breview\b.*\bremarks to (\S+\w)\b.*\bpush\b.*\bbranch (\S+) of (\S+\w)\b", |_, found, _| {
            let [target, branch, remote] = [1, 2, 3].map(|at| found[at].to_owned());
            Some(Job::Review(Review { target, branch, remote }))
        }),
        row(r"\bsend (\S+\.\w+) to (\S+@\S+\w)", |_, found, _| {
            Some(Job::Send { file: found[1].to_owned(), to: found[2].to_owned() })
        }),
        row(r"\bsteps (\d+)\s*(?:to|-|–|through)\s*(\d+)\b", |_, found, mentions| {
            let number = |at: usize| found.get(at)?.as_str().parse::<u32>().ok();
            let (first, last) = (number(1)?, number(2)?);
            let dir = mentions.dirs.first().cloned().unwrap_or_else(|| "steps".into());
            (first <= last && last - first < STEPS_MAX).then_some(Job::Steps { first, last, dir })
        }),
        row(&format!(r"\breplace\b.{{0,60}}?{QUOTED}\s+(?:by|with)\s+{QUOTED}"), |_, found, mentions| {
            let (old, new) = (found[1].to_owned(), found[2].to_owned());
            Some(Job::Replace { file: mentions.last()?, old, new })
        }),
        row(
            &format!(r"\brename\b.{{0,40}}?\bheading\b\s+{QUOTED}\s+(?:to|as|into)\s+{QUOTED}"),
            |_, found, mentions| {
                let (old, new) = (format!("# {}", &found[1]), format!("# {}", &found[2]));
                Some(Job::Replace { file: mentions.last()?, old, new })
            },
        ),
        row(r"\bupper-?\s?case\b.*\b(title|headings?)\b", |_, found, mentions| {
            let title_only = !found[1].to_lowercase().ends_with('s');
            Some(Job::Uppercase { file: mentions.last()?, title_only })
        }),
        row(r"\b(?:collect|gather|list)\b.*\bTODOs?\b", |_, _, mentions| {
            Some(Job::Todos { dir: mentions.dir(), target: mentions.last()? })
        }),
        row(r"\btable of contents\b|\bindex\b.*\b(?:markdown|headings)\b", |_, _, mentions| {
            Some(Job::Contents { dir: mentions.dir(), target: mentions.last()? })
        }),
        row(r"\bmarkdown table\b", |_, _, mentions| {
            let source = mentions.first()?;
            let beside = format!("{}.md", source.rsplit_once('.').map_or(source.as_str(), |(stem, _)| stem));
            Some(Job::Table { target: mentions.target().unwrap_or(beside), source })
        }),
        row(
            &format!(
                r"\b(sum|total|average|mean|minimum|smallest|maximum|largest)\b.*\bcolumn\s+(?:{QUOTED}|([\w-]+))"
            ),
            |_, found, mentions| {
                let measure = match found[1].to_lowercase().as_str() {
                    "average" | "mean" => Measure::Average,
                    "minimum" | "smallest" => Measure::Least,
                    "maximum" | "largest" => Measure::Greatest,
                    _ => Measure::Sum,
                };
                let column = found.get(2).or_else(|| found.get(3))?.as_str().to_owned();
                Some(Job::Column { source: mentions.first()?, target: mentions.target(), measure, column })
            },
        ),
        row(r"\bextract\b.*?\b(e-?mails?|links|urls|web addresses)\b", |_, found, mentions| {
            let what =
                if found[1].to_lowercase().starts_with('e') { Extract::Emails } else { Extract::Links };
            Some(Job::Extract { source: mentions.first()?, target: mentions.target()?, what })
        }),
        row(r"\b(?:merge|concatenate|combine|join)\b", |_, _, mentions| {
            let (target, sources) = mentions.files.split_last()?;
            let from = match (sources, mentions.dirs.first()) {
                ([], Some(dir)) => Sources::Dir(dir.clone()),
                ([], None) => return None,
                (files, _) => Sources::Files(files.to_vec()),
            };
            Some(Job::Merge { from, target: target.clone() })
        }),
        row(r"\bsort\b", |text, _, mentions| {
            let has = |words: &[&str]| words.iter().any(|word| text.to_lowercase().contains(word));
            let (reverse, unique) = (has(&["reverse", "descending"]), has(&["unique", "duplicates"]));
            Some(Job::Sort { source: mentions.first()?, target: mentions.last()?, reverse, unique })
        }),
        row(r"\b(?:count|number of)\b.*?\b(words|lines|characters)\b", |_, found, mentions| {
            let unit = match found[1].to_lowercase().as_str() {
                "lines" => Unit::Lines,
                "characters" => Unit::Characters,
                _ => Unit::Words,
            };
            Some(Job::Count { source: mentions.first()?, target: mentions.target(), unit })
        }),
        row(r"\bsummar(?:i[sz]e|y)\b", |_, _, mentions| {
            Some(Job::Summarise { source: mentions.first()?, target: mentions.target() })
        }),
    ]
});

/// The files and directories that a text names, in order.
struct Mentions {
    files: Vec<String>,
    dirs: Vec<String>,
}

impl Mentions {
    fn of(text: &str) -> Self {
        static FILE: LazyLock<Regex> = LazyLock::new(|| {
            Regex::new(r"^(?:[\w.@-]+/)*[\w.-]*\w\.[A-Za-z]\w{0,9}$").expect("the pattern is fixed")
        });
        static DIR: LazyLock<Regex> =
            LazyLock::new(|| Regex::new(r"^(?:[\w.@-]+/)+(?:\*(?:\.\w+)?)?$").expect("the pattern is fixed"));
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        for token in text.split_whitespace() {
            let token = token.trim_start_matches(|c: char| !(c.is_alphanumeric() || "/._-*".contains(c)));
            let token = token.trim_end_matches(|c: char| !(c.is_alphanumeric() || "/_-*".contains(c)));
            let token = token.trim_start_matches("./");
            if ["e.g", "i.e"].contains(&token) {
                continue;
            }
            if FILE.is_match(token) {
                files.push(token.to_owned());
            } else if DIR.is_match(token) {
                dirs.push(token.rsplit_once('/').map_or(token, |(dir, _)| dir).to_owned());
            }
        }
        Self { files, dirs }
    }

    fn first(&self) -> Option<String> {
        self.files.first().cloned()
    }

    fn last(&self) -> Option<String> {
        self.files.last().cloned()
    }

    /// The file to write, when another one is named before it.
    fn target(&self) -> Option<String> {
        self.files.get(1..)?.last().cloned()
    }

    /// The directory that is named, else the workspace.
    fn dir(&self) -> String {
        self.dirs.first().cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(text: &str) -> String {
        text.to_owned()
    }

    #[test]
    fn the_table_of_examples() {
        let rows = [
            ("Please write steps 1 to 20 into steps/.", Job::Steps { first: 1, last: 20, dir: s("steps") }),
            (
                "replace \"foo bar\" with 'baz' in `notes/a.md`.",
                Job::Replace { file: s("notes/a.md"), old: s("foo bar"), new: s("baz") },
            ),
            (
                "Rename the heading \"Old\" to \"New\" in notes.md",
                Job::Replace { file: s("notes.md"), old: s("# Old"), new: s("# New") },
            ),
            ("Uppercase the title of notes.md", Job::Uppercase { file: s("notes.md"), title_only: true }),
            (
                "Call put_note with {\"text\": \"call it with {}\", \"n\": [1]}, then call look with {}.",
                Job::Calls(vec![
                    Ask {
                        name: s("put_note"),
                        input: serde_json::json!({"text": "call it with {}", "n": [1]}),
                    },
                    Ask { name: s("look"), input: serde_json::json!({}) },
                ]),
            ),
            ("Turn the goals in goals.md into tasks.", Job::HandOut { source: s("goals.md") }),
            (
                "Have the writer summarise news.md into letter.md, then have the mailer send letter.md to each address in list.txt.",
                Job::Letter(Letter {
                    writer: s("writer"),
                    part: s("summarise news.md into letter.md"),
                    mailer: s("mailer"),
                    file: s("letter.md"),
                    list: s("list.txt"),
                }),
            ),
            (
                "Review what has changed, write your remarks to review.md, and push it to the branch main of published if nothing is wrong.",
                Job::Review(Review { target: s("review.md"), branch: s("main"), remote: s("published") }),
            ),
            (
                "Send letter.md to ann@example.com.",
                Job::Send { file: s("letter.md"), to: s("ann@example.com") },
            ),
            (
                "Upper-case all headings in notes.md",
                Job::Uppercase { file: s("notes.md"), title_only: false },
            ),
            ("Collect the TODOs from src/ into todo.md", Job::Todos { dir: s("src"), target: s("todo.md") }),
            ("Collect all TODOs into todo.md", Job::Todos { dir: s(""), target: s("todo.md") }),
            (
                "Write a table of contents of the markdown files in docs/ to docs/index.md",
                Job::Contents { dir: s("docs"), target: s("docs/index.md") },
            ),
            (
                "Convert data.csv to a markdown table.",
                Job::Table { source: s("data.csv"), target: s("data.md") },
            ),
            (
                "Write the average of the column \"amount\" of data.csv to avg.txt",
                Job::Column {
                    source: s("data.csv"),
                    target: Some(s("avg.txt")),
                    measure: Measure::Average,
                    column: s("amount"),
                },
            ),
            (
                "Extract all e-mail addresses from mail.txt into addresses.txt",
                Job::Extract { source: s("mail.txt"), target: s("addresses.txt"), what: Extract::Emails },
            ),
            (
                "Merge a.md, b.md and c.md into all.md",
                Job::Merge {
                    from: Sources::Files(vec![s("a.md"), s("b.md"), s("c.md")]),
                    target: s("all.md"),
                },
            ),
            (
                "Merge notes/*.md into all.md",
                Job::Merge { from: Sources::Dir(s("notes")), target: s("all.md") },
            ),
            (
                "Sort the lines of names.txt in reverse without duplicates.",
                Job::Sort { source: s("names.txt"), target: s("names.txt"), reverse: true, unique: true },
            ),
            (
                "Count the words in ./notes.md and write the number to count.txt.",
                Job::Count { source: s("notes.md"), target: Some(s("count.txt")), unit: Unit::Words },
            ),
            ("Summarize notes.md", Job::Summarise { source: s("notes.md"), target: None }),
        ];
        for (text, want) in rows {
            assert_eq!(recognise(text), Some(want), "{text}");
        }
    }

    #[test]
    fn what_is_no_job() {
        for text in ["", "hello", "count to ten", "What is in notes.md?", "steps 9 to 2 into steps/"] {
            assert_eq!(recognise(text), None, "{text}");
        }
        assert_eq!(fallback("What is in notes.md, e.g. v1.5?"), Job::Look { files: vec![s("notes.md")] });
    }

    #[test]
    fn the_paragraph_with_the_job_counts() {
        let text = "You work on readme.md and other.md.\n\nCount the lines in data.csv.\n\nSee help.md.";
        let want = Job::Count { source: s("data.csv"), target: None, unit: Unit::Lines };
        assert_eq!(recognise(text), Some(want));
    }
}
