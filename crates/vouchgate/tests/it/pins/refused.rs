//! What `pins verify` says where the answers are not what they should be: by somebody who has the host's name and a certificate that is
//! trusted, and says what the test has them say.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use testkit::raw::Connection;

use super::{HOST, World};

const PATH: &str = "/.well-known/gateway-config/chat";

/// What is served now, as status and body.
type Served = Arc<Mutex<(u16, String)>>;

async fn somebody(world: &World, names: &[&str]) -> (Mock, Served) {
    let served: Served = Arc::new(Mutex::new((404, String::new())));
    let saying = Arc::clone(&served);
    let config = world.authority.server(names).server_config(None);
    let mock = Mock::start_tls(config, move |_| {
        let (status, body) = saying.lock().unwrap().clone();
        Answer::bytes(status, "application/jose", body)
    });
    (mock.await, served)
}

/// The verdict on what is at an address: exit status, verdict, and what was said.
async fn verdict(world: &World, host: &str, at: std::net::SocketAddr, more: &str) -> (i32, Value, String) {
    let line = format!("pins verify {host} --connect {at} --config vouchgate.toml --ca ca.pem {more}");
    let (code, out, said) = world.vouchgate(&line, "").await;
    (code, serde_json::from_str(&out).unwrap_or_default(), said)
}

/// What the gateway itself serves.
async fn genuine(world: &World) -> String {
    let trust = world.authority.client_config(None, &["http/1.1"]);
    let mut connection = Connection::open_tls(world.gateway.public, HOST, trust).await.unwrap();
    connection.request("GET", PATH, &[("host", HOST)], b"").await;
    let answer = connection.response().await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.text().trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_served_in_the_place_of_a_configuration_is_told_apart() {
    let world = World::start().await;
    world.vouch().await;
    world.done("pins publish chat", "").await;
    let good = genuine(&world).await;
    let (mock, served) = somebody(&world, &[HOST, "other.example", "127.0.0.1"]).await;
    let parts: Vec<&str> = good.split('.').collect();
    let flipped = |at: usize| {
        let mut parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
        let middle = parts[at].len() / 2;
        let letter = if parts[at].as_bytes()[middle] == b'A' { "B" } else { "A" };
        parts[at].replace_range(middle..=middle, letter);
        parts.join(".")
    };
    for (status, body, reasons) in [
        (404, String::new(), &["config_not_found"][..]),
        (500, good.clone(), &["config_not_served"]),
        (302, good.clone(), &["config_not_served"]),
        (200, String::new(), &[]),
        (200, "<html>".to_owned(), &[]),
        (200, format!("{}.{}", parts[0], parts[1]), &[]),
        (200, format!("{}.{}.", parts[0], parts[1]), &[]),
        (200, flipped(0), &[]),
        (200, flipped(1), &[]),
        (200, flipped(2), &[]),
        (200, format!("{good}.x"), &[]),
        // What the gateway says, by somebody who does not have its key.
        (200, good.clone(), &["pin_mismatch"]),
    ] {
        *served.lock().unwrap() = (status, body.clone());
        let (code, verdict, said) = verdict(&world, HOST, mock.addr(), "").await;
        assert_eq!((code, &verdict["valid"]), (1, &json!(false)), "{status} {body}: {verdict} {said}");
        let reason = verdict["reason"].as_str().unwrap_or_default();
        assert!(!reason.is_empty() && (reasons.is_empty() || reasons.contains(&reason)), "{status} {body}: {verdict}");
        assert_ne!(reason, "certificate_untrusted");
    }
    // For another host than it tells of, and for another app.
    let (code, said, _) = verdict(&world, "other.example", mock.addr(), "").await;
    assert_eq!((code, &said["reason"]), (1, &json!("host_not_pinned")), "{said}");
    let (code, said, _) = verdict(&world, HOST, mock.addr(), "--app other").await;
    assert_eq!((code, &said["reason"]), (1, &json!("config_wrong_app")), "{said}");
    // A longer answer than any configuration is none.
    *served.lock().unwrap() = (200, "x".repeat(2 << 20));
    let (code, said, _) = verdict(&world, HOST, mock.addr(), "").await;
    assert!(code != 0 && said["valid"] != true, "{said}");
    world.gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_can_be_seen_that_is_said_and_is_no_verdict() {
    let world = World::start().await;
    let (mut gone, _) = somebody(&world, &[HOST]).await;
    let address = gone.addr();
    gone.die().await;
    for (what, at) in [("nobody is there", address), ("no TLS", world.gateway.admin)] {
        let (code, verdict, said) = verdict(&world, HOST, at, "").await;
        assert!(code == 2 && verdict.is_null() && !said.is_empty(), "{what}: {code} {verdict} {said}");
    }
    let at = world.gateway.public;
    for line in [
        format!("pins verify http://{HOST} --connect {at} --config vouchgate.toml"),
        format!("pins verify {HOST}:port --connect {at} --config vouchgate.toml"),
        format!("pins verify {HOST} --connect {at} --config vouchgate.toml --ca key-that-is-not-there.pem"),
        format!("pins verify {HOST} --connect {at} --config vouchgate.toml --ca key.pem"),
        format!("pins verify {HOST} --connect {at} --app chat --root cert.pem"),
        format!("pins verify {HOST} --connect {at} --config missing.toml"),
    ] {
        let (code, out, said) = world.vouchgate(&line, "").await;
        assert!(code == 2 && out.is_empty() && !said.is_empty(), "{line}: {code} {out}{said}");
    }
    // A certificate for another name.
    let (other, _) = somebody(&world, &["other.example"]).await;
    let (code, verdict, _) = verdict(&world, HOST, other.addr(), "").await;
    assert_eq!((code, &verdict["reason"], &verdict["trusted"]), (1, &json!("certificate_untrusted"), &json!(false)));
    world.gateway.stop().await;
}
