//! Workload identity federation: another provider's token (Kubernetes, GitHub, Azure, any OpenID provider), from a file or an
//! address, is exchanged at Google's Security Token Service (RFC 8693), and what comes of that, where a service account is
//! named, for a token of that account (cloud.google.com/iam/docs/workload-identity-federation-with-other-providers).
//!
//! The file that says all this names files and addresses of its own. Google is sent what is in the file only where that is a
//! token: one signed JSON object, nothing else.

use std::collections::BTreeMap;
use std::time::Duration;

use base::{LimitedBuffer, Secret};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use net::{FormPost, Question, Reach};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use url::{Host, Url};

use super::{GOOGLE_SCOPE, GrantError, Granted, Issued, LIMITS, With, form, refused};

/// Google's Security Token Service.
const EXCHANGE: &str = "https://sts.googleapis.com/v1/token";
/// Where tokens of service accounts are given.
const ACCOUNTS: &str = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/";
/// The address machines ask for their own identity.
const METADATA: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 169, 254);
/// Longest token read.
const LONGEST: usize = 16 * 1024;
/// How long a service account's token is asked for, seconds: Google's own default.
const LIFETIME: u64 = 3600;
/// What Google gives (cloud.google.com/iam/docs/reference/credentials/rest).
const SHORTEST_LIFETIME: u64 = 600;
const LONGEST_LIFETIME: u64 = 12 * 3600;

/// What of an `external_account` file counts.
#[derive(Deserialize)]
pub(super) struct External {
    audience: String,
    subject_token_type: String,
    token_url: String,
    credential_source: Source,
    service_account_impersonation_url: Option<String>,
    #[serde(default)]
    service_account_impersonation: Impersonation,
}

#[derive(Deserialize, Default)]
struct Impersonation {
    token_lifetime_seconds: Option<u64>,
}

/// Where the other provider's token is. `executable`, `environment_id` (AWS) and `certificate` are not taken.
#[derive(Deserialize)]
struct Source {
    file: Option<String>,
    url: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    format: Option<Format>,
    executable: Option<Value>,
    environment_id: Option<Value>,
    certificate: Option<Value>,
}

#[derive(Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
    subject_token_field_name: Option<String>,
}

impl External {
    /// Read the file. `told`: the operator says where tokens are exchanged, whatever it says.
    pub(super) fn read(text: &str, told: bool) -> Result<Self, GrantError> {
        let external: Self = serde_json::from_str(text).map_err(|_| GrantError::Key)?;
        let source = &external.credential_source;
        if source.executable.is_some() || source.environment_id.is_some() || source.certificate.is_some() {
            return Err(GrantError::Source("only file and url are taken in credential_source"));
        }
        if source.file.is_some() == source.url.is_some() {
            return Err(GrantError::Source("credential_source needs a file or a url"));
        }
        let jwt = ["urn:ietf:params:oauth:token-type:jwt", "urn:ietf:params:oauth:token-type:id_token"];
        if !jwt.contains(&external.subject_token_type.as_str()) {
            return Err(GrantError::Source("only tokens of type jwt and id_token are taken"));
        }
        if !told && external.token_url != EXCHANGE {
            return Err(GrantError::Endpoint);
        }
        Ok(external)
    }

    /// Where it says tokens are exchanged.
    pub(super) fn exchange(&self) -> Result<Url, GrantError> {
        Url::parse(&self.token_url).map_err(|_| GrantError::Endpoint)
    }

    /// The token for Google's services, by way of `endpoint`.
    pub(super) async fn token(&self, (endpoint, told): (&Url, bool), with: With<'_>) -> Result<Granted, GrantError> {
        let subject = self.credential_source.token(with).await?;
        let body = form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
            ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("audience", &self.audience),
            ("scope", GOOGLE_SCOPE),
            ("subject_token_type", &self.subject_token_type),
            ("subject_token", subject.expose()),
        ]);
        let post = FormPost { body, authorization: None };
        let posted = net::post_form(with.egress, endpoint, with.reach, post, LIMITS).await?;
        let body = Secret::new(posted.body);
        if !posted.status.is_success() {
            return Err(refused(body.expose()));
        }
        let exchanged = Issued::read(body.expose())?;
        match &self.service_account_impersonation_url {
            Some(url) => self.impersonated((url, endpoint, told), &exchanged, with).await,
            None => Ok(exchanged),
        }
    }

    /// A service account's token, for one of the pool's.
    async fn impersonated(
        &self,
        (url, endpoint, told): (&str, &Url, bool),
        exchanged: &Granted,
        with: With<'_>,
    ) -> Result<Granted, GrantError> {
        let url = Url::parse(url).map_err(|_| GrantError::Endpoint)?;
        let beside = told && url.origin() == endpoint.origin();
        if !(url.as_str().starts_with(ACCOUNTS) || beside) || !url.path().ends_with(":generateAccessToken") {
            return Err(GrantError::Endpoint);
        }
        let lifetime = self.service_account_impersonation.token_lifetime_seconds.unwrap_or(LIFETIME);
        let lifetime = lifetime.clamp(SHORTEST_LIFETIME, LONGEST_LIFETIME);
        let json = json!({"scope": [GOOGLE_SCOPE], "lifetime": format!("{lifetime}s")}).to_string();
        let headers = HeaderMap::from_iter([(header::AUTHORIZATION, exchanged.shown()?)]);
        let question = Question { headers, json: Some(Secret::new(json)) };
        let replied = net::query(with.egress, &url, with.reach, question, LIMITS).await?;
        if replied.status != StatusCode::OK {
            return Err(match replied.status {
                StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                    GrantError::Refused("impersonation".to_owned())
                }
                status => GrantError::Fetch(format!("the server answered {status}")),
            });
        }
        let unusable = |_| GrantError::Fetch("its answer holds no usable token".to_owned());
        let made: Impersonated = serde_json::from_slice(replied.body.expose()).map_err(unusable)?;
        Ok(Granted { token: made.access_token, lifetime: Duration::from_secs(lifetime) })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Impersonated {
    #[serde(deserialize_with = "super::secret")]
    access_token: Secret<String>,
}

impl Source {
    /// The other provider's token, as it is now: whoever writes it renews it.
    async fn token(&self, with: With<'_>) -> Result<Secret<String>, GrantError> {
        let read = match (&self.file, &self.url) {
            (Some(file), _) => read_file(file).await?,
            (None, Some(url)) => self.fetched(url, with).await?,
            (None, None) => return Err(GrantError::Source("credential_source needs a file or a url")),
        };
        let text = std::str::from_utf8(read.expose()).map_err(|_| NO_TOKEN)?;
        let token = match self.format.as_ref().map_or("text", |format| format.kind.as_str()) {
            "text" => Secret::new(text.trim().to_owned()),
            "json" => {
                let name = self.format.as_ref().and_then(|format| format.subject_token_field_name.as_deref());
                let value: BTreeMap<String, Value> = serde_json::from_str(text).map_err(|_| NO_TOKEN)?;
                let token = name.and_then(|name| value.get(name)).and_then(Value::as_str);
                Secret::new(token.ok_or(NO_TOKEN)?.to_owned())
            }
            _ => return Err(GrantError::Source("the format of credential_source is text or json")),
        };
        if is_token(token.expose()) { Ok(token) } else { Err(NO_TOKEN) }
    }

    async fn fetched(&self, url: &str, with: With<'_>) -> Result<Secret<Vec<u8>>, GrantError> {
        let wrong = || GrantError::Source("the url of credential_source cannot be asked");
        let url = Url::parse(url).map_err(|_| wrong())?;
        let reach = match url.host() {
            Some(Host::Ipv4(METADATA)) => Reach::Metadata,
            _ => with.reach,
        };
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let name = HeaderName::try_from(name.as_str()).map_err(|_| wrong())?;
            if name == header::HOST || name.as_str().starts_with("content-") || name == header::TRANSFER_ENCODING {
                return Err(wrong());
            }
            let mut value = HeaderValue::try_from(value.as_str()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let replied = net::query(with.egress, &url, reach, Question { headers, json: None }, LIMITS).await?;
        if replied.status != StatusCode::OK {
            return Err(GrantError::Fetch(format!("the server answered {}", replied.status)));
        }
        Ok(replied.body)
    }
}

const NO_TOKEN: GrantError = GrantError::Source("credential_source holds no token");

async fn read_file(path: &str) -> Result<Secret<Vec<u8>>, GrantError> {
    let unreadable = |_| GrantError::Source("the file of credential_source cannot be read");
    let file = tokio::fs::File::open(path).await.map_err(unreadable)?;
    let mut buffer = LimitedBuffer::new(LONGEST);
    let mut limited = file.take(LONGEST as u64 + 1);
    let mut piece = [0; 4096];
    loop {
        let read = limited.read(&mut piece).await.map_err(unreadable)?;
        let Some(bytes) = piece.get(..read).filter(|bytes| !bytes.is_empty()) else { break };
        if !buffer.push(bytes) {
            return Err(NO_TOKEN);
        }
    }
    Ok(Secret::new(buffer.into_vec()))
}

/// Whether it looks as a signed token does (RFC 7515 section 3.1), so that no other file goes anywhere.
fn is_token(text: &str) -> bool {
    let part =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    text.len() <= LONGEST && text.starts_with("eyJ") && text.split('.').count() == 3 && text.split('.').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(changes: &Value) -> String {
        let mut file = json!({"type": "external_account", "audience": "//iam.googleapis.com/projects/1/x",
            "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": EXCHANGE,
            "credential_source": {"file": "/var/run/token"}});
        if let (Value::Object(file), Value::Object(changes)) = (&mut file, changes) {
            file.extend(changes.clone());
        }
        file.to_string()
    }

    #[test]
    fn what_names_another_exchange_or_another_kind_of_source_is_refused() {
        assert!(External::read(&file(&json!({})), false).is_ok());
        for (changes, reason) in [
            (json!({"token_url": "https://evil.example/v1/token"}), "provider_token_endpoint"),
            (json!({"token_url": "https://sts.googleapis.com.evil.example/v1/token"}), "provider_token_endpoint"),
            (json!({"credential_source": {"executable": {"command": "id"}}}), "provider_token_source"),
            (
                json!({"credential_source": {"environment_id": "aws1", "url": "http://169.254.169.254"}}),
                "provider_token_source",
            ),
            (json!({"credential_source": {}}), "provider_token_source"),
            (json!({"credential_source": {"file": "/a", "url": "https://a"}}), "provider_token_source"),
            (json!({"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"}), "provider_token_source"),
            (json!({"audience": 1}), "provider_key_form"),
        ] {
            let refused = External::read(&file(&changes), false).err().map(|error| error.reason());
            assert_eq!(refused, Some(reason), "{changes}");
        }
        assert!(External::read(&file(&json!({"token_url": "https://elsewhere.example/"})), true).is_ok());
    }

    #[test]
    fn only_a_token_is_taken_for_one() {
        assert!(is_token("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"));
        for other in
            ["", "eyJ", "eyJ.a", "eyJ.a.", "root:x:0:0", "eyJh.b.c d", "eyJh.b.c\nroot", "a.b.c", "eyJh.b.c.d.e"]
        {
            assert!(!is_token(other), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_file_is_read_or_refused_without_panic(text in ".{0,200}", name in "[a-z_]{1,30}") {
            let _ = External::read(&text, true);
            let _ = External::read(&file(&json!({name: text.clone()})), true);
            is_token(&text);
        }
    }
}
