//! `POST /attest/v1/enroll`: an installation shows what it is, and gets its first token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::Timestamp;
use bytes::Bytes;
use config::{EvidenceKind, StepUp};
use http::request::Parts;
use http::{Request, header};
use proof::attest::client_data::{ClientData, Purpose};
use proof::attest::enrolment::{self, Enrolment, EnvelopeError, Given};
use proof::attest::possession::{InstanceKey, Wanted};
use proof::attest::{Flag, FlagValue};
use serde_json::Value;
use store::{Attested, Enrolled, Instance, InstanceStatus, NewInstance, OneTime, UseUp};

use super::evidence::{Circumstances, Judged, judge, kept, kind_of, level_of, platform};
use super::refusal::{Action, AppsError, Refused};
use super::risk::{Found, fingerprint};
use super::step_up::{Shower, Shown};
use super::visit::{Visit, strict};
use super::{AppInForce, Apps, WAIT, nonce};
use crate::operations::OperationError;
use crate::risk::Step;

const PATH: &str = "/attest/v1/enroll";

/// Once the evidence was used it is kept for this much longer than anybody should take it: nodes' clocks differ.
pub(super) const LONGER: std::time::Duration = std::time::Duration::from_mins(2);

pub(super) async fn endpoint(State(apps): State<Arc<Apps>>, request: Request<Body>) -> Response {
    apps.answer("enroll", request, async |visit: &mut Visit, parts: Parts, body: Bytes| {
        let asked: Enrolment = strict(&parts, &body)?;
        enroll(&apps, visit, &parts, asked).await
    })
    .await
}

async fn enroll(apps: &Apps, visit: &mut Visit, parts: &Parts, asked: Enrolment) -> Result<Response, AppsError> {
    let client_data = client_data_bytes(&asked.client_data)?;
    let said = ClientData::read(&client_data, Purpose::Enroll).map_err(|error| malformed(error.reason()))?;
    visit.version.clone_from(&said.app_version);
    let app = apps.app(&said.app)?;
    visit.app = Some(Arc::clone(&app));
    let kind = kind_of(&asked.evidence);
    if !app.config.evidence().contains(&kind) {
        return Err(malformed("evidence_not_accepted").into());
    }
    check_origin(parts, &app, kind)?;
    let key = InstanceKey::from_jwk(&asked.jwk).map_err(|error| malformed(error.reason()))?;
    // With a key attestation the key itself is what the evidence is about, and is made after the challenge.
    match &said.jkt {
        Some(jkt) if *jkt != key.jkt() => return Err(malformed("client_data_key").into()),
        None if kind != EvidenceKind::AndroidKey => return Err(malformed("client_data_key").into()),
        _ => {}
    }
    let jkt = said.jkt.as_deref().unwrap_or_default();
    let now = apps.operations().clock().now();
    let until = apps.nonce(&said.nonce, (&said.app, jkt), now, Action::Refresh)?;
    let targets = apps.targets(PATH);
    let wanted = Wanted { nonce: &said.nonce, targets: &targets, client_data: &client_data };
    key.check(&asked.proof, &wanted).map_err(|error| malformed(error.reason()))?;
    // Only now: whoever has no nonce and no key takes nothing of what the app may have in a minute.
    apps.admit_enrolment(&app, visit.address)?;

    let used = UseUp { kind: OneTime::AttestNonce, key: vec![said.nonce.clone()], until: until.plus(LONGER) };
    let (jkt, jwk) = (key.jkt(), key.jwk().to_string());
    let signed = client_data.clone();
    let circumstances = Circumstances {
        app: Arc::clone(&app),
        client_data,
        nonce: said.nonce.clone(),
        key,
        now,
        revoked: apps.revoked_for(&app),
        work_keys: apps.work_keys(),
    };
    let device_check = asked.evidence.device_check().map(str::to_owned);
    let mut judged = apps.judged(asked.evidence, circumstances, visit).await?;
    let environment = judged.environment;
    let by = Shower {
        app: &app,
        nonce: &said.nonce,
        client_data: &signed,
        jkt: &jkt,
        instance: None,
        address: visit.address,
    };
    let Shown { what, used: also_used, .. } = apps.besides(asked.step_up, by).await?;
    // A passkey that is registered is shown with that.
    let shown = what.or((kind == EvidenceKind::Webauthn).then_some(StepUp::Webauthn));
    if judged.version.is_some() {
        visit.version.clone_from(&judged.version);
    }
    judged.flags.extend(apps.fraud_metric_of(&app, &jkt).await?);
    judged.flags.extend(said.flags);
    judged.flags.extend(visit.fingerprint.as_ref().and_then(fingerprint));
    let mut used_up = vec![used];
    used_up.append(&mut judged.used);
    used_up.extend(also_used);
    let found = Found {
        app: &app,
        jkt: &jkt,
        instance: None,
        platform: platform_of(&judged),
        level: level_of(judged.level),
        version: visit.version.as_deref(),
        flags: judged.flags.clone(),
        shown,
        config: said.config,
        overdue: false,
    };
    let user_token = user_token(parts, &app)?;
    // Before anything is decided or observed: what is refused by the rules cannot be shown again to find out what they are.
    apps.use_up(used_up).await?;
    let decision = apps.decide(visit, found, Step::Enroll).await?;
    let device = match judged.device.take() {
        Some(device) => apps.device_name(&app.config.name, &device).await?,
        None => None,
    };
    let receipt = apps.kept_receipt(&app, &jkt, judged.receipt.take())?;
    let instance = NewInstance {
        receipt,
        counter: judged.counter,
        app: app.config.name.clone(),
        jkt,
        jwk,
        attested: attested(&app, judged, device, (said.app_version, now)),
        arc: visit.arc.clone(),
    };
    let instance = apps.written(visit, &app, instance, (device_check.as_deref(), environment)).await?;
    apps.remember(&app, &instance.jkt, shown).await?;
    apps.token_for(&app, &instance, (user_token.as_deref(), &decision)).await
}

/// Refused, and nothing the client can do about it.
pub(super) fn malformed(reason: &'static str) -> Refused {
    Refused::new(Action::None, reason)
}

/// What was shown counts once, and did.
pub(super) fn used_before(what: OneTime) -> Refused {
    match what {
        OneTime::AttestNonce => Refused::new(Action::Refresh, "nonce_used"),
        _ => malformed("evidence_used"),
    }
}

/// The client data as it was sent.
pub(super) fn client_data_bytes(text: &str) -> Result<Vec<u8>, AppsError> {
    enrolment::client_data(text).map_err(|error| match error {
        EnvelopeError::ClientDataTooLong => AppsError::Request("client_data is too long"),
        _ => AppsError::Request("client_data is not base64url"),
    })
}

/// A failure of ours: the log says which, the client does not need to know.
pub(super) fn unavailable(error: &OperationError) -> AppsError {
    tracing::error!(reason = error.reason(), error = %error, "attestation failed");
    AppsError::Unavailable(error.reason())
}

/// A page that brings evidence of browsers is one of the app's, as far as its browser says.
fn check_origin(parts: &Parts, app: &AppInForce, kind: EvidenceKind) -> Result<(), Refused> {
    let Some(web) = app.config.web.as_ref().filter(|_| platform(kind) == Some("web")) else { return Ok(()) };
    match parts.headers.get(header::ORIGIN) {
        Some(origin) if !web.origins.iter().any(|own| own.as_str().as_bytes() == origin.as_bytes()) => {
            Err(malformed("origin_not_allowed"))
        }
        _ => Ok(()),
    }
}

/// What evidence was made on.
fn platform_of(judged: &Judged) -> &str {
    let first = judged.kinds.first().copied().unwrap_or(EvidenceKind::Altcha);
    let by_facts = judged.facts.get("platform").and_then(Value::as_str);
    platform(first).or(by_facts).unwrap_or("other")
}

/// What is kept of an installation.
fn attested(
    app: &AppInForce,
    judged: Judged,
    device: Option<String>,
    (app_version, now): (Option<String>, Timestamp),
) -> Attested {
    let first = judged.kinds.first().copied().unwrap_or(EvidenceKind::Altcha);
    let names: Vec<&str> = judged.kinds.iter().map(|kind| kind.as_str()).collect();
    Attested {
        platform: platform_of(&judged).to_owned(),
        evidence: names.join(" "),
        evidence_key: judged.evidence_key,
        attested_key: judged.attested_key,
        level: judged.level.name().to_owned(),
        environment: judged.environment.map(str::to_owned),
        category: judged.category,
        version: judged.version.or(app_version),
        serials: judged.serials,
        flags: kept(&judged.flags),
        annotations: judged.annotations,
        device,
        reattest_at: now.plus(app.config.reattest_after(first).duration()),
    }
}

impl Apps {
    /// Until when a nonce counts, if it does for this app and key.
    pub(super) fn nonce(
        &self,
        text: &str,
        of: (&str, &str),
        now: Timestamp,
        action: Action,
    ) -> Result<Timestamp, Refused> {
        nonce::check(self.operations().vault(), text, of, now).map_err(|error| Refused::new(action, error.reason()))
    }

    /// Write the installation, and that it was. One that was revoked may be marked at Apple's, by what its device sent along.
    async fn written(
        &self,
        visit: &mut Visit,
        app: &AppInForce,
        new: NewInstance,
        (device_check, environment): (Option<&str>, Option<&str>),
    ) -> Result<Instance, AppsError> {
        let enrolled = self.operations().store().instances().enroll(new).await;
        let instance = match enrolled.map_err(|error| unavailable(&error.into()))? {
            Enrolled::Done(instance) => *instance,
            Enrolled::EvidenceTaken => return Err(malformed("evidence_used").into()),
            Enrolled::Barred(status) => {
                if status == InstanceStatus::Revoked {
                    self.mark_revoked(app, device_check, environment).await;
                }
                return Err(malformed("instance_barred").with("status", status.as_str()).into());
            }
        };
        visit.instance = Some(instance.id.clone());
        let event =
            audit::Event::new("instance.enrolled").by(app.config.name.as_str()).with("instance", instance.id.as_str());
        let event =
            event.with("evidence", instance.attested.evidence.as_str()).with("level", instance.attested.level.as_str());
        let event = event.with("arc", visit.arc.as_str()).from(Some(visit.address));
        self.operations().audit().happened(event).await.map_err(|_| AppsError::Unavailable("audit_unavailable"))?;
        Ok(instance)
    }

    /// Use up what was shown, before anything is made of it.
    async fn use_up(&self, shown: Vec<UseUp>) -> Result<(), AppsError> {
        let used = self.operations().store().used_once().claim_all(shown).await;
        match used.map_err(|error| unavailable(&error.into()))? {
            None => Ok(()),
            Some(what) => Err(used_before(what).into()),
        }
    }

    /// Judge evidence, a few at a time, off the threads that serve requests; then ask others what they say of it besides.
    async fn judged(&self, given: Given, by: Circumstances, visit: &Visit) -> Result<Judged, AppsError> {
        if let Some(asked) = self.ask(&given, &by, visit.address).await {
            return asked;
        }
        let (given, by) = (Arc::new(given), Arc::new(by));
        let mut judged = {
            let place = tokio::time::timeout(WAIT, self.judging.acquire()).await;
            let Ok(Ok(_place)) = place else { return Err(AppsError::Unavailable("verification_busy")) };
            let (given, by) = (Arc::clone(&given), Arc::clone(&by));
            let judged = tokio::task::spawn_blocking(move || judge(&given, &by)).await;
            judged.map_err(|_| AppsError::Unavailable("verification_failed"))??
        };
        self.ask_besides(&given, &by, &mut judged).await?;
        Ok(judged)
    }
}

/// The app's own user's token, where the app is set to have one and the request brings it.
pub(super) fn user_token(parts: &Parts, app: &AppInForce) -> Result<Option<String>, AppsError> {
    let Some(header) = &app.config.user_token else { return Ok(None) };
    let mut values = parts.headers.get_all(header.as_str()).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) if !value.is_empty() => {
            let text = value.to_str().map_err(|_| AppsError::Request("the user's token is not text"))?;
            Ok(Some(text.to_owned()))
        }
        _ => Err(AppsError::Request("more than one user's token, or an empty one")),
    }
}

/// Flags an installation has now: what its evidence said, how the app is distributed by its last assertion if that says it, and
/// what it reports of itself.
pub(super) fn flags_now(instance: &Instance, category: Option<u32>, reported: Vec<Flag>) -> Vec<Flag> {
    let mut flags = super::evidence::not_reported(&instance.attested.flags);
    if let Some(category) = category.and_then(|now| Flag::new("category", FlagValue::Number(now.into()))) {
        flags.retain(|flag| flag.name() != category.name());
        flags.push(category);
    }
    flags.extend(reported);
    flags
}
