//! Tokens for somebody who signed in: the end of the code and device flows.

use config::Grant;
use serde::{Deserialize, Serialize};
use store::{NewFamily, OWN_ISSUER, StoreError, TokenFacts};
use vault::HashPurpose;

use super::super::pending::SignedIn;
use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::Applicant;
use crate::credential::Kind;
use crate::operations::{MintedToken, NewIdToken, NewToken, Once};

/// The scope that asks for an ID token (OpenID Connect Core section 3.1.2.1).
const OPENID: &str = "openid";

/// What a family of refresh tokens keeps beside what the store knows of it.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Details {
    /// The person's groups when they signed in.
    pub(super) groups: Vec<String>,
}

impl Oauth {
    /// An access token for `person`; a refresh token where the client may have one; an ID token where it asked for that.
    pub(super) async fn issue_for_person(
        &self,
        applicant: Applicant<'_>,
        person: &SignedIn,
        scopes: &[String],
        nonce: Option<&str>,
    ) -> Result<MintedToken, OauthError> {
        let Applicant { client, binding, .. } = applicant;
        let subject = person.own_subject();
        let facts = TokenFacts {
            issuer: OWN_ISSUER,
            subject: &subject,
            client: Some(client.name.as_str()),
            session: Some(&person.sid),
            upstream_session: person.upstream_sid.as_deref(),
            issued_at: Some(person.at),
            ..TokenFacts::default()
        };
        if let Some(cause) = self.operations().store().revoked().check(&facts) {
            tracing::info!(target: "audit", cause = cause.as_str(), "revoked since the sign-in");
            return Err(OauthError::InvalidGrant);
        }
        // A scope the client has lost since is not granted any more.
        let scopes: Vec<String> = scopes.iter().filter(|scope| client.scopes.contains(scope)).cloned().collect();
        let refresh_token = if client.allows(Grant::RefreshToken) {
            // A public client is bound to its key; any other proves who it is each time (RFC 9449 section 5).
            let (jkt, x5t) = if client.is_public() { (binding.jkt, binding.x5t_s256) } else { (None, None) };
            let details = Details { groups: person.groups.clone() };
            let lifetime = self.operations().file().token.refresh_lifetime.duration();
            let family = NewFamily {
                client: client.name.clone(),
                subject: subject.clone(),
                scopes: scopes.clone(),
                jkt,
                x5t,
                session: Some(person.sid.clone()),
                upstream_session: person.upstream_sid.clone(),
                device: None,
                auth_time: Some(person.auth_time),
                granted_at: Some(person.at),
                details: serde_json::to_string(&details).unwrap_or_default(),
                absolute_end: self.operations().clock().now().plus(lifetime),
            };
            Some(self.first_refresh_token(family).await?)
        } else {
            None
        };
        let new = NewToken {
            binding,
            groups: &person.groups,
            session: Some(&person.sid),
            upstream_session: person.upstream_sid.as_deref(),
            auth_time: Some(person.auth_time),
            ..NewToken::new(client, &subject, &scopes)
        };
        let mut token = self.operations().issue(&new).await.map_err(|error| unavailable(&error))?;
        if scopes.iter().any(|scope| scope == OPENID) {
            let new = NewIdToken {
                client,
                subject: &subject,
                auth_time: person.auth_time,
                session: &person.sid,
                nonce,
                access_token: token.access_token.expose(),
            };
            token.id_token = Some(self.operations().issue_id_token(&new).await.map_err(|error| unavailable(&error))?);
        }
        token.refresh_token = refresh_token;
        Ok(token)
    }

    async fn first_refresh_token(&self, family: NewFamily) -> Result<Once, OauthError> {
        let operations = self.operations();
        let token = Kind::RefreshToken.generate(operations.rng());
        let hash = operations.vault().keyed_hash(HashPurpose::RefreshToken, token.expose().as_bytes());
        let idle = operations.file().token.refresh_idle.duration();
        match operations.store().refresh().create(family, hash, idle).await {
            Ok(_) => Ok(Once::from(token)),
            // Revoked since the grant, or this moment: the code was used a second time meanwhile.
            Err(StoreError::Conflict(_)) => Err(OauthError::InvalidGrant),
            Err(error) => Err(unavailable(&error.into())),
        }
    }
}
