//! Who asks: how a client says who it is, and whether it is.

mod secret;

use std::net::IpAddr;

use base::Name;

pub(super) use secret::{Presented, presented};

use super::request::{Asked, unavailable};
use super::{Oauth, OauthError};
use crate::operations::Registration;

impl Oauth {
    /// The client of a request, authenticated. One path for unknown, disabled and wrong: the same work, the same answer.
    pub(super) async fn client(&self, asked: &Asked) -> Result<Registration, OauthError> {
        let presented = presented(&asked.parts.headers, &asked.form)?;
        // A name has no character that could forge a line of the log; anything else is not written there.
        if let Ok(name) = Name::new(&presented.id) {
            tracing::Span::current().record("client", name.as_str());
        }
        self.authenticate(&presented, asked.address).await
    }

    async fn authenticate(&self, presented: &Presented, address: IpAddr) -> Result<Registration, OauthError> {
        let now = self.operations().clock().monotonic();
        self.attempts
            .admit(&presented.id, address, now)
            .map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })?;
        let client = self.operations().client_registration(&presented.id).await.map_err(|error| unavailable(&error))?;
        let proven = self.operations().client_secret_matches(client.as_ref(), presented.secret.expose());
        let Some(client) = client.filter(|_| proven) else {
            self.attempts.failed(&presented.id, address, now);
            return Err(OauthError::InvalidClient { challenge: presented.basic });
        };
        self.attempts.succeeded(&presented.id, address);
        Ok(client)
    }
}
