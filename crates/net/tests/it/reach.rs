//! Where requests can go, and where they cannot (checks 37 to 39).

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use net::{BoxFuture, Egress, EgressConfig, EgressError, Reach, Resolver, Target};
use url::Url;

use crate::support::{Peer, egress, get, knowing, patient, text};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

fn target(url: &str, reach: Reach) -> Target {
    Target::new(&Url::parse(url).unwrap(), reach).unwrap()
}

async fn refused(egress: &Egress, url: &str, reach: Reach) -> &'static str {
    match egress.send(&target(url, reach), get("/"), &patient()).await {
        Err(EgressError::Refused { class, .. }) => class,
        other => panic!("{url}: {other:?}"),
    }
}

#[tokio::test]
async fn a_public_destination_reaches_no_special_address_however_it_is_spelled() {
    let peer = Peer::new().await;
    let port = peer.address.port();
    for (host, class) in [
        ("127.0.0.1", "loopback"),
        ("localhost", "loopback"),
        ("0x7f000001", "loopback"),
        ("2130706433", "loopback"),
        ("127.1", "loopback"),
        ("[::1]", "loopback"),
        ("[::ffff:127.0.0.1]", "embedded_ipv4"),
        ("[64:ff9b::127.0.0.1]", "embedded_ipv4"),
        ("[2002:7f00:1::]", "embedded_ipv4"),
        ("0.0.0.0", "unspecified"),
        ("[::]", "unspecified"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.0.1", "private"),
        ("100.64.0.1", "private"),
        ("[fd00::1]", "private"),
        ("169.254.169.254", "metadata"),
        ("[fe80::1]", "link_local"),
        ("224.0.0.1", "multicast"),
        ("255.255.255.255", "reserved"),
    ] {
        assert_eq!(refused(&egress(), &format!("https://{host}:{port}/"), Reach::Public).await, class, "{host}");
    }
    assert_eq!(peer.connections(), 0);
}

#[tokio::test]
async fn a_private_destination_reaches_no_metadata_address() {
    for host in
        ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "169.254.1.1", "[::ffff:127.0.0.1]", "0.0.0.0"]
    {
        let url = format!("http://{host}/");
        refused(&egress(), &url, Reach::Private).await;
    }
    let egress = knowing(EgressConfig::default(), &[("api.example", "8.8.8.8")]);
    assert_eq!(refused(&egress, "http://api.example/", Reach::Private).await, "public", "not without TLS");
}

/// Answers differently each time.
#[derive(Debug)]
struct Flipping {
    answers: Mutex<Vec<Vec<IpAddr>>>,
    asked: AtomicUsize,
}

impl Flipping {
    fn new(answers: &[&[&str]]) -> Arc<Self> {
        let read = |list: &&[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = answers.iter().rev().map(read).collect();
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }
}

impl Resolver for Flipping {
    fn resolve<'a>(&'a self, _: &'a str) -> BoxFuture<'a, std::io::Result<Vec<IpAddr>>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop().unwrap_or_default();
        Box::pin(std::future::ready(Ok(answer)))
    }
}

#[tokio::test]
async fn a_name_is_judged_again_for_each_connection_and_only_the_judged_address_is_used() {
    // 127.0.0.1 stands for a public address, 127.0.0.2 for an internal one.
    let mut outside = Peer::new().await;
    let port = outside.address.port();
    let Ok(inside) = tokio::net::TcpListener::bind(("127.0.0.2", port)).await else {
        panic!("127.0.0.2 cannot be bound");
    };
    let inside = Peer::from(inside);
    let resolver = Flipping::new(&[&["127.0.0.1"], &["169.254.169.254"], &["169.254.169.254", "127.0.0.1"]]);
    let egress = Egress::with_resolver(EgressConfig::default(), resolver.clone()).unwrap();
    let name = target(&format!("http://rebinding.example:{port}/"), Reach::Private);
    let deadlines = patient();

    for round in 0..3 {
        let answer = async {
            if round == 1 {
                return;
            }
            let mut wire = outside.connection().await;
            wire.request().await;
            wire.say(OK).await;
        };
        let (sent, ()) = tokio::join!(egress.send(&name, get("/"), &deadlines), answer);
        match sent {
            Ok(response) => assert_eq!(text(response.into_body()).await.unwrap(), "ok", "round {round}"),
            Err(error) => assert_eq!((round, error.reason()), (1, "address_refused")),
        }
    }
    assert_eq!(resolver.asked.load(Ordering::SeqCst), 3, "once per connection, never twice");
    assert_eq!((outside.connections(), inside.connections()), (2, 0));
}

#[tokio::test]
async fn a_name_that_flips_to_an_internal_address_never_gets_there() {
    let inside = Peer::new().await;
    let resolver = Flipping::new(&[&["127.0.0.1"], &["::1"], &["10.0.0.1", "127.0.0.1"]]);
    let egress = Egress::with_resolver(EgressConfig::default(), resolver).unwrap();
    let url = format!("https://rebinding.example:{}/", inside.address.port());
    for _ in 0..3 {
        refused(&egress, &url, Reach::Public).await;
    }
    assert_eq!(inside.connections(), 0);
}

#[tokio::test]
async fn a_name_without_addresses_is_a_dns_error() {
    let egress = knowing(EgressConfig::default(), &[]);
    let error =
        egress.send(&target("https://nowhere.example/", Reach::Public), get("/"), &patient()).await.unwrap_err();
    assert_eq!((error.reason(), error.unsent()), ("dns_failed", true));
}

#[tokio::test]
async fn an_address_the_operator_lists_is_reachable() {
    let config = EgressConfig { reachable: vec!["127.0.0.1/32".parse().unwrap()], ..EgressConfig::default() };
    let mut peer = Peer::new().await;
    let url = format!("https://127.0.0.1:{}/", peer.address.port());
    let egress = Egress::new(config).unwrap();
    let (name, deadlines) = (target(&url, Reach::Public), patient());
    let (sent, ()) = tokio::join!(egress.send(&name, get("/"), &deadlines), async {
        // Reached: it has a TLS greeting, which nobody answers.
        drop(peer.connection().await);
    });
    assert_eq!(sent.unwrap_err().reason(), "tls_failed");
}

#[tokio::test]
async fn a_proxy_named_in_the_environment_is_not_used() {
    let proxy = Peer::new().await;
    let url = proxy.url();
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap());
    // Another test of this binary, which makes requests, in a process with such an environment.
    child.args(["--exact", "exchange::a_connection_serves_request_after_request"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        child.env(name, url.as_str());
    }
    let output = child.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
    assert_eq!(proxy.connections(), 0);
}
