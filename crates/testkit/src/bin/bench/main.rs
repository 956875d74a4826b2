//! Measures what a request costs: straight to a mock provider, through a bare hyper proxy, through Vouchgate with
//! everything on and with each way to prove a token's key, and through HAProxy where it is installed. Each runs as a process of its own, one after the other,
//! against the same mock provider, in one run. `cargo xtask bench` builds and starts it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::format_push_string,
    clippy::cast_precision_loss,
    reason = "a measuring program: what goes wrong has to end it on the spot, and its output is what it is for"
)]

mod attest;
mod compare;
mod disk;
mod load;
mod prover;
mod report;
mod streams;
mod subject;
mod upstream;
mod verify;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use tokio::net::TcpListener;

const USAGE: &str = "\
usage: bench compare --vouchgate BINARY [--json FILE] [--requests N] [--only NAME]
       bench attest --vouchgate BINARY [--json FILE] [--installations N [--closing]] [--refusals N]
       bench upstream | bench proxy ADDRESS [DIRECTORY] | bench verify        (started by compare)";

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let flag = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    match args.first().map(String::as_str) {
        Some("compare") => {
            let plan = compare::Plan {
                vouchgate: flag("--vouchgate").map(PathBuf::from).expect(USAGE),
                requests: flag("--requests").map_or(50_000, |count| count.parse().expect("a number of requests")),
                only: flag("--only"),
            };
            let found = compare::run(&plan).await;
            println!("{}", report::table(&found));
            if let Some(file) = flag("--json") {
                std::fs::write(&file, report::json(&plan, &found)).expect("the result can be written");
            }
        }
        Some("attest") => {
            let number = |name: &str, usual: usize| {
                flag(name).map_or(usual, |count| count.parse().unwrap_or_else(|_| panic!("{name} is a number")))
            };
            let plan = attest::Plan {
                vouchgate: flag("--vouchgate").map(PathBuf::from).expect(USAGE),
                installations: number("--installations", 4_000),
                closing: args.iter().any(|arg| arg == "--closing"),
                refusals: number("--refusals", 100),
            };
            let found = attest::run(&plan).await;
            if let Some(file) = flag("--json") {
                std::fs::write(&file, found.to_string()).expect("the result can be written");
            }
        }
        Some("verify") => verify::run(),
        Some("upstream") => upstream::run(listen().await).await,
        Some("proxy") => {
            let upstream: SocketAddr = args.get(1).and_then(|addr| addr.parse().ok()).expect(USAGE);
            let tls = args.get(2).map(|dir| subject::shown(Path::new(dir)));
            testkit::proxy::run(listen().await, tls, upstream).await;
        }
        _ => panic!("{USAGE}"),
    }
}

/// A free port, told on standard output to whoever started us.
async fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    println!("listening on {}", listener.local_addr().expect("a bound listener"));
    listener
}
