//! `POST /oauth/revoke` (RFC 7009): a client gives a token of its own back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::Timestamp;
use http::{HeaderValue, Request, header};
use proof::token::VerifiedToken;
use store::{NewRevocation, OWN_ISSUER, Revoke, StoreError};

use super::request::{Asked, Visit, unavailable};
use super::{Oauth, OauthError};
use crate::operations::{FoundRefreshToken, Registration};

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "revoke", &request);
    visit.answer(oauth.revoke(request)).await
}

impl Oauth {
    /// A token that is unknown, over, or revoked already is answered like one that was revoked now (section 2.2): it is
    /// worth nothing either way. The hint is not needed, so it is not looked at.
    async fn revoke(&self, request: Request<Body>) -> Result<Response, OauthError> {
        let asked = Asked::posted(self, request).await?;
        let client = self.client(&asked).await?;
        let text = asked.form.get("token").ok_or(OauthError::InvalidRequest("token is missing"))?;
        let found = self.operations().refresh_token_find(text).await.map_err(|error| unavailable(&error))?;
        if let Some(found) = found {
            self.revoke_family(&found, &client).await?;
        } else if let Some(token) = self.own_token(text).await? {
            self.revoke_access_token(&token, &client).await?;
        }
        let mut response = Response::new(Body::empty());
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }

    /// The whole family, and the access tokens it gave (section 2.1).
    async fn revoke_family(&self, found: &FoundRefreshToken, client: &Registration) -> Result<(), OauthError> {
        let family = &found.family;
        if family.client != client.name {
            return Err(another_clients());
        }
        let store = self.operations().store();
        match store.refresh().revoke_family(&family.id, "revoked by its client").await {
            Ok(()) | Err(StoreError::Missing(_)) => {}
            Err(error) => return Err(unavailable(&error.into())),
        }
        if let Some(session) = &family.session {
            let what = Revoke::Session { issuer: OWN_ISSUER.to_owned(), session: session.clone() };
            self.revoke_ours(what, client, self.operations().clock().now().plus(super::REMEMBERED)).await?;
        }
        tracing::info!(target: "audit", family = family.id, "refresh token revoked by its client");
        let event = audit::Event::new("token.revoked").by(client.name.as_str()).with("what", "refresh token");
        self.operations().audit().noted(event.maybe("session", family.session.as_deref())).await;
        Ok(())
    }

    async fn revoke_access_token(&self, token: &VerifiedToken, client: &Registration) -> Result<(), OauthError> {
        if token.client_id() != Some(client.name.as_str()) {
            return Err(another_clients());
        }
        // We give every token of ours one.
        let Some(jti) = token.jti() else { return Ok(()) };
        let what = Revoke::Token { issuer: OWN_ISSUER.to_owned(), jti: jti.to_owned() };
        let until = token.expires_at().plus(super::CLOCKS_DIFFER);
        self.revoke_ours(what, client, until).await?;
        tracing::info!(target: "audit", "access token revoked by its client");
        let event = audit::Event::new("token.revoked").by(client.name.as_str()).with("what", "token");
        self.operations().audit().noted(event.with("jti", jti)).await;
        Ok(())
    }

    async fn revoke_ours(&self, what: Revoke, client: &Registration, until: Timestamp) -> Result<(), OauthError> {
        let revocations = self.operations().store().revocations();
        let new = NewRevocation {
            what,
            not_before: revocations.now(),
            expires_at: Some(until),
            by: format!("client {}", client.name),
            reason: "revoked by its client".to_owned(),
        };
        revocations.revoke(new).await.map(drop).map_err(|error| unavailable(&error.into()))
    }
}

/// RFC 7009 section 2.1: the request is refused, and the client is told.
fn another_clients() -> OauthError {
    tracing::warn!(target: "audit", reason = "token_of_another_client", "revocation refused");
    OauthError::UnauthorizedClient
}
