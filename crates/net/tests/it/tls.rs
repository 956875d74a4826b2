//! TLS and HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode, Version};
use http_body_util::BodyExt;
use net::{Authority, Deadlines, Egress, EgressConfig, Reach, Target};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::support::{LONG, Peer, Wire, get, knowing, patient, post, text};

const NAME: &str = "api.example";

/// A certificate for [`NAME`] that is its own authority, and an acceptor that presents it.
fn certified(alpn: &[&str]) -> (CertificateDer<'static>, TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    (certificate, TlsAcceptor::from(Arc::new(config)))
}

fn trusting(root: &CertificateDer<'static>, streams: usize) -> Egress {
    let config = EgressConfig { extra_roots: vec![root.clone()], streams, ..EgressConfig::default() };
    knowing(config, &[(NAME, "127.0.0.1"), ("other.example", "127.0.0.1")])
}

fn target(peer: &Peer, name: &str) -> Target {
    Target::new(&format!("https://{name}:{}/", peer.address.port()).parse().unwrap(), Reach::Private).unwrap()
}

async fn accept(peer: &mut Peer, acceptor: &TlsAcceptor) -> std::io::Result<TlsStream<TcpStream>> {
    acceptor.accept(peer.connection().await.0).await
}

#[tokio::test]
async fn the_certificate_must_be_trusted_and_carry_the_name() {
    let (root, acceptor) = certified(&[]);
    let (_, stranger) = certified(&[]);
    let cases = [(NAME, &acceptor, true), ("other.example", &acceptor, false), (NAME, &stranger, false)];
    for (name, acceptor, good) in cases {
        let mut peer = Peer::new().await;
        let (target, deadlines, egress) = (target(&peer, name), patient(), trusting(&root, 100));
        let (sent, ()) = tokio::join!(egress.send(&target, get("/"), &deadlines), async {
            let Ok(stream) = accept(&mut peer, acceptor).await else { return };
            assert_eq!(stream.get_ref().1.server_name(), Some(name));
            let (mut plain, mut stream) = (Vec::new(), stream);
            let mut piece = [0; 1024];
            while !plain.windows(4).any(|w| w == b"\r\n\r\n") {
                match tokio::io::AsyncReadExt::read(&mut stream, &mut piece).await {
                    Ok(got) if got > 0 => plain.extend_from_slice(&piece[..got]),
                    _ => return,
                }
            }
            let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
            tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await.unwrap();
        });
        match sent {
            Ok(response) => assert!(good && response.status() == StatusCode::NO_CONTENT),
            Err(error) => assert!(!good && error.reason() == "tls_failed", "{error}"),
        }
    }
}

#[tokio::test]
async fn a_peer_that_never_finishes_its_handshake_is_given_up() {
    let (root, _) = certified(&[]);
    let mut peer = Peer::new().await;
    let (target, egress) = (target(&peer, NAME), trusting(&root, 100));
    let short = Deadlines { tls: std::time::Duration::from_millis(50), ..patient() };
    let (sent, mut wire): (_, Wire) = tokio::join!(egress.send(&target, get("/"), &short), peer.connection());
    assert_eq!(sent.unwrap_err().reason(), "tls_timeout");
    assert!(wire.closed().await);
}

type H2 = h2::server::Connection<TlsStream<TcpStream>, Bytes>;

async fn h2(peer: &mut Peer, acceptor: &TlsAcceptor) -> H2 {
    h2::server::handshake(accept(peer, acceptor).await.unwrap()).await.unwrap()
}

#[tokio::test]
async fn http2_is_used_where_offered_and_streams_share_a_connection() {
    let (root, acceptor) = certified(&["h2", "http/1.1"]);
    let mut peer = Peer::new().await;
    let (target, deadlines, egress) = (target(&peer, NAME), patient(), trusting(&root, 100));
    let port = peer.address.port();
    let serve = async {
        let mut connection = h2(&mut peer, &acceptor).await;
        for _ in 0..3 {
            let (request, mut respond) = connection.accept().await.unwrap().unwrap();
            assert_eq!(request.uri().to_string(), format!("https://{NAME}:{port}/v1/x?y"));
            assert!(!request.headers().contains_key("host"));
            let mut body = respond.send_response(Response::new(()), false).unwrap();
            body.send_data(Bytes::from_static(b"ok"), true).unwrap();
        }
        // Drive the connection until the client is done.
        tokio::time::timeout(LONG, connection.accept()).await.ok();
    };
    let client = async {
        for _ in 0..3 {
            let response = egress.send(&target, post("/v1/x?y", "body"), &deadlines).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            assert_eq!(text(response.into_body()).await.unwrap(), "ok");
        }
        drop(egress);
    };
    tokio::join!(serve, client);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn dropping_the_body_resets_the_stream_and_spares_the_connection() {
    let (root, acceptor) = certified(&["h2"]);
    let mut peer = Peer::new().await;
    let (target, deadlines, egress) = (target(&peer, NAME), patient(), trusting(&root, 100));
    let serve = async {
        let mut connection = h2(&mut peer, &acceptor).await;
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut body = respond.send_response(Response::new(()), false).unwrap();
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        let reset = tokio::time::timeout(LONG, async {
            tokio::select! {
                reason = std::future::poll_fn(|cx| body.poll_reset(cx)) => reason.unwrap(),
                _ = connection.accept() => unreachable!("no other request, and the connection stays"),
            }
        });
        assert_eq!(reset.await.unwrap(), h2::Reason::CANCEL);
    };
    let client = async {
        let mut body = egress.send(&target, get("/"), &deadlines).await.unwrap().into_body();
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "abc");
        drop(body);
    };
    tokio::join!(serve, client);
}

#[tokio::test]
async fn more_streams_than_a_connection_takes_open_another() {
    let (root, acceptor) = certified(&["h2"]);
    let mut peer = Peer::new().await;
    let (target, deadlines, egress) = (target(&peer, NAME), patient(), trusting(&root, 1));
    let serve = async {
        let mut kept = Vec::new();
        for _ in 0..2 {
            let mut connection = h2(&mut peer, &acceptor).await;
            let (_, mut respond) = connection.accept().await.unwrap().unwrap();
            let body = respond.send_response(Response::new(()), false).unwrap();
            // Write the answer out, and keep the stream open.
            let flushed = std::future::poll_fn(|cx| {
                let _ = connection.poll_accept(cx);
                std::task::Poll::Ready(())
            });
            flushed.await;
            kept.push((connection, body));
        }
        kept
    };
    let client = async {
        let one = egress.send(&target, get("/1"), &deadlines).await.unwrap();
        let two = egress.send(&target, get("/2"), &deadlines).await.unwrap();
        (one, two)
    };
    let (_kept, _responses) = tokio::join!(serve, client);
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn many_requests_at_once_share_the_one_new_connection() {
    let (root, acceptor) = certified(&["h2"]);
    let mut peer = Peer::new().await;
    let (target, deadlines, egress) = (target(&peer, NAME), patient(), trusting(&root, 100));
    let serve = async {
        // The first connection is closed after one answer, the second serves the rest.
        for requests in [1, 20] {
            let mut connection = h2(&mut peer, &acceptor).await;
            for _ in 0..requests {
                let (_, mut respond) = connection.accept().await.unwrap().unwrap();
                respond.send_response(Response::new(()), true).unwrap();
            }
            connection.graceful_shutdown();
            tokio::time::timeout(LONG, async { while let Some(Ok(_)) = connection.accept().await {} }).await.unwrap();
        }
    };
    let client = async {
        egress.send(&target, get("/"), &deadlines).await.unwrap();
        let crowd = (0..20).map(|_| egress.send(&target, get("/"), &deadlines));
        for answer in futures_util::future::join_all(crowd).await {
            answer.unwrap();
        }
    };
    tokio::join!(serve, client);
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn a_refused_stream_was_certainly_not_processed() {
    let (root, acceptor) = certified(&["h2"]);
    let mut peer = Peer::new().await;
    let (target, deadlines, egress) = (target(&peer, NAME), patient(), trusting(&root, 100));
    let serve = async {
        let mut connection = h2(&mut peer, &acceptor).await;
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        respond.send_reset(h2::Reason::REFUSED_STREAM);
        tokio::time::timeout(LONG, connection.accept()).await.ok();
    };
    let client = async {
        let error = egress.send(&target, get("/"), &deadlines).await.unwrap_err();
        assert_eq!((error.reason(), error.unsent()), ("upstream_busy", true));
        drop(egress);
    };
    tokio::join!(serve, client);
}

/// Whether a connection to `name` is made where the peer shows what `acceptor` has.
async fn trusts(egress: &Egress, name: &str, acceptor: &TlsAcceptor) -> bool {
    let mut peer = Peer::new().await;
    let (target, deadlines) = (target(&peer, name), patient());
    let (sent, _accepted) = tokio::join!(egress.send(&target, get("/"), &deadlines), async {
        let stream = accept(&mut peer, acceptor).await;
        // Closed again: the question is only whether the handshake succeeds.
        drop(stream);
    });
    sent.unwrap_err().reason() != "tls_failed"
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_for_its_hosts_and_until_it_is_replaced() {
    let (root, acceptor) = certified(&[]);
    let egress = knowing(EgressConfig::default(), &[(NAME, "127.0.0.1")]);
    assert!(!trusts(&egress, NAME, &acceptor).await);
    let own = |root: &CertificateDer<'static>, host: &'static str| {
        Authority::new(vec![root.clone()], move |asked| asked == host).unwrap()
    };
    egress.trust(vec![own(&root, "other.example")]);
    assert!(!trusts(&egress, NAME, &acceptor).await, "it is for another host");
    egress.trust(vec![own(&root, "other.example"), own(&root, NAME)]);
    assert!(trusts(&egress, NAME, &acceptor).await);
    egress.trust(Vec::new());
    assert!(!trusts(&egress, NAME, &acceptor).await);
    let nonsense = Authority::new(vec![CertificateDer::from(vec![1, 2, 3])], |_| true);
    assert_eq!(nonsense.unwrap_err().reason(), "tls_setup");
}
