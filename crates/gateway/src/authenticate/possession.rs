//! What a token is bound to, and whether the sender of the request holds it: a token that leaked is worth nothing
//! without. A proof that is there is checked; what a token demands and is not there is a failure, never a lesser caller.

mod dpop;
mod signature;

use policy::Proven;
use proof::token::{Confirmation, VerifiedToken};

pub(crate) use self::signature::Signed;

use super::{AuthenticateError, Shown, attested};
use crate::Shared;
use crate::edge::{Presented, Scheme};
use crate::snapshot::Snapshot;

/// What was proved.
pub(super) struct Held {
    pub(super) proven: Proven,
    pub(super) signed: Option<Signed>,
    pub(super) nonce: Option<String>,
}

/// Check every proof the token demands or the request brings. A DPoP proof is used up when everything else holds.
pub(super) async fn prove(
    snapshot: &Snapshot,
    shared: &Shared,
    shown: &Shown<'_>,
    presented: Presented<'_>,
    token: Option<&VerifiedToken>,
) -> Result<Held, AuthenticateError> {
    let bound = token.and_then(VerifiedToken::cnf);
    let mtls = certificate(bound, shown)?;
    let jkt = bound.and_then(|bound| bound.jkt.as_ref());
    let proof = match (presented.scheme, token, jkt) {
        (Scheme::Bearer, _, _) => None,
        (Scheme::Dpop, Some(token), Some(jkt)) => {
            Some(dpop::verify(snapshot, shared, shown, (token.token_hash(), jkt))?)
        }
        (Scheme::Dpop, _, _) => return Err(AuthenticateError::Unbound),
    };
    let signed = signature::verify(snapshot, shared, shown, presented, bound)?;
    if jkt.is_some() && proof.is_none() && signed.is_none() {
        return Err(AuthenticateError::Bound);
    }
    if signed.is_none() && token.is_some_and(attested::demands_signature) {
        return Err(AuthenticateError::SignatureMissing);
    }
    let mut held = Held { proven: Proven { mtls, dpop: false, signature: signed.is_some() }, signed, nonce: None };
    if let Some(proof) = proof {
        held.nonce = dpop::use_up(shared, &proof).await?;
        held.proven.dpop = true;
    }
    Ok(held)
}

/// Whether the token is bound to a client certificate (RFC 8705 section 3), and that it was shown.
fn certificate(bound: Option<&Confirmation>, shown: &Shown<'_>) -> Result<bool, AuthenticateError> {
    let Some(thumbprint) = bound.and_then(|bound| bound.x5t_s256.as_ref()) else { return Ok(false) };
    match shown.certificate {
        Some(shown) if shown == *thumbprint => Ok(true),
        Some(_) => Err(AuthenticateError::CertificateMismatch),
        None => Err(AuthenticateError::CertificateMissing),
    }
}
