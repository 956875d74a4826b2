//! What a `[[provider]]` says of a cloud: Azure's deployments, Vertex AI's projects, and fields sent with every request.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alone::destination;
use crate::fault::{Code, Faults};
use crate::secret_ref::SecretRef;
use crate::text::{ValueError, text_value};
use crate::tree::join;
use crate::values::HeaderName;
use crate::{Provider, ProviderKind};

/// An identity that no key is needed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CloudIdentity {
    /// The service account that the machine runs as, of its metadata server (Compute Engine, GKE, Cloud Run).
    Metadata,
}

/// A name that stands in a path as it is: an Azure deployment, a Google project.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathName(String);

text_value!(PathName, "path-name", "A name that stands in a path: letters, digits and . _ - :.", "my-project");

impl PathName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathName {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b':');
        let dots = text.bytes().all(|b| b == b'.');
        if dots || text.len() > 128 || !text.bytes().all(good) {
            return Err(ValueError::new("not a name that can stand in a path")
                .hint("1 to 128 letters, digits and . _ - : belong here"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for PathName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text of a header field: visible characters and spaces between them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct FieldText(String);

text_value!(FieldText, "header-text", "The text of a header field.", "openai");

impl FieldText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FieldText {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let good = text.bytes().all(|b| (0x20..0x7f).contains(&b));
        if text.is_empty() || text.len() > 4096 || !good || text.trim() != text {
            return Err(ValueError::new("a header field has 1 to 4096 visible characters, and no space around them"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for FieldText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The value of a header field that is sent with every request to a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldValue {
    /// As written.
    Text(FieldText),
    /// A secret, bound to the provider's origin as its key is.
    Secret(SecretRef),
}

/// The application of Entra ID in whose name Azure is asked (client credentials, RFC 6749 section 4.4). The provider's `api_key`
/// is then that application's client secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Entra {
    /// The directory (tenant), by id or by domain.
    pub tenant: PathName,
    /// The application (client) id.
    pub client_id: PathName,
    /// What is asked for. Absent: `https://cognitiveservices.azure.com/.default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<FieldText>,
}

/// Field names that belong to the connection, to this gateway or to the caller, besides those no [`HeaderName`] is.
const RESERVED: [&str; 8] =
    ["authorization", "cookie", "set-cookie", "forwarded", "via", "accept-encoding", "user-agent", "dpop"];
/// Most header fields of one provider.
const MOST_FIELDS: usize = 32;
/// Words of a field's name by which it holds a credential.
const CREDENTIAL: [&str; 8] = ["key", "apikey", "token", "secret", "password", "auth", "credential", "credentials"];

impl Provider {
    /// Where Google's service accounts get their tokens, unless `token_url` says otherwise.
    pub const GOOGLE_TOKEN_URL: &'static str = "https://oauth2.googleapis.com/token";
    /// Where a machine of Google's gets the token of its own service account (cloud.google.com/compute/docs/access/authenticate-workloads).
    pub const GOOGLE_METADATA_URL: &'static str = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token?scopes=https%3A%2F%2Fwww.googleapis.com%2Fauth%2Fcloud-platform";

    /// Where access tokens are asked for, where the kind needs any and has such a place.
    pub fn token_endpoint(&self) -> Option<Cow<'_, str>> {
        match (&self.token_url, self.kind, &self.entra) {
            (Some(url), _, _) => Some(Cow::Borrowed(url.as_str())),
            (None, ProviderKind::Vertex, _) if self.credentials.is_some() => {
                Some(Cow::Borrowed(Self::GOOGLE_METADATA_URL))
            }
            (None, ProviderKind::Vertex, _) if !self.express => Some(Cow::Borrowed(Self::GOOGLE_TOKEN_URL)),
            (None, ProviderKind::Azure, Some(entra)) => {
                Some(Cow::Owned(format!("https://login.microsoftonline.com/{}/oauth2/v2.0/token", entra.tenant)))
            }
            _ => None,
        }
    }

    /// Every secret it names, with the key that names it.
    pub fn secrets(&self) -> impl Iterator<Item = (String, &SecretRef)> {
        let keys = self.key_refs().into_iter().flat_map(|key| {
            let next = key.next.map(|next| (key.path.replace("api_key", "next_api_key"), next));
            std::iter::once((key.path, key.reference)).chain(next)
        });
        let keys = keys.chain(self.session_token.iter().map(|token| ("session_token".to_owned(), token)));
        keys.chain(self.headers.iter().filter_map(|(name, value)| match value {
            FieldValue::Secret(reference) => Some((join("headers", name), reference)),
            FieldValue::Text(_) => None,
        }))
    }

    /// The header fields whose values are secrets.
    pub fn secret_headers(&self) -> impl Iterator<Item = (&str, &SecretRef)> {
        let own = self.headers.iter().filter_map(|(name, value)| match value {
            FieldValue::Secret(reference) => Some((name.as_str(), reference)),
            FieldValue::Text(_) => None,
        });
        own.chain(self.session_token.iter().map(|token| (Self::SESSION_TOKEN_FIELD, token)))
    }

    /// Vertex AI's address for a location (cloud.google.com/vertex-ai/docs/reference/rest, "Service endpoint").
    pub(crate) fn vertex_base(&self) -> Cow<'static, str> {
        match self.location.as_ref().map_or("global", PathName::as_str) {
            "global" => Cow::Borrowed("https://aiplatform.googleapis.com"),
            // Of several regions at once.
            several @ ("us" | "eu") => Cow::Owned(format!("https://aiplatform.{several}.rep.googleapis.com")),
            region => Cow::Owned(format!("https://{region}-aiplatform.googleapis.com")),
        }
    }

    /// Faults of the keys that only some kinds have, and of header fields.
    pub(crate) fn cloud_alone(&self, faults: &mut Faults) {
        let (azure, vertex) = (ProviderKind::Azure, ProviderKind::Vertex);
        for (key, given, kind) in [
            ("deployment", self.deployment.is_some(), azure),
            ("api_version", self.api_version.is_some(), azure),
            ("entra", self.entra.is_some(), azure),
            ("project", self.project.is_some(), vertex),
            ("location", self.location.is_some(), vertex),
            ("express", self.express, vertex),
            ("credentials", self.credentials.is_some(), vertex),
        ] {
            if given && self.kind != kind {
                faults
                    .add(key, Code::Conflict, format!("{} has no such thing", self.kind))
                    .hint(format!("it belongs to {kind}"));
            }
        }
        match self.kind {
            ProviderKind::Vertex => self.vertex_alone(faults),
            ProviderKind::Azure => self.azure_alone(faults),
            _ => {}
        }
        match &self.token_url {
            Some(_) if self.kind != vertex && self.entra.is_none() => {
                let message = "there is no token to be asked for";
                faults.add("token_url", Code::Conflict, message).hint("it belongs to vertex, and to azure with entra");
            }
            Some(url) => destination(url, self.allow_private, "token_url", faults),
            None => {}
        }
        fields_alone(&self.headers, faults);
    }

    fn vertex_alone(&self, faults: &mut Faults) {
        if self.express {
            for (key, given) in [
                ("project", self.project.is_some()),
                ("location", self.location.is_some()),
                ("token_url", self.token_url.is_some()),
            ] {
                if given {
                    faults.add(key, Code::Conflict, "express mode knows an API key and nothing else");
                }
            }
        } else if self.project.is_none() {
            faults
                .add("", Code::MissingKey, "the key project is missing")
                .hint("the project's id; or express = true for an API key of Vertex AI's express mode");
        }
        if let Some(location) = &self.location
            && !location.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        {
            faults.add("location", Code::BadValue, "not a location").hint("for example global or us-central1");
        }
        if self.credentials.is_some() {
            for (key, given) in
                [("api_key", self.api_key.is_some()), ("keys", !self.keys.is_empty()), ("express", self.express)]
            {
                if given {
                    faults.add(key, Code::Conflict, "with credentials = \"metadata\" there is no key");
                }
            }
        } else if self.key_refs().is_empty() {
            faults
                .add("", Code::MissingKey, "the key api_key is missing")
                .hint("a service account's JSON key: api_key = { file = \"service-account.json\" }; or credentials = \"metadata\"");
        }
    }

    fn azure_alone(&self, faults: &mut Faults) {
        if self.key_refs().is_empty() {
            let hint = if self.entra.is_some() {
                "with entra: the application's client secret"
            } else {
                "api_key = { env = \"AZURE_OPENAI_API_KEY\" }"
            };
            faults.add("", Code::MissingKey, "the key api_key is missing").hint(hint);
        }
        if let (Some(url), Some(_)) = (&self.token_url, &self.entra)
            && !(url.is_loopback() || url.is_private_literal() || is_microsoft(url.as_str()))
        {
            faults
                .add("token_url", Code::BadValue, "the client secret goes to Microsoft only")
                .hint("login.microsoftonline.com, .us, login.partner.microsoftonline.cn, or a private address");
        }
    }
}

/// Whether a token endpoint is one of Microsoft's clouds'.
fn is_microsoft(url: &str) -> bool {
    [
        "https://login.microsoftonline.com/",
        "https://login.microsoftonline.us/",
        "https://login.partner.microsoftonline.cn/",
    ]
    .iter()
    .any(|cloud| url.starts_with(cloud))
}

fn fields_alone(headers: &BTreeMap<String, FieldValue>, faults: &mut Faults) {
    if headers.len() > MOST_FIELDS {
        faults.add("headers", Code::BadValue, format!("more than {MOST_FIELDS} header fields"));
    }
    let mut before: Vec<String> = Vec::new();
    for (name, value) in headers {
        let key = join("headers", name);
        let plain = name.to_ascii_lowercase();
        if let Err(error) = name.parse::<HeaderName>() {
            faults.add(&key, Code::BadValue, error.message).at_key();
        } else if RESERVED.contains(&plain.as_str()) || plain.starts_with("content-") || plain.starts_with("proxy-") {
            faults.add(&key, Code::BadValue, "this header is not yours to set").at_key();
        } else if before.contains(&plain) {
            faults.add(&key, Code::BadValue, "named twice").at_key();
        }
        if matches!(value, FieldValue::Text(_)) && plain.split('-').any(|word| CREDENTIAL.contains(&word)) {
            faults
                .add(&key, Code::SecretLiteral, "a secret is not written here, only where it is")
                .hint("write { env = \"NAME\" }, { file = \"path\" } or { secret = \"name\" }");
        }
        before.push(plain);
    }
}
