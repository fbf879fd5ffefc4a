//! One connection to a provider, and the answer that comes on it. No task stands behind a connection: whoever waits for an
//! answer moves it along. So what arrives wakes the call that waits for it and nobody else, and a call that is dropped
//! closes its connection at once. Which connection a request gets, and what a failure means, is known to `client.rs`.

use crate::client::Origin;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_rustls::MaybeHttpsStream;
use hyper_util::rt::TokioIo;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// What a connection speaks over.
pub(crate) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;
/// A request with its whole body.
pub(crate) type Outgoing = Request<Full<Bytes>>;

/// A connection.
pub(crate) struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    /// What moves the bytes; `None` once it has ended.
    driver: Option<Box<http1::Connection<Stream, Full<Bytes>>>>,
}

/// How a request was lost.
pub(crate) enum LostRequest {
    /// Not a byte of it was sent: it can be sent elsewhere.
    NotBegun(Box<Outgoing>),
    /// It was begun.
    Begun(hyper::Error),
}

impl Connection {
    /// A connection over a stream that is open.
    pub(crate) async fn over(stream: Stream) -> hyper::Result<Self> {
        let (sender, driver) = http1::handshake(stream).await?;
        Ok(Self { sender, driver: Some(Box::new(driver)) })
    }

    /// Moves what can be moved. Ready when the connection has ended; why is told to whoever waits for an answer.
    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(driver) = &mut self.driver {
            let _ended: hyper::Result<()> = ready!(Pin::new(driver).poll(cx));
            self.driver = None;
        }
        Poll::Ready(())
    }

    /// Whether it takes a request: not when the provider has closed it meanwhile.
    pub(crate) fn is_free(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx).is_pending() && self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(&mut self, request: Outgoing) -> Result<Response<Incoming>, LostRequest> {
        let mut answer = pin!(self.sender.try_send_request(request));
        let answered = poll_fn(|cx| {
            // Whether it has ended or not: the answer knows.
            let _ = self.drive(cx);
            answer.as_mut().poll(cx)
        });
        answered.await.map_err(|mut error| match error.take_message() {
            Some(request) => LostRequest::NotBegun(Box::new(request)),
            None => LostRequest::Begun(error.into_error()),
        })
    }
}

/// The body of an answer, with the connection that it comes on. Once it is read to its end the connection is free for another
/// request; dropped before, it is closed.
pub(crate) struct Arriving {
    incoming: Incoming,
    connection: Option<Connection>,
    origin: Arc<Origin>,
}

impl Arriving {
    pub(crate) fn new(incoming: Incoming, connection: Connection, origin: Arc<Origin>) -> Self {
        Self { incoming, connection: Some(connection), origin }
    }

    fn ended(&mut self, cx: &mut Context<'_>) {
        if let Some(mut connection) = self.connection.take()
            && connection.is_free(cx)
        {
            self.origin.keep(connection);
        }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let mut frame = Pin::new(&mut this.incoming).poll_frame(cx);
        if frame.is_pending()
            && let Some(connection) = &mut this.connection
        {
            // Whether it has ended or not: what it brought is in the body now.
            let _ = connection.drive(cx);
            frame = Pin::new(&mut this.incoming).poll_frame(cx);
        }
        if matches!(frame, Poll::Ready(None)) {
            this.ended(cx);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        // The end must be read for the connection to become free.
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
