//! `POST /attest/v1/secrets`: secrets for an installation that shows again what it is, sealed to a key it made for this one
//! answer. What is delivered can be read by whoever controls the device; where the gateway can put a secret into the request
//! itself (`{{secret:NAME}}`), that is better.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use base::{Name, Timestamp};
use bytes::Bytes;
use config::AttestationLevel;
use http::Request;
use http::request::Parts;
use proof::attest::seal::{EphemeralKey, Parties, seal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use store::{Claim, SecretUse, Used};
use zeroize::Zeroizing;

use super::caller::AppCaller;
use super::enroll::{malformed, unavailable};
use super::refusal::AppsError;
use super::visit::{Visit, json as answer, strict};
use super::{Apps, Window};
use crate::operations::Deliverable;

/// Most secrets in one answer.
const MOST: usize = 16;
/// Deliveries to one installation in a minute.
const PER_MINUTE: u32 = 30;
/// Installations whose deliveries of this minute are remembered; while there are more, nobody new gets any.
const REMEMBERED: usize = 100_000;
/// How long a key that was used is known again. A request counts for seconds, so that only its maker could use one again.
const KEY_KNOWN: std::time::Duration = std::time::Duration::from_mins(10);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    names: Vec<String>,
    epk: Map<String, Value>,
    /// The versions the installation has: to be seen by the operator.
    #[serde(default)]
    have: BTreeMap<String, u64>,
}

/// Secrets for an installation.
#[derive(Debug, Serialize)]
struct Delivered {
    /// `{name: {"v", "value", "exp"}}`, encrypted (RFC 7516): `apu` is the installation, `apv` the nonce of its signature.
    jwe: String,
    /// The newest version among them.
    version: u64,
    /// Seconds until they are asked for again.
    refresh_in: u64,
}

pub(super) async fn endpoint(State(apps): State<Arc<Apps>>, request: Request<Body>) -> Response {
    apps.answer("secrets", request, async |visit: &mut Visit, parts: Parts, body: Bytes| {
        let asked: Asked = strict(&parts, &body)?;
        let epk = EphemeralKey::from_jwk(&asked.epk);
        let epk = epk.map_err(|_| AppsError::Request("epk is not a public P-256 or X25519 key and nothing else"))?;
        let names = names(&asked.names)?;
        if asked.have.len() > MOST {
            return Err(AppsError::Request("have names at most sixteen secrets"));
        }
        let caller = apps.caller(visit, &parts, &body).await?;
        // A proof that leaves the body out leaves the key out that is sealed to.
        let nonce = caller.signed.clone().ok_or_else(|| malformed("signature_missing"))?;
        apps.admit_delivery(&caller.instance.id)?;
        apps.deliver((visit, &caller), (&names, &epk, &asked.have), &nonce).await
    })
    .await
}

fn names(asked: &[String]) -> Result<Vec<Name>, AppsError> {
    const WRONG: AppsError = AppsError::Request("names is a list of one to sixteen names, none twice");
    let mut names = Vec::with_capacity(asked.len().min(MOST));
    for name in asked.iter().take(MOST + 1) {
        let name = Name::new(name).map_err(|_| WRONG)?;
        if names.contains(&name) {
            return Err(WRONG);
        }
        names.push(name);
    }
    if names.is_empty() || names.len() > MOST { Err(WRONG) } else { Ok(names) }
}

impl Apps {
    async fn deliver(
        &self,
        (visit, caller): (&Visit, &AppCaller),
        (names, epk, have): (&[Name], &EphemeralKey, &BTreeMap<String, u64>),
        nonce: &str,
    ) -> Result<Response, AppsError> {
        let operations = self.operations();
        let now = operations.clock().now();
        let level = AttestationLevel::from_name(&caller.instance.attested.level).unwrap_or_default();
        let app = &caller.app.config.name;
        let found = operations.runtime_secrets_for((app, level), names).await.map_err(|error| unavailable(&error))?;
        // No answer says which it was, or whether there is such a secret.
        let found = found.map_err(malformed)?;
        self.claim_key(epk, now).await?;
        let secrets: Vec<String> = found.iter().map(|secret| format!("{}/{}", secret.name, secret.version)).collect();
        let event = audit::Event::new("runtime_secret.delivered").by(app.as_str()).from(Some(visit.address));
        let event = event.with("instance", caller.instance.id.as_str()).with("level", level.as_str());
        let recorded = operations.audit().happened(event.with("secrets", secrets)).await;
        recorded.map_err(|_| AppsError::Unavailable("audit_unavailable"))?;

        let payload = payload(&found, now);
        let parties = Parties { apu: caller.instance.id.as_bytes(), apv: nonce.as_bytes() };
        let jwe = seal(epk, parties, payload.as_bytes(), operations.rng());
        let jwe = jwe.map_err(|error| malformed(error.reason()))?;
        self.count(app, (&found, have), now);
        let version = found.iter().map(|secret| secret.version).max().unwrap_or_default();
        let refresh_in = found.iter().map(|secret| secret.refresh_in(now)).min().unwrap_or_default();
        Ok(answer(&Delivered { jwe, version, refresh_in }))
    }

    /// A key is sealed to once.
    async fn claim_key(&self, epk: &EphemeralKey, now: Timestamp) -> Result<(), AppsError> {
        let hash = digest(&SHA256, format!("runtime secret epk {}", epk.id()).as_bytes());
        let mut key = [0u8; 32];
        for (to, from) in key.iter_mut().zip(hash.as_ref()) {
            *to = *from;
        }
        match self.parts.oauth.claim(key, now.plus(KEY_KNOWN)).await {
            Ok(Claim::First) => Ok(()),
            Ok(Claim::Seen) => Err(malformed("epk_reused").into()),
            Err(reason) => Err(AppsError::Unavailable(reason)),
        }
    }

    /// One more delivery to an installation.
    fn admit_delivery(&self, instance: &str) -> Result<(), AppsError> {
        let now = self.operations().clock().monotonic();
        let mut windows = self.deliveries.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= REMEMBERED && !windows.contains_key(instance) {
            windows.retain(|_, window| !window.is_over(now));
            if windows.len() >= REMEMBERED {
                return Err(AppsError::TooMany(std::time::Duration::from_mins(1)));
            }
        }
        let window: &mut Window = windows.entry(instance.to_owned()).or_default();
        window.admit(PER_MINUTE, now).map_err(AppsError::TooMany)
    }

    fn count(&self, app: &Name, (found, have): (&[Deliverable], &BTreeMap<String, u64>), at: Timestamp) {
        let tally = self.operations().store().secret_tally();
        for secret in found {
            let used = |version, how| Used {
                name: &secret.name,
                version,
                old: version < secret.version,
                app: app.as_str(),
                how,
                at,
            };
            tally.count(used(secret.version, SecretUse::Delivered));
            // What an installation says of itself makes no version that there is not.
            if let Some(held) = have.get(secret.name.as_str()).filter(|held| (1..=secret.version).contains(*held)) {
                tally.count(used(*held, SecretUse::Held));
            }
        }
    }
}

/// `{name: {"v", "value", "exp"}}`, wiped when it goes.
fn payload(found: &[Deliverable], now: Timestamp) -> Zeroizing<String> {
    let room = found.iter().map(|secret| secret.value.expose().len() * 2 + 160).sum::<usize>();
    // Full size from the start: growing would leave a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(room + 2));
    text.push('{');
    for (index, secret) in found.iter().enumerate() {
        let value = Zeroizing::new(json!(String::from_utf8_lossy(secret.value.expose())).to_string());
        let exp = secret.until(now).as_secs();
        let before = if index == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _ = write!(text, "{before}\"{}\":{{\"v\":{},\"value\":", secret.name, secret.version);
        text.push_str(&value);
        let _ = write!(text, ",\"exp\":{exp}}}");
    }
    text.push('}');
    text
}
