//! A provider of raw bytes: keeps what it was sent to the byte, answers with what a test wrote, and notes when its client
//! hangs up.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// One act of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// These bytes go out.
    Write(Vec<u8>),
    /// Nothing, until the test gives a permit to go on.
    Wait(Arc<Semaphore>),
    /// Nothing more, until the client goes away.
    Hang,
    /// The connection ends here.
    Close,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Line and headers, as text.
    pub(crate) head: String,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The value of a header; `None` when it is not there.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// What the server saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) asked: Vec<Asked>,
    /// Connections that the client closed in the middle of an answer.
    pub(crate) hung_up: usize,
}

type Script = Arc<Mutex<dyn FnMut(&Asked) -> Vec<Step> + Send>>;

pub(crate) struct Upstream {
    pub(crate) addr: SocketAddr,
    seen: watch::Sender<Seen>,
}

impl Upstream {
    pub(crate) async fn start(script: impl FnMut(&Asked) -> Vec<Step> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = watch::Sender::new(Seen::default());
        let script: Script = Arc::new(Mutex::new(script));
        let noted = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&script), noted.clone()));
            }
        });
        Self { addr, seen }
    }

    /// Gives every request the same answer.
    pub(crate) async fn always(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self::start(move |_| vec![Step::Write(bytes.clone())]).await
    }

    /// Answers the first request with the first of these, and so on; the last one answers all others.
    pub(crate) async fn in_turn(answers: Vec<Vec<u8>>) -> Self {
        let mut turn = 0;
        Self::start(move |_| {
            let answer = answers[turn.min(answers.len() - 1)].clone();
            turn += 1;
            vec![Step::Write(answer)]
        })
        .await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The only request there was.
    pub(crate) fn only(&self) -> Asked {
        let seen = self.seen();
        assert_eq!(seen.asked.len(), 1, "one request was expected");
        seen.asked[0].clone()
    }

    /// Waits until what was seen fits.
    pub(crate) async fn wait(&self, what: &str, fits: impl FnMut(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.subscribe();
        super::kit::in_time(what, seen.wait_for(fits)).await.unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Script, seen: watch::Sender<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(asked) = read(&mut stream, &mut buffer).await {
        seen.send_modify(|seen| seen.asked.push(asked.clone()));
        let steps = (script.lock().unwrap())(&asked);
        for step in steps {
            let gone = match step {
                Step::Write(bytes) => stream.write_all(&bytes).await.is_err(),
                Step::Wait(signal) => tokio::select! {
                    permit = signal.acquire() => {
                        permit.unwrap().forget();
                        false
                    }
                    () = end_of(&mut stream) => true,
                },
                Step::Hang => {
                    end_of(&mut stream).await;
                    true
                }
                Step::Close => return,
            };
            if gone {
                seen.send_modify(|seen| seen.hung_up += 1);
                return;
            }
        }
    }
}

/// Waits for the client to close.
async fn end_of(stream: &mut TcpStream) {
    let mut rest = [0; 64];
    while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
}

async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Asked> {
    loop {
        if let Some(head) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            let text = String::from_utf8(buffer[..head].to_vec()).unwrap();
            let asked = Asked { head: text, body: Vec::new() };
            let length: usize = asked.header("content-length").map_or(0, |length| length.parse().unwrap());
            let end = head + 4 + length;
            while buffer.len() < end {
                if stream.read_buf(buffer).await.ok()? == 0 {
                    return None;
                }
            }
            let body = buffer[head + 4..end].to_vec();
            buffer.drain(..end);
            return Some(Asked { body, ..asked });
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}

/// An answer whose length is told.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in headers {
        bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// The head of an answer that comes as events, each in a chunk of its own.
pub(crate) const EVENTS: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nrequest-id: req_up\r\nx-request-id: req_up\r\ntransfer-encoding: chunked\r\n\r\n";

/// One chunk of it.
pub(crate) fn piece(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// A whole answer of these events.
pub(crate) fn events(pieces: &[&str]) -> Vec<u8> {
    let mut bytes = EVENTS.to_vec();
    for text in pieces {
        bytes.extend_from_slice(&piece(text));
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

/// What a Messages provider says: "Hello", 10 tokens in and 5 out.
pub(crate) const MESSAGES_REPLY: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"up-1","content":[{"type":"text","text":"Hello"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":10,"output_tokens":5}}"#;

/// The same of a Chat provider.
pub(crate) const CHAT_REPLY: &str = r#"{"id":"c1","object":"chat.completion","created":1,"model":"up-1","choices":[{"index":0,"message":{"role":"assistant","content":"Hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}}"#;

/// The same as a stream of Messages: beginning, content, end.
pub(crate) const MESSAGES_EVENTS: [&str; 3] = [
    "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"up-1\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":{\"input_tokens\":10,\"output_tokens\":1}}}\n\n",
    "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Hello\"}}\n\n",
    "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":5}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
];

/// The same as a stream of Chat: beginning, content, end without usage, usage, the last word.
pub(crate) const CHAT_EVENTS: [&str; 5] = [
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up-1\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up-1\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"},\"finish_reason\":null}]}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up-1\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
    "data: {\"id\":\"c1\",\"object\":\"chat.completion.chunk\",\"created\":1,\"model\":\"up-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":5,\"total_tokens\":15}}\n\n",
    "data: [DONE]\n\n",
];
