//! The ways to PostgreSQL and Redis by TLS, with servers that have certificates of ours: what is verified is used, anything else
//! is refused, and a way that others can read is warned of.

use std::path::{Path, PathBuf};

use testkit::certs::Authority;
use testkit::wire::{To, Wire};
use vectors::postgres::{Cluster, Disk};
use vectors::redis::Redis;

use crate::fleet::{Fleet, one_proof_a_hundred_times, one_proof_refused};
use crate::support::{APP, run, write_config};

const HOST: &str = "localhost";

fn pem(dir: &Path, name: &str, authority: &Authority) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

/// What a command that opens the database says: its exit code and messages.
fn opened(dir: &Path, url: &str) -> (i32, String) {
    write_config(dir, "", &format!("[store]\nurl = {url:?}\n{APP}"));
    let (exit, _, said) = run(&["key", "list", "--config", "vouchgate.toml"], dir, b"");
    (exit, said)
}

#[test]
fn postgresql_is_used_by_tls_when_its_certificate_and_name_are_right() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let identity = ours.server(&[HOST]);
    let Some(cluster) = Cluster::with_tls(&identity.cert_pem, &identity.key_pem) else {
        return vectors::skip("PostgreSQL by TLS", "PostgreSQL is not installed");
    };
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (pem(dir.path(), "ca.pem", &ours), pem(dir.path(), "other.pem", &theirs));
    let url = cluster.database().unwrap();
    let with = |url: &str, mode: &str, ca: &Path| format!("{url}?sslmode={mode}&sslrootcert={}", ca.display());

    let (exit, said) = opened(dir.path(), &with(&url, "verify-full", &ca));
    assert_eq!(exit, 0, "{said}");

    for (what, url) in [
        ("a server of somebody else's", with(&url, "verify-full", &other)),
        ("a server of another name", with(&url.replace(HOST, "127.0.0.1"), "verify-full", &ca)),
        ("one that no authority of this machine knows", format!("{url}?sslmode=verify-full")),
    ] {
        let (exit, said) = opened(dir.path(), &url);
        assert_eq!(exit, 2, "{what}: {said}");
        assert!(said.contains("TLS"), "{what}: {said}");
    }
    // The authority alone is verified where the URL says so.
    let (exit, said) = opened(dir.path(), &with(&url.replace(HOST, "127.0.0.1"), "verify-ca", &ca));
    assert_eq!(exit, 0, "{said}");
    let (exit, said) = opened(dir.path(), &with(&url.replace(HOST, "127.0.0.1"), "verify-ca", &other));
    assert_eq!(exit, 2, "{said}");
    let (exit, said) = opened(dir.path(), &with(&url, "verify-full", Path::new("nothing.pem")));
    assert_eq!(exit, 2, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgresql_without_tls_is_refused_where_it_is_asked_for() {
    let Some(cluster) = Cluster::start(Disk::Careless) else {
        return vectors::skip("PostgreSQL without TLS", "PostgreSQL is not installed");
    };
    assert!(cluster.database().is_some());
    let dir = tempfile::tempdir().unwrap();
    // On a port, by a wire that leads to its socket: there it never speaks TLS.
    let wire = Wire::new(To::Socket(cluster.socket())).await;
    let url = format!("postgres://vouchgate@{}/db0", wire.address());
    let (exit, said) = opened(dir.path(), &format!("{url}?sslmode=disable"));
    assert_eq!(exit, 0, "{said}");
    for mode in ["require", "verify-ca", "verify-full"] {
        let (exit, said) = opened(dir.path(), &format!("{url}?sslmode={mode}"));
        assert_eq!(exit, 2, "{mode}: {said}");
        assert!(said.contains("TLS"), "{mode}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_used_by_tls_when_its_certificate_and_name_are_right() {
    let test = "Redis by TLS";
    let (ours, theirs) = (Authority::new(), Authority::new());
    let identity = ours.server(&[HOST]);
    let Some(redis) = Redis::with_tls(&identity.cert_pem, &identity.key_pem) else {
        return vectors::skip(test, "Redis is not installed, or cannot speak TLS");
    };
    let dir = tempfile::tempdir().unwrap();
    let (ca, other) = (pem(dir.path(), "ca.pem", &ours), pem(dir.path(), "other.pem", &theirs));
    let with = |host: &str, ca: Option<&Path>| {
        let ca = ca.map(|ca| format!("\nshared_ca = {:?}", ca.display().to_string())).unwrap_or_default();
        format!("shared = {:?}{ca}", redis.tls_url(host).unwrap())
    };
    let Some(fleet) = Fleet::start(2, &with(HOST, Some(&ca)), test).await else { return };
    fleet.until_proofs_are_taken().await;
    one_proof_a_hundred_times(&fleet).await;
    fleet.stop().await;
    for (host, ca) in [(HOST, Some(other.as_path())), ("127.0.0.1", Some(ca.as_path())), (HOST, None)] {
        let fleet = Fleet::start(1, &with(host, ca), test).await.unwrap();
        one_proof_refused(&fleet, 503).await;
        fleet.stop().await;
    }
}

#[tokio::test]
async fn a_redis_cluster_is_refused_with_a_sentence() {
    let Some(redis) = Redis::of_a_cluster() else {
        return vectors::skip("a Redis Cluster is refused", "Redis is not installed");
    };
    let Some(url) = vectors::postgres::database() else {
        return vectors::skip("a Redis Cluster is refused", "PostgreSQL is not installed");
    };
    let dir = tempfile::tempdir().unwrap();
    let serve = |shared: &str| {
        write_config(dir.path(), "", &format!("[store]\nurl = {url:?}\nshared = {shared:?}\n{APP}"));
        run(&["check", "--config", "vouchgate.toml"], dir.path(), b"")
    };
    // By its own word, once it is asked.
    assert_eq!(serve(&redis.url()).0, 0);
    run(&["key", "list", "--config", "vouchgate.toml"], dir.path(), b"");
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("Redis Cluster, which is not supported"), "{said}");
    // By its address, before.
    for shared in ["redis+cluster://a:6379", "redis://a:6379,b:6379", "redis-sentinel://a:26379/primary"] {
        let (exit, said, _) = serve(shared);
        assert_eq!(exit, 1, "{shared}: {said}");
        assert!(said.contains("Redis Cluster"), "{shared}: {said}");
    }
}

#[test]
fn a_way_that_others_can_read_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let told = |store: &str| {
        write_config(dir.path(), "", &format!("[store]\n{store}\n{APP}"));
        let (exit, out, said) = run(&["check", "--config", "vouchgate.toml", "--json"], dir.path(), b"");
        assert_eq!(exit, 0, "{out}{said}");
        let told: serde_json::Value = serde_json::from_str(&out).unwrap();
        let (_, _, said) = run(&["check", "--config", "vouchgate.toml"], dir.path(), b"");
        let warnings = told["warnings"].as_array().unwrap().len();
        assert_eq!(warnings, said.matches("warning: ").count(), "{said}");
        warnings
    };
    assert_eq!(told("url = \"sqlite:\""), 0);
    assert_eq!(told("url = \"postgres://u@db.example.com/v\""), 0);
    assert_eq!(told("url = \"postgres://u@localhost/v\"\nshared = \"redis://127.0.0.1\""), 0);
    assert_eq!(told("url = \"postgres://u@db.example.com/v?sslmode=require\""), 1);
    assert_eq!(told("url = \"postgres://u@10.0.0.1/v?sslmode=disable\"\nshared = \"redis://cache:6379\""), 2);
    assert_eq!(told("url = \"postgres://u@localhost/v\"\nshared = \"rediss://cache:6380\""), 0);
}
