//! The server under test: in this process, on free ports, with a clock the test sets; or the real program.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock, SystemRng};
use control::operations::MintToken;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tempfile::TempDir;
use testkit::patiently;
use vouchgate::server::{Options, Server};

/// A server in this process.
pub(crate) struct Gateway {
    /// The public listener.
    pub(crate) public: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
    /// Its clock; stands still unless the test moves it.
    pub(crate) clock: FakeClock,
    /// Where its state is, kept while it runs.
    _dir: Arc<TempDir>,
    server: Server,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; fails the test if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.text()))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The error's code, where the dialect puts it.
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        let code = json.pointer("/error/code").or_else(|| json.pointer("/error/type")).or_else(|| json.get("code"));
        code.and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// A client `app` with scope `chat` that may use every model, and a policy that lets it: what most tests start from.
pub(crate) const APP: &str = r#"
[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "app"
who = { issuer = "vouchgate", client = "app", scope = ["chat"] }
may = { models = ["*"], services = ["*"], upstreams = ["*"] }
"#;

/// A `[[provider]]` at a mock's address, whose key is in `key_file`.
pub(crate) fn provider(name: &str, kind: &str, base_url: &str, key_file: &Path) -> String {
    format!(
        "\n[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{base_url}\"\nallow_private = true\n\
         api_key = {{ file = {:?} }}\n",
        key_file.display().to_string()
    )
}

/// A file only its owner reads, holding a secret.
pub(crate) fn secret_file(dir: &Path, name: &str, value: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, value).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The files below a directory.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_below(&entry.path()));
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found
}

/// The files below a directory, each with what is in it.
pub(crate) fn contents_below(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let with = |path: PathBuf| std::fs::read(&path).map(|bytes| (path, bytes)).unwrap();
    files_below(dir).into_iter().map(with).collect()
}

impl Gateway {
    /// Start with this configuration, which has neither `[server]` nor `[vault]`.
    pub(crate) async fn start(config: &str) -> Self {
        Self::start_in(Arc::new(tempfile::tempdir().unwrap()), config).await
    }

    /// Start on a directory that may hold the state of a server before.
    pub(crate) async fn start_in(dir: Arc<TempDir>, config: &str) -> Self {
        let clock = FakeClock::at(SystemClock.now());
        Self::start_at(dir, config, clock, None).await
    }

    /// Start with everything given. With `file`, a reload reads the configuration from there.
    pub(crate) async fn start_at(dir: Arc<TempDir>, config: &str, clock: FakeClock, file: Option<PathBuf>) -> Self {
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = {:?}\n{config}",
            dir.path().join("data").display().to_string()
        );
        if let Some(file) = &file {
            std::fs::write(file, &text).unwrap();
        }
        let config = vouchgate::preflight::read(&text).unwrap_or_else(|faults| panic!("{faults:#?}\n{text}"));
        let options =
            Options { config, file, create_master_key: true, clock: Arc::new(clock.clone()), rng: Arc::new(SystemRng) };
        let server = patiently("the server to start", Box::pin(Server::start(options))).await.unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { public: server.public_addr(), admin: server.admin_addr(), clock, _dir: dir, server, client }
    }

    /// The running server.
    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Wait until what the test changed through [`Gateway::server`] is in force.
    pub(crate) async fn settled(&self) {
        assert!(self.server.settled().await, "a change comes into force");
    }

    /// The URL of a path of the public listener.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.public)
    }

    /// A token of a client, with all its scopes.
    pub(crate) async fn token(&self, client: &str) -> String {
        let mint = MintToken { client: client.to_owned(), subject: None, scope: None, ttl: None, jkt: None };
        self.server.operations().token_mint(&mint, "test").await.unwrap().access_token.expose().to_owned()
    }

    /// Send a request and wait for the whole answer.
    pub(crate) async fn send(&self, request: Request<Full<bytes::Bytes>>) -> Answer {
        let response = patiently("an answer", self.client.request(request)).await.unwrap();
        let (head, body) = response.into_parts();
        let body = patiently("the answer's body", body.collect()).await.unwrap().to_bytes().to_vec();
        Answer { status: head.status, headers: head.headers, body }
    }

    /// GET with a bearer token.
    pub(crate) async fn get(&self, path: &str, token: &str) -> Answer {
        self.send(self.request(Method::GET, path, token).body(Full::default()).unwrap()).await
    }

    /// POST JSON with a bearer token.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, path, token).header("content-type", "application/json");
        self.send(request.body(Full::from(body.to_string())).unwrap()).await
    }

    /// The beginning of a request with a bearer token.
    pub(crate) fn request(&self, method: Method, path: &str, token: &str) -> http::request::Builder {
        Request::builder().method(method).uri(self.url(path)).header("authorization", format!("Bearer {token}"))
    }

    /// Stop as the real program does.
    pub(crate) async fn shut_down(self) {
        patiently("the server to stop", self.server.shut_down()).await;
    }

    /// Stop without the pauses of a real shutdown.
    pub(crate) async fn stop(self) {
        patiently("the server to stop", self.server.stop()).await;
    }
}

/// The real program.
pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_vouchgate"))
}

/// Run the real program to its end: exit status, standard output, standard error.
pub(crate) fn run(args: &[&str], dir: &Path, stdin: &[u8]) -> (i32, String, String) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(program())
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    // A program that does not read its input may be gone before it is written.
    let _ = input.write_all(stdin);
    drop(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Run one of `tests/clients/scripts` with a job; `None` (and a note that the test was skipped) where the official SDKs
/// are not installed.
pub(crate) async fn client(script: &str, test: &str, job: &Value) -> Option<Value> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/scripts").join(script);
    let (program, file) = if Path::new(script).extension().is_some_and(|extension| extension == "py") {
        (vectors::python(), Some(source))
    } else {
        // Node looks for packages beside the script, and for what the script imports there too.
        let beside = source.parent().unwrap().join("browser.mjs");
        let copied = vectors::node_project().map(|dir| {
            copy_into(&dir, &beside);
            copy_into(&dir, &source)
        });
        (copied.is_some().then(|| PathBuf::from("node")), copied)
    };
    let (Some(program), Some(file)) = (program, file) else {
        vectors::skip(test, "the official SDKs are not installed (cargo xtask test installs them)");
        return None;
    };
    let job = job.to_string();
    let output = tokio::task::spawn_blocking(move || {
        use std::io::Write;
        use std::process::{Command, Stdio};
        let mut child = Command::new(program)
            .arg(file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(job.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = tokio::time::timeout(Duration::from_mins(2), output).await.expect("the client ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{script}: {said}");
    Some(serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{script}: {error}: {said}")))
}

/// Copy a file into a directory where another test may be reading it: its place is taken in one step.
pub(crate) fn copy_into(dir: &Path, file: &Path) -> PathBuf {
    let place = dir.join(file.file_name().unwrap());
    let new = tempfile::NamedTempFile::new_in(dir).unwrap();
    std::fs::copy(file, new.path()).unwrap();
    new.persist(&place).unwrap();
    place
}

/// The real program, serving.
pub(crate) struct Program {
    /// Its process.
    pub(crate) process: testkit::process::Process,
    /// The public listener.
    pub(crate) public: SocketAddr,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
}

/// Write `vouchgate.toml` into `dir`: free ports, state in `data`, then `server` (more keys of `[server]`) and `config`.
pub(crate) fn write_config(dir: &Path, server: &str, config: &str) {
    let text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n{server}\n{config}"
    );
    std::fs::write(dir.join("vouchgate.toml"), text).unwrap();
}

impl Program {
    /// `vouchgate serve` in `dir`, with the configuration there; its state is made first if there is none.
    pub(crate) async fn serve(dir: &Path, env: &[(&str, &str)]) -> Self {
        if !dir.join("data/master.key").exists() {
            let (exit, _, said) = run(&["key", "list", "--config", "vouchgate.toml"], dir, b"");
            assert_eq!(exit, 0, "{said}");
        }
        let args = ["serve", "--config", "vouchgate.toml"];
        Self::listening(testkit::process::Process::start(program(), &args, dir, env)).await
    }

    /// Of a process that has just been started.
    pub(crate) async fn listening(mut process: testkit::process::Process) -> Self {
        let line = process.line("listening").await;
        let address = |name: &str| {
            let (_, rest) =
                line.split_once(&format!("{name}=")).or_else(|| line.split_once(&format!("\"{name}\":\""))).unwrap();
            rest.split([' ', '"']).next().unwrap().parse().unwrap_or_else(|_| panic!("no address in {line}"))
        };
        let (public, admin) = (address("public"), address("admin"));
        Self { process, public, admin }
    }

    /// A request with a bearer token and JSON.
    pub(crate) async fn post(&self, path: &str, token: &str, body: &Value) -> testkit::raw::Response {
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        testkit::raw::request(self.public, "POST", path, &headers, body.to_string().as_bytes()).await
    }
}

/// Run a command that has to succeed on the state of `dir`; its standard output without the line break.
pub(crate) fn command(dir: &Path, args: &[&str], stdin: &[u8]) -> String {
    let args = [args, &["--config", "vouchgate.toml"]].concat();
    let (exit, out, said) = run(&args, dir, stdin);
    assert_eq!(exit, 0, "{args:?}: {out}{said}");
    out.trim_end().to_owned()
}
