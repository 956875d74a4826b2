//! Several nodes of the real program behind a load balancer: restarts one after the other under load, and what one is told.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use serde_json::{Value, json};
use testkit::balancer::Balancer;
use testkit::mock::{Answer, Gate, Mock, Received};
use testkit::patiently;
use testkit::raw::{self, Connection};
use tokio::sync::watch;
use vectors::redis::Redis;

use crate::attacks::chat_answer;
use crate::support::{Program, command, write_config};

const CHAT: &str = "/v1/chat/completions";
/// How soon what one node is told must be in force on all.
const EVERYWHERE: Duration = Duration::from_secs(5);
const NODES: usize = 3;
/// Requests under way at once, and streams.
const ASKING: usize = 20;
const STREAMING: usize = 50;
/// How many requests there are at least.
const REQUESTS: u64 = 400;

const CONFIG: &str = r#"
[limits]
pre_stop = "1s"
connections_per_address = 2000

[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "all"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["prov/m*"] }
rate = [{ requests = 1000000, per = "subject", window = "1m" }, { concurrent = 10000, per = "subject" }]
spend = [{ limit = "1000 USD", per = "subject", window = "1d" }]

[[price]]
provider = "prov"
model = "*"
input = "1 USD"
output = "1 USD"

[[provider]]
name = "prov"
kind = "openai-compatible"
allow_private = true
api_key = { secret = "prov-key" }
"#;

/// Nodes with one configuration on one database and one Redis server, in front of one provider.
struct Fleet {
    _redis: Redis,
    dir: tempfile::TempDir,
    provider: Mock,
    /// Answers that stream wait here for their second half.
    gate: Gate,
    nodes: Vec<Program>,
}

impl Fleet {
    /// `None` where PostgreSQL or Redis is not installed.
    async fn start(test: &str) -> Option<Self> {
        let (Some(redis), Some(url)) = (Redis::start(), vectors::postgres::database()) else {
            vectors::skip(test, "PostgreSQL or Redis is not installed");
            return None;
        };
        let gate = Gate::closed();
        let held = gate.clone();
        let provider = Mock::start_with(move |asked| answer(asked, &held)).await;
        let dir = tempfile::tempdir().unwrap();
        for node in 0..NODES {
            let here = node_dir(dir.path(), node);
            std::fs::create_dir(&here).unwrap();
            let store = format!("[store]\nurl = {url:?}\nshared = {:?}\n", redis.url());
            let vault =
                format!("[vault]\nkey = {{ file = {:?} }}\n", dir.path().join("fleet.key").display().to_string());
            let base = format!("base_url = \"{}/v1\"\n", provider.url());
            let server = "external_url = \"https://ai.example.com\"";
            write_config(&here, server, &format!("{store}{vault}{CONFIG}{base}"));
        }
        command(&node_dir(dir.path(), 0), &["secret", "set", "prov-key"], b"first-key");
        let mut fleet = Self { _redis: redis, dir, provider, gate, nodes: Vec::new() };
        // Together, as after a power cut.
        let nodes = join_all((0..NODES).map(|node| fleet.serve(node))).await;
        fleet.nodes = nodes;
        Some(fleet)
    }

    async fn serve(&self, node: usize) -> Program {
        Program::serve(&self.at(node), &[]).await
    }

    fn at(&self, node: usize) -> PathBuf {
        node_dir(self.dir.path(), node)
    }

    fn token(&self, more: &[&str]) -> String {
        command(&self.at(0), &[&["token", "mint", "--client", "app"], more].concat(), b"")
    }

    async fn status(&self, node: usize, token: &str) -> u16 {
        self.nodes[node].post(CHAT, token, &question(false)).await.status()
    }

    /// Wait until all nodes answer so: no longer than [`EVERYWHERE`].
    async fn everywhere(&self, token: &str, status: u16) {
        let all = join_all((0..NODES).map(|node| async move { while self.status(node, token).await != status {} }));
        assert!(tokio::time::timeout(EVERYWHERE, all).await.is_ok(), "not everywhere {status}");
    }
}

fn node_dir(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("node-{node}"))
}

fn question(stream: bool) -> Value {
    json!({"model": "prov/m1", "stream": stream, "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]})
}

fn answer(asked: &Received, gate: &Gate) -> Answer {
    let asked: Value = serde_json::from_slice(&asked.body).unwrap();
    if asked["stream"] != true {
        return chat_answer();
    }
    let chunk = |text: &str, finish: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m1",
               "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]})
    };
    let first = chunk("first", Value::Null);
    let length = format!("data: {first}\n\n").len();
    Answer::openai_stream(&[first, chunk("second", json!("stop"))]).stall_after(length, gate)
}

/// Clients of a load balancer, until they are told that it is over.
struct Load<'a> {
    balancer: SocketAddr,
    token: &'a str,
    over: watch::Sender<bool>,
    /// Requests that were answered.
    answered: watch::Sender<u64>,
}

impl Load<'_> {
    fn goes_on(&self) -> bool {
        !*self.over.borrow() || *self.answered.borrow() < REQUESTS
    }

    async fn ask(&self) {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = question(false).to_string();
        while self.goes_on() {
            let answer = raw::request(self.balancer, "POST", CHAT, &headers, body.as_bytes()).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            self.answered.send_modify(|answered| *answered += 1);
        }
    }

    /// Streams that stay open until so many requests more have been answered.
    async fn stream(&self, gate: &Gate) -> u64 {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let mut done = 0;
        while self.goes_on() {
            let mut connection = Connection::open(self.balancer).await;
            connection.request("POST", CHAT, &headers, question(true).to_string().as_bytes()).await;
            let head = connection.head().await.unwrap();
            assert_eq!(head.status, 200);
            let mut text = String::new();
            while !text.contains("first") {
                text.push_str(&String::from_utf8_lossy(&connection.piece().await.unwrap().unwrap()));
            }
            let until = *self.answered.borrow() + 60;
            let mut answered = self.answered.subscribe();
            let mut over = self.over.subscribe();
            tokio::select! {
                _ = answered.wait_for(|answered| *answered >= until) => {}
                _ = over.wait_for(|over| *over) => {}
            }
            gate.step(1);
            while let Some(piece) = patiently("the rest of a stream", connection.piece()).await.unwrap() {
                text.push_str(&String::from_utf8_lossy(&piece));
            }
            assert!(text.contains("second") && text.ends_with("data: [DONE]\n\n"), "{text}");
            done += 1;
        }
        done
    }
}

/// What a load of a fixed rate saw.
#[derive(Default)]
struct Pace {
    /// How long each answer took, in order of the answers.
    took: Vec<Duration>,
    /// The most requests that were under way at once.
    most: usize,
}

impl Load<'_> {
    /// So many requests a second, whether the ones before have been answered or not: a node that is slow is not spared.
    async fn ask_at(&self, rate: u32) -> Pace {
        let bearer = format!("Bearer {}", self.token);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = question(false).to_string();
        let one = async || {
            let began = tokio::time::Instant::now();
            let answer = raw::request(self.balancer, "POST", CHAT, &headers, body.as_bytes()).await;
            assert_eq!(answer.status(), 200, "{}", answer.text());
            self.answered.send_modify(|answered| *answered += 1);
            began.elapsed()
        };
        // Ticks that were missed are made up for.
        let mut due = tokio::time::interval(Duration::from_secs(1) / rate);
        let (mut asked, mut pace) = (FuturesUnordered::new(), Pace::default());
        loop {
            tokio::select! {
                _ = due.tick(), if self.goes_on() => asked.push(one()),
                Some(took) = asked.next() => pace.took.push(took),
                else => break,
            }
            pace.most = pace.most.max(asked.len());
        }
        pace
    }
}

/// What `cargo xtask torture --restart` asks for: requests a second, and how often each node is restarted.
fn wanted() -> (Option<u32>, usize) {
    #[allow(clippy::disallowed_methods)] // of the task
    let number = |name: &str| std::env::var(name).ok().map(|number| number.parse::<u32>().unwrap());
    let rounds = number("VOUCHGATE_TEST_TORTURE").unwrap_or(1);
    (number("VOUCHGATE_TEST_RATE"), usize::try_from(rounds).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_under_requests_and_streams_fails_nobody() {
    let Some(mut fleet) = Fleet::start("a rolling restart fails nobody").await else { return };
    let balancer = Balancer::new().await;
    fleet.nodes.iter().for_each(|node| balancer.add(node.public));
    let token = fleet.token(&[]);
    let (over, answered) = (watch::Sender::new(false), watch::Sender::new(0));
    let load = Load { balancer: balancer.address(), token: &token, over, answered };
    let gate = fleet.gate.clone();
    let began = tokio::time::Instant::now();
    let (rate, rounds) = wanted();
    let asking = async {
        if let Some(rate) = rate {
            return load.ask_at(rate).await;
        }
        join_all((0..ASKING).map(|_| load.ask())).await;
        Pace::default()
    };
    let streaming = join_all((0..STREAMING).map(|_| load.stream(&gate)));
    let restarts = async {
        for node in (0..rounds).flat_map(|_| 0..NODES) {
            fleet.nodes[node].process.signal("TERM");
            balancer.until_not_ready(fleet.nodes[node].public).await;
            assert!(fleet.nodes[node].process.ended().await.success(), "{}", fleet.nodes[node].process.output());
            fleet.nodes[node] = fleet.serve(node).await;
            balancer.add(fleet.nodes[node].public);
        }
        load.over.send_replace(true);
    };
    let (mut pace, streams, ()) = tokio::join!(asking, streaming, restarts);
    let (requests, streams): (u64, u64) = (*load.answered.borrow(), streams.iter().sum());
    assert!(requests >= REQUESTS && streams >= STREAMING as u64, "{requests} requests, {streams} streams");
    assert_eq!(fleet.provider.count() as u64, requests + streams, "each reached the provider once");
    let time = began.elapsed();
    println!("{requests} requests, {streams} streams and {} restarts in {time:?}, none failed", rounds * NODES);
    if rate.is_some() {
        pace.took.sort_unstable();
        let at = |share: usize| pace.took[(pace.took.len() - 1) * share / 1000];
        let (middle, late, last) = (at(500), at(990), at(1000));
        let most = pace.most;
        #[allow(clippy::cast_precision_loss)] // a figure for people
        let reached = requests as f64 / time.as_secs_f64();
        println!(
            "{reached:.0} requests a second; answers after {middle:?} (p50), {late:?} (p99), {last:?} (last); {most} at once"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_a_policy_and_a_new_secret_are_in_force_everywhere_within_five_seconds() {
    let Some(fleet) = Fleet::start("what one node is told all do").await else { return };
    let (alice, bob) = (fleet.token(&["--subject", "alice"]), fleet.token(&["--subject", "bob"]));
    fleet.everywhere(&alice, 200).await;
    fleet.everywhere(&bob, 200).await;

    // Told to different nodes. A revocation counts from its second on: what was issued before it ends.
    let revoke = ["token", "revoke", "--subject", "alice"];
    patiently("the next second", async {
        loop {
            command(&fleet.at(1), &revoke, b"");
            if fleet.status(1, &alice).await == 401 {
                break;
            }
        }
    })
    .await;
    fleet.everywhere(&alice, 401).await;
    fleet.everywhere(&bob, 200).await;

    command(&fleet.at(2), &["secret", "rotate", "prov-key", "--no-probe"], b"second-key");
    let key = async |node: usize| {
        let before = fleet.provider.count();
        assert_eq!(fleet.status(node, &bob).await, 200);
        fleet.provider.request(before).await.header("authorization").unwrap_or_default().to_owned()
    };
    for node in 0..NODES {
        let used = async { while key(node).await != "Bearer second-key" {} };
        assert!(tokio::time::timeout(EVERYWHERE, used).await.is_ok(), "node {node} still uses the old key");
    }

    let admin = command(&fleet.at(0), &["admin", "token", "create", "me", "--role", "owner"], b"");
    let bearer = format!("Bearer {admin}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let other = question(false).to_string().replace("prov/m1", "prov/other");
    let ask = async |node: usize| {
        let bearer = format!("Bearer {bob}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        raw::request(fleet.nodes[node].public, "POST", CHAT, &headers, other.as_bytes()).await.status()
    };
    assert_eq!(ask(2).await, 403);
    let policy =
        json!({"who": {"issuer": "vouchgate", "scope": ["chat"]}, "may": {"models": ["prov/other"]}}).to_string();
    let put = raw::request(fleet.nodes[0].admin, "PUT", "/admin/v1/policies/more", &headers, policy.as_bytes()).await;
    assert!([200, 201].contains(&put.status()), "{}", put.text());
    for node in 0..NODES {
        let allowed = async { while ask(node).await != 200 {} };
        assert!(tokio::time::timeout(EVERYWHERE, allowed).await.is_ok(), "node {node} does not know the policy");
    }
}
