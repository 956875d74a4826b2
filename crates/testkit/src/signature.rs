//! The client's side of RFC 9421 and RFC 9530: a request signed under the label `gw`, well or bent. Written from the
//! RFCs, not from what the product does.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::dpop::{Holder, random};

/// A signature over a request in the making; [`Signing::sign`] ends it.
#[derive(Debug, Clone)]
pub struct Signing<'a> {
    holder: &'a Holder,
    /// The label of both fields.
    pub label: String,
    /// Covered components in order: identifier and value. `@`-components have their values here too.
    pub covered: Vec<(String, String)>,
    /// Parameters in order, values as they are written (strings with their quotes).
    pub params: Vec<(String, String)>,
    /// Fields that go with the request beside the two of the signature.
    fields: Vec<(String, String)>,
}

impl<'a> Signing<'a> {
    /// A signature over method, target and the field that holds the credential, made at `created` (seconds) and good
    /// for thirty seconds.
    pub fn new(holder: &'a Holder, method: &str, url: &str, credential: (&str, &str), created: i64) -> Self {
        let covered = [("@method", method), ("@target-uri", url), credential];
        let params = [
            ("created", created.to_string()),
            ("expires", (created + 30).to_string()),
            ("nonce", quoted(&random())),
            ("keyid", quoted(&holder.jkt())),
            ("alg", quoted(algorithm(&holder.key().alg))),
            ("tag", quoted("gw-req")),
        ];
        Self {
            holder,
            label: "gw".to_owned(),
            covered: covered.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            params: params.map(|(name, value)| (name.to_owned(), value)).into(),
            fields: Vec::new(),
        }
    }

    /// Over this body too, by its digest (RFC 9530), and its type. Both fields are among those [`Signing::sign`] gives.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        let digest = content_digest(body);
        for (name, value) in [("content-digest", digest.as_str()), ("content-type", content_type)] {
            self.covered.push((name.to_owned(), value.to_owned()));
            self.fields.push((name.to_owned(), value.to_owned()));
        }
        self
    }

    /// With a parameter changed (written as it stands in the field); `None` takes it out.
    #[must_use]
    pub fn param(mut self, name: &str, value: Option<&str>) -> Self {
        match (self.params.iter().position(|(other, _)| other == name), value) {
            (Some(at), Some(value)) => value.clone_into(&mut self.params[at].1),
            (Some(at), None) => drop(self.params.remove(at)),
            (None, Some(value)) => self.params.push((name.to_owned(), value.to_owned())),
            (None, None) => {}
        }
        self
    }

    /// Without covering this component. Its field is still sent.
    #[must_use]
    pub fn without(mut self, component: &str) -> Self {
        self.covered.retain(|(name, _)| name != component);
        self
    }

    /// Under another label.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        label.clone_into(&mut self.label);
        self
    }

    /// The fields of the signed request: those [`Signing::body`] added, `Signature-Input`, `Signature`.
    pub fn sign(&self) -> Vec<(String, String)> {
        self.sign_as(self.holder)
    }

    /// The same signed with another key, whatever the parameters say.
    pub fn sign_as(&self, holder: &Holder) -> Vec<(String, String)> {
        let params = self.signature_params();
        let mut base = String::new();
        for (name, value) in &self.covered {
            base.push_str(&format!("\"{name}\": {value}\n"));
        }
        base.push_str(&format!("\"@signature-params\": {params}"));
        let signature = STANDARD.encode(holder.key().sign(base.as_bytes()));
        let mut fields = self.fields.clone();
        fields.push(("signature-input".to_owned(), format!("{}={params}", self.label)));
        fields.push(("signature".to_owned(), format!("{}=:{signature}:", self.label)));
        fields
    }

    fn signature_params(&self) -> String {
        let names: Vec<String> = self.covered.iter().map(|(name, _)| quoted(name)).collect();
        let params: String = self.params.iter().map(|(name, value)| format!(";{name}={value}")).collect();
        format!("({}){params}", names.join(" "))
    }
}

/// `Content-Digest` of a body with SHA-256.
pub fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, body)))
}

/// The HTTP signature algorithm of a JOSE algorithm (RFC 9421 section 3.3).
fn algorithm(jose: &str) -> &'static str {
    match jose {
        "ES256" => "ecdsa-p256-sha256",
        "ES384" => "ecdsa-p384-sha384",
        "EdDSA" | "Ed25519" => "ed25519",
        "PS512" => "rsa-pss-sha512",
        other => panic!("no HTTP signature algorithm for {other}"),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_that_of_rfc_9530() {
        // RFC 9530 appendix D: the example of a JSON body with a line break at its end.
        let body = b"{\"hello\": \"world\"}\n";
        assert_eq!(content_digest(body), "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
    }

    #[test]
    fn the_fields_name_what_is_covered_in_order() {
        let holder = Holder::new("EdDSA");
        let credential = ("authorization", "Bearer t");
        let signing =
            Signing::new(&holder, "POST", "https://a.example/x?y", credential, 100).body("application/json", b"{}");
        let fields = signing.clone().param("nonce", Some("\"n\"")).sign();
        let names: Vec<&str> = fields.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["content-digest", "content-type", "signature-input", "signature"]);
        let input = format!(
            "gw=(\"@method\" \"@target-uri\" \"authorization\" \"content-digest\" \"content-type\");created=100;\
             expires=130;nonce=\"n\";keyid=\"{}\";alg=\"ed25519\";tag=\"gw-req\"",
            holder.jkt()
        );
        assert_eq!(fields[2].1, input);
        assert!(fields[3].1.starts_with("gw=:") && fields[3].1.ends_with("=:"));
        let bent = signing.without("content-digest").label("sig1").param("tag", None).sign();
        assert!(
            bent[2].1.starts_with("sig1=(") && !bent[2].1.contains("tag=") && !bent[2].1.contains("\"content-digest\"")
        );
        assert_eq!(bent[0].0, "content-digest", "the field itself is still sent");
    }
}
