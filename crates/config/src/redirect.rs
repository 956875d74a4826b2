//! Where a person's browser is sent after signing in.

use std::fmt;
use std::str::FromStr;

use crate::text::{ValueError, text_value};

/// A redirect URI (RFC 6749 section 3.1.2, RFC 8252 section 7): `https`, `http` on loopback, or an app's own scheme.
/// Kept and compared as written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RedirectUri(String);

text_value!(
    RedirectUri,
    "redirect-uri",
    "A redirect URI: https, http on loopback, or an app's own scheme.",
    "https://app.example.com/callback"
);

/// The loopback addresses on which an app's port is its own affair (RFC 8252 section 7.3).
const LOOPBACK: [&str; 2] = ["http://127.0.0.1", "http://[::1]"];

impl RedirectUri {
    /// The URI as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether a request that names `presented` means this one: the same text, save that on a loopback address any
    /// port will do, since the system hands them out (RFC 8252 section 7.3).
    pub fn matches(&self, presented: &str) -> bool {
        if self.0 == presented {
            return true;
        }
        match (without_port(&self.0), without_port(presented)) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => false,
        }
    }
}

/// A URI on a loopback address as its host and what follows the port.
fn without_port(uri: &str) -> Option<(&str, &str)> {
    let (host, rest) = LOOPBACK.iter().find_map(|host| Some((*host, uri.strip_prefix(host)?)))?;
    let Some(after) = rest.strip_prefix(':') else {
        return (rest.is_empty() || rest.starts_with(['/', '?'])).then_some((host, rest));
    };
    let end = after.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(after.len());
    let (port, rest) = after.split_at_checked(end)?;
    let good = port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('0');
    (good && (rest.is_empty() || rest.starts_with(['/', '?']))).then_some((host, rest))
}

impl FromStr for RedirectUri {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        const HINT: &str = "write \"https://app.example.com/callback\", \"http://127.0.0.1/callback\" or \"com.example.app:/callback\"";
        if text.len() > 2048 {
            return Err(ValueError::new("a redirect URI has at most 2048 characters"));
        }
        if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}*".contains(&b)) {
            return Err(ValueError::new("a redirect URI has no spaces, wildcards or special characters").hint(HINT));
        }
        if text.contains('#') {
            return Err(ValueError::new("a redirect URI has no fragment (RFC 6749 section 3.1.2)"));
        }
        let url = url::Url::parse(text).map_err(|_| ValueError::new("not a redirect URI").hint(HINT))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ValueError::new("a redirect URI has no user or password"));
        }
        match url.scheme() {
            "https" => {}
            "http" => {
                let local = LOOPBACK.iter().chain(&["http://localhost"]).filter_map(|host| text.strip_prefix(host));
                if !local.into_iter().any(|rest| rest.is_empty() || rest.starts_with([':', '/', '?'])) {
                    return Err(ValueError::new("plain HTTP would show the code to the network")
                        .hint("begin with https://; http is for 127.0.0.1, [::1] and localhost"));
                }
            }
            scheme if scheme.contains('.') => {}
            _ => {
                return Err(ValueError::new(
                    "an app's own scheme is a domain name turned round (RFC 8252 section 7.1)",
                )
                .hint(HINT));
            }
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for RedirectUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
