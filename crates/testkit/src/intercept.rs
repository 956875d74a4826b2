//! Somebody between an app and its server: at first a wire, then a proxy that ends TLS with a certificate of its own, reads
//! everything, changes what it likes and sends it again.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certs::{Authority, Identity};

/// A request as it was read in between.
#[derive(Debug, Clone)]
pub struct Overheard {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: String,
    /// The fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What becomes of a request before it goes on.
pub type Alter = dyn Fn(&mut Overheard) + Send + Sync;

/// Somebody between.
pub struct Intercept {
    address: SocketAddr,
    shared: Arc<Shared>,
    _serving: JoinSet<()>,
}

struct Shared {
    server: SocketAddr,
    /// How the server is reached from here: its own certificate is trusted.
    onward: Arc<ClientConfig>,
    state: Mutex<State>,
    overheard: Mutex<Vec<Overheard>>,
}

#[derive(Default)]
struct State {
    /// Where there is one, TLS ends here.
    acceptor: Option<TlsAcceptor>,
    alter: Option<Arc<Alter>>,
    /// What is answered to requests for this path, instead of the server.
    instead: Option<(String, Bytes)>,
}

impl Intercept {
    /// In front of `server`, whose certificate is by `genuine`. At first everything is passed on as it is.
    pub async fn before(server: SocketAddr, genuine: &Authority) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        Self::at(listener, server, genuine)
    }

    /// The same with a port that is known already.
    pub fn at(listener: TcpListener, server: SocketAddr, genuine: &Authority) -> Self {
        let address = listener.local_addr().expect("a listener has an address");
        let onward = genuine.client_config(None, &["http/1.1"]);
        let shared = Arc::new(Shared { server, onward, state: Mutex::default(), overheard: Mutex::default() });
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, _serving: serving }
    }

    /// Where apps connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, show this identity to new connections and read along.
    pub fn intercept(&self, identity: &Identity) {
        self.shared.state.lock().unwrap().acceptor = Some(TlsAcceptor::from(identity.server_config(None)));
    }

    /// From now on, change requests before they go on.
    pub fn alter(&self, alter: impl Fn(&mut Overheard) + Send + Sync + 'static) {
        self.shared.state.lock().unwrap().alter = Some(Arc::new(alter));
    }

    /// From now on, answer requests for `path` with this, and do not ask the server.
    pub fn answer(&self, path: &str, body: Bytes) {
        self.shared.state.lock().unwrap().instead = Some((path.to_owned(), body));
    }

    /// From now on, change nothing.
    pub fn leave_as_is(&self) {
        let mut state = self.shared.state.lock().unwrap();
        (state.alter, state.instead) = (None, None);
    }

    /// Everything that was read, before it was changed.
    pub fn overheard(&self) -> Vec<Overheard> {
        self.shared.overheard.lock().unwrap().clone()
    }

    /// Send something to the server as it stands here: what was read, changed or not.
    pub async fn send(&self, request: &Overheard) -> (u16, Bytes) {
        let answer = crate::patiently("the server's answer", onward(&self.shared, request.clone())).await;
        let (head, body) = answer.into_parts();
        (head.status.as_u16(), body.collect().await.expect("the body is here").to_bytes())
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                let _ = near.set_nodelay(true);
                connections.spawn(one(near, Arc::clone(&shared)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn one(mut near: TcpStream, shared: Arc<Shared>) {
    let acceptor = shared.state.lock().unwrap().acceptor.clone();
    let Some(acceptor) = acceptor else {
        let Ok(mut far) = TcpStream::connect(shared.server).await else { return };
        let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        return;
    };
    // An app that does not believe the certificate goes away here.
    let Ok(tls) = acceptor.accept(near).await else { return };
    let service = service_fn(move |request| read_along(request, Arc::clone(&shared)));
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tls), service).await;
}

async fn read_along(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    let path = head.uri.path_and_query().expect("a request has a path").to_string();
    let mut request = Overheard { method: head.method, path, headers: head.headers, body };
    shared.overheard.lock().unwrap().push(request.clone());
    let (alter, instead) = {
        let state = shared.state.lock().unwrap();
        (state.alter.clone(), state.instead.clone())
    };
    if let Some((_, body)) = instead.filter(|(path, _)| *path == request.path) {
        return Ok(Response::new(Full::new(body)));
    }
    if let Some(alter) = alter {
        alter(&mut request);
    }
    Ok(onward(&shared, request).await)
}

/// To the server over a connection of its own.
async fn onward(shared: &Shared, request: Overheard) -> Response<Full<Bytes>> {
    let tcp = TcpStream::connect(shared.server).await.expect("the server listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let tls = TlsConnector::from(Arc::clone(&shared.onward)).connect(name, tcp).await.expect("the server is genuine");
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(tls)).await.expect("the server speaks HTTP/1.1");
    let mut sent = Request::builder().method(request.method).uri(request.path).body(Full::new(request.body)).unwrap();
    *sent.headers_mut() = request.headers;
    sent.headers_mut().remove("content-length");
    let answer = async {
        let answer = sender.send_request(sent).await.expect("the server answers");
        let (head, body) = answer.into_parts();
        let body = body.collect().await.expect("a whole answer").to_bytes();
        Response::from_parts(head, Full::new(body))
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        // The server may close as soon as it has said everything.
        _ = &mut connection => answer.await,
    }
}
