//! Installations of apps that a risk rule throttles: by what their tokens say (`thr`), whatever the policy allows.

use std::time::Duration;

use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Mock};

use crate::budgets::{DIME, answer, ask, config};
use crate::harness::{AUDIENCE, World};

const APP: &str = "[[app]]\nname = \"ios\"\nios = { team = \"ABCDE12345\", bundle = \"com.example.chat\" }\n";

async fn world(mock: &Mock) -> World {
    let limits = "rate = [{ requests = 100, per = \"subject\", window = \"1m\" }]\n";
    World::with_budgets(&config(mock, &format!("{limits}{APP}"))).await
}

async fn post(world: &World, claims: &Value) -> crate::harness::Answer {
    let mut all = json!({ "iss": AUDIENCE, "sub": "i1", "client_id": "ios", "lvl": "hw-strong" });
    for (name, value) in claims.as_object().unwrap() {
        all[name] = value.clone();
    }
    let bearer = format!("Bearer {}", world.token_with(&all));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    world.send("POST", "/v1/chat/completions", &headers, ask(100).to_string()).await
}

#[tokio::test]
async fn an_installation_that_is_throttled_asks_so_often_and_others_as_before() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let world = world(&mock).await;
    let throttled = json!({ "thr": { "rpm": 2, "nano_usd_day": null } });
    for _ in 0..2 {
        assert_eq!(post(&world, &throttled).await.status, 200);
    }
    let refused = post(&world, &throttled).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert_eq!(post(&world, &json!({ "sub": "i2", "thr": { "rpm": 2 } })).await.status, 200, "each has its own");
    assert_eq!(post(&world, &json!({})).await.status, 200, "its next token does not say so");
    assert_eq!(mock.count(), 4);
}

#[tokio::test]
async fn an_installation_that_is_throttled_spends_so_much_a_day() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let world = world(&mock).await;
    let throttled = json!({ "thr": { "nano_usd_day": 2 * DIME } });
    for _ in 0..2 {
        assert_eq!(post(&world, &throttled).await.status, 200);
    }
    assert_eq!(post(&world, &throttled).await.code(), "budget_exhausted");
    let day = Window::Rolling(Duration::from_hours(24));
    assert_eq!(world.books.used("risk throttle", "subject=vouchgate/i1", Unit::NanoUsd, day), 2 * DIME);
    assert_eq!(post(&world, &json!({})).await.status, 200);
    assert_eq!(mock.count(), 3);
}

#[tokio::test]
async fn a_throttle_that_cannot_be_read_lets_nothing_through_that_it_could_mean() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let world = world(&mock).await;
    assert_eq!(post(&world, &json!({ "thr": { "nano_usd_day": "much" } })).await.code(), "budget_exhausted");
    assert_eq!(post(&world, &json!({ "thr": { "rpm": "many" } })).await.status, 200);
    assert_eq!(post(&world, &json!({ "thr": { "rpm": "many" } })).await.code(), "rate_limited");
}

#[tokio::test]
async fn other_issuers_throttle_nobody() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let world = world(&mock).await;
    let bearer = format!("Bearer {}", world.token_with(&json!({ "lvl": "hw", "thr": { "nano_usd_day": 0 } })));
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = world.send("POST", "/v1/chat/completions", &headers, ask(1).to_string()).await;
    assert_eq!(answer.status, 200);
}
