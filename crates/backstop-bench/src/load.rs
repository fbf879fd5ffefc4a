//! The load client: a closed loop over connections that stay open, or requests at a fixed rate. One thread, a request
//! that is built once, and no more parsing than it takes to be sure of an answer, so that the core it shares with the
//! mock is not what limits a run.

mod connection;

use crate::Stop;
use crate::clock::{now_ns, ticks};
use crate::figures::{Percentiles, float, per};
use crate::prompt::{self, Answer, Dialect};
use connection::{Connection, Fault};
use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

/// One load.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) at: SocketAddr,
    /// Head and body, as [`post`] makes it.
    pub(crate) request: Rc<[u8]>,
    pub(crate) answer: Answer,
    pub(crate) pace: Pace,
    pub(crate) until: Until,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Each connection sends its next request when it has its answer.
    Closed { connections: u64 },
    /// So many a second, whatever the answers do. A time runs from when its request was due.
    Open { per_second: u64 },
}

/// When it ends. Requests under way are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// After `warm` without counting, and then `length` with it.
    Time { warm: Duration, length: Duration },
    /// After so many requests.
    Count(u64),
}

/// What a load saw.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Outcome {
    /// Requests with status 200 and a whole answer.
    pub(crate) ok: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// From the first request that counts to the last answer.
    pub(crate) seconds: f64,
    pub(crate) latency: Option<Percentiles>,
    /// From the request to the first chunk of text.
    pub(crate) first_token: Option<Percentiles>,
    /// From the mock's write of a chunk to our read.
    pub(crate) chunk_delay: Option<Percentiles>,
    pub(crate) chunks: u64,
}

impl Outcome {
    pub(crate) fn per_second(&self) -> Option<f64> {
        per(float(self.ok), self.seconds)
    }
}

/// What is collected while it runs, in nanoseconds.
#[derive(Default)]
struct Seen {
    latency: Vec<u64>,
    first_token: Vec<u64>,
    chunk_delay: Vec<u64>,
    errors: u64,
    first_error: Option<String>,
    chunks: u64,
    last: u64,
}

impl Seen {
    fn fault(&mut self, fault: &Fault) {
        self.errors += 1;
        self.first_error.get_or_insert_with(|| fault.to_string());
    }

    fn outcome(mut self, begin: u64) -> Outcome {
        Outcome {
            ok: u64::try_from(self.latency.len()).unwrap_or(u64::MAX),
            errors: self.errors,
            first_error: self.first_error,
            seconds: float(self.last.saturating_sub(begin)) / 1e9,
            latency: Percentiles::of(&mut self.latency),
            first_token: Percentiles::of(&mut self.first_token),
            chunk_delay: Percentiles::of(&mut self.chunk_delay),
            chunks: self.chunks,
        }
    }
}

/// A load while it runs: what its tasks share.
struct Running {
    load: Load,
    seen: RefCell<Seen>,
    /// Requests from then on count.
    begin: u64,
    /// No request begins after it.
    end: u64,
    /// Requests that may still begin.
    left: Cell<u64>,
}

impl Load {
    /// Runs it to its end. Fails when no connection can be made; whatever fails later is counted.
    pub(crate) async fn run(self) -> io::Result<Outcome> {
        let mut connections = Vec::new();
        let wanted = match self.pace {
            Pace::Closed { connections } => connections,
            Pace::Open { .. } => 1,
        };
        for _ in 0..wanted {
            connections.push(Connection::open(self.at).await?);
        }
        let now = now_ns();
        let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (begin, end, left) = match self.until {
            Until::Time { warm, length } => (now + ns(warm), now + ns(warm) + ns(length), u64::MAX),
            Until::Count(count) => (now, u64::MAX, count),
        };
        let pace = self.pace;
        let seen = RefCell::default();
        let running = Rc::new(Running { load: self, seen, begin, end, left: Cell::new(left) });
        match pace {
            Pace::Closed { .. } => closed(&running, connections).await,
            Pace::Open { per_second } => open(&running, connections, per_second).await?,
        }
        Ok(running.seen.take().outcome(begin))
    }
}

impl Running {
    /// Takes the leave to send one request more.
    fn next(&self, now: u64) -> bool {
        let left = self.left.get();
        let may = left > 0 && now < self.end;
        self.left.set(left - u64::from(may));
        may
    }

    /// One request, counted from `from`.
    async fn exchange(&self, connection: &mut Connection, from: u64) -> Result<(), Fault> {
        let counts = from >= self.begin;
        let mut first = None;
        let mut chunks = 0;
        let load = &self.load;
        let done = connection
            .exchange(&load.request, |stamp, now| {
                first.get_or_insert(now);
                chunks += 1;
                if counts {
                    self.seen.borrow_mut().chunk_delay.push(now.saturating_sub(stamp));
                }
            })
            .await;
        let done = done.and_then(|end| match load.answer {
            Answer::Stream { chunks: want } if want != chunks => Err(Fault::Chunks { got: chunks, want }),
            _ => Ok(end),
        });
        if !counts {
            return done.map(drop);
        }
        let mut seen = self.seen.borrow_mut();
        seen.chunks += chunks;
        seen.last = now_ns();
        match done {
            Ok(end) => {
                seen.latency.push(end - from);
                seen.first_token.extend(first.map(|first| first - from));
                Ok(())
            }
            Err(fault) => {
                seen.fault(&fault);
                Err(fault)
            }
        }
    }
}

async fn closed(running: &Rc<Running>, connections: Vec<Connection>) {
    let mut tasks = Vec::new();
    for mut connection in connections {
        let running = Rc::clone(running);
        tasks.push(tokio::task::spawn_local(async move {
            loop {
                let now = now_ns();
                if !running.next(now) {
                    return;
                }
                if running.exchange(&mut connection, now).await.is_err() {
                    // What is left of a broken exchange must not be read as the next one's answer.
                    match Connection::open(running.load.at).await {
                        Ok(fresh) => connection = fresh,
                        Err(_) => return,
                    }
                }
            }
        }));
    }
    for task in tasks {
        // A task that panicked would have told so.
        let _ = task.await;
    }
}

async fn open(running: &Rc<Running>, idle: Vec<Connection>, per_second: u64) -> io::Result<()> {
    let idle = Rc::new(RefCell::new(idle));
    let mut ticks = ticks(now_ns(), 1_000_000_000 / per_second.max(1))?;
    let mut tasks = Vec::new();
    while let Some(due) = ticks.recv().await {
        if !running.next(due) {
            break;
        }
        let (running, idle) = (Rc::clone(running), Rc::clone(&idle));
        tasks.push(tokio::task::spawn_local(async move {
            let free = idle.borrow_mut().pop();
            let connection = match free {
                Some(connection) => Ok(connection),
                None => Connection::open(running.load.at).await,
            };
            match connection {
                Ok(mut connection) => {
                    if running.exchange(&mut connection, due).await.is_ok() {
                        idle.borrow_mut().push(connection);
                    }
                }
                Err(error) => running.seen.borrow_mut().fault(&Fault::Io(error)),
            }
        }));
    }
    for task in tasks {
        let _ = task.await;
    }
    Ok(())
}

/// A POST of `body`, as it goes over the wire.
pub(crate) fn post(at: SocketAddr, path: &str, headers: &[(String, String)], body: &str) -> Rc<[u8]> {
    let mut lines = vec![
        format!("POST {path} HTTP/1.1"),
        format!("host: {at}"),
        "content-type: application/json".to_owned(),
        format!("content-length: {}", body.len()),
    ];
    lines.extend(headers.iter().map(|(name, value)| format!("{name}: {value}")));
    format!("{}\r\n\r\n{body}", lines.join("\r\n")).into_bytes().into()
}

/// Sends one request over a connection of its own: the status and the body.
pub(crate) async fn send(at: SocketAddr, request: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let sent = async {
        let mut connection = Connection::open(at).await?;
        connection.ask(request).await
    };
    sent.await.map_err(|fault: Fault| fault.to_string())
}

/// Asks for `target` once.
pub(crate) async fn ask(at: SocketAddr, target: &str) -> Result<(u16, Vec<u8>), String> {
    let request = format!("GET {target} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n");
    send(at, request.as_bytes()).await
}

/// Asks again and again until the status is 200. Bounded by whoever waits.
pub(crate) async fn until_ready(at: SocketAddr, target: &str) {
    while !matches!(ask(at, target).await, Ok((200, _))) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Send to this address
    #[arg(long, value_name = "IP:PORT")]
    to: SocketAddr,
    /// Speak this dialect
    #[arg(long, value_enum, default_value_t = Dialect::Chat)]
    dialect: Dialect,
    /// Send this header; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = parse_header)]
    headers: Vec<(String, String)>,
    /// Send requests of this size
    #[arg(long, default_value_t = 2_048)]
    bytes: usize,
    /// Ask for streams, and expect this many chunks in each
    #[arg(long, value_name = "CHUNKS")]
    stream: Option<u64>,
    /// Keep this many connections busy
    #[arg(long, default_value_t = 64)]
    connections: u64,
    /// Send at this fixed rate instead
    #[arg(long, value_name = "PER-SECOND")]
    rate: Option<u64>,
    /// Count for this many seconds
    #[arg(long, default_value_t = 5)]
    secs: u64,
}

/// `name: value` as a header.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("a header is written `name: value`")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// Loads one address, and prints what it took.
pub(crate) async fn print(options: &Options) -> Result<(), Stop> {
    let answer = options.stream.map_or(Answer::Whole, |chunks| Answer::Stream { chunks });
    let body = prompt::request(options.dialect, "mock-1", answer, options.bytes);
    let closed = Pace::Closed { connections: options.connections };
    let load = Load {
        at: options.to,
        request: post(options.to, options.dialect.path(), &options.headers, &body),
        answer,
        pace: options.rate.map_or(closed, |per_second| Pace::Open { per_second }),
        until: Until::Time { warm: Duration::from_millis(500), length: Duration::from_secs(options.secs) },
    };
    let outcome = load.run().await.map_err(|error| Stop::failed(format!("{}: {error}", options.to)))?;
    println!("{:>12.0} requests/s, {} errors", outcome.per_second().unwrap_or_default(), outcome.errors);
    if let Some(error) = &outcome.first_error {
        println!("             the first: {error}");
    }
    let rows =
        [("latency", outcome.latency), ("first token", outcome.first_token), ("chunk", outcome.chunk_delay)];
    for (name, times) in rows {
        if let Some(Percentiles { p50_us, p99_us, p999_us }) = times {
            println!("{name:>12}  p50 {p50_us:.1} us  p99 {p99_us:.1} us  p99.9 {p999_us:.1} us");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_as_they_are_written() {
        let header = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse_header("authorization: Bearer a:b"), header("authorization", "Bearer a:b"));
        assert!(parse_header("authorization").is_err());
    }
}
