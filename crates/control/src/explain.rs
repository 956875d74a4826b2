//! Which policy decides for a caller, and why.

use std::net::IpAddr;

use base::{Name, Timestamp};
use config::Config;
use policy::{Ask, Attested, Caller, Target, Tools, World};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations::OperationError;

/// A caller and what it asks for.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    /// The configured name of the issuer; `vouchgate` for our own tokens and keys.
    pub issuer: String,
    /// The subject.
    pub subject: String,
    /// The client the token was issued to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The token's scopes.
    #[serde(default)]
    pub scopes: Vec<String>,
    /// Groups or roles.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Proofs the request would bring that its sender holds what the token is bound to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bound: Vec<config::Bound>,
    /// What the installation of an app has proved itself with (`att`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attested: Vec<String>,
    /// How far that carries (`lvl`). Absent: the caller is no installation of an app.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<config::AttestationLevel>,
    /// What was noted of it (`anno`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<String>,
    /// The name of the Vouchgate key, where the credential is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The client's address. Absent: 127.0.0.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The model asked for: this, `service` or `upstream`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The service asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The upstream asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// The output tokens asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_output_tokens: Option<u64>,
    /// The tools brought.
    #[serde(default)]
    pub tools: Vec<String>,
    /// When, in seconds since 1970. Absent: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub now: Option<i64>,
}

/// Decide as the data plane would, and say why, policy by policy and condition by condition.
pub fn explain(
    config: &Config,
    request: &ExplainRequest,
    now: Timestamp,
) -> Result<policy::Explanation, OperationError> {
    let policies = policy::compile(&config.policies, &World::of(config)).map_err(|faults| {
        let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
        OperationError::NotAllowed(all.join("; "))
    })?;
    let ip = match &request.ip {
        None => IpAddr::from([127, 0, 0, 1]),
        Some(text) => text.parse().map_err(|_| OperationError::value("ip", "not an IP address"))?,
    };
    let key = request.key.as_deref().map(Name::new).transpose().map_err(OperationError::name("key"))?;
    let values = |list: &[String]| list.iter().map(|text| text.as_str().into()).collect::<Vec<serde_json::Value>>();
    let (evidence, annotations) = (values(&request.attested), values(&request.annotations));
    let attested = request.level.filter(|_| request.issuer == config::OWN_NAME);
    let attested =
        attested.map(|level| Attested { level, evidence: &evidence, annotations: &annotations, throttle: None });
    let caller = Caller {
        issuer: &request.issuer,
        client: request.client.as_deref(),
        subject: &request.subject,
        scopes: &request.scopes,
        groups: &request.groups,
        key: key.as_ref(),
        ip,
        bound: request.bound.iter().copied().collect(),
        attested,
    };
    let target = match (&request.model, &request.service, &request.upstream) {
        (Some(model), None, None) => Target::Model(model),
        (None, Some(service), None) => Target::Service(service),
        (None, None, Some(upstream)) => Target::Upstream(upstream),
        // Without a model: the built-in one, which every installation has.
        (None, None, None) => Target::Model(config::ECHO_MODEL),
        _ => return Err(OperationError::value("model", "ask for one of model, service and upstream")),
    };
    let ask = Ask {
        max_output_tokens: request.max_output_tokens,
        tools: if request.tools.is_empty() { Tools::None } else { Tools::Named(&request.tools) },
        ..Ask::new(target, request.now.map_or(now, Timestamp::from_secs))
    };
    Ok(policies.explain(&caller, &ask))
}
