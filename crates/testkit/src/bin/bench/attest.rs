//! What attestation costs: one verification of each kind, enrolments and refreshes through Vouchgate, and what enrolled
//! installations take. `cargo xtask bench --attest` starts it.

mod refusals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base::{SystemRng, Timestamp};
use proof::attest::altcha::{AltchaKey, Work};
use proof::attest::android::{self, AndroidRules};
use proof::attest::apple::{self, AssertionRules, AttestationRules, ClientData};
use proof::attest::chain::Anchors;
use proof::attest::status::StatusList;
use proof::attest::webauthn::{self, Registration, RelyingParty};
use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use testkit::process::{Process, cost_of};
use tokio::task::JoinSet;
use vouchgate_client::attester::Attester;
use vouchgate_client::clock::{Clock, SystemClock};
use vouchgate_client::simulator::{AndroidApp, AndroidPhone, Apple, Google, Iphone, Origin, Passkey, SecurityLevel};
use vouchgate_client::{Client, Options};

const APP_ID: &str = "ABCDE12345.com.example.chat";
const DATA: &[u8] = br#"{"app":"chat","flags":{},"nonce":"n","purpose":"enroll","sdk":"1","ts":1,"v":1}"#;

/// Verifications of each kind that are measured.
const VERIFIED: u32 = 2_000;

/// Installations that enrol at the same time.
const AT_ONCE: usize = 32;

/// The serial number of an attestation key that is revoked.
const REVOKED: [u8; 3] = [0xc0, 0xff, 0xee];

/// How long the program under test may take to start.
const START: Duration = Duration::from_mins(1);

/// What is to be measured.
pub(crate) struct Plan {
    /// The program.
    pub(crate) vouchgate: PathBuf,
    /// Installations, half iPhones and half Android phones.
    pub(crate) installations: usize,
    /// Whether they close their connections: then what grows is what the installations themselves take.
    pub(crate) closing: bool,
    /// How often each reason of a refusal is measured.
    pub(crate) refusals: usize,
}

/// Measure.
pub(crate) async fn run(plan: &Plan) -> Value {
    let mut kinds = Vec::new();
    for (name, micros) in verifications() {
        println!("{name:<44}{micros:>10.1} us of CPU");
        kinds.push(json!({"kind": name, "us": micros}));
    }
    let mut gateway = Gateway::start(&plan.vouchgate).await;
    gateway.warm().await;
    let refusals = if plan.refusals > 0 { refusals::measured(&gateway, plan.refusals).await } else { json!([]) };
    let measured = if plan.closing { gateway.closing(plan).await } else { gateway.keeping(plan).await };
    json!({"verifications": kinds, "refusals": refusals, "installations": plan.installations, "load": measured})
}

/// CPU time of one verification of each kind, in microseconds.
fn verifications() -> Vec<(&'static str, f64)> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let now = Timestamp::from_secs(clock.now());
    let apple = Apple::new(Arc::clone(&clock)).expect("a root");
    let anchors = Anchors::from_pem(&apple.root_pem()).expect("a root in PEM");
    let iphone = Iphone::new(&apple, APP_ID);
    let id = iphone.generate_key().expect("a key");
    let attestation = iphone.attest_key(&id, &sha256(DATA)).expect("an attestation");
    let rules = AttestationRules {
        anchors: &anchors,
        now,
        app_ids: &[APP_ID],
        environments: &[apple::Environment::Production],
        client_data: ClientData::Plain(DATA),
        key_id: Some(&id),
    };
    let verified = apple::verify_attestation(&attestation, &rules).expect("it holds");
    let assertion = iphone.generate_assertion(&id, &sha256(DATA)).expect("an assertion");
    let client_data = ClientData::Plain(DATA);
    let asserted =
        AssertionRules { public_key: &verified.public_key, app_ids: &[APP_ID], previous_counter: 0, client_data };
    let mut found = vec![
        ("App Attest attestation", timed(|| apple::verify_attestation(&attestation, &rules).is_ok())),
        ("App Attest assertion", timed(|| apple::verify_assertion(&assertion, &asserted).is_ok())),
    ];
    found.extend(android_verifications(clock, now));
    let passkey = Passkey::new("example.com", "https://example.com").expect("a passkey");
    let [client_data, object] = passkey.create(b"challenge").expect("a registration");
    let registration = Registration { client_data: &client_data, attestation: &object };
    let site = RelyingParty { id: "example.com", origins: &["https://example.com"], user_verification: true };
    let registered = || webauthn::verify_registration(&registration, &site, b"challenge").is_ok();
    found.push(("WebAuthn registration", timed(registered)));
    let key = AltchaKey::new(&[7; 32]);
    let work = Work::Derive { cost: 5_000, zeros: 1 };
    let challenge = key.challenge(work, b"app", &SystemRng, (now, Duration::from_mins(5))).expect("a challenge");
    let payload = vouchgate_client::altcha::solve(&challenge).expect("a solution");
    found.push(("ALTCHA version 2, cost 5,000", timed(|| key.verify(&payload, b"app", now).is_ok())));
    found
}

fn android_verifications(clock: Arc<dyn Clock>, now: Timestamp) -> Vec<(&'static str, f64)> {
    let google = Google::new(clock).expect("a root");
    let anchors = Anchors::from_pem(&google.root_pem()).expect("a root in PEM");
    let (status, challenge) = (StatusList::empty(), sha256(DATA));
    let app = android::AndroidApp { package: "com.example.chat".into(), digests: vec![[7; 32]], least_version: None };
    let rules = AndroidRules {
        anchors: &anchors,
        status: &status,
        now,
        challenge: Some(&challenge),
        app: Some(&app),
        boot_keys: &[],
    };
    let mut found = Vec::new();
    for (name, origin) in
        [("Android key, from the factory", Origin::Factory), ("Android key, over the air", Origin::Remote)]
    {
        let keybox = google.keybox(origin, SecurityLevel::TrustedEnvironment).expect("a keybox");
        let phone = AndroidPhone::with_keybox(&google, installed(), keybox);
        let (_, chain) = phone.generate_key(&challenge).expect("a chain");
        let ders: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        found.push((name, timed(|| android::verify(&ders, &rules).is_ok())));
    }
    found
}

/// CPU time of this process for one call, in microseconds.
fn timed(verify: impl Fn() -> bool) -> f64 {
    assert!(verify(), "what is measured is a verification that holds");
    let before = cost_of(std::process::id()).cpu;
    for _ in 0..VERIFIED {
        assert!(verify());
    }
    cost_of(std::process::id()).cpu.saturating_sub(before).as_secs_f64() * 1e6 / f64::from(VERIFIED)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use aws_lc_rs::digest::{SHA256, digest};
    digest(&SHA256, bytes).as_ref().try_into().expect("32 bytes")
}

fn installed() -> AndroidApp {
    AndroidApp { package: "com.example.chat".into(), version: 1, digest: [7; 32] }
}

/// The program under test with one app, and the makers of phones it trusts.
struct Gateway {
    process: Process,
    url: String,
    apple: Apple,
    google: Google,
    binary: PathBuf,
    dir: tempfile::TempDir,
    _list: Mock,
}

impl Gateway {
    async fn start(binary: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let apple = Apple::new(Arc::clone(&clock)).expect("a root");
        let google = Google::new(clock).expect("a root");
        let list = json!({"entries": {"c0ffee": {"status": "REVOKED"}}});
        let list = Mock::start_with(move |_| Answer::json(200, &list)).await;
        let write =
            |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("a file can be written");
        write("apple.pem", &apple.root_pem());
        write("google.pem", &google.root_pem());
        let master = vault::MasterKey::generate(&SystemRng).expect("a master key");
        master.create_file(&dir.path().join("bench.key")).expect("the master key is written");
        let digest = "07".repeat(32);
        let text = format!(
            r#"
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:0"
data_dir = "data"

[vault]
key = {{ file = "bench.key" }}

[limits]
connections_per_address = 5000

[log]
level = "warn"

[attest]
android_status_url = "{}/status"
allow_private = true
requests_per_minute = 1000000

[[app]]
name = "chat"
scopes = ["chat"]
enrolments_per_minute = 1000000
ios = {{ team = "ABCDE12345", bundle = "com.example.chat" }}
android = {{ package = "com.example.chat", digests = ["{digest}"] }}
test_roots = {{ apple = "apple.pem", android = "google.pem" }}
"#,
            list.url()
        );
        // Where it listens is told at level info.
        write("vouchgate.toml", &text.replace("level = \"warn\"", "level = \"info\""));
        let (process, url) = Self::serve(binary, dir.path()).await;
        Self { process, url, apple, google, binary: binary.to_owned(), dir, _list: list }
    }

    async fn serve(binary: &Path, dir: &Path) -> (Process, String) {
        let mut process = Process::start(binary, &["serve", "--config", "vouchgate.toml"], dir, &[]);
        let line = process.line_within(START, "listening").await;
        let address = line.split_once("public=").expect("the public address").1;
        (process, format!("http://{}", address.split([' ', '"']).next().expect("an address")))
    }

    /// Until Android phones get in: a moment after the start there is no list of what is revoked yet.
    async fn warm(&self) {
        let warming = async {
            let phone: Arc<dyn Attester> = Arc::new(AndroidPhone::new(&self.google, installed()).expect("a phone"));
            while self.client(Arc::clone(&phone)).ready().await.is_err() {}
        };
        testkit::patiently("the list of what is revoked", warming).await;
    }

    fn client(&self, device: Arc<dyn Attester>) -> Client {
        Client::new(Options::new(&self.url, "chat"), device).expect("a client")
    }

    /// New clients, each made when it is its turn.
    fn clients(&self, count: usize) -> impl ExactSizeIterator<Item = Client> {
        (0..count).map(|number| {
            let device: Arc<dyn Attester> = if number.is_multiple_of(2) {
                Arc::new(Iphone::new(&self.apple, APP_ID))
            } else {
                Arc::new(AndroidPhone::new(&self.google, installed()).expect("a phone"))
            };
            self.client(device)
        })
    }

    /// Installations that keep their connections: enrolments, refreshes, and what the connections take.
    async fn keeping(&self, plan: &Plan) -> Value {
        let at_rest = self.process.cost().resident;
        let clients: Vec<Client> = self.clients(plan.installations).collect();
        let enrolments = self.rate("enrolments", clients.clone().into_iter(), enrol).await;
        let grown = mebibytes(self.process.cost().resident) - mebibytes(at_rest);
        let refreshes = self.rate("refreshes", clients.into_iter(), |client: Client| async move {
            client.refresh().await.expect("an installation is given its next token");
        });
        let refreshes = refreshes.await;
        let count = plan.installations;
        println!("memory: {grown:.1} MiB more with {count} installations, each with a connection that stays open");
        json!({"enrolments": enrolments, "refreshes": refreshes, "mib_more": grown})
    }

    /// Installations that enrol and go: what they take of memory after each quarter, on disk, and of the memory of a program that is
    /// started when they are there.
    async fn closing(&mut self, plan: &Plan) -> Value {
        let rested = mebibytes(self.process.cost().resident);
        let begun_with = self.restarted().await;
        self.rate("warming up", self.clients(1_000), enrol).await;
        let (warm, disk) = (mebibytes(self.process.cost().resident), on_disk(self.dir.path()));
        println!(
            "memory: {rested:.1} MiB after the refusals, {begun_with:.1} at rest, {warm:.1} after 1,000 enrolments"
        );
        let mut quarters = Vec::new();
        let mut enrolments = Vec::new();
        for quarter in 1..=4 {
            enrolments.push(self.rate("enrolments", self.clients(plan.installations / 4), enrol).await);
            let grown = mebibytes(self.process.cost().resident) - warm;
            println!("memory: {grown:.1} MiB more after {} installations", plan.installations / 4 * quarter);
            quarters.push(grown);
        }
        let bytes = on_disk(self.dir.path()).saturating_sub(disk) as f64 / plan.installations as f64;
        let restarted = self.restarted().await;
        println!(
            "disk: {bytes:.0} bytes each; memory of a program started with them: {restarted:.1} MiB, {begun_with:.1} without"
        );
        json!({"enrolments": enrolments, "mib_more_by_quarter": quarters, "disk_bytes_each": bytes,
               "mib_started_without": begun_with, "mib_started_with": restarted})
    }

    /// End the program in order and start it again: its memory once it takes phones.
    async fn restarted(&mut self) -> f64 {
        self.process.signal("TERM");
        assert!(self.process.ended().await.success(), "{}", self.process.output());
        (self.process, self.url) = Self::serve(&self.binary, self.dir.path()).await;
        self.warm().await;
        mebibytes(self.process.cost().resident)
    }

    /// Do something with every client, so many at a time: how many a second, and what one costs the program.
    async fn rate<F>(
        &self,
        what: &str,
        clients: impl ExactSizeIterator<Item = Client>,
        work: impl Fn(Client) -> F,
    ) -> Value
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (count, cpu, begun) = (clients.len() as f64, self.process.cost().cpu, begin());
        let mut running = JoinSet::new();
        for client in clients {
            if running.len() >= AT_ONCE {
                running.join_next().await.expect("there are some").expect("it succeeds");
            }
            running.spawn(work(client));
        }
        while let Some(done) = running.join_next().await {
            done.expect("it succeeds");
        }
        let seconds = begun.elapsed().as_secs_f64();
        let micros = self.process.cost().cpu.saturating_sub(cpu).as_secs_f64() * 1e6 / count;
        println!(
            "{what:<44}{:>10.0} a second (phones on the same machine), {micros:.0} us of CPU each",
            count / seconds
        );
        json!({"per_second": count / seconds, "cpu_us": micros})
    }
}

/// A measuring program reads the clock itself.
#[allow(clippy::disallowed_methods)]
fn begin() -> Instant {
    Instant::now()
}

async fn enrol(client: Client) {
    client.ready().await.expect("a genuine phone is enrolled");
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// Bytes of every file below.
fn on_disk(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory that can be read");
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => on_disk(&entry.path()),
        Ok(found) => found.len(),
        // Gone meanwhile.
        Err(_) => 0,
    };
    entries.flatten().map(size).sum()
}
