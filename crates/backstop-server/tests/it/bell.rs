//! Who is told of questions: what is sent, how it is signed, and what happens when nobody takes it.

use crate::it::approvals::Desk;
use crate::it::kit::{config, until};
use crate::it::upstream::{Upstream, answer};
use backstop_call::{Category, Labels};
use backstop_server::gateway::BellLimits;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::time::Duration;

const QUICK: BellLimits =
    BellLimits { queue: 64, attempts: 10, wait: Duration::from_millis(1), sweep: Duration::from_millis(20) };

fn hook(upstream: &Upstream) -> String {
    format!("[[approvals.webhooks]]\nurl = \"{}/hook\"\nsecret = \"env:HOOK\"\n", upstream.url())
}

/// HMAC-SHA256 by its definition in RFC 2104, for keys of at most 64 bytes.
fn hmac(key: &[u8], text: &[u8]) -> String {
    let pad = |with: u8| {
        let mut block = [with; 64];
        key.iter().zip(&mut block).for_each(|(key, block)| *block ^= key);
        block
    };
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    outer.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[test]
fn the_tests_own_hmac_is_right() {
    // RFC 4231, test case 2.
    let want = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
    assert_eq!(hmac(b"Jefe", b"what do ya want for nothing?"), want);
}

#[tokio::test]
async fn a_program_is_told_and_can_check_who_says_it() {
    let upstream = Upstream::always(answer("200 OK", &[], "")).await;
    let desk = Desk::with("hello", &hook(&upstream), &[("HOOK", "shared")], QUICK).await;
    let (run, id) = desk.ask().await;
    let seen = upstream.wait("the message", |seen| !seen.asked.is_empty()).await;
    let asked = &seen.asked[0];
    assert!(asked.head.starts_with("POST /hook "), "{}", asked.head);
    let stamp = asked.header("x-backstop-timestamp").unwrap();
    let signed = [stamp.as_bytes(), b".", &asked.body].concat();
    assert_eq!(asked.header("x-backstop-signature").unwrap(), format!("v1={}", hmac(b"shared", &signed)));
    assert_eq!(asked.header("x-backstop-delivery"), Some(id.as_str()));
    let now = desk.gate.backstop.clock().now().secs();
    assert!(now - stamp.parse::<u64>().unwrap() < 60);
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let told =
        [&body["event"], &body["approval"], &body["run"], &body["tool"], &body["args"], &body["default"]];
    let want = json!(["approval.requested", id, run, "send", {"line": "hello"}, "deny"]);
    assert_eq!(json!(told), want);
    // The sweep finds it again and again, and tells it once.
    let (_, second) = desk.ask().await;
    let seen = upstream.wait("the second", |seen| seen.asked.len() > 1).await;
    assert_eq!(seen.asked[1].header("x-backstop-delivery"), Some(second.as_str()));
    assert_eq!(seen.asked.len(), 2);
}

#[tokio::test]
async fn what_is_not_taken_is_tried_again_and_never_led_elsewhere() {
    let elsewhere = Upstream::always(answer("200 OK", &[], "")).await;
    let location = elsewhere.url();
    let answers = vec![
        answer("500 Internal Server Error", &[], ""),
        answer("307 Temporary Redirect", &[("location", &location)], ""),
        b"not http at all\r\n\r\n".to_vec(),
        answer("200 OK", &[], ""),
    ];
    let upstream = Upstream::in_turn(answers).await;
    let desk = Desk::with("hello", &hook(&upstream), &[("HOOK", "shared")], QUICK).await;
    let (_, id) = desk.ask().await;
    let seen = upstream.wait("four attempts", |seen| seen.asked.len() >= 4).await;
    assert!(seen.asked.iter().all(|asked| asked.header("x-backstop-delivery") == Some(id.as_str())));
    assert_eq!(elsewhere.seen().asked.len(), 0);
    let checks = until("a hook that is well again", async || {
        let checks = health(&desk).await;
        (checks["hook 127.0.0.1"]["status"] == "healthy").then_some(checks)
    })
    .await;
    assert_eq!(checks["hook 127.0.0.1"]["why"], "it takes what it is told");
}

#[tokio::test]
async fn a_hook_that_takes_nothing_is_told_of_and_holds_up_nobody() {
    let deaf = Upstream::always(answer("503 Service Unavailable", &[], "")).await;
    let hearing = Upstream::always(answer("200 OK", &[], "")).await;
    let two = format!("{}{}", hook(&deaf), hook(&hearing));
    let limits = BellLimits { queue: 1, wait: Duration::from_mins(10), ..QUICK };
    let desk = Desk::with("hello", &two, &[("HOOK", "shared")], limits).await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(desk.ask().await.1);
    }
    // Every one of them reaches the other, whatever finds a queue full meanwhile.
    let seen = hearing.wait("all questions", |seen| seen.asked.len() >= 4).await;
    let mut told: Vec<_> =
        seen.asked.iter().filter_map(|asked| asked.header("x-backstop-delivery")).collect();
    told.sort_unstable();
    asked.sort_unstable();
    assert_eq!(told, asked);
    let checks = until("the worry", async || {
        let checks = health(&desk).await;
        (checks["approvals"]["status"] == "degraded").then_some(checks)
    })
    .await;
    assert!(checks["approvals"]["why"].as_str().unwrap().contains("found a queue full"), "{checks}");
    assert!(checks["hook 127.0.0.1"]["why"].is_string());
    assert_eq!(deaf.seen().asked.len(), 1, "it waits before it tries again");
}

#[tokio::test]
async fn slack_is_shown_a_card_that_no_text_can_change_and_nothing_private() {
    let slack = Upstream::always(answer("200 OK", &[], "ok")).await;
    let url = format!("{}/services/secret", slack.url());
    let text = "[approvals]\npublic-url = \"https://backstop.one.example\"\nslack = \"env:SLACK\"\n";
    let desk = Desk::with("<!channel> \u{202e}`x`", text, &[("SLACK", &url)], QUICK).await;
    let (_, id) = desk.ask().await;
    let seen = slack.wait("the card", |seen| !seen.asked.is_empty()).await;
    let card: Value = serde_json::from_slice(&seen.asked[0].body).unwrap();
    assert_eq!(
        card["blocks"][0]["text"],
        json!({"type": "plain_text", "text": "May it call send?", "emoji": false})
    );
    let preview = &card["blocks"][2]["elements"][0];
    assert_eq!(preview["type"], "rich_text_preformatted");
    assert_eq!(preview["elements"][0]["text"], "@@ outbox @@\n-nothing\n+<!channel> \\u{202e}`x`\n");
    let link = card["blocks"][4]["text"]["text"].as_str().unwrap();
    assert!(link.starts_with(&format!("<https://backstop.one.example/approvals/{id}?until=")), "{link}");
    assert!(link.contains("&amp;sig=") && link.ends_with("|Look at it and answer>"), "{link}");

    desk.ask_with(Labels::private(Category::Health)).await;
    let seen = slack.wait("the second card", |seen| seen.asked.len() > 1).await;
    assert!(!seen.asked[1].text().contains("channel"), "{}", seen.asked[1].text());
    assert!(seen.asked[1].text().contains("private text"));
    assert!(!health(&desk).await.to_string().contains("secret"), "the address is a secret");
}

#[tokio::test]
async fn another_config_tells_others_and_nobody_twice() {
    let (one, two) = (
        Upstream::always(answer("200 OK", &[], "")).await,
        Upstream::always(answer("200 OK", &[], "")).await,
    );
    let desk = Desk::with("hello", &hook(&one), &[("HOOK", "shared")], QUICK).await;
    let (_, first) = desk.ask().await;
    one.wait("the first", |seen| !seen.asked.is_empty()).await;

    // Both are told from here on, and sent elsewhere to answer.
    let text = |hooks: &str| {
        let plain = config(&[("a", "messages", "http://127.0.0.1:9".to_owned())]);
        format!("{plain}[approvals]\npublic-url = \"https://one.example\"\n{hooks}")
    };
    desk.reload(&text(&(hook(&one) + &hook(&two)))).await;
    let (_, second) = desk.ask().await;
    let of = |seen: &crate::it::upstream::Seen| -> Vec<String> {
        seen.asked.iter().map(|asked| asked.header("x-backstop-delivery").unwrap().to_owned()).collect()
    };
    let seen = one.wait("the second", |seen| seen.asked.len() > 1).await;
    assert_eq!(of(&seen), [first.clone(), second.clone()], "what it was told it is not told again");
    let body: Value = serde_json::from_slice(&seen.asked[1].body).unwrap();
    assert!(body["link"].as_str().unwrap().starts_with("https://one.example/approvals/"), "{body}");
    let seen = two.wait("all that is open", |seen| seen.asked.len() > 1).await;
    let mut told = of(&seen);
    told.sort();
    assert_eq!(told, [first, second.clone()]);

    desk.reload(&text(&hook(&two))).await;
    let (_, third) = desk.ask().await;
    let seen = two.wait("the third", |seen| seen.asked.len() > 2).await;
    assert_eq!(of(&seen)[2], third);
    assert_eq!(one.seen().asked.len(), 2, "who is told no more is told nothing");
}

async fn health(desk: &Desk) -> Value {
    desk.gate.ask("GET", "/api/health", &[("x-api-key", &desk.agent)], "").await.json()["checks"].clone()
}
