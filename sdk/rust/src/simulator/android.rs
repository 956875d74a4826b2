//! An Android phone whose hardware attests keys, and the authority that certifies it.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use time::OffsetDateTime;

use super::certificate::{Certificate, Curve, Issuer, Key, authority_extensions, extension, from_pem, name, pem};
use super::certificate::{p256_spki, random_serial};
use super::der::{self, oid};
use super::{DAY, YEAR, cbor, lock};
use crate::attester::{AttestError, Attestation, Attester, Platform, Request};
use crate::clock::Clock;
use crate::signer::{PublicJwk, Signer, SoftwareKey, hex, sha256};

/// Stands in for Google: a root for phones.
#[derive(Debug, Clone)]
pub struct Google {
    root: Issuer,
    root_der: Vec<u8>,
    clock: Arc<dyn Clock>,
}

/// How a phone came by its attestation key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// In the factory, for life.
    Factory,
    /// Over the air, for days.
    Remote,
}

/// Where keys live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityLevel {
    /// In Android itself.
    Software,
    /// In a trusted execution environment.
    TrustedEnvironment,
    /// In a secure element.
    StrongBox,
}

impl SecurityLevel {
    const fn number(self) -> u8 {
        match self {
            Self::Software => 0,
            Self::TrustedEnvironment => 1,
            Self::StrongBox => 2,
        }
    }

    const fn organization(self) -> &'static str {
        match self {
            Self::StrongBox => "StrongBox",
            _ => "TEE",
        }
    }
}

/// What the boot loader found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Boot {
    /// The maker's system on a locked phone.
    Verified,
    /// A system signed with this key of the owner's, on a locked phone.
    SelfSigned([u8; 32]),
    /// The phone is unlocked: anything may run.
    Unlocked,
    /// The system was changed.
    Failed,
}

impl Google {
    /// A new root.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        Self::of(Key::generate(Curve::P384)?, clock)
    }

    /// With the root key that [`Google::to_pem`] gave.
    pub fn from_pem(text: &str, clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        let pkcs8 = from_pem("PRIVATE KEY", text).ok_or(AttestError::KeyGone)?;
        Self::of(Key::from_pkcs8(Curve::P384, &pkcs8)?, clock)
    }

    fn of(key: Key, clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        let now = clock.now();
        let attributes = [(oid::COMMON_NAME, "Simulated Key Attestation CA1"), (oid::ORGANIZATION, "Simulator")];
        let root = Issuer { name: name(&attributes), key };
        let root_der = Certificate::of(&root, (now - YEAR, now + 20 * YEAR))?.sign(&root)?;
        Ok(Self { root, root_der, clock })
    }

    /// The root's certificate, for the server that is to believe these devices.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.root_der)
    }

    /// The root's private key, for another run with the same root.
    pub fn to_pem(&self) -> Result<String, AttestError> {
        Ok(pem("PRIVATE KEY", &self.root.key.to_pkcs8()?))
    }

    /// An attestation key for one phone, as a thief of such a key would hold it: whoever has it can attest anything.
    pub fn keybox(&self, origin: Origin, level: SecurityLevel) -> Result<Keybox, AttestError> {
        self.keybox_with_serial(origin, level, random_serial()?)
    }

    /// The same with a certificate of this serial number (big-endian, at most 20 octets).
    pub fn keybox_with_serial(
        &self,
        origin: Origin,
        level: SecurityLevel,
        serial: Vec<u8>,
    ) -> Result<Keybox, AttestError> {
        let now = self.clock.now();
        let batch = hex(&random_serial()?);
        let (upper, device, valid) = match origin {
            Origin::Factory => (
                name(&[(oid::SERIAL_NUMBER, &batch)]),
                name(&[(oid::SERIAL_NUMBER, &hex(&random_serial()?)), (oid::ORGANIZATION, level.organization())]),
                (now - 5 * YEAR, now + 5 * YEAR),
            ),
            Origin::Remote => (
                name(&[(oid::COMMON_NAME, "Droid CA2"), (oid::ORGANIZATION, "Google LLC")]),
                name(&[(oid::COMMON_NAME, &batch), (oid::ORGANIZATION, level.organization())]),
                (now - DAY, now + 13 * DAY),
            ),
        };
        let upper = Issuer { name: upper, key: Key::generate(Curve::P384)? };
        let upper_der = Certificate::of(&upper, (now - 5 * YEAR, now + 5 * YEAR))?.sign(&self.root)?;
        let device = Issuer { name: device, key: Key::generate(Curve::P256)? };
        let mut certificate = Certificate::of(&device, valid)?;
        certificate.serial.clone_from(&serial);
        if origin == Origin::Remote {
            // {1: certificates issued}
            let issued = [&[0xa1, 0x01][..], &cbor::unsigned(3)].concat();
            certificate.extensions.push(extension(oid::PROVISIONING, false, &issued));
        }
        let above = vec![certificate.sign(&upper)?, upper_der, self.root_der.clone()];
        Ok(Keybox { device, above, serial, level, origin })
    }
}

/// An attestation key with its certificates.
#[derive(Debug, Clone)]
pub struct Keybox {
    device: Issuer,
    /// From the device's to the root's.
    above: Vec<Vec<u8>>,
    serial: Vec<u8>,
    level: SecurityLevel,
    origin: Origin,
}

impl Keybox {
    /// The serial number of its certificate in hex, as a revocation list names it.
    pub fn serial(&self) -> String {
        hex(&self.serial).trim_start_matches('0').to_owned()
    }

    /// A revocation list with this certificate on it, in the form of Google's.
    pub fn status_list(&self) -> String {
        json!({"entries": {self.serial(): {"status": "REVOKED", "reason": "KEY_COMPROMISE"}}}).to_string()
    }
}

/// An app as it is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AndroidApp {
    /// The package.
    pub package: String,
    /// `versionCode`.
    pub version: u64,
    /// SHA-256 of the certificate it is signed with.
    pub digest: [u8; 32],
}

/// What is wrong with a phone's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AndroidDefect {
    /// A root of somebody's own, of the right name.
    OwnRoot,
    /// A signature was changed.
    BrokenSignature,
    /// The phone's certificate is of last year.
    Expired,
    /// An attested key signs an "attestation" of its own.
    ExtendedChain,
    /// Android attests, not the hardware.
    SoftwareLevel,
    /// Attestation and key are of different levels.
    LevelMismatch,
    /// A key of the trusted environment passes for one of the secure element.
    LevelOfChain,
    /// The state of the boot stands only where Android writes it.
    RootOfTrustInSoftware,
    /// The key was imported.
    ImportedKey,
    /// The key is for all apps.
    AllApplications,
    /// The key may attest others.
    AttestsOthers,
    /// Made over another challenge.
    OtherChallenge,
    /// Nothing is said of the app.
    NoApplication,
    /// Another package.
    OtherPackage,
    /// Two packages share the key.
    SharedUserId,
    /// Signed by somebody else: the app was repackaged.
    Repackaged,
    /// A BOOLEAN of 0x01.
    BooleanOne,
    /// A tag twice.
    DuplicateTag,
}

impl AndroidDefect {
    /// All.
    pub const ALL: [Self; 18] = [
        Self::OwnRoot,
        Self::BrokenSignature,
        Self::Expired,
        Self::ExtendedChain,
        Self::SoftwareLevel,
        Self::LevelMismatch,
        Self::LevelOfChain,
        Self::RootOfTrustInSoftware,
        Self::ImportedKey,
        Self::AllApplications,
        Self::AttestsOthers,
        Self::OtherChallenge,
        Self::NoApplication,
        Self::OtherPackage,
        Self::SharedUserId,
        Self::Repackaged,
        Self::BooleanOne,
        Self::DuplicateTag,
    ];

    /// Why a verifier refuses it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::OwnRoot => "chain_unknown_root",
            Self::BrokenSignature => "chain_bad_signature",
            Self::Expired => "chain_expired",
            Self::ExtendedChain => "key_description_above_leaf",
            Self::SoftwareLevel => "security_level_software",
            Self::LevelMismatch => "security_level_mismatch",
            Self::LevelOfChain => "security_level_not_of_chain",
            Self::RootOfTrustInSoftware => "root_of_trust_missing",
            Self::ImportedKey => "key_origin_not_generated",
            Self::AllApplications | Self::AttestsOthers => "key_purpose",
            Self::OtherChallenge => "challenge_mismatch",
            Self::NoApplication => "application_id_missing",
            Self::OtherPackage => "package_mismatch",
            Self::SharedUserId => "package_shared",
            Self::Repackaged => "signing_digest_mismatch",
            Self::BooleanOne | Self::DuplicateTag => "key_description_malformed",
        }
    }
}

/// A phone on which one app is installed. What is public can be changed before or between calls.
#[derive(Debug)]
pub struct AndroidPhone {
    google: Google,
    /// What it attests with.
    pub keybox: Keybox,
    /// The app.
    pub app: AndroidApp,
    /// The state of its boot.
    pub boot: Boot,
    /// The month of its security patches as YYYYMM; `None` is this month.
    pub patch_level: Option<u64>,
    /// What the app says of its surroundings.
    pub reported: Vec<String>,
    /// What is to be wrong.
    pub defect: Option<AndroidDefect>,
    keys: Mutex<Vec<Arc<SoftwareKey>>>,
}

impl AndroidPhone {
    /// A locked phone whose trusted environment has a key that came over the air.
    pub fn new(google: &Google, app: AndroidApp) -> Result<Self, AttestError> {
        let keybox = google.keybox(Origin::Remote, SecurityLevel::TrustedEnvironment)?;
        Ok(Self::with_keybox(google, app, keybox))
    }

    /// A phone with this attestation key, or a script that was given it.
    pub fn with_keybox(google: &Google, app: AndroidApp, keybox: Keybox) -> Self {
        Self {
            google: google.clone(),
            keybox,
            app,
            boot: Boot::Verified,
            patch_level: None,
            reported: Vec::new(),
            defect: None,
            keys: Mutex::default(),
        }
    }

    /// A key made with this challenge (`setAttestationChallenge`), and its chain in DER, the leaf first.
    pub fn generate_key(&self, challenge: &[u8]) -> Result<(Arc<SoftwareKey>, Vec<Vec<u8>>), AttestError> {
        let key = Arc::new(SoftwareKey::generate()?);
        lock(&self.keys).push(Arc::clone(&key));
        let keybox = self.attesting_keybox()?;
        let mut leaf = self.leaf(&keybox, &key.public_jwk(), challenge)?;
        if self.is(AndroidDefect::BrokenSignature)
            && let Some(last) = leaf.last_mut()
        {
            *last ^= 1;
        }
        let mut chain = vec![leaf];
        if self.is(AndroidDefect::ExtendedChain) {
            chain = self.extended(&keybox, &key, challenge)?;
        }
        chain.extend(keybox.above);
        Ok((key, chain))
    }

    fn is(&self, defect: AndroidDefect) -> bool {
        self.defect == Some(defect)
    }

    fn attesting_keybox(&self) -> Result<Keybox, AttestError> {
        let Keybox { origin, level, .. } = self.keybox;
        match self.defect {
            Some(AndroidDefect::OwnRoot) => Google::new(Arc::clone(&self.google.clock))?.keybox(origin, level),
            Some(AndroidDefect::Expired) => {
                let past = crate::clock::SetClock::at(self.google.clock.now() - YEAR);
                Google { clock: Arc::new(past), ..self.google.clone() }.keybox(Origin::Remote, level)
            }
            _ => Ok(self.keybox.clone()),
        }
    }

    /// A genuine leaf whose key signs a second certificate that says what its owner likes.
    fn extended(&self, keybox: &Keybox, key: &SoftwareKey, challenge: &[u8]) -> Result<Vec<Vec<u8>>, AttestError> {
        let attested = Issuer { name: leaf_name(), key: Key::generate(Curve::P256)? };
        let public = PublicJwk::from_point(&attested.key.point()?).ok_or(AttestError::Unavailable)?;
        let mut genuine = self.certificate(&public, challenge);
        genuine.extensions.extend(authority_extensions());
        let forged = self.certificate(&key.public_jwk(), challenge);
        Ok(vec![forged.sign(&attested)?, genuine.sign(&keybox.device)?])
    }

    fn leaf(&self, keybox: &Keybox, public: &PublicJwk, challenge: &[u8]) -> Result<Vec<u8>, AttestError> {
        let mut certificate = self.certificate(public, challenge);
        // digitalSignature.
        certificate.extensions.insert(0, extension(oid::KEY_USAGE, true, &der::value(0x03, &[7, 0x80])));
        certificate.sign(&keybox.device)
    }

    fn certificate(&self, public: &PublicJwk, challenge: &[u8]) -> Certificate {
        let extensions = vec![extension(oid::KEY_DESCRIPTION, false, &self.description(challenge))];
        // Valid from 1970 to 2048, as phones have it: the dates are the app's to choose.
        Certificate {
            serial: vec![1],
            name: leaf_name(),
            spki: p256_spki(public),
            valid: (0, 2_461_449_600),
            extensions,
        }
    }

    /// `KeyDescription`.
    fn description(&self, challenge: &[u8]) -> Vec<u8> {
        let level = match self.defect {
            Some(AndroidDefect::SoftwareLevel) => SecurityLevel::Software,
            Some(AndroidDefect::LevelOfChain) => SecurityLevel::StrongBox,
            _ => self.keybox.level,
        };
        let of_key = match (self.defect, level) {
            (Some(AndroidDefect::LevelMismatch), SecurityLevel::StrongBox) => SecurityLevel::TrustedEnvironment,
            (Some(AndroidDefect::LevelMismatch), _) => SecurityLevel::StrongBox,
            _ => level,
        };
        let challenge = if self.is(AndroidDefect::OtherChallenge) { b"another challenge" } else { challenge };
        der::sequence(&[
            der::integer(400),
            der::enumerated(level.number()),
            der::integer(400),
            der::enumerated(of_key.number()),
            der::octets(challenge),
            der::octets(&[]),
            der::sequence(&self.software()),
            der::sequence(&self.hardware()),
        ])
    }

    /// What Android says.
    fn software(&self) -> Vec<Vec<u8>> {
        let millis = u64::try_from(self.google.clock.now()).unwrap_or_default() * 1_000;
        let mut list = vec![der::explicit(701, &der::integer(millis))];
        if self.is(AndroidDefect::RootOfTrustInSoftware) {
            list.push(self.root_of_trust());
        }
        if !self.is(AndroidDefect::NoApplication) {
            list.push(der::explicit(709, &der::octets(&self.application())));
        }
        list
    }

    fn application(&self) -> Vec<u8> {
        let app = &self.app;
        let package = |name: &str| der::sequence(&[der::octets(name.as_bytes()), der::integer(app.version)]);
        let packages = match self.defect {
            Some(AndroidDefect::OtherPackage) => vec![package("com.example.another")],
            Some(AndroidDefect::SharedUserId) => vec![package(&app.package), package("com.example.another")],
            _ => vec![package(&app.package)],
        };
        let digest = if self.is(AndroidDefect::Repackaged) { [0x66; 32] } else { app.digest };
        der::sequence(&[der::set(&packages), der::set(&[der::octets(&digest)])])
    }

    /// What the hardware says, in ascending order of the tags.
    fn hardware(&self) -> Vec<Vec<u8>> {
        // SIGN is 2, ATTEST_KEY 7.
        let mut purposes = vec![der::integer(2)];
        if self.is(AndroidDefect::AttestsOthers) {
            purposes.push(der::integer(7));
        }
        let mut list = vec![
            der::explicit(1, &der::set(&purposes)),
            der::explicit(2, &der::integer(3)),
            der::explicit(3, &der::integer(256)),
            der::explicit(5, &der::set(&[der::integer(4)])),
            der::explicit(10, &der::integer(1)),
            der::explicit(503, &[5, 0]),
        ];
        if self.is(AndroidDefect::AllApplications) {
            list.push(der::explicit(600, &[5, 0]));
        }
        let origin = u64::from(self.is(AndroidDefect::ImportedKey)) * 2;
        list.push(der::explicit(702, &der::integer(origin)));
        if self.is(AndroidDefect::DuplicateTag) {
            list.push(der::explicit(702, &der::integer(origin)));
        }
        if !self.is(AndroidDefect::RootOfTrustInSoftware) {
            list.push(self.root_of_trust());
        }
        let patched = self.patch_level.unwrap_or_else(|| month(self.google.clock.now()));
        list.push(der::explicit(705, &der::integer(160_000)));
        list.push(der::explicit(706, &der::integer(patched)));
        list.push(der::explicit(718, &der::integer(patched * 100 + 5)));
        list.push(der::explicit(719, &der::integer(patched * 100 + 1)));
        list
    }

    fn root_of_trust(&self) -> Vec<u8> {
        let (key, locked, state) = match self.boot {
            Boot::Verified => ([1; 32], true, 0),
            Boot::SelfSigned(key) => (key, true, 1),
            Boot::Unlocked => ([0; 32], false, 2),
            Boot::Failed => ([1; 32], true, 3),
        };
        let locked = if self.is(AndroidDefect::BooleanOne) { der::value(0x01, &[1]) } else { der::boolean(locked) };
        let content = der::sequence(&[der::octets(&key), locked, der::enumerated(state), der::octets(&[2; 32])]);
        der::explicit(704, &content)
    }
}

fn leaf_name() -> Vec<u8> {
    name(&[(oid::COMMON_NAME, "Android Keystore Key")])
}

/// YYYYMM.
fn month(now: i64) -> u64 {
    let at = OffsetDateTime::from_unix_timestamp(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    u64::try_from(at.year()).unwrap_or_default() * 100 + u64::from(u8::from(at.month()))
}

impl Attester for AndroidPhone {
    fn platform(&self) -> Platform {
        Platform::Android
    }

    fn reported(&self) -> Vec<String> {
        self.reported.clone()
    }

    fn app_version(&self) -> Option<String> {
        Some(self.app.version.to_string())
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        Ok(None)
    }

    fn attest(&self, request: &Request<'_>, _: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let (signer, chain) = self.generate_key(&sha256(request.client_data))?;
        let chain: Vec<String> = chain.iter().map(|der| STANDARD.encode(der)).collect();
        Ok(Attestation { evidence: json!({"type": "android-key", "chain": chain}), signer })
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        let found = lock(&self.keys).iter().find(|key| key.public_jwk() == *public).cloned()?;
        Some(found)
    }
}
