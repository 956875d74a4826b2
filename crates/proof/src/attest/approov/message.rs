//! Approov's message signing: signatures over requests (RFC 9421) by the installation's key (label `install`) or by a
//! secret of the account that only attested apps are given (label `account`).
//!
//! Unlike our own profile ([`crate::signature`]) such a signature has no nonce and need not cover the body: it says that the
//! request was made by the installation in the last seconds, and whoever sees it can send it again as long. Some of
//! Approov's layers write signatures and digests as strings where RFC 9421 and RFC 9530 have byte sequences; both are read
//! where the caller says so.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::hmac;
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::dpop::TargetUri;
use crate::jose::{Alg, VerifyingKey, sha256};
use crate::signature::base::{Message, names, signature_base};
use crate::signature::field::{Bare, FieldError, InnerList, Member, dictionary};
use crate::signature::verify::combined;

/// The longest `Signature` and `Signature-Input`, in bytes.
const MAX_FIELD_LEN: usize = 8 << 10;

/// The longest covered value, in bytes.
const MAX_VALUE_LEN: usize = 64 << 10;

/// The longest a signature may live. Approov's live 15 seconds.
const MAX_LIFETIME: Duration = Duration::from_mins(1);

/// The clock difference that is forgiven, in both directions.
const SKEW: Duration = Duration::from_secs(5);

/// Whose signature it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The installation's, by a key it made.
    Install,
    /// The account's, by a shared secret.
    Account,
}

impl Signer {
    /// The label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Account => "account",
        }
    }

    const fn algorithm(self) -> &'static str {
        match self {
            Self::Install => "ecdsa-p256-sha256",
            Self::Account => "hmac-sha256",
        }
    }
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// No signature with the label.
    #[error("the request has no such signature")]
    Missing,
    /// One of `Signature` and `Signature-Input` has the label and the other has not.
    #[error("Signature and Signature-Input do not belong together")]
    Unpaired,
    /// A field is not what it must be.
    #[error("a field of the signature is {0}")]
    Field(FieldError),
    /// Covers something that is unknown, twice, or not there.
    #[error("a covered component is unknown or absent")]
    Component,
    /// Does not cover what it must.
    #[error("the signature does not cover {0}")]
    NotCovered(&'static str),
    /// A parameter is missing or has the wrong form.
    #[error("the parameter `{0}` is missing or has the wrong form")]
    Parameter(&'static str),
    /// Another algorithm than the label's.
    #[error("the signature is made with another algorithm")]
    Algorithm,
    /// Over.
    #[error("the signature has expired")]
    Expired,
    /// From the future.
    #[error("the signature is from the future")]
    InFuture,
    /// Lives longer than such signatures do.
    #[error("the signature lives too long")]
    Lifetime,
    /// Wrong.
    #[error("the signature is wrong")]
    Signature,
    /// The body is another one.
    #[error("the body is not the one that was signed")]
    Body,
}

impl MessageError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Missing => "message_signature_missing",
            Self::Unpaired => "message_signature_unpaired",
            Self::Field(error) => error.reason(),
            Self::Component => "message_signature_component",
            Self::NotCovered(_) => "message_signature_not_covered",
            Self::Parameter(_) => "message_signature_parameter",
            Self::Algorithm => "alg_not_allowed",
            Self::Expired => "message_signature_expired",
            Self::InFuture => "message_signature_in_future",
            Self::Lifetime => "message_signature_lifetime",
            Self::Signature => "bad_signature",
            Self::Body => "message_signature_body",
        }
    }
}

/// The key of a label.
#[derive(Clone, Copy)]
pub enum MessageKey<'k> {
    /// The installation's, from the token's `ipk`.
    Install(&'k VerifyingKey),
    /// The account's.
    Account(&'k Secret<Vec<u8>>),
}

impl MessageKey<'_> {
    const fn signer(self) -> Signer {
        match self {
            Self::Install(_) => Signer::Install,
            Self::Account(_) => Signer::Account,
        }
    }

    fn holds(self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Install(key) => key.verify(Alg::Es256, message, signature).is_ok(),
            Self::Account(secret) => {
                hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), message, signature).is_ok()
            }
        }
    }
}

impl fmt::Debug for MessageKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signer().label())
    }
}

/// What a signature has to fit.
#[derive(Debug, Clone, Copy)]
pub struct MessageRules<'a> {
    /// The request's method, with case.
    pub method: &'a str,
    /// The request's target under each external origin that is configured.
    pub targets: &'a [TargetUri],
    /// The query as sent, without its question mark.
    pub query: Option<&'a str>,
    /// The field that holds the token, in lower case: it must be covered.
    pub token_field: &'a str,
    /// Whether a digest of the body must be covered.
    pub digest_required: bool,
    /// Whether strings are read for byte sequences.
    pub strings: bool,
    /// The moment of the request.
    pub now: Timestamp,
}

/// A signature that fits its request, but for the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedMessage {
    /// When it ends.
    pub expires: Timestamp,
    digest: Option<[u8; 32]>,
}

impl VerifiedMessage {
    /// That this is the body that was signed, where one was.
    pub fn check_body(&self, body: &[u8]) -> Result<(), MessageError> {
        match self.digest {
            Some(digest) if digest != sha256(body) => Err(MessageError::Body),
            _ => Ok(()),
        }
    }
}

/// Verify the signature of this key's kind over a request with these header fields, their names in lower case.
pub fn verify<'h, H>(headers: H, key: MessageKey<'_>, rules: &MessageRules<'_>) -> Result<VerifiedMessage, MessageError>
where
    H: IntoIterator<Item = (&'h str, &'h [u8])>,
    H::IntoIter: Clone,
{
    let headers = headers.into_iter();
    let signer = key.signer();
    let input = labelled(headers.clone(), "signature-input", signer)?;
    let signature = labelled(headers.clone(), "signature", signer)?;
    let (covered, signature) = match (input, signature) {
        (None, None) => return Err(MessageError::Missing),
        (Some(Member::List(covered)), Some(Member::Item(item))) => (covered, octets(item.value, rules.strings)?),
        _ => return Err(MessageError::Unpaired),
    };
    let expires = check_parameters(&covered, signer, rules.now)?;
    let fields = covered_fields(&headers, &covered, rules)?;
    let digest = fields.iter().find(|(name, _)| name == "content-digest");
    let digest = digest.map(|(_, value)| sha256_of(value, rules.strings)).transpose()?;
    if rules.digest_required && digest.is_none() {
        return Err(MessageError::NotCovered("content-digest"));
    }
    for target in rules.targets {
        let message = Message { method: rules.method, target: target.as_str(), query: rules.query, fields: &fields };
        let base = signature_base(&covered, &message).map_err(|_| MessageError::Component)?;
        if key.holds(base.as_bytes(), &signature) {
            return Ok(VerifiedMessage { expires, digest });
        }
    }
    Err(MessageError::Signature)
}

/// The values of the fields that are covered, which are there and are enough.
fn covered_fields<'h>(
    headers: &(impl Iterator<Item = (&'h str, &'h [u8])> + Clone),
    covered: &InnerList,
    rules: &MessageRules<'_>,
) -> Result<Vec<(String, String)>, MessageError> {
    let names = names(covered).map_err(|_| MessageError::Component)?;
    for (needed, shown) in
        [("@method", "@method"), ("@target-uri", "@target-uri"), (rules.token_field, "the token's field")]
    {
        if !names.contains(&needed) {
            return Err(MessageError::NotCovered(shown));
        }
    }
    let fields = names.into_iter().filter(|name| !name.starts_with('@')).map(|name| {
        let value = combined(headers.clone(), name, MAX_VALUE_LEN).map_err(MessageError::Field)?;
        Ok((name.to_owned(), value.ok_or(MessageError::Component)?))
    });
    fields.collect()
}

/// `alg` can only be the label's; `created` and `expires` say when the signature counts; others only say more.
fn check_parameters(covered: &InnerList, signer: Signer, now: Timestamp) -> Result<Timestamp, MessageError> {
    let find = |name: &str| covered.parameters.iter().find_map(|(key, value)| (key == name).then_some(value));
    let moment = |name: &'static str| match find(name) {
        Some(Bare::Integer(secs)) => Ok(Timestamp::from_secs(*secs)),
        _ => Err(MessageError::Parameter(name)),
    };
    match find("alg") {
        Some(Bare::String(alg)) if alg == signer.algorithm() => {}
        Some(_) => return Err(MessageError::Algorithm),
        None => return Err(MessageError::Parameter("alg")),
    }
    let (created, expires) = (moment("created")?, moment("expires")?);
    if expires < created || expires > created.plus(MAX_LIFETIME) {
        return Err(MessageError::Lifetime);
    }
    if created > now.plus(SKEW) {
        return Err(MessageError::InFuture);
    }
    if now > expires.plus(SKEW) {
        return Err(MessageError::Expired);
    }
    Ok(expires)
}

fn labelled<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    field: &str,
    signer: Signer,
) -> Result<Option<Member>, MessageError> {
    let Some(text) = combined(headers, field, MAX_FIELD_LEN).map_err(MessageError::Field)? else { return Ok(None) };
    let members = dictionary(&text).map_err(MessageError::Field)?;
    Ok(members.into_iter().find_map(|(label, member)| (label == signer.label()).then_some(member)))
}

/// A byte sequence, or where it is allowed a string with its base64.
fn octets(value: Bare, strings: bool) -> Result<Vec<u8>, MessageError> {
    match value {
        Bare::Bytes(bytes) => Ok(bytes),
        Bare::String(text) if strings => STANDARD.decode(text).map_err(|_| MessageError::Field(FieldError::Syntax)),
        _ => Err(MessageError::Field(FieldError::Syntax)),
    }
}

/// The SHA-256 of a `Content-Digest` (RFC 9530 section 2).
fn sha256_of(value: &str, strings: bool) -> Result<[u8; 32], MessageError> {
    let members = dictionary(value).map_err(MessageError::Field)?;
    let found = members.into_iter().find_map(|(name, member)| (name == "sha-256").then_some(member));
    let Some(Member::Item(item)) = found else { return Err(MessageError::NotCovered("a SHA-256 of the body")) };
    octets(item.value, strings)?.try_into().map_err(|_| MessageError::Field(FieldError::Syntax))
}
