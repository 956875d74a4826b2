//! PostgreSQL and Redis: gone, stalled, restarted, full.

use std::process::{Child, Command, Stdio};

use testkit::wire::{To, Wire};
use vectors::postgres::{Cluster, Disk};
use vectors::redis::Redis;

use super::{Bound, Node, Told};

fn cluster(settings: &[&str]) -> Option<(Cluster, String)> {
    let Some(cluster) = Cluster::with(Disk::Careless, settings) else {
        vectors::skip("failures of PostgreSQL", "PostgreSQL is not installed");
        return None;
    };
    let url = cluster.database().unwrap();
    Some((cluster, url))
}

/// A node on a PostgreSQL server of its own.
async fn on_postgresql() -> Option<(Cluster, Node)> {
    let (cluster, url) = cluster(&[])?;
    let node = Node::start(&format!("[store]\nurl = {url:?}\n"), &[]).await;
    Some((cluster, node))
}

/// What holds while the database does not answer.
async fn without_a_database(node: &Node, told: &Told, bound: &Bound, stranger: &str) {
    node.goes_on(&told.0).await;
    told.refusal(&bound.ask(node).await, 503);
    told.refusal(&node.ask_as(stranger).await, 503);
    told.refusal(&node.change("meanwhile").await, 503);
    node.until_well(false).await;
    node.goes_on(&told.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_goes_and_comes_back() {
    let told = Told::of("PostgreSQL is gone");
    let Some((mut cluster, node)) = on_postgresql().await else { return };
    let (bound, stranger) = (Bound::new(&node), node.mint("stranger", &[]));
    assert_eq!(bound.ask(&node).await.status(), 200);
    for end in [Cluster::stop, Cluster::crash] {
        assert!(end(&mut cluster));
        without_a_database(&node, &told, &bound, &stranger).await;
        assert!(cluster.restart());
        bound.until_taken(&node).await;
        node.until_well(true).await;
    }
    node.is_whole("PostgreSQL is back").await;
    assert_eq!(node.ask_as(&stranger).await.status(), 200);
    node.all_are_recorded().await;
    node.ends_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_stalls() {
    let told = Told::of("PostgreSQL stalls");
    let Some((mut cluster, node)) = on_postgresql().await else { return };
    let (bound, stranger) = (Bound::new(&node), node.mint("stranger", &[]));
    assert_eq!(bound.ask(&node).await.status(), 200);
    assert!(cluster.pause());
    without_a_database(&node, &told, &bound, &stranger).await;
    // However many ask, nobody waits for all who asked before.
    let answers = futures_util::future::join_all((0..40).map(|_| bound.ask(&node))).await;
    for answer in &answers {
        told.refusal(answer, 503);
    }
    node.goes_on(&told.0).await;
    assert!(cluster.resume());
    bound.until_taken(&node).await;
    node.is_whole("PostgreSQL goes on").await;
    node.all_are_recorded().await;
    node.ends_sound().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_is_restarted_under_load() {
    let told = Told::of("PostgreSQL is restarted");
    let Some((mut cluster, node)) = on_postgresql().await else { return };
    let restarts = tokio::task::spawn_blocking(move || {
        for end in [Cluster::stop, Cluster::crash, Cluster::stop] {
            assert!(end(&mut cluster) && cluster.restart());
        }
        cluster
    });
    let mut restarts = std::pin::pin!(restarts);
    let _cluster = loop {
        tokio::select! {
            cluster = &mut restarts => break cluster.unwrap(),
            () = node.goes_on(&told.0) => {}
        }
    };
    node.is_whole("PostgreSQL was restarted").await;
    node.all_are_recorded().await;
    node.ends_sound().await;
}

/// Sessions of somebody else's, as many as the server takes.
fn take_all_connections(cluster: &Cluster, url: &str) -> Vec<Child> {
    let session = || {
        let mut psql = Command::new(cluster.program("psql").unwrap());
        psql.arg(url).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        psql.spawn().unwrap()
    };
    let mut held: Vec<Child> = Vec::new();
    // One that finds no room ends by itself.
    while held.iter_mut().filter_map(|child| child.try_wait().ok().flatten()).count() < 3 {
        held.push(session());
        assert!(held.len() < 200);
        // Whoever asks finds out, once all of those have got in or given up.
        let _ = cluster.query("postgres", "SELECT 1");
    }
    held
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_has_no_more_connections() {
    let told = Told::of("PostgreSQL has no more connections");
    let Some((mut cluster, url)) = cluster(&["max_connections=20", "superuser_reserved_connections=0"]) else { return };
    let node = Node::start(&format!("[store]\nurl = {url:?}\n"), &[]).await;
    // Our own connections are lost, and others take their places before we come back.
    assert!(cluster.crash() && cluster.restart());
    let mut others = take_all_connections(&cluster, &url);
    node.goes_on(&told.0).await;
    let change = node.change("meanwhile").await;
    // Unless one of ours was quicker than they.
    if ![200, 201].contains(&change.status()) {
        told.refusal(&change, 503);
        node.until_well(false).await;
    }
    for other in &mut others {
        let _ = other.kill();
        let _ = other.wait();
    }
    node.is_whole("PostgreSQL has room again").await;
    node.all_are_recorded().await;
    node.ends_sound().await;
}

/// For how long `cargo xtask torture --redis-stall` wants it to stall; otherwise a few rounds of requests do.
fn stall() -> Option<std::time::Duration> {
    #[allow(clippy::disallowed_methods)] // of the task
    let seconds = std::env::var("VOUCHGATE_TEST_STALL").ok()?;
    Some(std::time::Duration::from_secs(seconds.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stalls_goes_and_comes_back() {
    let (stalls, gone) = (Told::of("Redis stalls"), Told::of("Redis is gone"));
    let Some((_cluster, url)) = cluster(&[]) else { return };
    let Some(mut redis) = Redis::start() else {
        return vectors::skip("failures of Redis", "Redis is not installed");
    };
    let wire = Wire::new(To::Socket(redis.socket())).await;
    let store = format!("[store]\nurl = {url:?}\nshared = \"redis://{}\"\n", wire.address());
    let node = Node::start(&store, &[]).await;
    let bound = Bound::new(&node);
    bound.until_taken(&node).await;
    let refused = async |told: &Told| {
        for _ in 0..5 {
            // Nobody waits: what can go on does, what cannot is told at once.
            told.refusal(&bound.ask(&node).await, 503);
            node.goes_on(&told.0).await;
        }
        assert!(node.is_well().await, "the node itself is well");
    };
    wire.stall();
    refused(&stalls).await;
    if let Some(time) = stall() {
        let (began, mut rounds) = (tokio::time::Instant::now(), 1);
        while began.elapsed() < time {
            refused(&stalls).await;
            rounds += 1;
        }
        println!(
            "Redis stalled for {:?}: {} requests went on, {} with proofs were refused",
            began.elapsed(),
            rounds * 50,
            rounds * 5
        );
    }
    wire.mend();
    bound.until_taken(&node).await;
    wire.cut();
    refused(&gone).await;
    assert!(redis.crash());
    wire.mend();
    refused(&gone).await;
    assert!(redis.restart());
    bound.until_taken(&node).await;
    node.is_whole("Redis is back").await;
    node.all_are_recorded().await;
    node.ends_sound().await;
}
