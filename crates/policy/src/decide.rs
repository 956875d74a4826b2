//! The decision: [`Permit`] or [`Denial`].

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base::{Name, Span, Timestamp};
use config::{Bound, OnRevocation, Per, Policy, Rate, RiskThrottle};

use crate::ask::{Ask, Caller, Target};
use crate::fund::Fund;
use crate::rule::{Condition, Rule, any};
use crate::world::World;

/// All policies, compiled. Immutable.
#[derive(Debug, Default)]
pub struct Policies {
    pub(crate) rules: Vec<Arc<Rule>>,
    world: World,
}

/// Why a set of policies does not compile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// Two policies with one name: decisions could not be told apart.
    #[error("there are two policies called {0}")]
    DuplicateName(Name),
    /// A passthrough to a provider there is not.
    #[error("policy {policy} names provider {provider}, which there is not")]
    UnknownProvider {
        /// The policy.
        policy: Name,
        /// The provider it names.
        provider: Name,
    },
}

impl PolicyFault {
    /// A stable code, for logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::DuplicateName(_) => "duplicate_name",
            Self::UnknownProvider { .. } => "unknown_reference",
        }
    }
}

/// Compile a set of policies: their order is the order of the decision. Says everything that is wrong.
pub fn compile(policies: &[Policy], world: &World) -> Result<Policies, Vec<PolicyFault>> {
    let mut faults = Vec::new();
    let mut rules: Vec<Arc<Rule>> = Vec::with_capacity(policies.len());
    for (index, policy) in policies.iter().enumerate() {
        if policies.iter().take(index).any(|before| before.name == policy.name) {
            faults.push(PolicyFault::DuplicateName(policy.name.clone()));
        }
        match Rule::compile(policy, world) {
            Ok(rule) => rules.push(Arc::new(rule)),
            Err(fault) => faults.push(fault),
        }
    }
    if faults.is_empty() { Ok(Policies { rules, world: world.clone() }) } else { Err(faults) }
}

/// Leave to go on, and under which limits. Only [`Policies::decide`] makes one:
///
/// ```
/// use policy::{Ask, Caller, Denial, Permit, Policies};
/// fn ask_first(policies: &Policies, caller: &Caller<'_>, ask: &Ask<'_>) -> Result<Permit, Denial> {
///     policies.decide(caller, ask)
/// }
/// ```
///
/// ```compile_fail,E0451
/// fn help_oneself() -> policy::Permit {
///     policy::Permit { rule: loop {}, throttle: None, target: None }
/// }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a permit is leave to do something"]
pub struct Permit {
    rule: Arc<Rule>,
    throttle: Option<Arc<Throttled>>,
    target: Option<Arc<PermittedTarget>>,
}

/// What a permit is for, where a limit counts it separately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PermittedTarget {
    /// A model, by the name the client used.
    Model(Box<str>),
    /// A service, by name.
    Service(Box<str>),
    /// An upstream, by name.
    Upstream(Box<str>),
    /// A provider's own API, and the model that the call names.
    Provider {
        /// The provider's name.
        name: Box<str>,
        /// The model.
        model: Option<Box<str>>,
    },
}

impl PermittedTarget {
    fn of(target: Target<'_>) -> Self {
        match target {
            Target::Model(name) => Self::Model(name.into()),
            Target::Service(name) => Self::Service(name.into()),
            Target::Upstream(name) => Self::Upstream(name.into()),
            Target::Provider { name, model, .. } => Self::Provider { name: name.into(), model: model.map(Into::into) },
            Target::Own { name, .. } => Self::Provider { name: name.into(), model: None },
        }
    }
}

/// The limits of a rule with those that the caller's token brings.
#[derive(Debug)]
struct Throttled {
    rates: Box<[Rate]>,
    funds: Box<[Arc<Fund>]>,
}

/// A minute, and a little more: the limiter counts by window, and this is another limit than a rule's own of a minute.
const THROTTLE_WINDOW: Span = Span::new(Duration::from_millis(60_001));

impl Throttled {
    fn new(rule: &Rule, throttle: RiskThrottle) -> Self {
        let rate = throttle.rpm.map(|requests| Rate::Requests { requests, per: Per::Subject, window: THROTTLE_WINDOW });
        let fund = throttle.usd_day.map(|limit| Arc::new(Fund::throttle(limit)));
        Self {
            rates: rule.rates.iter().cloned().chain(rate).collect(),
            funds: rule.funds.iter().cloned().chain(fund).collect(),
        }
    }
}

impl Permit {
    /// The policy that allowed it.
    pub fn policy(&self) -> &Name {
        &self.rule.name
    }

    /// The most output tokens the request may ask for; to be set in one that asks for no number.
    pub fn max_output_tokens(&self) -> Option<u64> {
        self.rule.max_output_tokens
    }

    /// Limits on how often. All of them apply.
    pub fn rates(&self) -> &[Rate] {
        self.throttle.as_ref().map_or(&self.rule.rates, |throttled| &throttled.rates)
    }

    /// What it is for, where one of its limits counts that separately.
    pub fn target(&self) -> Option<&PermittedTarget> {
        self.target.as_deref()
    }

    /// What it is paid from: the policy's own limits first, then every budget that may count it.
    pub fn funds(&self) -> &[Arc<Fund>] {
        self.throttle.as_ref().map_or(&self.rule.funds, |throttled| &throttled.funds)
    }

    /// What the policy says its requests are for.
    pub fn tags(&self) -> &[String] {
        &self.rule.source.tags
    }

    /// The tag its caller gives the request, if it may give this one.
    pub fn caller_tag<'t>(&self, given: &'t str) -> Option<&'t str> {
        any(&self.rule.caller_tags, given).then_some(given)
    }

    /// Whether the token this request came with must be remembered and never taken again.
    pub fn single_use(&self) -> bool {
        self.rule.source.single_use
    }

    /// Whether the answer is to be cut when the token is revoked meanwhile.
    pub fn cut_on_revocation(&self) -> bool {
        self.rule.source.on_revocation == OnRevocation::Cut
    }
}

/// No leave, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    /// A stable code: see [`Denial::code`]'s values in docs/policy.md.
    pub code: &'static str,
    /// The policy that came nearest, if one matched all but what the code names. For logs, not for callers.
    pub policy: Option<Name>,
    /// What the caller is told.
    pub message: Cow<'static, str>,
    /// With `insufficient_scope`: the scopes that would be needed (RFC 6750 section 3.1).
    pub missing_scopes: Vec<String>,
    /// With `proof_required`: the proofs any one of which would do.
    pub missing_proofs: Vec<Bound>,
}

impl Denial {
    /// The code, for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        self.code
    }
}

impl Policies {
    /// Decide: the first policy whose `who` and `may` both match gives leave; without one there is none.
    pub fn decide(&self, caller: &Caller<'_>, ask: &Ask<'_>) -> Result<Permit, Denial> {
        match self.rules.iter().find(|rule| rule.matches(caller, ask)) {
            Some(rule) => {
                let throttle = caller.attested.and_then(|attested| attested.throttle);
                let throttle = throttle.map(|throttle| Arc::new(Throttled::new(rule, throttle)));
                let target = rule.counts_targets.then(|| Arc::new(PermittedTarget::of(ask.target)));
                Ok(Permit { rule: Arc::clone(rule), throttle, target })
            }
            None => Err(self.denial(caller, ask)),
        }
    }

    /// The models with a name of their own that the caller may use at `now`, in the order they were configured.
    pub fn visible_models<'s>(&'s self, caller: &Caller<'_>, now: Timestamp) -> Vec<&'s Name> {
        self.visible(&self.world.models, caller, now, Target::Model)
    }

    /// The services the caller may use at `now`.
    pub fn visible_services<'s>(&'s self, caller: &Caller<'_>, now: Timestamp) -> Vec<&'s Name> {
        self.visible(&self.world.services, caller, now, Target::Service)
    }

    /// Whether any policy names `vg_` keys: without one they are off.
    pub fn keys_are_used(&self) -> bool {
        self.rules.iter().any(|rule| !rule.source.who.key.is_empty())
    }

    fn visible<'s>(
        &'s self,
        names: &'s [Name],
        caller: &Caller<'_>,
        now: Timestamp,
        target: fn(&'s str) -> Target<'s>,
    ) -> Vec<&'s Name> {
        let rules: Vec<&Arc<Rule>> = self.rules.iter().filter(|rule| rule.who_matches(caller, now)).collect();
        names.iter().filter(|name| rules.iter().any(|rule| rule.allows_target(target(name.as_str())))).collect()
    }

    /// Say why not: by the policy that lacks one thing only, so that the caller learns what to change, and
    /// otherwise by what was asked for.
    fn denial(&self, caller: &Caller<'_>, ask: &Ask<'_>) -> Denial {
        for rule in &self.rules {
            let (mut who, mut may) = (failed_who(rule, caller, ask.now), failed_may(rule, ask));
            match (who.next(), who.next(), may.next(), may.next()) {
                (None, _, Some(Condition::Tools), None) => {
                    return near(rule, "tools_not_allowed", "These tools may not be used here.");
                }
                (None, _, Some(Condition::MaxOutputTokens), None) => return near_limit(rule),
                (Some(Condition::Scope), None, None, _) => return near_scope(rule, caller),
                (Some(Condition::Bound), None, None, _) => return near_proof(rule),
                _ => {}
            }
        }
        let (code, message) = match ask.target {
            Target::Model(name) => ("model_not_allowed", format!("use the model {:?}", shown(name))),
            Target::Service(name) => ("service_not_allowed", format!("use the service {:?}", shown(name))),
            Target::Upstream(name) => ("upstream_not_allowed", format!("use {:?}", shown(name))),
            Target::Provider { name, .. } | Target::Own { name, .. } => {
                ("path_not_allowed", format!("make this call to the provider {:?}", shown(name)))
            }
        };
        let message = format!("No policy lets this caller {message}.");
        Denial { code, policy: None, message: message.into(), missing_scopes: Vec::new(), missing_proofs: Vec::new() }
    }
}

/// A name from outside, short enough to repeat.
fn shown(name: &str) -> &str {
    name.char_indices().nth(80).and_then(|(end, _)| name.get(..end)).unwrap_or(name)
}

fn failed_who(rule: &Rule, caller: &Caller<'_>, now: Timestamp) -> impl Iterator<Item = Condition> {
    Condition::WHO.into_iter().filter(move |c| !rule.who_holds(*c, caller, now))
}

fn failed_may(rule: &Rule, ask: &Ask<'_>) -> impl Iterator<Item = Condition> {
    Condition::MAY.into_iter().filter(move |c| !rule.may_holds(*c, ask))
}

fn near(rule: &Rule, code: &'static str, message: impl Into<Cow<'static, str>>) -> Denial {
    Denial {
        code,
        policy: Some(rule.name.clone()),
        message: message.into(),
        missing_scopes: Vec::new(),
        missing_proofs: Vec::new(),
    }
}

fn near_limit(rule: &Rule) -> Denial {
    let message: Cow<'static, str> = match rule.max_output_tokens {
        Some(most) => format!("A request here may ask for at most {most} output tokens.").into(),
        None => "The number of output tokens is not allowed here.".into(),
    };
    near(rule, "max_output_tokens_exceeded", message)
}

fn near_scope(rule: &Rule, caller: &Caller<'_>) -> Denial {
    let missing: Vec<String> = rule.missing_scopes(caller).map(str::to_owned).collect();
    let message = format!("The token lacks the scope {:?}.", missing.join(" "));
    Denial { missing_scopes: missing, ..near(rule, "insufficient_scope", message) }
}

fn near_proof(rule: &Rule) -> Denial {
    let wanted = rule.source.who.bound.to_vec();
    let words: Vec<&str> = wanted.iter().map(|proof| proof.as_str()).collect();
    let message =
        format!("The request has to prove that its sender holds what the token is bound to: {}.", words.join(" or "));
    Denial { missing_proofs: wanted, ..near(rule, "proof_required", message) }
}
