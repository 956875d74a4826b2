//! `POST /oauth/par`: a client pushes its authorization request before a browser is involved (RFC 9126), so that nobody
//! on the way can read or change it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use serde_json::json;
use store::GrantKind;

use super::authorize::{AuthorizationRequest, Back, REQUEST_URI, RequestError};
use super::error::insert_nonce;
use super::request::{Asked, Visit, json_with, unavailable};
use super::{Oauth, OauthError};

/// `POST /oauth/par`.
pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "par", &request);
    let work = async {
        let asked = Asked::posted(&oauth, request).await?;
        oauth.push(&asked).await
    };
    visit.answer(work).await
}

impl Oauth {
    async fn push(&self, asked: &Asked) -> Result<Response, OauthError> {
        let (client, holder) = self.client_and_holder(asked).await?;
        if asked.form.get("request_uri").is_some() {
            return Err(OauthError::InvalidRequest("a pushed request cannot refer to another (RFC 9126 section 2.1)"));
        }
        let external_url = self.operations().external_url();
        let mut request = Back::of(&client, &asked.form)
            .and_then(|back| AuthorizationRequest::read(&client, back, &asked.form, external_url))
            .map_err(told)?;
        if let Some(holder) = &holder {
            // RFC 9449 section 10.1: the proof binds the code, and a thumbprint beside it must be of the same key.
            let jkt = holder.jkt_text();
            if request.dpop_jkt.as_ref().is_some_and(|named| *named != jkt) {
                return Err(OauthError::InvalidDpopProof("dpop_jkt is not the thumbprint of the proof's key"));
            }
            request.dpop_jkt = Some(jkt);
            self.use_up(holder).await?;
        }
        let reference = self.operations().new_code();
        let ttl = self.operations().file().token.par_ttl.duration();
        let kept = self.operations().grant_put(GrantKind::Pushed, reference.expose(), &request, ttl).await;
        kept.map_err(|error| unavailable(&error))?;
        tracing::info!(target: "audit", "authorization request pushed");
        let body = json!({
            "request_uri": format!("{REQUEST_URI}{}", reference.expose()),
            "expires_in": ttl.as_secs(),
        });
        let mut response = json_with(StatusCode::CREATED, &body);
        if let Some(nonce) = holder.as_ref().and_then(|holder| holder.next_nonce.as_deref()) {
            insert_nonce(response.headers_mut(), nonce);
        }
        Ok(response)
    }
}

/// The same as at the authorization endpoint, in this endpoint's form (RFC 9126 section 2.3).
fn told(error: RequestError) -> OauthError {
    match error {
        RequestError::InvalidRequest(what) => OauthError::InvalidRequest(what),
        RequestError::UnauthorizedClient => OauthError::UnauthorizedClient,
        RequestError::UnsupportedResponseType => OauthError::InvalidRequest("the only response type is code"),
        RequestError::InvalidScope => OauthError::InvalidScope,
        RequestError::InvalidTarget => OauthError::InvalidTarget,
        RequestError::RequestNotSupported => OauthError::InvalidRequest("request objects are not supported"),
    }
}
