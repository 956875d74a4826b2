//! The audit log of the real program: what is in it, what is published of it, what it proves, and what an erasure leaves.

use std::path::Path;

use serde_json::{Value, json};
use testkit::mock::Mock;
use testkit::raw;
use testkit::s3::{KEY_ID, REGION, S3, SECRET};

use crate::support::{APP, Program, command, provider, run, secret_file, write_config};

const MADE: &str = "\n[[policy]]\nname = \"made\"\nwho = { client = \"made\" }\nmay = { models = [\"*\"] }\n";

struct Installed {
    dir: tempfile::TempDir,
    mock: Mock,
    store: S3,
}

impl Installed {
    async fn new() -> Self {
        let (dir, store) = (tempfile::tempdir().unwrap(), S3::start().await);
        let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
        let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
        let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
        let store_key = secret_file(dir.path(), "store.key", &format!("{KEY_ID}:{SECRET}"));
        let published = format!(
            "[[audit.publish]]\nname = \"disk\"\nfile = {:?}\n\
             [[audit.publish]]\nname = \"bucket\"\ns3 = \"{}\"\nregion = \"{REGION}\"\nkey = {{ file = {:?} }}\nallow_private = true\n",
            dir.path().join("kept").display().to_string(),
            store.bucket("kept"),
            store_key.display().to_string(),
        );
        let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
        write_config(
            dir.path(),
            "external_url = \"https://ai.example.com\"",
            &format!("{limits}{APP}{prov}{MADE}{published}"),
        );
        Self { dir, mock, store }
    }

    fn at(&self) -> &Path {
        self.dir.path()
    }

    /// All entries, by an export that verifies.
    fn entries(&self, file: &str) -> Vec<Value> {
        command(self.at(), &["audit", "export", file], b"");
        let (exit, said, _) = run(&["audit", "verify", "--export", file], self.at(), b"");
        assert_eq!(exit, 0, "{said}");
        let text = std::fs::read_to_string(self.at().join(file)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter_map(|line| line.get("entry").cloned()).collect()
    }
}

async fn form(program: &Program, path: &str, form: &str) -> raw::Response {
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    raw::request(program.public, "POST", path, &kind, form.as_bytes()).await
}

fn chat() -> Value {
    json!({"model": "prov/m", "messages": [{"role": "user", "content": "canary-prompt"}]})
}

async fn stop(mut program: Program) {
    program.process.signal("TERM");
    assert!(program.process.ended().await.success(), "{}", program.process.output());
}

// Providers have to answer while commands run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_decides_or_changes_something_is_in_the_log() {
    let installed = Installed::new().await;
    let program = Program::serve(installed.at(), &[]).await;
    let at = installed.at();
    // Changes, with what was there before and after.
    let secret = command(at, &["client", "create", "made", "--scope", "chat"], b"");
    command(at, &["client", "disable", "made"], b"");
    command(at, &["client", "enable", "made"], b"");
    command(at, &["secret", "set", "spare", "--origin", "https://api.example.com"], b"canary-secret-value\n");
    // Tokens: issued, refused, given back, revoked, and the revocation lifted.
    let asked = format!("grant_type=client_credentials&client_id=made&client_secret={secret}");
    let issued = form(&program, "/oauth/token", &asked).await;
    assert_eq!(issued.status(), 200, "{}", issued.text());
    let token = issued.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(form(&program, "/oauth/token", &asked.replace(&secret, "canary-wrong-secret")).await.status(), 401);
    assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 200);
    let given_back = format!("token={token}&client_id=made&client_secret={secret}");
    assert_eq!(form(&program, "/oauth/revoke", &given_back).await.status(), 200);
    assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 401);
    command(at, &["token", "revoke", "--subject", "somebody"], b"");
    let listed = command(at, &["token", "revocations", "--json"], b"");
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let items = listed.as_array().or_else(|| listed["items"].as_array()).unwrap();
    let somebodys = items.iter().find(|item| item.to_string().contains("somebody")).unwrap();
    let number =
        somebodys["id"].as_i64().map_or_else(|| somebodys["id"].as_str().unwrap().to_owned(), |id| id.to_string());
    command(at, &["token", "lift", &number], b"");
    // Known, and turned away.
    let minted = command(at, &["token", "mint", "--client", "app"], b"");
    let refused = program.post("/v1/chat/completions", &minted, &json!({"model": "nowhere/m", "messages": []})).await;
    assert!(refused.status() >= 400, "{}", refused.text());
    // Nobody's.
    assert_eq!(program.post("/v1/chat/completions", "x.y.z", &chat()).await.status(), 401);
    let bearer = [("authorization", "Bearer vga_canary-wrong-token")];
    assert_eq!(raw::request(program.admin, "GET", "/admin/v1/clients", &bearer, b"").await.status(), 401);
    // What nobody waits for is in the log once something is that was waited for.
    command(at, &["client", "disable", "made"], b"");
    let entries = installed.entries("all.export");
    assert_eq!(installed.mock.count(), 1);

    let of = |kind: &str| entries.iter().filter(|entry| entry["kind"] == kind).collect::<Vec<_>>();
    let surfaces: Vec<&str> = of("auth.failed").iter().map(|entry| entry["surface"].as_str().unwrap()).collect();
    for surface in ["gateway", "token_service", "admin"] {
        assert!(surfaces.contains(&surface), "{surface} in {surfaces:?}");
    }
    assert!(of("auth.failed").iter().all(|entry| entry["reason"].is_string() && entry["ip"]["mark"].is_string()));
    for (kind, least) in [
        ("server.started", 1),
        ("token.issued", 2),
        ("token.revoked", 2),
        ("revocation.lifted", 1),
        ("request.begun", 1),
        ("request.ended", 1),
        ("request.refused", 1),
    ] {
        assert!(of(kind).len() >= least, "{kind}: {:#?}", entries.iter().map(|e| &e["kind"]).collect::<Vec<_>>());
    }
    // Every change: who, what, before and after, and never a secret.
    let changes = of("admin.begun");
    let operation = |name: &str| {
        changes.iter().filter(|entry| entry["operation"].to_string().to_lowercase().contains(name)).count()
    };
    assert!(changes.iter().all(|entry| entry["by"].is_string() && entry["operation"].is_string()), "{changes:#?}");
    assert!(operation("client") >= 3 && operation("secret") >= 1 && operation("revo") >= 2, "{changes:#?}");
    assert_eq!(changes.len(), of("admin.ended").len(), "each has its end");
    let ended = of("admin.ended");
    let disabled =
        ended.iter().find(|entry| entry["after"]["disabled"] == true || entry["after"]["state"] == "disabled");
    let before = changes.iter().any(|entry| entry["before"]["name"] == "made");
    assert!(before && (disabled.is_some() || ended.iter().any(|entry| entry["after"]["name"] == "made")), "{ended:#?}");
    let text: String = entries.iter().map(Value::to_string).collect();
    for canary in ["canary", &secret, &token, "fake-provider-key"] {
        assert!(!text.contains(canary), "{canary}");
    }
    // In their order, with their times and their version.
    assert!(entries.iter().all(|entry| entry["v"] == 1 && entry["at"].is_string()));
    stop(program).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_are_published_and_show_that_a_log_was_cut_or_written_anew() {
    let installed = Installed::new().await;
    let program = Program::serve(installed.at(), &[]).await;
    // From the first moment on.
    assert_eq!(run(&["audit", "verify", "--config", "vouchgate.toml"], installed.at(), b"").0, 0);
    let token = command(installed.at(), &["token", "mint", "--client", "app"], b"");
    for _ in 0..5 {
        assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 200);
    }
    let metrics = raw::request(program.admin, "GET", "/metrics", &[], b"").await.text();
    for name in ["entries", "writes_total", "bytes_total", "published_entries{place=\"disk\"}"] {
        assert!(metrics.contains(&format!("\nvouchgate_audit_{name} ")), "{name}: {metrics}");
    }
    stop(program).await;

    let log = installed.at().join("data/audit");
    let last = std::fs::read(log.join("checkpoint")).unwrap();
    let kept = std::fs::read(installed.at().join("kept")).unwrap();
    assert!(kept.ends_with(&last), "the last one too");
    let objects = installed.store.objects();
    assert!(objects.values().any(|object| *object == last), "{:?}", objects.keys());
    let verify = |checkpoint: &str| {
        let args = ["audit", "verify", "--config", "vouchgate.toml", "--checkpoint", checkpoint];
        let (exit, out, said) = run(&args, installed.at(), b"");
        (exit, serde_json::from_str::<Value>(&out).unwrap_or_else(|error| panic!("{error}: {out}{said}")))
    };
    let (exit, report) = verify("kept");
    assert_eq!((exit, &report["valid"]), (0, &json!(true)), "{report}");
    assert!(report["outside"].as_u64().unwrap() >= 1);

    // As it was at some earlier moment, with all that belongs to it: only what was kept elsewhere tells.
    let program = Program::serve(installed.at(), &[]).await;
    stop(program).await;
    let later = installed.at().join("later");
    std::fs::copy(installed.at().join("kept"), &later).unwrap();
    let longer: u64 = checkpoint_size(&std::fs::read(log.join("checkpoint")).unwrap());
    assert!(longer > checkpoint_size(&last));
    let (exit, report) = verify("later");
    assert_eq!((exit, &report["valid"]), (0, &json!(true)), "{report}");
    // Another log of the same key, begun anew and shorter.
    let origin = std::fs::read(log.join("origin")).unwrap();
    std::fs::rename(&log, installed.at().join("moved-away")).unwrap();
    std::fs::create_dir(&log).unwrap();
    std::fs::write(log.join("origin"), origin).unwrap();
    let program = Program::serve(installed.at(), &[]).await;
    stop(program).await;
    assert_eq!(
        run(&["audit", "verify", "--config", "vouchgate.toml"], installed.at(), b"").0,
        0,
        "it cannot tell itself"
    );
    let (exit, report) = verify("later");
    assert_eq!(exit, 1, "{report}");
    assert!(["log_truncated", "log_rewritten"].contains(&report["reason"].as_str().unwrap()), "{report}");
    assert!(report["first_bad"].is_u64() || report["before"].is_u64(), "{report}");
}

/// The second line of a checkpoint.
fn checkpoint_size(note: &[u8]) -> u64 {
    String::from_utf8_lossy(note).lines().nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_subject_is_nobody_and_the_log_is_as_it_was() {
    let installed = Installed::new().await;
    let program = Program::serve(installed.at(), &[]).await;
    let token = command(installed.at(), &["token", "mint", "--client", "app", "--subject", "alice-canary"], b"");
    assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 200);
    let admin = command(installed.at(), &["admin", "token", "create", "me", "--role", "owner"], b"");
    let bearer = format!("Bearer {admin}");
    let opened = async || {
        let headers = [("authorization", bearer.as_str())];
        let path = "/admin/v1/audit?open=true&kind=request&limit=200";
        raw::request(program.admin, "GET", path, &headers, b"").await.json()
    };
    let before = opened().await;
    assert!(before.to_string().contains("alice-canary"), "{before}");
    let size = |entries: &[Value]| entries.len();
    let first = installed.entries("before.export");
    command(installed.at(), &["audit", "erase-subject", "alice-canary"], b"");
    let after = opened().await;
    assert!(!after.to_string().contains("alice-canary"), "{after}");
    let second = installed.entries("after.export");
    assert!(size(&second) > size(&first) && second.starts_with(&first), "nothing of it was changed");
    let text = std::fs::read_to_string(installed.at().join("after.export")).unwrap();
    assert!(!text.contains("alice-canary"));
    // Who comes again has another name.
    assert_eq!(program.post("/v1/chat/completions", &token, &chat()).await.status(), 200);
    let third = installed.entries("again.export");
    let names = |entries: &[Value]| -> Vec<Value> {
        let begun = entries.iter().filter(|entry| entry["kind"] == "request.begun");
        begun.map(|entry| entry["subject"]["id"].clone()).collect()
    };
    let names = names(&third);
    assert_eq!(names.len(), 2);
    assert_ne!(names.first(), names.last());
    stop(program).await;
}
