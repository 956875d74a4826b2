//! ALTCHA: proof of work for browsers, without a third party (<https://altcha.org/docs/v2/proof-of-work-captcha>).
//!
//! We give a signed challenge, the browser searches, we check with one hash (version 1) or one key derivation (version 2).
//! A solution slows bots down and proves nothing else. It is bound to what it was asked for (an app's name, a nonce) and
//! ends soon; that it counts once is the caller's store's to see, by [`Solved::id`].

mod payload;

use std::num::NonZeroU32;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{hmac, pbkdf2};
use base::{Rng, Timestamp, Who};
use serde_json::{Value, json};

use super::{Evidence, Level, Summary, hex};
use crate::jose::{JsonError, JsonObject, base64url_encode, sha256};
use payload::{Payload, V1, V2};

/// The longest payload, in bytes of base64.
pub const MAX_PAYLOAD_LEN: usize = 4 << 10;

/// The largest number a version 1 search may end at.
pub const MAX_NUMBER: u32 = 50_000_000;

/// The most iterations of a version 2 derivation: what a verification may cost us.
pub const MAX_COST: u32 = 200_000;

/// The longest key prefix, in bytes: 3 are 16 million derivations.
const MAX_PREFIX_LEN: usize = 3;

/// The bytes of a derived key.
const KEY_LEN: usize = 32;

/// What a browser has to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Version 1: find the number up to `most` whose SHA-256 after the salt is the one given. Half of `most` on average.
    Search {
        /// At most [`MAX_NUMBER`].
        most: u32,
    },
    /// Version 2: find a counter whose key, derived by PBKDF2 with HMAC-SHA-256, begins with `zeros` zero bytes.
    /// 256 to the power of `zeros` derivations on average.
    Derive {
        /// Iterations of one derivation, 1,000 to [`MAX_COST`].
        cost: u32,
        /// One to three.
        zeros: u8,
    },
}

/// Why a challenge cannot be made or a solution is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AltchaError {
    /// The work is out of bounds.
    #[error("the work asked for is out of bounds")]
    Work,
    /// Longer than [`MAX_PAYLOAD_LEN`].
    #[error("the payload is too long")]
    TooLong,
    /// Not JSON in base64.
    #[error("the payload is not JSON in base64")]
    Encoding,
    /// Not an acceptable JSON object.
    #[error("the payload is refused: {0}")]
    Json(#[from] JsonError),
    /// A member is missing, unknown or of another form.
    #[error("the payload's {0} is missing, unknown or of another form")]
    Member(&'static str),
    /// Another algorithm than we ask for.
    #[error("the algorithm is not one that is asked for")]
    Algorithm,
    /// The challenge is not ours.
    #[error("the challenge is not ours")]
    Signature,
    /// The challenge was given for something else.
    #[error("the challenge was given for something else")]
    Context,
    /// The challenge has ended.
    #[error("the challenge has ended")]
    Expired,
    /// The number or counter is not a solution.
    #[error("not a solution")]
    Solution,
}

impl AltchaError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Work => "work_out_of_bounds",
            Self::TooLong => "too_long",
            Self::Encoding => "malformed_payload",
            Self::Json(error) => error.reason(),
            Self::Member(_) => "unexpected_members",
            Self::Algorithm => "alg_not_allowed",
            Self::Signature => "bad_signature",
            Self::Context => "context_mismatch",
            Self::Expired => "expired",
            Self::Solution => "wrong_solution",
        }
    }

    /// Whose fault it is: the client's, or, where work is asked for that is out of bounds, ours.
    pub const fn who(self) -> Who {
        match self {
            Self::Work => Who::Us,
            _ => Who::Client,
        }
    }

    /// Whether the same would pass later.
    pub const fn retryable(self) -> bool {
        false
    }
}

/// The key that signs challenges.
#[derive(Debug)]
pub struct AltchaKey(hmac::Key);

/// A solution that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Solved {
    /// The challenge: to be kept until `expires`, and refused if it is kept already.
    pub id: [u8; 32],
    /// When the challenge ends.
    pub expires: Timestamp,
    /// What a policy is told.
    pub summary: Summary,
}

impl AltchaKey {
    /// From 32 random bytes.
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn sign(&self, message: &[u8]) -> String {
        hex(hmac::sign(&self.0, message).as_ref())
    }

    /// A challenge, in the form the widget takes it. `context` says what it is for: the same must be given to
    /// [`AltchaKey::verify`].
    pub fn challenge(
        &self,
        work: Work,
        context: &[u8],
        rng: &dyn Rng,
        (now, lifetime): (Timestamp, Duration),
    ) -> Result<Value, AltchaError> {
        let expires = now.plus(lifetime).as_secs();
        let mut random = [0; 40];
        rng.fill(&mut random);
        let (salt, rest) = random.split_first_chunk::<16>().ok_or(AltchaError::Work)?;
        let (nonce, rest) = rest.split_first_chunk::<16>().ok_or(AltchaError::Work)?;
        match work {
            Work::Search { most } => {
                let drawn = rest.iter().fold(0u64, |sum, byte| (sum << 8) | u64::from(*byte));
                let range = (1_000..=MAX_NUMBER).contains(&most).then(|| u64::from(most) + 1);
                let number = drawn % range.ok_or(AltchaError::Work)?;
                // The mark at the end keeps digits of the number from being taken for the salt's.
                let salt = format!("{}?expires={expires}&ctx={}&", hex(salt), bound(context));
                let challenge = hex(&sha256(format!("{salt}{number}").as_bytes()));
                let signature = self.sign(challenge.as_bytes());
                Ok(json!({ "algorithm": "SHA-256", "challenge": challenge, "maxnumber": most, "salt": salt,
                           "signature": signature }))
            }
            Work::Derive { cost, zeros } => {
                if !(1_000..=MAX_COST).contains(&cost) || !(1..=MAX_PREFIX_LEN).contains(&usize::from(zeros)) {
                    return Err(AltchaError::Work);
                }
                let parameters = V2 {
                    cost,
                    context: bound(context),
                    expires,
                    prefix: "00".repeat(zeros.into()),
                    nonce: hex(nonce),
                    salt: hex(salt),
                };
                let signature = self.sign(parameters.canonical().as_bytes());
                Ok(json!({ "parameters": parameters.to_json(), "signature": signature }))
            }
        }
    }

    /// Verify what the widget sends: JSON in base64. The signature is checked before anything is derived, so only work
    /// we asked for costs us.
    pub fn verify(&self, payload: &str, context: &[u8], now: Timestamp) -> Result<Solved, AltchaError> {
        let (signature, expires, version) = match Payload::parse(payload)? {
            Payload::V1(v1) => (v1.signature.clone(), self.verify_v1(&v1, context, now)?, 1),
            Payload::V2 { challenge, signature, counter, key } => {
                self.check_signature(challenge.canonical().as_bytes(), &signature)?;
                check_bounds(&challenge.context, challenge.expires, context, now)?;
                check_v2(&challenge, counter, &key)?;
                (signature, challenge.expires, 2)
            }
        };
        let mut facts = JsonObject::new();
        facts.insert("version".into(), version.into());
        let summary = Summary { evidence: Evidence::Altcha, level: Level::Web, flags: Vec::new(), facts };
        Ok(Solved { id: sha256(signature.as_bytes()), expires: Timestamp::from_secs(expires), summary })
    }

    fn verify_v1(&self, v1: &V1, context: &[u8], now: Timestamp) -> Result<i64, AltchaError> {
        self.check_signature(v1.challenge.as_bytes(), &v1.signature)?;
        let found = hex(&sha256(format!("{}{}", v1.salt, v1.number).as_bytes()));
        if verify_slices_are_equal(found.as_bytes(), v1.challenge.as_bytes()).is_err() {
            return Err(AltchaError::Solution);
        }
        let (expires, of) = v1.bounds().ok_or(AltchaError::Member("salt"))?;
        check_bounds(of, expires, context, now)?;
        Ok(expires)
    }

    fn check_signature(&self, message: &[u8], signature: &str) -> Result<(), AltchaError> {
        verify_slices_are_equal(self.sign(message).as_bytes(), signature.as_bytes()).map_err(|_| AltchaError::Signature)
    }
}

fn check_bounds(of: &str, expires: i64, context: &[u8], now: Timestamp) -> Result<(), AltchaError> {
    if verify_slices_are_equal(of.as_bytes(), bound(context).as_bytes()).is_err() {
        return Err(AltchaError::Context);
    }
    if Timestamp::from_secs(expires) <= now { Err(AltchaError::Expired) } else { Ok(()) }
}

/// One derivation, compared with the key that was sent and with the prefix that was asked for: a key of any counter is a
/// key, only one with the prefix is a solution.
fn check_v2(challenge: &V2, counter: u32, key: &str) -> Result<(), AltchaError> {
    let cost = NonZeroU32::new(challenge.cost).filter(|cost| cost.get() <= MAX_COST).ok_or(AltchaError::Work)?;
    let (nonce, salt) = (unhex(&challenge.nonce), unhex(&challenge.salt));
    let nonce = nonce.ok_or(AltchaError::Member("nonce"))?;
    let salt = salt.ok_or(AltchaError::Member("salt"))?;
    let mut derived = [0; KEY_LEN];
    let password = [nonce.as_slice(), &counter.to_be_bytes()].concat();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, cost, &salt, &password, &mut derived);
    let derived = hex(&derived);
    let same = verify_slices_are_equal(derived.as_bytes(), key.as_bytes()).is_ok();
    if same && derived.starts_with(&challenge.prefix) { Ok(()) } else { Err(AltchaError::Solution) }
}

/// What a challenge is for, in a form that fits in a salt.
fn bound(context: &[u8]) -> String {
    base64url_encode(sha256(context))
}

/// Lower-case hex of 16 bytes.
fn unhex(text: &str) -> Option<[u8; 16]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let bytes: Option<Vec<u8>> =
        text.as_bytes().chunks(2).map(|pair| Some(digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?)).collect();
    bytes?.try_into().ok()
}
