//! Which targets may answer, in which order, and when another one is tried.

use std::sync::Arc;
use std::time::Duration;

use base::Problem;
use http::StatusCode;
use net::Deadlines;
use policy::Permit;

use crate::metrics::Label;
use crate::snapshot::{Model, ModelTarget, Provider, Snapshot};

/// The most a retry at the same target waits.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// What it waits the first time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// Where a permitted request may go. Only this module makes one, and only for a [`Permit`].
#[derive(Debug)]
pub(crate) struct Plan {
    targets: Targets,
    label: Label,
}

#[derive(Debug)]
enum Targets {
    /// A `[[model]]`.
    Configured(Arc<Model>),
    /// `provider/model`, as the caller wrote it: one target, one attempt.
    Direct(ModelTarget),
}

/// A model name that means nothing here.
#[derive(Debug, thiserror::Error)]
#[error("There is no model {0:?} here; name one of GET /v1/models, or PROVIDER/MODEL.")]
pub(crate) struct UnknownModel(String);

impl UnknownModel {
    pub(crate) fn problem(&self) -> Problem {
        Problem::client(StatusCode::NOT_FOUND, "model_not_found", self.to_string()).param("model")
    }
}

/// Find what stands behind a model name: a `[[model]]` first, then the built-in model, then `PROVIDER/MODEL`.
pub(crate) fn plan(snapshot: &Snapshot, _permit: &Permit, requested: &str) -> Result<Plan, UnknownModel> {
    if let Some(model) = snapshot.model(requested) {
        return Ok(Plan { label: Label::Named(model.name.clone()), targets: Targets::Configured(Arc::clone(model)) });
    }
    if requested == config::ECHO_MODEL {
        return Ok(Plan { label: Label::Fixed(config::ECHO_MODEL), targets: Targets::Direct(ModelTarget::Echo) });
    }
    let unknown = || UnknownModel(requested.chars().take(100).collect());
    let (provider, model) = requested.split_once('/').ok_or_else(unknown)?;
    let provider = snapshot.provider(provider).filter(|_| !model.is_empty()).ok_or_else(unknown)?;
    // The model's own name is the caller's to choose: it would make an unbounded label.
    let target = ModelTarget::Remote(Arc::clone(provider), Arc::from(model));
    Ok(Plan { label: Label::Fixed("direct"), targets: Targets::Direct(target) })
}

impl Plan {
    /// What the model is counted under.
    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// The targets, first choice first.
    pub(crate) fn targets(&self) -> &[ModelTarget] {
        match &self.targets {
            Targets::Configured(model) => &model.targets,
            Targets::Direct(target) => std::slice::from_ref(target),
        }
    }

    /// The target of the `attempt`-th attempt, counted from 0: round and round through all; `None` after the last.
    pub(crate) fn target(&self, attempt: usize) -> Option<&ModelTarget> {
        let targets = self.targets();
        if attempt >= self.attempts() {
            return None;
        }
        targets.get(attempt.checked_rem(targets.len())?)
    }

    fn attempts(&self) -> usize {
        match &self.targets {
            Targets::Configured(model) => usize::try_from(model.attempts).unwrap_or(1),
            Targets::Direct(_) => 1,
        }
    }

    /// How long to wait before the `attempt`-th attempt: not at all for a target not tried yet.
    pub(crate) fn pause(&self, attempt: usize) -> Duration {
        let rounds = attempt.checked_div(self.targets().len()).unwrap_or(0);
        match u32::try_from(rounds) {
            Ok(0) => Duration::ZERO,
            Ok(rounds) => FIRST_PAUSE.saturating_mul(1 << (rounds - 1).min(8)).min(LONGEST_PAUSE),
            Err(_) => LONGEST_PAUSE,
        }
    }

    /// Whether an answer with this status lets another target try.
    pub(crate) fn retries_on(&self, status: StatusCode) -> bool {
        match &self.targets {
            Targets::Configured(model) => model.retry_on.contains(&status.as_u16()),
            Targets::Direct(_) => false,
        }
    }

    /// How long each step of an attempt may take.
    pub(crate) fn deadlines(&self, provider: &Provider) -> Deadlines {
        let Targets::Configured(model) = &self.targets else { return provider.deadlines };
        let or = |own: Option<base::Span>, general: Duration| own.map_or(general, base::Span::duration);
        let general = provider.deadlines;
        Deadlines {
            connect: or(model.timeout.connect, general.connect),
            tls: or(model.timeout.connect, general.tls),
            first_byte: or(model.timeout.first_byte, general.first_byte),
            idle: or(model.timeout.idle, general.idle),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(targets: usize, attempts: u32) -> Plan {
        let model = Model {
            name: base::Name::new("fast").expect("name"),
            targets: vec![ModelTarget::Echo; targets],
            attempts,
            retry_on: vec![429, 503],
            timeout: config::Timeout::default(),
        };
        Plan { targets: Targets::Configured(Arc::new(model)), label: Label::Fixed("fast") }
    }

    #[test]
    fn attempts_go_round_and_wait_only_where_they_have_been() {
        let plan = plan(2, 5);
        assert_eq!((0..9).filter(|attempt| plan.target(*attempt).is_some()).count(), 5);
        let pauses: Vec<u128> = (0..5).map(|attempt| plan.pause(attempt).as_millis()).collect();
        assert_eq!(pauses, [0, 0, 200, 200, 400]);
        assert_eq!(plan.pause(1000), LONGEST_PAUSE);
    }

    #[test]
    fn only_listed_statuses_let_another_target_try() {
        let configured = plan(1, 3);
        assert!(
            configured.retries_on(StatusCode::TOO_MANY_REQUESTS) && !configured.retries_on(StatusCode::BAD_REQUEST)
        );
        let direct = Plan { targets: Targets::Direct(ModelTarget::Echo), label: Label::Fixed("direct") };
        assert!(!direct.retries_on(StatusCode::SERVICE_UNAVAILABLE));
        assert!(direct.target(0).is_some() && direct.target(1).is_none());
    }
}
