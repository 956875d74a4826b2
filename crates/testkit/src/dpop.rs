//! The client's side of RFC 9449: a key and the proofs made with it, good or bent. Written from the RFC, not from what
//! the product does.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use serde_json::{Map, Value, json};

use crate::keys::{TestKey, b64};

/// A client that holds a key and proves it.
#[derive(Debug)]
pub struct Holder {
    key: TestKey,
}

/// A proof in the making; [`Proof::sign`] ends it.
#[derive(Debug, Clone)]
pub struct Proof<'a> {
    holder: &'a Holder,
    header: Map<String, Value>,
    claims: Map<String, Value>,
}

impl Holder {
    /// With a new key (a name of [`crate::keys::ALGORITHMS`]).
    pub fn new(alg: &str) -> Self {
        Self { key: TestKey::generate(alg) }
    }

    /// The key itself, to sign anything else with.
    pub fn key(&self) -> &TestKey {
        &self.key
    }

    /// The public key with its required members only, as it stands in a proof's header.
    pub fn jwk(&self) -> Value {
        let mut jwk = self.key.public_jwk();
        let members = jwk.as_object_mut().unwrap();
        members.retain(|name, _| ["kty", "crv", "x", "y", "n", "e"].contains(&name.as_str()));
        jwk
    }

    /// The key's thumbprint (RFC 7638): what a token's `cnf.jkt` says.
    pub fn jkt(&self) -> String {
        // Members in the order of their names, no white space; no value here needs an escape.
        let jwk = self.jwk();
        let mut members: Vec<(&String, &Value)> = jwk.as_object().unwrap().iter().collect();
        members.sort_by_key(|(name, _)| *name);
        let mut text = String::from("{");
        for (at, (name, value)) in members.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(text, "{comma}\"{name}\":{value}").unwrap();
        }
        text.push('}');
        sha256(&text)
    }

    /// A proof for a request with this method and URL, made at `iat` (seconds), with a new `jti`.
    pub fn proof(&self, method: &str, url: &str, iat: i64) -> Proof<'_> {
        let header = json!({"typ": "dpop+jwt", "alg": self.key.alg, "jwk": self.jwk()});
        let claims = json!({"jti": random(), "htm": method, "htu": url, "iat": iat});
        let object = |value: Value| value.as_object().unwrap().clone();
        Proof { holder: self, header: object(header), claims: object(claims) }
    }
}

impl Proof<'_> {
    /// For this access token: its hash as `ath`.
    #[must_use]
    pub fn token(self, token: &str) -> Self {
        self.claim("ath", json!(sha256(token)))
    }

    /// With the server's nonce.
    #[must_use]
    pub fn nonce(self, nonce: &str) -> Self {
        self.claim("nonce", json!(nonce))
    }

    /// With a claim changed; `null` takes it out.
    #[must_use]
    pub fn claim(mut self, name: &str, value: Value) -> Self {
        set(&mut self.claims, name, value);
        self
    }

    /// With a member of the header changed; `null` takes it out.
    #[must_use]
    pub fn header(mut self, name: &str, value: Value) -> Self {
        set(&mut self.header, name, value);
        self
    }

    /// Signed with the holder's key.
    pub fn sign(&self) -> String {
        self.sign_with(&self.holder.key)
    }

    /// Signed with another key, whatever the header says.
    pub fn sign_with(&self, key: &TestKey) -> String {
        key.compact(&Value::from(self.header.clone()).to_string(), &Value::from(self.claims.clone()).to_string())
    }
}

/// 128 bits nobody has seen before, as text.
pub fn random() -> String {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).unwrap();
    b64(bytes)
}

/// SHA-256 in base64url: of a token as `ath`, of a verifier as PKCE challenge.
pub fn sha256(text: &str) -> String {
    b64(digest(&SHA256, text.as_bytes()))
}

fn set(members: &mut Map<String, Value>, name: &str, value: Value) {
    if value.is_null() {
        members.remove(name);
    } else {
        members.insert(name.to_owned(), value);
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn part(token: &str, index: usize) -> Value {
        let part = token.split('.').nth(index).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn a_proof_says_what_it_is_for_and_can_be_bent() {
        let holder = Holder::new("ES256");
        let proof = holder.proof("POST", "https://a.example/x", 7).token("t").nonce("n");
        let text = proof.sign();
        let claims = part(&text, 1);
        assert_eq!(
            (&claims["htm"], &claims["htu"], &claims["iat"]),
            (&json!("POST"), &json!("https://a.example/x"), &json!(7))
        );
        assert_eq!(claims["nonce"], "n");
        assert_eq!(claims["ath"], b64(digest(&SHA256, b"t")));
        assert_eq!(part(&text, 0)["jwk"], holder.jwk());
        let bent = proof.claim("jti", Value::Null).header("typ", json!("JWT")).sign();
        assert!(part(&bent, 1).get("jti").is_none());
        assert_eq!(part(&bent, 0)["typ"], "JWT");
    }

    #[test]
    fn the_thumbprint_is_that_of_rfc_7638() {
        // RFC 8037 appendix A.3: the only example of a thumbprint whose key is short.
        let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        let text = format!("{{\"crv\":{},\"kty\":{},\"x\":{}}}", jwk["crv"], jwk["kty"], jwk["x"]);
        assert_eq!(b64(digest(&SHA256, text.as_bytes())), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        let holder = Holder::new("EdDSA");
        let jwk = holder.jwk();
        let text = format!("{{\"crv\":{},\"kty\":{},\"x\":{}}}", jwk["crv"], jwk["kty"], jwk["x"]);
        assert_eq!(holder.jkt(), b64(digest(&SHA256, text.as_bytes())));
    }
}
