//! `admin.sock`: the admin API for whoever owns the data directory.
//!
//! A local user that can open the socket could as well read the master key beside it, so it is an owner without a
//! token. Two things keep others out: the file's mode, and the peer's user id as the kernel tells it.

use std::future::Future;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;

/// The socket's name in the data directory.
pub const SOCKET_NAME: &str = "admin.sock";

/// Connections at once: a person's commands and scripts.
const MAX_CONNECTIONS: usize = 32;
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A bound `admin.sock`. The file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl AdminSocket {
    /// Bind in `data_dir`, whose lock the caller holds: a socket that is left there belongs to nobody.
    ///
    /// The socket is made under another name and moved into place once its mode is 0600, so that there is no moment
    /// at which others could connect.
    pub fn bind(data_dir: &Path) -> std::io::Result<Self> {
        let path = data_dir.join(SOCKET_NAME);
        let making = data_dir.join(format!(".{SOCKET_NAME}.new"));
        match std::fs::remove_file(&making) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&making)?;
        std::fs::set_permissions(&making, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&making, &path)?;
        let owner = std::fs::metadata(&path)?.uid();
        Ok(Self { listener, path, owner })
    }

    /// Answer with `router` (see [`super::local_router`]) until `stop` ends; open requests are finished first.
    pub async fn serve(self, router: Router, stop: impl Future<Output = ()>) {
        let mut connections = JoinSet::new();
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next() => {}
                accepted = self.listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                    Ok((stream, _)) if self.trusts(&stream) => {
                        connections.spawn(answer(stream, router.clone()));
                    }
                    Ok(_) => tracing::warn!("admin.sock: refused a connection of another user"),
                    Err(error) => {
                        // Out of file descriptors, most likely: accepting again at once would only spin.
                        tracing::warn!(%error, "admin.sock: cannot accept");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        let finish = async { while connections.join_next().await.is_some() {} };
        let _ = tokio::time::timeout(Duration::from_secs(5), finish).await;
    }

    /// The socket's owner and root; nobody else can be trusted with what the socket allows.
    fn trusts(&self, stream: &UnixStream) -> bool {
        stream.peer_cred().is_ok_and(|peer| peer.uid() == self.owner || peer.uid() == 0)
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One request a connection: commands make few, and an idle connection cannot hold up a stop.
async fn answer(stream: UnixStream, router: Router) {
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(64 * 1024)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "admin.sock: a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn the_socket_is_private_answers_and_is_gone_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(SOCKET_NAME), "stale").unwrap();
        let socket = AdminSocket::bind(dir.path()).unwrap();
        let path = dir.path().join(SOCKET_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

        let router = Router::new().route("/hello", axum::routing::get(async || "hello"));
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let client = async {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"GET /hello HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            drop(stop);
            answer
        };
        let server = socket.serve(router, async {
            let _ = stopped.await;
        });
        let (answer, ()) = tokio::join!(client, server);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.ends_with("hello"), "{answer}");
        assert!(!path.exists());
    }
}
