//! The admin API and the commands, as an operator meets them: the real program, with and without a server running.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};
use testkit::raw::{self, Connection};

use crate::support::{APP, Program, command, provider, run, secret_file, write_config};

struct Installed {
    dir: tempfile::TempDir,
    mock: Mock,
}

impl Installed {
    async fn new() -> Self {
        let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
        let dir = tempfile::tempdir().unwrap();
        let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
        let more = "\n[[policy]]\nname = \"keys\"\nwho = { key = \"laptop\" }\nmay = { models = [\"*\"] }\n\n[[policy]]\nname = \"made\"\nwho = { client = \"made\" }\nmay = { models = [\"*\"] }\n";
        let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
        write_config(dir.path(), "external_url = \"https://ai.example.com\"", &format!("{limits}{APP}{prov}{more}"));
        Self { dir, mock }
    }

    fn at(&self) -> &Path {
        self.dir.path()
    }

    /// A command on this installation: exit status, what it printed, what it said.
    fn try_command(&self, args: &[&str], stdin: &[u8]) -> (i32, String, String) {
        run(&[args, &["--config", "vouchgate.toml"]].concat(), self.at(), stdin)
    }

    fn json(&self, args: &[&str], stdin: &[u8]) -> Value {
        let printed = command(self.at(), &[args, &["--json"]].concat(), stdin);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"))
    }
}

fn chat() -> Value {
    json!({"model": "prov/m", "messages": [{"role": "user", "content": "hello"}]})
}

/// What every installation can be told, the same with and without a server.
fn commands(installed: &Installed) {
    let secret = command(installed.at(), &["client", "create", "batch", "--scope", "chat"], b"");
    assert!(secret.len() > 30 && !secret.contains(char::is_whitespace), "the secret alone on standard output");
    let again = installed.try_command(&["client", "create", "batch"], b"");
    assert_eq!(again.0, 1, "there already: the answer is no: {again:?}");
    assert!(command(installed.at(), &["client", "list"], b"").contains("batch"));
    assert_eq!(installed.json(&["client", "show", "batch"], b"")["name"], "batch");
    let rotated = command(installed.at(), &["client", "rotate", "batch"], b"");
    assert_ne!(rotated, secret);
    command(installed.at(), &["client", "disable", "batch"], b"");
    assert_eq!(installed.try_command(&["token", "mint", "--client", "batch"], b"").0, 1, "a disabled client");
    command(installed.at(), &["client", "enable", "batch"], b"");
    let token = command(installed.at(), &["token", "mint", "--client", "batch"], b"");
    assert_eq!(token.split('.').count(), 3, "the token alone: {token}");
    command(installed.at(), &["client", "delete", "batch"], b"");
    assert_eq!(installed.try_command(&["client", "show", "batch"], b"").0, 1);

    let set = ["secret", "set", "spare", "--origin", "https://api.example.com"];
    command(installed.at(), &set, b"canary-spare-secret\n");
    let listed = installed.json(&["secret", "list"], b"").to_string();
    assert!(listed.contains("https://api.example.com") && !listed.contains("canary-spare"), "{listed}");
    command(installed.at(), &["secret", "rotate", "spare"], b"canary-spare-second");
    assert_eq!(installed.try_command(&set, b"").0, 2, "an empty value is no value");
    command(installed.at(), &["secret", "delete", "spare"], b"");
    assert_eq!(installed.try_command(&["secret", "delete", "spare"], b"").0, 1);

    let key = command(installed.at(), &["apikey", "create", "ci", "--scope", "chat"], b"");
    assert!(key.starts_with("vg_") && key.len() > 40, "{key}");
    assert!(!installed.json(&["apikey", "list"], b"").to_string().contains(&key));
    command(installed.at(), &["apikey", "revoke", "ci"], b"");

    let keys = installed.json(&["key", "list"], b"");
    assert!(keys.to_string().contains("ES256"), "{keys}");
    let admin = command(installed.at(), &["admin", "token", "create", "me", "--role", "viewer"], b"");
    assert!(admin.starts_with("vga_"));
    command(installed.at(), &["admin", "token", "revoke", "me"], b"");
    // Wrong usage is told from a no.
    for args in [
        &["client", "create"][..],
        &["client", "create", "bad name!"],
        &["token", "mint"],
        &["apikey", "create", "x", "--expires", "soon"],
    ] {
        let (exit, out, said) = installed.try_command(args, b"");
        assert!([1, 2].contains(&exit) && out.is_empty() && !said.is_empty(), "{args:?}: {exit} {out} {said}");
    }
    let claims = installed.at().join("claims.json");
    std::fs::write(
        &claims,
        json!({"iss": "https://ai.example.com", "sub": "u", "client_id": "app", "scope": "chat"}).to_string(),
    )
    .unwrap();
    let explain = |model: &str| {
        installed.try_command(&["policy", "explain", "--claims", "claims.json", "--model", model, "--json"], b"")
    };
    let (exit, out, said) = explain("prov/m");
    assert_eq!(exit, 0, "{out}{said}");
    let explanation: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&explanation["allowed"], explanation["policies"].is_array()), (&json!(true), true), "{explanation}");
    std::fs::write(
        &claims,
        json!({"iss": "https://ai.example.com", "sub": "u", "client_id": "stranger", "scope": "chat"}).to_string(),
    )
    .unwrap();
    assert_eq!(explain("prov/m").0, 1, "not allowed is a no");
}

#[tokio::test]
async fn commands_work_without_a_server() {
    let installed = Installed::new().await;
    commands(&installed);
    let check = installed.try_command(&["check"], b"");
    assert_eq!(check.0, 0, "{check:?}");
    let mode = |path: &str| installed.at().join(path).metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("data/master.key"), 0o600);
    assert_eq!(mode("data"), 0o700);
    assert!(!installed.at().join("data/admin.sock").exists());
}

// The provider has to answer while a command runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_go_through_the_server_that_runs_and_take_effect_at_once() {
    let installed = Installed::new().await;
    let mut program = Program::serve(installed.at(), &[]).await;
    let socket = installed.at().join("data/admin.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    commands(&installed);
    let doctor = installed.try_command(&["doctor", "--json"], b"");
    let report: Value = serde_json::from_str(&doctor.1).unwrap_or_else(|_| panic!("{doctor:?}"));
    assert_eq!(doctor.0, 0, "{report}");
    assert!(report.to_string().contains("one is running on this data directory"), "{report}");
    // What a command makes works in the next request, and what it takes away does not.
    let key = command(installed.at(), &["apikey", "create", "laptop"], b"");
    assert_eq!(program.post("/v1/chat/completions", &key, &chat()).await.status(), 200);
    command(installed.at(), &["apikey", "revoke", "laptop"], b"");
    assert_eq!(program.post("/v1/chat/completions", &key, &chat()).await.status(), 401);
    let secret = command(installed.at(), &["client", "create", "made", "--scope", "chat"], b"");
    let token = command(installed.at(), &["token", "mint", "--client", "made"], b"");
    assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 200);
    let form = format!("grant_type=client_credentials&client_id=made&client_secret={secret}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let ask = async || raw::request(program.public, "POST", "/oauth/token", &kind, form.as_bytes()).await;
    let granted = ask().await;
    assert_eq!((granted.status(), granted.header("cache-control")), (200, Some("no-store")), "{}", granted.text());
    command(installed.at(), &["client", "rotate", "made", "--overlap", "0s"], b"");
    assert_eq!(ask().await.status(), 401, "the old secret");
    command(installed.at(), &["client", "disable", "made"], b"");
    assert_eq!(installed.mock.requests().iter().filter(|request| request.method == "POST").count(), 2);
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_runs_is_asked_how_its_providers_are_doing_and_what_models_there_are() {
    let installed = Installed::new().await;
    let failing = Mock::start_with(|_| Answer::json(500, &json!({"error": {"message": "no"}}))).await;
    let key = secret_file(installed.at(), "bad.key", "fake-provider-key");
    let bad = provider("bad", "openai-compatible", &format!("{}/v1", failing.url()), &key);
    let file = installed.at().join("vouchgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let model = "breaker = { consecutive = 1 }\n[[model]]\nname = \"fast\"\n\
                 targets = [{ provider = \"bad\", model = \"m\" }, { provider = \"prov\", model = \"m\" }]\n";
    std::fs::write(&file, format!("{text}{bad}{model}")).unwrap();
    let mut program = Program::serve(installed.at(), &[]).await;
    let explain = || installed.json(&["route", "explain", "--model", "fast"], b"");
    let states = |told: &Value| -> Vec<(String, String)> {
        let one = |target: &Value| {
            (target["target"].as_str().unwrap().to_owned(), target["keys"][0]["breaker"].as_str().unwrap().to_owned())
        };
        told["targets"].as_array().unwrap().iter().map(one).collect()
    };
    let state = |target: &str, breaker: &str| (target.to_owned(), breaker.to_owned());
    assert_eq!(states(&explain()), [state("bad/m", "closed"), state("prov/m", "closed")]);
    let key = command(installed.at(), &["apikey", "create", "laptop"], b"");
    let mut body = chat();
    body["model"] = "fast".into();
    let answer = program.post("/v1/chat/completions", &key, &body).await;
    assert_eq!((answer.status(), answer.header("x-vouchgate-target")), (200, Some("prov/m")), "{}", answer.text());
    assert!(states(&explain()).contains(&state("bad/m", "open")), "{}", explain());
    let models = installed.json(&["models"], b"");
    assert_eq!(models.as_array().map(Vec::len), Some(2), "a row for each target: {models}");
    let all = installed.json(&["models", "--all", "--provider", "anthropic"], b"");
    assert!(all[0]["source"].is_string() && all[0]["kind"] == "anthropic", "{}", all[0]);
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_68_every_operation_is_open_to_its_roles_only_and_to_nobody_without_one() {
    let installed = Installed::new().await;
    let mut program = Program::serve(installed.at(), &[]).await;
    let (exit, document, _) = run(&["openapi"], installed.at(), b"");
    assert_eq!(exit, 0);
    let document: Value = serde_json::from_str(&document).unwrap();
    let mut tried = 0;
    let none = String::new();
    let mut bearers = vec![("nobody", none), ("stranger", format!("Bearer vga_{}", "A".repeat(43)))];
    for role in ["owner", "operator", "auditor", "viewer"] {
        let token = command(installed.at(), &["admin", "token", "create", role, "--role", role], b"");
        bearers.push((role, format!("Bearer {token}")));
    }
    for (role, bearer) in &bearers {
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                let Some(roles) = operation["x-roles"].as_array() else { continue };
                // A token that revokes itself, or a reload in between, would change what is tested.
                let path = path.replace("{name}", "absent");
                let mut headers = vec![
                    ("content-type", "application/json"),
                    ("idempotency-key", "k1"),
                    ("x-forwarded-for", "192.0.2.1"),
                ];
                if !bearer.is_empty() {
                    headers.push(("authorization", bearer));
                }
                let method = method.to_uppercase();
                let answer = raw::request(program.admin, &method, &path, &headers, b"").await;
                let allowed = roles.iter().any(|listed| listed.as_str() == Some(role));
                let status = answer.status();
                match *role {
                    "nobody" | "stranger" => assert_eq!(status, 401, "{role} {method} {path}"),
                    _ if allowed => assert!(![401, 403].contains(&status), "{role} {method} {path}: {}", answer.text()),
                    _ => assert_eq!(status, 403, "{role} {method} {path}: {}", answer.text()),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 6 * 40, "{tried} tried");
    // Meant for somebody else: another host, another site's page.
    let owner = bearers.iter().find(|(role, _)| *role == "owner").unwrap().1.clone();
    for (name, value, expected) in [
        ("host", "evil.example", 421),
        ("host", "127.0.0.1.evil.example", 421),
        ("origin", "https://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        let mut connection = Connection::open(program.admin).await;
        connection.request("GET", "/admin/v1/clients", &[(name, value), ("authorization", &owner)], b"").await;
        let answer = connection.response().await;
        assert_eq!(answer.status(), expected, "{name}: {value}: {}", answer.text());
    }
    let fine = raw::request(program.admin, "GET", "/admin/v1/clients", &[("authorization", &owner)], b"").await;
    assert_eq!(fine.status(), 200, "{}", fine.text());
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_36_a_secret_goes_to_the_origin_it_was_set_for_and_to_no_other() {
    let installed = Installed::new().await;
    let thief = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let mut program = Program::serve(installed.at(), &[]).await;
    let owner =
        format!("Bearer {}", command(installed.at(), &["admin", "token", "create", "me", "--role", "owner"], b""));
    let token = command(installed.at(), &["token", "mint", "--client", "app"], b"");
    let put = async |path: &str, body: Value| {
        let headers = [("authorization", owner.as_str()), ("content-type", "application/json")];
        raw::request(program.admin, "PUT", path, &headers, body.to_string().as_bytes()).await
    };
    let at = |url: &str| json!({"name": "sealed", "kind": "openai-compatible", "base_url": format!("{url}/v1"), "allow_private": true, "api_key": {"secret": "sealed-key"}});
    let home = installed.mock.url();
    command(installed.at(), &["secret", "set", "sealed-key", "--origin", &home], b"fake-sealed-key");
    let made = put("/admin/v1/providers/sealed", at(&home)).await;
    assert!([200, 201].contains(&made.status()), "{}", made.text());
    let ask = async || {
        program
            .post(
                "/v1/chat/completions",
                &token,
                &json!({"model": "sealed/m", "messages": [{"role": "user", "content": "x"}]}),
            )
            .await
            .status()
    };
    assert_eq!(ask().await, 200);
    let sent = installed.mock.requests().last().unwrap().clone();
    assert_eq!(sent.header("authorization"), Some("Bearer fake-sealed-key"));
    // Another URL, same key: refused, or without effect; the other place never sees it.
    let moved = put("/admin/v1/providers/sealed", at(&thief.url())).await;
    let after = ask().await;
    assert!(moved.status() >= 400 || after >= 400, "moved: {} {}, then {after}", moved.status(), moved.text());
    for request in thief.requests() {
        assert!(!String::from_utf8_lossy(&request.head).contains("fake-sealed-key"), "the key went to another origin");
    }
    assert_eq!(thief.count(), 0);
    // Given anew for the new place, it works there.
    command(installed.at(), &["secret", "set", "sealed-key", "--origin", &thief.url()], b"fake-second-key");
    let moved = put("/admin/v1/providers/sealed", at(&thief.url())).await;
    assert!([200, 201].contains(&moved.status()), "{}", moved.text());
    assert_eq!(ask().await, 200);
    assert_eq!(thief.requests().last().unwrap().header("authorization"), Some("Bearer fake-second-key"));
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_74_a_repeated_post_with_its_key_is_done_once() {
    let installed = Installed::new().await;
    let mut program = Program::serve(installed.at(), &[]).await;
    let owner =
        format!("Bearer {}", command(installed.at(), &["admin", "token", "create", "me", "--role", "owner"], b""));
    let post = async |key: &str, body: Value| {
        let headers =
            [("authorization", owner.as_str()), ("content-type", "application/json"), ("idempotency-key", key)];
        raw::request(program.admin, "POST", "/admin/v1/clients", &headers, body.to_string().as_bytes()).await
    };
    let first = post("k-1", json!({"name": "one", "scopes": ["chat"]})).await;
    assert_eq!(first.status(), 201, "{}", first.text());
    let again = post("k-1", json!({"name": "one", "scopes": ["chat"]})).await;
    assert_eq!((again.status(), again.text()), (first.status(), first.text()), "the same answer");
    assert_eq!(post("k-1", json!({"name": "two", "scopes": []})).await.status(), 422, "another body");
    assert_eq!(post("k-2", json!({"name": "one", "scopes": ["chat"]})).await.status(), 409, "another key");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn check_prints_every_fault_with_its_place_and_as_json() {
    let dir = tempfile::tempdir().unwrap();
    let text = "[server]\nlissten = \"127.0.0.1:0\"\n\n[[policy]]\nname = \"x\"\nmay = { modles = [\"*\"] }\n\n[[client]]\nname = \"a b\"\n";
    std::fs::write(dir.path().join("vouchgate.toml"), text).unwrap();
    let (exit, out, said) = run(&["check", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 1);
    let places: Vec<&str> = out.lines().filter_map(|line| line.strip_prefix("vouchgate.toml:")).collect();
    assert!(places.len() >= 3 && places[0].starts_with("2:1:") && said.contains("faults"), "{out}{said}");
    assert!(out.contains("listen") && out.contains("models"), "a hint names what was meant: {out}");
    let (exit, out, _) = run(&["check", "--config", "vouchgate.toml", "--json"], dir.path(), b"");
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((exit, &report["valid"]), (1, &json!(false)));
    assert_eq!(report["faults"].as_array().unwrap().len(), places.len());
    assert!(report["faults"][0]["line"] == 2 && report["faults"][0]["column"].is_u64(), "{report}");
    assert_eq!(run(&["check", "--config", "absent.toml"], dir.path(), b"").0, 2, "a file that is not there");
    assert_eq!(run(&["check"], dir.path(), b"").0, 2, "wrong usage");
    assert_eq!(run(&["serve", "--config", "absent.toml"], dir.path(), b"").0, 2);
}
