//! What apps are told, from the first root key to the next certificate.

use std::path::PathBuf;
use std::time::Duration;

use base::{Clock, Timestamp};
use http::{Method, StatusCode};
use proof::app_config::{AppConfig, ConfigError, Role, Rules, Seen, delegate, pin_text, verify};
use proof::jose::{KeySet, SigningAlg, SigningKey};
use serde_json::{Value, json};
use testkit::certs::{Authority, Identity};

use crate::fixture::{Answer, Fixture, send};

const HOST: &str = "ai.example.com";
const DAY: Duration = Duration::from_hours(24);

struct World {
    fixture: Fixture,
    root: SigningKey,
    roots: KeySet,
    authority: Authority,
    files: tempfile::TempDir,
}

/// What the pin set says, beside its name and host.
const NEXT: &str = "next_file = \"FILES/next.pem\"";

async fn world(pins: &str) -> World {
    let files = tempfile::tempdir().unwrap();
    let (root, spare) =
        (SigningKey::generate(SigningAlg::Es256).unwrap(), SigningKey::generate(SigningAlg::Es256).unwrap());
    for (name, key) in [("root.jwk", &root), ("spare.jwk", &spare)] {
        std::fs::write(files.path().join(name), key.public_jwk().to_string()).unwrap();
    }
    let toml = format!(
        "tls = {{ cert = \"FILES/cert.pem\", key = \"FILES/key.pem\" }}\n\
         [app_config]\nroots = [\"FILES/root.jwk\", \"FILES/spare.jwk\"]\nmin_sdk = \"1.2.0\"\n\
         [[app]]\nname = \"chat-ios\"\nios = {{ team = \"ABCDE12345\", bundle = \"com.example.chat\" }}\n\
         [[pins]]\nname = \"api\"\nhost = \"{HOST}\"\napps = [\"chat-ios\"]\n{pins}\n"
    );
    let toml = toml.replace("FILES", files.path().to_str().unwrap());
    let roots = json!({ "keys": [root.public_jwk(), spare.public_jwk()] }).to_string();
    let roots = KeySet::from_published(roots.as_bytes()).unwrap();
    let world = World { fixture: Fixture::with(&toml).await, root, roots, authority: Authority::new(), files };
    world.show(&world.authority.server(&[HOST, "127.0.0.1"]));
    std::fs::write(world.file("next.pem"), world.authority.server(&[HOST]).key_pem).unwrap();
    world
}

/// The pin of an identity's key.
fn pin(identity: &Identity) -> String {
    pin_text(&proof::app_config::pin_of_pem(identity.cert_pem.as_bytes()).unwrap())
}

impl World {
    fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// Have the listener show a certificate.
    fn show(&self, identity: &Identity) {
        std::fs::write(self.file("cert.pem"), &identity.cert_pem).unwrap();
        std::fs::write(self.file("key.pem"), &identity.key_pem).unwrap();
    }

    fn now(&self) -> Timestamp {
        self.fixture.clock.now()
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.fixture.owner(Method::POST, &format!("/admin/v1{path}"), Some(body)).await
    }

    async fn publish(&self) -> Answer {
        self.post("/app-configs/chat-ios/publish", json!({})).await
    }

    /// What a root key says of the key that waits, for so many days.
    async fn vouched(&self, days: i64) -> String {
        let key = self.fixture.owner(Method::POST, "/admin/v1/config-keys", None).await.json();
        let now = self.now();
        let end = now.plus(DAY * u32::try_from(days).unwrap());
        delegate(&self.root, &key["public_jwk"], (now, now, end)).unwrap()
    }

    async fn vouch(&self) {
        let delegation = self.vouched(90).await;
        let answer = self.post("/config-keys/accept", json!({ "delegation": delegation })).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        assert_eq!(answer.json()["state"], "active");
    }

    async fn fetch(&self, headers: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::builder().uri("/.well-known/gateway-config/chat-ios");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        send(&self.fixture.public, request.body(axum::body::Body::empty()).unwrap()).await
    }

    fn verify(&self, text: &str, seen: Option<Seen>) -> Result<AppConfig, ConfigError> {
        let rules = Rules { roots: &self.roots, app: "chat-ios", now: self.now(), seen };
        verify(text, &rules).map(|verified| verified.config)
    }

    async fn told(&self) -> AppConfig {
        self.verify(&self.fetch(&[]).await.text, None).unwrap()
    }

    async fn plan(&self) -> Value {
        self.fixture.owner(Method::GET, "/admin/v1/cert-plan", None).await.json()
    }

    /// The steps of the one host: what, and whether today.
    async fn steps(&self) -> Vec<(String, bool)> {
        let plan = self.plan().await;
        let steps = plan["hosts"][0]["steps"].as_array().unwrap();
        steps.iter().map(|step| (step["step"].as_str().unwrap().to_owned(), step["safe"] == true)).collect()
    }
}

fn roles(config: &AppConfig) -> Vec<(&str, Role)> {
    config.hosts[0].pins.iter().map(|pin| (pin.spki_sha256.as_str(), pin.role)).collect()
}

#[tokio::test]
async fn an_app_is_told_the_keys_that_the_listener_shows_and_will_show() {
    let world = world(NEXT).await;
    assert_eq!(world.publish().await.code(), "config_key_missing");
    assert_eq!(world.fetch(&[]).await.status, StatusCode::NOT_FOUND);
    world.vouch().await;
    let (current, next) = (world.authority.server(&[HOST]), world.authority.server(&[HOST]));
    world.show(&current);
    std::fs::write(world.file("next.pem"), &next.cert_pem).unwrap();
    let answer = world.publish().await;
    assert_eq!((answer.status, &answer.json()["seq"]), (StatusCode::OK, &json!(1)), "{}", answer.text);
    assert!(answer.json().get("warnings").is_none(), "{}", answer.text);

    let served = world.fetch(&[]).await;
    assert_eq!(
        (served.header("content-type"), served.header("cache-control")),
        ("application/jose", "public, max-age=60")
    );
    let told = world.verify(&served.text, None).unwrap();
    assert_eq!(roles(&told), [(&*pin(&current), Role::Current), (&*pin(&next), Role::Next)]);
    assert_eq!((told.seq, told.exp - told.iat, told.refresh_after), (1, 14 * 86_400, 6 * 3600));
    assert_eq!(told.min_sdk.as_deref(), Some("1.2.0"));
    assert_eq!(told.endpoints["config"], "https://ai.example.com/.well-known/gateway-config/chat-ios");
    assert_eq!(world.fetch(&[("if-none-match", served.header("etag"))]).await.status, StatusCode::NOT_MODIFIED);
    assert_eq!(world.publish().await.json()["seq"], 2);
    let again = world.fetch(&[("if-none-match", served.header("etag"))]).await;
    assert_eq!(again.status, StatusCode::OK);
    let seen = Some(Seen { seq: 2, delegated_at: 0 });
    assert_eq!(world.verify(&served.text, seen).unwrap_err(), ConfigError::RolledBack);
    for path in ["/app-configs/other/publish", "/app-configs/other/kill"] {
        assert_eq!(world.post(path, json!({})).await.status, StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn what_the_listener_does_not_show_is_not_published() {
    let some = "sha256/MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    for (pins, reason) in [
        ("", "pins_no_next"),
        ("next_file = \"FILES/key.pem\"", "pins_one_key"),
        ("next_file = \"FILES/none.pem\"", "pins_key_file"),
        ("next_file = \"FILES/root.jwk\"", "pins_key_file"),
        (&format!("{NEXT}\ncurrent = \"{some}\""), "pins_not_served"),
    ] {
        let world = world(pins).await;
        world.vouch().await;
        let answer = world.publish().await;
        assert_eq!(
            (answer.status, answer.code()),
            (StatusCode::CONFLICT, reason.to_owned()),
            "{pins}: {}",
            answer.text
        );
        assert_eq!(world.fetch(&[]).await.status, StatusCode::NOT_FOUND, "{pins}");
    }
    let world = world(NEXT).await;
    world.vouch().await;
    world.show(&world.authority.server(&["other.example.com"]));
    assert_eq!(world.publish().await.code(), "pins_other_host");
    world.show(&world.authority.server(&["*.example.com"]));
    assert_eq!(world.publish().await.status, StatusCode::OK);
    std::fs::remove_file(world.file("cert.pem")).unwrap();
    assert_eq!(world.publish().await.code(), "pins_no_current");
}

#[tokio::test]
async fn where_tls_ends_elsewhere_the_current_key_is_said() {
    let some = "sha256/MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let world = world(&format!("{NEXT}\ncurrent = \"{some}\"\nmode = \"report\"\nbackup = [\"{some}\"]")).await;
    world.vouch().await;
    world.show(&world.authority.server(&["inside.example.com"]));
    let answer = world.publish().await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let host = &answer.json()["hosts"][0];
    assert_eq!((&host["mode"], &host["pins"][0]["pin"]), (&json!("report"), &json!(some)));
    assert_eq!(host["pins"].as_array().unwrap().len(), 2, "a key is told of once");
}

#[tokio::test]
async fn a_configuration_is_made_anew_after_half_of_its_time() {
    let world = world(NEXT).await;
    world.vouch().await;
    let (current, next) = (world.authority.server(&[HOST]), world.authority.server(&[HOST]));
    world.show(&current);
    std::fs::write(world.file("next.pem"), &next.key_pem).unwrap();
    world.publish().await;
    let maintain = async || world.fixture.operations.app_configs_maintain().await.unwrap();
    world.fixture.clock.advance(DAY * 6);
    assert!(maintain().await.is_empty());
    assert_eq!(world.told().await.seq, 1);
    world.fixture.clock.advance(DAY);
    assert!(maintain().await.is_empty());
    let told = world.told().await;
    assert_eq!((told.seq, told.iat), (2, world.now().as_secs()));
    assert_eq!(roles(&told), [(&*pin(&current), Role::Current), (&*pin(&next), Role::Next)]);

    // The next key is shown: the old one is told of for as long as anybody may go by it.
    world.show(&next);
    world.fixture.clock.advance(DAY * 7);
    assert!(maintain().await.is_empty());
    let told = world.told().await;
    assert_eq!(roles(&told), [(&*pin(&current), Role::Backup), (&*pin(&next), Role::Current)]);
    assert_eq!(told.hosts[0].pins[0].exp, Some(world.now().plus(DAY * 21).as_secs()));

    // A key nobody is told of: apps would be told what is not so.
    world.show(&world.authority.server(&[HOST]));
    world.fixture.clock.advance(DAY * 7);
    let left = maintain().await;
    assert_eq!(
        left.iter().map(|(app, error)| (app.as_str(), error.reason())).collect::<Vec<_>>(),
        [("chat-ios", "pins_not_served")]
    );
    world.show(&next);
    for _ in 0..3 {
        assert!(maintain().await.is_empty());
        world.fixture.clock.advance(DAY * 7);
    }
    assert_eq!(roles(&world.told().await), [(&*pin(&next), Role::Current)], "the old one is dropped by itself");
}

#[tokio::test]
async fn an_old_key_is_dropped_at_once_where_that_is_asked_for() {
    let world = world(NEXT).await;
    world.vouch().await;
    let (old, new) = (world.authority.server(&[HOST]), world.authority.server(&[HOST]));
    world.show(&old);
    world.publish().await;
    world.show(&new);
    let answer = world.publish().await;
    assert!(answer.json()["warnings"][0].as_str().unwrap().contains("not told of so far"), "{}", answer.text);
    let told = world.told().await;
    assert_eq!(roles(&told)[2], (&*pin(&old), Role::Backup));
    let drop = json!({ "drop": [format!("sha256/{}", pin(&old))] });
    assert_eq!(world.post("/app-configs/chat-ios/publish", drop).await.status, StatusCode::OK);
    assert!(world.told().await.hosts[0].pins.iter().all(|known| known.spki_sha256 != pin(&old)));
    let wrong = world.post("/app-configs/chat-ios/publish", json!({ "drop": ["sha256/x"] })).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_switch_reaches_apps_with_nothing_else_changed() {
    let world = world(NEXT).await;
    world.vouch().await;
    world.publish().await;
    let before = world.told().await;
    let answer = world.post("/app-configs/chat-ios/kill", json!({ "pinning": true })).await;
    assert_eq!((&answer.json()["kill_pinning"], &answer.json()["kill_attest"]), (&json!(true), &json!(false)));
    let told = world.told().await;
    assert!(told.kill.pinning && !told.kill.attest && told.seq == 2 && told.hosts == before.hosts);
    world.publish().await;
    assert!(world.told().await.kill.pinning, "it stays until it is taken back");
    world.post("/app-configs/chat-ios/kill", json!({ "pinning": false, "attest": true })).await;
    let told = world.told().await;
    assert!(!told.kill.pinning && told.kill.attest);
}

#[tokio::test]
async fn the_configuration_key_is_replaced_and_apps_go_on() {
    let world = world(NEXT).await;
    world.vouch().await;
    world.publish().await;
    let first = world.fetch(&[]).await.text;
    let older = world.vouched(90).await;
    world.fixture.clock.advance(DAY);
    world.vouch().await;
    let second = world.fetch(&[]).await.text;
    let told = world.verify(&second, Some(Seen { seq: 1, delegated_at: world.now().as_secs() })).unwrap();
    assert_eq!(told.seq, 2, "every app is told anew");
    assert_eq!(
        world.verify(&first, Some(Seen { seq: 1, delegated_at: world.now().as_secs() })).unwrap_err(),
        ConfigError::DelegationReplaced
    );
    let keys = world.fixture.owner(Method::GET, "/admin/v1/config-keys", None).await.json();
    let mut states: Vec<_> =
        keys["items"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap()).collect();
    states.sort_unstable();
    assert_eq!(states, ["active", "gone"]);
    assert_eq!(world.post("/config-keys/accept", json!({ "delegation": older })).await.code(), "invalid_value");
}

#[tokio::test]
async fn only_a_root_key_vouches_and_only_for_a_key_that_is_here() {
    let world = world(NEXT).await;
    let stranger = SigningKey::generate(SigningAlg::Es256).unwrap();
    let key = world.fixture.owner(Method::POST, "/admin/v1/config-keys", None).await.json();
    let again = world.fixture.owner(Method::POST, "/admin/v1/config-keys", None).await.json();
    assert_eq!(key, again, "one key waits");
    let (now, end) = (world.now(), world.now().plus(DAY));
    for delegation in [
        delegate(&stranger, &key["public_jwk"], (now, now, end)).unwrap(),
        delegate(&world.root, stranger.public_jwk(), (now, now, end)).unwrap(),
        delegate(&world.root, &key["public_jwk"], (now, now.plus(DAY), end.plus(DAY))).unwrap(),
        delegate(&world.root, &key["public_jwk"], (now, now.minus(DAY), now)).unwrap(),
        "nonsense".to_owned(),
    ] {
        let answer = world.post("/config-keys/accept", json!({ "delegation": delegation })).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_value".to_owned()));
    }
    assert_eq!(world.publish().await.code(), "config_key_missing");
}

#[tokio::test]
async fn a_configuration_never_outlives_the_delegation() {
    let world = world(NEXT).await;
    let delegation = world.vouched(3).await;
    world.post("/config-keys/accept", json!({ "delegation": delegation })).await;
    world.publish().await;
    let told = world.told().await;
    assert_eq!(told.exp - told.iat, 3 * 86_400);
    assert_eq!(world.steps().await.last().unwrap(), &("delegate".to_owned(), true));
    world.fixture.clock.advance(DAY * 3);
    let left = world.fixture.operations.app_configs_maintain().await.unwrap();
    assert_eq!(left[0].1.reason(), "delegation_expired");
    assert_eq!(world.verify(&world.fetch(&[]).await.text, None).unwrap_err(), ConfigError::Expired);
    world.vouch().await;
    assert_eq!(world.told().await.seq, 2);
}

#[tokio::test]
async fn the_timetable_says_what_is_safe_today() {
    let world = world(NEXT).await;
    let all = |steps: &[(&str, bool)]| steps.iter().map(|(step, safe)| ((*step).to_owned(), *safe)).collect::<Vec<_>>();
    world.vouch().await;
    assert_eq!(world.steps().await, all(&[("publish", true)]));
    let (first, second) = (world.authority.server(&[HOST]), world.authority.server(&[HOST]));
    world.show(&first);
    std::fs::write(world.file("next.pem"), &second.key_pem).unwrap();
    world.publish().await;
    assert_eq!(world.steps().await, all(&[("switch", true)]), "nobody was told anything else before");

    // Another key is to follow instead: what apps were told so far does not name it.
    let third = world.authority.server(&[HOST]);
    std::fs::write(world.file("next.pem"), &third.key_pem).unwrap();
    assert_eq!(world.steps().await, all(&[("publish", true)]));
    world.fixture.clock.advance(DAY);
    world.publish().await;
    assert_eq!(world.steps().await, all(&[("wait", true), ("switch", false)]));
    let plan = world.plan().await;
    let from = Timestamp::parse_rfc3339(plan["hosts"][0]["keys"][1]["safe_from"].as_str().unwrap()).unwrap();
    assert_eq!(from, world.now().plus(DAY * 20), "the end of the configuration before, and a week offline");

    // Switched too early: some apps refuse the host, and the timetable says until when.
    world.show(&third);
    assert_eq!(world.steps().await[0], ("repair".to_owned(), true));
    assert_eq!(world.plan().await["ok"], false);
    world.show(&first);
    for _ in 0..5 {
        world.fixture.clock.advance(DAY * 4);
        world.fixture.operations.app_configs_maintain().await.unwrap();
    }
    assert_eq!(world.steps().await, all(&[("switch", true)]));
    world.show(&third);
    std::fs::write(world.file("next.pem"), world.authority.server(&[HOST]).key_pem).unwrap();
    world.publish().await;
    let steps = world.steps().await;
    assert_eq!(steps, all(&[("wait", true), ("switch", false), ("drop", false)]));
    assert_eq!(world.plan().await["ok"], true);
    // A certificate of a key that nobody is told of.
    world.show(&world.authority.server(&[HOST]));
    assert_eq!(world.steps().await[0], ("repair".to_owned(), true));
}

#[tokio::test]
async fn pin_sets_are_resources_that_name_no_file_of_this_machine() {
    let world = world(NEXT).await;
    let put = async |body: Value| world.fixture.owner(Method::PUT, "/admin/v1/pins/web", Some(body)).await;
    let answer = put(json!({ "host": "web.example.com", "next_file": "/etc/passwd" })).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::UNPROCESSABLE_ENTITY, "invalid_resource".to_owned()));
    let hash = "sha256/MTEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    assert_eq!(
        put(json!({ "host": HOST, "next": hash })).await.code(),
        "invalid_resource",
        "an app is told of it already"
    );
    assert_eq!(put(json!({ "host": "web.example.com", "next": hash })).await.status, StatusCode::CREATED);
    let listed = world.fixture.owner(Method::GET, "/admin/v1/pins", None).await.json();
    let sources: Vec<_> = listed["items"].as_array().unwrap().iter().map(|item| item["source"].clone()).collect();
    assert_eq!(sources, ["file", "api"]);
}
