//! Several nodes on one database: what one is told all do, and what may happen once happens once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock, SystemRng};
use control::operations::{CreateClient, CreateRevocation, KeyView, MintToken, RotateKey};
use futures_util::future::join_all;
use serde_json::json;
use testkit::dpop::Holder;
use testkit::mock::Mock;
use testkit::patiently;
use vouchgate::server::{Options, Server, StartError};

use crate::attacks::{chat_answer, question};
use crate::caller::{Caller, PATH};
use crate::support::{Gateway, provider, secret_file};

/// How the nodes are known to their clients.
const ORIGIN: &str = "https://ai.example.com";
/// How soon what one node is told must be in force on all.
const EVERYWHERE: Duration = Duration::from_secs(5);

const POLICY: &str = r#"
[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "all"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["*"] }
"#;

/// Nodes with one configuration, each with a data directory of its own, in front of one provider.
pub(crate) struct Fleet {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) nodes: Vec<Gateway>,
    pub(crate) provider: Mock,
    clock: FakeClock,
    pub(crate) config: String,
}

impl Fleet {
    /// `None` where PostgreSQL is not installed.
    pub(crate) async fn start(nodes: usize, more: &str, test: &str) -> Option<Self> {
        let Some(url) = vectors::postgres::database() else {
            vectors::skip(test, "PostgreSQL is not installed");
            return None;
        };
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let mock = Mock::start_with(|_| chat_answer()).await;
        let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
        let config = format!(
            "external_url = \"{ORIGIN}\"\n[store]\nurl = \"{url}\"\n{more}\n[vault]\nkey = {{ file = {:?} }}\n{POLICY}{prov}",
            dir.path().join("fleet.key").display().to_string()
        );
        let clock = FakeClock::at(SystemClock.now());
        let mut fleet = Self { dir, nodes: Vec::new(), provider: mock, clock, config };
        for _ in 0..nodes {
            fleet.join().await;
        }
        Some(fleet)
    }

    /// Let time pass on all nodes.
    pub(crate) fn clock_on(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// One more node, which knows nothing but the configuration.
    pub(crate) async fn join(&mut self) {
        let own = Arc::new(tempfile::tempdir_in(self.dir.path()).unwrap());
        self.nodes.push(Gateway::start_at(own, &self.config, self.clock.clone(), None).await);
    }

    /// Wait until a node has what was changed on another.
    async fn reaches(&self, node: usize, version: u64) {
        let mut versions = self.nodes[node].server().operations().store().watch();
        let there = tokio::time::timeout(EVERYWHERE, versions.wait_for(|seen| *seen >= version)).await;
        assert!(there.is_ok_and(|seen| seen.is_ok()), "node {node} has not seen version {version}");
        self.nodes[node].settled().await;
    }

    fn version(&self, node: usize) -> u64 {
        self.nodes[node].server().operations().store().version()
    }

    pub(crate) async fn status(&self, node: usize, token: &str) -> u16 {
        self.nodes[node].post(PATH, token, &question()).await.status.as_u16()
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
    }
}

impl Fleet {
    /// A token of a client that is made now, and known to all nodes.
    pub(crate) async fn created(&self, name: &str) -> String {
        self.nodes[0].server().operations().client_create(&created(name), "test").await.unwrap();
        for node in 0..self.nodes.len() {
            self.reaches(node, self.version(0)).await;
        }
        self.nodes[0].token(name).await
    }

    /// A caller with a key.
    async fn caller(&self) -> Caller {
        let holder = Holder::new("ES256");
        let jkt = Some(holder.jkt());
        let mint = MintToken { client: "app".to_owned(), subject: None, scope: None, ttl: None, jkt };
        let token = self.nodes[0].server().operations().token_mint(&mint, "test").await.unwrap();
        let token = token.access_token.expose().to_owned();
        Caller::new(self.nodes[0].public, holder, token, Arc::new(self.clock.clone())).at(ORIGIN)
    }

    /// A proof that was accepted, and its caller.
    pub(crate) async fn used_proof(&self) -> (Caller, String) {
        let caller = self.caller().await;
        let proof = caller.proof(&caller.nonce().await).sign();
        assert_eq!(caller.ask(&proof).await.status(), 200);
        (caller, proof)
    }

    /// Wait until every node takes proofs (again).
    pub(crate) async fn until_proofs_are_taken(&self) {
        let mut caller = self.caller().await;
        for node in &self.nodes {
            caller.addr = node.public;
            let taken =
                async { while caller.ask(&caller.proof(&caller.nonce().await).sign()).await.status() != 200 {} };
            patiently("proofs to be taken", taken).await;
        }
    }
}

/// A good proof is refused by every node, unheard by the provider.
pub(crate) async fn one_proof_refused(fleet: &Fleet, status: u16) {
    let mut caller = fleet.caller().await;
    let before = fleet.provider.count();
    for node in &fleet.nodes {
        caller.addr = node.public;
        let answer = caller.ask(&caller.proof(&caller.nonce().await).sign()).await;
        assert_eq!(answer.status(), status, "{}", answer.text());
    }
    assert_eq!(fleet.provider.count(), before);
}

fn created(name: &str) -> CreateClient {
    serde_json::from_value(json!({"name": name, "scopes": ["chat"]})).unwrap()
}

fn revoking(subject: &str) -> CreateRevocation {
    serde_json::from_value(json!({"kind": "subject", "issuer": "vouchgate", "value": subject})).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_is_told_all_do_within_five_seconds() {
    let Some(mut fleet) = Fleet::start(3, "", "nodes of a fleet do what one is told").await else { return };
    // The keys the first made are everybody's.
    let token = fleet.nodes[2].token("app").await;
    for node in 0..3 {
        assert_eq!(fleet.status(node, &token).await, 200, "node {node}");
    }
    // A client made on one can be used on another.
    fleet.nodes[0].server().operations().client_create(&created("later"), "test").await.unwrap();
    let version = fleet.version(0);
    for node in [1, 2] {
        fleet.reaches(node, version).await;
        let token = fleet.nodes[node].token("later").await;
        assert_eq!(fleet.status(0, &token).await, 200, "of node {node}");
    }
    // What one revokes, all refuse: also what they have verified before.
    fleet.clock.advance(Duration::from_secs(2));
    fleet.nodes[1].server().operations().revoke(&revoking("app"), "test").await.unwrap();
    assert_eq!(fleet.status(1, &token).await, 401, "where it was said, at once");
    for node in [0, 2] {
        let revoked = fleet.nodes[node].server().operations().store().revoked();
        let mut epochs = revoked.watch();
        let seen = tokio::time::timeout(EVERYWHERE, epochs.wait_for(|epoch| *epoch > 0)).await;
        assert!(seen.is_ok_and(|seen| seen.is_ok()), "node {node} has not seen it");
        assert_eq!(fleet.status(node, &token).await, 401, "node {node}");
    }
    // A node that joins knows all of it.
    fleet.join().await;
    assert_eq!(fleet.status(3, &token).await, 401);
    fleet.clock.advance(Duration::from_secs(2));
    let token = fleet.nodes[3].token("later").await;
    for node in 0..4 {
        assert_eq!(fleet.status(node, &token).await, 200, "node {node}");
    }
    fleet.stop().await;
}

async fn keys(fleet: &Fleet, node: usize, state: &str) -> Vec<KeyView> {
    let keys = fleet.nodes[node].server().operations().key_list().await.unwrap();
    keys.into_iter().filter(|key| key.state == state).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_nodes_one_rotates_the_signing_key() {
    let Some(fleet) = Fleet::start(3, "", "one node of a fleet rotates the key").await else { return };
    #[allow(clippy::redundant_closure_for_method_calls)] // shorter so
    let maintain = async || {
        let operations = fleet.nodes.iter().map(|node| node.server().operations());
        for done in join_all(operations.map(|operations| operations.keys_maintain())).await {
            done.unwrap();
        }
    };
    for round in 0..3 {
        let before = keys(&fleet, 0, "active").await;
        assert_eq!(before.len(), 1, "round {round}");
        // Due to be published, by all nodes at once, and then due to sign.
        fleet.clock.advance(Duration::from_hours(24 * 400));
        maintain().await;
        assert_eq!(keys(&fleet, 1, "next").await.len(), 1, "round {round}");
        fleet.clock.advance(Duration::from_hours(24 * 30));
        maintain().await;
        let after = keys(&fleet, 2, "active").await;
        assert_eq!(after.len(), 1, "round {round}");
        assert_ne!(after[0].kid, before[0].kid, "round {round}");
    }
    // A token of the new key is good wherever it comes.
    let rotate = RotateKey { now: true, ..RotateKey::default() };
    fleet.nodes[1].server().operations().key_rotate(&rotate, async || (), "test").await.unwrap();
    let version = fleet.version(1);
    for node in 0..3 {
        fleet.reaches(node, version).await;
    }
    let token = fleet.nodes[1].token("app").await;
    for node in 0..3 {
        assert_eq!(fleet.status(node, &token).await, 200, "node {node}");
    }
    fleet.stop().await;
}

/// A caller with a key, and one proof shown a hundred times, to all nodes at once: how many were let in.
pub(crate) async fn one_proof_a_hundred_times(fleet: &Fleet) {
    let mut caller = fleet.caller().await;
    let (before, mut let_in) = (fleet.provider.count(), 0);
    for round in 0..3 {
        // The nonce one node gives is good on all.
        caller.addr = fleet.nodes[round % fleet.nodes.len()].public;
        let proof = caller.proof(&caller.nonce().await).sign();
        let credential = format!("DPoP {}", caller.token);
        let headers =
            [("authorization", credential.as_str()), ("dpop", proof.as_str()), ("content-type", "application/json")];
        let body = question().to_string();
        let answers = join_all((0..100).map(|n| {
            let addr = fleet.nodes[n % fleet.nodes.len()].public;
            testkit::raw::request(addr, "POST", PATH, &headers, body.as_bytes())
        }))
        .await;
        #[allow(clippy::redundant_closure_for_method_calls)] // shorter so
        let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status()).collect();
        statuses.sort_unstable();
        let with = |status: u16| statuses.iter().filter(|found| **found == status).count();
        // Redis is given 50 ms: whoever it does not answer in time is refused too, and may be the one that was first.
        let in_time = with(503) == 0;
        assert_eq!(with(200) + with(401) + with(503), 100, "round {round}: {statuses:?}");
        assert!(with(200) == 1 || (!in_time && with(200) == 0), "round {round}: {statuses:?}");
        let_in += with(200);
        assert_eq!(fleet.provider.count(), before + let_in);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_one_proof_sent_to_three_nodes_a_hundred_times_one_is_let_in() {
    let Some(fleet) = Fleet::start(3, "", "a proof is good once in a fleet").await else { return };
    one_proof_a_hundred_times(&fleet).await;
    fleet.stop().await;
}

#[tokio::test]
async fn a_node_with_another_master_key_is_refused() {
    let Some(fleet) = Fleet::start(1, "", "a node with another master key is refused").await else { return };
    let start = async |dir: &Path, config: &str| {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n{config}",
            dir.display().to_string()
        );
        let config = vouchgate::preflight::read(&text).unwrap();
        let options = Options {
            config,
            file: None,
            create_master_key: true,
            clock: Arc::new(SystemClock),
            rng: Arc::new(SystemRng),
        };
        Server::start(options).await
    };
    let other = fleet.config.replace("fleet.key", "other.key");
    let error = start(&fleet.dir.path().join("other"), &other).await.unwrap_err();
    assert!(matches!(error, StartError::OtherMasterKey), "{error}");
    start(&fleet.dir.path().join("same"), &fleet.config).await.unwrap().stop().await;
    fleet.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_one_node_suspends_is_refused_by_all_within_five_seconds() {
    let rules = "[anomaly]\nsurge = \"suspend\"\nlearn = \"1h\"\n";
    let Some(mut fleet) = Fleet::start(2, rules, "a suspension reaches the fleet").await else { return };
    // A known caller: two requests in each of some hours, everywhere.
    for _ in 0..6 {
        let token = fleet.nodes[0].token("app").await;
        for node in [0, 1] {
            assert_eq!(fleet.status(node, &token).await, 200, "node {node}");
        }
        fleet.clock.advance(Duration::from_mins(40));
    }
    let token = fleet.nodes[0].token("app").await;
    let before = fleet.provider.count();
    let mut last = 0;
    let surge = async {
        while last < 400 {
            last = fleet.status(0, &token).await;
        }
    };
    patiently("a surge to be stopped", surge).await;
    assert_eq!(last, 403, "one that is stopped is told so");
    assert!(fleet.provider.count() - before < 40, "{}", fleet.provider.count() - before);
    for _ in 0..20 {
        assert_eq!(fleet.status(0, &token).await, 403, "where it was found, at once and from then on");
    }
    // Not by asking: that would be a surge of its own there.
    let other = fleet.nodes[1].server().operations().store().stops().in_force().clone();
    let seen = async {
        while other.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(EVERYWHERE, seen).await.expect("the other node knows within five seconds");
    assert_eq!(fleet.status(1, &token).await, 403);
    // A node that joins knows.
    fleet.join().await;
    assert_eq!(fleet.status(2, &token).await, 403);
    // What one node is told lets it in again everywhere.
    let operations = fleet.nodes[1].server().operations();
    let listed = operations.anomaly_list(&store::Page::first(10)).await.unwrap();
    let stop = serde_json::to_value(listed.items.first().unwrap()).unwrap();
    operations.anomaly_restore(&stop["id"].to_string(), "test").await.unwrap();
    for node in [0, 2] {
        let again = async { while fleet.status(node, &token).await != 200 {} };
        tokio::time::timeout(EVERYWHERE, again).await.expect("let in again within five seconds");
    }
    fleet.stop().await;
}
