//! `GET /oauth/callback`: the provider sends the browser back.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};

use super::Oauth;
use super::authorize::{read, trouble};
use super::page::{self, Page};
use super::request::Visit;
use super::signin::{Browser, Returned, SigninError};

/// `GET /oauth/callback`.
pub(super) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "callback", &request);
    visit.answer(async { Ok(oauth.callback(request).await) }).await
}

impl Oauth {
    async fn callback(&self, request: Request<Body>) -> Response {
        let asked = match read(self, request).await {
            Ok(asked) => asked,
            Err(error) => return trouble(&error),
        };
        if let Err(error) = self.admit_visit(asked.address) {
            return trouble(&error);
        }
        let browser = Browser::of(&asked.parts.headers, self.is_secure());
        let returned = self.returned(browser.as_ref(), &asked.form).await;
        match (returned, browser) {
            (Ok(Returned::SignedIn(what, person, called)), Some(browser)) => {
                self.signed_in(&browser, what, (person, &called)).await
            }
            (Ok(Returned::Again(url)), _) => page::redirect(&url),
            (Ok(Returned::Failed(what, error)), _) => {
                tracing::warn!(target: "audit", reason = error.reason(), %error, "nobody signed in");
                self.note_failed(error.reason(), asked.address).await;
                self.failed(&what, &error)
            }
            (Ok(Returned::SignedIn(..)), None) => {
                self.note_failed(SigninError::OtherBrowser.reason(), asked.address).await;
                lost(&SigninError::OtherBrowser)
            }
            (Err(error), _) => {
                self.note_failed(error.reason(), asked.address).await;
                lost(&error)
            }
        }
    }
}

/// Nobody to tell but the person: what the sign-in was for is not known, or not theirs to know.
fn lost(error: &SigninError) -> Response {
    tracing::info!(target: "audit", reason = error.reason(), %error, "sign-in refused");
    let (status, text) = match error {
        SigninError::OtherBrowser => (
            StatusCode::BAD_REQUEST,
            "This sign-in was begun in another browser, or your browser keeps no cookies. Please go back to the app and start again.",
        ),
        SigninError::Operation(_) | SigninError::Provider(_) => {
            (StatusCode::SERVICE_UNAVAILABLE, "Please try again in a moment.")
        }
        _ => (
            StatusCode::BAD_REQUEST,
            "This sign-in is over: it was used already or took too long. Please go back to the app and start again.",
        ),
    };
    Page::error(status, "Not signed in", text).response()
}
