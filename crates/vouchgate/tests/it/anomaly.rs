//! A stolen key loses cents: what is quite unlike a caller is stopped, everywhere, also after a restart; and one command lets it in
//! again.

use std::sync::Arc;
use std::time::Duration;

use base::{FakeClock, SystemClock, Timestamp};
use http::Method;
use http_body_util::Full;
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::mock::{Answer, Mock};
use testkit::patiently;

use crate::support::{Gateway, provider, secret_file};

const PATH: &str = "/v1/chat/completions";
const HOME: &str = "192.0.2.10";
const ELSEWHERE: &str = "198.51.100.10";

/// A `vg_` key that asks for a cent's worth at a time; the address a request comes from is what the proxy says.
const CONFIG: &str = r#"
trusted_proxies = ["127.0.0.0/8"]

[[policy]]
name = "keys"
who = { key = "ci-bot" }
may = { models = ["*"] }

[[price]]
provider = "prov"
model = "m"
input = "0 USD"
output = "100 USD"
context = 10000
max_output = 4000

[[budget]]
name = "month"
limit = "1000 USD"
window = "month"
"#;

struct World {
    dir: Arc<TempDir>,
    clock: FakeClock,
    config: String,
    mock: Mock,
    gateway: Gateway,
    key: String,
}

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

impl World {
    async fn start(more: &str) -> Self {
        let mock = Mock::start_with(|_| answer()).await;
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
        let config = format!("{CONFIG}{prov}{more}");
        // The middle of a minute, so that none ends while a test runs.
        let minute = base::Clock::now(&SystemClock).as_secs() / 60 * 60;
        let clock = FakeClock::at(Timestamp::from_secs(minute + 20));
        let gateway = Gateway::start_at(Arc::clone(&dir), &config, clock.clone(), None).await;
        let new = serde_json::from_value(json!({"name": "ci-bot", "expires": "300d"})).unwrap();
        let issued = gateway.server().operations().apikey_create(&new, "test").await.unwrap();
        gateway.settled().await;
        let key = issued.api_key.expose().to_owned();
        Self { dir, clock, config, mock, gateway, key }
    }

    async fn ask(&self, from: &str) -> crate::support::Answer {
        let body = json!({"model": "prov/m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]});
        let request = self.gateway.request(Method::POST, PATH, &self.key);
        let request = request.header("content-type", "application/json").header("x-forwarded-for", from);
        self.gateway.send(request.body(Full::from(body.to_string())).unwrap()).await
    }

    /// So many requests within a minute; how many were let in, and why the first that was not.
    async fn minute(&self, requests: usize, from: &str) -> (usize, Option<String>) {
        let (mut through, mut why) = (0, None);
        for _ in 0..requests {
            let answer = self.ask(from).await;
            if answer.status == 200 {
                through += 1;
            } else if why.is_none() {
                why = Some(answer.code());
            }
        }
        (through, why)
    }

    /// Two days of two requests in every ninety minutes, from home.
    async fn live(&self) {
        for _ in 0..32 {
            assert_eq!(self.minute(2, HOME).await, (2, None));
            self.clock.advance(Duration::from_mins(90));
        }
    }

    async fn restart(self) -> Self {
        let Self { dir, clock, config, mock, gateway, key } = self;
        gateway.stop().await;
        let gateway = Gateway::start_at(Arc::clone(&dir), &config, clock.clone(), None).await;
        Self { dir, clock, config, mock, gateway, key }
    }

    async fn stops(&self) -> Vec<Value> {
        let listed = self.gateway.server().operations().anomaly_list(&store::Page::first(50)).await.unwrap();
        listed.items.iter().map(|stop| serde_json::to_value(stop).unwrap()).collect()
    }

    /// Wait until what was found is kept.
    async fn kept(&self, stops: usize) -> Vec<Value> {
        patiently("the stop to be kept", async { while self.stops().await.len() < stops {} }).await;
        self.stops().await
    }
}

#[tokio::test]
async fn a_stolen_key_used_from_elsewhere_at_fifty_times_its_rate_loses_cents_and_is_let_in_again_by_one_command() {
    let world = World::start("").await;
    world.live().await;
    let before = world.mock.count();
    // A restart forgets nothing.
    let world = world.restart().await;
    let (through, why) = world.minute(100, ELSEWHERE).await;
    assert_eq!(why.as_deref(), Some("caller_suspended"));
    assert!(through < 10 && world.mock.count() == before + through, "{through} cents");
    assert_eq!(world.ask(HOME).await.status, 403, "nobody knows whose request this is");

    let stops = world.kept(1).await;
    assert_eq!((&stops[0]["whom"], &stops[0]["action"]), (&json!("key=ci-bot"), &json!("suspend")), "{stops:?}");
    assert!(stops[0]["in_force"] == true && stops[0]["why"]["signals"].to_string().contains("elsewhere"), "{stops:?}");
    let world = world.restart().await;
    assert_eq!(world.ask(HOME).await.code(), "caller_suspended", "also after a restart");

    let id = stops[0]["id"].to_string();
    let restored = world.gateway.server().operations().anomaly_restore(&id, "test").await.unwrap();
    assert_eq!((restored.restored_by.as_deref(), restored.in_force), (Some("test"), false));
    assert_eq!(world.ask(HOME).await.status, 200);
    assert_eq!(
        world.gateway.server().operations().anomaly_restore(&id, "test").await.unwrap_err().reason(),
        "not_found"
    );
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_surge_from_home_is_throttled_to_what_is_usual_and_ends_by_itself() {
    let world = World::start("").await;
    world.live().await;
    let (through, why) = world.minute(100, HOME).await;
    assert_eq!(why.as_deref(), Some("caller_throttled"));
    assert!(through < 30, "{through}");
    world.clock.advance(Duration::from_mins(1));
    let (through, _) = world.minute(100, HOME).await;
    assert_eq!(through, 10, "twice its busiest minute, at least a third of `requests`");
    let answer = world.ask(HOME).await;
    assert!(answer.header("retry-after").is_some() && answer.status == 429, "{answer:?}");
    world.clock.advance(Duration::from_hours(1));
    assert_eq!(world.minute(2, HOME).await, (2, None));
    world.gateway.stop().await;
}

#[tokio::test]
async fn what_is_only_observed_is_told_and_stops_nobody() {
    let told = Mock::start_with(|_| Answer::json(204, &Value::Null)).await;
    let secret = tempfile::tempdir().unwrap();
    let file = secret_file(secret.path(), "webhook.key", "a secret made for this test alone");
    let world = World::start(&format!(
        "\n[anomaly]\nsurge = \"observe\"\nelsewhere = \"observe\"\n[[webhook]]\nname = \"on-call\"\nurl = \"{}/told\"\n\
         allow_private = true\nsecret = {{ file = {:?} }}\nevents = [\"anomaly.found\"]\n",
        told.url(),
        file.display().to_string()
    ))
    .await;
    world.live().await;
    assert_eq!(world.minute(60, ELSEWHERE).await, (60, None));
    let said = told.request(0).await.json();
    assert_eq!((&said["type"], &said["data"]["whom"]), (&json!("anomaly.found"), &json!("key=ci-bot")), "{said}");
    assert_eq!((&said["data"]["action"], &said["data"]["usual_requests"]), (&json!("observe"), &json!(2)), "{said}");
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_first_day_is_stopped_by_nothing() {
    let world = World::start("").await;
    for hour in 0..8u64 {
        assert_eq!(world.minute(1 << hour.min(6), &format!("203.0.113.{hour}")).await.1, None);
        world.clock.advance(Duration::from_hours(1));
    }
    assert!(world.stops().await.is_empty());
    world.gateway.stop().await;
}
