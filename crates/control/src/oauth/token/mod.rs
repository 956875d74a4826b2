//! `POST /oauth/token`: one file per grant.

mod client_credentials;
mod code;
mod device;
mod exchange;
mod person;
mod refresh;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use config::{Grant, Requirement};
use http::Request;
use proof::mtls::certificate_thumbprint;

pub(super) use device::{INTERVAL, Polls};

use super::dpop::Holder;
use super::error::insert_nonce;
use super::request::{Asked, Visit, json};
use super::{Oauth, OauthError};
use crate::operations::{Binding, Registration};

pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "token", &request);
    // What a grant keeps between its steps is large.
    visit.answer(Box::pin(oauth.token(request))).await
}

/// Who asks for a token: an authenticated client that may use the grant, and what it proved to hold.
struct Applicant<'a> {
    asked: &'a Asked,
    client: &'a Registration,
    holder: Option<&'a Holder>,
    /// What its tokens are bound to.
    binding: Binding,
}

impl Applicant<'_> {
    /// A parameter that must be there.
    fn need(&self, name: &'static str, missing: &'static str) -> Result<&str, OauthError> {
        self.asked.form.get(name).ok_or(OauthError::InvalidRequest(missing))
    }
}

impl Oauth {
    async fn token(&self, request: Request<Body>) -> Result<Response, OauthError> {
        let asked = Asked::posted(self, request).await?;
        let (client, holder) = self.client_and_holder(&asked).await?;
        let name = asked.form.get("grant_type").ok_or(OauthError::InvalidRequest("grant_type is missing"))?;
        let grant = Grant::ALL.into_iter().find(|grant| grant.grant_type() == name);
        let grant = grant.ok_or(OauthError::UnsupportedGrantType)?;
        if !client.allows(grant) {
            return Err(OauthError::UnauthorizedClient);
        }
        self.for_us(&asked)?;
        let binding = binding(&client, holder.as_ref(), &asked)?;
        // Everything that does not change state has held.
        if let Some(holder) = &holder {
            self.use_up(holder).await?;
        }
        let applicant = Applicant { asked: &asked, client: &client, holder: holder.as_ref(), binding };
        let token = match grant {
            Grant::ClientCredentials => self.client_credentials(applicant).await?,
            Grant::RefreshToken => self.refresh(applicant).await?,
            Grant::AuthorizationCode => self.redeem_code(applicant).await?,
            Grant::DeviceCode => self.redeem_device_code(applicant).await?,
            Grant::TokenExchange => self.exchange(applicant).await?,
        };
        tracing::info!(target: "audit", grant = grant.as_str(), "token issued");
        let mut response = json(&token);
        if let Some(nonce) = holder.as_ref().and_then(|holder| holder.next_nonce.as_deref()) {
            insert_nonce(response.headers_mut(), nonce);
        }
        Ok(response)
    }

    /// Tokens are for this gateway: `resource` (RFC 8707) and `audience` (RFC 8693) may say so, and nothing else. URL
    /// libraries write an origin with a slash at its end.
    fn for_us(&self, asked: &Asked) -> Result<(), OauthError> {
        let external = self.operations().external_url();
        let ours = |wanted: &str| wanted.strip_suffix('/').unwrap_or(wanted) == external;
        let others = ["resource", "audience"].into_iter().filter_map(|name| asked.form.get(name));
        if others.into_iter().all(ours) { Ok(()) } else { Err(OauthError::InvalidTarget) }
    }
}

/// What the client's tokens are bound to: everything it must prove, and any key it does.
fn binding(client: &Registration, holder: Option<&Holder>, asked: &Asked) -> Result<Binding, OauthError> {
    let signs = client.requires(Requirement::Signature);
    // A public client's tokens are worth something to nobody else (RFC 9700 section 2.2.2).
    if (signs || client.requires(Requirement::Dpop) || client.is_public()) && holder.is_none() {
        return Err(OauthError::InvalidDpopProof("this client's tokens are bound to a key: send a DPoP proof"));
    }
    let x5t_s256 = if client.requires(Requirement::Mtls) {
        let shown = asked.certificate.as_ref();
        let shown = shown.ok_or(OauthError::InvalidRequest("this client's tokens are bound to its TLS certificate"))?;
        Some(certificate_thumbprint(&shown.der))
    } else {
        None
    };
    let jwk = holder.filter(|_| signs).map(|holder| holder.jwk.clone());
    Ok(Binding { jkt: holder.map(Holder::jkt), x5t_s256, jwk })
}
