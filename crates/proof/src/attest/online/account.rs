//! A service account of Google's that asks on an app's behalf: its key file, and the access tokens it gets
//! (<https://developers.google.com/identity/protocols/oauth2/service-account#httprest>).

use std::time::Duration;

use base::{Secret, Timestamp};
use serde_json::{Value, json};

use super::{MAX_ANSWER_LEN, OnlineCheck, OnlineError, OnlineRequest};
use crate::jose::json::{self, Limits};
use crate::jose::{AssertionKey, JsonObject, SignError};

/// Where Google gives access tokens.
pub const TOKEN_URL: &str = "https://oauth2.googleapis.com/token";

/// What an access token for Play Integrity may be used for.
pub const PLAY_SCOPE: &str = "https://www.googleapis.com/auth/playintegrity";

/// How long an assertion holds: the longest Google takes.
const ASSERTION: Duration = Duration::from_hours(1);

const LIMITS: Limits = Limits { bytes: MAX_ANSWER_LEN, depth: 4, values: 64 };

/// A service account's key.
pub struct ServiceAccount {
    email: String,
    key: AssertionKey,
}

impl ServiceAccount {
    /// From the text of the key file (JSON). Where tokens are got does not come from the file.
    pub fn new(file: &Secret<String>) -> Result<Self, SignError> {
        let members: JsonObject = json::object(file.expose().as_bytes(), LIMITS).map_err(|_| SignError::Claims)?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        if text("type") != Some("service_account") {
            return Err(SignError::Claims);
        }
        let email = text("client_email").ok_or(SignError::Claims)?.to_owned();
        let pem = text("private_key").ok_or(SignError::Pkcs8)?;
        Ok(Self { email, key: AssertionKey::from_pem(pem, text("private_key_id"))? })
    }
}

impl std::fmt::Debug for ServiceAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ServiceAccount").field("email", &self.email).finish_non_exhaustive()
    }
}

/// An access token to be got with the account's key (RFC 7523 section 2.1).
#[derive(Debug, Clone, Copy)]
pub struct AccessToken<'a> {
    /// Where: [`TOKEN_URL`].
    pub url: &'a str,
    /// Whose key signs.
    pub account: &'a ServiceAccount,
    /// What the token may be used for.
    pub scope: &'a str,
    /// The moment of the request.
    pub now: Timestamp,
}

/// An access token that was got.
#[derive(Debug, Clone)]
pub struct Access {
    /// The token.
    pub token: Secret<String>,
    /// How long it holds.
    pub lasts: Duration,
}

impl OnlineCheck for AccessToken<'_> {
    type Answer = Access;

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        let now = self.now.as_secs();
        let ends = self.now.plus(ASSERTION).as_secs();
        let claims = json!({"iss": self.account.email, "scope": self.scope, "aud": self.url, "iat": now, "exp": ends});
        let assertion = self.account.key.sign(&claims).map_err(OnlineError::Key)?;
        // A compact JWS has nothing that a form would have to escape.
        let form = format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}",
            assertion.expose()
        );
        Ok(OnlineRequest {
            url: self.url.to_owned(),
            content_type: "application/x-www-form-urlencoded",
            authorization: None,
            body: Secret::new(form.into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<Access, OnlineError> {
        match status {
            200 => {}
            // RFC 6749 section 5.2.
            400 | 401 | 403 => return Err(OnlineError::Credentials),
            other => return Err(OnlineError::Unavailable(other)),
        }
        let answer = json::object(body, LIMITS).map_err(OnlineError::Json)?;
        let token = answer.get("access_token").and_then(Value::as_str).filter(|token| is_token(token));
        let bearer = answer.get("token_type").and_then(Value::as_str).is_some_and(|t| t.eq_ignore_ascii_case("bearer"));
        let lasts = answer.get("expires_in").and_then(Value::as_u64).filter(|seconds| (1..=86_400).contains(seconds));
        match (token, lasts) {
            (Some(token), Some(lasts)) if bearer => {
                Ok(Access { token: Secret::new(token.to_owned()), lasts: Duration::from_secs(lasts) })
            }
            _ => Err(OnlineError::Answer),
        }
    }
}

/// What can stand in a header as it is.
fn is_token(text: &str) -> bool {
    (1..=8192).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
    use aws_lc_rs::rsa::{KeyPair, KeySize};
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn account() -> ServiceAccount {
        let pair = KeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
        let pem = STANDARD.encode(der.as_ref());
        let pem = format!("-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----\n");
        let file = json!({"type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key": pem,
                          "private_key_id": "k1", "token_uri": "https://evil.example/token"});
        ServiceAccount::new(&Secret::new(file.to_string())).unwrap()
    }

    #[test]
    fn a_token_is_asked_for_where_we_say_and_not_where_the_file_says() {
        let account = account();
        let now = Timestamp::from_secs(1_800_000_000);
        let check = AccessToken { url: TOKEN_URL, account: &account, scope: PLAY_SCOPE, now };
        let request = check.request().unwrap();
        assert_eq!(request.url, TOKEN_URL);
        let form = String::from_utf8(request.body.expose().clone()).unwrap();
        let assertion = form.split_once("&assertion=").unwrap().1;
        let token = crate::jose::parse_compact(assertion).unwrap();
        let expected = json!({"iss": "a@b.iam.gserviceaccount.com", "scope": PLAY_SCOPE, "aud": TOKEN_URL,
                              "iat": 1_800_000_000, "exp": 1_800_003_600});
        assert_eq!(Value::Object(token.claims().unwrap()), expected);
        assert_eq!(token.header.kid.as_deref(), Some("k1"));
        let good = br#"{"access_token":"ya29.x","expires_in":3599,"token_type":"Bearer"}"#;
        let got = check.judge(200, good).unwrap();
        assert_eq!((got.token.expose().as_str(), got.lasts.as_secs()), ("ya29.x", 3599));
        for (status, body, error) in [
            (400, &br#"{"error":"invalid_grant"}"#[..], OnlineError::Credentials),
            (503, b"", OnlineError::Unavailable(503)),
            (200, br#"{"access_token":"a b","expires_in":1,"token_type":"Bearer"}"#, OnlineError::Answer),
            (200, br#"{"access_token":"a","expires_in":0,"token_type":"Bearer"}"#, OnlineError::Answer),
            (200, br#"{"access_token":"a","expires_in":1,"token_type":"mac"}"#, OnlineError::Answer),
        ] {
            assert_eq!(check.judge(status, body).unwrap_err(), error, "{status}");
        }
    }

    #[test]
    fn another_file_is_no_service_account() {
        for file in ["", "{}", r#"{"type":"authorized_user"}"#, r#"{"type":"service_account","client_email":"a"}"#] {
            assert!(ServiceAccount::new(&Secret::new(file.to_owned())).is_err(), "{file}");
        }
    }
}
