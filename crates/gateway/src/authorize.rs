//! The policy's decision: a [`Permit`], or why not.

use base::Problem;
use config::Bound;
use http::{HeaderName, HeaderValue, StatusCode};
use policy::{Ask, Denial, Permit};

use crate::authenticate::Caller;
use crate::challenge::{self, ACCEPT_SIGNATURE};
use crate::edge::Scheme;
use crate::problem::Refusal;
use crate::snapshot::Snapshot;

/// Ask the policies.
pub(crate) fn permit(snapshot: &Snapshot, caller: &Caller, ask: &Ask<'_>) -> Result<Permit, Refusal> {
    snapshot.policies.decide(&caller.facts(), ask).map_err(|denial| refusal(&denial, caller.scheme()))
}

/// 403; a missing scope is named as RFC 6750 section 3.1 says, so that a client knows what to ask for. Where only a proof is
/// missing, the token cannot be used like this, which is 401.
fn refusal(denial: &Denial, scheme: Scheme) -> Refusal {
    match denial.code {
        "insufficient_scope" => {
            let plain = |scope: &&String| scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
            let scopes: Vec<&str> = denial.missing_scopes.iter().filter(plain).map(String::as_str).collect();
            let challenge = challenge::error(scheme, "insufficient_scope", None);
            let problem = Problem::client(StatusCode::FORBIDDEN, denial.code, denial.message.clone());
            Refusal::from(problem.challenge(format!("{challenge}, scope=\"{}\"", scopes.join(" "))))
        }
        "proof_required" => {
            let wants = |proof| denial.missing_proofs.contains(&proof);
            let scheme = if wants(Bound::Dpop) { Scheme::Dpop } else { scheme };
            let description = "The token must be bound to a key whose possession the request proves";
            let problem = Problem::client(StatusCode::UNAUTHORIZED, denial.code, denial.message.clone());
            let refusal =
                Refusal::from(problem.challenge(challenge::error(scheme, "invalid_token", Some(description))));
            if !wants(Bound::Signature) {
                return refusal;
            }
            refusal.header(HeaderName::from_static("accept-signature"), HeaderValue::from_static(ACCEPT_SIGNATURE))
        }
        code => Refusal::from(Problem::client(StatusCode::FORBIDDEN, code, denial.message.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_scope_is_named_and_nothing_can_be_written_into_the_challenge() {
        let denial = Denial {
            code: "insufficient_scope",
            policy: None,
            message: "The token lacks a scope.".into(),
            missing_scopes: vec!["chat".into(), "x\", error=\"none".into()],
            missing_proofs: Vec::new(),
        };
        let challenges = refusal(&denial, Scheme::Bearer).into_problem().challenges;
        assert_eq!(challenges, ["Bearer realm=\"vouchgate\", error=\"insufficient_scope\", scope=\"chat\""]);
    }

    #[test]
    fn a_missing_proof_is_asked_for_in_its_own_words() {
        let challenges = |missing: &[Bound]| {
            let denial = Denial {
                code: "proof_required",
                policy: None,
                message: "Prove it.".into(),
                missing_scopes: Vec::new(),
                missing_proofs: missing.to_vec(),
            };
            let problem = refusal(&denial, Scheme::Bearer).into_problem();
            assert_eq!((problem.status, problem.code), (StatusCode::UNAUTHORIZED, "proof_required"));
            problem.challenges
        };
        assert!(challenges(&[Bound::Dpop, Bound::Mtls])[0].starts_with("DPoP realm=\"vouchgate\", algs="));
        assert!(challenges(&[Bound::Mtls])[0].starts_with("Bearer realm=\"vouchgate\", error=\"invalid_token\""));
    }
}
