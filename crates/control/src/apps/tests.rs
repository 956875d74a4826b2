//! Simulated devices at the endpoints.

mod asked;
mod devices;
mod enrol;
mod observed;
mod others;
mod receipts;
mod refresh;
mod risk;
mod secrets;
mod step_up;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::body::Body;
use base::{Clock as _, Secret};
use config::App;
use http::{Method, Request};
use proof::attest::online::OnlineRequest;
use proof::attest::status::StatusList;
use proof::jose::base64url_encode;
use serde_json::{Value, json};
use sha::sha256;
use vouchgate_client::attester::{Attester, Platform};
use vouchgate_client::clock::SetClock;
use vouchgate_client::signer::Signer;
use vouchgate_client::simulator::{AndroidApp, AndroidPhone, Google};
use vouchgate_client::simulator::{Apple, Iphone};

use super::{AppCounts, Apps, AppsInForce, AppsParts, AskedError, Others, RevocationList, router};
use crate::admin::Pending;
use crate::fixture::{Answer, ELSEWHERE, EXTERNAL, Fixture, NOW, Outside, send};
use crate::oauth::AttemptLimits;
use crate::{ClientAddress, TlsFingerprint};

mod sha {
    pub(super) use super::super::evidence::sha256;
}

const TEAM: &str = "ABCDE12345.com.example.chat";
/// The secret that Approov's tokens are made with, in base64: a digest of its name.
const APPROOV: &str = "u2PMequIyJMZ+as4Uzw9QmT/8l/eaNTVW8XOsLXvds8=";
const DIGEST: [u8; 32] = [0x9f; 32];

const APPS: &str = r#"
[cors]
origins = ["https://app.example.com"]

[[app]]
name = "chat"
scopes = ["chat"]
user_token = "X-User-Authorization"
ios = { team = "ABCDE12345", bundle = "com.example.chat", categories = [4], min_version = "1" }

[app.android]
package = "com.example.chat"
digests = ["9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f9f"]
min_version = 7

[[app]]
name = "web"
proof = "dpop"
expose_reasons = true

[app.web]
origins = ["https://app.example.com"]
altcha = { cost = 1000, zeros = 1 }
turnstile = { secret = { env = "T" } }
"#;

/// The list of what is revoked, and what others answer.
struct Told {
    list: Mutex<Result<Arc<StatusList>, &'static str>>,
    answer: Mutex<Result<(u16, String), AskedError>>,
    /// Who was asked.
    asked: Mutex<Vec<String>>,
    /// With what.
    sent: Mutex<Vec<Vec<u8>>>,
}

impl RevocationList for Told {
    fn list(&self) -> Result<Arc<StatusList>, &'static str> {
        self.list.lock().unwrap().clone()
    }

    fn fetched_at(&self) -> Option<base::Timestamp> {
        Some(base::Timestamp::from_secs(NOW))
    }
}

impl Others for Told {
    fn post(&self, question: OnlineRequest, _: bool) -> Pending<'_, Result<(u16, Vec<u8>), AskedError>> {
        self.asked.lock().unwrap().push(question.url);
        self.sent.lock().unwrap().push(question.body.expose().clone());
        Box::pin(std::future::ready(
            self.answer.lock().unwrap().clone().map(|(status, body)| (status, body.into_bytes())),
        ))
    }
}

/// What Turnstile answers to what was solved on a page of the app.
fn solved() -> (u16, String) {
    let at = base::Timestamp::from_secs(NOW).rfc3339();
    (200, json!({"success": true, "challenge_ts": at, "hostname": "app.example.com"}).to_string())
}

/// Where the secrets of a configuration come from.
type Secrets<'a> = &'a dyn Fn(&str) -> Secret<String>;

/// An installation, its apps and their devices' makers.
struct World {
    fixture: Fixture,
    router: Router,
    apps: Arc<Apps>,
    told: Arc<Told>,
    counts: Arc<AppCounts>,
    clock: Arc<SetClock>,
    apple: Apple,
    google: Google,
    /// How whoever asks greets in TLS.
    fingerprint: Mutex<Option<&'static str>>,
    _roots: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::with(APPS, AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }).await
    }

    async fn with(toml: &str, limits: AttemptLimits) -> Self {
        Self::keeping(toml, limits, |what| {
            Secret::new(if what == "approov.secret" { APPROOV } else { "shh" }.to_owned())
        })
        .await
    }

    /// With these secrets, by the key they stand at.
    async fn keeping(toml: &str, limits: AttemptLimits, secret: fn(&str) -> Secret<String>) -> Self {
        Self::reaching(toml, limits, (Outside::default(), &secret)).await
    }

    /// The same with something outside to reach.
    async fn reaching(toml: &str, limits: AttemptLimits, (outside, secret): (Outside, Secrets<'_>)) -> Self {
        let (fixture, oauth) = Fixture::with_oauth(toml, outside).await;
        let clock = Arc::new(SetClock::at(NOW));
        let (apple, google) = (Apple::new(clock.clone()).unwrap(), Google::new(clock.clone()).unwrap());
        let roots = tempfile::tempdir().unwrap();
        let file = |name: &str, pem: String| {
            let path = roots.path().join(name);
            std::fs::write(&path, pem).unwrap();
            Some(path)
        };
        // As a configuration for development has it, which ours is not: it is reached from outside.
        let test_roots =
            config::TestRoots { apple: file("a.pem", apple.root_pem()), android: file("g.pem", google.root_pem()) };
        let with_roots = |app: &App| App { test_roots: Some(test_roots.clone()), ..app.clone() };
        let apps: Vec<App> = fixture.operations.file().apps.iter().map(with_roots).collect();
        let in_force = AppsInForce::compile(&apps, |_, key| Some(secret(key)));
        let told = Arc::new(Told {
            list: Mutex::new(Ok(Arc::new(StatusList::empty()))),
            answer: Mutex::new(Ok((200, json!({"success": false}).to_string()))),
            asked: Mutex::default(),
            sent: Mutex::default(),
        });
        let counts = Arc::<AppCounts>::default();
        let apps = Arc::new(Apps::new(AppsParts {
            operations: Arc::clone(&fixture.operations),
            oauth,
            in_force: Arc::new(ArcSwap::from_pointee(in_force)),
            listening: Vec::new(),
            limits,
            revoked: Arc::clone(&told) as Arc<dyn RevocationList>,
            others: Arc::clone(&told) as Arc<dyn Others>,
            counts: Arc::clone(&counts),
            remembered_since: base::Timestamp::from_secs(NOW - 600),
        }));
        let router = router(Arc::clone(&apps));
        Self { fixture, router, apps, told, counts, clock, apple, google, fingerprint: Mutex::default(), _roots: roots }
    }

    fn advance(&self, seconds: i64) {
        self.clock.advance(seconds);
        self.fixture.clock.advance(Duration::from_secs(seconds.unsigned_abs()));
    }

    fn iphone(&self) -> Iphone {
        Iphone::new(&self.apple, TEAM)
    }

    fn android(&self) -> AndroidPhone {
        let app = AndroidApp { package: "com.example.chat".to_owned(), version: 7, digest: DIGEST };
        AndroidPhone::new(&self.google, app).unwrap()
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, body, &[]).await
    }

    async fn post_with(&self, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.post_from(ELSEWHERE, path, body, headers).await
    }

    async fn post_from(&self, address: &str, path: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri(path).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(body.to_string())).unwrap();
        request.extensions_mut().insert(ClientAddress(address.parse().unwrap()));
        if let Some(fingerprint) = *self.fingerprint.lock().unwrap() {
            request.extensions_mut().insert(TlsFingerprint(fingerprint.into()));
        }
        send(&self.router, request).await
    }

    async fn challenge(&self, app: &str, platform: &str, jkt: Option<&str>) -> Value {
        let mut body = json!({"app": app, "platform": platform});
        if let Some(jkt) = jkt {
            body["jkt"] = jkt.into();
        }
        let answer = self.post("/attest/v1/challenge", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }

    /// What a device sends to enrol.
    async fn enrolment(&self, app: &str, device: &dyn Attester) -> (Value, Arc<dyn Signer>) {
        let key = device.new_key().unwrap();
        let jkt = key.as_ref().map(|key| key.public_jwk().thumbprint());
        let challenge = self.challenge(app, device.platform().name(), jkt.as_deref()).await;
        let client_data = client_data("enroll", app, &challenge["nonce"], jkt.as_deref(), &device.reported());
        let request = vouchgate_client::attester::Request { client_data: &client_data, challenge: &challenge };
        let given = device.attest(&request, key).unwrap();
        let proof = proof(&*given.signer, "enroll", &challenge["nonce"], &client_data);
        let body = json!({
            "client_data": base64url_encode(&client_data),
            "jwk": given.signer.public_jwk().to_json(),
            "evidence": given.evidence,
            "proof": proof,
        });
        (body, given.signer)
    }

    async fn enrol(&self, app: &str, device: &dyn Attester) -> Enrolled {
        let (body, key) = self.enrolment(app, device).await;
        let answer = self.post("/attest/v1/enroll", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        Enrolled { key, answer: answer.json() }
    }

    /// Why somebody was refused, as the operator finds it.
    async fn why(&self, answer: &Answer) -> String {
        assert_eq!(answer.status, 401, "{}", answer.text);
        let body = answer.json();
        let found = self.fixture.operations.arc_show(body["arc"].as_str().unwrap()).await.unwrap();
        assert_eq!(found.action.as_deref(), body["action"].as_str());
        found.reasons[0].clone()
    }

    fn counted(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (counted, count) in self.counts.all() {
            *all.entry(format!("{} {}", counted.step, counted.reason)).or_default() += count;
        }
        all
    }
}

/// An installation that has enrolled.
struct Enrolled {
    key: Arc<dyn Signer>,
    answer: Value,
}

impl Enrolled {
    fn id(&self) -> &str {
        self.answer["instance"].as_str().unwrap()
    }

    fn claims(&self) -> Value {
        claims(&self.answer)
    }
}

/// What the token of an answer says.
fn claims(answer: &Value) -> Value {
    let token = answer["access_token"].as_str().unwrap();
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&proof::jose::base64url_decode(payload).unwrap()).unwrap()
}

fn client_data(purpose: &str, app: &str, nonce: &Value, jkt: Option<&str>, reported: &[String]) -> Vec<u8> {
    let flags: serde_json::Map<String, Value> = reported.iter().map(|flag| (flag.clone(), true.into())).collect();
    let mut data =
        json!({"app": app, "flags": flags, "nonce": nonce, "purpose": purpose, "sdk": "1.0.0", "ts": NOW, "v": 1});
    if let Some(jkt) = jkt {
        data["jkt"] = jkt.into();
    }
    data.to_string().into_bytes()
}

fn proof(key: &dyn Signer, step: &str, nonce: &Value, client_data: &[u8]) -> String {
    let header = base64url_encode(r#"{"alg":"ES256","typ":"gw-pop+jwt"}"#);
    let payload = json!({"cd": base64url_encode(sha256(client_data)), "htu": format!("{EXTERNAL}/attest/v1/{step}"), "nonce": nonce});
    let input = format!("{header}.{}", base64url_encode(payload.to_string()));
    let signature = key.sign(input.as_bytes()).unwrap();
    format!("{input}.{}", base64url_encode(signature))
}

#[test]
fn platforms_are_called_the_same_here_and_in_the_client() {
    assert_eq!(
        [Platform::Ios, Platform::Android, Platform::Web].map(Platform::name),
        config::Platform::ALL.map(config::Platform::as_str)
    );
}

/// What a device sends for its next token.
fn next_token(app: &str, device: &dyn Attester, of: &Enrolled) -> Value {
    next_token_holding(app, device, of, None)
}

/// The same, with what it says of the configuration it holds.
fn next_token_holding(app: &str, device: &dyn Attester, of: &Enrolled, config: Option<Value>) -> Value {
    let jkt = of.key.public_jwk().thumbprint();
    let nonce = &of.answer["nonce"];
    let mut client_data = client_data("refresh", app, nonce, Some(&jkt), &device.reported());
    if let Some(config) = config {
        let mut said: Value = serde_json::from_slice(&client_data).unwrap();
        said["config"] = config;
        client_data = said.to_string().into_bytes();
    }
    let mut body = json!({
        "instance": of.answer["instance"],
        "client_data": base64url_encode(&client_data),
        "proof": proof(&*of.key, "token", nonce, &client_data),
    });
    if let Some(assertion) = device.assert(&client_data).unwrap() {
        body["assertion"] = base64url_encode(assertion).into();
    }
    body
}
