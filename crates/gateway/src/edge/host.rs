//! Which authority a request must name: otherwise a page elsewhere could reach a local gateway under its own name
//! (DNS rebinding), and tokens made for one gateway could be played to another.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap};
use http::{Uri, Version};

/// The authorities this gateway answers to.
#[derive(Debug, Clone, Default)]
pub struct Authorities {
    named: Vec<String>,
}

/// Why a request is not for this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    /// No authority, several, or two that differ: 400.
    #[error("The request must name exactly one host.")]
    Unclear,
    /// An authority that is not ours: 421 (RFC 9110 section 15.5.20).
    #[error("This gateway does not answer to the requested host.")]
    Misdirected,
}

impl Authorities {
    /// Answer to the authorities of these URLs, to the addresses listened on, and always to loopback names.
    pub fn new<'a>(external_urls: impl IntoIterator<Item = &'a url::Url>, listening: &[SocketAddr]) -> Self {
        let mut named: Vec<String> = listening.iter().map(ToString::to_string).collect();
        for url in external_urls {
            let Some(host) = url.host_str().map(str::to_ascii_lowercase) else { continue };
            if let Some(port) = url.port_or_known_default() {
                named.push(format!("{host}:{port}"));
            }
            if url.port().is_none() {
                named.push(host);
            }
        }
        Self { named }
    }

    /// Whether a request with this target and these headers is for this gateway.
    pub(crate) fn check(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Result<(), HostError> {
        let mut hosts = headers.get_all(header::HOST).iter();
        let host = hosts.next().map(|value| value.to_str().map_err(|_| HostError::Unclear)).transpose()?;
        if hosts.next().is_some() {
            return Err(HostError::Unclear);
        }
        let named = match (uri.authority().map(http::uri::Authority::as_str), host) {
            (Some(target), Some(host)) if !target.eq_ignore_ascii_case(host) => return Err(HostError::Unclear),
            (Some(named), _) | (None, Some(named)) => named,
            (None, None) if version == Version::HTTP_10 => return Err(HostError::Misdirected),
            (None, None) => return Err(HostError::Unclear),
        };
        if self.named.iter().any(|ours| ours.eq_ignore_ascii_case(named)) || is_loopback(named) {
            Ok(())
        } else {
            Err(HostError::Misdirected)
        }
    }
}

/// Whether an authority is `localhost` or a loopback address, with any port.
fn is_loopback(authority: &str) -> bool {
    let bare = authority.parse::<IpAddr>().ok();
    let Some(host) = authority.strip_prefix('[') else {
        let host = match authority.split_once(':') {
            Some((host, port)) if is_port(port) => host,
            Some(_) => return false,
            None => authority,
        };
        return host.eq_ignore_ascii_case("localhost")
            || bare.or_else(|| host.parse().ok()).is_some_and(|ip| ip.is_ipv4() && ip.is_loopback());
    };
    let Some((address, port)) = host.split_once(']') else { return false };
    let port_is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
    port_is_fine && address.parse::<std::net::Ipv6Addr>().is_ok_and(|ip| ip.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn ours() -> Authorities {
        let url = url::Url::parse("https://AI.example.com/").expect("url");
        Authorities::new(Some(&url), &["192.0.2.7:8080".parse().expect("address")])
    }

    fn check(host: &str) -> Result<(), HostError> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).expect("value"));
        ours().check(&Uri::from_static("/v1/models"), &headers, Version::HTTP_11)
    }

    #[test]
    fn our_own_names_and_loopback_are_answered() {
        for host in [
            "ai.example.com",
            "AI.EXAMPLE.COM",
            "ai.example.com:443",
            "192.0.2.7:8080",
            "localhost",
            "localhost:9000",
            "127.0.0.1:8080",
            "127.9.9.9",
            "[::1]:8080",
            "[::1]",
        ] {
            assert_eq!(check(host), Ok(()), "{host}");
        }
    }

    #[test]
    fn any_other_host_is_misdirected() {
        for host in [
            "evil.example",
            "ai.example.com.",
            "ai.example.com:8443",
            "ai.example.com.evil.example",
            "192.0.2.8:8080",
            "localhost.evil.example",
            "localhost:x",
            "localhost:65536",
            "localhost:+80",
            "[::1]:+80",
            "127.0.0.1.evil.example",
            "[::2]",
            "[::1",
            "[::1]x",
            "2130706433",
            "",
            "user@localhost",
        ] {
            assert_eq!(check(host), Err(HostError::Misdirected), "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host_in_one_way() {
        let two: HeaderMap =
            ["localhost", "localhost"].map(|h| (header::HOST, HeaderValue::from_static(h))).into_iter().collect();
        assert_eq!(ours().check(&Uri::from_static("/"), &two, Version::HTTP_11), Err(HostError::Unclear));
        assert_eq!(ours().check(&Uri::from_static("/"), &HeaderMap::new(), Version::HTTP_11), Err(HostError::Unclear));
        let mut one = HeaderMap::new();
        one.insert(header::HOST, HeaderValue::from_static("localhost"));
        let absolute = Uri::from_static("http://evil.example/v1");
        assert_eq!(ours().check(&absolute, &one, Version::HTTP_11), Err(HostError::Unclear));
        assert_eq!(ours().check(&absolute, &HeaderMap::new(), Version::HTTP_2), Err(HostError::Misdirected));
    }
}
