//! Somebody between the app and the gateway, with a certificate that the device trusts; and what the app is told over the
//! air.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::certs::{Authority, Identity};
use testkit::intercept::Intercept;
use vouchgate_client::clock::{Clock, SetClock};
use vouchgate_client::signer::{Signer, SoftwareKey};
use vouchgate_client::simulator::{Apple, Iphone};
use vouchgate_client::{Client, Memory, Options, Stale, Status, Volatile};

use crate::gateway::{Gateway, accepting, refusal};

const NOW: i64 = 1_795_219_200;

/// An app on a phone, a gateway, and somebody between.
struct World {
    clock: Arc<SetClock>,
    iphone: Arc<Iphone>,
    genuine: Authority,
    /// What its owner, or somebody for them, put into the phone's trust.
    installed: Authority,
    gateway: Gateway,
    between: Intercept,
    root: SoftwareKey,
    config_key: SoftwareKey,
    /// What is published; empty: nothing.
    published: Arc<Mutex<String>>,
    memory: Arc<Volatile>,
}

impl World {
    async fn new() -> Self {
        let clock = Arc::new(SetClock::at(NOW));
        let apple = Apple::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let iphone = Arc::new(Iphone::new(&apple, "ABCDE12345.com.example.chat"));
        let (genuine, installed) = (Authority::new(), Authority::new());
        let identity = genuine.server(&["localhost"]);
        let published = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&published);
        let gateway = Gateway::with(Some(&identity), move |asked, before| {
            if asked.path.starts_with("/.well-known/gateway-config/") {
                let text = text.lock().unwrap().clone();
                return if text.is_empty() { refusal(404, "none") } else { Response::new(Full::from(text)) };
            }
            accepting(asked, before).unwrap_or_else(|| Response::new(Full::new(Bytes::from_static(b"done"))))
        })
        .await;
        let between = Intercept::before(gateway.address(), &genuine).await;
        let world = Self {
            clock,
            iphone,
            genuine,
            installed,
            gateway,
            between,
            root: SoftwareKey::generate().unwrap(),
            config_key: SoftwareKey::generate().unwrap(),
            published,
            memory: Arc::default(),
        };
        world.publish(1, &[spki(&identity)], &json!({}));
        world
    }

    fn publish(&self, seq: u64, pins: &[[u8; 32]], changed: &Value) {
        let pins: Vec<Value> =
            pins.iter().map(|pin| json!({"spki_sha256": STANDARD.encode(pin), "role": "current"})).collect();
        let mut config = json!({"v": 1, "app": "chat", "seq": seq, "iat": NOW, "exp": NOW + 86_400,
            "refresh_after": 600, "hosts": [{"host": "localhost", "enforce": true, "pins": pins}]});
        for (name, value) in changed.as_object().unwrap() {
            config[name] = value.clone();
        }
        let claims = json!({"jwk": self.config_key.public_jwk().to_json(), "iat": NOW, "nbf": NOW,
                            "exp": NOW + 90 * 86_400});
        let kid = self.root.public_jwk().thumbprint();
        let delegation = signed(&self.root, &json!({"alg": "ES256", "typ": "gw-delegation+jws", "kid": kid}), &claims);
        let header = json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": delegation});
        *self.published.lock().unwrap() = signed(&self.config_key, &header, &config);
    }

    fn options(&self, pinned: bool) -> Options {
        let url = format!("https://localhost:{}", self.between.address().port());
        Options {
            extra_roots: vec![der(&self.genuine.pem()), der(&self.installed.pem())],
            config_roots: if pinned { vec![self.root.public_jwk()] } else { Vec::new() },
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            memory: Arc::clone(&self.memory) as Arc<dyn Memory>,
            ..Options::new(&url, "chat")
        }
    }

    fn client(&self, pinned: bool) -> Client {
        Client::new(self.options(pinned), Arc::clone(&self.iphone) as _).unwrap()
    }

    fn intercept(&self) {
        self.between.intercept(&self.installed.server(&["localhost"]));
    }
}

fn signed(key: &SoftwareKey, header: &Value, payload: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let input = format!("{}.{}", part(header), part(payload));
    format!("{input}.{}", URL_SAFE_NO_PAD.encode(key.sign(input.as_bytes()).unwrap()))
}

fn der(pem: &str) -> Vec<u8> {
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

/// The pin of an identity's key.
fn spki(identity: &Identity) -> [u8; 32] {
    use aws_lc_rs::digest::{SHA256, digest};
    let certificate = rustls::pki_types::CertificateDer::from(identity.der().to_vec());
    let key = rustls::server::ParsedCertificate::try_from(&certificate).unwrap().subject_public_key_info();
    digest(&SHA256, key.as_ref()).as_ref().try_into().unwrap()
}

fn ask() -> Request<Bytes> {
    Request::post("/v1/chat").header("content-type", "text/plain").body(Bytes::from_static(b"Hello")).unwrap()
}

#[tokio::test]
async fn with_pins_nothing_is_sent_to_somebody_between() {
    let world = World::new().await;
    let client = world.client(true);
    assert_eq!(client.send(ask()).await.unwrap().status, 200);
    assert_eq!(client.config().unwrap().seq, 1);
    let before = world.gateway.asked().len();
    world.intercept();
    // A new process: connections made before are the genuine ones.
    let client = world.client(true);
    let error = client.send(ask()).await.unwrap_err();
    assert_eq!((error.status(), error.reason()), (Status::MitmDetected, "pin_mismatch"));
    let overheard = world.between.overheard();
    let paths: Vec<&str> = overheard.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(paths, ["/.well-known/gateway-config/chat"], "only what is public and signed was read");
    assert_eq!(world.gateway.asked().len(), before + 1);
    let reports = client.take_pin_reports();
    assert!(reports.len() == 1 && reports[0].refused && reports[0].host == "localhost", "{reports:?}");
}

#[tokio::test]
async fn without_pins_the_system_s_trust_lets_somebody_between_in() {
    let world = World::new().await;
    world.intercept();
    let client = world.client(false);
    assert_eq!(client.send(ask()).await.unwrap().status, 200);
    assert!(world.between.overheard().iter().any(|one| one.path == "/v1/chat" && one.body == "Hello"));
    // A certificate nobody vouches for is still refused.
    world.between.intercept(&Authority::new().server(&["localhost"]));
    let error = world.client(false).ready().await.unwrap_err();
    assert_eq!(error.status(), Status::Untrusted);
}

#[tokio::test]
async fn somebody_between_cannot_give_a_configuration_of_their_own() {
    let world = World::new().await;
    world.intercept();
    let own = spki(&world.installed.server(&["localhost"]));
    let stranger = World::new().await;
    stranger.publish(9, &[own], &json!({}));
    let genuine = world.published.lock().unwrap().clone();
    let by_stranger = stranger.published.lock().unwrap().clone();
    for forged in [by_stranger, String::new(), genuine.replace('.', "x."), "{}".into()] {
        *world.published.lock().unwrap() = forged;
        let error = world.client(true).send(ask()).await.unwrap_err();
        assert!([Status::ConfigStale, Status::Rejected].contains(&error.status()), "{error}");
    }
    assert!(world.between.overheard().iter().all(|one| one.path.starts_with("/.well-known/")));
}

#[tokio::test]
async fn a_configuration_is_not_rolled_back_not_even_by_a_restart() {
    let world = World::new().await;
    let identity = world.genuine.server(&["localhost"]);
    let old = world.published.lock().unwrap().clone();
    world.publish(5, &[spki(&identity)], &json!({"kill": {"pinning": true}}));
    let client = world.client(true);
    assert_eq!(client.update_config().await.unwrap().seq, 5);
    *world.published.lock().unwrap() = old;
    let error = client.update_config().await.unwrap_err();
    assert_eq!(error.reason(), "config_rolled_back");
    let again = world.client(true);
    assert_eq!(again.update_config().await.unwrap_err().reason(), "config_rolled_back");
    assert_eq!(again.config().unwrap().seq, 5, "the last good one stays");
    assert_eq!(again.send(ask()).await.unwrap().status, 200);
}

#[tokio::test]
async fn what_has_expired_closes_or_leaves_it_to_the_system() {
    let world = World::new().await;
    let client = world.client(true);
    assert_eq!(client.send(ask()).await.unwrap().status, 200);
    world.clock.advance(86_400);
    assert_eq!(client.send(ask()).await.unwrap_err().status(), Status::ConfigStale);
    let options = Options { stale: Stale::SystemTrust, ..world.options(true) };
    let open = Client::new(options, Arc::clone(&world.iphone) as _).unwrap();
    assert_eq!(open.send(ask()).await.unwrap().status, 200);
    // Whoever has a newer one goes on.
    world.publish(2, &[[7; 32]], &json!({"exp": NOW + 10 * 86_400, "kill": {"pinning": true}}));
    assert_eq!(world.client(true).send(ask()).await.unwrap().status, 200);
}

#[tokio::test]
async fn pins_are_switched_off_and_only_reported_over_the_air() {
    let world = World::new().await;
    world.publish(2, &[[7; 32]], &json!({}));
    assert_eq!(world.client(true).send(ask()).await.unwrap_err().status(), Status::MitmDetected);
    let hosts = |enforce: Value| {
        json!([{"host": "localhost", "enforce": enforce, "pins": [
            {"spki_sha256": STANDARD.encode([7; 32]), "role": "current"}]}])
    };
    world.publish(3, &[], &json!({"hosts": hosts(json!("report"))}));
    let client = world.client(true);
    client.update_config().await.unwrap();
    assert_eq!(client.send(ask()).await.unwrap().status, 200);
    let told =
        world.gateway.asked().iter().any(|asked| {
            asked.path == "/attest/v1/enroll" && asked.client_data()["flags"]["user_ca_installed"] == true
        });
    assert!(told, "the gateway is told that a key was seen which is not pinned");
    assert!(client.take_pin_reports().iter().all(|report| !report.refused));
    world.publish(4, &[], &json!({"hosts": hosts(json!(true)), "kill": {"attest": true, "pinning": true}}));
    let client = world.client(true);
    client.update_config().await.unwrap();
    assert_eq!(client.send(ask()).await.unwrap_err().status(), Status::Disabled);
}

#[tokio::test]
async fn what_was_connected_before_keys_were_enforced_is_not_used_afterwards() {
    let world = World::new().await;
    world.intercept();
    let genuine = spki(&world.genuine.server(&["localhost"]));
    let hosts = |enforce: Value| {
        json!({"hosts": [{"host": "localhost", "enforce": enforce, "pins": [
            {"spki_sha256": STANDARD.encode(genuine), "role": "current"}]}]})
    };
    world.publish(2, &[], &hosts(json!("report")));
    let client = world.client(true);
    assert_eq!(client.send(ask()).await.unwrap().status, 200, "only reported");
    let read = |world: &World| world.between.overheard().iter().filter(|one| one.path == "/v1/chat").count();
    let before = read(&world);
    world.publish(3, &[], &hosts(json!(true)));
    assert_eq!(client.update_config().await.unwrap().seq, 3);
    // Neither the connection that is open nor the session it could be resumed by.
    let error = client.send(ask()).await.unwrap_err();
    assert_eq!((error.status(), error.reason()), (Status::MitmDetected, "pin_mismatch"));
    assert_eq!(read(&world), before, "nothing more was read");
}

#[tokio::test]
async fn another_configuration_of_the_same_number_is_not_taken() {
    let world = World::new().await;
    let client = world.client(true);
    assert_eq!(client.update_config().await.unwrap().seq, 1);
    world.publish(1, &[[7; 32]], &json!({"kill": {"pinning": true}}));
    assert_eq!(client.update_config().await.unwrap_err().reason(), "config_rolled_back");
    assert!(!client.config().unwrap().kill_pinning);
}
