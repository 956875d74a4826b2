//! Budgets of requests at once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use store::{Unit, Window};
use testkit::mock::{Answer, Gate, Mock};

use super::{CHAT, answer, ask, config};
use crate::harness::{NOW, World};

/// Answers that wait at a gate after their first piece.
fn held(gate: &Gate) -> Answer {
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(60, gate)
}

fn stream(model: &str) -> serde_json::Value {
    json!({"model": model, "stream": true, "max_tokens": 10, "messages": []})
}

#[tokio::test]
async fn a_place_is_held_until_the_last_byte_and_refused_with_all_the_others_or_not_at_all() {
    let gate = Gate::closed();
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let budgets = "[[budget]]\nname = \"team\"\nconcurrent = 2\nper = \"client\"\n\
                   [[budget]]\nname = \"each\"\nconcurrent = 1\nper = \"subject\"\ntokens = 100000\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, budgets)).await;
    mock.push(held(&gate));
    let body = world.open(CHAT, &stream("p/m")).await.into_body();
    let used = || world.books.used("each", "subject=corp/alice", Unit::Tokens, Window::Total);
    let before = used();
    let refused = world.post(CHAT, &ask(10)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "budget_concurrency"));
    assert_eq!((refused.header("retry-after"), refused.header("x-should-retry")), ("1", ""));
    assert_eq!(refused.header("ratelimit"), "\"concurrent-each\";r=0");
    assert!(refused.text().contains("\\\"each\\\""), "{}", refused.text());
    assert_eq!((mock.count(), used()), (1, before), "what is refused is held nowhere");
    // Another subject of the same client takes the team's second place, and has none of it left after.
    let other = world.post_as("bob", CHAT, &ask(10)).await;
    assert_eq!(other.status, 200);
    assert_eq!(other.header("ratelimit"), "\"concurrent-team\";r=0, \"concurrent-each\";r=0");
    assert_eq!(
        other.header("ratelimit-policy"),
        "\"concurrent-team\";q=2;qu=\"concurrent-requests\", \"concurrent-each\";q=1;qu=\"concurrent-requests\""
    );
    assert_eq!(world.post_as("bob", CHAT, &ask(10)).await.status, 200, "an answer that is over holds nothing");
    drop(body);
    assert_eq!(world.post(CHAT, &ask(10)).await.status, 200);
    assert!(world.metrics().contains("vouchgate_budget_events_total{budget=\"each\",event=\"refused\"} 1"));
}

#[tokio::test]
async fn of_many_at_once_no_more_than_there_are_places_are_with_the_provider() {
    let gate = Gate::closed();
    let waits = gate.clone();
    let mock = Mock::start_with(move |_| held(&waits)).await;
    let world = World::with_budgets(&config(&mock, "[[budget]]\nname = \"cap\"\nconcurrent = 7\n")).await;
    let ask = stream("p/m");
    let opened = join_all((0..200).map(|_| world.open(CHAT, &ask))).await;
    let let_in = opened.iter().filter(|response| response.status() == 200).count();
    assert_eq!((let_in, mock.count()), (7, 7));
    drop(opened);
    assert_eq!(world.open(CHAT, &ask).await.status(), 200);
}

#[tokio::test]
async fn what_money_refuses_holds_no_place_and_what_only_counts_refuses_nobody() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let budgets = "[[budget]]\nname = \"cap\"\nconcurrent = 1\nlimit = \"0.05 USD\"\nwindow = \"total\"\n\
                   [[budget]]\nname = \"watch\"\nconcurrent = 0\nmode = \"shadow\"\n";
    let world = World::with_budgets(&config(&mock, budgets)).await;
    for _ in 0..3 {
        assert_eq!(world.post(CHAT, &ask(1000)).await.code(), "budget_exhausted");
    }
    assert_eq!(world.post(CHAT, &ask(10)).await.status, 200);
    assert!(world.metrics().contains("vouchgate_budget_events_total{budget=\"watch\",event=\"over\"} 4"));
}

#[tokio::test]
async fn parts_of_the_places_are_told_of_once_in_an_hour() {
    let gate = Gate::closed();
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let budgets = "[[budget]]\nname = \"cap\"\nconcurrent = 2\nsoft = [0.5, 1]\n";
    let world = World::with_budgets(&config(&mock, budgets)).await;
    let events = || {
        let told = world.notices.take();
        told.iter().map(|notice| notice.event.to_owned()).collect::<Vec<_>>()
    };
    let _ = events();
    mock.push(held(&gate));
    let body = world.open(CHAT, &stream("p/m")).await.into_body();
    assert_eq!(events(), ["budget.threshold"]);
    assert_eq!(world.post(CHAT, &ask(10)).await.status, 200);
    assert_eq!(events(), ["budget.threshold"], "all of it");
    assert_eq!(world.post(CHAT, &ask(10)).await.status, 200);
    assert!(events().is_empty(), "told in this hour");
    mock.push(held(&gate));
    let second = world.open(CHAT, &stream("p/m")).await.into_body();
    assert_eq!(world.post(CHAT, &ask(10)).await.status, 429);
    assert_eq!(events(), ["budget.exhausted"]);
    drop((body, second));
    world.clock.advance(Duration::from_hours(1));
    let token = format!("Bearer {}", world.token_with(&json!({"iat": NOW + 3600, "exp": NOW + 3900})));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    assert_eq!(world.send("POST", CHAT, &headers, ask(10).to_string()).await.status, 200);
    assert_eq!(events(), ["budget.threshold"]);
}

#[tokio::test]
async fn a_place_may_be_one_at_a_provider_and_one_of_a_policys_own() {
    let gate = Gate::closed();
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let more = "spend = [{ concurrent = 2, per = \"subject\" }]\n\
                [[budget]]\nname = \"apart\"\nconcurrent = 1\nper = \"provider\"\n";
    let world = World::with_budgets(&config(&mock, more)).await;
    mock.push(held(&gate));
    let body = world.open(CHAT, &stream("p/m")).await.into_body();
    assert_eq!(world.post_as("bob", CHAT, &ask(10)).await.code(), "budget_concurrency", "everybody's place there");
    let echo = json!({"model": "vouchgate/echo", "messages": []});
    let told = world.post(CHAT, &echo).await;
    assert_eq!(
        (told.status.as_u16(), told.header("ratelimit")),
        (200, "\"concurrent-policy-all-subject\";r=0, \"concurrent-apart\";r=0")
    );
    drop(body);
    assert_eq!(world.post_as("bob", CHAT, &ask(10)).await.status, 200);
}
