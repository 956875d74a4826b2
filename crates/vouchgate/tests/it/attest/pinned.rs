//! The app as it is shipped, with pins, while the key of its host is replaced: as planned, and without anybody having been told.

use std::sync::Arc;

use vouchgate_client::{Client, Status, Volatile};

use super::between::Line;
use super::chat;

const MODEL: &str = "vouchgate/echo";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_app_goes_on_over_a_planned_switch_and_after_a_repaired_one() {
    let line = Line::new().await;
    let memory: Arc<Volatile> = Arc::default();
    let device = Arc::new(line.world.iphone());
    // A new process of the app each time: what it remembers, and new connections.
    let started = || Client::new(line.pinned(&memory), Arc::clone(&device) as _).unwrap();
    let running = started();
    assert_eq!(running.send(chat(MODEL)).await.unwrap().status, 200);
    let told = running.config().unwrap();
    assert_eq!((told.seq, told.hosts[0].pins.len()), (1, 2), "the key in use and the next one");

    // As planned: the next key is shown. Who was told of both goes on, with nothing new to be fetched.
    line.show(&line.next).await;
    for client in [started(), running] {
        assert_eq!(client.send(chat(MODEL)).await.unwrap().status, 200);
        assert_eq!(client.config().unwrap().seq, 1);
        assert!(client.take_pin_reports().is_empty());
    }
    // The one after it is made known, before it is needed; the old one counts a while longer.
    let third = line.genuine.server(&["localhost", "127.0.0.1"]);
    line.comes_next(&third);
    line.publish();
    let client = started();
    assert_eq!(client.send(chat(MODEL)).await.unwrap().status, 200);
    let told = client.config().unwrap();
    assert_eq!((told.seq, told.hosts[0].pins.len()), (2, 3));
    line.show(&third).await;
    assert_eq!(started().send(chat(MODEL)).await.unwrap().status, 200);

    // A key nobody was told of, of the same authority: nothing is sent to it, not even by an app that starts anew.
    let stranger = line.genuine.server(&["localhost", "127.0.0.1"]);
    line.show(&stranger).await;
    for _ in 0..2 {
        let client = started();
        let error = client.send(chat(MODEL)).await.unwrap_err();
        assert_eq!(error.status(), Status::MitmDetected, "{error}");
        assert!(client.take_pin_reports()[0].refused);
    }
    // It is repaired over the air: by what a root key vouches for, over a connection that need not be pinned.
    line.publish();
    let client = started();
    assert_eq!(client.send(chat(MODEL)).await.unwrap().status, 200);
    assert_eq!(client.config().unwrap().seq, 3);
}
