//! The keys of the gateway over a real database: made, listed, rotated, revoked; and their secrets in no byte of it.

use super::kit::{Done, Place, block_on};
use backstop_call::{Clock, Timestamp};
use backstop_journal::event::KeyRight;
use backstop_journal::{EventBody, Journal, StreamId};
use backstop_server::keys::{Asking, KeyRefusal, KeyWatch, admit};
use backstop_stack::SystemClock;
use base64::prelude::{BASE64_STANDARD, Engine};
use expect_test::expect;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;

fn now() -> Timestamp {
    SystemClock::new().now()
}

/// What differs each time is made the same: secrets, their beginnings, moments of this century.
fn steady(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (shown, length) = match rest.as_bytes() {
            [b'b', b's', b'k', b'_', after @ ..] => {
                let letters = after.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
                (if letters == 40 { "SECRET" } else { "bsk_BEGIN." }, 4 + letters)
            }
            moment if is_moment(moment, b'T') => ("MOMENT", 24),
            moment if is_moment(moment, b' ') => ("MINUTE..........", 16),
            _ => (&rest[..first.len_utf8()], first.len_utf8()),
        };
        out += shown;
        rest = &rest[length..];
    }
    out
}

fn is_moment(text: &[u8], middle: u8) -> bool {
    let marks = [(4, b'-'), (7, b'-'), (10, middle), (13, b':')];
    text.starts_with(b"20") && marks.iter().all(|(at, mark)| text.get(*at) == Some(mark))
}

fn shown(done: &Done) -> String {
    steady(&done.shown())
}

/// Makes a key and gives its secret.
fn create(place: &Place, args: &[&str]) -> String {
    let done = place.run(&[&["keys", "create"], args].concat());
    assert_eq!(done.code, 0, "{}", done.shown());
    secret_of(&done)
}

/// Standard output is the secret and nothing else, so that a shell can take it.
fn secret_of(done: &Done) -> String {
    let secret = done.out.strip_suffix('\n').unwrap();
    assert!(secret.len() == 44 && secret.starts_with("bsk_"), "{}", done.shown());
    assert!(secret[4..].bytes().all(|b| b.is_ascii_alphanumeric()), "{}", done.shown());
    assert!(!done.err.contains(secret), "{}", done.err);
    secret.to_owned()
}

fn json(done: &Done) -> Value {
    assert_eq!(done.code, 0, "{}", done.shown());
    serde_json::from_str(&done.out).unwrap()
}

#[test]
fn from_create_to_revoke() {
    let place = Place::new();
    let none = place.run(&["keys", "list"]);
    expect![[r#"
        exit 0
        --- stderr
        there are no keys; `backstop keys create NAME` makes one
    "#]]
    .assert_eq(&none.shown());
    assert!(!place.path().join(".backstop").exists(), "a list makes nothing");

    let everything = "keys create nightly --role clerk --model claude-* --model mini --budget-day 5 --budget $100 \
                      --requests-per-minute 60 --tokens-per-minute 100000 --concurrent 4 --from 10.0.0.0/8 \
                      --from 2001:db8::/32 --environment prod --priority batch --label untrusted --label board \
                      --expires 2099-01-31";
    let made = place.run(&everything.split_whitespace().collect::<Vec<_>>());
    let first = secret_of(&made);
    expect![[r#"
        exit 0
        --- stdout
        SECRET
        --- stderr
        ok key nightly, bsk_BEGIN...., may: role clerk, models claude-* mini, $5.00 a day, $100.00 in all, 60 requests a minute, 100000 tokens a minute, 4 at once, from 10.0.0.0/8 2001:db8::/32, in prod, priority batch, labels untrusted board, until MOMENT
          its secret is shown this once; what is kept is a hash of it
    "#]].assert_eq(&shown(&made));
    create(&place, &["ci"]);
    let list = place.run(&["keys", "list"]);
    expect![[r#"
        exit 0
        --- stdout
        KEY      SECRET         MADE (UTC)        STANDS  PLACES  MAY
        ci       bsk_BEGIN....  MINUTE..........  active       0  everything
        nightly  bsk_BEGIN....  MINUTE..........  active       0  role clerk, models claude-* mini, $5.00 a day, $100.00 in all, 60 requests a minute, 100000 tokens a minute, 4 at once, from 10.0.0.0/8 2001:db8::/32, in prod, priority batch, labels untrusted board, until MOMENT
    "#]].assert_eq(&shown(&list));

    let rotated = place.run(&["keys", "rotate", "nightly"]);
    assert_ne!(secret_of(&rotated), first);
    expect![[r#"
        exit 0
        --- stdout
        SECRET
        --- stderr
        ok key nightly has a new secret, bsk_BEGIN....
          bsk_BEGIN.... stays good until MOMENT
    "#]]
    .assert_eq(&shown(&rotated));
    let at_once = place.run(&["keys", "rotate", "nightly", "--overlap", "0s"]);
    expect![[r#"
        exit 0
        --- stdout
        SECRET
        --- stderr
        ok key nightly has a new secret, bsk_BEGIN....
    "#]]
    .assert_eq(&shown(&at_once));
    let revoked = place.run(&["keys", "revoke", "nightly"]);
    expect![[r#"
        exit 0
        --- stderr
        ok key nightly is revoked; a gateway that runs knows it within a second
    "#]]
    .assert_eq(&shown(&revoked));
    let again = place.run(&["keys", "revoke", "nightly"]);
    expect![[r#"
        exit 0
        --- stderr
        ok key nightly was revoked by somebody at MOMENT already
    "#]]
    .assert_eq(&shown(&again));
    let logs = place.run(&["logs"]);
    expect![[r#"
        exit 0
        --- stdout
        {"ts":"MOMENT","level":"info","event":"key.created","role":"clerk","key":"nightly","message":"bsk_BEGIN. created by somebody: role clerk, models claude-* mini, $5.00 a day, $100.00 in all, 60 requests a minute, 100000 tokens a minute, 4 at once, from 10.0.0.0/8 2001:db8::/32, in prod, priority batch, labels untrusted board, until MOMENT"}
        {"ts":"MOMENT","level":"info","event":"key.created","key":"ci","message":"bsk_BEGIN. created by somebody: everything"}
        {"ts":"MOMENT","level":"info","event":"key.rotated","key":"nightly","message":"bsk_BEGIN. made by somebody, the old secret until MOMENT"}
        {"ts":"MOMENT","level":"info","event":"key.rotated","key":"nightly","message":"bsk_BEGIN. made by somebody, the old secret until MOMENT"}
        {"ts":"MOMENT","level":"info","event":"key.revoked","key":"nightly","message":"revoked by somebody"}
    "#]].assert_eq(&shown(&logs));
    let daily: Vec<_> =
        place.files(".backstop/logs").into_iter().map(|(_, bytes)| place.clean(&bytes)).collect();
    assert_eq!(daily.concat(), logs.out, "the log files say the same");
}

#[test]
fn the_same_as_json() {
    let place = Place::new();
    let made = json(&place.run(&["keys", "create", "ci", "--budget-day", "5", "--expires", "7d", "--json"]));
    let secret = made["secret"].as_str().unwrap();
    assert_eq!((secret.len(), made["prefix"].as_str()), (44, Some(&secret[..10])));
    let in_a_week = made["scope"]["expires"].as_u64().unwrap() - made["created"].as_u64().unwrap();
    assert_eq!(u128::from(in_a_week), Duration::from_hours(7 * 24).as_nanos());
    let rotated = json(&place.run(&["keys", "rotate", "ci", "--json"]));
    assert_ne!(rotated["secret"], made["secret"]);
    let list = json(&place.run(&["keys", "list", "--json"]));
    let text = list.to_string();
    assert!(!text.contains("secret\"") && !text.contains(secret) && !text.contains("hash"), "{text}");
    assert_eq!(list[0]["key"], "ci");
    assert_eq!(list[0]["standing"], "active");
    assert_eq!(list[0]["scope"]["budget"]["day"], 5_000_000_000_u64);
    let warned = list[0]["warnings"][0].as_str().unwrap();
    assert!(warned.starts_with("it expires at "), "{warned}");
    assert_eq!(list[0]["replaced"][0]["prefix"], made["prefix"]);
    let revoked = json(&place.run(&["keys", "revoke", "ci", "--json"]));
    assert_eq!(revoked["revoked"]["by"], "somebody");
    assert_eq!(json(&place.run(&["keys", "list", "--json"]))[0]["standing"], "revoked");
}

#[test]
fn every_mistake_and_nothing_is_made_of_it() {
    let place = Place::new();
    let check = |args: &[&str]| {
        let done = place.run(&[&["keys"], args].concat());
        format!("$ keys {}\n{}", args.join(" "), shown(&done))
    };
    let told = [
        &["create", "a b"][..],
        &["create", "bsk_4f9a2c"],
        &["create", "ci", "--from", "10.1.0.0/8"],
        &["create", "ci", "--from", "home"],
        &["create", "ci", "--expires", "2026-01-31"],
        &["create", "ci", "--expires", "soon"],
        &["create", "ci", "--expires", "2027-02-30"],
        &["create", "ci", "--expires", "2999-01-31"],
        &["create", "ci", "--budget", "-5"],
        &["create", "ci", "--concurrent", "0"],
        &["create", "ci", "--model", "a b"],
        &["create", "ci", "--environment", ""],
        &["rotate", "ci"],
        &["revoke", "ci"],
    ]
    .map(check);
    expect![[r#"
        $ keys create a b
        exit 2
        --- stderr
        error[BS1011]: `a b` is no name of a key
        hint: a name has at most 64 letters, digits, `.`, `_` and `-`, and begins with a letter or digit
        $ keys create bsk_4f9a2c
        exit 2
        --- stderr
        error[BS1011]: `bsk_BEGIN.` is no name of a key
        hint: this is the beginning of a secret; a key goes by its name
        $ keys create ci --from 10.1.0.0/8
        exit 2
        --- stderr
        error[BS1011]: invalid value '10.1.0.0/8' for '--from <CIDR>': it has bits beyond its prefix; the range that holds it is 10.0.0.0/8

        For more information, try '--help'.
        $ keys create ci --from home
        exit 2
        --- stderr
        error[BS1011]: invalid value 'home' for '--from <CIDR>': addresses are written like 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7

        For more information, try '--help'.
        $ keys create ci --expires 2026-01-31
        exit 2
        --- stderr
        error[BS1011]: the key would have expired at MOMENT already
        hint: give a span from now, like 30d, or a date to come
        $ keys create ci --expires soon
        exit 2
        --- stderr
        error[BS1011]: invalid value 'soon' for '--expires <SPAN|DATE>': it is a span like 30d or 12h, or a date like 2027-01-31

        For more information, try '--help'.
        $ keys create ci --expires 2027-02-30
        exit 2
        --- stderr
        error[BS1011]: invalid value '2027-02-30' for '--expires <SPAN|DATE>': it is a span like 30d or 12h, or a date like 2027-01-31

        For more information, try '--help'.
        $ keys create ci --expires 2999-01-31
        exit 2
        --- stderr
        error[BS1011]: invalid value '2999-01-31' for '--expires <SPAN|DATE>': it is a span like 30d or 12h, or a date like 2027-01-31

        For more information, try '--help'.
        $ keys create ci --budget -5
        exit 2
        --- stderr
        error[BS1011]: unexpected argument '-5' found

          tip: to pass '-5' as a value, use '-- -5'

        Usage: backstop keys create [OPTIONS] <NAME>

        For more information, try '--help'.
        $ keys create ci --concurrent 0
        exit 2
        --- stderr
        error[BS1011]: invalid value '0' for '--concurrent <N>': 0 is not in 1..=4294967295

        For more information, try '--help'.
        $ keys create ci --model a b
        exit 2
        --- stderr
        error[BS1011]: `a b` names no model: a name is one word, where `*` stands for any letters: claude-*, mini, *
        hint: write `--model claude-*`, once for each name
        $ keys create ci --environment 
        exit 2
        --- stderr
        error[BS1011]: invalid value '' for '--environment <WORD>': it is one word, like prod

        For more information, try '--help'.
        $ keys rotate ci
        exit 2
        --- stderr
        error[BS6011]: there is no key `ci`
        hint: there are no keys yet
        $ keys revoke ci
        exit 2
        --- stderr
        error[BS6011]: there is no key `ci`
        hint: there are no keys yet
    "#]].assert_eq(&told.concat());
    assert!(!place.path().join(".backstop").exists(), "nothing is made by a command that did nothing");

    create(&place, &["ci"]);
    create(&place, &["gone"]);
    assert_eq!(place.run(&["keys", "revoke", "gone"]).code, 0);
    let told =
        [&["create", "ci"][..], &["create", "gone"], &["rotate", "gone"], &["revoke", "cii"]].map(check);
    expect![[r#"
        $ keys create ci
        exit 2
        --- stderr
        error[BS6010]: there is a key ci already
        hint: choose another name: a name is never used again
        $ keys create gone
        exit 2
        --- stderr
        error[BS6010]: there is a key gone already, and it was revoked
        hint: choose another name: a name is never used again
        $ keys rotate gone
        exit 2
        --- stderr
        error[BS6003]: key gone was revoked
        hint: make another one with `backstop keys create`
        $ keys revoke cii
        exit 2
        --- stderr
        error[BS6011]: there is no key `cii`
        hint: did you mean `ci`? keys: ci, gone
    "#]]
    .assert_eq(&told.concat());
    let events = block_on(place.store().unwrap().read(&StreamId::Keys, 0)).unwrap();
    let kinds: Vec<_> = events.iter().map(|event| event.body.kind()).collect();
    assert_eq!(kinds, ["key.created", "key.created", "key.revoked"]);
}

/// A secret in the forms that bytes may have it in.
fn forms(secret: &str) -> Vec<String> {
    let hex = secret.bytes().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    let base64 = BASE64_STANDARD.encode(secret);
    // Half of it is too much already, and enough to be found by.
    vec![
        secret[24..].to_owned(),
        secret[10..30].to_owned(),
        hex[20..60].to_owned(),
        base64[16..48].to_owned(),
    ]
}

#[test]
fn a_secret_is_in_no_byte_that_is_kept() {
    let place = Place::new();
    place.write("backstop.toml", "[logs]\nlevel = \"debug\"\n");
    let json = place.run(&["keys", "create", "json", "--json"]);
    let json = serde_json::from_str::<Value>(&json.out).unwrap()["secret"].as_str().unwrap().to_owned();
    let mut secrets = vec![create(&place, &["ci"]), create(&place, &["nightly", "--role", "clerk"]), json];
    secrets.push(secret_of(&place.run(&["keys", "rotate", "ci"])));
    // Somebody puts one where a name belongs.
    let (ci, by_mistake) = (secrets[0].clone(), ["create", "revoke", "rotate"]);
    for command in by_mistake {
        let done = place.run(&["keys", command, &ci]);
        assert_eq!(done.code, 2, "{}", done.shown());
        assert!(!done.shown().contains(&ci[10..]), "{}", done.shown());
    }
    assert_eq!(place.run(&["keys", "revoke", "nightly"]).code, 0);
    // A model is told one, and quotes it: it is found by its form.
    place.write("note.md", format!("the key is {ci}\n"));
    let run = place.run(&["run", "--model", "sim", "--quiet", "Merge note.md and note.md into all.md"]);
    assert_eq!(run.code, 0, "{}", run.shown());
    assert!(place.read("all.md").contains("[REDACTED:backstop-key]"), "{}", place.read("all.md"));

    let look = |name: &str, bytes: &[u8]| {
        for form in secrets.iter().flat_map(|secret| forms(secret)) {
            let found = bytes.windows(form.len()).any(|window| window == form.as_bytes());
            assert!(!found, "{name} holds {form}");
        }
    };
    let files = place.files(".backstop");
    for part in ["backstop.db", "logs/"] {
        assert!(
            files.iter().any(|(path, _)| path.to_str().unwrap().contains(part)),
            "{part}: nothing to look into"
        );
    }
    for (path, bytes) in &files {
        look(path.to_str().unwrap(), bytes);
    }
    for args in [&["keys", "list"][..], &["keys", "list", "--json"], &["logs", "--level", "debug"], &["runs"]]
    {
        let done = place.run(args);
        assert_eq!(done.code, 0, "{}", done.shown());
        look(&args.join(" "), done.shown().as_bytes());
    }
    // What was looked for can be found.
    assert!(place.read("note.md").contains(&forms(&ci)[0]));
}

#[test]
fn a_key_for_a_person_is_for_nothing_else() {
    let place = Place::new();
    let secret = create(&place, &["anna", "--approver", "--expires", "30d"]);
    let watch = block_on(KeyWatch::open(&place.store().unwrap())).unwrap();
    let asking = |right| {
        let peer = "10.1.2.3".parse().unwrap();
        admit(
            watch.ring().find(&secret, now()).unwrap(),
            &Asking { peer, environment: None, right, model: None },
        )
    };
    assert!(asking(KeyRight::Approve).is_ok());
    assert!(matches!(asking(KeyRight::Call), Err(KeyRefusal::Right { .. })));
    assert!(watch.ring().is_empty() && watch.ring().has_approvers());
    let list = place.run(&["keys", "list", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&list.out).unwrap()[0]["scope"]["right"], "approve");
    for flag in [["--model", "mini"], ["--budget", "5"], ["--role", "clerk"], ["--priority", "batch"]] {
        let done = place.run(&[&["keys", "create", "bert", "--approver"][..], &flag].concat());
        assert_eq!(done.code, 2, "{}", done.shown());
        assert!(done.err.contains("--approver"), "{}", done.err);
    }
}

#[test]
fn a_key_that_submits_says_for_which_agents() {
    let place = Place::new();
    let secret =
        create(&place, &["shop", "--submit", "--agent", "writer", "--agent", "test-*", "--budget-day", "5"]);
    let watch = block_on(KeyWatch::open(&place.store().unwrap())).unwrap();
    let key = watch.ring().find(&secret, now()).unwrap();
    assert_eq!(key.scope().to_string(), "submit tasks only, agents writer test-*, $5.00 a day");
    let may = ["writer", "test-1", "cleaner"].map(|agent| key.may_name(agent));
    assert_eq!(may, [true, true, false]);
    assert!(
        watch.ring().is_empty() && !watch.ring().has_lookers(),
        "it closes nothing, and looks at no page"
    );
    let rows: [(&[&str], &str); 4] = [
        (&["a", "--agent", "writer"], "--submit"),
        (&["a", "--submit", "--approver"], "--submit"),
        (&["a", "--submit", "--concurrent", "2"], "--submit"),
        (&["a", "--submit", "--agent", "a b"], "names no agent"),
    ];
    for (args, want) in rows {
        let done = place.run(&[&["keys", "create"], args].concat());
        assert_eq!(done.code, 2, "{}", done.shown());
        assert!(done.err.contains(want), "{}", done.err);
    }
}

#[test]
fn what_a_command_did_acts_on_a_process_that_runs() {
    let place = Place::new();
    let first = create(&place, &["ci", "--from", "10.0.0.0/8", "--model", "mini"]);
    let store = place.store().unwrap();
    let mut watch = block_on(KeyWatch::open(&store)).unwrap();
    let peer = "10.1.2.3".parse().unwrap();
    let asking = |model| Asking { peer, environment: None, right: KeyRight::Call, model: Some(model) };
    let key = watch.ring().find(&first, now()).unwrap();
    assert!(admit(key.clone(), &asking("mini")).is_ok());
    assert!(matches!(admit(key, &asking("maxi")), Err(KeyRefusal::Model { .. })));

    let second = secret_of(&place.run(&["keys", "rotate", "ci", "--overlap", "0s"]));
    assert!(watch.ring().find(&first, now()).is_ok(), "before the next look");
    assert!(block_on(watch.refresh(&store)).unwrap().is_some());
    assert!(matches!(watch.ring().find(&first, now()), Err(KeyRefusal::Replaced(..))));
    assert!(watch.ring().find(&second, now()).is_ok());
    assert_eq!(place.run(&["keys", "revoke", "ci"]).code, 0);
    assert!(block_on(watch.refresh(&store)).unwrap().is_some());
    assert_eq!(watch.ring().find(&second, now()).unwrap_err(), KeyRefusal::Revoked("ci".into()));
    assert!(block_on(watch.refresh(&store)).unwrap().is_none());
    block_on(store.verify(&StreamId::Keys)).unwrap();
}

#[test]
fn of_several_that_make_the_same_name_at_once_one_does() {
    let place = Place::new();
    create(&place, &["other"]);
    let start = || {
        let mut command = place.command(&["keys", "create", "ci"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..6).map(|_| start()).collect();
    let done: Vec<_> = children.into_iter().map(|child| place.end(child)).collect();
    let (good, bad): (Vec<_>, Vec<_>) = done.iter().partition(|done| done.code == 0);
    let told: String = done.iter().map(Done::shown).collect();
    assert_eq!((good.len(), bad.len()), (1, 5), "{told}");
    assert!(bad.iter().all(|done| done.out.is_empty() && done.err.contains("BS6010")), "{told}");
    let store = place.store().unwrap();
    let watch = block_on(KeyWatch::open(&store)).unwrap();
    let key = watch.ring().find(&secret_of(good[0]), now()).unwrap();
    assert_eq!(key.name().as_str(), "ci", "the one that was shown a secret has the name");
    let events = block_on(store.read(&StreamId::Keys, 0)).unwrap();
    assert!(events.iter().all(|event| matches!(event.body, EventBody::KeyCreated(_))));
}
