//! The `OpenAPI` 3.1 document of the admin API, made from the table. `docs/openapi-admin.json` is a copy of it.

use std::collections::BTreeSet;

use http::Method;
use schemars::JsonSchema;
use serde_json::{Map, Value, json};

use super::handlers::installation::RequestView;
use super::server::Readiness;
use super::table::{Access, Answer, Operation, TABLE};
use crate::catalogue::CatalogueEntry;
use crate::explain::ExplainRequest;
use crate::operations as ops;
use crate::route::{RouteExplanation, RouteQuestion};

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for operation in TABLE.iter() {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| Value::Object(Map::new()));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_ascii_lowercase(), described(operation));
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Vouchgate admin API",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "On the admin listener, with a token (`vga_...`) that `vouchgate admin token create` makes; and on `admin.sock` in the data directory, without one. `x-roles` names the roles that may use an operation. Errors are RFC 9457 problems; `code` is stable.",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "http://127.0.0.1:8081" }],
        "security": [{ "adminToken": [] }],
        "paths": paths,
        "components": {
            "securitySchemes": { "adminToken": { "type": "http", "scheme": "bearer" } },
            "responses": { "Problem": {
                "description": "It was not done.",
                "content": { "application/problem+json": { "schema": reference("Problem") } },
            } },
            "headers": { "ETag": {
                "description": "Changes with what is answered: for `If-Match` and `If-None-Match`.",
                "schema": { "type": "string" },
            } },
            "schemas": schemas(&paths),
        },
    })
}

fn described(operation: &Operation) -> Value {
    let roles: Vec<&str> = operation.access.roles().iter().map(|role| role.as_str()).collect();
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [tag(&operation.path)],
        "x-roles": roles,
        "parameters": parameters(operation),
        "responses": {
            operation.success.as_str(): success(operation),
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    let Some(object) = described.as_object_mut() else { return described };
    if let Some(schema) = operation.request {
        let content = json!({ "application/json": { "schema": reference(schema) } });
        object.insert("requestBody".into(), json!({ "required": operation.method == Method::PUT, "content": content }));
    }
    if matches!(operation.access, Access::LoopbackOr(_)) {
        object.insert("security".into(), json!([{ "adminToken": [] }, {}]));
        object.insert(
            "description".into(),
            "From this machine itself, not through a proxy on it, no token is needed.".into(),
        );
    }
    if operation.method == Method::PUT && operation.kind.is_some() {
        object.insert("description".into(), "`name` may be left out of the body: it is that of the path.".into());
    }
    if let Some(responses) = object.get_mut("responses").and_then(Value::as_object_mut) {
        more_responses(operation, responses);
    }
    described
}

/// The answers of operations that go by entity tags, and of those that make what was not there.
fn more_responses(operation: &Operation, responses: &mut Map<String, Value>) {
    if operation.method == Method::PUT && has_etag(operation) {
        let content = json!({ "application/json": { "schema": success_schema(operation) } });
        responses.insert("201".into(), json!({ "description": "It was made.", "content": content }));
        responses.insert("412".into(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    if !has_etag(operation) {
        return;
    }
    for status in ["200", "201"] {
        if let Some(response) = responses.get_mut(status).and_then(Value::as_object_mut) {
            response.insert("headers".into(), json!({ "ETag": { "$ref": "#/components/headers/ETag" } }));
        }
    }
    if operation.method == Method::GET {
        let headers = json!({ "ETag": { "$ref": "#/components/headers/ETag" } });
        responses.insert("304".into(), json!({ "description": "It is as it was.", "headers": headers }));
    }
}

/// Whether one thing is answered that has an entity tag: resources and clients.
fn has_etag(operation: &Operation) -> bool {
    match operation.answer {
        Answer::One("ClientView" | "IssuedSecret") => true,
        Answer::One(_) => operation.kind.is_some(),
        Answer::Empty | Answer::Page(_) | Answer::Text | Answer::Bytes => false,
    }
}

fn tag(path: &str) -> &str {
    path.strip_prefix("/admin/v1/").and_then(|rest| rest.split('/').next()).unwrap_or("health")
}

fn parameters(operation: &Operation) -> Vec<Value> {
    let mut parameters = Vec::new();
    if operation.path.contains("{name}") {
        parameters.push(json!({ "name": "name", "in": "path", "required": true, "schema": { "type": "string" } }));
    }
    for name in operation.query {
        let schema = match *name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 200, "default": 50 }),
            "min_status" => json!({ "type": "integer", "minimum": 100, "maximum": 599 }),
            _ => json!({ "type": "string" }),
        };
        let description = match *name {
            "limit" => "Items on the page.",
            "cursor" => "The `next_cursor` of the page before.",
            "since" | "until" => "How long ago (`24h`), a moment (RFC 3339), or seconds since 1970.",
            "min_status" => "The lowest HTTP status.",
            "by" => {
                "What it is counted by: one or more of client, subject, api_key, model, provider, policy, service, tag, issuer, with commas between."
            }
            "bucket" => "Also by the `hour` or the `day` (UTC).",
            "format" => "`json`, `csv`, or where records are listed `jsonl`; `csv` and `jsonl` are of all that match.",
            _ => "Exactly this.",
        };
        parameters.push(json!({ "name": name, "in": "query", "schema": schema, "description": description }));
    }
    let header = |name: &str, description: &str| json!({ "name": name, "in": "header", "schema": { "type": "string" }, "description": description });
    match operation.method {
        Method::POST => parameters.push(header(
            "Idempotency-Key",
            "Repeating the request with the same key within a day repeats the answer.",
        )),
        Method::GET if has_etag(operation) => {
            parameters.push(header("If-None-Match", "Only if it no longer has this entity tag: else 304."));
        }
        Method::PUT if has_etag(operation) => {
            parameters.push(header(
                "If-Match",
                "Only if it still has this entity tag, or with `*` if there is one: else 412.",
            ));
            parameters.push(header("If-None-Match", "`*`: only if there is none of that name yet: else 412."));
        }
        Method::DELETE if operation.kind.is_some() || operation.id == "deleteClient" => {
            parameters.push(header("If-Match", "Only if it still has this entity tag: else 412."));
        }
        _ => {}
    }
    parameters
}

fn success(operation: &Operation) -> Value {
    match operation.answer {
        Answer::Empty => json!({ "description": "Done." }),
        Answer::Text => {
            json!({ "description": "Done.", "content": { "text/plain": { "schema": { "type": "string" } } } })
        }
        Answer::Bytes => json!({
            "description": "Done.",
            "content": { "application/octet-stream": { "schema": { "type": "string", "format": "binary" } } },
        }),
        Answer::One(_) | Answer::Page(_) => {
            json!({ "description": "Done.", "content": { "application/json": { "schema": success_schema(operation) } } })
        }
    }
}

fn success_schema(operation: &Operation) -> Value {
    match operation.answer {
        Answer::One(schema) => shown(operation, schema),
        Answer::Page(schema) => json!({
            "type": "object",
            "required": ["items", "next_cursor"],
            "properties": {
                "items": { "type": "array", "items": shown(operation, schema) },
                "next_cursor": { "type": ["string", "null"], "description": "Where the next page begins; null on the last." },
            },
        }),
        Answer::Empty | Answer::Text | Answer::Bytes => json!({}),
    }
}

/// A resource is shown with where it comes from, which is no part of what is written.
fn shown(operation: &Operation, schema: &str) -> Value {
    if operation.kind.is_none() {
        return reference(schema);
    }
    json!({ "allOf": [
        reference(schema),
        { "type": "object", "required": ["source"], "properties": {
            "source": { "enum": ["file", "api"] },
            "warnings": { "type": "array", "items": { "type": "string" } },
        } },
    ] })
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

/// The schemas that `paths` and the common responses lead to.
fn schemas(paths: &Map<String, Value>) -> Map<String, Value> {
    let mut all = all_schemas();
    let mut needed = BTreeSet::from(["Problem".to_owned()]);
    for path in paths.values() {
        find_references(path, &mut needed);
    }
    // Each round adds what the schemas found so far lead to, until nothing is new.
    loop {
        let before = needed.len();
        for name in needed.clone() {
            all.get(&name).into_iter().for_each(|schema| find_references(schema, &mut needed));
        }
        if needed.len() == before {
            break;
        }
    }
    all.retain(|name, _| needed.contains(name));
    all
}

fn find_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            let reference = object.get("$ref").and_then(Value::as_str);
            found.extend(reference.and_then(|r| r.strip_prefix("#/components/schemas/")).map(str::to_owned));
            object.values().for_each(|value| find_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| find_references(item, found)),
        _ => {}
    }
}

/// All schemas: those of the configuration, and those of this API.
fn all_schemas() -> Map<String, Value> {
    let mut all = Map::new();
    if let Some(Value::Object(definitions)) = config::schema().get_mut("$defs").map(Value::take) {
        all.extend(definitions.into_iter().map(|(name, schema)| (name, hoisted(schema))));
    }
    add::<ops::ClientView>(&mut all, "ClientView");
    add::<ops::CreateClient>(&mut all, "CreateClient");
    add::<ops::UpdateClient>(&mut all, "UpdateClient");
    add::<ops::RotateClient>(&mut all, "RotateClient");
    add::<ops::IssuedSecret>(&mut all, "IssuedSecret");
    add::<ops::SecretView>(&mut all, "SecretView");
    add::<ops::SetSecret>(&mut all, "SetSecret");
    add::<ops::RuntimeSecretView>(&mut all, "RuntimeSecretView");
    add::<ops::SetRuntimeSecret>(&mut all, "SetRuntimeSecret");
    add::<ops::RetireRuntimeSecret>(&mut all, "RetireRuntimeSecret");
    add::<ops::RotationView>(&mut all, "RotationView");
    add::<ops::RewrapView>(&mut all, "RewrapView");
    add::<ops::RotateSecret>(&mut all, "RotateSecret");
    add::<ops::ActivateSecret>(&mut all, "ActivateSecret");
    add::<ops::RetireSecret>(&mut all, "RetireSecret");
    add::<ops::ApiKeyView>(&mut all, "ApiKeyView");
    add::<ops::CreateApiKey>(&mut all, "CreateApiKey");
    add::<ops::IssuedApiKey>(&mut all, "IssuedApiKey");
    add::<ops::KeyView>(&mut all, "KeyView");
    add::<ops::RotateKey>(&mut all, "RotateKey");
    add::<ops::CreateRevocation>(&mut all, "CreateRevocation");
    add::<ops::RevocationView>(&mut all, "RevocationView");
    add::<ops::MintToken>(&mut all, "MintToken");
    add::<ops::MintedToken>(&mut all, "MintedToken");
    add::<ops::AdminTokenView>(&mut all, "AdminTokenView");
    add::<ops::CreateAdminToken>(&mut all, "CreateAdminToken");
    add::<ops::IssuedAdminToken>(&mut all, "IssuedAdminToken");
    add::<ops::AuditEntryView>(&mut all, "AuditEntryView");
    add::<ops::AuditProofView>(&mut all, "AuditProofView");
    add::<ops::AuditCheckpointView>(&mut all, "AuditCheckpointView");
    add::<ops::AuditKeyView>(&mut all, "AuditKeyView");
    add::<ops::AuditKeyReplacementView>(&mut all, "AuditKeyReplacementView");
    add::<ops::EraseSubject>(&mut all, "EraseSubject");
    add::<ops::ReplaceAuditKey>(&mut all, "ReplaceAuditKey");
    add::<ops::ErasedView>(&mut all, "ErasedView");
    add::<ops::BudgetAccount>(&mut all, "BudgetAccount");
    add::<ops::RaiseBudget>(&mut all, "RaiseBudget");
    add::<ops::RiskDecisionView>(&mut all, "RiskDecisionView");
    add::<ops::SimulateRisk>(&mut all, "SimulateRisk");
    add::<ops::RiskReport>(&mut all, "RiskReport");
    add::<ops::GiveForcedPass>(&mut all, "GiveForcedPass");
    add::<ops::ForcedPassView>(&mut all, "ForcedPassView");
    add::<ops::AnomalyView>(&mut all, "AnomalyView");
    add::<ops::AppConfigView>(&mut all, "AppConfigView");
    add::<ops::PublishAppConfig>(&mut all, "PublishAppConfig");
    add::<ops::KillSwitches>(&mut all, "KillSwitches");
    add::<ops::ConfigKeyView>(&mut all, "ConfigKeyView");
    add::<ops::AcceptDelegation>(&mut all, "AcceptDelegation");
    add::<ops::CertPlan>(&mut all, "CertPlan");
    add::<ops::ArcView>(&mut all, "ArcView");
    add::<ops::ChangeDevice>(&mut all, "ChangeDevice");
    add::<ops::DeviceView>(&mut all, "DeviceView");
    add::<ops::RaiseView>(&mut all, "RaiseView");
    add::<ops::UsageList>(&mut all, "UsageList");
    add::<ops::RerateUsage>(&mut all, "RerateUsage");
    add::<ops::RerateView>(&mut all, "RerateView");
    add::<CatalogueEntry>(&mut all, "CatalogueEntry");
    add::<RequestView>(&mut all, "RequestView");
    add::<ExplainRequest>(&mut all, "ExplainRequest");
    add::<RouteQuestion>(&mut all, "RouteQuestion");
    add::<RouteExplanation>(&mut all, "RouteExplanation");
    add::<Readiness>(&mut all, "Readiness");
    all.insert(
        "Explanation".into(),
        json!({ "type": "object", "description": "The decision, and every condition of every policy." }),
    );
    all.insert("Document".into(), json!({ "type": "object", "description": "This document." }));
    all.insert("Problem".into(), problem());
    all
}

fn add<T: JsonSchema>(all: &mut Map<String, Value>, name: &str) {
    let mut schema = schemars::schema_for!(T).to_value();
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        if let Some(Value::Object(definitions)) = object.remove("$defs") {
            all.extend(definitions.into_iter().map(|(name, schema)| (name, hoisted(schema))));
        }
    }
    all.insert(name.to_owned(), hoisted(schema));
}

/// References into `$defs` lead to the components now.
fn hoisted(schema: Value) -> Value {
    match schema {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| match (key.as_str(), value) {
                    ("$ref", Value::String(to)) => (key, to.replace("#/$defs/", "#/components/schemas/").into()),
                    (_, value) => (key, hoisted(value)),
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(hoisted).collect()),
        other => other,
    }
}

fn problem() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "code", "detail", "request_id"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "code": { "type": "string", "description": "Stable; what programs look at." },
            "detail": { "type": "string" },
            "param": { "type": "string", "description": "The member it is about." },
            "request_id": { "type": "string" },
            "errors": { "type": "array", "description": "Every fault of a resource.", "items": {
                "type": "object",
                "required": ["path", "code", "message"],
                "properties": {
                    "path": { "type": "string" },
                    "code": { "type": "string" },
                    "message": { "type": "string" },
                    "hint": { "type": "string" },
                },
            } },
        },
    })
}
