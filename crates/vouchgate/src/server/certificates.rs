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
        tasks.spawn(look(tls, || tokio::time::sleep(LOOK)));
    }
}

/// Look again and again, each time after a pause.
async fn look<P: Future<Output = ()> + Send>(tls: Arc<ServerTls>, mut pause: impl FnMut() -> P + Send) {
    let mut said = None;
    loop {
        pause().await;
        let reading = Arc::clone(&tls);
        let read = tokio::task::spawn_blocking(move || reading.reload()).await;
        if let Ok(outcome) = read {
            said = tell(&tls, outcome, said);
        }
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

#[cfg(test)]
mod tests {
    use testkit::certs::{Authority, Identity};
    use tokio::sync::mpsc;
    use tokio::task::JoinSet;

    use super::*;
    use crate::listen::TlsFiles;

    fn write(files: &TlsFiles, identity: &Identity) {
        std::fs::write(&files.cert, &identity.cert_pem).unwrap();
        std::fs::write(&files.key, &identity.key_pem).unwrap();
    }

    /// The pauses are the test's: each is over when it says so, and what followed the one before has ended by then.
    #[tokio::test]
    async fn a_replaced_certificate_is_in_use_after_the_next_look_and_a_broken_one_is_not() {
        assert_eq!(LOOK, Duration::from_secs(5), "as the documentation says");
        let (dir, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        let files = TlsFiles {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            client_ca: None,
            client_certificates: config::ClientCertificates::Off,
        };
        let (first, second, third) =
            (authority.server(&["localhost"]), authority.server(&["localhost"]), authority.server(&["localhost"]));
        write(&files, &first);
        let tls = ServerTls::load(files.clone()).unwrap();
        let shows = |identity: &Identity| {
            proof::app_config::pin_of_certificate(&tls.leaf()).unwrap()
                == proof::app_config::pin_of_pem(identity.cert_pem.as_bytes()).unwrap()
        };
        let (ended, mut paused) = mpsc::channel::<tokio::sync::oneshot::Sender<()>>(1);
        let mut looking = JoinSet::new();
        looking.spawn(look(Arc::clone(&tls), move || {
            let ended = ended.clone();
            async move {
                let (over, wait) = tokio::sync::oneshot::channel();
                let _ = ended.send(over).await;
                let _ = wait.await;
            }
        }));
        let mut pause = paused.recv().await.unwrap();
        assert!(shows(&first));
        write(&files, &second);
        assert!(shows(&first), "not before it is looked at");
        pause.send(()).unwrap();
        pause = paused.recv().await.unwrap();
        assert!(shows(&second));
        // Replaced by halves: the certificate is there, its key not yet.
        std::fs::write(&files.cert, &third.cert_pem).unwrap();
        pause.send(()).unwrap();
        pause = paused.recv().await.unwrap();
        assert!(shows(&second), "what cannot be used is not taken up");
        std::fs::remove_file(&files.cert).unwrap();
        pause.send(()).unwrap();
        pause = paused.recv().await.unwrap();
        assert!(shows(&second));
        write(&files, &third);
        pause.send(()).unwrap();
        drop(paused.recv().await.unwrap());
        assert!(shows(&third));
    }
}
