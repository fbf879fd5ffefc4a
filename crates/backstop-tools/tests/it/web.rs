//! A web server of a few lines: it reads whole requests, answers with the bytes it is told, and keeps what it was asked.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What becomes of a request.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These bytes, then the connection is closed.
    Bytes(Vec<u8>),
    /// These bytes, then nothing, and the connection stays.
    Stall(Vec<u8>),
    /// These bytes, then the letter x for ever.
    Endless(Vec<u8>),
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    _task: JoinSet<()>,
}

impl Server {
    pub(crate) async fn start(answer: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(answer, None).await
    }

    pub(crate) async fn start_tls(
        config: rustls::ServerConfig,
        answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::listen(answer, Some(tokio_rustls::TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn listen(
        answer: impl Fn(&str) -> Reply + Send + Sync + 'static,
        tls: Option<tokio_rustls::TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&requests), Arc::new(answer));
        let open = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&open);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, answer, tls) = (Arc::clone(&kept), Arc::clone(&answer), tls.clone());
                count.fetch_add(1, Ordering::SeqCst);
                let count = Arc::clone(&count);
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, &kept, &*answer).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &kept, &*answer).await;
                            }
                        }
                    }
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { address, requests, open, _task: task }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Whether every connection that it has taken is over.
    pub(crate) fn is_idle(&self) -> bool {
        self.open.load(Ordering::SeqCst) == 0
    }

    /// What it was asked so far, each request whole.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    kept: &Mutex<Vec<String>>,
    answer: &(dyn Fn(&str) -> Reply + Send + Sync),
) {
    let Some(request) = read_request(&mut stream).await else { return };
    kept.lock().unwrap().push(request.clone());
    let (bytes, after) = match answer(&request) {
        Reply::Bytes(bytes) => (bytes, None),
        Reply::Stall(bytes) => (bytes, Some(false)),
        Reply::Endless(bytes) => (bytes, Some(true)),
    };
    if stream.write_all(&bytes).await.is_err() {
        return;
    }
    match after {
        None => drop(stream.shutdown().await),
        // Until the other side goes away.
        Some(false) => drop(stream.read(&mut [0]).await),
        Some(true) => while stream.write_all(&[b'x'; 1024]).await.is_ok() {},
    }
}

async fn read_request(stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).await.ok()?;
        request.push(byte[0]);
    }
    let head = String::from_utf8(request).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

/// An answer with a body of this type.
pub(crate) fn ok(kind: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    Reply::Bytes([head.as_bytes(), body].concat())
}

/// An answer that sends on.
pub(crate) fn redirect(status: u16, location: &str) -> Reply {
    let head = format!("HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
    Reply::Bytes(head.into_bytes())
}
