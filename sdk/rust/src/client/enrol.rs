//! Becoming an installation, and getting its next token.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Client, Session};
use crate::altcha;
use crate::attester::{AttestError, Attester, Request, StepUp};
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
        let mut showing = Showing::Nothing;
        loop {
            match self.enroll_showing(showing).await {
                Err(error) if error.asks_for_step_up() => showing = showing.next().ok_or(error)?,
                outcome => return outcome,
            }
        }
    }

    async fn enroll_showing(&self, showing: Showing) -> Result<Session, Error> {
        let key = self.ask(|device| device.new_key()).await?;
        let jkt = key.as_ref().map(|key| key.public_jwk().thumbprint());
        let challenge = self.challenge(jkt.as_deref(), showing).await?;
        let nonce = nonce(&challenge)?;
        let client_data = self.client_data("enroll", jkt.as_deref(), nonce);
        let attested = {
            let client_data = client_data.clone();
            let challenge = challenge.clone();
            self.ask(move |device| device.attest(&Request { client_data: &client_data, challenge: &challenge }, key))
                .await?
        };
        let step_up = self.shown(showing, &challenge, (&attested.signer, &client_data)).await?;
        let url = format!("{}{ENROLL}", self.inner.origin);
        let proof = self.possession(&attested.signer, nonce, &url, &client_data).await?;
        let jwk = attested.signer.public_jwk().to_json();
        let stepped_up = kind(step_up.as_ref());
        let request = wire::enroll(&client_data, &jwk, (&attested.evidence, step_up), &proof);
        self.issued(ENROLL, &request, (attested.signer, stepped_up)).await
    }

    /// A refresh, with the nonce that came with the last token or, where that has ended or something has to be shown besides, with
    /// a new one.
    async fn next_token(&self, old: &Session) -> Result<Session, Error> {
        let mut showing = Showing::Nothing;
        if let Some(nonce) = &old.next_nonce {
            match self.refresh_with(old, nonce, None).await {
                Err(Error::Rejected { action, .. }) if action.asks_for_new_nonce() => {}
                Err(error) if error.asks_for_step_up() => showing = Showing::Work,
                outcome => return outcome,
            }
        }
        loop {
            let challenge = self.challenge(Some(&old.signer.public_jwk().thumbprint()), showing).await?;
            match self.refresh_with(old, nonce(&challenge)?, Some((showing, &challenge))).await {
                Err(error) if error.asks_for_step_up() => showing = showing.next().ok_or(error)?,
                outcome => return outcome,
            }
        }
    }

    async fn refresh_with(
        &self,
        old: &Session,
        nonce: &str,
        besides: Option<(Showing, &Value)>,
    ) -> Result<Session, Error> {
        let jkt = old.signer.public_jwk().thumbprint();
        let client_data = self.client_data("refresh", Some(&jkt), nonce);
        let asserted = client_data.clone();
        let assertion = self.ask(move |device| device.assert(&asserted)).await?;
        let step_up = match besides {
            Some((showing, challenge)) => self.shown(showing, challenge, (&old.signer, &client_data)).await?,
            None => None,
        };
        let url = format!("{}{TOKEN}", self.inner.origin);
        let proof = self.possession(&old.signer, nonce, &url, &client_data).await?;
        let stepped_up = kind(step_up.as_ref());
        let request = wire::token(&old.instance, &client_data, (assertion.as_deref(), step_up), &proof);
        self.issued(TOKEN, &request, (Arc::clone(&old.signer), stepped_up)).await
    }

    async fn challenge(&self, jkt: Option<&str>, showing: Showing) -> Result<Value, Error> {
        let platform = self.inner.attester.platform();
        let request = wire::challenge(&self.inner.app, platform, jkt, showing != Showing::Nothing);
        self.post("/attest/v1/challenge", &request, None).await
    }

    /// What is shown besides: work, which takes a moment and nobody's help, or what the app has its user do.
    async fn shown(
        &self,
        showing: Showing,
        challenge: &Value,
        (signer, client_data): (&Arc<dyn Signer>, &[u8]),
    ) -> Result<Option<Value>, Error> {
        let can: Vec<String> = challenge
            .get("step_up")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |kinds| kinds.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let asked = challenge.get("altcha").cloned().filter(|_| can.iter().any(|kind| kind == "altcha"));
        match (showing, asked) {
            (Showing::Nothing, _) => Ok(None),
            (Showing::Work, Some(asked)) => {
                let payload = self.ask(move |_| altcha::solve(&asked).map_err(|_| AttestError::NotAccepted)).await?;
                Ok(Some(json!({"type": "altcha", "payload": payload})))
            }
            _ => {
                let kinds: Vec<String> = can.into_iter().filter(|kind| kind != "altcha").collect();
                if kinds.is_empty() {
                    return Ok(None);
                }
                let (jkt, client_data) = (signer.public_jwk().thumbprint(), client_data.to_vec());
                self.ask(move |device| device.step_up(&StepUp { kinds: &kinds, jkt: &jkt, client_data: &client_data }))
                    .await
            }
        }
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

    /// Ask for a token, bound to the app's own user's token where there is one.
    async fn issued(
        &self,
        path: &str,
        request: &Value,
        (signer, stepped_up): (Arc<dyn Signer>, Option<String>),
    ) -> Result<Session, Error> {
        let user = self.user();
        let answer = self.post(path, request, user.as_ref()).await?;
        let issued = Issued::read(&answer).ok_or(Error::Answer)?;
        Ok(Session {
            instance: issued.instance,
            signer,
            token: issued.token,
            ends: self.inner.clock.now().saturating_add(issued.expires_in),
            arc: issued.arc,
            next_nonce: issued.next_nonce,
            user,
            stepped_up,
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

/// What is tried besides, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Showing {
    Nothing,
    Work,
    /// What the app has its user do.
    Own,
}

impl Showing {
    const fn next(self) -> Option<Self> {
        match self {
            Self::Nothing => Some(Self::Work),
            Self::Work => Some(Self::Own),
            Self::Own => None,
        }
    }
}

/// What was shown.
fn kind(step_up: Option<&Value>) -> Option<String> {
    Some(step_up?.get("type")?.as_str()?.to_owned())
}

fn nonce(challenge: &Value) -> Result<&str, Error> {
    challenge.get("nonce").and_then(Value::as_str).ok_or(Error::Answer)
}
