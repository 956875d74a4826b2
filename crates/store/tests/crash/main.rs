//! kill -9 in the middle of writing, again and again. A program of its own: a child inherits the locks of all stores that
//! are open in its parent until it has started.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::print_stdout)]

mod ledger;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Name, Rng, SeededRng, SystemClock, SystemRng, Tenant, Timestamp};
use store::{
    Cause, Claim, Expect, Holder, NewFamily, NewRevocation, OWN_ISSUER, OneTime, RefreshState, Revoke, Rotate,
    Rotation, Store, StoreUrl, Taken, TokenFacts,
};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use vault::{Label, MasterKey, Purpose, Sealed, Vault};

/// Set in the child's environment only: where it writes.
pub(crate) const DIR: &str = "VOUCHGATE_TEST_CRASH_DIR";
const ROUNDS: usize = 20;
/// Writers at once, so that kills hit shared commits.
const WRITERS: usize = 8;

/// So one test at a time has children.
pub(crate) static CHILDREN: Mutex<()> = Mutex::const_new(());

async fn open(dir: &Path) -> Store {
    Store::open(&StoreUrl::default(), dir, Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap()
}

/// The child: write until killed, and say each write only once it is acknowledged.
async fn write_until_killed(dir: &Path) {
    let store = open(dir).await;
    let first = store.resources().all().await.unwrap().len();
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..100_000 {
                let text = format!("w{first}-{writer}-{n}");
                let name = Name::new(&text).unwrap();
                store.resources().put(("m", &name), text.clone(), Expect::Absent, "a").await.unwrap();
                acknowledge(&text);
            }
        });
    }
    tasks.join_all().await;
}

/// How a child is started and killed.
pub(crate) struct Kill<'a> {
    pub(crate) dir: &'a Path,
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// Done just before the kill.
    pub(crate) before: &'a mut dyn FnMut(),
}

/// Start this test again as a child that writes, read what it says is acknowledged, and kill it at a random moment.
#[allow(clippy::disallowed_methods)] // the child is told its directory by its environment
pub(crate) fn kill_while_writing(test: &str, kill: &mut Kill<'_>, rng: &SeededRng) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(DIR, kill.dir)
        .envs(kill.environment.iter().copied())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut byte = [0u8];
    rng.fill(&mut byte);
    let mut acknowledged = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // The last line may have been cut by the kill: then nobody was told.
        let Ok(line) = line else { break };
        if let Some((_, name)) = line.split_once("acknowledged ") {
            acknowledged.push(name.to_owned());
            if acknowledged.len() == 1 + usize::from(byte[0]) {
                (kill.before)();
                child.kill().unwrap();
            }
        }
    }
    child.wait().unwrap();
    acknowledged
}

/// The same with nothing but a directory.
fn kill_in(test: &str, dir: &Path, rng: &SeededRng) -> Vec<String> {
    kill_while_writing(test, &mut Kill { dir, environment: &[], before: &mut || {} }, rng)
}

pub(crate) fn acknowledge(text: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "acknowledged {text}").and_then(|()| out.flush()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)] // the child is told its directory by its environment
async fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let _alone = CHILDREN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(0xdead);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let test = "no_acknowledged_write_is_lost_when_the_process_is_killed";
        let written = kill_in(test, dir.path(), &rng);
        assert!(!written.is_empty(), "round {round}: the child wrote");
        acknowledged.extend(written);

        let store = open(dir.path()).await;
        assert_eq!(store.check().await.unwrap(), Vec::<String>::new(), "round {round}");
        let stored = store.resources().all().await.unwrap();
        let names: std::collections::HashSet<_> = stored.iter().map(|resource| resource.name.as_str()).collect();
        for name in &acknowledged {
            assert!(names.contains(name.as_str()), "round {round}: {name} was acknowledged and is gone");
        }
        assert!(stored.iter().all(|resource| resource.body == resource.name.as_str()));
        // Each change made one version: a commit is whole or absent.
        assert_eq!(store.version(), stored.len() as u64, "round {round}");
        store.close().await;
    }
}

/// One thing of each kind that must never be usable again: used once, a code taken, a refresh token rotated, a token
/// revoked.
async fn end_until_killed(dir: &Path) {
    let store = open(dir).await;
    let first = store.revoked().entries();
    let mut tasks = JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        tasks.spawn(async move {
            for n in 0..100_000 {
                let text = format!("e{first}-{writer}-{n}");
                end(&store, &text).await;
                acknowledge(&text);
            }
        });
    }
    tasks.join_all().await;
}

fn hash(text: &str) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(text.bytes().cycle()) {
        *to = from;
    }
    out
}

fn far() -> Timestamp {
    SystemClock.now().plus(Duration::from_hours(1))
}

fn sealed() -> Sealed {
    let rng = Arc::new(SeededRng::new(42));
    let vault = Vault::new(MasterKey::generate(&*rng).unwrap(), rng).unwrap();
    vault.seal(&Label::new(&Tenant::default(), Purpose::Grant, "code", 1), b"body").unwrap()
}

fn rotation(text: &str) -> Rotate {
    Rotate {
        presented: hash(text),
        holder: Holder { client: Name::new("app").unwrap(), jkt: None, x5t: None },
        successor: hash(&format!("next-{text}")),
        sealed: sealed(),
        idle: Duration::from_hours(1),
        grace: Duration::ZERO,
    }
}

async fn end(store: &Store, text: &str) {
    let claim = store.used_once().claim(OneTime::ClientAssertion, &[text], far()).await.unwrap();
    assert_eq!(claim, Claim::First);
    store.codes().put(hash(text), &sealed(), far()).await.unwrap();
    assert!(matches!(store.codes().take(hash(text)).await.unwrap(), Taken::First(_)));
    let family = NewFamily {
        client: Name::new("app").unwrap(),
        subject: "alice".to_owned(),
        scopes: Vec::new(),
        jkt: None,
        x5t: None,
        session: None,
        upstream_session: None,
        device: None,
        auth_time: None,
        granted_at: None,
        details: String::new(),
        absolute_end: far(),
    };
    store.refresh().create(family, hash(text), Duration::from_hours(1)).await.unwrap();
    assert!(matches!(store.refresh().rotate(rotation(text)).await.unwrap(), Rotation::Rotated(_)));
    let token = Revoke::Token { issuer: OWN_ISSUER.to_owned(), jti: text.to_owned() };
    let new = NewRevocation {
        what: token,
        not_before: SystemClock.now(),
        expires_at: None,
        by: "operator".to_owned(),
        reason: "test".to_owned(),
    };
    store.revocations().revoke(new).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)] // the child is told its directory by its environment
async fn a_39_what_was_used_or_revoked_stays_so_when_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIR) {
        return end_until_killed(Path::new(&dir)).await;
    }
    let _alone = CHILDREN.lock().await;
    let dir = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(0xbeef);
    let mut ended = Vec::new();
    for round in 0..ROUNDS / 4 {
        let test = "a_39_what_was_used_or_revoked_stays_so_when_the_process_is_killed";
        let written = kill_in(test, dir.path(), &rng);
        assert!(!written.is_empty(), "round {round}: the child wrote");
        ended.extend(written);
        let store = open(dir.path()).await;
        for text in &ended {
            let facts = TokenFacts { issuer: OWN_ISSUER, jti: Some(text), ..TokenFacts::default() };
            assert_eq!(store.revoked().check(&facts), Some(Cause::Token), "round {round}: {text}");
            let claim = store.used_once().claim(OneTime::ClientAssertion, &[text], far()).await.unwrap();
            assert_eq!(claim, Claim::Seen, "round {round}: {text}");
            let taken = store.codes().take(hash(text)).await.unwrap();
            assert!(matches!(taken, Taken::AlreadyUsed(_)), "round {round}: {text}");
            let (_, state) = store.refresh().find(hash(text)).await.unwrap().unwrap();
            assert_eq!(state, RefreshState::Rotated, "round {round}: {text}");
        }
        store.close().await;
    }
    let store = open(dir.path()).await;
    let reused = store.refresh().rotate(rotation(&ended[0])).await.unwrap();
    assert!(matches!(reused, Rotation::Reused(_)), "{reused:?}");
}
