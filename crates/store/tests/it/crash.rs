//! kill -9 in the middle of writing, again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use base::{Name, Rng, SeededRng, SystemClock, SystemRng};
use store::{Expect, Store, StoreUrl};
use tokio::task::JoinSet;

/// Set in the child's environment only: where it writes.
const DIR: &str = "VOUCHGATE_TEST_CRASH_DIR";
const ROUNDS: usize = 20;
/// Writers at once, so that kills hit shared commits.
const WRITERS: usize = 8;

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
                let mut out = std::io::stdout().lock();
                writeln!(out, "acknowledged {text}").and_then(|()| out.flush()).unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[allow(clippy::disallowed_methods)] // the child is told its directory by its environment
async fn no_acknowledged_write_is_lost_when_the_process_is_killed() {
    if let Some(dir) = std::env::var_os(DIR) {
        return write_until_killed(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let rng = SeededRng::new(0xdead);
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "crash::no_acknowledged_write_is_lost_when_the_process_is_killed", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut byte = [0u8];
        rng.fill(&mut byte);
        let before = acknowledged.len();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines {
            // The last line may have been cut by the kill: then nobody was told.
            let Ok(line) = line else { break };
            if let Some((_, name)) = line.split_once("acknowledged ") {
                acknowledged.push(name.to_owned());
                if acknowledged.len() - before == 1 + usize::from(byte[0]) {
                    child.kill().unwrap();
                }
            }
        }
        child.wait().unwrap();
        assert!(acknowledged.len() > before, "round {round}: the child wrote");

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
