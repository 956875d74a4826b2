//! Redis servers for tests.

use std::path::PathBuf;

use crate::service::{Service, new_directory};
use crate::variable;

/// A server that keeps everything in memory, reached by a socket in its directory.
#[derive(Debug)]
pub struct Redis {
    service: Service,
}

impl Redis {
    /// Start one; `None` where Redis is not installed.
    pub fn start() -> Option<Self> {
        let program = program()?;
        let dir = new_directory("redis")?;
        let socket = dir.join("s");
        let command = [program.to_str()?, "--port", "0", "--unixsocket", socket.to_str()?, "--unixsocketperm", "777"];
        let quiet = ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir", dir.to_str()?];
        let mut redis = Self { service: Service::new(dir.clone(), &[&command[..], &quiet[..]].concat())? };
        redis.restart().then_some(redis)
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
