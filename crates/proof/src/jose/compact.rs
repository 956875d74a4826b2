//! The compact serialisation of a signed object (RFC 7515 section 7.1), and nothing else.

use std::fmt;

use super::json::{self, JsonError, JsonObject, Limits};
use super::{Alg, base64url};

/// The longest token that is looked at, in bytes. Room for an ML-DSA-65 signature and a few kilobytes of claims.
pub const MAX_TOKEN_LEN: usize = 16 << 10;

const MAX_KID_LEN: usize = 1024;

/// Why a text is not a signed object this verifier reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoseError {
    /// Longer than the limit.
    #[error("the token is too long")]
    TooLong,
    /// Not three parts of base64url characters.
    #[error("the token is not three base64url parts joined by dots")]
    NotCompact,
    /// A part is not canonical base64url.
    #[error("a part of the token is not canonical base64url")]
    Base64,
    /// There is no signature.
    #[error("the token is not signed")]
    Unsigned,
    /// The header is not an acceptable JSON object.
    #[error("the token's header is refused: {0}")]
    Header(JsonError),
    /// The payload is not an acceptable JSON object.
    #[error("the token's claims are refused: {0}")]
    Claims(JsonError),
    /// The header has no `alg`, or it is not a string.
    #[error("the token's header has no usable alg")]
    MissingAlg,
    /// `alg` names no algorithm of ours.
    #[error("the token's alg is not supported")]
    UnsupportedAlg,
    /// The header has `crit`: no extension is understood here (RFC 7515 section 4.1.11).
    #[error("the token demands an extension that is not supported")]
    Crit,
    /// The header has `b64` (RFC 7797 section 7 forbids it in a JWT).
    #[error("the token has an unencoded payload")]
    Unencoded,
    /// The header belongs to an encrypted object (`enc` or `zip`).
    #[error("encrypted or compressed tokens are not accepted")]
    Encrypted,
    /// `cty` says that the payload is another token (RFC 7519 section 5.2).
    #[error("nested tokens are not accepted")]
    Nested,
    /// `kid`, `typ` or `cty` is not a sensible string.
    #[error("a member of the token's header has the wrong form")]
    BadHeader,
}

impl JoseError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::NotCompact => "not_compact_jws",
            Self::Base64 => "bad_base64url",
            Self::Unsigned => "unsigned",
            Self::Header(e) | Self::Claims(e) => e.reason(),
            Self::MissingAlg => "missing_alg",
            Self::UnsupportedAlg => "unsupported_alg",
            Self::Crit => "crit_unsupported",
            Self::Unencoded => "b64_unsupported",
            Self::Encrypted => "encryption_unsupported",
            Self::Nested => "nesting_unsupported",
            Self::BadHeader => "bad_header",
        }
    }
}

/// A token's header, unverified. `jku`, `x5u`, `jwk`, `x5c` and `x5t` have no place in it: a token never says
/// where its own key comes from (RFC 8725 section 3.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The algorithm the token claims.
    pub alg: Alg,
    /// The key it claims, for an exact look-up in one issuer's own set.
    pub kid: Option<String>,
    /// Its media type in lower case, with `application/` taken off (RFC 7515 section 4.1.9): `at+jwt`.
    pub typ: Option<String>,
    members: JsonObject,
}

impl Header {
    /// Every member as sent.
    pub fn members(&self) -> &JsonObject {
        &self.members
    }

    fn parse(bytes: &[u8]) -> Result<Self, JoseError> {
        let members = json::object(bytes, Limits::HEADER).map_err(JoseError::Header)?;
        if members.contains_key("enc") || members.contains_key("zip") {
            return Err(JoseError::Encrypted);
        }
        if members.contains_key("b64") {
            return Err(JoseError::Unencoded);
        }
        if members.contains_key("crit") {
            return Err(JoseError::Crit);
        }
        let name = members.get("alg").and_then(|alg| alg.as_str()).ok_or(JoseError::MissingAlg)?;
        let alg = Alg::from_name(name).ok_or(JoseError::UnsupportedAlg)?;
        let kid = string(&members, "kid")?;
        if kid.is_some_and(|kid| kid.is_empty() || kid.len() > MAX_KID_LEN) {
            return Err(JoseError::BadHeader);
        }
        let kid = kid.map(str::to_owned);
        let typ = string(&members, "typ")?.map(media_type);
        if string(&members, "cty")?.map(media_type).is_some_and(|cty| cty == "jwt" || cty == "jws" || cty == "jwe") {
            return Err(JoseError::Nested);
        }
        Ok(Self { alg, kid, typ, members })
    }
}

/// A member that is a string or absent.
fn string<'a>(members: &'a JsonObject, name: &str) -> Result<Option<&'a str>, JoseError> {
    match members.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(JoseError::BadHeader),
    }
}

/// A media type as it is compared: without case and with `application/` implied (RFC 7515 section 4.1.9).
pub(crate) fn media_type(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("application/") {
        Some(rest) if !rest.contains('/') => rest.to_owned(),
        _ => lower,
    }
}

/// A well-formed signed object. Nothing in it is verified.
#[derive(Clone)]
pub struct Compact<'t> {
    /// The header.
    pub header: Header,
    /// What the signature covers: the first two parts with their dot.
    pub signing_input: &'t str,
    /// The payload.
    pub payload: Vec<u8>,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Compact<'_> {
    /// The payload as a claims set (RFC 7519 section 4). Unverified.
    pub fn claims(&self) -> Result<JsonObject, JoseError> {
        json::object(&self.payload, Limits::CLAIMS).map_err(JoseError::Claims)
    }
}

/// Shows the header only: the rest is a credential.
impl fmt::Debug for Compact<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compact").field("header", &self.header).finish_non_exhaustive()
    }
}

/// Read a signed object of at most [`MAX_TOKEN_LEN`] bytes.
pub fn parse_compact(token: &str) -> Result<Compact<'_>, JoseError> {
    parse_compact_within(token, MAX_TOKEN_LEN)
}

/// Read a signed object of at most `max_len` bytes.
pub fn parse_compact_within(token: &str, max_len: usize) -> Result<Compact<'_>, JoseError> {
    if token.len() > max_len {
        return Err(JoseError::TooLong);
    }
    let (signing_input, signature) = token.rsplit_once('.').ok_or(JoseError::NotCompact)?;
    let (header, payload) = signing_input.split_once('.').ok_or(JoseError::NotCompact)?;
    let in_alphabet = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if header.is_empty() || [header, payload, signature].iter().any(|part| !part.bytes().all(in_alphabet)) {
        return Err(JoseError::NotCompact);
    }
    let header = Header::parse(&base64url::decode(header).ok_or(JoseError::Base64)?)?;
    let payload = base64url::decode(payload).ok_or(JoseError::Base64)?;
    let signature = base64url::decode(signature).ok_or(JoseError::Base64)?;
    if signature.is_empty() {
        return Err(JoseError::Unsigned);
    }
    Ok(Compact { header, signing_input, payload, signature })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn token(header: &str) -> String {
        format!("{}.{}.{}", base64url::encode(header), base64url::encode("{}"), base64url::encode("sig"))
    }

    #[test]
    fn a_plain_header_is_read() {
        let text = token(r#"{"alg":"ES256","kid":"k1","typ":"application/AT+JWT","x5t":"ignored"}"#);
        let compact = parse_compact(&text).unwrap();
        assert_eq!(compact.header.alg, Alg::Es256);
        assert_eq!(compact.header.kid.as_deref(), Some("k1"));
        assert_eq!(compact.header.typ.as_deref(), Some("at+jwt"));
        assert_eq!(compact.payload, b"{}");
    }

    #[test]
    fn headers_that_mean_more_than_a_signature_are_refused() {
        for (header, error) in [
            (r#"{"alg":"ES256","crit":["exp"],"exp":1}"#, JoseError::Crit),
            (r#"{"alg":"ES256","crit":[]}"#, JoseError::Crit),
            (r#"{"alg":"ES256","crit":null}"#, JoseError::Crit),
            (r#"{"alg":"ES256","b64":true}"#, JoseError::Unencoded),
            (r#"{"alg":"ES256","b64":false,"crit":["b64"]}"#, JoseError::Unencoded),
            (r#"{"alg":"dir","enc":"A128GCM"}"#, JoseError::Encrypted),
            (r#"{"alg":"ES256","zip":"DEF"}"#, JoseError::Encrypted),
            (r#"{"alg":"ES256","cty":"JWT"}"#, JoseError::Nested),
            (r#"{"alg":"ES256","cty":"application/jwt"}"#, JoseError::Nested),
            (r#"{"alg":"none"}"#, JoseError::UnsupportedAlg),
            (r#"{"alg":["ES256"]}"#, JoseError::MissingAlg),
            (r#"{"typ":"JWT"}"#, JoseError::MissingAlg),
            (r#"{"alg":"ES256","kid":7}"#, JoseError::BadHeader),
            (r#"{"alg":"ES256","kid":""}"#, JoseError::BadHeader),
            (r#"{"alg":"ES256","kid":null}"#, JoseError::BadHeader),
            (r#"{"alg":"ES256","typ":[]}"#, JoseError::BadHeader),
            (r#"{"alg":"ES256","alg":"ES256"}"#, JoseError::Header(JsonError::DuplicateMember)),
            (r#"["ES256"]"#, JoseError::Header(JsonError::NotAnObject)),
        ] {
            assert_eq!(parse_compact(&token(header)).err(), Some(error), "{header}");
        }
    }

    #[test]
    fn anything_but_three_parts_is_refused() {
        let good = token(r#"{"alg":"ES256"}"#);
        assert!(parse_compact(&good).is_ok());
        let cut = good.rsplit_once('.').unwrap().0;
        for wrong in [
            String::new(),
            ".".into(),
            "..".into(),
            cut.into(),
            format!("{good}.x"),
            format!("{good}.x.y"),
            format!(" {good}"),
            format!("{good}\n"),
            format!("{good}="),
            format!("{{\"payload\":\"{good}\"}}"),
        ] {
            assert_eq!(parse_compact(&wrong).err(), Some(JoseError::NotCompact), "{wrong:?}");
        }
        assert_eq!(parse_compact(&format!("{cut}.")).err(), Some(JoseError::Unsigned));
        assert_eq!(parse_compact(&"a".repeat(MAX_TOKEN_LEN + 1)).err(), Some(JoseError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse_compact(&text);
        }

        #[test]
        fn what_is_read_has_one_spelling(header in r#"\{"alg":"(ES256|none)"(,"[a-z]{1,3}":[0-9]{1,3})?\}"#,
                                         payload in proptest::collection::vec(any::<u8>(), 0..40),
                                         signature in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = [base64url::encode(&header), base64url::encode(&payload), base64url::encode(&signature)].join(".");
            if let Ok(compact) = parse_compact(&text) {
                let again = format!("{}.{}", compact.signing_input, base64url::encode(&compact.signature));
                prop_assert_eq!(&again, &text);
                prop_assert_eq!(compact.payload, payload);
            }
        }
    }
}
