//! One certificate: what a chain and those who read its leaf need of it.

use aws_lc_rs::signature::{self as sig, UnparsedPublicKey, VerificationAlgorithm};
use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::ChainError;
use crate::attest::asn1::{Der, DerError, Tag};
use crate::mtls::DistinguishedName;

/// The most attributes of a name that are looked at.
const MAX_ATTRIBUTES: usize = 32;

/// The most extensions of one certificate.
const MAX_EXTENSIONS: usize = 64;

const COMMON_NAME: &str = "2.5.4.3";
const SERIAL_NUMBER: &str = "2.5.4.5";
const ORGANIZATION: &str = "2.5.4.10";

const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const KEY_USAGE: &str = "2.5.29.15";

const RSA_ENCRYPTION: &str = "1.2.840.113549.1.1.1";
const EC_PUBLIC_KEY: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";

/// A certificate that was read, and not verified.
#[derive(Debug)]
pub struct Certificate<'a> {
    x509: X509Certificate<'a>,
    der: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Read one certificate, which is all of `der`. `at` is its position in the chain.
    pub fn parse(der: &'a [u8], at: usize) -> Result<Self, ChainError> {
        let (rest, x509) = X509Certificate::from_der(der).map_err(|_| ChainError::Malformed(at))?;
        if !rest.is_empty() || x509.extensions().len() > MAX_EXTENSIONS || !is_strict_outside(der) {
            return Err(ChainError::Malformed(at));
        }
        Ok(Self { x509, der })
    }

    /// The certificate as it was read.
    pub fn der(&self) -> &'a [u8] {
        self.der
    }

    /// The key with its algorithm (`subjectPublicKeyInfo`), in DER.
    pub fn spki(&self) -> &'a [u8] {
        self.x509.tbs_certificate.subject_pki.raw
    }

    pub(super) fn key(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.x509.tbs_certificate.subject_pki
    }

    /// The point of a key on P-256, uncompressed: 0x04, X, Y. `None` for any other key.
    pub fn p256_point(&self) -> Option<[u8; 65]> {
        let key = self.key();
        let point: [u8; 65] = key.subject_public_key.data.as_ref().try_into().ok()?;
        (curve(key)?.as_str() == P256 && point.first() == Some(&4)).then_some(point)
    }

    /// What kind of key it is, as its algorithm's object identifier.
    pub fn key_algorithm(&self) -> String {
        self.key().algorithm.algorithm.to_id_string()
    }

    /// The serial number in hex, lower case, without leading zeros: as revocation lists write it.
    pub fn serial_hex(&self) -> String {
        self.x509.tbs_certificate.serial.to_str_radix(16)
    }

    /// The serial number in decimal.
    pub fn serial_decimal(&self) -> String {
        self.x509.tbs_certificate.serial.to_str_radix(10)
    }

    /// The first moment it is valid.
    pub fn not_before(&self) -> Timestamp {
        Timestamp::from_secs(self.x509.validity().not_before.timestamp())
    }

    /// The last second it is valid.
    pub fn not_after(&self) -> Timestamp {
        Timestamp::from_secs(self.x509.validity().not_after.timestamp())
    }

    pub(super) fn subject(&self) -> &X509Name<'a> {
        &self.x509.tbs_certificate.subject
    }

    pub(super) fn issuer(&self) -> &X509Name<'a> {
        &self.x509.tbs_certificate.issuer
    }

    /// Whether issuer and subject are the same.
    pub fn is_self_issued(&self) -> bool {
        same_name(self.issuer(), self.subject())
    }

    pub(super) fn was_issued_by(&self, issuer: &Self) -> bool {
        same_name(self.issuer(), issuer.subject())
    }

    /// The values of the subject, each with its attribute's object identifier.
    pub fn subject_values(&self) -> Vec<(String, String)> {
        let attributes = self.subject().iter_attributes().take(MAX_ATTRIBUTES);
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        attributes.map(|one| (one.attr_type().to_id_string(), text(one.as_slice()))).collect()
    }

    fn subject_value(&self, oid: &str) -> Option<String> {
        self.subject_values().into_iter().find_map(|(kind, value)| (kind == oid).then_some(value))
    }

    /// The subject's common name.
    pub fn common_name(&self) -> Option<String> {
        self.subject_value(COMMON_NAME)
    }

    /// The subject's organisation.
    pub fn organization(&self) -> Option<String> {
        self.subject_value(ORGANIZATION)
    }

    /// The subject's `serialNumber`, which is not the certificate's.
    pub fn subject_serial(&self) -> Option<String> {
        self.subject_value(SERIAL_NUMBER)
    }

    /// The content of the extension with this object identifier.
    pub fn extension(&self, oid: &str) -> Option<&'a [u8]> {
        self.x509.extensions().iter().find(|one| one.oid.to_id_string() == oid).map(|one| one.value)
    }

    /// No extension twice, and none that is critical and not understood in a certificate that issues.
    pub(super) fn check_extensions(&self, at: usize) -> Result<(), ChainError> {
        let mut seen: Vec<String> = Vec::new();
        for extension in self.x509.extensions() {
            let oid = extension.oid.to_id_string();
            let understood = matches!(oid.as_str(), BASIC_CONSTRAINTS | KEY_USAGE);
            if at > 0 && extension.critical && !understood {
                return Err(ChainError::Critical(at));
            }
            if seen.contains(&oid) {
                return Err(ChainError::DuplicateExtension(at));
            }
            seen.push(oid);
        }
        Ok(())
    }

    /// That it is an authority's, its key is for signing certificates, and that `at - 1` authorities may follow it.
    pub(super) fn may_issue(&self, at: usize) -> Result<(), ChainError> {
        let (mut authority, mut may_sign) = (None, true);
        for extension in self.x509.extensions() {
            match extension.parsed_extension() {
                ParsedExtension::BasicConstraints(constraints) if constraints.ca => authority = Some(constraints),
                ParsedExtension::KeyUsage(usage) => may_sign = usage.key_cert_sign(),
                ParsedExtension::ParseError { .. } if extension.oid.to_id_string() == KEY_USAGE => may_sign = false,
                _ => {}
            }
        }
        let authority = authority.ok_or(ChainError::NotAuthority(at))?;
        if !may_sign {
            return Err(ChainError::KeyUsage(at));
        }
        let below = u32::try_from(at.saturating_sub(1)).unwrap_or(u32::MAX);
        if authority.path_len_constraint.is_some_and(|most| below > most) {
            return Err(ChainError::PathLength(at));
        }
        Ok(())
    }

    /// That this key signed it.
    pub(super) fn is_signed_by(&self, key: &SubjectPublicKeyInfo<'_>, at: usize) -> Result<(), ChainError> {
        let algorithm = self.x509.signature_algorithm.algorithm.to_id_string();
        // The one inside is signed, the one outside is used.
        if self.x509.tbs_certificate.signature.algorithm.to_id_string() != algorithm {
            return Err(ChainError::Algorithm(at));
        }
        let verification = verification(&algorithm, key).ok_or(ChainError::Algorithm(at))?;
        UnparsedPublicKey::new(verification, &key.subject_public_key.data)
            .verify(self.x509.tbs_certificate.as_ref(), &self.x509.signature_value.data)
            .map_err(|_| ChainError::Signature(at))
    }
}

/// Whether what no signature covers has its one spelling (RFC 5280 section 4.1): the parser takes tags of other classes.
fn is_strict_outside(der: &[u8]) -> bool {
    let read = || -> Result<bool, DerError> {
        let mut whole = Der::new(der);
        let mut fields = whole.sequence()?;
        whole.finish()?;
        let (_signed, mut algorithm) = (fields.sequence()?, fields.sequence()?);
        let signature = fields.read(Tag::BIT_STRING)?;
        fields.finish()?;
        algorithm.read(Tag::OBJECT_IDENTIFIER)?;
        if !algorithm.is_empty() {
            Der::new(algorithm.read(Tag::NULL)?).finish()?;
        }
        algorithm.finish()?;
        Ok(signature.first() == Some(&0))
    };
    read().unwrap_or(false)
}

/// The same value for value, however the strings are encoded.
fn same_name(one: &X509Name<'_>, other: &X509Name<'_>) -> bool {
    if one.as_raw() == other.as_raw() {
        return true;
    }
    match (DistinguishedName::of(one), DistinguishedName::of(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

fn curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    if key.algorithm.algorithm.to_id_string() != EC_PUBLIC_KEY {
        return None;
    }
    Some(key.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string())
}

/// How a signature algorithm (RFC 3279, RFC 4055, RFC 5758) verifies with such a key. Parameters of the algorithm are not
/// looked at: for ECDSA they must be absent, and genuine secure elements write NULL.
fn verification(algorithm: &str, key: &SubjectPublicKeyInfo<'_>) -> Option<&'static dyn VerificationAlgorithm> {
    if key.algorithm.algorithm.to_id_string() == RSA_ENCRYPTION {
        return match algorithm {
            "1.2.840.113549.1.1.11" => Some(&sig::RSA_PKCS1_2048_8192_SHA256),
            "1.2.840.113549.1.1.12" => Some(&sig::RSA_PKCS1_2048_8192_SHA384),
            "1.2.840.113549.1.1.13" => Some(&sig::RSA_PKCS1_2048_8192_SHA512),
            _ => None,
        };
    }
    match (curve(key)?.as_str(), algorithm) {
        (P256, "1.2.840.10045.4.3.2") => Some(&sig::ECDSA_P256_SHA256_ASN1),
        (P256, "1.2.840.10045.4.3.3") => Some(&sig::ECDSA_P256_SHA384_ASN1),
        (P256, "1.2.840.10045.4.3.4") => Some(&sig::ECDSA_P256_SHA512_ASN1),
        (P384, "1.2.840.10045.4.3.2") => Some(&sig::ECDSA_P384_SHA256_ASN1),
        (P384, "1.2.840.10045.4.3.3") => Some(&sig::ECDSA_P384_SHA384_ASN1),
        (P384, "1.2.840.10045.4.3.4") => Some(&sig::ECDSA_P384_SHA512_ASN1),
        _ => None,
    }
}

/// The certificates of a PEM text (RFC 7468 section 5), at most `most`, in order. Text between them is skipped.
pub fn certificates_from_pem(text: &str, most: usize) -> Result<Vec<Vec<u8>>, ChainError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, after) = after.split_once(END).ok_or(ChainError::Pem)?;
        if found.len() >= most {
            return Err(ChainError::Count(found.len() + 1));
        }
        let body: String = body.split_ascii_whitespace().collect();
        found.push(STANDARD.decode(body).map_err(|_| ChainError::Pem)?);
        rest = after;
    }
    if found.is_empty() { Err(ChainError::Pem) } else { Ok(found) }
}
