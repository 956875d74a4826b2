//! One compiled policy. Deciding and explaining ask the same questions of it, so they cannot disagree.

use std::sync::Arc;

use base::{Name, Timestamp};
use config::{AttestationLevel, Bound, Cidr, EvidenceKind, OneOrMany, Pattern, Per, Policy, Rate, TimeWindow};

use crate::PolicyFault;
use crate::ask::{Ask, Caller, Target, Tools};
use crate::fund::Fund;
use crate::glob::{Glob, is_normal};
use crate::passthrough::Opening;
use crate::world::World;

/// A compiled policy.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: Name,
    pub(crate) rates: Box<[Rate]>,
    /// Whether one of them counts separately what is asked for.
    pub(crate) counts_targets: bool,
    pub(crate) max_output_tokens: Option<u64>,
    pub(crate) funds: Box<[Arc<Fund>]>,
    /// As written, for explanations.
    pub(crate) source: Policy,
    pub(crate) caller_tags: Box<[Glob]>,
    issuer: Box<[Glob]>,
    client: Box<[Glob]>,
    subject: Box<[Glob]>,
    scope: Box<[Box<str>]>,
    groups: Box<[Glob]>,
    key: Box<[Glob]>,
    ip: Box<[Cidr]>,
    time: Box<[TimeWindow]>,
    bound: Box<[Bound]>,
    attested: Box<[EvidenceKind]>,
    level: Option<AttestationLevel>,
    annotations: Box<[Glob]>,
    not_annotated: Box<[Glob]>,
    models: Box<[Glob]>,
    services: Box<[Glob]>,
    upstreams: Box<[Glob]>,
    openings: Box<[(Name, Opening)]>,
    tools: ToolRule,
}

#[derive(Debug)]
enum ToolRule {
    All,
    Never,
    Named(Box<[Glob]>),
}

impl Caller<'_> {
    /// Whether its token has an annotation that one of these matches.
    fn annotated(&self, globs: &[Glob]) -> bool {
        let Some(attested) = self.attested.filter(|_| !globs.is_empty()) else { return false };
        attested.annotations.iter().filter_map(serde_json::Value::as_str).any(|annotation| any(globs, annotation))
    }
}

/// The questions a rule asks, cheapest and most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Key,
    Issuer,
    Client,
    Subject,
    Scope,
    Groups,
    Ip,
    Time,
    Bound,
    Attested,
    Level,
    Annotations,
    NotAnnotated,
    Target,
    Tools,
    MaxOutputTokens,
}

impl Condition {
    /// Those about the caller.
    pub(crate) const WHO: [Self; 13] = [
        Self::Key,
        Self::Issuer,
        Self::Client,
        Self::Subject,
        Self::Scope,
        Self::Groups,
        Self::Ip,
        Self::Time,
        Self::Bound,
        Self::Attested,
        Self::Level,
        Self::Annotations,
        Self::NotAnnotated,
    ];
    /// Those about what is asked for.
    pub(crate) const MAY: [Self; 3] = [Self::Target, Self::Tools, Self::MaxOutputTokens];
}

impl Rule {
    pub(crate) fn compile(policy: &Policy, world: &World) -> Result<Self, PolicyFault> {
        let who = &policy.who;
        let mut openings = Vec::new();
        for pattern in policy.may.providers.iter() {
            let glob = Glob::new(pattern);
            for provider in world.providers.iter().filter(|provider| glob.matches(provider.name.as_str())) {
                openings.extend(Opening::inference(provider).into_iter().map(|o| (provider.name.clone(), o)));
            }
        }
        for listed in &policy.may.passthrough {
            if !world.providers.iter().any(|provider| provider.name == listed.provider) {
                return Err(PolicyFault::UnknownProvider {
                    policy: policy.name.clone(),
                    provider: listed.provider.clone(),
                });
            }
            openings.push((listed.provider.clone(), Opening::listed(listed)));
        }
        Ok(Self {
            name: policy.name.clone(),
            rates: policy.rate.clone().into(),
            counts_targets: policy
                .rate
                .iter()
                .any(|rate| matches!(rate.per(), Per::Model | Per::Service | Per::Upstream | Per::Provider)),
            max_output_tokens: policy.may.max_output_tokens,
            funds: Fund::of(policy, &world.budgets),
            issuer: globs(&who.issuer),
            client: globs(&who.client),
            subject: globs(&who.subject),
            scope: who.scope.iter().map(|scope| Box::from(scope.as_str())).collect(),
            groups: globs(&who.groups),
            key: globs(&who.key),
            ip: who.ip.to_vec().into(),
            time: who.time.to_vec().into(),
            bound: who.bound.to_vec().into(),
            attested: who.attested.to_vec().into(),
            level: who.level,
            annotations: globs(&who.annotations),
            not_annotated: globs(&who.not_annotated),
            models: globs(&policy.may.models),
            services: globs(&policy.may.services),
            upstreams: globs(&policy.may.upstreams),
            openings: openings.into(),
            tools: match &policy.may.tools {
                config::Tools::All(true) => ToolRule::All,
                config::Tools::All(false) => ToolRule::Never,
                config::Tools::Named(names) => ToolRule::Named(names.iter().map(Glob::new).collect()),
            },
            source: policy.clone(),
            caller_tags: globs(&policy.caller_tags),
        })
    }

    /// Whether every condition holds.
    pub(crate) fn matches(&self, caller: &Caller<'_>, ask: &Ask<'_>) -> bool {
        self.who_matches(caller, ask.now) && Condition::MAY.into_iter().all(|c| self.may_holds(c, ask))
    }

    /// Whether every condition on the caller holds.
    pub(crate) fn who_matches(&self, caller: &Caller<'_>, now: Timestamp) -> bool {
        Condition::WHO.into_iter().all(|c| self.who_holds(c, caller, now))
    }

    /// Whether one condition on the caller holds. One that is not set does, save that a `vg_` key needs a rule
    /// that names it, and a rule that names keys needs a key.
    pub(crate) fn who_holds(&self, condition: Condition, caller: &Caller<'_>, now: Timestamp) -> bool {
        match condition {
            Condition::Key => match (&*self.key, caller.key) {
                ([], None) => true,
                (_, None) | ([], Some(_)) => false,
                (globs, Some(key)) => any(globs, key.as_str()),
            },
            Condition::Issuer => unset_or_any(&self.issuer, Some(caller.issuer)),
            Condition::Client => unset_or_any(&self.client, caller.client),
            Condition::Subject => unset_or_any(&self.subject, Some(caller.subject)),
            Condition::Scope => self.missing_scopes(caller).next().is_none(),
            Condition::Groups => self.groups.is_empty() || caller.groups.iter().any(|group| any(&self.groups, group)),
            Condition::Ip => self.ip.is_empty() || self.ip.iter().any(|range| range.contains(caller.ip)),
            Condition::Time => self.time.is_empty() || self.time.iter().any(|window| window.contains(now)),
            Condition::Bound => self.bound.is_empty() || self.bound.iter().any(|proof| caller.bound.has(*proof)),
            Condition::Attested => {
                let shown = |kind: &EvidenceKind| caller.attested.is_some_and(|attested| attested.showed(*kind));
                self.attested.is_empty() || self.attested.iter().any(shown)
            }
            Condition::Level => {
                self.level.is_none_or(|least| caller.attested.is_some_and(|shown| shown.level >= least))
            }
            Condition::Annotations => self.annotations.is_empty() || caller.annotated(&self.annotations),
            Condition::NotAnnotated => !caller.annotated(&self.not_annotated),
            Condition::Target | Condition::Tools | Condition::MaxOutputTokens => true,
        }
    }

    /// The scopes the rule wants and the caller lacks.
    pub(crate) fn missing_scopes(&self, caller: &Caller<'_>) -> impl Iterator<Item = &str> {
        self.scope.iter().map(|wanted| &**wanted).filter(|wanted| !caller.scopes.iter().any(|scope| scope == wanted))
    }

    /// Whether one condition on what is asked for holds. Tools and output tokens concern everything but an upstream,
    /// which is no model.
    pub(crate) fn may_holds(&self, condition: Condition, ask: &Ask<'_>) -> bool {
        let speaks_to_model = !matches!(ask.target, Target::Upstream(_));
        match condition {
            Condition::Target => self.allows_target(ask.target),
            Condition::Tools if speaks_to_model => match (&self.tools, ask.tools) {
                (_, Tools::None) | (ToolRule::All, _) => true,
                (ToolRule::Named(globs), Tools::Named(names)) => {
                    !names.is_empty() && names.iter().all(|name| any(globs, name))
                }
                (ToolRule::Never, _) | (ToolRule::Named(_), Tools::Unknown) => false,
            },
            Condition::MaxOutputTokens if speaks_to_model => match (self.max_output_tokens, ask.max_output_tokens) {
                (None, _) => true,
                (Some(most), Some(asked)) => ask.inspected && asked <= most,
                (Some(_), None) => ask.inspected,
            },
            _ => true,
        }
    }

    /// Whether one of the lists names the target.
    pub(crate) fn allows_target(&self, target: Target<'_>) -> bool {
        match target {
            Target::Model(model) => any(&self.models, model),
            Target::Service(service) => any(&self.services, service),
            Target::Upstream(upstream) => any(&self.upstreams, upstream),
            Target::Own { .. } if !self.models.is_empty() => true,
            Target::Own { name, method, path } => {
                self.allows_target(Target::Provider { name, method, path, model: None })
            }
            Target::Provider { name, method, path, model } => {
                is_normal(path)
                    && self
                        .openings
                        .iter()
                        .any(|(provider, opening)| provider.as_str() == name && opening.admits(method, path, model))
            }
        }
    }
}

pub(crate) fn globs(patterns: &OneOrMany<Pattern>) -> Box<[Glob]> {
    patterns.iter().map(Glob::new).collect()
}

pub(crate) fn any(globs: &[Glob], text: &str) -> bool {
    globs.iter().any(|glob| glob.matches(text))
}

pub(crate) fn unset_or_any(globs: &[Glob], text: Option<&str>) -> bool {
    globs.is_empty() || text.is_some_and(|text| any(globs, text))
}
