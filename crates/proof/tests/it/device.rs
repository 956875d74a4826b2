//! A device that attests whatever a test wants: its chain is written octet by octet and signed with keys made here.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};

pub(crate) const DESCRIPTION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x01, 0x11];
pub(crate) const PROVISIONING: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x01, 0x1e];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
pub(crate) const ML_DSA_65: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x03, 0x12];

const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];

/// One value of DER.
pub(crate) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).unwrap()),
        long => {
            let octets = u32::try_from(long).unwrap().to_be_bytes();
            let octets: Vec<u8> = octets.into_iter().skip_while(|octet| *octet == 0).collect();
            out.push(0x80 | u8::try_from(octets.len()).unwrap());
            out.extend(octets);
        }
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn seq(parts: &[Vec<u8>]) -> Vec<u8> {
    der(0x30, &parts.concat())
}

pub(crate) fn int(value: u32) -> Vec<u8> {
    let mut octets: Vec<u8> = value.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
    if octets.first().is_none_or(|first| first & 0x80 != 0) {
        octets.insert(0, 0);
    }
    der(2, &octets)
}

/// A member of an authorisation list.
pub(crate) fn tagged(number: u32, value: &[u8]) -> Vec<u8> {
    let Ok(low @ 0..=30) = u8::try_from(number) else {
        let mut out = vec![0xbf, 0x80 | u8::try_from(number >> 7).unwrap(), u8::try_from(number & 0x7f).unwrap()];
        out.extend(&der(0, value)[1..]);
        return out;
    };
    der(0xa0 | low, value)
}

fn oid(content: &[u8]) -> Vec<u8> {
    der(6, content)
}

fn name(parts: &[(&[u8], &str)]) -> Vec<u8> {
    let one = |(kind, value): &(&[u8], &str)| der(0x31, &seq(&[oid(kind), der(0x0c, value.as_bytes())]));
    seq(&parts.iter().map(one).collect::<Vec<_>>())
}

/// Who a certificate is of.
pub(crate) struct Party {
    key: EcdsaKeyPair,
    name: Vec<u8>,
}

impl Party {
    fn new(parts: &[(&[u8], &str)]) -> Self {
        Self { key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap(), name: name(parts) }
    }

    pub(crate) fn spki(&self) -> Vec<u8> {
        let algorithm = seq(&[oid(EC_KEY), oid(P256)]);
        seq(&[algorithm, der(3, &[&[0], self.key.public_key().as_ref()].concat())])
    }
}

/// A device and what it says. Every member can be changed before the chain is made.
pub(crate) struct Device {
    /// 0 software, 1 trusted environment, 2 secure element: of the attestation, of the key.
    pub(crate) levels: (u8, u8),
    pub(crate) challenge: Vec<u8>,
    pub(crate) software: Vec<Vec<u8>>,
    pub(crate) hardware: Vec<Vec<u8>>,
    /// The organisation of the device's own certificate.
    pub(crate) organization: &'static str,
    /// The key that is attested, instead of one on P-256.
    pub(crate) leaf_spki: Option<Vec<u8>>,
    /// Extensions (identifier, content) of the certificate above the leaf.
    pub(crate) above: Vec<(&'static [u8], Vec<u8>)>,
    /// Parameters of the algorithm the leaf is signed with.
    pub(crate) null_parameters: bool,
    /// Whether the key came from the factory.
    pub(crate) factory: bool,
    /// The last year and month the certificates between are valid.
    pub(crate) until: &'static str,
}

/// `com.example.app` in version 42, signed with a certificate whose digest is all sevens.
pub(crate) fn application(package: &str) -> Vec<u8> {
    let package = seq(&[der(4, package.as_bytes()), int(42)]);
    let id = seq(&[der(0x31, &package), der(0x31, &der(4, &[7; 32]))]);
    tagged(709, &der(4, &id))
}

pub(crate) fn root_of_trust(locked: u8, state: u8) -> Vec<u8> {
    let parts = [der(4, &[1; 32]), der(1, &[locked]), der(10, &[state]), der(4, &[2; 32])];
    tagged(704, &seq(&parts))
}

pub(crate) fn purposes(of: &[u32]) -> Vec<u8> {
    tagged(1, &der(0x31, &of.iter().map(|purpose| int(*purpose)).collect::<Vec<_>>().concat()))
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            levels: (1, 1),
            challenge: b"challenge".to_vec(),
            software: vec![application("com.example.app")],
            hardware: vec![
                purposes(&[2]),
                tagged(2, &int(3)),
                tagged(3, &int(256)),
                tagged(10, &int(1)),
                tagged(503, &[5, 0]),
                tagged(702, &int(0)),
                root_of_trust(0xff, 0),
                tagged(706, &int(202_610)),
            ],
            organization: "TEE",
            leaf_spki: None,
            above: Vec::new(),
            null_parameters: false,
            factory: false,
            until: "261231",
        }
    }

    pub(crate) fn description(&self) -> Vec<u8> {
        seq(&[
            int(300),
            der(10, &[self.levels.0]),
            int(300),
            der(10, &[self.levels.1]),
            der(4, &self.challenge),
            der(4, &[]),
            der(0x30, &self.software.concat()),
            der(0x30, &self.hardware.concat()),
        ])
    }

    /// The chain, the root last.
    pub(crate) fn chain(&self) -> Vec<Vec<u8>> {
        let root = Party::new(&[(COMMON_NAME, "Key Attestation CA1 (TEST)")]);
        let (upper, device) = if self.factory {
            (
                Party::new(&[(SERIAL_NUMBER, "f1")]),
                Party::new(&[(SERIAL_NUMBER, "f2"), (ORGANIZATION, self.organization)]),
            )
        } else {
            let upper = Party::new(&[(COMMON_NAME, "Droid CA2"), (ORGANIZATION, "Google LLC")]);
            (upper, Party::new(&[(COMMON_NAME, "0123"), (ORGANIZATION, self.organization)]))
        };
        let leaf = Party::new(&[(COMMON_NAME, "Android Keystore Key")]);
        let spki = self.leaf_spki.clone().unwrap_or_else(|| leaf.spki());
        let usage = extension(&[0x55, 0x1d, 0x0f], true, &der(3, &[7, 0x80]));
        let description = extension(DESCRIPTION, false, &self.description());
        let leaf = certificate(&(1, &leaf.name, &spki), &device, &[usage, description], self);
        let mut of_device = authority();
        of_device.extend(self.above.iter().map(|(kind, content)| extension(kind, false, content)));
        let plain = Self { null_parameters: false, until: self.until, ..Self::new() };
        vec![
            leaf,
            certificate(&(2, &device.name, &device.spki()), &upper, &of_device, &plain),
            certificate(&(3, &upper.name, &upper.spki()), &root, &authority(), &plain),
            certificate(&(4, &root.name, &root.spki()), &root, &authority(), &plain),
        ]
    }
}

/// `basicConstraints` and `keyUsage` of those who issue.
fn authority() -> Vec<Vec<u8>> {
    let constraints = seq(&[der(1, &[0xff])]);
    vec![extension(&[0x55, 0x1d, 0x13], true, &constraints), extension(&[0x55, 0x1d, 0x0f], true, &der(3, &[2, 4]))]
}

fn extension(kind: &[u8], critical: bool, content: &[u8]) -> Vec<u8> {
    let mut parts = vec![oid(kind)];
    if critical {
        parts.push(der(1, &[0xff]));
    }
    parts.push(der(4, content));
    seq(&parts)
}

/// A certificate of a subject (serial number, name, key).
fn certificate(subject: &(u32, &[u8], &[u8]), issuer: &Party, extensions: &[Vec<u8>], of: &Device) -> Vec<u8> {
    let (serial, name, spki) = subject;
    let mut algorithm = vec![oid(ECDSA_SHA256)];
    if of.null_parameters {
        algorithm.push(vec![5, 0]);
    }
    let algorithm = seq(&algorithm);
    let time = |day: &str| der(0x17, format!("{day}000000Z").as_bytes());
    let tbs = seq(&[
        der(0xa0, &int(2)),
        int(*serial),
        algorithm.clone(),
        issuer.name.clone(),
        seq(&[time("260101"), time(of.until)]),
        name.to_vec(),
        spki.to_vec(),
        der(0xa3, &der(0x30, &extensions.concat())),
    ]);
    let signature = issuer.key.sign(&SystemRandom::new(), &tbs).unwrap();
    seq(&[tbs, algorithm, der(3, &[&[0], signature.as_ref()].concat())])
}

/// A key of another kind.
pub(crate) fn foreign_spki(algorithm: &[u8], key: &[u8]) -> Vec<u8> {
    seq(&[seq(&[oid(algorithm)]), der(3, &[&[0], key].concat())])
}
