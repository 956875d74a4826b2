//! What a `[[provider]]` of kind `bedrock` says of AWS: the region, and the key that requests are signed with.

use std::borrow::Cow;

use crate::fault::{Code, Faults};
use crate::{Provider, ProviderKind};

impl Provider {
    /// The field in which temporary credentials send their token.
    pub const SESSION_TOKEN_FIELD: &'static str = "x-amz-security-token";

    /// Bedrock Runtime's address in its region (docs.aws.amazon.com/general/latest/gr/bedrock.html).
    pub(crate) fn bedrock_base(&self) -> Option<Cow<'static, str>> {
        let region = self.region.as_ref()?.as_str();
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        Some(Cow::Owned(format!("https://bedrock-runtime.{region}.{domain}")))
    }

    /// Faults of the keys that only Bedrock has.
    pub(crate) fn aws_alone(&self, faults: &mut Faults) {
        let given = [
            ("region", self.region.is_some()),
            ("access_key_id", self.access_key_id.is_some()),
            ("secret_access_key", self.secret_access_key.is_some()),
            ("session_token", self.session_token.is_some()),
        ];
        if self.kind != ProviderKind::Bedrock {
            for (key, _) in given.into_iter().filter(|(_, given)| *given) {
                faults
                    .add(key, Code::Conflict, format!("{} has no such thing", self.kind))
                    .hint("it belongs to bedrock");
            }
            return;
        }
        let signs = self.access_key_id.is_some() || self.secret_access_key.is_some();
        for (key, _) in [("api_key", self.api_key.is_some()), ("keys", !self.keys.is_empty())]
            .into_iter()
            .filter(|(_, given)| signs && *given)
        {
            faults
                .add(key, Code::Conflict, "requests are either signed or sent with a key")
                .hint("give api_key, or access_key_id and secret_access_key");
        }
        for (key, missing) in [
            ("access_key_id", signs && self.access_key_id.is_none()),
            ("secret_access_key", signs && self.secret_access_key.is_none()),
            ("region", self.region.is_none() && (signs || self.base_url.is_none())),
        ] {
            if missing {
                let fault = faults.add("", Code::MissingKey, format!("the key {key} is missing"));
                match key {
                    "region" => fault.hint("for example region = \"us-east-1\""),
                    "access_key_id" => fault.hint("the id of the access key"),
                    _ => fault.hint("secret_access_key = { env = \"AWS_SECRET_ACCESS_KEY\" }"),
                };
            }
        }
        if self.session_token.is_some() && !signs {
            faults.add("session_token", Code::Conflict, "it belongs to access_key_id and secret_access_key");
        }
        let region = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if self.region.as_ref().is_some_and(|name| !region(name.as_str())) {
            faults.add("region", Code::BadValue, "not a region").hint("for example us-east-1");
        }
        if self.access_key_id.as_ref().is_some_and(|id| !id.as_str().bytes().all(|b| b.is_ascii_alphanumeric())) {
            faults.add("access_key_id", Code::BadValue, "an access key's id is of letters and digits");
        }
        if self.key_refs().is_empty() && self.base_url.is_none() {
            faults
                .add("", Code::MissingKey, "the key api_key is missing")
                .hint("api_key = { env = \"AWS_BEARER_TOKEN_BEDROCK\" }, or access_key_id and secret_access_key");
        }
    }
}
