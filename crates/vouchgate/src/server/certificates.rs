//! Certificates that are replaced: their files are looked at now and then, so that whoever renews them need tell nobody.

use std::sync::Arc;
use std::time::Duration;

use super::Running;
use crate::authorities;
use crate::listen::{ServerTls, TlsError};
use crate::tasks::Tasks;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Look from time to time, as long as the server runs.
pub(super) fn follow(tasks: &Tasks, running: &Arc<Running>) {
    for tls in &running.tls {
        let tls = Arc::clone(tls);
        tasks.spawn(async move {
            let mut said = None;
            loop {
                tokio::time::sleep(LOOK).await;
                let reading = Arc::clone(&tls);
                let read = tokio::task::spawn_blocking(move || reading.reload()).await;
                if let Ok(outcome) = read {
                    said = tell(&tls, outcome, said);
                }
            }
        });
    }
}

/// The same for the authorities that calls that go out trust.
pub(super) fn follow_authorities(tasks: &Tasks, running: &Arc<Running>) {
    let running = Arc::clone(running);
    tasks.spawn(async move {
        let mut said = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let config = running.config();
            if config.server.upstream_ca.is_empty() {
                continue;
            }
            let read = tokio::task::spawn_blocking(move || authorities::read(&config)).await;
            let _one = running.reloading.lock().await;
            match read {
                Ok(Ok(read)) => {
                    said = None;
                    // A reload meanwhile has read them itself.
                    if read.is_of(&running.config()) && running.authorities.trust(read) {
                        tracing::info!("the authorities of upstream_ca were replaced: new connections ask for the new ones");
                    }
                }
                Ok(Err(error)) if said.as_ref() != Some(&error.to_string()) => {
                    tracing::warn!(reason = error.reason(), %error, "upstream_ca cannot be read: who was trusted before still is");
                    said = Some(error.to_string());
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    });
}

/// Say what came of it, a fault once as long as it stays the same.
fn tell(tls: &ServerTls, outcome: Result<bool, TlsError>, said: Option<String>) -> Option<String> {
    match outcome {
        Ok(changed) => {
            if changed {
                tracing::info!(path = %tls.cert().display(), "a certificate was replaced: new connections get the new one");
            }
            None
        }
        Err(error) => {
            let fault = error.to_string();
            // Whoever replaces certificate and key does it one after the other: by the next look both are there.
            if said.as_ref() == Some(&fault) {
                return said;
            }
            tracing::warn!(reason = error.reason(), %error, "a certificate cannot be read: the one before stays in use");
            Some(fault)
        }
    }
}
