//! Nothing secret leaves its place (check 41): a unique canary in every secret slot, in tokens and in prompts; a broad
//! scenario with all its errors at trace level; then every log line, metric, error body, file of the data directory
//! and what `/proc` shows of the process is searched.

mod tokens;

use std::path::Path;

use serde_json::{Value, json};
use testkit::certs::Authority;
use testkit::keys::TestKey;
use testkit::mock::{Answer, Mock};
use testkit::raw::{self, Connection};

use crate::support::{APP, Program, command, files_below, run, secret_file, write_config};

const ENV: &str = "canary-of-the-environment-4f1b";
const FILE: &str = "canary-in-a-key-file-91d2";
const SEALED: &str = "canary-in-the-vault-77ce";
const INJECTED: &str = "canary-injected-upstream-0b3a";
const SHARED: &str = "cAnaRy!7q-Hs256_x2$Lk9@vTz4#Wp8%Rm";
const PROMPT: &str = "canary-prompt-e5a9";
const SYSTEM: &str = "canary-system-prompt-1c44";
const ANSWERED: &str = "canary-answer-8d70";
const QUERY: &str = "canary-query-2e6f";
const GARBAGE: &str = "canary-garbage-token-c0de";
const WRONG: &str = "canary-wrong-secret-5bad";
const COOKIE: &str = "canary-cookie-6a1e";

/// What is searched for: a name for the report and the bytes.
type Canary = (String, String);

struct World {
    dir: tempfile::TempDir,
    mock: Mock,
    people: tokens::People,
    program: Program,
    authority: Authority,
    canaries: Vec<Canary>,
    /// Bodies and headers of answers that were errors.
    errors: Vec<String>,
    token: String,
    key: String,
    admin: String,
    statuses: Vec<u16>,
}

fn configuration(dir: &Path, mock: &Mock, people: &tokens::People) -> String {
    let file = secret_file(dir, "provider.key", FILE);
    let shared = secret_file(dir, "hs256.secret", SHARED);
    let provider = |name: &str, key: &str| {
        format!(
            "\n[[provider]]\nname = \"{name}\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\napi_key = {key}\n",
            mock.url()
        )
    };
    format!(
        "[log]\nlevel = \"trace\"\n\n[limits]\npre_stop = \"0s\"\nbody = \"64KiB\"\n{APP}{}{}{}\n\
         [[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/\"\nallow_private = true\n\
         inject = {{ header = \"X-Api-Key\", value = {{ secret = \"maps-key\" }} }}\n\n\
         [[service]]\nname = \"summary\"\npath = \"/v1/summary\"\nmodel = \"byfile/m\"\nprompt = \"Summarise: {{{{input}}}}\"\n\n\
         [[issuer]]\nname = \"node\"\nhs256_secret = {{ file = {:?} }}\nclaims = {{ subject = \"id\" }}\n\n\
         [[policy]]\nname = \"node\"\nwho = {{ issuer = \"node\" }}\nmay = {{ models = [\"byfile/only\"] }}\n\n\
         [[policy]]\nname = \"keys\"\nwho = {{ key = \"laptop\" }}\nmay = {{ models = [\"*\"], providers = [\"byfile\"] }}\n\
         rate = [{{ requests = 3, per = \"subject\", window = \"1m\" }}]\n{}",
        provider("byenv", "{ env = \"CANARY_PROVIDER_KEY\" }"),
        provider("byfile", &format!("{{ file = {:?} }}", file.display().to_string())),
        provider("sealed", "{ secret = \"sealed-key\" }"),
        mock.url(),
        shared.display().to_string(),
        people.configuration(dir),
    )
}

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": PROMPT}]})
}

impl World {
    async fn start() -> Self {
        let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path();
        let authority = Authority::new();
        let identity = authority.server(&["localhost"]);
        std::fs::write(at.join("cert.pem"), &identity.cert_pem).unwrap();
        secret_file(at, "tls.key", &identity.key_pem);
        let tls = "admin_tls = { cert = \"cert.pem\", key = \"tls.key\" }";
        let people = tokens::People::start().await;
        write_config(at, tls, &configuration(at, &mock, &people));
        let set = |name: &str, value: &str| {
            let args = ["secret", "set", name, "--config", "vouchgate.toml"];
            let (exit, out, said) = run(&args, at, value.as_bytes());
            assert_eq!(exit, 0, "{out}{said}");
            assert!(!format!("{out}{said}").contains(value), "the command repeats the secret: {out}{said}");
        };
        set("sealed-key", SEALED);
        set("maps-key", INJECTED);
        let program = Program::serve(at, &[("CANARY_PROVIDER_KEY", ENV)]).await;
        let token = command(at, &["token", "mint", "--client", "app"], b"");
        let key = command(at, &["apikey", "create", "laptop"], b"");
        let admin = command(at, &["admin", "token", "create", "me", "--role", "owner"], b"");
        let first = command(at, &["client", "create", "made", "--scope", "chat"], b"");
        let second = command(at, &["client", "rotate", "made"], b"");
        let mut canaries: Vec<Canary> = [
            ("provider key of a file", FILE),
            ("provider key of the vault", SEALED),
            ("injected key", INJECTED),
            ("shared secret", SHARED),
            ("prompt", PROMPT),
            ("system prompt", SYSTEM),
            ("answer", ANSWERED),
            ("query", QUERY),
            ("garbage token", GARBAGE),
            ("wrong secret", WRONG),
            ("cookie", COOKIE),
            ("secret at the OpenID provider", tokens::SECRET_AT_OP),
            ("access token", &token),
            ("signature", token.rsplit('.').next().unwrap()),
            ("vg_ key", &key),
            ("admin token", &admin),
            ("client secret", &first),
            ("rotated client secret", &second),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let body = identity.key_pem.lines().nth(1).unwrap().to_owned();
        canaries.push(("TLS key".to_owned(), body));
        let master = std::fs::read(at.join("data/master.key")).unwrap();
        canaries.push(("master key".to_owned(), String::from_utf8_lossy(&master).trim().to_owned()));
        let (errors, statuses) = (Vec::new(), Vec::new());
        Self { dir, mock, people, program, authority, canaries, errors, token, key, admin, statuses }
    }

    fn note(&mut self, answer: &raw::Response) {
        self.statuses.push(answer.status());
        if answer.status() >= 400 {
            self.errors.push(format!("{:?} {}", answer.head, answer.text()));
        }
    }

    async fn call(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> raw::Response {
        let mut all = vec![("cookie", COOKIE), ("content-type", "application/json")];
        all.retain(|(name, _)| !headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)));
        all.extend_from_slice(headers);
        let answer = raw::request(self.program.public, method, path, &all, body).await;
        self.note(&answer);
        answer
    }

    /// POST with the client's token.
    async fn post(&mut self, path: &str, body: &Value) -> raw::Response {
        let bearer = format!("Bearer {}", self.token);
        self.call("POST", path, &[("authorization", &bearer)], body.to_string().as_bytes()).await
    }

    /// The admin API, over TLS.
    async fn admin(&mut self, method: &str, path: &str, token: &str, body: &str) -> raw::Response {
        let config = self.authority.client_config(None, &[]);
        let mut connection = Connection::open_tls(self.program.admin, "localhost", config).await.unwrap();
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        connection.request(method, path, &headers, body.as_bytes()).await;
        let answer = connection.response().await;
        self.note(&answer);
        answer
    }

    async fn good_requests(&mut self) {
        for model in ["byenv/m", "byfile/m", "sealed/m", "vouchgate/echo"] {
            let answer = self.post("/v1/chat/completions", &chat(model)).await;
            assert_eq!(answer.status(), 200, "{model}: {}", answer.text());
        }
        let mut with_tools = chat("byfile/m");
        with_tools["stream"] = json!(true);
        with_tools["tools"] = json!([{"type": "function", "function": {"name": "f", "description": PROMPT}}]);
        let event = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                           "choices": [{"index": 0, "delta": {"content": ANSWERED}, "finish_reason": "stop"}]});
        self.mock.push(Answer::openai_stream(std::slice::from_ref(&event)));
        assert!(self.post("/v1/chat/completions", &with_tools).await.text().contains(ANSWERED));
        let messages = json!({"model": "byfile/m", "max_tokens": 9, "system": SYSTEM, "messages": [{"role": "user", "content": PROMPT}]});
        assert_eq!(self.post("/v1/messages", &messages).await.status(), 200);
        assert_eq!(self.post("/v1/summary", &json!({"input": PROMPT})).await.status(), 200);
        let bearer = format!("Bearer {}", self.token);
        let path = format!("/maps/route?secret={QUERY}");
        let answer = self.call("GET", &path, &[("authorization", &bearer)], b"").await;
        assert_eq!(answer.status(), 200, "{}", answer.text());
        assert_eq!(self.mock.requests().last().unwrap().header("x-api-key"), Some(INJECTED));
        let key = format!("Bearer {}", self.key);
        let native = "/providers/byfile/v1/chat/completions";
        assert_eq!(
            self.call("POST", native, &[("authorization", &key)], chat("m").to_string().as_bytes()).await.status(),
            200
        );
    }

    /// Requests that go wrong before a provider hears of them.
    async fn bad_requests(&mut self) {
        let body = chat("byfile/m").to_string();
        let (token, key) = (format!("Bearer {}", self.token), format!("Bearer {}", self.key));
        for credential in [
            format!("Bearer {GARBAGE}"),
            format!("Bearer {GARBAGE}.{GARBAGE}.{GARBAGE}"),
            format!("Bearer vg_{GARBAGE}"),
            format!("Basic {GARBAGE}"),
            format!("{token}x"),
            format!("{key}x"),
            format!("{GARBAGE} {GARBAGE}, {GARBAGE}"),
        ] {
            self.call("POST", "/v1/chat/completions", &[("authorization", &credential)], body.as_bytes()).await;
            self.call("GET", &format!("/v1/models?key={QUERY}"), &[("x-api-key", &credential)], b"").await;
        }
        self.call(
            "POST",
            &format!("/v1/chat/completions?access_token={QUERY}"),
            &[("authorization", &token)],
            body.as_bytes(),
        )
        .await;
        self.call("POST", &format!("/nothing/{QUERY}?key={QUERY}"), &[("authorization", &token)], body.as_bytes())
            .await;
        for text in [
            format!("{{\"model\":\"byfile/m\",\"messages\":[{{\"content\":\"{PROMPT}\""),
            format!("{{\"model\":\"byfile/m\",\"model\":\"byfile/m\",\"messages\":\"{PROMPT}\"}}"),
            format!("{{\"model\":\"byfile/m\",\"messages\":\"{PROMPT}\",\"api_base\":\"{QUERY}\"}}"),
            format!("{{\"messages\":\"{PROMPT}\"}}"),
            format!("\"{PROMPT}\""),
            PROMPT.to_owned(),
            PROMPT.repeat(10_000),
        ] {
            for path in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings", "/v1/summary"] {
                self.call("POST", path, &[("authorization", &token)], text.as_bytes()).await;
            }
        }
        self.post("/v1/chat/completions", &chat("nowhere/m")).await;
        self.post("/v1/summary", &json!({"input": PROMPT, "parameters": {"response_format": PROMPT}})).await;
        // Another issuer's caller, whom the policy gives hardly anything.
        let now = base::Clock::now(&base::SystemClock).as_secs();
        let node = TestKey::hmac("HS256", SHARED)
            .mint_with(&json!({"alg": "HS256", "typ": "JWT"}), &json!({"id": "u", "iat": now, "exp": now + 600}));
        self.canaries.push(("token of a shared secret".to_owned(), node.clone()));
        let node = format!("Bearer {node}");
        assert_eq!(
            self.call("POST", "/v1/chat/completions", &[("authorization", &node)], body.as_bytes()).await.status(),
            403
        );
        for _ in 0..4 {
            self.call("POST", "/v1/chat/completions", &[("authorization", &key)], body.as_bytes()).await;
        }
        self.call("GET", &format!("/providers/byfile/v1/files/{QUERY}"), &[("authorization", &key)], b"").await;
        for form in [
            format!("grant_type=client_credentials&client_id=made&client_secret={WRONG}"),
            format!("grant_type=client_credentials&client_id=nobody&client_secret={WRONG}"),
            format!("grant_type=password&username=u&password={WRONG}"),
        ] {
            let kind = [("content-type", "application/x-www-form-urlencoded")];
            self.call("POST", "/oauth/token", &kind, form.as_bytes()).await;
        }
        self.call(
            "POST",
            "/oauth/token",
            &[("authorization", &format!("Basic {WRONG}"))],
            b"grant_type=client_credentials",
        )
        .await;
    }

    /// A provider that fails in every way, and talks while it does.
    async fn failing_provider(&mut self) {
        let talk = json!({"error": {"message": format!("{FILE} {PROMPT} {ANSWERED}"), "type": FILE}});
        let stream = format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{ANSWERED}\"}}}}]}}\n\ndata: {{\"error\":{{\"message\":\"{FILE}\"}}}}\n\n"
        );
        for (streamed, answer) in [
            (false, Answer::json(401, &talk).header("x-key", FILE)),
            (false, Answer::json(403, &talk)),
            (false, Answer::bytes(200, "text/html", format!("<html>{ANSWERED}{FILE}"))),
            (false, Answer::bytes(200, "application/json", format!("{{\"{ANSWERED}"))),
            (false, Answer::redirect(302, &format!("http://evil.example/?key={FILE}"))),
            (false, Answer::raw(format!("{ANSWERED} {FILE}\r\n\r\n"))),
            (false, Answer::nothing()),
            (false, Answer::json(200, &talk).header("content-encoding", "gzip")),
            (true, Answer::sse(stream.clone()).cut_after(stream.len() - 3)),
            (true, Answer::sse(format!("data: {ANSWERED}\n\n"))),
            (true, Answer::json(500, &talk)),
        ] {
            // The service asks as often as it may; each time the same is said.
            for path in ["/v1/chat/completions", "/v1/messages", "/v1/summary"] {
                self.mock.push(answer.clone());
                let body = if path == "/v1/summary" {
                    json!({"input": PROMPT, "parameters": {"response_format": "json"}})
                } else {
                    let mut body = chat("byfile/m");
                    body["stream"] = json!(streamed);
                    body["max_tokens"] = json!(9);
                    body["messages"] = json!([{"role": "user", "content": PROMPT}]);
                    body
                };
                let answered = self.post(path, &body).await;
                let text = format!("{:?}{}", answered.head, answered.text());
                assert!(!text.contains(FILE), "the provider's key in an answer: {text}");
            }
        }
    }

    async fn administration(&mut self) {
        let admin = self.admin.clone();
        for path in [
            "clients",
            "apikeys",
            "secrets",
            "keys",
            "admin-tokens",
            "providers",
            "issuers",
            "policies",
            "upstreams",
            "clients/made",
            "secrets/sealed-key",
        ] {
            let answer = self.admin("GET", &format!("/admin/v1/{path}"), &admin, "").await;
            let text = answer.text();
            for (name, canary) in &self.canaries {
                assert!(!text.contains(canary), "{name} in /admin/v1/{path}: {text}");
            }
        }
        for (method, path, body) in [
            ("PUT", "secrets/bad%20name", format!("{{\"value\":\"{WRONG}\"}}")),
            ("PUT", "secrets/sealed-key", format!("{{\"value\":\"{WRONG}\",\"unknown\":1}}")),
            ("PUT", "secrets/sealed-key", format!("{{\"value\":\"{WRONG}")),
            ("PUT", "secrets/new", format!("{{\"value\":\"{WRONG}\",\"origin\":\"not a url\"}}")),
            ("POST", "secrets/absent/rotate", format!("{{\"value\":\"{WRONG}\"}}")),
            ("PUT", "providers/bad", format!("{{\"api_key\":\"{WRONG}\"}}")),
            ("POST", "tokens", format!("{{\"client\":\"nobody\",\"scope\":[\"{WRONG}\"]}}")),
        ] {
            self.admin(method, &format!("/admin/v1/{path}"), &admin, &body).await;
        }
        self.admin("GET", "/admin/v1/clients", GARBAGE, "").await;
        self.admin("GET", "/admin/v1/clients", &format!("vga_{GARBAGE}"), "").await;
        // Commands that fail do not repeat what they were given either.
        let (_, out, said) =
            run(&["secret", "set", "bad name", "--config", "vouchgate.toml"], self.dir.path(), WRONG.as_bytes());
        assert!(!format!("{out}{said}").contains(WRONG), "{out}{said}");
    }

    /// Every place that must not hold a canary, searched.
    fn search(&self, metrics: &str, pid: Option<u32>) -> Vec<String> {
        let mut places: Vec<(String, Vec<u8>)> = vec![
            ("the log".to_owned(), self.program.process.output().into_bytes()),
            ("/metrics".to_owned(), metrics.as_bytes().to_vec()),
            ("error answers".to_owned(), self.errors.join("\n").into_bytes()),
        ];
        for file in files_below(&self.dir.path().join("data")) {
            places.push((file.display().to_string(), std::fs::read(&file).unwrap()));
        }
        if let Some(pid) = pid {
            for name in ["cmdline", "environ"] {
                match std::fs::read(format!("/proc/{pid}/{name}")) {
                    Ok(bytes) => places.push((format!("/proc/PID/{name}"), bytes)),
                    // The process lets nobody but root look (check 42).
                    Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{name}"),
                }
            }
        }
        let env = ("provider key of the environment".to_owned(), ENV.to_owned());
        let mut hits = Vec::new();
        for (place, bytes) in &places {
            for (name, canary) in self.canaries.iter().chain([&env]) {
                let own_place = name == "master key" && place.ends_with("master.key");
                let given_there = canary == ENV && place.ends_with("environ");
                if !own_place && !given_there && holds(bytes, canary.as_bytes()) {
                    let text = String::from_utf8_lossy(bytes);
                    let line = text.lines().find(|line| line.contains(canary.as_str())).unwrap_or_default();
                    hits.push(format!("{name} in {place}: {line:.300}"));
                }
            }
        }
        hits
    }
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    // Most bytes are not the first one of the needle: looked for before anything is compared.
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == needle[0]) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[tokio::test]
async fn check_41_no_canary_is_found_in_logs_metrics_errors_files_or_the_process() {
    let mut world = World::start().await;
    world.good_requests().await;
    world.bad_requests().await;
    world.failing_provider().await;
    world.token_service().await;
    world.administration().await;
    let admin = world.admin.clone();
    let metrics = world.admin("GET", "/metrics", &admin, "").await;
    assert_eq!(metrics.status(), 200);
    // The scenario went where it was meant to: every kind of refusal, and every file.
    let seen = &world.statuses;
    for status in [200, 400, 401, 403, 404, 413, 429, 502] {
        assert!(seen.contains(&status), "{status} not in {seen:?}");
    }
    let log = world.program.process.output();
    assert!(
        log.lines().count() > 100 && log.contains("/v1/chat/completions") | log.contains("route=\"chat\""),
        "{log}"
    );
    assert!(files_below(&world.dir.path().join("data")).len() >= 3);
    assert!(metrics.text().contains("vouchgate_"), "{}", metrics.text());

    let pid = world.program.process.pid();
    let hits = world.search(&metrics.text(), pid);
    assert!(hits.is_empty(), "while it runs: {hits:#?}");
    world.program.process.signal("HUP");
    world.program.process.line("reloaded").await;
    world.program.process.signal("TERM");
    assert!(world.program.process.ended().await.success());
    let hits = world.search(&metrics.text(), None);
    assert!(hits.is_empty(), "after it ended: {hits:#?}");
    // The search finds what is there.
    assert!(holds(b"xxcanary", b"canary") && !holds(b"xxcanarx", b"canary"));
}
