//! `POST /oauth/token`: one file per grant.

mod client_credentials;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::Request;

use super::request::{Asked, Visit, json};
use super::{Oauth, OauthError};

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "token", &request);
    visit.answer(oauth.token(request)).await
}

impl Oauth {
    async fn token(&self, request: Request<Body>) -> Result<Response, OauthError> {
        let asked = Asked::posted(self, request).await?;
        let client = self.client(&asked).await?;
        let grant = asked.form.get("grant_type").ok_or(OauthError::InvalidRequest("grant_type is missing"))?;
        let external = self.operations().external_url();
        if ["resource", "audience"].iter().any(|name| asked.form.get(name).is_some_and(|wanted| wanted != external)) {
            return Err(OauthError::InvalidTarget);
        }
        let token = match grant {
            "client_credentials" => self.client_credentials(&client, &asked).await?,
            _ => return Err(OauthError::UnsupportedGrantType),
        };
        tracing::info!(target: "audit", grant, "token issued");
        Ok(json(&token))
    }
}
