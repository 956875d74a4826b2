//! What the admin API asks of the running server: to reload, and how it is doing.

use std::time::Duration;

use base::Name;
use config::Fault;
use control::OperationError;
use control::admin::{self, Check, Pending, Readiness};
use control::route::{RouteExplanation, RouteQuestion};

use super::{Running, record};
use crate::wire;

/// How long a change may take to come into force before the admin API answers without it.
const SETTLE: Duration = Duration::from_secs(5);

impl admin::Server for Running {
    fn reload(&self) -> Pending<'_, Result<(), Vec<Fault>>> {
        Box::pin(self.reload())
    }

    fn settled(&self) -> Pending<'_, bool> {
        Box::pin(async {
            let version = self.builder.operations.store().version();
            let mut in_force = self.in_force.subscribe();
            let there = in_force.wait_for(|current| *current >= version);
            tokio::time::timeout(SETTLE, there).await.is_ok_and(|reached| reached.is_ok())
        })
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &self.registry) {
            tracing::error!(%error, "the metrics cannot be written");
        }
        text
    }

    fn explain_route(&self, question: &RouteQuestion) -> Option<RouteExplanation> {
        let told = self.snapshot.load().explain(&wire::told::question(question))?;
        Some(wire::told::explanation(&question.model, told))
    }

    fn forget_answers(&self) {
        self.gateway.forget_answers();
    }

    fn readiness(&self) -> Pending<'_, Readiness> {
        Box::pin(async {
            let mut checks = Vec::new();
            let mut check = |name: String, ok: bool, detail: Option<String>| checks.push(Check { name, ok, detail });
            let store = self.builder.operations.store();
            let error = store.ping().await.err().or_else(|| store.failing());
            check("store".into(), error.is_none(), error.map(|error| error.to_string()));
            check("serving".into(), self.drain.is_ready(), None);
            if let Some(found) = record::check(self.builder.operations.audit()) {
                check(found.name, found.ok, found.detail);
            }
            for found in self.publisher.checks() {
                check(found.name, found.ok, found.detail);
            }
            checks_of_pins(self.builder.operations.pin_fits().await, &mut check);
            for status in self.jwks.status() {
                let detail = status.error.map(|error| error.to_string());
                check(format!("jwks:{}", status.name), status.keys.is_some(), detail);
            }
            let snapshot = self.snapshot.load();
            for gateway::Unusable { kind, name, error } in snapshot.unusable() {
                check(format!("{kind}:{name}"), false, Some(error.to_string()));
            }
            for (name, why) in snapshot.left_alone() {
                check(format!("provider:{name}"), false, Some(why));
            }
            for issuer in snapshot.issuers().issuers().iter().filter(|issuer| !issuer.has_keys()) {
                check(format!("issuer:{}", issuer.rules().name), false, Some("no keys to verify with".to_owned()));
            }
            // An issuer that is down, or a provider without its key, takes only its own callers with it.
            let needed = |check: &&Check| !check.name.contains(':');
            let ready = checks.iter().filter(needed).all(|check| check.ok);
            Readiness { ready, checks }
        })
    }
}

/// Of each pinned host, whether apps accept what this node shows, as a check that keeps nobody away.
fn checks_of_pins(
    fits: Result<Vec<control::operations::PinFit>, OperationError>,
    check: &mut impl FnMut(String, bool, Option<String>),
) {
    for fit in fits.unwrap_or_default() {
        let refused: Vec<&str> = fit.refused_by.iter().map(Name::as_str).collect();
        let detail = match refused.as_slice() {
            [] => format!("apps accept {}", fit.shown),
            apps => format!("{} is refused by {}, which is told of other keys only", fit.shown, apps.join(", ")),
        };
        check(format!("pins:{}", fit.host), refused.is_empty(), Some(detail));
    }
}
