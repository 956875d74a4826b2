//! `POST /attest/v1/token`: an installation that is known shows that it still holds its key, and gets its next token.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::Timestamp;
use bytes::Bytes;
use config::{AttestationLevel, EvidenceKind, StepUp};
use http::Request;
use http::request::Parts;
use policy::risk::Decision;
use proof::attest::apple::Extensions;
use proof::attest::client_data::{ClientData, Purpose};
use proof::attest::enrolment::Refresh;
use proof::attest::possession::{InstanceKey, Wanted};
use serde::Serialize;
use store::{Instance, InstanceStatus, OneTime, Refreshed, Renewed, UseUp};

use super::enroll::{LONGER, client_data_bytes, flags_now, malformed, unavailable, used_before, user_token};
use super::evidence::{judge_assertion, kept};
use super::receipts::FRAUD_METRIC;
use super::refusal::{Action, AppsError, Refused};
use super::risk::Found;
use super::step_up::{Shower, Shown};
use super::visit::{Visit, json, strict};
use super::{AppInForce, Apps, WAIT, nonce};
use crate::operations::Once;
use crate::risk::Step;

const PATH: &str = "/attest/v1/token";

/// Who is named where an installation is quarantined or revoked by what it shows.
pub(super) const BY: &str = "attestation";

/// The next token is asked for this long before the present one ends.
const AHEAD: u64 = 30;

/// How long after its token a nonce that came with it counts.
const GRACE: std::time::Duration = std::time::Duration::from_mins(1);

/// A token for an installation.
#[derive(Debug, Serialize)]
struct Granted<'a> {
    instance: &'a str,
    access_token: Once,
    token_type: &'static str,
    expires_in: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    arc: &'a str,
    /// Seconds until the next one is asked for.
    next_refresh: u64,
    /// For that.
    nonce: String,
    /// Seconds until it has to enrol anew.
    reattest_in: u64,
}

pub(super) async fn endpoint(State(apps): State<Arc<Apps>>, request: Request<Body>) -> Response {
    apps.answer("token", request, async |visit: &mut Visit, parts: Parts, body: Bytes| {
        let asked: Refresh = strict(&parts, &body)?;
        refresh(&apps, visit, &parts, asked).await
    })
    .await
}

async fn refresh(apps: &Apps, visit: &mut Visit, parts: &Parts, asked: Refresh) -> Result<Response, AppsError> {
    let client_data = client_data_bytes(&asked.client_data)?;
    let said = ClientData::read(&client_data, Purpose::Refresh).map_err(|error| malformed(error.reason()))?;
    visit.version.clone_from(&said.app_version);
    let app = apps.app(&said.app)?;
    visit.app = Some(Arc::clone(&app));
    let now = apps.operations().clock().now();
    let jkt = said.jkt.as_deref().ok_or_else(|| malformed("client_data_key"))?;
    let until = apps.nonce(&said.nonce, (&said.app, jkt), now, Action::Refresh)?;
    let found = apps.operations().store().instances().get(&asked.instance).await;
    let found = found.map_err(|error| unavailable(&error.into()))?;
    // An installation of another app, or with another key, is not there for this one.
    let instance = found.filter(|found| found.app == app.config.name && found.jkt == jkt);
    let instance = instance.ok_or_else(|| Refused::new(Action::ReEnroll, "instance_unknown"))?;
    visit.instance = Some(instance.id.clone());
    let key = serde_json::from_str(&instance.jwk).ok().and_then(|jwk| InstanceKey::from_jwk(&jwk).ok());
    let key = key.ok_or_else(|| Refused::new(Action::ReEnroll, "instance_unknown"))?;
    let targets = apps.targets(PATH);
    let wanted = Wanted { nonce: &said.nonce, targets: &targets, client_data: &client_data };
    key.check(&asked.proof, &wanted).map_err(|error| malformed(error.reason()))?;
    // Only now: whoever does not hold the key learns nothing of the installation.
    if instance.status == InstanceStatus::Revoked {
        apps.mark_revoked(&app, asked.device_check.as_deref(), instance.attested.environment.as_deref()).await;
    }
    let grace = apps.operations().judge().rules().grace(app.config.name.as_str()).reattestation.duration();
    standing(&app, &instance, now.minus(grace))?;
    apps.still_good(&instance).await?;
    let asserted = apps.asserted(&app, &instance, asked.assertion, client_data.clone()).await?;
    let counter = asserted.as_ref().map(|(counter, _)| *counter);
    let extensions = asserted.map(|(_, extensions)| extensions).unwrap_or_default();
    let by = Shower {
        app: &app,
        nonce: &said.nonce,
        client_data: &client_data,
        jkt,
        instance: Some(&instance),
        address: visit.address,
    };
    let Shown { what: shown, used: also_used, counter: passkey } = apps.besides(asked.step_up, by).await?;
    passkey_at_refresh(&app, &instance, shown)?;
    let mut flags = flags_now(&instance, extensions.category, said.flags);
    flags.retain(|flag| flag.name() != FRAUD_METRIC);
    flags.extend(apps.fraud_metric_of(&app, &instance.jkt).await?);
    // An app's own word counts only where no evidence says it.
    let version = extensions.bundle_version.or(said.app_version.filter(|_| !attests_version(&instance)));
    visit.version = version.clone().or_else(|| instance.attested.version.clone());
    let found = Found {
        app: &app,
        jkt: &instance.jkt,
        instance: Some(&instance.id),
        platform: &instance.attested.platform,
        level: AttestationLevel::from_name(&instance.attested.level).unwrap_or_default(),
        version: version.as_deref().or(instance.attested.version.as_deref()),
        flags: flags.clone(),
        shown,
        config: said.config,
        overdue: now >= instance.attested.reattest_at,
    };
    let decision = apps.decide(visit, found, Step::Token).await;
    // Whatever was decided: what was shown counts once, and a counter that does not rise is noticed.
    let mut used = vec![UseUp { kind: OneTime::AttestNonce, key: vec![said.nonce.clone()], until: until.plus(LONGER) }];
    used.extend(also_used);
    let refreshed = Refreshed {
        used,
        counter: counter.or(passkey).map(u64::from),
        annotations: instance.attested.annotations.clone(),
        flags: kept(&flags),
        version,
        arc: visit.arc.clone(),
        by: BY.to_owned(),
    };
    let user_token = user_token(parts, &app)?;
    let renewed = apps.operations().store().instances().refresh(&instance.id, refreshed).await;
    let instance = match renewed.map_err(|error| unavailable(&error.into()))? {
        Renewed::Done(instance) => *instance,
        Renewed::Used(what) => return Err(used_before(what).into()),
        Renewed::Barred => return Err(malformed("instance_barred").into()),
        Renewed::CounterRegressed => {
            apps.tell(&instance, InstanceStatus::Quarantined, "counter_regression").await;
            return Err(malformed("counter_regression").into());
        }
    };
    let decision = decision?;
    apps.remember(&app, &instance.jkt, shown).await?;
    apps.token_for(&app, &instance, (user_token.as_deref(), &decision)).await
}

/// Whether an installation may have tokens still. `now` is earlier by as much as it may be late with enrolling anew.
fn standing(app: &AppInForce, instance: &Instance, now: Timestamp) -> Result<(), Refused> {
    if instance.status != InstanceStatus::Active {
        return Err(malformed("instance_barred").with("status", instance.status.as_str()));
    }
    if now >= instance.attested.reattest_at {
        return Err(Refused::new(Action::ReEnroll, "reattestation_due"));
    }
    let accepted = app.config.evidence();
    if !kinds(instance).first().is_some_and(|kind| accepted.contains(kind)) {
        return Err(Refused::new(Action::ReEnroll, "evidence_not_accepted"));
    }
    Ok(())
}

/// Where an app is set so, an installation that enrolled with a passkey shows it for every token.
fn passkey_at_refresh(app: &AppInForce, instance: &Instance, shown: Option<StepUp>) -> Result<(), Refused> {
    let site = app.config.web.as_ref().and_then(|web| web.webauthn.as_ref());
    let wanted = site.is_some_and(|site| site.at_refresh) && kinds(instance).first() == Some(&EvidenceKind::Webauthn);
    if wanted && shown != Some(StepUp::Webauthn) {
        return Err(Refused::new(Action::StepUp, "assertion_missing"));
    }
    Ok(())
}

/// The kinds of evidence an installation enrolled with.
pub(super) fn kinds(instance: &Instance) -> Vec<EvidenceKind> {
    instance.attested.evidence.split(' ').filter_map(EvidenceKind::from_name).collect()
}

/// Whether the version of an installation stands in the evidence it enrolled with, and no assertion says a newer one.
fn attests_version(instance: &Instance) -> bool {
    kinds(instance).first() == Some(&EvidenceKind::AndroidKey) && instance.attested.version.is_some()
}

impl Apps {
    /// Whether none of the certificates an installation enrolled with has been revoked since. Where there is no list, the one it
    /// enrolled by goes on counting until it has to enrol anew.
    async fn still_good(&self, instance: &Instance) -> Result<(), AppsError> {
        let Ok(list) = self.parts.revoked.list() else { return Ok(()) };
        if !instance.attested.serials.iter().any(|serial| list.of_serial(serial).is_some()) {
            return Ok(());
        }
        let status = (BY, "certificate_revoked");
        let revoked =
            self.operations().store().instances().set_status(&instance.id, InstanceStatus::Revoked, status).await;
        revoked.map_err(|error| unavailable(&error.into()))?;
        self.tell(instance, InstanceStatus::Revoked, "certificate_revoked").await;
        Err(malformed("certificate_revoked").into())
    }

    /// The counter of an installation that signs assertions, and what its system says of the app with it.
    async fn asserted(
        &self,
        app: &Arc<AppInForce>,
        instance: &Instance,
        assertion: Option<String>,
        client_data: Vec<u8>,
    ) -> Result<Option<(u32, Extensions)>, AppsError> {
        if kinds(instance).first() != Some(&EvidenceKind::AppleAppAttest) {
            return Ok(None);
        }
        let assertion = assertion.ok_or_else(|| malformed("assertion_missing"))?;
        let key = instance.attested.attested_key.clone().unwrap_or_default();
        let place = tokio::time::timeout(WAIT, self.judging.acquire()).await;
        let Ok(Ok(_place)) = place else { return Err(AppsError::Unavailable("verification_busy")) };
        let app = Arc::clone(app);
        let judge = move || judge_assertion(&assertion, (&key, &app), &client_data);
        let judged = tokio::task::spawn_blocking(judge).await;
        Ok(Some(judged.map_err(|_| AppsError::Unavailable("verification_failed"))??))
    }

    /// Say in the audit log that an installation may not any more.
    pub(super) async fn tell(&self, instance: &Instance, status: InstanceStatus, why: &'static str) {
        let event = audit::Event::new("instance.barred").by(BY).with("instance", instance.id.as_str());
        let event = event.with("app", instance.app.as_str()).with("status", status.as_str()).with("reason", why);
        if let Err(error) = self.operations().audit().happened(event).await {
            tracing::error!(%error, "what became of an installation is not in the audit log");
        }
    }

    /// A token for an installation, and the nonce for the next one.
    pub(super) async fn token_for(
        &self,
        app: &AppInForce,
        instance: &Instance,
        (user_token, decision): (Option<&str>, &Decision),
    ) -> Result<Response, AppsError> {
        let operations = self.operations();
        let issued = operations.issue_to_instance(&app.config, instance, (user_token, decision)).await;
        let issued = issued.map_err(|error| unavailable(&error))?;
        let now = operations.clock().now();
        let until = now.plus(app.config.token_ttl.duration()).plus(GRACE);
        let of = (app.config.name.as_str(), instance.jkt.as_str());
        Ok(json(&Granted {
            instance: &instance.id,
            access_token: issued.access_token,
            token_type: issued.token_type,
            expires_in: issued.expires_in,
            scope: issued.scope,
            arc: &instance.arc,
            next_refresh: issued.expires_in.saturating_sub(AHEAD),
            nonce: nonce::mint((operations.vault(), operations.rng()), of.0, of.1, until),
            reattest_in: instance.attested.reattest_at.since(now).as_secs(),
        }))
    }
}
