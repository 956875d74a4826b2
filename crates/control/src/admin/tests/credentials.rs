//! Credentials: shown once, kept as hashes or sealed, bound, rotated, revoked.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;

async fn secret_of(fixture: &Fixture, path: &str, body: Value, member: &str) -> String {
    let answer = fixture.owner(Method::POST, path, Some(body)).await;
    assert!(answer.status.is_success(), "{}", answer.text);
    answer.json()[member].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn every_credential_is_shown_once_and_stored_nowhere() {
    let fixture = Fixture::new().await;
    let client = secret_of(&fixture, "/admin/v1/clients", json!({ "name": "c" }), "client_secret").await;
    let rotated = secret_of(&fixture, "/admin/v1/clients/c/rotate", json!({}), "client_secret").await;
    let key = secret_of(&fixture, "/admin/v1/apikeys", json!({ "name": "k" }), "api_key").await;
    let body = json!({ "name": "a", "role": "viewer" });
    let admin = secret_of(&fixture, "/admin/v1/admin-tokens", body, "admin_token").await;
    let canary = "sk-canary-4f1d7a90c2e8".to_owned();
    let body = json!({ "value": canary, "origin": "https://api.example.com" });
    fixture.owner(Method::PUT, "/admin/v1/secrets/s", Some(body)).await;

    fixture.operations.store().flush().await.unwrap();
    let mut shown = String::new();
    for path in ["clients", "clients/c", "apikeys", "apikeys/k", "admin-tokens", "secrets", "secrets/s", "keys"] {
        let answer = fixture.owner(Method::GET, &format!("/admin/v1/{path}"), None).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        shown.push_str(&answer.text);
    }
    for secret in [&client, &rotated, &key, &admin, &canary] {
        assert!(!shown.contains(secret.as_str()));
        assert!(!fixture.stores(secret));
    }
    assert!(!shown.contains("\"d\"") && !shown.contains("hash"), "{shown}");
}

#[tokio::test]
async fn a_secret_is_bound_to_the_origin_of_what_names_it() {
    let fixture = Fixture::with(
        "[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_key = { secret = \"one\" }\n
         [[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"https://maps.example.com/v2\"\ninject = { header = \"X-Api-Key\", value = { secret = \"two\" } }\n
         [[provider]]\nname = \"b\"\nkind = \"openai\"\nbase_url = \"https://other.example\"\napi_key = { secret = \"both\" }\n
         [[provider]]\nname = \"c\"\nkind = \"openai\"\napi_key = { secret = \"both\" }\n
         [[issuer]]\nname = \"node\"\nhs256_secret = { secret = \"jwt\" }\n",
    )
    .await;
    let set = async |name: &str, body: Value| {
        fixture.owner(Method::PUT, &format!("/admin/v1/secrets/{name}"), Some(body)).await
    };
    let value = || json!({ "value": "sk-canary-0123456789abcdefwxyz" });
    let one = set("one", value()).await.json();
    assert_eq!(
        (one["origin"].clone(), one["used_by"].clone()),
        (json!("https://api.openai.com"), json!(["provider a"]))
    );
    assert_eq!((one["version"].clone(), one["last4"].clone()), (json!(1), json!("wxyz")));
    assert_eq!(set("two", value()).await.json()["origin"], "https://maps.example.com");
    assert!(set("jwt", value()).await.json().get("origin").is_none());
    let both = set("both", value()).await;
    assert_eq!((both.status, both.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value"));
    assert!(both.text.contains("provider b and provider c"), "{}", both.text);
    let unnamed = set("nobody", value()).await;
    assert!(unnamed.text.contains("--origin"), "{}", unnamed.text);
    let asked = set("nobody", json!({ "value": "short", "origin": "https://x.example:8443/path?q" })).await.json();
    assert_eq!(asked["origin"], "https://x.example:8443");
    assert!(asked.get("last4").is_none());
    assert_eq!(set("one", value()).await.json()["version"], 2);
}

#[tokio::test]
async fn values_that_cannot_be_sent_as_they_are_are_refused() {
    let fixture = Fixture::new().await;
    for value in ["", "a\r\nx-evil: 1", "a\nb", " padded", "padded ", "nul\0", &"x".repeat(65_600)] {
        let body = json!({ "value": value, "origin": "https://a.example" });
        let answer = fixture.owner(Method::PUT, "/admin/v1/secrets/s", Some(body)).await;
        assert!(answer.status.is_client_error(), "{value:?}");
        assert!(value.is_empty() || !answer.text.contains(value));
    }
    for origin in ["", "nowhere", "file:///etc", "data:x", "ftp://a.example"] {
        let body = json!({ "value": "v", "origin": origin });
        let answer = fixture.owner(Method::PUT, "/admin/v1/secrets/s", Some(body)).await;
        assert_eq!(answer.code(), "invalid_value", "{origin:?}");
    }
}

#[tokio::test]
async fn rotating_a_secret_keeps_its_origin_and_deleting_one_in_use_is_refused() {
    let fixture =
        Fixture::with("[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_key = { secret = \"one\" }\n").await;
    let rotate = async |body: Value| fixture.owner(Method::POST, "/admin/v1/secrets/one/rotate", Some(body)).await;
    assert_eq!(rotate(json!({ "value": "x" })).await.status, StatusCode::NOT_FOUND);
    fixture.owner(Method::PUT, "/admin/v1/secrets/one", Some(json!({ "value": "first" }))).await;
    let rotated = rotate(json!({ "value": "second" })).await.json();
    assert_eq!((rotated["version"].clone(), rotated["origin"].clone()), (json!(2), json!("https://api.openai.com")));
    let moved = rotate(json!({ "value": "third", "origin": "https://evil.example" })).await;
    assert_eq!(moved.code(), "invalid_value");
    let deleted = fixture.owner(Method::DELETE, "/admin/v1/secrets/one", None).await;
    assert_eq!((deleted.status, deleted.code().as_str()), (StatusCode::CONFLICT, "not_allowed"));
    fixture.operations.set_file(std::sync::Arc::new(config::Config::empty()));
    assert_eq!(fixture.owner(Method::DELETE, "/admin/v1/secrets/one", None).await.status, StatusCode::NO_CONTENT);
}

/// A provider that accepts keys that end in `good`.
#[derive(Debug)]
struct Particular;

impl crate::operations::KeyProbe for Particular {
    fn probe<'a>(
        &'a self,
        provider: &'a config::Provider,
        key: &'a base::Secret<String>,
    ) -> crate::admin::Pending<'a, Result<String, crate::operations::NotAccepted>> {
        assert_eq!(provider.name.as_str(), "a");
        let answer = match key.expose() {
            key if key.ends_with("good") => Ok("accepts it".to_owned()),
            key => Err(crate::operations::NotAccepted { refused: key.ends_with("bad"), message: "says no".to_owned() }),
        };
        Box::pin(std::future::ready(answer))
    }
}

#[tokio::test]
async fn a_rotated_value_is_tried_first_and_the_old_one_stays_for_a_while() {
    let provider = "[[provider]]\nname = \"a\"\nkind = \"openai\"\napi_key = { secret = \"one\" }\n";
    let fixture = Fixture::probed(provider, std::sync::Arc::new(Particular)).await;
    fixture.owner(Method::PUT, "/admin/v1/secrets/one", Some(json!({ "value": "first-value-good" }))).await;
    let post = async |end: &str, body: Value| {
        fixture.owner(Method::POST, &format!("/admin/v1/secrets/one/{end}"), Some(body)).await
    };
    let slots = |shown: &Value| {
        let slots = shown["slots"].as_array().cloned().unwrap_or_default();
        slots.iter().map(|slot| (slot["slot"].clone(), slot["version"].clone())).collect::<Vec<_>>()
    };
    for (value, code) in [("second-value-bad", "key_refused"), ("second-value-odd", "key_not_probed")] {
        let refused = post("rotate", json!({ "value": value })).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (422, code));
        assert!(!refused.text.contains(value) && refused.text.contains("nothing was changed"), "{}", refused.text);
    }
    let shown = fixture.owner(Method::GET, "/admin/v1/secrets/one", None).await.json();
    assert_eq!((shown["version"].clone(), slots(&shown)), (json!(1), vec![]), "a failed probe changes nothing");

    let rotated = post("rotate", json!({ "value": "second-value-good" })).await.json();
    assert_eq!((&rotated["version"], &rotated["probed"]), (&json!(2), &json!("a: accepts it")));
    assert_eq!(slots(&rotated), [(json!("old"), json!(1))]);
    // One that cannot be asked about, kept to be used next.
    let staged = post("rotate", json!({ "value": "third-value", "probe": false, "next": true })).await.json();
    assert_eq!((&staged["version"], &staged["probed"]), (&json!(2), &json!("not asked")));
    assert_eq!(slots(&staged), [(json!("next"), json!(3)), (json!("old"), json!(1))]);
    let active = post("activate", json!({})).await.json();
    assert_eq!((active["version"].clone(), slots(&active)), (json!(3), vec![(json!("old"), json!(2))]));
    assert_eq!(post("activate", json!({})).await.code(), "not_allowed");
    let retired = post("retire", json!({ "slot": "old" })).await.json();
    assert_eq!((retired["version"].clone(), slots(&retired)), (json!(3), vec![]));
    assert_eq!(post("retire", json!({ "slot": "old" })).await.code(), "not_allowed");
    assert_eq!(post("retire", json!({ "slot": "current" })).await.status, StatusCode::UNPROCESSABLE_ENTITY);
    // A leaked one is not kept.
    let leaked = post("rotate", json!({ "value": "fourth-value-good", "keep_old": "0s" })).await.json();
    assert_eq!((leaked["version"].clone(), slots(&leaked)), (json!(4), vec![]));
    assert_eq!(
        post("rotate", json!({ "value": "fifth-value-good", "keep_old": "soon" })).await.code(),
        "invalid_value"
    );
    for end in ["rotate", "activate", "retire"] {
        let body = if end == "retire" { json!({ "slot": "old" }) } else { json!({ "value": "x" }) };
        let body = if end == "activate" { json!({}) } else { body };
        let nobody = fixture.owner(Method::POST, &format!("/admin/v1/secrets/nobody/{end}"), Some(body)).await;
        assert_eq!(nobody.status, StatusCode::NOT_FOUND, "{end}");
    }
}

#[tokio::test]
async fn a_stored_secret_opens_under_its_origin_only() {
    use vault::{Label, Purpose};
    let fixture = Fixture::new().await;
    let body = json!({ "value": "sk-canary", "origin": "https://a.example" });
    fixture.owner(Method::PUT, "/admin/v1/secrets/s", Some(body)).await;
    let store = fixture.operations.store();
    let name = base::Name::new("s").unwrap();
    let secret = store.secrets().current(&name).await.unwrap().unwrap();
    let label = Label::new(store.tenant(), Purpose::Secret, "s", 1);
    let open = |origin| fixture.operations.vault().open(&label.origin(origin), &secret.sealed);
    assert_eq!(open(Some("https://a.example")).unwrap().expose(), b"sk-canary");
    assert!(open(Some("https://evil.example")).is_err());
    assert!(open(None).is_err());
}

#[tokio::test]
async fn a_vouchgate_key_has_a_form_a_name_an_end_and_can_be_revoked() {
    let fixture = Fixture::new().await;
    let create = async |body: Value| fixture.owner(Method::POST, "/admin/v1/apikeys", Some(body)).await;
    let made = create(json!({ "name": "laptop", "scopes": ["chat"], "expires": "1d" })).await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let made = made.json();
    let key = made["api_key"].as_str().unwrap();
    assert!(key.starts_with("vg_") && key.len() == 46, "{key}");
    assert!(key.ends_with(made["last4"].as_str().unwrap()));
    assert_eq!((made["subject"].clone(), made["state"].clone()), (json!("laptop"), json!("live")));
    // What the data plane looks a presented key up by.
    let hash = fixture.operations.vault().keyed_hash(vault::HashPurpose::ApiKey, key.as_bytes());
    let found = fixture.operations.store().api_keys().by_hash(hash).await.unwrap().unwrap();
    assert_eq!(found.name.as_str(), "laptop");

    assert_eq!(create(json!({ "name": "laptop" })).await.code(), "already_exists");
    for bad in [
        json!({ "name": "x", "expires": "0s" }),
        json!({ "name": "x", "scopes": ["a b"] }),
        json!({ "name": "x", "subject": "" }),
        json!({ "name": "x", "client": "a b" }),
    ] {
        assert_eq!(create(bad.clone()).await.code(), "invalid_value", "{bad}");
    }
    fixture.clock.advance(Duration::from_hours(24));
    let shown = fixture.owner(Method::GET, &format!("/admin/v1/apikeys/{}", made["id"].as_str().unwrap()), None).await;
    assert_eq!(shown.json()["state"], "expired");
    assert_eq!(create(json!({ "name": "laptop" })).await.status, StatusCode::CREATED);
    let revoked = fixture.owner(Method::DELETE, "/admin/v1/apikeys/laptop", None).await;
    assert_eq!(revoked.json()["state"], "revoked");
    assert_eq!(fixture.owner(Method::DELETE, "/admin/v1/apikeys/laptop", None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(fixture.owner(Method::GET, "/admin/v1/apikeys/laptop", None).await.status, StatusCode::NOT_FOUND);
    assert_eq!(
        fixture.owner(Method::GET, "/admin/v1/apikeys", None).await.json()["items"].as_array().unwrap().len(),
        2
    );
}

#[tokio::test]
async fn clients_of_the_api_change_and_those_of_the_file_do_not() {
    let fixture = Fixture::with("[[client]]\nname = \"filed\"\nscopes = [\"chat\"]\n").await;
    let made = fixture.owner(Method::POST, "/admin/v1/clients", Some(json!({ "name": "c", "scopes": ["chat"] }))).await;
    let tag = made.header("etag").to_owned();
    assert_eq!(made.json()["token_ttl"], "5m");
    let update = json!({ "scopes": ["chat", "embed"], "token_ttl": "10m" });
    let changed =
        fixture.owner_with(Method::PUT, "/admin/v1/clients/c", Some(update.clone()), &[("if-match", &tag)]).await;
    assert_eq!((changed.status, changed.json()["scopes"].clone()), (StatusCode::OK, json!(["chat", "embed"])));
    let stale =
        fixture.owner_with(Method::PUT, "/admin/v1/clients/c", Some(update.clone()), &[("if-match", &tag)]).await;
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    for bad in [
        json!({ "scopes": [], "token_ttl": "25h" }),
        json!({ "scopes": [], "token_ttl": "1s" }),
        json!({ "scopes": [""] }),
    ] {
        assert_eq!(fixture.owner(Method::PUT, "/admin/v1/clients/c", Some(bad)).await.code(), "invalid_value");
    }
    let none = fixture.owner(Method::PUT, "/admin/v1/clients/nobody", Some(update.clone())).await;
    assert_eq!(none.status, StatusCode::NOT_FOUND);
    for (method, path, body) in [
        (Method::PUT, "clients/filed", Some(update)),
        (Method::DELETE, "clients/filed", None),
        (Method::POST, "clients/filed/rotate", None),
        (Method::POST, "clients/filed/disable", None),
        (Method::POST, "clients", Some(json!({ "name": "filed" }))),
    ] {
        let answer = fixture.owner(method, &format!("/admin/v1/{path}"), body).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "in_configuration_file"), "{path}");
    }
    let listed = fixture.owner(Method::GET, "/admin/v1/clients", None).await.json();
    let sources: Vec<&str> =
        listed["items"].as_array().unwrap().iter().map(|c| c["source"].as_str().unwrap()).collect();
    assert_eq!(sources, ["api", "file"]);
    assert_eq!(fixture.owner(Method::DELETE, "/admin/v1/clients/c", None).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn an_administrator_mints_within_what_the_client_may() {
    let fixture =
        Fixture::with("[[client]]\nname = \"filed\"\nscopes = [\"chat\", \"embed\"]\ntoken_ttl = \"10m\"\n").await;
    let mint = async |body: Value| fixture.owner(Method::POST, "/admin/v1/tokens", Some(body)).await;
    let minted = mint(json!({ "client": "filed", "scope": "embed", "ttl": "1m", "subject": "alice" })).await;
    assert_eq!(minted.status, StatusCode::CREATED, "{}", minted.text);
    assert_eq!((minted.json()["expires_in"].clone(), minted.json()["scope"].clone()), (json!(60), json!("embed")));
    assert_eq!(mint(json!({ "client": "filed" })).await.json()["scope"], "chat embed");
    assert_eq!(mint(json!({ "client": "nobody" })).await.status, StatusCode::NOT_FOUND);
    for bad in [
        json!({ "client": "filed", "scope": "admin" }),
        json!({ "client": "filed", "ttl": "11m" }),
        json!({ "client": "filed", "ttl": "0s" }),
        json!({ "client": "filed", "subject": "" }),
        json!({ "client": "filed", "subject": "a\nb" }),
    ] {
        assert_eq!(mint(bad.clone()).await.code(), "invalid_value", "{bad}");
    }
    fixture.owner(Method::POST, "/admin/v1/clients", Some(json!({ "name": "c" }))).await;
    fixture.owner(Method::POST, "/admin/v1/clients/c/disable", None).await;
    assert_eq!(mint(json!({ "client": "c" })).await.code(), "not_allowed");
    fixture.owner(Method::POST, "/admin/v1/clients/c/enable", None).await;
    assert_eq!(mint(json!({ "client": "c" })).await.status, StatusCode::CREATED);
}
