//! Carries a script out on a connection. The meter in it charges when the body is dropped, which is when it ends, when it
//! breaks, or when hyper sees that the client went away.

use super::script::Piece;
use crate::bill::Meter;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// The connection is broken on purpose.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the connection is cut")]
pub(super) struct Severed;

/// The body of an answer.
pub(super) struct ScriptBody {
    pieces: VecDeque<Piece>,
    wait: Option<Pin<Box<Sleep>>>,
    meter: Option<Meter>,
}

impl ScriptBody {
    /// A body that does these things, and charges for them where there is a meter.
    pub(super) fn new(pieces: VecDeque<Piece>, meter: Option<Meter>) -> Self {
        Self { pieces, wait: None, meter }
    }

    /// A body that is there already.
    pub(super) fn whole(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::new(VecDeque::from([Piece::Send { bytes, content_bytes: 0 }]), None)
    }

    fn complete(&mut self) {
        if let Some(meter) = &mut self.meter {
            meter.complete();
        }
    }

    fn produce(&mut self, bytes: usize) {
        if let Some(meter) = &mut self.meter {
            meter.produce(bytes);
        }
    }
}

impl Body for ScriptBody {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        loop {
            if let Some(wait) = &mut self.wait {
                std::task::ready!(wait.as_mut().poll(cx));
                self.wait = None;
            }
            match self.pieces.pop_front() {
                None => {
                    self.complete();
                    return Poll::Ready(None);
                }
                Some(Piece::Wait(ms)) => self.wait = Some(Box::pin(sleep(Duration::from_millis(ms)))),
                // Hyper writes what it holds when a body has nothing more for the moment.
                Some(Piece::Flush) => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Some(Piece::Cut) => return Poll::Ready(Some(Err(Severed))),
                Some(Piece::Repeat { times: 0, .. }) => {}
                Some(Piece::Repeat { bytes, times }) => {
                    self.pieces.push_front(Piece::Repeat { bytes: bytes.clone(), times: times - 1 });
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                Some(Piece::Send { bytes, .. }) if bytes.is_empty() => {}
                Some(Piece::Send { bytes, content_bytes }) => {
                    self.produce(content_bytes);
                    // A body of a known length is not asked again after its last byte, and a client that read the last
                    // event may be gone before the end of the body: what was sent whole is billed whole.
                    if self.pieces.iter().all(|piece| *piece == Piece::Flush) {
                        self.complete();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
            }
        }
    }
}
