//! Receipts as App Attest has them: PKCS #7 (RFC 5652) over a set of fields, by a signer below the root.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::certificate::{Certificate, Curve, Issuer, Key, extension, name, p256_spki, random_serial};
use super::der::{self, oid};
use super::ios::Apple;
use super::{DAY, YEAR};
use crate::attester::AttestError;
use crate::signer::{PublicJwk, base64url, sha256};

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];

/// Who signs receipts.
const SIGNER: &str = "Application Attestation Fraud Receipt Signing";

/// What a receipt says.
pub(super) struct Facts<'a> {
    pub(super) app_id: &'a str,
    pub(super) production: bool,
    /// Apple's measure, and after how many seconds it gives another: only in receipts that are given for older ones.
    pub(super) metric: Option<(u32, i64)>,
    pub(super) now: i64,
}

/// A receipt for the key that this certificate is about. Another one can be had for it at once.
pub(super) fn of(apple: &Apple, leaf: &[u8], facts: &Facts<'_>) -> Result<Vec<u8>, AttestError> {
    let key = Key::generate(Curve::P256)?;
    let signer = Issuer { name: name(&[(oid::COMMON_NAME, SIGNER), (oid::ORGANIZATION, "Simulator")]), key };
    let serial = random_serial()?;
    let point = PublicJwk::from_point(&signer.key.point()?).ok_or(AttestError::Unavailable)?;
    let certificate = Certificate {
        serial: serial.clone(),
        name: signer.name.clone(),
        spki: p256_spki(&point),
        valid: (facts.now - DAY, facts.now + YEAR),
        extensions: vec![extension(oid::KEY_USAGE, true, &der::value(0x03, &[7, 0x80]))],
    };
    let certificate = certificate.sign(&apple.root)?;
    let content = content(leaf, facts)?;
    let algorithm = |id: &[u8]| der::sequence(&[der::oid(id)]);
    let info = der::sequence(&[
        der::integer(1),
        der::sequence(&[apple.root.name.clone(), der::unsigned(&serial)]),
        algorithm(SHA256),
        algorithm(oid::ECDSA_SHA256),
        der::octets(&signer.key.sign(&content)?),
    ]);
    let data = der::sequence(&[
        der::integer(1),
        der::set(&[algorithm(SHA256)]),
        der::sequence(&[der::oid(DATA), der::explicit(0, &der::octets(&content))]),
        der::explicit(0, &certificate),
        der::set(&[info]),
    ]);
    Ok(der::sequence(&[der::oid(SIGNED_DATA), der::explicit(0, &data)]))
}

fn content(leaf: &[u8], facts: &Facts<'_>) -> Result<Vec<u8>, AttestError> {
    let field = |kind: u64, value: &[u8]| der::sequence(&[der::integer(kind), der::integer(1), der::octets(value)]);
    let time = |at: i64| {
        let at = OffsetDateTime::from_unix_timestamp(at).ok().and_then(|at| at.format(&Rfc3339).ok());
        at.ok_or(AttestError::Unavailable)
    };
    let kind = if facts.metric.is_some() { "RECEIPT" } else { "ATTEST" };
    let environment = if facts.production { "production" } else { "sandbox" };
    let mut fields = vec![
        field(2, facts.app_id.as_bytes()),
        field(3, leaf),
        field(4, &sha256(leaf)),
        field(5, base64url(sha256(leaf)).as_bytes()),
        field(6, kind.as_bytes()),
        field(7, environment.as_bytes()),
        field(12, time(facts.now)?.as_bytes()),
    ];
    if let Some((metric, next)) = facts.metric {
        fields.push(field(17, metric.to_string().as_bytes()));
        fields.push(field(19, time(facts.now + next)?.as_bytes()));
    } else {
        fields.push(field(19, time(facts.now)?.as_bytes()));
    }
    fields.push(field(21, time(facts.now + 90 * DAY)?.as_bytes()));
    Ok(der::set(&fields))
}
