//! Three nodes of the built program on one database and one Redis: what is decided about an installation on one of them is in
//! force on all, and what they see of it they count together.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Uri};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::balancer::Balancer;
use testkit::patiently;
use testkit::raw;
use vectors::redis::Redis;
use vouchgate_client::clock::SystemClock;
use vouchgate_client::simulator::{Apple, Iphone};
use vouchgate_client::{Client, Memory, Options, Volatile};

use super::APP_ID;
use crate::support::{Program, command, run, write_config};

const CHAT: &str = "/v1/chat/completions";
/// How soon what one node is told must be in force on all.
const EVERYWHERE: Duration = Duration::from_secs(5);
const NODES: usize = 3;

const APPS: &str = r#"
[attest]
requests_per_minute = 100000

[[app]]
name = "chat"
scopes = ["chat"]
ios = { team = "ABCDE12345", bundle = "com.example.chat", categories = [4] }
test_roots = { apple = "../apple.pem" }

[[app]]
name = "strict"
scopes = ["chat"]
ios = { team = "ABCDE12345", bundle = "com.example.strict", categories = [4] }
test_roots = { apple = "../apple.pem" }

[[risk]]
name = "strict"
apps = "strict"
rules = [{ when = { flag = "device_rate", gt = 0 }, do = "deny" }]

[[risk]]
name = "counted"
apps = "chat"
rules = [
  { when = { flag = "enrol_rate", gt = 3 }, do = "annotate", as = "many" },
  { when = { flag = "request_rate", gt = 0 }, do = "annotate", as = "busy" },
]

[[policy]]
name = "chat"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["vouchgate/echo"] }
"#;

/// Nodes with one configuration, each behind an address of its own that the configuration knows.
struct Fleet {
    _redis: Option<Redis>,
    dir: TempDir,
    apple: Apple,
    fronts: Vec<Balancer>,
    nodes: Vec<Program>,
}

impl Fleet {
    /// `None` where PostgreSQL or Redis is not installed.
    async fn start(test: &str) -> Option<Self> {
        let Some(redis) = Redis::start() else {
            vectors::skip(test, "Redis is not installed");
            return None;
        };
        Self::sharing(Some(redis), test).await
    }

    /// The same with a Redis server or without one: then the database is all the nodes have in common.
    async fn sharing(redis: Option<Redis>, test: &str) -> Option<Self> {
        let Some(url) = vectors::postgres::database() else {
            vectors::skip(test, "PostgreSQL is not installed");
            return None;
        };
        let shared = redis.as_ref().map(|redis| format!("shared = {:?}\n", redis.url())).unwrap_or_default();
        let dir = tempfile::tempdir().unwrap();
        let apple = Apple::new(Arc::new(SystemClock)).unwrap();
        std::fs::write(dir.path().join("apple.pem"), apple.root_pem()).unwrap();
        let fronts = join_all((0..NODES).map(|_| Balancer::new())).await;
        let urls: Vec<String> = fronts.iter().map(|front| format!("http://{}", front.address())).collect();
        for node in 0..NODES {
            let here = node_dir(dir.path(), node);
            std::fs::create_dir(&here).unwrap();
            let store = format!("[store]\nurl = {url:?}\n{shared}");
            let key = dir.path().join("fleet.key").display().to_string();
            let server = format!("external_url = {:?}\nexternal_urls = {:?}", urls[0], &urls[1..]);
            write_config(&here, &server, &format!("{store}[vault]\nkey = {{ file = {key:?} }}\n{APPS}"));
        }
        command(&node_dir(dir.path(), 0), &["key", "list"], b"");
        let nodes = join_all((0..NODES).map(|node| {
            let here = node_dir(dir.path(), node);
            async move { Program::serve(&here, &[]).await }
        }))
        .await;
        for (front, node) in fronts.iter().zip(&nodes) {
            front.add(node.public);
        }
        Some(Self { _redis: redis, dir, apple, fronts, nodes })
    }

    fn at(&self, node: usize) -> PathBuf {
        node_dir(self.dir.path(), node)
    }

    /// The app of a phone, which asks this node. What it keeps it shares with its clients of other nodes.
    fn client(&self, node: usize, (app, phone): (&str, &Arc<Iphone>), memory: &Arc<Volatile>) -> Client {
        let memory = Arc::clone(memory) as Arc<dyn Memory>;
        let options = Options { memory, ..Options::new(&format!("http://{}", self.fronts[node].address()), app) };
        Client::new(options, Arc::clone(phone) as _).unwrap()
    }

    fn phone(&self, bundle: &str) -> Arc<Iphone> {
        Arc::new(Iphone::new(&self.apple, bundle))
    }

    /// What a node answers a request with the token and a new signature of a client.
    async fn status(&self, node: usize, client: &Client) -> u16 {
        let body = json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hello"}]}).to_string();
        let mut given = HeaderMap::new();
        given.insert("content-type", HeaderValue::from_static("application/json"));
        let (body, path) = (Bytes::from(body), Uri::from_static(CHAT));
        let signed = client.sign(&Method::POST, &path, &given, &body).await.unwrap();
        let host = self.fronts[0].address().to_string();
        let mut headers = vec![("host", host.as_str())];
        headers.extend(signed.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())));
        raw::request(self.nodes[node].public, "POST", CHAT, &headers, &body).await.status()
    }

    /// Wait until the nodes take signatures: those that have just started do not yet.
    async fn started(&self, client: &Client) {
        let all = join_all((0..NODES).map(|node| async move { while self.status(node, client).await != 200 {} }));
        patiently("the nodes to take signatures", all).await;
    }

    /// Wait until all nodes answer so: no longer than [`EVERYWHERE`].
    async fn everywhere(&self, client: &Client, status: u16) {
        let all = join_all((0..NODES).map(|node| async move { while self.status(node, client).await != status {} }));
        assert!(tokio::time::timeout(EVERYWHERE, all).await.is_ok(), "not everywhere {status}");
    }
}

fn node_dir(dir: &Path, node: usize) -> PathBuf {
    dir.join(format!("node-{node}"))
}

fn words(token: &str) -> Vec<Value> {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["anno"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quarantine_a_revoked_installation_and_a_forced_pass_are_in_force_everywhere_within_five_seconds() {
    let Some(fleet) = Fleet::start("what is decided about an installation").await else { return };
    let (phone, memory) = (fleet.phone(APP_ID), Arc::default());
    let client = fleet.client(0, ("chat", &phone), &memory);
    let instance = client.ready().await.unwrap().instance;
    fleet.started(&client).await;

    command(&fleet.at(1), &["device", "quarantine", &instance, "--reason", "odd"], b"");
    fleet.everywhere(&client, 401).await;
    for node in 0..NODES {
        let elsewhere = fleet.client(node, ("chat", &phone), &memory);
        assert!(elsewhere.refresh().await.is_err(), "node {node} gives it no token either");
    }
    command(&fleet.at(2), &["device", "release", &instance, "--reason", "looked at"], b"");
    // Tokens of the second in which it was barred are refused still.
    let released = async {
        loop {
            let again = fleet.client(0, ("chat", &phone), &memory);
            if again.refresh().await.is_ok() && fleet.status(1, &again).await == 200 {
                return again;
            }
        }
    };
    let client = patiently("a token that counts", released).await;
    fleet.everywhere(&client, 200).await;
    command(&fleet.at(1), &["device", "revoke", &instance, "--reason", "stolen"], b"");
    fleet.everywhere(&client, 401).await;

    let (phone, memory) = (fleet.phone("ABCDE12345.com.example.strict"), Arc::default());
    let client = fleet.client(0, ("strict", &phone), &memory);
    client.ready().await.unwrap();
    let error = client.refresh().await.unwrap_err();
    let shown = command(&fleet.at(1), &["arc", "show", error.arc().unwrap()], b"");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let jkt = shown["detail"]["jkt"].as_str().unwrap_or_else(|| panic!("{shown}"));
    let args =
        ["risk", "force", "strict", jkt, "--for", "1h", "--reason", "a test phone", "--config", "vouchgate.toml"];
    let (code, _, said) = run(&args, &fleet.at(2), b"");
    assert_eq!(code, 0, "{said}");
    for node in 0..NODES {
        let let_in = async { while fleet.client(node, ("strict", &phone), &memory).refresh().await.is_err() {} };
        assert!(tokio::time::timeout(EVERYWHERE, let_in).await.is_ok(), "node {node} does not know of the pass");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_count_what_they_see_together() {
    let Some(fleet) = Fleet::start("what nodes see").await else { return };
    counted_together(&fleet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_redis_count_what_they_see_together_too() {
    let Some(fleet) = Fleet::sharing(None, "what nodes without Redis see").await else { return };
    counted_together(&fleet).await;
}

async fn counted_together(fleet: &Fleet) {
    let mut found = Vec::new();
    for node in [0, 1, 2, 0] {
        let client = fleet.client(node, ("chat", &fleet.phone(APP_ID)), &Arc::default());
        found.push(words(&client.token().await.unwrap()));
    }
    assert_eq!(
        found,
        [vec![], vec![], vec![], vec![json!("many")]],
        "the fourth from one network, wherever the others were"
    );

    let (phone, memory) = (fleet.phone(APP_ID), Arc::default());
    let client = fleet.client(0, ("chat", &phone), &memory);
    client.ready().await.unwrap();
    patiently("node 2 to take signatures", async { while fleet.status(2, &client).await != 200 {} }).await;
    // Node 2 tells of the request, node 1 gives the next token.
    let seen = async {
        loop {
            let again = fleet.client(1, ("chat", &phone), &memory);
            again.refresh().await.unwrap();
            if words(&again.token().await.unwrap()).contains(&json!("busy")) {
                return;
            }
        }
    };
    patiently("node 1 to know of the request", seen).await;
}
