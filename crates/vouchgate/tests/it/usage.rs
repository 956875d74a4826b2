//! A thousand requests of every kind through the real program: what the provider counted, the records, their sums and the
//! ledger agree to the nano-USD.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use base::{SystemClock, SystemRng};
use futures_util::StreamExt;
use serde_json::{Value, json};
use store::{BalanceFilter, Ledger, LedgerSettings, Page, Store, StoreUrl};
use testkit::mock::{Answer, Mock, Received};

use crate::support::{Program, command, provider, secret_file, write_config};

/// Nano-USD of a token read and of one generated.
const READ: i64 = 1_000;
const MADE: i64 = 3_000;
const REQUESTS: usize = 1000;

/// What the provider counted itself.
#[derive(Default)]
struct Counted {
    requests: AtomicI64,
    cost: AtomicI64,
}

/// An answer whose usage follows from the question, or an error.
fn answer(received: &Received, counted: &Counted) -> Answer {
    let asked = received.json();
    let text = asked["messages"][0]["content"].as_str().unwrap_or_default().to_owned();
    if text.contains("fail") {
        return Answer::json(400, &json!({"error": {"message": "no", "type": "invalid_request_error"}}));
    }
    let long = i64::try_from(text.len()).unwrap();
    let (read, made) = (long % 17 + 1, long % 5 + 1);
    counted.requests.fetch_add(1, Ordering::Relaxed);
    counted.cost.fetch_add(read * READ + made * MADE, Ordering::Relaxed);
    let usage = json!({"prompt_tokens": read, "completion_tokens": made, "total_tokens": read + made});
    if asked["stream"] == true {
        let chunk = |delta: Value, finish: Value| {
            json!({"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m",
                   "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        };
        let mut last = chunk(json!({}), json!("stop"));
        last["choices"] = json!([]);
        last["usage"] = usage;
        return Answer::openai_stream(&[
            chunk(json!({"role": "assistant", "content": "hi"}), Value::Null),
            chunk(json!({}), json!("stop")),
            last,
        ]);
    }
    Answer::json(
        200,
        &json!({"id": "x", "object": "chat.completion", "created": 1, "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
                "usage": usage}),
    )
}

fn configuration(dir: &Path, mock: &Mock, store: &str) -> String {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    format!(
        r#"{store}
{prov}
[[price]]
provider = "prov"
model = "m"
input = "1 USD"
output = "3 USD"
context = 100000
max_output = 1000

[[model]]
name = "fast"
targets = [{{ provider = "prov", model = "m" }}]

[[model]]
name = "kept"
targets = [{{ provider = "prov", model = "m" }}]
cache = {{ ttl = "10m" }}

[[service]]
name = "asking"
path = "/v1/asking"
model = "fast"
prompt = "Answer: {{{{input}}}}"

[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "app"
who = {{ client = "app" }}
may = {{ models = ["fast", "kept"], services = ["*"], providers = ["prov"] }}

[[budget]]
name = "all"
limit = "1000 USD"
window = "total"
"#
    )
}

/// The `n`-th request: its path, its body, and the status it ends with.
fn request(n: usize) -> (&'static str, Value, u16) {
    let chat = |model: &str, text: String, stream: bool| json!({"model": model, "stream": stream, "max_tokens": 100, "messages": [{"role": "user", "content": text}]});
    let text = "x".repeat(n % 97);
    match n % 10 {
        0..=2 => ("/v1/chat/completions", chat("fast", text, false), 200),
        3 | 4 => ("/v1/chat/completions", chat("fast", text, true), 200),
        5 => ("/v1/chat/completions", chat("fast", "fail".to_owned(), false), 400),
        6 => ("/v1/chat/completions", chat("kept", format!("same {}", n % 7), false), 200),
        7 => ("/providers/prov/chat/completions", chat("m", text, false), 200),
        8 => ("/v1/chat/completions", chat("forbidden", text, false), 403),
        _ => ("/v1/asking", json!({"input": text}), 200),
    }
}

async fn everything_agrees(store: &str, url: &StoreUrl) {
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::new(Counted::default());
    let counting = Arc::clone(&counted);
    let mock = Mock::start_with(move |received| answer(received, &counting)).await;
    write_config(dir.path(), "", &configuration(dir.path(), &mock, store));
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let sent = futures_util::stream::iter(0..REQUESTS).map(|n| {
        let (program, token) = (&program, &token);
        async move {
            let (path, body, status) = request(n);
            let answer = program.post(path, token, &body).await;
            assert_eq!(answer.status(), status, "{n}: {}", answer.text());
        }
    });
    sent.buffer_unordered(16).collect::<Vec<()>>().await;
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());

    let by_model: Value = serde_json::from_str(&command(dir.path(), &["usage", "--json"], b"")).unwrap();
    let total = &by_model["total"];
    let cost = counted.cost.load(Ordering::Relaxed);
    assert!(cost > 0);
    assert_eq!((&total["requests"], &total["cost_nano_usd"]), (&json!(REQUESTS), &json!(cost)), "sums and provider");
    let flags = ["estimated", "clamped", "unpriced", "correction_nano_usd"].map(|name| total[name].as_i64());
    assert_eq!(flags, [Some(0); 4], "{total}");
    assert_eq!(total["failed"], REQUESTS / 5);

    let lines = command(dir.path(), &["usage", "requests", "--since", "24h"], b"");
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), REQUESTS);
    let charged: i64 = records.iter().filter_map(|record| record["cost_nano_usd"].as_i64()).sum();
    assert_eq!(charged, cost, "records and provider");
    let answered = records.iter().filter(|record| !record["provider_model"].is_null()).count();
    assert_eq!(
        answered,
        usize::try_from(counted.requests.load(Ordering::Relaxed)).unwrap(),
        "cached answers ask nobody"
    );
    for by in ["client", "subject", "provider", "policy", "service", "model"] {
        let table: Value = serde_json::from_str(&command(dir.path(), &["usage", "--by", by, "--json"], b"")).unwrap();
        let rows = table["items"].as_array().unwrap();
        assert_eq!(rows.iter().filter_map(|row| row["cost_nano_usd"].as_i64()).sum::<i64>(), cost, "{by}");
        let of = |row: &Value| row[by].as_str().unwrap_or_default().to_owned();
        for row in rows {
            let value = row[by].as_str().unwrap();
            let mine = records.iter().filter(|record| by == "model" || of(record) == value);
            if by != "model" {
                assert_eq!(row["requests"], mine.count(), "{by} {value}");
            }
        }
    }
    let table = command(dir.path(), &["usage", "--by", "service", "--csv"], b"");
    assert!(table.lines().any(|line| line.starts_with("asking,100,0,")), "{table}");
    // The same prices give the same costs.
    let rerated = command(dir.path(), &["usage", "rerate", "--since", "24h", "--dry-run", "--json"], b"");
    let rerated: Value = serde_json::from_str(&rerated).unwrap();
    assert_eq!((&rerated["looked_at"], &rerated["changed"]), (&json!(answered), &json!(0)), "{rerated}");

    let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
    let store = Store::open(url, &dir.path().join("data"), clock, rng).await.unwrap();
    let ledger = Ledger::open(&store, LedgerSettings::new("test")).await.unwrap();
    let balances = ledger.balances(&BalanceFilter::default(), &Page::first(10)).await.unwrap().items;
    let balance = balances.iter().find(|balance| &*balance.key.budget == "all").unwrap();
    assert_eq!((balance.spent, balance.held, balance.leased), (cost, 0, 0), "ledger and provider");
    assert_eq!(ledger.verify().await.unwrap(), Vec::<String>::new());
    store.close().await;
}

/// A post whose caller says what it is for.
async fn tagged(program: &Program, token: &str, tag: Option<&str>) {
    let (path, body, _) = request(1);
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("authorization", bearer.as_str()), ("content-type", "application/json")];
    headers.extend(tag.map(|tag| ("x-vouchgate-tag", tag)));
    let answer = testkit::raw::request(program.public, "POST", path, &headers, body.to_string().as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_requests_are_for_is_in_their_records_in_the_sums_and_in_what_the_command_shows() {
    let dir = tempfile::tempdir().unwrap();
    let counted = Arc::new(Counted::default());
    let counting = Arc::clone(&counted);
    let mock = Mock::start_with(move |received| answer(received, &counting)).await;
    let config = configuration(dir.path(), &mock, "");
    let config = config.replace("who = {", "tags = [\"mobile\"]\ncaller_tags = [\"search\", \"ads-*\"]\nwho = {");
    write_config(dir.path(), "", &config);
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    for tag in [None, Some("search"), Some("search"), Some("ads-1"), Some("not-mine")] {
        tagged(&program, &token, tag).await;
    }
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());

    let each = counted.cost.load(Ordering::Relaxed) / 5;
    let table: Value = serde_json::from_str(&command(dir.path(), &["usage", "--by", "tag", "--json"], b"")).unwrap();
    let rows = table["items"].as_array().unwrap();
    let mut found: Vec<_> = rows
        .iter()
        .map(|row| (row["tag"].as_str().unwrap(), row["requests"].as_i64(), row["cost_nano_usd"].as_i64()))
        .collect();
    found.sort_unstable();
    let row = |tag, requests: i64| (tag, Some(requests), Some(requests * each));
    assert_eq!(found, [row("ads-1", 1), row("mobile", 5), row("search", 2)], "a tag that is not allowed is none");
    assert_eq!((&table["total"]["requests"], &table["total"]["cost_nano_usd"]), (&json!(5), &json!(5 * each)));
    let csv = command(dir.path(), &["usage", "--by", "tag", "--csv"], b"");
    for line in ["tag,requests,failed,", "ads-1,1,0,", "mobile,5,0,", "search,2,0,"] {
        assert!(csv.lines().any(|found| found.starts_with(line)), "{line}: {csv}");
    }
    let shown = command(dir.path(), &["usage", "--by", "tag"], b"");
    assert!(shown.lines().any(|line| line.split_whitespace().take(2).eq(["search", "2"])), "{shown}");
    let lines = command(dir.path(), &["usage", "requests", "--since", "24h"], b"");
    let tags: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["tags"].clone()).collect();
    assert_eq!(tags.iter().filter(|tags| **tags == json!(["search", "mobile"])).count(), 2, "{tags:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_sums_ledger_and_provider_agree_on_sqlite() {
    everything_agrees("", &StoreUrl::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_sums_ledger_and_provider_agree_on_postgresql() {
    let Some(url) = vectors::postgres::database() else {
        vectors::skip("records_sums_ledger_and_provider_agree_on_postgresql", "PostgreSQL is not installed");
        return;
    };
    everything_agrees(&format!("[store]\nurl = \"{url}\"\n"), &StoreUrl::parse(&url).unwrap()).await;
}
