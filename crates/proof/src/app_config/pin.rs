//! Pins: hashes of public keys, from certificates and key files.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair,
    Ed25519KeyPair, KeyPair as _,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use x509_parser::certificate::X509Certificate;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::Zeroizing;

use crate::jose::sha256;
use crate::mtls::MAX_CERTIFICATE_LEN;

/// The longest file a key is looked for in, in bytes.
pub const MAX_PEM_LEN: usize = 256 << 10;

/// Why no key is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PinError {
    /// Too long for what it should be.
    #[error("it is too long")]
    TooLong,
    /// No PEM block, or one that does not end or is not base64.
    #[error("it holds no PEM block")]
    NoPem,
    /// A PEM block of another kind.
    #[error("its first PEM block is no certificate, certificate request, public key or private key")]
    Kind,
    /// The block does not hold what it says.
    #[error("its first PEM block does not hold what it says")]
    Malformed,
}

impl PinError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "pin_too_long",
            Self::NoPem => "pin_no_pem",
            Self::Kind => "pin_unsupported",
            Self::Malformed => "pin_malformed",
        }
    }
}

/// A pin as it is written: base64 with padding.
pub fn pin_text(pin: &[u8; 32]) -> String {
    STANDARD.encode(pin)
}

/// The pin of a certificate's key (DER).
pub fn pin_of_certificate(der: &[u8]) -> Result<[u8; 32], PinError> {
    if der.len() > MAX_CERTIFICATE_LEN {
        return Err(PinError::TooLong);
    }
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(sha256(certificate.public_key().raw)),
        _ => Err(PinError::Malformed),
    }
}

/// The pin of the first PEM block: a certificate, a certificate request, a public key, or a private key.
pub fn pin_of_pem(text: &[u8]) -> Result<[u8; 32], PinError> {
    if text.len() > MAX_PEM_LEN {
        return Err(PinError::TooLong);
    }
    let text = std::str::from_utf8(text).map_err(|_| PinError::NoPem)?;
    // openssl writes the parameters of a curve before the key, in a block of their own.
    let text = text.split_once("-----END EC PARAMETERS-----").map_or(text, |(_, after)| after);
    let (_, begun) = text.split_once("-----BEGIN ").ok_or(PinError::NoPem)?;
    let (label, after) = begun.split_once("-----").ok_or(PinError::NoPem)?;
    let (body, _) = after.split_once(&format!("-----END {label}-----")).ok_or(PinError::NoPem)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| PinError::NoPem)?);
    match label {
        "CERTIFICATE" => pin_of_certificate(&der),
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => match X509CertificationRequest::from_der(&der) {
            Ok(([], request)) => Ok(sha256(request.certification_request_info.subject_pki.raw)),
            _ => Err(PinError::Malformed),
        },
        "PUBLIC KEY" => match SubjectPublicKeyInfo::from_der(&der) {
            Ok(([], key)) => Ok(sha256(key.raw)),
            _ => Err(PinError::Malformed),
        },
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => private(&der).ok_or(PinError::Malformed),
        _ => Err(PinError::Kind),
    }
}

/// The pin of the public half of a private key in PKCS#8, PKCS#1 or SEC 1.
fn private(der: &[u8]) -> Option<[u8; 32]> {
    fn of<'a>(key: &impl AsDer<PublicKeyX509Der<'a>>) -> Option<[u8; 32]> {
        Some(sha256(key.as_der().ok()?.as_ref()))
    }
    for curve in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P521_SHA512_ASN1_SIGNING] {
        if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
            return of(pair.public_key());
        }
    }
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return of(pair.public_key());
    }
    of(rsa::KeyPair::from_pkcs8(der).or_else(|_| rsa::KeyPair::from_der(der)).ok()?.public_key())
}
