//! An iPhone with App Attest, and the authority that certifies its keys.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::certificate::{Certificate, Curve, Issuer, Key, extension, from_pem, name, p256_spki, pem, random_serial};
use super::der::{self, oid};
use super::{DAY, YEAR, cbor, lock, receipt};
use crate::attester::{AttestError, Attestation, Attester, Platform, Request};
use crate::clock::Clock;
use crate::signer::{PublicJwk, Signer, SoftwareKey, hex, sha256};

/// Stands in for Apple: a root, and the authority below it that certifies keys of apps.
#[derive(Debug, Clone)]
pub struct Apple {
    pub(super) root: Issuer,
    root_der: Vec<u8>,
    authority: Issuer,
    authority_der: Vec<u8>,
    clock: Arc<dyn Clock>,
}

impl Apple {
    /// A new root.
    pub fn new(clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        Self::named("Simulated App Attestation Root CA", Key::generate(Curve::P384)?, clock)
    }

    /// With the root key that [`Apple::to_pem`] gave.
    pub fn from_pem(text: &str, clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        let pkcs8 = from_pem("PRIVATE KEY", text).ok_or(AttestError::KeyGone)?;
        Self::named("Simulated App Attestation Root CA", Key::from_pkcs8(Curve::P384, &pkcs8)?, clock)
    }

    fn named(root: &str, key: Key, clock: Arc<dyn Clock>) -> Result<Self, AttestError> {
        let now = clock.now();
        let root = Issuer { name: name(&[(oid::COMMON_NAME, root), (oid::ORGANIZATION, "Simulator")]), key };
        let root_der = Certificate::of(&root, (now - YEAR, now + 20 * YEAR))?.sign(&root)?;
        let authority = name(&[(oid::COMMON_NAME, "Simulated App Attestation CA 1"), (oid::ORGANIZATION, "Simulator")]);
        let authority = Issuer { name: authority, key: Key::generate(Curve::P384)? };
        let authority_der = Certificate::of(&authority, (now - 30 * DAY, now + 10 * YEAR))?.sign(&root)?;
        Ok(Self { root, root_der, authority, authority_der, clock })
    }

    /// The root's certificate, for the server that is to believe these devices.
    pub fn root_pem(&self) -> String {
        pem("CERTIFICATE", &self.root_der)
    }

    /// The root's private key, for another run with the same root.
    pub fn to_pem(&self) -> Result<String, AttestError> {
        Ok(pem("PRIVATE KEY", &self.root.key.to_pkcs8()?))
    }
}

/// Which system an iPhone runs: what App Attest writes changed with iOS 27.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IosVersion {
    /// Leaves without a use and without a word of the system.
    Ios14,
    /// Leaves that name the system.
    Ios26,
    /// Leaves with a use, and a map of facts behind the authenticator data.
    Ios27,
}

/// How the app was signed, as App Attest sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// The app as it is distributed.
    Production,
    /// A build from a developer's desk.
    Development,
}

/// What is wrong with an iPhone's evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IphoneDefect {
    /// Another root of the same name.
    ForgedRoot,
    /// A root of somebody's own.
    OwnRoot,
    /// Certificates of last year.
    Expired,
    /// The leaf may issue certificates.
    LeafIsAuthority,
    /// The leaf is for TLS clients.
    LeafForTls,
    /// The leaf has no nonce.
    NoNonce,
    /// Made over other client data.
    OtherClientData,
    /// Names another key than the leaf's.
    OtherCredential,
    /// Holds another key than the leaf's.
    OtherKey,
    /// Made by another app.
    OtherApp,
    /// A new key that has signed already.
    CounterNotZero,
    /// Of neither of the two environments.
    UnknownEnvironment,
    /// Something follows.
    Trailing,
    /// The category in a text.
    MalformedCategory,
    /// The category twice.
    DuplicateCategory,
    /// Another format's name.
    OtherFormat,
    /// The signature is over the nonce hashed once instead of twice.
    SignatureOverOneHash,
    /// The counter stands still.
    CounterStands,
    /// The signature has a byte behind it.
    SignatureTrailing,
}

impl IphoneDefect {
    /// Those of attestations.
    pub const ATTESTATION: [Self; 16] = [
        Self::ForgedRoot,
        Self::OwnRoot,
        Self::Expired,
        Self::LeafIsAuthority,
        Self::LeafForTls,
        Self::NoNonce,
        Self::OtherClientData,
        Self::OtherCredential,
        Self::OtherKey,
        Self::OtherApp,
        Self::CounterNotZero,
        Self::UnknownEnvironment,
        Self::Trailing,
        Self::MalformedCategory,
        Self::DuplicateCategory,
        Self::OtherFormat,
    ];

    /// Those of assertions.
    pub const ASSERTION: [Self; 5] =
        [Self::SignatureOverOneHash, Self::CounterStands, Self::SignatureTrailing, Self::OtherApp, Self::Trailing];

    /// Why a verifier refuses it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::ForgedRoot => "chain_bad_signature",
            Self::OwnRoot => "chain_unknown_root",
            Self::Expired => "chain_expired",
            Self::LeafIsAuthority => "leaf_is_authority",
            Self::LeafForTls => "leaf_key_usage",
            Self::NoNonce => "nonce_layout",
            Self::OtherClientData => "nonce_mismatch",
            Self::OtherCredential => "credential_id_mismatch",
            Self::OtherKey => "cose_key_mismatch",
            Self::OtherApp => "app_id_mismatch",
            Self::CounterNotZero => "counter_not_zero",
            Self::UnknownEnvironment => "unknown_environment",
            Self::Trailing => "auth_data_trailing",
            Self::MalformedCategory => "malformed_extensions",
            Self::DuplicateCategory => "duplicate_key",
            Self::OtherFormat => "wrong_format",
            Self::SignatureOverOneHash => "bad_signature",
            Self::CounterStands => "counter_regression",
            Self::SignatureTrailing => "signature_not_der",
        }
    }
}

/// A key of App Attest in the Secure Enclave.
#[derive(Debug, Clone)]
struct AttestKey {
    id: [u8; 32],
    key: Key,
    counter: u32,
    /// The certificate that the authority gave it.
    leaf: Vec<u8>,
    /// What came with it.
    receipt: Vec<u8>,
}

/// An iPhone on which one app is installed. What is public can be changed before or between calls.
#[derive(Debug)]
pub struct Iphone {
    apple: Apple,
    /// `TEAMID.bundle.id`.
    pub app_id: String,
    /// The system.
    pub system: IosVersion,
    /// How the app was signed.
    pub environment: Environment,
    /// How the app came to the phone: 4 the App Store, 2 `TestFlight`, 3 a developer's desk. Since iOS 27.
    pub category: u32,
    /// `CFBundleVersion`. Since iOS 27.
    pub bundle_version: String,
    /// What the app says of its surroundings.
    pub reported: Vec<String>,
    /// What is to be wrong.
    pub defect: Option<IphoneDefect>,
    /// How many seconds after Apple gave a receipt it gives another for it.
    pub receipts_every: i64,
    keys: Mutex<Vec<AttestKey>>,
    instance_keys: Mutex<Vec<Arc<SoftwareKey>>>,
}

impl Iphone {
    /// A phone with iOS 27 and the app `app_id` (`TEAMID.bundle.id`) in version 1 from the App Store.
    pub fn new(apple: &Apple, app_id: &str) -> Self {
        Self {
            apple: apple.clone(),
            app_id: app_id.to_owned(),
            system: IosVersion::Ios27,
            environment: Environment::Production,
            category: 4,
            bundle_version: "1".to_owned(),
            reported: Vec::new(),
            defect: None,
            receipts_every: DAY,
            keys: Mutex::default(),
            instance_keys: Mutex::default(),
        }
    }

    /// The app with all it keeps on another phone, as a cloner would want it: the same keys with the counter as it is now.
    /// No real Secure Enclave gives its keys away.
    pub fn cloned(&self) -> Self {
        Self {
            apple: self.apple.clone(),
            app_id: self.app_id.clone(),
            bundle_version: self.bundle_version.clone(),
            reported: self.reported.clone(),
            keys: Mutex::new(lock(&self.keys).clone()),
            instance_keys: Mutex::new(lock(&self.instance_keys).clone()),
            ..*self
        }
    }

    /// `DCAppAttestService.generateKey`: the key's identifier.
    pub fn generate_key(&self) -> Result<[u8; 32], AttestError> {
        let key = Key::generate(Curve::P256)?;
        let id = sha256(&key.point()?);
        lock(&self.keys).push(AttestKey { id, key, counter: 0, leaf: Vec::new(), receipt: Vec::new() });
        Ok(id)
    }

    /// `DCAppAttestService.attestKey` with the SHA-256 of the client data.
    pub fn attest_key(&self, id: &[u8; 32], client_data_hash: &[u8; 32]) -> Result<Vec<u8>, AttestError> {
        let key = lock(&self.keys).iter().find(|key| key.id == *id).cloned().ok_or(AttestError::KeyGone)?;
        let point = key.key.point()?;
        let auth_data = self.attestation_data(&point)?;
        let nonce = sha256(&[auth_data.as_slice(), client_data_hash].concat());
        let apple = self.authority()?;
        let now = apple.clock.now();
        let valid = if self.is(IphoneDefect::Expired) { (now - YEAR, now - DAY) } else { (now - DAY, now + 3 * DAY) };
        let leaf = Certificate {
            serial: random_serial()?,
            name: name(&[(oid::COMMON_NAME, &hex(id)), (oid::ORGANIZATION, "AAA Certification")]),
            spki: p256_spki(&PublicJwk::from_point(&point).ok_or(AttestError::Unavailable)?),
            valid,
            extensions: self.leaf_extensions(&nonce),
        };
        let leaf = leaf.sign(&apple.authority)?;
        let receipt = receipt::of(&self.apple, &leaf, &self.facts_of_receipt(None))?;
        for key in lock(&self.keys).iter_mut().filter(|key| key.id == *id) {
            key.leaf.clone_from(&leaf);
            key.receipt.clone_from(&receipt);
        }
        let chain = [leaf, apple.authority_der.clone()];
        let chain = cbor::array(&chain.each_ref().map(|der| cbor::bytes(der)));
        let statement = cbor::map(&[("x5c", chain), ("receipt", cbor::bytes(&receipt))]);
        let format = if self.is(IphoneDefect::OtherFormat) { "packed" } else { "apple-appattest" };
        Ok(cbor::map(&[("fmt", cbor::text(format)), ("attStmt", statement), ("authData", cbor::bytes(&auth_data))]))
    }

    /// `DCAppAttestService.generateAssertion` with the SHA-256 of the client data.
    pub fn generate_assertion(&self, id: &[u8; 32], client_data_hash: &[u8; 32]) -> Result<Vec<u8>, AttestError> {
        let (key, counter) = {
            let mut keys = lock(&self.keys);
            let key = keys.iter_mut().find(|key| key.id == *id).ok_or(AttestError::KeyGone)?;
            if !self.is(IphoneDefect::CounterStands) {
                key.counter = key.counter.saturating_add(1);
            }
            (key.key.clone(), key.counter)
        };
        let mut auth_data = self.head(0x40, counter);
        if self.system == IosVersion::Ios27 {
            auth_data.extend(self.facts());
        }
        if self.is(IphoneDefect::Trailing) {
            auth_data.extend_from_slice(&[0xa0, 0]);
        }
        let signed = [auth_data.as_slice(), client_data_hash].concat();
        // The key signs the nonce, which ECDSA with SHA-256 hashes once more.
        let message =
            if self.is(IphoneDefect::SignatureOverOneHash) { signed.clone() } else { sha256(&signed).to_vec() };
        let mut signature = key.sign(&message)?;
        if self.is(IphoneDefect::SignatureTrailing) {
            signature.push(0);
        }
        Ok(cbor::map(&[("signature", cbor::bytes(&signature)), ("authenticatorData", cbor::bytes(&auth_data))]))
    }

    /// What Apple gives for the receipt of the last key: another one, with its measure.
    pub fn newer_receipt(&self, metric: u32) -> Result<Vec<u8>, AttestError> {
        let leaf = lock(&self.keys).last().map(|key| key.leaf.clone()).ok_or(AttestError::KeyGone)?;
        receipt::of(&self.apple, &leaf, &self.facts_of_receipt(Some(metric)))
    }

    /// The receipt in the last attestation.
    pub fn receipt_in_last(&self) -> Option<Vec<u8>> {
        lock(&self.keys).last().map(|key| key.receipt.clone())
    }

    fn facts_of_receipt(&self, metric: Option<u32>) -> receipt::Facts<'_> {
        let (app_id, production) = (self.app_id.as_str(), self.environment == Environment::Production);
        let now = self.apple.clock.now();
        receipt::Facts { app_id, production, metric: metric.map(|metric| (metric, self.receipts_every)), now }
    }

    fn is(&self, defect: IphoneDefect) -> bool {
        self.defect == Some(defect)
    }

    /// Who certifies the key.
    fn authority(&self) -> Result<Apple, AttestError> {
        let forged = match self.defect {
            Some(IphoneDefect::ForgedRoot) => "Simulated App Attestation Root CA",
            Some(IphoneDefect::OwnRoot) => "My own Root CA",
            _ => return Ok(self.apple.clone()),
        };
        Apple::named(forged, Key::generate(Curve::P384)?, Arc::clone(&self.apple.clock))
    }

    /// The fixed fields of authenticator data.
    fn head(&self, flags: u8, counter: u32) -> Vec<u8> {
        let app_id = if self.is(IphoneDefect::OtherApp) { "ZZZZZ99999.com.example.other" } else { &self.app_id };
        [&sha256(app_id.as_bytes())[..], &[flags], &counter.to_be_bytes()].concat()
    }

    fn attestation_data(&self, point: &[u8; 65]) -> Result<Vec<u8>, AttestError> {
        let aaguid: &[u8; 16] = match (self.defect, self.environment) {
            (Some(IphoneDefect::UnknownEnvironment), _) => b"appattestsomethi",
            (_, Environment::Production) => b"appattest\0\0\0\0\0\0\0",
            (_, Environment::Development) => b"appattestdevelop",
        };
        let credential = if self.is(IphoneDefect::OtherCredential) { [7; 32] } else { sha256(point) };
        let held = if self.is(IphoneDefect::OtherKey) { Key::generate(Curve::P256)?.point()? } else { *point };
        let with_facts = self.system == IosVersion::Ios27;
        let counter = u32::from(self.is(IphoneDefect::CounterNotZero));
        let mut out = self.head(if with_facts { 0xc0 } else { 0x40 }, counter);
        for part in [&aaguid[..], &[0, 32], &credential, &cbor::cose_key(&held)] {
            out.extend_from_slice(part);
        }
        if with_facts || self.is(IphoneDefect::MalformedCategory) || self.is(IphoneDefect::DuplicateCategory) {
            out.extend(self.facts());
        }
        if self.is(IphoneDefect::Trailing) {
            if !with_facts {
                out.push(0xa0);
            }
            out.push(0);
        }
        Ok(out)
    }

    /// The map that iOS 27 writes behind the fixed fields.
    fn facts(&self) -> Vec<u8> {
        const CATEGORY: &str = "apple_validation_category_01";
        let category = match self.defect {
            Some(IphoneDefect::MalformedCategory) => cbor::text("App Store"),
            _ => cbor::bytes(&self.category.to_le_bytes()),
        };
        let version = ("apple_bundle_version_01", cbor::text(&self.bundle_version));
        let mut members = vec![version, (CATEGORY, category.clone())];
        if self.is(IphoneDefect::DuplicateCategory) {
            members.push((CATEGORY, category));
        }
        cbor::map(&members)
    }

    fn leaf_extensions(&self, nonce: &[u8; 32]) -> Vec<Vec<u8>> {
        const TLS_CLIENT: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
        let mut extensions = Vec::new();
        if self.is(IphoneDefect::LeafIsAuthority) {
            extensions.push(extension(oid::BASIC_CONSTRAINTS, true, &der::sequence(&[der::boolean(true)])));
        }
        // digitalSignature and three more, as Apple has it.
        extensions.push(extension(oid::KEY_USAGE, true, &der::value(0x03, &[4, 0xf0])));
        let of_tls = self.is(IphoneDefect::LeafForTls);
        if of_tls || self.system == IosVersion::Ios27 {
            let of = if of_tls { TLS_CLIENT } else { oid::APPLE_ATTEST_USE };
            extensions.push(extension(oid::EXTENDED_KEY_USAGE, false, &der::sequence(&[der::oid(of)])));
        }
        if !self.is(IphoneDefect::NoNonce) {
            let other = [0; 32];
            let nonce = if self.is(IphoneDefect::OtherClientData) { &other } else { nonce };
            let content = der::sequence(&[der::explicit(1, &der::octets(nonce))]);
            extensions.push(extension(oid::APPLE_NONCE, false, &content));
        }
        let version = match self.system {
            IosVersion::Ios14 => return extensions,
            IosVersion::Ios26 => "26.1",
            IosVersion::Ios27 => "27.0.1",
        };
        let member = |tag, text: &str| der::explicit(tag, &der::octets(text.as_bytes()));
        let content = der::sequence(&[member(1400, version), member(1026, "iphoneos")]);
        extensions.push(extension(oid::APPLE_SYSTEM, false, &content));
        extensions
    }
}

impl Attester for Iphone {
    fn platform(&self) -> Platform {
        Platform::Ios
    }

    fn reported(&self) -> Vec<String> {
        self.reported.clone()
    }

    fn app_version(&self) -> Option<String> {
        Some(self.bundle_version.clone())
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        let key = Arc::new(SoftwareKey::generate()?);
        lock(&self.instance_keys).push(Arc::clone(&key));
        Ok(Some(key))
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let signer = key.ok_or(AttestError::KeyGone)?;
        let id = self.generate_key()?;
        let attestation = self.attest_key(&id, &sha256(request.client_data))?;
        let (key_id, attestation) = (STANDARD.encode(id), STANDARD.encode(attestation));
        let evidence = json!({"type": "apple-app-attest", "key_id": key_id, "attestation": attestation});
        Ok(Attestation { evidence, signer })
    }

    fn assert(&self, client_data: &[u8]) -> Result<Option<Vec<u8>>, AttestError> {
        let id = lock(&self.keys).last().map(|key| key.id).ok_or(AttestError::KeyGone)?;
        self.generate_assertion(&id, &sha256(client_data)).map(Some)
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        let found = lock(&self.instance_keys).iter().find(|key| key.public_jwk() == *public).cloned()?;
        Some(found)
    }
}
