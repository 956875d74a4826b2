//! `{{secret:NAME}}` in requests to upstreams.

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use crate::harness::{AUDIENCE, World};

/// The version in force of the secret `maps-key`, and how a URL writes it.
const VALUE: &str = "runtime-maps-key-1+/x";
const IN_URL: &str = "runtime-maps-key-1%2B%2Fx";

fn config(mock: &Mock) -> String {
    let secret = |name: &str, more: &str| {
        format!(
            "[[runtime_secret]]\nname = \"{name}\"\napps = [\"ios\"]\nheaders = [\"X-Key\"]\nquery = [\"key\"]\n{more}\n"
        )
    };
    let upstream = |name: &str| {
        format!(
            "[[upstream]]\nname = \"{name}\"\npath = \"/{name}/\"\nurl = \"{}/api/\"\nallow_private = true\n",
            mock.url()
        )
    };
    [
        "[[app]]\nname = \"ios\"\nios = { team = \"ABCDE12345\", bundle = \"com.example.chat\" }\n".to_owned(),
        upstream("maps"),
        upstream("other"),
        secret("maps-key", "upstreams = [\"maps\"]\nminimum_level = \"hw\""),
        secret("for-all", "upstreams = [\"maps\", \"other\"]\nminimum_level = \"none\""),
        secret("unset", "upstreams = [\"maps\"]\nminimum_level = \"none\""),
        secret("elsewhere", "upstreams = [\"maps\"]\nminimum_level = \"none\""),
        "[[policy]]\nname = \"all\"\nwho = {}\nmay = { upstreams = [\"*\"] }\n".to_owned(),
    ]
    .concat()
}

fn of_app(world: &World, change: &Value) -> String {
    let mut claims = json!({ "iss": AUDIENCE, "sub": "i1", "client_id": "ios", "lvl": "hw-strong" });
    for (name, value) in change.as_object().unwrap() {
        claims[name] = value.clone();
    }
    format!("Bearer {}", world.token_with(&claims))
}

async fn get(world: &World, path: &str, fields: &[(&str, &str)]) -> crate::harness::Answer {
    let bearer = of_app(world, &json!({}));
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(fields);
    world.send("GET", path, &headers, "").await
}

#[tokio::test]
async fn placeholders_in_their_places_are_replaced_by_values_and_nothing_else_changes() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "ok")).await;
    let world = World::new(&config(&mock));
    for written in ["{{secret:maps-key}}", "%7B%7Bsecret:maps-key%7D%7D", "%7b%7bse%63ret%3Amaps-key%7d}"] {
        let answer = get(&world, &format!("/maps/a?q=%41%20+b&key=v1.{written}.x&r={{}}&s"), &[]).await;
        assert_eq!(answer.text(), "ok", "{written}");
        let got = mock.request(mock.count() - 1).await;
        assert_eq!(got.target, format!("/api/a?q=%41%20+b&key=v1.{IN_URL}.x&r={{}}&s"), "{written}");
    }
    let fields =
        [("x-key", "Token {{secret:maps-key}}/{{secret:for-all}}"), ("x-other", "{{not}}"), ("range", "bytes=0-9")];
    assert_eq!(get(&world, "/maps/a", &fields).await.status, 200);
    let got = mock.request(mock.count() - 1).await;
    let value = format!("Token {VALUE}/runtime-for-all-1+/x");
    assert_eq!((got.header("x-key"), got.header("x-other")), (Some(value.as_str()), Some("{{not}}")));
    assert_eq!((got.header("accept-encoding"), got.header("range")), (Some("identity"), None));

    let bearer = of_app(&world, &json!({}));
    let body = "{{secret:maps-key}}";
    assert_eq!(world.send("POST", "/maps/a", &[("authorization", &bearer)], body).await.status, 200);
    assert_eq!(mock.request(mock.count() - 1).await.body, body.as_bytes(), "bodies are not looked at");
}

#[tokio::test]
async fn who_may_not_use_a_secret_cannot_tell_it_from_one_that_is_not_there() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "ok")).await;
    let world = World::new(&config(&mock));
    let mut said = Vec::new();
    for (claims, path, secret, reason) in [
        (json!({}), "/maps/a", "nothing", "runtime_secret_unknown"),
        (json!({}), "/other/a", "maps-key", "runtime_secret_unknown"),
        (json!({ "client_id": "android" }), "/maps/a", "maps-key", "runtime_secret_app"),
        (json!({ "iss": "https://id.example.com/" }), "/maps/a", "maps-key", "runtime_secret_app"),
        (json!({ "lvl": "verdict" }), "/maps/a", "maps-key", "runtime_secret_level"),
        (json!({ "lvl": "HW-STRONG" }), "/maps/a", "maps-key", "runtime_secret_level"),
        (json!({ "lvl": null }), "/maps/a", "maps-key", "runtime_secret_level"),
    ] {
        let bearer = of_app(&world, &claims);
        let field = format!("{{{{secret:{secret}}}}}");
        let answer = world.send("GET", path, &[("authorization", &bearer), ("x-key", &field)], "").await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "runtime_secret_unknown"), "{claims}");
        assert_eq!(world.record().error.as_deref(), Some(reason), "{claims}");
        said.push(answer.text());
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
    let bearer = of_app(&world, &json!({ "lvl": null }));
    let field = [("authorization", bearer.as_str()), ("x-key", "{{secret:for-all}}")];
    assert_eq!(world.send("GET", "/other/a", &field, "").await.status, 200);
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn a_placeholder_where_none_may_stand_is_refused_and_nothing_is_sent() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "ok")).await;
    let world = World::new(&config(&mock));
    for (path, field, code) in [
        ("/maps/a", ("x-other", "{{secret:maps-key}}"), "runtime_secret_place"),
        ("/maps/a?q={{secret:maps-key}}", ("x-a", ""), "runtime_secret_place"),
        ("/maps/a?KEY={{secret:maps-key}}", ("x-a", ""), "runtime_secret_place"),
        ("/maps/a", ("x-key", "{{secret:maps-key"), "runtime_secret_malformed"),
        ("/maps/a", ("x-key", "{{secret:}}"), "runtime_secret_malformed"),
        ("/maps/a", ("x-key", "{{secret:{{secret:maps-key}}}}"), "runtime_secret_unknown"),
        ("/maps/a?key={{secret:unset}}", ("x-a", ""), "runtime_secret_missing"),
        ("/maps/a?key={{secret:elsewhere}}", ("x-a", ""), "runtime_secret_missing"),
    ] {
        let answer = get(&world, path, &[field]).await;
        assert_eq!(answer.code(), code, "{path} {field:?}");
        assert!(!answer.text().contains("runtime-"), "{}", answer.text());
    }
    let many = "{{secret:maps-key}}".repeat(9);
    assert_eq!(get(&world, "/maps/a", &[("x-key", &many)]).await.code(), "runtime_secret_malformed");
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn an_answer_that_repeats_the_value_does_not_reach_the_caller() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let key = [("x-key", "{{secret:maps-key}}")];
    let page = format!("<p>no such key: {VALUE}</p>");
    for status in [200, 403] {
        mock.push(Answer::bytes(status, "text/html", page.clone()));
        let answer = get(&world, "/maps/a", &key).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (502, "runtime_secret_echoed"));
    }
    mock.push(Answer::bytes(200, "text/event-stream", format!("data: a\n\ndata: {VALUE}\n\n")));
    let answer = get(&world, "/maps/a", &key).await;
    assert!(answer.broken && !answer.text().contains("runtime-"), "{}", answer.text());
    assert_eq!(world.record().error.as_deref(), Some("runtime_secret_echoed"));

    let back = format!("{}/api/b?key={IN_URL}", mock.url());
    mock.push(Answer::redirect(302, &back).header("x-asked", VALUE).header("etag", "\"1\""));
    let answer = get(&world, "/maps/a?key={{secret:maps-key}}", &[]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location"), answer.header("x-asked")), (302, "", ""));
    assert_eq!(answer.header("etag"), "\"1\"");

    mock.push(Answer::bytes(200, "text/plain", "whatever").header("content-encoding", "gzip"));
    assert_eq!(get(&world, "/maps/a", &key).await.code(), "upstream_encoding");
    mock.push(Answer::bytes(200, "text/html", page.clone()));
    assert_eq!(get(&world, "/maps/a", &[]).await.text(), page, "whoever sends none is sent everything");
}

#[tokio::test]
async fn the_next_version_is_sent_from_its_moment_on() {
    let mock = Mock::start_with(|_| Answer::bytes(200, "text/plain", "ok")).await;
    let world = World::new(&config(&mock));
    let (now, end) = (crate::harness::NOW, crate::harness::NOW + 8000);
    let mut sent = Vec::new();
    for wait in [3599, 1, 120] {
        world.clock.advance(std::time::Duration::from_secs(wait));
        let bearer = of_app(&world, &json!({ "iat": now, "exp": end }));
        let fields = [("authorization", bearer.as_str()), ("x-key", "{{secret:maps-key}}")];
        assert_eq!(world.send("GET", "/maps/a", &fields, "").await.status, 200);
        sent.push(mock.request(mock.count() - 1).await.header("x-key").map(str::to_owned).unwrap());
    }
    assert_eq!(sent, [VALUE, "runtime-maps-key-2+/x", "runtime-maps-key-2+/x"]);
}

#[tokio::test]
async fn where_the_new_version_of_a_secret_is_refused_the_old_one_is_used_as_long_as_it_is_in_force() {
    let mock = Mock::start_with(|request| {
        let old = request.header("x-key") == Some(VALUE);
        if old { Answer::bytes(200, "text/plain", "ok") } else { Answer::json(401, &json!({"error": "no"})) }
    })
    .await;
    let world = World::new(&config(&mock));
    let bearer = of_app(&world, &json!({ "exp": crate::harness::NOW + 7200 }));
    let fields = [("authorization", bearer.as_str()), ("x-key", "{{secret:maps-key}}")];
    // Both are in force for a minute.
    world.clock.advance(std::time::Duration::from_secs(3601));
    for _ in 0..2 {
        assert_eq!(world.send("GET", "/maps/a", &fields, "").await.text(), "ok");
    }
    assert_eq!(mock.count(), 3, "the new one is refused once and then left alone");
    let told = world.notices.take();
    assert_eq!(
        (told.len(), &told[0].data["provider"], &told[0].data["key"]),
        (1, &json!("maps-key"), &json!("runtime_secret"))
    );
    // The old one's time is over.
    world.clock.advance(std::time::Duration::from_secs(61));
    assert_eq!((world.send("GET", "/maps/a", &fields, "").await.status.as_u16(), mock.count()), (401, 4));
}
