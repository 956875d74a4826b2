//! The decision, told policy by policy and condition by condition.

use base::Name;
use config::{Bound, OneOrMany, Rate};
use serde::Serialize;

use crate::ask::{Ask, Caller, Target, Tools};
use crate::decide::Policies;
use crate::rule::{Condition, Rule};

/// Why a request is allowed or not.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// The decision.
    pub allowed: bool,
    /// The policy that decided, or that came nearest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Name>,
    /// Without leave: the code of the denial.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// The decision in words.
    pub message: String,
    /// With leave: the most output tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// With leave: limits on how often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rate: Vec<Rate>,
    /// With leave: whether the token is taken once only.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub single_use: bool,
    /// With leave: whether the answer is cut when the token is revoked.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut_on_revocation: bool,
    /// Every policy, in order. The first that matches decides.
    pub policies: Vec<Verdict>,
}

/// What one policy says.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// The policy.
    pub policy: Name,
    /// Whether all its conditions hold.
    pub matches: bool,
    /// Its conditions; those it does not set are left out.
    pub conditions: Vec<Held>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Held {
    /// Its key: `who.issuer`.
    pub condition: &'static str,
    /// Whether it holds.
    pub holds: bool,
    /// What it wants, as written.
    pub wants: serde_json::Value,
    /// What the request has.
    pub has: serde_json::Value,
}

impl Policies {
    /// Decide as [`Policies::decide`] does, and say why.
    pub fn explain(&self, caller: &Caller<'_>, ask: &Ask<'_>) -> Explanation {
        let policies = self.rules.iter().map(|rule| verdict(rule, caller, ask)).collect();
        match self.decide(caller, ask) {
            Ok(permit) => Explanation {
                allowed: true,
                policy: Some(permit.policy().clone()),
                code: None,
                message: format!("Allowed by the policy {}.", permit.policy()),
                max_output_tokens: permit.max_output_tokens(),
                rate: permit.rates().to_vec(),
                single_use: permit.single_use(),
                cut_on_revocation: permit.cut_on_revocation(),
                policies,
            },
            Err(denial) => Explanation {
                allowed: false,
                policy: denial.policy,
                code: Some(denial.code),
                message: denial.message.into_owned(),
                max_output_tokens: None,
                rate: Vec::new(),
                single_use: false,
                cut_on_revocation: false,
                policies,
            },
        }
    }
}

fn verdict(rule: &Rule, caller: &Caller<'_>, ask: &Ask<'_>) -> Verdict {
    let who = Condition::WHO.into_iter().map(|c| (c, rule.who_holds(c, caller, ask.now)));
    let may = Condition::MAY.into_iter().map(|c| (c, rule.may_holds(c, ask)));
    let conditions = who.chain(may).filter_map(|(condition, holds)| {
        let wants = wants(rule, condition, ask.target)?;
        // A condition that is not set shows only where it fails: a key that no rule names.
        if wants.is_null() && holds {
            return None;
        }
        Some(Held { condition: key(condition, ask.target), holds, wants, has: has(condition, caller, ask) })
    });
    Verdict { policy: rule.name.clone(), matches: rule.matches(caller, ask), conditions: conditions.collect() }
}

fn key(condition: Condition, target: Target<'_>) -> &'static str {
    match condition {
        Condition::Key => "who.key",
        Condition::Issuer => "who.issuer",
        Condition::Client => "who.client",
        Condition::Subject => "who.subject",
        Condition::Scope => "who.scope",
        Condition::Groups => "who.groups",
        Condition::Ip => "who.ip",
        Condition::Time => "who.time",
        Condition::Bound => "who.bound",
        Condition::Attested => "who.attested",
        Condition::Level => "who.level",
        Condition::Annotations => "who.annotations",
        Condition::NotAnnotated => "who.not_annotated",
        Condition::Target => match target {
            Target::Model(_) => "may.models",
            Target::Service(_) => "may.services",
            Target::Upstream(_) => "may.upstreams",
            Target::Provider { .. } | Target::Own { .. } => "may.passthrough",
        },
        Condition::Tools => "may.tools",
        Condition::MaxOutputTokens => "may.max_output_tokens",
    }
}

/// What the policy says, as written; null where it says nothing.
fn wants(rule: &Rule, condition: Condition, target: Target<'_>) -> Option<serde_json::Value> {
    let (who, may) = (&rule.source.who, &rule.source.may);
    match condition {
        Condition::Key => list(&who.key),
        Condition::Issuer => list(&who.issuer),
        Condition::Client => list(&who.client),
        Condition::Subject => list(&who.subject),
        Condition::Scope => list(&who.scope),
        Condition::Groups => list(&who.groups),
        Condition::Ip => list(&who.ip),
        Condition::Time => list(&who.time),
        Condition::Bound => list(&who.bound),
        Condition::Attested => list(&who.attested),
        Condition::Level => serde_json::to_value(who.level).ok(),
        Condition::Annotations => list(&who.annotations),
        Condition::NotAnnotated => list(&who.not_annotated),
        Condition::Target => match target {
            Target::Model(_) => list(&may.models),
            Target::Service(_) => list(&may.services),
            Target::Upstream(_) => list(&may.upstreams),
            Target::Provider { .. } | Target::Own { .. } => {
                Some(serde_json::json!({ "providers": *may.providers, "passthrough": may.passthrough }))
            }
        },
        Condition::Tools if may.tools.is_default() => Some(serde_json::Value::Null),
        Condition::Tools => serde_json::to_value(&may.tools).ok(),
        Condition::MaxOutputTokens => serde_json::to_value(may.max_output_tokens).ok(),
    }
}

fn list<T: Serialize>(list: &OneOrMany<T>) -> Option<serde_json::Value> {
    if list.is_empty() { Some(serde_json::Value::Null) } else { serde_json::to_value(&**list).ok() }
}

fn has(condition: Condition, caller: &Caller<'_>, ask: &Ask<'_>) -> serde_json::Value {
    match condition {
        Condition::Key => caller.key.map(Name::as_str).into(),
        Condition::Issuer => caller.issuer.into(),
        Condition::Client => caller.client.into(),
        Condition::Subject => caller.subject.into(),
        Condition::Scope => caller.scopes.into(),
        Condition::Groups => caller.groups.into(),
        Condition::Ip => config::canonical(caller.ip).to_string().into(),
        Condition::Time => ask.now.rfc3339().into(),
        Condition::Bound => caller.bound.iter().map(Bound::as_str).collect(),
        Condition::Attested => caller.attested.map(|shown| shown.evidence.to_vec()).into(),
        Condition::Level => caller.attested.map(|shown| shown.level.as_str()).into(),
        Condition::Annotations | Condition::NotAnnotated => {
            caller.attested.map(|shown| shown.annotations.to_vec()).into()
        }
        Condition::Target => match ask.target {
            Target::Model(name) | Target::Service(name) | Target::Upstream(name) => name.into(),
            Target::Own { name, method, path } => {
                serde_json::json!({ "provider": name, "method": method, "path": path })
            }
            Target::Provider { name, method, path, model } => {
                serde_json::json!({ "provider": name, "method": method, "path": path, "model": model })
            }
        },
        Condition::Tools => match ask.tools {
            Tools::None => serde_json::json!([]),
            Tools::Named(names) => names.into(),
            Tools::Unknown => "unknown".into(),
        },
        Condition::MaxOutputTokens => match (ask.inspected, ask.max_output_tokens) {
            (false, _) => "unknown".into(),
            (true, asked) => asked.into(),
        },
    }
}
