//! Evidence that somebody else is asked about: puzzles, and tokens whose keys are fetched.

use std::net::IpAddr;

use base::Secret;
use config::EvidenceKind;
use proof::attest::Summary;
use proof::attest::appcheck::{self, AppCheckError, AppCheckRules, JWKS_URL};
use proof::attest::enrolment::Given;
use proof::attest::online::{CaptchaKind, CaptchaRules, OnlineError};
use proof::jose::base64url_encode;

use super::Apps;
use super::evidence::{Circumstances, Judged, of_key, once, sha256};
use super::refusal::{Action, AppsError, Refused};
use crate::admin::Pending;
use crate::operations::RegisteredKeys;

/// A puzzle's answer, and who judges it.
#[derive(Debug)]
pub struct Puzzle<'a> {
    /// Whose it is.
    pub kind: CaptchaKind,
    /// Where to ask.
    pub url: &'a str,
    /// Whether that may be a private address.
    pub allow_private: bool,
    /// The site's secret, which goes there and nowhere else.
    pub secret: &'a Secret<String>,
    /// What the client got for solving it.
    pub response: &'a str,
    /// Where the client is.
    pub remote: IpAddr,
    /// What the answer is judged by.
    pub rules: CaptchaRules<'a>,
}

/// Why nobody says that a puzzle was solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedError {
    /// A stable code.
    pub reason: &'static str,
    /// Whether the same may pass later, since nobody was reached.
    pub retryable: bool,
}

impl From<OnlineError> for AskedError {
    fn from(error: OnlineError) -> Self {
        Self { reason: error.reason(), retryable: error.retryable() }
    }
}

/// Who asks those that judge puzzles.
pub trait Puzzles: Send + Sync {
    /// Ask once. No answer is a refusal.
    fn ask<'a>(&'a self, puzzle: Puzzle<'a>) -> Pending<'a, Result<Summary, AskedError>>;
}

impl Apps {
    /// Judge evidence that somebody else is asked about; `None` for any other.
    pub(super) async fn ask(
        &self,
        given: &Given,
        by: &Circumstances,
        address: IpAddr,
    ) -> Option<Result<Judged, AppsError>> {
        match given {
            Given::Turnstile { response } => Some(self.puzzle(CaptchaKind::Turnstile, response, by, address).await),
            Given::Hcaptcha { response } => Some(self.puzzle(CaptchaKind::HCaptcha, response, by, address).await),
            Given::Recaptcha { response } => Some(self.puzzle(CaptchaKind::ReCaptcha, response, by, address).await),
            Given::AppCheck { token } => Some(self.app_check(token, by).await),
            _ => None,
        }
    }

    async fn puzzle(
        &self,
        puzzle: CaptchaKind,
        response: &str,
        by: &Circumstances,
        remote: IpAddr,
    ) -> Result<Judged, AppsError> {
        let unset = || AppsError::from(Refused::new(Action::None, "evidence_not_configured"));
        let kind = EvidenceKind::from_name(puzzle.evidence().name()).ok_or_else(unset)?;
        let web = by.app.config.web.as_ref().ok_or_else(unset)?;
        let captcha = web.captcha(kind).ok_or_else(unset)?;
        let secret = by.app.captchas.get(kind.as_str()).ok_or_else(unset)?;
        let host = |origin: &config::Origin| Some(url::Url::parse(origin.as_str()).ok()?.host_str()?.to_owned());
        let hostnames: Vec<String> = web.origins.iter().filter_map(host).collect();
        let asked = Puzzle {
            kind: puzzle,
            url: captcha.url.as_ref().map_or(puzzle.url(), config::HttpUrl::as_str),
            allow_private: captcha.allow_private,
            secret,
            response,
            remote,
            rules: CaptchaRules {
                hostnames: &hostnames,
                action: captcha.action.as_deref(),
                least_score: captcha.least_score,
                now: by.now,
            },
        };
        let summary = self.parts.puzzles.ask(asked).await.map_err(|error| {
            let action = if error.retryable { Action::RetryAfter } else { Action::None };
            Refused::new(action, error.reason)
        })?;
        Ok(Judged::new(kind, summary, of_key(by)))
    }

    async fn app_check(&self, token: &str, by: &Circumstances) -> Result<Judged, AppsError> {
        let unset = || AppsError::from(Refused::new(Action::None, "evidence_not_configured"));
        let firebase = by.app.config.firebase.as_ref().ok_or_else(unset)?;
        let url = match &firebase.jwks_url {
            Some(url) => url.clone(),
            None => JWKS_URL.parse().map_err(|_| unset())?,
        };
        let source = RegisteredKeys::Url { url, allow_private: firebase.allow_private };
        let mut anew = false;
        let verified = loop {
            let keys = self.keys.of(&source, anew).await;
            let keys = keys.map_err(|_| Refused::new(Action::RetryAfter, "appcheck_keys_unavailable"))?;
            let rules = AppCheckRules { keys: &keys, project: &firebase.project, apps: &firebase.apps, now: by.now };
            match appcheck::verify(token, &rules) {
                // Google may have a newer key; it is asked once.
                Err(AppCheckError::UnknownKey) if !anew => anew = true,
                outcome => break outcome,
            }
        };
        let verified = verified.map_err(|error| Refused::new(Action::None, error.reason()))?;
        let mut judged = Judged::new(EvidenceKind::Appcheck, verified.summary, of_key(by));
        // A bearer token: it enrols one installation and no second.
        judged.used.push(once("appcheck", base64url_encode(sha256(token.as_bytes())), verified.expires));
        Ok(judged)
    }
}
