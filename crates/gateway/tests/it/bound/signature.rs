//! Requests that are signed (RFC 9421): proof over the query and the body too.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;
use testkit::dpop::Holder;
use testkit::signature::Signing;

use super::{ANY, CHAT, Caller, ORIGIN, counted, demanding, hello, send};
use crate::harness::{Answer, NOW, World, request};

/// When these requests are made: long enough after the start that nothing from before it could be meant.
const LATER: i64 = NOW + 20;

struct Signer {
    holder: Holder,
    token: String,
    bearer: String,
}

impl Signer {
    /// A token that holds its key, as those of clients that have to sign do.
    fn new(world: &World) -> Self {
        Self::with(world, Holder::new("ES256"))
    }

    fn with(world: &World, holder: Holder) -> Self {
        let cnf = json!({"jkt": holder.jkt(), "jwk": holder.jwk()});
        let token = world.token_with(&json!({"cnf": cnf}));
        let bearer = format!("Bearer {token}");
        Self { holder, token, bearer }
    }

    fn signing(&self, method: &str, target: &str) -> Signing<'_> {
        let url = format!("{ORIGIN}{target}");
        Signing::new(&self.holder, method, &url, ("authorization", &self.bearer), LATER)
    }

    fn chat(&self) -> Signing<'_> {
        self.signing("POST", CHAT).body("application/json", &hello())
    }

    /// A request with these fields of a signature.
    fn request(
        &self,
        (method, target): (&str, &str),
        signed: &[(String, String)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let mut headers = vec![("authorization", self.bearer.as_str())];
        headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        request(method, target, &headers, body)
    }

    async fn send(&self, world: &World, signed: &[(String, String)]) -> Answer {
        send(world, self.request(("POST", CHAT), signed, hello())).await
    }
}

fn later(config: &str) -> World {
    let world = World::new(config);
    world.clock.advance(Duration::from_secs(20));
    world
}

fn refused(world: &World, what: &str, answer: &Answer, reason: &str) {
    assert_eq!(
        (answer.status.as_u16(), answer.code().as_str()),
        (401, "invalid_signature"),
        "{what}: {}",
        answer.text()
    );
    assert!(answer.header("www-authenticate").contains("error=\"invalid_token\""), "{what}");
    assert!(answer.header("accept-signature").starts_with("gw=(\"@method\" "), "{what}");
    assert!(counted(world, reason), "{what}: {}", world.metrics());
}

#[tokio::test]
async fn a_signed_request_proves_its_sender() {
    let world = demanding("\"signature\"");
    world.clock.advance(Duration::from_secs(20));
    for alg in ["ES256", "ES384", "EdDSA", "PS512"] {
        let signer = Signer::with(&world, Holder::new(alg));
        let answer = signer.send(&world, &signer.chat().sign()).await;
        assert_eq!(answer.status, 200, "{alg}: {}", answer.text());
        let target = "/v1/models?limit=2";
        let fields = signer.signing("GET", target).sign();
        let answer = send(&world, signer.request(("GET", target), &fields, Bytes::new())).await;
        assert_eq!(answer.status, 200, "{alg}: {}", answer.text());
        assert_eq!(answer.json()["data"][0]["id"], "vouchgate/echo", "seen with the proof only");
    }
}

#[tokio::test]
async fn a_35_a_signed_request_is_good_once() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    let nonce = signer.chat().param("nonce", Some("\"once\""));
    let fields = nonce.sign();
    assert_eq!(signer.send(&world, &fields).await.status, 200);
    assert!(world.metrics().contains("vouchgate_proofs_total{kind=\"signature\",outcome=\"ok\"} 1"));
    refused(&world, "again", &signer.send(&world, &fields).await, "signature_replayed");
    refused(&world, "signed anew", &signer.send(&world, &nonce.sign()).await, "signature_replayed");
    let other = signer.signing("GET", "/v1/models").param("nonce", Some("\"once\"")).sign();
    let answer = send(&world, signer.request(("GET", "/v1/models"), &other, Bytes::new())).await;
    refused(&world, "the nonce elsewhere", &answer, "signature_replayed");
}

#[tokio::test]
async fn what_is_changed_on_the_way_is_noticed_and_the_good_request_still_works() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    let fields = signer.chat().sign();
    let other_body = Bytes::from(hello().to_vec().iter().rev().copied().collect::<Vec<u8>>());
    let answer = send(&world, signer.request(("POST", CHAT), &fields, other_body)).await;
    refused(&world, "body", &answer, "wrong_content_digest");
    let answer = send(&world, signer.request(("POST", CHAT), &fields, Bytes::new())).await;
    refused(&world, "no body", &answer, "wrong_content_digest");
    let query = format!("{CHAT}?debug=1");
    let answer = send(&world, signer.request(("POST", &query), &fields, hello())).await;
    refused(&world, "query", &answer, "bad_signature");
    let answer = send(&world, signer.request(("POST", "/v1/messages"), &fields, hello())).await;
    assert_eq!(answer.status, 401, "path");
    let mut other_type = signer.request(("POST", CHAT), &fields, hello());
    other_type.headers_mut().insert("content-type", "application/x+json".parse().unwrap());
    refused(&world, "content type", &send(&world, other_type).await, "bad_signature");
    let mut other_digest = signer.request(("POST", CHAT), &fields, hello());
    other_digest.headers_mut().insert("content-digest", "sha-256=:AAAA:".parse().unwrap());
    refused(&world, "digest", &send(&world, other_digest).await, "bad_content_digest");
    let renewed =
        world.token_with(&json!({"jti": "t2", "cnf": {"jkt": signer.holder.jkt(), "jwk": signer.holder.jwk()}}));
    let mut other_token = signer.request(("POST", CHAT), &fields, hello());
    other_token.headers_mut().insert("authorization", format!("Bearer {renewed}").parse().unwrap());
    refused(&world, "token", &send(&world, other_token).await, "bad_signature");
    assert_eq!(signer.send(&world, &fields).await.status, 200, "nothing of that has used it up");
}

#[tokio::test]
async fn a_signature_that_covers_or_says_too_little_is_refused() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    for component in ["@method", "@target-uri", "authorization", "content-digest", "content-type"] {
        let answer = signer.send(&world, &signer.chat().without(component).sign()).await;
        refused(&world, component, &answer, "component_not_covered");
    }
    for parameter in ["created", "expires", "nonce", "keyid", "tag"] {
        let answer = signer.send(&world, &signer.chat().param(parameter, None).sign()).await;
        refused(&world, parameter, &answer, "missing_parameter");
    }
    let stranger = Holder::new("ES256");
    let far = (LATER + 31).to_string();
    let past = [(LATER - 50).to_string(), (LATER - 20).to_string()];
    let ahead = [(LATER + 6).to_string(), (LATER + 30).to_string()];
    let before = [(NOW + 5).to_string(), (NOW + 30).to_string()];
    let keyid = format!("\"{}\"", stranger.jkt());
    let times = |[created, expires]: &[String; 2]| {
        signer.chat().param("created", Some(created)).param("expires", Some(expires)).sign()
    };
    for (what, signed, reason) in [
        ("another purpose", signer.chat().param("tag", Some("\"other\"")).sign(), "wrong_tag"),
        ("another key named", signer.chat().param("keyid", Some(&keyid)).sign(), "wrong_keyid"),
        ("another algorithm named", signer.chat().param("alg", Some("\"ed25519\"")).sign(), "alg_key_mismatch"),
        ("too long", signer.chat().param("expires", Some(&far)).sign(), "lifetime_too_long"),
        ("expired", times(&past), "expired"),
        ("not yet", times(&ahead), "issued_in_future"),
        ("from before the start", times(&before), "made_before_start"),
        ("another key", signer.chat().sign_as(&stranger), "bad_signature"),
        ("an unknown parameter", signer.chat().param("extra", Some("1")).sign(), "bad_parameter"),
    ] {
        refused(&world, what, &signer.send(&world, &signed).await, reason);
    }
    assert_eq!(signer.send(&world, &signer.chat().sign()).await.status, 200);
}

#[tokio::test]
async fn a_signature_needs_a_token_that_holds_its_key() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    for (token, bound) in
        [(world.token("alice"), false), (world.token_with(&json!({"cnf": {"jkt": signer.holder.jkt()}})), true)]
    {
        let bearer = format!("Bearer {token}");
        let signer = Signer { holder: Holder::new("ES256"), token, bearer };
        let answer = signer.send(&world, &signer.chat().sign()).await;
        refused(&world, "no key", &answer, "token_without_key");
        let answer = signer.send(&world, &signer.chat().label("other").sign()).await;
        let expected = if bound { 401 } else { 200 };
        assert_eq!(answer.status.as_u16(), expected, "signatures of other labels are not looked at");
    }
    let answer = signer.send(&world, &signer.chat().label("other").sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"), "and prove nothing");
    let half = &signer.chat().sign()[..3];
    refused(&world, "half", &signer.send(&world, half).await, "signature_unpaired");
}

#[tokio::test]
async fn the_field_that_holds_the_token_is_the_one_to_cover() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    let url = format!("{ORIGIN}{CHAT}");
    let over = |credential: (&str, &str)| {
        Signing::new(&signer.holder, "POST", &url, credential, LATER).body("application/json", &hello()).sign()
    };
    let with = |signed: &[(String, String)]| {
        let mut headers = vec![("x-api-key", signer.token.as_str())];
        headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        request("POST", CHAT, &headers, hello())
    };
    let fields = over(("x-api-key", &signer.token));
    assert_eq!(send(&world, with(&fields)).await.status, 200);
    let fields = over(("host", "localhost:8080"));
    refused(&world, "another field", &send(&world, with(&fields)).await, "component_not_covered");
}

#[tokio::test]
async fn both_proofs_at_once_are_both_checked() {
    let world = later(&ANY.replace("[[policy]]", "[dpop]\nnonce = \"optional\"\n[[policy]]"));
    world.clock.advance(Duration::from_mins(1));
    let holder = Holder::new("ES256");
    let token = world.token_with(&json!({"cnf": {"jkt": holder.jkt(), "jwk": holder.jwk()}}));
    let caller = Caller { holder, token };
    let credential = caller.credential();
    let url = format!("{ORIGIN}{CHAT}");
    let at = NOW + 80;
    let proof = || caller.holder.proof("POST", &url, at).token(&caller.token);
    let signing = || {
        Signing::new(&caller.holder, "POST", &url, ("authorization", &credential), at)
            .body("application/json", &hello())
    };
    let with = |proof: &str, signed: &[(String, String)]| {
        let mut request = caller.request(CHAT, proof);
        for (name, value) in signed {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        request
    };
    let answer = send(&world, with(&proof().sign(), &signing().sign())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = send(&world, with(&proof().claim("htm", json!("GET")).sign(), &signing().sign())).await;
    assert_eq!(answer.code(), "invalid_dpop_proof");
    let answer = send(&world, with(&proof().sign(), &signing().param("tag", None).sign())).await;
    refused(&world, "the signature", &answer, "missing_parameter");
}

#[tokio::test]
async fn a_35_a_reload_that_forgives_more_does_not_bring_a_used_signature_back() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    world.clock.advance(Duration::from_secs(100));
    let times = [(LATER + 100).to_string(), (LATER + 130).to_string()];
    let fields = signer.chat().param("created", Some(&times[0])).param("expires", Some(&times[1])).sign();
    assert_eq!(signer.send(&world, &fields).await.status, 200);
    world.clock.advance(Duration::from_secs(45));
    refused(&world, "by now", &signer.send(&world, &fields).await, "expired");
    world.reload(&ANY.replace("[[policy]]", "[dpop]\nskew = \"60s\"\n[[policy]]"));
    refused(&world, "again", &signer.send(&world, &fields).await, "signature_replayed");
}

#[tokio::test]
async fn a_35_a_signed_request_whose_body_comes_too_late_to_be_told_from_a_used_one_is_refused() {
    let world = later(ANY);
    let signer = Signer::new(&world);
    let fields = signer.chat().sign();
    for (after, expected) in [(60, 200), (91, 401)] {
        world.clock.set(base::Timestamp::from_secs(LATER));
        let clock = world.clock.clone();
        let late = futures_util::stream::once(async move {
            clock.advance(Duration::from_secs(after));
            Ok::<_, std::io::Error>(http_body::Frame::data(hello()))
        });
        let request = signer.request(("POST", CHAT), &fields, Bytes::new());
        let request = request.map(|_| http_body_util::StreamBody::new(late));
        let answer = crate::harness::read(world.gateway.handle(request, &crate::harness::peer()).await).await;
        assert_eq!(answer.status.as_u16(), expected, "{}", answer.text());
    }
    assert!(counted(&world, "expired"));
}
