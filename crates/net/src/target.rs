//! Where a request goes: an origin from the operator's configuration.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;
use url::{Host, Url};

use crate::Reach;

/// An origin (scheme, host, port) and how far it may reach. Cheap to clone; build it once, not per request.
#[derive(Debug, Clone)]
pub struct Target(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    key: String,
    scheme: Scheme,
    authority: Authority,
    host: String,
    literal: Option<IpAddr>,
    port: u16,
    host_header: HeaderValue,
    server_name: Option<ServerName<'static>>,
    reach: Reach,
}

/// Why a URL cannot be a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Neither `https` nor `http`.
    #[error("the URL must start with https://")]
    Scheme,
    /// `http` where only TLS is allowed.
    #[error("plain http is allowed only for loopback and private addresses, with allow_private = true")]
    Plain,
    /// `user:password@` in the URL.
    #[error("the URL must not carry a user name or password")]
    UserInfo,
    /// No host, or one that is not a name.
    #[error("the URL has no usable host")]
    Host,
    /// A literal address this destination may not reach.
    #[error("the address is {0}: it is out of reach")]
    Address(&'static str),
}

impl TargetError {
    /// A stable short code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Scheme => "url_scheme",
            Self::Plain => "url_plain_http",
            Self::UserInfo => "url_userinfo",
            Self::Host => "url_host",
            Self::Address(_) => "address_refused",
        }
    }
}

impl Target {
    /// The origin of `url`. Its path, query and fragment do not matter here.
    pub fn new(url: &Url, reach: Reach) -> Result<Self, TargetError> {
        let (scheme, plain) = match url.scheme() {
            "https" => (Scheme::HTTPS, false),
            "http" if matches!(reach, Reach::Private | Reach::Metadata) => (Scheme::HTTP, true),
            "http" => return Err(TargetError::Plain),
            _ => return Err(TargetError::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::UserInfo);
        }
        let port = url.port_or_known_default().ok_or(TargetError::Host)?;
        // `url` has already turned odd spellings (0x7f.1, 2130706433) into the addresses they mean.
        let (host, literal) = match url.host().ok_or(TargetError::Host)? {
            Host::Domain(name) => (name.to_owned(), None),
            Host::Ipv4(ip) => (ip.to_string(), Some(IpAddr::V4(ip))),
            Host::Ipv6(ip) => (ip.to_string(), Some(IpAddr::V6(ip))),
        };
        let server_name = if plain {
            None
        } else {
            Some(match literal {
                Some(ip) => ServerName::IpAddress(ip.into()),
                // A trailing dot is DNS syntax, not part of the name a certificate carries.
                None => ServerName::try_from(host.trim_end_matches('.').to_owned()).map_err(|_| TargetError::Host)?,
            })
        };
        let text = url.host_str().ok_or(TargetError::Host)?;
        let authority = match url.port() {
            Some(port) => format!("{text}:{port}"),
            None => text.to_owned(),
        };
        let host_header = HeaderValue::from_str(&authority).map_err(|_| TargetError::Host)?;
        let authority = Authority::try_from(authority).map_err(|_| TargetError::Host)?;
        let near = match reach {
            Reach::Private => "near",
            Reach::Public => "far",
            Reach::Metadata => "metadata",
        };
        let key = format!("{scheme}://{host}:{port} {near}");
        Ok(Self(Arc::new(Inner { key, scheme, authority, host, literal, port, host_header, server_name, reach })))
    }

    /// The host as it is resolved: a name, or an address without brackets.
    pub fn host(&self) -> &str {
        &self.0.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &Scheme {
        &self.0.scheme
    }

    /// Host and port as the `Host` header has them.
    pub fn authority(&self) -> &Authority {
        &self.0.authority
    }

    /// How far it may reach.
    pub fn reach(&self) -> Reach {
        self.0.reach
    }

    pub(crate) fn key(&self) -> &str {
        &self.0.key
    }

    pub(crate) fn literal(&self) -> Option<IpAddr> {
        self.0.literal
    }

    pub(crate) fn host_header(&self) -> &HeaderValue {
        &self.0.host_header
    }

    pub(crate) fn server_name(&self) -> Option<&ServerName<'static>> {
        self.0.server_name.as_ref()
    }

    pub(crate) fn plain(&self) -> bool {
        self.0.server_name.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str, reach: Reach) -> Result<Target, TargetError> {
        Target::new(&Url::parse(text).unwrap(), reach)
    }

    #[test]
    fn odd_spellings_of_an_address_are_that_address() {
        for odd in
            ["https://0x7f.1/", "https://2130706433/", "https://0177.0.0.1/", "https://127.1/", "https://①②⑦.0.0.1/"]
        {
            let target = target(odd, Reach::Public).unwrap();
            assert_eq!(target.literal(), Some("127.0.0.1".parse().unwrap()), "{odd}");
        }
    }

    #[test]
    fn a_url_that_could_mean_two_things_is_refused() {
        assert_eq!(target("https://good.example@evil.example/", Reach::Public).unwrap_err(), TargetError::UserInfo);
        assert_eq!(target("http://api.example/", Reach::Public).unwrap_err(), TargetError::Plain);
        for other in ["file:///etc/passwd", "gopher://x/", "ftp://x/", "data:,x"] {
            assert_eq!(target(other, Reach::Private).unwrap_err(), TargetError::Scheme, "{other}");
        }
    }

    #[test]
    fn public_and_private_reach_never_share_connections() {
        let near = target("https://api.example/", Reach::Private).unwrap();
        let far = target("https://api.example/v1?x#y", Reach::Public).unwrap();
        assert_ne!(near.key(), far.key());
        assert_eq!(far.authority().as_str(), "api.example");
        assert_eq!(target("http://[::1]:8080/", Reach::Private).unwrap().authority().as_str(), "[::1]:8080");
    }
}
