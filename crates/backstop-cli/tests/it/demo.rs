//! The first thing a new user sees.

use super::kit::Place;
use serde_json::Value;

#[test]
fn the_demo_does_its_work_and_the_books_agree() {
    let place = Place::new();
    let done = place.run(&["demo", "--exit", "--json"]);
    let facts: Value = serde_json::from_str(&done.out).unwrap_or_else(|_| panic!("{}", done.shown()));
    assert_eq!(done.code, 0, "{}", done.shown());
    assert_eq!(facts["books_agree"], true, "{facts:#}");
    let tasks = facts["tasks"].as_array().unwrap();
    assert_eq!(tasks.len(), 12);
    let stopped: Vec<_> = tasks.iter().filter(|task| task["run"]["status"] == "stopped").collect();
    assert_eq!(stopped.len(), 1, "one task meets its budget");
    assert_eq!(stopped[0]["run"]["code"], "BS3001");
    let failed: u64 = tasks.iter().map(|task| task["run"]["failed_attempts"].as_u64().unwrap()).sum();
    assert!(failed > 5, "a storm of {failed} failures is none");
    assert!(done.err.contains("SIGKILL") && done.err.contains("goes on where it was left"), "{}", done.err);
    let left = std::fs::read_dir(place.path()).unwrap().count();
    assert_eq!(left, 0, "--exit removes everything");
}
