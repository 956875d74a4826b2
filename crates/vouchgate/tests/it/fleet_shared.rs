//! Several nodes on one database and one Redis server: limits counted for all of them, what happens while Redis does not
//! answer, and restarts one after the other under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures_util::future::join_all;
use serde_json::json;
use testkit::mock::{Answer as Reply, Gate};
use tokio::sync::RwLock;
use vectors::redis::Redis;

use crate::attacks::question;
use crate::caller::PATH;
use crate::fleet::{Fleet, one_proof_a_hundred_times, one_proof_refused};
use crate::support::Answer;

const RATE: &str = "rate = [{ requests = 12, per = \"subject\", window = \"1h\" }]";

async fn start(nodes: usize, test: &str) -> Option<(Redis, Fleet)> {
    let Some(redis) = Redis::start() else {
        vectors::skip(test, "Redis is not installed");
        return None;
    };
    let fleet = Fleet::start(nodes, &format!("shared = {:?}", redis.url()), test).await?;
    Some((redis, fleet))
}

/// How many of these requests, to all nodes in turn, are let in.
async fn let_in(fleet: &Fleet, token: &str, requests: usize) -> usize {
    let statuses = join_all((0..requests).map(|n| fleet.status(n % fleet.nodes.len(), token))).await;
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    statuses.into_iter().filter(|status| *status == 200).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_proof_sent_to_three_nodes_a_hundred_times_one_is_let_in_by_redis() {
    let Some((mut redis, fleet)) = start(3, "a proof is good once in a fleet with Redis").await else { return };
    one_proof_a_hundred_times(&fleet).await;
    assert!(redis.pause());
    one_proof_refused(&fleet, 503).await;
    assert!(redis.resume());
    fleet.until_proofs_are_taken().await;
    one_proof_a_hundred_times(&fleet).await;
    // What it had noted is lost: what was good before is not good again.
    let (caller, used) = fleet.used_proof().await;
    assert!(redis.crash() && redis.restart());
    for _ in 0..20 {
        let answer = caller.ask(&used).await;
        assert!([401, 503].contains(&answer.status()), "{}", answer.text());
    }
    fleet.until_proofs_are_taken().await;
    assert_eq!(caller.ask(&used).await.status(), 401);
    one_proof_a_hundred_times(&fleet).await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_one_for_the_fleet_and_each_node_s_part_while_redis_does_not_answer() {
    let Some((mut redis, mut fleet)) = start(0, "a rate is one for the fleet").await else { return };
    fleet.config = fleet.config.replace("may = { models = [\"*\"] }", &format!("may = {{ models = [\"*\"] }}\n{RATE}"));
    for _ in 0..3 {
        fleet.join().await;
    }
    // Where Redis is not asked in vain, exactly as many; each node adds at most its part when this machine is too slow for it.
    let counted = async {
        for round in 0.. {
            let token = fleet.created(&format!("subject-{round}")).await;
            let let_in = let_in(&fleet, &token, 45).await;
            assert!((12..=48).contains(&let_in), "{let_in}");
            if let_in == 12 {
                break;
            }
        }
    };
    testkit::patiently("a rate to be counted for all", counted).await;
    assert!(redis.pause());
    // Each its part of it, as soon as each knows how many they are.
    let parts = async {
        for round in 0.. {
            let token = fleet.created(&format!("other-{round}")).await;
            if let_in(&fleet, &token, 45).await == 3 * (12 / 3) {
                break;
            }
        }
    };
    testkit::patiently("every node to count its part", parts).await;
    assert!(redis.resume());
    fleet.stop().await;
}

/// Each model, or provider, anew: exactly as many of 45 requests to three nodes as the limit is, and no more than each node's part
/// besides where this machine is too slow for Redis.
async fn is_one_for_the_fleet(per: &str, test: &str, more: impl Fn(usize, &Fleet) -> String) {
    const ROUNDS: usize = 20;
    let Some((redis, mut fleet)) = start(0, test).await else { return };
    let rate = RATE.replace("subject", per);
    fleet.config = fleet.config.replace("may = { models = [\"*\"] }", &format!("may = {{ models = [\"*\"] }}\n{rate}"));
    for n in 0..ROUNDS {
        let more = more(n, &fleet);
        fleet.config.push_str(&more);
    }
    for _ in 0..3 {
        fleet.join().await;
    }
    let token = &fleet.created("everybody").await;
    let counted = async {
        for round in 0..ROUNDS {
            let mut body = question();
            body["model"] = if per == "model" { format!("m{round}") } else { format!("p{round}/m1") }.into();
            let body = &body;
            let ask = async |n: usize| fleet.nodes[n % 3].post(PATH, token, body).await.status.as_u16();
            let statuses = join_all((0..45).map(ask)).await;
            assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
            let let_in = statuses.iter().filter(|status| **status == 200).count();
            assert!((12..=48).contains(&let_in), "each anew: {let_in}");
            if let_in == 12 {
                return;
            }
        }
        panic!("Redis was never asked in time");
    };
    testkit::patiently("a rate to be counted for all", counted).await;
    drop(redis);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_for_each_model_is_one_for_the_fleet() {
    let model = |n: usize, _: &Fleet| {
        format!("\n[[model]]\nname = \"m{n}\"\ntargets = [{{ provider = \"prov\", model = \"m1\" }}]\n")
    };
    is_one_for_the_fleet("model", "a rate for each model is one for the fleet", model).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_for_each_provider_is_one_for_the_fleet() {
    let provider = |n: usize, fleet: &Fleet| {
        let url = fleet.provider.url();
        format!(
            "\n[[provider]]\nname = \"p{n}\"\nkind = \"openai-compatible\"\nbase_url = \"{url}/v1\"\nallow_private = true\n"
        )
    };
    is_one_for_the_fleet("provider", "a rate for each provider is one for the fleet", provider).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_of_requests_at_once_is_one_for_the_fleet_and_its_places_are_free_again() {
    const PLACES: usize = 6;
    const ASKED: usize = 15;
    let Some((redis, mut fleet)) = start(0, "a budget of requests at once is one for the fleet").await else { return };
    fleet.config.push_str(&["\n[[budget]]\nname = \"cap\"\nconcurrent = ", &PLACES.to_string(), "\n"].concat());
    for _ in 0..3 {
        fleet.join().await;
    }
    let token = &fleet.created("everybody").await;
    let mut body = question();
    body["stream"] = true.into();
    let body = &body;
    // Redis is given 50 ms: where this machine is too slow for it each node adds at most its part.
    let counted = async {
        for round in 0.. {
            assert!(round < 40, "Redis was never asked in time, or places are not free again");
            let gate = Gate::closed();
            let chunk = |end: Option<&str>| json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": end}]});
            let stream = [chunk(None), chunk(Some("stop"))];
            (0..ASKED).for_each(|_| fleet.provider.push(Reply::openai_stream(&stream).stall_after(60, &gate)));
            let (before, refused) = (fleet.provider.count(), AtomicUsize::new(0));
            let ask = async |n: usize| {
                let answer = fleet.nodes[n % 3].post(PATH, token, body).await;
                if answer.status == 429 {
                    assert_eq!(answer.code(), "budget_concurrency");
                    refused.fetch_add(1, Ordering::Relaxed);
                }
                answer.status.as_u16()
            };
            let all_there = async {
                while refused.load(Ordering::Relaxed) + fleet.provider.count() - before < ASKED {
                    tokio::task::yield_now().await;
                }
                gate.open();
            };
            let (statuses, ()) = tokio::join!(join_all((0..ASKED).map(ask)), all_there);
            fleet.provider.forget();
            let let_in = statuses.iter().filter(|status| **status == 200).count();
            assert!(let_in <= 2 * PLACES, "{statuses:?}");
            if let_in == PLACES {
                return;
            }
        }
    };
    testkit::patiently("places to be counted for all", counted).await;
    drop(redis);
    fleet.stop().await;
}

/// Tokens that may still be counted, as an answer's header says.
fn left(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap()
}

/// Whether all nodes count a subject's tokens together, as far as can be seen from outside.
async fn tokens_are_counted(fleet: &Fleet, token: &str, limit: u64) -> bool {
    let mut body = question();
    body["max_tokens"] = 20.into();
    let body = &body;
    let ask = async |node: usize| fleet.nodes[node].post(PATH, token, body).await;
    // As many as there may be are counted first, and all but the two that were taken given back.
    let most = limit - left(&ask(0).await);
    for n in 0..30 {
        assert_eq!(ask(n % 3).await.status, 200, "more than fit if nothing were given back");
    }
    let mut after = 31;
    let mut seen = left(&ask(1).await);
    while seen + 2 * most < limit - 2 * after {
        after += 1;
        assert!(after < 200, "what was not taken is given back");
        seen = left(&ask(1).await);
    }
    let together = left(&ask(2).await) + most <= limit - 2 * after;

    // Of answers that do not say what they took, all stays counted: of any number at once on all nodes, as many as fit.
    let silent = json!({"id": "c", "object": "chat.completion", "created": 1, "model": "m1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}]});
    (0..60).for_each(|_| fleet.provider.push(Reply::json(200, &silent)));
    let statuses = join_all((0..60).map(|n| ask(n % 3))).await;
    fleet.provider.forget();
    assert!(statuses.iter().all(|answer| answer.status == 200 || answer.status == 429));
    let let_in = statuses.iter().filter(|answer| answer.status == 200).count() as u64;
    let fit = limit / most;
    assert!(let_in <= 4 * fit, "{let_in} of {fit}");
    together && (fit / 2..=fit).contains(&let_in)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tokens_are_counted_for_the_fleet_and_given_back_when_they_were_not_taken() {
    const LIMIT: u64 = 2000;
    let Some((redis, mut fleet)) = start(0, "a rate of tokens is one for the fleet").await else { return };
    let rate = format!("rate = [{{ tokens = {LIMIT}, per = \"subject\", window = \"1d\" }}]");
    fleet.config = fleet.config.replace("may = { models = [\"*\"] }", &format!("may = {{ models = [\"*\"] }}\n{rate}"));
    for _ in 0..3 {
        fleet.join().await;
    }
    // Redis is given 50 ms: where this machine is too slow for it, each node counts its part. One round without that is enough.
    let counted = async {
        for round in 0.. {
            let token = fleet.created(&format!("tokens-{round}")).await;
            if tokens_are_counted(&fleet, &token, LIMIT).await {
                break;
            }
        }
    };
    testkit::patiently("tokens to be counted for all", counted).await;
    drop(redis);
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_restarted_one_after_the_other_under_load_fail_nobody() {
    let Some((_redis, mut fleet)) = start(0, "nodes are restarted under load").await else { return };
    fleet.config = format!("{}\n[limits]\npre_stop = \"2s\"\nconnections_per_address = 1000\n", fleet.config);
    for _ in 0..3 {
        fleet.join().await;
    }
    let token = fleet.nodes[0].token("app").await;
    // What a load balancer knows: who says that it takes requests.
    let ready = Arc::new(RwLock::new(fleet.nodes.iter().map(|node| node.public).collect::<Vec<_>>()));
    let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let load = join_all((0..6).map(|worker| {
        let (ready, over, sent, token) = (Arc::clone(&ready), Arc::clone(&over), Arc::clone(&sent), token.clone());
        async move {
            let bearer = format!("Bearer {token}");
            let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
            let body = question().to_string();
            let mut turn = worker;
            while !over.load(Ordering::Relaxed) {
                let node = {
                    let ready = ready.read().await;
                    ready[turn % ready.len()]
                };
                turn += 1;
                let answer = testkit::raw::request(node, "POST", PATH, &headers, body.as_bytes()).await;
                assert_eq!(answer.status(), 200, "{}", answer.text());
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }));
    let restarts = async {
        for _ in 0..3 {
            let node = fleet.nodes.remove(0);
            let address = node.public;
            let stopping = node.shut_down();
            tokio::pin!(stopping);
            // It says no at once, and takes requests until everybody has heard.
            let heard = async {
                while testkit::raw::request(address, "GET", "/readyz", &[], b"").await.status() == 200 {}
                ready.write().await.retain(|node| *node != address);
                std::future::pending::<()>().await;
            };
            tokio::select! {
                () = &mut stopping => {}
                () = heard => {}
            }
            fleet.join().await;
            let joined = fleet.nodes[fleet.nodes.len() - 1].public;
            ready.write().await.push(joined);
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(load, restarts);
    assert!(sent.load(Ordering::Relaxed) > 50, "{sent:?}");
    assert_eq!(fleet.provider.count(), sent.load(Ordering::Relaxed));
    fleet.stop().await;
}
