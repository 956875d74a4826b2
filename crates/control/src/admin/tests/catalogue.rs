//! The table of models.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::Fixture;

#[tokio::test]
async fn the_table_is_listed_page_by_page_and_by_kind_provider_and_model() {
    let fixture =
        Fixture::with("[[provider]]\nname = \"claude\"\nkind = \"anthropic\"\napi_key = { env = \"K\" }\n").await;
    let mut all: Vec<Value> = Vec::new();
    let mut path = "/admin/v1/catalogue?kind=anthropic&limit=7".to_owned();
    for _ in 0..100 {
        let page = fixture.owner(Method::GET, &path, None).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.text);
        let page = page.json();
        all.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/admin/v1/catalogue?kind=anthropic&limit=7&cursor={}", next.replace(' ', "%20"));
    }
    let names: Vec<&str> = all.iter().map(|entry| entry["model"].as_str().unwrap()).collect();
    assert!(names.len() > 7 && names.is_sorted() && all.iter().all(|entry| entry["kind"] == "anthropic"), "{names:?}");
    let known: Vec<String> =
        crate::catalogue::catalogue(Some("anthropic"), None).map(|entry| entry.model.to_owned()).collect();
    assert_eq!(names, known, "each of them once");
    let first = &all[0];
    assert!(first["source"].is_string() && first["as_of"].as_str().is_some_and(|day| day.len() == 10), "{first}");
    let one = format!("/admin/v1/catalogue?provider=claude&model={}", names[0]);
    let one = fixture.owner(Method::GET, &one, None).await.json();
    assert_eq!((one["items"].as_array().unwrap().len(), &one["items"][0]), (1, first));
    let priced = all.iter().find(|entry| entry["price"].is_object()).expect("some have a price");
    assert!(priced["price"]["input"].as_str().is_some_and(|usd| usd.ends_with(" USD")), "{priced}");
    for (path, status) in [
        ("/admin/v1/catalogue?provider=nobody", 404),
        ("/admin/v1/catalogue?limit=0", 400),
        ("/admin/v1/catalogue?name=x", 400),
    ] {
        assert_eq!(fixture.owner(Method::GET, path, None).await.status.as_u16(), status, "{path}");
    }
    let none = fixture.owner(Method::GET, "/admin/v1/catalogue?kind=nothing", None).await.json();
    assert_eq!(none, json!({"items": [], "next_cursor": null}));
}
