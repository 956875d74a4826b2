//! Several nodes on one database: what one of them signs, all of them serve, to the letter.

use std::time::Duration;

use base::Clock as _;
use control::operations::{AcceptDelegation, KillSwitches, PublishAppConfig};
use proof::app_config::{Rules, delegate, verify};
use proof::jose::{KeySet, SigningAlg, SigningKey};
use serde_json::json;
use testkit::{patiently, raw};

use crate::fleet::Fleet;

const PATH: &str = "/.well-known/gateway-config/chat";
const HOST: &str = "ai.example.com";

/// What each node serves: all the same, at last.
async fn served(fleet: &Fleet, seq: u64, roots: &KeySet) -> String {
    patiently("all nodes to serve the same", async {
        loop {
            let mut texts = Vec::new();
            for node in &fleet.nodes {
                let answer = raw::request(node.public, "GET", PATH, &[("host", HOST)], b"").await;
                texts.push((answer.status(), answer.text(), answer.header("etag").map(str::to_owned)));
            }
            let now = fleet.nodes[0].clock.now();
            let rules = Rules { roots, app: "chat", now, seen: None };
            let newest = |text: &str| verify(text.trim(), &rules).is_ok_and(|told| told.config.seq == seq);
            if texts.iter().all(|(status, text, _)| *status == 200 && newest(text)) {
                assert!(texts.iter().all(|each| *each == texts[0]), "one number is one text: {texts:?}");
                return texts.swap_remove(0).1;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_serve_what_one_of_them_signed() {
    let files = tempfile::tempdir().unwrap();
    let key = || SigningKey::generate(SigningAlg::Es256).unwrap();
    let (root, spare) = (key(), key());
    for (name, key) in [("root.jwk", &root), ("spare.jwk", &spare)] {
        std::fs::write(files.path().join(name), key.public_jwk().to_string()).unwrap();
    }
    let keys = json!({ "keys": [root.public_jwk(), spare.public_jwk()] }).to_string();
    let roots = KeySet::from_published(keys.as_bytes()).unwrap();
    let pin = |byte: &str| format!("sha256/{}=", byte.repeat(43));
    let more = format!(
        "[app_config]\nroots = [\"DIR/root.jwk\", \"DIR/spare.jwk\"]\n\
         [[app]]\nname = \"chat\"\nios = {{ team = \"ABCDE12345\", bundle = \"com.example.chat\" }}\n\
         [[pins]]\nname = \"api\"\nhost = \"{HOST}\"\ncurrent = \"{}\"\nnext = \"{}\"\n",
        pin("A"),
        pin("E"),
    );
    let more = more.replace("DIR", files.path().to_str().unwrap());
    let Some(mut fleet) = Fleet::start(2, &more, "nodes serve one configuration").await else { return };

    // The key is made at one node, vouched for at the other.
    let waiting = fleet.nodes[0].server().operations().config_key_next("test").await.unwrap();
    let now = fleet.nodes[0].clock.now();
    let end = now.plus(Duration::from_hours(24 * 90));
    let delegation = delegate(&root, &waiting.public_jwk, (now, now, end)).unwrap();
    let accept = AcceptDelegation { delegation };
    fleet.nodes[1].server().operations().config_key_accept(&accept, "test").await.unwrap();
    let publish = PublishAppConfig::default();
    fleet.nodes[0].server().operations().app_config_publish("chat", &publish, "test").await.unwrap();
    let first = served(&fleet, 1, &roots).await;
    // By whichever node, each has a number of its own.
    fleet.nodes[1].server().operations().app_config_publish("chat", &publish, "test").await.unwrap();
    let second = served(&fleet, 2, &roots).await;
    assert_ne!(first, second);
    let off = KillSwitches { pinning: Some(true), attest: None };
    fleet.nodes[0].server().operations().app_config_kill("chat", &off, "test").await.unwrap();
    served(&fleet, 3, &roots).await;
    // Two at once: two numbers, and in the end one text everywhere.
    let both = futures_util::future::join(
        fleet.nodes[0].server().operations().app_config_publish("chat", &publish, "test"),
        fleet.nodes[1].server().operations().app_config_publish("chat", &publish, "test"),
    )
    .await;
    let done = [&both.0, &both.1].into_iter().filter(|done| done.is_ok()).count() as u64;
    assert!(done >= 1, "{both:?}");
    let last = served(&fleet, 3 + done, &roots).await;
    // A node that joins serves the same.
    fleet.join().await;
    assert_eq!(served(&fleet, 3 + done, &roots).await, last);
    fleet.stop().await;
}
