//! What budgets have spent, and raising them for a while.

use http::{Method, StatusCode};
use serde_json::json;
use store::{AccountKey, Period, Unit, Want, Window};

use crate::fixture::Fixture;

const TEAM: &str = "[[budget]]\nname = \"team\"\nper = \"client\"\nlimit = \"5 USD\"\nwindow = \"day\"\n";
const USD: i64 = 1_000_000_000;

/// Spend so much of the budget; whether it had room.
async fn spend(fixture: &Fixture, whom: &str, amount: i64) -> bool {
    let ledger = fixture.operations.budgets_ledger().unwrap();
    let window = Window::Calendar(Period::Day);
    let key = AccountKey { budget: "team".into(), whom: whom.into(), unit: Unit::NanoUsd, window };
    let want = Want { account: ledger.account(&key).unwrap(), limit: 5 * USD, amount, enforce: true };
    match ledger.reserve(&[want]).await {
        Ok(hold) => {
            let _settled = hold.settle(|line| line.amount);
            true
        }
        Err(_) => false,
    }
}

#[tokio::test]
async fn what_was_spent_is_listed_for_each_whom_a_budget_counts() {
    let fixture = Fixture::with(TEAM).await;
    let accounts = async |path: &str| fixture.owner(Method::GET, path, None).await.json();
    assert_eq!(accounts("/admin/v1/budget-accounts").await["items"], json!([]));
    assert!(spend(&fixture, "client=corp/a", 2 * USD).await && spend(&fixture, "client=corp/b", USD).await);
    let all = accounts("/admin/v1/budget-accounts?budget=team").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 2, "{all}");
    let one = accounts("/admin/v1/budget-accounts?whom=client%3Dcorp%2Fa").await;
    let account = &one["items"][0];
    assert_eq!((&account["spent"], &account["limit"]), (&json!(2 * USD), &json!(5 * USD)), "{one}");
    assert_eq!((&account["unit"], &account["window"]), (&json!("nano_usd"), &json!("day")));
    assert_eq!(account["resets"].as_i64().map(|at| at % 86_400), Some(0));
    let paged = accounts("/admin/v1/budget-accounts?limit=1").await;
    assert!(paged["items"].as_array().unwrap().len() == 1 && paged["next_cursor"].is_string(), "{paged}");
    assert_eq!(accounts("/admin/v1/budget-accounts?budget=other").await["items"], json!([]));
}

#[tokio::test]
async fn a_raise_lets_more_in_until_it_is_ended() {
    let fixture = Fixture::with(TEAM).await;
    assert!(spend(&fixture, "client=corp/a", 5 * USD).await && !spend(&fixture, "client=corp/a", USD).await);
    let body = json!({"budget": "team", "amount": "2 USD", "for": "2h", "reason": "a launch"});
    let raised = fixture.owner(Method::POST, "/admin/v1/budget-raises", Some(body)).await;
    assert_eq!(raised.status, StatusCode::CREATED, "{}", raised.text);
    assert_eq!(raised.json()["until"].as_i64(), raised.json()["from"].as_i64().map(|from| from + 7200));
    assert!(spend(&fixture, "client=corp/a", USD).await);
    let list = fixture.owner(Method::GET, "/admin/v1/budget-raises?budget=team", None).await.json();
    assert_eq!((&list["items"][0]["by"], &list["items"][0]["amount"]), (&json!("local"), &json!(2 * USD)));
    let end = format!("/admin/v1/budget-raises/{}", raised.json()["id"]);
    assert_eq!(fixture.owner(Method::DELETE, &end, None).await.status, StatusCode::NO_CONTENT);
    assert!(!spend(&fixture, "client=corp/a", 1).await, "what was spent beyond the limit stays spent");
    assert_eq!(fixture.owner(Method::DELETE, &end, None).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_raised_is_refused_with_the_reason() {
    let fixture = Fixture::with(TEAM).await;
    for (body, status, says) in [
        (json!({"budget": "tame", "amount": "2 USD", "for": "2h"}), StatusCode::NOT_FOUND, "tame"),
        (json!({"budget": "team", "amount": 5, "for": "2h"}), StatusCode::UNPROCESSABLE_ENTITY, "5 USD"),
        (json!({"budget": "team", "amount": "0 USD", "for": "2h"}), StatusCode::UNPROCESSABLE_ENTITY, "nothing"),
        (json!({"budget": "team", "amount": "1 USD", "for": "400d"}), StatusCode::UNPROCESSABLE_ENTITY, "366d"),
        (
            json!({"budget": "team", "amount": "1 USD", "for": "2h", "unit": "euro"}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "unit",
        ),
    ] {
        let answer = fixture.owner(Method::POST, "/admin/v1/budget-raises", Some(body.clone())).await;
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
        assert!(answer.text.contains(says), "{body}: {}", answer.text);
    }
}
