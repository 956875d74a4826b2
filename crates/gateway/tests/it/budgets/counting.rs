//! Inputs that are counted: only where the bound by their bytes is in the way.

use serde_json::{Value, json};
use store::{Unit, Window};
use testkit::mock::{Answer, Mock};

use super::USD;
use crate::harness::World;

const CHAT: &str = "/v1/chat/completions";

/// OpenAI, whose vocabulary is public, at a dollar for a thousand tokens read; and somebody whose is not.
fn config(mock: &Mock, limit: &str) -> String {
    let provider = |name: &str, kind: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n\
             [[price]]\nprovider = \"{name}\"\nmodel = \"gpt-4o\"\ninput = \"1000 USD\"\noutput = \"0 USD\"\n\
             context = 100000\nmax_output = 4000\n",
            mock.url()
        )
    };
    format!(
        "{}{}[[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"*\"] }}\n\
         [[budget]]\nname = \"cap\"\nlimit = \"{limit}\"\nwindow = \"total\"\n",
        provider("o", "openai"),
        provider("v", "openai-compatible"),
    )
}

/// 10,000 bytes of words, which are some 2,000 tokens.
fn ask(model: &str) -> Value {
    let text = "many words of a story ".repeat(455);
    json!({"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": text}]})
}

async fn world(limit: &str) -> (World, Mock) {
    let mock = Mock::start_with(|_| {
        let usage = json!({"prompt_tokens": 2282, "completion_tokens": 1, "total_tokens": 2283});
        let message = json!({"role": "assistant", "content": "hi"});
        let choices = json!([{"index": 0, "message": message, "finish_reason": "stop"}]);
        Answer::json(
            200,
            &json!({"id": "x", "object": "chat.completion", "model": "m", "choices": choices, "usage": usage}),
        )
    })
    .await;
    let world = World::with_budgets(&config(&mock, limit)).await;
    (world, mock)
}

#[tokio::test]
async fn what_fits_only_as_counted_is_let_in_and_charged_what_it_took() {
    let (world, mock) = world("3 USD").await;
    let refused = world.post(CHAT, &ask("v/gpt-4o")).await;
    assert_eq!(refused.code(), "budget_exhausted", "by its bytes it might cost 10 USD");
    let answer = world.post(CHAT, &ask("o/gpt-4o")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), USD / 1000 * 2282, "nothing is cut off");
    assert_eq!(world.post(CHAT, &ask("o/gpt-4o")).await.code(), "budget_exhausted", "it does not fit twice");
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn an_input_that_would_hold_much_of_a_limit_is_counted_first_and_others_need_not_wait() {
    let (world, _mock) = world("12 USD").await;
    let body = ask("o/gpt-4o");
    let answers = futures_util::future::join_all((0..4).map(|_| world.post(CHAT, &body))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "four of 2.3 USD fit, two of 10 USD would not");
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), USD / 1000 * 2282 * 4);
}
