//! TLS (check 16).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::ClientCertificates;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::listen::{Caps, Limits, ServerTls, TlsError, TlsFiles};

use super::support::{LONG, Server, hasty, statuses};

pub(super) type Issuer = CertifiedIssuer<'static, KeyPair>;

pub(super) fn authority() -> Issuer {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

pub(super) struct Issued {
    pub(super) der: CertificateDer<'static>,
    pem: String,
    key: KeyPair,
}

impl Issued {
    /// A certificate nobody vouches for.
    pub(super) fn by_itself(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), key }
    }

    /// This certificate with another key than its own.
    pub(super) fn without_its_key(&self) -> Self {
        Self { der: self.der.clone(), pem: self.pem.clone(), key: KeyPair::generate().unwrap() }
    }
}

pub(super) fn issue(authority: &Issuer, name: &str) -> Issued {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, authority).unwrap();
    Issued { der: certificate.der().clone(), pem: certificate.pem(), key }
}

/// Certificate files in a directory of their own.
pub(super) struct Files {
    dir: TempDir,
    pub(super) files: TlsFiles,
}

impl Files {
    pub(super) fn new(issued: &Issued, client_ca: Option<&Issuer>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = TlsFiles {
            cert: path("cert.pem"),
            key: path("key.pem"),
            client_ca: client_ca.map(|_| path("ca.pem")),
            client_certificates: client_ca.map_or(ClientCertificates::Off, |_| ClientCertificates::Ca),
        };
        let files = Self { dir, files };
        files.put(issued);
        if let Some(authority) = client_ca {
            files.trust(authority);
        }
        files
    }

    /// Clients may come with any certificate.
    pub(super) fn any(mut self) -> Self {
        self.files.client_certificates = ClientCertificates::Any;
        self
    }

    pub(super) fn trust(&self, authority: &Issuer) {
        std::fs::write(self.path("ca.pem"), authority.pem()).unwrap();
    }

    fn put(&self, issued: &Issued) {
        std::fs::write(&self.files.cert, &issued.pem).unwrap();
        std::fs::write(&self.files.key, issued.key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

pub(super) async fn start(limits: Limits, files: &Files) -> (Server, Arc<ServerTls>) {
    let tls = ServerTls::load(files.files.clone()).unwrap();
    (Server::with(limits, Caps::new(100, 100, Vec::new()), Some(Arc::clone(&tls))).await, tls)
}

pub(super) struct Visitor<'a> {
    pub(super) root: &'a Issuer,
    pub(super) certificate: Option<&'a Issued>,
    pub(super) alpn: &'a [&'a str],
    pub(super) versions: &'a [&'static rustls::SupportedProtocolVersion],
}

impl<'a> Visitor<'a> {
    pub(super) fn trusting(root: &'a Issuer) -> Self {
        Self { root, certificate: None, alpn: &[], versions: rustls::ALL_VERSIONS }
    }

    pub(super) fn config(&self) -> Arc<ClientConfig> {
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
                let key = any_supported_type(&key).unwrap();
                // Whether certificate and key belong together is the server's to find out.
                let both = SingleCertAndKey::from(CertifiedKey::new(vec![own.der.clone()], key));
                builder.with_client_cert_resolver(Arc::new(both))
            }
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    pub(super) async fn visit(&self, server: &Server) -> std::io::Result<TlsStream<TcpStream>> {
        visit(server, self.config()).await
    }
}

pub(super) async fn visit(server: &Server, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(server.address).await?;
    TlsConnector::from(config).connect(ServerName::try_from("gate.example").unwrap(), tcp).await
}

pub(super) async fn ask(mut stream: TlsStream<TcpStream>) -> std::io::Result<String> {
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
