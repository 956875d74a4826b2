//! Word from other nodes that something changed.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::watch;
use tokio::time::sleep;

/// What `link::commit` notifies.
const CHANNEL: &str = "vouchgate";
/// How long to wait before connecting again.
const AGAIN: Duration = Duration::from_secs(2);

/// Pass each word on, also one that may have been missed while there was no connection. Never ends.
pub(super) async fn forward(options: PgConnectOptions, hints: &watch::Sender<u64>) {
    loop {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options.clone());
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            loop {
                hints.send_modify(|count| *count = count.wrapping_add(1));
                // Nothing: the connection was lost and made again.
                if listener.try_recv().await.is_err() {
                    break;
                }
            }
        }
        sleep(AGAIN).await;
    }
}
