//! Tokens that are good for one request, where a policy says so: used up durably, after the policy has allowed the request
//! and before anything is sent on.

use base::{Problem, Timestamp};
use futures_util::future::BoxFuture;
use http::StatusCode;
use proof::token::MAX_LEEWAY;
use store::{Claim, OneTime, StoreError};

use crate::Shared;
use crate::authenticate::Caller;
use crate::challenge;
use crate::problem::Refusal;

/// Which tokens have been used.
pub trait SingleUse: Send + Sync {
    /// Use the token of this issuer with this `jti`, which nobody accepts from `until` on: durable once it returns.
    fn claim<'a>(&'a self, issuer: &'a str, jti: &'a str, until: Timestamp)
    -> BoxFuture<'a, Result<Claim, StoreError>>;
}

impl SingleUse for store::Store {
    fn claim<'a>(
        &'a self,
        issuer: &'a str,
        jti: &'a str,
        until: Timestamp,
    ) -> BoxFuture<'a, Result<Claim, StoreError>> {
        Box::pin(async move { self.used_once().claim(OneTime::AccessToken, &[issuer, jti], until).await })
    }
}

/// Use the caller's token up, or refuse the request.
pub(crate) async fn use_up(shared: &Shared, caller: &Caller) -> Result<(), Refusal> {
    let invalid = |reason, description: &'static str| {
        let problem = Problem::client(StatusCode::UNAUTHORIZED, "invalid_token", format!("{description}."));
        let challenge = challenge::error(caller.scheme(), "invalid_token", Some(description));
        Err(Refusal::from(problem.challenge(challenge)).reason(reason))
    };
    let Some((issuer, jti, end)) = caller.token_id() else {
        return invalid("token_unnumbered", "Only an access token with a jti can be used here, once");
    };
    let until = end.plus(MAX_LEEWAY);
    if shared.clock.now() >= until {
        // By now it may have been used and forgotten.
        return invalid("expired", "The access token has expired");
    }
    match shared.single_use.claim(issuer, jti, until).await {
        Ok(Claim::First) => Ok(()),
        Ok(Claim::Seen) => invalid("token_used", "The access token has been used"),
        Err(error) => {
            tracing::error!(%error, "whether a token was used cannot be said");
            Err(Problem::us(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "The store does not answer now.")
                .into())
        }
    }
}
