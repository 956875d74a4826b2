//! ALTCHA's proof of work (<https://altcha.org/docs/v2/>), solved: for browsers' stand-ins and programs without hardware
//! that vouches for them.

use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::signer::{hex, sha256};

/// The largest number that is searched, and the most derivations: more work than any server here asks for.
const MOST: u32 = 10_000_000;

/// The most iterations of one derivation.
const MAX_COST: u32 = 1_000_000;

/// Why a challenge is not solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AltchaError {
    /// Not a challenge of version 1 or 2 with SHA-256.
    #[error("not a challenge that is known")]
    Unknown,
    /// More work than is done here, or no number solves it.
    #[error("the challenge has no solution within bounds")]
    NoSolution,
}

impl AltchaError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "altcha_unknown",
            Self::NoSolution => "altcha_no_solution",
        }
    }
}

/// Solve a challenge, in the form the widget is given it: the payload the widget would send. Takes as long as the server
/// means it to.
pub fn solve(challenge: &Value) -> Result<String, AltchaError> {
    let answer = if challenge.get("parameters").is_some() { derive(challenge)? } else { search(challenge)? };
    Ok(STANDARD.encode(answer.to_string()))
}

/// Version 1: the number whose SHA-256 behind the salt is the challenge.
fn search(challenge: &Value) -> Result<Value, AltchaError> {
    let text = |name| challenge.get(name).and_then(Value::as_str).ok_or(AltchaError::Unknown);
    if text("algorithm")? != "SHA-256" {
        return Err(AltchaError::Unknown);
    }
    let (wanted, salt, signature) = (unhex(text("challenge")?)?, text("salt")?, text("signature")?);
    let most = challenge.get("maxnumber").and_then(Value::as_u64).and_then(|most| u32::try_from(most).ok());
    let most = most.unwrap_or(MOST).min(MOST);
    let found = (0..=most).find(|number| sha256(format!("{salt}{number}").as_bytes())[..] == wanted);
    let number = found.ok_or(AltchaError::NoSolution)?;
    Ok(json!({"algorithm": "SHA-256", "challenge": text("challenge")?, "number": number, "salt": salt,
              "signature": signature}))
}

/// Version 2: the counter whose key, derived by PBKDF2 with HMAC-SHA-256, has the prefix.
fn derive(challenge: &Value) -> Result<Value, AltchaError> {
    let parameters = challenge.get("parameters").ok_or(AltchaError::Unknown)?;
    let text = |name| parameters.get(name).and_then(Value::as_str).ok_or(AltchaError::Unknown);
    if text("algorithm")? != "PBKDF2/SHA-256" {
        return Err(AltchaError::Unknown);
    }
    let (nonce, salt, prefix) = (unhex(text("nonce")?)?, unhex(text("salt")?)?, unhex(text("keyPrefix")?)?);
    let number = |name| parameters.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
    let cost = number("cost").filter(|cost| *cost <= MAX_COST).and_then(NonZeroU32::new);
    let cost = cost.ok_or(AltchaError::Unknown)?;
    if number("keyLength") != Some(32) || prefix.len() > 3 {
        return Err(AltchaError::Unknown);
    }
    let mut key = [0; 32];
    for counter in 0..=MOST {
        let password = [nonce.as_slice(), &counter.to_be_bytes()].concat();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, cost, &salt, &password, &mut key);
        if key.starts_with(&prefix) {
            let key = hex(&key);
            return Ok(json!({"challenge": challenge, "solution": {"counter": counter, "derivedKey": key}}));
        }
    }
    Err(AltchaError::NoSolution)
}

fn unhex(text: &str) -> Result<Vec<u8>, AltchaError> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(digit(high)? << 4 | digit(low)?),
        _ => None,
    };
    text.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or(AltchaError::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(payload: &str) -> Value {
        serde_json::from_slice(&STANDARD.decode(payload).unwrap()).unwrap()
    }

    #[test]
    fn a_number_is_found() {
        let challenge = hex(&sha256(b"salt?x=1&1234"));
        let asked = json!({"algorithm": "SHA-256", "challenge": challenge, "maxnumber": 2_000, "salt": "salt?x=1&",
                           "signature": "s"});
        assert_eq!(answer(&solve(&asked).unwrap())["number"], 1_234);
        let mut less = asked;
        less["maxnumber"] = json!(1_000);
        assert_eq!(solve(&less), Err(AltchaError::NoSolution));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for asked in [
            json!({}),
            json!({"algorithm": "SHA-512", "challenge": "00", "salt": "s", "signature": "s"}),
            json!({"algorithm": "SHA-256", "challenge": "0", "salt": "s", "signature": "s"}),
            json!({"parameters": {"algorithm": "ARGON2"}, "signature": "s"}),
            json!({"parameters": {"algorithm": "PBKDF2/SHA-256", "nonce": "00", "salt": "00", "keyPrefix": "00",
                   "cost": 4_000_000, "keyLength": 32}, "signature": "s"}),
        ] {
            assert_eq!(solve(&asked), Err(AltchaError::Unknown), "{asked}");
        }
    }
}
