//! Runtime secrets: given to an installation, put in for it, and changed while they are used.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use testkit::mock::{Answer, Mock};
use testkit::patiently;
use tokio::sync::watch;
use tokio::task::JoinSet;
use vouchgate_client::Client;
use vouchgate_client::secrets::Curve;

use super::World;
use crate::support::command;

const OLD: &str = "canary-of-the-first-value";
const NEW: &str = "canary-of-the-second-value";

/// A server that takes either value, and says with each answer how often it was asked.
async fn maps() -> Mock {
    Mock::start_with(|request| match request.header("x-tiles-key") {
        Some(OLD | NEW) => Answer::bytes(200, "text/plain", "a map"),
        _ => Answer::bytes(403, "text/plain", "no key"),
    })
    .await
}

async fn world(maps: &Mock) -> World {
    let more = format!(
        "[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/\"\nallow_private = true\n\
         [[runtime_secret]]\nname = \"tiles\"\napps = [\"chat\"]\nupstreams = [\"maps\"]\nheaders = [\"X-Tiles-Key\"]\ndeliver = true\n\
         [[policy]]\nname = \"maps\"\nwho = {{ issuer = \"vouchgate\", client = \"chat\" }}\nmay = {{ upstreams = [\"maps\"] }}\n",
        maps.url()
    );
    let world = World::with("", &more).await;
    command(world.path(), &["secret", "runtime", "set", "tiles"], OLD.as_bytes());
    world
}

fn tile() -> Request<Bytes> {
    Request::get("/maps/tile").header("x-tiles-key", "{{secret:tiles}}").body(Bytes::new()).unwrap()
}

async fn given(client: &Client) -> (u64, String) {
    let secrets = client.secrets(&["tiles"]).await.unwrap();
    let shown: BTreeMap<&str, (u64, &str)> =
        secrets.iter().map(|(name, secret)| (name.as_str(), (secret.version, secret.expose()))).collect();
    let (version, value) = shown["tiles"];
    (version, value.to_owned())
}

#[tokio::test]
async fn an_installation_is_given_what_it_may_have_and_nothing_else() {
    let maps = maps().await;
    let world = world(&maps).await;
    let client = world.signing().await;
    assert_eq!(given(&client).await, (1, OLD.to_owned()));
    let mut options = world.options();
    options.secrets = Curve::X25519;
    let other = Client::new(options, Arc::new(world.iphone())).unwrap();
    assert_eq!(given(&other).await, (1, OLD.to_owned()), "sealed to a key on the other curve");
    for name in ["other", "openai"] {
        world.refused_for(&client.secrets(&["tiles", name]).await.unwrap_err(), "runtime_secret_unknown");
    }
    command(world.path(), &["secret", "runtime", "rotate", "tiles", "--overlap", "1h"], NEW.as_bytes());
    assert_eq!(given(&client).await, (2, NEW.to_owned()));
    let told = command(world.path(), &["secret", "runtime", "list", "--json"], b"");
    assert!(told.contains("tiles") && !told.contains(OLD) && !told.contains(NEW), "{told}");
}

/// Requests of several phones that never stop.
struct Load {
    over: watch::Sender<bool>,
    answered: watch::Receiver<u32>,
    phones: JoinSet<()>,
}

impl Load {
    async fn begin(world: &World) -> Self {
        let (over, ends) = watch::channel(false);
        let (answered, seen) = watch::channel(0);
        let (answered, mut phones) = (Arc::new(answered), JoinSet::new());
        for _ in 0..3 {
            let phone = world.signing().await;
            let (ends, answered) = (ends.clone(), Arc::clone(&answered));
            phones.spawn(async move {
                // Bounded, so that a test that fails elsewhere ends.
                for _ in 0..20_000 {
                    if *ends.borrow() {
                        return;
                    }
                    let answer = phone.send(tile()).await.unwrap();
                    let status = answer.status;
                    let body = answer.bytes(1 << 16).await.unwrap();
                    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
                    answered.send_modify(|answered| *answered += 1);
                }
            });
        }
        Self { over, answered: seen, phones }
    }

    async fn goes_on(&mut self) {
        let until = *self.answered.borrow() + 20;
        let reached = async {
            tokio::select! {
                _ = self.answered.wait_for(|answered| *answered >= until) => {}
                ended = self.phones.join_next() => panic!("a phone has ended: {ended:?}"),
            }
        };
        patiently("requests to be answered", reached).await;
    }

    async fn end(self) {
        self.over.send_replace(true);
        self.phones.join_all().await;
    }
}

#[tokio::test]
async fn a_secret_is_changed_under_load_and_nothing_genuine_is_refused() {
    let maps = maps().await;
    let world = world(&maps).await;
    let mut load = Load::begin(&world).await;
    load.goes_on().await;
    command(world.path(), &["secret", "runtime", "rotate", "tiles", "--overlap", "1h"], NEW.as_bytes());
    load.goes_on().await;
    command(world.path(), &["secret", "runtime", "retire", "tiles"], b"");
    load.goes_on().await;
    load.end().await;
    let sent: Vec<String> = maps.requests().iter().map(|r| r.header("x-tiles-key").unwrap().to_owned()).collect();
    assert_eq!((sent.first().map(String::as_str), sent.last().map(String::as_str)), (Some(OLD), Some(NEW)));
    let changed = sent.iter().position(|value| value == NEW).unwrap();
    // Those that were under way when it changed may come in between, one of each phone.
    let late = sent.iter().skip(changed).filter(|value| *value == OLD).count();
    assert!(late <= 3, "{late}");
}
