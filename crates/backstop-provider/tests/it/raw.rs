//! A server of raw bytes: reads whole requests, answers each by a script, counts and keeps what it saw.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What follows the bytes of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// The next request on the same connection.
    Next,
    /// The end of the connection.
    Close,
    /// Nothing, until the client goes away.
    Hang,
}

/// The answer to one request: pieces, each written on its own.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) then: Then,
}

impl Answer {
    pub(crate) fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Self {
        Self { pieces: vec![bytes.into()], then }
    }
}

/// What the server saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) connections: usize,
    /// Connections that the client closed while they hung.
    pub(crate) hung_up: usize,
    /// Whole requests, as text.
    pub(crate) requests: Vec<String>,
}

pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    seen: watch::Sender<Seen>,
}

type Script = Arc<Mutex<dyn FnMut(&str) -> Answer + Send>>;

impl Server {
    /// A server that answers every request by the script, which gets the request's text.
    pub(crate) async fn start(script: impl FnMut(&str) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen = watch::Sender::new(Seen::default());
        let script: Script = Arc::new(Mutex::new(script));
        let counter = seen.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.send_modify(|seen| seen.connections += 1);
                tokio::spawn(serve(stream, Arc::clone(&script), counter.clone()));
            }
        });
        Self { addr, seen }
    }

    /// A server that gives every request the same answer.
    pub(crate) async fn always(answer: Answer) -> Self {
        Self::start(move |_| answer.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until what was seen fits.
    pub(crate) async fn wait(&self, fits: impl FnMut(&Seen) -> bool) -> Seen {
        self.seen.subscribe().wait_for(fits).await.unwrap().clone()
    }
}

async fn serve(mut stream: TcpStream, script: Script, seen: watch::Sender<Seen>) {
    stream.set_nodelay(true).unwrap();
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        seen.send_modify(|seen| seen.requests.push(request.clone()));
        let answer = (script.lock().unwrap())(&request);
        for piece in &answer.pieces {
            if stream.write_all(piece).await.is_err() {
                seen.send_modify(|seen| seen.hung_up += 1);
                return;
            }
            tokio::task::yield_now().await;
        }
        match answer.then {
            Then::Next => {}
            Then::Close => return,
            Then::Hang => {
                let mut rest = [0; 64];
                while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
                seen.send_modify(|seen| seen.hung_up += 1);
                return;
            }
        }
    }
}

/// One whole request: its head, and as much body as it says.
async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<String> {
    loop {
        let text = String::from_utf8_lossy(buffer).into_owned();
        if let Some(head) = text.find("\r\n\r\n") {
            let length = text[..head]
                .lines()
                .find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok()
                })
                .unwrap_or(0);
            let end = head + 4 + length;
            if buffer.len() >= end {
                let request: Vec<u8> = buffer.drain(..end).collect();
                return Some(String::from_utf8(request).unwrap());
            }
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
}
