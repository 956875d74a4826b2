//! The protocol by hand: requests as an attacker writes them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use testkit::raw::{self, Response};
use vouchgate_client::signer::{Signer as _, SoftwareKey};

use super::World;

/// What `POST /attest/v1/enroll` is given; each part can be changed before it is sent.
pub(super) struct Enrolment {
    pub(super) client_data: Value,
    pub(super) key: Arc<SoftwareKey>,
    pub(super) evidence: Value,
    /// Who makes the proof of possession; the key itself where there is none.
    pub(super) prover: Option<Arc<SoftwareKey>>,
}

impl World {
    pub(super) async fn ask(&self, path: &str, body: &Value) -> Response {
        let headers = [("content-type", "application/json")];
        raw::request(self.program.public, "POST", path, &headers, body.to_string().as_bytes()).await
    }

    /// A nonce for this key; without one for a key that is made after it.
    pub(super) async fn nonce(&self, platform: &str, key: Option<&SoftwareKey>) -> String {
        let mut body = json!({"app": "chat", "platform": platform});
        if let Some(key) = key {
            body["jkt"] = key.public_jwk().thumbprint().into();
        }
        let answer = self.ask("/attest/v1/challenge", &body).await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["nonce"].as_str().unwrap().to_owned()
    }

    pub(super) async fn enrol(&self, enrolment: &Enrolment) -> Response {
        let bytes = enrolment.client_data.to_string();
        let prover = enrolment.prover.as_ref().unwrap_or(&enrolment.key);
        let nonce = enrolment.client_data["nonce"].as_str().unwrap();
        let proof = possession(prover, nonce, &format!("{}/attest/v1/enroll", self.url()), bytes.as_bytes());
        let body = json!({"client_data": URL_SAFE_NO_PAD.encode(&bytes), "jwk": enrolment.key.public_jwk().to_json(),
                          "evidence": enrolment.evidence, "proof": proof});
        self.ask("/attest/v1/enroll", &body).await
    }
}

/// Client data for an enrolment.
pub(super) fn client_data(nonce: &str, key: Option<&SoftwareKey>) -> Value {
    let mut data = json!({"app": "chat", "flags": {}});
    if let Some(key) = key {
        data["jkt"] = key.public_jwk().thumbprint().into();
    }
    for (name, value) in [
        ("nonce", json!(nonce)),
        ("purpose", json!("enroll")),
        ("sdk", json!("0.1.0")),
        ("ts", json!(1)),
        ("v", json!(1)),
    ] {
        data[name] = value;
    }
    data
}

pub(super) fn key() -> Arc<SoftwareKey> {
    Arc::new(SoftwareKey::generate().unwrap())
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use aws_lc_rs::digest::{SHA256, digest};
    digest(&SHA256, bytes).as_ref().try_into().unwrap()
}

pub(super) fn possession(key: &SoftwareKey, nonce: &str, url: &str, client_data: &[u8]) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({"cd": URL_SAFE_NO_PAD.encode(sha256(client_data)), "htu": url, "nonce": nonce});
    let input = format!("{}.{}", part(&json!({"alg": "ES256", "typ": "gw-pop+jwt"})), part(&claims));
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).unwrap()))
}
