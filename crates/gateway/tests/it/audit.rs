//! The audit log before the provider: nothing is sent on that is not written down.

use std::any::Any;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use audit::disk::{Disk, Input, Output, RealDisk};
use audit::note::Signer;
use audit::{BoxFuture, KeyError, Log, Options, Recorder, SubjectKey, SubjectKeys};
use base::{Secret, SeededRng, SystemClock, SystemRng};
use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use crate::harness::World;

/// A disk that can be told to fail.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failing(pub(crate) Arc<AtomicBool>);

struct FailingFile(Box<dyn Output>, Arc<AtomicBool>);

fn fails(failing: &AtomicBool) -> io::Result<()> {
    if failing.load(Ordering::SeqCst) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

impl Disk for Failing {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.make_dir(path)
    }
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        fails(&self.0)?;
        Ok(Box::new(FailingFile(RealDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn extend(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        RealDisk.extend(path)
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        RealDisk.open(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        RealDisk.list(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        RealDisk.remove_dir(path)
    }
    fn sync(&self, path: &Path) -> io::Result<()> {
        RealDisk.sync(path)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        RealDisk.lock(path)
    }
}

impl Output for FailingFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        fails(&self.1)?;
        self.0.append(bytes)
    }
    fn sync(&mut self) -> io::Result<()> {
        fails(&self.1)?;
        self.0.sync()
    }
    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.0.cut(length)
    }
}

/// One key for everybody.
struct OneKey;

impl SubjectKeys for OneKey {
    fn of<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<SubjectKey, KeyError>> {
        Box::pin(std::future::ready(SubjectKey::new("somebody", &Secret::new([7; 32]))))
    }
    fn by_id<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<SubjectKey>, KeyError>> {
        Box::pin(std::future::ready(SubjectKey::new("somebody", &Secret::new([7; 32])).map(Some)))
    }
}

/// A log on a disk of its own, and what reads it.
pub(crate) struct Logged {
    _dir: tempfile::TempDir,
    log: Log,
    pub(crate) disk: Failing,
}

pub(crate) fn logged(allow: bool) -> (Logged, Recorder) {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Failing::default());
    let signer = Signer::generate("example.com/audit/test", &SeededRng::new(1)).unwrap();
    let clock = Arc::new(SystemClock);
    let log = Log::open(Arc::new(disk.clone()), dir.path(), signer, clock.clone(), Options::default()).unwrap();
    let recorder = Recorder::new(log.clone(), Arc::new(OneKey), clock, Arc::new(SystemRng), allow);
    (Logged { _dir: dir, log, disk }, recorder)
}

impl Logged {
    /// All entries so far.
    pub(crate) async fn entries(&self) -> Vec<Value> {
        let log = self.log.clone();
        let all = tokio::task::spawn_blocking(move || {
            // What nobody waits for is there once something behind it is.
            log.append_awaited(b"{\"kind\":\"mark\"}").unwrap().wait().unwrap();
            log.checkpoint().unwrap();
            let reader = log.reader().unwrap();
            let bundles = reader.checkpoint().size.div_ceil(256);
            (0..bundles).flat_map(|bundle| reader.bundle(bundle).unwrap()).collect::<Vec<_>>()
        });
        let all = all.await.unwrap();
        let read = |entry: Vec<u8>| serde_json::from_slice::<Value>(&entry).unwrap();
        all.into_iter().map(read).filter(|entry| entry["kind"] != "mark").collect()
    }
}

fn config(url: &str) -> String {
    format!(
        "[[provider]]\nname = \"a\"\nkind = \"openai-compatible\"\nbase_url = \"{url}/v1\"\nallow_private = true\n\
         api_key = {{ env = \"KEY\" }}\n\
         [[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{url}/\"\nallow_private = true\n\
         inject = {{ header = \"X-Api-Key\", value = {{ env = \"KEY\" }} }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], upstreams = [\"maps\"], providers = [\"a\"] }}\n"
    )
}

fn asked() -> Value {
    json!({"model": "a/m", "messages": [{"role": "user", "content": "a prompt nobody else reads"}]})
}

async fn provider() -> Mock {
    Mock::start_with(|_| {
        Answer::json(200, &json!({"id": "c1", "object": "chat.completion", "model": "m", "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "an answer nobody else reads"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}))
    })
    .await
}

#[tokio::test]
async fn a_request_is_in_the_log_before_it_is_sent_on_and_again_when_it_is_over() {
    let mock = provider().await;
    let (logged, recorder) = logged(false);
    let world = World::recorded(&config(&mock.url()), recorder);
    let answer = world.post("/v1/chat/completions", &asked()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.post_as("bob", "/v1/chat/completions", &json!({"model": "none/x"})).await.status, 404);
    let entries = logged.entries().await;
    let kinds: Vec<&str> = entries.iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["request.begun", "request.ended", "request.refused"], "{entries:#?}");
    let (begun, ended) = (&entries[0], &entries[1]);
    assert_eq!((&begun["provider"], &begun["policy"], &begun["issuer"]), (&json!("a"), &json!("all"), &json!("corp")));
    assert_eq!(begun["request"], ended["request"]);
    assert_eq!((&ended["status"], &ended["outcome"]), (&json!(200), &json!("ok")));
    assert_eq!((&ended["input_tokens"], &ended["output_tokens"]), (&json!(3), &json!(5)));
    let text = entries.iter().map(Value::to_string).collect::<String>();
    for secret in ["nobody else reads", "alice", "127.0.0.1", "Bearer", "fake"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
}

#[tokio::test]
async fn without_a_record_no_provider_and_no_upstream_is_asked_and_it_goes_on_by_itself() {
    let mock = provider().await;
    let (logged, recorder) = logged(false);
    let world = World::recorded(&config(&mock.url()), recorder);
    logged.disk.0.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = world.post("/v1/chat/completions", &asked()).await;
        assert_eq!(
            (refused.status.as_u16(), refused.code().as_str()),
            (503, "audit_unavailable"),
            "{}",
            refused.text()
        );
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(world.post("/maps/x", &json!({})).await.status, 503);
    }
    assert_eq!(mock.count(), 0, "nothing was sent on");
    logged.disk.0.store(false, Ordering::SeqCst);
    let mut answer = world.post("/v1/chat/completions", &asked()).await;
    // The log looks for room a few times a second.
    for _ in 0..10_000 {
        if answer.status == 200 {
            break;
        }
        tokio::task::yield_now().await;
        answer = world.post("/v1/chat/completions", &asked()).await;
    }
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn where_a_policy_of_the_operator_says_so_requests_go_on_unrecorded_and_are_counted() {
    let mock = provider().await;
    let (logged, recorder) = logged(true);
    let world = World::recorded(&config(&mock.url()), recorder.clone());
    logged.disk.0.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        assert_eq!(world.post("/v1/chat/completions", &asked()).await.status, 200);
    }
    assert_eq!(recorder.unrecorded(), 2);
    assert!(recorder.trouble().is_none(), "that is no reason to take no requests");
}

#[tokio::test]
async fn who_is_not_let_in_is_in_the_log_and_cannot_fill_it() {
    let (logged, recorder) = logged(false);
    let world = World::recorded(&config("http://127.0.0.1:9"), recorder);
    for _ in 0..50 {
        let refused =
            world.send("POST", "/v1/chat/completions", &[("authorization", "Bearer x.y.z")], "{}".to_owned()).await;
        assert_eq!(refused.status, 401);
    }
    let entries = logged.entries().await;
    assert_eq!(entries.len(), 20, "of an address in a minute");
    assert!(entries.iter().all(|entry| entry["kind"] == "auth.failed" && entry["surface"] == "gateway"));
}
