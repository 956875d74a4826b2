//! `Idempotency-Key`: done once, answered the same, and kept sealed.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::fixture::{Answer, Fixture};

async fn create(fixture: &Fixture, name: &str, key: &str) -> Answer {
    let body = json!({ "name": name });
    fixture.owner_with(Method::POST, "/admin/v1/clients", Some(body), &[("idempotency-key", key)]).await
}

#[tokio::test]
async fn the_same_request_twice_is_done_once_and_answered_the_same() {
    let fixture = Fixture::new().await;
    let first = create(&fixture, "batch", "k1").await;
    assert_eq!(first.status, StatusCode::CREATED);
    let second = create(&fixture, "batch", "k1").await;
    assert_eq!((second.status, &second.text), (first.status, &first.text));
    assert_eq!(second.header("idempotency-replayed"), "true");
    // Without the key it is another request.
    let third = fixture.owner(Method::POST, "/admin/v1/clients", Some(json!({ "name": "batch" }))).await;
    assert_eq!((third.status, third.code().as_str()), (StatusCode::CONFLICT, "already_exists"));
}

#[tokio::test]
async fn a_key_used_for_another_request_is_refused() {
    let fixture = Fixture::new().await;
    create(&fixture, "batch", "k1").await;
    let other = create(&fixture, "other", "k1").await;
    assert_eq!((other.status, other.code().as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "idempotency_mismatch"));
    let headers = [("idempotency-key", "k1")];
    let elsewhere = fixture.owner_with(Method::POST, "/admin/v1/clients/batch/rotate", None, &headers).await;
    assert_eq!(elsewhere.code(), "idempotency_mismatch");
}

#[tokio::test]
async fn a_request_that_failed_frees_its_key() {
    let fixture = Fixture::new().await;
    assert_eq!(create(&fixture, "not a name", "k1").await.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(create(&fixture, "batch", "k1").await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn many_at_once_with_one_key_make_one_client() {
    let fixture = Fixture::new().await;
    let answers = tokio::join!(
        create(&fixture, "batch", "k1"),
        create(&fixture, "batch", "k1"),
        create(&fixture, "batch", "k1"),
        create(&fixture, "batch", "k1"),
    );
    let answers: [Answer; 4] = answers.into();
    let made: Vec<&Answer> = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).collect();
    assert!(!made.is_empty());
    assert!(made.iter().all(|answer| answer.text == made[0].text));
    for answer in answers.iter().filter(|answer| answer.status != StatusCode::CREATED) {
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::CONFLICT, "idempotency_under_way"));
        assert_eq!(answer.header("retry-after"), "1");
    }
}

#[tokio::test]
async fn an_answer_is_kept_for_a_day_and_sealed() {
    let fixture = Fixture::new().await;
    let first = create(&fixture, "batch", "k1").await;
    let secret = first.json()["client_secret"].as_str().unwrap().to_owned();
    fixture.operations.store().flush().await.unwrap();
    assert!(!fixture.stores(&secret));
    fixture.clock.advance(Duration::from_hours(23));
    assert_eq!(create(&fixture, "batch", "k1").await.text, first.text);
    fixture.clock.advance(Duration::from_hours(1));
    assert_eq!(create(&fixture, "batch", "k1").await.code(), "already_exists");
}

#[tokio::test]
async fn keys_of_two_callers_do_not_meet() {
    let fixture = Fixture::new().await;
    create(&fixture, "batch", "k1").await;
    let authorization = format!("Bearer {}", fixture.token("operator").await);
    let headers = [("authorization", authorization.as_str()), ("idempotency-key", "k1")];
    let answer =
        fixture.network(Method::POST, "/admin/v1/clients/batch/disable", (crate::fixture::ELSEWHERE, &headers)).await;
    assert_eq!((answer.status, answer.json()["disabled"].clone()), (StatusCode::OK, Value::Bool(true)));
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let fixture = Fixture::new().await;
    for key in ["", "two words", &"k".repeat(256)] {
        let answer = create(&fixture, "batch", key).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_idempotency_key"));
    }
}
