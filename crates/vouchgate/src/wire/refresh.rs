//! How the data plane asks for an issuer's newer keys.

use std::sync::Arc;

use base::Name;
use gateway::KeyRefresh;
use net::BoxFuture;
use net::jwks::{Jwks, Refreshed};

/// Asks the key manager, which decides whether a fetch is due at all.
#[derive(Debug)]
pub struct Refresh(pub Arc<Jwks>);

impl KeyRefresh for Refresh {
    fn refresh<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            if let Refreshed::Failed(error) = self.0.refresh(issuer).await {
                tracing::warn!(%issuer, reason = error.reason(), %error, "the issuer's keys cannot be fetched");
            }
        })
    }
}
