//! `/oauth/device`: where a person types in the code their device shows (RFC 8628 section 3.3).

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Method, Request, StatusCode, header};
use store::{GrantKind, StoreError};

use super::{UserCode, user_code};
use crate::oauth::authorize::{is_from_elsewhere, read, trouble};
use crate::oauth::page::{Html, Page};
use crate::oauth::pending::{Decision, DeviceGrant};
use crate::oauth::request::{Asked, Visit, unavailable};
use crate::oauth::signin::{Browser, What};
use crate::oauth::{Oauth, OauthError};
use crate::operations::OperationError;

const PATH: &str = "/oauth/device";
const CSRF: &str = "csrf-device";
/// How often one code may be entered: a person who gets lost on the way begins anew, but not for ever.
const MAX_ENTERED: u32 = 8;
/// Wrong codes are counted under this name.
const NAME: &str = "user_code";
/// For the count of all addresses together.
const EVERYWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// `GET` and `POST /oauth/device`.
pub(in crate::oauth) async fn endpoint(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "device", &request);
    let posted = request.method() == Method::POST;
    let work = async {
        let asked = match read(&oauth, request).await {
            Ok(asked) => asked,
            Err(error) => return Ok(trouble(&error)),
        };
        let done = if posted { oauth.entered(&asked).await } else { oauth.ask_for_code(&asked) };
        Ok(done.unwrap_or_else(|error| trouble(&error)))
    };
    visit.answer(work).await
}

impl Oauth {
    /// The page with the form. A code in the link is filled in, but the person still has to send it off.
    fn ask_for_code(&self, asked: &Asked) -> Result<Response, OauthError> {
        self.admit_visit(asked.address)?;
        let filled = asked.form.get("user_code").and_then(user_code::typed).map(|code| user_code::shown(&code));
        let browser = self.browser(&asked.parts.headers);
        Ok(self.form(&browser, filled.as_deref(), None))
    }

    fn form(&self, browser: &Browser, filled: Option<&str>, wrong: Option<&'static str>) -> Response {
        let fields = Html::markup("<label for=\"user_code\">Code on your device</label>\n")
            .and(&Html::input("user_code", filled.unwrap_or_default()))
            .and(&Html::markup("<p><button>Continue</button></p>\n"));
        let mut body = wrong.map(Html::paragraph).unwrap_or_default();
        body = body.and(&Html::form(PATH, &[("csrf", &browser.derive(CSRF, PATH))], &fields)).and(&Html::markup(
            "<p class=\"note\">Only enter a code that a device of your own shows you. \
             Somebody who sent you a code wants to sign in as you.</p>\n",
        ));
        let page = Page::new("Connect a device", body);
        let page = if wrong.is_some() { page.status(StatusCode::BAD_REQUEST) } else { page };
        let mut response = page.response();
        if let Some(cookie) = browser.cookie(self.is_secure()) {
            response.headers_mut().append(header::SET_COOKIE, cookie);
        }
        response
    }

    async fn entered(&self, asked: &Asked) -> Result<Response, OauthError> {
        let now = self.operations().clock().monotonic();
        for (guesses, address) in [(&self.guesses.by_address, asked.address), (&self.guesses.altogether, EVERYWHERE)] {
            guesses
                .admit(NAME, address, now)
                .map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })?;
        }
        let browser = Browser::of(&asked.parts.headers, self.is_secure());
        let token = asked.form.get("csrf").unwrap_or_default();
        let known = browser.filter(|browser| browser.derived(CSRF, PATH, token));
        let Some(browser) = known.filter(|_| !is_from_elsewhere(&asked.parts.headers)) else {
            let fresh = self.browser(&asked.parts.headers);
            return Ok(self.form(&fresh, None, Some("Please enter the code here yourself.")));
        };
        let typed = asked.form.get("user_code").unwrap_or_default();
        let found = match user_code::typed(typed) {
            Some(code) => self.waiting(&code).await.map_err(|error| unavailable(&error))?,
            None => None,
        };
        let Some(what) = found else {
            self.guesses.by_address.failed(NAME, asked.address, now);
            self.guesses.altogether.failed(NAME, EVERYWHERE, now);
            tracing::info!(target: "audit", "wrong user code");
            self.note_failed("wrong_user_code", asked.address).await;
            let wrong = "That code is not right, or it is too old. Please look at your device again.";
            return Ok(self.form(&browser, None, Some(wrong)));
        };
        Ok(self.onward(&browser, what).await)
    }

    /// The device that waits with this code.
    async fn waiting(&self, code: &str) -> Result<Option<What>, OperationError> {
        let operations = self.operations();
        let Some(kept) = operations.grant_get::<UserCode>(GrantKind::UserCode, code).await? else { return Ok(None) };
        if kept.body.entered >= MAX_ENTERED {
            return Ok(None);
        }
        let grant = kept.body.grant;
        let counted = UserCode { grant, entered: kept.body.entered + 1 };
        match operations.grant_replace(GrantKind::UserCode, (kept.hash, kept.revision), &counted).await {
            Ok(()) => {}
            Err(OperationError::Store(StoreError::Conflict(_))) => return Ok(None),
            Err(error) => return Err(error),
        }
        let device = operations.grant_of::<DeviceGrant>(GrantKind::Device, grant).await?;
        let device = device.filter(|device| !device.used && device.body.decision == Decision::Waiting);
        Ok(device.map(|device| {
            let DeviceGrant { client, scopes, .. } = device.body;
            What::Device { client, scopes, grant, user_code: user_code::shown(code) }
        }))
    }

    /// To the provider, by a page of ours: browsers hold the way a form leads to its policy, and the provider's own way
    /// may lead anywhere.
    async fn onward(&self, browser: &Browser, what: What) -> Response {
        match self.send_to_provider(browser, what.clone(), false).await {
            Ok(url) => {
                let body =
                    Html::markup("<p>You will sign in first, and are then asked whether to connect the device.</p>\n")
                        .and(&Html::link(&url, "Sign in"));
                Page::new("The code is right", body).onward(url).response()
            }
            Err(error) => {
                tracing::warn!(reason = error.reason(), %error, "nobody can sign in");
                self.failed(&what, &error)
            }
        }
    }
}
