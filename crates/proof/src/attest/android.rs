//! Android Key Attestation: a key that the device's hardware made, with what it says of the system and the app
//! (<https://developer.android.com/privacy-and-security/security-key-attestation>).
//!
//! What counts is what the hardware says (`hardwareEnforced`); the app's name and signature stand in `softwareEnforced` and
//! are worth as much as the system that wrote them, so they only carry on a locked device whose boot was verified, or that
//! runs a system whose key the operator has listed. Stricter than the makers' own library: the attestation stands in the
//! leaf only, the DER has one spelling, `SUSPENDED` is revoked.

mod description;
mod facts;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::Timestamp;

pub use description::{
    ApplicationId, AuthorizationList, BootState, KeyDescription, MAX_DESCRIPTION_LEN, RootOfTrust, SecurityLevel,
};

use super::asn1::DerError;
use super::chain::{Anchors, Certificate, Chain, ChainError, ChainLimits, Expiry};
use super::status::{Revocation, StatusList};
use super::{Level, Summary};
use crate::jose::{base64url_encode, sha256};

/// The extension that holds the [`KeyDescription`].
const DESCRIPTION: &str = "1.3.6.1.4.1.11129.2.1.17";

/// The extension that says how many certificates a device was given.
const PROVISIONING: &str = "1.3.6.1.4.1.11129.2.1.30";

/// What a chain may be.
pub const LIMITS: ChainLimits = ChainLimits { fewest: 3, most: 8, bytes: 32 << 10 };

/// ML-DSA-44, ML-DSA-65, ML-DSA-87.
const ML_DSA: [&str; 3] = ["2.16.840.1.101.3.4.3.17", "2.16.840.1.101.3.4.3.18", "2.16.840.1.101.3.4.3.19"];

const PURPOSE_SIGN: u64 = 2;
const PURPOSE_ATTEST_KEY: u64 = 7;
const ALGORITHM_EC: u64 = 3;
const CURVE_P256: u64 = 1;
const ORIGIN_GENERATED: u64 = 0;

/// An app as it is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AndroidApp {
    /// The name of the package.
    pub package: String,
    /// SHA-256 of each certificate it may be signed with.
    pub digests: Vec<[u8; 32]>,
    /// The least version code.
    pub least_version: Option<u64>,
}

/// What a chain is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AndroidRules<'a> {
    /// Whose chains count.
    pub anchors: &'a Anchors,
    /// What is revoked.
    pub status: &'a StatusList,
    /// The moment of the enrolment.
    pub now: Timestamp,
    /// What the key was to be made with. `None` compares nothing: for an operator's look at a file only.
    pub challenge: Option<&'a [u8]>,
    /// The app it was to be made by. `None` compares nothing: for an operator's look at a file only.
    pub app: Option<&'a AndroidApp>,
    /// `verifiedBootKey` of systems that are trusted although their owner signed them.
    pub boot_keys: &'a [Vec<u8>],
}

/// How a device came by its attestation key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provisioning {
    /// In the factory, for life.
    Factory,
    /// Over the air, for days.
    Remote,
}

impl Provisioning {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Factory => "factory",
            Self::Remote => "remote",
        }
    }
}

/// Why a chain is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AndroidError {
    /// The chain does not hold.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The leaf says nothing of its key.
    #[error("the leaf has no key description")]
    NoDescription,
    /// A certificate above the leaf has a key description: an attested key signed its own "attestation".
    #[error("certificate {0} above the leaf has a key description")]
    DescriptionAboveLeaf(usize),
    /// The key description is not what it must be.
    #[error("the key description is refused: {0}")]
    Description(DerError),
    /// A certificate is on the revocation list.
    #[error("certificate {0} is on the revocation list")]
    Revoked(usize, Revocation),
    /// Android made the attestation, not the hardware.
    #[error("the key is not in hardware")]
    SoftwareLevel,
    /// The attestation is of another level than the key.
    #[error("the attestation is of another security level than the key")]
    LevelMismatch,
    /// The level is not that of the chain.
    #[error("the security level is not that of the chain")]
    LevelOfChain,
    /// The hardware does not say what was started.
    #[error("the hardware says nothing of the system")]
    NoRootOfTrust,
    /// The hardware does not say that it made the key.
    #[error("the key was not made in the hardware")]
    Origin,
    /// Every app of the device may use the key, or it may not sign, or it may attest other keys.
    #[error("the key is not for signing by one app")]
    Purpose,
    /// Not a key on P-256.
    #[error("the key is not on P-256")]
    Key,
    /// A key for ML-DSA: nothing here signs with one yet.
    #[error("the key is for ML-DSA")]
    MlDsa,
    /// The key was made with another challenge.
    #[error("the challenge is another one")]
    Challenge,
    /// Android does not say which app made the key.
    #[error("the app is not named")]
    NoApplication,
    /// Another package.
    #[error("the package is another one")]
    Package,
    /// Several packages share the user id.
    #[error("several packages share the key")]
    SharedPackage,
    /// Signed with another certificate.
    #[error("the app is signed with another certificate")]
    Digest,
    /// Older than the app may be.
    #[error("the app is older than the least version")]
    Version,
}

impl AndroidError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Chain(error) => error.reason(),
            Self::NoDescription => "key_description_missing",
            Self::DescriptionAboveLeaf(_) => "key_description_above_leaf",
            Self::Description(_) => "key_description_malformed",
            Self::Revoked(_, Revocation::Revoked) => "certificate_revoked",
            Self::Revoked(_, Revocation::Suspended) => "certificate_suspended",
            Self::SoftwareLevel => "security_level_software",
            Self::LevelMismatch => "security_level_mismatch",
            Self::LevelOfChain => "security_level_not_of_chain",
            Self::NoRootOfTrust => "root_of_trust_missing",
            Self::Origin => "key_origin_not_generated",
            Self::Purpose => "key_purpose",
            Self::Key => "key_not_p256",
            Self::MlDsa => "key_ml_dsa",
            Self::Challenge => "challenge_mismatch",
            Self::NoApplication => "application_id_missing",
            Self::Package => "package_mismatch",
            Self::SharedPackage => "package_shared",
            Self::Digest => "signing_digest_mismatch",
            Self::Version => "app_version_too_old",
        }
    }
}

/// A chain that holds, and what it says. The level says whether it carries: on a device whose boot was not verified it is
/// [`Level::None`], because nothing the system says can be believed there.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAndroid {
    /// What a policy is told.
    pub summary: Summary,
    /// The attested key's point on P-256, uncompressed.
    pub public_key: [u8; 65],
    /// The key description.
    pub description: KeyDescription,
    /// How the device came by its attestation key.
    pub provisioning: Provisioning,
    /// The serial numbers of the certificates above the leaf in hex: to be looked up again when the list changes.
    pub serials: Vec<String>,
}

impl VerifiedAndroid {
    /// The key's thumbprint (RFC 7638) as base64url: what must be the instance key's.
    pub fn jkt(&self) -> String {
        let half = |range| base64url_encode(self.public_key.get(range).unwrap_or_default());
        let (x, y) = (half(1..33), half(33..65));
        base64url_encode(sha256(format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#).as_bytes()))
    }
}

/// Verify a chain of certificates in DER, the leaf first and the root last.
pub fn verify(ders: &[&[u8]], rules: &AndroidRules<'_>) -> Result<VerifiedAndroid, AndroidError> {
    let chain = Chain::parse(ders, LIMITS)?;
    chain.check_root(rules.anchors)?;
    let certificates = chain.certificates();
    check_place(certificates)?;
    chain.verify_links()?;
    let description = describe(certificates)?;
    let provisioning = check_dates(&chain, rules.now)?;
    check_revocation(certificates, rules.status)?;
    check_level(certificates, provisioning, &description)?;
    let root_of_trust = check_key(&description)?;
    let public_key = public_key(certificates, &description)?;
    if rules.challenge.is_some_and(|wanted| verify_slices_are_equal(wanted, &description.challenge).is_err()) {
        return Err(AndroidError::Challenge);
    }
    if let Some(app) = rules.app {
        check_app(&description, app)?;
    }
    let serials = certificates.iter().skip(1).map(Certificate::serial_hex).collect();
    let found = facts::Found { certificates, description: &description, provisioning, root_of_trust };
    Ok(VerifiedAndroid { summary: found.summary(rules), public_key, description, provisioning, serials })
}

/// Only the leaf may have a key description: an attested key could sign a certificate with another one.
fn check_place(certificates: &[Certificate<'_>]) -> Result<(), AndroidError> {
    let above = certificates.iter().enumerate().skip(1).find(|(_, one)| one.extension(DESCRIPTION).is_some());
    above.map_or(Ok(()), |(at, _)| Err(AndroidError::DescriptionAboveLeaf(at)))
}

fn describe(certificates: &[Certificate<'_>]) -> Result<KeyDescription, AndroidError> {
    let extension = certificates.first().and_then(|leaf| leaf.extension(DESCRIPTION));
    KeyDescription::parse(extension.ok_or(AndroidError::NoDescription)?).map_err(AndroidError::Description)
}

/// The dates of the leaf are its owner's to choose, and the root is a key. Between them: what a factory put into a device
/// outlives its certificates, what came over the air must be in date.
fn check_dates(chain: &Chain<'_>, now: Timestamp) -> Result<Provisioning, AndroidError> {
    let root = chain.certificates().len().saturating_sub(1);
    let below_root = chain.certificates().get(root.saturating_sub(1));
    let factory = below_root.is_some_and(|one| one.subject_serial().is_some());
    let (provisioning, expiry) =
        if factory { (Provisioning::Factory, Expiry::Tolerated) } else { (Provisioning::Remote, Expiry::Refused) };
    chain.check_dates(1..root, now, expiry)?;
    Ok(provisioning)
}

fn check_revocation(certificates: &[Certificate<'_>], status: &StatusList) -> Result<(), AndroidError> {
    for (at, certificate) in certificates.iter().enumerate() {
        if let Some(revocation) = status.of_serial(&certificate.serial_hex()) {
            return Err(AndroidError::Revoked(at, revocation));
        }
    }
    Ok(())
}

/// Attestation and key are of one level, which is the chain's where the chain says one: a key of the trusted environment
/// cannot pass for one of the secure element.
fn check_level(
    certificates: &[Certificate<'_>],
    provisioning: Provisioning,
    description: &KeyDescription,
) -> Result<(), AndroidError> {
    let level = description.attestation_level;
    if level == SecurityLevel::Software || description.keymint_level == SecurityLevel::Software {
        return Err(AndroidError::SoftwareLevel);
    }
    if level != description.keymint_level {
        return Err(AndroidError::LevelMismatch);
    }
    let of_chain = match provisioning {
        Provisioning::Remote => {
            let device = certificates.get(1).and_then(Certificate::organization);
            device.map_or(level == SecurityLevel::TrustedEnvironment, |name| match name.as_str() {
                "StrongBox" => level == SecurityLevel::StrongBox,
                _ => level == SecurityLevel::TrustedEnvironment,
            })
        }
        Provisioning::Factory => {
            let named = |one: &Certificate<'_>| one.subject_values().iter().any(|(_, value)| is_strongbox(value));
            level != SecurityLevel::StrongBox || certificates.iter().skip(1).any(named)
        }
    };
    if of_chain { Ok(()) } else { Err(AndroidError::LevelOfChain) }
}

fn is_strongbox(value: &str) -> bool {
    value.to_ascii_lowercase().contains("strongbox")
}

/// What the hardware says of the key.
fn check_key(description: &KeyDescription) -> Result<&RootOfTrust, AndroidError> {
    let hardware = &description.hardware;
    let root_of_trust = hardware.root_of_trust.as_ref().ok_or(AndroidError::NoRootOfTrust)?;
    if hardware.origin != Some(ORIGIN_GENERATED) {
        return Err(AndroidError::Origin);
    }
    let for_all = hardware.all_applications || description.software.all_applications;
    let purposes = &hardware.purposes;
    if for_all || !purposes.contains(&PURPOSE_SIGN) || purposes.contains(&PURPOSE_ATTEST_KEY) {
        return Err(AndroidError::Purpose);
    }
    Ok(root_of_trust)
}

/// The leaf's key, which is what the hardware says it is.
fn public_key(certificates: &[Certificate<'_>], description: &KeyDescription) -> Result<[u8; 65], AndroidError> {
    let leaf = certificates.first().ok_or(AndroidError::Key)?;
    if ML_DSA.contains(&leaf.key_algorithm().as_str()) {
        return Err(AndroidError::MlDsa);
    }
    let hardware = &description.hardware;
    let curve = hardware.ec_curve.is_none_or(|curve| curve == CURVE_P256);
    if hardware.algorithm != Some(ALGORITHM_EC) || !curve {
        return Err(AndroidError::Key);
    }
    leaf.p256_point().ok_or(AndroidError::Key)
}

fn check_app(description: &KeyDescription, app: &AndroidApp) -> Result<(), AndroidError> {
    let named = description.software.application.as_ref().ok_or(AndroidError::NoApplication)?;
    let (package, version) = match named.packages.as_slice() {
        [] => return Err(AndroidError::NoApplication),
        [one] => one,
        _ => return Err(AndroidError::SharedPackage),
    };
    if *package != app.package {
        return Err(AndroidError::Package);
    }
    if !named.digests.iter().any(|digest| app.digests.contains(digest)) {
        return Err(AndroidError::Digest);
    }
    if app.least_version.is_some_and(|least| *version < least) {
        return Err(AndroidError::Version);
    }
    Ok(())
}

/// The level of a device in this state.
fn level_of(root_of_trust: &RootOfTrust, boot_keys: &[Vec<u8>]) -> Level {
    let listed = boot_keys.contains(&root_of_trust.verified_boot_key);
    match root_of_trust.boot_state {
        BootState::Verified if root_of_trust.device_locked => Level::HwStrong,
        BootState::SelfSigned if root_of_trust.device_locked && listed => Level::Hw,
        _ => Level::None,
    }
}
