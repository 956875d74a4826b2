//! What providers say of what they took, and cannot have taken.

use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Mock};

use super::{CHAT, DIME, answer, ask, config};
use crate::harness::World;

const BUDGET: &str = "[[budget]]\nname = \"cap\"\nlimit = \"5 USD\"\ntokens = 100000\nwindow = \"total\"\n";

async fn charged(usage: Value, more: &str) -> (i64, i64, String) {
    let mock = Mock::start().await;
    let world = World::with_budgets(&config(&mock, &format!("{BUDGET}{more}"))).await;
    let mut told = answer(1);
    match usage {
        Value::Null => drop(told.as_object_mut().unwrap().remove("usage")),
        usage => told["usage"] = usage,
    }
    mock.push(Answer::json(200, &told));
    assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    let used = |unit| world.books.used("cap", "", unit, Window::Total);
    (used(Unit::NanoUsd), used(Unit::Tokens), world.metrics())
}

#[allow(clippy::needless_pass_by_value)] // so that each row is short
fn tokens(read: Value, made: Value) -> Value {
    json!({"prompt_tokens": read, "completion_tokens": made})
}

#[tokio::test]
async fn no_usage_makes_more_or_less_of_a_charge_than_was_held() {
    let held_tokens = i64::try_from(ask(100).to_string().len()).unwrap() + 128 + 100;
    for (usage, money, tokens, event) in [
        (tokens(json!(7), json!(50)), DIME / 2, 57, None),
        (tokens(json!(7.0), json!(50.0)), DIME / 2, 57, None),
        (Value::Null, DIME, held_tokens, Some("estimated")),
        (tokens(json!(-7), json!(-50)), DIME, held_tokens, Some("estimated")),
        (tokens(json!(7), json!("fifty")), DIME, held_tokens, Some("estimated")),
        (tokens(json!(7), json!(0.5)), DIME, held_tokens, Some("estimated")),
        (tokens(json!(7), json!(1e300)), DIME, held_tokens, Some("estimated")),
        (tokens(json!(7), json!(101)), DIME, 108, Some("clamped")),
        (tokens(json!(7), json!(9_007_199_254_740_993u64)), DIME, held_tokens, Some("clamped")),
        (tokens(json!(u64::MAX), json!(u64::MAX)), DIME, held_tokens, Some("clamped")),
    ] {
        let (cost, counted, metrics) = charged(usage.clone(), "").await;
        assert_eq!((cost, counted), (money, tokens), "{usage}");
        for kind in ["estimated", "clamped"] {
            let line = format!("budget_events_total{{budget=\"cap\",event=\"{kind}\"}}");
            assert_eq!(metrics.contains(&line), event == Some(kind), "{usage} {kind}");
        }
    }
}

#[tokio::test]
async fn what_is_not_told_is_given_back_where_the_budget_says_so() {
    let (cost, counted, metrics) = charged(Value::Null, "on_unknown = \"release\"\n").await;
    assert_eq!((cost, counted), (0, 0));
    assert!(metrics.contains("event=\"estimated\""));
}

#[tokio::test]
async fn a_record_says_what_its_request_cost_whether_a_budget_counts_it_or_not() {
    for budget in ["", BUDGET] {
        let mock = Mock::start().await;
        let world = World::with_budgets(&config(&mock, &format!("tags = [\"batch\"]\n{budget}"))).await;
        let exact = (DIME / 2, false, false);
        for (usage, expected) in [
            (tokens(json!(7), json!(50)), exact),
            (json!({"prompt_tokens": 7, "completion_tokens": 40, "total_tokens": 57}), exact),
            (Value::Null, (DIME, true, false)),
            (tokens(json!(7), json!(101)), (DIME, false, true)),
            (tokens(json!(u64::MAX), json!(u64::MAX)), (DIME, false, true)),
        ] {
            let mut told = answer(1);
            match usage.clone() {
                Value::Null => drop(told.as_object_mut().unwrap().remove("usage")),
                usage => told["usage"] = usage,
            }
            mock.push(Answer::json(200, &told));
            assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
            let charge = world.record().charge;
            assert_eq!((charge.cost.unwrap(), charge.estimated, charge.clamped), expected, "{budget} {usage}");
            assert_eq!(charge.basis.is_some(), expected == exact, "{usage}");
            assert_eq!(charge.rated, (expected == exact).then_some(expected.0), "{usage}");
            assert_eq!((charge.provider_model.as_deref(), charge.tags.len()), (Some("m"), 1));
            assert!(charge.price.unwrap().starts_with("configuration#"));
        }
        mock.push(Answer::json(400, &json!({"error": {"message": "no", "type": "invalid_request_error"}})));
        assert_eq!(world.post(CHAT, &ask(100)).await.status, 400);
        assert_eq!(world.record().charge.cost, None, "a call that failed cost nothing");
        let cost = "vouchgate_cost_usd_total{provider=\"p\",model=";
        assert!(world.metrics().contains(cost), "{}", world.metrics());
    }
}

#[tokio::test]
async fn a_request_of_unknown_price_has_no_cost_and_can_be_priced_later() {
    let mock = Mock::start().await;
    let unpriced = config(&mock, "").replace("input = \"0 USD\"\noutput = \"1000 USD\"\n", "");
    let world = World::with_budgets(&unpriced).await;
    mock.push(Answer::json(200, &answer(50)));
    assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    let charge = world.record().charge;
    assert_eq!((charge.cost, charge.rated, charge.price), (None, None, None));
    assert_eq!(charge.basis, Some(store::Basis::Tokens { factor: 1, long_cache: false }));
}
