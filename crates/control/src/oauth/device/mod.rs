//! Signing in on another device (RFC 8628): `POST /oauth/device_authorization` for the device, `/oauth/device` for the
//! person's browser. The token endpoint redeems the device code.

mod enter;
mod user_code;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use config::Grant;
use http::{Request, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use store::{GrantKind, StoreError};

pub(super) use enter::endpoint as enter;

use super::authorize::names_only;
use super::error::insert_nonce;
use super::page::{Html, Page};
use super::pending::{Decision, DeviceGrant, SignedIn};
use super::request::{Asked, Visit, json_with, unavailable};
use super::token::INTERVAL;
use super::{AttemptLimits, Attempts, Oauth, OauthError};
use crate::operations::{CodeHash, OperationError, granted, parse_scopes};

/// The longest that wrong codes are held against an address.
const LOCKOUT: Duration = Duration::from_mins(15);
/// Wrong codes from one address before it has to wait.
const WRONG_CODES: u32 = 8;
/// Wrong codes from everywhere in the same time before everybody has to wait: a guess is right with a chance of one in
/// 25 thousand million for each device that waits.
const WRONG_CODES_ALTOGETHER: u32 = 5000;

/// What a user code stands for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UserCode {
    /// Where the device's grant is kept.
    grant: CodeHash,
    /// How often it has been entered.
    entered: u32,
}

/// Counts wrong user codes.
#[derive(Debug)]
pub(super) struct Guesses {
    by_address: Attempts,
    altogether: Attempts,
}

impl Guesses {
    pub(super) fn new(limits: AttemptLimits) -> Self {
        let strict = |failures| AttemptLimits { failures, lockout: LOCKOUT, ..limits };
        let everybody = AttemptLimits { per_minute: u32::MAX, ..strict(WRONG_CODES_ALTOGETHER) };
        Self { by_address: Attempts::new(strict(WRONG_CODES)), altogether: Attempts::new(everybody) }
    }
}

/// `POST /oauth/device_authorization`.
pub(super) async fn authorization(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "device_authorization", &request);
    let work = async {
        let asked = Asked::posted(&oauth, request).await?;
        oauth.device_authorization(&asked).await
    };
    visit.answer(work).await
}

impl Oauth {
    async fn device_authorization(&self, asked: &Asked) -> Result<Response, OauthError> {
        let (client, holder) = self.client_and_holder(asked).await?;
        if !client.allows(Grant::DeviceCode) {
            return Err(OauthError::UnauthorizedClient);
        }
        let external_url = self.operations().external_url();
        if !names_only(&asked.form, external_url) {
            return Err(OauthError::InvalidTarget);
        }
        let scopes = asked.form.get("scope").map(parse_scopes).transpose().map_err(|_| OauthError::InvalidScope)?;
        let scopes = granted(&client, scopes).map_err(|_| OauthError::InvalidScope)?;
        if let Some(holder) = &holder {
            self.use_up(holder).await?;
        }
        let dpop_jkt = holder.as_ref().map(super::dpop::Holder::jkt_text);
        let grant = DeviceGrant { client: client.name, scopes, dpop_jkt, decision: Decision::Waiting };
        let ttl = self.operations().file().token.device_ttl.duration();
        let (device_code, user_code) = self.keep(&grant, ttl).await.map_err(|error| unavailable(&error))?;
        tracing::info!(target: "audit", "device authorization begun");
        self.operations().audit().noted(audit::Event::new("device.begun").with("client", grant.client.as_str())).await;
        let page = format!("{}/oauth/device", external_url.trim_end_matches('/'));
        let body = json!({
            "device_code": device_code,
            "user_code": user_code,
            "verification_uri": page,
            "verification_uri_complete": format!("{page}?user_code={user_code}"),
            "expires_in": ttl.as_secs(),
            "interval": INTERVAL.as_secs(),
        });
        let mut response = json_with(StatusCode::OK, &body);
        if let Some(nonce) = holder.as_ref().and_then(|holder| holder.next_nonce.as_deref()) {
            insert_nonce(response.headers_mut(), nonce);
        }
        Ok(response)
    }

    /// Keep a grant under a new device code, and a new user code that leads to it.
    async fn keep(&self, grant: &DeviceGrant, ttl: Duration) -> Result<(String, String), OperationError> {
        let operations = self.operations();
        let device_code = operations.new_code();
        let hash = operations.grant_put(GrantKind::Device, device_code.expose(), grant, ttl).await?;
        let mut tries = 0;
        loop {
            let user_code = user_code::generate(operations.rng());
            let body = UserCode { grant: hash, entered: 0 };
            match operations.grant_put(GrantKind::UserCode, user_code.expose(), &body, ttl).await {
                Ok(_) => return Ok((device_code.expose().clone(), user_code::shown(user_code.expose()))),
                // Two devices that wait with one code would be one too many.
                Err(OperationError::Store(StoreError::Exists(_))) if tries < 8 => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The person has said yes (and who they are) or no; whoever is first decides.
    pub(super) async fn decided_for_device(
        &self,
        grant: CodeHash,
        person: Option<SignedIn>,
    ) -> Result<Response, OauthError> {
        let kept = self.operations().grant_of::<DeviceGrant>(GrantKind::Device, grant).await;
        let kept = kept.map_err(|error| unavailable(&error))?;
        let Some(kept) = kept.filter(|kept| !kept.used && kept.body.decision == Decision::Waiting) else {
            return Ok(decided_already());
        };
        let yes = person.is_some();
        let decision = person.map_or(Decision::Denied, |person| Decision::Approved { person });
        let client = kept.body.client.clone();
        let mut event = audit::Event::new("device.decided").with("client", client.as_str()).with("approved", yes);
        if let Decision::Approved { person } = &decision {
            event = event.about(person.issuer.as_str(), &person.subject).with("session", person.sid.as_str());
        }
        let body = DeviceGrant { decision, ..kept.body };
        match self.operations().grant_replace(GrantKind::Device, (grant, kept.revision), &body).await {
            Ok(()) => {}
            Err(OperationError::Store(StoreError::Conflict(_))) => return Ok(decided_already()),
            Err(error) => return Err(unavailable(&error)),
        }
        tracing::info!(target: "audit", %client, approved = yes, "device decided");
        self.operations().audit().noted(event).await;
        let (title, text) = if yes {
            ("Your device is connected", "You can close this page and go back to your device.")
        } else {
            ("Not connected", "The device has not been connected. You can close this page.")
        };
        Ok(Page::new(title, Html::paragraph(text)).response())
    }
}

fn decided_already() -> Response {
    let text = "This code has been used already, or is too old. Please start again on your device.";
    Page::error(StatusCode::BAD_REQUEST, "Please start again", text).response()
}
