//! `GET /openapi.json`: the services the caller may use, and nothing else.

use config::{ResponseFormat, Scalar, Variable, VariableKind};
use serde_json::{Map, Value, json};

use crate::relay::Answer;
use crate::settle::Receipt;
use crate::snapshot::{Service, Snapshot};

/// Describe the caller's services (`OpenAPI` 3.1).
pub(crate) fn document(snapshot: &Snapshot, receipt: &Receipt) -> Answer {
    let visible = snapshot.policies.visible_services(&receipt.caller().facts(), receipt.at());
    let mut services: Vec<&Service> =
        snapshot.services().map(AsRef::as_ref).filter(|service| visible.contains(&&service.config.name)).collect();
    services.sort_by(|a, b| a.config.path.as_str().cmp(b.config.path.as_str()));
    let paths: Map<String, Value> = services
        .iter()
        .map(|service| (service.config.path.as_str().to_owned(), json!({"post": operation(service)})))
        .collect();
    let document = json!({
        "openapi": "3.1.0",
        "info": {"title": "Services", "version": "1", "description": "Prompts published as endpoints."},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Usage": usage(), "Error": error()},
        },
    });
    Answer::json(document.to_string())
}

fn operation(service: &Service) -> Value {
    let config = &service.config;
    let error = json!({"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}});
    let failed = |description: &str| {
        let mut response = error.clone();
        if let Some(members) = response.as_object_mut() {
            members.insert("description".to_owned(), description.into());
        }
        response
    };
    json!({
        "operationId": config.name.as_str(),
        "summary": config.name.as_str(),
        "description": config.description.as_deref().unwrap_or_default(),
        "requestBody": {"required": true, "content": {"application/json": {"schema": request(service)}}},
        "responses": {
            "200": {"description": "The answer, or its events if a stream was asked for.", "content": {
                "application/json": {"schema": answer()},
                "text/event-stream": {"schema": {"type": "string", "description":
                    "Events `data: {\"type\":\"delta\",\"delta\":\"..\"}`, last `data: {\"type\":\"done\",..}` with the answer's members."}},
            }},
            "400": failed("The body is not as described."),
            "401": failed("The credential is missing or not valid."),
            "403": failed("No policy allows this."),
            "429": failed("A limit is reached; see Retry-After."),
            "502": failed("The model gave no usable answer; `output_not_json` if JSON was asked for."),
        },
    })
}

fn request(service: &Service) -> Value {
    let known = service.prompt.variables();
    let (mut top, mut variables) = (Map::new(), Map::new());
    let (mut needed, mut needed_variables) = (Vec::new(), Vec::new());
    for (name, variable) in known {
        // `input` stands at the top, where everybody looks for it.
        let (into, required) =
            if name == "input" { (&mut top, &mut needed) } else { (&mut variables, &mut needed_variables) };
        into.insert(name.clone(), schema(variable));
        if variable.is_required() {
            required.push(Value::from(name.as_str()));
        }
    }
    if !variables.is_empty() {
        let schema = json!({"type": "object", "properties": variables, "required": needed_variables, "additionalProperties": false});
        top.insert("variables".to_owned(), schema);
        if !needed_variables.is_empty() {
            needed.push("variables".into());
        }
    }
    let format = match service.config.response_format {
        ResponseFormat::Text => "text",
        ResponseFormat::Json => "json",
    };
    top.insert("stream".to_owned(), json!({"type": "boolean", "default": false}));
    top.insert(
        "parameters".to_owned(),
        json!({"type": "object", "properties": {
            "response_format": {"type": "string", "enum": ["text", "json"], "default": format},
            "max_output_tokens": {"type": "integer", "minimum": 1},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
        }}),
    );
    json!({"type": "object", "properties": top, "required": needed})
}

fn schema(variable: &Variable) -> Value {
    let mut schema = match variable.kind {
        VariableKind::String => json!({"type": "string", "maxLength": variable.max_length}),
        VariableKind::Number => json!({"type": "number"}),
        VariableKind::Boolean => json!({"type": "boolean"}),
    };
    if let Some(members) = schema.as_object_mut() {
        if let Some(description) = &variable.description {
            members.insert("description".to_owned(), description.as_str().into());
        }
        if let Some(default) = &variable.default {
            let default = match default {
                Scalar::Boolean(value) => json!(value),
                Scalar::Integer(value) => json!(value),
                Scalar::Number(value) => json!(value),
                Scalar::String(value) => json!(value),
            };
            members.insert("default".to_owned(), default);
        }
    }
    schema
}

fn answer() -> Value {
    json!({"type": "object", "required": ["output", "model", "usage", "request_id"], "properties": {
        "output": {"description": "A text, or the JSON value the model answered with."},
        "model": {"type": "string"},
        "usage": {"$ref": "#/components/schemas/Usage"},
        "request_id": {"type": "string"},
    }})
}

fn usage() -> Value {
    let count = json!({"type": ["integer", "null"], "minimum": 0});
    json!({"type": "object", "properties": {"input_tokens": count, "output_tokens": count, "cached_tokens": count}})
}

fn error() -> Value {
    json!({"type": "object", "required": ["error"], "properties": {"error": {"type": "object", "properties": {
        "message": {"type": "string"}, "type": {"type": "string"},
        "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]},
    }}}})
}
