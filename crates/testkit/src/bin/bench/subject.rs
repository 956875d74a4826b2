//! Who is measured: how each is started, and what it is sent.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, SystemClock, SystemRng};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::certs::{Authority, Identity};
use testkit::dpop::Holder;
use testkit::keys::{TestKey, key_set};
use testkit::process::Process;
use vectors::postgres::{Cluster, Disk};
use vectors::redis::Redis;

use crate::load::{Requests, Target};
use crate::prover::{Proof, Prover};

/// What tokens name as audience.
pub(crate) const AUDIENCE: &str = "https://ai.bench.example";
/// Its host.
pub(crate) const SERVER: &str = "ai.bench.example";
/// What is asked for.
pub(crate) const PATH: &str = "/v1/chat/completions";
/// What the bare proxy is called, plain and over TLS.
pub(crate) const BARE: &str = "bare hyper";
pub(crate) const BARE_TLS: &str = "bare hyper, TLS";
const CERT: &str = "cert.pem";
const KEY: &str = "key.pem";
const ISSUER: &str = "https://id.bench.example";

/// One way for a request to reach the provider.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) target: Target,
    /// The process to be measured; none when the provider is asked directly.
    pub(crate) process: Option<Process>,
    pub(crate) requests: Requests,
    pub(crate) stream: Vec<u8>,
    /// Configuration and state: kept as long as it runs.
    pub(crate) dir: Option<TempDir>,
    /// What it shares with other nodes.
    pub(crate) servers: Option<Servers>,
}

/// Servers that several nodes share.
#[derive(Debug)]
pub(crate) struct Servers {
    _database: Cluster,
    url: String,
    shared: Redis,
}

impl Servers {
    /// Start them; `None` where one of them is not installed.
    pub(crate) fn start() -> Option<Self> {
        let (database, shared) = (Cluster::start(Disk::Durable)?, Redis::start()?);
        Some(Self { url: database.database()?, _database: database, shared })
    }
}

/// How to send a token.
enum Tokens<'a> {
    None,
    /// The same with every request: whoever remembers verified tokens is warm.
    One(&'a TestKey),
    /// Another with every request, of this many.
    Many(&'a TestKey, usize),
    /// The same with every request, bound to something.
    Bound(&'a TestKey, Value),
}

impl Subject {
    fn new(name: &'static str, addr: SocketAddr, process: Option<Process>, tokens: &Tokens<'_>) -> Self {
        let tokens: Vec<Option<String>> = match tokens {
            Tokens::None => vec![None],
            Tokens::One(key) => vec![Some(token(key, 0, &Value::Null))],
            Tokens::Many(key, count) => (0..*count).map(|number| Some(token(key, number, &Value::Null))).collect(),
            Tokens::Bound(key, cnf) => vec![Some(token(key, 0, cnf))],
        };
        let stream = with_token(tokens[0].as_deref(), true);
        let requests = tokens.iter().map(|token| with_token(token.as_deref(), false)).collect();
        let target = Target { addr, tls: None };
        Self { name, target, process, requests: Requests::Given(Arc::new(requests)), stream, dir: None, servers: None }
    }

    fn keep(mut self, dir: TempDir) -> Self {
        self.dir = Some(dir);
        self
    }

    /// Its data directory, where it has one.
    pub(crate) fn data(&self) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.path().join("data")).filter(|data| data.is_dir())
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
    Subject::new(BARE, addr, Some(process), &Tokens::None)
}

/// The same, and its clients come over TLS.
pub(crate) async fn bare_tls(upstream: SocketAddr) -> Subject {
    let own = std::env::current_exe().expect("a program knows itself");
    let (dir, authority) = (tempfile::tempdir().expect("a temporary directory"), Authority::new());
    show(&authority, dir.path());
    let path = dir.path().to_str().expect("a path in UTF-8");
    let mut process = Process::start(&own, &["proxy", &upstream.to_string(), path], Path::new("/"), &[]);
    let addr = address(&process.line("listening on ").await);
    let mut subject = Subject::new(BARE_TLS, addr, Some(process), &Tokens::None);
    subject.target.tls = Some(authority.client_config(None, &["http/1.1"]));
    subject.keep(dir)
}

/// Write what a server shows into a directory.
fn show(authority: &Authority, dir: &Path) {
    let server = authority.server(&[SERVER]);
    for (name, text) in [(CERT, &server.cert_pem), (KEY, &server.key_pem)] {
        std::fs::write(dir.join(name), text).expect("a file can be written");
    }
}

/// What was written there, for a server over TLS.
pub(crate) fn shown(dir: &Path) -> Arc<ServerConfig> {
    let chain = CertificateDer::from_pem_file(dir.join(CERT)).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(dir.join(KEY)).expect("a key");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.expect("the provider has them").with_no_client_auth();
    let mut config = builder.with_single_cert(vec![chain], key).expect("they belong together");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

/// What Vouchgate is measured with: everything on, and one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Case {
    /// One ES256 token in all requests.
    Warm,
    /// The same, with money set aside for each request and settled: the whole pipeline.
    Budget,
    /// The same on PostgreSQL, with Redis for what nodes share.
    Fleet,
    /// Another token in every request.
    Fresh,
    /// One token bound to a key, and a DPoP proof in every request.
    Dpop,
    /// One token bound to a key, and a signature over every request.
    Signature,
    /// One token, over TLS.
    Tls,
    /// The whole pipeline, over TLS.
    TlsBudget,
    /// One token bound to the client's certificate, over TLS.
    Mtls,
}

impl Case {
    pub(crate) const ALL: [Self; 9] = [
        Self::Warm,
        Self::Budget,
        Self::Fleet,
        Self::Fresh,
        Self::Dpop,
        Self::Signature,
        Self::Tls,
        Self::TlsBudget,
        Self::Mtls,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Warm => "vouchgate ES256",
            Self::Budget => "vouchgate ES256, budget",
            Self::Fleet => "vouchgate, PostgreSQL+Redis",
            Self::Fresh => "vouchgate, every token new",
            Self::Dpop => "vouchgate, DPoP",
            Self::Signature => "vouchgate, signature",
            Self::Tls => "vouchgate, TLS",
            Self::TlsBudget => "vouchgate, TLS, budget",
            Self::Mtls => "vouchgate, mutual TLS",
        }
    }

    /// What the policy demands.
    fn bound(self) -> &'static str {
        match self {
            Self::Dpop => ", bound = [\"dpop\"]",
            Self::Signature => ", bound = [\"signature\"]",
            Self::Mtls => ", bound = [\"mtls\"]",
            Self::Warm | Self::Budget | Self::Fleet | Self::Fresh | Self::Tls | Self::TlsBudget => "",
        }
    }

    /// What the policy's callers may spend.
    fn spend(self) -> &'static str {
        match self {
            Self::Budget | Self::Fleet | Self::TlsBudget => {
                "spend = [{ limit = \"100000 USD\", per = \"subject\", window = \"1d\" }]\n\n[[price]]\nprovider = \"mock\"\n\
                 model = \"bench-model\"\ninput = \"1 USD\"\noutput = \"4 USD\"\ncontext = 100000\nmax_output = 4096\n"
            }
            _ => "",
        }
    }

    fn encrypted(self) -> bool {
        matches!(self, Self::Tls | Self::TlsBudget | Self::Mtls)
    }
}

/// Through Vouchgate: ES256 tokens, policy, limits, audit log, records and metrics on. At most `total` requests will be sent.
pub(crate) async fn vouchgate(
    binary: &Path,
    upstream: SocketAddr,
    (case, servers): (Case, Option<Servers>),
    total: usize,
) -> Subject {
    let key = TestKey::generate("ES256");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let (public, admin) = (free_port(), free_port());
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file can be written");
    let master = vault::MasterKey::generate(&SystemRng).expect("a master key");
    master.create_file(&dir.path().join("master.key")).expect("the master key is written");
    write("jwks.json", &key_set(&[&key]).to_string());
    let (authority, client) = (Authority::new(), Identity::self_signed("bench"));
    show(&authority, dir.path());
    let store = servers.as_ref().map_or(String::new(), |servers| {
        format!("[store]\nurl = \"{}\"\nshared = \"{}\"", servers.url, servers.shared.url())
    });
    let text = configuration(dir.path(), (public, admin), upstream, case) + &store + "\n";
    write("vouchgate.toml", &text);
    let config = dir.path().join("vouchgate.toml");
    let args = ["serve", "--config", config.to_str().expect("a path in UTF-8")];
    let process = Process::start(binary, &args, dir.path(), &[("BENCH_PROVIDER_KEY", "not-a-key")]);
    wait_for(public, &process).await;
    let tokens = match case {
        Case::Fresh => Tokens::Many(&key, total),
        Case::Mtls => Tokens::Bound(&key, json!({"x5t#S256": client.thumbprint()})),
        _ => Tokens::One(&key),
    };
    let mut subject = Subject::new(case.name(), public, Some(process), &tokens).keep(dir);
    subject.servers = servers;
    if case.encrypted() {
        let identity = Some(&client).filter(|_| case == Case::Mtls);
        subject.target.tls = Some(authority.client_config(identity, &["http/1.1"]));
    }
    let kind = match case {
        Case::Dpop => Proof::Dpop,
        Case::Signature => Proof::Signature,
        _ => return subject,
    };
    let holder = Holder::new("ES256");
    let token = token(&key, 0, &json!({"jkt": holder.jkt(), "jwk": holder.jwk()}));
    let prover = Prover { holder, token, kind, addr: public };
    prover.ready().await;
    subject.requests = Requests::Made(prover);
    subject
}

fn configuration(dir: &Path, (public, admin): (SocketAddr, SocketAddr), upstream: SocketAddr, case: Case) -> String {
    let dir = dir.display();
    let (bound, spend) = (case.bound(), case.spend());
    let tls = match case {
        Case::Tls | Case::TlsBudget => format!("tls = {{ cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\" }}"),
        Case::Mtls => {
            format!("tls = {{ cert = \"{dir}/cert.pem\", key = \"{dir}/key.pem\", client_certificates = \"any\" }}")
        }
        _ => String::new(),
    };
    format!(
        r#"
[server]
listen = "{public}"
admin_listen = "{admin}"
external_url = "{AUDIENCE}"
data_dir = "{dir}/data"
{tls}

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
who = {{ issuer = "bench", scope = ["chat"]{bound} }}
may = {{ models = ["fast"], max_output_tokens = 4096 }}
rate = [{{ requests = 100000000, per = "subject", window = "1h" }}, {{ concurrent = 10000, per = "subject" }}]
{spend}
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

fn token(key: &TestKey, number: usize, cnf: &Value) -> String {
    let now = SystemClock.now().as_secs();
    let mut claims = json!({
        "iss": ISSUER, "aud": AUDIENCE, "sub": "bench", "client_id": "bench", "scope": "chat",
        "iat": now, "exp": now + 3600, "jti": format!("bench-{number}"),
    });
    if !cnf.is_null() {
        claims["cnf"] = cnf.clone();
    }
    key.mint(&claims)
}

fn with_token(token: Option<&str>, stream: bool) -> Vec<u8> {
    let authorization = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    request(&authorization, &body(stream))
}

/// A chat request's body of one kilobyte.
pub(crate) fn body(stream: bool) -> String {
    let text = |length: usize| "Tell me more about it. ".chars().cycle().take(length).collect::<String>();
    let body = |length| {
        json!({"model": "fast", "stream": stream, "messages": [{"role": "user", "content": text(length)}]}).to_string()
    };
    body(1024_usize.saturating_sub(body(0).len()))
}

/// A request with these header lines beside those every request has.
pub(crate) fn request(headers: &str, body: &str) -> Vec<u8> {
    request_to(PATH, headers, body)
}

/// The same to another endpoint.
pub(crate) fn request_to(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nHost: {SERVER}\r\nContent-Type: application/json\r\n\
         Accept: application/json\r\nUser-Agent: bench/1\r\n{headers}Content-Length: {}\r\n\r\n{body}",
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
