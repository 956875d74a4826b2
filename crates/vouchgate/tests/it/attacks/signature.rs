//! Signed requests (RFC 9421): altered after signing, signed too little of, signed by another key, sent again.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::raw::{self, Response};
use testkit::signature::Signing;

use super::{World, question};
use crate::caller::{PATH, challenges};

const STRICT: &str = "name = \"guests\"\nwho = { issuer = [\"corp\", \"other\"], scope = [\"chat\"], bound = [\"signature\"] }\nmay = { models = [\"*\"] }\n";

/// A gateway that takes signed requests only, some time after its start: what was signed before, or might have been by a
/// client whose clock is ahead, may have been used at a server whose memory is gone.
async fn strict(more: &str) -> World {
    let world = World::start_configured("", STRICT, more).await;
    world.gateway.clock.advance(Duration::from_secs(6));
    world
}

/// Who signs: a key and a token that names the key itself (RFC 7800 section 3.2).
struct Signer<'w> {
    world: &'w World,
    holder: Holder,
    bearer: String,
}

impl<'w> Signer<'w> {
    fn new(world: &'w World, alg: &str) -> Self {
        let holder = Holder::new(alg);
        let cnf = json!({"jkt": holder.jkt(), "jwk": holder.jwk()});
        Self::with(world, holder, &cnf)
    }

    fn with(world: &'w World, holder: Holder, cnf: &Value) -> Self {
        let token = world.es.mint(&world.claims_with(&json!({"cnf": cnf, "jti": testkit::dpop::random()})));
        Self { world, holder, bearer: format!("Bearer {token}") }
    }

    fn url(&self) -> String {
        self.world.gateway.url(PATH)
    }

    /// A good signature over a question.
    fn signing(&self) -> Signing<'_> {
        let body = question().to_string();
        Signing::new(&self.holder, "POST", &self.url(), ("authorization", &self.bearer), self.world.now())
            .body("application/json", body.as_bytes())
    }

    /// Send a question with these fields beside the credential.
    async fn send(&self, fields: &[(String, String)]) -> Response {
        self.send_other("POST", PATH, fields, question().to_string().as_bytes()).await
    }

    async fn send_other(&self, method: &str, path: &str, fields: &[(String, String)], body: &[u8]) -> Response {
        let mut headers = vec![("authorization", self.bearer.as_str())];
        headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        if !body.is_empty() && !fields.iter().any(|(name, _)| name == "content-type") {
            headers.push(("content-type", "application/json"));
        }
        raw::request(self.world.gateway.public, method, path, &headers, body).await
    }

    async fn refused(&self, what: &str, answer: impl Future<Output = Response>) {
        let before = self.world.provider.count();
        let answer = answer.await;
        let status = answer.status();
        assert!([400, 401].contains(&status), "{what}: {status} {}", answer.text());
        assert!(challenges(&answer).contains("error=\"invalid_"), "{what}: {:?}", answer.head);
        assert_eq!(self.world.provider.count(), before, "{what}: the provider was asked");
    }

    async fn fine(&self, when: &str) {
        let answer = self.send(&self.signing().sign()).await;
        assert_eq!(answer.status(), 200, "{when}: {} {:?}", answer.text(), answer.head);
    }
}

#[tokio::test]
async fn a_33_a_signed_request_altered() {
    let world = strict("").await;
    let signer = Signer::new(&world, "ES256");
    signer.fine("as signed").await;
    let fields = || signer.signing().sign();
    let body = question().to_string();
    let dearer = body.replace("prov/m1", "prov/m2");
    let spaced = body.replacen('{', "{ ", 1);
    for (what, body) in
        [("another model", dearer.as_str()), ("another spelling", &spaced), ("more", &format!("{body} "))]
    {
        signer.refused(what, signer.send_other("POST", PATH, &fields(), body.as_bytes())).await;
    }
    // The digest made to fit again: then the signature does not.
    let digest = testkit::signature::content_digest(dearer.as_bytes());
    let mut refitted = fields();
    refitted.iter_mut().find(|(name, _)| name == "content-digest").unwrap().1 = digest.clone();
    signer.refused("digest refitted", signer.send_other("POST", PATH, &refitted, dearer.as_bytes())).await;
    let mut doubled = fields();
    doubled.push(("content-digest".to_owned(), digest));
    signer.refused("two digests", signer.send_other("POST", PATH, &doubled, dearer.as_bytes())).await;
    for path in ["/v1/messages".to_owned(), format!("{PATH}?a=b"), "/v1/embeddings".to_owned()] {
        signer.refused(&path, signer.send_other("POST", &path, &fields(), body.as_bytes())).await;
    }
    let get = Signing::new(
        &signer.holder,
        "POST",
        &world.gateway.url("/v1/models"),
        ("authorization", &signer.bearer),
        world.now(),
    );
    signer.refused("another method", signer.send_other("GET", "/v1/models", &get.sign(), b"")).await;
    let elsewhere = Signing::new(
        &signer.holder,
        "POST",
        &format!("https://evil.example{PATH}"),
        ("authorization", &signer.bearer),
        world.now(),
    );
    let elsewhere = elsewhere.body("application/json", body.as_bytes());
    signer.refused("another server", signer.send(&elsewhere.sign())).await;
    // Another token of the same key, for which nothing was signed.
    let cnf = json!({"jkt": signer.holder.jkt(), "jwk": signer.holder.jwk()});
    let fields = signer.signing().sign();
    let other = Signer::with(&world, Holder::new("ES256"), &cnf);
    other.refused("another token", other.send(&fields)).await;
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_33_a_signature_over_too_little_or_with_bent_parameters() {
    let world = strict("").await;
    let signer = Signer::new(&world, "ES256");
    for component in ["@method", "@target-uri", "authorization", "content-digest", "content-type"] {
        signer.refused(component, signer.send(&signer.signing().without(component).sign())).await;
    }
    let now = world.now();
    let stale = (now - 120).to_string();
    let (future, far) = ((now + 60).to_string(), (now + 3600).to_string());
    let long = format!("\"{}\"", "n".repeat(129));
    for (name, value) in [
        ("created", None),
        ("created", Some(stale.as_str())),
        ("created", Some(future.as_str())),
        ("created", Some("\"1\"")),
        ("expires", None),
        ("expires", Some(stale.as_str())),
        ("expires", Some(far.as_str())),
        ("nonce", None),
        ("nonce", Some("\"\"")),
        ("nonce", Some(long.as_str())),
        ("keyid", None),
        ("keyid", Some("\"somebody\"")),
        ("tag", None),
        ("tag", Some("\"other\"")),
        ("alg", Some("\"hmac-sha256\"")),
        ("alg", Some("\"ed25519\"")),
        ("alg", Some("\"rsa-v1_5-sha256\"")),
        ("alg", Some("\"none\"")),
    ] {
        signer.refused(&format!("{name} {value:?}"), signer.send(&signer.signing().param(name, value).sign())).await;
    }
    signer.refused("another label", signer.send(&signer.signing().label("sig1").sign())).await;
    let thief = Holder::new("ES256");
    signer.refused("another key", signer.send(&signer.signing().sign_as(&thief))).await;
    let fields = signer.signing().sign();
    let only =
        |names: &[&str]| fields.iter().filter(|(name, _)| names.contains(&name.as_str())).cloned().collect::<Vec<_>>();
    signer.refused("no signature", signer.send(&only(&["content-digest", "content-type", "signature-input"]))).await;
    signer.refused("no input", signer.send(&only(&["content-digest", "content-type", "signature"]))).await;
    signer.refused("no digest", signer.send(&only(&["content-type", "signature", "signature-input"]))).await;
    for value in ["gw=:AAAA:", "gw=\"text\"", "gw=::", "gw", "=", "gw=:*:", "other=:AAAA:"] {
        let mut bent = fields.clone();
        bent.iter_mut().find(|(name, _)| name == "signature").unwrap().1 = value.to_owned();
        signer.refused(value, signer.send(&bent)).await;
    }
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_34_a_request_that_is_not_signed() {
    let world = strict("").await;
    let signer = Signer::new(&world, "ES256");
    signer.refused("no signature", signer.send(&[])).await;
    // A key the token does not name, or names by another thumbprint, signs for nobody.
    let holder = Holder::new("ES256");
    let named_only = Signer::with(&world, Holder::new("ES256"), &json!({"jkt": holder.jkt()}));
    named_only.refused("no key in the token", named_only.send(&named_only.signing().sign())).await;
    let thief = Holder::new("ES256");
    let jwk = thief.jwk();
    let mixed = Signer::with(&world, thief, &json!({"jkt": holder.jkt(), "jwk": jwk}));
    mixed.refused("thumbprint and key differ", mixed.send(&mixed.signing().sign())).await;
    // An unbound token may be signed for all one likes.
    let unbound = Signer { world: &world, holder: Holder::new("ES256"), bearer: format!("Bearer {}", world.good()) };
    unbound.refused("an unbound token", unbound.send(&unbound.signing().sign())).await;
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_35_a_signed_request_sent_again() {
    let world = strict("").await;
    let signer = Signer::new(&world, "ES256");
    let signing = signer.signing();
    let fields = signing.sign();
    assert_eq!(signer.send(&fields).await.status(), 200);
    signer.refused("the same", signer.send(&fields)).await;
    signer.refused("signed again", signer.send(&signing.sign())).await;
    let later = signing.clone().param("created", Some(&(world.now() - 2).to_string()));
    signer.refused("the same nonce at another moment", signer.send(&later.sign())).await;
    let expired = signer.signing().sign();
    world.gateway.clock.advance(Duration::from_mins(1));
    signer.refused("expired", signer.send(&expired)).await;
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_35_a_request_signed_before_the_start() {
    let world = World::start_as(STRICT).await;
    let signer = Signer::new(&world, "ES256");
    signer.refused("at the start", signer.send(&signer.signing().sign())).await;
    world.gateway.clock.advance(Duration::from_secs(4));
    let ahead = signer.signing();
    signer.refused("perhaps before the start", signer.send(&ahead.sign())).await;
    world.gateway.clock.advance(Duration::from_secs(2));
    signer.refused("still", signer.send(&ahead.sign())).await;
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_35_a_signed_request_a_hundred_times_at_once() {
    let world = strict(super::CROWD).await;
    let signer = Signer::new(&world, "EdDSA");
    let fields = signer.signing().sign();
    let mut headers = vec![("authorization", signer.bearer.as_str())];
    headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let before = world.provider.count();
    let mut connections = Vec::new();
    for _ in 0..100 {
        let mut connection = raw::Connection::open(world.gateway.public).await;
        connection.request("POST", PATH, &headers, question().to_string().as_bytes()).await;
        connections.push(connection);
    }
    let mut statuses = Vec::new();
    for connection in &mut connections {
        statuses.push(connection.response().await.status());
    }
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1]), (200, 401), "{statuses:?}");
    assert_eq!(world.provider.count(), before + 1);
    signer.fine("afterwards").await;
}

#[tokio::test]
async fn a_33_each_kind_of_key_signs_and_no_body_needs_no_digest() {
    let world = strict("").await;
    for alg in ["ES256", "ES384", "EdDSA", "PS512"] {
        let signer = Signer::new(&world, alg);
        signer.fine(alg).await;
        let get = Signing::new(
            &signer.holder,
            "GET",
            &world.gateway.url("/v1/models"),
            ("authorization", &signer.bearer),
            world.now(),
        );
        let answer = signer.send_other("GET", "/v1/models", &get.sign(), b"").await;
        assert_eq!(answer.status(), 200, "{alg}: {}", answer.text());
    }
    // The key may come in the header of an SDK; then that header is covered.
    let signer = Signer::new(&world, "ES256");
    let token = signer.bearer.trim_start_matches("Bearer ");
    let body = question().to_string();
    let signing = Signing::new(&signer.holder, "POST", &signer.url(), ("x-api-key", token), world.now());
    let fields = signing.body("application/json", body.as_bytes()).sign();
    let mut headers = vec![("x-api-key", token)];
    headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let answer = raw::request(world.gateway.public, "POST", PATH, &headers, body.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert!(world.provider.requests().last().unwrap().header("signature").is_none(), "the signature stays here");
}
