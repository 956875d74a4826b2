//! Request signatures (RFC 9421): proof that covers the query and the body too.

use std::time::Duration;

use http::HeaderName;
use proof::dpop::TargetUri;
use proof::signature::{
    ExpectedRequest, SignatureProofError, SignedRequest, VerifiedSignature, verify as verify_signature,
};
use proof::token::Confirmation;
use store::Claim;

use super::super::{AuthenticateError, Shown};
use crate::Shared;
use crate::edge::Presented;
use crate::snapshot::Snapshot;

/// A little longer than the longest `dpop.skew` there can be: a reload may raise it, and a signature that was used must not
/// come back to life by that.
const LONGEST_SKEW: Duration = Duration::from_secs(61);

const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// A signature that fits the head of its request. The body is still to come.
#[derive(Debug)]
#[must_use = "the body has not been compared yet"]
pub(crate) struct Signed(VerifiedSignature);

impl Signed {
    /// Compare the body, and use the signature up: not before, or somebody who changed the body could.
    pub(crate) async fn settle(self, shared: &Shared, body: &[u8]) -> Result<(), AuthenticateError> {
        let Self(signature) = self;
        signature.check_body(body)?;
        let until = signature.expires().plus(LONGEST_SKEW);
        // A body may take its time. Beyond what is remembered, nobody could tell whether this came before.
        if shared.clock.now() >= until {
            return Err(SignatureProofError::Expired.into());
        }
        match shared.replay.claim(signature.replay_key(), until).await? {
            Claim::First => Ok(()),
            Claim::Seen => Err(AuthenticateError::SignatureReplayed),
        }
    }
}

/// Check the request's signature, if it has one of ours, with the key its token is bound to.
pub(super) fn verify(
    snapshot: &Snapshot,
    shared: &Shared,
    shown: &Shown<'_>,
    presented: Presented<'_>,
    bound: Option<&Confirmation>,
) -> Result<Option<Signed>, AuthenticateError> {
    let headers = &shown.head.headers;
    if !headers.contains_key(SIGNATURE_INPUT) && !headers.contains_key(SIGNATURE) {
        return Ok(None);
    }
    let fields: Vec<(&str, &[u8])> = headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let Some(request) = SignedRequest::parse(fields.iter().copied())? else { return Ok(None) };
    let key = bound.and_then(|bound| bound.jwk.as_ref()).ok_or(SignatureProofError::NoKey)?;
    let now = shared.clock.monotonic();
    if let Some(wait) = shared.failures.proof_wait(shown.ip, key.thumbprint(), now) {
        return Err(AuthenticateError::TooMany(wait));
    }
    let uri = &shown.head.uri;
    let path = uri.path();
    let targets = snapshot.origins.iter().filter_map(|origin| TargetUri::parse(&format!("{origin}{path}")).ok());
    let targets: Vec<TargetUri> = targets.collect();
    let expected = ExpectedRequest {
        query: uri.query(),
        credential: presented.field,
        has_body: shown.has_body,
        skew: snapshot.dpop.skew,
        remembered_since: Some(shared.started_at),
        ..ExpectedRequest::new(shown.head.method.as_str(), &targets, shown.at)
    };
    match verify_signature(&request, key, &expected) {
        Ok(verified) => Ok(Some(Signed(verified))),
        Err(error) => {
            if error == SignatureProofError::BadSignature {
                shared.failures.proof_count(shown.ip, key.thumbprint(), now);
            }
            Err(error.into())
        }
    }
}
