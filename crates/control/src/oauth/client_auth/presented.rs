//! How a client says who it is: `client_secret_basic` and `client_secret_post` (RFC 6749 section 2.3.1), an assertion
//! (RFC 7523 section 2.2), or its name alone, which a certificate may stand behind (RFC 8705 section 2).

use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};
use proof::assertion::Assertion;

use super::super::OauthError;
use crate::form::{self, Form};

/// What a client presented. Nothing of it has been checked against anything.
#[derive(Debug)]
pub(in crate::oauth) struct Presented {
    /// The `client_id`.
    pub(in crate::oauth) id: String,
    /// What is to prove it.
    pub(super) credential: Credential,
    /// Whether it came in the `Authorization` header.
    pub(super) basic: bool,
}

/// What is to prove who a client is.
#[derive(Debug)]
pub(super) enum Credential {
    /// Its secret.
    Secret(Secret<String>),
    /// A JWT it signed.
    Assertion(Secret<String>),
    /// Nothing in the request: a public client, or one known by its certificate.
    Nothing,
}

/// The longest `client_id`: that of a resource name.
const MAX_ID: usize = 128;

/// The only type of assertion there is (RFC 7523 section 2.2).
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Take the client's id and credential from the header or the form. Using two ways at once is refused (RFC 6749
/// section 2.3), so that two parts of a request cannot speak for two clients.
pub(in crate::oauth) fn presented(headers: &HeaderMap, form: &Form) -> Result<Presented, OauthError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (header, None) = (values.next(), values.next()) else {
        return Err(OauthError::InvalidRequest("more than one Authorization header"));
    };
    let ways = [header.is_some(), form.get("client_secret").is_some(), form.get("client_assertion").is_some()];
    if ways.into_iter().filter(|used| *used).count() > 1 {
        return Err(OauthError::InvalidRequest("the client proves who it is in two ways at once"));
    }
    if form.get("client_assertion").is_some() != form.get("client_assertion_type").is_some() {
        return Err(OauthError::InvalidRequest("client_assertion and client_assertion_type go together"));
    }
    let named = form.get("client_id");
    let (id, credential, basic) = if let Some(value) = header {
        let (id, secret) = basic_credentials(value.as_bytes())?;
        (id, Credential::Secret(secret), true)
    } else if let Some(assertion) = form.get("client_assertion") {
        if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
            return Err(OauthError::InvalidRequest("client_assertion_type is not that of a JWT"));
        }
        let parsed = Assertion::parse(assertion).map_err(|error| {
            tracing::info!(reason = error.reason(), "client assertion refused");
            OauthError::InvalidClient { challenge: false }
        })?;
        (parsed.client_id().to_owned(), Credential::Assertion(Secret::new(assertion.to_owned())), false)
    } else {
        let id = named.ok_or(OauthError::InvalidClient { challenge: false })?.to_owned();
        let secret = form.get("client_secret").map(|secret| Credential::Secret(Secret::new(secret.to_owned())));
        (id, secret.unwrap_or(Credential::Nothing), false)
    };
    if named.is_some_and(|other| other != id) {
        return Err(OauthError::InvalidRequest("two different client ids"));
    }
    let too_long = match &credential {
        Credential::Secret(secret) => secret.expose().len() > crate::credential::MAX_SECRET,
        // The parser has its own limit.
        Credential::Assertion(_) | Credential::Nothing => false,
    };
    if id.len() > MAX_ID || too_long {
        return Err(OauthError::InvalidClient { challenge: basic });
    }
    Ok(Presented { id, credential, basic })
}

/// `Basic base64(id:secret)`, both form-encoded first (RFC 6749 section 2.3.1 and appendix B).
fn basic_credentials(value: &[u8]) -> Result<(String, Secret<String>), OauthError> {
    const WRONG: OauthError = OauthError::InvalidClient { challenge: true };
    let (scheme, encoded) = value.split_at_checked(6).ok_or(WRONG)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return Err(WRONG);
    }
    let pair = Secret::new(STANDARD.decode(encoded.trim_ascii()).map_err(|_| WRONG)?);
    let pair = pair.expose();
    let at = pair.iter().position(|b| *b == b':').ok_or(WRONG)?;
    let (id, secret) = pair.split_at_checked(at).ok_or(WRONG)?;
    let secret = secret.strip_prefix(b":").unwrap_or(secret);
    let id = form::decode(id).map_err(|_| WRONG)?;
    let secret = form::decode(secret).map(Secret::new).map_err(|_| WRONG)?;
    if id.is_empty() || secret.expose().is_empty() { Err(WRONG) } else { Ok((id, secret)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn take(authorization: &[&str], body: &str) -> Result<(String, String, bool), OauthError> {
        let mut headers = HeaderMap::new();
        for value in authorization {
            headers.append(header::AUTHORIZATION, value.parse().unwrap());
        }
        let form = Form::parse(body.as_bytes()).unwrap();
        presented(&headers, &form).map(|p| {
            let secret = match p.credential {
                Credential::Secret(secret) => secret.expose().clone(),
                Credential::Assertion(_) => "an assertion".to_owned(),
                Credential::Nothing => "nothing".to_owned(),
            };
            (p.id, secret, p.basic)
        })
    }

    fn basic(pair: &str) -> String {
        format!("Basic {}", STANDARD.encode(pair))
    }

    #[test]
    fn both_ways_of_sending_a_secret_work_and_basic_is_form_decoded() {
        assert_eq!(take(&[], "client_id=a&client_secret=b"), Ok(("a".into(), "b".into(), false)));
        assert_eq!(take(&[&basic("a:b")], ""), Ok(("a".into(), "b".into(), true)));
        assert_eq!(take(&[&basic("a%3Ab:c%2Bd+e")], ""), Ok(("a:b".into(), "c+d e".into(), true)));
        assert_eq!(take(&[&basic("a:b:c")], "client_id=a"), Ok(("a".into(), "b:c".into(), true)));
    }

    #[test]
    fn two_ways_at_once_are_an_invalid_request() {
        for (headers, body) in [
            (vec![basic("a:b")], "client_secret=b"),
            (vec![basic("a:b")], "client_id=x"),
            (vec![basic("a:b"), basic("a:b")], ""),
            (vec![], "client_id=a&client_secret=b&client_assertion=x"),
        ] {
            let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
            assert!(matches!(take(&headers, body), Err(OauthError::InvalidRequest(_))), "{headers:?} {body}");
        }
    }

    #[test]
    fn no_or_broken_credentials_are_an_invalid_client_with_a_challenge_only_for_the_header() {
        assert_eq!(take(&[], ""), Err(OauthError::InvalidClient { challenge: false }));
        assert_eq!(take(&[], "client_id=a"), Ok(("a".into(), "nothing".into(), false)));
        let long = basic(&format!("a:{}", "x".repeat(300)));
        for header in
            ["Basic", "Basic !!!", "Bearer abc", "basic", &basic("nocolon"), &basic(":b"), &basic("a:"), &long]
        {
            assert_eq!(take(&[header], ""), Err(OauthError::InvalidClient { challenge: true }), "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_header_gives_credentials_or_an_error(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = basic_credentials(&value);
            let mut header = b"Basic ".to_vec();
            header.extend(STANDARD.encode(&value).into_bytes());
            let _ = basic_credentials(&header);
        }
    }
}
