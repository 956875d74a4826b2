//! What an installation shows besides its evidence, because a rule asks for it: work, a puzzle, its passkey.

use std::net::IpAddr;

use config::{EvidenceKind, StepUp};
use proof::attest::enrolment::Besides;
use proof::attest::online::CaptchaKind;
use proof::attest::webauthn::{Assertion, CredentialKey, verify_assertion};
use store::{Instance, UseUp};

use super::enroll::{malformed, unavailable};
use super::evidence::{binary, relying_party, sha256, work_context, work_done};
use super::refusal::{Action, AppsError, Refused};
use super::token::kinds;
use super::{AppInForce, Apps, WAIT};

/// Who shows it, and where.
pub(super) struct Shower<'a> {
    pub(super) app: &'a AppInForce,
    /// The nonce and the whole of the client data.
    pub(super) nonce: &'a str,
    pub(super) client_data: &'a [u8],
    /// The thumbprint of its key.
    pub(super) jkt: &'a str,
    /// What it enrolled as, where it has.
    pub(super) instance: Option<&'a Instance>,
    pub(super) address: IpAddr,
}

/// What was shown.
#[derive(Debug, Default)]
pub(super) struct Shown {
    pub(super) what: Option<StepUp>,
    /// What of it counts once.
    pub(super) used: Vec<UseUp>,
    /// The counter of a passkey that has one.
    pub(super) counter: Option<u32>,
}

impl Apps {
    /// Judge what is shown besides evidence.
    pub(super) async fn besides(&self, shown: Option<Besides>, by: Shower<'_>) -> Result<Shown, AppsError> {
        match shown {
            None => Ok(Shown::default()),
            Some(Besides::Altcha { payload }) => self.work(payload, &by).await,
            Some(Besides::Turnstile { response }) => self.solved(CaptchaKind::Turnstile, &response, &by).await,
            Some(Besides::Hcaptcha { response }) => self.solved(CaptchaKind::HCaptcha, &response, &by).await,
            Some(Besides::Recaptcha { response }) => self.solved(CaptchaKind::ReCaptcha, &response, &by).await,
            Some(Besides::WebAuthn { client_data, authenticator_data, signature }) => {
                passkey([&client_data, &authenticator_data, &signature], &by)
            }
        }
    }

    async fn work(&self, payload: String, by: &Shower<'_>) -> Result<Shown, AppsError> {
        let (keys, now) = (self.work_keys(), self.operations().clock().now());
        let context = work_context(by.app.config.name.as_str(), by.nonce);
        let place = tokio::time::timeout(WAIT, self.judging.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(AppsError::Unavailable("verification_busy")) };
        let solved = tokio::task::spawn_blocking(move || work_done(&payload, &context, &keys, now)).await;
        let (_, used) = solved.map_err(|_| AppsError::Unavailable("verification_failed"))??;
        Ok(Shown { what: Some(StepUp::Altcha), used: vec![used], counter: None })
    }

    /// A puzzle. Turnstile says for which installation it was solved.
    async fn solved(&self, kind: CaptchaKind, response: &str, by: &Shower<'_>) -> Result<Shown, AppsError> {
        let now = self.operations().clock().now();
        let (_, used) = self.puzzle(kind, response, (by.app, Some(by.jkt)), (by.address, now)).await?;
        let name = kind.evidence().name();
        let what = StepUp::ALL.into_iter().find(|what| what.as_str() == name);
        Ok(Shown { what, used: vec![used], counter: None })
    }

    /// Remember what was shown besides, once everything else holds.
    pub(super) async fn remember(&self, app: &AppInForce, jkt: &str, shown: Option<StepUp>) -> Result<(), AppsError> {
        let Some(what) = shown else { return Ok(()) };
        let kept = self.operations().store().step_ups().put(app.config.name.as_str(), jkt, what.as_str()).await;
        kept.map_err(|error| unavailable(&error.into()))
    }
}

/// An assertion of the passkey the installation enrolled with, over the client data.
fn passkey([client_data, auth_data, signature]: [&str; 3], by: &Shower<'_>) -> Result<Shown, AppsError> {
    let by_passkey = by.instance.filter(|instance| kinds(instance).first() == Some(&EvidenceKind::Webauthn));
    let enrolled = by_passkey.ok_or_else(|| malformed("passkey_unknown"))?;
    let key = enrolled.attested.attested_key.as_deref().and_then(|jwk| serde_json::from_slice(jwk).ok());
    // One that enrolled before its key was kept can enrol again.
    let gone = || Refused::new(Action::ReEnroll, "passkey_unknown");
    let key = key.and_then(|jwk| CredentialKey::from_jwk(&jwk)).ok_or_else(gone)?;
    let (client_data, auth_data, signature) = (binary(client_data)?, binary(auth_data)?, binary(signature)?);
    let assertion = Assertion { client_data: &client_data, auth_data: &auth_data, signature: &signature };
    let challenge = sha256(by.client_data);
    // That a counter rises is for the store to see; one that has ever counted does not stop (section 6.1.1).
    let asserted = relying_party(by.app, |party| verify_assertion(&assertion, (&key, 0), party, &challenge))?;
    let asserted = asserted.map_err(|error| malformed(error.reason()))?;
    let counter = Some(asserted.counter).filter(|counter| *counter != 0 || enrolled.counter != 0);
    Ok(Shown { what: Some(StepUp::Webauthn), used: Vec::new(), counter })
}
