//! What a request counts for besides its caller: found out once, where a limit of its policy counts it separately.

use std::sync::Arc;

use config::{Per, Rate};
use llm::catalogue::Catalogue;
use policy::{Permit, PermittedTarget};

use crate::authenticate::Caller;
use crate::snapshot::Snapshot;

/// Whom and what a request counts for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counts<'a> {
    pub(super) caller: &'a Caller,
    apart: Option<&'a Apart>,
    when: When<'a>,
}

/// When a request is counted, and so which limits of its policy count it: which provider is asked is known only after it was let in.
#[derive(Debug, Clone, Copy)]
enum When<'a> {
    /// As it is let in: all limits but those per provider.
    LetIn,
    /// As it is let in, and no provider is asked: all of them.
    Elsewhere,
    /// As this provider is asked: those per provider.
    Asked(&'a str),
    /// Within a session with this provider: all of them.
    Within(&'a str),
}

/// What it counts for besides its caller.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Apart {
    organisation: Option<String>,
    project: Option<String>,
    device: Option<String>,
    model: Option<String>,
    service: Option<String>,
    upstream: Option<String>,
    tag: Option<String>,
    /// Whether no provider answers it.
    elsewhere: bool,
}

impl<'a> Counts<'a> {
    /// As it is let in.
    pub(crate) fn new(caller: &'a Caller, apart: Option<&'a Apart>) -> Self {
        let elsewhere = apart.is_some_and(|apart| apart.elsewhere);
        Self { caller, apart, when: if elsewhere { When::Elsewhere } else { When::LetIn } }
    }

    /// As this provider is asked.
    pub(crate) fn asked(caller: &'a Caller, provider: &'a str) -> Self {
        Self { caller, apart: None, when: When::Asked(provider) }
    }

    /// Within a session with this provider.
    pub(crate) fn within(self, provider: &'a str) -> Self {
        Self { when: When::Within(provider), ..self }
    }

    /// Whether this limit counts it now.
    pub(super) fn is_for(&self, rate: &Rate) -> bool {
        match self.when {
            When::LetIn => rate.per() != Per::Provider,
            When::Asked(_) => rate.per() == Per::Provider,
            When::Elsewhere | When::Within(_) => true,
        }
    }

    /// What tells this request from others that the same limit counts; nothing where it has none of it.
    pub(super) fn part(&self, per: Per) -> &'a str {
        if let (Per::Provider, When::Asked(provider) | When::Within(provider)) = (per, self.when) {
            return provider;
        }
        let Some(apart) = self.apart else { return "" };
        let part = match per {
            Per::Organisation => &apart.organisation,
            Per::Project => &apart.project,
            Per::Device => &apart.device,
            Per::Model => &apart.model,
            Per::Service => &apart.service,
            Per::Upstream => &apart.upstream,
            Per::Tag => &apart.tag,
            Per::Subject | Per::Client | Per::Policy | Per::Ip | Per::Key | Per::Provider => &None,
        };
        part.as_deref().unwrap_or_default()
    }
}

impl Apart {
    /// What the limits of `permit` count; nothing where they count the caller only. `tag`: the one its caller gives it.
    pub(crate) fn of(
        permit: &Permit,
        (snapshot, caller): (&Snapshot, &Caller),
        tag: Option<&str>,
    ) -> Option<Arc<Self>> {
        let counts = |wanted: Per| permit.rates().iter().any(|rate| rate.per() == wanted);
        let any = permit.rates().iter().any(|rate| is_apart(rate.per()));
        if !any {
            return None;
        }
        let mut apart = Self::default();
        if counts(Per::Organisation) || counts(Per::Project) {
            (apart.organisation, apart.project) = snapshot.membership.find(caller);
        }
        if counts(Per::Device) {
            apart.device = caller.device();
        }
        if counts(Per::Tag) {
            apart.tag = tag.and_then(|given| permit.caller_tag(given)).map(str::to_owned);
        }
        match permit.target() {
            Some(PermittedTarget::Model(name)) => apart.model = model(snapshot, name),
            Some(PermittedTarget::Service(name)) => apart.service = Some(name.to_string()),
            Some(PermittedTarget::Upstream(name)) => {
                (apart.upstream, apart.elsewhere) = (Some(name.to_string()), true);
            }
            Some(PermittedTarget::Provider { name, model: Some(named) }) => {
                apart.model = of_provider(snapshot, name, named);
            }
            Some(PermittedTarget::Provider { model: None, .. }) | None => {}
        }
        Some(Arc::new(apart))
    }
}

const fn is_apart(per: Per) -> bool {
    !matches!(per, Per::Subject | Per::Client | Per::Policy | Per::Ip | Per::Key)
}

/// What a model is counted as. Callers choose names: those that nobody has written down are counted together, so that they
/// neither fill the table nor begin anew with each name.
fn model(snapshot: &Snapshot, asked: &str) -> Option<String> {
    if snapshot.model(asked).is_some() || asked == config::ECHO_MODEL {
        return Some(asked.to_owned());
    }
    let (provider, model) = asked.split_once('/')?;
    of_provider(snapshot, provider, model)
}

fn of_provider(snapshot: &Snapshot, provider: &str, model: &str) -> Option<String> {
    let kind = snapshot.provider(provider)?.kind.as_str();
    let known = Catalogue::builtin().find(kind, model);
    Some(known.map_or_else(|| format!("{provider}/"), |entry| format!("{provider}/{}", entry.name)))
}
