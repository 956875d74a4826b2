//! What stands in a client's certificate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use base::Timestamp;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::{CertificateError, DistinguishedName};
use crate::jose::{base64url_encode, sha256};

/// The longest certificate that is read, in bytes of DER.
pub const MAX_CERTIFICATE_LEN: usize = 16 << 10;

/// How many alternative names are read.
const MAX_NAMES: usize = 64;

/// SHA-256 of a certificate's DER: `x5t#S256` (RFC 8705 section 3.1).
pub fn certificate_thumbprint(der: &[u8]) -> [u8; 32] {
    sha256(der)
}

/// A certificate's names and dates. Who presented it, and who signed it, is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    thumbprint: [u8; 32],
    subject: DistinguishedName,
    dns: Vec<String>,
    uri: Vec<String>,
    ip: Vec<IpAddr>,
    email: Vec<String>,
    not_before: Timestamp,
    not_after: Timestamp,
}

/// What must stand in the certificate of a `tls_client_auth` client (RFC 8705 section 2.1.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsClientRule {
    /// `tls_client_auth_subject_dn`: the whole subject, value for value.
    SubjectDn(DistinguishedName),
    /// `tls_client_auth_san_dns`: an alternative name, without case; a wildcard is no name.
    SanDns(String),
    /// `tls_client_auth_san_uri`: an alternative name, exactly.
    SanUri(String),
    /// `tls_client_auth_san_ip`: an alternative name.
    SanIp(IpAddr),
    /// `tls_client_auth_san_email`: an alternative name, exactly.
    SanEmail(String),
}

impl ClientCertificate {
    /// Read one certificate of at most [`MAX_CERTIFICATE_LEN`] bytes.
    pub fn parse(der: &[u8]) -> Result<Self, CertificateError> {
        if der.len() > MAX_CERTIFICATE_LEN {
            return Err(CertificateError::TooLong);
        }
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|_| CertificateError::Malformed)?;
        if !rest.is_empty() {
            return Err(CertificateError::Malformed);
        }
        let mut read = Self {
            thumbprint: certificate_thumbprint(der),
            subject: DistinguishedName::of(parsed.subject())?,
            dns: Vec::new(),
            uri: Vec::new(),
            ip: Vec::new(),
            email: Vec::new(),
            not_before: Timestamp::from_secs(parsed.validity().not_before.timestamp()),
            not_after: Timestamp::from_secs(parsed.validity().not_after.timestamp()),
        };
        // Fails also where the extension occurs twice.
        if let Some(names) = parsed.subject_alternative_name().map_err(|_| CertificateError::Malformed)? {
            let names = &names.value.general_names;
            if names.len() > MAX_NAMES {
                return Err(CertificateError::TooManyNames);
            }
            names.iter().try_for_each(|name| read.add(name))?;
        }
        Ok(read)
    }

    fn add(&mut self, name: &GeneralName<'_>) -> Result<(), CertificateError> {
        match name {
            GeneralName::DNSName(name) => self.dns.push((*name).to_owned()),
            GeneralName::URI(uri) => self.uri.push((*uri).to_owned()),
            GeneralName::RFC822Name(mail) => self.email.push((*mail).to_owned()),
            GeneralName::IPAddress(octets) => self.ip.push(address(octets).ok_or(CertificateError::Malformed)?),
            _ => {}
        }
        Ok(())
    }

    /// SHA-256 of the whole certificate (`x5t#S256`).
    pub fn thumbprint(&self) -> &[u8; 32] {
        &self.thumbprint
    }

    /// The thumbprint as base64url, as in `cnf["x5t#S256"]`.
    pub fn thumbprint_text(&self) -> String {
        base64url_encode(self.thumbprint)
    }

    /// The subject.
    pub fn subject(&self) -> &DistinguishedName {
        &self.subject
    }

    /// DNS names, as written.
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// URIs, as written.
    pub fn uri(&self) -> &[String] {
        &self.uri
    }

    /// IP addresses.
    pub fn ip(&self) -> &[IpAddr] {
        &self.ip
    }

    /// Mail addresses, as written.
    pub fn email(&self) -> &[String] {
        &self.email
    }

    /// The first moment it is valid.
    pub fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The last second it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Whether it is valid at `now` by its own dates.
    pub fn in_date(&self, now: Timestamp) -> bool {
        self.not_before <= now && now.as_secs() <= self.not_after.as_secs()
    }

    /// Whether it is the one a client is known by. Means nothing unless an authority we trust has signed it.
    pub fn matches(&self, rule: &TlsClientRule) -> bool {
        match rule {
            TlsClientRule::SubjectDn(subject) => !subject.is_empty() && *subject == self.subject,
            TlsClientRule::SanDns(name) => self.dns.iter().any(|own| own.eq_ignore_ascii_case(name)),
            TlsClientRule::SanUri(uri) => self.uri.contains(uri),
            TlsClientRule::SanIp(address) => self.ip.contains(address),
            TlsClientRule::SanEmail(mail) => self.email.contains(mail),
        }
    }
}

/// RFC 5280 section 4.2.1.6: four octets or sixteen.
fn address(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(Ipv4Addr::from(v4).into());
    }
    <[u8; 16]>::try_from(octets).ok().map(|v6| Ipv6Addr::from(v6).into())
}
