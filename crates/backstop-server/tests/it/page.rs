//! The page of approvals, as a browser uses it: who gets in, what a form needs, and that nothing is decided by looking or by text.

use crate::it::approvals::Desk;
use crate::it::kit::Answer;
use backstop_call::{Category, Labels};
use backstop_server::gateway::BellLimits;
use std::fmt::Write as _;

const EVIL: &str = "</pre><script>alert(1)</script>\"'><img src=x onerror=alert(2)>\u{202e}\u{200b}\u{1b}[2J";

/// A browser with its cookie.
pub(crate) struct Browser<'a> {
    desk: &'a Desk,
    pub(crate) cookie: String,
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (name, value) in fields {
        write!(text, "{}{name}=", if text.is_empty() { "" } else { "&" }).unwrap();
        for byte in value.bytes() {
            write!(text, "%{byte:02x}").unwrap();
        }
    }
    text
}

/// The value of a hidden field.
fn hidden(answer: &Answer, name: &str) -> String {
    let mark = format!("name=\"{name}\" value=\"");
    let (_, rest) = answer.text().split_once(&mark).unwrap_or_else(|| panic!("no {name}: {}", answer.text()));
    let value = rest.split('"').next().unwrap();
    value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
}

impl<'a> Browser<'a> {
    pub(crate) async fn log_in(desk: &'a Desk) -> Self {
        Self::log_in_with(desk, &desk.anna).await
    }

    pub(crate) async fn log_in_with(desk: &'a Desk, key: &str) -> Self {
        let mut browser = Self { desk, cookie: String::new() };
        let answer = browser.post("/login", &[("key", key), ("next", "/approvals")]).await;
        assert_eq!((answer.status(), answer.header("location")), (303, "/approvals"));
        let cookie = answer.header("set-cookie");
        assert!(cookie.contains("; Path=/; HttpOnly; SameSite=Strict; Max-Age=1800"), "{cookie}");
        cookie.split(';').next().unwrap().clone_into(&mut browser.cookie);
        browser
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let answer = self.desk.gate.ask("GET", path, &[("cookie", &self.cookie)], "").await;
        assert!(
            answer
                .header("content-security-policy")
                .starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{path}: {}",
            answer.status()
        );
        answer
    }

    pub(crate) async fn post(&self, path: &str, fields: &[(&str, &str)]) -> Answer {
        self.post_from("same-origin", path, fields).await
    }

    async fn post_from(&self, site: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let headers = [
            ("cookie", self.cookie.as_str()),
            ("content-type", "application/x-www-form-urlencoded"),
            ("sec-fetch-site", site),
        ];
        self.desk.gate.ask("POST", path, &headers, &encoded(fields)).await
    }

    pub(crate) async fn form(&self) -> String {
        hidden(&self.get("/approvals").await, "form")
    }
}

#[tokio::test]
async fn a_person_logs_in_looks_and_says_yes() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let list = browser.get("/approvals").await;
    assert!(list.text().contains(&format!("/approvals/{id}")) && list.text().contains("anna"));
    let path = format!("/approvals/{id}");
    let card = browser.get(&path).await;
    for shown in [
        "hello",
        "it cannot be taken back",
        "<ins>+hello\n</ins>",
        "<del>-nothing\n</del>",
        "somebody or something outside",
    ] {
        assert!(card.text().contains(shown), "{shown}: {}", card.text());
    }
    let form = hidden(&card, "form");
    let answer = browser.post(&format!("{path}/approve"), &[("form", &form)]).await;
    assert_eq!((answer.status(), answer.header("location")), (303, path.as_str()));
    assert_eq!(desk.over(&run).await, ["hello"]);
    let decided = desk.decided(&run).await;
    assert_eq!((decided[0].by.as_str(), decided[0].channel.as_str()), ("anna", "page"));
    let card = browser.get(&path).await;
    assert!(card.text().contains("It was approved by anna (page)"), "{}", card.text());
    assert!(!card.text().contains("<form class=\"card\""), "no button that does nothing");
    let again = browser.post(&format!("{path}/deny"), &[("form", &form)]).await;
    assert_eq!(again.status(), 409);
    assert!(
        again.text().contains("It was approved by anna") && !again.text().contains("<form class=\"card\"")
    );
    assert_eq!(desk.decided(&run).await.len(), 1);
}

#[tokio::test]
async fn only_a_key_that_approves_logs_in_and_why_not_is_not_told() {
    let desk = Desk::new("hello").await;
    let (_, id) = desk.ask().await;
    let stranger = Browser { desk: &desk, cookie: String::new() };
    let mut pages = Vec::new();
    for key in ["", "bsk_none-of-ours", desk.agent.as_str()] {
        let answer = stranger.post("/login", &[("key", key), ("next", "/approvals")]).await;
        assert_eq!((answer.status(), answer.header("set-cookie")), (401, ""));
        pages.push(answer.text().to_owned());
    }
    pages.dedup();
    assert_eq!(pages.len(), 1);
    for path in ["/approvals".to_owned(), format!("/approvals/{id}"), "/approvals/nothing".to_owned()] {
        let answer = stranger.get(&path).await;
        assert_eq!(answer.status(), 401);
        assert!(!answer.text().contains("hello"), "{path}");
    }
    let forged = Browser { desk: &desk, cookie: format!("backstop_session={}", "0".repeat(64)) };
    assert_eq!(forged.get("/approvals").await.status(), 401);
}

#[tokio::test]
async fn nothing_is_decided_by_a_form_that_is_not_the_sessions_or_by_looking() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let (anna, other) = (Browser::log_in(&desk).await, Browser::log_in(&desk).await);
    let (form, others) = (anna.form().await, other.form().await);
    let stranger = Browser { desk: &desk, cookie: String::new() };
    for act in ["approve", "deny", "edit", "preview"] {
        let path = format!("/approvals/{id}/{act}");
        let args = [("args", r#"{"line":"hi"}"#), ("preview_hash", "")];
        let with = |form| [[("form", form)].as_slice(), &args].concat();
        let rows = [
            (anna.post(&path, &args).await, 403),
            (anna.post(&path, &with("")).await, 403),
            (anna.post(&path, &with(&others)).await, 403),
            (anna.post_from("cross-site", &path, &with(&form)).await, 403),
            (anna.post_from("same-site", &path, &with(&form)).await, 403),
            (stranger.post(&path, &with(&form)).await, 401),
            (anna.get_refused(&path).await, 405),
        ];
        for (n, (answer, status)) in rows.iter().enumerate() {
            assert_eq!(answer.status(), *status, "{act}, row {n}: {}", answer.text());
        }
    }
    assert!(desk.decided(&run).await.is_empty() && desk.sent().is_empty());
    assert_eq!(anna.post("/logout", &[]).await.status(), 403);
    assert_eq!(anna.post("/logout", &[("form", &form)]).await.status(), 303);
    assert_eq!(anna.get("/approvals").await.status(), 401, "logged out");
    assert_eq!(anna.post(&format!("/approvals/{id}/approve"), &[("form", &form)]).await.status(), 401);
    backstop_server::keys::revoke(
        &**desk.gate.backstop.journal(),
        &"anna".into(),
        "t",
        desk.gate.backstop.clock().now(),
    )
    .await
    .unwrap();
    desk.gate.gateway.refresh_keys().await.unwrap();
    assert_eq!(other.get("/approvals").await.status(), 401, "a key that was revoked ends its sessions");
}

impl Browser<'_> {
    /// A look where only a form may go.
    async fn get_refused(&self, path: &str) -> Answer {
        self.desk.gate.ask("GET", path, &[("cookie", &self.cookie)], "").await
    }
}

#[tokio::test]
async fn other_arguments_are_shown_and_then_taken() {
    let desk = Desk::new("hello").await;
    let (run, id) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let (path, form) = (format!("/approvals/{id}"), browser.form().await);
    let broken = browser.post(&format!("{path}/preview"), &[("form", &form), ("args", "{\"line\": <")]).await;
    assert_eq!(broken.status(), 422);
    assert!(
        broken.text().contains("{&quot;line&quot;: &lt;"),
        "what was typed is not lost: {}",
        broken.text()
    );
    let shown = browser
        .post(&format!("{path}/preview"), &[("form", &form), ("args", "{\"line\":\r\n \"hi <b>\"}")])
        .await;
    assert_eq!(shown.status(), 200);
    assert!(shown.text().contains("<ins>+hi &lt;b&gt;\n</ins>"), "{}", shown.text());
    assert!(desk.decided(&run).await.is_empty(), "to look is no answer");
    let (args, hash) = (hidden(&shown, "args"), hidden(&shown, "preview_hash"));
    let edit = format!("{path}/edit");
    let stale =
        browser.post(&edit, &[("form", &form), ("args", "{\"line\":\"ho\"}"), ("preview_hash", &hash)]).await;
    assert_eq!(stale.status(), 409);
    let taken = browser
        .post(&edit, &[("form", &form), ("args", &args), ("preview_hash", &hash), ("reason", "short")])
        .await;
    assert_eq!(taken.status(), 303);
    assert_eq!(desk.over(&run).await, ["hi <b>"]);
}

#[tokio::test]
async fn text_of_a_model_is_never_markup_and_never_hides() {
    let desk = Desk::new(EVIL).await;
    let (_, id) = desk.ask().await;
    let browser = Browser::log_in(&desk).await;
    let (path, form) = (format!("/approvals/{id}"), browser.form().await);
    let typed = serde_json::json!({"line": EVIL}).to_string();
    let pages = [
        browser.get("/approvals").await,
        browser.get(&path).await,
        browser.post(&format!("{path}/preview"), &[("form", &form), ("args", EVIL)]).await,
        browser
            .post(&format!("{path}/preview"), &[("form", &form), ("args", &typed), ("reason", EVIL)])
            .await,
        browser.post(&format!("{path}/deny"), &[("form", &form), ("reason", EVIL)]).await,
        browser.get(&path).await,
    ];
    for (n, page) in pages.iter().enumerate() {
        assert!(
            !page.text().contains("<script>") && !page.text().contains("<img"),
            "page {n}: {}",
            page.text()
        );
        assert!(!page.text().contains('\u{1b}'), "page {n}");
    }
    let card = pages[1].text();
    assert!(card.contains("\\u{202e}\\u{200b}\\u{1b}[2J") && !card.contains('\u{202e}'), "{card}");
    assert!(pages[5].text().contains("Reason: &lt;/pre&gt;"), "{}", pages[5].text());
}

#[tokio::test]
async fn a_link_shows_one_question_and_decides_nothing() {
    let mailbox = crate::it::upstream::Upstream::always(crate::it::upstream::answer("200 OK", &[], "")).await;
    let hook = format!("[[approvals.webhooks]]\nurl = \"{}\"\nsecret = \"env:HOOK\"\n", mailbox.url());
    let desk = Desk::with("hello", &hook, &[("HOOK", "shared")], BellLimits::default()).await;
    let (run, id) = desk.ask().await;
    let told = mailbox.wait("the message", |seen| !seen.asked.is_empty()).await;
    let body: serde_json::Value = serde_json::from_str(told.asked[0].text()).unwrap();
    let link = body["link"].as_str().unwrap();
    let path = link.strip_prefix(&format!("http://{}", desk.gate.addr)).unwrap();
    let scanner = Browser { desk: &desk, cookie: String::new() };
    for _ in 0..3 {
        let page = scanner.get(path).await;
        assert_eq!(page.status(), 200);
        assert!(page.text().contains("hello") && page.text().contains("Sign in to answer"));
        assert!(!page.text().contains("<form class=\"card\""), "{}", page.text());
    }
    desk.ask_with(Labels::private(Category::Health)).await;
    let told = mailbox.wait("the private message", |seen| seen.asked.len() > 1).await;
    let body: serde_json::Value = serde_json::from_str(told.asked[1].text()).unwrap();
    assert_eq!((&body["withheld"], &body["args"], &body["preview"]), (&true.into(), &().into(), &().into()));
    let private = body["link"].as_str().unwrap().strip_prefix(&format!("http://{}", desk.gate.addr)).unwrap();
    let page = scanner.get(private).await;
    assert_eq!(page.status(), 401, "what is private is shown to those who are logged in");
    assert!(!page.text().contains("hello"));
    let (_, other) = desk.ask().await;
    for wrong in [path.replace(&id, &other), path.replace("sig=", "sig=0"), path.replace("until=", "until=9")]
    {
        assert_eq!(scanner.get(&wrong).await.status(), 401, "{wrong}");
    }
    assert!(desk.decided(&run).await.is_empty());
}
