//! The client: it enrols, refreshes, signs and sends, so that an app only makes its requests.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::app_config::AppConfig;
use crate::attester::Attester;
use crate::clock::Clock;
use crate::error::{Action, Error};
use crate::http::{Answer, Http};
use crate::memory::{Kept, Memory};
use crate::pins::{Mismatch, PinBook};
use crate::proof::Proof;
use crate::secrets::Curve;
use crate::signer::{PublicJwk, Signer};
use crate::wire;

mod backoff;
mod enrol;
mod options;
mod signing;
mod told;

use backoff::Backoff;
pub use options::{Installation, Options};

/// How long before its end a token is replaced, in seconds.
const BEFORE_END: i64 = 30;

/// A client of one gateway for one app. Cheap to clone; clones share the installation and its token.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    origin: String,
    host: String,
    app: String,
    proof: Proof,
    curve: Curve,
    user_header: Option<HeaderName>,
    /// The app's own user's token.
    user: Mutex<Option<HeaderValue>>,
    config_roots: Vec<PublicJwk>,
    attester: Arc<dyn Attester>,
    memory: Arc<dyn Memory>,
    clock: Arc<dyn Clock>,
    book: Arc<PinBook>,
    /// With pins.
    http: Http,
    /// For what is signed by itself.
    unpinned: Http,
    /// Seconds that the gateway's clock is ahead of ours.
    offset: AtomicI64,
    /// Whether it is known.
    has_time: AtomicBool,
    session: Mutex<Option<Arc<Session>>>,
    /// The gateway's nonce for `DPoP` proofs.
    dpop_nonce: Mutex<Option<String>>,
    /// One at a time: everybody else waits for its outcome.
    renewing: tokio::sync::Mutex<Backoff>,
    told: Mutex<Option<told::Told>>,
}

/// An installation with its token.
struct Session {
    instance: String,
    signer: Arc<dyn Signer>,
    /// Empty: there is none yet.
    token: String,
    /// By our clock, in seconds.
    ends: i64,
    arc: String,
    next_nonce: Option<String>,
    /// The app's own user's token that ours is bound to.
    user: Option<HeaderValue>,
    /// What was shown besides evidence.
    stepped_up: Option<String>,
}

/// What was done already about refusals of one request: each once.
#[derive(Default)]
struct Tried {
    nonce: bool,
    later: bool,
    token: bool,
}

impl Client {
    /// A client that proves itself with this device. Nothing is sent yet.
    pub fn new(options: Options, attester: Arc<dyn Attester>) -> Result<Self, Error> {
        let (origin, host) = origin(&options.gateway)?;
        let book = Arc::new(PinBook::new(options.stale, Arc::clone(&options.clock)));
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for der in options.extra_roots {
            roots.add(CertificateDer::from(der)).map_err(|_| Error::Request("a root is no certificate"))?;
        }
        let roots = Arc::new(roots);
        let http = Http::new(Arc::clone(&roots), Some(Arc::clone(&book)), options.deadlines)?;
        let unpinned = Http::new(roots, None, options.deadlines)?;
        let kept = Kept::load(&*options.memory);
        let session = kept.session(&options.app, &*attester).map(|(instance, signer)| {
            let (token, arc) = (String::new(), String::new());
            Arc::new(Session { instance, signer, token, ends: 0, arc, next_nonce: None, user: None, stepped_up: None })
        });
        let inner = Inner {
            origin,
            host,
            app: options.app,
            proof: options.proof,
            curve: options.secrets,
            user_header: options.user_token,
            user: Mutex::default(),
            config_roots: options.config_roots,
            attester,
            memory: options.memory,
            clock: options.clock,
            book,
            http,
            unpinned,
            offset: AtomicI64::new(0),
            has_time: AtomicBool::new(false),
            session: Mutex::new(session),
            dpop_nonce: Mutex::default(),
            renewing: tokio::sync::Mutex::default(),
            told: Mutex::default(),
        };
        let client = Self { inner: Arc::new(inner) };
        client.remember_config(&kept);
        Ok(client)
    }

    /// Send a request to the gateway: `uri` is a path there, or an absolute URL of it. Keys of providers and proofs in the
    /// request are replaced. The body is sent again where a proof has to be made anew.
    pub async fn send(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let path = self.path(request.uri())?;
        let (head, body) = request.into_parts();
        let mut session = self.session().await?;
        let mut tried = Tried::default();
        loop {
            let nonce_before = self.nonce();
            let mut headers = head.headers.clone();
            self.sign_with(&session, (&head.method, &path), &mut headers, &body)?;
            let answer = self.exchange(&head.method, &path, headers, body.clone()).await?;
            if answer.status != StatusCode::UNAUTHORIZED {
                return Ok(answer);
            }
            // A nonce that just came has not been tried yet.
            let fresh_nonce = self.nonce().is_some_and(|nonce| Some(nonce) != nonce_before);
            if self.inner.proof == Proof::Dpop && fresh_nonce && !tried.nonce {
                tried.nonce = true;
            } else if let Some(seconds) = wire::soon(&answer.headers).filter(|_| !tried.later) {
                // The gateway has just started: it cannot know yet which signatures it has seen.
                tried.later = true;
                tokio::time::sleep(Duration::from_secs(seconds)).await;
            } else if tried.token {
                return Ok(answer);
            } else {
                tried.token = true;
                self.forget_token(&session);
                session = self.session().await?;
            }
        }
    }

    /// The fields a request needs, for apps with an HTTP stack of their own: put them on, in place of those the request has
    /// under the same names. They count once and for thirty seconds. `headers` are the request's, for its `Content-Type`.
    pub async fn sign(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<HeaderMap, Error> {
        let path = self.path(uri)?;
        let session = self.session().await?;
        let mut signed = headers.clone();
        self.sign_with(&session, (method, &path), &mut signed, body)?;
        Ok(signed)
    }

    /// Send a request as it is, once: signed already by [`Client::sign`], or not signed.
    pub async fn send_as_is(&self, request: Request<Bytes>) -> Result<Answer, Error> {
        let path = self.path(request.uri())?;
        let (head, body) = request.into_parts();
        self.exchange(&head.method, &path, head.headers, body).await
    }

    /// The token itself, for logs of development and apps that put it on themselves. Without the key it is worth nothing.
    pub async fn token(&self) -> Result<String, Error> {
        Ok(self.session().await?.token.clone())
    }

    /// Enrol if need be, and see that there is a token.
    pub async fn ready(&self) -> Result<Installation, Error> {
        let session = self.session().await?;
        Ok(Installation {
            instance: session.instance.clone(),
            arc: session.arc.clone(),
            token_ends: session.ends,
            stepped_up: session.stepped_up.clone(),
        })
    }

    /// Get the next token now, although the last one may still count.
    pub async fn refresh(&self) -> Result<Installation, Error> {
        if let Some(session) = self.current() {
            self.forget_token(&session);
        }
        self.ready().await
    }

    /// From now on requests are made for this user of the app: the whole value of the header that [`Options::user_token`] names,
    /// such as `Bearer ...`. Tokens that were bound to another one are not used any more; `None` for nobody.
    pub fn set_user_token(&self, value: Option<&str>) -> Result<(), Error> {
        if self.inner.user_header.is_none() {
            return Err(Error::Request("no header is named for the user's token"));
        }
        let value = value.map(HeaderValue::from_str).transpose();
        let mut value = value.map_err(|_| Error::Request("the user's token is no header's value"))?;
        if let Some(value) = &mut value {
            value.set_sensitive(true);
        }
        *self.inner.user.lock().unwrap_or_else(PoisonError::into_inner) = value;
        Ok(())
    }

    fn user(&self) -> Option<HeaderValue> {
        self.inner.user.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Leave: the gateway deletes the installation, and the next request enrols anew.
    pub async fn leave(&self) -> Result<(), Error> {
        let session = self.session().await?;
        let with = (self.inner.proof, &*session);
        let to = (&Method::DELETE, "/attest/v1/instance");
        let answer = self.call(with, to, &HeaderMap::new(), &Bytes::new()).await?;
        if !answer.status.is_success() {
            return Err(refused(answer).await);
        }
        *self.slot() = None;
        self.keep();
        Ok(())
    }

    /// Hosts that showed keys which are not pinned, since the last call. The next refresh tells the gateway that there were
    /// some.
    pub fn take_pin_reports(&self) -> Vec<Mismatch> {
        self.inner.book.take_reports()
    }

    /// What the app was told over the air, if anything was.
    pub fn config(&self) -> Option<Arc<AppConfig>> {
        self.inner.book.config()
    }

    /// Seconds that the gateway's clock is ahead of this device's, as its answers say.
    pub fn clock_offset(&self) -> i64 {
        self.inner.offset.load(Ordering::Relaxed)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.inner.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn current(&self) -> Option<Arc<Session>> {
        self.slot().clone()
    }

    fn nonce(&self) -> Option<String> {
        self.inner.dpop_nonce.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// By the gateway's clock.
    fn gateway_now(&self) -> i64 {
        self.inner.clock.now().saturating_add(self.clock_offset())
    }

    /// A session whose token counts for a while.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.fresh() {
            return Ok(session);
        }
        let mut backoff = self.inner.renewing.lock().await;
        // Somebody else may have been faster.
        if let Some(session) = self.fresh() {
            return Ok(session);
        }
        let wait = backoff.not_before.saturating_sub(self.inner.clock.now());
        if let Ok(retry_after @ 1..) = u64::try_from(wait) {
            return Err(Error::BackingOff { retry_after });
        }
        let renewed = self.renew().await;
        backoff.note(renewed.as_ref().err(), self.inner.clock.now());
        renewed
    }

    fn fresh(&self) -> Option<Arc<Session>> {
        let now = self.inner.clock.now();
        let user = self.user();
        let counts = |session: &Arc<Session>| {
            !session.token.is_empty() && now < session.ends - BEFORE_END && session.user == user
        };
        self.current().filter(counts)
    }

    /// So that the next request gets another one. A newer one stays.
    fn forget_token(&self, old: &Arc<Session>) {
        let mut slot = self.slot();
        if slot.as_ref().is_some_and(|current| Arc::ptr_eq(current, old)) {
            *slot = Some(Arc::new(Session {
                instance: old.instance.clone(),
                signer: Arc::clone(&old.signer),
                token: String::new(),
                ends: 0,
                arc: old.arc.clone(),
                next_nonce: old.next_nonce.clone(),
                user: None,
                stepped_up: None,
            }));
        }
    }

    /// A call to one of the endpoints for apps; signed anew, once, where the gateway has just started and cannot know yet which
    /// signatures it has seen.
    async fn call(
        &self,
        with: (Proof, &Session),
        (method, path): (&Method, &str),
        headers: &HeaderMap,
        body: &Bytes,
    ) -> Result<Answer, Error> {
        let mut waited = false;
        loop {
            let mut signed = headers.clone();
            self.sign_as(with, (method, path), &mut signed, body)?;
            let answer = self.exchange(method, path, signed, body.clone()).await?;
            let soon = wire::soon(&answer.headers).filter(|_| answer.status == StatusCode::UNAUTHORIZED && !waited);
            let Some(seconds) = soon else { return Ok(answer) };
            waited = true;
            tokio::time::sleep(Duration::from_secs(seconds)).await;
        }
    }

    /// One request and the head of its answer, from which the gateway's time and nonce are taken.
    async fn exchange(&self, method: &Method, path: &str, headers: HeaderMap, body: Bytes) -> Result<Answer, Error> {
        self.told_in_time().await?;
        self.exchange_now(method, path, headers, body).await
    }

    async fn exchange_now(
        &self,
        method: &Method,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, Error> {
        let uri = format!("{}{path}", self.inner.origin);
        let mut request = Request::builder().method(method).uri(uri).body(body);
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
        }
        let request = request.map_err(|_| Error::Request("not a URL"))?;
        let answer = self.inner.http.send(request).await?;
        self.learn(&answer.headers);
        Ok(answer)
    }

    fn learn(&self, headers: &HeaderMap) {
        if let Some(date) = wire::date(headers) {
            self.set_clock_by(date);
        }
        if let Some(nonce) = headers.get("dpop-nonce").and_then(|nonce| nonce.to_str().ok()) {
            let mut known = self.inner.dpop_nonce.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(nonce.to_owned());
        }
    }

    /// The first answer says how far this device's clock is off, by whatever that is. Later ones do so where the gateway's key is
    /// pinned; otherwise each moves it by a minute at most, so that somebody between cannot have requests signed for whenever
    /// they like.
    fn set_clock_by(&self, date: i64) {
        let (told, offset) = (date.saturating_sub(self.inner.clock.now()), &self.inner.offset);
        let first = !self.inner.has_time.swap(true, Ordering::Relaxed);
        let most = if first || self.inner.book.enforces(&self.inner.host) { i64::MAX } else { 60 };
        let now = offset.load(Ordering::Relaxed);
        offset.store(told.clamp(now.saturating_sub(most), now.saturating_add(most)), Ordering::Relaxed);
    }

    /// A JSON exchange with one of the endpoints for apps.
    async fn post(&self, path: &str, body: &Value, user: Option<&HeaderValue>) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
        if let (Some(name), Some(user)) = (&self.inner.user_header, user) {
            headers.insert(name.clone(), user.clone());
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.exchange(&Method::POST, path, headers, Bytes::from(body.to_string())).await?;
        read_json(answer).await
    }

    /// What has to outlive the process.
    fn keep(&self) {
        let session = self.current();
        let told = self.told().as_ref().map(|told| told.text.clone());
        let session = session.map(|session| (session.instance.clone(), session.signer.public_jwk()));
        Kept::of(&self.inner.app, session, told.as_deref()).save(&*self.inner.memory);
    }
}

/// Shows no token.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Client");
        shown.field("origin", &self.inner.origin).field("app", &self.inner.app).finish_non_exhaustive()
    }
}

async fn read_json(answer: Answer) -> Result<Value, Error> {
    if !answer.status.is_success() {
        return Err(refused(answer).await);
    }
    let body = answer.bytes(wire::MAX_ANSWER).await?;
    serde_json::from_slice(&body).map_err(|_| Error::Answer)
}

async fn refused(answer: Answer) -> Error {
    let (status, headers) = (answer.status.as_u16(), answer.headers.clone());
    match answer.bytes(wire::MAX_ANSWER).await {
        Ok(body) => wire::refusal(status, &headers, &body),
        Err(error) => error,
    }
}

/// Scheme, host in lower case and port, without the scheme's own port; and the host. In the clear only to this machine.
fn origin(url: &str) -> Result<(String, String), Error> {
    const WRONG: Error = Error::Request("not an https URL without a path");
    let uri: Uri = url.parse().map_err(|_| WRONG)?;
    let host = uri.host().ok_or(WRONG)?.to_ascii_lowercase();
    let scheme = uri.scheme_str().ok_or(WRONG)?;
    let local = ["127.0.0.1", "[::1]", "localhost"].contains(&host.as_str());
    let own_port = match scheme {
        "https" => 443,
        "http" if local => 80,
        _ => return Err(WRONG),
    };
    if uri.path() != "/" || uri.query().is_some() || uri.authority().is_none_or(|named| named.as_str().contains('@')) {
        return Err(WRONG);
    }
    let port = uri.port_u16().filter(|port| *port != own_port).map(|port| format!(":{port}")).unwrap_or_default();
    Ok((format!("{scheme}://{host}{port}"), host))
}

impl Action {
    /// Whether a refusal at a refresh may come from a nonce that has ended meanwhile.
    const fn asks_for_new_nonce(self) -> bool {
        matches!(self, Self::Refresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_one_spelling() {
        for (url, expected) in [
            ("https://AI.example.com", "https://ai.example.com"),
            ("https://ai.example.com:443/", "https://ai.example.com"),
            ("https://ai.example.com:8443", "https://ai.example.com:8443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:80", "http://[::1]"),
        ] {
            assert_eq!(origin(url).unwrap().0, expected, "{url}");
        }
        for url in ["http://ai.example.com", "https://ai.example.com/x", "https://u@a", "ftp://localhost", "/x", ""] {
            assert!(origin(url).is_err(), "{url}");
        }
    }
}
