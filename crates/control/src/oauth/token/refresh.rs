//! The refresh token grant (RFC 6749 section 6): each use gives the next one (RFC 9700 section 4.14.2).

use base::Secret;
use store::{Family, Holder, Rotate, Rotation};
use vault::{HashPurpose, Label, Purpose};

use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::Applicant;
use super::person::Details;
use crate::credential::Kind;
use crate::operations::{MintedToken, NewToken, Once, OperationError, parse_scopes};

/// A successor is sealed for its family and never changes.
const VERSION: u64 = 1;

impl Oauth {
    pub(super) async fn refresh(&self, applicant: Applicant<'_>) -> Result<MintedToken, OauthError> {
        let text = applicant.need("refresh_token", "refresh_token is missing")?;
        let found = self.refresh_token(text).await?;
        let Some((presented, family)) = found else { return Err(OauthError::InvalidGrant) };
        if family.client != applicant.client.name {
            // Its owner loses nothing by what another client does.
            tracing::warn!(target: "audit", family = family.id, reason = "refresh_token_of_another_client", "refused");
            return Err(OauthError::InvalidGrant);
        }
        // Before anything is used up: a request for too much changes nothing.
        let scopes = narrowed(&applicant, &family)?;

        let operations = self.operations();
        let successor = Kind::RefreshToken.generate(operations.rng());
        let token = operations.file().token.clone();
        let rotate = Rotate {
            presented,
            holder: Holder {
                client: applicant.client.name.clone(),
                jkt: applicant.binding.jkt,
                x5t: applicant.binding.x5t_s256,
            },
            successor: operations.vault().keyed_hash(HashPurpose::RefreshToken, successor.expose().as_bytes()),
            sealed: self.seal_successor(&family, &successor)?,
            idle: token.refresh_idle.duration(),
            grace: token.refresh_grace.duration(),
        };
        let rotated = operations.store().refresh().rotate(rotate).await.map_err(|error| unavailable(&error.into()))?;
        let (family, refresh_token) = match rotated {
            Rotation::Rotated(family) => (family, Once::from(successor)),
            Rotation::Again(family, sealed) => {
                let again = self.open_successor(&family, &sealed)?;
                (family, again)
            }
            other => {
                let (family, reason) = refused(&other);
                tracing::warn!(target: "audit", family, reason, "refresh token refused");
                return Err(OauthError::InvalidGrant);
            }
        };
        self.renewed(applicant, &family, &scopes, refresh_token).await
    }

    async fn renewed(
        &self,
        applicant: Applicant<'_>,
        family: &Family,
        scopes: &[String],
        refresh_token: Once,
    ) -> Result<MintedToken, OauthError> {
        let Applicant { client, binding, .. } = applicant;
        let details: Details = serde_json::from_str(&family.details)
            .map_err(|_| unavailable(&store::StoreError::Row("refresh token details").into()))?;
        let left = family.absolute_end.since(self.operations().clock().now());
        let new = NewToken {
            ttl: client.token_ttl.min(left),
            binding,
            groups: &details.groups,
            session: family.session.as_deref(),
            upstream_session: family.upstream_session.as_deref(),
            device: family.device.as_deref(),
            auth_time: family.auth_time,
            ..NewToken::new(client, &family.subject, scopes)
        };
        let mut token = self.operations().issue(&new).await.map_err(|error| unavailable(&error))?;
        token.refresh_token = Some(refresh_token);
        Ok(token)
    }

    /// The hash that a refresh token is known by, and its family; nothing if it is none of ours.
    async fn refresh_token(&self, text: &str) -> Result<Option<([u8; 32], Family)>, OauthError> {
        let found = self.operations().refresh_token_find(text).await.map_err(|error| unavailable(&error))?;
        Ok(found.map(|found| (found.hash, found.family)))
    }

    fn seal_successor(&self, family: &Family, successor: &Secret<String>) -> Result<vault::Sealed, OauthError> {
        let operations = self.operations();
        let label = Label::new(operations.store().tenant(), Purpose::Successor, &family.id, VERSION);
        let sealed = operations.vault().seal(&label, successor.expose().as_bytes());
        sealed.map_err(|error| unavailable(&error.into()))
    }

    fn open_successor(&self, family: &Family, sealed: &vault::Sealed) -> Result<Once, OauthError> {
        let operations = self.operations();
        let label = Label::new(operations.store().tenant(), Purpose::Successor, &family.id, VERSION);
        let opened = operations.vault().open(&label, sealed).map_err(|error| unavailable(&error.into()))?;
        let text = String::from_utf8(opened.expose().clone());
        let text = text.map_err(|_| unavailable(&OperationError::from(store::StoreError::Row("successor"))))?;
        Ok(Once::from(Secret::new(text)))
    }
}

/// The scopes of the new access token: those asked for, or all; never more than were granted, nor than the client has now.
fn narrowed(applicant: &Applicant<'_>, family: &Family) -> Result<Vec<String>, OauthError> {
    let has = |scope: &&String| applicant.client.scopes.contains(*scope);
    let granted = family.scopes.iter().filter(has);
    match applicant.asked.form.get("scope") {
        None => Ok(granted.cloned().collect()),
        Some(asked) => {
            let asked = parse_scopes(asked).map_err(|_| OauthError::InvalidScope)?;
            let granted: Vec<&String> = granted.collect();
            if asked.iter().all(|scope| granted.contains(&scope)) { Ok(asked) } else { Err(OauthError::InvalidScope) }
        }
    }
}

/// Which family a refused token is of, and why it was refused: for the log. The store has ended what had to end.
fn refused(rotation: &Rotation) -> (&str, &'static str) {
    match rotation {
        Rotation::Reused(family) => (&family.id, "refresh_token_reused"),
        Rotation::WrongKey(family) => (&family.id, "refresh_token_wrong_key"),
        Rotation::WrongClient(family) => (&family.id, "refresh_token_of_another_client"),
        Rotation::Revoked(family) => (&family.id, "refresh_token_revoked"),
        Rotation::Expired(family) => (&family.id, "refresh_token_expired"),
        Rotation::Rotated(family) | Rotation::Again(family, _) => (&family.id, "refresh_token_good"),
        Rotation::Unknown => ("", "refresh_token_unknown"),
    }
}
