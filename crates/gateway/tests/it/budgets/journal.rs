//! What the audit log says of budgets: enough to settle what a process that is killed had set aside.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use futures_util::future::join_all;
use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Gate, Mock};

use super::{CHAT, DIME, answer, ask, config};
use crate::audit::{Logged, logged};
use crate::harness::World;

const CAP: &str = "[[budget]]\nname = \"cap\"\nlimit = \"50 USD\"\nwindow = \"total\"\n";

/// What the entries say of the leases of a unit: how much was settled, and what each request still holds.
async fn told(logged: &Logged, unit: &str) -> (i64, BTreeMap<String, i64>) {
    let (mut settled, mut open) = (0, BTreeMap::<String, i64>::new());
    for entry in logged.entries().await {
        let request = entry["request"].as_str().unwrap_or_default().to_owned();
        let lines = |name: &str| entry[name].as_array().cloned().unwrap_or_default();
        let number = |line: &Value, index: usize| line[index].as_i64().unwrap();
        for line in lines("holds").iter().filter(|line| line[1] == unit) {
            *open.entry(request.clone()).or_default() += number(line, 2);
        }
        for line in lines("settled").iter().filter(|line| line[1] == unit) {
            settled += number(line, 2);
            *open.entry(request.clone()).or_default() -= number(line, 3);
        }
    }
    open.retain(|_, amount| *amount != 0);
    (settled, open)
}

/// The entries and the ledger agree, and nothing is open.
async fn agree(world: &World, logged: &Logged) {
    let (settled, open) = told(logged, "nano_usd").await;
    assert_eq!(open, BTreeMap::new());
    assert_eq!(settled, world.books.used("cap", "", Unit::NanoUsd, Window::Total));
}

fn fast(more: &str) -> String {
    format!("[[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"m\" }}]\n{more}\n{CAP}")
}

fn ask_fast() -> Value {
    let mut body = ask(100);
    body["model"] = "fast".into();
    body
}

#[tokio::test]
async fn what_is_held_is_said_before_the_provider_is_asked_and_what_was_used_when_it_is_over() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    mock.push(Answer::json(200, &answer(40)).hold_head(&gate));
    let (logged, recorder) = logged(false);
    let world = World::with_recorded_budgets(&config(&mock, CAP), recorder).await;
    let body = ask(100);
    let ((), answered) = tokio::join!(
        async {
            mock.request(0).await;
            let (settled, open) = told(&logged, "nano_usd").await;
            assert_eq!((settled, open.values().copied().collect::<Vec<_>>()), (0, vec![DIME]));
            gate.open();
        },
        world.post(CHAT, &body)
    );
    assert_eq!(answered.status, 200);
    assert_eq!(told(&logged, "nano_usd").await.0, 40 * DIME / 100);
    agree(&world, &logged).await;
}

#[tokio::test]
async fn a_second_call_is_said_before_it_is_made() {
    let (held, gate) = (Gate::closed(), Gate::closed());
    let mock = Mock::start().await;
    let (logged, recorder) = logged(false);
    let model = fast("retry = { attempts = 2 }\ntimeout = { first_byte = \"1s\" }");
    let world = World::with_recorded_budgets(&config(&mock, &model), recorder).await;
    // Not answered in time: nobody knows whether it was done.
    mock.push(Answer::json(200, &answer(50)).hold_head(&held));
    mock.push(Answer::json(200, &answer(50)).hold_head(&gate));
    let body = ask_fast();
    let ((), answered) = tokio::join!(
        async {
            mock.request(1).await;
            let (_, open) = told(&logged, "nano_usd").await;
            assert!(open.values().sum::<i64>() >= DIME, "{open:?}");
            gate.open();
        },
        world.post(CHAT, &body)
    );
    assert_eq!(answered.status, 200);
    let entries = logged.entries().await;
    assert!(entries.iter().any(|entry| entry["kind"] == "request.held"), "{entries:#?}");
    assert_eq!(told(&logged, "nano_usd").await.0, DIME + DIME / 2);
    agree(&world, &logged).await;
}

#[tokio::test]
async fn without_a_record_no_second_call_is_made() {
    let held = Gate::closed();
    let mock = Mock::start().await;
    let (logged, recorder) = logged(false);
    let model = fast("retry = { attempts = 2 }\ntimeout = { first_byte = \"300ms\" }");
    let world = World::with_recorded_budgets(&config(&mock, &model), recorder).await;
    mock.push(Answer::json(200, &answer(50)).hold_head(&held));
    let body = ask_fast();
    let ((), answered) = tokio::join!(
        async {
            mock.request(0).await;
            logged.disk.0.store(true, Ordering::SeqCst);
        },
        world.post(CHAT, &body)
    );
    // The caller is told what came of the first.
    assert_eq!((answered.status.as_u16(), answered.code().as_str()), (504, "first_byte_timeout"));
    assert_eq!(mock.count(), 1);
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), DIME, "the first may have been done");
}

#[tokio::test]
async fn what_was_asked_beside_and_is_settled_later_is_said_too() {
    let held = Gate::closed();
    let mock = Mock::start().await;
    let other = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let (logged, recorder) = logged(false);
    let more = format!(
        "[[provider]]\nname = \"q\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[price]]\nprovider = \"q\"\nmodel = \"m\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 10000\nmax_output = 4000\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"p\", model = \"m\" }}, {{ provider = \"q\", model = \"m\" }}]\n\
         hedge = {{ after = \"20ms\", budget = 100 }}\n{CAP}",
        other.url()
    );
    let world = World::with_recorded_budgets(&config(&mock, &more), recorder).await;
    mock.push(Answer::json(200, &answer(50)).hold_head(&held));
    assert_eq!(world.post(CHAT, &ask_fast()).await.status, 200);
    assert_eq!((mock.count(), other.count()), (1, 1));
    // The slower one may be charged: nobody waited for its answer.
    assert_eq!(told(&logged, "nano_usd").await.0, DIME + DIME / 10);
    agree(&world, &logged).await;
}

#[tokio::test]
async fn what_a_kept_answer_costs_is_said_at_its_end() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let (logged, recorder) = logged(false);
    let model = fast("cache = { ttl = \"10m\", price = \"0.01 USD\" }");
    let world = World::with_recorded_budgets(&config(&mock, &model), recorder).await;
    for _ in 0..3 {
        assert_eq!(world.post(CHAT, &ask_fast()).await.status, 200);
    }
    assert_eq!(told(&logged, "nano_usd").await.0, DIME + 2 * DIME / 10);
    agree(&world, &logged).await;
}

#[tokio::test]
async fn whatever_comes_of_requests_the_entries_and_the_ledger_agree() {
    let mock = Mock::start_with(|received| {
        let most = received.json()["max_tokens"].as_u64().unwrap();
        match most % 5 {
            0 => Answer::json(500, &json!({"error": {"message": "no"}})),
            1 => Answer::json(400, &json!({"error": {"message": "no"}})),
            2 => Answer::json(200, &json!({"choices": []})),
            3 => Answer::json(200, &answer(10_000)),
            _ => Answer::json(200, &answer(most / 2)),
        }
    })
    .await;
    let (logged, recorder) = logged(false);
    let requests = "[[budget]]\nname = \"requests\"\nrequests = 150\nper = \"subject\"\nwindow = \"total\"\n";
    let model = format!("{}{requests}", fast("retry = { attempts = 2, on = [500] }"));
    let world = World::with_recorded_budgets(&config(&mock, &model), recorder).await;
    let bodies: Vec<Value> = (0..200)
        .map(|n| {
            let mut body = ask(50 + n % 50);
            body["model"] = if n % 7 == 0 { "none/x" } else { "fast" }.into();
            body
        })
        .collect();
    join_all(bodies.iter().map(|body| world.post(CHAT, body))).await;
    agree(&world, &logged).await;
    let (settled, open) = told(&logged, "requests").await;
    assert_eq!(open, BTreeMap::new());
    assert_eq!(settled, world.books.used("requests", "subject=corp/alice", Unit::Requests, Window::Total));
    assert!(settled > 100, "{settled}");
}
