//! Commands as a user types them: arguments in, output and exit status out.

mod attest;
mod models;
mod runtime_secrets;
mod tokens;

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use base::{FakeClock, SystemRng, Timestamp};
use control::admin::{Admin, AdminSocket, Hosts, local_router};
use control::{Operations, Parts};
use serde_json::Value;
use store::{Store, StoreUrl};
use vault::{MasterKey, Vault};

use super::{Io, parse, run};

const NOW: i64 = 1_800_000_000;
const CONFIG: &str = "
[[client]]
name = \"filed\"
scopes = [\"chat\", \"embed\"]

[[provider]]
name = \"openai\"
kind = \"openai\"
api_key = { secret = \"openai-key\" }

[[issuer]]
name = \"corp\"
issuer = \"https://id.example.com/\"
audience = [\"https://ai.example.com\"]
jwks_url = \"https://id.example.com/jwks\"
claims = { groups = \"roles\" }

[[policy]]
name = \"staff\"
who = { issuer = \"corp\", groups = [\"staff\"] }
may = { models = [\"openai/*\"], max_output_tokens = 100 }

[[policy]]
name = \"own\"
who = { issuer = \"vouchgate\", scope = [\"chat\"] }
may = { models = [\"vouchgate/echo\"] }
";

/// What a command did.
#[derive(Debug)]
struct Done {
    exit: i32,
    out: String,
    err: String,
}

impl Done {
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

/// Run a command line with something on standard input.
async fn vouchgate_with(arguments: &[&str], stdin: &str) -> Done {
    let command = match parse(std::iter::once(&"vouchgate").chain(arguments)) {
        Ok(cli) => cli.command,
        Err(error) => return Done { exit: error.exit_code(), out: String::new(), err: error.to_string() },
    };
    let (mut input, mut out, mut err) = (Cursor::new(stdin.as_bytes().to_vec()), Vec::new(), Vec::new());
    let mut io = Io {
        stdin: &mut input,
        stdin_is_terminal: false,
        stdout: &mut out,
        stderr: &mut err,
        clock: Arc::new(FakeClock::at(Timestamp::from_secs(NOW))),
        rng: Arc::new(SystemRng),
    };
    let exit = run(command, &mut io).await;
    let exit = [0u8, 1, 2].into_iter().find(|code| std::process::ExitCode::from(*code) == exit).map_or(-1, i32::from);
    Done { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

async fn vouchgate(arguments: &[&str]) -> Done {
    vouchgate_with(arguments, "").await
}

/// A directory with a configuration file whose data directory is in it.
fn installed() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let file = dir.path().join("vouchgate.toml");
    std::fs::write(&file, format!("[server]\ndata_dir = {:?}\n{CONFIG}", data.display().to_string())).unwrap();
    let file = file.display().to_string();
    (dir, file)
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

#[tokio::test]
async fn a_life_of_a_client_without_a_server() {
    let (_dir, config) = installed();
    let made = vouchgate(&["client", "create", "batch", "--scope", "chat embed", "--config", &config]).await;
    assert_eq!(made.exit, 0, "{made:?}");
    assert!(made.err.contains("master key") && made.err.contains("shown this once"), "{made:?}");
    assert!(made.out.starts_with("vgs_") && made.out.trim_end().len() == 47, "{made:?}");

    let listed = vouchgate(&["client", "list", "--config", &config]).await;
    let lines: Vec<Vec<&str>> = listed.out.lines().map(words).collect();
    assert_eq!(lines[0], ["CLIENT", "SCOPES", "TOKEN", "TTL", "STATE", "SECRETS", "AUTH", "SOURCE"]);
    assert_eq!(lines[1], ["batch", "chat", "embed", "5m", "enabled", "1", "client_secret", "api"]);
    assert_eq!(lines[2], ["filed", "chat", "embed", "5m", "enabled", "0", "file"]);
    let json = vouchgate(&["client", "list", "--config", &config, "--json"]).await.json();
    assert_eq!(json.as_array().unwrap().len(), 2);

    let rotated = vouchgate(&["client", "rotate", "batch", "--overlap", "1h", "--config", &config, "--json"]).await;
    assert_eq!(rotated.json()["live_secrets"], 2);
    let disabled = vouchgate(&["client", "disable", "batch", "--config", &config]).await;
    assert_eq!((disabled.exit, disabled.out.as_str()), (0, ""));
    assert_eq!(disabled.err, "The client batch is disabled.\n");
    let shown = vouchgate(&["client", "show", "batch", "--config", &config]).await;
    assert!(shown.out.lines().any(|line| words(line) == ["disabled", "true"]), "{shown:?}");
    let refused = vouchgate(&["token", "mint", "--client", "batch", "--config", &config]).await;
    assert_eq!((refused.exit, refused.out.as_str()), (1, ""));
    assert_eq!(vouchgate(&["client", "enable", "batch", "--config", &config]).await.exit, 0);
    assert_eq!(vouchgate(&["client", "delete", "batch", "--config", &config]).await.exit, 0);
    let gone = vouchgate(&["client", "show", "batch", "--config", &config]).await;
    assert_eq!((gone.exit, gone.err.as_str()), (1, "vouchgate: there is no client named batch\n"));
}

#[tokio::test]
async fn a_minted_token_is_alone_on_standard_output_and_verifies() {
    let (dir, config) = installed();
    let minted = vouchgate(&["token", "mint", "--client", "filed", "--scope", "chat", "--config", &config]).await;
    assert_eq!(minted.exit, 0, "{minted:?}");
    assert_eq!((minted.out.matches('.').count(), minted.out.lines().count()), (2, 1));

    let keys = vouchgate(&["key", "list", "--config", &config, "--json"]).await.json();
    assert_eq!((keys[0]["alg"].clone(), keys[0]["state"].clone()), ("ES256".into(), "active".into()));
    // The public key, as a server would publish it.
    let (store, operations) = open(&dir.path().join("data"), &config).await;
    let jwks = dir.path().join("jwks.json");
    std::fs::write(&jwks, &operations.published_keys().await.unwrap().json).unwrap();
    store.close().await;
    let jwks = jwks.display().to_string();
    let now = (NOW + 1).to_string();
    let own = "http://127.0.0.1:8080";
    let verify = ["jwt", "verify", "--jwks", &jwks, "--iss", own, "--aud", own, "--typ", "at+jwt", "--now", &now];
    let verified = vouchgate_with(&verify, &minted.out).await;
    assert_eq!((verified.exit, verified.json()["valid"].clone()), (0, true.into()), "{verified:?}");
    assert_eq!(verified.json()["claims"]["scope"], "chat");
    let late = (NOW + 301).to_string();
    let expired = vouchgate_with(&["jwt", "verify", "--jwks", &jwks, "--now", &late], &minted.out).await;
    assert_eq!((expired.exit, expired.json()["valid"].clone()), (1, false.into()));
}

async fn open(data: &Path, config: &str) -> (Store, Arc<Operations>) {
    let (clock, rng) = (Arc::new(FakeClock::at(Timestamp::from_secs(NOW))), Arc::new(SystemRng));
    let store = Store::open(&StoreUrl::default(), data, clock.clone(), rng.clone()).await.unwrap();
    let vault = Vault::new(MasterKey::read_file(&data.join("master.key")).unwrap(), rng.clone()).unwrap();
    let file = config::parse(&std::fs::read_to_string(config).unwrap()).unwrap();
    let parts = Parts {
        store: store.clone(),
        vault: Arc::new(vault),
        clock,
        rng,
        external_url: "https://running.example".to_owned(),
        file: Arc::new(file),
    };
    (store, Arc::new(Operations::new(parts)))
}

#[tokio::test]
async fn commands_go_through_the_server_that_runs() {
    let (dir, config) = installed();
    assert_eq!(vouchgate(&["key", "list", "--config", &config]).await.exit, 0);
    let data = dir.path().join("data");
    let (store, operations) = open(&data, &config).await;
    // The directory is locked, and nobody answers yet.
    let locked = vouchgate(&["client", "list", "--config", &config]).await;
    assert_eq!(locked.exit, 2);
    assert!(locked.err.contains("in use by another vouchgate process"), "{locked:?}");

    let socket = AdminSocket::bind(&data).unwrap();
    let router = local_router(&Admin::new(operations, None, Hosts::default(), 64 * 1024));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let commands = async {
        let data = data.display().to_string();
        let minted = vouchgate(&["token", "mint", "--client", "filed", "--data-dir", &data, "--json"]).await;
        assert_eq!(minted.exit, 0, "{minted:?}");
        let made = vouchgate(&["apikey", "create", "laptop", "--scope", "chat", "--config", &config]).await;
        assert!(made.out.starts_with("vg_"), "{made:?}");
        let again = vouchgate(&["apikey", "create", "laptop", "--config", &config]).await;
        assert_eq!((again.exit, again.out.as_str()), (1, ""), "{again:?}");
        let listed = vouchgate(&["apikey", "list", "--config", &config]).await;
        assert!(listed.out.contains("laptop") && !listed.out.contains(made.out.trim_end()));
        assert_eq!(vouchgate(&["apikey", "revoke", "laptop", "--config", &config]).await.exit, 0);
        let claims = dir.path().join("claims.json");
        std::fs::write(&claims, r#"{"iss":"https://id.example.com/","sub":"u","roles":["staff"]}"#).unwrap();
        let claims = claims.display().to_string();
        let explain = ["policy", "explain", "--claims", &claims, "--model", "openai/gpt-5", "--config", &config];
        let explained = vouchgate(&explain).await;
        assert_eq!(explained.exit, 0, "{explained:?}");
        drop(stop);
    };
    let serving = socket.serve(router, async {
        let _ = stopped.await;
    });
    tokio::join!(commands, serving);
    store.close().await;
    assert_eq!(vouchgate(&["client", "list", "--config", &config]).await.exit, 0);
}

#[tokio::test]
async fn a_secret_comes_from_standard_input_and_is_never_printed() {
    let (dir, config) = installed();
    let canary = "sk-canary-7d0f3b1a9c5e2468";
    let set = vouchgate_with(&["secret", "set", "openai-key", "--config", &config], &format!("{canary}\n")).await;
    assert_eq!(set.exit, 0, "{set:?}");
    assert!(set.err.contains("https://api.openai.com"), "{set:?}");
    let rotate = ["secret", "rotate", "openai-key", "--no-probe", "--config", &config, "--json"];
    let rotated = vouchgate_with(&rotate, canary).await;
    assert_eq!((rotated.json()["version"].clone(), rotated.json()["last4"].clone()), (2.into(), "2468".into()));
    let listed = vouchgate(&["secret", "list", "--config", &config]).await;
    assert!(listed.out.contains("provider openai"), "{listed:?}");
    for done in [&set, &rotated, &listed] {
        assert!(!done.out.contains(canary) && !done.err.contains(canary));
    }
    let mut dirs = vec![dir.path().join("data")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
                continue;
            }
            let bytes = std::fs::read(path).unwrap();
            assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
        }
    }
    let in_use = vouchgate(&["secret", "delete", "openai-key", "--config", &config]).await;
    assert_eq!(in_use.exit, 1);
    assert!(in_use.err.contains("provider openai uses"), "{in_use:?}");
    for (input, says) in [("", "empty"), ("a\nb\n", "control characters")] {
        let refused = vouchgate_with(&["secret", "set", "openai-key", "--config", &config], input).await;
        assert!(refused.exit != 0 && refused.err.contains(says), "{refused:?}");
    }
    let free = vouchgate_with(&["secret", "set", "later", "--config", &config], canary).await;
    assert!(free.exit == 1 && free.err.contains("--origin"), "{free:?}");
    let by_flag = vouchgate(&["secret", "set", "later", "--value", canary]).await;
    assert_eq!(by_flag.exit, 2);
}

#[tokio::test]
async fn an_admin_token_is_made_listed_and_revoked() {
    let (_dir, config) = installed();
    let made = vouchgate(&["admin", "token", "create", "me", "--role", "owner", "--config", &config]).await;
    assert!(made.exit == 0 && made.out.starts_with("vga_") && made.out.lines().count() == 1, "{made:?}");
    let listed = vouchgate(&["admin", "token", "list", "--config", &config]).await;
    assert!(listed.out.contains("owner") && listed.out.contains("live"));
    assert_eq!(vouchgate(&["admin", "token", "revoke", "me", "--config", &config]).await.exit, 0);
    assert_eq!(vouchgate(&["admin", "token", "revoke", "me", "--config", &config]).await.exit, 1);
    assert_eq!(vouchgate(&["admin", "token", "create", "x", "--role", "king", "--config", &config]).await.exit, 2);
}

#[tokio::test]
async fn check_names_every_fault_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    std::fs::write(&file, "[server]\nlisten = \"nowhere\"\n\n[[provider]]\nname = \"x\"\nkind = \"opnai\"\nkeey = 1\n")
        .unwrap();
    let file = file.display().to_string();
    let checked = vouchgate(&["check", "--config", &file]).await;
    assert_eq!(checked.exit, 1, "{checked:?}");
    assert!(checked.out.lines().all(|line| line.starts_with(&format!("{file}:"))), "{checked:?}");
    assert!(checked.out.lines().count() >= 3, "{checked:?}");
    assert!(checked.out.contains(&format!("{file}:2:")) && checked.out.contains("openai"), "{checked:?}");
    let json = vouchgate(&["check", "--config", &file, "--json"]).await.json();
    assert_eq!(json["valid"], false);
    assert_eq!(json["faults"][0]["line"], 2);

    let (_dir, good) = installed();
    let checked = vouchgate(&["check", "--config", &good]).await;
    assert_eq!((checked.exit, checked.out.as_str()), (0, ""), "{checked:?}");
    assert_eq!(vouchgate(&["check", "--config", "/no/such/file.toml"]).await.exit, 2);
    assert_eq!(vouchgate(&["check"]).await.exit, 2);
    // Commands that need the file say the same.
    assert_eq!(vouchgate(&["client", "list", "--config", &file]).await.exit, 2);
}

#[tokio::test]
async fn explain_reads_claims_as_their_issuer_means_them() {
    let (dir, config) = installed();
    let claims = dir.path().join("claims.json");
    let path = claims.display().to_string();
    let explain = async |text: &str, more: &[&str]| {
        std::fs::write(&claims, text).unwrap();
        let base = ["policy", "explain", "--config", &config, "--claims", &path];
        vouchgate(&base.iter().chain(more).copied().collect::<Vec<_>>()).await
    };
    let staff = r#"{"iss":"https://id.example.com/","sub":"u","roles":["staff"]}"#;
    let allowed = explain(staff, &["--model", "openai/gpt-5", "--json"]).await;
    assert_eq!((allowed.exit, allowed.json()["policy"].clone()), (0, "staff".into()), "{allowed:?}");
    let denied = explain(r#"{"iss":"https://id.example.com/","sub":"u"}"#, &["--model", "openai/gpt-5"]).await;
    assert_eq!(denied.exit, 1);
    assert!(denied.out.contains("NO   who.groups"), "{denied:?}");
    let own = explain(r#"{"sub":"u","client_id":"c","scope":"chat"}"#, &["--model", "vouchgate/echo", "--json"]).await;
    assert_eq!(own.json()["policy"], "own", "{own:?}");
    let too_much = explain(staff, &["--model", "openai/gpt-5", "--max-output-tokens", "101", "--json"]).await;
    assert_eq!(too_much.json()["allowed"], false);
    assert_eq!(explain(staff, &["--model", "m", "--service", "s"]).await.exit, 2);
    assert_eq!(explain(r#"{"sub":"a","sub":"b"}"#, &["--model", "m"]).await.exit, 2);
    assert_eq!(explain(staff, &["--issuer", "nobody"]).await.exit, 2);
    // No state was touched.
    assert!(!dir.path().join("data").exists());
}

#[tokio::test]
async fn explain_takes_what_the_token_is_bound_to_as_proved() {
    let (dir, config) = installed();
    let bound = "\n[[policy]]\nname = \"bound\"\nwho = { issuer = \"vouchgate\", bound = [\"dpop\", \"signature\"] }\nmay = { models = \"*\" }\n";
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + bound).unwrap();
    let claims = dir.path().join("claims.json");
    let explain = async |cnf: &str| {
        std::fs::write(&claims, format!(r#"{{"sub":"u","client_id":"c"{cnf}}}"#)).unwrap();
        let path = claims.display().to_string();
        vouchgate(&["policy", "explain", "--config", &config, "--claims", &path, "--model", "m", "--json"]).await.json()
    };
    let unbound = explain("").await;
    assert_eq!((&unbound["allowed"], &unbound["code"]), (&false.into(), &"proof_required".into()), "{unbound}");
    assert_eq!(explain(r#","cnf":{"x5t#S256":"AAAA"}"#).await["code"], "proof_required");
    assert_eq!(explain(r#","cnf":{"jkt":"AAAA"}"#).await["policy"], "bound");
}

#[tokio::test]
async fn a_hash_for_the_file_is_made_or_taken_of_a_strong_secret() {
    let made = vouchgate(&["client", "hash", "--json"]).await.json();
    assert!(made["client_secret"].as_str().unwrap().starts_with("vgs_"));
    let secret = made["client_secret"].as_str().unwrap();
    let same = vouchgate_with(&["client", "hash", "--stdin"], &format!("{secret}\r\n")).await;
    assert_eq!(same.out.trim_end(), made["hash"].as_str().unwrap());
    let text = format!("[[client]]\nname = \"c\"\nauth = {{ method = \"client_secret\", hash = {} }}\n", made["hash"]);
    assert!(config::parse(&text).is_ok(), "{text}");
    let weak = vouchgate_with(&["client", "hash", "--stdin"], "hunter2\n").await;
    assert!(weak.exit == 2 && !weak.err.contains("hunter2"), "{weak:?}");
}

#[tokio::test]
async fn documents_and_scripts_come_out_whole() {
    let openapi = vouchgate(&["openapi"]).await.json();
    assert_eq!(openapi["openapi"], "3.1.0");
    assert!(vouchgate(&["schema"]).await.json()["properties"]["provider"].is_object());
    assert!(vouchgate(&["version"]).await.out.starts_with("vouchgate "));
    assert_eq!(vouchgate(&["version", "--json"]).await.json()["name"], "vouchgate");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = vouchgate(&["completions", shell]).await;
        assert!(script.exit == 0 && script.out.contains("apikey"), "{shell}");
    }
}

#[tokio::test]
async fn a_wrong_word_is_answered_with_the_right_one() {
    let done = vouchgate(&["clinet", "list"]).await;
    assert!(done.exit == 2 && done.err.contains("client"), "{done:?}");
    let done = vouchgate(&["client", "lst"]).await;
    assert!(done.exit == 2 && done.err.contains("list"), "{done:?}");
    let done = vouchgate(&["token", "mint"]).await;
    assert!(done.exit == 2 && done.err.contains("--client"), "{done:?}");
    let both = vouchgate(&["client", "list", "--config", "a", "--data-dir", "b"]).await;
    assert_eq!(both.exit, 2);
    let help = vouchgate(&["token", "mint", "--help"]).await;
    assert!(help.exit == 0 && help.err.starts_with("Examples:"), "{help:?}");
}

#[tokio::test]
async fn a_lost_master_key_is_not_replaced() {
    let (dir, config) = installed();
    assert_eq!(vouchgate(&["key", "list", "--config", &config]).await.exit, 0);
    std::fs::remove_file(dir.path().join("data/master.key")).unwrap();
    let lost = vouchgate(&["client", "list", "--config", &config]).await;
    assert!(lost.exit == 2 && lost.err.contains("master.key"), "{lost:?}");
    assert!(!dir.path().join("data/master.key").exists());
}

#[tokio::test]
async fn jwt_verify_takes_any_key_file_and_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let secret = write("secret", "kJ8#vQ2!mZ7@pL4$wX9%rT6^yB3&nD5*\n");
    let garbage = vouchgate_with(&["jwt", "verify", "--secret-file", &secret], "not a token").await;
    assert_eq!((garbage.exit, garbage.json()["valid"].clone()), (1, false.into()), "{garbage:?}");
    let weak = write("weak", "secret");
    let refused = vouchgate_with(&["jwt", "verify", "--secret-file", &weak], "x").await;
    assert_eq!((refused.exit, refused.json()["valid"].clone()), (1, false.into()), "{refused:?}");
    assert_eq!(vouchgate_with(&["jwt", "verify"], "x").await.exit, 2);
    let both = ["jwt", "verify", "--secret-file", &secret, "--jwks", &secret];
    assert_eq!(vouchgate_with(&both, "x").await.exit, 2);
    let unknown = vouchgate_with(&["jwt", "verify", "--secret-file", &secret, "--alg", "HS265"], "x").await;
    assert!(unknown.exit == 2 && unknown.err.contains("HS256"), "{unknown:?}");
    let none = vouchgate_with(&["jwt", "verify", "--secret-file", &secret, "--alg", "none"], "x").await;
    assert_eq!((none.exit, none.json()["reason"].clone()), (1, "alg_not_allowed".into()), "{none:?}");
    let endless = "a".repeat((1 << 20) + 7);
    let long = vouchgate_with(&["jwt", "verify", "--secret-file", &secret], &endless).await;
    assert_eq!((long.exit, long.json()["valid"].clone()), (1, false.into()));
}

/// The proof of RFC 9449 section 7.1, made at 1562262618 for the token [`RFC_9449_TOKEN`].
const RFC_9449_PROOF: &str = "\
    eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZ\
    OXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIs\
    ImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJ\
    jZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05\
    yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmc\
    w6Fy1dqd-jfxSYoMxhAJpLjA";
const RFC_9449_TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";

#[tokio::test]
async fn dpop_verify_says_whether_a_proof_fits_a_request_and_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token").display().to_string();
    std::fs::write(&token, format!("{RFC_9449_TOKEN}\n")).unwrap();
    let url = "https://resource.example.org/protectedresource?query=ignored";
    let good = ["--method", "GET", "--url", url, "--token-file", &token, "--now", "1562262618"];
    let verify = async |more: &[&str]| {
        vouchgate_with(&[&["dpop", "verify"], more].concat(), &format!("{RFC_9449_PROOF}\n")).await
    };
    let verdict = async |change: &[&str]| {
        let mut arguments = good.to_vec();
        for pair in change.chunks(2) {
            match arguments.iter().position(|argument| *argument == pair[0]) {
                Some(at) => arguments[at + 1] = pair[1],
                None => arguments.extend(pair),
            }
        }
        let done = verify(&arguments).await;
        let verdict = done.json();
        assert_eq!(done.exit, i32::from(verdict["valid"] != true), "{done:?}");
        verdict
    };
    let valid = verdict(&[]).await;
    assert_eq!((&valid["valid"], &valid["reason"]), (&true.into(), &"ok".into()));
    assert_eq!(valid["header"]["typ"], "dpop+jwt");
    assert_eq!(valid["claims"]["jti"], "e1j3V_bKic8-LAEB");
    assert_eq!(valid["jkt"], "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    let other = dir.path().join("other").display().to_string();
    std::fs::write(&other, "another-token").unwrap();
    for (change, reason) in [
        (["--method", "get"], "wrong_htm"),
        (["--url", "https://resource.example.org/protectedresource/"], "wrong_htu"),
        (["--url", "HTTPS://resource.example.org:443/x/../protected%72esource"], "ok"),
        (["--token-file", &other], "wrong_ath"),
        (["--nonce", "n-1"], "use_dpop_nonce"),
        (["--now", "1562262683"], "ok"),
        (["--now", "1562262684"], "too_old"),
        (["--now", "1562262612"], "issued_in_future"),
        (["--max-age", "18446744073709551615"], "ok"),
    ] {
        assert_eq!(verdict(&change).await["reason"], reason, "{change:?}");
    }
    assert_eq!(verdict(&["--now", "1562262700", "--max-age", "100"]).await["reason"], "ok");

    let request = ["dpop", "verify", "--method", "GET", "--url", url];
    let garbage = vouchgate_with(&request, "not a proof").await;
    assert_eq!((garbage.exit, garbage.out.as_str()), (1, "{\"valid\":false,\"reason\":\"not_compact_jws\"}\n"));
    let endless = "x".repeat(2 << 20);
    assert_eq!(vouchgate_with(&request, &endless).await.json()["reason"], "token_too_long");
    for wrong in [
        &["--method", "GET"][..],
        &["--url", url],
        &["--method", "GE T", "--url", url],
        &["--method", "GET", "--url", "/protectedresource"],
        &["--method", "GET", "--url", "https://user@resource.example.org/"],
        &["--method", "GET", "--url", url, "--token-file", "/nonexistent"],
        &["--method", "GET", "--url", url, "--max-age", "-1"],
    ] {
        let refused = verify(wrong).await;
        assert_eq!((refused.exit, refused.out.as_str()), (2, ""), "{wrong:?}");
    }
}

#[tokio::test]
async fn route_explain_tells_the_order_and_what_would_not_be_tried() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("vouchgate.toml");
    let text = "[[provider]]\nname = \"a\"\nkind = \"ollama\"\n[[provider]]\nname = \"b\"\nkind = \"vllm\"\n[[model]]\nname = \"fast\"\n\
                targets = [{ provider = \"a\", model = \"x\", when = { tools = false } }, { provider = \"b\", model = \"y\" }]\n";
    let data = dir.path().join("data").display().to_string();
    std::fs::write(&config, format!("[server]\ndata_dir = {data:?}\n{text}")).unwrap();
    let config = config.to_string_lossy().into_owned();
    let explain = async |more: &[&str]| {
        let base = ["route", "explain", "--config", &config, "--model"];
        vouchgate(&[&base[..], more].concat()).await
    };
    let told = explain(&["fast", "--json"]).await;
    assert_eq!(told.exit, 0, "{told:?}");
    let told = told.json();
    assert_eq!((&told["strategy"], &told["targets"][0]["target"]), (&"fallback".into(), &"a/x".into()));
    assert_eq!(told["targets"][0]["keys"][0]["breaker"], "closed");
    let told = explain(&["fast", "--tools", "--json"]).await.json();
    assert_eq!((&told["targets"][0]["target"], &told["targets"][0]["place"]), (&"b/y".into(), &1.into()));
    assert_eq!(told["targets"][1]["why"], "its condition tools does not hold");
    let told = explain(&["fast", "--tools"]).await;
    assert!(told.out.contains("b/y") && told.out.contains("a/x"), "{told:?}");
    assert_eq!(explain(&["a/anything"]).await.exit, 0);
    assert_eq!(explain(&["nothing"]).await.exit, 2);
    assert_eq!(explain(&["fast", "--header", "x"]).await.exit, 2);
}
