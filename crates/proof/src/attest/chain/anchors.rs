//! Trust anchors: names and keys of roots (RFC 5280 section 6.1.1 d).

use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{SubjectPublicKeyInfo, X509Name};

use super::{Certificate, ChainError, certificates_from_pem};
use crate::jose::sha256;

/// The most roots of one set.
const MAX_ANCHORS: usize = 32;

/// One root: its name and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    subject: Vec<u8>,
    spki: Vec<u8>,
}

impl Anchor {
    /// SHA-256 of the key with its algorithm (`subjectPublicKeyInfo`).
    pub fn fingerprint(&self) -> [u8; 32] {
        sha256(&self.spki)
    }
}

/// An anchor, read.
pub(super) struct NamedKey<'a>(SubjectPublicKeyInfo<'a>);

impl<'a> NamedKey<'a> {
    pub(super) fn key(&self) -> &SubjectPublicKeyInfo<'a> {
        &self.0
    }
}

/// The roots that are trusted for one kind of evidence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Anchors(Vec<Anchor>);

impl Anchors {
    /// The roots whose certificates stand in a PEM text.
    pub fn from_pem(text: &str) -> Result<Self, ChainError> {
        let ders = certificates_from_pem(text, MAX_ANCHORS)?;
        Self::from_der(ders.iter().map(Vec::as_slice))
    }

    /// The roots of these certificates.
    pub fn from_der<'d>(ders: impl IntoIterator<Item = &'d [u8]>) -> Result<Self, ChainError> {
        let mut anchors = Vec::new();
        for (at, der) in ders.into_iter().enumerate() {
            if at >= MAX_ANCHORS {
                return Err(ChainError::Count(at + 1));
            }
            let certificate = Certificate::parse(der, at)?;
            let subject = certificate.subject().as_raw().to_vec();
            anchors.push(Anchor { subject, spki: certificate.spki().to_vec() });
        }
        Ok(Self(anchors))
    }

    /// These, and others besides.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// The roots of Google's hardware attestation: `https://android.googleapis.com/attestation/root`.
    pub fn google() -> Result<Self, ChainError> {
        Self::from_pem(include_str!("../roots/google-hardware-attestation.pem"))
    }

    /// The anchors.
    pub fn anchors(&self) -> &[Anchor] {
        &self.0
    }

    pub(super) fn holds(&self, spki: &[u8]) -> bool {
        self.0.iter().any(|anchor| anchor.spki == spki)
    }

    pub(super) fn named(&self, name: &X509Name<'_>) -> impl Iterator<Item = NamedKey<'_>> {
        let wanted = self.0.iter().filter(|anchor| anchor.subject == name.as_raw());
        wanted.filter_map(|anchor| Some(NamedKey(SubjectPublicKeyInfo::from_der(&anchor.spki).ok()?.1)))
    }
}
