//! One connection of the load client.

use crate::clock::now_ns;
use crate::http1::{Chunked, Framing, Malformed, response_head};
use crate::mock::Stamps;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest wait for an answer. One that takes longer is an error, so that a run always ends.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;

/// Why an exchange gave no answer that counts.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    Malformed(Malformed),
    Status(u16),
    /// The connection ended within an answer.
    Cut,
    Chunks {
        got: u64,
        want: u64,
    },
    Late,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Malformed(error) => write!(f, "malformed: {}", error.0),
            Self::Status(status) => write!(f, "status {status}"),
            Self::Cut => f.write_str("cut within an answer"),
            Self::Chunks { got, want } => write!(f, "{got} chunks of {want}"),
            Self::Late => write!(f, "no answer within {} s", ANSWER_MAX.as_secs()),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Malformed> for Fault {
    fn from(error: Malformed) -> Self {
        Self::Malformed(error)
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(at: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(at).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, read: Vec::with_capacity(READ_BYTES) })
    }

    /// Sends a request and reads its answer to the end; when it ended. `chunk` is told every stamp of the mock, with
    /// when it was read.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        mut chunk: impl FnMut(u64, u64),
    ) -> Result<u64, Fault> {
        let mut stamps = Stamps::default();
        let answer = self.answer(request, |piece, now| stamps.read(piece, |stamp| chunk(stamp, now)));
        match timeout(ANSWER_MAX, answer).await.map_err(|_| Fault::Late)?? {
            200 => Ok(now_ns()),
            status => Err(Fault::Status(status)),
        }
    }

    /// Sends a request and reads its answer: the status and the body.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> Result<(u16, Vec<u8>), Fault> {
        let mut body = Vec::new();
        let answer = self.answer(request, |piece, _| body.extend_from_slice(piece));
        let status = timeout(ANSWER_MAX, answer).await.map_err(|_| Fault::Late)??;
        Ok((status, body))
    }

    async fn answer(&mut self, request: &[u8], mut piece: impl FnMut(&[u8], u64)) -> Result<u16, Fault> {
        self.stream.write_all(request).await?;
        let head = loop {
            if let Some(head) = response_head(&self.read)? {
                break head;
            }
            self.more().await?;
        };
        self.read.drain(..head.bytes);
        match head.framing {
            Framing::Length(length) => {
                while self.read.len() < length {
                    self.more().await?;
                }
                piece(&self.read[..length], now_ns());
                self.read.drain(..length);
            }
            Framing::Chunked => {
                let mut chunked = Chunked::default();
                loop {
                    let now = now_ns();
                    let taken = chunked.take(&self.read, |data| piece(data, now))?;
                    self.read.drain(..taken);
                    if chunked == Chunked::Done {
                        break;
                    }
                    self.more().await?;
                }
            }
        }
        Ok(head.status)
    }

    async fn more(&mut self) -> Result<(), Fault> {
        self.read.reserve(4096);
        if self.stream.read_buf(&mut self.read).await? == 0 { Err(Fault::Cut) } else { Ok(()) }
    }
}
