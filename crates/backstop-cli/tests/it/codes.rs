//! Whose turn it is, by the exit code: 0 nobody's, 1 the answer is no, 2 you must change something, 3 upstream failed.

use super::kit::Place;
use super::provider::{Scripted, Simulated, config};
use backstop_sim::{Fault, SimConfig};
use serde_json::json;

const TASK: &str = "Write the sum of the column \"amount\" of data.csv to total.txt";

fn place() -> Place {
    let place = Place::new();
    place.write("data.csv", "item,amount\npen,1.50\nink,2.25\n");
    place
}

/// A run at the simulated provider, with these faults first and these options.
fn run(faults: &[&str], more: &str, args: &[&str]) -> super::kit::Done {
    let provider = Simulated::start(|_: &mut SimConfig| {});
    for fault in faults {
        provider.sim.enqueue("sim", fault.parse::<Fault>().unwrap());
    }
    let place = place();
    provider.config(&place, more);
    let args: Vec<_> = ["run", "--quiet"].into_iter().chain(args.iter().copied()).collect();
    place.end(place.start_with(&args, &[("P_KEY", "any-key")]))
}

#[test]
fn how_a_run_ends_and_the_exit_code() {
    type Case = (
        &'static str,
        &'static [&'static str],
        &'static str,
        &'static [&'static str],
        i32,
        Option<&'static str>,
    );
    let down = &["server", "server", "server"];
    let rows: &[Case] = &[
        ("done", &[], "", &[TASK], 0, None),
        ("done after failures", &["overloaded", "server"], "", &[TASK], 0, None),
        ("stopped by turns", &[], "", &["--turns", "1", TASK], 1, Some("BS5003")),
        ("stopped by tokens", &[], "", &["--tokens", "10", TASK], 1, Some("BS5004")),
        ("stopped by its budget", &[], "", &["--max-cost", "0.0001", TASK], 1, Some("BS3001")),
        ("stopped by the day's budget", &[], "[budgets]\nday = \"0.0001\"", &[TASK], 1, Some("BS3001")),
        (
            "the model gives up",
            &[],
            "",
            &["Write the sum of the column \"gone\" of data.csv to x.txt"],
            1,
            Some("BS5011"),
        ),
        ("the model declines", &["refusal"], "", &[TASK], 1, Some("BS2008")),
        (
            "the key is refused",
            &["authentication", "authentication", "authentication"],
            "",
            &[TASK],
            2,
            Some("BS2005"),
        ),
        ("the provider is down", down, "", &[TASK], 3, Some("BS2001")),
        ("the provider is full", &["overloaded"; 3], "", &[TASK], 3, Some("BS2002")),
        ("no such model", &[], "", &["--model", "n", TASK], 2, Some("BS1006")),
        ("no such agent", &[], "", &["--agent", "n", TASK], 2, Some("BS1007")),
        ("no such workspace", &[], "", &["--workspace", "n", TASK], 2, Some("BS1009")),
        ("no such option", &[], "", &["--speed", TASK], 2, Some("BS1011")),
        ("no such key in the config", &[], "[budgets]\ndayly = 1", &[TASK], 2, Some("BS1002")),
    ];
    for (name, faults, more, args, exit, code) in rows {
        let done = run(faults, more, args);
        assert_eq!(done.code, *exit, "{name}: {}", done.shown());
        let told = code.is_none_or(|code| done.err.starts_with(&format!("error[{code}]: ")));
        assert!(told && done.err.is_empty() == code.is_none(), "{name}: {}", done.shown());
    }
}

#[test]
fn a_check_says_whose_turn_it_is() {
    let provider = Scripted::start(|asked| {
        let right = asked.head.to_lowercase().contains("x-api-key: right-key");
        let (status, body) = if right {
            (200, json!({"data": [{"type": "model", "id": "sim"}], "has_more": false}))
        } else {
            let error = json!({"type": "authentication_error", "message": "no: wrong-key"});
            (401, json!({"type": "error", "error": error}))
        };
        Some((status, "application/json", body.to_string()))
    });
    let place = place();
    place.write("backstop.toml", config(&provider.url(), ""));
    let check = |key: &str| place.end(place.start_with(&["check"], &[("P_KEY", key)]));
    let right = check("right-key");
    assert_eq!(right.code, 0, "{}", right.shown());
    assert!(right.out.contains("p         ok"), "{}", right.shown());
    let wrong = check("wrong-key");
    assert_eq!(wrong.code, 2, "{}", wrong.shown());
    assert!(wrong.out.contains("BS2005") && wrong.err.contains("hint: "), "{}", wrong.shown());
    assert!(!wrong.shown().contains("wrong-key"), "{}", wrong.shown());
    place.write("backstop.toml", config("http://127.0.0.1:9", ""));
    let gone = check("right-key");
    assert_eq!(gone.code, 3, "{}", gone.shown());
    assert!(gone.out.contains("BS2010") && gone.err.contains("hint: "), "{}", gone.shown());
}

/// A model behind a small window is asked all the same: the default limit of an answer gives way.
#[test]
fn a_small_window_is_no_reason_to_refuse() {
    let provider = Scripted::start(|asked| {
        let body: serde_json::Value = serde_json::from_str(&asked.body).unwrap();
        let message = format!("max_tokens is {}", body["max_tokens"]);
        Some((
            400,
            "application/json",
            json!({"type": "error", "error": {"type": "invalid_request_error", "message": message}})
                .to_string(),
        ))
    });
    let place = place();
    for (window, want) in [("200000", "max_tokens is 8192"), ("8000", "max_tokens is 2000")] {
        let text = config(&provider.url(), "")
            .replace("context-window = 200000", &format!("context-window = {window}"));
        place.write("backstop.toml", text);
        let done = place.end(place.start_with(&["run", "--quiet", TASK], &[("P_KEY", "any-key")]));
        assert!(done.err.contains(want), "{window}: {}", done.shown());
    }
}
