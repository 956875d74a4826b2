//! What happens when something the gateway needs fails: each row of the table in docs/operations.md is a test here, with the
//! real program. It goes on with what it can answer for, refuses the rest with a code, and recovers by itself.

mod clock;
mod databases;
mod disk;

use std::path::Path;

use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::mock::Mock;
use testkit::raw::{self, Response};

use crate::attacks::chat_answer;
use crate::support::{Program, command, provider, run, secret_file, write_config};

const CHAT: &str = "/v1/chat/completions";
const ORIGIN: &str = "https://ai.example.com";

const CONFIG: &str = r#"
[limits]
connections_per_address = 1000
pre_stop = "0s"
drain_timeout = "1s"

[dpop]
nonce = "optional"

[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "all"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["*"] }
rate = [{ requests = 1000000, per = "subject", window = "1m" }]
spend = [{ limit = "1000 USD", per = "subject", window = "1d" }]

[[price]]
provider = "prov"
model = "*"
input = "1 USD"
output = "1 USD"
"#;

/// What the table in docs/operations.md says of a failure: the row that begins with it.
struct Told(String);

impl Told {
    fn of(failure: &str) -> Self {
        let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/operations.md");
        let manual = std::fs::read_to_string(manual).unwrap();
        let row = manual.lines().find(|line| line.starts_with(&format!("| {failure} |")));
        Self(row.unwrap_or_else(|| panic!("docs/operations.md has no row for {failure:?}")).to_owned())
    }

    /// The answer is a refusal with this status and a code that the manual names for this failure.
    fn refusal(&self, answer: &Response, status: u16) {
        assert_eq!(answer.status(), status, "{}", answer.text());
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error} in {answer:?}"));
        let code = body.pointer("/error/code").or_else(|| body.get("code")).or_else(|| body.get("error"));
        let code = code.and_then(Value::as_str).unwrap_or_else(|| panic!("{body}"));
        assert!(self.0.contains(&format!("`{code}`")), "{code} is not in {}", self.0);
    }
}

/// An installation: one node of the real program, in front of one provider.
struct Node {
    dir: tempfile::TempDir,
    provider: Mock,
    program: Option<Program>,
    /// Of the subject that has been here before: its budget is leased.
    token: String,
    /// For the admin API.
    admin: String,
}

fn question() -> Value {
    json!({"model": "prov/m1", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]})
}

impl Node {
    /// Running, with `[store]` as given, and with these variables.
    async fn start(store: &str, env: &[(&str, &str)]) -> Self {
        let provider_mock = Mock::start_with(|_| chat_answer()).await;
        let dir = tempfile::tempdir().unwrap();
        let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", provider_mock.url()), &key);
        write_config(dir.path(), &format!("external_url = {ORIGIN:?}"), &format!("{store}{CONFIG}{prov}"));
        let program = Program::serve(dir.path(), env).await;
        let mut node =
            Self { dir, provider: provider_mock, program: Some(program), token: String::new(), admin: String::new() };
        node.token = node.mint("app", &[]);
        node.admin = command(node.at(), &["admin", "token", "create", "me", "--role", "owner"], b"");
        assert_eq!(node.ask().await.status(), 200);
        node
    }

    fn at(&self) -> &Path {
        self.dir.path()
    }

    fn program(&self) -> &Program {
        self.program.as_ref().unwrap()
    }

    fn mint(&self, subject: &str, more: &[&str]) -> String {
        let args = [&["token", "mint", "--client", "app", "--subject", subject], more].concat();
        command(self.at(), &args, b"")
    }

    /// A request of the subject that has been here before.
    async fn ask(&self) -> Response {
        self.ask_as(&self.token).await
    }

    async fn ask_as(&self, token: &str) -> Response {
        self.program().post(CHAT, token, &question()).await
    }

    /// Requests of whoever was here before go on.
    async fn goes_on(&self, what: &str) {
        for _ in 0..10 {
            let before = self.provider.count();
            let answer = self.ask().await;
            assert_eq!(answer.status(), 200, "{what}: {}\n{}", answer.text(), self.program().process.output());
            assert_eq!(self.provider.count(), before + 1, "{what}");
        }
    }

    /// A change by the admin API.
    async fn change(&self, name: &str) -> Response {
        let bearer = format!("Bearer {}", self.admin);
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let body = json!({"targets": [{"provider": "prov", "model": "m1"}]}).to_string();
        let path = format!("/admin/v1/models/{name}");
        raw::request(self.program().admin, "PUT", &path, &headers, body.as_bytes()).await
    }

    /// Whether the admin listener says that all is well.
    async fn is_well(&self) -> bool {
        raw::request(self.program().admin, "GET", "/readyz", &[], b"").await.status() == 200
    }

    /// Wait until it says so, or no more.
    async fn until_well(&self, well: bool) {
        testkit::patiently(&format!("/readyz to say {well}"), async { while self.is_well().await != well {} }).await;
    }

    /// Everything works.
    async fn is_whole(&self, what: &str) {
        self.until_well(true).await;
        self.goes_on(what).await;
        let fresh = self.mint(&format!("new-{what}"), &[]);
        assert_eq!(self.ask_as(&fresh).await.status(), 200, "{what}");
        let changed = self.change(&format!("since-{}", what.replace(' ', "-"))).await;
        assert!([200, 201].contains(&changed.status()), "{what}: {}", changed.text());
    }

    /// Every request that reached the provider has its record and no second one, but for those whose commit was cut: they are
    /// counted as dropped, whether or not they were written.
    async fn all_are_recorded(&self) {
        let served = self.provider.count();
        let all = async {
            loop {
                let recorded = self.recorded().await;
                assert!(recorded <= served, "{recorded} records of {served} requests");
                if recorded + self.dropped().await >= served {
                    break;
                }
            }
        };
        testkit::patiently("every request to have its record", all).await;
    }

    async fn dropped(&self) -> usize {
        let metrics = raw::request(self.program().admin, "GET", "/metrics", &[], b"").await.text();
        let line = metrics.lines().find_map(|line| line.strip_prefix("vouchgate_records_dropped_total "));
        line.unwrap_or_else(|| panic!("{metrics}")).parse().unwrap()
    }

    /// How many records there are of what went well, by the sums that are written in one transaction with them: under load they are too
    /// many to be looked through again and again.
    async fn recorded(&self) -> usize {
        let bearer = format!("Bearer {}", self.admin);
        let headers = [("authorization", bearer.as_str())];
        let answer = raw::request(self.program().admin, "GET", "/admin/v1/usage?since=24h", &headers, b"").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        let sums = &serde_json::from_slice::<Value>(&answer.body).unwrap()["total"];
        let count = |name: &str| usize::try_from(sums[name].as_u64().unwrap()).unwrap();
        count("requests") - count("failed")
    }

    /// It can be stopped in order, and what is on its disk is sound.
    async fn ends_sound(mut self) {
        let mut program = self.program.take().unwrap();
        program.process.signal("TERM");
        assert!(program.process.ended().await.success(), "{}", program.process.output());
        let (_, out, said) = run(&["doctor", "--json", "--config", "vouchgate.toml"], self.at(), b"");
        assert!(out.contains("sound; no server is running on it"), "{out}{said}");
        let (exit, out, said) = run(&["audit", "verify", "--config", "vouchgate.toml"], self.at(), b"");
        assert_eq!(exit, 0, "{out}{said}");
    }
}

/// A caller with a key, whose every request has a proof.
struct Bound {
    holder: Holder,
    token: String,
}

impl Bound {
    fn new(node: &Node) -> Self {
        let holder = Holder::new("ES256");
        let token = node.mint("bound", &["--jkt", &holder.jkt()]);
        Self { holder, token }
    }

    async fn ask(&self, node: &Node) -> Response {
        let now = base::Clock::now(&base::SystemClock).as_secs();
        let proof = self.holder.proof("POST", &format!("{ORIGIN}{CHAT}"), now).token(&self.token);
        let first = self.send(node, &proof.sign()).await;
        match first.header("dpop-nonce") {
            Some(nonce) if first.status() == 401 => {
                let proof = self.holder.proof("POST", &format!("{ORIGIN}{CHAT}"), now).token(&self.token);
                self.send(node, &proof.nonce(nonce).sign()).await
            }
            _ => first,
        }
    }

    async fn send(&self, node: &Node, proof: &str) -> Response {
        let credential = format!("DPoP {}", self.token);
        let headers = [("authorization", credential.as_str()), ("dpop", proof), ("content-type", "application/json")];
        raw::request(node.program().public, "POST", CHAT, &headers, question().to_string().as_bytes()).await
    }

    async fn until_taken(&self, node: &Node) {
        testkit::patiently("proofs to be taken", async { while self.ask(node).await.status() != 200 {} }).await;
    }
}
