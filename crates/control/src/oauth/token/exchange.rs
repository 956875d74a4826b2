//! Token exchange (RFC 8693): a company's token for a short one of ours, for this gateway only and bound to the caller's
//! key.

use proof::mtls::certificate_thumbprint;
use proof::token::{TokenError, VerifiedToken};

use super::super::own_tokens::facts;
use super::super::pending::own_subject;
use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::{Applicant, Holder};
use crate::operations::{MintedToken, NewToken, granted, parse_scopes};

/// What we issue (RFC 8693 section 3).
const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";

/// The answer for every token that is not accepted: it does not say what is wrong with it.
const REFUSED: OauthError = OauthError::InvalidRequest("the subject_token is not accepted");

impl Oauth {
    pub(super) async fn exchange(&self, applicant: Applicant<'_>) -> Result<MintedToken, OauthError> {
        let form = &applicant.asked.form;
        let subject_token = applicant.need("subject_token", "subject_token is missing")?;
        match applicant.need("subject_token_type", "subject_token_type is missing")? {
            ACCESS_TOKEN | JWT | ID_TOKEN => {}
            _ => return Err(OauthError::InvalidRequest("subject_token_type is not access_token, jwt or id_token")),
        }
        if form.get("actor_token").is_some() || form.get("actor_token_type").is_some() {
            return Err(OauthError::InvalidRequest("actor tokens are not accepted: the client is the actor"));
        }
        let issued_token_type = match form.get("requested_token_type") {
            None | Some(ACCESS_TOKEN) => ACCESS_TOKEN,
            Some(JWT) => JWT,
            Some(_) => return Err(OauthError::InvalidRequest("requested_token_type is not access_token or jwt")),
        };
        let wanted = form.get("scope").map(parse_scopes).transpose().map_err(|_| OauthError::InvalidScope)?;

        let subject = self.subject(&applicant, subject_token).await?;
        let Applicant { client, mut binding, .. } = applicant;
        // What theirs is bound to, ours is bound to as well: the certificate was shown.
        binding.x5t_s256 = binding.x5t_s256.or_else(|| subject.cnf()?.x5t_s256);
        let scopes = granted(client, wanted).map_err(|_| OauthError::InvalidScope)?;
        let name = own_subject(subject.issuer(), subject.subject());
        // Ours never outlives theirs.
        let left = subject.expires_at().since(self.operations().clock().now());
        let new = NewToken {
            ttl: client.token_ttl.min(left),
            binding,
            actor: Some(client.name.as_str()),
            groups: subject.groups(),
            upstream_session: subject.sid(),
            device: subject.device_id(),
            ..NewToken::new(client, &name, &scopes)
        };
        if new.ttl.as_secs() == 0 {
            return Err(REFUSED);
        }
        let mut token = self.operations().issue(&new).await.map_err(|error| unavailable(&error))?;
        token.issued_token_type = Some(issued_token_type);
        Ok(token)
    }

    /// The subject token, verified as the data plane would, of an issuer whose tokens this client may exchange, neither
    /// revoked nor stolen.
    async fn subject(
        &self,
        applicant: &Applicant<'_>,
        text: &str,
    ) -> Result<std::sync::Arc<VerifiedToken>, OauthError> {
        let refused = |reason: &'static str| {
            tracing::info!(target: "audit", reason, "subject token refused");
            REFUSED
        };
        let token = match self.parts.subject_tokens.verify(text).await {
            Ok(token) => token,
            Err(error @ TokenError::KeysUnavailable { .. }) => {
                tracing::error!(reason = error.reason(), "a subject token's keys are not to be had");
                return Err(OauthError::Unavailable);
            }
            Err(error) => return Err(refused(error.reason())),
        };
        if !applicant.client.exchange.contains(token.issuer()) {
            return Err(refused("issuer_not_exchangeable"));
        }
        if let Some(cause) = self.operations().store().revoked().check(&facts(&token)) {
            tracing::info!(cause = cause.as_str(), "subject token revoked");
            return Err(refused("token_revoked"));
        }
        // Whoever has stolen a bound token does not get an unbound one for it.
        if let Some(cnf) = token.cnf() {
            let certificate = applicant.asked.certificate.as_ref().map(|shown| certificate_thumbprint(&shown.der));
            let held = |bound: Option<[u8; 32]>, proven| bound.is_none() || bound == proven;
            if !held(cnf.jkt, applicant.holder.map(Holder::jkt)) || !held(cnf.x5t_s256, certificate) {
                return Err(refused("token_bound_to_another_key"));
            }
        }
        Ok(token)
    }
}
