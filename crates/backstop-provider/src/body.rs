//! Reading an answer's body: bounded in size, and in the time between two pieces.

use crate::connection::Arriving;
use bytes::Bytes;
use http_body_util::BodyExt;
use std::time::Duration;
use tokio::time::timeout;

/// The most of a whole reply, or of all of a stream's pieces together.
pub(crate) const REPLY_BYTES_MAX: usize = 32 << 20;
/// The most of an error's body that is read; what is beyond is not looked at.
pub(crate) const ERROR_BYTES_MAX: usize = 64 << 10;

/// How long is waited for the end of a body whose reply is whole.
const LINGER: Duration = Duration::from_millis(250);

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// No piece in time.
    Idle,
    /// The connection was closed or broke before the end.
    Cut,
    /// More than is allowed.
    TooLarge,
}

/// A body and how much of it has come.
pub(crate) struct Body {
    arriving: Arriving,
    idle: Duration,
    read: usize,
}

impl Body {
    pub(crate) fn new(arriving: Arriving, idle: Duration) -> Self {
        Self { arriving, idle, read: 0 }
    }

    /// Nothing more is needed: from now on wait only shortly for the end, which lets the connection be used again.
    pub(crate) fn hurry(&mut self) {
        self.idle = self.idle.min(LINGER);
    }

    /// The next piece; `None` at the proper end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = timeout(self.idle, self.arriving.frame()).await.map_err(|_| BodyError::Idle)?;
            let Some(frame) = frame else { return Ok(None) };
            // Trailers are of no use here.
            let Ok(data) = frame.map_err(|_| BodyError::Cut)?.into_data() else { continue };
            self.read += data.len();
            if self.read > REPLY_BYTES_MAX {
                return Err(BodyError::TooLarge);
            }
            return Ok(Some(data));
        }
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Vec<u8>, BodyError> {
        let mut bytes = Vec::new();
        while let Some(data) = self.next().await? {
            bytes.extend_from_slice(&data);
        }
        Ok(bytes)
    }

    /// As much of it as came and is allowed for an error. Whatever goes wrong, the status says what the answer means.
    pub(crate) async fn error(mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while let Ok(Some(data)) = self.next().await {
            bytes.extend_from_slice(&data);
            if bytes.len() >= ERROR_BYTES_MAX {
                bytes.truncate(ERROR_BYTES_MAX);
                break;
            }
        }
        bytes
    }
}
