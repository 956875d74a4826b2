//! Values of runtime secrets: set, followed by others, ended.

use std::time::Duration;

use base::Name;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use store::{SecretUse, Used};

use crate::fixture::Fixture;

const CONFIG: &str = r#"
[[upstream]]
name = "maps"
path = "/maps/"
url = "https://maps.example.com/"
[[runtime_secret]]
name = "maps-key"
apps = ["tool"]
minimum_level = "none"
upstreams = ["maps"]
query = ["key"]
"#;
const PATH: &str = "/admin/v1/runtime-secrets/maps-key";

async fn post(fixture: &Fixture, way: &str, body: Value) -> (StatusCode, Value) {
    let answer = fixture.owner(Method::POST, &format!("{PATH}/{way}"), Some(body)).await;
    (answer.status, answer.json())
}

/// Version and state of each version.
async fn states(fixture: &Fixture) -> Vec<(u64, String)> {
    let shown = fixture.owner(Method::GET, &format!("{PATH}/versions"), None).await;
    assert!(!shown.text.contains("canary"), "{}", shown.text);
    let shown = shown.json();
    let versions = shown["versions"].as_array().unwrap().iter();
    versions.map(|v| (v["version"].as_u64().unwrap(), v["state"].as_str().unwrap().to_owned())).collect()
}

fn state(version: u64, state: &str) -> (u64, String) {
    (version, state.to_owned())
}

#[tokio::test]
async fn a_version_follows_another_with_overlap_and_is_ended() {
    let fixture = Fixture::with(CONFIG).await;
    assert_eq!(post(&fixture, "rotate", json!({ "value": "canary-0" })).await.0, StatusCode::NOT_FOUND);
    let (status, set) = post(&fixture, "versions", json!({ "value": "canary-1" })).await;
    assert_eq!((status, &set["current"]), (StatusCode::CREATED, &json!(1)), "{set}");
    assert_eq!(set["versions"][0]["origin"], "https://maps.example.com");

    let (status, rotated) = post(&fixture, "rotate", json!({ "value": "canary-2", "after": "10m" })).await;
    assert_eq!((status, &rotated["current"]), (StatusCode::CREATED, &json!(1)), "{rotated}");
    assert_eq!(states(&fixture).await, [state(2, "next"), state(1, "current")]);
    fixture.clock.advance(Duration::from_mins(10));
    assert_eq!(states(&fixture).await, [state(2, "current"), state(1, "old")]);
    let (status, retired) = post(&fixture, "retire", json!({})).await;
    assert_eq!((status, &retired["current"]), (StatusCode::OK, &json!(2)), "{retired}");
    assert_eq!(states(&fixture).await, [state(2, "current"), state(1, "ended")]);
    assert_eq!(post(&fixture, "retire", json!({})).await.0, StatusCode::CONFLICT, "there is nothing older");

    post(&fixture, "rotate", json!({ "value": "canary-3", "overlap": "30s" })).await;
    assert_eq!(states(&fixture).await[1], state(2, "old"));
    fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(states(&fixture).await[1], state(2, "ended"));
    post(&fixture, "versions", json!({ "value": "canary-4" })).await;
    assert_eq!(states(&fixture).await[..2], [state(4, "current"), state(3, "ended")], "setting leaves no overlap");
    let (_, retired) = post(&fixture, "retire", json!({ "version": 4 })).await;
    assert!(retired["warnings"][0].as_str().is_some_and(|w| w.contains("no value is in force")), "{retired}");

    let list = fixture.owner(Method::GET, "/admin/v1/runtime-secret-versions", None).await.json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    let gone = fixture.owner(Method::DELETE, &format!("{PATH}/versions"), None).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(states(&fixture).await, []);
}

#[tokio::test]
async fn the_use_of_each_version_is_shown() {
    let fixture = Fixture::with(CONFIG).await;
    post(&fixture, "versions", json!({ "value": "canary-1" })).await;
    let name = Name::new("maps-key").unwrap();
    let at = fixture.operations.clock().now();
    for how in [SecretUse::Substituted, SecretUse::Substituted, SecretUse::Delivered] {
        let used = Used { name: &name, version: 1, old: false, app: "tool", how, at };
        fixture.operations.store().secret_tally().count(used);
    }
    let shown = fixture.owner(Method::GET, &format!("{PATH}/versions"), None).await.json();
    let version = &shown["versions"][0];
    let uses: Vec<_> =
        version["uses"].as_array().unwrap().iter().map(|u| (u["how"].clone(), u["uses"].clone())).collect();
    assert_eq!(uses, [(json!("delivered"), json!(1)), (json!("substituted"), json!(2))], "{shown}");
    assert_eq!(version["last_used_at"], at.rfc3339());
    assert_eq!(version["held_until"], at.plus(Duration::from_mins(5)).rfc3339());
}

#[tokio::test]
async fn what_cannot_be_a_value_is_refused() {
    let fixture = Fixture::with(CONFIG).await;
    for body in [
        json!({ "value": "" }),
        json!({ "value": "a\nb" }),
        json!({ "value": " a" }),
        json!({ "value": "x".repeat(4097) }),
        // Too short to be found in an answer.
        json!({ "value": "canary7" }),
        json!({ "value": "canary-1", "overlap": "soon" }),
        json!({ "value": "canary-1", "after": "367d" }),
        json!({ "value": "canary-1", "other": 1 }),
    ] {
        let (status, said) = post(&fixture, "versions", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{said}");
        assert!(!said.to_string().contains("canary"), "{said}");
    }
    let path = "/admin/v1/runtime-secrets/another/versions";
    let unknown = fixture.owner(Method::POST, path, Some(json!({ "value": "canary" }))).await;
    assert_eq!(unknown.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(unknown.text.contains("[[runtime_secret]]"), "{}", unknown.text);
}

#[tokio::test]
async fn a_value_that_was_set_for_another_use_or_origin_is_told_of() {
    let fixture =
        Fixture::with("[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"https://maps.example.com/\"\n").await;
    let resource = |change: Value| {
        let mut body = json!({ "apps": ["tool"], "minimum_level": "none", "upstreams": ["maps"], "query": ["key"] });
        for (name, value) in change.as_object().unwrap() {
            body[name] = value.clone();
        }
        body
    };
    let put = async |change: Value| fixture.owner(Method::PUT, PATH, Some(resource(change))).await;
    assert_eq!(put(json!({})).await.status, StatusCode::CREATED);
    post(&fixture, "versions", json!({ "value": "canary-1" })).await;
    let warnings =
        async || fixture.owner(Method::GET, &format!("{PATH}/versions"), None).await.json()["warnings"].clone();
    assert_eq!(warnings().await, Value::Null);
    let other = json!({ "path": "/other/", "url": "https://other.example.com/" });
    assert_eq!(fixture.owner(Method::PUT, "/admin/v1/upstreams/other", Some(other)).await.status, StatusCode::CREATED);
    assert_eq!(put(json!({ "upstreams": ["other"] })).await.status, StatusCode::OK);
    assert!(warnings().await[0].as_str().unwrap().contains("another origin"));
    let app = json!({ "ios": { "team": "ABCDE12345", "bundle": "com.example.chat" } });
    assert_eq!(fixture.owner(Method::PUT, "/admin/v1/apps/tool", Some(app)).await.status, StatusCode::CREATED);
    let deliver = put(json!({ "deliver": true, "minimum_level": "hw" })).await;
    assert_eq!(deliver.status, StatusCode::OK, "{}", deliver.text);
    assert!(warnings().await[0].as_str().unwrap().contains("not to be delivered"));
}
