//! PostgreSQL servers for tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::service::{Service, free_port, new_directory, private_file, unprivileged};
use crate::{variable, workspace};

/// What a server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// What is committed need not survive the machine: fast.
    Careless,
    /// What is committed is on the disk.
    Durable,
}

/// A server with a cluster of its own, reached by a socket in its directory.
#[derive(Debug)]
pub struct Cluster {
    service: Service,
    databases: AtomicU32,
    /// What else than the usual it listens on.
    port: Option<u16>,
}

impl Cluster {
    /// Start one; `None` where PostgreSQL is not installed.
    pub fn start(disk: Disk) -> Option<Self> {
        Self::with(disk, &[])
    }

    /// The same with further settings (`name=value`).
    pub fn with(disk: Disk, settings: &[&str]) -> Option<Self> {
        let mut cluster = Self::in_directory(&new_directory("pg")?, disk, settings)?;
        cluster.restart().then_some(cluster)
    }

    /// The same, which also listens on a port of loopback and speaks TLS there with this certificate and key (PEM).
    pub fn with_tls(certificate: &str, key: &str) -> Option<Self> {
        // Somebody else may take the port first.
        (0..5).find_map(|_| {
            let dir = new_directory("pg-tls")?;
            let (certificate, key) =
                (private_file(&dir, "cert.pem", certificate)?, private_file(&dir, "key.pem", key)?);
            let port = free_port()?;
            let settings = [
                "ssl=on".to_owned(),
                format!("ssl_cert_file={}", certificate.display()),
                format!("ssl_key_file={}", key.display()),
                "listen_addresses=127.0.0.1".to_owned(),
                format!("port={port}"),
            ];
            let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
            let mut cluster = Self::in_directory(&dir, Disk::Careless, &settings)?;
            cluster.port = Some(port);
            cluster.restart().then_some(cluster)
        })
    }

    fn in_directory(dir: &Path, disk: Disk, more: &[&str]) -> Option<Self> {
        let bin = programs()?;
        let template = template(bin)?;
        let data = dir.join("data");
        let copied = Command::new("cp").arg("-r").arg(template).arg(&data).status();
        copied.ok().filter(std::process::ExitStatus::success)?;
        own(&data)?;
        let durable = if disk == Disk::Durable { "on" } else { "off" };
        let program = bin.join("postgres");
        let (program, data, sockets) = (program.to_str()?, data.to_str()?, dir.to_str()?);
        let settings = [format!("fsync={durable}"), format!("full_page_writes={durable}")];
        let mut command = vec![program, "-D", data, "-k", sockets];
        // Of a setting that is given twice the last counts.
        for setting in settings.iter().map(String::as_str).chain(SETTINGS).chain(more.iter().copied()) {
            command.extend(["-c", setting]);
        }
        Some(Self { service: Service::new(dir.to_owned(), &command)?, databases: AtomicU32::new(0), port: None })
    }

    /// The URL of a new, empty database.
    pub fn database(&self) -> Option<String> {
        let name = format!("db{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let sockets = self.service.dir().to_str()?;
        let mut create = Command::new(programs()?.join("createdb"));
        let port = self.port.unwrap_or(PORT).to_string();
        create.args(["-h", sockets, "-p", &port, "-U", USER, &name]).stdin(Stdio::null());
        create.status().ok().filter(std::process::ExitStatus::success)?;
        Some(match self.port {
            None => format!("postgres:///{name}?host={sockets}&user={USER}"),
            Some(port) => format!("postgres://{USER}@localhost:{port}/{name}"),
        })
    }

    /// One of the programs that come with it.
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        Some(programs()?.join(name)).filter(|program| program.is_file())
    }

    /// What a query gives, as `psql` writes it: rows as lines, columns with `|` between. As a user who may do everything.
    pub fn query(&self, database: &str, sql: &str) -> Option<String> {
        let port = self.port.unwrap_or(PORT).to_string();
        let mut psql = Command::new(programs()?.join("psql"));
        psql.args(["-h", self.service.dir().to_str()?, "-p", &port, "-U", USER, "-d", database, "-Atc", sql]);
        let output = psql.stdin(Stdio::null()).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.service.dir().join(format!(".s.PGSQL.{}", self.port.unwrap_or(PORT)))
    }

    /// Start it again after [`Cluster::stop`] or [`Cluster::crash`].
    pub fn restart(&mut self) -> bool {
        self.service.order("start") && self.service.wait_for("database system is ready to accept connections")
    }

    /// Stop it: connections are ended, what is committed is kept.
    pub fn stop(&mut self) -> bool {
        self.service.order("stop")
    }

    /// End it in the middle of whatever it does; the next start recovers from its log.
    pub fn crash(&mut self) -> bool {
        self.service.order("crash")
    }

    /// Stop all its processes where they are: connections stay and nothing answers.
    pub fn pause(&mut self) -> bool {
        self.service.order("pause")
    }

    /// Go on after [`Cluster::pause`].
    pub fn resume(&mut self) -> bool {
        self.service.order("resume")
    }
}

/// A new, empty database in the one server that all tests of this process share; `None` where PostgreSQL is not installed.
pub fn database() -> Option<String> {
    static SHARED: OnceLock<Option<Mutex<Cluster>>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| Cluster::start(Disk::Careless).map(Mutex::new)).as_ref()?;
    shared.lock().unwrap_or_else(PoisonError::into_inner).database()
}

const USER: &str = "vouchgate";
/// What sockets are named after, whether or not a port is listened on.
const PORT: u16 = 5432;

const SETTINGS: [&str; 6] = [
    "listen_addresses=",
    "shared_buffers=16MB",
    "max_connections=200",
    "unix_socket_permissions=0777",
    "logging_collector=off",
    "lc_messages=C",
];

/// The directory with `initdb`, `postgres` and `createdb`.
fn programs() -> Option<&'static Path> {
    static DIR: OnceLock<Option<PathBuf>> = OnceLock::new();
    DIR.get_or_init(|| {
        let has_all = |dir: &PathBuf| ["initdb", "postgres", "createdb"].iter().all(|name| dir.join(name).is_file());
        if let Some(dir) = variable("VOUCHGATE_TEST_POSTGRES") {
            return Some(dir).filter(has_all);
        }
        // Debian keeps each version's programs apart.
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        let debian = versions.map(|version| version.path().join("bin")).filter(has_all).max();
        let usual = ["/usr/local/bin", "/usr/bin", "/usr/local/pgsql/bin"].map(PathBuf::from);
        debian.or_else(|| usual.into_iter().find(has_all))
    })
    .as_deref()
}

/// An empty cluster to be copied, made once: `initdb` takes longer than most tests.
fn template(bin: &Path) -> Option<PathBuf> {
    let name: String = bin.to_str()?.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    let tests = workspace().join("target/tests");
    std::fs::create_dir_all(&tests).ok()?;
    let template = tests.join(format!("postgres{name}"));
    // Tests run side by side; only one may make it.
    let lock = std::fs::File::create(tests.join(".postgres.lock")).ok()?;
    lock.lock().ok()?;
    if template.is_dir() {
        return Some(template);
    }
    let dir = new_directory("initdb")?;
    let data = dir.join("data");
    let mut initdb = unprivileged(Command::new(bin.join("initdb")));
    initdb.arg("-D").arg(&data).args(["-A", "trust", "-U", USER, "-E", "UTF8", "--locale=C", "--no-sync"]);
    initdb.args(["--wal-segsize=1"]).stdin(Stdio::null()).stdout(Stdio::null()).current_dir("/");
    let made = initdb.status().is_ok_and(|status| status.success());
    // First beside its place: a copy that is cut short is not taken for whole.
    let partial = tests.join(".postgres.partial");
    let _ = std::fs::remove_dir_all(&partial);
    let copied = made && Command::new("cp").arg("-r").arg(&data).arg(&partial).status().is_ok_and(|s| s.success());
    let _ = std::fs::remove_dir_all(&dir);
    (copied && std::fs::rename(&partial, &template).is_ok()).then_some(template)
}

/// Give the copy, which we made, to whom the server runs as.
fn own(data: &Path) -> Option<()> {
    use std::os::unix::fs::MetadataExt;
    let owner = std::fs::metadata(data.parent()?).ok()?;
    if std::fs::metadata(data).ok()?.uid() == owner.uid() {
        return Some(());
    }
    let whom = format!("{}:{}", owner.uid(), owner.gid());
    Command::new("chown").arg("-R").arg(whom).arg(data).status().ok().filter(std::process::ExitStatus::success)?;
    Some(())
}
