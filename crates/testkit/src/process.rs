//! The real binary as a child process: what it prints, how it takes signals, what it costs.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// A running child; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    lines: Arc<Lines>,
    readers: JoinSet<()>,
}

/// Everything it has printed, on both streams, as it came.
#[derive(Debug, Default)]
struct Lines {
    seen: Mutex<Vec<String>>,
    more: Notify,
}

/// What a process has used so far, as the kernel counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// User and system time.
    pub cpu: Duration,
    /// Resident memory, in bytes.
    pub resident: u64,
}

impl Process {
    /// Start a program in `dir` with these arguments and, on top of the test's own, these environment variables.
    pub fn start(binary: &Path, args: &[&str], dir: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(binary);
        command.args(args).current_dir(dir).envs(env.iter().copied()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{} does not start: {error}", binary.display()));
        let lines = Arc::new(Lines::default());
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(collect(stdout, Arc::clone(&lines)));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(collect(stderr, Arc::clone(&lines)));
        }
        Self { child, lines, readers }
    }

    /// The first line that holds `text`; waits for it. Fails the test, showing what was printed, if it never comes.
    pub async fn line(&mut self, text: &str) -> String {
        self.line_within(crate::PATIENCE, text).await
    }

    /// The same, for what takes longer to get going than the program under test.
    pub async fn line_within(&mut self, patience: Duration, text: &str) -> String {
        let lines = Arc::clone(&self.lines);
        let found = async {
            loop {
                let more = lines.more.notified();
                tokio::pin!(more);
                more.as_mut().enable();
                if let Some(line) = lines.seen.lock().unwrap().iter().find(|line| line.contains(text)) {
                    return line.clone();
                }
                more.await;
            }
        };
        tokio::select! {
            found = tokio::time::timeout(patience, found) => {
                found.unwrap_or_else(|_| panic!("no line with {text:?} in:\n{}", self.output()))
            }
            status = self.child.wait() => panic!("ended with {status:?} before a line with {text:?}:\n{}", self.output()),
        }
    }

    /// Everything printed so far.
    pub fn output(&self) -> String {
        self.lines.seen.lock().unwrap().join("\n")
    }

    /// The process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Send it a signal by name: `TERM`, `HUP`, `INT`, `KILL`.
    pub fn signal(&self, name: &str) {
        let pid = self.pid().expect("the process still runs").to_string();
        let status = std::process::Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.is_ok_and(|status| status.success()), "cannot send {name} to {pid}");
    }

    /// Wait for its end, and for the last of what it prints.
    pub async fn ended(&mut self) -> ExitStatus {
        let status =
            crate::patiently("the process to end", self.child.wait()).await.expect("a child can be waited for");
        while self.readers.join_next().await.is_some() {}
        status
    }

    /// What it has used so far.
    pub fn cost(&self) -> Cost {
        cost_of(self.pid().expect("the process still runs"))
    }
}

/// What a process of this machine has used so far (Linux: `/proc`).
pub fn cost_of(pid: u32) -> Cost {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}")).expect("the process still runs");
    let stat = read("stat");
    // The second field is the name in brackets and may hold anything; the fields after it are counted from its end.
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name in brackets").1.split_whitespace().collect();
    let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
    // proc(5): utime and stime are fields 14 and 15, in ticks of which Linux shows a hundred a second.
    let cpu = Duration::from_millis((ticks(11) + ticks(12)) * 10);
    let status = read("status");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kib: u64 = resident.trim().trim_end_matches(" kB").trim().parse().expect("a number");
    Cost { cpu, resident: kib * 1024 }
}

async fn collect(stream: impl AsyncRead + Unpin, lines: Arc<Lines>) {
    let mut reader = BufReader::new(stream).lines();
    while let Ok(Some(line)) = reader.next_line().await {
        lines.seen.lock().unwrap().push(line);
        lines.more.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_child_is_seen_heard_and_stopped() {
        let here = std::env::temp_dir();
        let script = "echo ready $GREETING; exec cat /dev/zero >/dev/null";
        let mut child = Process::start(Path::new("sh"), &["-c", script], &here, &[("GREETING", "hello")]);
        assert_eq!(child.line("ready").await, "ready hello");
        assert!(child.cost().resident > 0);
        child.signal("TERM");
        assert!(!child.ended().await.success());
    }
}
