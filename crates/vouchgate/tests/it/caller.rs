//! A caller who holds a key: its token, its proofs, its nonce, over a socket.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Clock;
use serde_json::{Value, json};
use testkit::dpop::{Holder, Proof};
use testkit::raw::{self, Connection, Response};

use crate::attacks::question;

/// Where the requests go.
pub(crate) const PATH: &str = "/v1/chat/completions";

/// A caller with a key and a token bound to it.
pub(crate) struct Caller {
    /// The server's public listener.
    pub(crate) addr: SocketAddr,
    /// The server as proofs name it.
    pub(crate) origin: String,
    /// The key.
    pub(crate) holder: Holder,
    /// The token.
    pub(crate) token: String,
    clock: Arc<dyn Clock>,
}

impl Caller {
    /// With a key of its own; the server is known to its clients by its address.
    pub(crate) fn new(addr: SocketAddr, holder: Holder, token: String, clock: Arc<dyn Clock>) -> Self {
        Self { addr, origin: format!("http://{addr}"), holder, token, clock }
    }

    /// Known to its clients by this origin.
    pub(crate) fn at(mut self, origin: &str) -> Self {
        origin.clone_into(&mut self.origin);
        self
    }

    /// The moment, in seconds.
    pub(crate) fn now(&self) -> i64 {
        self.clock.now().as_secs()
    }

    /// A good proof for a question, but for the nonce.
    pub(crate) fn bare(&self) -> Proof<'_> {
        self.holder.proof("POST", &format!("{}{PATH}", self.origin), self.now()).token(&self.token)
    }

    /// A good proof for a question.
    pub(crate) fn proof(&self, nonce: &str) -> Proof<'_> {
        self.bare().nonce(nonce)
    }

    /// The nonce the server asks for; fails the test if it asks for none.
    pub(crate) async fn nonce(&self) -> String {
        let answer = self.ask(&self.bare().sign()).await;
        challenged(&answer)
    }

    /// Ask a question with token and proof.
    pub(crate) async fn ask(&self, proof: &str) -> Response {
        self.ask_at(PATH, proof).await
    }

    /// The same with another target, such as one with a query.
    pub(crate) async fn ask_at(&self, path: &str, proof: &str) -> Response {
        let credential = format!("DPoP {}", self.token);
        self.ask_with(path, &[("authorization", credential.as_str()), ("dpop", proof)]).await
    }

    /// Ask a question with exactly these headers and its content type.
    pub(crate) async fn ask_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        let headers = [headers, &[("content-type", "application/json")]].concat();
        raw::request(self.addr, "POST", path, &headers, question().to_string().as_bytes()).await
    }

    /// A connection on which the question is sent but its answer not read yet.
    pub(crate) async fn sent(&self, body: &Value, proof: &str) -> Connection {
        let credential = format!("DPoP {}", self.token);
        let headers = [("authorization", credential.as_str()), ("dpop", proof), ("content-type", "application/json")];
        let mut connection = Connection::open(self.addr).await;
        connection.request("POST", PATH, &headers, body.to_string().as_bytes()).await;
        connection
    }

    /// A request in good order works.
    pub(crate) async fn fine(&self, when: &str) {
        let nonce = self.nonce().await;
        let answer = self.ask(&self.proof(&nonce).sign()).await;
        assert_eq!(answer.status(), 200, "{when}: {} {:?}", answer.text(), answer.head);
    }
}

/// The members of a token's `cnf` that bind it to this key.
pub(crate) fn bound_to(holder: &Holder) -> Value {
    json!({"jkt": holder.jkt()})
}

/// The nonce of a resource's challenge that asks for one (RFC 9449 section 9); fails the test if it is none.
pub(crate) fn challenged(answer: &Response) -> String {
    refused_as(answer, "use_dpop_nonce");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{:?}", answer.head);
    let nonces: Vec<_> = answer.head.headers.iter().filter(|(name, _)| name == "dpop-nonce").collect();
    assert_eq!(nonces.len(), 1, "{:?}", answer.head);
    nonces[0].1.clone()
}

/// A 401 whose challenge of the scheme `DPoP` has this error, names algorithms and where our metadata is.
pub(crate) fn refused_as(answer: &Response, error: &str) {
    let challenge = challenges(answer);
    assert_eq!(answer.status(), 401, "{error}: {challenge} {}", answer.text());
    assert!(challenge.contains("DPoP "), "{error}: {challenge}");
    assert!(challenge.contains(&format!("error=\"{error}\"")), "{error}: {challenge}");
    assert!(challenge.contains("algs=\"") && challenge.contains("ES256"), "{challenge}");
    assert!(challenge.contains("resource_metadata=\""), "{challenge}");
}

/// Every challenge of an answer, joined.
pub(crate) fn challenges(answer: &Response) -> String {
    let lines = answer.head.headers.iter().filter(|(name, _)| name == "www-authenticate");
    lines.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ")
}
