//! `application/x-www-form-urlencoded` as the OAuth endpoints take it: small, UTF-8, every parameter once
//! (RFC 6749 section 3.2 and appendix B).

use base::Secret;

/// A request has at most this many parameters: OAuth needs a dozen.
const MAX_PARAMETERS: usize = 32;

/// The parameters of one request. Values may be credentials, so they are wiped when the form goes.
#[derive(Debug, Default)]
pub(crate) struct Form(Vec<(String, Secret<String>)>);

/// Why a body is not a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// A `%` without two hexadecimal digits, or text that is not UTF-8.
    #[error("the body is not application/x-www-form-urlencoded")]
    Encoding,
    /// A parameter appears twice: RFC 6749 section 3.2 forbids it.
    #[error("a parameter appears twice")]
    Duplicate,
    /// More parameters than any grant has.
    #[error("too many parameters")]
    TooMany,
}

impl Form {
    /// Read a body. Parameters without a value count as absent (RFC 6749 section 3.2).
    pub(crate) fn parse(body: &[u8]) -> Result<Self, FormError> {
        let mut form = Self::default();
        for (seen, pair) in body.split(|b| *b == b'&').filter(|pair| !pair.is_empty()).enumerate() {
            if seen >= MAX_PARAMETERS {
                return Err(FormError::TooMany);
            }
            let at = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at_checked(at).ok_or(FormError::Encoding)?;
            let name = decode(name)?;
            let value = Secret::new(decode(value.strip_prefix(b"=").unwrap_or(value))?);
            if form.0.iter().any(|(other, _)| *other == name) {
                return Err(FormError::Duplicate);
            }
            form.0.push((name, value));
        }
        Ok(form)
    }

    /// The names of all parameters.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// The value of a parameter, if it was sent and is not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.expose().as_str()).filter(|v| !v.is_empty())
    }
}

/// Decode one name or value: `+` is a space, `%XX` a byte, the whole is UTF-8.
pub(crate) fn decode(text: &[u8]) -> Result<String, FormError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (Some(high), Some(low)) = (rest.next().copied().and_then(hex), rest.next().copied().and_then(hex))
                else {
                    return Err(FormError::Encoding);
                };
                high << 4 | low
            }
            other => *other,
        });
    }
    String::from_utf8(bytes).map_err(|_| FormError::Encoding)
}

#[allow(clippy::cast_possible_truncation)] // a hexadecimal digit is under 16
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|d| d as u8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_form_gives_each_parameter_once_and_decoded() {
        let form = Form::parse(b"grant_type=client_credentials&scope=a+b%20c&empty=&client_id=x%3Ay").unwrap();
        assert_eq!(form.get("grant_type"), Some("client_credentials"));
        assert_eq!(form.get("scope"), Some("a b c"));
        assert_eq!(form.get("client_id"), Some("x:y"));
        assert_eq!(form.get("empty"), None);
        assert_eq!(form.get("absent"), None);
    }

    #[test]
    fn a_parameter_sent_twice_is_refused_also_when_spelled_differently() {
        assert_eq!(Form::parse(b"scope=a&scope=b").unwrap_err(), FormError::Duplicate);
        assert_eq!(Form::parse(b"scope=a&sc%6fpe=b").unwrap_err(), FormError::Duplicate);
        assert_eq!(Form::parse(b"scope=&scope=b").unwrap_err(), FormError::Duplicate);
    }

    #[test]
    fn broken_encodings_and_floods_are_refused() {
        for bad in [&b"a=%"[..], b"a=%4", b"a=%zz", b"a=%ff", b"a=\xff", b"%f=1"] {
            assert_eq!(Form::parse(bad).unwrap_err(), FormError::Encoding, "{bad:?}");
        }
        let many: String = (0..33).map(|i| format!("p{i}=1")).collect::<Vec<_>>().join("&");
        assert_eq!(Form::parse(many.as_bytes()).unwrap_err(), FormError::TooMany);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_form_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Form::parse(&body);
        }

        #[test]
        fn what_is_percent_encoded_comes_back(value in "\\PC{1,40}") {
            let body: String = value.bytes().flat_map(|b| format!("%{b:02X}").into_bytes()).map(char::from).collect();
            let form = Form::parse(format!("v={body}").as_bytes()).unwrap();
            prop_assert_eq!(form.get("v"), Some(value.as_str()));
        }
    }
}
