//! What a proof is for: a target URI in one normal form (RFC 3986 sections 6.2.2 and 6.2.3).

use std::fmt::{self, Write as _};
use std::net::Ipv6Addr;

/// The longest URI that is read, in bytes.
pub const MAX_TARGET_LEN: usize = 8 << 10;

/// A URI of HTTP in normal form, without query and fragment (RFC 9449 section 4.3): scheme and host in lower case,
/// no default port, percent-encodings in upper case and only where needed, no dot segments, never an empty path.
/// Comparison and replay key use this one form, so that no spelling passes the one and dodges the other.
///
/// Nothing else is equated: `//` in a path, a trailing slash or a trailing dot of the host make another resource.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetUri(String);

/// Why a text is not the URI of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Longer than [`MAX_TARGET_LEN`].
    #[error("the URI is too long")]
    TooLong,
    /// Not an absolute URI: a character that has no place in one, or no authority.
    #[error("not an absolute URI")]
    Form,
    /// Neither `http` nor `https`.
    #[error("the scheme is neither http nor https")]
    Scheme,
    /// A user name or password (RFC 9110 section 4.2.4).
    #[error("the URI names a user")]
    UserInfo,
    /// No host, or not a DNS name, IPv4 address or bracketed IPv6 address.
    #[error("the host is malformed")]
    Host,
    /// Not a port number.
    #[error("the port is malformed")]
    Port,
    /// A character that must be encoded, or a broken percent-encoding.
    #[error("the path is malformed")]
    Path,
}

impl TargetError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "uri_too_long",
            Self::Form => "uri_form",
            Self::Scheme => "uri_scheme",
            Self::UserInfo => "uri_userinfo",
            Self::Host => "uri_host",
            Self::Port => "uri_port",
            Self::Path => "uri_path",
        }
    }
}

impl TargetUri {
    /// Read a URI and bring it into normal form.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        if text.len() > MAX_TARGET_LEN {
            return Err(TargetError::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(TargetError::Form);
        }
        // Query and fragment are ignored (RFC 9449 section 4.3, check 9), also where they follow the authority.
        let text = text.split(['?', '#']).next().unwrap_or(text);
        let (scheme, rest) = text.split_once(':').ok_or(TargetError::Form)?;
        let (scheme, default_port) = if scheme.eq_ignore_ascii_case("https") {
            ("https", 443)
        } else if scheme.eq_ignore_ascii_case("http") {
            ("http", 80)
        } else {
            return Err(TargetError::Scheme);
        };
        let rest = rest.strip_prefix("//").ok_or(TargetError::Form)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(TargetError::UserInfo);
        }
        let mut normal = format!("{scheme}://");
        let port = push_host(authority, &mut normal)?;
        if let Some(port) = port.filter(|port| *port != default_port) {
            write!(normal, ":{port}").map_err(|_| TargetError::Port)?;
        }
        push_path(path, &mut normal)?;
        Ok(Self(normal))
    }

    /// The normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Write the host in normal form and return the port, if one is named.
fn push_host(authority: &str, into: &mut String) -> Result<Option<u16>, TargetError> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']').ok_or(TargetError::Host)?;
        // A zone means nothing to anybody else, so it is not read (RFC 6874 section 4).
        let address: Ipv6Addr = address.parse().map_err(|_| TargetError::Host)?;
        write!(into, "[{address}]").map_err(|_| TargetError::Host)?;
        return match after.strip_prefix(':') {
            Some(digits) => port(digits),
            None if after.is_empty() => Ok(None),
            None => Err(TargetError::Host),
        };
    }
    let (host, digits) = authority.split_once(':').unwrap_or((authority, ""));
    let host = decode_unreserved(host).ok_or(TargetError::Host)?.to_ascii_lowercase();
    // Names that DNS can hold; sub-delims and encoded bytes would only hide one.
    if host.is_empty() || !host.bytes().all(is_unreserved) {
        return Err(TargetError::Host);
    }
    into.push_str(&host);
    port(digits)
}

/// A port; an empty one is the default (RFC 3986 section 6.2.3).
fn port(digits: &str) -> Result<Option<u16>, TargetError> {
    if digits.is_empty() {
        return Ok(None);
    }
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(TargetError::Port);
    }
    digits.parse().map(Some).map_err(|_| TargetError::Port)
}

/// Write the path with its encodings normalised first, so that `%2e%2e` is the dot segment it stands for.
fn push_path(path: &str, into: &mut String) -> Result<(), TargetError> {
    let path = decode_unreserved(path).ok_or(TargetError::Path)?;
    let in_path = |b: u8| is_unreserved(b) || b"!$&'()*+,;=:@/%".contains(&b);
    if !path.bytes().all(in_path) {
        return Err(TargetError::Path);
    }
    let Some(rest) = path.strip_prefix('/') else {
        into.push('/');
        return Ok(());
    };
    // RFC 3986 section 5.2.4, on segments; a dot segment at the end leaves its slash.
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_in_slash = false;
    for segment in rest.split('/') {
        ends_in_slash = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            segment => kept.push(segment),
        }
    }
    if ends_in_slash {
        kept.push("");
    }
    for segment in kept {
        into.push('/');
        into.push_str(segment);
    }
    Ok(())
}

/// Decode the percent-encodings of unreserved characters and write the others in upper case (RFC 3986 sections
/// 6.2.2.1 and 6.2.2.2). `None` if one is broken.
fn decode_unreserved(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let (high, low) = (chars.next()?, chars.next()?);
        let byte = u8::try_from(high.to_digit(16)? << 4 | low.to_digit(16)?).ok()?;
        if is_unreserved(byte) {
            out.push(char::from(byte));
        } else {
            out.extend(['%', high.to_ascii_uppercase(), low.to_ascii_uppercase()]);
        }
    }
    Some(out)
}

/// RFC 3986 section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn normal(text: &str) -> String {
        TargetUri::parse(text).unwrap_or_else(|e| panic!("{text}: {e}")).0
    }

    #[test]
    fn equivalent_spellings_have_one_normal_form() {
        for (text, form) in [
            ("https://ai.example.com/v1/chat", "https://ai.example.com/v1/chat"),
            ("HTTPS://AI.Example.COM/v1/chat", "https://ai.example.com/v1/chat"),
            ("https://ai.example.com:443/v1", "https://ai.example.com/v1"),
            ("https://ai.example.com:0443/v1", "https://ai.example.com/v1"),
            ("https://ai.example.com:/v1", "https://ai.example.com/v1"),
            ("http://ai.example.com:80/v1", "http://ai.example.com/v1"),
            ("http://ai.example.com:443/", "http://ai.example.com:443/"),
            ("https://ai.example.com:8443/", "https://ai.example.com:8443/"),
            ("https://ai.example.com", "https://ai.example.com/"),
            ("https://ai.example.com?x=/y", "https://ai.example.com/"),
            ("https://ai.example.com#@evil.example", "https://ai.example.com/"),
            ("https://ai.example.com/a?b#c", "https://ai.example.com/a"),
            ("https://ai.ex%61mple.com/%7Euser/%61", "https://ai.example.com/~user/a"),
            ("https://h/a%2fb%c3%a9", "https://h/a%2Fb%C3%A9"),
            ("https://h/a/./b/../c", "https://h/a/c"),
            ("https://h/a/%2e%2E/c", "https://h/c"),
            ("https://h/../../c", "https://h/c"),
            ("https://h/a/..", "https://h/"),
            ("https://h/a/.", "https://h/a/"),
            ("https://h/a//../b", "https://h/a/b"),
            ("https://h/a//b/", "https://h/a//b/"),
            ("https://h/a/...", "https://h/a/..."),
            ("https://[2001:DB8:0:0::1]:443/", "https://[2001:db8::1]/"),
            ("http://[::1]:8080/x", "http://[::1]:8080/x"),
            ("https://127.0.0.1/", "https://127.0.0.1/"),
        ] {
            assert_eq!(normal(text), form, "{text}");
            assert_eq!(normal(form), form, "{form}");
        }
    }

    #[test]
    fn what_is_not_the_same_resource_keeps_its_own_form() {
        let all = [
            "https://ai.example.com/v1",
            "http://ai.example.com/v1",
            "https://ai.example.com./v1",
            "https://ai.example.com:8443/v1",
            "https://ai.example.com/v1/",
            "https://ai.example.com//v1",
            "https://ai.example.com/V1",
            "https://ai.example.com/v1%2F",
            "https://ai.example.com/v1;x",
            "https://ai.example.com.evil.example/v1",
            "https://[::1]/v1",
            "https://127.0.0.1/v1",
            "https://127.1/v1",
        ];
        for (at, one) in all.iter().enumerate() {
            for other in all.iter().skip(at + 1) {
                assert_ne!(normal(one), normal(other));
            }
        }
    }

    #[test]
    fn what_is_no_target_is_refused() {
        for (text, error) in [
            ("", TargetError::Form),
            ("/v1/chat", TargetError::Form),
            ("ai.example.com/v1", TargetError::Form),
            ("https:/ai.example.com", TargetError::Form),
            ("https:\\\\ai.example.com", TargetError::Form),
            (" https://ai.example.com/", TargetError::Form),
            ("https://ai.example.com/ b", TargetError::Form),
            ("https://ai.example.com/\u{e9}", TargetError::Form),
            ("https://ai.example.com/\r\n", TargetError::Form),
            ("ftp://ai.example.com/", TargetError::Scheme),
            ("https+x://ai.example.com/", TargetError::Scheme),
            ("https://user@ai.example.com/", TargetError::UserInfo),
            ("https://ai.example.com:443@evil.example/", TargetError::UserInfo),
            ("https://@ai.example.com/", TargetError::UserInfo),
            ("https:///v1", TargetError::Host),
            ("https://:443/v1", TargetError::Host),
            ("https://[::1/v1", TargetError::Host),
            ("https://[::1]x/v1", TargetError::Host),
            ("https://[::1%25eth0]/v1", TargetError::Host),
            ("https://[v1.x]/v1", TargetError::Host),
            ("https://ai%2eexample%00/v1", TargetError::Host),
            ("https://ai%2Fexample/v1", TargetError::Host),
            ("https://ai\\example/v1", TargetError::Host),
            ("https://ai.example.com:x/", TargetError::Port),
            ("https://ai.example.com:+443/", TargetError::Port),
            ("https://ai.example.com:65536/", TargetError::Port),
            ("https://ai.example.com:443:443/", TargetError::Port),
            ("https://ai.example.com/%", TargetError::Path),
            ("https://ai.example.com/%2", TargetError::Path),
            ("https://ai.example.com/%zz", TargetError::Path),
            ("https://ai.example.com/a\\b", TargetError::Path),
            ("https://ai.example.com/{a}", TargetError::Path),
        ] {
            assert_eq!(TargetUri::parse(text), Err(error), "{text:?}");
        }
        let long = format!("https://h/{}", "a".repeat(MAX_TARGET_LEN));
        assert_eq!(TargetUri::parse(&long), Err(TargetError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = TargetUri::parse(&text);
        }

        #[test]
        fn normalising_twice_changes_nothing(
            text in r"(?i)https?://([a-z.%0-9]{1,8}|\[[0-9a-f:.]{2,12}\])(:[0-9]{0,4})?(/[a-f.%0-9A-F/;:@]{0,24})?([?#].{0,4})?"
        ) {
            if let Ok(once) = TargetUri::parse(&text) {
                prop_assert_eq!(TargetUri::parse(once.as_str()), Ok(once));
            }
        }

        #[test]
        fn dot_segments_never_survive(path in r"(/(\.|\.\.|%2e|%2E|a|)){0,8}") {
            let form = normal(&format!("https://h{path}"));
            prop_assert!(form.split('/').all(|segment| segment != "." && segment != ".."), "{}", form);
        }
    }
}
