//! What must not stay behind: unfinished work, a test that is skipped, a sleep, the traces of one machine.

use super::{Problem, Source, scan};

/// Words in code, with what to do about them. Written in pieces, so that this file does not find itself.
const IN_CODE: &[(&str, &str)] = &[
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("dbg!", "take it out"),
    ("#[ignore", "make the test run, or take it out"),
    ("thread::sleep", "wait on a predicate, or use tokio's paused time"),
];

/// Words in any text.
const IN_TEXT: &[(&str, &str)] = &[
    (concat!("FIX", "ME"), "mend it, or say in a sentence what is not done"),
    (concat!("/ho", "me/"), "a path of one machine; write it from the repository's root, or with `~`"),
    (concat!("/ro", "ot/"), "a path of one machine; write it from the repository's root, or with `~`"),
    (concat!("/Us", "ers/"), "a path of one machine; write it from the repository's root, or with `~`"),
    (concat!("static.", "crates.io"), "the address of a registry; cargo knows where crates come from"),
    (concat!("index.", "crates.io"), "the address of a registry; cargo knows where crates come from"),
    (concat!("registry.", "npmjs"), "the address of a registry; npm knows where packages come from"),
    (concat!("files.", "pythonhosted"), "the address of a registry; pip knows where packages come from"),
    (concat!("arti", "factory"), "the address of a registry; cargo knows where crates come from"),
];

/// The one source that a lock file may name.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

pub(super) fn check(source: &Source) -> Vec<Problem> {
    let mut problems = Vec::new();
    if source.is_rust() {
        let code = scan::blank(&source.text);
        for (word, what) in IN_CODE {
            for (at, _) in code.match_indices(word) {
                problems.push(found(source, scan::line_of(&code, at), word, what));
            }
        }
    }
    for (word, what) in IN_TEXT {
        for (at, _) in source.text.match_indices(word) {
            // `/proc/self/root/` and `docs/home/` are no paths of one machine.
            let inside_a_path = word.starts_with('/') && source.text[..at].ends_with(char::is_alphanumeric);
            if inside_a_path {
                continue;
            }
            problems.push(found(source, scan::line_of(&source.text, at), word, what));
        }
    }
    if source.path == "Cargo.lock" {
        for (number, line) in (1..).zip(source.text.lines()) {
            if line.starts_with("source = ") && !line.contains(CRATES_IO) {
                let what = "a crate from elsewhere than crates.io; use a published one";
                problems.push(Problem::new(&source.path, number, "foreign-crate", what));
            }
        }
    }
    problems
}

fn found(source: &Source, line: usize, word: &str, what: &str) -> Problem {
    Problem::new(&source.path, line, "leftover", format!("`{word}`: {what}")).about(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        let source = Source { path: path.to_owned(), text: text.to_owned() };
        check(&source).iter().map(|problem| problem.line).collect()
    }

    #[test]
    fn leftovers_are_found_in_code_and_not_in_words_about_them() {
        assert_eq!(lines("a.rs", "fn a() {\n    todo!()\n}\n"), [2]);
        assert_eq!(lines("a.rs", "// todo!() is forbidden\nlet x = \"dbg!\";\n"), [0; 0]);
        assert_eq!(lines("a.rs", "// ▸ ▸ ▸ ▸ ▸ ▸ ▸ ▸\n\ntodo!()\n\n"), [3]);
        assert_eq!(lines("a.rs", "#[ignore = \"flaky\"]\n#[test]\n"), [1]);
        assert_eq!(lines("a.md", concat!("one\nFIX", "ME later\n")), [2]);
        assert_eq!(lines("a.md", concat!("see /ho", "me/me/x\n")), [1]);
        assert_eq!(lines("a.md", concat!("/proc/self/ro", "ot/etc\n")), [0; 0]);
    }

    #[test]
    fn only_one_registry() {
        let lock = format!("source = \"{CRATES_IO}\"\nsource = \"git+https://example.org/x\"\n");
        assert_eq!(lines("Cargo.lock", &lock), [2]);
    }
}
