//! The caller's credential: exactly one, in one place (RFC 6750 section 3.1, OAuth 2.1 section 5.1).

use std::collections::{HashMap, HashSet};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::path;

/// The header fields that may hold a key: `Authorization`, and those in which official SDKs send theirs.
static FIELDS: [(HeaderName, &str); 5] = [
    (header::AUTHORIZATION, "authorization"),
    (HeaderName::from_static("x-api-key"), "x-api-key"),
    (HeaderName::from_static("x-goog-api-key"), "x-goog-api-key"),
    (HeaderName::from_static("api-key"), "api-key"),
    (HeaderName::from_static("x-portkey-api-key"), "x-portkey-api-key"),
];
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// Fields of these that only some clients may use: those of SDKs made for somebody else.
const BY_CLIENT: [&str; 2] = ["api-key", "x-portkey-api-key"];
/// What Portkey's SDKs put into `Authorization` when they are given nothing for it.
const PLACEHOLDERS: [&str; 2] = ["OPENAI_API_KEY", "DUMMY-KEY"];

/// Which clients may use which of the fields that not everybody may.
#[derive(Debug, Clone, Default)]
pub(crate) struct CredentialFields(HashMap<&'static str, HashSet<String>>);

impl CredentialFields {
    /// What these clients are configured for.
    pub(crate) fn of(clients: &[config::Client]) -> Self {
        let mut fields: HashMap<&'static str, HashSet<String>> = HashMap::new();
        for client in clients {
            for header in &client.credential_headers {
                fields.entry(header.as_str()).or_default().insert(client.name.as_str().to_owned());
            }
        }
        Self(fields)
    }

    fn anybody_uses(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Whether a credential of ours that was given to `client` may come in `field`.
    pub(crate) fn may_use(&self, field: &str, client: Option<&str>) -> bool {
        !BY_CLIENT.contains(&field)
            || client.is_some_and(|client| self.0.get(field).is_some_and(|clients| clients.contains(client)))
    }
}

/// What a request presents to say who is calling. Its text never leaves this gateway.
#[derive(Clone, Copy)]
pub(crate) enum Credential<'a> {
    /// Nothing.
    Absent,
    /// A token or Vouchgate key.
    Presented(Presented<'a>),
    /// A token under a scheme this gateway does not accept (`Basic`, ...).
    OtherScheme,
}

/// A token or Vouchgate key, how and where it was sent.
#[derive(Clone, Copy)]
pub(crate) struct Presented<'a> {
    pub(crate) scheme: Scheme,
    pub(crate) text: &'a str,
    /// The field it came in, in lower case: a request signature has to cover it.
    pub(crate) field: &'static str,
}

impl<'a> Presented<'a> {
    /// A credential that was sealed into the address of the request.
    pub(crate) const fn in_address(text: &'a str) -> Self {
        Self { scheme: Scheme::Bearer, text, field: "x-goog-api-key" }
    }
}

/// How a token is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `Authorization: Bearer` (RFC 6750), or a field that official SDKs use.
    Bearer,
    /// `Authorization: DPoP` (RFC 9449 section 7.1).
    Dpop,
}

/// Why a request presents no usable credential: always 400 `invalid_request`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CredentialError {
    /// More than one credential, or one in two places.
    #[error("Send exactly one credential, in exactly one header.")]
    Several,
    /// Not of the form `Bearer <token>`.
    #[error("The credential is malformed: send `Authorization: Bearer <token>`.")]
    Malformed,
    /// Sent in a header that is not accepted here, or not of this client.
    #[error("Send the credential as `Authorization: Bearer <token>`, `x-api-key` or `x-goog-api-key`.")]
    WrongHeader,
    /// More than one `DPoP` field (RFC 9449 section 4.3, check 1).
    #[error("Send exactly one proof, in exactly one DPoP header.")]
    SeveralProofs,
}

/// Find the request's credential, of at most `limit` bytes. A token in the query is ignored, but beside another
/// it is one too many.
pub(crate) fn find<'a>(
    headers: &'a HeaderMap,
    query: Option<&str>,
    limit: usize,
    fields: &CredentialFields,
) -> Result<Credential<'a>, CredentialError> {
    let mut found: Option<(&'static str, &'a HeaderValue)> = None;
    for (field, name) in &FIELDS {
        for value in headers.get_all(field) {
            match found.replace((name, value)) {
                None => {}
                Some(("authorization", beside)) if fields.anybody_uses(name) && says_nothing_else(beside, value) => {}
                Some(_) => return Err(CredentialError::Several),
            }
        }
    }
    let Some((name, value)) = found else { return Ok(Credential::Absent) };
    if path::query_names(query, "access_token") {
        return Err(CredentialError::Several);
    }
    let text = value.to_str().map_err(|_| CredentialError::Malformed)?;
    match name {
        "authorization" => authorization(text, limit),
        name if !BY_CLIENT.contains(&name) || fields.anybody_uses(name) => {
            let text = token(text, limit)?;
            Ok(Credential::Presented(Presented { scheme: Scheme::Bearer, text, field: name }))
        }
        _ => Err(CredentialError::WrongHeader),
    }
}

/// Whether an `Authorization` beside the field that counts holds the same, or nothing but an SDK's placeholder.
fn says_nothing_else(authorization: &HeaderValue, value: &HeaderValue) -> bool {
    let Some((scheme, rest)) = authorization.to_str().ok().and_then(|text| text.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("bearer") && (rest.as_bytes() == value.as_bytes() || PLACEHOLDERS.contains(&rest))
}

/// The request's one DPoP proof, whatever it is.
pub(crate) fn proof(headers: &HeaderMap) -> Result<Option<&HeaderValue>, CredentialError> {
    let mut proofs = headers.get_all(DPOP).iter();
    let first = proofs.next();
    if proofs.next().is_some() { Err(CredentialError::SeveralProofs) } else { Ok(first) }
}

/// Read `Authorization`: the scheme is case-insensitive, one or more spaces follow it (RFC 9110 section 11.6.2).
fn authorization(text: &str, limit: usize) -> Result<Credential<'_>, CredentialError> {
    let (scheme, rest) = text.split_once(' ').unwrap_or((text, ""));
    let known = if scheme.eq_ignore_ascii_case("bearer") {
        Some(Scheme::Bearer)
    } else if scheme.eq_ignore_ascii_case("dpop") {
        Some(Scheme::Dpop)
    } else {
        None
    };
    if let Some(scheme) = known {
        let text = token(rest.trim_start_matches(' '), limit)?;
        return Ok(Credential::Presented(Presented { scheme, text, field: "authorization" }));
    }
    let is_scheme =
        !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if is_scheme { Ok(Credential::OtherScheme) } else { Err(CredentialError::Malformed) }
}

/// One token: `b64token` characters (RFC 6750 section 2.1) and nothing around them.
fn token(text: &str, limit: usize) -> Result<&str, CredentialError> {
    // Tokens are long, so all bytes are looked at together: no early end, no branch.
    let wrong = |b: u8| !(b.is_ascii_alphanumeric() | matches!(b, b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'='));
    if text.is_empty() || text.len() > limit || text.bytes().fold(false, |any, b| any | wrong(b)) {
        return Err(CredentialError::Malformed);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, header};
    use proptest::prelude::*;

    fn find_in(pairs: &[(&'static str, &str)], query: Option<&str>) -> Result<Option<String>, CredentialError> {
        let headers: HeaderMap =
            pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).expect("value"))).collect();
        find(&headers, query, 16 * 1024, &CredentialFields::default()).map(|credential| match credential {
            Credential::Presented(presented) => Some(presented.text.to_owned()),
            Credential::Absent | Credential::OtherScheme => None,
        })
    }

    #[test]
    fn each_place_an_sdk_uses_is_read() {
        for (name, value) in [
            ("authorization", "Bearer a.b.c"),
            ("authorization", "bEaReR a.b.c"),
            ("authorization", "Bearer  a.b.c"),
            ("x-api-key", "a.b.c"),
            ("x-goog-api-key", "a.b.c"),
        ] {
            assert_eq!(find_in(&[(name, value)], None), Ok(Some("a.b.c".to_owned())), "{name}: {value}");
        }
    }

    #[test]
    fn a_30_a_token_in_the_query_is_ignored_alone_and_refused_beside_another() {
        assert_eq!(find_in(&[], Some("access_token=a.b.c")), Ok(None));
        assert_eq!(find_in(&[("x-api-key", "t")], Some("access_token=t")), Err(CredentialError::Several));
    }

    #[test]
    fn a_31_anything_but_one_scheme_and_one_value_is_refused() {
        let bearer = ("authorization", "Bearer a");
        for pairs in [
            vec![bearer, bearer],
            vec![bearer, ("authorization", "Basic YTpi")],
            vec![("authorization", "DPoP a"), bearer],
            vec![bearer, ("x-api-key", "a")],
            vec![("x-api-key", "a"), ("x-goog-api-key", "b")],
            vec![bearer, ("x-portkey-api-key", "a")],
        ] {
            assert_eq!(find_in(&pairs, None), Err(CredentialError::Several), "{pairs:?}");
        }
        for value in [
            "Bearer",
            "Bearer ",
            "Bearer a b",
            "Bearer a, Bearer b",
            "Bearer a,b",
            "",
            " a",
            "Bearer \"a\"",
            "Bearer\ta",
            "DPoP",
            "DPoP a b",
            "DPoP a, Bearer b",
        ] {
            assert_eq!(find_in(&[("authorization", value)], None), Err(CredentialError::Malformed), "{value:?}");
        }
    }

    #[test]
    fn other_schemes_are_no_credential_here() {
        assert_eq!(find_in(&[("authorization", "Basic YTpi")], None), Ok(None));
        assert_eq!(find_in(&[("authorization", "Digest a.b.c")], None), Ok(None));
    }

    #[test]
    fn a_token_presented_with_a_proof_is_told_apart_and_only_authorization_can_say_so() {
        for (name, value, expected) in [
            ("authorization", "DPoP a.b.c", Scheme::Dpop),
            ("authorization", "dpop a.b.c", Scheme::Dpop),
            ("authorization", "Bearer a.b.c", Scheme::Bearer),
            ("x-api-key", "a.b.c", Scheme::Bearer),
        ] {
            let headers = HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]);
            let Ok(Credential::Presented(presented)) = find(&headers, None, 64, &CredentialFields::default()) else {
                panic!("{value}")
            };
            assert_eq!((presented.scheme, presented.text, presented.field), (expected, "a.b.c", name));
        }
        assert_eq!(find_in(&[("x-api-key", "DPoP a.b.c")], None), Err(CredentialError::Malformed));
    }

    fn configured(field: &'static str) -> CredentialFields {
        CredentialFields(HashMap::from([(field, HashSet::from(["app".to_owned()]))]))
    }

    fn presented(
        fields: &CredentialFields,
        pairs: &[(&'static str, &str)],
    ) -> Result<(String, &'static str), CredentialError> {
        let headers: HeaderMap =
            pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_str(v).expect("value"))).collect();
        match find(&headers, None, 64, fields)? {
            Credential::Presented(presented) => Ok((presented.text.to_owned(), presented.field)),
            Credential::Absent | Credential::OtherScheme => Ok((String::new(), "")),
        }
    }

    #[test]
    fn a_31_a_copy_or_a_placeholder_is_no_second_credential_where_a_client_is_configured_so() {
        let fields = configured("x-portkey-api-key");
        let key = ("x-portkey-api-key", "a.b.c");
        for beside in ["Bearer a.b.c", "bearer a.b.c", "Bearer OPENAI_API_KEY", "Bearer DUMMY-KEY"] {
            let found = presented(&fields, &[("authorization", beside), key]);
            assert_eq!(found, Ok(("a.b.c".to_owned(), "x-portkey-api-key")), "{beside}");
        }
        assert_eq!(presented(&fields, &[key]), Ok(("a.b.c".to_owned(), "x-portkey-api-key")));
        assert_eq!(presented(&CredentialFields::default(), &[key]), Err(CredentialError::WrongHeader));
        assert_eq!(presented(&fields, &[("api-key", "a.b.c")]), Err(CredentialError::WrongHeader));
    }

    #[test]
    fn a_31_two_different_credentials_are_refused_whatever_is_configured() {
        let fields = configured("x-portkey-api-key");
        let key = ("x-portkey-api-key", "a.b.c");
        for beside in [
            "Bearer a.b.d",
            "Bearer sk-other",
            "Bearer vg_other",
            "Basic YTpi",
            "DPoP a.b.c",
            "Bearer  a.b.c",
            "a.b.c",
            "Bearer",
            "Bearer OPENAI_API_KEY ",
            "DUMMY-KEY",
            "Bearer a.b.c, Bearer a.b.d",
            "Bearer dummy-key",
        ] {
            assert_eq!(
                presented(&fields, &[("authorization", beside), key]),
                Err(CredentialError::Several),
                "{beside:?}"
            );
        }
        let copy = ("authorization", "Bearer a.b.c");
        for pairs in [
            vec![key, key],
            vec![copy, copy, key],
            vec![copy, key, key],
            vec![copy, ("x-api-key", "a.b.c")],
            vec![copy, ("x-api-key", "a.b.c"), key],
            vec![("x-api-key", "a.b.c"), key],
            vec![copy, ("api-key", "a.b.c")],
            vec![("api-key", "a.b.c"), key],
        ] {
            assert_eq!(presented(&fields, &pairs), Err(CredentialError::Several), "{pairs:?}");
        }
    }

    #[test]
    fn only_the_client_that_is_configured_may_use_the_field() {
        let fields = configured("x-portkey-api-key");
        assert!(fields.may_use("x-portkey-api-key", Some("app")) && fields.may_use("authorization", None));
        assert!(!fields.may_use("x-portkey-api-key", Some("other")) && !fields.may_use("x-portkey-api-key", None));
        assert!(
            !fields.may_use("api-key", Some("app")) && !CredentialFields::default().may_use("api-key", Some("app"))
        );
    }

    #[test]
    fn a_33_two_proofs_are_refused() {
        let two: HeaderMap = ["a.b.c", "a.b.c"]
            .map(|p| (HeaderName::from_static("dpop"), HeaderValue::from_static(p)))
            .into_iter()
            .collect();
        assert_eq!(proof(&two), Err(CredentialError::SeveralProofs));
        assert_eq!(proof(&HeaderMap::new()), Ok(None));
    }

    #[test]
    fn a_25_an_oversized_credential_is_refused() {
        assert_eq!(find_in(&[("x-api-key", &"a".repeat(16 * 1024 + 1))], None), Err(CredentialError::Malformed));
    }

    proptest! {
        #[test]
        fn any_authorization_is_judged_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(value) = HeaderValue::from_bytes(&bytes) {
                let mut headers = HeaderMap::new();
                headers.insert(header::AUTHORIZATION, value);
                if let Ok(Credential::Presented(presented)) = find(&headers, None, 64, &CredentialFields::default()) {
                    prop_assert!(!presented.text.contains(' ') && !presented.text.is_empty());
                }
            }
        }
    }
}
