//! The `KeyDescription` of an attested key: extension 1.3.6.1.4.1.11129.2.1.17
//! (<https://source.android.com/docs/security/features/keystore/attestation#schema>).
//!
//! Read as DER, strictly: a BOOLEAN is 0x00 or 0xFF, the tags of a list ascend and none occurs twice, what is known has its
//! type. Tags and versions of tomorrow are passed over. The identifiers of the device (710 to 717, 723, `uniqueId`) are
//! never taken out.

use crate::attest::asn1::{Der, DerError, Tag};

/// The longest description, in bytes.
pub const MAX_DESCRIPTION_LEN: usize = 16 << 10;

/// The most numbers of a set, packages or digests.
const MAX_MEMBERS: usize = 64;

/// The longest challenge: Keystore takes 128 bytes.
const MAX_CHALLENGE_LEN: usize = 128;

/// The longest package name, in bytes.
const MAX_PACKAGE_LEN: usize = 512;

/// Where a key lives, or who says so (`SecurityLevel`), weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SecurityLevel {
    /// Android itself: says nothing.
    Software,
    /// A trusted execution environment.
    TrustedEnvironment,
    /// A secure element.
    StrongBox,
}

impl SecurityLevel {
    /// The name, as facts and configuration have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Software => "software",
            Self::TrustedEnvironment => "tee",
            Self::StrongBox => "strongbox",
        }
    }
}

/// What the boot loader found (`VerifiedBootState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BootState {
    /// The maker's system.
    Verified,
    /// A system signed with a key of the owner's.
    SelfSigned,
    /// Not checked: the boot loader is unlocked.
    Unverified,
    /// Checked, and wrong.
    Failed,
}

impl BootState {
    /// The name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::SelfSigned => "self-signed",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
        }
    }
}

/// What the system was started from (`RootOfTrust`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootOfTrust {
    /// The key, or its digest, that the system is signed with.
    pub verified_boot_key: Vec<u8>,
    /// Whether the boot loader is locked.
    pub device_locked: bool,
    /// What was found.
    pub boot_state: BootState,
    /// The digest of all that was checked; absent before version 3.
    pub verified_boot_hash: Option<Vec<u8>>,
}

/// Which app made the key (`AttestationApplicationId`), as Android says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplicationId {
    /// Names and version codes. More than one where several share a user id.
    pub packages: Vec<(String, u64)>,
    /// SHA-256 of the certificates the app is signed with.
    pub digests: Vec<[u8; 32]>,
}

/// What a list says of what matters here (`AuthorizationList`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuthorizationList {
    /// What the key may do: 2 is to sign, 7 to attest other keys.
    pub purposes: Vec<u64>,
    /// 3 is EC.
    pub algorithm: Option<u64>,
    /// 1 is P-256.
    pub ec_curve: Option<u64>,
    /// Whether every app may use it.
    pub all_applications: bool,
    /// Where the key comes from: 0 is made there.
    pub origin: Option<u64>,
    /// What the system was started from.
    pub root_of_trust: Option<RootOfTrust>,
    /// As `MMmmss`; 0 where the boot loader does not say.
    pub os_version: Option<u64>,
    /// As YYYYMM; 0 where the boot loader does not say.
    pub os_patch_level: Option<u64>,
    /// As YYYYMMDD or YYYYMM.
    pub vendor_patch_level: Option<u64>,
    /// As YYYYMMDD or YYYYMM.
    pub boot_patch_level: Option<u64>,
    /// Which app made the key.
    pub application: Option<ApplicationId>,
}

/// What a device's hardware says of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyDescription {
    /// The version of this form: 1 to 4 Keymaster's, from 100 `KeyMint`'s.
    pub attestation_version: u64,
    /// Who signed this.
    pub attestation_level: SecurityLevel,
    /// The version of the key store.
    pub keymint_version: u64,
    /// Where the key lives.
    pub keymint_level: SecurityLevel,
    /// What the app asked the key to be made with.
    pub challenge: Vec<u8>,
    /// What Android says.
    pub software: AuthorizationList,
    /// What the hardware says.
    pub hardware: AuthorizationList,
}

impl KeyDescription {
    /// Read the extension's content.
    pub fn parse(bytes: &[u8]) -> Result<Self, DerError> {
        if bytes.len() > MAX_DESCRIPTION_LEN {
            return Err(DerError::Range);
        }
        let mut outer = Der::new(bytes);
        let mut fields = outer.sequence()?;
        outer.finish()?;
        let attestation_version = fields.integer()?;
        let attestation_level = security_level(fields.enumerated()?)?;
        let keymint_version = fields.integer()?;
        let keymint_level = security_level(fields.enumerated()?)?;
        let challenge = fields.octets()?;
        let _unique_id = fields.octets()?;
        let software = AuthorizationList::parse(fields.sequence()?)?;
        let hardware = AuthorizationList::parse(fields.sequence()?)?;
        fields.finish()?;
        if challenge.len() > MAX_CHALLENGE_LEN {
            return Err(DerError::Range);
        }
        let challenge = challenge.to_vec();
        Ok(Self {
            attestation_version,
            attestation_level,
            keymint_version,
            keymint_level,
            challenge,
            software,
            hardware,
        })
    }
}

impl AuthorizationList {
    fn parse(mut list: Der<'_>) -> Result<Self, DerError> {
        let mut read = Self::default();
        let mut before = 0;
        while !list.is_empty() {
            let (tag, content) = list.any()?;
            if tag != Tag::context(tag.number) {
                return Err(DerError::WrongTag);
            }
            // Numbers start at 1, so this holds for the first too.
            if tag.number <= before {
                return Err(DerError::NotDer);
            }
            before = tag.number;
            let mut value = Der::new(content);
            read.take(tag.number, &mut value)?;
            value.finish()?;
        }
        Ok(read)
    }

    /// One value, by its tag (`Tag.aidl` of `KeyMint`, without the type in the top bits).
    fn take(&mut self, number: u32, value: &mut Der<'_>) -> Result<(), DerError> {
        match number {
            1 => self.purposes = numbers(value.inside(Tag::SET)?)?,
            2 => self.algorithm = Some(value.integer()?),
            10 => self.ec_curve = Some(value.integer()?),
            600 => {
                value.read(Tag::NULL).and_then(|null| Der::new(null).finish())?;
                self.all_applications = true;
            }
            702 => self.origin = Some(value.integer()?),
            704 => self.root_of_trust = Some(root_of_trust(value.sequence()?)?),
            705 => self.os_version = Some(value.integer()?),
            706 => self.os_patch_level = Some(value.integer()?),
            709 => self.application = Some(application_id(value.octets()?)?),
            718 => self.vendor_patch_level = Some(value.integer()?),
            719 => self.boot_patch_level = Some(value.integer()?),
            _ => drop(value.any()?),
        }
        Ok(())
    }
}

fn security_level(value: u64) -> Result<SecurityLevel, DerError> {
    match value {
        0 => Ok(SecurityLevel::Software),
        1 => Ok(SecurityLevel::TrustedEnvironment),
        2 => Ok(SecurityLevel::StrongBox),
        _ => Err(DerError::Range),
    }
}

fn numbers(mut set: Der<'_>) -> Result<Vec<u64>, DerError> {
    let mut found = Vec::new();
    while !set.is_empty() {
        if found.len() >= MAX_MEMBERS {
            return Err(DerError::Range);
        }
        // Genuine devices do not sort the members of their sets.
        found.push(set.integer()?);
    }
    Ok(found)
}

fn root_of_trust(mut fields: Der<'_>) -> Result<RootOfTrust, DerError> {
    let verified_boot_key = fields.octets()?.to_vec();
    let device_locked = fields.boolean()?;
    let boot_state = match fields.enumerated()? {
        0 => BootState::Verified,
        1 => BootState::SelfSigned,
        2 => BootState::Unverified,
        3 => BootState::Failed,
        _ => return Err(DerError::Range),
    };
    let verified_boot_hash = if fields.is_empty() { None } else { Some(fields.octets()?.to_vec()) };
    fields.finish()?;
    Ok(RootOfTrust { verified_boot_key, device_locked, boot_state, verified_boot_hash })
}

fn application_id(bytes: &[u8]) -> Result<ApplicationId, DerError> {
    let mut outer = Der::new(bytes);
    let mut fields = outer.sequence()?;
    outer.finish()?;
    let (mut packages, mut digests) = (Vec::new(), Vec::new());
    let mut set = fields.inside(Tag::SET)?;
    while !set.is_empty() {
        let mut package = set.sequence()?;
        let name = package.octets()?;
        let version = package.integer()?;
        package.finish()?;
        if packages.len() >= MAX_MEMBERS || name.len() > MAX_PACKAGE_LEN {
            return Err(DerError::Range);
        }
        let name = std::str::from_utf8(name).map_err(|_| DerError::NotDer)?;
        packages.push((name.to_owned(), version));
    }
    let mut set = fields.inside(Tag::SET)?;
    while !set.is_empty() {
        let digest = <[u8; 32]>::try_from(set.octets()?).map_err(|_| DerError::Range)?;
        if digests.len() >= MAX_MEMBERS {
            return Err(DerError::Range);
        }
        digests.push(digest);
    }
    fields.finish()?;
    Ok(ApplicationId { packages, digests })
}
