//! Asking providers whether they accept a key, for the operations on secrets.

use std::sync::Arc;

use base::{Clock, Secret};
use config::Provider;
use control::admin::Pending;
use control::operations::{KeyProbe, NotAccepted};
use gateway::{Probed, Trial, probe_key};
use net::Egress;

/// Asks by the way out of the process.
#[derive(Debug, Clone)]
pub struct AskProviders {
    egress: Egress,
    clock: Arc<dyn Clock>,
}

impl AskProviders {
    /// Asks by `egress`.
    pub const fn new(egress: Egress, clock: Arc<dyn Clock>) -> Self {
        Self { egress, clock }
    }
}

impl KeyProbe for AskProviders {
    fn probe<'a>(
        &'a self,
        provider: &'a Provider,
        key: &'a Secret<String>,
    ) -> Pending<'a, Result<String, NotAccepted>> {
        Box::pin(async move {
            let trial = Trial { provider, key: Some(key), session_token: None };
            match probe_key(trial, &self.egress, &*self.clock).await {
                Ok(Probed::Accepted) => Ok("accepts it".to_owned()),
                Ok(Probed::Known(status)) => Ok(format!("knows it, and answers {status} to a question for its models")),
                Err(trouble) => {
                    let message = format!("{}: {}", trouble.seen, trouble.todo);
                    Err(NotAccepted { refused: trouble.refused, message })
                }
            }
        })
    }
}
