//! Mail against a server of a few lines that speaks SMTP, and fails in every way that matters.

use crate::kit::Room;
use backstop_agent::tool::Job;
use backstop_agent::{Probe, Tool, ToolError};
use backstop_call::Secret;
use backstop_label::{ArgRole, Class, Effect};
use backstop_tools::mail::{MailGrant, Postman, mail_tool};
use expect_test::expect;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// How the server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    SaysNothing,
    RefusesLogin,
    RefusesSender,
    RefusesOneRecipient,
    RefusesData,
    DropsAtData,
    RefusesMessage,
    DropsAfterTheDot,
    HangsAfterTheDot,
    BabblesAfterTheDot,
    HangsAtGoodbye,
}

struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Server {
    async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&heard);
        let mut task = JoinSet::new();
        task.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever hangs up is not answered any more.
                let _ = talk(BufStream::new(stream), fault, &kept).await;
            }
        });
        Self { port, heard, _task: task }
    }

    /// The commands it heard; a message is one of them.
    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }

    fn message(&self) -> Option<String> {
        self.heard().into_iter().find(|heard| heard.contains("\r\nSubject: ") || heard.starts_with("From: "))
    }
}

async fn talk(
    mut stream: BufStream<TcpStream>,
    fault: Fault,
    heard: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    if fault == Fault::SaysNothing {
        return hang(&mut stream).await;
    }
    let mut answer = "220 hello\r\n".to_owned();
    loop {
        stream.write_all(answer.as_bytes()).await?;
        stream.flush().await?;
        let Some(line) = line(&mut stream).await? else { return Ok(()) };
        heard.lock().unwrap().push(line.trim_end().to_owned());
        let verb = line.split_whitespace().next().unwrap_or_default();
        answer = match (verb, fault) {
            ("EHLO", _) => "250-here\r\n250-8BITMIME\r\n250 AUTH PLAIN\r\n",
            ("AUTH", Fault::RefusesLogin) => "535 wrong password canary-password\r\n",
            ("AUTH", _) => "235 welcome\r\n",
            ("MAIL", Fault::RefusesSender) => "451 not now\r\n",
            ("RCPT", Fault::RefusesOneRecipient) if line.contains("bob@") => "550 no bob here\r\n",
            ("DATA", Fault::RefusesData) => "554 no\r\n",
            ("DATA", Fault::DropsAtData) => return Ok(()),
            ("DATA", _) => {
                stream.write_all(b"354 go on\r\n").await?;
                stream.flush().await?;
                let message = message(&mut stream).await?;
                heard.lock().unwrap().push(message);
                match fault {
                    Fault::DropsAfterTheDot => return Ok(()),
                    Fault::HangsAfterTheDot => return hang(&mut stream).await,
                    Fault::BabblesAfterTheDot => "what?\r\n",
                    Fault::RefusesMessage => "554 spam\r\n",
                    _ => "250 taken\r\n",
                }
            }
            ("QUIT", Fault::HangsAtGoodbye) => return hang(&mut stream).await,
            ("QUIT", _) => "221 bye\r\n",
            _ => "250 fine\r\n",
        }
        .to_owned();
    }
}

/// Until the other side goes away.
async fn hang(stream: &mut BufStream<TcpStream>) -> std::io::Result<()> {
    while line(stream).await?.is_some() {}
    Ok(())
}

async fn line(stream: &mut BufStream<TcpStream>) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    Ok((stream.read_line(&mut line).await? > 0).then_some(line))
}

async fn message(stream: &mut BufStream<TcpStream>) -> std::io::Result<String> {
    let mut message = String::new();
    while let Some(line) = line(stream).await? {
        if line == ".\r\n" {
            break;
        }
        message += &line;
    }
    Ok(message)
}

fn grant(port: u16) -> MailGrant {
    serde_json::from_value(json!({
        "server": "127.0.0.1",
        "port": port,
        "tls": "none",
        "from": "Night Report <agent@example.com>",
        "recipients": ["*@team.test"],
        "attachments": true,
        "timeout-seconds": 10,
    }))
    .unwrap()
}

fn tool(grant: &MailGrant) -> Arc<dyn Tool> {
    mail_tool(grant, &|_| Ok(Secret::new("canary-password\n"))).unwrap()
}

fn to_ann(body: &str) -> Value {
    json!({"to": ["ann@team.test"], "subject": "Hello", "body": body})
}

async fn send(tool: &Arc<dyn Tool>, room: &Room, args: Value) -> Result<String, ToolError> {
    let plan = room.plan(tool, &args).await.map_err(ToolError::Failed)?;
    room.run(tool, &Job { args, plan: plan.body, key: "key-1".into() }).await
}

#[tokio::test]
async fn a_message_arrives_as_it_was_shown() {
    let server = Server::start(Fault::None).await;
    let room = Room::new(&[("out/report.csv", "a,b\r\n1,2\n")]);
    let tool =
        tool(&MailGrant { user: Some("agent".into()), password: Some("env:P".into()), ..grant(server.port) });
    let args = json!({
        "to": ["ann@team.test", "bob@TEAM.test"],
        "cc": ["eve@team.test"],
        "bcc": ["zoe@team.test"],
        "subject": "Zahlen für heute",
        "body": "Hi,\nall is \u{202e}well.\n.\n.dot\r\nBye",
        "attachments": ["out/report.csv"],
    });
    let plan = room.plan(&tool, &args).await.unwrap();
    expect![[r"
        From: Night Report <agent@example.com>
        To: ann@team.test, bob@team.test
        Cc: eve@team.test
        Bcc: zoe@team.test
        Subject: Zahlen für heute
        Attached: out/report.csv (9 bytes, blake3 9b500b48e2eebb8a…)

        Hi,
        all is \u{202e}well.
        .
        .dot
        Bye"]]
    .assert_eq(&plan.preview);
    assert_eq!((plan.effect, plan.undo), (None, None));
    assert_eq!(server.heard(), [""; 0], "planning tells nobody");
    let told = send(&tool, &room, args).await.unwrap();
    assert_eq!(
        told,
        "The mail server took the message for ann@team.test, bob@team.test, eve@team.test, zoe@team.test."
    );
    let message = server.message().unwrap();
    let commands: Vec<_> = server.heard().into_iter().filter(|heard| *heard != message).collect();
    assert_eq!(
        commands,
        [
            "EHLO example.com",
            "AUTH PLAIN AGFnZW50AGNhbmFyeS1wYXNzd29yZA==",
            "MAIL FROM:<agent@example.com>",
            "RCPT TO:<ann@team.test>",
            "RCPT TO:<bob@team.test>",
            "RCPT TO:<eve@team.test>",
            "RCPT TO:<zoe@team.test>",
            "DATA",
            "QUIT",
        ]
    );
    let (head, body) = message.split_once("\r\n\r\n").unwrap();
    let mut headers: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with(' ')).collect();
    headers.retain(|line| !line.starts_with("Date: ") && !line.starts_with("Content-Type: multipart/mixed;"));
    expect![[r#"
        From: "Night Report" <agent@example.com>
        Subject: Zahlen =?utf-8?b?ZsO8cg==?= heute
        Message-ID: <e237f11633a6cd72121cb2901324dd34@example.com>
        Auto-Submitted: auto-generated
        To: ann@team.test, bob@team.test
        Cc: eve@team.test
        MIME-Version: 1.0"#]]
    .assert_eq(&headers.join("\n"));
    for bare in [
        message.replace("\r\n", "").contains('\n'),
        message.replace("\r\n", "").contains('\r'),
        message.contains("zoe@"),
    ] {
        assert!(!bare, "{message:?}");
    }
    assert!(message.is_ascii(), "{message}");
    for part in [
        "\r\n\r\nHi,\r\nall is =E2=80=AEwell.\r\n..\r\n..dot\r\nBye\r\n--",
        "Content-Disposition: attachment; filename=\"report.csv\"\r\n",
        "\r\n\r\nYSxiDQoxLDIK\r\n--",
    ] {
        assert!(body.contains(part), "{part:?} in {body:?}");
    }
    assert!(!body.contains("out/"), "where the file lies is not told: {body}");
}

#[tokio::test]
async fn no_text_ends_the_message_or_a_line_of_it() {
    let server = Server::start(Fault::None).await;
    let text = "a\n.\nQUIT\r.\r\n.\r\nMAIL FROM:<eve@evil.test>\n";
    let room = Room::new(&[("tricky.txt", text)]);
    let long = format!("{text}{}", "x".repeat(5_000));
    let args = json!({"to": ["ann@team.test"], "subject": "s", "body": long, "attachments": ["tricky.txt"]});
    send(&tool(&grant(server.port)), &room, args).await.unwrap();
    let message = server.message().unwrap();
    assert!(!message.replace("\r\n", "").contains(['\n', '\r']), "{message:?}");
    assert!(message.lines().all(|line| line.len() <= 78), "{message}");
    let commands = server.heard().into_iter().filter(|heard| *heard != message).count();
    assert_eq!(commands, ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"].len());
}

#[tokio::test]
async fn the_same_call_has_the_same_message_id() {
    let server = Server::start(Fault::None).await;
    let (room, tool) = (Room::new(&[]), tool(&grant(server.port)));
    for _ in 0..2 {
        send(&tool, &room, to_ann("hi")).await.unwrap();
    }
    let args = to_ann("hi");
    let job = Job { args, plan: json!([]), key: "other".into() };
    room.run(&tool, &job).await.unwrap();
    let ids: Vec<_> = server
        .heard()
        .iter()
        .filter_map(|heard| {
            heard.lines().find_map(|line| line.strip_prefix("Message-ID: ").map(str::to_owned))
        })
        .collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] == ids[1] && ids[1] != ids[2] && ids[0].ends_with("@example.com>"), "{ids:?}");
}

#[tokio::test]
async fn each_way_to_fail_is_told_for_what_it_is() {
    use Fault::{
        BabblesAfterTheDot, DropsAfterTheDot, DropsAtData, HangsAfterTheDot, HangsAtGoodbye, RefusesData,
        RefusesLogin, RefusesMessage, RefusesOneRecipient, RefusesSender, SaysNothing,
    };
    let unknown = |why: &str| {
        Err(ToolError::Unknown(format!("the message was on its way when {why}; it may have been sent")))
    };
    let failed = |text: &str| Err(ToolError::Failed(text.to_owned()));
    let lost = "the connection to the mail server was lost";
    for (fault, was_sent, want) in [
        (
            HangsAtGoodbye,
            true,
            Ok("The mail server took the message for ann@team.test, bob@team.test.".to_owned()),
        ),
        (
            SaysNothing,
            false,
            failed("The mail server did not answer in time; nothing was sent. Try again later."),
        ),
        (
            RefusesLogin,
            false,
            failed(
                "The mail server cannot be used: permanent error (535): wrong password [secret]. Nothing was sent. Correct it, or say that it could not be sent.",
            ),
        ),
        (
            RefusesSender,
            false,
            failed(
                "The mail server refuses the sender: transient error (451): not now. Nothing was sent. Try again later.",
            ),
        ),
        (
            RefusesOneRecipient,
            false,
            failed(
                "The mail server refuses bob@team.test: permanent error (550): no bob here. Nothing was sent. Correct it, or say that it could not be sent.",
            ),
        ),
        (
            RefusesData,
            false,
            failed(
                "The mail server refuses to take a message: permanent error (554): no. Nothing was sent. Correct it, or say that it could not be sent.",
            ),
        ),
        (
            DropsAtData,
            false,
            failed(
                "The mail server refuses to take a message: response error: incomplete response. Nothing was sent. Correct it, or say that it could not be sent.",
            ),
        ),
        (
            RefusesMessage,
            true,
            failed(
                "The mail server refuses the message: permanent error (554): spam. Nothing was sent. Correct it, or say that it could not be sent.",
            ),
        ),
        (DropsAfterTheDot, true, unknown(lost)),
        (BabblesAfterTheDot, true, unknown(lost)),
        (HangsAfterTheDot, true, unknown("the mail server did not answer in time")),
    ] {
        let server = Server::start(fault).await;
        let login =
            MailGrant { user: Some("agent".into()), password: Some("env:P".into()), ..grant(server.port) };
        let tool = tool(&MailGrant { timeout_seconds: 1, ..login });
        let args = json!({"to": ["ann@team.test"], "cc": ["bob@team.test"], "subject": "s", "body": "b"});
        assert_eq!(send(&tool, &Room::new(&[]), args).await, want, "{fault:?}");
        assert_eq!(server.message().is_some(), was_sent, "{fault:?}");
    }
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let nobody = send(&tool(&grant(port)), &Room::new(&[]), to_ann("b")).await.unwrap_err();
    assert!(matches!(&nobody, ToolError::Failed(text) if text.contains("Connection refused")), "{nobody}");
}

#[tokio::test]
async fn tls_that_is_granted_is_spoken_or_nothing_is() {
    for tls in ["implicit", "starttls"] {
        let server = Server::start(Fault::None).await;
        let mut grant = serde_json::to_value(grant(server.port)).unwrap();
        grant["tls"] = json!(tls);
        (grant["user"], grant["password"], grant["timeout-seconds"]) = (json!("u"), json!("env:P"), json!(1));
        let tool = tool(&serde_json::from_value(grant).unwrap());
        let refused = send(&tool, &Room::new(&[]), to_ann("b")).await.unwrap_err();
        assert!(matches!(refused, ToolError::Failed(_)), "{tls}: {refused:?}");
        let heard = server.heard().join("\n");
        assert!(!heard.contains("AUTH") && !heard.contains("MAIL"), "{tls}: {heard}");
    }
}

#[tokio::test]
async fn hostile_arguments_reach_no_server() {
    let server = Server::start(Fault::None).await;
    let room = Room::new(&[("small.txt", "x"), ("large.txt", &"x".repeat(4_000))]);
    let tool = tool(&MailGrant { max_recipients: 2, max_bytes: 3_000, ..grant(server.port) });
    let with = |name: &str, value: Value| {
        let mut args = to_ann("b");
        args[name] = value;
        args
    };
    for (args, want) in [
        (with("to", json!([])), "[] has less than 1 item"),
        (with("to", json!("ann@team.test")), "is not of type \"array\""),
        (with("from", json!("boss@team.test")), "'from' was unexpected"),
        (with("headers", json!({"Bcc": "x"})), "'headers' was unexpected"),
        (
            with("to", json!(["eve@evil.test"])),
            "Mail to `eve@evil.test` is not granted. You may write to: *@team.test.",
        ),
        (with("bcc", json!(["eve@evil.test"])), "is not granted"),
        (with("to", json!(["ann@team.test\r\nRCPT TO:<eve@evil.test>"])), "is no plain address"),
        (
            with("cc", json!(["b@team.test", "c@team.test"])),
            "between 1 and 2 recipients, and at least one in `to`; this one has 3",
        ),
        (with("subject", json!("a\r\nBcc: eve@evil.test")), "The subject has a line break"),
        (with("subject", json!("a\nb")), "The subject has a line break"),
        (with("subject", json!("x".repeat(251))), "more than 250 characters"),
        (with("body", json!("a\0b")), "The body has control characters"),
        (with("body", json!("x".repeat(3_000))), "more than the 3000 that may be sent"),
        (
            with("attachments", json!(["large.txt"])),
            "`large.txt` does not fit: a message has at most 3000 bytes.",
        ),
        (with("attachments", json!(["../secret"])), "`../secret` leads outside the workspace."),
        (with("attachments", json!(["/etc/passwd"])), "`/etc/passwd` leads outside the workspace."),
        (with("attachments", json!(["none"])), "`none` is not there. Attach files by their paths"),
    ] {
        let refused = room.call(&tool, args.clone()).await.unwrap_err();
        assert!(refused.contains(want), "{args}: {refused}");
    }
    let plain =
        mail_tool(&MailGrant { attachments: false, ..grant(server.port) }, &|_| Err(String::new())).unwrap();
    let refused = room.call(&plain, with("attachments", json!(["small.txt"]))).await.unwrap_err();
    assert_eq!(refused, "Attachments are not granted. Put the text in the body.");
    assert_eq!(server.heard(), [""; 0]);
}

#[tokio::test]
async fn an_attachment_that_changed_since_it_was_shown_is_not_sent() {
    let server = Server::start(Fault::None).await;
    let (room, tool) = (Room::new(&[("a.txt", "shown")]), tool(&grant(server.port)));
    let args = json!({"to": ["ann@team.test"], "subject": "s", "body": "b", "attachments": ["a.txt"]});
    let plan = room.plan(&tool, &args).await.unwrap();
    std::fs::write(room.path().join("a.txt"), "other").unwrap();
    let job = Job { args, plan: plan.body, key: "k".into() };
    let refused = room.run(&tool, &job).await.unwrap_err();
    assert!(
        matches!(&refused, ToolError::Failed(text) if text.contains("changed since it was shown")),
        "{refused}"
    );
    assert_eq!(server.heard(), [""; 0]);
    assert!(matches!(tool.probe(&job, &room.context).await, Probe::Unsure(_)));
}

#[test]
fn it_declares_the_worst() {
    let tool = tool(&grant(1));
    let declaration = tool.declaration();
    assert_eq!((declaration.class, declaration.effect), (Class::Irreversible, Effect::External));
    let roles = ["to", "cc", "bcc", "subject", "body"].map(|arg| declaration.role_of(arg));
    let (sink, content) = (ArgRole::Sink, ArgRole::Content);
    assert_eq!(roles, [sink, sink, sink, content, content]);
    assert!(tool.undoing().is_none());
}

/// What Backstop itself sends: to everybody whom the owner named, one address each, and to no pattern.
#[tokio::test]
async fn a_postman_writes_to_all_that_were_named() {
    let server = Server::start(Fault::None).await;
    let named = |recipients: &[&str]| MailGrant {
        recipients: recipients.iter().map(|text| (*text).to_owned()).collect(),
        ..grant(server.port)
    };
    let secret = |_: &str| Err("there is none".to_owned());
    let postman = Postman::new(&named(&["ann@one.example", "bob@two.example"]), &secret).unwrap();
    postman.send("[critical] queue", "60 tasks wait\n.\nand more", "n-1").await.unwrap();
    let message = server.message().unwrap();
    for part in ["Subject: [critical] queue", "To: ann@one.example, bob@two.example", "60 tasks wait"] {
        assert!(message.contains(part), "{part} is not in\n{message}");
    }
    for bad in [&["*@one.example"][..], &["no address"], &[]] {
        assert!(Postman::new(&named(bad), &secret).is_err(), "{bad:?}");
    }
    let refused = postman.send("two\nlines", "x", "n-2").await.unwrap_err();
    assert!(refused.contains("subject"), "{refused}");
}
