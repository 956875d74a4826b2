//! Proofs of possession: at enrolment and refresh, and with every request.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::error::Error;
use crate::jws;
use crate::signer::{KeyError, Signer, base64url, sha256};

/// How long a request's signature counts, in seconds: the most the gateway takes.
const LIFETIME: i64 = 30;

/// What shows that whoever sends a request holds the key its token is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Proof {
    /// A signature over the request with its body (RFC 9421, RFC 9530).
    #[default]
    Signature,
    /// A `DPoP` proof (RFC 9449): method and path, not the query and not the body.
    Dpop,
}

/// A request as far as it is signed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a str,
    /// Origin and path in normal form.
    pub(crate) url: &'a str,
    /// Without its question mark.
    pub(crate) query: Option<&'a str>,
    /// Seconds since the epoch, by the gateway's clock.
    pub(crate) now: i64,
}

/// That the key is here when an installation is enrolled or a token refreshed.
pub(crate) fn possession(
    signer: &dyn Signer,
    (nonce, url): (&str, &str),
    client_data: &[u8],
) -> Result<String, KeyError> {
    let claims = json!({"cd": base64url(sha256(client_data)), "htu": url, "nonce": nonce});
    jws::sign(signer, &json!({"alg": "ES256", "typ": "gw-pop+jwt"}), &claims)
}

/// The `DPoP` proof of a request with this token.
pub(crate) fn dpop(signer: &dyn Signer, target: Target<'_>, token: &str, nonce: Option<&str>) -> Result<String, Error> {
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": signer.public_jwk().to_json()});
    let mut claims = json!({"jti": random()?, "htm": target.method, "htu": target.url, "iat": target.now,
                            "ath": base64url(sha256(token.as_bytes()))});
    if let (Some(nonce), Some(claims)) = (nonce, claims.as_object_mut()) {
        claims.insert("nonce".to_owned(), Value::from(nonce));
    }
    Ok(jws::sign(signer, &header, &claims)?)
}

/// The fields that sign a request whose `Authorization` is `authorization`: `Content-Digest` where there is a body,
/// `Signature-Input` and `Signature`. `body` is its `Content-Type` and bytes.
pub(crate) fn signature(
    signer: &dyn Signer,
    target: Target<'_>,
    authorization: &str,
    body: Option<(&str, &[u8])>,
) -> Result<Vec<(&'static str, String)>, Error> {
    let url = target.query.map_or_else(|| target.url.to_owned(), |query| format!("{}?{query}", target.url));
    let digest = body.map(|(_, bytes)| format!("sha-256=:{}:", STANDARD.encode(sha256(bytes))));
    let mut covered = vec![("@method", target.method), ("@target-uri", &url), ("authorization", authorization)];
    if let (Some((content_type, _)), Some(digest)) = (body, &digest) {
        covered.push(("content-digest", digest));
        if !content_type.is_empty() {
            covered.push(("content-type", content_type));
        }
    }
    let names: Vec<String> = covered.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let params = format!(
        "({});created={};expires={};nonce=\"{}\";keyid=\"{}\";alg=\"ecdsa-p256-sha256\";tag=\"gw-req\"",
        names.join(" "),
        target.now,
        target.now + LIFETIME,
        random()?,
        signer.public_jwk().thumbprint(),
    );
    let mut base = String::new();
    for (name, value) in covered {
        for part in ["\"", name, "\": ", value, "\n"] {
            base.push_str(part);
        }
    }
    base.push_str("\"@signature-params\": ");
    base.push_str(&params);
    let signature = STANDARD.encode(signer.sign(base.as_bytes())?);
    let mut fields = Vec::with_capacity(3);
    fields.extend(digest.map(|digest| ("content-digest", digest)));
    fields.push(("signature-input", format!("gw={params}")));
    fields.push(("signature", format!("gw=:{signature}:")));
    Ok(fields)
}

/// 128 bits nobody has seen before, as text.
pub(crate) fn random() -> Result<String, Error> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| Error::Attest(KeyError::Unavailable.into()))?;
    Ok(base64url(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jws::Compact;
    use crate::signer::SoftwareKey;

    const TARGET: Target<'_> =
        Target { method: "POST", url: "https://a.example/x", query: Some("y=1"), now: 1_795_219_200 };

    #[test]
    fn a_signature_covers_the_request_and_its_body() {
        let key = SoftwareKey::generate().unwrap();
        let body = Some(("application/json", &b"{}"[..]));
        let fields = signature(&key, TARGET, "DPoP t", body).unwrap();
        let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["content-digest", "signature-input", "signature"]);
        let covered = "gw=(\"@method\" \"@target-uri\" \"authorization\" \"content-digest\" \"content-type\")";
        assert!(fields[1].1.starts_with(covered) && fields[1].1.contains(";expires=1795219230;"), "{}", fields[1].1);
        let without = signature(&key, TARGET, "DPoP t", None).unwrap();
        assert_eq!(without.len(), 2);
        assert!(without[0].1.starts_with("gw=(\"@method\" \"@target-uri\" \"authorization\");"));
    }

    #[test]
    fn proofs_name_what_they_are_for() {
        let key = SoftwareKey::generate().unwrap();
        let text = dpop(&key, TARGET, "t", Some("n")).unwrap();
        let proof = Compact::parse(&text).unwrap();
        assert!(proof.is_by(&key.public_jwk()));
        assert_eq!(proof.payload["htu"], "https://a.example/x");
        assert_eq!((&proof.payload["nonce"], &proof.header["jwk"]), (&json!("n"), &key.public_jwk().to_json()));
        assert!(Compact::parse(&dpop(&key, TARGET, "t", None).unwrap()).unwrap().payload.get("nonce").is_none());
        let text = possession(&key, ("n", "https://a.example/attest/v1/enroll"), b"data").unwrap();
        let proof = Compact::parse(&text).unwrap();
        assert_eq!(proof.payload["cd"], base64url(sha256(b"data")));
        assert!(proof.is_by(&key.public_jwk()));
    }
}
