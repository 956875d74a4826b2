//! What may be spent: held before a provider is asked, and settled by what it took.

mod at_once;
mod batches;
mod counting;
mod endpoints;
mod journal;
mod usage;

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::{Value, json};
use store::{Period, Unit, Window};
use testkit::mock::{Answer, Gate, Mock};

use crate::harness::{NOW, World, piece, request};

pub(crate) const USD: i64 = 1_000_000_000;
/// What 100 tokens cost by [`config`].
pub(crate) const DIME: i64 = USD / 10;

/// A provider whose tokens cost a tenth of a cent each when generated and nothing when read.
pub(crate) fn config(mock: &Mock, more: &str) -> String {
    format!(
        "[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[price]]\nprovider = \"p\"\nmodel = \"m\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 10000\nmax_output = 4000\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"*\"] }}\n{more}",
        mock.url()
    )
}

/// An answer of so many tokens.
pub(crate) fn answer(tokens: u64) -> Value {
    json!({
        "id": "x", "object": "chat.completion", "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": tokens, "total_tokens": tokens + 7},
    })
}

pub(crate) fn ask(most: u64) -> Value {
    json!({"model": "p/m", "max_tokens": most, "messages": [{"role": "user", "content": "hi"}]})
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn of_a_thousand_at_once_exactly_as_many_reach_the_provider_as_can_be_paid() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let world =
        World::with_budgets(&config(&mock, "[[budget]]\nname = \"cap\"\nlimit = \"5.00 USD\"\nwindow = \"total\"\n"))
            .await;
    let body = ask(100);
    let answers = join_all((0..1000).map(|_| world.post(CHAT, &body))).await;
    let with = |status: u16| answers.iter().filter(|answer| answer.status.as_u16() == status).count();
    assert_eq!((with(200), with(429), mock.count()), (50, 950, 50));
    let refused = answers.iter().find(|answer| answer.status == 429).unwrap();
    assert_eq!((refused.code().as_str(), refused.header("x-should-retry")), ("budget_exhausted", "false"));
    assert!(refused.text().contains("\\\"cap\\\" (5.00 USD)"), "{}", refused.text());
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), 5 * USD);
    assert_eq!(world.books.ledger.as_ref().unwrap().verify().await.unwrap(), Vec::<String>::new());
    assert!(world.metrics().contains("vouchgate_budget_events_total{budget=\"cap\",event=\"refused\"} 950"));
}

#[tokio::test]
async fn what_was_held_and_not_used_is_there_for_the_next() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let world =
        World::with_budgets(&config(&mock, "spend = [{ limit = \"0.12 USD\", per = \"subject\", window = \"1d\" }]\n"))
            .await;
    for _ in 0..3 {
        assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    }
    assert_eq!(world.post(CHAT, &ask(100)).await.code(), "budget_exhausted", "0.03 are spent");
    assert_eq!(world.post(CHAT, &ask(90)).await.status, 200);
    assert_eq!(world.post_as("bob", CHAT, &ask(100)).await.status, 200, "each subject has its own");
    let window = Window::Rolling(Duration::from_hours(24));
    let used = |whom: &str| world.books.used("policy all subject 1d", whom, Unit::NanoUsd, window);
    assert_eq!((used("subject=corp/alice"), used("subject=corp/bob")), (4 * DIME / 10, DIME / 10));
}

#[tokio::test]
async fn budgets_pay_together_or_not_at_all() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let budgets = "[[budget]]\nname = \"wide\"\nrequests = 100\nwindow = \"total\"\n\
                   [[budget]]\nname = \"narrow\"\nlimit = \"0.10 USD\"\nper = \"subject\"\nwindow = \"total\"\n\
                   [[budget]]\nname = \"other\"\nover = { client = \"nobody\" }\nrequests = 0\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, budgets)).await;
    assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    let body = ask(100);
    let refused = join_all((0..20).map(|_| world.post(CHAT, &body))).await;
    assert!(refused.iter().all(|answer| answer.code() == "budget_exhausted"));
    assert_eq!(world.books.used("wide", "", Unit::Requests, Window::Total), 1, "what one refuses no other counts");
    assert_eq!(world.post_as("bob", CHAT, &ask(100)).await.status, 200);
    assert_eq!(world.books.used("wide", "", Unit::Requests, Window::Total), 2);
}

#[tokio::test]
async fn a_calendar_hour_ends_for_everybody_and_is_granted_once() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let world =
        World::with_budgets(&config(&mock, "[[budget]]\nname = \"hourly\"\nlimit = \"0.50 USD\"\nwindow = \"hour\"\n"))
            .await;
    let body = ask(100).to_string();
    let rush = async |at: i64| {
        let token = format!("Bearer {}", world.token_with(&json!({"iat": NOW + at, "exp": NOW + at + 300})));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let answers = join_all((0..40).map(|_| world.send("POST", CHAT, &headers, body.clone()))).await;
        let refused = answers.iter().find(|answer| answer.status == 429).expect("some are refused");
        let after: i64 = refused.header("retry-after").parse().unwrap();
        (answers.iter().filter(|answer| answer.status == 200).count(), after)
    };
    let left = 3600 - NOW % 3600;
    assert_eq!(rush(0).await, (5, left), "until the full hour");
    world.clock.advance(Duration::from_secs(u64::try_from(left).unwrap() - 1));
    assert_eq!(rush(left - 1).await, (0, 1));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(rush(left).await, (5, 3600));
    assert_eq!(world.books.used("hourly", "", Unit::NanoUsd, Window::Calendar(Period::Hour)), 5 * DIME);
}

#[tokio::test]
async fn what_nobody_knows_the_price_of_is_refused_under_a_budget_of_money_only() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let other = json!({"model": "p/unheard-of", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let world =
        World::with_budgets(&config(&mock, "spend = [{ limit = \"5 USD\", per = \"policy\", window = \"1d\" }]\n"))
            .await;
    let refused = world.post(CHAT, &other).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (403, "price_unknown"));
    assert!(refused.text().contains("p/unheard-of") && refused.text().contains("[[price]]"), "{}", refused.text());
    assert_eq!(mock.count(), 0);
    for free in ["tokens = 100000", "requests = 5", "limit = \"5 USD\", mode = \"shadow\""] {
        let spend = format!("spend = [{{ {free}, per = \"policy\", window = \"1d\" }}]\n");
        let world = World::with_budgets(&config(&mock, &spend)).await;
        assert_eq!(world.post(CHAT, &other).await.status, 200, "{free}");
    }
}

#[tokio::test]
async fn a_budget_without_books_refuses() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let world = World::new(&config(&mock, "spend = [{ limit = \"5 USD\", per = \"policy\", window = \"1d\" }]\n"));
    let refused = world.post(CHAT, &ask(5)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str(), mock.count()), (503, "budget_unavailable", 0));
}

#[tokio::test]
async fn a_request_without_a_bound_gets_one_that_can_be_paid() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(10))).await;
    let open = json!({"model": "p/m", "messages": [{"role": "user", "content": "hi"}]});
    let sent = async |limit: &str, more: &str| {
        let world = World::with_budgets(&config(
            &mock,
            &format!("spend = [{{ limit = \"{limit}\", per = \"policy\", window = \"1d\" }}]\n{more}"),
        ))
        .await;
        let before = mock.count();
        let answer = world.post(CHAT, &open).await;
        (answer.status.as_u16(), mock.requests().get(before).map(|request| request.json()["max_tokens"].clone()))
    };
    assert_eq!(sent("5 USD", "").await, (200, Some(json!(4000))), "what the model makes at most");
    assert_eq!(sent("2 USD", "").await, (200, Some(json!(1024))), "less, where that cannot be paid");
    assert_eq!(sent("1 USD", "").await, (429, None), "but not next to nothing");
    let asked =
        World::with_budgets(&config(&mock, "spend = [{ limit = \"1 USD\", per = \"policy\", window = \"1d\" }]\n"))
            .await;
    assert_eq!(asked.post(CHAT, &ask(4000)).await.status, 429, "what the caller asks for is not changed");
}

#[tokio::test]
async fn a_stream_that_goes_on_after_what_was_held_is_cut_with_an_error_event() {
    let mock = Mock::start().await;
    let world =
        World::with_budgets(&config(&mock, "[[budget]]\nname = \"cap\"\nlimit = \"5 USD\"\nwindow = \"total\"\n"))
            .await;
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": null}]});
    let endless: Vec<Value> = std::iter::repeat_n(chunk, 2000).collect();
    mock.push(Answer::openai_stream(&endless));
    let mut body = ask(10);
    body["stream"] = true.into();
    let answer = world.post(CHAT, &body).await;
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("\"budget_exhausted\"") && !answer.text().contains("[DONE]"), "{}", answer.text());
    let words = answer.text().matches("word ").count();
    assert!((10..300).contains(&words), "{words}");
    assert_eq!(world.record().error.as_deref(), Some("budget_exhausted"));
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), DIME / 10, "all that was held, and no more");
    // One that keeps to it ends as it does.
    let honest: Vec<Value> = (0..10).map(|_| json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": null}]}))
        .chain([json!({"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}),
                json!({"id": "c", "choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}})]).collect();
    mock.push(Answer::openai_stream(&honest));
    let answer = world.post(CHAT, &body).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), DIME / 10 + 9 * DIME / 100);
}

#[tokio::test]
async fn who_goes_in_the_middle_of_an_answer_is_charged_what_was_held() {
    let gate = Gate::closed();
    let mock = Mock::start().await;
    let world =
        World::with_budgets(&config(&mock, "[[budget]]\nname = \"cap\"\nlimit = \"5 USD\"\nwindow = \"total\"\n"))
            .await;
    let chunk = json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": null}]});
    mock.push(Answer::openai_stream(&[chunk.clone(), chunk]).stall_after(120, &gate));
    let mut asked = ask(100);
    asked["stream"] = true.into();
    let mut body = world.open(CHAT, &asked).await.into_body();
    let _first = piece(&mut body).await;
    drop(body);
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), DIME);
    assert!(world.metrics().contains("vouchgate_budget_events_total{budget=\"cap\",event=\"estimated\"} 1"));
}

#[tokio::test]
async fn what_a_provider_refuses_costs_nothing_and_what_may_have_been_done_does() {
    let mock = Mock::start().await;
    let model = "[[model]]\nname = \"fast\"\ntargets = [{ provider = \"p\", model = \"m\" }]\nretry = { attempts = 2, on = [503] }\n\
                 timeout = { first_byte = \"200ms\" }\n[[budget]]\nname = \"cap\"\nlimit = \"5 USD\"\nrequests = 9\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, model)).await;
    let mut body = ask(100);
    body["model"] = "fast".into();
    let used = || world.books.used("cap", "", Unit::NanoUsd, Window::Total);
    mock.push(Answer::json(400, &json!({"error": {"message": "no"}})));
    assert_eq!(world.post(CHAT, &body).await.status, 400);
    assert_eq!((used(), world.books.used("cap", "", Unit::Requests, Window::Total)), (0, 1));
    mock.push(Answer::json(503, &json!({"error": {"message": "later"}})));
    mock.push(Answer::json(200, &answer(50)));
    assert_eq!(world.post(CHAT, &body).await.status, 200);
    assert_eq!((used(), mock.count()), (DIME / 2, 3), "the one that answered");
    // An attempt that is not answered in time may be one that is charged: another needs as much again.
    let gate = Gate::closed();
    mock.push(Answer::json(200, &answer(50)).hold_head(&gate));
    mock.push(Answer::json(200, &answer(50)));
    assert_eq!(world.post(CHAT, &body).await.status, 200);
    assert_eq!((used(), mock.count()), (2 * DIME, 5));
    assert_eq!(world.books.used("cap", "", Unit::Requests, Window::Total), 3);
}

#[tokio::test]
async fn an_answer_that_was_kept_costs_its_own_price() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let model = "[[model]]\nname = \"fast\"\ntargets = [{ provider = \"p\", model = \"m\" }]\ncache = { ttl = \"10m\", price = \"0.01 USD\" }\n\
                 [[budget]]\nname = \"cap\"\nlimit = \"0.12 USD\"\nrequests = 9\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, model)).await;
    let mut body = ask(100);
    body["model"] = "fast".into();
    for (cache, cost) in [("miss", 10), ("hit", 11), ("hit", 12)] {
        let answer = world.post(CHAT, &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-cache")), (200, cache));
        assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), cost * DIME / 10);
    }
    assert_eq!(world.post(CHAT, &body).await.code(), "budget_exhausted");
    assert_eq!((mock.count(), world.books.used("cap", "", Unit::Requests, Window::Total)), (1, 3));
}

#[tokio::test]
async fn a_service_s_answer_that_was_kept_costs_the_model_s_own_price_and_is_the_service_s_to_pay() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let service = "[[model]]\nname = \"fast\"\ntargets = [{ provider = \"p\", model = \"m\" }]\ncache = { ttl = \"10m\", price = \"0.01 USD\" }\n\
                   [[service]]\nname = \"asking\"\npath = \"/v1/asking\"\nmodel = \"fast\"\nprompt = \"{{input}}\"\nmax_output_tokens = 100\n\
                   [[service]]\nname = \"telling\"\npath = \"/v1/telling\"\nmodel = \"fast\"\nprompt = \"{{input}}\"\nmax_output_tokens = 100\n\
                   [[policy]]\nname = \"services\"\nmay = { services = [\"*\"] }\n\
                   [[budget]]\nname = \"cap\"\nover = { service = [\"asking\"] }\nlimit = \"0.12 USD\"\nrequests = 9\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, service)).await;
    let body = json!({"input": "hi"});
    for (cache, cost) in [("miss", 10), ("hit", 11), ("hit", 12)] {
        let answer = world.post("/v1/asking", &body).await;
        assert_eq!((answer.status.as_u16(), answer.header("x-vouchgate-cache")), (200, cache), "{}", answer.text());
        assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), cost * DIME / 10);
    }
    assert_eq!(world.post("/v1/asking", &body).await.code(), "budget_exhausted");
    assert_eq!((mock.count(), world.books.used("cap", "", Unit::Requests, Window::Total)), (1, 3));
    for cache in ["miss", "hit"] {
        assert_eq!(world.post("/v1/telling", &body).await.header("x-vouchgate-cache"), cache, "not under this budget");
    }
    assert_eq!(world.books.used("cap", "", Unit::Requests, Window::Total), 3);
}

#[tokio::test]
async fn of_several_targets_the_dearest_is_held_and_the_one_that_answers_is_paid() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let more = "[[price]]\nprovider = \"p\"\nmodel = \"dear\"\ninput = \"0 USD\"\noutput = \"2000 USD\"\n\
                [[model]]\nname = \"fast\"\ntargets = [{ provider = \"p\", model = \"m\" }, { provider = \"p\", model = \"dear\" }, \
                { provider = \"p\", model = \"unpriced\" }]\n\
                [[budget]]\nname = \"cap\"\nlimit = \"0.25 USD\"\nwindow = \"total\"\n\
                [[budget]]\nname = \"dear\"\nover = { model = \"p/dear\" }\nlimit = \"5 USD\"\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, more)).await;
    let mut body = ask(100);
    body["model"] = "fast".into();
    assert_eq!(world.post(CHAT, &body).await.status, 200);
    assert_eq!(world.books.used("cap", "", Unit::NanoUsd, Window::Total), DIME);
    assert_eq!(world.books.used("dear", "", Unit::NanoUsd, Window::Total), 0, "nothing went there");
    assert_eq!(world.post(CHAT, &body).await.code(), "budget_exhausted", "0.15 are left of the 0.20 it may cost");
    // One without a price is never asked.
    let failing = json!({"error": {"message": "later"}});
    let world = World::with_budgets(&config(&mock, &more.replace("0.25", "5"))).await;
    mock.push(Answer::json(503, &failing));
    mock.push(Answer::json(503, &failing));
    let before = mock.count();
    assert_eq!(world.post(CHAT, &body).await.status, 503);
    assert!(mock.requests().iter().skip(before).all(|request| request.json()["model"] != "unpriced"));
}

#[tokio::test]
async fn tokens_a_minute_are_counted_before_and_given_back_after() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(13))).await;
    let world = World::new(&config(&mock, "rate = [{ tokens = 1000, per = \"subject\", window = \"1m\" }]\n"));
    let first = world.post(CHAT, &ask(100)).await;
    assert_eq!(first.status, 200);
    let held = i64::try_from(ask(100).to_string().len()).unwrap() + 128 + 100;
    assert_eq!(first.header("x-ratelimit-remaining-tokens"), (1000 - held).to_string(), "as many as it may take");
    assert_eq!(first.header("ratelimit-policy"), "\"tokens-subject-60s\";q=1000;qu=\"tokens\";w=60");
    let second = world.post(CHAT, &ask(100)).await;
    assert_eq!(second.header("x-ratelimit-remaining-tokens"), (1000 - 20 - held).to_string(), "20 were taken");
    let refused = world.post(CHAT, &ask(900)).await;
    assert_eq!((refused.status.as_u16(), refused.code().as_str()), (429, "rate_limited"));
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 60);
    assert_eq!(world.post_as("bob", CHAT, &ask(900)).await.status, 200, "more than fits takes what there is");
}

#[tokio::test]
async fn a_part_that_is_reached_is_told_of_and_a_budget_that_only_counts_refuses_nothing() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(100))).await;
    let budget =
        "[[budget]]\nname = \"seen\"\nlimit = \"0.20 USD\"\nwindow = \"total\"\nsoft = [0.5, 0.8]\nmode = \"shadow\"\n";
    let world = World::with_budgets(&config(&mock, budget)).await;
    let told = |event: &str, times: u32| {
        let line = format!("vouchgate_budget_events_total{{budget=\"seen\",event=\"{event}\"}} {times}\n");
        assert!(world.metrics().contains(&line), "{line} in {}", world.metrics());
    };
    assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    told("threshold", 1);
    assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    told("threshold", 2);
    for _ in 0..3 {
        assert_eq!(world.post(CHAT, &ask(100)).await.status, 200);
    }
    told("threshold", 2);
    told("over", 3);
    let told: Vec<_> = world.notices.take().into_iter().map(|notice| (notice.event, notice.data)).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].0, &told[0].1["threshold"]), ("budget.threshold", &json!(0.5)));
    assert_eq!((told[1].0, &told[1].1["threshold"]), ("budget.threshold", &json!(0.8)));
}

#[tokio::test]
async fn each_tag_a_policy_allows_has_a_budget_of_its_own_and_all_others_share_one() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let more = "caller_tags = [\"search\", \"ads-*\"]\n[[budget]]\nname = \"teams\"\nper = \"tag\"\nrequests = 1\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, more)).await;
    let tagged = async |tag: &str| {
        let token = format!("Bearer {}", world.token_with(&json!({})));
        let headers =
            [("authorization", token.as_str()), ("content-type", "application/json"), ("x-vouchgate-tag", tag)];
        world.send("POST", CHAT, &headers, ask(1).to_string()).await.status.as_u16()
    };
    for tag in ["search", "ads-1", "ads-2", "invented"] {
        assert_eq!(tagged(tag).await, 200, "{tag}");
    }
    for tag in ["search", "ads-1", "another", "", &"x".repeat(65)] {
        assert_eq!(tagged(tag).await, 429, "{tag}");
    }
    for whom in ["tag=search", "tag=ads-1", "tag=ads-2", "tag="] {
        assert_eq!(world.books.used("teams", whom, Unit::Requests, Window::Total), 1, "{whom}");
    }
    let told = mock.requests();
    assert!(told.iter().all(|request| request.header("x-vouchgate-tag").is_none()), "no provider hears of it");
}

#[tokio::test]
async fn a_tag_that_a_policy_allows_is_in_the_record_and_one_that_nothing_came_of_is_not() {
    let mock = Mock::start().await;
    let world =
        World::with_budgets(&config(&mock, "tags = [\"batch\"]\ncaller_tags = [\"search\", \"ads-*\"]\n")).await;
    let tags = async |tag: &str, answer: Answer| -> Vec<String> {
        mock.push(answer);
        let token = format!("Bearer {}", world.token_with(&json!({})));
        let headers =
            [("authorization", token.as_str()), ("content-type", "application/json"), ("x-vouchgate-tag", tag)];
        world.send("POST", CHAT, &headers, ask(1).to_string()).await;
        world.record().charge.tags.iter().map(ToString::to_string).collect()
    };
    let fine = || Answer::json(200, &answer(1));
    assert_eq!(tags("search", fine()).await, ["search", "batch"]);
    assert_eq!(tags("ads-7", fine()).await, ["ads-7", "batch"]);
    for other in ["batch", "invented", "", "ads", &"ads-x".repeat(13)] {
        assert_eq!(tags(other, fine()).await, ["batch"], "{other}");
    }
    // Otherwise a caller could fill the sums with names.
    let refused = Answer::json(400, &json!({"error": {"message": "no", "type": "invalid_request_error"}}));
    assert_eq!(tags("ads-8", refused).await, ["batch"]);
}

#[tokio::test]
async fn organisations_and_projects_have_budgets_of_their_own() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let budgets = "[[budget]]\nname = \"orgs\"\nper = \"organisation\"\nrequests = 2\nwindow = \"total\"\n\
                   [[budget]]\nname = \"projects\"\nper = [\"organisation\", \"project\"]\nrequests = 1\nwindow = \"total\"\n";
    let corp = "[[issuer]]\nname = \"corp\"\nissuer = \"https://id.example.com/\"\naudience = [\"a\"]\n\
                jwks_url = \"https://id.example.com/jwks\"\nclaims = { organisation = \"org\", project = \"proj\" }\n";
    let world = World::with_budgets(&config(&mock, &format!("{budgets}{corp}"))).await;
    let ask_as = async |claims: Value| {
        let token = format!("Bearer {}", world.token_with(&claims));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        world.send("POST", CHAT, &headers, ask(1).to_string()).await.status.as_u16()
    };
    assert_eq!(ask_as(json!({"org": "a", "proj": "x"})).await, 200);
    assert_eq!(ask_as(json!({"org": "a", "proj": "x"})).await, 429, "the project has had its own");
    assert_eq!(ask_as(json!({"org": "a", "proj": "y"})).await, 200);
    assert_eq!(ask_as(json!({"org": "a", "proj": "z"})).await, 429, "the organisation has had its two");
    assert_eq!(ask_as(json!({"org": "b", "proj": "x"})).await, 200, "another's project of that name is another");
}

#[tokio::test]
async fn a_device_and_an_organisation_have_budgets_of_their_own() {
    let mock = Mock::start_with(|_| Answer::json(200, &answer(1))).await;
    let budget = "[[budget]]\nname = \"org\"\nover = { client = \"app\" }\nper = [\"client\", \"device\"]\nrequests = 1\nwindow = \"total\"\n";
    let world = World::with_budgets(&config(&mock, budget)).await;
    assert_eq!(world.post(CHAT, &ask(1)).await.status, 200);
    assert_eq!(world.post_as("bob", CHAT, &ask(1)).await.code(), "budget_exhausted", "the same client, and no device");
    assert_eq!(world.books.used("org", "client=corp/app;device=", Unit::Requests, Window::Total), 1);
    let token = format!("Bearer {}", world.token_with(&json!({"client_id": "other"})));
    let answer = world.raw(request("POST", CHAT, &[("authorization", &token)], ask(1).to_string())).await;
    assert_eq!(answer.status(), 200);
}
