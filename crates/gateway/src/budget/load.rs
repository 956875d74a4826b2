//! What a request asks to have done, as far as it costs, and where.

use std::sync::Arc;

use llm::bound::Brought;
use llm::passthrough::Peek;
use policy::Aim;

use crate::snapshot::ModelTarget;

/// What a request asks to have done, as far as it costs.
#[derive(Debug, Clone)]
pub(crate) enum Load {
    /// Something providers do not charge.
    Free,
    /// Reading, and as a rule generating.
    Tokens(Tokens),
    /// Pictures, `count` of them.
    Pictures { count: u64, size: Option<String>, quality: Option<String>, tokens: Tokens },
    /// Text to be spoken.
    Speech { characters: u64, tokens: Tokens },
    /// Sound to be understood, so many bytes or milliseconds of it.
    Sound { bytes: u64, millis: Option<u64> },
    /// What nobody here knows: only a price for each request can be charged.
    Opaque,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Tokens {
    /// What the request brings; `None`: it cannot be read.
    pub(crate) brought: Option<Brought>,
    /// Whether anything is generated.
    pub(crate) generates: bool,
    /// The bound on each answer that the request has.
    pub(crate) asked: Option<u64>,
    /// How many answers.
    pub(crate) answers: u64,
    /// Whether something is generated whose bound cannot be set: then it is as much as fits.
    pub(crate) unbounded: bool,
    /// Whether each answer may take all that fits into the model once more: a session's.
    pub(crate) session: bool,
}

impl Tokens {
    /// A request that is only read.
    pub(crate) fn read(body: &[u8]) -> Self {
        Self { brought: Brought::of(body), answers: 1, ..Self::default() }
    }

    /// A request that is answered, within `asked` tokens each.
    pub(crate) fn answered(body: &[u8], asked: Option<u64>, answers: u64) -> Self {
        Self { generates: true, asked, answers: answers.max(1), ..Self::read(body) }
    }

    /// The same of a request that has been looked at.
    pub(crate) fn seen(seen: &Peek) -> Self {
        let answers = seen.answers.max(1);
        Self { brought: Some(seen.brought), generates: true, asked: seen.max_output_tokens, answers, ..Self::default() }
    }
}

/// Where a call goes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    pub(crate) asked: Option<Arc<str>>,
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) service: Option<Arc<str>>,
    pub(crate) upstream: Option<Arc<str>>,
}

impl Place {
    /// There.
    pub(crate) fn at(target: &ModelTarget) -> Self {
        let (provider, model) = match target {
            ModelTarget::Echo => (Arc::from(config::OWN_NAME), Arc::from(target.model())),
            ModelTarget::Remote(provider, model) => (provider.name.to_shared(), Arc::clone(model)),
        };
        Self { provider: Some(provider), model: Some(model), ..Self::default() }
    }

    pub(crate) fn aim(&self) -> Aim<'_> {
        Aim {
            asked: self.asked.as_deref(),
            provider: self.provider.as_deref(),
            model: self.model.as_deref(),
            service: self.service.as_deref(),
            upstream: self.upstream.as_deref(),
        }
    }
}
