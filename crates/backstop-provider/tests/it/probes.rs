//! Probing a provider, and finding what is there without config.

use crate::fixtures::{DIALECTS, Fixed, JSON, KEY, endpoint, http};
use crate::raw::{Answer, Server, Then};
use backstop_call::{Code, Dialect, FailureKind, Progress};
use backstop_provider::{HttpClient, discover, probe};

const LIST: &str = r#"{"object":"list","data":[{"id":"model-2","created":1},{"id":"model-1"}]}"#;

#[tokio::test]
async fn a_probe_proves_address_and_key() {
    for dialect in DIALECTS {
        let server = Server::always(Answer::new(http("200 OK", &[JSON], LIST), Then::Next)).await;
        let report = probe(&HttpClient::new(), &endpoint(dialect, &server.url()), &Fixed).await.unwrap();
        assert_eq!(report.models.unwrap(), ["model-2", "model-1"]);
        let seen = server.seen().requests.remove(0);
        let line = if dialect == Dialect::Messages { "GET /v1/v1/models " } else { "GET /v1/models " };
        assert!(seen.starts_with(line) && seen.contains(KEY), "{seen}");
    }
}

#[tokio::test]
async fn what_a_probe_finds_wrong() {
    let refused = r#"{"error":{"type":"invalid_request_error","code":"invalid_api_key","message":"wrong key sk-canary-4711"}}"#;
    let rows: [(Vec<u8>, FailureKind, Code); 4] = [
        (http("401 Unauthorized", &[JSON], refused), FailureKind::Auth, Code::KeyRefused),
        (http("503 Service Unavailable", &[], ""), FailureKind::Transient, Code::ProviderFailed),
        (http("200 OK", &[], "<html>"), FailureKind::Malformed, Code::AnswerMalformed),
        (b"SMTP ready\r\n".to_vec(), FailureKind::Malformed, Code::AnswerMalformed),
    ];
    for (bytes, kind, code) in rows {
        let server = Server::always(Answer::new(bytes, Then::Close)).await;
        let endpoint = endpoint(Dialect::Chat, &server.url());
        let failure = probe(&HttpClient::new(), &endpoint, &Fixed).await.unwrap_err();
        assert_eq!((failure.kind, failure.code()), (kind, code), "{failure:?}");
        assert!(!format!("{failure} {failure:?}").contains(KEY));
    }
    let failure =
        probe(&HttpClient::new(), &endpoint(Dialect::Chat, &gone().await), &Fixed).await.unwrap_err();
    assert_eq!((failure.code(), failure.progress), (Code::Unreachable, Progress::NotSent));
    let server = Server::always(Answer::new(http("404 Not Found", &[], ""), Then::Next)).await;
    let report = probe(&HttpClient::new(), &endpoint(Dialect::Chat, &server.url()), &Fixed).await.unwrap();
    assert_eq!(report.models, None, "it is there and has no list");
}

/// An address where nothing listens.
pub(crate) async fn gone() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/v1", listener.local_addr().unwrap())
}

#[tokio::test]
async fn what_is_there_is_found() {
    let server = Server::always(Answer::new(http("200 OK", &[JSON], LIST), Then::Next)).await;
    let addr = server.addr.to_string();
    let env = |name: &str| match name {
        "ANTHROPIC_API_KEY" => Some(KEY.to_owned()),
        "OLLAMA_HOST" => Some(addr.clone()),
        _ => None,
    };
    let found = discover(env, &HttpClient::new(), &Fixed).await.unwrap();
    let names: Vec<(&str, &str, bool)> = found
        .iter()
        .map(|one| (one.endpoint.name.as_str(), one.models[0].as_str(), one.endpoint.local))
        .collect();
    assert_eq!(names, [("anthropic", "claude-sonnet-5-5", false), ("ollama", "model-2", true)]);
    assert!(!server.seen().requests[0].contains(KEY), "no key goes to another provider");
}

#[tokio::test]
async fn nothing_there_is_nothing_found() {
    let silent = Server::always(Answer::new("", Then::Hang)).await;
    let empty = Server::always(Answer::new(http("200 OK", &[JSON], r#"{"data":[]}"#), Then::Next)).await;
    for host in [gone().await, silent.url(), empty.url()] {
        let host = host.trim_end_matches("/v1").to_owned();
        let env = |name: &str| (name == "OLLAMA_HOST").then(|| host.clone());
        assert!(discover(env, &HttpClient::new(), &Fixed).await.unwrap().is_empty(), "{host}");
    }
    let wrong = |name: &str| match name {
        "OPENAI_API_KEY" => Some(KEY.to_owned()),
        "OPENAI_BASE_URL" => Some("not a url".to_owned()),
        _ => None,
    };
    let error = discover(wrong, &HttpClient::new(), &Fixed).await.unwrap_err();
    assert_eq!(error.to_string(), "the environment variable OPENAI_BASE_URL cannot be used");
}
