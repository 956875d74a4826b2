//! The receipt in an attestation, and the ones Apple gives for it: a signed statement with, in the latter, a measure of
//! how many keys a device attested lately
//! (<https://developer.apple.com/documentation/devicecheck/assessing-fraud-risk>).
//!
//! PKCS #7 `SignedData` (RFC 5652) with one signer, in BER, over a set of fields. The signer's certificate must have been
//! in date when the receipt was made; whether a receipt is fresh enough is asked separately.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::signature::{self as sig, UnparsedPublicKey};
use base::{Timestamp, Who};
use serde_json::Value;

use super::Environment;
use super::ber::{Ber, Element, Malformed};
use crate::attest::asn1::{Der, DerError, Tag};
use crate::attest::chain::{Anchors, Certificate, Chain, ChainError, ChainLimits, Expiry};
use crate::jose::{JsonObject, sha256};

/// The longest receipt, in bytes.
pub const MAX_RECEIPT_LEN: usize = 64 << 10;

/// The signer and those above it, without the root.
const CHAIN: ChainLimits = ChainLimits { fewest: 1, most: 4, bytes: MAX_RECEIPT_LEN };

/// The most certificates that may come along.
const MAX_CERTIFICATES: usize = 8;

/// The most fields.
const MAX_FIELDS: usize = 64;

/// Who signs receipts.
const SIGNER: &str = "Application Attestation Fraud Receipt Signing";

/// How far the maker's clock may be ahead of ours.
const SKEW: Duration = Duration::from_mins(1);

const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];

/// What a receipt is judged by.
#[derive(Debug, Clone, Copy)]
pub struct ReceiptRules<'a> {
    /// Whose receipts count: [`receipt_root`](super::receipt_root), in tests another.
    pub anchors: &'a Anchors,
    /// The moment to judge by. `None` judges a stored one as of when it was made.
    pub now: Option<Timestamp>,
    /// The identifiers of the app, any of which it may be for.
    pub app_ids: &'a [&'a str],
    /// The attested key it must be for: a point on P-256, uncompressed. `None` compares nothing.
    pub public_key: Option<&'a [u8; 65]>,
    /// How long ago it may have been made. Apple asks for 5 minutes where one arrives; `None` for one that was stored.
    pub max_age: Option<Duration>,
}

/// Why a receipt is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// Longer than [`MAX_RECEIPT_LEN`].
    #[error("the receipt is too long")]
    TooLong,
    /// Not signed data with one signer in BER.
    #[error("the receipt is not signed data with one signer")]
    Malformed,
    /// Signed with other algorithms than ECDSA on P-256 and SHA-256.
    #[error("the receipt is signed with an unsupported algorithm")]
    Algorithm,
    /// The signer's certificate is missing, or is not that of the service.
    #[error("the receipt's signer is not the receipt service")]
    Signer,
    /// The signer's chain does not hold.
    #[error("the certificate chain is refused: {0}")]
    Chain(#[from] ChainError),
    /// The signature does not hold.
    #[error("the receipt's signature is wrong")]
    Signature,
    /// A field is missing, twice there or of another form.
    #[error("field {0} is missing, repeated or of another form")]
    Field(u64),
    /// For another app.
    #[error("the receipt is for another app")]
    App,
    /// For another key.
    #[error("the receipt is for another key")]
    Key,
    /// Made in the future.
    #[error("the receipt was made in the future")]
    Future,
    /// Older than it may be.
    #[error("the receipt is too old")]
    TooOld,
    /// Past its end.
    #[error("the receipt has expired")]
    Expired,
}

impl ReceiptError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed_receipt",
            Self::Algorithm => "alg_not_allowed",
            Self::Signer => "receipt_signer",
            Self::Chain(error) => error.reason(),
            Self::Signature => "bad_signature",
            Self::Field(_) => "receipt_field",
            Self::App => "app_id_mismatch",
            Self::Key => "key_mismatch",
            Self::Future => "issued_in_future",
            Self::TooOld => "too_old",
            Self::Expired => "expired",
        }
    }

    /// Whose fault it is: always the client's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether the same would pass later.
    pub const fn retryable(self) -> bool {
        false
    }
}

impl From<Malformed> for ReceiptError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

impl From<DerError> for ReceiptError {
    fn from(_: DerError) -> Self {
        Self::Malformed
    }
}

/// A receipt that holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which of the given identifiers it is for (field 2).
    pub app_id: String,
    /// The attested key's point on P-256, uncompressed (from field 3).
    pub public_key: [u8; 65],
    /// The hash the app passed (field 4). In receipts that were given for another one Apple writes it as text, lossily.
    pub client_hash: Vec<u8>,
    /// The token (field 5): the same in all receipts of a key.
    pub token: String,
    /// Whether it is from an attestation (`ATTEST`) or was given for one (`RECEIPT`) (field 6).
    pub refreshed: bool,
    /// The environment (field 7); absent where the maker does not say.
    pub environment: Option<Environment>,
    /// When it was made (field 12).
    pub created: Timestamp,
    /// About how many keys this app attested on this device in the last 30 days (field 17).
    pub risk_metric: Option<u32>,
    /// Before when asking for another is useless (field 19).
    pub not_before: Option<Timestamp>,
    /// When it ends (field 21).
    pub expires: Option<Timestamp>,
}

impl Receipt {
    /// What stands in it, in the form it is printed.
    pub fn facts(&self) -> JsonObject {
        let mut facts = JsonObject::new();
        let mut add = |name: &str, value: Option<Value>| value.and_then(|value| facts.insert(name.to_owned(), value));
        let time = |moment: Timestamp| Value::from(moment.rfc3339());
        add("app_id", Some(self.app_id.clone().into()));
        add("type", Some(if self.refreshed { "RECEIPT" } else { "ATTEST" }.into()));
        add("environment", self.environment.map(|one| one.name().into()));
        add("created", Some(time(self.created)));
        add("risk_metric", self.risk_metric.map(Value::from));
        add("not_before", self.not_before.map(time));
        add("expires", self.expires.map(time));
        facts
    }
}

/// Verify a receipt: form, signer, chain, signature, fields, app, key, times.
pub fn verify_receipt(receipt: &[u8], rules: &ReceiptRules<'_>) -> Result<Receipt, ReceiptError> {
    if receipt.len() > MAX_RECEIPT_LEN {
        return Err(ReceiptError::TooLong);
    }
    let signed = SignedData::parse(receipt)?;
    let chain = signed.chain()?;
    chain.verify_below_root(rules.anchors)?;
    let leaf = chain.leaf().ok_or(ReceiptError::Signer)?;
    if leaf.common_name().as_deref() != Some(SIGNER) {
        return Err(ReceiptError::Signer);
    }
    let key = leaf.p256_point().ok_or(ReceiptError::Algorithm)?;
    UnparsedPublicKey::new(&sig::ECDSA_P256_SHA256_ASN1, key)
        .verify(&signed.message()?, &signed.signature)
        .map_err(|_| ReceiptError::Signature)?;
    let receipt = fields(&signed.content, rules.app_ids)?;
    chain.check_dates(0..CHAIN.most, receipt.created, Expiry::Refused)?;
    if rules.public_key.is_some_and(|key| *key != receipt.public_key) {
        return Err(ReceiptError::Key);
    }
    if let Some(now) = rules.now {
        check_times(&receipt, now, rules.max_age)?;
    }
    Ok(receipt)
}

/// What a receipt says, unverified: for a look at one that is refused, and for fuzzing. Nothing in it is to be believed.
pub fn look_at_receipt(receipt: &[u8], app_ids: &[&str]) -> Result<Receipt, ReceiptError> {
    if receipt.len() > MAX_RECEIPT_LEN {
        return Err(ReceiptError::TooLong);
    }
    fields(&SignedData::parse(receipt)?.content, app_ids)
}

fn check_times(receipt: &Receipt, now: Timestamp, max_age: Option<Duration>) -> Result<(), ReceiptError> {
    if receipt.created > now.plus(SKEW) {
        return Err(ReceiptError::Future);
    }
    if max_age.is_some_and(|most| receipt.created < now.minus(most)) {
        return Err(ReceiptError::TooOld);
    }
    if receipt.expires.is_some_and(|end| end <= now) { Err(ReceiptError::Expired) } else { Ok(()) }
}

/// `SignedData` (RFC 5652 section 5.1) with one `SignerInfo` (section 5.3).
struct SignedData<'a> {
    content: Vec<u8>,
    certificates: Vec<&'a [u8]>,
    /// Issuer and serial number of the signer's certificate: the content of the sequence.
    signer: &'a [u8],
    /// `[0] IMPLICIT SET OF Attribute`, as it was written.
    attributes: Option<Element<'a>>,
    signature: Vec<u8>,
}

impl<'a> SignedData<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, ReceiptError> {
        let mut all = Ber::new(bytes);
        let mut info = all.inside(0x30)?;
        all.finish()?;
        if info.next()?.expect(0x06)? != SIGNED_DATA {
            return Err(ReceiptError::Malformed);
        }
        let mut wrapped = info.inside(0xa0)?;
        info.finish()?;
        let mut data = wrapped.inside(0x30)?;
        wrapped.finish()?;
        data.next()?.expect(0x02)?;
        data.inside(0x31)?;
        let content = Self::content(&mut data)?;
        let mut certificates = Vec::new();
        if data.peek() == Some(0xa0) {
            let mut set = data.inside(0xa0)?;
            while !set.is_empty() {
                if certificates.len() >= MAX_CERTIFICATES {
                    return Err(ReceiptError::Malformed);
                }
                certificates.push(set.next()?.whole);
            }
        }
        if data.peek() == Some(0xa1) {
            data.next()?;
        }
        let mut signers = data.inside(0x31)?;
        data.finish()?;
        let mut signer = signers.inside(0x30)?;
        signers.finish()?;
        signer.next()?.expect(0x02)?;
        let identifier = signer.next()?.expect(0x30)?;
        Self::algorithm(&mut signer, SHA256)?;
        let attributes = if signer.peek() == Some(0xa0) { Some(signer.next()?) } else { None };
        Self::algorithm(&mut signer, ECDSA_SHA256)?;
        let signature = signer.next()?.octets()?;
        if signer.peek() == Some(0xa1) {
            signer.next()?;
        }
        signer.finish()?;
        Ok(Self { content, certificates, signer: identifier, attributes, signature })
    }

    /// `EncapsulatedContentInfo` of the type `data`.
    fn content(signed: &mut Ber<'a>) -> Result<Vec<u8>, ReceiptError> {
        let mut encapsulated = signed.inside(0x30)?;
        if encapsulated.next()?.expect(0x06)? != DATA {
            return Err(ReceiptError::Malformed);
        }
        let mut wrapped = encapsulated.inside(0xa0)?;
        encapsulated.finish()?;
        let content = wrapped.next()?.octets()?;
        wrapped.finish()?;
        Ok(content)
    }

    fn algorithm(from: &mut Ber<'a>, wanted: &[u8]) -> Result<(), ReceiptError> {
        if from.inside(0x30)?.next()?.expect(0x06)? == wanted { Ok(()) } else { Err(ReceiptError::Algorithm) }
    }

    /// The signer's certificate, the one that issued it, and so on up to one whose issuer is not there or is itself: the
    /// root, which is pinned and does not count here.
    fn chain(&self) -> Result<Chain<'a>, ReceiptError> {
        let mut left: Vec<Named<'a>> = Vec::new();
        for der in &self.certificates {
            left.push(Named::of(der)?);
        }
        let signer = left.iter().position(|one| one.identifier() == self.signer).ok_or(ReceiptError::Signer)?;
        let mut last = left.swap_remove(signer);
        let mut ders = vec![last.der];
        while let Some(at) = left.iter().position(|one| one.subject == last.issuer && one.subject != one.issuer) {
            last = left.swap_remove(at);
            ders.push(last.der);
        }
        Ok(Chain::parse(&ders, CHAIN)?)
    }

    /// What is signed (RFC 5652 section 5.4): the content, or the attributes as a SET if there are any, which then must
    /// name the content's type and digest.
    fn message(&self) -> Result<Vec<u8>, ReceiptError> {
        let Some(attributes) = self.attributes else { return Ok(self.content.clone()) };
        let (mut of_data, mut of_content) = (false, false);
        let mut set = attributes.inside(0xa0)?;
        while !set.is_empty() {
            let mut attribute = set.inside(0x30)?;
            let kind = attribute.next()?.expect(0x06)?;
            let mut values = attribute.inside(0x31)?;
            let value = values.next()?;
            if kind == CONTENT_TYPE {
                of_data = value.expect(0x06)? == DATA && values.is_empty();
            } else if kind == MESSAGE_DIGEST {
                let digest = value.octets()?;
                of_content = verify_slices_are_equal(&digest, &sha256(&self.content)).is_ok() && values.is_empty();
            }
        }
        if !of_data || !of_content {
            return Err(ReceiptError::Signature);
        }
        Ok([&[0x31], attributes.whole.get(1..).unwrap_or_default()].concat())
    }
}

/// A certificate's names as they are written.
struct Named<'a> {
    der: &'a [u8],
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
}

impl<'a> Named<'a> {
    /// `TBSCertificate` (RFC 5280 section 4.1): version, serial number, algorithm, issuer, validity, subject.
    fn of(der: &'a [u8]) -> Result<Self, ReceiptError> {
        let mut tbs = Ber::new(der).inside(0x30)?.inside(0x30)?;
        if tbs.peek() == Some(0xa0) {
            tbs.next()?;
        }
        let serial = tbs.next()?;
        serial.expect(0x02)?;
        tbs.inside(0x30)?;
        let issuer = tbs.next()?;
        issuer.expect(0x30)?;
        tbs.inside(0x30)?;
        let subject = tbs.next()?;
        subject.expect(0x30)?;
        Ok(Self { der, serial: serial.whole, issuer: issuer.whole, subject: subject.whole })
    }

    /// The content of `IssuerAndSerialNumber`.
    fn identifier(&self) -> Vec<u8> {
        [self.issuer, self.serial].concat()
    }
}

/// `SET OF SEQUENCE { type INTEGER, version INTEGER, value OCTET STRING }`. Fields that are not known are passed over.
fn fields(content: &[u8], app_ids: &[&str]) -> Result<Receipt, ReceiptError> {
    let mut der = Der::new(content);
    let mut set = der.inside(Tag::SET)?;
    der.finish()?;
    let mut found: Vec<(u64, &[u8])> = Vec::new();
    while !set.is_empty() {
        let mut field = set.sequence()?;
        let kind = field.integer()?;
        field.integer()?;
        let value = field.octets()?;
        field.finish()?;
        if found.iter().any(|(known, _)| *known == kind) {
            return Err(ReceiptError::Field(kind));
        }
        if found.len() >= MAX_FIELDS {
            return Err(ReceiptError::Malformed);
        }
        found.push((kind, value));
    }
    let fields = Fields(found);
    let app_id = fields.text(2)?.ok_or(ReceiptError::Field(2))?;
    let app_id = app_ids.iter().find(|id| **id == app_id).ok_or(ReceiptError::App)?;
    let refreshed = match fields.text(6)? {
        Some("ATTEST") => false,
        Some("RECEIPT") => true,
        _ => return Err(ReceiptError::Field(6)),
    };
    let environment = match fields.text(7)? {
        None => None,
        Some("sandbox") => Some(Environment::Development),
        Some("production") => Some(Environment::Production),
        Some(_) => return Err(ReceiptError::Field(7)),
    };
    let metric = fields.text(17)?.map(|metric| metric.parse().map_err(|_| ReceiptError::Field(17))).transpose()?;
    Ok(Receipt {
        app_id: (*app_id).to_owned(),
        public_key: fields.key(3)?,
        client_hash: fields.get(4).ok_or(ReceiptError::Field(4))?.to_vec(),
        token: fields.text(5)?.ok_or(ReceiptError::Field(5))?.to_owned(),
        refreshed,
        environment,
        created: fields.time(12)?.ok_or(ReceiptError::Field(12))?,
        risk_metric: metric,
        not_before: fields.time(19)?,
        expires: fields.time(21)?,
    })
}

struct Fields<'a>(Vec<(u64, &'a [u8])>);

impl<'a> Fields<'a> {
    fn get(&self, kind: u64) -> Option<&'a [u8]> {
        self.0.iter().find(|(known, _)| *known == kind).map(|(_, value)| *value)
    }

    fn text(&self, kind: u64) -> Result<Option<&'a str>, ReceiptError> {
        let text = |value| std::str::from_utf8(value).map_err(|_| ReceiptError::Field(kind));
        self.get(kind).map(text).transpose()
    }

    fn time(&self, kind: u64) -> Result<Option<Timestamp>, ReceiptError> {
        let time = |text| Timestamp::parse_rfc3339(text).ok_or(ReceiptError::Field(kind));
        self.text(kind)?.map(time).transpose()
    }

    /// The attested key's certificate.
    fn key(&self, kind: u64) -> Result<[u8; 65], ReceiptError> {
        let der = self.get(kind).ok_or(ReceiptError::Field(kind))?;
        let certificate = Certificate::parse(der, 0).map_err(|_| ReceiptError::Field(kind))?;
        certificate.p256_point().ok_or(ReceiptError::Field(kind))
    }
}
