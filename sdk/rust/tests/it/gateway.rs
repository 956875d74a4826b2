//! A gateway made of a script: it keeps what it was asked and answers from a function.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use testkit::certs::Identity;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) path: String,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Bytes,
}

impl Asked {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The members of what was sent as client data.
    pub(crate) fn client_data(&self) -> Value {
        decoded(self.json()["client_data"].as_str().unwrap())
    }
}

/// JSON in base64url.
pub(crate) fn decoded(text: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}

type Script = dyn Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync;

/// The gateway.
#[derive(Clone)]
pub(crate) struct Gateway {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Gateway {
    /// Answers by `script`, which is told how many requests came before.
    pub(crate) async fn new(script: impl Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync + 'static) -> Self {
        Self::with(None, script).await
    }

    /// The same over TLS.
    pub(crate) async fn with(
        identity: Option<&Identity>,
        script: impl Fn(&Asked, usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        let acceptor = identity.map(|identity| TlsAcceptor::from(identity.server_config(None)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let gateway = Self { address, asked: Arc::clone(&asked) };
        let script: Arc<Script> = Arc::new(script);
        let executor = TokioExecutor::new();
        let accept = async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (asked, script) = (Arc::clone(&asked), Arc::clone(&script));
                let service = service_fn(move |request| answer(request, Arc::clone(&asked), Arc::clone(&script)));
                let server = hyper::server::conn::http1::Builder::new();
                let acceptor = acceptor.clone();
                hyper::rt::Executor::execute(&TokioExecutor::new(), async move {
                    let _ = match acceptor {
                        None => server.serve_connection(TokioIo::new(tcp), service).await,
                        Some(acceptor) => {
                            let Ok(tls) = acceptor.accept(tcp).await else { return };
                            server.serve_connection(TokioIo::new(tls), service).await
                        }
                    };
                });
            }
        };
        hyper::rt::Executor::execute(&executor, accept);
        gateway
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path == path).count()
    }
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Vec<Asked>>>,
    script: Arc<Script>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path_and_query().unwrap().to_string();
    let one = Asked { path, headers: head.headers, body };
    let before = {
        let mut asked = asked.lock().unwrap();
        asked.push(one.clone());
        asked.len() - 1
    };
    Ok(script(&one, before))
}

/// 200 with JSON.
pub(crate) fn json_answer(value: &Value) -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from(value.to_string())))
}

/// A refusal.
pub(crate) fn refusal(status: u16, action: &str) -> Response<Full<Bytes>> {
    let body = json!({"title": "attestation required", "status": status, "arc": "K7QX2M4P", "action": action});
    Response::builder().status(status).body(Full::new(Bytes::from(body.to_string()))).unwrap()
}

/// What a gateway that takes everything says to the endpoints for apps; `None` for other paths.
pub(crate) fn accepting(asked: &Asked, before: usize) -> Option<Response<Full<Bytes>>> {
    let token = format!("token-{before}");
    Some(match asked.path.as_str() {
        "/attest/v1/challenge" => json_answer(&json!({"nonce": format!("nonce-{before}"), "expires_in": 120})),
        "/attest/v1/enroll" | "/attest/v1/token" => json_answer(&json!({
            "instance": "i-1", "access_token": token, "expires_in": 300, "arc": "ARC00001", "nonce": "next"})),
        _ => return None,
    })
}
