//! Who asks: how a client says who it is, and whether it is.

mod assertion;
mod keys;
mod presented;
mod tls;

use base::Name;

pub(crate) use keys::ClientKeySets;
use presented::{Credential, Presented, presented};

use super::dpop::Holder;
use super::request::{Asked, unavailable};
use super::{Oauth, OauthError};
use crate::operations::{Authentication, Registration};

impl Oauth {
    /// The client of a request, authenticated, and the key it proves to hold, if it brings a proof. The proof is not used
    /// up yet.
    ///
    /// The proof comes first: whoever has to send it again with a nonce has not spent an assertion then. How often an
    /// address may ask comes before both.
    pub(super) async fn client_and_holder(&self, asked: &Asked) -> Result<(Registration, Option<Holder>), OauthError> {
        let presented = self.admitted(asked)?;
        let holder = self.holder(asked)?;
        Ok((self.authenticated(&presented, asked).await?, holder))
    }

    /// The client of a request, authenticated.
    pub(super) async fn client(&self, asked: &Asked) -> Result<Registration, OauthError> {
        let presented = self.admitted(asked)?;
        self.authenticated(&presented, asked).await
    }

    fn admitted(&self, asked: &Asked) -> Result<Presented, OauthError> {
        let presented = match presented(&asked.parts.headers, &asked.form) {
            Ok(presented) => presented,
            // Counted like any other attempt, under no name.
            Err(error) => return Err(self.admit("", asked).err().unwrap_or(error)),
        };
        // A name has no character that could forge a line of the log; anything else is not written there.
        if let Ok(name) = Name::new(&presented.id) {
            tracing::Span::current().record("client", name.as_str());
        }
        self.admit(&presented.id, asked)?;
        Ok(presented)
    }

    fn admit(&self, client: &str, asked: &Asked) -> Result<(), OauthError> {
        let now = self.operations().clock().monotonic();
        let admitted = self.attempts.admit(client, asked.address, now);
        admitted.map_err(|closed| OauthError::TooManyAttempts { retry_after: closed.retry_after })
    }

    /// One path for unknown, disabled and wrong: the same work, the same answer.
    async fn authenticated(&self, presented: &Presented, asked: &Asked) -> Result<Registration, OauthError> {
        let client = self.operations().client_registration(&presented.id).await.map_err(|error| unavailable(&error))?;
        let proven = match &presented.credential {
            Credential::Secret(secret) => self.operations().client_secret_matches(client.as_ref(), secret.expose()),
            Credential::Assertion(text) => self.assertion_holds(client.as_ref(), text.expose(), asked).await?,
            Credential::Nothing => client.as_ref().is_some_and(|client| match &client.auth {
                Authentication::Public => true,
                auth => self.certificate_holds(auth, asked),
            }),
        };
        let Some(client) = client.filter(|client| proven && !client.disabled) else {
            self.attempts.failed(&presented.id, asked.address, self.operations().clock().monotonic());
            return Err(OauthError::InvalidClient { challenge: presented.basic });
        };
        self.attempts.succeeded(&presented.id, asked.address);
        Ok(client)
    }

    /// The client of a request, which must have proved who it is: to ask about tokens a name is not enough (RFC 7662
    /// section 2.1).
    pub(super) async fn confidential_client(&self, asked: &Asked) -> Result<Registration, OauthError> {
        let client = self.client(asked).await?;
        if client.is_public() { Err(OauthError::InvalidClient { challenge: false }) } else { Ok(client) }
    }
}
