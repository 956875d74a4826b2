//! Turnstile, hCaptcha and reCAPTCHA: three services with one form of question
//! (<https://developers.cloudflare.com/turnstile/get-started/server-side-validation/>,
//! <https://docs.hcaptcha.com/#verify-the-user-response-server-side>,
//! <https://developers.google.com/recaptcha/docs/verify>).

use std::net::IpAddr;
use std::time::Duration;

use base::{Secret, Timestamp};
use serde_json::Value;

use super::{MAX_ANSWER_LEN, OnlineCheck, OnlineError, OnlineRequest};
use crate::attest::flag::Flags as _;
use crate::attest::{Evidence, Level, Summary};
use crate::jose::JsonObject;
use crate::jose::json::{self, Limits};

const LIMITS: Limits = Limits { bytes: MAX_ANSWER_LEN, depth: 8, values: 1024 };

/// How long an answer of a client may be solved ago: Turnstile's and hCaptcha's own limits are at most this.
const MAX_AGE: Duration = Duration::from_mins(5);

/// How far in the future it may be solved: clocks differ.
const SKEW: Duration = Duration::from_mins(1);

/// Whose puzzle it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptchaKind {
    /// Cloudflare Turnstile.
    Turnstile,
    /// hCaptcha.
    HCaptcha,
    /// Google reCAPTCHA, v2 or v3.
    ReCaptcha,
}

impl CaptchaKind {
    /// Where it is checked.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Turnstile => "https://challenges.cloudflare.com/turnstile/v0/siteverify",
            Self::HCaptcha => "https://api.hcaptcha.com/siteverify",
            Self::ReCaptcha => "https://www.google.com/recaptcha/api/siteverify",
        }
    }

    /// The kind of evidence.
    pub const fn evidence(self) -> Evidence {
        match self {
            Self::Turnstile => Evidence::Turnstile,
            Self::HCaptcha => Evidence::HCaptcha,
            Self::ReCaptcha => Evidence::ReCaptcha,
        }
    }

    /// The longest answer of a client. Turnstile documents its own; the others' grow with the page.
    const fn longest(self) -> usize {
        match self {
            Self::Turnstile => 2048,
            Self::HCaptcha | Self::ReCaptcha => 16 << 10,
        }
    }
}

/// What an answer is judged by.
#[derive(Debug, Clone, Copy)]
pub struct CaptchaRules<'a> {
    /// The sites it may be solved on.
    pub hostnames: &'a [String],
    /// What it must be solved for, where the service says so.
    pub action: Option<&'a str>,
    /// What it must be bound to, by the one service that can say so: Turnstile's `cdata`.
    pub bound: Option<&'a str>,
    /// The least score, from 0 (a machine) to 100 (a person), where there must be one.
    pub least_score: Option<u8>,
    /// The moment of the request.
    pub now: Timestamp,
}

/// A puzzle's answer to be checked.
#[derive(Debug, Clone, Copy)]
pub struct Siteverify<'a> {
    /// Whose it is.
    pub kind: CaptchaKind,
    /// Where to ask: [`CaptchaKind::url`], or a mirror of it.
    pub url: &'a str,
    /// The site's secret.
    pub secret: &'a Secret<String>,
    /// What the client got for solving the puzzle.
    pub response: &'a str,
    /// The client's address, if the service is to know it.
    pub remote: Option<IpAddr>,
    /// What the answer is judged by.
    pub rules: CaptchaRules<'a>,
}

impl OnlineCheck for Siteverify<'_> {
    type Answer = Summary;

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        let printable = self.response.bytes().all(|b| b.is_ascii_graphic());
        if self.response.is_empty() || self.response.len() > self.kind.longest() || !printable {
            return Err(OnlineError::Token);
        }
        let mut form = String::new();
        pair(&mut form, "secret", self.secret.expose());
        pair(&mut form, "response", self.response);
        if let Some(address) = self.remote {
            pair(&mut form, "remoteip", &address.to_string());
        }
        Ok(OnlineRequest {
            url: self.url.to_owned(),
            content_type: "application/x-www-form-urlencoded",
            authorization: None,
            body: Secret::new(form.into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<Summary, OnlineError> {
        // Turnstile says 400 with what is wrong.
        if status != 200 && status != 400 {
            return Err(OnlineError::Unavailable(status));
        }
        let answer = json::object(body, LIMITS).map_err(OnlineError::Json)?;
        let success = answer.get("success").and_then(Value::as_bool).ok_or(OnlineError::Answer)?;
        if !success {
            return Err(failure(&answer));
        }
        if status != 200 {
            return Err(OnlineError::Answer);
        }
        self.check(&answer)
    }
}

impl Siteverify<'_> {
    fn check(&self, answer: &JsonObject) -> Result<Summary, OnlineError> {
        let text = |name: &str| match answer.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => value.as_str().map(Some).ok_or(OnlineError::Answer),
        };
        let hostname = text("hostname")?.ok_or(OnlineError::Hostname)?;
        if !self.rules.hostnames.iter().any(|known| known.eq_ignore_ascii_case(hostname)) {
            return Err(OnlineError::Hostname);
        }
        if self.rules.action.is_some() && text("action")? != self.rules.action {
            return Err(OnlineError::Action);
        }
        if self.kind == CaptchaKind::Turnstile && self.rules.bound.is_some() && text("cdata")? != self.rules.bound {
            return Err(OnlineError::Bound);
        }
        let solved = text("challenge_ts")?.and_then(Timestamp::parse_rfc3339).ok_or(OnlineError::Answer)?;
        if self.rules.now.since(solved) > MAX_AGE || solved > self.rules.now.plus(SKEW) {
            return Err(OnlineError::UsedOrOld);
        }
        let score = self.score(answer)?;
        if self.rules.least_score.is_some_and(|least| score.is_none_or(|score| score < i64::from(least))) {
            return Err(OnlineError::Score);
        }
        let mut flags = Vec::new();
        if let Some(score) = score {
            flags.number("captcha_score", score);
        }
        let mut facts = JsonObject::new();
        facts.insert("hostname".to_owned(), hostname.into());
        if let Some(action) = text("action")? {
            facts.insert("action".to_owned(), action.into());
        }
        Ok(Summary { evidence: self.kind.evidence(), level: Level::Web, flags, facts })
    }

    /// From 0 for a machine to 100 for a person. hCaptcha counts the other way round: its score is a risk.
    fn score(&self, answer: &JsonObject) -> Result<Option<i64>, OnlineError> {
        let Some(value) = answer.get("score").filter(|value| !value.is_null()) else { return Ok(None) };
        let score = value.as_f64().filter(|score| (0.0..=1.0).contains(score)).ok_or(OnlineError::Answer)?;
        let score = if self.kind == CaptchaKind::HCaptcha { 1.0 - score } else { score };
        // In range: at most 100.
        #[allow(clippy::cast_possible_truncation)]
        Ok(Some((score * 100.0).round() as i64))
    }
}

/// What the error codes say: whose fault it is, first of all.
fn failure(answer: &JsonObject) -> OnlineError {
    let codes = answer.get("error-codes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let any = |wanted: &[&str]| codes.iter().filter_map(Value::as_str).any(|code| wanted.contains(&code));
    let of_secret = [
        "missing-input-secret",
        "invalid-input-secret",
        "sitekey-secret-mismatch",
        "not-using-dummy-secret",
        "invalid-keys",
    ];
    if any(&of_secret) {
        OnlineError::Credentials
    } else if any(&["internal-error"]) {
        OnlineError::Unavailable(500)
    } else if any(&["timeout-or-duplicate", "invalid-or-already-seen-response", "expired-input-response"]) {
        OnlineError::UsedOrOld
    } else {
        OnlineError::Failed
    }
}

/// One more pair of a form (WHATWG URL, section 5.2).
fn pair(form: &mut String, name: &str, value: &str) {
    use std::fmt::Write as _;
    form.push_str(if form.is_empty() { "" } else { "&" });
    form.push_str(name);
    form.push('=');
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"*-._".contains(&byte) {
            form.push(char::from(byte));
        } else {
            // Writing into a string does not fail.
            let _ = write!(form, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-11-21T00:00:00Z";

    fn judge(
        kind: CaptchaKind,
        answer: &Value,
        change: impl FnOnce(&mut CaptchaRules<'_>),
    ) -> Result<Summary, OnlineError> {
        let secret = Secret::new("1x0000000000000000000000000000000AA".to_owned());
        let hostnames = ["app.example.com".to_owned()];
        let now = Timestamp::parse_rfc3339(NOW).unwrap();
        let mut rules = CaptchaRules { hostnames: &hostnames, action: None, bound: None, least_score: None, now };
        change(&mut rules);
        let check = Siteverify { kind, url: kind.url(), secret: &secret, response: "r", remote: None, rules };
        check.judge(200, answer.to_string().as_bytes())
    }

    fn good() -> Value {
        json!({"success": true, "challenge_ts": "2026-11-20T23:58:00.000Z", "hostname": "app.example.com",
               "error-codes": [], "action": "enroll", "cdata": "x"})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut answer = good();
        answer[name] = value;
        answer
    }

    #[test]
    fn a_solved_puzzle_shows_as_much_as_a_puzzle_can() {
        for kind in [CaptchaKind::Turnstile, CaptchaKind::HCaptcha, CaptchaKind::ReCaptcha] {
            let summary = judge(kind, &good(), |rules| rules.action = Some("enroll")).unwrap();
            assert_eq!((summary.evidence, summary.level), (kind.evidence(), Level::Web));
            assert_eq!(summary.flags, []);
        }
        let summary = judge(CaptchaKind::ReCaptcha, &with("score", json!(0.9)), |rules| rules.least_score = Some(90));
        assert_eq!(summary.unwrap().flags.first().map(crate::attest::Flag::name), Some("captcha_score"));
        // hCaptcha's 0.1 is a small risk.
        assert!(judge(CaptchaKind::HCaptcha, &with("score", json!(0.1)), |rules| rules.least_score = Some(90)).is_ok());
    }

    #[test]
    fn every_other_answer_is_refused_for_its_own_reason() {
        let judged = |answer: &Value| judge(CaptchaKind::Turnstile, answer, |_| {}).unwrap_err();
        let failed = |code: &str| judged(&json!({"success": false, "error-codes": [code]}));
        assert_eq!(failed("invalid-input-response"), OnlineError::Failed);
        assert_eq!(failed("timeout-or-duplicate"), OnlineError::UsedOrOld);
        assert_eq!(failed("invalid-or-already-seen-response"), OnlineError::UsedOrOld);
        assert_eq!(failed("invalid-input-secret"), OnlineError::Credentials);
        assert_eq!(failed("internal-error"), OnlineError::Unavailable(500));
        assert_eq!(judged(&json!({"success": false})), OnlineError::Failed);
        assert_eq!(judged(&with("hostname", json!("evil.example"))), OnlineError::Hostname);
        assert_eq!(judged(&with("hostname", Value::Null)), OnlineError::Hostname);
        assert_eq!(judged(&with("challenge_ts", json!("2026-11-20T23:54:59Z"))), OnlineError::UsedOrOld);
        assert_eq!(judged(&with("challenge_ts", json!("2026-11-21T00:02:00Z"))), OnlineError::UsedOrOld);
        for wrong in [
            with("challenge_ts", json!(5)),
            with("challenge_ts", json!("yesterday")),
            with("success", json!("true")),
            with("score", json!(7)),
        ] {
            assert_eq!(judged(&wrong), OnlineError::Answer, "{wrong}");
        }
        let other = judge(CaptchaKind::Turnstile, &good(), |rules| rules.action = Some("login"));
        assert_eq!(other.unwrap_err(), OnlineError::Action);
        for answer in [good(), with("score", json!(0.3))] {
            let low = judge(CaptchaKind::ReCaptcha, &answer, |rules| rules.least_score = Some(50));
            assert_eq!(low.unwrap_err(), OnlineError::Score);
        }
    }

    #[test]
    fn an_answer_that_is_no_answer_is_refused() {
        let secret = Secret::new("s".to_owned());
        let now = Timestamp::parse_rfc3339(NOW).unwrap();
        let rules = CaptchaRules { hostnames: &[], action: None, bound: None, least_score: None, now };
        let kind = CaptchaKind::Turnstile;
        let check = Siteverify { kind, url: kind.url(), secret: &secret, response: "r", remote: None, rules };
        assert_eq!(check.judge(503, b""), Err(OnlineError::Unavailable(503)));
        assert_eq!(check.judge(302, b"{}"), Err(OnlineError::Unavailable(302)));
        assert_eq!(check.judge(200, b"{}"), Err(OnlineError::Answer));
        assert_eq!(check.judge(400, br#"{"success":true}"#), Err(OnlineError::Answer));
        assert_eq!(check.judge(200, b"<html>").unwrap_err().reason(), "malformed_json");
        assert_eq!(check.judge(200, br#"{"success":true,"success":false}"#).unwrap_err().reason(), "duplicate_member");
    }

    #[test]
    fn secret_and_answer_are_sent_as_a_form_and_cannot_break_out_of_it() {
        let secret = Secret::new("a&b=c d".to_owned());
        let now = Timestamp::parse_rfc3339(NOW).unwrap();
        let rules = CaptchaRules { hostnames: &[], action: None, bound: None, least_score: None, now };
        let kind = CaptchaKind::HCaptcha;
        let remote = Some("2001:db8::1".parse().unwrap());
        let check = Siteverify { kind, url: kind.url(), secret: &secret, response: "x&secret=y+", remote, rules };
        let request = check.request().unwrap();
        let body = String::from_utf8(request.body.expose().clone()).unwrap();
        assert_eq!(body, "secret=a%26b%3Dc%20d&response=x%26secret%3Dy%2B&remoteip=2001%3Adb8%3A%3A1");
        assert_eq!(request.url, "https://api.hcaptcha.com/siteverify");
        for response in ["", "a b", "a\n", "\u{e9}"] {
            assert_eq!(Siteverify { response, ..check }.request().unwrap_err(), OnlineError::Token, "{response:?}");
        }
        let long = "x".repeat(2049);
        let turnstile = Siteverify { kind: CaptchaKind::Turnstile, response: &long, ..check };
        assert_eq!(turnstile.request().unwrap_err(), OnlineError::Token);
    }
}
