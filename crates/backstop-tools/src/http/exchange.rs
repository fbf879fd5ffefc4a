//! A request and its answer: sent once, on a connection of its own, under one deadline. Knows whether a request was begun;
//! what that means for a call is said by the tools.

use super::grant::HttpMethod;
use super::granted::{Granted, GrantedHost, Manner};
use super::network::{Network, Stream};
use super::target::Target;
use backstop_agent::visible_line;
use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT,
};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1};
use std::fmt::Write as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

/// The longest head of an answer, in bytes.
const HEAD_MAX_BYTES: usize = 64 * 1024;
/// Where a NUL makes an answer binary, in bytes from its beginning.
const BINARY_LOOK_BYTES: usize = 8 * 1024;

/// A request as the model wants it, checked.
pub(super) struct Wanted {
    pub(super) method: HttpMethod,
    pub(super) target: Target,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// The key, of a request that is sent with one.
    pub(super) key: Option<HeaderValue>,
}

/// How a request was lost.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lost {
    /// Not a byte of it was sent.
    NotSent(String),
    /// It was begun, and nobody knows what came of it.
    Begun(String),
}

/// What came back.
struct Answer {
    from: Target,
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
    /// Why the body is not whole.
    cut: Option<String>,
}

/// Sends a request and gives what the model is told. Redirects of a read are followed as far as each is granted.
pub(super) async fn exchange(granted: &Granted, network: &Network, wanted: Wanted) -> Result<String, Lost> {
    let way = Way { granted, network, deadline: Instant::now() + granted.timeout };
    let origin = wanted.target.origin().to_owned();
    let Wanted { method, mut target, mut headers, body, key } = wanted;
    let manner = if key.is_some() { Manner::Keyed } else { Manner::Plain };
    let mut followed = 0;
    loop {
        let host = granted.admit(&target, method, manner).map_err(Lost::NotSent)?;
        if target.origin() != origin {
            // They were meant for the host that was asked first.
            headers.clear();
        }
        let request = request(&target, method, host, &headers, key.as_ref()).map_err(Lost::NotSent)?;
        let answer = way.send(host, target, request.map(|()| Full::new(body.clone()))).await?;
        let Some(location) = redirect(&answer, method) else { return Ok(told(granted, &answer)) };
        target = next(granted, &answer, &location, followed, method).map_err(Lost::NotSent)?;
        followed += 1;
    }
}

/// Where a redirect leads, if it may be followed. Only reads get here, so nothing was changed.
fn next(
    granted: &Granted,
    answer: &Answer,
    location: &str,
    followed: u32,
    method: HttpMethod,
) -> Result<Target, String> {
    let from = &answer.from;
    let target = from.joined(location).map_err(|error| {
        format!("{from} redirects to `{}`, which is not used: {error}.", visible_line(location))
    })?;
    if followed == granted.redirects_max {
        return Err(format!(
            "{from} redirects to {target}, after the {followed} redirects that are followed. Ask for that address \
             instead, if you need it."
        ));
    }
    granted
        .admit(&target, method, Manner::Plain)
        .map_err(|why| format!("{from} redirects to where no request may go. {why}"))?;
    Ok(target)
}

/// The request's head: the model's headers, then the owner's, then ours, each in the place of what was there.
fn request(
    target: &Target,
    method: HttpMethod,
    host: &GrantedHost,
    headers: &HeaderMap,
    key: Option<&HeaderValue>,
) -> Result<Request<()>, String> {
    let path = target.path_and_query().map_err(|error| format!("{target} cannot be used: {error}."))?;
    let mut request = Request::new(());
    *request.method_mut() = method.as_http();
    *request.uri_mut() = path.into();
    let all = request.headers_mut();
    all.insert(USER_AGENT, HeaderValue::from_static("backstop"));
    for (name, value) in headers.iter().chain(&host.headers) {
        all.insert(name.clone(), value.clone());
    }
    if let Some(key) = key {
        all.insert(host.key_header.clone(), key.clone());
    }
    let authority = HeaderValue::try_from(target.authority());
    all.insert(HOST, authority.map_err(|_| format!("{target} has a host that HTTP does not allow."))?);
    all.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    Ok(request)
}

/// Under what requests of one call are sent.
struct Way<'a> {
    granted: &'a Granted,
    network: &'a Network,
    deadline: Instant,
}

impl Way<'_> {
    async fn send(
        &self,
        host: &GrantedHost,
        from: Target,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Lost> {
        let is_read = request.method().is_safe();
        let origin = from.origin();
        let connected = timeout_at(self.deadline, self.network.connect(&from, host.private)).await;
        let stream: Stream = connected
            .unwrap_or_else(|_| Err(format!("No connection to {origin} in time.")))
            .map_err(Lost::NotSent)?;
        let (mut sender, driver) = http1::Builder::new()
            .max_buf_size(HEAD_MAX_BYTES)
            .handshake(stream)
            .await
            .map_err(|error| Lost::NotSent(format!("No connection to {origin}: {error}.")))?;
        // Dropped with this call, whichever way it ends, and the connection with it.
        let mut connection = JoinSet::new();
        connection.spawn(driver);
        let sent = timeout_at(self.deadline, sender.try_send_request(request)).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(lost(origin, error)),
            Err(_) => return Err(Lost::Begun(format!("{origin} did not answer in time"))),
        };
        let (head, mut incoming) = response.into_parts();
        let (body, cut) = read_body(&mut incoming, self.deadline, self.granted.response_max_bytes).await;
        if let (true, Some(Cut::Broken | Cut::Late)) = (is_read && body.is_empty(), &cut) {
            return Err(Lost::Begun(format!("{origin} did not send the body of its answer")));
        }
        let cut = cut.map(|cut| cut.told(self.granted));
        Ok(Answer { from, status: head.status, headers: head.headers, body, cut })
    }
}

fn lost(origin: &str, mut error: TrySendError<Request<Full<Bytes>>>) -> Lost {
    if error.take_message().is_some() {
        return Lost::NotSent(format!("{origin} closed the connection at once."));
    }
    let why = if error.error().is_parse() {
        "answered with what is no HTTP"
    } else {
        "closed the connection without an answer"
    };
    Lost::Begun(format!("{origin} {why}"))
}

/// Why a body is not whole.
enum Cut {
    Long,
    Late,
    Broken,
}

impl Cut {
    fn told(&self, granted: &Granted) -> String {
        match self {
            Self::Long => {
                format!("the answer is longer than the {} bytes that are read", granted.response_max_bytes)
            }
            Self::Late => format!("the rest did not come within {} seconds", granted.timeout.as_secs()),
            Self::Broken => "the connection broke before the end of the answer".to_owned(),
        }
    }
}

async fn read_body(incoming: &mut Incoming, deadline: Instant, bytes_max: usize) -> (Vec<u8>, Option<Cut>) {
    let mut body = Vec::new();
    loop {
        let data = match timeout_at(deadline, incoming.frame()).await {
            Err(_) => return (body, Some(Cut::Late)),
            Ok(None) => return (body, None),
            Ok(Some(Err(_))) => return (body, Some(Cut::Broken)),
            // Trailers say nothing that the model is told.
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
        };
        let room = bytes_max - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return (body, Some(Cut::Long));
        }
    }
}

/// Where an answer to a read sends on to.
fn redirect(answer: &Answer, method: HttpMethod) -> Option<String> {
    let sends_on = matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = answer.headers.get(LOCATION).filter(|_| sends_on && method.is_read())?;
    Some(String::from_utf8_lossy(location.as_bytes()).into_owned())
}

/// What the model is told: the status, the headers it may see, the text or what else it is.
fn told(granted: &Granted, answer: &Answer) -> String {
    let mut told = format!("{} from {}\n", answer.status, answer.from);
    for name in &granted.shown_headers {
        for value in answer.headers.get_all(name) {
            let value = visible_line(&String::from_utf8_lossy(value.as_bytes()));
            let _ = writeln!(told, "{name}: {value}");
        }
    }
    told.push('\n');
    told.push_str(&body_text(answer));
    if let Some(cut) = &answer.cut {
        let _ = write!(told, "\n… cut off after {} bytes: {cut}", answer.body.len());
    }
    granted.scrub(told)
}

fn body_text(answer: &Answer) -> String {
    let body = &answer.body[..];
    if body.is_empty() {
        return "(no body)".to_owned();
    }
    let header = |name| answer.headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let kind = header(CONTENT_TYPE).unwrap_or("no type");
    let coding = header(CONTENT_ENCODING).filter(|coding| !coding.eq_ignore_ascii_case("identity"));
    if let Some(coding) = coding {
        return format!(
            "(not text: {} bytes, {kind}, encoded as {coding} although that was not asked for)",
            body.len()
        );
    }
    let is_binary = body.iter().take(BINARY_LOOK_BYTES).any(|byte| *byte == 0);
    match std::str::from_utf8(body) {
        Ok(text) if !is_binary => text.to_owned(),
        // Cut in the middle of a character: what is before it is whole.
        Err(error) if !is_binary && error.error_len().is_none() && answer.cut.is_some() => {
            String::from_utf8_lossy(&body[..error.valid_up_to()]).into_owned()
        }
        Err(_) if !is_binary && says_text(kind) => String::from_utf8_lossy(body).into_owned(),
        Ok(_) | Err(_) => format!("(not text: {} bytes, {kind})", body.len()),
    }
}

fn says_text(kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    kind.starts_with("text/") || ["json", "xml", "javascript"].iter().any(|name| kind.contains(name))
}
