//! Sizes that a reader can hold in the head: files, functions, parameters.

use super::{Problem, Source, scan};

/// Lines of a file without its tests; more needs a reason in the list of exceptions.
const FILE_LINES_MAX: usize = 500;
/// Lines of a file without its tests, or of a file of tests; no exception goes beyond.
const FILE_LINES_HARD_MAX: usize = 800;
/// Lines of a function, from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;
/// Parameters of a function, the receiver not counted.
const PARAMETERS_MAX: usize = 5;

pub(super) fn check(source: &Source) -> Vec<Problem> {
    let code = scan::blank(&source.text);
    let tests = if source.is_test() { vec![false; code.lines().count()] } else { scan::test_lines(&code) };
    let lines = tests.iter().filter(|test| !**test).count();
    let mut problems = Vec::new();
    if lines > FILE_LINES_HARD_MAX {
        let what = format!("{lines} lines (at most {FILE_LINES_HARD_MAX}); split it by what it is about");
        problems.push(Problem::new(&source.path, 1, "file-size-hard", what));
    } else if lines > FILE_LINES_MAX && !source.is_test() {
        let what =
            format!("{lines} lines without tests (at most {FILE_LINES_MAX}); split it by what it is about");
        problems.push(Problem::new(&source.path, 1, "file-size", what));
    }
    if source.is_test() {
        return problems;
    }
    for function in scan::functions(&code) {
        if tests[function.line - 1] {
            continue;
        }
        let scan::Function { name, line, lines, parameters } = function;
        let problem = |rule, what| Problem::new(&source.path, line, rule, what).about(&name);
        if lines > FUNCTION_LINES_MAX {
            let what =
                format!("`{name}` has {lines} lines (at most {FUNCTION_LINES_MAX}); move a step out of it");
            problems.push(problem("function-size", what));
        }
        if parameters > PARAMETERS_MAX {
            let what = format!(
                "`{name}` takes {parameters} parameters (at most {PARAMETERS_MAX}); put some into a struct"
            );
            problems.push(problem("parameters", what));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(path: &str, text: String) -> Vec<&'static str> {
        check(&Source { path: path.to_owned(), text }).iter().map(|problem| problem.rule).collect()
    }

    #[test]
    fn sizes_count_without_tests() {
        let tests = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", "    // line\n".repeat(900));
        assert_eq!(rules("crates/a/src/b.rs", "use x;\n".repeat(500) + &tests), [""; 0]);
        assert_eq!(rules("crates/a/src/b.rs", "use x;\n".repeat(501)), ["file-size"]);
        assert_eq!(rules("crates/a/src/b.rs", "use x;\n".repeat(801)), ["file-size-hard"]);
        assert_eq!(rules("crates/a/tests/it/b.rs", "use x;\n".repeat(700)), [""; 0]);
        assert_eq!(rules("crates/a/tests/it/b.rs", "use x;\n".repeat(801)), ["file-size-hard"]);
    }

    #[test]
    fn functions_have_a_size_too() {
        let function = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines - 2));
        assert_eq!(rules("crates/a/src/b.rs", function(70)), [""; 0]);
        assert_eq!(rules("crates/a/src/b.rs", function(71)), ["function-size"]);
        assert_eq!(rules("crates/a/src/b.rs", format!("#[test]\n{}", function(90))), [""; 0]);
        let wide = "fn f(&self, a: A, b: B, c: C, d: D, e: E, f: F) {}\n".to_owned();
        assert_eq!(rules("crates/a/src/b.rs", wide), ["parameters"]);
    }
}
