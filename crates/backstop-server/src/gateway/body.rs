//! Reading a request's body: bounded in size, in the memory that all bodies take together, and in the time between two
//! pieces.

use backstop_call::{Code, Failure, FailureKind, Progress};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// What is taken of the bound for all bodies at a time.
const STEP_BYTES: usize = 64 << 10;

/// The slowest that a body may come in the long run, in bytes per second: one that trickles holds the place of a call.
const BYTES_PER_SECOND_MIN: u64 = 16 << 10;

/// The room that large bodies share. Small ones are bounded by the number of calls at once.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    steps: Arc<Semaphore>,
    /// The largest body.
    bytes_max: usize,
    /// The longest time between two pieces.
    idle: Duration,
}

/// A body, and its part of the room for as long as it is held.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) bytes: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

impl Room {
    pub(crate) fn new(bytes_max: usize, all_bytes_max: usize, idle: Duration) -> Self {
        let steps = (all_bytes_max / STEP_BYTES).min(Semaphore::MAX_PERMITS);
        Self { steps: Arc::new(Semaphore::new(steps)), bytes_max, idle }
    }

    /// Reads a body to its end.
    pub(crate) async fn read(&self, mut body: Incoming) -> Result<Held, Failure> {
        let told = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
        if told > self.bytes_max {
            return Err(self.too_large());
        }
        let mut room = self.take(told)?;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let begun = Instant::now();
        loop {
            let so_far = first.len() + rest.len();
            let until = (Instant::now() + self.idle).min(begun + self.idle + likely(so_far));
            let Some(frame) = timeout_at(until, body.frame()).await.map_err(|_| too_slow())? else { break };
            let Ok(data) = frame.map_err(|_| cut())?.into_data() else { continue };
            let so_far = so_far + data.len();
            if so_far > self.bytes_max {
                return Err(self.too_large());
            }
            self.grow(&mut room, so_far)?;
            if so_far == data.len() {
                // As a rule it comes in one piece, which then is the body.
                first = data;
                continue;
            }
            if rest.is_empty() {
                rest.reserve(told.max(so_far));
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&data);
        }
        let bytes = if rest.is_empty() { first } else { rest.freeze() };
        Ok(Held { bytes, _room: room })
    }

    fn take(&self, bytes: usize) -> Result<Option<OwnedSemaphorePermit>, Failure> {
        if bytes <= STEP_BYTES {
            return Ok(None);
        }
        let steps = u32::try_from(bytes.div_ceil(STEP_BYTES)).unwrap_or(u32::MAX);
        let taken = Arc::clone(&self.steps).try_acquire_many_owned(steps);
        taken.map(Some).map_err(|_| full())
    }

    fn grow(&self, room: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Failure> {
        let held = room.as_ref().map_or(1, OwnedSemaphorePermit::num_permits) * STEP_BYTES;
        if bytes <= held {
            return Ok(());
        }
        let more = self.take((bytes - held).max(STEP_BYTES + 1))?;
        match (room.as_mut(), more) {
            (Some(room), Some(more)) => room.merge(more),
            (None, more) => *room = more,
            (Some(_), None) => {}
        }
        Ok(())
    }

    fn too_large(&self) -> Failure {
        let message = format!("the body is larger than {} bytes", self.bytes_max);
        Failure::new(FailureKind::Invalid, Progress::NotSent, message).with_code(Code::RequestTooLarge)
    }
}

/// How long so many bytes may take.
fn likely(bytes: usize) -> Duration {
    Duration::from_millis(bytes as u64 * 1_000 / BYTES_PER_SECOND_MIN)
}

fn full() -> Failure {
    let message = "the gateway holds as many large requests as it can";
    let wait = Some(Duration::from_secs(1));
    let failure = Failure::new(FailureKind::Overloaded, Progress::NotSent, message);
    failure.with_code(Code::GatewayBusy).with_retry_after(wait)
}

fn too_slow() -> Failure {
    let mut failure = Failure::new(FailureKind::Invalid, Progress::NotSent, "the body stopped coming");
    failure.detail.status = Some(408);
    failure
}

fn cut() -> Failure {
    Failure::new(FailureKind::Cancelled, Progress::NotSent, "the body ended before it was whole")
}
