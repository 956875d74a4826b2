//! A proxy on hyper that only forwards: what any proxy in this language has to pay. Vouchgate is measured against it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::uri::Authority;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

/// Forward everything that comes in on `listener`, over TLS if `tls` says how, to `upstream`, until dropped.
pub async fn run(listener: TcpListener, tls: Option<Arc<ServerConfig>>, upstream: SocketAddr) {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<_, Incoming> =
        Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
    let authority: Authority = upstream.to_string().parse().expect("an address is an authority");
    let shared = Arc::new((client, authority));
    let tls = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    let service = service_fn(move |request| forward(Arc::clone(&shared), request));
                    let server = hyper::server::conn::http1::Builder::new();
                    let Some(tls) = tls else {
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                        return;
                    };
                    if let Ok(stream) = tls.accept(stream).await {
                        let _ = server.serve_connection(TokioIo::new(stream), service).await;
                    }
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn forward(
    shared: Arc<(Client<HttpConnector, Incoming>, Authority)>,
    mut request: Request<Incoming>,
) -> Result<Response<BoxBody<Bytes, hyper::Error>>, Infallible> {
    let (client, authority) = &*shared;
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder().scheme("http").authority(authority.clone());
    let uri = match path {
        Some(path) => uri.path_and_query(path),
        None => uri.path_and_query("/"),
    };
    *request.uri_mut() = uri.build().expect("parts of a URI make a URI");
    request.headers_mut().remove(header::HOST);
    let Ok(response) = client.request(request).await else {
        let empty = Empty::new().map_err(|never| match never {}).boxed();
        let mut response = Response::new(empty);
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        return Ok(response);
    };
    Ok(response.map(BodyExt::boxed))
}
