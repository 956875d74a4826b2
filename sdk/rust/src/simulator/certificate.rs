//! Certificates (RFC 5280) of parties that exist for a test only.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::rand::{self, SystemRandom};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

use super::der::{self, oid};
use crate::attester::AttestError;
use crate::signer::PublicJwk;

/// The curve of a party's key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

/// A pair of keys that signs in DER.
#[derive(Clone)]
pub(super) struct Key {
    pair: Arc<EcdsaKeyPair>,
    curve: Curve,
}

impl Key {
    pub(super) fn generate(curve: Curve) -> Result<Self, AttestError> {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::generate(algorithm).map_err(|_| AttestError::Unavailable)?;
        Ok(Self { pair: Arc::new(pair), curve })
    }

    pub(super) fn from_pkcs8(curve: Curve, pkcs8: &[u8]) -> Result<Self, AttestError> {
        let algorithm = match curve {
            Curve::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Curve::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
        };
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map_err(|_| AttestError::KeyGone)?;
        Ok(Self { pair: Arc::new(pair), curve })
    }

    pub(super) fn to_pkcs8(&self) -> Result<Vec<u8>, AttestError> {
        Ok(self.pair.to_pkcs8v1().map_err(|_| AttestError::Unavailable)?.as_ref().to_vec())
    }

    /// The point of a key on P-256, uncompressed.
    pub(super) fn point(&self) -> Result<[u8; 65], AttestError> {
        self.pair.public_key().as_ref().try_into().map_err(|_| AttestError::Unavailable)
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, AttestError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).map_err(|_| AttestError::Unavailable)?;
        Ok(signature.as_ref().to_vec())
    }

    fn spki(&self) -> Vec<u8> {
        spki(self.curve, self.pair.public_key().as_ref())
    }

    fn algorithm(&self) -> Vec<u8> {
        der::sequence(&[der::oid(match self.curve {
            Curve::P256 => oid::ECDSA_SHA256,
            Curve::P384 => oid::ECDSA_SHA384,
        })])
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("curve", &self.curve).finish_non_exhaustive()
    }
}

/// `SubjectPublicKeyInfo` of a key on P-256.
pub(super) fn p256_spki(key: &PublicJwk) -> Vec<u8> {
    spki(Curve::P256, &key.point())
}

fn spki(curve: Curve, point: &[u8]) -> Vec<u8> {
    let curve = match curve {
        Curve::P256 => oid::P256,
        Curve::P384 => oid::P384,
    };
    der::sequence(&[der::sequence(&[der::oid(oid::EC_KEY), der::oid(curve)]), der::bits(point)])
}

/// A name of these attributes (identifier, value).
pub(super) fn name(attributes: &[(&[u8], &str)]) -> Vec<u8> {
    let one = |(kind, value): &(&[u8], &str)| {
        der::set(&[der::sequence(&[der::oid(kind), der::value(0x0c, value.as_bytes())])])
    };
    der::sequence(&attributes.iter().map(one).collect::<Vec<_>>())
}

/// Who issues certificates: a name and a key.
#[derive(Debug, Clone)]
pub(super) struct Issuer {
    pub(super) name: Vec<u8>,
    pub(super) key: Key,
}

/// What a certificate says.
pub(super) struct Certificate {
    /// Big-endian, at most 20 octets.
    pub(super) serial: Vec<u8>,
    pub(super) name: Vec<u8>,
    pub(super) spki: Vec<u8>,
    /// Seconds since the epoch: the first and the last.
    pub(super) valid: (i64, i64),
    pub(super) extensions: Vec<Vec<u8>>,
}

impl Certificate {
    /// Of an authority.
    pub(super) fn of(authority: &Issuer, valid: (i64, i64)) -> Result<Self, AttestError> {
        let extensions = authority_extensions();
        let (name, spki) = (authority.name.clone(), authority.key.spki());
        Ok(Self { serial: random_serial()?, name, spki, valid, extensions })
    }

    pub(super) fn sign(&self, issuer: &Issuer) -> Result<Vec<u8>, AttestError> {
        let algorithm = issuer.key.algorithm();
        let (from, until) = self.valid;
        let signed = der::sequence(&[
            der::explicit(0, &der::integer(2)),
            der::unsigned(&self.serial),
            algorithm.clone(),
            issuer.name.clone(),
            der::sequence(&[moment(from), moment(until)]),
            self.name.clone(),
            self.spki.clone(),
            der::explicit(3, &der::sequence(&self.extensions)),
        ]);
        let signature = issuer.key.sign(&signed)?;
        Ok(der::sequence(&[signed, algorithm, der::bits(&signature)]))
    }
}

/// `basicConstraints` and `keyUsage` of those who issue.
pub(super) fn authority_extensions() -> Vec<Vec<u8>> {
    let constraints = der::sequence(&[der::boolean(true)]);
    // keyCertSign.
    let usage = der::value(0x03, &[2, 4]);
    vec![extension(oid::BASIC_CONSTRAINTS, true, &constraints), extension(oid::KEY_USAGE, true, &usage)]
}

/// One extension.
pub(super) fn extension(kind: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![der::oid(kind)];
    if critical {
        parts.push(der::boolean(true));
    }
    parts.push(der::octets(content));
    der::sequence(&parts)
}

/// A serial number of 16 octets.
pub(super) fn random_serial() -> Result<Vec<u8>, AttestError> {
    let mut serial = vec![0; 16];
    rand::fill(&mut serial).map_err(|_| AttestError::Unavailable)?;
    if let Some(first) = serial.first_mut() {
        // No leading zero, so that the number is as long in hex as it is here.
        *first |= 0x40;
    }
    Ok(serial)
}

/// RFC 5280 section 4.1.2.5: two digits of the year until 2049, four after it.
fn moment(seconds: i64) -> Vec<u8> {
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let rest =
        format!("{:02}{:02}{:02}{:02}{:02}Z", u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second());
    match at.year() {
        year @ 1950..=2049 => der::value(0x17, format!("{:02}{rest}", year % 100).as_bytes()),
        year => der::value(0x18, format!("{year:04}{rest}").as_bytes()),
    }
}

/// One block of PEM (RFC 7468).
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<String> =
        text.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// What stands in the first block of this label.
pub(super) fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    STANDARD.decode(body.split_ascii_whitespace().collect::<String>()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_change_their_form_with_2050() {
        assert_eq!(moment(0), b"\x17\x0d700101000000Z");
        assert_eq!(moment(2_524_608_000 - 1), b"\x17\x0d491231235959Z");
        assert_eq!(moment(2_524_608_000), b"\x18\x0f20500101000000Z");
    }

    #[test]
    fn a_key_comes_back_from_pem() {
        let key = Key::generate(Curve::P384).unwrap();
        let text = pem("PRIVATE KEY", &key.to_pkcs8().unwrap());
        let again = Key::from_pkcs8(Curve::P384, &from_pem("PRIVATE KEY", &text).unwrap()).unwrap();
        assert_eq!(again.spki(), key.spki());
        assert!(Key::from_pkcs8(Curve::P256, b"no key").is_err());
        assert_eq!(from_pem("CERTIFICATE", &text), None);
    }
}
