//! What batches take: known when their results are first told, counted and paid for then, and never again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Mock, Received};

use super::USD;
use crate::harness::World;

/// What a batch of a dollar's worth of output took: at half the price.
const TOKENS: u64 = 1000;

fn config(mock: &Mock, limit: &str) -> String {
    let provider = |name: &str, kind: &str, base: &str| {
        // Cohere's batches name their model.
        let begun = if kind == "cohere" { "request = \"0.01 USD\"\n" } else { "" };
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n\
             [[price]]\nprovider = \"{name}\"\nmodel = \"m\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 10000\n{begun}\
             [[price]]\nprovider = \"{name}\"\nmodel = \"*\"\nrequest = \"0.01 USD\"\n",
            mock.url()
        )
    };
    let open = |name: &str| {
        format!("{{ provider = \"{name}\", methods = [\"GET\", \"POST\", \"DELETE\"], paths = [\"/**\"] }}")
    };
    format!(
        "{}{}{}{}[[policy]]\nname = \"all\"\nmay = {{ providers = [\"o\", \"a\", \"g\", \"c\"], passthrough = [{}, {}, {}, {}] }}\n\
         [[budget]]\nname = \"cap\"\nlimit = \"{limit}\"\nwindow = \"total\"\n",
        provider("o", "openai-compatible", "/v1"),
        provider("a", "anthropic", ""),
        provider("g", "gemini", "/v1beta"),
        provider("c", "cohere", ""),
        open("o"),
        open("a"),
        open("g"),
        open("c"),
    )
}

fn lines() -> String {
    let openai = |n: u64| {
        json!({"custom_id": format!("c{n}"), "response": {"status_code": 200, "body": {"id": "x", "object": "chat.completion",
            "model": "m", "usage": {"prompt_tokens": 5, "completion_tokens": TOKENS / 2, "total_tokens": 5 + TOKENS / 2}}}})
    };
    format!("{}\n{}\n", openai(0), openai(1))
}

fn results() -> String {
    let one = |n: u64| {
        json!({"custom_id": format!("c{n}"), "result": {"type": "succeeded", "message": {"id": "msg", "type": "message",
            "model": "m", "content": [], "usage": {"input_tokens": 5, "output_tokens": TOKENS / 2}}}})
    };
    format!("{}\n{}\n", one(0), json!({"custom_id": "e", "result": {"type": "expired"}})) + &one(1).to_string() + "\n"
}

/// Google's batch: at stage 1 with its results in it, at 2 with the name of their file.
fn googles(stage: u64) -> Value {
    let output = match stage {
        0 => return json!({"name": "batches/b", "metadata": {"model": "models/m", "state": "BATCH_STATE_RUNNING"}}),
        1 => {
            json!({"inlinedResponses": {"inlinedResponses": [{"response": google_answer()}, {"response": google_answer()}]}})
        }
        _ => json!({"responsesFile": "files/batch-b"}),
    };
    json!({"name": "batches/b", "done": true, "response": output,
        "metadata": {"model": "models/m", "state": "BATCH_STATE_SUCCEEDED", "output": output}})
}

fn google_answer() -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": "four"}], "role": "model"}, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {"promptTokenCount": 5, "candidatesTokenCount": TOKENS / 4, "thoughtsTokenCount": TOKENS / 4,
            "totalTokenCount": 5 + TOKENS / 2}, "modelVersion": "m"})
}

fn google_lines() -> String {
    let line = |n: u64| json!({"key": format!("k{n}"), "response": google_answer()});
    format!("{}\n{}\n", line(0), line(1))
}

/// Cohere's batch: it says what it took.
fn coheres(stage: u64) -> Value {
    let mut batch = json!({"id": "cb", "name": "n", "model": "m", "input_dataset_id": "ds-in", "status": "BATCH_STATUS_IN_PROGRESS"});
    if stage > 0 {
        batch["status"] = json!("BATCH_STATUS_COMPLETED");
        batch["output_dataset_id"] = json!("ds-out");
        batch["input_tokens"] = json!("10");
        batch["output_tokens"] = json!(TOKENS.to_string());
    }
    json!({"batch": batch})
}

/// A provider with one batch; `stage`: 0 in progress, 1 done and says what it took, 2 done and does not.
fn answers(request: &Received, stage: u64) -> Answer {
    let batch = |id: &str| {
        let mut batch = json!({"id": id, "object": "batch", "status": "in_progress", "input_file_id": "file-in"});
        if stage > 0 {
            batch["status"] = json!("completed");
            batch["output_file_id"] = json!("file-out");
        }
        if stage == 1 {
            batch["model"] = json!("m");
            batch["usage"] = json!({"input_tokens": 10, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": TOKENS,
                "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": TOKENS + 10});
        }
        batch
    };
    match (request.method.as_str(), request.path()) {
        ("POST", "/v1/files") => Answer::json(200, &json!({"id": "file-in", "object": "file"})),
        ("POST", "/v1/batches") | ("GET", "/v1/batches/batch_1") => Answer::json(200, &batch("batch_1")),
        ("GET", "/v1/files/file-out/content") => Answer::bytes(200, "application/jsonl", lines()),
        ("POST", "/v1/messages/batches") => {
            Answer::json(200, &json!({"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}))
        }
        ("GET", "/v1/messages/batches/msgbatch_1/results") => {
            Answer::bytes(200, "application/x-jsonl", results()).pieces(13)
        }
        ("POST", "/v1beta/models/m:batchGenerateContent") => Answer::json(200, &googles(0)),
        ("GET", "/v1beta/batches/b") => Answer::json(200, &googles(stage)),
        ("GET", "/v1beta/batches") => Answer::json(200, &json!({"operations": [googles(stage)]})),
        ("GET", "/download/v1beta/files/batch-b:download") => Answer::bytes(200, "application/jsonl", google_lines()),
        ("POST", "/v1/datasets") => Answer::json(200, &json!({"id": "ds-in"})),
        ("POST", "/v2/batches") => Answer::json(200, &coheres(0)),
        ("GET", "/v2/batches/cb") => Answer::json(200, &coheres(stage)),
        ("GET", "/v1/datasets/ds-out") => Answer::json(200, &json!({"dataset": {"id": "ds-out"}})),
        _ => Answer::json(404, &json!({"error": {"message": "no such thing"}})),
    }
}

async fn world(limit: &str) -> (World, Arc<AtomicU64>, Mock) {
    let stage = Arc::new(AtomicU64::new(0));
    let at = Arc::clone(&stage);
    let mock = Mock::start_with(move |request| answers(request, at.load(Ordering::Relaxed))).await;
    let world = World::with_budgets(&config(&mock, limit)).await;
    (world, stage, mock)
}

async fn begin(world: &World, path: &str, input: Value) {
    assert_eq!(world.post("/providers/o/v1/files", &json!({})).await.status, 200);
    let begun = world.post(path, &input).await;
    assert_eq!(begun.status, 200, "{}", begun.text());
}

fn used(world: &World) -> i64 {
    world.books.used("cap", "", Unit::NanoUsd, Window::Total)
}

const BATCH: &str = "/providers/o/v1/batches/batch_1";
/// The price of having it begun.
const BEGUN: i64 = USD / 100;

#[tokio::test]
async fn a_batch_that_says_what_it_took_is_paid_for_when_that_is_first_told_and_never_again() {
    let (world, stage, _mock) = world("5 USD").await;
    begin(&world, "/providers/o/v1/batches", json!({"input_file_id": "file-in", "endpoint": "/v1/chat/completions"}))
        .await;
    assert_eq!(world.get_as("alice", BATCH).await.json()["status"], "in_progress");
    assert_eq!(used(&world), BEGUN);
    assert_eq!(world.get_as("bob", BATCH).await.status, 404);
    stage.store(1, Ordering::Relaxed);
    for first in [true, false, false] {
        let told = world.get_as("alice", BATCH).await;
        assert_eq!(told.json()["usage"]["output_tokens"], TOKENS, "{}", told.text());
        let record = world.record();
        let (cost, tokens) = if first { (USD / 2, Some(TOKENS)) } else { (0, None) };
        assert_eq!((record.charge.cost, record.output_tokens), (Some(cost), tokens));
        assert_eq!(record.model.as_deref(), first.then_some("m"));
        assert_eq!(used(&world), BEGUN + USD / 2);
    }
    // Its results are its maker's, and paid for.
    let file = "/providers/o/v1/files/file-out/content";
    assert_eq!(world.get_as("alice", file).await.text(), lines());
    assert_eq!(world.record().output_tokens, None);
    assert_eq!(world.get_as("bob", file).await.status, 404);
    assert_eq!(used(&world), BEGUN + USD / 2);
}

#[tokio::test]
async fn a_batch_that_does_not_say_it_is_added_up_from_its_results() {
    let (world, stage, _mock) = world("5 USD").await;
    begin(&world, "/providers/o/v1/batches", json!({"input_file_id": "file-in"})).await;
    stage.store(2, Ordering::Relaxed);
    for _ in 0..2 {
        assert_eq!(world.get_as("alice", BATCH).await.json()["status"], "completed");
        assert_eq!(used(&world), BEGUN);
    }
    for first in [true, false] {
        assert_eq!(world.get_as("alice", "/providers/o/v1/files/file-out/content").await.text(), lines());
        assert_eq!(world.record().output_tokens, first.then_some(TOKENS));
        assert_eq!(used(&world), BEGUN + USD / 2);
    }
    // Asked for again, the batch does not make them unpaid once more.
    assert_eq!(world.get_as("alice", BATCH).await.status, 200);
    assert_eq!(world.get_as("alice", "/providers/o/v1/files/file-out/content").await.status, 200);
    assert_eq!(used(&world), BEGUN + USD / 2);
}

#[tokio::test]
async fn anthropics_results_are_added_up_in_whatever_case_they_are_asked_for() {
    let (world, _stage, _mock) = world("5 USD").await;
    begin(&world, "/providers/a/v1/messages/batches", json!({"requests": []})).await;
    let results_of = |case: &str| format!("/providers/a/v1/messages/batches/msgbatch_1/{case}");
    // Where the provider does not mind the case, it is told all the same; this one does.
    assert_eq!(world.get_as("alice", &results_of("RESULTS")).await.status, 404);
    assert_eq!(used(&world), BEGUN);
    for first in [true, false] {
        assert_eq!(world.get_as("alice", &results_of("results")).await.text(), results());
        assert_eq!(world.record().output_tokens, first.then_some(TOKENS));
        assert_eq!(used(&world), BEGUN + USD / 2);
    }
}

#[tokio::test]
async fn results_that_no_budget_has_room_for_are_not_told_and_are_paid_for_once_there_is() {
    let (world, _stage, mock) = world("0.30 USD").await;
    begin(&world, "/providers/a/v1/messages/batches", json!({"requests": []})).await;
    let path = "/providers/a/v1/messages/batches/msgbatch_1/results";
    for _ in 0..2 {
        let refused = world.get_as("alice", path).await;
        assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "budget_exhausted"), "{}", refused.text());
        assert!(!refused.text().contains("succeeded"));
        assert_eq!(used(&world), BEGUN, "nothing is held for what was not told");
    }
    world.reload(&config(&mock, "5 USD"));
    assert_eq!(world.get_as("alice", path).await.text(), results());
    assert_eq!(used(&world), BEGUN + USD / 2);
    assert_eq!(world.books.ledger.as_ref().unwrap().verify().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn of_many_that_fetch_results_at_once_one_pays() {
    let (world, _stage, _mock) = world("50 USD").await;
    begin(&world, "/providers/a/v1/messages/batches", json!({"requests": []})).await;
    let path = "/providers/a/v1/messages/batches/msgbatch_1/results";
    let all = futures_util::future::join_all((0..20).map(|_| world.get_as("alice", path))).await;
    assert!(all.iter().all(|answer| answer.text() == results()));
    assert_eq!(used(&world), BEGUN + USD / 2);
}

#[tokio::test]
async fn googles_batch_is_paid_for_when_its_results_are_told_with_it_and_lists_tell_none() {
    let (world, stage, _mock) = world("5 USD").await;
    let made = world.post("/providers/g/v1beta/models/m:batchGenerateContent", &json!({"batch": {}})).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let path = "/providers/g/v1beta/batches/b";
    assert_eq!(world.get_as("alice", path).await.json()["metadata"]["state"], "BATCH_STATE_RUNNING");
    assert_eq!(used(&world), BEGUN);
    stage.store(1, Ordering::Relaxed);
    let list = world.get_as("alice", "/providers/g/v1beta/batches").await;
    assert_eq!(list.json()["operations"][0]["metadata"]["state"], "BATCH_STATE_SUCCEEDED");
    assert!(!list.text().contains("four"), "{}", list.text());
    assert_eq!(used(&world), BEGUN);
    for first in [true, false] {
        assert!(world.get_as("alice", path).await.text().contains("four"));
        assert_eq!(world.record().charge.cost, Some(if first { USD / 2 } else { 0 }));
        assert_eq!(used(&world), BEGUN + USD / 2);
    }
    assert_eq!(world.get_as("bob", path).await.status, 404);
}

#[tokio::test]
async fn googles_file_of_results_is_added_up_when_it_is_fetched() {
    let (world, stage, _mock) = world("5 USD").await;
    assert_eq!(
        world.post("/providers/g/v1beta/models/m:batchGenerateContent", &json!({"batch": {}})).await.status,
        200
    );
    stage.store(2, Ordering::Relaxed);
    assert_eq!(world.get_as("alice", "/providers/g/v1beta/batches/b").await.status, 200);
    assert_eq!(used(&world), BEGUN);
    for _ in 0..2 {
        let file = world.get_as("alice", "/providers/g/download/v1beta/files/batch-b:download?alt=media").await;
        assert_eq!(file.text(), google_lines());
        assert_eq!(used(&world), BEGUN + USD / 2);
    }
}

#[tokio::test]
async fn coheres_batch_is_its_makers_and_paid_for_by_what_it_says() {
    let (world, stage, _mock) = world("5 USD").await;
    assert_eq!(world.post("/providers/c/v1/datasets", &json!({})).await.status, 200);
    let batch = json!({"name": "n", "model": "m", "input_dataset_id": "ds-in"});
    let made = world.post("/providers/c/v2/batches", &batch).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let before = used(&world);
    stage.store(1, Ordering::Relaxed);
    assert_eq!(world.get_as("bob", "/providers/c/v2/batches/cb").await.status, 404);
    assert_eq!(
        world.get_as("alice", "/providers/c/v1/datasets/ds-out").await.status,
        404,
        "nobody has been told of it"
    );
    for _ in 0..2 {
        let told = world.get_as("alice", "/providers/c/v2/batches/cb").await;
        assert_eq!(told.json()["batch"]["output_tokens"], TOKENS.to_string(), "{}", told.text());
        assert_eq!(used(&world), before + USD / 2);
    }
    assert_eq!(world.get_as("alice", "/providers/c/v1/datasets/ds-out").await.status, 200);
    assert_eq!(world.get_as("bob", "/providers/c/v1/datasets/ds-out").await.status, 404);
    assert_eq!(used(&world), before + USD / 2);
}
