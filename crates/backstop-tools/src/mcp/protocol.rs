//! The protocol, by `rmcp`; nothing outside of this file and its one part knows it. Turns lines and events into [`Session`], with a bound on every wait and
//! every message. Reads no hints, keeps no cache, and answers what a server asks for with a refusal.

mod wire;

use super::definition::Definition;
use super::flood::Flood;
use super::grant::McpLimits;
use super::http::{Web, WebFault};
use super::session::{Answer, Fault, Opening, Piece, Request, Session};
use super::stdio::{Process, Started};
use super::text::one_line;
use backstop_call::BoxFuture;
use rmcp::RoleClient;
use rmcp::model::{
    CallToolRequest, CallToolRequestParams, CallToolResult, CancelledNotification,
    CancelledNotificationParam, ClientCapabilities, ClientConfig, ClientRequest, ClientResult, ContentBlock,
    ErrorCode, ErrorData, Implementation, ListToolsRequest, PaginatedRequestParams, ProgressToken,
    ProtocolVersion, RequestId, RequestMetaObject, ResourceContents, ServerNotification, ServerRequest,
    ServerResult,
};
use rmcp::service::{
    ClientInitializeError, ClientLifecycleMode, ClientServiceExt, NotificationContext, Peer,
    PeerRequestOptions, RequestContext, RunningService, Service, ServiceError,
};
use rmcp::transport::common::client_side_sse::NeverRetry;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use rmcp::transport::{StreamableHttpClientTransport, Transport};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout};
use wire::{Bounded, Client, Pipe, web_fault};

/// Under which name a call's idempotency key stands in its `_meta`.
const KEY: &str = "dev.backstop/idempotency-key";
/// The status of a request under a session that the server does not know.
const GONE: u16 = 404;
/// What a server is told that asks for something of ours.
const REFUSAL: &str = "refused: this client gives servers no models, no files and no answers of people";

/// Opens a session with a program that was started.
pub(super) async fn open_program(
    started: Started,
    opening: Opening,
    limits: &McpLimits,
) -> Result<Arc<dyn Session>, Fault> {
    let Started { process, stdin, lines } = started;
    let link = Arc::new(Link { process: Some(process), ..Link::default() });
    let pipe = Pipe::new(lines, stdin, Arc::clone(&link));
    open(pipe, link, opening, limits).await
}

/// Opens a session with a server at an address.
pub(super) async fn open_address(
    web: Web,
    opening: Opening,
    limits: &McpLimits,
) -> Result<Arc<dyn Session>, Fault> {
    let link = Arc::new(Link::default());
    let mut config =
        StreamableHttpClientTransportConfig::with_uri(web.uri()).reinit_on_expired_session(false);
    config.retry_config = Arc::new(NeverRetry::default());
    let client = Client::new(web, Arc::clone(&link));
    open(StreamableHttpClientTransport::with_client(client, config), link, opening, limits).await
}

async fn open<T>(
    transport: T,
    link: Arc<Link>,
    opening: Opening,
    limits: &McpLimits,
) -> Result<Arc<dyn Session>, Fault>
where
    T: Transport<RoleClient> + 'static,
{
    let messages = u64::from(limits.messages);
    let flood = Flood::new(messages, messages / 50, Instant::now());
    let bounded = Bounded::new(transport, flood, Arc::clone(&link));
    let host = Host { link: Arc::clone(&link) };
    let mode = match opening {
        Opening::Handshake => ClientLifecycleMode::Initialize,
        Opening::Question => {
            ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
        }
    };
    match host.serve_with_lifecycle(bounded, mode).await {
        Ok(running) => Ok(Arc::new(Live { running, link, limits: limits.clone() })),
        Err(error) => Err(not_opened(&error, &link)),
    }
}

/// Refused is what only says that this is not the way to begin.
fn not_opened(error: &ClientInitializeError, link: &Link) -> Fault {
    if let Some(reason) = link.reason() {
        return Fault::Broken(reason);
    }
    match error {
        ClientInitializeError::ConnectionClosed(_) => Fault::Broken("it ended before it answered".to_owned()),
        ClientInitializeError::JsonRpcError(error) => {
            let text = format!("it refuses to begin: {}", one_line(&error.message));
            match error.code {
                ErrorCode::METHOD_NOT_FOUND
                | ErrorCode::INVALID_REQUEST
                | ErrorCode::UNSUPPORTED_PROTOCOL_VERSION => Fault::Refused(text),
                _ => Fault::Broken(text),
            }
        }
        ClientInitializeError::TransportError { error, .. } => match web_fault(error) {
            Some(fault @ WebFault::Turned { status, .. }) if matches!(status.as_u16(), 400 | GONE | 405) => {
                Fault::Refused(fault.to_string())
            }
            Some(fault) => Fault::Broken(fault.to_string()),
            None => Fault::Broken("it cannot be written to".to_owned()),
        },
        _ => Fault::Broken("it does not begin as an MCP server does".to_owned()),
    }
}

/// What the ends of one connection share.
#[derive(Default)]
struct Link {
    process: Option<Arc<Process>>,
    /// Why the connection is over.
    reason: OnceLock<String>,
    /// Told when it is to end at once.
    over: Notify,
    changes: AtomicU64,
    /// The calls under way, by the token under which the server tells of their progress.
    waiting: Mutex<HashMap<ProgressToken, Arc<Notify>>>,
}

impl Link {
    /// Ends the connection. The first reason stands.
    fn end(&self, reason: String) {
        let _ = self.reason.set(reason);
        self.over.notify_one();
        if let Some(process) = &self.process {
            process.kill();
        }
    }

    fn reason(&self) -> Option<String> {
        self.reason.get().cloned()
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, HashMap<ProgressToken, Arc<Notify>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a server may ask of us: nothing but whether we are there.
struct Host {
    link: Arc<Link>,
}

impl Service<RoleClient> for Host {
    async fn handle_request(
        &self,
        request: ServerRequest,
        _: RequestContext<RoleClient>,
    ) -> Result<ClientResult, ErrorData> {
        match request {
            ServerRequest::PingRequest(_) => Ok(ClientResult::empty(())),
            // Its models, files and people are the run's alone.
            _ => Err(ErrorData::new(ErrorCode::METHOD_NOT_FOUND, REFUSAL, None)),
        }
    }

    async fn handle_notification(
        &self,
        notification: ServerNotification,
        _: NotificationContext<RoleClient>,
    ) -> Result<(), ErrorData> {
        match notification {
            ServerNotification::ProgressNotification(told) => {
                if let Some(call) = self.link.waiting().get(&told.params.progress_token) {
                    call.notify_one();
                }
            }
            ServerNotification::ToolListChangedNotification(_) => {
                self.link.changes.fetch_add(1, Ordering::AcqRel);
            }
            // What it logs, and what it says of things that are not tools.
            _ => {}
        }
        Ok(())
    }

    fn get_info(&self) -> ClientConfig {
        let me = Implementation::new("backstop", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), me)
    }
}

/// A session that is up.
struct Live {
    running: RunningService<RoleClient, Host>,
    link: Arc<Link>,
    limits: McpLimits,
}

impl Drop for Live {
    fn drop(&mut self) {
        self.link.end("the connection was closed".to_owned());
    }
}

impl Session for Live {
    fn tools(&self) -> BoxFuture<'_, Result<Vec<Definition>, Fault>> {
        Box::pin(async {
            let mut tools = Vec::new();
            let mut cursor = None;
            // A page may be empty, so the pages are counted too.
            for _ in 0..=self.limits.tools {
                let params = PaginatedRequestParams::default().with_cursor(cursor);
                let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(params));
                let ServerResult::ListToolsResult(page) = self.ask(request, RequestMetaObject::new()).await?
                else {
                    return Err(Fault::Odd("it does not tell its tools".to_owned()));
                };
                for tool in page.tools {
                    tools.push(definition(&tool)?);
                }
                if tools.len() > self.limits.tools {
                    break;
                }
                cursor = page.next_cursor;
                if cursor.is_none() {
                    return Ok(tools);
                }
            }
            let reason = format!("it has more than {} tools", self.limits.tools);
            self.link.end(reason.clone());
            Err(Fault::Broken(reason))
        })
    }

    fn call<'a>(&'a self, request: Request<'a>) -> BoxFuture<'a, Result<Answer, Fault>> {
        Box::pin(async move {
            let params =
                CallToolRequestParams::new(request.tool.to_owned()).with_arguments(request.args.clone());
            let mut meta = RequestMetaObject::new();
            meta.insert(KEY.to_owned(), Value::from(request.key));
            match self.ask(ClientRequest::CallToolRequest(CallToolRequest::new(params)), meta).await? {
                ServerResult::CallToolResult(result) => Ok(answer(result)),
                ServerResult::EmptyResult(_) => Ok(Answer::default()),
                ServerResult::InputRequiredResult(_) => {
                    Err(Fault::Odd("it asks for more in the middle of the call, which is refused".to_owned()))
                }
                ServerResult::CreateTaskResult(_) => {
                    Err(Fault::Odd("it goes on with the call by itself and gives no result".to_owned()))
                }
                _ => Err(Fault::Odd("it answered with something that is no result of a call".to_owned())),
            }
        })
    }

    fn changes(&self) -> u64 {
        self.link.changes.load(Ordering::Acquire)
    }

    fn ended(&self) -> Option<String> {
        let closed = || self.running.is_transport_closed().then(|| "the connection ended".to_owned());
        self.link.reason().or_else(closed)
    }
}

impl Live {
    /// One request, under a bound for silence and one for the whole. Whoever drops it tells the server so.
    async fn ask(&self, request: ClientRequest, meta: RequestMetaObject) -> Result<ServerResult, Fault> {
        let options = PeerRequestOptions::no_options().with_meta(meta);
        let total = Instant::now() + self.limits.total();
        let silent = || Fault::Silent("it did not answer in time".to_owned());
        let peer = self.running.peer();
        let sent = timeout(self.limits.idle(), peer.send_request_with_option(request, options)).await;
        let mut handle = sent.map_err(|_| silent())?.map_err(|error| self.fault(error))?;
        let progress = Arc::new(Notify::new());
        let token = handle.progress_token.clone();
        self.link.waiting().insert(token.clone(), Arc::clone(&progress));
        let mut abandoned = Abandoned { peer, link: &self.link, token, request: Some(handle.id.clone()) };
        loop {
            let idle = (Instant::now() + self.limits.idle()).min(total);
            tokio::select! {
                biased;
                answered = &mut handle.rx => {
                    abandoned.request = None;
                    return answered.unwrap_or(Err(ServiceError::TransportClosed)).map_err(|error| self.fault(error));
                }
                () = progress.notified() => {}
                () = sleep_until(idle) => return Err(silent()),
            }
        }
    }

    fn fault(&self, error: ServiceError) -> Fault {
        let ended = || self.link.reason().unwrap_or_else(|| "the connection ended".to_owned());
        match error {
            ServiceError::McpError(error) => {
                let said = one_line(&error.message);
                match error.code {
                    ErrorCode::PARSE_ERROR
                    | ErrorCode::INVALID_REQUEST
                    | ErrorCode::METHOD_NOT_FOUND
                    | ErrorCode::INVALID_PARAMS => Fault::Refused(format!("it refused the call: {said}")),
                    _ => Fault::Odd(format!("it failed: {said}")),
                }
            }
            ServiceError::TransportSend(error) => match web_fault(&error) {
                Some(fault @ WebFault::Turned { status, .. }) if status.as_u16() != GONE => {
                    Fault::Refused(fault.to_string())
                }
                // The server is not there, or does not know the session any more.
                Some(fault @ (WebFault::Unreached(_) | WebFault::Turned { .. })) => {
                    Fault::Unsent(fault.to_string())
                }
                Some(fault @ WebFault::Failed(_)) => Fault::Odd(fault.to_string()),
                Some(fault @ WebFault::Flood(_)) => Fault::Broken(fault.to_string()),
                None => Fault::Broken(ended()),
            },
            ServiceError::TransportClosed | ServiceError::Cancelled { .. } => Fault::Broken(ended()),
            _ => Fault::Odd("it answered with something that is no answer".to_owned()),
        }
    }
}

/// Tells a server that nobody waits for a request any more, unless it was answered.
struct Abandoned<'a> {
    peer: &'a Peer<RoleClient>,
    link: &'a Link,
    token: ProgressToken,
    request: Option<RequestId>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        self.link.waiting().remove(&self.token);
        let (Some(request_id), Ok(runtime)) = (self.request.take(), tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let peer = self.peer.clone();
        let reason = "nobody waits for it any more".to_owned();
        let told = CancelledNotificationParam::new(Some(request_id), Some(reason));
        // In a task of its own: the pipe to the server may be full. It ends with the connection.
        runtime.spawn(async move { peer.send_notification(CancelledNotification::new(told).into()).await });
    }
}

fn definition(tool: &rmcp::model::Tool) -> Result<Definition, Fault> {
    let value = |value: Result<Value, serde_json::Error>| {
        value.map_err(|_| Fault::Odd("it defines a tool in a way that cannot be read".to_owned()))
    };
    Ok(Definition {
        name: tool.name.to_string(),
        title: tool.title.clone(),
        description: tool.description.as_deref().map(str::to_owned),
        input_schema: Value::Object((*tool.input_schema).clone()),
        output_schema: tool.output_schema.as_ref().map(|schema| Value::Object((**schema).clone())),
        annotations: tool.annotations.as_ref().map(|hints| value(serde_json::to_value(hints))).transpose()?,
    })
}

fn answer(result: CallToolResult) -> Answer {
    let content = result.content.into_iter().map(piece).collect();
    Answer { content, structured: result.structured_content, is_error: result.is_error == Some(true) }
}

fn piece(block: ContentBlock) -> Piece {
    match block {
        ContentBlock::Text(text) => Piece::Text(text.text),
        ContentBlock::Image(image) => Piece::Image { media_type: image.mime_type, base64: image.data },
        ContentBlock::Audio(audio) => Piece::Other(format!(
            "[audio, {}, {} bytes as base64]",
            one_line(&audio.mime_type),
            audio.data.len()
        )),
        ContentBlock::Resource(resource) => match resource.resource {
            ResourceContents::TextResourceContents { uri, text, .. } => {
                Piece::Text(format!("[{}]\n{text}", one_line(&uri)))
            }
            ResourceContents::BlobResourceContents { uri, blob, .. } => {
                Piece::Other(format!("[{}: {} bytes as base64]", one_line(&uri), blob.len()))
            }
            _ => Piece::Other("[a resource]".to_owned()),
        },
        ContentBlock::ResourceLink(link) => {
            Piece::Other(format!("[link to {}: {}]", one_line(&link.uri), one_line(&link.name)))
        }
        _ => Piece::Other("[something that cannot be shown]".to_owned()),
    }
}
