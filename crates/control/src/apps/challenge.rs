//! `POST /attest/v1/challenge`: a nonce, and what to show with it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use config::{EvidenceKind, Platform, StepUp};
use http::Request;
use http::request::Parts;
use proof::attest::altcha::{AltchaKey, Work};
use serde::Deserialize;
use serde_json::{Value, json};

use super::evidence::{platform, work_context};
use super::nonce::{self, CHALLENGE};
use super::refusal::{Action, AppsError, Refused};
use super::visit::{Visit, json as answer, strict};
use super::{AppInForce, Apps};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    app: String,
    platform: Platform,
    #[serde(default)]
    jkt: Option<String>,
    /// What is to be shown besides, as an answer with the action `step-up` asks for.
    #[serde(default)]
    step_up: Option<StepUp>,
}

pub(super) async fn endpoint(State(apps): State<Arc<Apps>>, request: Request<Body>) -> Response {
    apps.answer("challenge", request, async |visit: &mut Visit, parts: Parts, body: Bytes| {
        let asked: Asked = strict(&parts, &body)?;
        challenge(&apps, visit, &asked)
    })
    .await
}

fn challenge(apps: &Apps, visit: &mut Visit, asked: &Asked) -> Result<Response, AppsError> {
    let jkt = asked.jkt.as_deref().unwrap_or_default();
    let thumbprint = |text: &str| proof::jose::base64url_decode(text).is_some_and(|bytes| bytes.len() == 32);
    if !jkt.is_empty() && !thumbprint(jkt) {
        return Err(AppsError::Request("jkt is not a thumbprint"));
    }
    let app = apps.app(&asked.app)?;
    visit.app = Some(Arc::clone(&app));
    let of_platform = |kind: &EvidenceKind| platform(*kind).is_none_or(|platform| platform == asked.platform.as_str());
    let accept: Vec<EvidenceKind> = app.config.evidence().into_iter().filter(of_platform).collect();
    if accept.is_empty() {
        return Err(Refused::new(Action::None, "platform_not_accepted").into());
    }
    let operations = apps.operations();
    let until = operations.clock().now().plus(CHALLENGE);
    let nonce = nonce::mint((operations.vault(), operations.rng()), &asked.app, jkt, until);
    let names: Vec<&str> = accept.iter().map(|kind| kind.as_str()).collect();
    let mut body = json!({
        "nonce": nonce,
        "expires_in": CHALLENGE.as_secs(),
        "accept": names,
        "clientdata_v": 1,
    });
    let besides = asked.step_up == Some(StepUp::Altcha);
    if let (Some(_), Some(body)) = (asked.step_up, body.as_object_mut()) {
        // What its app's rules can ask for, of anybody: not what this installation was refused for.
        let mut can = operations.judge().rules().step_ups(&asked.app);
        let site = app.config.web.as_ref().and_then(|web| web.webauthn.as_ref());
        if site.is_some_and(|site| site.at_refresh) && !can.contains(&StepUp::Webauthn) {
            can.push(StepUp::Webauthn);
        }
        body.insert("step_up".to_owned(), can.into_iter().map(StepUp::as_str).collect());
    }
    if (besides || accept.contains(&EvidenceKind::Altcha))
        && let (Some(body), Some(work)) = (body.as_object_mut(), work(apps, &app, &nonce)?)
    {
        body.insert("altcha".to_owned(), work);
    }
    Ok(answer(&body))
}

/// The work a browser has to do, for this nonce only. An app that asks for it only besides other evidence has the usual amount.
fn work(apps: &Apps, app: &AppInForce, nonce: &str) -> Result<Option<Value>, AppsError> {
    let asked = app.config.web.as_ref().and_then(|web| web.altcha.clone()).unwrap_or_default();
    let Some(key) = apps.work_keys().into_iter().next() else { return Ok(None) };
    let operations = apps.operations();
    let work = Work::Derive { cost: asked.cost, zeros: asked.zeros };
    let context = work_context(app.config.name.as_str(), nonce);
    let challenge =
        AltchaKey::new(&key).challenge(work, &context, operations.rng(), (operations.clock().now(), CHALLENGE));
    challenge.map(Some).map_err(|error| {
        tracing::error!(app = %app.config.name, %error, "no work can be asked for");
        AppsError::Unavailable("work_out_of_bounds")
    })
}
