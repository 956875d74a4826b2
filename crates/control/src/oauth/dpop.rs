//! DPoP at our own endpoints (RFC 9449 sections 5, 8 and 10): the key that what we issue is bound to.

use std::time::Duration;

use base::Timestamp;
use config::NonceMode;
use proof::dpop::{DpopError, Expectation, Proof, TargetUri, VerifiedProof, verify};
use serde_json::{Map, Value};
use store::{Claim, ReplayError};

use super::request::Asked;
use super::{Oauth, OauthError};

/// A key whose possession a request proves.
pub(super) struct Holder {
    proof: VerifiedProof,
    /// The public key, as a JWK of its required members.
    pub(super) jwk: Value,
    /// A newer nonce than the one the proof has, for the answer.
    pub(super) next_nonce: Option<String>,
}

impl Holder {
    /// The key's thumbprint.
    pub(super) fn jkt(&self) -> [u8; 32] {
        *self.proof.jkt()
    }

    /// The key's thumbprint as base64url.
    pub(super) fn jkt_text(&self) -> String {
        self.proof.jkt_text()
    }
}

impl Oauth {
    /// The key whose possession the request proves; `None` if it brings no proof. The proof is not used up yet: that is
    /// [`Oauth::use_up`], once everything else about the request has held.
    pub(super) fn holder(&self, asked: &Asked) -> Result<Option<Holder>, OauthError> {
        self.holder_of(asked, None)
    }

    /// The same, where the proof has to be over a token with this hash (`ath`).
    pub(super) fn holder_of(&self, asked: &Asked, token: Option<&[u8; 32]>) -> Result<Option<Holder>, OauthError> {
        let mut proofs = asked.parts.headers.get_all("dpop").iter();
        let value = match (proofs.next(), proofs.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Err(invalid("dpop_two_proofs")),
        };
        let text = value.to_str().map_err(|_| invalid("dpop_not_text"))?;
        let proof = Proof::parse(text).map_err(|error| invalid(error.reason()))?;
        let now = self.operations().clock().now();
        let verified = self.verify_proof(&proof, asked, (token, now))?;
        let current = proof.nonce().is_some_and(|nonce| self.parts.nonces.is_current(nonce, proof.jkt(), now));
        let next_nonce = (!current).then(|| self.parts.nonces.mint(proof.jkt(), now));
        let jwk = proof.header().get("jwk").and_then(Value::as_object).map(required_members).unwrap_or_default();
        Ok(Some(Holder { proof: verified, jwk: Value::Object(jwk), next_nonce }))
    }

    fn verify_proof(
        &self,
        proof: &Proof<'_>,
        asked: &Asked,
        (token, now): (Option<&[u8; 32]>, Timestamp),
    ) -> Result<VerifiedProof, OauthError> {
        let file = self.operations().file();
        let accepted = self.parts.nonces.accepted(proof.jkt(), now);
        let accepted = accepted.each_ref().map(String::as_str);
        // A nonce that is sent is checked even where none is asked for.
        let nonces = (self.wants_nonce(&file.dpop) || proof.nonce().is_some()).then_some(accepted.as_slice());
        let mut outcome = Err(DpopError::WrongTarget);
        // Targets are compared before the signature is verified, so at most one is.
        for origin in file.server.origins(&self.parts.listening) {
            let target = format!("{origin}{}", asked.parts.uri.path());
            let Ok(target) = TargetUri::parse(&target) else { continue };
            let expected = Expectation {
                token_hash: token.copied(),
                nonces,
                max_age: file.dpop.max_age.duration(),
                skew: file.dpop.skew.duration(),
                ..Expectation::new(asked.parts.method.as_str(), &target, now)
            };
            outcome = verify(proof, &expected).and_then(|verified| {
                self.lifetimes.check(&verified, (expected.max_age, expected.skew), now)?;
                Ok(verified)
            });
            if !matches!(outcome, Err(DpopError::WrongTarget)) {
                break;
            }
        }
        outcome.map_err(|error| match error {
            DpopError::NonceRequired | DpopError::WrongNonce => {
                OauthError::UseDpopNonce { nonce: self.parts.nonces.mint(proof.jkt(), now) }
            }
            other => invalid(other.reason()),
        })
    }

    /// Where nonces are optional they are needed all the same as long as a proof from before the start would be taken:
    /// what was used up then is forgotten.
    fn wants_nonce(&self, dpop: &config::DpopSection) -> bool {
        // It may have been made ahead of time by the skew, and be old by the skew.
        let skew = dpop.skew.duration().saturating_mul(2);
        let window = dpop.max_age.duration().saturating_add(skew);
        let running = self.operations().clock().monotonic().saturating_duration_since(self.started);
        dpop.nonce == NonceMode::Required || running <= window
    }

    /// Use a proof up: the same one is refused from now on.
    pub(super) async fn use_up(&self, holder: &Holder) -> Result<(), OauthError> {
        // It is accepted still in the very moment it is said to be acceptable until.
        let until = holder.proof.acceptable_until().plus(Duration::from_secs(1));
        // Fetching the client's keys may have taken its time. Beyond what is remembered, nobody could tell whether this came
        // before.
        if self.operations().clock().now() >= until {
            return Err(invalid(DpopError::TooOld.reason()));
        }
        match self.parts.replay.claim(holder.proof.replay_key(), until).await {
            Ok(Claim::First) => Ok(()),
            Ok(Claim::Seen) => Err(invalid("dpop_replayed")),
            Err(error @ (ReplayError::Full | ReplayError::Down)) => {
                tracing::error!(reason = error.reason(), "the replay store cannot be used");
                Err(OauthError::Unavailable)
            }
        }
    }
}

fn invalid(reason: &'static str) -> OauthError {
    tracing::info!(reason, "DPoP proof refused");
    OauthError::InvalidDpopProof("the DPoP proof is not valid for this request")
}

/// The members that make the key, and nothing else a client has put beside them.
fn required_members(jwk: &Map<String, Value>) -> Map<String, Value> {
    let names: &[&str] = match jwk.get("kty").and_then(Value::as_str) {
        Some("EC") => &["crv", "kty", "x", "y"],
        Some("OKP") => &["crv", "kty", "x"],
        Some("RSA") => &["e", "kty", "n"],
        _ => &[],
    };
    names.iter().filter_map(|name| Some(((*name).to_owned(), jwk.get(*name)?.clone()))).collect()
}
