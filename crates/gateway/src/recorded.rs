//! The audit log's entry of a request: durable before a key is opened for it, and once for all calls the request makes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use audit::{Ack, AppendError, Begun, HoldLine, Moved, Sender, Whom};
use base::{Name, Problem, RequestId};
use http::StatusCode;
use tokio::sync::OnceCell;

use crate::Shared;
use crate::authenticate::Caller;
use crate::metrics::Label;

/// How long a request waits for its entry. Whoever is told no is told within a second.
const PATIENCE: Duration = Duration::from_millis(900);

/// The code a caller sees whose request cannot be recorded.
pub(crate) const UNAVAILABLE: &str = "audit_unavailable";

/// What the caller is told then.
pub(crate) fn problem() -> Problem {
    let message = "Requests cannot be recorded now, so none is sent on.";
    Problem::us(StatusCode::SERVICE_UNAVAILABLE, UNAVAILABLE, message).retry_after(Duration::from_secs(1))
}

/// Shows that the entry of a request is in the log: a key may be opened for it. Only this module makes one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recorded(());

/// What the entry of a request says.
pub(crate) struct Entry {
    pub(crate) id: RequestId,
    pub(crate) route: &'static str,
    pub(crate) caller: Caller,
    pub(crate) whom: Option<Arc<Whom>>,
    pub(crate) policy: Option<Name>,
    pub(crate) model: Option<Arc<str>>,
    pub(crate) bytes: u64,
    /// What the ledger has set aside for it.
    pub(crate) holds: Vec<HoldLine>,
    /// The runtime secrets that are opened for it.
    pub(crate) secrets: Vec<String>,
    pub(crate) state: State,
}

/// How far it is.
#[derive(Debug, Default)]
pub(crate) struct State {
    begun: AtomicBool,
    durable: OnceCell<()>,
}

impl Entry {
    /// See to it that the entry is in the log. Whoever comes first writes it, with whose key is opened first; the others wait
    /// for it too.
    pub(crate) async fn recorded(&self, shared: &Shared, provider: &Label) -> Result<Recorded, AppendError> {
        if !self.state.durable.initialized() {
            let write = || Box::pin(self.write(shared, provider));
            self.state.durable.get_or_try_init(write).await?;
        }
        Ok(Recorded(()))
    }

    /// Whether there is, or may be, an entry of the beginning.
    pub(crate) fn has_begun(&self) -> bool {
        self.state.begun.load(Ordering::Relaxed)
    }

    async fn write(&self, shared: &Shared, provider: &Label) -> Result<(), AppendError> {
        let begun = Begun {
            at: shared.clock.now(),
            id: self.id.as_str(),
            route: self.route,
            sender: sender(&self.caller, self.whom.as_deref()),
            policy: self.policy.as_ref().map(Name::as_str),
            model: self.model.as_deref(),
            provider: provider.as_str(),
            bytes: self.bytes,
            holds: &self.holds,
            secrets: &self.secrets,
        };
        let ack = shared.audit.begun(&begun)?;
        self.state.begun.store(true, Ordering::Relaxed);
        let Some(ack) = ack else { return Ok(()) };
        match durable(ack).await {
            Ok(()) => Ok(()),
            Err(_) if shared.audit.goes_on(&begun) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// See to it that the log says what more is held for a request under way.
pub(crate) async fn held(shared: &Shared, moved: &Moved<'_>) -> Result<(), AppendError> {
    let Some(ack) = shared.audit.held(moved)? else { return Ok(()) };
    match durable(ack).await {
        Err(error) if !shared.audit.allows() => Err(error),
        _ => Ok(()),
    }
}

async fn durable(ack: Ack) -> Result<(), AppendError> {
    tokio::time::timeout(PATIENCE, ack).await.unwrap_or(Err(AppendError::Stalled)).map(drop)
}

/// Who sent a request, for the log.
pub(crate) fn sender<'a>(caller: &'a Caller, whom: Option<&'a Whom>) -> Sender<'a> {
    Sender {
        whom,
        issuer: caller.issuer(),
        client: caller.client(),
        key: caller.key().map(Name::as_str),
        ip: caller.ip(),
    }
}

/// The caller, ready to be written into entries; nobody, where the key that takes cannot be had.
pub(crate) async fn whom(shared: &Shared, caller: &Caller) -> Option<Arc<Whom>> {
    let (issuer, subject) = (caller.issuer(), caller.subject());
    shared.audit.log()?;
    if let Some(known) = shared.audit.known(issuer, subject) {
        return Some(known);
    }
    let looked_up = Box::pin(tokio::time::timeout(PATIENCE, shared.audit.whom(issuer, subject))).await;
    match looked_up {
        Ok(Ok(whom)) => whom,
        Ok(Err(error)) => {
            tracing::warn!(%error, "a caller cannot be recorded");
            None
        }
        Err(_) => {
            tracing::warn!("a caller cannot be recorded: its key was not had in time");
            None
        }
    }
}
