//! The one home of tasks in this crate.

use tokio::task::AbortHandle;

/// Run `work` beside the request that began it: a connection that outlives its first request, or a key fetch that
/// must not die with the caller that asked for it (who could otherwise keep it from ever finishing).
#[allow(clippy::disallowed_methods)] // see above
pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(work).abort_handle()
}
