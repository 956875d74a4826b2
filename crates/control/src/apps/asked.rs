//! Evidence that somebody else is asked about: puzzles, tokens whose keys are fetched, and what Apple and Google say of a device.

mod apple;
mod google;

pub(crate) use apple::{environment, team_key};
pub(super) use google::AskGoogle;

use std::net::IpAddr;

use base::{Timestamp, Who};
use config::EvidenceKind;
use proof::attest::Summary;
use proof::attest::appcheck::{self, AppCheckError, AppCheckRules, JWKS_URL};
use proof::attest::enrolment::Given;
use proof::attest::online::{CaptchaKind, CaptchaRules, OnlineCheck, OnlineError, OnlineRequest, Siteverify};
use proof::jose::base64url_encode;

use super::enroll::LONGER;
use super::evidence::{Circumstances, Judged, kind_of, of_key, once, sha256};
use super::in_force::PlayOpener;
use super::refusal::{Action, AppsError, Refused};
use super::{AppInForce, Apps};
use crate::admin::Pending;
use crate::operations::RegisteredKeys;
use google::NoVerdict;
use store::UseUp;

/// For how long answers of puzzles are remembered: their makers take none that is older than 5 minutes.
const PUZZLE: std::time::Duration = std::time::Duration::from_mins(10);

/// Why nobody says what we asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AskedError {
    /// A stable code.
    pub reason: &'static str,
    /// Whether the same may pass later, since nobody was reached.
    pub retryable: bool,
    /// Whose fault it is.
    pub whose: Who,
}

impl AskedError {
    /// What to ask with is not there: the log said so.
    pub(crate) const OURS: Self = Self { reason: "evidence_not_configured", retryable: false, whose: Who::Us };
}

impl From<OnlineError> for AskedError {
    fn from(error: OnlineError) -> Self {
        Self { reason: error.reason(), retryable: error.retryable(), whose: error.who() }
    }
}

/// How others are asked.
pub trait Others: Send + Sync {
    /// Send a question once: the status and body of the answer, which is bounded in size and time. Only where `allow_private` is
    /// set does it go to private addresses, or in the clear.
    fn post(&self, question: OnlineRequest, allow_private: bool) -> Pending<'_, Result<(u16, Vec<u8>), AskedError>>;
}

/// Ask somebody else, and judge the answer. No answer is a refusal.
pub(crate) async fn ask<C: OnlineCheck>(
    others: &dyn Others,
    check: &C,
    allow_private: bool,
) -> Result<C::Answer, AskedError> {
    let (status, body) = others.post(check.request()?, allow_private).await?;
    Ok(check.judge(status, &body)?)
}

impl From<AskedError> for Refused {
    fn from(error: AskedError) -> Self {
        Self::new(if error.retryable { Action::RetryAfter } else { Action::None }, error.reason)
    }
}

impl Apps {
    /// Judge evidence that somebody else is asked about; `None` for any other.
    pub(super) async fn ask(
        &self,
        given: &Given,
        by: &Circumstances,
        address: IpAddr,
    ) -> Option<Result<Judged, AppsError>> {
        let (puzzle, response) = match given {
            Given::Turnstile { response } => (CaptchaKind::Turnstile, response),
            Given::Hcaptcha { response } => (CaptchaKind::HCaptcha, response),
            Given::Recaptcha { response } => (CaptchaKind::ReCaptcha, response),
            Given::AppCheck { token } => return Some(self.app_check(token, by).await),
            Given::Play { token } if matches!(by.app.play, Some(PlayOpener::Google(_))) => {
                let verdict = self.play_verdict(token, by).await.map_err(|error| Refused::from(error).into());
                return Some(verdict.map(|summary| Judged::new(EvidenceKind::PlayIntegrity, summary, of_key(by))));
            }
            _ => return None,
        };
        let solved = self.puzzle(puzzle, response, (&by.app, None), (address, by.now)).await;
        Some(solved.map(|(summary, used)| {
            let mut judged = Judged::new(kind_of(given), summary, of_key(by));
            judged.used.push(used);
            judged
        }))
    }

    /// What others say besides, of evidence that holds: they are asked about nothing else, so that nobody uses up what we may ask.
    pub(super) async fn ask_besides(
        &self,
        given: &Given,
        by: &Circumstances,
        judged: &mut Judged,
    ) -> Result<(), AppsError> {
        match given {
            Given::AndroidKey { play_integrity: Some(token), .. }
                if matches!(by.app.play, Some(PlayOpener::Google(_))) =>
            {
                let required = by.app.config.android.as_ref().and_then(|app| app.play_integrity.as_ref());
                match self.play_verdict(token, by).await {
                    Ok(verdict) => judged.add_play(verdict),
                    Err(NoVerdict::Asked(error)) if !required.is_some_and(|play| play.required) => {
                        tracing::warn!(app = %by.app.config.name, reason = error.reason, "Google does not say its verdict");
                    }
                    Err(error) => return Err(Refused::from(error).into()),
                }
            }
            Given::AppAttest { device_check, .. } => {
                let flags = self.device_bits(device_check.as_deref(), by, judged.environment).await?;
                judged.flags.extend(flags);
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether a puzzle was solved, for a page of the app; `bound` to what, where its service can say that. Its answer counts once,
    /// whatever its maker remembers: to enrol with, or besides.
    pub(super) async fn puzzle(
        &self,
        puzzle: CaptchaKind,
        response: &str,
        (app, bound): (&AppInForce, Option<&str>),
        (remote, now): (IpAddr, Timestamp),
    ) -> Result<(Summary, UseUp), AppsError> {
        let unset = || AppsError::from(Refused::new(Action::None, "evidence_not_configured"));
        let kind = EvidenceKind::from_name(puzzle.evidence().name()).ok_or_else(unset)?;
        let web = app.config.web.as_ref().ok_or_else(unset)?;
        let captcha = web.captcha(kind).ok_or_else(unset)?;
        let secret = app.captchas.get(kind.as_str()).ok_or_else(unset)?;
        let host = |origin: &config::Origin| Some(url::Url::parse(origin.as_str()).ok()?.host_str()?.to_owned());
        let hostnames: Vec<String> = web.origins.iter().filter_map(host).collect();
        let check = Siteverify {
            kind: puzzle,
            url: captcha.url.as_ref().map_or(puzzle.url(), config::HttpUrl::as_str),
            secret,
            response,
            remote: Some(remote),
            rules: CaptchaRules {
                hostnames: &hostnames,
                action: captcha.action.as_deref(),
                bound,
                least_score: captcha.least_score,
                now,
            },
        };
        let asked = ask(&*self.parts.others, &check, captcha.allow_private).await;
        let summary = asked.map_err(Refused::from)?;
        let used = base64url_encode(sha256(response.as_bytes()));
        Ok((summary, once(kind.as_str(), used, now.plus(PUZZLE).plus(LONGER))))
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
        if firebase.consume.is_some() {
            // Only one that holds: nobody uses up what we may ask. No answer is a refusal, since it may have been shown elsewhere.
            let google = by.app.app_check.as_ref().ok_or_else(unset)?;
            self.app_check_used(google, (&firebase.project, token), by.now).await.map_err(Refused::from)?;
        }
        let mut judged = Judged::new(EvidenceKind::Appcheck, verified.summary, of_key(by));
        // A bearer token: it enrols one installation and no second.
        judged.used.push(once("appcheck", base64url_encode(sha256(token.as_bytes())), verified.expires));
        Ok(judged)
    }
}
