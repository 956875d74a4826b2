//! The authorization code grant (RFC 6749 section 4.1.3) with PKCE (RFC 7636): its last step.

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use store::{GrantKind, NewRevocation, OWN_ISSUER, Revoke};
use subtle::ConstantTimeEq;

use super::super::pending::AuthorizationCode;
use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::Applicant;
use crate::operations::{MintedToken, Redeemed};

impl Oauth {
    pub(super) async fn redeem_code(&self, applicant: Applicant<'_>) -> Result<MintedToken, OauthError> {
        let text = applicant.need("code", "code is missing")?;
        let verifier = applicant.need("code_verifier", "code_verifier is missing")?;
        let operations = self.operations();
        let kept = operations.grant_get::<AuthorizationCode>(GrantKind::Code, text).await;
        // Another client's code stays what it is: a client cannot use up what it was not given.
        let kept = kept.map_err(|error| unavailable(&error))?;
        if kept.is_some_and(|kept| kept.body.client != applicant.client.name) {
            tracing::warn!(target: "audit", reason = "code_of_another_client", "authorization code refused");
            return Err(OauthError::InvalidGrant);
        }
        // Used up before it is looked at any further: there is one try at the verifier.
        let taken = operations.grant_take::<AuthorizationCode>(GrantKind::Code, text).await;
        let code = match taken.map_err(|error| unavailable(&error))? {
            Redeemed::First(code) => code,
            Redeemed::AlreadyUsed(code) => {
                if code.client == applicant.client.name {
                    self.end_session(&code.person.sid).await?;
                }
                return Err(OauthError::InvalidGrant);
            }
            Redeemed::Expired | Redeemed::Unknown => return Err(OauthError::InvalidGrant),
        };
        if let Some(reason) = mismatch(&code, verifier, &applicant) {
            tracing::warn!(target: "audit", reason, "authorization code refused");
            return Err(OauthError::InvalidGrant);
        }
        self.issue_for_person(applicant, &code.person, &code.scopes, code.nonce.as_deref()).await
    }

    /// A code that is used twice was stolen: what it gave ends (RFC 6749 section 4.1.2).
    async fn end_session(&self, session: &str) -> Result<(), OauthError> {
        let store = self.operations().store();
        tracing::warn!(target: "audit", reason = "code_reused", "authorization code used twice: its session ends");
        let revocations = store.revocations();
        let new = NewRevocation {
            what: Revoke::Session { issuer: OWN_ISSUER.to_owned(), session: session.to_owned() },
            not_before: revocations.now(),
            expires_at: Some(self.operations().clock().now().plus(super::super::REMEMBERED)),
            by: "token service".to_owned(),
            reason: "authorization code used twice".to_owned(),
        };
        revocations.revoke(new).await.map(drop).map_err(|error| unavailable(&error.into()))
    }
}

/// What of the request is not what the code was issued for.
fn mismatch(code: &AuthorizationCode, verifier: &str, applicant: &Applicant<'_>) -> Option<&'static str> {
    if code.client != applicant.client.name {
        return Some("code_of_another_client");
    }
    if code.redirect_uri.as_deref() != applicant.asked.form.get("redirect_uri") {
        return Some("redirect_uri_differs");
    }
    if !verifies(verifier, &code.code_challenge) {
        return Some("wrong_code_verifier");
    }
    let key = applicant.holder.map(super::Holder::jkt_text);
    if code.dpop_jkt.is_some() && code.dpop_jkt != key {
        return Some("wrong_dpop_key");
    }
    None
}

/// PKCE with S256 (RFC 7636 section 4.6), the only method there is.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let unreserved = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let well_formed = (43..=128).contains(&verifier.len()) && verifier.bytes().all(unreserved);
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()));
    well_formed & bool::from(hash.as_bytes().ct_eq(challenge.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::verifies;

    /// RFC 7636 appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";

    #[test]
    fn a_verifier_fits_its_own_challenge_only() {
        assert!(verifies(VERIFIER, CHALLENGE));
        for (verifier, challenge) in [
            (CHALLENGE, CHALLENGE),
            (VERIFIER, VERIFIER),
            (&VERIFIER[..42], CHALLENGE),
            ("", ""),
            ("", "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU"),
        ] {
            assert!(!verifies(verifier, challenge), "{verifier} {challenge}");
        }
    }
}
