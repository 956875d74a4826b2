//! A small load balancer, as stands before several nodes: each connection goes to the next node that says it takes requests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A port of loopback in front of nodes.
#[derive(Debug)]
pub struct Balancer {
    address: SocketAddr,
    nodes: Arc<Nodes>,
    _serving: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Nodes {
    all: RwLock<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Balancer {
    /// With no node yet.
    pub async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port of loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let nodes = Arc::new(Nodes::default());
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, Arc::clone(&nodes)));
        Self { address, nodes, _serving: serving }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Send connections to this node too, from now on.
    pub fn add(&self, node: SocketAddr) {
        self.nodes.all.write().unwrap().push(node);
    }

    /// Ask a node that is about to stop until it says that it takes no requests, then send it no more connections: what its
    /// health check does, which asks `/readyz`.
    pub async fn until_not_ready(&self, node: SocketAddr) {
        let asking = async { while crate::raw::request(node, "GET", "/readyz", &[], b"").await.status() == 200 {} };
        crate::patiently("a node to say that it stops", asking).await;
        self.nodes.all.write().unwrap().retain(|other| *other != node);
    }
}

async fn serve(listener: TcpListener, nodes: Arc<Nodes>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((mut near, _)) = accepted else { continue };
                let node = {
                    let all = nodes.all.read().unwrap();
                    let turn = nodes.turn.fetch_add(1, Ordering::Relaxed);
                    if all.is_empty() {
                        continue;
                    }
                    all[turn % all.len()]
                };
                connections.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(node).await else { return };
                    let _ = (near.set_nodelay(true), far.set_nodelay(true));
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}
