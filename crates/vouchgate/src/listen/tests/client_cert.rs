//! Certificates of clients (RFC 8705): who may show which, and what they say then.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, HandshakeKind};

use crate::listen::Limits;

use super::support::{Server, statuses};
use super::tls::{Files, Issued, Visitor, ask, authority, issue, start, visit};

/// What the server knows of a visitor: the certificate and whether it is trusted. `None`: it was not let in.
async fn known(visitor: &Visitor<'_>, server: &Server) -> Option<(Option<CertificateDer<'static>>, bool)> {
    known_by(visitor.config(), server).await.map(|(known, _)| known)
}

type Known = (Option<CertificateDer<'static>>, bool);

/// The same, and whether the session was resumed.
async fn known_by(config: Arc<ClientConfig>, server: &Server) -> Option<(Known, bool)> {
    let stream = visit(server, config).await.ok()?;
    let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
    // TLS 1.3 tells a client that its certificate is refused only after the client's own handshake is over.
    let answer = ask(stream).await.ok()?;
    assert_eq!(statuses(&answer), [200]);
    let peer = server.desk.peers.lock().unwrap().pop().unwrap();
    Some(((peer.client_cert.clone(), peer.client_cert_trusted), resumed))
}

#[tokio::test]
async fn a_client_certificate_is_optional_verified_and_handed_on() {
    let (root, clients, stranger) = (authority(), authority(), authority());
    let files = Files::new(&issue(&root, "gate.example"), Some(&clients));
    let (server, _) = start(Limits::default(), &files).await;
    assert_eq!(known(&Visitor::trusting(&root), &server).await, Some((None, false)));
    let own = issue(&clients, "client.example");
    let with = Visitor { certificate: Some(&own), ..Visitor::trusting(&root) };
    assert_eq!(known(&with, &server).await, Some((Some(own.der.clone()), true)));
    for other in [issue(&stranger, "client.example"), Issued::by_itself("client.example")] {
        let with = Visitor { certificate: Some(&other), ..Visitor::trusting(&root) };
        assert_eq!(known(&with, &server).await, None, "nobody vouches for it");
    }
    assert!(server.desk.peers.lock().unwrap().is_empty());
}

#[tokio::test]
async fn without_a_setting_no_certificate_is_asked_for() {
    let root = authority();
    let (server, _) = start(Limits::default(), &Files::new(&issue(&root, "gate.example"), None)).await;
    let own = Issued::by_itself("client.example");
    let with = Visitor { certificate: Some(&own), ..Visitor::trusting(&root) };
    assert_eq!(known(&with, &server).await, Some((None, false)));
}

#[tokio::test]
async fn any_certificate_may_be_shown_but_only_an_authoritys_is_trusted() {
    let (root, clients, stranger) = (authority(), authority(), authority());
    for (client_ca, trusted) in [(Some(&clients), true), (None, false)] {
        let files = Files::new(&issue(&root, "gate.example"), client_ca).any();
        let (server, _) = start(Limits::default(), &files).await;
        for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
            let plain = || Visitor { versions, ..Visitor::trusting(&root) };
            assert_eq!(known(&plain(), &server).await, Some((None, false)));
            for (own, trusted) in [
                (issue(&clients, "client.example"), trusted),
                (issue(&stranger, "client.example"), false),
                (Issued::by_itself("client.example"), false),
            ] {
                let with = Visitor { certificate: Some(&own), ..plain() };
                assert_eq!(known(&with, &server).await, Some((Some(own.der.clone()), trusted)), "{versions:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_37_who_shows_somebody_elses_certificate_is_not_let_in() {
    let (root, clients) = (authority(), authority());
    let trusted = Files::new(&issue(&root, "gate.example"), Some(&clients));
    let any = Files::new(&issue(&root, "gate.example"), Some(&clients)).any();
    for files in [trusted, any] {
        let (server, _) = start(Limits::default(), &files).await;
        for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
            for own in [issue(&clients, "client.example"), Issued::by_itself("client.example")] {
                let stolen = own.without_its_key();
                let with = Visitor { certificate: Some(&stolen), versions, ..Visitor::trusting(&root) };
                assert_eq!(known(&with, &server).await, None);
            }
            let own = issue(&clients, "client.example");
            let good = Visitor { certificate: Some(&own), versions, ..Visitor::trusting(&root) };
            assert_eq!(known(&good, &server).await, Some((Some(own.der.clone()), true)), "the next good one works");
        }
    }
}

#[tokio::test]
async fn what_is_no_certificate_ends_the_handshake() {
    let root = authority();
    let files = Files::new(&issue(&root, "gate.example"), None).any();
    let (server, _) = start(Limits::default(), &files).await;
    let mut broken = Issued::by_itself("client.example");
    for der in [vec![0x30, 0x03, 0x02, 0x01, 0x01], broken.der[..broken.der.len() - 1].to_vec(), vec![0; 20_000]] {
        broken.der = CertificateDer::from(der);
        let with = Visitor { certificate: Some(&broken), ..Visitor::trusting(&root) };
        assert_eq!(known(&with, &server).await, None);
    }
}

#[tokio::test]
async fn a_resumed_session_still_has_its_certificate_and_no_other() {
    let (root, clients) = (authority(), authority());
    let files = Files::new(&issue(&root, "gate.example"), Some(&clients)).any();
    let (server, tls) = start(Limits::default(), &files).await;
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        for (own, trusted) in [(issue(&clients, "client.example"), true), (Issued::by_itself("client.example"), false)]
        {
            let config = Visitor { certificate: Some(&own), versions, ..Visitor::trusting(&root) }.config();
            let known = (Some(own.der.clone()), trusted);
            assert_eq!(known_by(Arc::clone(&config), &server).await, Some((known.clone(), false)));
            assert_eq!(known_by(Arc::clone(&config), &server).await, Some((known, true)), "{versions:?}");
        }
        let nobody = Visitor { versions, ..Visitor::trusting(&root) }.config();
        assert_eq!(known_by(Arc::clone(&nobody), &server).await, Some(((None, false), false)));
        assert_eq!(known_by(nobody, &server).await, Some(((None, false), true)));
    }
    // An authority that is trusted no more does not live on in sessions.
    let own = issue(&clients, "client.example");
    let config = Visitor { certificate: Some(&own), ..Visitor::trusting(&root) }.config();
    assert_eq!(known_by(Arc::clone(&config), &server).await, Some(((Some(own.der.clone()), true), false)));
    files.trust(&authority());
    assert!(tls.reload().unwrap());
    assert_eq!(known_by(config, &server).await, Some(((Some(own.der.clone()), false), false)));
}
