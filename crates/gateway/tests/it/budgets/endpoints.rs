//! Every endpoint counts: none is free by omission.

use base64::Engine;
use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Mock};

use super::{USD, config};
use crate::harness::World;

/// A way to a provider: method, path, body; whether it costs money by the price of [`config`], and what refuses it where no price says.
struct Way {
    method: &'static str,
    path: &'static str,
    body: Body,
    money: Money,
}

enum Body {
    Json(Value),
    Form(&'static str),
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Money {
    /// Known: something is held.
    Priced,
    /// Nothing, by its provider's own word or the operator's.
    Free,
    /// Not known: refused.
    Unknown,
}

const FORM: &str = "--b\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\np/m\r\n--b\r\n\
    Content-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\r\n\r\nsound\r\n--b--\r\n";

fn ways() -> Vec<Way> {
    use Money::{Free, Priced, Unknown};
    let chat = || json!({"model": "p/m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let native = || json!({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let post = |path, body: Value, money| Way { method: "POST", path, body: Body::Json(body), money };
    let form = |path, money| Way { method: "POST", path, body: Body::Form(FORM), money };
    let gemini = || json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let image = || json!({"model": "p/m", "prompt": "x"});
    vec![
        post("/v1/chat/completions", chat(), Priced),
        post("/v1/completions", json!({"model": "p/m", "prompt": "hi", "max_tokens": 5}), Priced),
        post("/v1/responses", json!({"model": "p/m", "input": "hi", "max_output_tokens": 5}), Priced),
        post("/v1/messages", chat(), Priced),
        post("/v1beta/models/p/m:generateContent", gemini(), Priced),
        post("/v1beta/models/p/m:streamGenerateContent?alt=sse", gemini(), Priced),
        post("/v1/embeddings", json!({"model": "p/m", "input": "hi"}), Priced),
        post("/v1beta/models/p/m:embedContent", json!({"content": {"parts": [{"text": "hi"}]}}), Priced),
        post("/v1/moderations", json!({"model": "p/m", "input": "hi"}), Priced),
        post("/v1/images/generations", image(), Priced),
        form("/v1/images/edits", Priced),
        form("/v1/images/variations", Priced),
        post("/v1/audio/speech", json!({"model": "p/m", "input": "hi", "voice": "alloy"}), Priced),
        form("/v1/audio/transcriptions", Priced),
        form("/v1/audio/translations", Priced),
        post("/v1/ask", json!({"input": "hi"}), Priced),
        post("/api/ping", json!({}), Priced),
        post("/providers/p/v1/chat/completions", native(), Priced),
        post("/providers/p/v1/embeddings", json!({"model": "m", "input": "hi"}), Priced),
        post("/providers/p/v1/responses", json!({"model": "m", "input": "hi"}), Priced),
        post("/providers/p/v1/completions", json!({"model": "m", "prompt": "hi"}), Unknown),
        post("/providers/p/v1/completions", json!({"model": "m", "prompt": "hi", "max_tokens": 5}), Priced),
        post("/providers/p/v1/images/generations", json!({"model": "m", "prompt": "x"}), Priced),
        post("/providers/p/v1/audio/speech", json!({"model": "m", "input": "x", "voice": "a"}), Priced),
        post("/providers/p/v1/fine_tuning/jobs", json!({"model": "m"}), Unknown),
        post("/providers/p/v1/batches", json!({"endpoint": "/v1/chat/completions"}), Unknown),
        Way { method: "GET", path: "/providers/p/v1/models", body: Body::None, money: Free },
    ]
}

/// What every way needs to be there, and a budget.
fn world_of(mock: &Mock, budget: &str) -> String {
    let open = "passthrough = [{ provider = \"p\", methods = [\"GET\", \"POST\"], paths = [\"/v1/**\"] }]";
    let more = format!(
        "[[service]]\nname = \"ask\"\npath = \"/v1/ask\"\nmodel = \"p/m\"\nprompt = \"{{{{input}}}}\"\n\
         [[upstream]]\nname = \"ping\"\npath = \"/api/\"\nurl = \"{}/\"\nallow_private = true\nprice = \"0.01 USD\"\n{budget}",
        mock.url()
    );
    let may =
        format!("may = {{ models = [\"*\"], providers = [\"*\"], services = [\"*\"], upstreams = [\"*\"], {open} }}");
    config(mock, &more)
        .replace("may = { models = [\"*\"], providers = [\"*\"] }", &may)
        .replace(
            "output = \"1000 USD\"",
            "output = \"1000 USD\"\nimage = \"0.04 USD\"\nminute = \"0.06 USD\"\ncharacters = \"15 USD\"",
        )
        .replace("input = \"0 USD\"", "input = \"1 USD\"")
}

async fn send(world: &World, way: &Way) -> crate::harness::Answer {
    let token = format!("Bearer {}", world.token("alice"));
    let (kind, body) = match &way.body {
        Body::Json(body) => ("application/json", body.to_string()),
        Body::Form(text) => ("multipart/form-data; boundary=b", (*text).to_owned()),
        Body::None => ("", String::new()),
    };
    let headers = [("authorization", token.as_str()), ("content-type", kind)];
    let headers = if kind.is_empty() { &headers[..1] } else { &headers[..] };
    world.send(way.method, way.path, headers, body).await
}

async fn provider() -> Mock {
    Mock::start_with(|_| Answer::json(200, &json!({"object": "x", "choices": [], "data": []}))).await
}

#[tokio::test]
async fn every_way_to_a_provider_counts_as_a_request_and_is_refused_when_there_is_none_left() {
    let mock = provider().await;
    for way in ways() {
        let budget = "[[budget]]\nname = \"once\"\nrequests = 1\nwindow = \"total\"\n";
        let world = World::with_budgets(&world_of(&mock, budget)).await;
        let before = mock.count();
        let first = send(&world, &way).await;
        assert_eq!(mock.count() - before, 1, "{} {}: {} {}", way.method, way.path, first.status, first.text());
        assert_eq!(world.books.used("once", "", Unit::Requests, Window::Total), 1, "{}", way.path);
        let second = send(&world, &way).await;
        assert_eq!((second.status.as_u16(), mock.count() - before), (429, 1), "{} {}", way.path, second.text());
        assert!(second.text().contains("not enough left"), "{}", second.text());
    }
}

#[tokio::test]
async fn every_way_is_paid_for_or_refused_under_a_budget_of_money() {
    let mock = provider().await;
    for way in ways() {
        let budget = "[[budget]]\nname = \"purse\"\nlimit = \"500 USD\"\nwindow = \"total\"\n";
        let world = World::with_budgets(&world_of(&mock, budget)).await;
        let before = mock.count();
        let answer = send(&world, &way).await;
        let spent = world.books.used("purse", "", Unit::NanoUsd, Window::Total);
        let seen = match (spent, mock.count() - before) {
            (0, 0) => Money::Unknown,
            (0, _) => Money::Free,
            _ => Money::Priced,
        };
        assert_eq!(seen, way.money, "{} {}: {} {}", way.method, way.path, answer.status, answer.text());
        assert!(spent <= 500 * USD);
        if way.money == Money::Unknown {
            assert_eq!(answer.status, 403, "{}", answer.text());
        }
    }
}

#[tokio::test]
async fn nothing_is_sent_where_the_purse_is_empty() {
    let mock = provider().await;
    let budget = "[[budget]]\nname = \"purse\"\nlimit = \"0 USD\"\nwindow = \"total\"\n";
    let world = World::with_budgets(&world_of(&mock, budget)).await;
    for way in ways().iter().filter(|way| way.money == Money::Priced) {
        let answer = send(&world, way).await;
        assert_eq!((answer.status.as_u16(), mock.count()), (429, 0), "{} {}", way.path, answer.text());
    }
}

#[tokio::test]
async fn what_is_free_by_its_providers_word_is_free_and_pictures_sent_along_are_bounded() {
    let mock = provider().await;
    let picture = base64::engine::general_purpose::STANDARD.encode(vec![0u8; 600_000]);
    let budget = "[[budget]]\nname = \"purse\"\nlimit = \"1 USD\"\nwindow = \"total\"\n";
    let world = World::with_budgets(&world_of(&mock, budget)).await;
    let body = json!({"model": "p/m", "max_tokens": 5, "messages": [{"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{picture}")}}]}]});
    let answer = world.post("/v1/chat/completions", &body).await;
    assert_eq!(answer.status, 200, "its 800,000 bytes are no tokens: {}", answer.text());
}
