//! Chains of certificates up to a pinned key (RFC 5280 section 6, without what platforms' attestation chains never have:
//! policies, name constraints and revocation by CRL).
//!
//! A root is known by its public key, never by its bytes: makers issue one key in several certificates. What a message
//! brings along as its root is only compared. Which certificates must be in date is for the caller to say, because
//! makers differ; each kind of chain has its own rules on top.

mod anchors;
mod certificate;

use base::Timestamp;

pub use anchors::{Anchor, Anchors};
pub use certificate::{Certificate, certificates_from_pem};

/// How many certificates a chain has and how long they are together.
#[derive(Debug, Clone, Copy)]
pub struct ChainLimits {
    /// The fewest certificates.
    pub fewest: usize,
    /// The most certificates.
    pub most: usize,
    /// Bytes of DER, all together.
    pub bytes: usize,
}

/// Why a chain is refused. Positions count from the leaf, which is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// More bytes than the limit.
    #[error("the chain is too long")]
    TooLong,
    /// Fewer or more certificates than the limits.
    #[error("the chain has {0} certificates")]
    Count(usize),
    /// Not one certificate in DER.
    #[error("certificate {0} is not one X.509 certificate in DER")]
    Malformed(usize),
    /// Not PEM.
    #[error("not certificates in PEM")]
    Pem,
    /// The last certificate was not issued by itself: the root is missing, or the order is wrong.
    #[error("the chain does not end with a root")]
    NoRoot,
    /// The root's key is not pinned.
    #[error("the chain ends with a root that is not trusted")]
    UnknownRoot,
    /// The issuer's name is not the next certificate's subject.
    #[error("certificate {0} was issued by somebody else than the next one")]
    Issuer(usize),
    /// The signature is not by the next certificate's key.
    #[error("the signature of certificate {0} is wrong")]
    Signature(usize),
    /// Signed with an algorithm no chain of ours has, or naming two.
    #[error("certificate {0} is signed with an unsupported algorithm")]
    Algorithm(usize),
    /// It issued a certificate and is no authority (`basicConstraints`).
    #[error("certificate {0} is not that of an authority")]
    NotAuthority(usize),
    /// It issued a certificate and its key is not for that (`keyUsage`).
    #[error("the key of certificate {0} is not for signing certificates")]
    KeyUsage(usize),
    /// More authorities below it than it allows (`pathLenConstraint`).
    #[error("the chain below certificate {0} is longer than it allows")]
    PathLength(usize),
    /// A critical extension that is not understood.
    #[error("certificate {0} has a critical extension that is not understood")]
    Critical(usize),
    /// One extension twice.
    #[error("certificate {0} has one extension twice")]
    DuplicateExtension(usize),
    /// Past its end.
    #[error("certificate {0} has expired")]
    Expired(usize),
    /// Before its beginning.
    #[error("certificate {0} is not yet valid")]
    NotYetValid(usize),
}

impl ChainError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "chain_too_long",
            Self::Count(_) => "chain_length",
            Self::Malformed(_) => "chain_malformed_certificate",
            Self::Pem => "chain_malformed_pem",
            Self::NoRoot => "chain_root_missing",
            Self::UnknownRoot => "chain_unknown_root",
            Self::Issuer(_) => "chain_issuer_mismatch",
            Self::Signature(_) => "chain_bad_signature",
            Self::Algorithm(_) => "chain_unsupported_algorithm",
            Self::NotAuthority(_) => "chain_not_authority",
            Self::KeyUsage(_) => "chain_key_usage",
            Self::PathLength(_) => "chain_path_length",
            Self::Critical(_) => "chain_critical_extension",
            Self::DuplicateExtension(_) => "chain_duplicate_extension",
            Self::Expired(_) => "chain_expired",
            Self::NotYetValid(_) => "chain_not_yet_valid",
        }
    }
}

/// Certificates, the leaf first. Read, but not verified.
#[derive(Debug)]
pub struct Chain<'a> {
    certificates: Vec<Certificate<'a>>,
}

impl<'a> Chain<'a> {
    /// Read each certificate.
    pub fn parse<'b: 'a>(ders: &[&'b [u8]], limits: ChainLimits) -> Result<Self, ChainError> {
        if ders.len() < limits.fewest || ders.len() > limits.most {
            return Err(ChainError::Count(ders.len()));
        }
        if ders.iter().map(|der| der.len()).sum::<usize>() > limits.bytes {
            return Err(ChainError::TooLong);
        }
        let certificates = ders.iter().enumerate().map(|(at, der)| Certificate::parse(der, at));
        Ok(Self { certificates: certificates.collect::<Result<_, _>>()? })
    }

    /// The certificates, the leaf first.
    pub fn certificates(&self) -> &[Certificate<'a>] {
        &self.certificates
    }

    /// The first one.
    pub fn leaf(&self) -> Option<&Certificate<'a>> {
        self.certificates.first()
    }

    /// That it ends with a certificate issued by itself whose key is pinned.
    pub fn check_root(&self, anchors: &Anchors) -> Result<(), ChainError> {
        let root = self.certificates.last().filter(|root| root.is_self_issued()).ok_or(ChainError::NoRoot)?;
        if anchors.holds(root.spki()) { Ok(()) } else { Err(ChainError::UnknownRoot) }
    }

    /// That the last certificate was issued by a pinned root, which the chain leaves out, each other one by the next, and
    /// that all but the leaf may issue. Dates are not looked at.
    pub fn verify_below_root(&self, anchors: &Anchors) -> Result<(), ChainError> {
        let at = self.certificates.len().saturating_sub(1);
        let last = self.certificates.last().ok_or(ChainError::Count(0))?;
        let mut named = anchors.named(last.issuer()).peekable();
        if named.peek().is_none() {
            return Err(ChainError::UnknownRoot);
        }
        if !named.any(|anchor| last.is_signed_by(anchor.key(), at).is_ok()) {
            return Err(ChainError::Signature(at));
        }
        self.verify_links()
    }

    /// That each certificate was issued by the next one, and that all but the leaf may issue. Dates are not looked at.
    pub fn verify_links(&self) -> Result<(), ChainError> {
        for (at, certificate) in self.certificates.iter().enumerate() {
            certificate.check_extensions(at)?;
            if at > 0 {
                certificate.may_issue(at)?;
            }
        }
        for (at, (child, issuer)) in self.certificates.iter().zip(self.certificates.iter().skip(1)).enumerate() {
            if !child.was_issued_by(issuer) {
                return Err(ChainError::Issuer(at));
            }
            child.is_signed_by(issuer.key(), at)?;
        }
        Ok(())
    }

    /// That the certificates at these positions are in date, or `expiry` aside, have begun.
    pub fn check_dates(
        &self,
        positions: std::ops::Range<usize>,
        now: Timestamp,
        expiry: Expiry,
    ) -> Result<(), ChainError> {
        let chosen = self.certificates.iter().enumerate().filter(|(at, _)| positions.contains(at));
        for (at, certificate) in chosen {
            if now < certificate.not_before() {
                return Err(ChainError::NotYetValid(at));
            }
            if expiry == Expiry::Refused && now.as_secs() > certificate.not_after().as_secs() {
                return Err(ChainError::Expired(at));
            }
        }
        Ok(())
    }
}

/// What becomes of a certificate that is past its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// The chain is refused.
    Refused,
    /// It still counts.
    Tolerated,
}

#[cfg(test)]
mod tests;
