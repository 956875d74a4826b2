//! What several nodes share beside the database: used proofs, and how full limits are. By Redis or Valkey.
//!
//! Nothing waits longer than [`DEADLINE`]; a server that does not answer several times over is left alone for a moment
//! ([`Breaker`]), so that requests do not wait for it one after the other. What happens then is each caller's to say.

mod limits;
mod replay;
mod sightings;

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, ScriptInvocation, ServerErrorKind, TlsCertificates};
use tokio::time::{Instant, timeout};

use crate::StoreError;
pub use limits::{LimitWant, Limited, SharedLimits, SharedPlace, SharedState, Standing};
pub use replay::SharedReplay;

/// How long an answer may take.
const DEADLINE: Duration = Duration::from_millis(50);
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// What a certificate in PEM begins with.
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// After so many failures in a row the server is left alone.
const FAILURES: u32 = 5;
/// For so long.
const ALONE: Duration = Duration::from_secs(1);

/// Why the shared state gave no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SharedError {
    /// It does not answer in time, or not at all.
    #[error("the shared state does not answer")]
    Down,
    /// It has no room for more.
    #[error("the shared state is full")]
    Full,
    /// It is one node of a Redis Cluster.
    #[error(
        "it is a node of a Redis Cluster, which is not supported: the scripts need one server; name a primary by itself"
    )]
    Cluster,
}

impl SharedError {
    /// A short stable code for logs and metrics.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Down => "shared_down",
            Self::Full => "shared_full",
            Self::Cluster => "shared_cluster",
        }
    }
}

/// A connection to the server, made anew by itself. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link {
    manager: ConnectionManager,
    breaker: std::sync::Arc<Breaker>,
}

impl Link {
    /// Connects when first asked: a server that is not there yet keeps no node from starting.
    /// `ca` (PEM) in the place of the machine's own certificates.
    pub(crate) fn open(url: &str, ca: Option<&[u8]>) -> Result<Self, StoreError> {
        let wrong = || StoreError::Url("redis://... (not a URL of a Redis server)".to_owned());
        if !["redis://", "rediss://", "redis+unix://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(wrong());
        }
        if url.ends_with("#insecure") {
            return Err(StoreError::Url(
                "rediss://...#insecure (the server's certificate is always verified)".to_owned(),
            ));
        }
        // Its own words may repeat what it was given.
        let client = match ca {
            None => Client::open(url).map_err(|_| wrong())?,
            Some(ca) => {
                let certificates = TlsCertificates { client_tls: None, root_cert: Some(ca.to_vec()) };
                let refused = || StoreError::Refused("no certificates that the shared state can be verified by".into());
                if !ca.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE) {
                    return Err(refused());
                }
                Client::build_with_tls(url, certificates).map_err(|_| refused())?
            }
        };
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(DEADLINE))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(100));
        let manager = ConnectionManager::new_lazy_with_config(client, config).map_err(|_| wrong())?;
        Ok(Self { manager, breaker: std::sync::Arc::default() })
    }

    async fn invoke<T: redis::FromRedisValue>(&self, script: &ScriptInvocation<'_>) -> Result<T, SharedError> {
        let mut manager = self.manager.clone();
        self.within(async move { script.invoke_async(&mut manager).await }).await
    }

    async fn within<T>(&self, call: impl Future<Output = Result<T, RedisError>>) -> Result<T, SharedError> {
        if !self.breaker.lets_through() {
            return Err(SharedError::Down);
        }
        let outcome = timeout(DEADLINE, call).await;
        match outcome {
            Ok(Ok(value)) => {
                self.breaker.succeeded();
                Ok(value)
            }
            Ok(Err(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) && is_full(&error) => {
                Err(SharedError::Full)
            }
            Ok(Err(error)) => {
                self.breaker.failed(&error);
                Err(if is_of_a_cluster(&error) { SharedError::Cluster } else { SharedError::Down })
            }
            Err(_) => {
                self.breaker.failed(&"no answer within 50 ms");
                Err(SharedError::Down)
            }
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Link")
    }
}

fn is_full(error: &RedisError) -> bool {
    error.to_string().contains("OOM")
}

fn is_of_a_cluster(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, ClusterDown, CrossSlot, Moved};
    matches!(error.kind(), ErrorKind::Server(Ask | ClusterDown | CrossSlot | Moved))
}

/// Whether what passes between us and the server at this URL cannot be read or changed on the way: by TLS, or because it
/// stays on this machine.
pub fn is_protected(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("redis://") else { return true };
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((host, _)) => host,
        None => host.split(':').next().unwrap_or_default(),
    };
    host.is_empty() || host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Leaves a server alone that does not answer.
#[derive(Debug, Default)]
struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    until: Option<Instant>,
}

impl Breaker {
    /// One at a time is let through once the moment is over, to see whether it answers again.
    fn lets_through(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.until {
            None => true,
            Some(until) if Instant::now() < until => false,
            Some(_) => {
                state.until = Some(Instant::now() + ALONE);
                true
            }
        }
    }

    fn succeeded(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.until.is_some() {
            tracing::info!("the shared state answers again");
        }
        *state = State::default();
    }

    fn failed(&self, why: &dyn fmt::Display) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures >= FAILURES {
            if state.until.is_none() {
                tracing::error!(%why, "the shared state does not answer");
            }
            state.until = Some(Instant::now() + ALONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_that_others_can_read_is_known() {
        for ours in [
            "rediss://db.example.com:6380",
            "redis://127.0.0.1:6379",
            "redis://:password@localhost/1",
            "redis://[::1]:6379/0",
            "redis+unix:///run/redis.sock",
        ] {
            assert!(is_protected(ours), "{ours}");
        }
        for open in [
            "redis://db:6379",
            "redis://u:127.0.0.1@10.0.0.1",
            "redis://localhost.example.com",
            "redis://[2001:db8::1]:1",
        ] {
            assert!(!is_protected(open), "{open}");
        }
    }

    #[tokio::test]
    async fn verification_cannot_be_turned_off() {
        let error = Link::open("rediss://127.0.0.1:1#insecure", None).unwrap_err();
        assert!(error.to_string().contains("always verified"), "{error}");
        let error = Link::open("rediss://127.0.0.1:1", Some(b"not a certificate")).map(drop).unwrap_err();
        assert_eq!(error.reason(), "store_refused");
    }
}
