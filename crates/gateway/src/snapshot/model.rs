//! Models as callers name them: who answers, in which order, and when another is asked.

use std::collections::HashMap;
use std::sync::Arc;

use base::{Money, Name};
use llm::catalogue::Price;

use super::{Provider, SnapshotError};
use crate::cache;
use crate::health::{Hedges, TargetState};
use crate::route::Conditions;

/// A model name and what stands behind it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: Name,
    pub(crate) targets: Vec<ModelTarget>,
    /// How each target has been doing; `None` for the built-in model.
    pub(crate) states: Vec<Option<Arc<TargetState>>>,
    /// What requests each target is for, and how often.
    pub(crate) routes: Vec<Route>,
    pub(crate) strategy: config::Strategy,
    pub(crate) sticky: Option<config::Sticky>,
    pub(crate) hedging: Option<Hedging>,
    pub(crate) attempts: u32,
    pub(crate) retry_on: Vec<u16>,
    pub(crate) timeout: config::Timeout,
    pub(crate) cache: Option<cache::Rules>,
    pub(crate) on_unsupported: config::OnUnsupported,
}

/// When another target is asked beside the first.
#[derive(Debug)]
pub(crate) struct Hedging {
    pub(crate) rules: config::Hedge,
    pub(crate) budget: Arc<Hedges>,
}

/// When and how a target is asked.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) when: Option<Conditions>,
    pub(crate) weight: u32,
    pub(crate) canary: Option<u32>,
    /// The share of the requests it gets a copy of.
    pub(crate) shadow: Option<f64>,
    /// The most calls at once.
    pub(crate) concurrency: Option<u32>,
    /// What its tokens cost, where that is known.
    pub(crate) price: Option<Price>,
    pub(crate) timeout: config::Timeout,
}

/// One way to answer.
#[derive(Debug, Clone)]
pub(crate) enum ModelTarget {
    /// The built-in model.
    Echo,
    /// A provider's model.
    Remote(Arc<Provider>, Arc<str>),
}

impl Route {
    fn of(config: &config::Target, target: &ModelTarget) -> Self {
        let price = match target {
            ModelTarget::Echo => Some(Price::flat(Money::ZERO, Money::ZERO)),
            ModelTarget::Remote(provider, model) => provider.figures(model).price,
        };
        Self {
            when: Conditions::compile(&config.when),
            weight: config.weight.unwrap_or(1),
            canary: config.canary,
            shadow: config.shadow.map(config::Share::as_f64),
            concurrency: config.concurrency,
            price,
            timeout: config.timeout.clone(),
        }
    }

    /// Whether it is for every request, in its turn.
    pub(crate) fn is_plain(&self) -> bool {
        self.when.is_none() && self.canary.is_none() && self.shadow.is_none()
    }
}

impl ModelTarget {
    /// The time as the states of providers count it.
    pub(crate) fn now(&self) -> Option<u64> {
        match self {
            Self::Echo => None,
            Self::Remote(provider, _) => Some(provider.keys.care().states.now()),
        }
    }

    /// Its provider, unless it is the built-in model.
    pub(crate) fn provider(&self) -> Option<&Arc<Provider>> {
        match self {
            Self::Echo => None,
            Self::Remote(provider, _) => Some(provider),
        }
    }

    /// The model as its provider calls it.
    pub(crate) fn model(&self) -> &str {
        match self {
            Self::Echo => "echo",
            Self::Remote(_, model) => model,
        }
    }

    /// What tells it from the others of a model, also after a restart.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Echo => config::ECHO_MODEL.to_owned(),
            Self::Remote(provider, model) => format!("{}/{model}", provider.name),
        }
    }
}

impl Model {
    pub(super) fn build(
        model: &config::Model,
        providers: &HashMap<Name, Arc<Provider>>,
    ) -> Result<Self, SnapshotError> {
        let targets: Result<Vec<ModelTarget>, SnapshotError> = model
            .targets
            .iter()
            .map(|target| {
                if target.provider.as_str() == config::OWN_NAME {
                    return Ok(ModelTarget::Echo);
                }
                let provider = providers.get(&target.provider).ok_or_else(|| SnapshotError::Resource {
                    kind: "model",
                    name: model.name.clone(),
                    reason: format!("there is no provider {}", target.provider),
                })?;
                Ok(ModelTarget::Remote(Arc::clone(provider), Arc::from(target.model.as_str())))
            })
            .collect();
        let targets = targets?;
        let known = targets.iter().find_map(ModelTarget::provider).map(|provider| &provider.keys.care().states);
        let hedging = model
            .hedge
            .as_ref()
            .zip(known)
            .map(|(rules, states)| Hedging { rules: rules.clone(), budget: states.hedges(&model.name) });
        let states = targets.iter().map(|target| match target {
            ModelTarget::Echo => None,
            ModelTarget::Remote(provider, model) => Some(provider.keys.care().states.target(&provider.name, model)),
        });
        Ok(Self {
            name: model.name.clone(),
            states: states.collect(),
            routes: model.targets.iter().zip(&targets).map(|(config, target)| Route::of(config, target)).collect(),
            strategy: model.strategy,
            sticky: model.sticky.clone(),
            hedging,
            targets,
            attempts: model.retry.attempts.max(1),
            retry_on: model.retry.on.clone(),
            timeout: model.timeout.clone(),
            cache: cache::Rules::of(model),
            on_unsupported: model.on_unsupported,
        })
    }
}
