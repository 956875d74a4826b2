//! Access tokens that are ours, looked at by ourselves.

use std::sync::{Arc, PoisonError, RwLock};

use base::Name;
use proof::jose::KeySet;
use proof::token::{CacheLimits, Issuer, IssuerRules, Issuers, StaticKeys, VerifiedToken};
use serde_json::Value;
use store::TokenFacts;

use super::request::unavailable;
use super::{Oauth, OauthError};

/// The verifier of our own tokens, kept until our keys change.
#[derive(Debug, Default)]
pub(super) struct OwnTokens(RwLock<Option<(String, Arc<Issuers>)>>);

/// How much is remembered of tokens that were asked about.
const CACHE: CacheLimits = CacheLimits { bytes: 1 << 20, refused: 256 };

impl Oauth {
    /// The access token with this text, if it is ours, has not expired and is not revoked.
    pub(super) async fn own_token(&self, text: &str) -> Result<Option<Arc<VerifiedToken>>, OauthError> {
        let verifier = self.own_verifier().await?;
        let Ok(token) = verifier.verify(text, self.operations().clock().now()) else { return Ok(None) };
        let revoked = self.operations().store().revoked().check(&facts(&token));
        Ok(Some(token).filter(|_| revoked.is_none()))
    }

    async fn own_verifier(&self) -> Result<Arc<Issuers>, OauthError> {
        let keys = self.operations().published_keys().await.map_err(|error| unavailable(&error))?;
        let known = self.own_tokens.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((_, verifier)) = known.filter(|(etag, _)| *etag == keys.etag) {
            return Ok(verifier);
        }
        let failed = |what: &dyn std::fmt::Display| {
            tracing::error!(error = %what, "our own tokens cannot be verified");
            OauthError::Unavailable
        };
        let name = Name::new(config::OWN_NAME).map_err(|error| failed(&error))?;
        let set = KeySet::from_published(keys.json.as_bytes()).map_err(|error| failed(&error))?;
        let external = self.operations().external_url();
        let rules = IssuerRules::own(name, external, vec![external.to_owned()]);
        let issuer = Issuer::new(rules, Arc::new(StaticKeys::new(set)));
        let verifier = Arc::new(Issuers::new(vec![issuer], CACHE, 0).map_err(|error| failed(&error))?);
        let kept = Some((keys.etag.clone(), Arc::clone(&verifier)));
        *self.own_tokens.0.write().unwrap_or_else(PoisonError::into_inner) = kept;
        Ok(verifier)
    }
}

/// What of a token may have been revoked.
pub(super) fn facts(token: &VerifiedToken) -> TokenFacts<'_> {
    TokenFacts {
        issuer: token.issuer().as_str(),
        subject: token.subject(),
        client: token.client_id(),
        jti: token.jti(),
        kid: token.kid(),
        session: token.sid(),
        upstream_session: token.claims().get("orig_sid").and_then(Value::as_str),
        device: token.device_id(),
        issued_at: token.issued_at(),
    }
}
