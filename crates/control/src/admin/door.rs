//! Who may knock on the admin listener: Host and Origin checks, on loopback too.
//!
//! A page in the operator's browser can send requests to 127.0.0.1, and a name it controls can be made to
//! resolve there (DNS rebinding). So the Host must be one nobody else can own, and a request that a browser
//! says comes from another site is refused before its token is looked at.

use std::net::IpAddr;

use base::Problem;
use http::{HeaderMap, StatusCode, header};

/// The names the admin listener answers to, besides addresses and `localhost`.
#[derive(Debug, Clone, Default)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// Answer to these host names too (without port, any case), such as the one a reverse proxy sends.
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        Self(names.into_iter().map(|name| name.to_ascii_lowercase()).collect())
    }

    /// Check where a request says it goes and where a browser says it comes from.
    /// `authority` is the one of the request target (HTTP/2 `:authority`), if there is one.
    pub fn check(&self, headers: &HeaderMap, authority: Option<&str>) -> Result<(), Problem> {
        let mut sent = headers.get_all(header::HOST).iter().map(|value| value.to_str().ok());
        let host = match (sent.next(), sent.next(), authority) {
            (Some(Some(host)), None, None) => host,
            (Some(Some(host)), None, Some(authority)) if host.eq_ignore_ascii_case(authority) => host,
            (None, _, Some(authority)) => authority,
            _ => return Err(misdirected()),
        };
        if !self.ours(host) {
            return Err(misdirected());
        }
        same_site(headers, host)
    }

    /// An address cannot be rebound, `localhost` is never asked of a resolver, and the rest is listed.
    fn ours(&self, host: &str) -> bool {
        let Some(name) = host_name(host) else { return false };
        name.parse::<IpAddr>().is_ok() || name == "localhost" || self.0.contains(&name)
    }
}

/// The host of an authority in lower case, without port and brackets.
fn host_name(authority: &str) -> Option<String> {
    let (name, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (name, port) = rest.split_once(']')?;
            name.parse::<std::net::Ipv6Addr>().ok()?;
            (name, port.strip_prefix(':').or(port.is_empty().then_some("0")))
        }
        None => authority.split_once(':').map_or((authority, Some("0")), |(name, port)| (name, Some(port))),
    };
    port?.parse::<u16>().ok()?;
    let inside = |b: u8| b.is_ascii_alphanumeric() || b"-.:".contains(&b);
    (!name.is_empty() && name.bytes().all(inside)).then(|| name.to_ascii_lowercase())
}

fn same_site(headers: &HeaderMap, host: &str) -> Result<(), Problem> {
    if let Some(site) = headers.get("sec-fetch-site")
        && site != "same-origin"
        && site != "none"
    {
        return Err(cross_site());
    }
    for origin in headers.get_all(header::ORIGIN) {
        let from = origin.to_str().ok().and_then(|o| o.strip_prefix("https://").or_else(|| o.strip_prefix("http://")));
        if !from.is_some_and(|from| from.eq_ignore_ascii_case(host)) {
            return Err(cross_site());
        }
    }
    Ok(())
}

fn misdirected() -> Problem {
    let message = "the Host header names no host of the admin listener; use its address or localhost";
    Problem::client(StatusCode::MISDIRECTED_REQUEST, "wrong_host", message)
}

fn cross_site() -> Problem {
    Problem::client(StatusCode::FORBIDDEN, "cross_site", "the admin API takes no requests from pages of other sites")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)]) -> Result<(), &'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        Hosts::new(["Admin.example.com".to_owned()]).check(&map, None).map_err(|p| p.code)
    }

    #[test]
    fn addresses_localhost_and_listed_names_are_ours() {
        for host in [
            "127.0.0.1:8081",
            "127.0.0.1",
            "localhost:8081",
            "LOCALHOST",
            "[::1]:8081",
            "[::1]",
            "10.0.0.5:1",
            "admin.example.com:8081",
        ] {
            assert_eq!(check(&[("host", host)]), Ok(()), "{host}");
        }
    }

    #[test]
    fn a_rebound_or_malformed_host_is_misdirected() {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:8081",
            "localhost.",
            "localhost@evil.example",
            "",
            ":8081",
            "localhost:99999",
            "localhost:80:80",
            "[::1",
            "[localhost]",
            "a b",
        ] {
            assert_eq!(check(&[("host", host)]), Err("wrong_host"), "{host}");
        }
        assert_eq!(check(&[]), Err("wrong_host"));
        assert_eq!(check(&[("host", "localhost"), ("host", "localhost")]), Err("wrong_host"));
    }

    #[test]
    fn the_authority_of_an_http2_request_counts_as_its_host() {
        let none = HeaderMap::new();
        assert!(Hosts::default().check(&none, Some("localhost:8081")).is_ok());
        assert!(Hosts::default().check(&none, Some("evil.example")).is_err());
        let mut other = HeaderMap::new();
        other.insert("host", "localhost".parse().unwrap());
        assert!(Hosts::default().check(&other, Some("127.0.0.1")).is_err());
    }

    #[test]
    fn a_page_of_another_site_is_refused_whatever_it_sends() {
        let host = ("host", "localhost:8081");
        assert_eq!(check(&[host, ("origin", "http://localhost:8081")]), Ok(()));
        assert_eq!(check(&[host, ("sec-fetch-site", "same-origin")]), Ok(()));
        for origin in ["http://evil.example", "null", "http://localhost:9999", "file://localhost:8081", ""] {
            assert_eq!(check(&[host, ("origin", origin)]), Err("cross_site"), "{origin}");
        }
        for site in ["cross-site", "same-site"] {
            assert_eq!(check(&[host, ("sec-fetch-site", site)]), Err("cross_site"), "{site}");
        }
        let both = [host, ("origin", "http://localhost:8081"), ("origin", "http://evil.example")];
        assert_eq!(check(&both), Err("cross_site"));
    }
}
