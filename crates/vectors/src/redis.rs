//! Redis servers for tests.

use std::path::{Path, PathBuf};

use crate::service::{Service, free_port, new_directory, private_file};
use crate::variable;

/// A server that keeps everything in memory, reached by a socket in its directory.
#[derive(Debug)]
pub struct Redis {
    service: Service,
    /// Where it speaks TLS, if it does.
    tls_port: Option<u16>,
}

impl Redis {
    /// Start one; `None` where Redis is not installed.
    pub fn start() -> Option<Self> {
        Self::with(&[])
    }

    /// The same, as the one node of a Redis Cluster.
    pub fn of_a_cluster() -> Option<Self> {
        Self::with(&["--cluster-enabled", "yes"])
    }

    /// The same, which also speaks TLS with this certificate and key (PEM).
    pub fn with_tls(certificate: &str, key: &str) -> Option<Self> {
        // Somebody else may take the port first.
        (0..5).find_map(|_| {
            let dir = new_directory("redis-tls")?;
            let (certificate, key) =
                (private_file(&dir, "cert.pem", certificate)?, private_file(&dir, "key.pem", key)?);
            let port = free_port()?;
            let text = port.to_string();
            let (certificate, key) = (certificate.to_str()?.to_owned(), key.to_str()?.to_owned());
            let tls = ["--tls-port", &text, "--tls-cert-file", &certificate, "--tls-key-file", &key];
            let mut redis = Self::in_directory(&dir, &[&tls[..], &["--tls-auth-clients", "no"]].concat())?;
            redis.tls_port = Some(port);
            redis.restart().then_some(redis)
        })
    }

    fn with(more: &[&str]) -> Option<Self> {
        let mut redis = Self::in_directory(&new_directory("redis")?, more)?;
        redis.restart().then_some(redis)
    }

    fn in_directory(dir: &Path, more: &[&str]) -> Option<Self> {
        let program = program()?;
        let socket = dir.join("s");
        let command = [program.to_str()?, "--port", "0", "--unixsocket", socket.to_str()?, "--unixsocketperm", "777"];
        let quiet = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir", dir.to_str()?];
        let service = Service::new(dir.to_owned(), &[&command[..], &quiet[..], more].concat())?;
        Some(Self { service, tls_port: None })
    }

    /// Where it speaks TLS: `rediss://` and this host.
    pub fn tls_url(&self, host: &str) -> Option<String> {
        self.tls_port.map(|port| format!("rediss://{host}:{port}"))
    }

    /// The socket it listens on.
    pub fn socket(&self) -> PathBuf {
        self.service.dir().join("s")
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis+unix://{}/s", self.service.dir().display())
    }

    /// Start it again after [`Redis::crash`]: it has forgotten everything.
    pub fn restart(&mut self) -> bool {
        self.service.order("start") && self.service.wait_for("eady to accept connections")
    }

    /// Kill it.
    pub fn crash(&mut self) -> bool {
        self.service.order("kill")
    }

    /// Stop it where it is: connections stay and nothing answers.
    pub fn pause(&mut self) -> bool {
        self.service.order("pause")
    }

    /// Go on after [`Redis::pause`].
    pub fn resume(&mut self) -> bool {
        self.service.order("resume")
    }
}

fn program() -> Option<PathBuf> {
    let usual = ["/usr/bin/redis-server", "/usr/local/bin/redis-server", "/usr/bin/valkey-server"].map(PathBuf::from);
    variable("VOUCHGATE_TEST_REDIS").into_iter().chain(usual).find(|file| file.is_file())
}
