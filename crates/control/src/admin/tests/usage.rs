//! Usage: summed up, exported, corrected.

use base::{Name, RequestId, SeededRng, Timestamp};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use store::{Basis, Charge, RequestRecord};

use crate::fixture::{Fixture, NOW};

fn record(n: u64, client: &str, charge: Charge) -> RequestRecord {
    RequestRecord {
        at: Timestamp::from_secs(NOW - 60),
        request_id: RequestId::new(&SeededRng::new(n)),
        endpoint: "chat".into(),
        policy: Name::new("app").ok(),
        issuer: Name::new("vouchgate").ok(),
        client: Some(client.into()),
        subject: Some("=cmd|' /C calc'!A0".into()),
        api_key: None,
        model: Some("fast".into()),
        provider: Name::new("openai").ok(),
        status: 200,
        error: None,
        input_tokens: Some(1_000_000),
        output_tokens: Some(0),
        cached_tokens: None,
        duration_ms: 10,
        ttft_ms: None,
        stream: false,
        request_bytes: 1,
        response_bytes: 1,
        cache: None,
        cache_similarity: None,
        charge,
    }
}

/// A record of a million tokens read that were charged so.
fn charged(n: u64, client: &str, cost: Option<i64>) -> RequestRecord {
    let charge = Charge {
        provider_model: Some("gpt-5-mini".into()),
        is_named: true,
        cost,
        rated: cost,
        basis: Some(Basis::Tokens { factor: 1, long_cache: false }),
        ..Charge::default()
    };
    record(n, client, charge)
}

const CONFIG: &str = "[[provider]]\nname = \"openai\"\nkind = \"openai\"\napi_key = { secret = \"openai-key\" }\n";

async fn with(records: impl IntoIterator<Item = RequestRecord>) -> Fixture {
    let fixture = Fixture::with(CONFIG).await;
    let store = fixture.operations.store();
    records.into_iter().for_each(|record| store.sink().push(record));
    store.flush().await.unwrap();
    fixture
}

async fn get(fixture: &Fixture, path: &str) -> crate::fixture::Answer {
    fixture.owner(Method::GET, &format!("/admin/v1/{path}"), None).await
}

#[tokio::test]
async fn usage_is_summed_up_by_what_is_asked_for_and_paged() {
    let fixture = with((0..6).map(|n| charged(n, if n < 2 { "a" } else { "b" }, Some(1_500_000_000)))).await;
    let all = get(&fixture, "usage?by=client&since=24h").await.json();
    assert_eq!(all["items"][0]["client"], "b");
    assert_eq!((&all["items"][0]["requests"], &all["items"][0]["cost"]), (&json!(4), &json!("6.00 USD")));
    assert_eq!((&all["total"]["cost_nano_usd"], &all["next_cursor"]), (&json!(9_000_000_000_i64), &json!(null)));
    assert!(all["items"][0].get("model").is_none(), "only what was asked for");
    let first = get(&fixture, "usage?by=client&since=24h&limit=1").await.json();
    let next = first["next_cursor"].as_str().unwrap();
    let second = get(&fixture, &format!("usage?by=client&since=24h&limit=1&cursor={next}")).await.json();
    assert_eq!((&second["items"][0]["client"], &second["next_cursor"]), (&json!("a"), &json!(null)));
    let hours = get(&fixture, "usage?by=client,model&bucket=hour&client=a").await.json();
    assert_eq!(hours["items"].as_array().map(Vec::len), Some(1));
    assert!(hours["items"][0]["start"].as_str().unwrap().contains(":00:00"), "{hours}");
    for bad in ["by=colour", "bucket=week", "format=xml", "since=soon", "cursor=x", "min_status=400"] {
        let answer = get(&fixture, &format!("usage?{bad}")).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "invalid_query"), "{bad}");
    }
}

#[tokio::test]
async fn since_and_until_are_read_alike_wherever_they_are_asked_for() {
    let fixture = with([charged(1, "a", Some(7))]).await;
    let hour_ago = Timestamp::from_secs(NOW - 3600);
    for path in ["usage", "requests", "audit", "risk-decisions"] {
        for since in ["1h".to_owned(), hour_ago.rfc3339(), (NOW - 3600).to_string()] {
            let answer = get(&fixture, &format!("{path}?since={since}")).await;
            // This installation keeps no audit log, which is said after the query was understood.
            let understood = if path == "audit" { StatusCode::CONFLICT } else { StatusCode::OK };
            assert_eq!(answer.status, understood, "{path} {since}: {}", answer.text);
        }
        let wrong = get(&fixture, &format!("{path}?since=soon")).await;
        assert!(wrong.status.is_client_error() && wrong.text.contains("RFC 3339"), "{path}: {}", wrong.text);
    }
    for (since, found) in [("1h".to_owned(), 1), (hour_ago.rfc3339(), 1), ("30s".to_owned(), 0)] {
        let requests = get(&fixture, &format!("requests?since={since}")).await.json();
        assert_eq!(requests["items"].as_array().map(Vec::len), Some(found), "{since}");
    }
    let body = json!({ "since": hour_ago.rfc3339(), "dry_run": true });
    let rerated = fixture.owner(Method::POST, "/admin/v1/usage/rerate", Some(body)).await;
    assert_eq!(rerated.json()["looked_at"], 1, "{}", rerated.text);
}

#[tokio::test]
async fn one_request_and_one_key_are_found_by_what_they_are_called() {
    let fixture = with([charged(1, "a", Some(7)), charged(2, "b", Some(8))]).await;
    let id = RequestId::new(&SeededRng::new(2));
    let one = get(&fixture, &format!("requests/{id}")).await;
    assert_eq!((one.status, &one.json()["client"]), (StatusCode::OK, &json!("b")), "{}", one.text);
    let listed = get(&fixture, &format!("requests?request_id={id}")).await.json();
    assert_eq!(listed["items"][0], one.json());
    fixture.operations.signing_key_ensure().await.unwrap();
    let keys = get(&fixture, "keys").await.json();
    let kid = keys["items"][0]["kid"].as_str().unwrap();
    assert_eq!(get(&fixture, &format!("keys/{kid}")).await.json(), keys["items"][0]);
    for nothing in ["requests/req_none", "requests/%27%20OR%201=1", "keys/none", "keys/rotate"] {
        let answer = get(&fixture, nothing).await;
        assert_ne!(answer.status, StatusCode::OK, "{nothing}");
        assert!(["not_found", "method_not_allowed"].contains(&answer.code().as_str()), "{}", answer.text);
    }
}

#[tokio::test]
async fn a_table_for_spreadsheets_holds_no_formula() {
    let fixture = with([charged(1, "+1", Some(7))]).await;
    let usage = get(&fixture, "usage?by=subject,client&format=csv").await;
    assert!(usage.header("content-type").starts_with("text/csv"));
    let lines: Vec<&str> = usage.text.lines().collect();
    assert!(lines[0].starts_with("issuer,subject,client,requests,failed,cost,"), "{}", lines[0]);
    assert!(lines[1].starts_with("vouchgate,'=cmd|' /C calc'!A0,'+1,1,0,"), "{}", lines[1]);
    let records = get(&fixture, "requests?format=csv").await;
    assert!(records.text.contains(",'=cmd|' /C calc'!A0,") && !records.text.contains(",=cmd"), "{}", records.text);
}

#[tokio::test]
async fn an_export_has_every_record_once_however_many_there_are() {
    let fixture = with((0..1203).map(|n| charged(n, "a", Some(1)))).await;
    let lines = get(&fixture, "requests?format=jsonl&client=a").await;
    let ids: std::collections::BTreeSet<String> = lines
        .text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["request_id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!((ids.len(), lines.text.lines().count()), (1203, 1203));
    let table = get(&fixture, "requests?format=csv").await;
    assert_eq!(table.text.lines().count(), 1204);
    assert_eq!(get(&fixture, "requests?format=csv&limit=7").await.code(), "invalid_query");
}

#[tokio::test]
async fn corrected_prices_are_applied_beside_what_was_charged_and_once() {
    let mut records: Vec<RequestRecord> = (0..300).map(|n| charged(n, "a", Some(1_000_000_000))).collect();
    records.push(charged(900, "a", None));
    let estimated = Charge { basis: None, rated: None, estimated: true, cost: Some(5), ..Charge::default() };
    records.push(record(901, "a", estimated));
    let mut elsewhere = charged(902, "a", Some(7));
    elsewhere.charge.provider_model = Some("gpt-unheard-of".into());
    records.push(elsewhere);
    let fixture = with(records).await;
    let rerate = async |dry_run: bool| {
        let body = json!({ "since": "24h", "dry_run": dry_run });
        let answer = fixture.owner(Method::POST, "/admin/v1/usage/rerate", Some(body)).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()
    };
    let number = |value: &Value, member: &str| value[member].as_i64();
    let trial = rerate(true).await;
    let counts = ["looked_at", "changed", "no_price", "next"].map(|member| number(&trial, member));
    assert_eq!(counts, [Some(302), Some(301), Some(1), None]);
    assert_eq!(number(&trial, "difference_nano_usd"), Some(302_000_000_000));
    let sum = async || {
        let usage = fixture.operations.store().usage();
        usage.table(&store::UsageFilter::default(), (&[], None), (0, 1)).await.unwrap().total
    };
    assert_eq!(sum().await.correction, 0, "a trial changes nothing");
    let done = rerate(false).await;
    assert_eq!((number(&done, "changed"), &done["difference_nano_usd"]), (Some(301), &trial["difference_nano_usd"]));
    let model = &done["models"][0];
    assert_eq!(
        (number(model, "before_nano_usd"), number(model, "after_nano_usd")),
        (Some(300_000_000_000), Some(602_000_000_000))
    );
    assert!(model["price"].as_str().unwrap().starts_with("configuration#"));
    let after = sum().await;
    assert_eq!((after.cost, after.correction, after.unpriced), (300_000_000_012, 302_000_000_000, 0));
    let again = rerate(false).await;
    assert_eq!((number(&again, "looked_at"), number(&again, "changed")), (Some(302), Some(0)), "once");
    let id = RequestId::new(&SeededRng::new(900));
    let one = get(&fixture, &format!("requests?request_id={id}")).await.json();
    let one = &one["items"][0];
    assert_eq!((&one["charged_nano_usd"], &one["cost"]), (&json!(null), &json!("2.00 USD")));
}

#[tokio::test]
async fn a_run_of_corrections_is_asked_for_with_what_it_needs() {
    let fixture = Fixture::with(CONFIG).await;
    for body in [
        json!({}),
        json!({ "since": "soon" }),
        json!({ "since": "1h", "run": "mine" }),
        json!({ "since": "1h", "colour": "red" }),
        json!({ "since": "1h", "provider": "no such name" }),
    ] {
        let answer = fixture.owner(Method::POST, "/admin/v1/usage/rerate", Some(body.clone())).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.text);
    }
}
