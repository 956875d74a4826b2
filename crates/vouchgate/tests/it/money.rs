//! A limit is never passed: by a thousand requests at once to the real program, to three of them on one database, and with one
//! of them killed meanwhile.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::join_all;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::mock::{Answer, Mock};
use testkit::patiently;
use vectors::redis::Redis;

use crate::support::{Program, command, provider, secret_file, write_config};

const PATH: &str = "/v1/chat/completions";
/// What each node is known as to its clients, which come to all of them.
const ORIGIN: &str = "https://ai.example.com";

/// A request that costs a dime at most, by [`POLICY`].
fn question() -> Value {
    json!({"model": "prov/m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]})
}

/// An answer that costs as much.
fn answer() -> Answer {
    Answer::json(
        200,
        &json!({
            "id": "x", "object": "chat.completion", "model": "m",
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 100, "total_tokens": 107},
        }),
    )
}

const POLICY: &str = r#"
[limits]
connections_per_address = 4000

[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "all"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["*"] }

[[price]]
provider = "prov"
model = "m"
input = "0 USD"
output = "1000 USD"
context = 10000
max_output = 4000

[[budget]]
name = "cap"
limit = "5.00 USD"
window = "total"
"#;

/// How many were let in, and that all others were told why not.
async fn let_in(requests: Vec<impl Future<Output = Option<(u16, String)>>>) -> usize {
    let answers = patiently("all answers", join_all(requests)).await;
    for (status, text) in answers.iter().flatten() {
        // Nothing is let in on trust: who waits for longer than a second for a block is refused too.
        let refused = (*status == 429 && text.contains("budget_exhausted"))
            || (*status == 503 && text.contains("budget_unavailable"));
        let expected = *status == 200 || refused;
        assert!(expected, "{status} {text}");
    }
    answers.iter().flatten().filter(|(status, _)| *status == 200).count()
}

async fn ask(program: &Program, token: &str) -> Option<(u16, String)> {
    let answer = program.post(PATH, token, &question()).await;
    Some((answer.status(), answer.text()))
}

fn spent(dir: &Path) -> Value {
    let rows: Value = serde_json::from_str(&command(dir, &["budget", "list", "--json"], b"")).unwrap();
    rows[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_at_once_to_the_program_fifty_can_be_paid() {
    let mock = Mock::start_with(|_| answer()).await;
    let dir = tempfile::tempdir().unwrap();
    let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
    let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    write_config(dir.path(), "", &format!("{POLICY}{prov}"));
    let program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let through = let_in((0..1000).map(|_| ask(&program, &token)).collect()).await;
    assert_eq!((through, mock.count()), (50, 50));
    let account = spent(dir.path());
    assert_eq!(account["spent"].as_i64(), Some(5_000_000_000), "{account}");

    // A raise lets five more in, and no more.
    command(dir.path(), &["budget", "raise", "cap", "--by", "0.50 USD", "--for", "1h"], b"");
    let through = let_in((0..100).map(|_| ask(&program, &token)).collect()).await;
    assert_eq!((through, mock.count()), (5, 55));
    let raised: Value = serde_json::from_str(&command(dir.path(), &["budget", "raises", "--json"], b"")).unwrap();
    assert_eq!((&raised[0]["budget"], &raised[0]["amount"]), (&json!("cap"), &json!(500_000_000)), "{raised}");
}

/// Three of the real program on one database and one Redis server.
struct Nodes {
    root: TempDir,
    dirs: Vec<PathBuf>,
    programs: Vec<Program>,
    mock: Arc<Mock>,
    token: String,
    _redis: Redis,
}

impl Nodes {
    async fn start(test: &str) -> Option<Self> {
        let (Some(url), Some(redis)) = (vectors::postgres::database(), Redis::start()) else {
            vectors::skip(test, "PostgreSQL or Redis is not installed");
            return None;
        };
        let mock = Arc::new(Mock::start_with(|_| answer()).await);
        let root = tempfile::tempdir().unwrap();
        let key = secret_file(root.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
        let master = root.path().join("fleet.key").display().to_string();
        let config = format!(
            "[store]\nurl = \"{url}\"\nshared = {:?}\n[vault]\nkey = {{ file = {master:?} }}\n{POLICY}{prov}",
            redis.url()
        );
        let (mut dirs, mut programs) = (Vec::new(), Vec::new());
        for node in 0..3 {
            let dir = root.path().join(format!("node-{node}"));
            std::fs::create_dir(&dir).unwrap();
            write_config(&dir, &format!("external_url = \"{ORIGIN}\"\n"), &config);
            programs.push(Program::serve(&dir, &[]).await);
            dirs.push(dir);
        }
        let token = command(&dirs[0], &["token", "mint", "--client", "app"], b"");
        Some(Self { root, dirs, programs, mock, token, _redis: redis })
    }

    /// Requests to all nodes in turn. `None`: the node was killed before it answered.
    async fn through(&self, requests: usize) -> usize {
        let one = |n: usize| self.one(&self.programs[n % self.programs.len()]);
        let_in((0..requests).map(one).collect()).await
    }

    async fn one(&self, program: &Program) -> Option<(u16, String)> {
        try_post(program.public, &self.token).await
    }
}

/// One request on a connection of its own; nothing, where the other side is gone.
async fn try_post(to: std::net::SocketAddr, token: &str) -> Option<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let body = question().to_string();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: ai.example.com\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(to).await.ok()?;
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let text = String::from_utf8_lossy(&answer).into_owned();
    let status = text.get(9..12)?.parse().ok()?;
    Some((status, text))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_at_once_to_three_nodes_fifty_can_be_paid() {
    let Some(nodes) = Nodes::start("a limit is one for the fleet").await else { return };
    // What lies idle on one node while another finds nothing left comes back within a second or so.
    let mut through = nodes.through(1000).await;
    for _ in 0..30 {
        if through >= 50 {
            break;
        }
        through += nodes.through(60).await;
    }
    assert_eq!((through, nodes.mock.count()), (50, 50));
    assert_eq!(nodes.through(30).await, 0);
    let account = spent(&nodes.dirs[1]);
    // What other nodes have spent of their blocks they tell later.
    let used = account["spent"].as_i64().zip(account["leased"].as_i64()).map(|(spent, leased)| spent + leased);
    assert_eq!(used, Some(5_000_000_000), "{account}");
    drop(nodes.root);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_of_three_nodes_killed_meanwhile_never_more_than_fifty_are_paid() {
    let Some(mut nodes) = Nodes::start("a limit holds when a node dies").await else { return };
    let (mock, token) = (Arc::clone(&nodes.mock), nodes.token.clone());
    let to: Vec<_> = nodes.programs.iter().map(|program| program.public).collect();
    let load = (0..1000).map(|n| try_post(to[n % to.len()], &token)).collect();
    let victim = &nodes.programs[2];
    let kill = async {
        // Once some have come through, so that it has leased and some are under way.
        mock.request(5).await;
        victim.process.signal("KILL");
    };
    let (through, ()) = tokio::join!(let_in(load), kill);
    assert!(through <= 50 && mock.count() <= 50, "{through} of {}", mock.count());
    nodes.programs.truncate(2);
    let more = nodes.through(200).await;
    assert!(through + more <= 50 && mock.count() <= 50, "{through} and {more} of {}", mock.count());

    // It comes back, and settles what it knows: still not more.
    let dir = nodes.dirs[2].clone();
    nodes.programs.push(Program::serve(&dir, &[]).await);
    let again = nodes.through(200).await;
    assert!(through + more + again <= 50 && mock.count() <= 50, "{through}, {more}, {again} of {}", mock.count());
    let account = spent(&nodes.dirs[0]);
    let sum = |names: &[&str]| names.iter().map(|name| account[*name].as_i64().unwrap()).sum::<i64>();
    assert!(sum(&["spent", "held", "leased"]) <= 5_000_000_000, "{account}");
}
