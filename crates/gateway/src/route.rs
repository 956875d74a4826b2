//! Which targets may answer, in which order, and when another one is tried.

mod explain;
mod facts;
mod order;

use std::sync::Arc;
use std::time::Duration;

use base::{Problem, Rng};
use config::Strategy;
use http::StatusCode;
use net::Deadlines;
use policy::Permit;

pub use self::explain::{Explained, ExplainedKey, ExplainedTarget, Question, explain};
pub(crate) use self::facts::{Conditions, Facts};
use self::order::{order, shadows};
use crate::authenticate::Caller;
use crate::health::{Choice, TargetState};
use crate::metrics::Label;
use crate::snapshot::{Hedging, Model, ModelTarget, Provider, Route, Snapshot};

/// How long a caller is kept waiting where the configuration says nothing: as long as `OpenAI`'s SDKs wait.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

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

    /// The targets in the order in which they are tried for a request of this caller's, and how one of several keys is chosen.
    pub(crate) fn order<'r>(&self, facts: &Facts<'_>, caller: &Caller, rng: &'r dyn Rng) -> (Vec<usize>, Choice<'r>) {
        let Targets::Configured(model) = &self.targets else { return (vec![0], Choice { sticky: None, rng }) };
        let sticky = model.sticky.as_ref().and_then(|by| facts.sticky(by, caller));
        let choice = Choice { sticky, rng };
        let plain = model.strategy == Strategy::Fallback && model.routes.iter().all(Route::is_plain);
        if plain {
            return ((0..model.targets.len()).collect(), choice);
        }
        let now = self.targets().iter().find_map(ModelTarget::now).unwrap_or(0);
        (order(model, facts, caller.client(), (choice, now)).tried, choice)
    }

    /// Whether the `index`-th target gets copies only.
    pub(crate) fn is_shadow(&self, index: usize) -> bool {
        match &self.targets {
            Targets::Configured(model) => model.routes.get(index).is_some_and(|route| route.shadow.is_some()),
            Targets::Direct(_) => false,
        }
    }

    /// Whether any target gets copies of requests.
    pub(crate) fn has_shadows(&self) -> bool {
        match &self.targets {
            Targets::Configured(model) => model.routes.iter().any(|route| route.shadow.is_some()),
            Targets::Direct(_) => false,
        }
    }

    /// The targets that get a copy of a request of this caller's.
    pub(crate) fn shadows(&self, facts: &Facts<'_>, caller: &Caller, rng: &dyn Rng) -> Vec<usize> {
        let Targets::Configured(model) = &self.targets else { return Vec::new() };
        let sticky = model.sticky.as_ref().and_then(|by| facts.sticky(by, caller));
        shadows(model, facts, caller.client(), Choice { sticky, rng })
    }

    /// How the `index`-th target has been doing, where the configuration names it.
    pub(crate) fn state(&self, index: usize) -> Option<&Arc<TargetState>> {
        match &self.targets {
            Targets::Configured(model) => model.states.get(index)?.as_ref(),
            Targets::Direct(_) => None,
        }
    }

    /// The most calls at once to the `index`-th target.
    pub(crate) fn concurrency(&self, index: usize) -> Option<u32> {
        match &self.targets {
            Targets::Configured(model) => model.routes.get(index)?.concurrency,
            Targets::Direct(_) => None,
        }
    }

    /// When another target is asked beside the first, if ever.
    pub(crate) fn hedging(&self) -> Option<&Hedging> {
        match &self.targets {
            Targets::Configured(model) => model.hedging.as_ref(),
            Targets::Direct(_) => None,
        }
    }

    /// The most attempts for one request, the first among them.
    pub(crate) fn attempts(&self) -> u32 {
        match &self.targets {
            Targets::Configured(model) => model.attempts,
            Targets::Direct(_) => 1,
        }
    }

    /// How long the caller is kept waiting: until a stream begins, or for the whole of an answer that is none.
    pub(crate) fn total(&self) -> Duration {
        match &self.targets {
            Targets::Configured(model) => model.timeout.total.map_or(LONGEST_WAIT, base::Span::duration),
            Targets::Direct(_) => LONGEST_WAIT,
        }
    }

    /// Whether what a target cannot express may be left out, as far as that is possible.
    pub(crate) fn drops_unsupported(&self) -> bool {
        match &self.targets {
            Targets::Configured(model) => model.on_unsupported == config::OnUnsupported::Drop,
            Targets::Direct(_) => false,
        }
    }

    /// Whether an answer with this status lets another target try.
    pub(crate) fn retries_on(&self, status: StatusCode) -> bool {
        match &self.targets {
            Targets::Configured(model) => model.retry_on.contains(&status.as_u16()),
            Targets::Direct(_) => false,
        }
    }

    /// How long each step of an attempt at a target may take.
    pub(crate) fn deadlines(&self, index: usize, provider: &Provider) -> Deadlines {
        let Targets::Configured(model) = &self.targets else { return provider.deadlines };
        let own = model.routes.get(index).map(|route| &route.timeout);
        let or = |of: fn(&config::Timeout) -> Option<base::Span>, general: Duration| {
            own.and_then(of).or_else(|| of(&model.timeout)).map_or(general, base::Span::duration)
        };
        let general = provider.deadlines;
        Deadlines {
            connect: or(|timeout| timeout.connect, general.connect),
            tls: or(|timeout| timeout.connect, general.tls),
            first_byte: or(|timeout| timeout.first_byte, general.first_byte),
            idle: or(|timeout| timeout.idle, general.idle),
        }
    }

    /// How long one attempt at a target may take, where the configuration says.
    pub(crate) fn attempt_total(&self, index: usize) -> Option<Duration> {
        let Targets::Configured(model) = &self.targets else { return None };
        model.routes.get(index)?.timeout.total.map(base::Span::duration)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(targets: usize, attempts: u32) -> Plan {
        let model = Model {
            name: base::Name::new("fast").expect("name"),
            targets: vec![ModelTarget::Echo; targets],
            states: vec![None; targets],
            routes: Vec::new(),
            strategy: Strategy::Fallback,
            sticky: None,
            hedging: None,
            attempts,
            retry_on: vec![429, 503],
            timeout: config::Timeout::default(),
            cache: None,
            on_unsupported: config::OnUnsupported::Refuse,
        };
        Plan { targets: Targets::Configured(Arc::new(model)), label: Label::Fixed("fast") }
    }

    #[test]
    fn only_listed_statuses_let_another_target_try() {
        let configured = plan(1, 3);
        assert!(
            configured.retries_on(StatusCode::TOO_MANY_REQUESTS) && !configured.retries_on(StatusCode::BAD_REQUEST)
        );
        let direct = Plan { targets: Targets::Direct(ModelTarget::Echo), label: Label::Fixed("direct") };
        assert!(!direct.retries_on(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!((direct.attempts(), configured.attempts()), (1, 3));
    }
}
