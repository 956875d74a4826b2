//! Becoming an installation, and getting its next token.

use std::sync::Arc;

use serde_json::Value;

use super::{Client, Session};
use crate::attester::{AttestError, Attester, Request};
use crate::error::Error;
use crate::proof;
use crate::signer::Signer;
use crate::wire::{self, ClientData, Issued};

const ENROLL: &str = "/attest/v1/enroll";
const TOKEN: &str = "/attest/v1/token";

/// What says that somebody between here and the gateway has a certificate which the system trusts.
const INTERCEPTED: &str = "user_ca_installed";

/// What says that a host showed a key which is not pinned.
const NOT_PINNED: &str = "pin_mismatch";

impl Client {
    /// The next token, by a refresh where there is an installation, else by an enrolment. An installation whose key is of no
    /// more use (restored from a backup, refused by the gateway) is enrolled anew.
    pub(super) async fn renew(&self) -> Result<Arc<Session>, Error> {
        if self.config().is_some_and(|config| config.kill_attest) {
            return Err(Error::Disabled);
        }
        let session = match self.current() {
            None => self.enroll().await?,
            Some(old) => match self.next_token(&old).await {
                Err(error) if error.asks_for_new_key() => self.enroll().await?,
                outcome => outcome?,
            },
        };
        let session = Arc::new(session);
        *self.slot() = Some(Arc::clone(&session));
        self.keep();
        Ok(session)
    }

    async fn enroll(&self) -> Result<Session, Error> {
        let key = self.ask(|device| device.new_key()).await?;
        let jkt = key.as_ref().map(|key| key.public_jwk().thumbprint());
        let challenge = self.challenge(jkt.as_deref()).await?;
        let nonce = nonce(&challenge)?;
        let client_data = self.client_data("enroll", jkt.as_deref(), nonce);
        let attested = {
            let client_data = client_data.clone();
            let challenge = challenge.clone();
            self.ask(move |device| device.attest(&Request { client_data: &client_data, challenge: &challenge }, key))
                .await?
        };
        let url = format!("{}{ENROLL}", self.inner.origin);
        let proof = self.possession(&attested.signer, nonce, &url, &client_data).await?;
        let jwk = attested.signer.public_jwk().to_json();
        let answer = self.post(ENROLL, &wire::enroll(&client_data, &jwk, &attested.evidence, &proof)).await?;
        self.issued(&answer, attested.signer)
    }

    /// A refresh, with the nonce that came with the last token or, where that has ended, with a new one.
    async fn next_token(&self, old: &Session) -> Result<Session, Error> {
        if let Some(nonce) = &old.next_nonce {
            match self.refresh_with(old, nonce).await {
                Err(Error::Rejected { action, .. }) if action.asks_for_new_nonce() => {}
                outcome => return outcome,
            }
        }
        let challenge = self.challenge(Some(&old.signer.public_jwk().thumbprint())).await?;
        self.refresh_with(old, nonce(&challenge)?).await
    }

    async fn refresh_with(&self, old: &Session, nonce: &str) -> Result<Session, Error> {
        let jkt = old.signer.public_jwk().thumbprint();
        let client_data = self.client_data("refresh", Some(&jkt), nonce);
        let asserted = client_data.clone();
        let assertion = self.ask(move |device| device.assert(&asserted)).await?;
        let url = format!("{}{TOKEN}", self.inner.origin);
        let proof = self.possession(&old.signer, nonce, &url, &client_data).await?;
        let request = wire::token(&old.instance, &client_data, assertion.as_deref(), &proof);
        let answer = self.post(TOKEN, &request).await?;
        self.issued(&answer, Arc::clone(&old.signer))
    }

    async fn challenge(&self, jkt: Option<&str>) -> Result<Value, Error> {
        let platform = self.inner.attester.platform();
        self.post("/attest/v1/challenge", &wire::challenge(&self.inner.app, platform, jkt)).await
    }

    fn client_data(&self, purpose: &str, jkt: Option<&str>, nonce: &str) -> Vec<u8> {
        let mut flags = self.inner.attester.reported();
        if self.inner.book.has_reports() {
            flags.push(INTERCEPTED.to_owned());
            flags.push(NOT_PINNED.to_owned());
        }
        let version = self.inner.attester.app_version();
        ClientData {
            app: &self.inner.app,
            app_version: version.as_deref(),
            config: self.inner.book.held(),
            flags: &flags,
            jkt,
            nonce,
            purpose,
            now: self.gateway_now(),
        }
        .bytes()
    }

    fn issued(&self, answer: &Value, signer: Arc<dyn Signer>) -> Result<Session, Error> {
        let issued = Issued::read(answer).ok_or(Error::Answer)?;
        Ok(Session {
            instance: issued.instance,
            signer,
            token: issued.token,
            ends: self.inner.clock.now().saturating_add(issued.expires_in),
            arc: issued.arc,
            next_nonce: issued.next_nonce,
        })
    }

    async fn possession(
        &self,
        signer: &Arc<dyn Signer>,
        nonce: &str,
        url: &str,
        client_data: &[u8],
    ) -> Result<String, Error> {
        let signer = Arc::clone(signer);
        let (nonce, url, client_data) = (nonce.to_owned(), url.to_owned(), client_data.to_vec());
        self.ask(move |_| Ok(proof::possession(&*signer, (&nonce, &url), &client_data)?)).await
    }

    /// Ask the device, from a thread that may wait.
    async fn ask<T: Send + 'static>(
        &self,
        what: impl FnOnce(&dyn Attester) -> Result<T, AttestError> + Send + 'static,
    ) -> Result<T, Error> {
        let attester = Arc::clone(&self.inner.attester);
        let asked = tokio::task::spawn_blocking(move || what(&*attester)).await;
        Ok(asked.map_err(|_| Error::Internal)??)
    }
}

fn nonce(challenge: &Value) -> Result<&str, Error> {
    challenge.get("nonce").and_then(Value::as_str).ok_or(Error::Answer)
}
