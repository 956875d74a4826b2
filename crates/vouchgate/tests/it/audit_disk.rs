//! The audit log of the real program on a disk that is full: no provider is asked, and it goes on by itself. The disk is a small
//! one in memory that only the program sees, which takes leave to mount; what fails in other ways is tested on a disk of the
//! tests' own (`crates/audit/tests/it/failures.rs`, `crates/gateway/tests/it/audit.rs`).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use audit::disk::{Disk, RealDisk};
use audit::verify::{self, Trusted};
use base::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::mock::Mock;
use testkit::process::Process;
use testkit::raw;

use crate::support::{APP, Gateway, Program, command, program, provider, run, secret_file, write_config};

fn chat() -> Value {
    json!({"model": "prov/m", "messages": [{"role": "user", "content": "hello"}]})
}

fn configuration(dir: &Path, mock: &Mock) -> String {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    format!("{APP}{}", provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key))
}

/// Whether this process may make a disk that only a child sees.
fn may_mount() -> bool {
    let mut child = std::process::Command::new("unshare");
    let tried = child.args(["-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]).output();
    tried.is_ok_and(|output| output.status.success())
}

/// Take all the room there is.
fn fill(path: &Path) {
    let mut file = std::fs::File::options().create(true).append(true).open(path).unwrap();
    for size in [65_536, 4096, 512, 1] {
        let piece = vec![b'x'; size];
        while file.write_all(&piece).is_ok() {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_full_disk_nothing_is_sent_on_and_it_goes_on_by_itself_when_there_is_room() {
    if !may_mount() {
        return vectors::skip("the audit log on a full disk", "this user may not mount one");
    }
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = tempfile::tempdir().unwrap();
    let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
    write_config(dir.path(), "", &format!("{limits}{}", configuration(dir.path(), &mock)));
    let (exit, _, said) = run(&["key", "list", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 0, "{said}");
    std::fs::create_dir_all(dir.path().join("data/audit")).unwrap();
    let script = "mount -t tmpfs -o size=2m,mode=0700 tmpfs data/audit && exec \"$0\" serve --config vouchgate.toml";
    let args = ["-m", "sh", "-c", script, program().to_str().unwrap()];
    let mut program = Program::listening(Process::start(Path::new("unshare"), &args, dir.path(), &[])).await;
    // As the program sees it.
    let seen = PathBuf::from(format!("/proc/{}/root", program.process.pid().unwrap()));
    let log = seen.join(dir.path().strip_prefix("/").unwrap()).join("data/audit");
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let ask = async || program.post("/v1/chat/completions", &token, &chat()).await;
    let ready = async || raw::request(program.admin, "GET", "/readyz", &[], b"").await;
    assert_eq!((ask().await.status(), ready().await.status()), (200, 200));

    fill(&log.join("filler"));
    // What fits into the last page of the journal is still written.
    let mut refused = None;
    for _ in 0..100 {
        let answer = ask().await;
        if answer.status() == 503 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("a full disk is noticed");
    assert_eq!(refused.json()["error"]["code"], "audit_unavailable", "{}", refused.text());
    fill(&log.join("filler"));
    let sent = mock.count();
    for _ in 0..5 {
        assert_eq!(ask().await.status(), 503);
    }
    assert_eq!(mock.count(), sent, "no provider was asked");
    let told = ready().await;
    assert_eq!(told.status(), 503);
    assert!(told.text().contains("\"audit\""), "{}", told.text());
    let (exit, _, said) = run(&["client", "create", "late", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_ne!(exit, 0, "nothing is changed without a record either: {said}");

    std::fs::remove_file(log.join("filler")).unwrap();
    let again = async {
        while ask().await.status() != 200 {
            tokio::task::yield_now().await;
        }
    };
    testkit::patiently("the log to go on", again).await;
    assert_eq!(ready().await.status(), 200);
    command(dir.path(), &["audit", "checkpoint"], b"");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let report = verify::directory(&disk, &log, &Trusted::default());
    assert!(report.valid, "{report:?}");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_steps_an_hour_both_ways_stops_nothing_and_the_log_verifies() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let gateway = Gateway::start_in(Arc::clone(&dir), &configuration(dir.path(), &mock)).await;
    let hour = Duration::from_hours(1);
    let start = gateway.clock.now();
    // A token of the moment: what has expired is no matter of the log's.
    for now in [start, start.minus(hour), start, start.plus(hour), start] {
        gateway.clock.set(now);
        let token = gateway.token("app").await;
        let answer = gateway.post("/v1/chat/completions", &token, &chat()).await;
        assert_eq!(answer.status, 200, "{}: {}", now.rfc3339(), answer.text());
    }
    assert_eq!(mock.count(), 5);
    gateway.stop().await;
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let report = verify::directory(&disk, &dir.path().join("data/audit"), &Trusted::default());
    assert!(report.valid && report.unsigned == 0, "{report:?}");
    assert!(SystemClock.now() >= start);
}
