//! From a person who has signed in to what the client, or the device, is told.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{Request, StatusCode};
use store::GrantKind;

use super::{AuthorizationRequest, Back, is_from_elsewhere, trouble};
use crate::oauth::page::{self, Html, Page};
use crate::oauth::pending::{AuthorizationCode, SignedIn};
use crate::oauth::request::{Asked, Visit, unavailable};
use crate::oauth::signin::{Browser, SigninError, Underway, What, form_source, with_parameters};
use crate::oauth::{Oauth, OauthError};
use crate::operations::Redeemed;

/// How long a person may look at the question whether they mean it.
const CONSENT_TTL: std::time::Duration = std::time::Duration::from_mins(10);
const CONSENT_PATH: &str = "/oauth/consent";

/// `POST /oauth/consent`: the answer to the question.
pub(in crate::oauth) async fn consent(State(oauth): State<Arc<Oauth>>, request: Request<Body>) -> Response {
    let visit = Visit::new(&oauth, "consent", &request);
    let work = async {
        Ok(match Asked::posted(&oauth, request).await {
            Ok(asked) => oauth.decided(&asked).await.unwrap_or_else(|error| trouble(&error)),
            Err(error) => trouble(&error),
        })
    };
    visit.answer(work).await
}

impl Oauth {
    /// Somebody signed in: the code at once where the answer can only reach the client itself, else the question.
    pub(in crate::oauth) async fn signed_in(
        &self,
        browser: &Browser,
        what: What,
        (person, called): (SignedIn, &str),
    ) -> Response {
        let done = match &what {
            What::Client { request } => match self.asks_first(request).await {
                Ok(false) => self.code(request, person).await,
                Ok(true) if request.is_silent() => Ok(self.tell(&request.back, "consent_required", None)),
                Ok(true) => self.question(browser, what, (person, called)).await,
                Err(error) => Err(error),
            },
            What::Device { .. } => self.question(browser, what, (person, called)).await,
        };
        done.unwrap_or_else(|error| trouble(&error))
    }

    /// Whether the person is asked before a code is given. An app's own scheme and a port of this machine belong to
    /// whoever took them, and a public client proves nothing else (RFC 8252 sections 8.6 and 8.10).
    async fn asks_first(&self, request: &AuthorizationRequest) -> Result<bool, OauthError> {
        if request.back.uri.starts_with("https://") {
            return Ok(false);
        }
        let client = self.registered(request.client.as_str()).await?;
        Ok(client.is_none_or(|client| client.is_public()))
    }

    /// Issue the code and send the browser back with it.
    async fn code(&self, request: &AuthorizationRequest, person: SignedIn) -> Result<Response, OauthError> {
        let location = self.code_location(request, person).await?;
        Ok(page::redirect(&location))
    }

    async fn code_location(&self, request: &AuthorizationRequest, person: SignedIn) -> Result<String, OauthError> {
        let body = AuthorizationCode {
            client: request.client.clone(),
            redirect_uri: request.back.named.then(|| request.back.uri.clone()),
            scopes: request.scopes.clone(),
            code_challenge: request.code_challenge.clone(),
            nonce: request.nonce.clone(),
            dpop_jkt: request.dpop_jkt.clone(),
            person,
        };
        let code = self.operations().new_code();
        let ttl = self.operations().file().token.code_ttl.duration();
        let kept = self.operations().grant_put(GrantKind::Code, code.expose(), &body, ttl).await;
        kept.map_err(|error| unavailable(&error))?;
        tracing::info!(target: "audit", client = %body.client, sid = body.person.sid, "authorization code issued");
        let event = audit::Event::new("consent.given").about(body.person.issuer.as_str(), &body.person.subject);
        let event = event.with("client", body.client.as_str()).with("session", body.person.sid.as_str());
        self.operations().audit().noted(event.with("scope", body.scopes.join(" "))).await;
        Ok(self.answer(&request.back, &[("code", code.expose())]))
    }

    /// The URI of an answer: `state` as it came, and who answers (RFC 9207).
    fn answer(&self, back: &Back, parameters: &[(&str, &str)]) -> String {
        let mut all = parameters.to_vec();
        if let Some(state) = &back.state {
            all.push(("state", state));
        }
        all.push(("iss", self.operations().external_url()));
        with_parameters(&back.uri, &all)
    }

    /// Tell the client what went wrong.
    pub(super) fn tell(&self, back: &Back, code: &str, description: Option<&str>) -> Response {
        let mut parameters = vec![("error", code)];
        parameters.extend(description.map(|text| ("error_description", text)));
        page::redirect(&self.answer(back, &parameters))
    }

    /// Nobody signed in.
    pub(in crate::oauth) fn failed(&self, what: &What, error: &SigninError) -> Response {
        match what {
            What::Client { request } => self.tell(&request.back, error.code(), None),
            What::Device { .. } => {
                let (status, text) = match error.code() {
                    "temporarily_unavailable" => {
                        (StatusCode::SERVICE_UNAVAILABLE, "Signing in is not possible at the moment.")
                    }
                    _ => (StatusCode::FORBIDDEN, "You were not signed in, so the device was not connected."),
                };
                Page::error(status, "Not signed in", text).response()
            }
        }
    }

    /// Ask the person whether they mean it.
    async fn question(
        &self,
        browser: &Browser,
        what: What,
        (person, called): (SignedIn, &str),
    ) -> Result<Response, OauthError> {
        let ticket = self.operations().new_code();
        let ticket = ticket.expose();
        let page = question(&what, called, (ticket, &browser.derive(CSRF, ticket)));
        let underway = Underway::Asked { what, person };
        let kept = self.operations().grant_put(GrantKind::Signin, ticket, &underway, CONSENT_TTL).await;
        kept.map_err(|error| unavailable(&error))?;
        Ok(page.response())
    }

    async fn decided(&self, asked: &Asked) -> Result<Response, OauthError> {
        self.admit_visit(asked.address)?;
        let (ticket, token) =
            (asked.form.get("ticket").unwrap_or_default(), asked.form.get("csrf").unwrap_or_default());
        let browser = Browser::of(&asked.parts.headers, self.is_secure());
        let meant = browser.is_some_and(|browser| browser.derived(CSRF, ticket, token));
        if !meant || is_from_elsewhere(&asked.parts.headers) {
            return Ok(stale());
        }
        let redeemed = self.operations().grant_take::<Underway>(GrantKind::Signin, ticket).await;
        let Redeemed::First(Underway::Asked { what, person }) = redeemed.map_err(|error| unavailable(&error))? else {
            return Ok(stale());
        };
        let yes = match asked.form.get("decision") {
            Some("allow") => true,
            Some("deny") => false,
            _ => return Ok(stale()),
        };
        match what {
            What::Client { request } => self.decided_for_client(&request, person, yes).await,
            What::Device { grant, .. } => self.decided_for_device(grant, yes.then_some(person)).await,
        }
    }

    async fn decided_for_client(
        &self,
        request: &AuthorizationRequest,
        person: SignedIn,
        yes: bool,
    ) -> Result<Response, OauthError> {
        let location = if yes {
            self.code_location(request, person).await?
        } else {
            tracing::info!(target: "audit", client = %request.client, "the person refused");
            let event = audit::Event::new("consent.refused").about(person.issuer.as_str(), &person.subject);
            self.operations().audit().noted(event.with("client", request.client.as_str())).await;
            self.answer(&request.back, &[("error", "access_denied")])
        };
        if !request.back.uri.starts_with("http") {
            return Ok(page::redirect(&location));
        }
        // What listens on the loopback port may send the browser on to anywhere; browsers would hold a form to its policy
        // along the whole way, so the form ends here.
        let body = Html::paragraph("You can go back to the app.").and(&Html::link(&location, "Continue"));
        Ok(Page::new(if yes { "You are signed in" } else { "Not signed in" }, body).onward(location).response())
    }
}

const CSRF: &str = "csrf-consent";

/// The page of a question that nobody waits for any more.
fn stale() -> Response {
    let text = "This page has been used already, is too old, or was opened in another browser. Please start again.";
    Page::error(StatusCode::BAD_REQUEST, "Please start again", text).response()
}

fn question(what: &What, called: &str, (ticket, csrf): (&str, &str)) -> Page {
    let named =
        |name: &'static str, value: &Html| Html::element("dt", &Html::markup(name)).and(&Html::element("dd", value));
    let plain = |name, value: &str| named(name, &Html::text(value));
    let (title, warning, facts, scopes, leads_to) = match what {
        What::Client { request } => (
            "Sign in to this app?",
            "Only continue if you started this yourself, just now.",
            plain("App", request.client.as_str()).and(&plain("You", called)),
            &request.scopes,
            form_source(&request.back.uri),
        ),
        What::Device { client, scopes, user_code, .. } => (
            "Connect this device?",
            "Only continue if you started this on a device of your own and it shows this code. \
             Nobody who means well asks you to do it for them.",
            named("Code on the device", &Html::element("code", &Html::text(user_code)))
                .and(&plain("App", client.as_str()))
                .and(&plain("You", called)),
            scopes,
            None,
        ),
    };
    let mut body = Html::element("dl", &facts);
    if !scopes.is_empty() {
        body = body.and(&Html::markup("<p>It asks for:</p>\n")).and(&Html::list(scopes));
    }
    let buttons = Html::markup(
        "<p><button name=\"decision\" value=\"allow\">Continue</button>\n\
         <button class=\"other\" name=\"decision\" value=\"deny\">Cancel</button></p>\n",
    );
    let form = Html::form(CONSENT_PATH, &[("ticket", ticket), ("csrf", csrf)], &buttons);
    let page = Page::new(title, body.and(&Html::paragraph(warning)).and(&form));
    match leads_to.filter(|source| !source.starts_with("http")) {
        Some(source) => page.forms_lead_to(source),
        None => page,
    }
}
