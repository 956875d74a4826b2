//! Enrolment, refresh and requests, also when they go wrong.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use vouchgate_client::clock::{Clock, SetClock};
use vouchgate_client::simulator::{AndroidApp, AndroidPhone, Apple, Google, Iphone};
use vouchgate_client::{Client, Error, Memory, Options, Proof, Status, Volatile};

use crate::gateway::{Asked, Gateway, accepting, decoded, refusal};

const NOW: i64 = 1_795_219_200;

struct World {
    clock: Arc<SetClock>,
    iphone: Arc<Iphone>,
    memory: Arc<Volatile>,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(SetClock::at(NOW));
        let apple = Apple::new(Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let iphone = Arc::new(Iphone::new(&apple, "ABCDE12345.com.example.chat"));
        Self { clock, iphone, memory: Arc::default() }
    }

    fn options(&self, gateway: &Gateway) -> Options {
        Options {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            memory: Arc::clone(&self.memory) as Arc<dyn Memory>,
            ..Options::new(&gateway.url(), "chat")
        }
    }

    fn client(&self, gateway: &Gateway) -> Client {
        Client::new(self.options(gateway), Arc::clone(&self.iphone) as _).unwrap()
    }
}

fn ok() -> Response<Full<Bytes>> {
    Response::new(Full::new(Bytes::from_static(b"done")))
}

fn post(path: &str) -> Request<Bytes> {
    let request =
        Request::post(path).header("content-type", "application/json").header("x-api-key", "sk-of-a-provider");
    request.body(Bytes::from_static(b"{\"a\":1}")).unwrap()
}

async fn status(client: &Client, path: &str) -> StatusCode {
    client.send(post(path)).await.unwrap().status
}

fn names(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|asked| asked.path.as_str()).collect()
}

#[tokio::test]
async fn the_first_request_enrols_and_the_next_only_signs() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = world.client(&gateway);
    let answer = client.send(post("/v1/chat/completions?x=1")).await.unwrap();
    assert_eq!(answer.bytes(100).await.unwrap(), "done");
    assert_eq!(status(&client, &format!("{}/v1/models", gateway.url())).await, 200);
    let asked = gateway.asked();
    let paths = ["/attest/v1/challenge", "/attest/v1/enroll", "/v1/chat/completions?x=1", "/v1/models"];
    assert_eq!(names(&asked), paths);
    let enrolled = asked[1].json();
    let client_data = asked[1].client_data();
    assert_eq!((&client_data["purpose"], &client_data["nonce"]), (&"enroll".into(), &"nonce-0".into()));
    assert_eq!(client_data["jkt"], asked[0].json()["jkt"]);
    assert_eq!(enrolled["evidence"]["type"], "apple-app-attest");
    let sent = &asked[2].headers;
    assert_eq!(sent["authorization"], "Bearer token-1");
    assert!(sent.contains_key("signature") && sent.contains_key("content-digest") && !sent.contains_key("x-api-key"));
    assert_ne!(sent["signature-input"], asked[3].headers["signature-input"], "each signature counts once");
}

#[tokio::test]
async fn a_hundred_requests_at_once_enrol_once() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = world.client(&gateway);
    let all = futures_util::future::join_all((0..100).map(|_| status(&client, "/v1/models"))).await;
    assert!(all.iter().all(|status| *status == 200));
    assert_eq!((gateway.count("/attest/v1/enroll"), gateway.count("/v1/models")), (1, 100));
}

#[tokio::test]
async fn a_token_is_replaced_before_it_ends_with_the_nonce_that_came_with_it() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = world.client(&gateway);
    assert_eq!(status(&client, "/v1/models").await, 200);
    world.clock.advance(269);
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!(gateway.count("/attest/v1/token"), 0);
    world.clock.advance(1);
    assert_eq!(status(&client, "/v1/models").await, 200);
    let asked = gateway.asked();
    let refresh = asked.iter().find(|asked| asked.path == "/attest/v1/token").unwrap();
    assert_eq!(gateway.count("/attest/v1/challenge"), 1, "no challenge for a refresh");
    let client_data = refresh.client_data();
    assert_eq!((&client_data["nonce"], &client_data["purpose"]), (&"next".into(), &"refresh".into()));
    assert!(refresh.json()["assertion"].is_string(), "an iPhone asserts anew");
    assert_eq!(refresh.json()["instance"], "i-1");
}

#[tokio::test]
async fn a_nonce_that_has_ended_is_replaced() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        let stale = asked.path == "/attest/v1/token" && asked.client_data()["nonce"] == "next";
        if stale { refusal(401, "refresh") } else { accepting(asked, before).unwrap_or_else(ok) }
    })
    .await;
    let client = world.client(&gateway);
    client.ready().await.unwrap();
    client.refresh().await.unwrap();
    assert_eq!((gateway.count("/attest/v1/challenge"), gateway.count("/attest/v1/token")), (2, 2));
}

#[tokio::test]
async fn an_installation_that_is_not_known_any_more_enrols_with_a_new_key() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        let refresh = asked.path == "/attest/v1/token";
        if refresh { refusal(401, "re-enroll") } else { accepting(asked, before).unwrap_or_else(ok) }
    })
    .await;
    let client = world.client(&gateway);
    client.ready().await.unwrap();
    client.refresh().await.unwrap();
    let asked = gateway.asked();
    let keys: Vec<_> = asked
        .iter()
        .filter(|asked| asked.path == "/attest/v1/enroll")
        .map(|asked| asked.json()["jwk"].clone())
        .collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_refusal_is_told_in_one_word_and_waited_out() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        let enrol = asked.path == "/attest/v1/enroll";
        if enrol { refusal(401, "none") } else { accepting(asked, before).unwrap_or_else(ok) }
    })
    .await;
    let client = world.client(&gateway);
    let error = client.ready().await.unwrap_err();
    assert_eq!((error.status(), error.arc()), (Status::Rejected, Some("K7QX2M4P")));
    let error = client.ready().await.unwrap_err();
    assert_eq!((&error, error.status()), (&Error::BackingOff { retry_after: 1 }, Status::RetryLater));
    assert_eq!(gateway.count("/attest/v1/enroll"), 1);
    world.clock.advance(1);
    client.ready().await.unwrap_err();
    assert_eq!(client.ready().await.unwrap_err().retry_after(), Some(2));
    assert_eq!(gateway.count("/attest/v1/enroll"), 2);
}

#[tokio::test]
async fn a_token_that_is_refused_is_replaced_once() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        let old = asked.headers.get("authorization").is_some_and(|token| token == "Bearer token-1");
        if old { refusal(401, "refresh") } else { accepting(asked, before).unwrap_or_else(ok) }
    })
    .await;
    let client = world.client(&gateway);
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!(gateway.count("/v1/models"), 2);
    let never = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(|| refusal(401, "refresh"))).await;
    let client = World::new().client(&never);
    assert_eq!(status(&client, "/v1/models").await, 401);
    assert_eq!((never.count("/v1/models"), never.count("/attest/v1/token")), (2, 1));
}

#[tokio::test]
async fn a_gateway_that_has_just_started_is_asked_again_when_it_says() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        accepting(asked, before).unwrap_or_else(|| {
            let mut answer = if before == 2 { refusal(401, "") } else { ok() };
            answer.headers_mut().insert("retry-after", "1".parse().unwrap());
            answer
        })
    })
    .await;
    let client = world.client(&gateway);
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!((gateway.count("/v1/models"), gateway.count("/attest/v1/token")), (2, 0));
}

#[tokio::test]
async fn a_proof_is_made_again_with_the_nonce_that_is_asked_for() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        accepting(asked, before).unwrap_or_else(|| {
            let proof = decoded(asked.headers["dpop"].to_str().unwrap().split('.').nth(1).unwrap());
            let mut answer = if proof["nonce"] == "n-1" { ok() } else { refusal(401, "") };
            answer.headers_mut().insert("dpop-nonce", "n-1".parse().unwrap());
            answer
        })
    })
    .await;
    let options = Options { proof: Proof::Dpop, ..world.options(&gateway) };
    let client = Client::new(options, Arc::clone(&world.iphone) as _).unwrap();
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!((gateway.count("/v1/models"), gateway.count("/attest/v1/token")), (3, 0));
}

#[tokio::test]
async fn an_installation_outlives_its_process_where_its_key_does() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    world.client(&gateway).ready().await.unwrap();
    world.client(&gateway).ready().await.unwrap();
    assert_eq!((gateway.count("/attest/v1/enroll"), gateway.count("/attest/v1/token")), (1, 1));
    // Restored onto another device: the installation is there, the key is not.
    let other = World { memory: Arc::clone(&world.memory), ..World::new() };
    other.client(&gateway).ready().await.unwrap();
    assert_eq!(gateway.count("/attest/v1/enroll"), 2);
}

#[tokio::test]
async fn an_android_key_is_made_after_the_challenge() {
    let world = World::new();
    let google = Google::new(Arc::clone(&world.clock) as Arc<dyn Clock>).unwrap();
    let app = AndroidApp { package: "com.example.chat".into(), version: 7, digest: [7; 32] };
    let mut phone = AndroidPhone::new(&google, app).unwrap();
    phone.reported = vec!["debugger".into()];
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = Client::new(world.options(&gateway), Arc::new(phone)).unwrap();
    client.ready().await.unwrap();
    let asked = gateway.asked();
    assert!(asked[0].json().get("jkt").is_none() && asked[1].client_data().get("jkt").is_none());
    assert_eq!(asked[1].client_data()["flags"]["debugger"], true);
    assert_eq!(asked[1].json()["evidence"]["chain"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn the_gateway_s_clock_counts() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| {
        let mut answer = accepting(asked, before).unwrap_or_else(ok);
        answer.headers_mut().insert("date", "Sat, 21 Nov 2026 12:00:00 GMT".parse().unwrap());
        answer
    })
    .await;
    let client = world.client(&gateway);
    assert_eq!(status(&client, "/v1/models").await, 200);
    assert_eq!(client.clock_offset(), 1_795_262_400 - NOW);
    let asked = gateway.asked();
    assert_eq!(asked[1].client_data()["ts"], 1_795_262_400);
    let input = asked[2].headers["signature-input"].to_str().unwrap();
    assert!(input.contains(";created=1795262400;expires=1795262430;"), "{input}");
}

#[tokio::test]
async fn nobody_moves_the_clock_far_once_it_is_known() {
    let world = World::new();
    let later = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let shown = Arc::clone(&later);
    let gateway = Gateway::new(move |asked, before| {
        let mut answer = accepting(asked, before).unwrap_or_else(ok);
        let late = shown.load(std::sync::atomic::Ordering::Relaxed);
        let date = if late { "Sun, 22 Nov 2026 12:00:00 GMT" } else { "Sat, 21 Nov 2026 12:00:00 GMT" };
        answer.headers_mut().insert("date", date.parse().unwrap());
        answer
    })
    .await;
    let client = world.client(&gateway);
    assert_eq!(status(&client, "/v1/models").await, 200);
    let known = client.clock_offset();
    later.store(true, std::sync::atomic::Ordering::Relaxed);
    for answers in 1..=3 {
        assert_eq!(status(&client, "/v1/models").await, 200);
        assert_eq!(client.clock_offset(), known + answers * 60);
    }
}

#[tokio::test]
async fn nothing_is_sent_to_anybody_else() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = world.client(&gateway);
    for url in ["https://evil.example/v1/models", "http://127.0.0.1:1/v1/models"] {
        assert_eq!(client.send(post(url)).await.unwrap_err().status(), Status::BadRequest);
    }
    assert!(gateway.asked().is_empty());
    let nobody = Options::new("http://127.0.0.1:1", "chat");
    let client = Client::new(nobody, Arc::clone(&world.iphone) as _).unwrap();
    assert_eq!(client.ready().await.unwrap_err().status(), Status::NoNetwork);
}

#[tokio::test]
async fn fields_are_given_to_apps_with_their_own_http() {
    let world = World::new();
    let gateway = Gateway::new(|asked, before| accepting(asked, before).unwrap_or_else(ok)).await;
    let client = world.client(&gateway);
    let uri = "/v1/models".parse().unwrap();
    let fields = client.sign(&Method::GET, &uri, &http::HeaderMap::new(), &Bytes::new()).await.unwrap();
    assert_eq!(fields["authorization"], "Bearer token-1");
    assert!(fields.contains_key("signature-input") && !fields.contains_key("content-digest"));
}
