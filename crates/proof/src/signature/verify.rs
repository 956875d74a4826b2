//! Reading and checking one signature (RFC 9421 section 3.2).

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base::Timestamp;

use super::base::{Message, names, signature_base};
use super::field::{Bare, FieldError, InnerList, Member, dictionary};
use super::{DEFAULT_SKEW, LABEL, MAX_FIELD_LEN, MAX_LIFETIME, MAX_NONCE_LEN, SignatureProofError, TAG};
use crate::dpop::TargetUri;
use crate::jose::{Alg, KeyType, VerifyingKey, array, base64url_encode, sha256};

/// The longest covered value, in bytes.
const MAX_VALUE_LEN: usize = 64 << 10;

/// What a signature is not a signature of one request without.
const ALWAYS: [&str; 2] = ["@method", "@target-uri"];

/// Fields that say how to read the body: covered where they are sent with one.
const OF_BODY: [&str; 2] = ["content-type", "content-encoding"];

/// A well-formed signature of our profile and the values it covers. Nothing in it is verified.
pub struct SignedRequest {
    covered: InnerList,
    signature: Vec<u8>,
    fields: Vec<(String, String)>,
    /// Those of [`OF_BODY`] that the request has.
    of_body: Vec<&'static str>,
    created: Timestamp,
    expires: Timestamp,
    nonce: String,
    keyid: String,
    alg: Option<String>,
    digest: Option<[u8; 32]>,
}

impl SignedRequest {
    /// Read the signature labelled [`LABEL`] of a request with these header fields (names in lower case, as HTTP/2 and
    /// the `http` crate have them). `None`: there is none; signatures with other labels are somebody else's.
    pub fn parse<'h, H>(headers: H) -> Result<Option<Self>, SignatureProofError>
    where
        H: IntoIterator<Item = (&'h str, &'h [u8])>,
        H::IntoIter: Clone,
    {
        let headers = headers.into_iter();
        let input = labelled(headers.clone(), "signature-input")?;
        let signature = labelled(headers.clone(), "signature")?;
        let (covered, signature) = match (input, signature) {
            (None, None) => return Ok(None),
            (Some(Member::List(covered)), Some(Member::Item(item))) => (covered, item),
            _ => return Err(SignatureProofError::Unpaired),
        };
        let (Bare::Bytes(signature), true) = (signature.value, signature.parameters.is_empty()) else {
            return Err(SignatureProofError::Field { field: "Signature", error: FieldError::Syntax });
        };
        let mut fields = Vec::new();
        for name in names(&covered)?.into_iter().filter(|name| !name.starts_with('@')) {
            let value = combined(headers.clone(), name, MAX_VALUE_LEN)
                .map_err(|_| SignatureProofError::BadComponent)?
                .ok_or(SignatureProofError::BadComponent)?;
            fields.push((name.to_owned(), value));
        }
        let of_body = OF_BODY.into_iter().filter(|name| headers.clone().any(|(other, _)| other == *name)).collect();
        let digest = fields.iter().find(|(name, _)| name == "content-digest");
        let digest = digest.map(|(_, value)| sha256_of(value)).transpose()?;
        Self::with_parameters(Self {
            covered,
            signature,
            fields,
            of_body,
            created: Timestamp::default(),
            expires: Timestamp::default(),
            nonce: String::new(),
            keyid: String::new(),
            alg: None,
            digest,
        })
        .map(Some)
    }

    /// Fill in what the parameters say. Unknown ones are refused: a signer that uses one means something by it.
    fn with_parameters(mut self) -> Result<Self, SignatureProofError> {
        let (mut created, mut expires, mut nonce, mut keyid, mut tag) = (None, None, None, None, None);
        for (name, value) in &self.covered.parameters {
            match name.as_str() {
                "created" => created = Some(moment(value, "created")?),
                "expires" => expires = Some(moment(value, "expires")?),
                "nonce" => nonce = Some(text(value, "nonce")?),
                "keyid" => keyid = Some(text(value, "keyid")?),
                "alg" => self.alg = Some(text(value, "alg")?.to_owned()),
                "tag" => tag = Some(text(value, "tag")?),
                _ => return Err(SignatureProofError::BadParameter("list of parameters")),
            }
        }
        if tag.ok_or(SignatureProofError::MissingParameter("tag"))? != TAG {
            return Err(SignatureProofError::WrongTag);
        }
        self.created = created.ok_or(SignatureProofError::MissingParameter("created"))?;
        self.expires = expires.ok_or(SignatureProofError::MissingParameter("expires"))?;
        self.nonce = nonce.ok_or(SignatureProofError::MissingParameter("nonce"))?.to_owned();
        self.keyid = keyid.ok_or(SignatureProofError::MissingParameter("keyid"))?.to_owned();
        Ok(self)
    }

    /// The thumbprint the signature names as its key's, unverified.
    pub fn keyid(&self) -> &str {
        &self.keyid
    }

    /// The nonce of the client's choice, unverified.
    pub fn nonce(&self) -> &str {
        &self.nonce
    }

    fn covers(&self, name: &str) -> bool {
        self.covered.items.iter().any(|item| matches!(&item.value, Bare::String(own) if own == name))
    }
}

/// Shows nothing that can be replayed.
impl fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SignedRequest");
        shown.field("keyid", &self.keyid).field("created", &self.created).finish_non_exhaustive()
    }
}

/// What a signature has to fit.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedRequest<'a> {
    /// The request's method, with case.
    pub method: &'a str,
    /// The request's target under each external origin that is configured, never under one taken from a Host header.
    pub targets: &'a [TargetUri],
    /// The query as sent, without its question mark.
    pub query: Option<&'a str>,
    /// The field the credential came in, in lower case: it must be covered, or the signature would fit another token of
    /// the same key.
    pub credential: &'a str,
    /// Whether a body follows: then its digest must be covered.
    pub has_body: bool,
    /// Forgiven clock difference in both directions.
    pub skew: Duration,
    /// Since when the replay store remembers. A signature that may have been used before is refused.
    pub remembered_since: Option<Timestamp>,
    /// The moment of the request.
    pub now: Timestamp,
}

impl<'a> ExpectedRequest<'a> {
    /// A request without query and body whose credential is in `authorization`.
    pub fn new(method: &'a str, targets: &'a [TargetUri], now: Timestamp) -> Self {
        Self {
            method,
            targets,
            query: None,
            credential: "authorization",
            has_body: false,
            skew: DEFAULT_SKEW,
            remembered_since: None,
            now,
        }
    }
}

/// A signature that fits its request, but for the body. Only [`verify`] makes one.
///
/// ```
/// fn holder(signature: &proof::signature::VerifiedSignature) -> &[u8; 32] {
///     signature.jkt()
/// }
/// ```
///
/// Nobody else can:
///
/// ```compile_fail,E0451
/// fn forge(signature: proof::signature::VerifiedSignature) -> proof::signature::VerifiedSignature {
///     proof::signature::VerifiedSignature { jkt: [0; 32], ..signature }
/// }
/// ```
pub struct VerifiedSignature {
    jkt: [u8; 32],
    digest: Option<[u8; 32]>,
    expires: Timestamp,
    acceptable_until: Timestamp,
    replay_key: [u8; 32],
}

impl VerifiedSignature {
    /// The thumbprint of the key whose possession is proved.
    pub fn jkt(&self) -> &[u8; 32] {
        &self.jkt
    }

    /// When the signature ends.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }

    /// The SHA-256 of the body that was signed, if one was.
    pub fn content_digest(&self) -> Option<&[u8; 32]> {
        self.digest.as_ref()
    }

    /// Whether this is the body that was signed. Without a covered digest only an empty one is.
    pub fn check_body(&self, body: &[u8]) -> Result<(), SignatureProofError> {
        match self.digest {
            Some(digest) if digest == sha256(body) => Ok(()),
            None if body.is_empty() => Ok(()),
            _ => Err(SignatureProofError::WrongBody),
        }
    }

    /// The last moment at which the same signature would be accepted again: so long its replay key must be remembered.
    pub fn acceptable_until(&self) -> Timestamp {
        self.acceptable_until
    }

    /// What is used up: SHA-256 of `sig`, key and nonce. Another signature with the same nonce does not change it.
    pub fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }
}

/// Says which key it is of; the nonce stays out of logs.
impl fmt::Debug for VerifiedSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VerifiedSignature");
        shown.field("jkt", &base64url_encode(self.jkt)).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Check a signature with the key its token is bound to. What costs little comes before the signature itself.
pub fn verify(
    request: &SignedRequest,
    key: &VerifyingKey,
    expected: &ExpectedRequest<'_>,
) -> Result<VerifiedSignature, SignatureProofError> {
    if request.keyid != key.thumbprint_text() {
        return Err(SignatureProofError::WrongKey);
    }
    let alg = algorithm(key, request.alg.as_deref()).ok_or(SignatureProofError::WrongAlg)?;
    check_covered(request, expected)?;
    let acceptable_until = check_time(request, expected)?;
    let holds = |target: &TargetUri| -> Result<bool, SignatureProofError> {
        let message = Message {
            method: expected.method,
            target: target.as_str(),
            query: expected.query,
            fields: &request.fields,
        };
        let base = signature_base(&request.covered, &message)?;
        Ok(key.verify(alg, base.as_bytes(), &request.signature).is_ok())
    };
    let mut held = false;
    for target in expected.targets {
        held = held || holds(target)?;
    }
    if !held {
        return Err(SignatureProofError::BadSignature);
    }
    let mut hash = Context::new(&SHA256);
    for part in [b"sig".as_slice(), key.thumbprint(), request.nonce.as_bytes()] {
        hash.update(part);
    }
    Ok(VerifiedSignature {
        jkt: *key.thumbprint(),
        digest: request.digest,
        expires: request.expires,
        acceptable_until,
        replay_key: array(hash.finish().as_ref()),
    })
}

/// The algorithm of a key: the only one RFC 9421 section 6.2.2 registers for its kind (of RSA's the one with PSS). What
/// the signature says can only agree.
fn algorithm(key: &VerifyingKey, said: Option<&str>) -> Option<Alg> {
    let (alg, name) = match key.key_type() {
        KeyType::P256 => (Alg::Es256, "ecdsa-p256-sha256"),
        KeyType::P384 => (Alg::Es384, "ecdsa-p384-sha384"),
        KeyType::Ed25519 => (Alg::EdDsa, "ed25519"),
        KeyType::Rsa => (Alg::Ps512, "rsa-pss-sha512"),
        KeyType::P521 | KeyType::Symmetric | KeyType::MlDsa44 | KeyType::MlDsa65 => return None,
    };
    Some(alg).filter(|_| said.is_none_or(|said| said == name)).filter(|alg| key.bind(&[*alg]).is_some())
}

fn check_covered(request: &SignedRequest, expected: &ExpectedRequest<'_>) -> Result<(), SignatureProofError> {
    for name in ALWAYS {
        if !request.covers(name) {
            return Err(SignatureProofError::NotCovered(name));
        }
    }
    if !request.covers(expected.credential) {
        return Err(SignatureProofError::NotCovered("the credential"));
    }
    if expected.has_body && request.digest.is_none() {
        return Err(SignatureProofError::NotCovered("content-digest"));
    }
    let open = request.of_body.iter().find(|name| expected.has_body && !request.covers(name));
    open.map_or(Ok(()), |name| Err(SignatureProofError::NotCovered(name)))
}

/// Check the times; until when the signature could come again.
fn check_time(request: &SignedRequest, expected: &ExpectedRequest<'_>) -> Result<Timestamp, SignatureProofError> {
    if request.expires < request.created || request.expires > request.created.plus(MAX_LIFETIME) {
        return Err(SignatureProofError::LifetimeTooLong);
    }
    let acceptable_until = request.expires.plus(expected.skew);
    if expected.now > acceptable_until {
        return Err(SignatureProofError::Expired);
    }
    if request.created > expected.now.plus(expected.skew) {
        return Err(SignatureProofError::InFuture);
    }
    // Before then it may have been accepted by a process whose memory is gone: the latest such `created` is one whose
    // client's clock was ahead by the skew.
    if expected.remembered_since.is_some_and(|since| request.created <= since.plus(expected.skew)) {
        return Err(SignatureProofError::BeforeStart);
    }
    Ok(acceptable_until)
}

/// The member called [`LABEL`] of a dictionary that may be spread over several lines.
fn labelled<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    field: &'static str,
) -> Result<Option<Member>, SignatureProofError> {
    let shown = if field == "signature" { "Signature" } else { "Signature-Input" };
    let failed = |error| SignatureProofError::Field { field: shown, error };
    let Some(text) = combined(headers, field, MAX_FIELD_LEN).map_err(failed)? else { return Ok(None) };
    let members = dictionary(&text).map_err(failed)?;
    Ok(members.into_iter().find_map(|(label, member)| (label == LABEL).then_some(member)))
}

fn moment(value: &Bare, name: &'static str) -> Result<Timestamp, SignatureProofError> {
    match value {
        Bare::Integer(secs) => Ok(Timestamp::from_secs(*secs)),
        _ => Err(SignatureProofError::BadParameter(name)),
    }
}

/// A string of 1 to [`MAX_NONCE_LEN`] characters: longer than any of these needs to be.
fn text<'v>(value: &'v Bare, name: &'static str) -> Result<&'v str, SignatureProofError> {
    match value {
        Bare::String(text) if (1..=MAX_NONCE_LEN).contains(&text.len()) => Ok(text),
        _ => Err(SignatureProofError::BadParameter(name)),
    }
}

/// A field's value as a signature covers it (RFC 9421 section 2.1): its lines in order, without space around them,
/// joined by a comma and a space. `None`: the request has no such field.
pub(crate) fn combined<'h>(
    headers: impl Iterator<Item = (&'h str, &'h [u8])>,
    name: &str,
    longest: usize,
) -> Result<Option<String>, FieldError> {
    let mut value: Option<String> = None;
    for (_, line) in headers.filter(|(other, _)| *other == name) {
        let is_text = |b: &u8| *b == b'\t' || (b' '..=b'~').contains(b);
        let line = std::str::from_utf8(line).ok().filter(|line| line.as_bytes().iter().all(is_text));
        let line = line.ok_or(FieldError::Syntax)?.trim_matches([' ', '\t']);
        value = Some(match value {
            None => line.to_owned(),
            Some(before) => before + ", " + line,
        });
        if value.as_ref().is_some_and(|value| value.len() > longest) {
            return Err(FieldError::TooLarge);
        }
    }
    Ok(value)
}

/// The SHA-256 of a `Content-Digest` (RFC 9530 section 2). Digests by other algorithms beside it say nothing more.
fn sha256_of(value: &str) -> Result<[u8; 32], SignatureProofError> {
    let failed = |error| SignatureProofError::Field { field: "Content-Digest", error };
    let members = dictionary(value).map_err(failed)?;
    let found = members.into_iter().find(|(name, _)| name == "sha-256");
    match found {
        Some((_, Member::Item(item))) => match item.value {
            Bare::Bytes(bytes) => <[u8; 32]>::try_from(bytes).map_err(|_| SignatureProofError::BadDigest),
            _ => Err(SignatureProofError::BadDigest),
        },
        _ => Err(SignatureProofError::BadDigest),
    }
}
