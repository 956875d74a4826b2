//! How a client says who it is: `client_secret_basic` or `client_secret_post` (RFC 6749 section 2.3.1).

use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, header};

use super::super::OauthError;
use crate::form::{self, Form};

/// What a client presented. Nothing of it has been checked against anything.
#[derive(Debug)]
pub(in crate::oauth) struct Presented {
    /// The `client_id`.
    pub(in crate::oauth) id: String,
    /// The secret.
    pub(in crate::oauth) secret: Secret<String>,
    /// Whether it came in the `Authorization` header.
    pub(in crate::oauth) basic: bool,
}

/// The longest `client_id`: that of a resource name.
const MAX_ID: usize = 128;

/// Take the client's id and secret from the header or the form. Using both ways at once is refused (RFC 6749
/// section 2.3), so that two parts of a request cannot speak for two clients.
pub(in crate::oauth) fn presented(headers: &HeaderMap, form: &Form) -> Result<Presented, OauthError> {
    if form.get("client_assertion").is_some() || form.get("client_assertion_type").is_some() {
        return Err(OauthError::InvalidRequest("client assertions are not supported; send the client's secret"));
    }
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (id, secret, basic) = match (values.next(), values.next()) {
        (None, _) => {
            let id = form.get("client_id").ok_or(OauthError::InvalidClient { challenge: false })?;
            let secret = form.get("client_secret").ok_or(OauthError::InvalidClient { challenge: false })?;
            (id.to_owned(), Secret::new(secret.to_owned()), false)
        }
        (Some(_), Some(_)) => return Err(OauthError::InvalidRequest("more than one Authorization header")),
        (Some(value), None) => {
            if form.get("client_secret").is_some() {
                return Err(OauthError::InvalidRequest("the client's secret is in the header and in the body"));
            }
            let (id, secret) = basic_credentials(value.as_bytes())?;
            if form.get("client_id").is_some_and(|other| other != id) {
                return Err(OauthError::InvalidRequest("two different client ids"));
            }
            (id, secret, true)
        }
    };
    if id.len() > MAX_ID || secret.expose().len() > crate::credential::MAX_SECRET {
        return Err(OauthError::InvalidClient { challenge: basic });
    }
    Ok(Presented { id, secret, basic })
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
        presented(&headers, &form).map(|p| (p.id, p.secret.expose().clone(), p.basic))
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
        assert_eq!(take(&[], "client_id=a"), Err(OauthError::InvalidClient { challenge: false }));
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
