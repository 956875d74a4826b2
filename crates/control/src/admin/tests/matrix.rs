//! Who gets in: every operation with every role and without one, and requests that lead nowhere.

use std::collections::BTreeSet;
use std::time::Duration;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::admin::{Access, Role, TABLE, openapi_document};
use crate::fixture::{ELSEWHERE, Fixture, LOOPBACK, send};

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[tokio::test]
async fn every_operation_is_open_to_its_roles_and_to_nobody_else() {
    let fixture = Fixture::new().await;
    let mut tried = 0;
    for role in Role::ALL {
        let authorization = bearer(&fixture.token(role.as_str()).await);
        for operation in TABLE.iter() {
            let path = operation.path.replace("{name}", "nobody");
            let headers = [("authorization", authorization.as_str())];
            let answer = fixture.network(operation.method.clone(), &path, (ELSEWHERE, &headers)).await;
            let allowed = operation.access.roles().contains(&role);
            if allowed {
                assert_ne!(answer.status, StatusCode::FORBIDDEN, "{operation:?} {role:?}: {}", answer.text);
                assert_ne!(answer.status, StatusCode::UNAUTHORIZED, "{operation:?} {role:?}");
            } else {
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{operation:?} {role:?}: {}", answer.text);
                assert_eq!(answer.code(), "forbidden");
            }
            assert!(answer.header("x-request-id").starts_with("req_"), "{operation:?}");
            tried += 1;
        }
    }
    assert_eq!(tried, 4 * TABLE.len());
}

#[tokio::test]
async fn without_a_token_nothing_is_open_and_nothing_is_told() {
    let fixture = Fixture::new().await;
    let wrong = bearer(&format!("vga_{}", "A".repeat(43)));
    let credentials: [&[(&str, &str)]; 6] = [
        &[],
        &[("authorization", &wrong)],
        &[("authorization", "Bearer ")],
        &[("authorization", "Basic dTpw")],
        &[("authorization", "Bearer vg_0123456789012345678901234567890123456789012")],
        &[("x-api-key", "vga_x")],
    ];
    for headers in credentials {
        for operation in TABLE.iter() {
            let path = operation.path.replace("{name}", "nobody");
            let answer = fixture.network(operation.method.clone(), &path, (ELSEWHERE, headers)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{operation:?} {headers:?}: {}", answer.text);
            assert!(answer.header("www-authenticate").starts_with("Bearer realm="), "{operation:?}");
        }
        for path in ["/", "/admin/v1", "/admin/v1/nothing", "/admin/v1/clients/x/y/z", "/admin/v2/clients"] {
            let answer = fixture.network(Method::GET, path, (ELSEWHERE, headers)).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        }
    }
}

#[tokio::test]
async fn monitoring_on_this_machine_needs_no_token_unless_it_comes_through_a_proxy() {
    let fixture = Fixture::new().await;
    for operation in TABLE.iter() {
        let path = operation.path.replace("{name}", "nobody");
        let answer = fixture.network(operation.method.clone(), &path, (LOOPBACK, &[])).await;
        let open = matches!(operation.access, Access::LoopbackOr(_));
        assert_eq!(answer.status != StatusCode::UNAUTHORIZED, open, "{operation:?}: {}", answer.text);
        for proxied in ["x-forwarded-for", "forwarded", "x-real-ip", "via"] {
            let answer = fixture.network(operation.method.clone(), &path, (LOOPBACK, &[(proxied, "1.1 x")])).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{operation:?} {proxied}");
        }
    }
}

#[tokio::test]
async fn two_authorization_headers_are_refused() {
    let fixture = Fixture::new().await;
    let authorization = bearer(&fixture.token("owner").await);
    let headers = [("authorization", authorization.as_str()), ("authorization", authorization.as_str())];
    let answer = fixture.network(Method::GET, "/admin/v1/clients", (ELSEWHERE, &headers)).await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_rebound_host_or_a_page_of_another_site_gets_nothing_even_with_a_token() {
    let fixture = Fixture::new().await;
    let authorization = bearer(&fixture.token("owner").await);
    for (name, value, status) in [
        ("host", "evil.example", StatusCode::MISDIRECTED_REQUEST),
        ("origin", "https://evil.example", StatusCode::FORBIDDEN),
        ("origin", "null", StatusCode::FORBIDDEN),
        ("sec-fetch-site", "cross-site", StatusCode::FORBIDDEN),
    ] {
        for path in ["/admin/v1/clients", "/metrics", "/nothing"] {
            let mut request = Request::builder().uri(path).header("authorization", &authorization);
            if name != "host" {
                request = request.header("host", "localhost");
            }
            let mut request = request.header(name, value).body(Body::empty()).unwrap();
            request.extensions_mut().insert(crate::ClientAddress(LOOPBACK.parse().unwrap()));
            let answer = send(&fixture.admin, request).await;
            assert_eq!(answer.status, status, "{name}: {value} {path}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn a_revoked_or_expired_token_is_no_token() {
    let fixture = Fixture::new().await;
    let authorization = bearer(&fixture.token("owner").await);
    let headers = [("authorization", authorization.as_str())];
    let list = || fixture.network(Method::GET, "/admin/v1/clients", (ELSEWHERE, &headers));
    assert_eq!(list().await.status, StatusCode::OK);
    fixture.clock.advance(Duration::from_hours(90 * 24));
    assert_eq!(list().await.status, StatusCode::UNAUTHORIZED);

    // The name of an expired token is free again.
    let authorization = bearer(&fixture.token("owner").await);
    let headers = [("authorization", authorization.as_str())];
    let list = || fixture.network(Method::GET, "/admin/v1/clients", (ELSEWHERE, &headers));
    assert_eq!(list().await.status, StatusCode::OK);
    let revoked = fixture.owner(Method::DELETE, "/admin/v1/admin-tokens/test-owner", None).await;
    assert_eq!(revoked.json()["state"], "revoked");
    assert_eq!(list().await.status, StatusCode::UNAUTHORIZED);
    assert!(!fixture.operations.has_admin_token().await.unwrap());
}

#[tokio::test]
async fn paths_and_methods_there_are_not_get_a_problem_that_says_so() {
    let fixture = Fixture::new().await;
    let answer = fixture.owner(Method::GET, "/admin/v1/nothing", None).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "not_found"));
    assert_eq!(answer.header("content-type"), "application/problem+json");
    let answer = fixture.owner(Method::PATCH, "/admin/v1/clients", None).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"));
    let allow: BTreeSet<&str> = answer.header("allow").split(',').collect();
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow:?}");
    let answer = fixture.owner(Method::POST, "/metrics", None).await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn bodies_and_queries_are_checked_before_anything_is_done() {
    let fixture = Fixture::new().await;
    let post = async |content_type: &str, body: &str| {
        let request = Request::post("/admin/v1/clients").header("content-type", content_type);
        let answer = send(&fixture.local, request.body(Body::from(body.to_owned())).unwrap()).await;
        (answer.status.as_u16(), answer.code())
    };
    let is = |status: u16, code: &str| (status, code.to_owned());
    let json = "application/json";
    assert_eq!(post("text/plain", "{}").await, is(415, "unsupported_media_type"));
    assert_eq!(post(json, "{").await, is(400, "invalid_json"));
    assert_eq!(post(json, "[]").await, is(400, "invalid_json"));
    assert_eq!(post(json, r#"{"name":"a","name":"b"}"#).await, is(400, "invalid_json"));
    assert_eq!(post(json, r#"{"name":"a","n\u0061me":"b"}"#).await, is(400, "invalid_json"));
    assert_eq!(post(json, "{}").await, is(422, "invalid_body"));
    assert_eq!(post(json, r#"{"name":"a","role":"owner"}"#).await, is(422, "invalid_body"));
    assert_eq!(post(json, r#"{"name":"a","created_at":"now"}"#).await, is(422, "invalid_body"));
    assert_eq!(post(json, r#"{"name":"../a"}"#).await, is(422, "invalid_value"));
    assert_eq!(post(json, &"[".repeat(5000)).await, is(400, "invalid_json"));
    assert_eq!(post(json, &" ".repeat(70_000)).await, is(413, "body_too_large"));
    for query in ["limit=0", "limit=201", "limit=x", "nothing=1", "limit=1&limit=1", "cursor=%"] {
        let answer = fixture.owner(Method::GET, &format!("/admin/v1/clients?{query}"), None).await;
        assert_eq!((answer.status.as_u16(), answer.code()), is(400, "invalid_query"), "{query}");
    }
    let with_body = fixture.owner(Method::GET, "/admin/v1/clients", Some(Value::Null)).await;
    assert_eq!(with_body.status, StatusCode::BAD_REQUEST);
    assert!(fixture.operations.client_list(&store::Page::first(10)).await.unwrap().items.is_empty());
}

#[test]
fn the_openapi_document_has_every_operation_with_its_roles_and_every_schema_it_refers_to() {
    let document = openapi_document();
    let mut described = 0;
    for operation in TABLE.iter() {
        let entry = &document["paths"][&operation.path][operation.method.as_str().to_ascii_lowercase()];
        let roles: Vec<&str> = operation.access.roles().iter().map(|role| role.as_str()).collect();
        assert_eq!(entry["x-roles"], serde_json::json!(roles), "{operation:?}");
        assert_eq!(entry["operationId"], operation.id);
        assert!(entry["summary"].as_str().is_some_and(|summary| !summary.is_empty()), "{operation:?}");
        described += 1;
    }
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.values().map(|path| path.as_object().unwrap().len()).sum::<usize>(), described);
    let headers = |path: &str, method: &str| -> Vec<String> {
        let parameters = document["paths"][path][method]["parameters"].as_array().unwrap().iter();
        let headers = parameters.filter(|parameter| parameter["in"] == "header");
        headers.map(|parameter| parameter["name"].as_str().unwrap().to_owned()).collect()
    };
    for path in ["/admin/v1/clients/{name}", "/admin/v1/policies/{name}"] {
        assert_eq!(headers(path, "get"), ["If-None-Match"]);
        assert_eq!(headers(path, "put"), ["If-Match", "If-None-Match"]);
        assert_eq!(headers(path, "delete"), ["If-Match"]);
        let responses = &document["paths"][path]["get"]["responses"];
        assert!(responses["200"]["headers"]["ETag"].is_object() && responses["304"].is_object(), "{path}");
    }
    assert!(headers("/admin/v1/secrets/{name}", "put").is_empty(), "secrets have no entity tag");

    let ids: BTreeSet<&str> = TABLE.iter().map(|operation| operation.id).collect();
    assert_eq!(ids.len(), described);

    let mut references = BTreeSet::new();
    collect_references(&document, &mut references);
    assert!(references.len() > 20);
    for reference in references {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
}

#[test]
fn the_committed_openapi_document_is_this_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi-admin.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(committed == openapi_document(), "docs/openapi-admin.json is out of date: run `cargo xtask openapi`");
}

fn collect_references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
                found.insert(reference.to_owned());
            }
            object.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}
