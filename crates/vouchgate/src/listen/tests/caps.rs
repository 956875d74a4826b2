//! How many may connect (check 7).

use crate::listen::{Caps, Limits, ListenError, Listener};

use super::support::{Server, hasty, statuses};

const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn connections_over_the_cap_get_503_and_room_is_made_by_leaving() {
    for caps in [Caps::new(3, 100, Vec::new()), Caps::new(100, 3, Vec::new())] {
        let server = Server::with(Limits::default(), caps, None).await;
        let mut kept = Vec::new();
        for _ in 0..3 {
            let mut client = server.connect().await;
            client.say(GET).await;
            client.until("GET / []").await;
            kept.push(client);
        }
        for _ in 0..10 {
            let mut client = server.connect().await;
            client.say(GET).await;
            assert_eq!(statuses(&client.rest().await), [503]);
        }
        kept.pop();
        server.until(|server| server.edge.caps.open() == 2).await;
        assert_eq!(statuses(&server.tell(GET).await), [200]);
    }
}

#[tokio::test]
async fn a_flood_on_one_listener_leaves_the_other_reachable() {
    let public = Server::with(hasty(), Caps::new(2, 2, Vec::new()), None).await;
    let admin = Server::start(hasty()).await;
    let _flood = [public.connect().await, public.connect().await];
    public.until(|server| server.edge.caps.open() == 2).await;
    assert_eq!(statuses(&public.tell(GET).await), [503]);
    assert_eq!(statuses(&admin.tell(GET).await), [200]);
}

#[tokio::test]
async fn a_flood_beyond_the_polite_answers_is_survived() {
    let server = Server::with(hasty(), Caps::new(1, 1, Vec::new()), None).await;
    let held = server.connect().await;
    server.until(|server| server.edge.caps.open() == 1).await;
    let mut crowd = Vec::new();
    for _ in 0..300 {
        crowd.push(server.connect().await);
    }
    for mut client in crowd {
        let answer = client.rest().await;
        assert!(answer.is_empty() || statuses(&answer) == [503], "{answer}");
    }
    drop(held);
    server.until(|server| server.edge.caps.open() == 0).await;
    assert_eq!(statuses(&server.tell(GET).await), [200]);
}

#[tokio::test]
async fn plain_http_off_loopback_needs_to_be_asked_for() {
    let everywhere = ([0, 0, 0, 0], 0).into();
    assert_eq!(Listener::bind(everywhere, None, false).await.unwrap_err(), ListenError::Plain(everywhere));
    assert!(Listener::bind(everywhere, None, true).await.is_ok());
    assert_ne!(Listener::bind(([127, 0, 0, 1], 0).into(), None, false).await.unwrap().address().port(), 0);
}
