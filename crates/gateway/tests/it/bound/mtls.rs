//! Tokens that are bound to a client certificate (RFC 8705 section 3), and whose word counts for which was shown.

use bytes::Bytes;
use gateway::Peer;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use testkit::certs::Identity;

use super::{ANY, CHAT, Caller, counted, demanding, hello, send_from};
use crate::harness::{World, peer, request};

fn thumbprint(identity: &Identity) -> [u8; 32] {
    proof::mtls::certificate_thumbprint(identity.der())
}

/// A connection on which this certificate was shown.
fn showing(identity: &Identity) -> Peer {
    Peer { tls: true, certificate: Some(thumbprint(identity)), ..peer() }
}

fn bound_to(world: &World, identity: &Identity) -> String {
    world.token_with(&json!({"cnf": {"x5t#S256": identity.thumbprint()}}))
}

fn chat(token: &str, client_cert: Option<&str>) -> Request<Full<Bytes>> {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(client_cert.map(|value| ("client-cert", value)));
    request("POST", CHAT, &headers, hello())
}

#[tokio::test]
async fn a_37_only_the_certificate_a_token_is_bound_to_opens_it() {
    let world = demanding("\"mtls\"");
    let (own, other) = (Identity::self_signed("own"), Identity::self_signed("other"));
    let token = bound_to(&world, &own);
    let answer = send_from(&world, &showing(&own), chat(&token, None)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (peer, reason) in [(showing(&other), "certificate_mismatch"), (peer(), "certificate_missing")] {
        let answer = send_from(&world, &peer, chat(&token, None)).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
        assert!(answer.header("www-authenticate").starts_with("Bearer realm=\"vouchgate\", error=\"invalid_token\""));
        assert!(counted(&world, reason));
    }
    let unbound = send_from(&world, &showing(&own), chat(&world.token("alice"), None)).await;
    assert_eq!(
        (unbound.status.as_u16(), unbound.code().as_str()),
        (401, "proof_required"),
        "showing one binds nothing"
    );
    assert!(unbound.header("www-authenticate").starts_with("Bearer "));
}

#[tokio::test]
async fn a_37_a_certificate_named_in_a_header_is_believed_from_trusted_proxies_only() {
    let own = Identity::self_signed("own");
    let named = own.client_cert_header();
    let direct = World::new(ANY);
    let token = bound_to(&direct, &own);
    let spoofed = send_from(&direct, &peer(), chat(&token, Some(&named))).await;
    assert_eq!((spoofed.status.as_u16(), spoofed.code().as_str()), (401, "invalid_token"));
    assert!(counted(&direct, "certificate_missing"));
    let ignored = send_from(&direct, &showing(&own), chat(&token, Some("garbage"))).await;
    assert_eq!(ignored.status, 200, "what is not believed is not read");

    let world = World::new(&ANY.replace("[[policy]]", "trusted_proxies = [\"203.0.113.0/24\"]\n[[policy]]"));
    let token = bound_to(&world, &own);
    let answer = send_from(&world, &peer(), chat(&token, Some(&named))).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let outside = Peer { addr: "198.51.100.7:1".parse().unwrap(), ..peer() };
    assert_eq!(send_from(&world, &outside, chat(&token, Some(&named))).await.status, 401);
    let proxys_own = send_from(&world, &showing(&own), chat(&token, None)).await;
    assert_eq!(proxys_own.status, 401, "the certificate of the connection is the proxy's");
    let other = Identity::self_signed("other");
    assert_eq!(send_from(&world, &peer(), chat(&token, Some(&other.client_cert_header()))).await.status, 401);
}

#[tokio::test]
async fn a_37_a_proxy_that_passes_on_more_than_one_certificate_is_not_understood() {
    let world = World::new(&ANY.replace("[[policy]]", "trusted_proxies = [\"203.0.113.0/24\"]\n[[policy]]"));
    let (own, other) = (Identity::self_signed("own"), Identity::self_signed("other"));
    let token = bound_to(&world, &own);
    let mut doubled = chat(&token, Some(&own.client_cert_header()));
    doubled.headers_mut().append("client-cert", other.client_cert_header().parse().unwrap());
    let answer = send_from(&world, &peer(), doubled).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "client_cert_invalid"));
    for malformed in
        ["", "x", ":x", "::", &format!("{0}, {0}", own.client_cert_header()), &own.cert_pem.replace('\n', " ")]
    {
        let answer = send_from(&world, &peer(), chat(&token, Some(malformed))).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "client_cert_invalid"), "{malformed}");
    }
}

#[tokio::test]
async fn r_51_a_token_bound_to_both_needs_both() {
    let world = demanding("\"dpop\"");
    let own = Identity::self_signed("own");
    let caller = Caller::with(&world, &json!({"x5t#S256": own.thumbprint()}));
    let asked = send_from(&world, &showing(&own), caller.request(CHAT, &caller.proof().sign())).await;
    assert_eq!(asked.code(), "use_dpop_nonce", "{}", asked.text());
    let nonce = asked.header("dpop-nonce");
    let proof = caller.proof().nonce(nonce).sign();
    assert_eq!(send_from(&world, &peer(), caller.request(CHAT, &proof)).await.status, 401, "the proof alone");
    let certificate_alone = send_from(&world, &showing(&own), chat(&caller.token, None)).await;
    assert_eq!((certificate_alone.status.as_u16(), certificate_alone.code().as_str()), (401, "invalid_token"));
    assert_eq!(send_from(&world, &showing(&own), caller.request(CHAT, &proof)).await.status, 200);
}
