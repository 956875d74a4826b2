//! What apps are told over the air, from outside: by the real program against a real listener, and with keys that change while
//! clients go on.

mod nodes;
mod refused;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Clock, FakeClock, SystemClock, Timestamp};
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use proof::app_config::{AppConfig, Rules, Seen, pin_of_certificate, pin_text, verify};
use proof::jose::KeySet;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::certs::{Authority, Identity};
use testkit::patiently;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use crate::support::{APP, Gateway, run};

const HOST: &str = "localhost";

/// A gateway that shows a certificate, and the files around it.
struct World {
    gateway: Gateway,
    authority: Authority,
    dir: Arc<TempDir>,
}

impl World {
    async fn start() -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let authority = Authority::new();
        std::fs::write(dir.path().join("ca.pem"), authority.pem()).unwrap();
        for name in ["root", "spare"] {
            let (code, jwk, said) = run(&["pins", "root", "new", "--out", &format!("{name}.pem")], dir.path(), b"");
            assert_eq!(code, 0, "{said}");
            std::fs::write(dir.path().join(format!("{name}.jwk")), jwk).unwrap();
        }
        show(&dir, &authority.server(&[HOST]));
        std::fs::write(dir.path().join("next.pem"), authority.server(&[HOST]).key_pem).unwrap();
        let text = format!(
            "tls = {{ cert = \"DIR/cert.pem\", key = \"DIR/key.pem\" }}\n\
             [app_config]\nroots = [\"DIR/root.jwk\", \"DIR/spare.jwk\"]\n\
             [[app]]\nname = \"chat\"\nios = {{ team = \"ABCDE12345\", bundle = \"com.example.chat\" }}\n\
             [[pins]]\nname = \"api\"\nhost = \"{HOST}\"\nnext_file = \"DIR/next.pem\"\n{APP}"
        );
        let text = text.replace("DIR", dir.path().to_str().unwrap());
        let file = dir.path().join("vouchgate.toml");
        let clock = FakeClock::at(SystemClock.now());
        let gateway = Gateway::start_at(Arc::clone(&dir), &text, clock, Some(file)).await;
        Self { gateway, authority, dir }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Run the real program here; it reaches the server through its socket.
    async fn vouchgate(&self, args: &str, stdin: &str) -> (i32, String, String) {
        let args: Vec<String> = args.split_whitespace().map(str::to_owned).collect();
        let (dir, stdin) = (Arc::clone(&self.dir), stdin.to_owned());
        let ran = tokio::task::spawn_blocking(move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            run(&args, dir.path(), stdin.as_bytes())
        });
        patiently("the program to end", ran).await.unwrap()
    }

    /// The same, which has to succeed; its output.
    async fn done(&self, args: &str, stdin: &str) -> String {
        let (code, out, said) = self.vouchgate(&format!("{args} --config vouchgate.toml"), stdin).await;
        assert_eq!(code, 0, "{args}: {out}{said}");
        out
    }

    /// Have a root key vouch for the next configuration key.
    async fn vouch(&self) {
        let key = self.done("pins key", "").await;
        let (code, delegation, said) = self.vouchgate("pins delegate --root root.pem --days 90", &key).await;
        assert_eq!(code, 0, "{said}");
        self.done("pins accept", &delegation).await;
    }

    /// `pins verify`, with these further arguments: exit status and verdict.
    async fn verify(&self, args: &str) -> (i32, Value) {
        let line = format!("pins verify {HOST}:{} --config vouchgate.toml {args}", self.gateway.public.port());
        let (code, out, said) = self.vouchgate(&line, "").await;
        (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{said}")))
    }

    fn roots(&self) -> KeySet {
        let jwk = |name: &str| -> Value { serde_json::from_slice(&std::fs::read(self.file(name)).unwrap()).unwrap() };
        let keys = json!({ "keys": [jwk("root.jwk"), jwk("spare.jwk")] }).to_string();
        KeySet::from_published(keys.as_bytes()).unwrap()
    }

    /// Show the certificate of another key from now on, as an operator does: replace the files, reload.
    async fn switch(&self, identity: &Identity) {
        show(&self.dir, identity);
        self.gateway.server().reload().await.unwrap();
    }
}

fn show(dir: &TempDir, identity: &Identity) {
    std::fs::write(dir.path().join("cert.pem"), &identity.cert_pem).unwrap();
    std::fs::write(dir.path().join("key.pem"), &identity.key_pem).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_is_verified_from_outside() {
    let world = World::start().await;
    let trusted = "--ca ca.pem";
    let (code, verdict) = world.verify(trusted).await;
    assert_eq!((code, &verdict["reason"], &verdict["trusted"]), (1, &json!("config_not_found"), &json!(true)));
    let (code, _, said) = world.vouchgate("pins publish chat --config vouchgate.toml", "").await;
    assert!(code == 1 && said.contains("vouchgate pins key"), "{said}");
    world.vouch().await;
    world.done("pins publish chat", "").await;
    world.done("pins publish chat", "").await;

    let (code, verdict) = world.verify(trusted).await;
    assert_eq!((code, &verdict["valid"]), (0, &json!(true)), "{verdict}");
    let told = &verdict["apps"][0];
    assert_eq!((&told["app"], &told["seq"], &told["next"]), (&json!("chat"), &json!(2), &json!(true)));
    let shown = verdict["certificates"][0]["pin"].as_str().unwrap();
    assert_eq!(
        (&told["hosts"][0]["pins"][0]["pin"], &told["hosts"][0]["pins"][0]["shown"]),
        (&json!(shown), &json!(true))
    );
    assert_eq!(world.vouchgate("pins hash cert.pem", "").await.1.trim(), shown);

    // Who would not believe it, and why.
    let later = Timestamp::from_secs(SystemClock.now().as_secs() + 15 * 86_400).as_secs();
    for (args, reason) in [
        (String::new(), "certificate_untrusted"),
        (format!("{trusted} --seq 3"), "config_rolled_back"),
        (format!("{trusted} --now {later}"), "config_expired"),
        (format!("{trusted} --app other"), "config_not_found"),
    ] {
        let (code, verdict) = world.verify(&args).await;
        assert_eq!((code, &verdict["valid"], &verdict["reason"]), (1, &json!(false), &json!(reason)), "{args}");
    }
    let stranger = world.vouchgate("pins root new --out stranger.pem", "").await.1;
    std::fs::write(world.file("stranger.jwk"), stranger).unwrap();
    let (_, verdict) = world.verify(&format!("{trusted} --root stranger.jwk")).await;
    assert_eq!(verdict["reason"], "delegation_unknown_root");
    assert_eq!(world.vouchgate("pins verify localhost --app chat", "").await.0, 2, "whom to believe is not said");
    assert_eq!(world.vouchgate("pins root new --out root.pem", "").await.0, 2, "no key is overwritten");

    // Somebody shows another key for the host: that nobody was told of it is seen from outside, and in the timetable.
    assert_eq!(world.vouchgate("cert plan --config vouchgate.toml", "").await.0, 0);
    world.switch(&world.authority.server(&[HOST])).await;
    let (code, verdict) = world.verify(trusted).await;
    assert_eq!((code, &verdict["reason"]), (1, &json!("pin_mismatch")));
    let (code, plan, _) = world.vouchgate("cert plan --config vouchgate.toml", "").await;
    assert!(code == 1 && plan.contains("repair (now)"), "{plan}");
    let (code, _, said) = world.vouchgate("pins publish chat --config vouchgate.toml", "").await;
    assert!(code == 0 && said.contains("Warning: localhost shows a key that apps are not told of so far"), "{said}");
    assert_eq!(world.verify(trusted).await.0, 0, "it is repaired without a new version of the app");

    let said = world.vouchgate("pins kill chat --pinning off --config vouchgate.toml", "").await;
    assert!(said.0 == 0 && said.2.contains("pinning off, attest on"), "{said:?}");
    let listed: Value = serde_json::from_str(&world.done("pins show --json", "").await).unwrap();
    assert_eq!((&listed[0]["kill_pinning"], &listed[0]["seq"]), (&json!(true), &json!(4)));
    world.gateway.stop().await;
}

/// A client that goes by what it was told: a new connection for each request, refused unless the key is pinned.
struct Phone {
    authority: Arc<tokio_rustls::rustls::ClientConfig>,
    at: std::net::SocketAddr,
    roots: KeySet,
    token: String,
    config: Option<AppConfig>,
    seen: Option<Seen>,
    keys: Vec<String>,
}

impl Phone {
    fn new(world: &World, token: &str) -> Self {
        Self {
            authority: world.authority.client_config(None, &["http/1.1"]),
            at: world.gateway.public,
            roots: world.roots(),
            token: token.to_owned(),
            config: None,
            seen: None,
            keys: Vec::new(),
        }
    }

    /// One request over a connection of its own. What is not pinned gets nothing.
    async fn send(&mut self, request: Request<Full<Bytes>>, pinned: bool) -> (StatusCode, Bytes) {
        let tcp = TcpStream::connect(self.at).await.unwrap();
        let name = ServerName::try_from(HOST).unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.authority)).connect(name, tcp).await.unwrap();
        let leaf = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let key = pin_text(&pin_of_certificate(&leaf).unwrap());
        if pinned {
            let told = self.config.as_ref().unwrap();
            let now = SystemClock.now();
            let known = told.hosts[0].pins.iter().any(|pin| pin.spki_sha256 == key && pin.counts(now));
            assert!(known, "configuration {} does not name the key that is shown", told.seq);
        }
        if !self.keys.contains(&key) {
            self.keys.push(key);
        }
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        let answer = async {
            let (head, body) = sender.send_request(request).await.unwrap().into_parts();
            (head.status, body.collect().await.unwrap().to_bytes())
        };
        let mut answer = std::pin::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = connection => answer.await,
        }
    }

    /// Fetch what it is told; one that it would not accept fails the test.
    async fn refresh(&mut self) {
        let request = Request::builder().uri("/.well-known/gateway-config/chat").header("host", HOST);
        let (status, body) = self.send(request.body(Full::default()).unwrap(), false).await;
        assert_eq!(status, StatusCode::OK);
        let rules = Rules { roots: &self.roots, app: "chat", now: SystemClock.now(), seen: self.seen };
        let verified = verify(std::str::from_utf8(&body).unwrap(), &rules).unwrap();
        self.seen = Some(Seen { seq: verified.config.seq, delegated_at: verified.delegation.iat.as_secs() });
        self.config = Some(verified.config);
    }

    async fn ask(&mut self) {
        let body = json!({ "model": "vouchgate/echo", "messages": [{ "role": "user", "content": "hello" }] });
        let request = Request::post("/v1/chat/completions")
            .header("host", HOST)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.token));
        let (status, body) = self.send(request.body(Full::from(body.to_string())).unwrap(), true).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
    }
}

/// Clients that ask and ask while something is replaced, until it is done.
struct Load {
    over: Arc<AtomicBool>,
    /// A permit for each request that was answered.
    asked: Arc<Semaphore>,
    phones: Vec<tokio::task::JoinHandle<Phone>>,
}

impl Load {
    /// Half of the clients fetch what they are told before each request, half go by what they were told at first.
    #[allow(clippy::disallowed_methods)] // they end with the test
    async fn begin(world: &World) -> Self {
        let token = world.gateway.token("app").await;
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
        let mut phones = Vec::new();
        for number in 0..4 {
            let mut phone = Phone::new(world, &token);
            phone.refresh().await;
            let (over, asked) = (Arc::clone(&over), Arc::clone(&asked));
            phones.push(tokio::spawn(async move {
                // Bounded, so that a test that fails elsewhere ends.
                for _ in 0..20_000 {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    if number % 2 == 0 {
                        phone.refresh().await;
                    }
                    phone.ask().await;
                    asked.add_permits(1);
                }
                phone
            }));
        }
        Self { over, asked, phones }
    }

    /// Wait until so many more requests were answered.
    async fn go_on(&self, more: u32) {
        patiently("requests to be answered", self.asked.acquire_many(more)).await.unwrap().forget();
    }

    async fn end(self) -> Vec<Phone> {
        self.over.store(true, Ordering::Relaxed);
        let mut phones = Vec::new();
        for phone in self.phones {
            phones.push(patiently("a client to end", phone).await.expect("nothing was refused"));
        }
        phones
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pinned_hosts_key_is_switched_under_load_and_nobody_is_refused() {
    let world = World::start().await;
    world.vouch().await;
    let next = world.authority.server(&[HOST]);
    std::fs::write(world.file("next.pem"), &next.key_pem).unwrap();
    world.done("pins publish chat", "").await;
    let load = Load::begin(&world).await;
    load.go_on(20).await;
    world.switch(&next).await;
    load.go_on(20).await;
    std::fs::write(world.file("next.pem"), world.authority.server(&[HOST]).key_pem).unwrap();
    world.done("pins publish chat", "").await;
    load.go_on(20).await;
    let phones = load.end().await;
    for phone in &phones {
        assert_eq!(phone.keys.len(), 2, "each has seen both keys");
    }
    let newest = phones[0].config.as_ref().unwrap();
    assert_eq!((newest.seq, newest.hosts[0].pins.len()), (2, 3), "the old key is told of for a while longer");
    assert_eq!(phones[1].config.as_ref().unwrap().seq, 1, "it went by what it was told at first");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_configuration_key_is_replaced_under_load_and_nobody_is_refused() {
    let world = World::start().await;
    world.vouch().await;
    world.done("pins publish chat", "").await;
    let load = Load::begin(&world).await;
    let before = world.verify("--ca ca.pem").await.1["apps"][0]["kid"].clone();
    load.go_on(20).await;
    world.vouch().await;
    load.go_on(20).await;
    let after = world.verify("--ca ca.pem").await.1["apps"][0]["kid"].clone();
    assert_ne!(before, after);
    let phones = load.end().await;
    assert_eq!(phones[0].config.as_ref().unwrap().seq, 2, "apps are told anew at once");
    world.gateway.stop().await;
}
