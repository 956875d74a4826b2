//! DPoP on this side of the protocol: a proof for every request (RFC 9449 sections 4.3, 7 and 9).

use std::time::Duration;

use base::Timestamp;
use config::NonceMode;
use proof::dpop::{self, DpopError, Expectation, Proof, TargetUri, VerifiedProof};
use proof::jose::JoseError;
use store::Claim;

use super::super::{AuthenticateError, Shown};
use crate::Shared;
use crate::snapshot::Snapshot;

/// A proof that fits its request, and the nonce it carried, if one was looked at.
pub(super) struct Checked {
    proof: VerifiedProof,
    nonce: Option<String>,
}

/// Check a proof against its request, except whether it was used before.
pub(super) fn verify(
    snapshot: &Snapshot,
    shared: &Shared,
    shown: &Shown<'_>,
    (token_hash, jkt): (&[u8; 32], &[u8; 32]),
) -> Result<Checked, AuthenticateError> {
    let value = shown.proof.ok_or(AuthenticateError::ProofMissing)?;
    let now = shared.clock.monotonic();
    if let Some(wait) = shared.failures.proof_wait(shown.ip, jkt, now) {
        return Err(AuthenticateError::TooMany(wait));
    }
    let text = value.to_str().map_err(|_| refused(DpopError::Malformed(JoseError::NotCompact)))?;
    let proof = Proof::parse(text).map_err(refused)?;
    let settings = &snapshot.dpop;
    let wanted = proof.nonce().is_some() || nonce_required(snapshot, shared, shown.at);
    // The time of this moment, not of the request: who waited for something meanwhile must not seem to set the clock back.
    let accepted = wanted.then(|| shared.nonces.accepted(proof.jkt(), shared.clock.now()));
    let accepted = accepted.as_ref().map(|[current, previous]| [current.as_str(), previous.as_str()]);
    let target = target(snapshot, shown, &proof).ok_or(AuthenticateError::Proof(DpopError::WrongTarget))?;
    let expected = Expectation {
        token_hash: Some(*token_hash),
        jkt: Some(*jkt),
        nonces: accepted.as_ref().map(<[&str; 2]>::as_slice),
        max_age: settings.max_age,
        skew: settings.skew,
        ..Expectation::new(shown.head.method.as_str(), &target, shown.at)
    };
    let held = dpop::verify(&proof, &expected).and_then(|verified| {
        shared.lifetimes.check(&verified, (settings.max_age, settings.skew), shown.at)?;
        Ok(verified)
    });
    match held {
        Ok(verified) => Ok(Checked { proof: verified, nonce: proof.nonce().map(str::to_owned) }),
        Err(error) if error.error_code() == "use_dpop_nonce" => {
            Err(AuthenticateError::Nonce(shared.nonces.mint(jkt, shared.clock.now())))
        }
        Err(error) => {
            if error == DpopError::BadSignature {
                shared.failures.proof_count(shown.ip, jkt, now);
            }
            Err(refused(error))
        }
    }
}

/// Use a proof up: the last thing of all, so that nobody else can do it. Gives the nonce that the next proof should carry,
/// if that is another.
pub(super) async fn use_up(shared: &Shared, checked: &Checked) -> Result<Option<String>, AuthenticateError> {
    let proof = &checked.proof;
    // A proof is accepted still in the very moment it is said to be acceptable until.
    let until = proof.acceptable_until().plus(Duration::from_secs(1));
    // Fetching the issuer's keys may have taken its time. Beyond what is remembered, nobody could tell whether this came before.
    if shared.clock.now() >= until {
        return Err(refused(DpopError::TooOld));
    }
    match shared.replay.claim(proof.replay_key(), until).await? {
        Claim::First => {}
        Claim::Seen => return Err(AuthenticateError::ProofReplayed),
    }
    let now = shared.clock.now();
    let stale = checked.nonce.as_ref().filter(|nonce| !shared.nonces.is_current(nonce, proof.jkt(), now));
    Ok(stale.map(|_| shared.nonces.mint(proof.jkt(), now)))
}

/// Whether a proof must have a nonce now. Where it need not, it must for as long after a start as a proof from before it
/// could still be accepted: that one has been forgotten, and its nonce is not known any more.
fn nonce_required(snapshot: &Snapshot, shared: &Shared, now: Timestamp) -> bool {
    let settings = &snapshot.dpop;
    match settings.nonce {
        NonceMode::Required => true,
        // It may have been made ahead of time by the skew, and be old by the skew.
        NonceMode::Optional => {
            let window = settings.max_age.saturating_add(settings.skew).saturating_add(settings.skew);
            now <= shared.started_at.plus(window)
        }
    }
}

/// The request's target under the one of our origins that the proof names. What the request says of its host is not asked.
fn target(snapshot: &Snapshot, shown: &Shown<'_>, proof: &Proof<'_>) -> Option<TargetUri> {
    let path = shown.head.uri.path();
    let targets = snapshot.origins.iter().filter_map(|origin| TargetUri::parse(&format!("{origin}{path}")).ok());
    targets.into_iter().find(|target| target == proof.target())
}

fn refused(error: DpopError) -> AuthenticateError {
    AuthenticateError::Proof(error)
}
