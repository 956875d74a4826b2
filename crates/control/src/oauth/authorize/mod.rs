//! `GET /oauth/authorize` (RFC 6749 section 4.1): from a client's request to the provider where the person signs in, and
//! from the signed-in person to the code (`answer`).

mod answer;
mod request;
mod visit;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::Name;
use http::{Request, StatusCode};
use store::GrantKind;

pub(super) use answer::consent;
pub(super) use request::{AuthorizationRequest, Back, RequestError, names_only};
pub(super) use visit::{is_from_elsewhere, read};

use super::page::{self, Page};
use super::request::{Asked, Visit, unavailable};
use super::signin::{Browser, What};
use super::{Oauth, OauthError};
use crate::operations::{Redeemed, Registration};

/// How every `request_uri` of ours begins (RFC 9126 section 2.2).
pub(super) const REQUEST_URI: &str = "urn:ietf:params:oauth:request_uri:";

/// What an authorization request comes to that is not answered to the client.
pub(super) enum Refused {
    /// Where an answer would go is not certain: only the person is told.
    Person(&'static str),
    /// Too many requests, or the store does not answer.
    Service(OauthError),
    /// The client is told.
    Client(Back, RequestError),
}

impl From<OauthError> for Refused {
    fn from(error: OauthError) -> Self {
        Self::Service(error)
    }
}

/// `GET` or `POST /oauth/authorize`.
pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "authorize", &request);
    visit.answer(async { Ok(oauth.authorize(request).await) }).await
}

impl Oauth {
    async fn authorize(&self, request: Request<Body>) -> Response {
        let asked = match visit::read(self, request).await {
            Ok(asked) => asked,
            Err(error) => return trouble(&error),
        };
        let browser = self.browser(&asked.parts.headers);
        match self.requested(&asked).await {
            Ok(request) => self.begin(&browser, What::Client { request }, false).await,
            Err(Refused::Client(back, error)) => {
                tracing::info!(target: "audit", reason = error.reason(), detail = %error, "authorization refused");
                self.tell(&back, error.reason(), Some(&error.to_string()))
            }
            Err(Refused::Person(what)) => {
                tracing::info!(target: "audit", detail = what, "authorization refused");
                let text = format!("This sign-in link does not work: {what}. Please go back to the app and try again.");
                Page::error(StatusCode::BAD_REQUEST, "Sign-in is not possible", &text).response()
            }
            Err(Refused::Service(error)) => trouble(&error),
        }
    }

    /// The request, pushed before or brought along.
    async fn requested(&self, asked: &Asked) -> Result<AuthorizationRequest, Refused> {
        self.admit_visit(asked.address)?;
        let form = &asked.form;
        let id = form.get("client_id").ok_or(Refused::Person("client_id is missing"))?;
        let client = self.registered(id).await?.ok_or(Refused::Person("the client is not known here"))?;
        tracing::Span::current().record("client", client.name.as_str());
        if let Some(uri) = form.get("request_uri") {
            return self.pushed(&client, uri).await;
        }
        let back = Back::of(&client, form).map_err(|error| match error {
            RequestError::InvalidRequest(what) => Refused::Person(what),
            _ => Refused::Person("the redirect_uri is not one of the client's"),
        })?;
        if request::must_push(&client) {
            let what = RequestError::InvalidRequest("the client must push its authorization requests (RFC 9126)");
            return Err(Refused::Client(back, what));
        }
        let refused = back.clone();
        AuthorizationRequest::read(&client, back, form, self.operations().external_url())
            .map_err(|error| Refused::Client(refused, error))
    }

    /// The client of that name, if it may do anything at all.
    pub(super) async fn registered(&self, id: &str) -> Result<Option<Registration>, OauthError> {
        if Name::new(id).is_err() {
            return Ok(None);
        }
        let client = self.operations().client_registration(id).await.map_err(|error| unavailable(&error))?;
        Ok(client.filter(|client| !client.disabled))
    }

    /// A request that was pushed: good once, for the client that pushed it. Parameters beside it do not count (RFC 9126
    /// section 4).
    async fn pushed(&self, client: &Registration, uri: &str) -> Result<AuthorizationRequest, Refused> {
        const GONE: Refused = Refused::Person("the pushed request is unknown, used or too old");
        let reference = uri.strip_prefix(REQUEST_URI).ok_or(Refused::Person("the request_uri is not one of ours"))?;
        let taken = self.operations().grant_take::<AuthorizationRequest>(GrantKind::Pushed, reference).await;
        match taken.map_err(|error| unavailable(&error))? {
            Redeemed::First(request) if request.client == client.name => Ok(request),
            _ => Err(GONE),
        }
    }

    /// Count a browser's visit from this address.
    pub(super) fn admit_visit(&self, address: std::net::IpAddr) -> Result<(), OauthError> {
        let now = self.operations().clock().monotonic();
        let admitted = self.visits.admit("", address, now);
        admitted.map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })
    }

    /// Send the browser to the provider, with the cookie it will be known by.
    pub(super) async fn begin(&self, browser: &Browser, what: What, again: bool) -> Response {
        let mut response = match self.send_to_provider(browser, what.clone(), again).await {
            Ok(url) => page::redirect(&url),
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "nobody can sign in");
                self.failed(&what, &error)
            }
        };
        if let Some(cookie) = browser.cookie(self.is_secure()) {
            response.headers_mut().append(http::header::SET_COOKIE, cookie);
        }
        response
    }
}

/// What a person is told when a request is refused for how it came, or cannot be worked on now.
pub(super) fn trouble(error: &OauthError) -> Response {
    tracing::info!(target: "audit", reason = error.reason(), detail = %error, "refused");
    let page = match error {
        OauthError::Unavailable => {
            Page::error(StatusCode::SERVICE_UNAVAILABLE, "Not available", "Please try again in a moment.")
        }
        OauthError::TooManyAttempts { .. } => {
            Page::error(StatusCode::TOO_MANY_REQUESTS, "Too many attempts", "Please wait a while and try again.")
        }
        OauthError::TooLarge => Page::error(StatusCode::PAYLOAD_TOO_LARGE, "Too large", "The request is too large."),
        _ => Page::error(StatusCode::BAD_REQUEST, "Not understood", "Please go back and try again."),
    };
    let mut response = page.response();
    // The status of the error itself, and when to come back.
    let other = error.response();
    *response.status_mut() = other.status();
    if let Some(after) = other.headers().get(http::header::RETRY_AFTER) {
        response.headers_mut().insert(http::header::RETRY_AFTER, after.clone());
    }
    response
}
