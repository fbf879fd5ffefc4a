//! One day budget, several processes on one data directory: the provider never bills more than the budget, and the warning
//! is told once.

use super::kit::{Done, Place};
use super::provider::{Simulated, config};
use backstop_call::Money;
use serde_json::Value;

#[test]
fn processes_that_share_a_day_budget_never_pass_it() {
    // Cheap, and with few tools to tell of, so that the worst case of one call is small beside the budget.
    let provider = Simulated::start(|config| {
        config.models[0].price.input = Money::from_nanos(300_000_000);
        config.models[0].price.output = Money::from_nanos(1_500_000_000);
    });
    let place = Place::new();
    let text = config(
        &provider.sim.base_url("sim"),
        "[budgets]\nday = \"$0.05\"\n[agents.a]\nmax-tokens = 200\ntools = [\"write_file\"]",
    );
    place.write("backstop.toml", text.replace("input = 3, output = 15", "input = 0.3, output = 1.5"));
    let children: Vec<_> = (0..4)
        .map(|n| {
            let dir = format!("work-{n}");
            std::fs::create_dir(place.path().join(&dir)).unwrap();
            let args = ["run", "--agent", "a", "--workspace", &dir, "Write steps 1 to 45 into steps/"];
            place.start_with(&args, &[("P_KEY", "any-key")])
        })
        .collect();
    let done: Vec<_> = children.into_iter().map(|child| place.end(child)).collect();
    let bill = provider.shutdown();
    let limit = Money::from_nanos(50_000_000);
    assert!(bill.total <= limit, "the provider billed {} of {limit}", bill.total);
    // A good part of it, or something else stopped them. How much is left depends on what the other three hold for the worst
    // case of a call, and have leased, at the moment when one is refused.
    assert!(bill.total > Money::from_nanos(25_000_000), "only {} were billed", bill.total);
    let stopped = done.iter().filter(|done| {
        let by_budget = done.err.contains("error[BS3001]") && done.err.contains("the day's budget has $");
        assert!(done.code == i32::from(by_budget), "{}", done.shown());
        by_budget
    });
    assert!(stopped.count() >= 2, "four runs cost more than the budget, and fewer than two were stopped");
    let warned: Vec<&str> = done
        .iter()
        .flat_map(|done| done.err.lines())
        .filter(|line| line.contains("the day's budget is spent to "))
        .collect();
    assert_eq!(warned.len(), 1, "{warned:?}\n{}", done.iter().map(Done::shown).collect::<String>());
    let logged: Vec<Value> = place
        .files(".backstop/logs")
        .iter()
        .flat_map(|(_, bytes)| String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .filter(|line: &Value| line["event"] == "budget.warned")
        .collect();
    assert_eq!(logged.len(), 1, "{logged:?}");
    assert_eq!(logged[0]["level"], "warn");
}
