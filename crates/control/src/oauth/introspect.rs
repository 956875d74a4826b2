//! `POST /oauth/introspect` (RFC 7662): whether a token of ours counts, and what it says.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Request;
use proof::token::VerifiedToken;
use serde_json::{Map, Value, json};
use store::RefreshState;

use super::request::{self, Asked, Visit, unavailable};
use super::{Oauth, OauthError};
use crate::operations::{FoundRefreshToken, Registration};

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "introspect", &request);
    visit.answer(oauth.introspect(request)).await
}

impl Oauth {
    async fn introspect(&self, request: Request<Body>) -> Result<Response, OauthError> {
        let asked = Asked::posted(self, request).await?;
        let client = self.confidential_client(&asked).await?;
        let text = asked.form.get("token").ok_or(OauthError::InvalidRequest("token is missing"))?;
        // Whatever is unknown, over, revoked, or none of this client's business looks the same (section 2.2).
        let said = self.said(text, &client).await?.unwrap_or_else(|| json!({ "active": false }));
        Ok(request::json(&said))
    }

    async fn said(&self, text: &str, client: &Registration) -> Result<Option<Value>, OauthError> {
        let found = self.operations().refresh_token_find(text).await.map_err(|error| unavailable(&error))?;
        if let Some(found) = found {
            return Ok(self.refresh_token_says(&found, client));
        }
        let token = self.own_token(text).await?;
        let may = |token: &Arc<VerifiedToken>| client.introspect || token.client_id() == Some(client.name.as_str());
        Ok(token.filter(may).map(|token| access_token_says(&token)))
    }

    /// Refresh tokens are between us and their client: nobody else can ask about them.
    fn refresh_token_says(&self, found: &FoundRefreshToken, client: &Registration) -> Option<Value> {
        let family = &found.family;
        let RefreshState::Live { until } = found.state else { return None };
        if family.client != client.name {
            return None;
        }
        let mut said = json!({
            "active": true,
            "client_id": family.client,
            "sub": family.subject,
            "iss": self.operations().external_url(),
            "exp": until.as_secs(),
        });
        let members = said.as_object_mut()?;
        if !family.scopes.is_empty() {
            members.insert("scope".into(), family.scopes.join(" ").into());
        }
        if let Some(jkt) = family.jkt {
            members.insert("cnf".into(), json!({ "jkt": URL_SAFE_NO_PAD.encode(jkt) }));
        }
        Some(said)
    }
}

/// Its claims, which are all ours, and its type (RFC 9449 section 6.2).
fn access_token_says(token: &VerifiedToken) -> Value {
    let bound = token.cnf().is_some_and(|cnf| cnf.jkt.is_some());
    let mut said = Map::from_iter([
        ("active".to_owned(), Value::Bool(true)),
        ("token_type".to_owned(), if bound { "DPoP" } else { "Bearer" }.into()),
    ]);
    said.extend(token.claims().iter().map(|(name, value)| (name.clone(), value.clone())));
    Value::Object(said)
}
