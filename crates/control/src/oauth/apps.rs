//! What the endpoints for apps share with the token service: its verdict on our own tokens, proofs and keys that are fetched.

use std::sync::Arc;

use base::Timestamp;
use http::request::Parts;
use proof::token::VerifiedToken;
use store::{Claim, ReplayError};

use super::client_auth::ClientKeySets;
use super::request::Asked;
use super::{Oauth, OauthError};
use crate::ClientAddress;
use crate::form::Form;

impl Oauth {
    /// Key sets at URLs, fetched by the same way out.
    pub(crate) fn key_sets(&self) -> ClientKeySets {
        ClientKeySets::new(Arc::clone(&self.parts.documents), self.operations().shared_clock())
    }

    /// The access token with this text, if it is ours, has not expired and is not revoked.
    pub(crate) async fn app_token(&self, text: &str) -> Result<Option<Arc<VerifiedToken>>, OauthError> {
        self.own_token(text).await
    }

    /// Check that a request's `DPoP` proof is by the key its token is bound to and over that token (RFC 9449 section 7), and use it
    /// up; or a stable code for why not.
    pub(crate) async fn app_proof(&self, parts: &Parts, token: &VerifiedToken) -> Result<(), &'static str> {
        let Some(ClientAddress(address)) = parts.extensions.get().copied() else { return Err("no_client_address") };
        let jkt = token.cnf().and_then(|bound| bound.jkt).ok_or("token_unbound")?;
        let mut copy = http::Request::new(());
        (*copy.method_mut(), *copy.uri_mut()) = (parts.method.clone(), parts.uri.clone());
        *copy.headers_mut() = parts.headers.clone();
        let asked = Asked { parts: copy.into_parts().0, address, certificate: None, form: Form::default() };
        let holder = self.holder_of(&asked, Some(token.token_hash())).map_err(|error| error.reason())?;
        let holder = holder.ok_or("dpop_missing")?;
        if holder.jkt() != jkt {
            return Err("dpop_key_mismatch");
        }
        self.use_up(&holder).await.map_err(|error| error.reason())
    }

    /// Use something up that is shown once until `until`; or a stable code for why that cannot be said.
    pub(crate) async fn claim(&self, key: [u8; 32], until: Timestamp) -> Result<Claim, &'static str> {
        if self.operations().clock().now() >= until {
            return Ok(Claim::Seen);
        }
        self.parts.replay.claim(key, until).await.map_err(|error: ReplayError| error.reason())
    }
}
