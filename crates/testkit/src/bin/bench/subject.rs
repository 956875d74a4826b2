//! Who is measured: how each is started, and what it is sent.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock, SystemRng};
use serde_json::json;
use tempfile::TempDir;
use testkit::keys::{TestKey, key_set};
use testkit::process::Process;

use crate::load::Requests;

/// What tokens name as audience.
const AUDIENCE: &str = "https://ai.bench.example";
const ISSUER: &str = "https://id.bench.example";

/// One way for a request to reach the provider.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) addr: SocketAddr,
    /// The process to be measured; none when the provider is asked directly.
    pub(crate) process: Option<Process>,
    pub(crate) requests: Requests,
    pub(crate) stream: Vec<u8>,
    /// Configuration and state: kept as long as it runs.
    pub(crate) dir: Option<TempDir>,
}

/// How to send a token.
enum Tokens<'a> {
    None,
    /// The same with every request: whoever remembers verified tokens is warm.
    One(&'a TestKey),
    /// Another with every request, of this many.
    Many(&'a TestKey, usize),
}

impl Subject {
    fn new(name: &'static str, addr: SocketAddr, process: Option<Process>, tokens: &Tokens<'_>) -> Self {
        let tokens: Vec<Option<String>> = match *tokens {
            Tokens::None => vec![None],
            Tokens::One(key) => vec![Some(token(key, 0))],
            Tokens::Many(key, count) => (0..count).map(|number| Some(token(key, number))).collect(),
        };
        let stream = request(tokens[0].as_deref(), true);
        let requests = tokens.iter().map(|token| request(token.as_deref(), false)).collect();
        Self { name, addr, process, requests: Arc::new(requests), stream, dir: None }
    }

    fn keep(mut self, dir: TempDir) -> Self {
        self.dir = Some(dir);
        self
    }
}

/// Straight to the provider.
pub(crate) fn direct(upstream: SocketAddr) -> Subject {
    Subject::new("direct", upstream, None, &Tokens::None)
}

/// Through the bare proxy.
pub(crate) async fn bare(upstream: SocketAddr) -> Subject {
    let own = std::env::current_exe().expect("a program knows itself");
    let mut process = Process::start(&own, &["proxy", &upstream.to_string()], Path::new("/"), &[]);
    let addr = address(&process.line("listening on ").await);
    Subject::new("bare hyper", addr, Some(process), &Tokens::None)
}

/// Through Vouchgate: ES256 tokens, policy, limits, records and metrics on; one token, or this
/// many different ones.
pub(crate) async fn vouchgate(binary: &Path, upstream: SocketAddr, fresh_tokens: Option<usize>) -> Subject {
    let key = TestKey::generate("ES256");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (public, admin) = (free_port(), free_port());
    let master = vault::MasterKey::generate(&SystemRng).expect("a master key");
    master.create_file(&dir.path().join("master.key")).expect("the master key is written");
    std::fs::write(dir.path().join("jwks.json"), key_set(&[&key]).to_string()).expect("the key set is written");
    let config = dir.path().join("vouchgate.toml");
    std::fs::write(&config, configuration(dir.path(), public, admin, upstream)).expect("the configuration is written");
    let args = ["serve", "--config", config.to_str().expect("a path in UTF-8")];
    let process = Process::start(binary, &args, dir.path(), &[("BENCH_PROVIDER_KEY", "not-a-key")]);
    wait_for(public, &process).await;
    let (name, tokens) = match fresh_tokens {
        Some(count) => ("vouchgate, every token new", Tokens::Many(&key, count)),
        None => ("vouchgate ES256", Tokens::One(&key)),
    };
    Subject::new(name, public, Some(process), &tokens).keep(dir)
}

fn configuration(dir: &Path, public: SocketAddr, admin: SocketAddr, upstream: SocketAddr) -> String {
    let dir = dir.display();
    format!(
        r#"
[server]
listen = "{public}"
admin_listen = "{admin}"
external_url = "{AUDIENCE}"
data_dir = "{dir}/data"

[limits]
connections_per_address = 5000

[vault]
key = {{ file = "{dir}/master.key" }}

[log]
level = "warn"

[[issuer]]
name = "bench"
issuer = "{ISSUER}"
audience = ["{AUDIENCE}"]
algorithms = ["ES256"]
jwks_file = "{dir}/jwks.json"
max_lifetime = "2h"

[[provider]]
name = "mock"
kind = "openai-compatible"
base_url = "http://{upstream}/v1"
allow_private = true
api_key = {{ env = "BENCH_PROVIDER_KEY" }}

[[model]]
name = "fast"
targets = [{{ provider = "mock", model = "bench-model" }}]

[[policy]]
name = "bench"
who = {{ issuer = "bench", scope = ["chat"] }}
may = {{ models = ["fast"], max_output_tokens = 4096 }}
rate = [{{ requests = 100000000, per = "subject", window = "1h" }}, {{ concurrent = 10000, per = "subject" }}]
"#
    )
}

/// Through HAProxy, without or with its own check of tokens signed by `alg`; `None` where it is not installed.
pub(crate) async fn haproxy(upstream: SocketAddr, alg: Option<&'static str>) -> Option<Subject> {
    let binary = ["/usr/sbin/haproxy", "/usr/bin/haproxy", "/usr/local/sbin/haproxy"].map(PathBuf::from);
    let binary = binary.into_iter().find(|path| path.is_file())?;
    let dir = tempfile::tempdir().expect("a temporary directory");
    let addr = free_port();
    let key = alg.map(TestKey::generate);
    let pem = dir.path().join("public.pem");
    let check = key.as_ref().map_or(String::new(), |key| {
        std::fs::write(&pem, key.public_pem()).expect("the key is written");
        format!(
            "    http-request set-var(txn.bearer) http_auth_bearer\n\
             \x20   http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')\n\
             \x20   http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')\n\
             \x20   http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')\n\
             \x20   http-request set-var(txn.now) date()\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.alg) -m str {alg} }}\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}\n\
             \x20   http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}\n\
             \x20   http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,\"{pem}\") 1 }}\n",
            alg = key.alg,
            pem = pem.display(),
        )
    });
    let text = format!(
        "global\n    maxconn 2000\ndefaults\n    mode http\n    option http-no-delay\n    timeout connect 5s\n    timeout client 120s\n\
         \x20   timeout server 120s\nfrontend in\n    bind {addr}\n{check}    default_backend out\n\
         backend out\n    http-reuse always\n    server mock {upstream}\n"
    );
    let config = dir.path().join("haproxy.cfg");
    std::fs::write(&config, text).expect("the configuration is written");
    let process = Process::start(&binary, &["-db", "-f", config.to_str()?], dir.path(), &[]);
    wait_for(addr, &process).await;
    let name = match alg {
        None => "haproxy, no tokens",
        Some("RS256") => "haproxy RS256",
        Some(_) => "haproxy ES256",
    };
    let tokens = key.as_ref().map_or(Tokens::None, Tokens::One);
    Some(Subject::new(name, addr, Some(process), &tokens).keep(dir))
}

fn token(key: &TestKey, number: usize) -> String {
    let now = SystemClock.now().as_secs();
    key.mint(&json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "client_id": "bench", "scope": "chat",
        "iat": now, "exp": now + 3600, "jti": format!("bench-{number}"),
    }))
}

/// A chat request with a body of one kilobyte.
fn request(token: Option<&str>, stream: bool) -> Vec<u8> {
    let text = |length: usize| "Tell me more about it. ".chars().cycle().take(length).collect::<String>();
    let body = |length| {
        json!({"model": "fast", "stream": stream, "messages": [{"role": "user", "content": text(length)}]}).to_string()
    };
    let body = body(1024_usize.saturating_sub(body(0).len()));
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: ai.bench.example\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: bench/1\r\n{authorization}Content-Length: {}\r\n\r\n{body}",
        body.len(),
    )
    .into_bytes()
}

pub(crate) fn address(line: &str) -> SocketAddr {
    line.rsplit(' ').next().and_then(|addr| addr.parse().ok()).expect("an address at the end of the line")
}

/// A port that was free a moment ago, for programs that cannot tell which one they took.
fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

async fn wait_for(addr: SocketAddr, process: &Process) {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(addr).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing listens on {addr}:\n{}", process.output());
}
