//! Client assertions: a client of the token service signs who it is (RFC 7523 section 3, `private_key_jwt`).
//!
//! [`Assertion::parse`] says which client it is about, so that its keys can be found; [`verify_client_assertion`] checks
//! it with them. That an assertion is used only once is for a durable store to say, which asks for
//! [`VerifiedAssertion::replay_key`] after everything else held.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256};
use base::{Timestamp, Who};

use crate::jose::{
    Alg, Compact, Fault, JoseError, KeySet, Lookup, SignatureError, array, audiences, parse_compact_within, required,
};
use crate::token::date;

/// The longest assertion that is looked at, in bytes.
pub const MAX_ASSERTION_LEN: usize = 8 << 10;

/// The longest `jti`, in bytes.
pub const MAX_ASSERTION_JTI_LEN: usize = 256;

/// How far ahead `exp` may lie. Common clients sign for an hour; being used once makes it harmless, and the bound keeps
/// what must be remembered for that small.
pub const MAX_ASSERTION_LIFETIME: Duration = Duration::from_hours(1);

/// The clock difference that is forgiven.
pub const ASSERTION_SKEW: Duration = Duration::from_mins(1);

/// The longest client identifier.
const MAX_CLIENT_LEN: usize = 256;

/// Why an assertion is refused. To the client it is always `invalid_client` (RFC 7523 section 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AssertionError {
    /// Not one signed object this verifier reads.
    #[error("the assertion is not one well-formed signed object: {0}")]
    Malformed(#[from] JoseError),
    /// `typ` is that of another kind of token.
    #[error("the assertion's typ is that of another kind of token")]
    WrongTyp,
    /// A symmetric algorithm, or one this client does not use.
    #[error("the assertion's algorithm is not accepted from this client")]
    AlgNotAllowed,
    /// The client has no key of that name: a newer set may.
    #[error("the client has no such key")]
    UnknownKey,
    /// The assertion names no key and several would fit.
    #[error("the assertion names no key and several would fit")]
    AmbiguousKey,
    /// The key is for another algorithm.
    #[error("the key is for another algorithm")]
    WrongAlg,
    /// The signature does not hold.
    #[error("the assertion's signature is wrong")]
    BadSignature,
    /// A claim is missing.
    #[error("the assertion has no {0}")]
    MissingClaim(&'static str),
    /// A claim has the wrong type, form or length.
    #[error("the assertion's {0} is of the wrong type, form or length")]
    BadClaim(&'static str),
    /// `iss` and `sub` are not both the client.
    #[error("the assertion is about another client")]
    WrongClient,
    /// Not meant for us, or not for us alone.
    #[error("the assertion is for another audience")]
    WrongAudience,
    /// `exp` is past.
    #[error("the assertion has expired")]
    Expired,
    /// `nbf` or `iat` lies in the future.
    #[error("the assertion is from the future")]
    InFuture,
    /// `exp` lies further ahead than [`MAX_ASSERTION_LIFETIME`].
    #[error("the assertion lives too long")]
    LifetimeTooLong,
}

impl AssertionError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(e) => e.reason(),
            Self::WrongTyp => "wrong_typ",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::WrongAlg => "alg_key_mismatch",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim(_) => "missing_claim",
            Self::BadClaim(_) => "bad_claim",
            Self::WrongClient => "wrong_client",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::InFuture => "issued_in_future",
            Self::LifetimeTooLong => "lifetime_too_long",
        }
    }

    /// Whose fault it is: always the client's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether the same assertion may pass once newer keys of the client are fetched.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::UnknownKey)
    }
}

/// A well-formed assertion. Nothing in it is verified.
pub struct Assertion<'t> {
    compact: Compact<'t>,
    issuer: String,
    client: String,
    jti: String,
    for_audiences: Vec<String>,
    expires_at: Timestamp,
    not_before: Option<Timestamp>,
    issued_at: Option<Timestamp>,
}

impl<'t> Assertion<'t> {
    /// Read an assertion of at most [`MAX_ASSERTION_LEN`] bytes.
    pub fn parse(text: &'t str) -> Result<Self, AssertionError> {
        let compact = parse_compact_within(text, MAX_ASSERTION_LEN)?;
        // RFC 8725 section 3.11: access tokens, proofs and security events say in `typ` that they are no assertion.
        if !matches!(compact.header.typ.as_deref(), None | Some("jwt" | "client-authentication+jwt")) {
            return Err(AssertionError::WrongTyp);
        }
        if compact.header.alg.is_symmetric() {
            return Err(AssertionError::AlgNotAllowed);
        }
        let claims = compact.claims()?;
        let of = |name: &'static str, longest| required(&claims, name, longest).map_err(|fault| failed(name, fault));
        let moment = |name: &'static str| date(&claims, name).map_err(|_| AssertionError::BadClaim(name));
        let to = audiences(&claims).map_err(|fault| failed("aud", fault))?;
        Ok(Self {
            issuer: of("iss", MAX_CLIENT_LEN)?.to_owned(),
            client: of("sub", MAX_CLIENT_LEN)?.to_owned(),
            jti: of("jti", MAX_ASSERTION_JTI_LEN)?.to_owned(),
            for_audiences: to.into_iter().map(str::to_owned).collect(),
            expires_at: moment("exp")?.ok_or(AssertionError::MissingClaim("exp"))?,
            not_before: moment("nbf")?,
            issued_at: moment("iat")?,
            compact,
        })
    }

    /// The client it says it is from (`sub`), unverified: to find its keys.
    pub fn client_id(&self) -> &str {
        &self.client
    }
}

/// Shows the header only: the rest is a credential.
impl fmt::Debug for Assertion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assertion").field("compact", &self.compact).finish_non_exhaustive()
    }
}

/// What an assertion has to fit.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedAssertion<'a> {
    /// The client whose keys are used.
    pub client_id: &'a str,
    /// What we are called: our issuer identifier and the URL of the endpoint that was called. An assertion may name one
    /// or several of these, and nobody else: whoever else it is for could use it here.
    pub audiences: &'a [&'a str],
    /// Algorithms the client uses; a symmetric one is refused even if listed.
    pub algorithms: &'a [Alg],
    /// The moment of the request.
    pub now: Timestamp,
}

/// An assertion that holds. Only [`verify_client_assertion`] makes one.
pub struct VerifiedAssertion {
    client: String,
    jti: String,
    expires_at: Timestamp,
    replay_key: [u8; 32],
}

impl VerifiedAssertion {
    /// The client that signed it.
    pub fn client_id(&self) -> &str {
        &self.client
    }

    /// `jti`.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// The last moment at which the same assertion would be accepted again: so long its replay key must be remembered.
    pub fn acceptable_until(&self) -> Timestamp {
        self.expires_at.plus(ASSERTION_SKEW)
    }

    /// What is used up: SHA-256 of client and `jti`.
    pub fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }
}

/// Says whose it is; the `jti` stays out of logs.
impl fmt::Debug for VerifiedAssertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedAssertion").field("client", &self.client).finish_non_exhaustive()
    }
}

/// Check an assertion with its client's keys. What costs little comes before the signature.
pub fn verify_client_assertion(
    assertion: &Assertion<'_>,
    keys: &KeySet,
    expected: &ExpectedAssertion<'_>,
) -> Result<VerifiedAssertion, AssertionError> {
    let alg = assertion.compact.header.alg;
    if alg.is_symmetric() || !expected.algorithms.contains(&alg) {
        return Err(AssertionError::AlgNotAllowed);
    }
    if assertion.issuer != expected.client_id || assertion.client != expected.client_id {
        return Err(AssertionError::WrongClient);
    }
    if !assertion.for_audiences.iter().all(|name| expected.audiences.contains(&name.as_str())) {
        return Err(AssertionError::WrongAudience);
    }
    let now = expected.now;
    if now >= assertion.expires_at.plus(ASSERTION_SKEW) {
        return Err(AssertionError::Expired);
    }
    if [assertion.not_before, assertion.issued_at].into_iter().flatten().any(|from| from > now.plus(ASSERTION_SKEW)) {
        return Err(AssertionError::InFuture);
    }
    if assertion.expires_at > now.plus(MAX_ASSERTION_LIFETIME).plus(ASSERTION_SKEW) {
        return Err(AssertionError::LifetimeTooLong);
    }
    let key = match keys.find(assertion.compact.header.kid.as_deref(), alg, expected.algorithms) {
        Lookup::Found(key) if key.bind(expected.algorithms) == Some(alg) => key,
        Lookup::Found(_) => return Err(AssertionError::WrongAlg),
        Lookup::Unknown => return Err(AssertionError::UnknownKey),
        Lookup::Ambiguous => return Err(AssertionError::AmbiguousKey),
    };
    let signed = assertion.compact.signing_input.as_bytes();
    key.verify(alg, signed, &assertion.compact.signature).map_err(|error| match error {
        SignatureError::WrongAlg => AssertionError::WrongAlg,
        SignatureError::Invalid => AssertionError::BadSignature,
    })?;
    let mut hash = Context::new(&SHA256);
    // A client identifier cannot hold the zero byte that ends it.
    for part in [assertion.client.as_bytes(), &[0], assertion.jti.as_bytes()] {
        hash.update(part);
    }
    Ok(VerifiedAssertion {
        client: assertion.client.clone(),
        jti: assertion.jti.clone(),
        expires_at: assertion.expires_at,
        replay_key: array(hash.finish().as_ref()),
    })
}

const fn failed(name: &'static str, fault: Fault) -> AssertionError {
    match fault {
        Fault::Missing => AssertionError::MissingClaim(name),
        Fault::Malformed => AssertionError::BadClaim(name),
    }
}
