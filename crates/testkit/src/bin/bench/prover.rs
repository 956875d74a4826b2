//! Requests that prove who sends them: each is made anew, shortly before it is sent, since a proof is good once and not
//! for long. What making them costs is the load's; only the subject is measured.

use std::net::SocketAddr;
use std::time::Duration;

use base::{Clock, SystemClock};
use testkit::dpop::Holder;
use testkit::signature::Signing;

use crate::load::{Connection, Target};
use crate::subject::{AUDIENCE, PATH, body, request};

/// A client that holds the key its token is bound to.
#[derive(Debug)]
pub(crate) struct Prover {
    pub(crate) holder: Holder,
    pub(crate) token: String,
    pub(crate) kind: Proof,
    pub(crate) addr: SocketAddr,
}

/// How it proves the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// RFC 9449, with a nonce.
    Dpop,
    /// RFC 9421, with the body.
    Signature,
}

impl Prover {
    /// Wait until the server takes signatures: for some seconds after its start it refuses those that could have been
    /// used before.
    pub(crate) async fn ready(&self) {
        let mut answer = String::new();
        for _ in 0..100 {
            let mut connection = Connection::open(&Target { addr: self.addr, tls: None }).await;
            let request = self.requests(1, false).await.remove(0);
            answer = connection.head(&request).await;
            if answer.starts_with("HTTP/1.1 200") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("no proof is taken: {answer}");
    }

    /// So many requests, each with a proof of its own.
    pub(crate) async fn requests(&self, count: usize, stream: bool) -> Vec<Vec<u8>> {
        let now = SystemClock.now().as_secs();
        match self.kind {
            Proof::Dpop => {
                let nonce = self.nonce(now).await;
                (0..count).map(|_| self.with_proof(Some(&nonce), now, stream)).collect()
            }
            Proof::Signature => (0..count).map(|_| self.signed(now, stream)).collect(),
        }
    }

    fn with_proof(&self, nonce: Option<&str>, now: i64, stream: bool) -> Vec<u8> {
        let proof = self.holder.proof("POST", &url(), now).token(&self.token);
        let proof = nonce.map_or(proof.clone(), |nonce| proof.nonce(nonce)).sign();
        request(&format!("Authorization: DPoP {}\r\nDPoP: {proof}\r\n", self.token), &body(stream))
    }

    fn signed(&self, now: i64, stream: bool) -> Vec<u8> {
        let (body, credential) = (body(stream), format!("Bearer {}", self.token));
        let signing = Signing::new(&self.holder, "POST", &url(), ("authorization", &credential), now);
        let mut headers = format!("Authorization: {credential}\r\n");
        for (name, value) in signing.body("application/json", body.as_bytes()).sign() {
            // Every request says what type it has already.
            if name != "content-type" {
                headers.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        request(&headers, &body)
    }

    /// What the server wants to see in proofs: it says so to whoever leaves it out.
    async fn nonce(&self, now: i64) -> String {
        let mut connection = Connection::open(&Target { addr: self.addr, tls: None }).await;
        let head = connection.head(&self.with_proof(None, now, false)).await;
        let line = head
            .lines()
            .find_map(|line| line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("dpop-nonce")));
        line.unwrap_or_else(|| panic!("no nonce in {head}")).1.to_owned()
    }
}

fn url() -> String {
    format!("{AUDIENCE}{PATH}")
}
