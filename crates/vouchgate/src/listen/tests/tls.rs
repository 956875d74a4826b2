//! TLS (check 16).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::listen::{Caps, Limits, ServerTls, TlsError, TlsFiles};

use super::support::{LONG, Server, hasty, statuses};

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Issued {
    der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

fn issue(authority: &Issuer, name: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    Issued { der: certificate.der().clone(), pem: certificate.pem(), key }
}

/// Certificate files in a directory of their own.
struct Files {
    dir: TempDir,
    files: TlsFiles,
}

impl Files {
    fn new(issued: &Issued, client_ca: Option<&Issuer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files =
            TlsFiles { cert: path("cert.pem"), key: path("key.pem"), client_ca: client_ca.map(|_| path("ca.pem")) };
        let files = Self { dir, files };
        files.put(issued);
        if let (Some(path), Some(authority)) = (&files.files.client_ca, client_ca) {
            std::fs::write(path, authority.pem()).unwrap();
        }
        files
    }

    fn put(&self, issued: &Issued) {
        std::fs::write(&self.files.cert, &issued.pem).unwrap();
        std::fs::write(&self.files.key, issued.key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

async fn start(limits: Limits, files: &Files) -> (Server, Arc<ServerTls>) {
    let tls = ServerTls::load(files.files.clone()).unwrap();
    (Server::with(limits, Caps::new(100, 100, Vec::new()), Some(Arc::clone(&tls))).await, tls)
}

struct Visitor<'a> {
    root: &'a Issuer,
    certificate: Option<&'a Issued>,
    alpn: &'a [&'a str],
    versions: &'a [&'static rustls::SupportedProtocolVersion],
}

impl<'a> Visitor<'a> {
    fn trusting(root: &'a Issuer) -> Self {
        Self { root, certificate: None, alpn: &[], versions: rustls::ALL_VERSIONS }
    }

    async fn visit(&self, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.key.serialize_der()));
                builder.with_client_auth_cert(vec![own.der.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let tcp = TcpStream::connect(server.address).await?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("gate.example").unwrap(), tcp).await
    }
}

async fn ask(mut stream: TlsStream<TcpStream>) -> std::io::Result<String> {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    tokio::time::timeout(LONG, stream.read_to_string(&mut answer)).await.expect("an answer")?;
    Ok(answer)
}

#[tokio::test]
async fn requests_over_tls_know_the_name_and_the_version() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None);
    let (server, _) = start(Limits::default(), &files).await;
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let visitor = Visitor { versions, ..Visitor::trusting(&root) };
        let answer = ask(visitor.visit(&server).await.unwrap()).await.unwrap();
        assert_eq!(statuses(&answer), [200]);
        let peer = server.desk.peers.lock().unwrap().pop().unwrap();
        assert_eq!((peer.tls, peer.http2, peer.sni.as_deref()), (true, false, Some("gate.example")));
        assert_eq!(peer.client_cert, None);
    }
}

#[tokio::test]
async fn alpn_decides_the_protocol_and_a_client_that_breaks_its_word_is_let_go() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None);
    let (server, _) = start(hasty(), &files).await;
    let visitor = Visitor { alpn: &["h2", "http/1.1"], ..Visitor::trusting(&root) };

    let stream = visitor.visit(&server).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    server.tasks.spawn(async move {
        let _ = connection.await;
    });
    let request = http::Request::get("https://gate.example/").body(()).unwrap();
    let (response, _) = sender.ready().await.unwrap().send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    assert!(server.desk.peers.lock().unwrap().pop().unwrap().http2);

    assert!(matches!(ask(visitor.visit(&server).await.unwrap()).await.as_deref(), Err(_) | Ok("")));
    let older = Visitor { alpn: &["http/1.1"], ..Visitor::trusting(&root) };
    assert_eq!(statuses(&ask(older.visit(&server).await.unwrap()).await.unwrap()), [200]);
    let other = Visitor { alpn: &["spdy/3"], ..Visitor::trusting(&root) };
    assert!(other.visit(&server).await.is_err(), "no protocol in common");
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_given_up_and_plain_http_gets_nothing() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None);
    let (server, _) = start(hasty(), &files).await;
    assert_eq!(server.connect().await.rest().await, "");
    let answer = server.tell("GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_new_certificate_is_used_at_once_and_open_connections_stay() {
    let (old, new) = (authority(), authority());
    let files = Files::new(&issue(&old, "gate.example"), None);
    let (server, tls) = start(Limits::default(), &files).await;
    let open = Visitor::trusting(&old).visit(&server).await.unwrap();
    assert!(!tls.reload().unwrap(), "nothing has changed");

    files.put(&issue(&new, "gate.example"));
    assert!(tls.reload().unwrap());
    assert!(Visitor::trusting(&old).visit(&server).await.is_err());
    let fresh = Visitor::trusting(&new).visit(&server).await.unwrap();
    assert_eq!(statuses(&ask(fresh).await.unwrap()), [200]);
    assert_eq!(statuses(&ask(open).await.unwrap()), [200]);
}

#[tokio::test]
async fn no_handshake_fails_while_the_certificate_is_replaced_again_and_again() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None);
    let (server, tls) = start(Limits::default(), &files).await;
    let others: Vec<_> = (0..20).map(|_| issue(&root, "gate.example")).collect();
    let replacing = async {
        for other in &others {
            files.put(other);
            assert!(tls.reload().unwrap());
            tokio::task::yield_now().await;
        }
    };
    let visiting = async {
        for _ in 0..20 {
            let stream = Visitor::trusting(&root).visit(&server).await.unwrap();
            assert_eq!(statuses(&ask(stream).await.unwrap()), [200]);
        }
    };
    tokio::join!(replacing, visiting);
}

#[tokio::test]
async fn files_that_do_not_fit_change_nothing() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None);
    let (server, tls) = start(Limits::default(), &files).await;
    let write = |path: &Path, text: &str| std::fs::write(path, text).unwrap();

    write(&files.files.key, &issue(&root, "gate.example").key.serialize_pem());
    assert!(matches!(tls.reload(), Err(TlsError::Unusable { .. })), "another certificate's key");
    write(&files.files.key, "no key");
    assert!(matches!(tls.reload(), Err(TlsError::NoKey(_))));
    write(&files.files.cert, "");
    assert!(matches!(tls.reload(), Err(TlsError::NoCertificate(_))));
    std::fs::remove_file(&files.files.cert).unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Read { .. })));

    let stream = Visitor::trusting(&root).visit(&server).await.unwrap();
    assert_eq!(statuses(&ask(stream).await.unwrap()), [200], "what was in use still is");
}

#[tokio::test]
async fn a_client_certificate_is_optional_verified_and_handed_on() {
    let (root, clients, stranger) = (authority(), authority(), authority());
    let files = Files::new(&issue(&root, "gate.example"), Some(&clients));
    let (server, _) = start(Limits::default(), &files).await;

    let without = Visitor::trusting(&root).visit(&server).await.unwrap();
    assert_eq!(statuses(&ask(without).await.unwrap()), [200]);
    assert_eq!(server.desk.peers.lock().unwrap().pop().unwrap().client_cert, None);

    let own = issue(&clients, "client.example");
    let with = Visitor { certificate: Some(&own), ..Visitor::trusting(&root) };
    assert_eq!(statuses(&ask(with.visit(&server).await.unwrap()).await.unwrap()), [200]);
    assert_eq!(server.desk.peers.lock().unwrap().pop().unwrap().client_cert, Some(own.der.clone()));

    let forged = issue(&stranger, "client.example");
    let with = Visitor { certificate: Some(&forged), ..Visitor::trusting(&root) };
    // TLS 1.3 tells the client only after its own handshake is over.
    let refused = match with.visit(&server).await {
        Ok(stream) => ask(stream).await.is_err(),
        Err(_) => true,
    };
    assert!(refused);
    assert!(server.desk.peers.lock().unwrap().is_empty());
    assert!(files.path("ca.pem").exists());
}
