//! Google's two services for an app's own servers: opening a Play Integrity token
//! (<https://developer.android.com/google/play/integrity/standard#decrypt-and>), which is the only way for tokens of standard
//! requests, and using up an App Check token (<https://firebase.google.com/docs/app-check/custom-resource-backend>). Both take an
//! access token of a service account.

use base::Secret;
use serde_json::{Value, json};

use super::{MAX_ANSWER_LEN, OnlineCheck, OnlineError, OnlineRequest};
use crate::attest::play::{self, PlayError, PlayRules};
use crate::attest::{Summary, appcheck};
use crate::jose::json::{self, Limits};

const LIMITS: Limits = Limits { bytes: MAX_ANSWER_LEN, depth: 16, values: 1024 };

/// Where Play Integrity answers.
pub const PLAY_ORIGIN: &str = "https://playintegrity.googleapis.com";

/// Where App Check answers.
pub const APP_CHECK_ORIGIN: &str = "https://firebaseappcheck.googleapis.com";

/// What an access token for that has to be for
/// (<https://firebase.google.com/docs/reference/appcheck/rest/v1beta/projects/verifyAppCheckToken>).
pub const APP_CHECK_SCOPE: &str = "https://www.googleapis.com/auth/firebase";

/// A Play Integrity token for Google to open.
#[derive(Debug, Clone, Copy)]
pub struct PlayDecode<'a> {
    /// The origin: [`PLAY_ORIGIN`].
    pub origin: &'a str,
    /// An access token of a service account of the app's project.
    pub access: &'a Secret<String>,
    /// What the client brought.
    pub token: &'a str,
    /// What the verdict is judged by.
    pub rules: PlayRules<'a>,
}

impl OnlineCheck for PlayDecode<'_> {
    /// What the verdict says, or why it does not hold.
    type Answer = Result<Summary, PlayError>;

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        let package = self.rules.app.package.as_str();
        check(self.token, play::MAX_TOKEN_LEN)?;
        // It becomes part of the path. The operator registered it.
        if package.is_empty() || !package.bytes().all(|b| b.is_ascii_alphanumeric() || b"._".contains(&b)) {
            return Err(OnlineError::Token);
        }
        Ok(OnlineRequest {
            url: format!("{}/v1/{package}:decodeIntegrityToken", self.origin),
            content_type: "application/json",
            authorization: Some(bearer(self.access)),
            body: Secret::new(json!({"integrity_token": self.token}).to_string().into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<Self::Answer, OnlineError> {
        opened(status)?;
        Ok(play::judge_decoded(body, &self.rules))
    }
}

/// An App Check token that is to count once. It must have been verified before: Google only says whether it was used.
#[derive(Debug, Clone, Copy)]
pub struct AppCheckConsume<'a> {
    /// The origin: [`APP_CHECK_ORIGIN`].
    pub origin: &'a str,
    /// An access token of a service account of the project.
    pub access: &'a Secret<String>,
    /// The number of the project.
    pub project: &'a str,
    /// What the client brought.
    pub token: &'a str,
}

impl OnlineCheck for AppCheckConsume<'_> {
    /// It was not used before, and is now.
    type Answer = ();

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        check(self.token, appcheck::MAX_TOKEN_LEN)?;
        if self.project.is_empty() || !self.project.bytes().all(|b| b.is_ascii_digit()) {
            return Err(OnlineError::Token);
        }
        Ok(OnlineRequest {
            url: format!("{}/v1beta/projects/{}:verifyAppCheckToken", self.origin, self.project),
            content_type: "application/json",
            authorization: Some(bearer(self.access)),
            body: Secret::new(json!({"app_check_token": self.token}).to_string().into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<(), OnlineError> {
        // Google's answer to a token that does not hold is 403; to our own credentials 401.
        if status == 403 {
            return Err(OnlineError::Failed);
        }
        opened(status)?;
        let answer = json::object(body, LIMITS).map_err(OnlineError::Json)?;
        match answer.get("alreadyConsumed") {
            // What is false is left out.
            None | Some(Value::Bool(false)) => Ok(()),
            Some(Value::Bool(true)) => Err(OnlineError::UsedOrOld),
            Some(_) => Err(OnlineError::Answer),
        }
    }
}

fn check(token: &str, longest: usize) -> Result<(), OnlineError> {
    let in_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    let plausible = !token.is_empty() && token.len() <= longest && token.bytes().all(in_token);
    if plausible { Ok(()) } else { Err(OnlineError::Token) }
}

fn bearer(access: &Secret<String>) -> Secret<String> {
    Secret::new(format!("Bearer {}", access.expose()))
}

fn opened(status: u16) -> Result<(), OnlineError> {
    match status {
        200 => Ok(()),
        400 => Err(OnlineError::Failed),
        401 | 403 => Err(OnlineError::Credentials),
        other => Err(OnlineError::Unavailable(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attest::Level;
    use crate::attest::android::AndroidApp;
    use crate::attest::play::{Binding, DEFAULT_MAX_AGE};
    use base::Timestamp;

    fn rules(app: &AndroidApp) -> PlayRules<'_> {
        let now = Timestamp::from_millis(1_795_219_200_000);
        PlayRules { app, binding: Binding::RequestHash("aGFzaA"), now, max_age: DEFAULT_MAX_AGE, allow_testing: false }
    }

    #[test]
    fn a_token_is_opened_by_google_and_judged_by_the_same_rules() {
        let app = AndroidApp { package: "com.example.app".into(), digests: vec![[7; 32]], least_version: None };
        let access = Secret::new("ya29.access".to_owned());
        let check = PlayDecode { origin: PLAY_ORIGIN, access: &access, token: "a.b.c", rules: rules(&app) };
        let request = check.request().unwrap();
        assert_eq!(request.url, "https://playintegrity.googleapis.com/v1/com.example.app:decodeIntegrityToken");
        assert_eq!(request.authorization.unwrap().expose(), "Bearer ya29.access");
        assert_eq!(request.body.expose(), br#"{"integrity_token":"a.b.c"}"#);
        let answer = |package: &str| {
            json!({"tokenPayloadExternal": {
                "requestDetails": {"requestPackageName": "com.example.app", "requestHash": "aGFzaA", "timestampMillis": "1795219195000"},
                "appIntegrity": {"appRecognitionVerdict": "PLAY_RECOGNIZED", "packageName": package, "versionCode": "1",
                    "certificateSha256Digest": ["BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc"]},
                "deviceIntegrity": {"deviceRecognitionVerdict": ["MEETS_DEVICE_INTEGRITY"]}}})
            .to_string()
        };
        let judged = check.judge(200, answer("com.example.app").as_bytes()).unwrap();
        assert_eq!(judged.map(|summary| summary.level), Ok(Level::Verdict));
        assert_eq!(check.judge(200, answer("com.evil.app").as_bytes()).unwrap(), Err(PlayError::Package));
        for (status, error) in [
            (400, OnlineError::Failed),
            (401, OnlineError::Credentials),
            (403, OnlineError::Credentials),
            (429, OnlineError::Unavailable(429)),
        ] {
            assert_eq!(check.judge(status, b"{}"), Err(error), "{status}");
        }
        for token in ["", "a\"b", "a b", "a/b"] {
            assert_eq!(PlayDecode { token, ..check }.request().unwrap_err(), OnlineError::Token, "{token}");
        }
        let escaping = AndroidApp { package: "../x".into(), ..app.clone() };
        assert!(PlayDecode { rules: rules(&escaping), ..check }.request().is_err());
    }

    #[test]
    fn an_app_check_token_is_used_up() {
        let access = Secret::new("ya29.access".to_owned());
        let check =
            AppCheckConsume { origin: APP_CHECK_ORIGIN, access: &access, project: "1234567890", token: "a.b.c" };
        let request = check.request().unwrap();
        assert_eq!(
            request.url,
            "https://firebaseappcheck.googleapis.com/v1beta/projects/1234567890:verifyAppCheckToken"
        );
        assert_eq!(request.body.expose(), br#"{"app_check_token":"a.b.c"}"#);
        assert_eq!(check.judge(200, b"{}"), Ok(()));
        assert_eq!(check.judge(200, br#"{"alreadyConsumed":false}"#), Ok(()));
        assert_eq!(check.judge(200, br#"{"alreadyConsumed":true}"#), Err(OnlineError::UsedOrOld));
        assert_eq!(check.judge(200, br#"{"alreadyConsumed":"no"}"#), Err(OnlineError::Answer));
        assert_eq!(check.judge(403, b"{}"), Err(OnlineError::Failed));
        assert_eq!(check.judge(401, b"{}"), Err(OnlineError::Credentials));
        assert_eq!(check.judge(503, b""), Err(OnlineError::Unavailable(503)));
        assert!(AppCheckConsume { project: "../1", ..check }.request().is_err());
    }
}
