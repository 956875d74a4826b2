//! Keys are replaced under load, by the commands an operator uses on the real program: nothing that was genuine is refused.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use testkit::mock::{Answer, Mock, Received};
use testkit::{patiently, raw};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attacks::chat_answer;
use crate::support::{APP, Program, command, run, write_config};

const CHAT: &str = "/v1/chat/completions";
/// Requests under way at once.
const CALLERS: usize = 6;
/// How many are answered between two steps.
const BETWEEN: u64 = 30;

/// A provider that accepts some keys, which may change at any moment.
#[derive(Clone, Default)]
struct Accepts(Arc<Mutex<HashSet<String>>>);

impl Accepts {
    fn only(&self, keys: &[&str]) {
        *self.0.lock().unwrap() = keys.iter().map(|key| format!("Bearer {key}")).collect();
    }

    fn answer(&self, asked: &Received) -> Answer {
        let shown = asked.header("authorization").unwrap_or_default();
        if !self.0.lock().unwrap().contains(shown) {
            return Answer::json(401, &json!({"error": {"message": "no", "code": "invalid_api_key"}}));
        }
        if asked.method == "GET" { Answer::json(200, &json!({"data": []})) } else { chat_answer() }
    }
}

fn question() -> Value {
    json!({"model": "prov/m1", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}]})
}

/// An installation before a provider that accepts the key `first-key`, which it has.
async fn installed(more: &str) -> (tempfile::TempDir, Mock, Accepts) {
    let accepts = Accepts::default();
    accepts.only(&["first-key"]);
    let answering = accepts.clone();
    let mock = Mock::start_with(move |asked| answering.answer(asked)).await;
    let dir = tempfile::tempdir().unwrap();
    let provider = format!(
        "[[provider]]\nname = \"prov\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         api_key = {{ secret = \"prov-key\" }}\n[limits]\nconnections_per_address = 2000\n\
         [[policy]]\nname = \"keys\"\nwho = {{ key = \"laptop\" }}\nmay = {{ models = [\"*\"] }}\n",
        mock.url()
    );
    // Tokens name it: the port is another after each start.
    let server = "external_url = \"https://ai.example.com\"";
    write_config(dir.path(), server, &format!("{more}{APP}{provider}"));
    command(dir.path(), &["secret", "set", "prov-key"], b"first-key");
    (dir, mock, accepts)
}

/// Callers that ask until they are told that it is over. Each answer has to be good.
struct Load {
    over: watch::Sender<bool>,
    answered: watch::Receiver<u64>,
    callers: JoinSet<()>,
}

impl Load {
    fn begin(public: SocketAddr, credentials: &[String]) -> Self {
        let (over, ends) = watch::channel(false);
        let (answered, seen) = watch::channel(0);
        let (answered, mut callers) = (Arc::new(answered), JoinSet::new());
        for caller in 0..CALLERS {
            let bearer = format!("Bearer {}", credentials[caller % credentials.len()]);
            let (ends, answered) = (ends.clone(), Arc::clone(&answered));
            callers.spawn(async move {
                let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
                let body = question().to_string();
                while !*ends.borrow() {
                    let answer = raw::request(public, "POST", CHAT, &headers, body.as_bytes()).await;
                    assert_eq!(answer.status(), 200, "{}", answer.text());
                    answered.send_modify(|answered| *answered += 1);
                }
            });
        }
        Self { over, answered: seen, callers }
    }

    /// Wait until so many more are answered. Fails with whoever was refused.
    async fn goes_on(&mut self) {
        let until = *self.answered.borrow() + BETWEEN;
        let reached = async {
            tokio::select! {
                _ = self.answered.wait_for(|answered| *answered >= until) => {}
                ended = self.callers.join_next() => panic!("a caller has ended: {ended:?}"),
            }
        };
        patiently("requests to be answered", reached).await;
    }

    /// End it; how many were answered.
    async fn end(mut self) -> u64 {
        self.over.send_replace(true);
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap();
        }
        *self.answered.borrow()
    }
}

/// Run a command while the load goes on: exit status, standard output, standard error.
async fn tried(dir: &Path, args: &[&str], stdin: &str) -> (i32, String, String) {
    let args: Vec<String> = [args, &["--config", "vouchgate.toml"]].concat().into_iter().map(str::to_owned).collect();
    let (dir, stdin) = (dir.to_owned(), stdin.to_owned());
    let run = move || run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &dir, stdin.as_bytes());
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// The same, where it has to succeed: its standard output.
async fn told(dir: &Path, args: &[&str], stdin: &str) -> String {
    let (exit, out, said) = tried(dir, args, stdin).await;
    assert_eq!(exit, 0, "{args:?}: {out}{said}");
    out.trim_end().to_owned()
}

/// The rows of `rotate status` of one kind: name, state and whether something is due.
async fn status(dir: &Path, kind: &str) -> Vec<(String, String, bool)> {
    let rows: Value = serde_json::from_str(&told(dir, &["rotate", "status", "--json"], "").await).unwrap();
    let rows = rows.as_array().unwrap().iter().filter(|row| row["kind"] == kind);
    let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
    rows.map(|row| (text(row, "name"), text(row, "state"), row["due"] == true)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_providers_key_is_replaced_under_load() {
    let (dir, _mock, accepts) = installed("").await;
    let program = Program::serve(dir.path(), &[]).await;
    let token = told(dir.path(), &["token", "mint", "--client", "app"], "").await;
    let mut load = Load::begin(program.public, &[token]);
    load.goes_on().await;
    // One the provider does not accept changes nothing.
    let (exit, out, said) = tried(dir.path(), &["secret", "rotate", "prov-key"], "mistyped-key").await;
    assert!(exit != 0 && said.contains("refuses the key: 401") && said.contains("nothing was changed"), "{out}{said}");
    assert!(!said.contains("mistyped-key"));
    load.goes_on().await;
    // The new one is accepted beside the old one, then instead of it.
    accepts.only(&["first-key", "second-key"]);
    let (exit, _, said) = tried(dir.path(), &["secret", "rotate", "prov-key"], "second-key").await;
    assert!(exit == 0 && said.contains("prov: accepts it") && said.contains("Version 2"), "{said}");
    load.goes_on().await;
    accepts.only(&["second-key"]);
    load.goes_on().await;
    let of = |state: &str| ("prov/default".to_owned(), state.to_owned(), false);
    assert_eq!(status(dir.path(), "provider key").await, [of("current"), of("old")]);
    told(dir.path(), &["secret", "retire", "prov-key"], "").await;
    // The next one waits until the provider stops accepting the current one, whenever that is.
    accepts.only(&["second-key", "third-key"]);
    told(dir.path(), &["secret", "rotate", "prov-key", "--next"], "third-key").await;
    load.goes_on().await;
    accepts.only(&["third-key"]);
    load.goes_on().await;
    let metrics = raw::request(program.admin, "GET", "/metrics", &[("host", "localhost")], b"").await.text();
    let stood_in = "vouchgate_provider_key_fallbacks_total{provider=\"prov\",key=\"default\",slot=\"next\"}";
    let line = metrics.lines().find(|line| line.starts_with(stood_in)).unwrap();
    assert_ne!(line.rsplit(' ').next(), Some("0"), "{line}");
    told(dir.path(), &["secret", "activate", "prov-key", "--keep-old", "0s"], "").await;
    load.goes_on().await;
    assert_eq!(status(dir.path(), "provider key").await, [of("current")]);
    let answered = load.end().await;
    assert!(answered >= 6 * BETWEEN, "{answered}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_that_signs_tokens_is_replaced_under_load() {
    let (dir, _mock, _accepts) = installed("").await;
    let program = Program::serve(dir.path(), &[]).await;
    let token = told(dir.path(), &["token", "mint", "--client", "app"], "").await;
    let before = status(dir.path(), "signing key").await;
    let mut old = Load::begin(program.public, &[token]);
    old.goes_on().await;
    told(dir.path(), &["key", "rotate", "--now"], "").await;
    let token = told(dir.path(), &["token", "mint", "--client", "app"], "").await;
    let mut new = Load::begin(program.public, &[token]);
    old.goes_on().await;
    new.goes_on().await;
    let after = status(dir.path(), "signing key").await;
    let state = |state: &str| after.iter().find(|row| row.1 == state).map(|row| row.0.clone()).unwrap();
    assert_eq!((before.len(), after.len(), state("retiring")), (1, 2, before[0].0.clone()));
    assert_ne!(state("current"), before[0].0);
    old.end().await;
    new.end().await;
}

/// Put another configuration in force while the program runs.
async fn reload(program: &mut Program, dir: &Path, change: impl Fn(&str) -> String) {
    let file = dir.join("vouchgate.toml");
    let text = change(&std::fs::read_to_string(&file).unwrap());
    std::fs::write(&file, text).unwrap();
    program.process.signal("HUP");
    program.process.line("reloaded").await;
}

fn vault_section(key: &Path, older: Option<&Path>) -> String {
    let older = older.map(|older| format!("older = [{{ file = {:?} }}]\n", older.display().to_string()));
    format!("[vault]\nkey = {{ file = {:?} }}\n{}", key.display().to_string(), older.unwrap_or_default())
}

/// Have a new master key made.
fn new_key(dir: &Path, file: &Path) {
    let (exit, _, said) = run(&["rotate", "new-vault-key", file.to_str().unwrap()], dir, b"");
    assert_eq!(exit, 0, "{said}");
}

/// The vault's master key is replaced under load, killed in between, and the old one destroyed.
async fn vault_drill(store: &str) {
    let keys = tempfile::tempdir().unwrap();
    let (old, new): (PathBuf, PathBuf) = (keys.path().join("old.key"), keys.path().join("new.key"));
    let (dir, _mock, _accepts) = installed(&format!("{store}{}", vault_section(&old, None))).await;
    let dir = dir.path();
    let mut program = Program::serve(dir, &[]).await;
    let api_key = told(dir, &["apikey", "create", "laptop"], "").await;
    let token = told(dir, &["token", "mint", "--client", "app"], "").await;
    let secret = told(dir, &["client", "create", "made", "--scope", "chat"], "").await;
    let before = status(dir, "vault key").await;
    let mut load = Load::begin(program.public, &[token.clone(), api_key.clone()]);
    load.goes_on().await;

    new_key(dir, &new);
    let (current, between) = (vault_section(&old, None), vault_section(&new, Some(&old)));
    reload(&mut program, dir, |text| text.replace(&current, &between)).await;
    load.goes_on().await;
    let rows = status(dir, "vault key").await;
    assert_eq!(
        (rows.len(), rows[0].1.as_str(), rows[1].clone()),
        (2, "current", (before[0].0.clone(), "old".to_owned(), true))
    );
    assert_ne!(rows[0].0, before[0].0);
    // Killed after the new key seals and before anything was sealed anew.
    load.end().await;
    program.process.signal("KILL");
    program.process.ended().await;
    let mut program = Program::serve(dir, &[]).await;
    let mut load = Load::begin(program.public, &[token.clone(), api_key.clone()]);
    load.goes_on().await;
    told(dir, &["rotate", "vault-key"], "").await;
    load.goes_on().await;
    assert_eq!(status(dir, "vault key").await[1], (before[0].0.clone(), "old".to_owned(), false));
    load.end().await;
    program.process.signal("KILL");
    program.process.ended().await;

    // The old key is gone, and everybody is known.
    let file = dir.join("vouchgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(&between, &vault_section(&new, None))).unwrap();
    std::fs::remove_file(&old).unwrap();
    let mut program = Program::serve(dir, &[]).await;
    let mut load = Load::begin(program.public, &[token, api_key]);
    load.goes_on().await;
    load.end().await;
    let form = format!("grant_type=client_credentials&client_id=made&client_secret={secret}&scope=chat");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let issued = raw::request(program.public, "POST", "/oauth/token", &kind, form.as_bytes()).await;
    assert_eq!(issued.status(), 200, "{}", issued.text());
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
    told(dir, &["audit", "verify"], "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vaults_master_key_is_replaced_under_load_and_kills() {
    vault_drill("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_vaults_master_key_is_replaced_on_postgresql_too() {
    let Some(url) = vectors::postgres::database() else {
        vectors::skip("the_vaults_master_key_is_replaced_on_postgresql_too", "PostgreSQL is not installed");
        return;
    };
    vault_drill(&format!("[store]\nurl = {url:?}\n")).await;
}

#[tokio::test]
async fn a_master_key_that_is_still_needed_cannot_be_left_out() {
    let keys = tempfile::tempdir().unwrap();
    let (old, new) = (keys.path().join("old.key"), keys.path().join("new.key"));
    let (dir, _mock, _accepts) = installed(&vault_section(&old, None)).await;
    let dir = dir.path();
    new_key(dir, &new);
    let file = dir.join("vouchgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let with = |section: &str| std::fs::write(&file, text.replace(&vault_section(&old, None), section)).unwrap();
    // Another key alone is another installation's.
    with(&vault_section(&new, None));
    let (exit, _, said) = run(&["secret", "list", "--config", "vouchgate.toml"], dir, b"");
    assert!(exit != 0 && said.contains("not the one the data was made with"), "{said}");
    with(&vault_section(&new, Some(&old)));
    command(dir, &["secret", "list"], b"");
    // Now it seals, and the old one is needed still.
    with(&vault_section(&new, None));
    let (exit, _, said) = run(&["secret", "list", "--config", "vouchgate.toml"], dir, b"");
    assert!(exit != 0 && said.contains("name its file in [vault] older"), "{said}");
    // Nor can a node go back to the old one alone.
    with(&vault_section(&old, None));
    let (exit, _, said) = run(&["secret", "list", "--config", "vouchgate.toml"], dir, b"");
    assert!(exit != 0 && said.contains("not the one the data was made with"), "{said}");
    with(&vault_section(&new, Some(&old)));
    command(dir, &["rotate", "vault-key"], b"");
    with(&vault_section(&new, None));
    assert!(command(dir, &["secret", "list"], b"").contains("prov-key"));
    let (exit, _, said) = run(&["rotate", "new-vault-key", new.to_str().unwrap()], dir, b"");
    assert!(exit != 0 && said.contains("never overwritten"), "{said}");
}
