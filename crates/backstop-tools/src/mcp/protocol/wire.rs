//! The ways to a server as the library wants them: the pipes to a program, our own HTTP client, and around both the bound on
//! how many messages may come at once. Decides nothing about what a message means.

use super::super::flood::Flood;
use super::super::http::{self, Web, WebFault};
use super::super::stdio::{Lines, Stdin};
use super::Link;
use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rmcp::RoleClient;
use rmcp::model::{ClientJsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::Transport;
use rmcp::transport::common::client_side_sse::BoxedSseResponse;
use rmcp::transport::streamable_http_client::{
    StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
};
use sse_stream::SseStream;
use std::collections::HashMap;
use std::error::Error as StdError;
use std::io;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdout;
use tokio::time::Instant;

/// So many lines in a row that are no messages, and the connection ends.
const NOISE_MAX_LINES: u32 = 1_000;
const BOTH: &str = "application/json, text/event-stream";

/// A transport that ends when its server floods, or when it was told to.
pub(super) struct Bounded<T> {
    inner: T,
    flood: Flood,
    link: Arc<Link>,
}

impl<T> Bounded<T> {
    pub(super) fn new(inner: T, flood: Flood, link: Arc<Link>) -> Self {
        Self { inner, flood, link }
    }
}

impl<T: Transport<RoleClient>> Transport<RoleClient> for Bounded<T> {
    type Error = T::Error;

    fn send(
        &mut self,
        item: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send + 'static {
        self.inner.send(item)
    }

    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        if self.link.reason.get().is_some() {
            return None;
        }
        let message = tokio::select! {
            message = self.inner.receive() => message?,
            () = self.link.over.notified() => return None,
        };
        if self.flood.take(Instant::now(), 1) {
            return Some(message);
        }
        self.link.end("it sent too many messages at once".to_owned());
        None
    }

    fn close(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send {
        self.inner.close()
    }
}

/// The pipes to a program, as a transport.
pub(super) struct Pipe {
    lines: Lines<ChildStdout>,
    stdin: Arc<tokio::sync::Mutex<Stdin>>,
    link: Arc<Link>,
}

impl Pipe {
    pub(super) fn new(lines: Lines<ChildStdout>, stdin: Stdin, link: Arc<Link>) -> Self {
        Self { lines, stdin: Arc::new(tokio::sync::Mutex::new(stdin)), link }
    }
}

impl Transport<RoleClient> for Pipe {
    type Error = io::Error;

    fn send(
        &mut self,
        item: ClientJsonRpcMessage,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let stdin = Arc::clone(&self.stdin);
        async move {
            let mut line = serde_json::to_vec(&item)?;
            line.push(b'\n');
            let mut stdin = stdin.lock().await;
            stdin.write_all(&line).await?;
            stdin.flush().await
        }
    }

    /// What is no message is left out: some servers print to their stdout what belongs on stderr.
    async fn receive(&mut self) -> Option<ServerJsonRpcMessage> {
        let mut noise = 0_u32;
        loop {
            let line = match self.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => {
                    let how = match &self.link.process {
                        Some(process) => process.end().await,
                        None => String::new(),
                    };
                    self.link.end(format!("it ended{how}"));
                    return None;
                }
                Err(error) => {
                    self.link.end(error.to_string());
                    return None;
                }
            };
            if let Ok(message) = serde_json::from_slice(&line) {
                return Some(message);
            }
            noise += 1;
            if noise > NOISE_MAX_LINES {
                self.link.end("it prints what is no message of the protocol".to_owned());
                return None;
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        if let Some(process) = &self.link.process {
            process.kill();
        }
        Ok(())
    }
}

/// Our client, as the library wants one.
#[derive(Clone)]
pub(super) struct Client {
    web: Web,
    link: Arc<Link>,
}

type WebResult<T> = Result<T, StreamableHttpError<WebFault>>;

impl Client {
    pub(super) fn new(web: Web, link: Arc<Link>) -> Self {
        Self { web, link }
    }

    fn headers(own: HashMap<HeaderName, HeaderValue>, session: Option<&Arc<str>>) -> WebResult<HeaderMap> {
        let mut headers: HeaderMap = own.into_iter().collect();
        if let Some(session) = session {
            http::header(&mut headers, "mcp-session-id", session).map_err(StreamableHttpError::Client)?;
        }
        Ok(headers)
    }

    fn stream(&self, body: Incoming) -> BoxedSseResponse {
        let link = Arc::clone(&self.link);
        let events = self.web.events(body).map_err(move |fault| {
            if matches!(fault, WebFault::Flood(_)) {
                link.end(fault.to_string());
            }
            fault
        });
        Box::pin(SseStream::new(events))
    }

    async fn failed(&self, status: StatusCode, body: Incoming) -> StreamableHttpError<WebFault> {
        StreamableHttpError::Client(self.web.turned(status, body).await)
    }
}

impl StreamableHttpClient for Client {
    type Error = WebFault;

    async fn post_message(
        &self,
        _: Arc<str>,
        message: ClientJsonRpcMessage,
        session: Option<Arc<str>>,
        _: Option<String>,
        own: HashMap<HeaderName, HeaderValue>,
    ) -> WebResult<StreamableHttpPostResponse> {
        let headers = Self::headers(own, session.as_ref())?;
        let is_request = matches!(message, ClientJsonRpcMessage::Request(_));
        let body = serde_json::to_vec(&message)?;
        let sent = self.web.send(Method::POST, headers, BOTH, Some(body)).await;
        let (head, body) = sent.map_err(StreamableHttpError::Client)?;
        if !head.status.is_success() {
            return Err(self.failed(head.status, body).await);
        }
        if !is_request || matches!(head.status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
            return Ok(StreamableHttpPostResponse::Accepted);
        }
        let text =
            |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let session = text("mcp-session-id");
        let kind = text("content-type").unwrap_or_default().to_ascii_lowercase();
        match kind.split(';').next().unwrap_or_default().trim() {
            "text/event-stream" => Ok(StreamableHttpPostResponse::Sse(self.stream(body), session)),
            "application/json" => {
                let whole = self.web.whole(body).await.map_err(StreamableHttpError::Client)?;
                let message = serde_json::from_slice(&whole).map_err(|_| {
                    StreamableHttpError::Client(WebFault::Failed("its answer is no message".to_owned()))
                })?;
                Ok(StreamableHttpPostResponse::Json(message, session))
            }
            _ => Err(StreamableHttpError::Client(WebFault::Failed(
                "its answer is neither JSON nor events".to_owned(),
            ))),
        }
    }

    async fn delete_session(
        &self,
        _: Arc<str>,
        session: Arc<str>,
        _: Option<String>,
        own: HashMap<HeaderName, HeaderValue>,
    ) -> WebResult<()> {
        let headers = Self::headers(own, Some(&session))?;
        let sent = self.web.send(Method::DELETE, headers, BOTH, None).await;
        sent.map(drop).map_err(StreamableHttpError::Client)
    }

    async fn get_stream(
        &self,
        _: Arc<str>,
        session: Option<Arc<str>>,
        last_event: Option<String>,
        _: Option<String>,
        own: HashMap<HeaderName, HeaderValue>,
    ) -> WebResult<BoxedSseResponse> {
        let mut headers = Self::headers(own, session.as_ref())?;
        if let Some(last_event) = last_event {
            http::header(&mut headers, "last-event-id", &last_event).map_err(StreamableHttpError::Client)?;
        }
        let sent = self.web.send(Method::GET, headers, "text/event-stream", None).await;
        let (head, body) = sent.map_err(StreamableHttpError::Client)?;
        match head.status {
            status if status.is_success() => Ok(self.stream(body)),
            StatusCode::METHOD_NOT_ALLOWED => Err(StreamableHttpError::ServerDoesNotSupportSse),
            status => Err(self.failed(status, body).await),
        }
    }
}

/// Our own error at the bottom of one of the library's.
pub(super) fn web_fault<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a WebFault> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(fault) = current.downcast_ref::<WebFault>() {
            return Some(fault);
        }
        if let Some(StreamableHttpError::<WebFault>::Client(fault)) = current.downcast_ref() {
            return Some(fault);
        }
        error = current.source();
    }
    None
}
