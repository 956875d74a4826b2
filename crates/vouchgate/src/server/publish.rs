//! Checkpoints of the audit log are sent where whoever rules this machine does not rule: appended to files, and put into
//! S3-compatible stores. Only the newest matters, so that nothing queues up however long a place does not answer.

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use audit::Announce;
use base::{Clock, Name, Timestamp};
use config::{AuditPublish, WebhookEvent};
use control::admin::Check;
use control::oauth::Secrets;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Limited};
use net::sigv4::Signer;
use net::{Deadlines, Egress, OutBody, Reach, Target};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use store::{Notice, Notices};
use tokio::sync::watch;
use url::Url;

use crate::tasks::Tasks;
use crate::wire::Referred;

/// A place is sent no more than one checkpoint in this time.
const EVERY: Duration = Duration::from_secs(10);
/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between attempts, at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(5));
/// A place that has failed and had nothing for so long is stale.
const STALE: Duration = Duration::from_mins(5);
/// How long all places together may take for the last one, when the server stops.
const LAST: Duration = Duration::from_secs(5);
/// What of an object's path is not encoded, as S3 signs it: the unreserved characters (RFC 3986 section 2.3), and slashes.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// A checkpoint to be sent.
#[derive(Debug)]
struct Newest {
    origin: String,
    size: u64,
    note: String,
}

/// How a place is doing.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// How many entries the last checkpoint covers that arrived there since the start.
    pub(super) size: u64,
    /// When it arrived.
    pub(super) at: Option<Timestamp>,
    /// How often sending one failed since the start.
    pub(super) failures: u64,
    /// Why the last one did not arrive.
    pub(super) error: Option<String>,
}

/// Sends checkpoints to all the places of a configuration.
#[derive(Debug, Clone)]
pub(super) struct Publisher(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    newest: watch::Sender<Option<Arc<Newest>>>,
    places: Vec<Place>,
    /// Where webhooks are told from.
    told: Told,
    /// Known once the server has its way out.
    ways: OnceLock<Ways>,
}

/// Tells webhooks (`audit.checkpoint`), no more often than places are sent one.
struct Told {
    notices: Notices,
    clock: Arc<dyn Clock>,
    last: Mutex<Option<Instant>>,
}

impl Told {
    fn tell(&self, newest: &Newest) {
        let now = self.clock.monotonic();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            return;
        }
        *last = Some(now);
        let notice = Notice::new(WebhookEvent::AuditCheckpoint.as_str(), self.clock.now())
            .with("origin", newest.origin.as_str())
            .with("size", newest.size)
            .with("checkpoint", newest.note.as_str());
        self.notices.send(notice);
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").field("notices", &self.notices).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Place {
    config: AuditPublish,
    state: Mutex<State>,
}

/// What sending takes.
pub(super) struct Ways {
    pub(super) egress: Egress,
    pub(super) secrets: Referred,
    pub(super) clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Ways {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ways").finish_non_exhaustive()
    }
}

/// Why a checkpoint did not arrive.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("{0}")]
    File(#[from] std::io::Error),
    #[error("its key: {0}")]
    Key(String),
    #[error("the key is not ACCESS_KEY_ID:SECRET_ACCESS_KEY")]
    KeyForm,
    #[error("it cannot be sent there: {0}")]
    Unsent(String),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error("another checkpoint of {0} entries is there: one of the two logs is not the one that was written")]
    Another(u64),
}

impl PublishError {
    const fn reason(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Key(_) | Self::KeyForm => "key",
            Self::Unsent(_) => "unreachable",
            Self::Status(_) => "refused",
            Self::Another(_) => "another_checkpoint",
        }
    }
}

impl Publisher {
    pub(super) fn new(places: &[AuditPublish], notices: Notices, clock: Arc<dyn Clock>) -> Self {
        let place = |config: &AuditPublish| Place { config: config.clone(), state: Mutex::default() };
        let places = places.iter().map(place).collect();
        let told = Told { notices, clock, last: Mutex::default() };
        Self(Arc::new(Inner { newest: watch::Sender::new(None), places, told, ways: OnceLock::new() }))
    }

    /// What the log tells of each checkpoint. Never waits.
    pub(super) fn announce(&self) -> Announce {
        let inner = Arc::clone(&self.0);
        Box::new(move |checkpoint, note| {
            let (origin, size) = (checkpoint.origin.clone(), checkpoint.size);
            let newest = Newest { origin, size, note: note.to_owned() };
            inner.told.tell(&newest);
            inner.newest.send_replace(Some(Arc::new(newest)));
        })
    }

    /// Begin to send.
    pub(super) fn begin(&self, tasks: &Tasks, ways: Ways) {
        let _first = self.0.ways.set(ways);
        for index in 0..self.0.places.len() {
            let publisher = self.clone();
            tasks.spawn(async move { publisher.follow(index).await });
        }
    }

    async fn follow(&self, index: usize) {
        let (Some(place), Some(ways)) = (self.0.places.get(index), self.0.ways.get()) else { return };
        let mut newest = self.0.newest.subscribe();
        let mut pause = PAUSES.0;
        loop {
            let wanted = newest.borrow_and_update().clone();
            let wait = match wanted.filter(|newest| place.wants(newest)) {
                Some(due) if place.send(&due, ways).await => {
                    pause = PAUSES.0;
                    EVERY
                }
                Some(_) => {
                    let wait = pause;
                    pause = (pause * 2).min(PAUSES.1);
                    wait
                }
                None if newest.changed().await.is_ok() => continue,
                None => return,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Send the last checkpoint, when the log is closed.
    pub(super) async fn finish(&self) {
        let (Some(newest), Some(ways)) = (self.0.newest.borrow().clone(), self.0.ways.get()) else { return };
        let due = self.0.places.iter().filter(|place| place.wants(&newest));
        let sent = futures_util::future::join_all(due.map(|place| place.send(&newest, ways)));
        if tokio::time::timeout(LAST, sent).await.is_err() {
            tracing::warn!("the last checkpoint of the audit log was not published in time");
        }
    }

    /// How each place is doing.
    pub(super) fn states(&self) -> Vec<(Name, State)> {
        self.0.places.iter().map(|place| (place.config.name.clone(), place.lock().clone())).collect()
    }

    /// Of each place, whether something has arrived there lately, as a readiness check that keeps nobody away.
    pub(super) fn checks(&self) -> Vec<Check> {
        let Some(now) = self.0.ways.get().map(|ways| ways.clock.now()) else { return Vec::new() };
        let check = |(name, state): (Name, State)| {
            let stale = state.error.is_some() && state.at.is_none_or(|at| now.since(at) > STALE);
            let arrived = match state.at {
                Some(at) => format!("{} entries are covered there since {}", state.size, at.rfc3339()),
                None => "nothing has arrived there since the start".to_owned(),
            };
            let detail = match &state.error {
                Some(error) => format!("{arrived}; {} failures, the last: {error}", state.failures),
                None => arrived,
            };
            Check { name: format!("audit_publish:{name}"), ok: !stale, detail: Some(detail) }
        };
        self.states().into_iter().map(check).collect()
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wants(&self, newest: &Newest) -> bool {
        let state = self.lock();
        state.at.is_none() || state.size != newest.size
    }

    /// Send one; whether it arrived.
    async fn send(&self, newest: &Newest, ways: &Ways) -> bool {
        let sent = match (&self.config.file, &self.config.s3) {
            (Some(path), _) => self.append(path, newest).await,
            (None, Some(url)) => self.put(url.url(), newest, ways).await,
            (None, None) => Ok(()),
        };
        let mut state = self.lock();
        match sent {
            Ok(()) => {
                (state.size, state.at, state.error) = (newest.size, Some(ways.clock.now()), None);
                true
            }
            Err(error) => {
                let (place, reason) = (self.config.name.as_str(), error.reason());
                tracing::warn!(place, reason, %error, "a checkpoint of the audit log could not be published");
                state.failures += 1;
                state.error = Some(error.to_string());
                false
            }
        }
    }

    async fn append(&self, path: &Path, newest: &Newest) -> Result<(), PublishError> {
        let (path, note) = (path.to_owned(), newest.note.clone());
        let written = tokio::task::spawn_blocking(move || append(&path, &note)).await;
        Ok(written.unwrap_or_else(|_| Err(ErrorKind::Other.into()))?)
    }

    /// `PUT PREFIX/ORIGIN/SIZE.checkpoint`, only where there is none. Where there is one, it has to be the same: a signature
    /// of one checkpoint is always the same bytes (Ed25519).
    async fn put(&self, url: &Url, newest: &Newest, ways: &Ways) -> Result<(), PublishError> {
        let created = self.exchange(url, (Method::PUT, newest.note.as_bytes()), newest, ways).await?;
        match created.0 {
            status if status.is_success() => Ok(()),
            StatusCode::PRECONDITION_FAILED | StatusCode::CONFLICT => {
                match self.exchange(url, (Method::GET, b""), newest, ways).await? {
                    (StatusCode::OK, there) if there == newest.note.as_bytes() => Ok(()),
                    (StatusCode::OK, _) => Err(PublishError::Another(newest.size)),
                    (status, _) => Err(PublishError::Status(status)),
                }
            }
            status => Err(PublishError::Status(status)),
        }
    }

    /// One signed request and its answer.
    async fn exchange(
        &self,
        url: &Url,
        (method, body): (Method, &[u8]),
        newest: &Newest,
        ways: &Ways,
    ) -> Result<(StatusCode, Vec<u8>), PublishError> {
        let key = self.config.key.as_ref().ok_or(PublishError::KeyForm)?;
        let key = ways.secrets.read(key).await.map_err(|error| PublishError::Key(error.message))?;
        let (id, secret) = key.expose().split_once(':').ok_or(PublishError::KeyForm)?;
        let unsent = |error: &dyn std::fmt::Display| PublishError::Unsent(error.to_string());
        let put = method == Method::PUT;
        let path = object(url, newest);
        let request = Request::builder().method(method).uri(path).header(header::USER_AGENT, "vouchgate");
        let mut request = request.body(body.to_vec()).map_err(|error| unsent(&error))?;
        if put {
            let headers = request.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static("*"));
        }
        let region = self.config.region.clone().unwrap_or_default();
        let signer = Signer { access_key_id: id.to_owned(), region, service: "s3".to_owned() };
        let origin = url.origin().ascii_serialization();
        let value = signer.sign(secret.as_bytes(), &origin, &mut request, ways.clock.now());
        request.headers_mut().insert(header::AUTHORIZATION, value.ok_or(PublishError::KeyForm)?);
        let reach = if self.config.allow_private { Reach::Private } else { Reach::Public };
        let target = Target::new(url, reach).map_err(|error| unsent(&error))?;
        let deadlines = Deadlines { connect: PATIENCE, tls: PATIENCE, first_byte: PATIENCE, idle: PATIENCE };
        let response = ways.egress.send(&target, request.map(OutBody::from), &deadlines).await;
        let (head, body) = response.map_err(|error| unsent(&error))?.into_parts();
        let body = Limited::new(body, audit::note::MAX_NOTE).collect();
        let body = tokio::time::timeout(PATIENCE, body).await.map_err(|error| unsent(&error))?;
        // What it says of an error may be longer than a note; nobody reads it.
        let body = body.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
        Ok((head.status, body))
    }
}

/// The path of a checkpoint's object, encoded as it is signed.
fn object(url: &Url, newest: &Newest) -> String {
    let prefix = percent_decode_str(url.path().trim_end_matches('/')).decode_utf8_lossy().into_owned();
    let path = format!("{prefix}/{}/{:020}.checkpoint", newest.origin, newest.size);
    utf8_percent_encode(&path, IN_PATH).to_string()
}

/// One checkpoint after the other: `audit verify --checkpoint` takes the whole file. On the disk when this returns.
fn append(path: &Path, note: &str) -> std::io::Result<()> {
    let is_new = !path.try_exists()?;
    let mut file = std::fs::OpenOptions::new().create(true).append(true).read(true).mode(0o600).open(path)?;
    let length = file.metadata()?.len();
    // After a start that was killed while it wrote: what it left is ended, so that it is taken for no part of this one.
    let mut last = [b'\n'];
    if length > 0 {
        file.seek(SeekFrom::Start(length - 1))?;
        file.read_exact(&mut last)?;
    }
    let torn = if last == [b'\n'] { "" } else { "\n\n" };
    let written = file.write_all(format!("{torn}{note}").as_bytes()).and_then(|()| file.sync_data());
    if written.is_err() {
        // Half a checkpoint helps nobody; where even this fails the next one ends it.
        let _ = file.set_len(length);
    }
    written?;
    if let Some(dir) = path.parent().filter(|_| is_new) {
        let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
        std::fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{SystemClock, SystemRng};
    use config::SecretRef;
    use net::EgressConfig;
    use store::{Store, StoreUrl};
    use testkit::mock::Answer;
    use testkit::s3::{KEY_ID, REGION, S3, SECRET};
    use vault::{MasterKey, Vault};

    async fn ways(dir: &Path) -> Ways {
        let (clock, rng) = (Arc::new(SystemClock), Arc::new(SystemRng));
        let store = Store::open(&StoreUrl::default(), dir, clock.clone(), rng.clone()).await.unwrap();
        let vault = Arc::new(Vault::new(MasterKey::generate(&*rng).unwrap(), rng).unwrap());
        Ways { egress: Egress::new(EgressConfig::default()).unwrap(), secrets: Referred { store, vault }, clock }
    }

    fn newest(size: u64) -> Newest {
        let note = format!("example.com/audit/a\n{size}\nroot\n\n\u{2014} example.com/audit/a AAAA\n");
        Newest { origin: "example.com/audit/a".to_owned(), size, note }
    }

    fn private_file(dir: &Path, name: &str, text: &str) -> SecretRef {
        let path = dir.join(name);
        let mut options = std::fs::OpenOptions::new();
        options.create(true).truncate(true).write(true).mode(0o600);
        options.open(&path).unwrap().write_all(text.as_bytes()).unwrap();
        SecretRef::File(path)
    }

    fn place(config: AuditPublish) -> Place {
        Place { config, state: Mutex::default() }
    }

    fn file(path: &Path) -> Place {
        let (name, file) = (Name::new("disk").unwrap(), Some(path.to_owned()));
        place(AuditPublish { name, file, s3: None, region: None, key: None, allow_private: false })
    }

    fn bucket(store: &S3, dir: &Path, secret: &str) -> Place {
        place(AuditPublish {
            name: Name::new("bucket").unwrap(),
            file: None,
            s3: Some(store.bucket("kept/logs%20of%20a+b/").parse().unwrap()),
            region: Some(REGION.to_owned()),
            key: Some(private_file(dir, "key", &format!("{KEY_ID}:{secret}"))),
            allow_private: true,
        })
    }

    #[tokio::test]
    async fn checkpoints_are_appended_to_a_file_and_a_torn_one_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (ways, path) = (ways(dir.path()).await, dir.path().join("kept"));
        let file = file(&path);
        for size in [7, 9] {
            assert!(file.wants(&newest(size)) && file.send(&newest(size), &ways).await);
        }
        assert!(!file.wants(&newest(9)));
        let both = [newest(7).note, newest(9).note].concat();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), both);
        // Whoever wrote before was killed while it wrote.
        std::fs::write(&path, format!("{both}example.com/audit/a\n1")).unwrap();
        assert!(file.send(&newest(11), &ways).await);
        let kept = std::fs::read(&path).unwrap();
        let notes: Vec<&[u8]> = audit::note::split(&kept);
        assert_eq!(notes, [newest(7).note.as_bytes(), newest(9).note.as_bytes(), newest(11).note.as_bytes()]);
    }

    #[tokio::test]
    async fn checkpoints_become_objects_that_are_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let (ways, store) = (ways(dir.path()).await, S3::start().await);
        let bucket = bucket(&store, dir.path(), SECRET);
        for size in [7, 9, 9] {
            assert!(bucket.send(&newest(size), &ways).await, "{:?}", bucket.lock().error);
        }
        let path = |size: u64| format!("/kept/logs%20of%20a%2Bb/example.com/audit/a/{size:020}.checkpoint");
        let objects = store.objects();
        assert_eq!(objects.keys().cloned().collect::<Vec<_>>(), [path(7), path(9)]);
        assert_eq!(objects.get(&path(9)).unwrap(), newest(9).note.as_bytes());
        // Another log's, or the same written anew.
        store.place(&path(12), b"another");
        assert!(!bucket.send(&newest(12), &ways).await);
        assert!(bucket.lock().error.as_ref().unwrap().contains("another checkpoint of 12 entries"));
        assert_eq!(store.objects().get(&path(12)).unwrap(), b"another");
        store.mock().push(Answer::bytes(503, "application/xml", "<Error/>"));
        assert!(!bucket.send(&newest(13), &ways).await);
        assert_eq!(bucket.lock().failures, 2);
        assert!(bucket.send(&newest(13), &ways).await);
        assert!(bucket.lock().error.is_none());
    }

    #[tokio::test]
    async fn a_wrong_key_is_told_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let (ways, store) = (ways(dir.path()).await, S3::start().await);
        let bucket = bucket(&store, dir.path(), "a-wrong-secret-canary");
        assert!(!bucket.send(&newest(7), &ways).await);
        let told = bucket.lock().error.clone().unwrap();
        assert!(told.contains("403") && !told.contains("canary"), "{told}");
        let seen = store.mock().requests();
        assert!(!String::from_utf8_lossy(&seen.first().unwrap().head).contains("canary"));
        assert!(store.objects().is_empty());
    }

    #[tokio::test]
    async fn a_place_that_fails_holds_up_nothing_and_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let missing = file(&dir.path().join("no/such/dir/kept")).config;
        let notices = Notices::default();
        let publisher = Publisher::new(&[missing], notices.clone(), Arc::new(SystemClock));
        let (tasks, _stop) = Tasks::new();
        publisher.begin(&tasks, ways(dir.path()).await);
        let checkpoint = |size| audit::checkpoint::Checkpoint { origin: "o".to_owned(), size, root: [0; 32] };
        let announce = publisher.announce();
        announce(&checkpoint(2), "two");
        announce(&checkpoint(3), "three");
        let told = notices.take();
        assert_eq!(told.len(), 1, "webhooks are told once in a while");
        assert_eq!((told[0].event, &told[0].data["checkpoint"]), ("audit.checkpoint", &"two".into()));
        publisher.finish().await;
        let checks = publisher.checks();
        let check = checks.first().unwrap();
        assert_eq!((check.name.as_str(), check.ok), ("audit_publish:disk", false));
        assert!(check.detail.as_ref().unwrap().contains("nothing has arrived"), "{:?}", check.detail);
        assert!(publisher.states().first().unwrap().1.failures > 0);
    }
}
