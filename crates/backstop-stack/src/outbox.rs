//! What a layer's sink has taken but not handed on yet. A sink that turns one chunk into none or several needs it: it
//! never sends without room, and never forgets a chunk.

use backstop_call::{Chunk, Closed, Sink};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker, ready};

/// Chunks on their way to a sink, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Chunk>,
}

impl Outbox {
    /// Puts a chunk at the end.
    pub(crate) fn push(&mut self, chunk: Chunk) {
        self.waiting.push_back(chunk);
    }

    /// Hands on what waits, then asks whether there is room for one more.
    pub(crate) fn poll_ready(
        &mut self,
        sink: &mut dyn Sink,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Closed>> {
        loop {
            ready!(sink.poll_ready(cx))?;
            match self.waiting.pop_front() {
                Some(chunk) => sink.send(chunk),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Hands a chunk on at once where nothing waits and there is room; else it waits behind the others.
    pub(crate) fn send(&mut self, chunk: Chunk, sink: &mut dyn Sink) {
        let mut cx = Context::from_waker(Waker::noop());
        if self.waiting.is_empty() && sink.poll_ready(&mut cx) == Poll::Ready(Ok(())) {
            return sink.send(chunk);
        }
        self.push(chunk);
        self.drain(sink);
    }

    /// Hands on as much as there is room for now. What stays goes with the next `poll_ready` or `flush`, whose waker then
    /// replaces the one that does nothing.
    pub(crate) fn drain(&mut self, sink: &mut dyn Sink) {
        let mut cx = Context::from_waker(Waker::noop());
        while !self.waiting.is_empty() {
            match sink.poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {
                    if let Some(chunk) = self.waiting.pop_front() {
                        sink.send(chunk);
                    }
                }
                Poll::Ready(Err(Closed)) => self.waiting.clear(),
                Poll::Pending => return,
            }
        }
    }

    /// Waits until everything is handed on.
    pub(crate) async fn flush(&mut self, sink: &mut dyn Sink) -> Result<(), Closed> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        poll_fn(|cx| self.poll_ready(sink, cx)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes `room` chunks, then none until there is room again.
    struct Narrow {
        room: usize,
        got: Vec<Chunk>,
    }

    impl Sink for Narrow {
        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Closed>> {
            if self.room == 0 { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn send(&mut self, chunk: Chunk) {
            assert!(self.room > 0, "sent without room");
            self.room -= 1;
            self.got.push(chunk);
        }
    }

    #[test]
    fn sends_in_order_and_only_with_room() {
        let usage = |n| Chunk::Usage(backstop_call::Usage { input_tokens: n, ..Default::default() });
        let mut outbox = Outbox::default();
        let mut sink = Narrow { room: 2, got: Vec::new() };
        (1..=4).for_each(|n| outbox.push(usage(n)));
        outbox.drain(&mut sink);
        assert_eq!(sink.got.len(), 2);
        sink.room = 2;
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(outbox.poll_ready(&mut sink, &mut cx), Poll::Pending, "no room is left for another");
        assert_eq!(sink.got, [usage(1), usage(2), usage(3), usage(4)]);
    }
}
