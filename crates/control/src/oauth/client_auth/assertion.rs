//! `private_key_jwt`: a client signs who it is (RFC 7523 section 2.2), each time anew.

use std::sync::Arc;

use proof::assertion::{Assertion, AssertionError, ExpectedAssertion, VerifiedAssertion, verify_client_assertion};
use proof::jose::{Alg, KeySet};
use store::{Claim, OneTime};

use super::super::request::{Asked, unavailable};
use super::super::{Oauth, OauthError};
use crate::operations::{Authentication, Registration};

impl Oauth {
    /// Whether the assertion is the client's own and was never used before. It is used up durably, so not even a restart
    /// lets it pass again.
    pub(super) async fn assertion_holds(
        &self,
        client: Option<&Registration>,
        text: &str,
        asked: &Asked,
    ) -> Result<bool, OauthError> {
        let verified = match self.verify_assertion(client, text, asked).await? {
            Ok(verified) => verified,
            Err(error) => {
                tracing::info!(reason = error.reason(), "client assertion refused");
                return Ok(false);
            }
        };
        // A client that is disabled spends nothing, and learns nothing.
        if client.is_none_or(|client| client.disabled) {
            return Ok(false);
        }
        let key = [verified.client_id(), verified.jti()];
        let used = self.operations().store().used_once();
        match used.claim(OneTime::ClientAssertion, &key, verified.acceptable_until()).await {
            Ok(Claim::First) => Ok(true),
            Ok(Claim::Seen) => {
                tracing::warn!(target: "audit", reason = "assertion_replayed", "client assertion used twice");
                Ok(false)
            }
            Err(error) => Err(unavailable(&error.into())),
        }
    }

    async fn verify_assertion(
        &self,
        client: Option<&Registration>,
        text: &str,
        asked: &Asked,
    ) -> Result<Result<VerifiedAssertion, AssertionError>, OauthError> {
        let assertion = match Assertion::parse(text) {
            Ok(assertion) => assertion,
            Err(error) => return Ok(Err(error)),
        };
        let registered = match client.map(|client| &client.auth) {
            Some(Authentication::PrivateKeyJwt { keys, algorithms }) => Some((keys, algorithms.as_slice())),
            _ => None,
        };
        let external = self.operations().external_url();
        let endpoints = ["/oauth/token", asked.parts.uri.path()].map(|path| format!("{external}{path}"));
        let [token_endpoint, this_endpoint] = endpoints.each_ref().map(String::as_str);
        let client_id = client.map_or(assertion.client_id(), |client| client.name.as_str());
        let expected = ExpectedAssertion {
            client_id,
            audiences: &[external, token_endpoint, this_endpoint],
            algorithms: registered.map_or(Alg::DEFAULT.as_slice(), |(_, algorithms)| algorithms),
            now: self.operations().clock().now(),
        };
        let verify = |keys: &Arc<KeySet>| verify_client_assertion(&assertion, keys, &expected);
        let Some((keys, _)) = registered else { return Ok(verify(&self.client_keys.stand_in())) };
        match verify(&self.client_keys.of(keys, false).await?) {
            Err(error) if error.retryable() => Ok(verify(&self.client_keys.of(keys, true).await?)),
            verdict => Ok(verdict),
        }
    }
}
