//! `vouchgate policy explain`: which policy decides for a caller with these claims, and why.

use base::Name;
use config::{AttestationLevel, Bound, Issuer, OWN_NAME};
use control::admin::SOCKET_NAME;
use control::explain::{ExplainRequest, explain};
use http::Method;
use proof::jose::{JsonObject, json};
use proof::token::IssuerRules;
use serde_json::Value;

use super::args::{ExplainArgs, PolicyCommand};
use super::io::{Exit, Failure, Io, Outcome};
use super::place::Place;
use super::remote::{Api, answers};
use super::table::{printable, text};
use crate::wire::rules_of;

/// Print the decision and, policy by policy, what holds and what does not.
pub(super) async fn run(command: PolicyCommand, io: &mut Io<'_>) -> Outcome {
    let PolicyCommand::Explain(args) = command;
    let claims = claims(&args, io)?;
    let place = Place::find(&args.state, io)?;
    let explanation = decide(&args, &claims, &place, io).await?;
    if args.state.json {
        io.json(&explanation)?;
    } else {
        print(&explanation, io)?;
    }
    let allowed = explanation.get("allowed") == Some(&Value::Bool(true));
    Ok(if allowed { Exit::Done } else { Exit::No })
}

/// A running server knows also the resources made through the admin API. Without one, a configuration file is enough:
/// no state is touched. A data directory without a file is opened.
async fn decide(args: &ExplainArgs, claims: &JsonObject, place: &Place, io: &mut Io<'_>) -> Result<Value, Failure> {
    let socket = place.data_dir().join(SOCKET_NAME);
    if answers(&socket).await {
        return ask(args, claims, &Api::Running(socket), io).await;
    }
    if place.file.is_some() {
        let request = request(args, claims, &place.config.issuers)?;
        let explanation =
            explain(&place.config, &request, io.clock.now()).map_err(|error| Failure::new(error.to_string()))?;
        return serde_json::to_value(explanation).map_err(|error| Failure::new(error.to_string()));
    }
    let opened = place.open(io).await?;
    let answer = ask(args, claims, &opened.api, io).await;
    opened.close().await;
    answer
}

async fn ask(args: &ExplainArgs, claims: &JsonObject, api: &Api, io: &Io<'_>) -> Result<Value, Failure> {
    let mut issuers: Vec<Issuer> = Vec::new();
    for mut issuer in api.list("/issuers").await? {
        if let Some(object) = issuer.as_object_mut() {
            object.remove("source");
        }
        issuers.push(serde_json::from_value(issuer).map_err(|error| Failure::new(error.to_string()))?);
    }
    let mut request = request(args, claims, &issuers)?;
    request.now = request.now.or_else(|| Some(io.clock.now().as_secs()));
    let body = serde_json::to_value(request).map_err(|error| Failure::new(error.to_string()))?;
    api.call(Method::POST, "/explain", Some(&body)).await
}

/// The claims as their issuer means them.
fn request(args: &ExplainArgs, claims: &JsonObject, issuers: &[Issuer]) -> Result<ExplainRequest, Failure> {
    let rules = rules(args, claims, issuers)?;
    let who = rules.identity(claims).map_err(|error| Failure::new(format!("the claims cannot be used: {error}")))?;
    Ok(ExplainRequest {
        issuer: rules.name.to_string(),
        subject: who.subject,
        client: who.client_id,
        scopes: who.scopes,
        groups: who.groups,
        bound: proofs(claims),
        attested: texts(claims, "att"),
        level: claims.get("lvl").and_then(Value::as_str).and_then(AttestationLevel::from_name),
        annotations: texts(claims, "anno"),
        key: None,
        ip: Some(args.ip.to_string()),
        model: args.model.clone(),
        service: args.service.clone(),
        upstream: args.upstream.clone(),
        max_output_tokens: args.max_output_tokens,
        tools: args.tool.clone(),
        now: args.now,
    })
}

/// The texts of a list.
fn texts(claims: &JsonObject, name: &str) -> Vec<String> {
    let list = claims.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The proofs that what `cnf` names allows for (RFC 7800 section 3): a caller that holds it can bring them.
fn proofs(claims: &JsonObject) -> Vec<Bound> {
    let names = |member: &str| claims.get("cnf").and_then(|cnf| cnf.get(member)).is_some();
    let all = [
        (names("jkt"), Bound::Dpop),
        (names("x5t#S256"), Bound::Mtls),
        (names("jkt") && names("jwk"), Bound::Signature),
    ];
    all.into_iter().filter_map(|(named, proof)| named.then_some(proof)).collect()
}

/// The rules of the issuer: the one named, else the one that the claims name, else our own.
fn rules(args: &ExplainArgs, claims: &JsonObject, issuers: &[Issuer]) -> Result<IssuerRules, Failure> {
    let iss = claims.get("iss").and_then(Value::as_str);
    let found = match &args.issuer {
        Some(name) => issuers.iter().find(|issuer| issuer.name.as_str() == name),
        None => issuers.iter().find(|issuer| issuer.issuer.is_some() && issuer.issuer.as_deref() == iss),
    };
    match (found, &args.issuer) {
        (Some(issuer), _) => Ok(rules_of(issuer)),
        (None, Some(name)) if name != OWN_NAME => Err(Failure::new(format!("there is no issuer named {name}"))),
        (None, _) => {
            let own = Name::new(OWN_NAME).map_err(|error| Failure::new(error.to_string()))?;
            Ok(IssuerRules::own(own, String::new(), Vec::new()))
        }
    }
}

fn claims(args: &ExplainArgs, io: &mut Io<'_>) -> Result<JsonObject, Failure> {
    let bytes = if args.claims.as_os_str() == "-" {
        io.read_all("claims")?.expose().clone()
    } else {
        let failed = |why: String| Failure::new(format!("cannot read {}: {why}", args.claims.display()));
        let length = std::fs::metadata(&args.claims).map_err(|error| failed(error.to_string()))?.len();
        if length > json::Limits::CLAIMS.bytes as u64 {
            return Err(failed("it is over 64 KiB".to_owned()));
        }
        std::fs::read(&args.claims).map_err(|error| failed(error.to_string()))?
    };
    json::object(&bytes, json::Limits::CLAIMS).map_err(|error| Failure::new(format!("the claims: {error}")))
}

fn print(explanation: &Value, io: &mut Io<'_>) -> Result<(), Failure> {
    io.line(&printable(&text(explanation, "message")))?;
    for policy in explanation.get("policies").and_then(Value::as_array).into_iter().flatten() {
        let matches = policy.get("matches") == Some(&Value::Bool(true));
        let mark = if matches { "matches" } else { "does not match" };
        io.line(&format!("\n{} {mark}", printable(&text(policy, "policy"))))?;
        for held in policy.get("conditions").and_then(Value::as_array).into_iter().flatten() {
            let mark = if held.get("holds") == Some(&Value::Bool(true)) { "yes" } else { "NO " };
            let value = |member: &str| held.get(member).map(Value::to_string).unwrap_or_default();
            let line = format!("  {mark}  {}: wants {}, has {}", text(held, "condition"), value("wants"), value("has"));
            io.line(&printable(&line))?;
        }
    }
    Ok(())
}
