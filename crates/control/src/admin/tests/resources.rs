//! Resources of the file and of the API: written under conditions, checked as a whole, read-only where they belong to
//! the file.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;

const PROVIDER: &str = "/admin/v1/providers/openai";
const IN_FILE: &str = "
[[provider]]
name = \"local\"
kind = \"openai-compatible\"
base_url = \"https://models.example.com/v1\"
api_key = { env = \"MODELS_KEY\" }

[[model]]
name = \"fast\"
targets = [{ provider = \"local\", model = \"small\" }]

[[policy]]
name = \"first\"
who = { issuer = \"vouchgate\" }
may = { models = [\"fast\"] }
";

async fn with_secret(name: &str, origin: &str) -> Fixture {
    let fixture = Fixture::with(IN_FILE).await;
    let body = json!({ "value": "sk-canary-0123456789abcdef", "origin": origin });
    let set = fixture.owner(Method::PUT, &format!("/admin/v1/secrets/{name}"), Some(body)).await;
    assert_eq!(set.status, StatusCode::OK, "{}", set.text);
    fixture
}

fn openai() -> Value {
    json!({ "kind": "openai", "api_key": { "secret": "openai-key" } })
}

#[tokio::test]
async fn a_resource_is_made_read_changed_and_deleted_under_its_entity_tag() {
    let fixture = with_secret("openai-key", "https://api.openai.com").await;
    let made = fixture.owner(Method::PUT, PROVIDER, Some(openai())).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    assert_eq!(made.json()["source"], "api");
    assert_eq!(made.json()["name"], "openai");
    let tag = made.header("etag").to_owned();

    let read = fixture.owner(Method::GET, PROVIDER, None).await;
    assert_eq!((read.status, read.header("etag")), (StatusCode::OK, tag.as_str()));
    let known = fixture.owner_with(Method::GET, PROVIDER, None, &[("if-none-match", &tag)]).await;
    assert_eq!((known.status, known.text.as_str()), (StatusCode::NOT_MODIFIED, ""));

    let again = fixture.owner_with(Method::PUT, PROVIDER, Some(openai()), &[("if-none-match", "*")]).await;
    assert_eq!((again.status, again.code().as_str()), (StatusCode::PRECONDITION_FAILED, "precondition_failed"));
    let changed = fixture.owner_with(Method::PUT, PROVIDER, Some(openai()), &[("if-match", &tag)]).await;
    assert_eq!(changed.status, StatusCode::OK, "{}", changed.text);
    assert_ne!(changed.header("etag"), tag);
    for (method, body) in [(Method::PUT, Some(openai())), (Method::DELETE, None)] {
        let stale = fixture.owner_with(method, PROVIDER, body, &[("if-match", &tag)]).await;
        assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    }
    let now = changed.header("etag").to_owned();
    let deleted = fixture.owner_with(Method::DELETE, PROVIDER, None, &[("if-match", &now)]).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(fixture.owner(Method::GET, PROVIDER, None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(fixture.owner(Method::DELETE, PROVIDER, None).await.status, StatusCode::NOT_FOUND);
    let absent = fixture.owner_with(Method::PUT, PROVIDER, Some(openai()), &[("if-match", "*")]).await;
    assert_eq!(absent.status, StatusCode::PRECONDITION_FAILED);
}

#[tokio::test]
async fn conditions_that_are_none_are_refused() {
    let fixture = Fixture::new().await;
    let conditions: [&[(&str, &str)]; 6] = [
        &[("if-match", "W/\"v1\"")],
        &[("if-match", "v1")],
        &[("if-match", "\"a\", \"b\"")],
        &[("if-none-match", "\"v1\"")],
        &[("if-match", "\"v1\""), ("if-none-match", "*")],
        &[("if-match", "\"v1\""), ("if-match", "\"v2\"")],
    ];
    for headers in conditions {
        let answer = fixture.owner_with(Method::PUT, PROVIDER, Some(json!({})), headers).await;
        assert_eq!(answer.code(), "invalid_precondition", "{headers:?}");
    }
}

#[tokio::test]
async fn of_two_writers_with_the_same_tag_one_wins() {
    let fixture = with_secret("openai-key", "https://api.openai.com").await;
    let made = fixture.owner(Method::PUT, PROVIDER, Some(openai())).await;
    let headers = [("if-match", made.header("etag"))];
    let (a, b) = tokio::join!(
        fixture.owner_with(Method::PUT, PROVIDER, Some(openai()), &headers),
        fixture.owner_with(Method::PUT, PROVIDER, Some(openai()), &headers),
    );
    let mut statuses = [a.status.as_u16(), b.status.as_u16()];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412]);
}

#[tokio::test]
async fn what_the_file_holds_is_shown_as_such_and_read_only() {
    let fixture = Fixture::with(IN_FILE).await;
    let shown = fixture.owner(Method::GET, "/admin/v1/providers/local", None).await;
    assert_eq!(shown.json()["source"], "file");
    assert_eq!(shown.json()["api_key"], json!({ "env": "MODELS_KEY" }));
    let body = json!({ "kind": "ollama" });
    for (method, body) in [(Method::PUT, Some(body)), (Method::DELETE, None)] {
        let answer = fixture.owner(method, "/admin/v1/providers/local", body).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "in_configuration_file"));
    }
}

#[tokio::test]
async fn every_fault_of_a_resource_is_named_and_nothing_is_written() {
    let fixture = Fixture::with(IN_FILE).await;
    let put = async |path: &str, body: Value| fixture.owner(Method::PUT, path, Some(body)).await;
    let answer = put("/admin/v1/providers/x", json!({ "kind": "opnai", "unknown": 1, "source": "api" })).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_resource"));
    let errors = answer.json()["errors"].as_array().unwrap().clone();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|error| error["path"].as_str().unwrap().starts_with("provider.x")), "{errors:?}");

    let dangling = json!({ "targets": [{ "provider": "nobody", "model": "m" }] });
    assert_eq!(put("/admin/v1/models/m", dangling).await.code(), "invalid_resource");
    let renamed = json!({ "name": "other", "kind": "ollama" });
    assert_eq!(put("/admin/v1/providers/x", renamed).await.code(), "invalid_value");
    assert_eq!(put("/admin/v1/providers/a%20b", json!({ "kind": "ollama" })).await.code(), "invalid_value");
    let nothing = fixture.operations.store().resources().all().await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn what_others_need_cannot_be_deleted() {
    let fixture = Fixture::new().await;
    fixture.owner(Method::PUT, "/admin/v1/providers/here", Some(json!({ "kind": "ollama" }))).await;
    let model = json!({ "targets": [{ "provider": "here", "model": "m" }] });
    let made = fixture.owner(Method::PUT, "/admin/v1/models/m", Some(model)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let answer = fixture.owner(Method::DELETE, "/admin/v1/providers/here", None).await;
    assert_eq!(answer.code(), "invalid_resource", "{}", answer.text);
    assert_eq!(fixture.owner(Method::DELETE, "/admin/v1/models/m", None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(fixture.owner(Method::DELETE, "/admin/v1/providers/here", None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_resource_made_here_cannot_read_files_or_the_environment_of_the_server() {
    let fixture = Fixture::new().await;
    let evil = "https://evil.example";
    for (path, body) in [
        ("providers/x", json!({ "kind": "openai", "base_url": evil, "api_key": { "env": "AWS_SECRET_ACCESS_KEY" } })),
        ("providers/x", json!({ "kind": "openai", "base_url": evil, "api_key": { "file": "/etc/shadow" } })),
        (
            "upstreams/x",
            json!({ "path": "/x/", "url": evil, "inject": { "header": "x-key", "value": { "file": "/etc/passwd" } } }),
        ),
        ("issuers/x", json!({ "hs256_secret": { "file": "/etc/machine-id" } })),
        ("issuers/x", json!({ "issuer": evil, "audience": ["a"], "jwks_file": "/etc/passwd" })),
    ] {
        let answer = fixture.owner(Method::PUT, &format!("/admin/v1/{path}"), Some(body)).await;
        assert_eq!(answer.code(), "invalid_resource", "{path}: {}", answer.text);
        assert!(answer.text.contains("configuration file"), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_secret_that_is_not_set_is_asked_for_and_one_bound_elsewhere_is_warned_of() {
    let fixture = with_secret("openai-key", "https://api.openai.com").await;
    let unset = json!({ "kind": "openai", "api_key": { "secret": "nothing" } });
    let answer = fixture.owner(Method::PUT, PROVIDER, Some(unset)).await;
    assert_eq!(answer.code(), "invalid_resource");
    assert!(answer.text.contains("vouchgate secret set nothing --origin https://api.openai.com"), "{}", answer.text);

    assert!(fixture.owner(Method::PUT, PROVIDER, Some(openai())).await.json().get("warnings").is_none());
    let mut moved = openai();
    moved["base_url"] = "https://evil.example/v1".into();
    let answer = fixture.owner(Method::PUT, PROVIDER, Some(moved)).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.json()["warnings"][0].as_str().unwrap().contains("set again"), "{}", answer.text);
    // Still bound to where it was set for: the data plane sends it nowhere else.
    let secret = fixture.owner(Method::GET, "/admin/v1/secrets/openai-key", None).await;
    assert_eq!(secret.json()["origin"], "https://api.openai.com");
}

#[tokio::test]
async fn lists_hold_both_sources_page_by_page_and_each_name_once() {
    let fixture = Fixture::with(IN_FILE).await;
    for name in ["a", "z", "m/with-slash", "q:colon"] {
        let path = format!("/admin/v1/providers/{}", name.replace('/', "%2F"));
        let body = json!({ "kind": "ollama" });
        let made = fixture.owner(Method::PUT, &path, Some(body)).await;
        // A provider's name is part of paths.
        let expected = if name.len() > 1 { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CREATED };
        assert_eq!(made.status, expected, "{name}: {}", made.text);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    for _ in 0..10 {
        let page = fixture.owner(Method::GET, &format!("/admin/v1/providers?limit=1{cursor}"), None).await.json();
        names.extend(page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, ["a", "local", "z"]);
}

#[tokio::test]
async fn a_name_in_the_file_and_in_the_store_is_a_fault_that_names_both() {
    let fixture = Fixture::new().await;
    fixture.owner(Method::PUT, "/admin/v1/providers/local", Some(json!({ "kind": "ollama" }))).await;
    fixture.owner(Method::POST, "/admin/v1/clients", Some(json!({ "name": "batch" }))).await;
    let text = format!("{IN_FILE}\n[[client]]\nname = \"batch\"\nscopes = [\"chat\"]\n");
    let file = config::parse(&text).unwrap();
    let faults = fixture.operations.merged_config(&file).await.unwrap().unwrap_err();
    assert_eq!(faults.len(), 2, "{faults:?}");
    for fault in faults {
        assert_eq!(fault.code, "duplicate_name");
        assert!(fault.message.contains("configuration file") && fault.message.contains("admin API"), "{fault}");
    }
}

#[tokio::test]
async fn a_model_whose_name_has_a_slash_is_found_by_its_encoded_path() {
    let fixture = Fixture::with(IN_FILE).await;
    let body = json!({ "targets": [{ "provider": "local", "model": "m" }] });
    let made = fixture.owner(Method::PUT, "/admin/v1/models/team%2Ffast", Some(body)).await;
    assert_eq!((made.status, made.json()["name"].clone()), (StatusCode::CREATED, json!("team/fast")), "{}", made.text);
    let read = fixture.owner(Method::GET, "/admin/v1/models/team%2Ffast", None).await;
    assert_eq!(read.status, StatusCode::OK);
}

#[tokio::test]
async fn explain_says_which_policy_decides_and_why() {
    let fixture = Fixture::with(IN_FILE).await;
    let ask = json!({ "issuer": "vouchgate", "subject": "s", "model": "fast" });
    let answer = fixture.owner(Method::POST, "/admin/v1/explain", Some(ask)).await;
    assert_eq!((answer.json()["allowed"].clone(), answer.json()["policy"].clone()), (json!(true), json!("first")));
    let ask = json!({ "issuer": "other", "subject": "s", "model": "fast" });
    let answer = fixture.owner(Method::POST, "/admin/v1/explain", Some(ask)).await.json();
    assert_eq!(answer["allowed"], false);
    assert!(!answer["policies"][0]["conditions"].as_array().unwrap().is_empty());
    for bad in [
        json!({}),
        json!({ "issuer": "x", "subject": "s", "ip": "nowhere" }),
        json!({ "issuer": "x", "subject": "s", "model": "a", "service": "b" }),
    ] {
        let answer = fixture.owner(Method::POST, "/admin/v1/explain", Some(bad)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}
