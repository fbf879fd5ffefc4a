//! The mock provider: Chat Completions and Messages, whole or streamed, at once or on schedule. One thread, one task per
//! connection, an answer in one write, so that it takes as little as can be from the core that it shares with the load.
//! It knows nothing of what is measured, and its bill is the truth that a ledger is held against.

mod answer;
mod bill;

pub(crate) use answer::stamps::Stamps;
pub(crate) use bill::{Bill, Bills};

use crate::Stop;
use crate::http1::{Framing, RequestHead, request_head};
use crate::prompt::Dialect;
use answer::Asked;
use memchr::memmem;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

/// Bytes of one request, body included.
const REQUEST_BYTES_MAX: usize = 40 << 20;

/// Where the bills can be asked for, and the behaviour set.
pub(crate) const BILLS: &str = "/mock/bills";
pub(crate) const BEHAVE: &str = "/mock/behave";

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Listen on this port of 127.0.0.1
    #[arg(long, default_value_t = 28_300)]
    pub(crate) port: u16,
    #[command(flatten)]
    pub(crate) behaviour: Behaviour,
}

/// How it answers. Can be set anew at any time with `GET /mock/behave?latency-ms=…&chunks=…&chunk-delay-ms=…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Behaviour {
    /// Wait this long before the first byte of an answer
    #[arg(long, default_value_t = 0)]
    pub(crate) latency_ms: u64,
    /// Stream an answer in so many chunks of text
    #[arg(long, default_value_t = 20)]
    pub(crate) chunks: u64,
    /// Wait this long between two of them
    #[arg(long, default_value_t = 0)]
    pub(crate) chunk_delay_ms: u64,
}

impl Behaviour {
    /// The target of the request that sets it.
    pub(crate) fn target(self) -> String {
        let Self { latency_ms, chunks, chunk_delay_ms } = self;
        format!("{BEHAVE}?latency-ms={latency_ms}&chunks={chunks}&chunk-delay-ms={chunk_delay_ms}")
    }

    fn with(mut self, query: &str) -> Result<Self, String> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.parse().map_err(|_| format!("{key} is a number, not `{value}`"))?;
            match key {
                "latency-ms" => self.latency_ms = value,
                "chunks" => self.chunks = value,
                "chunk-delay-ms" => self.chunk_delay_ms = value,
                _ => return Err(format!("there is no {key}")),
            }
        }
        Ok(self)
    }
}

struct Mock {
    behaviour: Cell<Behaviour>,
    bills: RefCell<Bills>,
    answers: Cell<u64>,
}

impl Mock {
    fn bill(&self, key: &str, add: Bill) {
        self.bills.borrow_mut().add(key, add);
    }

    /// Answers what is asked of the mock itself.
    fn tell(&self, out: &mut Vec<u8>, path: &str, query: &str) {
        let done = match path {
            BILLS => Ok(serde_json::to_string(&*self.bills.borrow()).unwrap_or_default()),
            BEHAVE => self.behaviour.get().with(query).map(|behaviour| {
                self.behaviour.set(behaviour);
                "{}".to_owned()
            }),
            _ => Err(format!("there is no {path}")),
        };
        match done {
            Ok(body) => answer::document(out, 200, &body),
            Err(error) => answer::document(out, 400, &error),
        }
    }
}

/// Serves until the process is ended.
pub(crate) async fn serve(options: &Options) -> Result<(), Stop> {
    let at = ("127.0.0.1", options.port);
    let listening = TcpListener::bind(at).await;
    let listener = listening.map_err(|error| Stop::failed(format!("port {}: {error}", options.port)))?;
    let mock = Rc::new(Mock {
        behaviour: Cell::new(options.behaviour),
        bills: RefCell::default(),
        answers: Cell::new(0),
    });
    loop {
        // What cannot be accepted now waits in the queue of the socket.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let mock = Rc::clone(&mock);
        tokio::task::spawn_local(async move {
            // A client that goes away in the middle is its own affair.
            let _ = Connection { mock, stream, out: Vec::new() }.run().await;
        });
    }
}

struct Connection {
    mock: Rc<Mock>,
    stream: TcpStream,
    out: Vec<u8>,
}

impl Connection {
    async fn run(mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let mut read = Vec::with_capacity(4096);
        loop {
            let whole = match request_head(&read).map_err(|error| io::Error::other(error.0))? {
                Some(head) => match head.framing {
                    Framing::Chunked => return self.stream.write_all(answer::LENGTH_REQUIRED).await,
                    Framing::Length(body) => {
                        let whole = head.bytes + body;
                        if read.len() >= whole {
                            self.answer(&head, &read[head.bytes..whole]).await?;
                            read.drain(..whole);
                            continue;
                        }
                        whole
                    }
                },
                None => read.len() + 4096,
            };
            if whole > REQUEST_BYTES_MAX {
                return Ok(());
            }
            read.reserve(whole - read.len());
            if self.stream.read_buf(&mut read).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn answer(&mut self, head: &RequestHead<'_>, body: &[u8]) -> io::Result<()> {
        let (path, query) = head.path.split_once('?').unwrap_or((head.path, ""));
        self.out.clear();
        let Some(dialect) = dialect(path) else {
            self.mock.tell(&mut self.out, path, query);
            return self.stream.write_all(&self.out).await;
        };
        let number = self.mock.answers.get();
        self.mock.answers.set(number + 1);
        let input_tokens = u64::try_from(body.len() / 4).unwrap_or(u64::MAX);
        let asked = Asked { dialect, number, input_tokens };
        let behaviour = self.mock.behaviour.get();
        if behaviour.latency_ms > 0 {
            tokio::time::sleep(Duration::from_millis(behaviour.latency_ms)).await;
        }
        if is_streamed(body) {
            return self.stream(&asked, behaviour, head.authorization).await;
        }
        let output_tokens = answer::whole(&mut self.out, &asked);
        self.mock.bill(head.authorization, Bill::of_request(input_tokens, output_tokens));
        self.stream.write_all(&self.out).await
    }

    /// Bills each chunk as it goes, as a provider does when its client leaves half way.
    async fn stream(&mut self, asked: &Asked, behaviour: Behaviour, key: &str) -> io::Result<()> {
        self.mock.bill(key, Bill::of_request(asked.input_tokens, 0));
        answer::stream_begin(&mut self.out, asked);
        self.stream.write_all(&self.out).await?;
        let mut due = Instant::now();
        for number in 0..behaviour.chunks {
            if number > 0 && behaviour.chunk_delay_ms > 0 {
                due += Duration::from_millis(behaviour.chunk_delay_ms);
                tokio::time::sleep_until(due).await;
            }
            self.out.clear();
            answer::stream_chunk(&mut self.out, asked);
            self.mock.bill(key, Bill::of_chunk());
            self.stream.write_all(&self.out).await?;
        }
        self.out.clear();
        answer::stream_end(&mut self.out, asked, behaviour.chunks);
        self.stream.write_all(&self.out).await
    }
}

fn dialect(path: &str) -> Option<Dialect> {
    let ends = |dialect: &Dialect| path.ends_with(dialect.path().trim_start_matches("/v1"));
    [Dialect::Chat, Dialect::Messages].into_iter().find(ends)
}

/// Whether the request asks for a stream. A key of that name in a text is no such key: its quotes are escaped there.
fn is_streamed(body: &[u8]) -> bool {
    let Some(at) = memmem::find(body, b"\"stream\"") else { return false };
    let value = &body[at + b"\"stream\"".len()..];
    let value = value.trim_ascii_start().strip_prefix(b":").unwrap_or_default();
    value.trim_ascii_start().starts_with(b"true")
}

#[cfg(test)]
mod tests;
