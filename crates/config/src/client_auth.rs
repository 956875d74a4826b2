//! How a client proves who it is at the token endpoint.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::issuer::Algorithm;
use crate::values::HttpUrl;

/// How a client proves who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum ClientAuth {
    /// A secret (RFC 6749 section 2.3.1), of which only a hash is kept.
    ClientSecret {
        /// `sha256:` and the base64url SHA-256 of the secret: `vouchgate client hash` prints it.
        #[schemars(extend("x-kind" = "client-hash"))]
        hash: String,
    },
    /// A JWT signed with a key of its own (RFC 7523 section 2.2). Exactly one of `jwks_file` and `jwks_url`.
    PrivateKeyJwt {
        /// Its public keys, a JWK Set in a file.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-kind" = "file-path"))]
        jwks_file: Option<PathBuf>,
        /// Its public keys, a JWK Set at a URL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks_url: Option<HttpUrl>,
        /// Accepted signature algorithms. Absent: RS256, PS256, ES256, ES384 and `EdDSA`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        #[schemars(length(max = 16))]
        algorithms: Vec<Algorithm>,
        /// Allow its keys to be fetched from loopback and private addresses, there also over plain HTTP.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_private: bool,
    },
    /// A certificate of an authority we trust (RFC 8705 section 2.1). Exactly one key says what must stand in it.
    TlsClientAuth {
        /// The subject, as text (RFC 4514): `CN=batch,O=Example`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 1024))]
        subject_dn: Option<String>,
        /// A DNS name among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 253))]
        san_dns: Option<String>,
        /// A URI among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 1, max = 2048))]
        san_uri: Option<String>,
        /// An IP address among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(extend("x-kind" = "ip"))]
        san_ip: Option<IpAddr>,
        /// A mail address among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schemars(length(min = 3, max = 254))]
        san_email: Option<String>,
    },
    /// One of its own certificates, whoever signed it (RFC 8705 section 2.2).
    SelfSignedTlsClientAuth {
        /// The certificates, one or more, as a PEM file.
        #[schemars(extend("x-kind" = "file-path"))]
        certificate: PathBuf,
    },
    /// By attestation: the client is what an `[[app]]` of the same name may ask for besides.
    Attestation {},
    /// Not at all: a public client (RFC 6749 section 2.1), such as an app, which can keep no secret.
    None,
}

/// Where the public keys of a client are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientKeys<'a> {
    /// A JWK Set in a file.
    File(&'a Path),
    /// A JWK Set at a URL.
    Url {
        /// The URL.
        url: &'a HttpUrl,
        /// Whether it may lie on loopback or a private network.
        allow_private: bool,
    },
}

/// What must stand in a client's certificate (RFC 8705 section 2.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsRule<'a> {
    /// The subject, as text (RFC 4514).
    SubjectDn(&'a str),
    /// A DNS name.
    SanDns(&'a str),
    /// A URI.
    SanUri(&'a str),
    /// An IP address.
    SanIp(IpAddr),
    /// A mail address.
    SanEmail(&'a str),
}

impl ClientAuth {
    /// The word in the configuration; save for `client_secret`, that of OAuth metadata (RFC 8414).
    pub const fn method(&self) -> &'static str {
        match self {
            Self::ClientSecret { .. } => "client_secret",
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
            Self::TlsClientAuth { .. } => "tls_client_auth",
            Self::SelfSignedTlsClientAuth { .. } => "self_signed_tls_client_auth",
            Self::Attestation {} => "attestation",
            Self::None => "none",
        }
    }

    /// Whether it needs the certificate of the connection.
    pub const fn uses_certificate(&self) -> bool {
        matches!(self, Self::TlsClientAuth { .. } | Self::SelfSignedTlsClientAuth { .. })
    }

    /// Where the keys for its assertions are; `None` unless exactly one place is given, which [`crate::parse`] makes
    /// sure of.
    pub fn keys(&self) -> Option<ClientKeys<'_>> {
        match self {
            Self::PrivateKeyJwt { jwks_file: Some(path), jwks_url: None, .. } => Some(ClientKeys::File(path)),
            Self::PrivateKeyJwt { jwks_file: None, jwks_url: Some(url), allow_private, .. } => {
                Some(ClientKeys::Url { url, allow_private: *allow_private })
            }
            _ => None,
        }
    }

    /// The algorithms of its assertions that are accepted: those given, or the defaults. None for other methods.
    pub fn assertion_algorithms(&self) -> &[Algorithm] {
        match self {
            Self::PrivateKeyJwt { algorithms, .. } if algorithms.is_empty() => Algorithm::PUBLIC_DEFAULTS,
            Self::PrivateKeyJwt { algorithms, .. } => algorithms,
            _ => &[],
        }
    }

    /// What must stand in its certificate; `None` unless exactly one rule is given, which [`crate::parse`] makes sure
    /// of.
    pub fn tls_rule(&self) -> Option<TlsRule<'_>> {
        let Self::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email } = self else { return None };
        let rules = [
            subject_dn.as_deref().map(TlsRule::SubjectDn),
            san_dns.as_deref().map(TlsRule::SanDns),
            san_uri.as_deref().map(TlsRule::SanUri),
            san_ip.map(TlsRule::SanIp),
            san_email.as_deref().map(TlsRule::SanEmail),
        ];
        let mut given = rules.into_iter().flatten();
        let first = given.next();
        if given.next().is_some() { None } else { first }
    }
}
