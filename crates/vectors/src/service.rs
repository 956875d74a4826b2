//! A server that a test starts for itself in a directory of its own, gone with the test: also when it is killed.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};

/// A shell stands between: it does what it is told on its standard input, and when that closes, because the test has ended in
/// whatever way, it ends the server and removes the directory.
const KEEPER: &str = r#"
dir=$1; shift
pid=
family() { for task in /proc/$pid/task/*; do echo $pid $(cat $task/children); done; }
end() { if [ -n "$pid" ]; then kill -CONT $(family); kill -"$1" $pid; wait $pid; pid=; fi 2>/dev/null; }
while read -r order; do
    case $order in
        # Said first: what the server says once it runs comes after it.
        start) echo "keeper: start" >&2; "$@" </dev/null >&2 & pid=$!; continue ;;
        stop) end INT ;;
        crash) end QUIT ;;
        kill) end KILL ;;
        pause) kill -STOP $(family) ;;
        resume) kill -CONT $(family) ;;
    esac
    echo "keeper: $order" >&2
done
end KILL
rm -rf "$dir"
"#;

/// A server, and the directory it works in.
#[derive(Debug)]
pub(crate) struct Service {
    orders: ChildStdin,
    said: Receiver<String>,
    dir: PathBuf,
}

impl Service {
    /// Keep `command` in `dir`, not running yet.
    pub(crate) fn new(dir: PathBuf, command: &[&str]) -> Option<Self> {
        let mut keeper = unprivileged(Command::new("sh"));
        keeper.args(["-c", KEEPER, "keeper"]).arg(&dir).args(command);
        let mut child =
            keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).current_dir("/").spawn().ok()?;
        let (orders, output) = (child.stdin.take()?, child.stderr.take()?);
        let (heard, said) = channel();
        std::thread::spawn(move || {
            // To the end, so that the server never waits for a reader.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = heard.send(line);
            }
            let _ = child.wait();
        });
        Some(Self { orders, said, dir })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Give an order and wait until it has been carried out.
    pub(crate) fn order(&mut self, order: &str) -> bool {
        writeln!(self.orders, "{order}").is_ok() && self.wait_for(&format!("keeper: {order}"))
    }

    /// Wait until the server says this, which is part of a line. `false` if it ends without.
    pub(crate) fn wait_for(&mut self, text: &str) -> bool {
        self.said.iter().any(|line| line.contains(text))
    }
}

/// A new directory that only its owner reads: the one the service runs as.
pub(crate) fn new_directory(name: &str) -> Option<PathBuf> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Short: the path of a socket has at most 107 bytes.
    let dir = std::env::temp_dir().join(format!("vg-{name}-{}-{count}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::DirBuilder::new().mode(0o700).create(&dir).ok()?;
    if let Some((user, group)) = other_user() {
        chown(&dir, Some(user), Some(group)).ok()?;
    }
    Some(dir)
}

/// A TCP port of loopback that nobody listens on just now. Servers that cannot be told to take any are given it; whoever
/// starts them tries again with another if somebody was quicker.
pub(crate) fn free_port() -> Option<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).ok()?;
    listener.local_addr().ok().map(|address| address.port())
}

/// Write a file into a service's directory, for the service's user only.
pub(crate) fn private_file(dir: &Path, name: &str, text: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).ok()?;
    file.write_all(text.as_bytes()).ok()?;
    if let Some((user, group)) = other_user() {
        chown(&path, Some(user), Some(group)).ok()?;
    }
    Some(path)
}

/// The same command, not as root: PostgreSQL refuses that.
pub(crate) fn unprivileged(mut command: Command) -> Command {
    if let Some((user, group)) = other_user() {
        command.gid(group).uid(user);
    }
    command
}

/// Whom to run as, if we are root.
fn other_user() -> Option<(u32, u32)> {
    if std::fs::metadata("/proc/self").ok()?.uid() != 0 {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").ok()?;
    let ids = |name: &str| {
        let mut fields = users.lines().find(|line| line.split(':').next() == Some(name))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}
