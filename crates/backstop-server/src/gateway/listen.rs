//! Connections: how many, how long they may dally, and how they end. What is asked on them is none of its business.

use super::Gateway;
use super::patient::Patient;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

/// The most of a request's head: line and headers together, in bytes.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// How often is looked whether a key was made or revoked.
const KEYS_EVERY: Duration = Duration::from_millis(500);
/// How long to wait when the system has no more connections to give.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How the end went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Calls that were still under way when the time was over, and were cancelled.
    pub cancelled: usize,
}

/// Serves until `stop` is done; then takes no more connections, lets the calls under way end, for as long as the limits
/// say, and cancels the rest: what they cost is settled or suspended as with a client that goes away.
pub async fn serve(listener: TcpListener, gateway: Arc<Gateway>, stop: impl Future<Output = ()>) -> Drained {
    let (ending, ended) = watch::channel(false);
    let places = Arc::new(Semaphore::new(gateway.limits.connections_max));
    let mut connections = JoinSet::new();
    let mut keys = interval(KEYS_EVERY);
    keys.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let address = listener.local_addr().map(|address| format!("http://{address}")).unwrap_or_default();
    // It ends when it is dropped.
    let mut bell = JoinSet::new();
    bell.spawn(Arc::clone(&gateway).tell_of_questions(address));
    bell.spawn(Arc::clone(&gateway).tell_of_others());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            (place, accepted) = accept(&listener, &places) => match accepted {
                Ok(stream) => {
                    let connection = Connection { gateway: Arc::clone(&gateway), ended: ended.clone(), _place: place };
                    connections.spawn(connection.serve(stream));
                }
                // Too many open files, as a rule: some will be closed.
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            _ = keys.tick() => {
                // A journal that cannot be read now is told by its own health; the ring stays what it is.
                drop(gateway.refresh_keys().await);
            }
        }
    }
    drop(listener);
    gateway.draining.store(true, Ordering::Relaxed);
    drop(bell);
    gateway.dashboard.live.end();
    // Nobody listens when there is no connection.
    let _ = ending.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    let in_time = timeout(gateway.limits.drain, all).await.is_ok();
    let cancelled = if in_time { 0 } else { gateway.calls.load(Ordering::Relaxed) };
    connections.shutdown().await;
    Drained { cancelled }
}

/// Waits for a free place, and then for a connection.
async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (Option<OwnedSemaphorePermit>, std::io::Result<TcpStream>) {
    // It is never closed.
    let place = Arc::clone(places).acquire_owned().await.ok();
    let accepted = listener.accept().await.map(|(stream, _)| stream);
    (place, accepted)
}

struct Connection {
    gateway: Arc<Gateway>,
    ended: watch::Receiver<bool>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn serve(mut self, stream: TcpStream) {
        // Without it small frames wait for each other; a system that refuses it only makes them later.
        drop(stream.set_nodelay(true));
        let Ok(peer) = stream.peer_addr() else { return };
        let gateway = Arc::clone(&self.gateway);
        let service = service_fn(move |request| {
            let gateway = Arc::clone(&gateway);
            async move { Ok::<_, Infallible>(gateway.answer(peer.ip(), request).await) }
        });
        let idle = self.gateway.limits.idle;
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(idle)
            .max_buf_size(HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream, idle)), service);
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            // How a connection ends is its client's business: what it cost is told by the call.
            _ = serving.as_mut() => return,
            _ = self.ended.wait_for(|ended| *ended) => serving.as_mut().graceful_shutdown(),
        }
        drop(serving.await);
    }
}
