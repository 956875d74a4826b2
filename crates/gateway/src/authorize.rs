//! The policy's decision: a [`Permit`], or why not.

use base::Problem;
use http::StatusCode;
use policy::{Ask, Denial, Permit};

use crate::authenticate::Caller;
use crate::problem::Refusal;
use crate::snapshot::Snapshot;

/// Ask the policies.
pub(crate) fn permit(snapshot: &Snapshot, caller: &Caller, ask: &Ask<'_>) -> Result<Permit, Refusal> {
    snapshot.policies.decide(&caller.facts(), ask).map_err(|denial| refusal(&denial))
}

/// 403; a missing scope is named as RFC 6750 section 3.1 says, so that a client knows what to ask for.
fn refusal(denial: &Denial) -> Refusal {
    let problem = Problem::client(StatusCode::FORBIDDEN, denial.code, denial.message.clone());
    if denial.code != "insufficient_scope" {
        return Refusal::from(problem);
    }
    let plain = |scope: &&String| scope.bytes().all(|b| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    let scopes: Vec<&str> = denial.missing_scopes.iter().filter(plain).map(String::as_str).collect();
    let scopes = scopes.join(" ");
    Refusal::from(
        problem.challenge(format!("Bearer realm=\"vouchgate\", error=\"insufficient_scope\", scope=\"{scopes}\"")),
    )
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
        let challenges = refusal(&denial).into_problem().challenges;
        assert_eq!(challenges, ["Bearer realm=\"vouchgate\", error=\"insufficient_scope\", scope=\"chat\""]);
    }
}
