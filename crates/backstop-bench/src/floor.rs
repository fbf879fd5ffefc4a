//! The floor: a proxy of hyper that looks at nothing. What a gateway in Rust costs on top of it is its own work.

use crate::Stop;
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Listen on this port of 127.0.0.1
    #[arg(long)]
    port: u16,
    /// Forward to this address
    #[arg(long, value_name = "IP:PORT")]
    upstream: SocketAddr,
}

type Upstream = Client<HttpConnector, Incoming>;

/// Serves until the process is ended.
pub(crate) async fn serve(options: &Options) -> Result<(), Stop> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(2_048).build(connector);
    let listening = TcpListener::bind(("127.0.0.1", options.port)).await;
    let listener = listening.map_err(|error| Stop::failed(format!("port {}: {error}", options.port)))?;
    loop {
        // What cannot be accepted now waits in the queue of the socket.
        let Ok((stream, _)) = listener.accept().await else { continue };
        tokio::spawn(connection(stream, client.clone(), options.upstream));
    }
}

async fn connection(stream: TcpStream, client: Upstream, upstream: SocketAddr) {
    let service = service_fn(move |request| forward(client.clone(), upstream, request));
    // A client that goes away is its own affair.
    let _ = stream.set_nodelay(true);
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn forward(
    client: Upstream,
    upstream: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let uri = Uri::builder().scheme("http").authority(upstream.to_string()).path_and_query(target).build();
    let bad_gateway = || {
        let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        response
    };
    let Ok(uri) = uri else { return Ok(bad_gateway()) };
    *request.uri_mut() = uri;
    request.headers_mut().remove(HOST);
    let answered = client.request(request).await;
    Ok(answered.map_or_else(|_| bad_gateway(), |response| response.map(BodyExt::boxed)))
}
