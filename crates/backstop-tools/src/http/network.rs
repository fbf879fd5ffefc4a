//! How a name becomes a connection. A name is resolved once, here; every address of it is checked, and the connection goes
//! to one of those that were checked and nowhere else. No proxy is asked, whatever the environment says.

use super::address::{Reach, reach};
use super::target::Target;
use backstop_call::BoxFuture;
use http::Uri;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, MaybeHttpsStream};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use std::error::Error as StdError;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;
use url::Host;

/// A name with more addresses is not looked up for a tool.
const ADDRESSES_MAX: usize = 64;
/// How long one of them is given to answer while there are others.
const ADDRESS_WAIT: Duration = Duration::from_secs(5);
/// So many of them are tried.
const TRIED_MAX: usize = 4;

/// Finds the addresses of a name.
pub trait Resolve: Send + Sync {
    /// All addresses of `host`, which is a name and no address.
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>>;
}

/// The operating system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve<'a>(&'a self, host: &'a str) -> BoxFuture<'a, io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// What the tools need of the world: a resolver, and the authorities whose certificates count. Cheap to clone.
#[derive(Clone)]
pub struct Network {
    resolver: Arc<dyn Resolve>,
    tls: Arc<ClientConfig>,
}

/// An open connection.
pub(super) type Stream = MaybeHttpsStream<TokioIo<TcpStream>>;

impl Network {
    /// The operating system's resolver, and the roots of Mozilla's list, compiled in.
    pub fn system() -> Self {
        Self { resolver: Arc::new(SystemResolver), tls: Arc::new(tls(None)) }
    }

    /// A resolver and roots of one's own.
    pub fn new(resolver: impl Resolve + 'static, roots: RootCertStore) -> Self {
        Self { resolver: Arc::new(resolver), tls: Arc::new(tls(Some(roots))) }
    }

    /// A connection to a target, or why there is none, in words for the model.
    pub(super) async fn connect(&self, target: &Target, private: bool) -> Result<Stream, String> {
        let addresses = self.addresses(target).await?;
        for address in &addresses {
            check(target, *address, private)?;
        }
        let mut why = format!("{} has no address", target.origin());
        let tried = addresses.len().min(TRIED_MAX);
        for (at, address) in addresses.into_iter().take(TRIED_MAX).enumerate() {
            let connecting = self.connect_to(SocketAddr::new(address, target.port()), target);
            // The last is waited for as long as the call may take.
            let connected = if at + 1 == tried {
                connecting.await
            } else {
                let late = |_| Err(format!("No connection to {} in time.", target.origin()));
                timeout(ADDRESS_WAIT, connecting).await.unwrap_or_else(late)
            };
            match connected {
                Ok(stream) => return Ok(stream),
                Err(reason) => why = reason,
            }
        }
        Err(why)
    }

    async fn addresses(&self, target: &Target) -> Result<Vec<IpAddr>, String> {
        let name = match target.host() {
            Host::Domain(name) => name,
            Host::Ipv4(_) | Host::Ipv6(_) => return Ok(target.address().into_iter().collect()),
        };
        let addresses = self.resolver.resolve(name).await.unwrap_or_default();
        match addresses.len() {
            0 => Err(format!("The host `{name}` was not found. Verify its name.")),
            1..=ADDRESSES_MAX => Ok(addresses),
            _ => Err(format!("The host `{name}` has more addresses than are checked.")),
        }
    }

    async fn connect_to(&self, address: SocketAddr, target: &Target) -> Result<Stream, String> {
        let origin = target.origin();
        let uri = Uri::try_from(origin).map_err(|error| format!("{origin} cannot be used: {error}."))?;
        let mut connector = HttpsConnector::from((Pinned(address), Arc::clone(&self.tls)));
        let connected = connector.call(uri).await;
        connected.map_err(|error| match (cause::<rustls::Error>(&*error), cause::<io::Error>(&*error)) {
            (Some(error), _) => format!("The TLS handshake with {origin} failed: {error}."),
            (None, Some(error)) => format!("No connection to {origin}: {}.", error.kind()),
            (None, None) => format!("No connection to {origin} could be made."),
        })
    }
}

/// The first error of a type in the chain. An I/O error that wraps another skips it in its `source`, and is opened.
fn cause<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn tls(roots: Option<RootCertStore>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has the cipher suites of rustls' default versions");
    match roots {
        Some(roots) => builder.with_root_certificates(roots).with_no_client_auth(),
        None => builder.with_webpki_roots().with_no_client_auth(),
    }
}

/// One address that may not be used makes the whole name unusable: a name that answers with both is a trick, or a mistake.
fn check(target: &Target, address: IpAddr, private: bool) -> Result<(), String> {
    let why = match reach(address) {
        Reach::Public => return Ok(()),
        Reach::Private(_) if private => return Ok(()),
        Reach::Private(kind) => format!("{kind}, and private addresses are not granted for it"),
        Reach::Never(kind) => format!("{kind}, which is never granted"),
    };
    Err(format!("{} is not used: its address {address} is {why}. Use another host.", target.origin()))
}

/// Connects to one address, whatever name it is asked for; the name is for TLS alone.
#[derive(Clone)]
struct Pinned(SocketAddr);

impl Service<Uri> for Pinned {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<TcpStream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let address = self.0;
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}
