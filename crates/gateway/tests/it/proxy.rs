//! Any other HTTP API behind the same checks.

use testkit::mock::{Answer, Mock};

use crate::harness::{PROVIDER_KEY, World};

fn world(mock: &Mock) -> World {
    World::new(&format!(
        "[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/api/\"\nallow_private = true\nmethods = [\"GET\", \"POST\"]\n\
         inject = {{ header = \"X-Api-Key\", value = {{ env = \"K\" }} }}\n\
         [[policy]]\nname = \"all\"\nwho = {{ subject = \"alice\" }}\nmay = {{ upstreams = [\"maps\"] }}\n",
        mock.url()
    ))
}

#[tokio::test]
async fn a_request_goes_on_with_the_injected_key_and_without_the_callers() {
    let mock = Mock::start_with(|_| {
        Answer::bytes(201, "image/png", "png").header("etag", "\"1\"").header("set-cookie", "a=b").header("x-tile", "7")
    })
    .await;
    let world = world(&mock);
    let token = world.token("alice");
    let bearer = format!("Bearer {token}");
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-forwarded-for", "1.1.1.1"),
        ("cookie", "a=b"),
        ("x-fields", "a,b"),
        ("connection", "x-drop"),
        ("x-drop", "1"),
        ("content-type", "text/csv"),
    ];
    let answer = world.send("POST", "/maps/tiles/1%20a?x=1&y=2", &headers, "a,b").await;
    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (201, "png"));
    assert_eq!((answer.header("x-tile"), answer.header("etag"), answer.header("set-cookie")), ("7", "\"1\"", ""));
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), got.body.as_slice()), ("/api/tiles/1%20a?x=1&y=2", b"a,b".as_slice()));
    assert_eq!((got.header("x-api-key"), got.header("x-fields")), (Some(PROVIDER_KEY), Some("a,b")));
    assert_eq!(got.header("content-type"), Some("text/csv"));
    for name in ["authorization", "cookie", "x-forwarded-for", "x-drop"] {
        assert_eq!(got.header(name), None, "{name}");
    }
    assert!(!String::from_utf8_lossy(&got.head).contains(&token));
    assert_eq!(world.record().provider.as_ref().map(base::Name::as_str), Some("maps"));
}

#[tokio::test]
async fn only_listed_methods_and_allowed_callers_reach_it() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "x")).await;
    let world = world(&mock);
    let bearer = format!("Bearer {}", world.token("alice"));
    let delete = world.send("DELETE", "/maps/x", &[("authorization", &bearer)], "").await;
    assert_eq!((delete.status.as_u16(), delete.header("allow")), (405, "GET, POST"));
    assert_eq!(world.get_as("bob", "/maps/x").await.code(), "upstream_not_allowed");
    assert_eq!(world.get_as("alice", "/maps").await.status, 404);
    assert_eq!(world.send("GET", "/maps/x", &[], "").await.status, 401);
    for trick in ["/maps/../v1", "/maps/%2e%2e/v1", "/maps/a%2fb", "/maps//x", "/maps/x;y"] {
        assert_eq!(world.get_as("alice", trick).await.status, 400, "{trick}");
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_leads_nowhere_but_here() {
    let mock = Mock::start().await;
    let world = world(&mock);
    mock.push(Answer::redirect(302, "https://evil.example/x"));
    let answer = world.get_as("alice", "/maps/x").await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (302, ""));
    mock.push(Answer::redirect(302, &format!("{}/api/y?z", mock.url())));
    assert_eq!(world.get_as("alice", "/maps/x").await.header("location"), "/maps/y?z");
    assert_eq!(mock.count(), 2);
}

#[tokio::test]
async fn an_answer_that_is_cut_breaks_the_connection() {
    let mock = Mock::start().await;
    mock.push(Answer::bytes(200, "text/plain", "x".repeat(1000)).cut_after(100));
    let world = world(&mock);
    let answer = world.get_as("alice", "/maps/x").await;
    assert!(answer.broken);
    assert_eq!(world.record().error.as_deref(), Some("body_cut"));
}
