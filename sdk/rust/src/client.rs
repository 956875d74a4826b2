//! The client: it enrols, refreshes, signs and sends, so that an app only makes its requests.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde_json::Value;

use crate::app_config::AppConfig;
use crate::attester::{AttestError, Attester};
use crate::clock::{Clock, SystemClock};
use crate::error::{Action, Error};
use crate::http::{Answer, Deadlines, Http};
use crate::memory::{Kept, Memory, Volatile};
use crate::pins::{Mismatch, PinBook, Stale};
use crate::proof::{self, Proof, Target};
use crate::signer::{PublicJwk, Signer};
use crate::wire;

mod enrol;
mod told;

/// Fields that mean something to the gateway or would carry a provider's key: ours replace them.
const REPLACED: [&str; 9] = [
    "authorization",
    "dpop",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "signature",
    "signature-input",
    "content-digest",
    "content-length",
];

/// How long before its end a token is replaced, in seconds.
const BEFORE_END: i64 = 30;

/// What a client is made of, beside the device.
#[derive(Debug)]
pub struct Options {
    /// The gateway's origin, such as `https://ai.example.com`.
    pub gateway: String,
    /// The app's name at the gateway.
    pub app: String,
    /// What goes with each request.
    pub proof: Proof,
    /// Certificates to trust beside those of the web's authorities, in DER.
    pub extra_roots: Vec<Vec<u8>>,
    /// The root keys for what is told over the air; none: nothing is fetched, nothing is pinned.
    pub config_roots: Vec<PublicJwk>,
    /// What becomes of pinned hosts when that has expired.
    pub stale: Stale,
    /// How long to wait.
    pub deadlines: Deadlines,
    /// What outlives the process.
    pub memory: Arc<dyn Memory>,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
}

impl Options {
    /// For this gateway and app, with a signature on each request, no pins, and nothing that outlives the process.
    pub fn new(gateway: &str, app: &str) -> Self {
        Self {
            gateway: gateway.to_owned(),
            app: app.to_owned(),
            proof: Proof::default(),
            extra_roots: Vec::new(),
            config_roots: Vec::new(),
            stale: Stale::default(),
            deadlines: Deadlines::default(),
            memory: Arc::new(Volatile::default()),
            clock: Arc::new(SystemClock),
        }
    }
}

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
}

/// What was done already about refusals of one request: each once.
#[derive(Default)]
struct Tried {
    nonce: bool,
    later: bool,
    token: bool,
}

/// When to try again after failures.
#[derive(Default)]
struct Backoff {
    failures: u32,
    not_before: i64,
}

/// What an installation has: for an app's screen of support.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// Its id: the subject of its tokens.
    pub instance: String,
    /// The code of its last token, for support.
    pub arc: String,
    /// When the token ends, by this device's clock in seconds since the epoch.
    pub token_ends: i64,
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
            Arc::new(Session { instance, signer, token, ends: 0, arc, next_nonce: None })
        });
        let inner = Inner {
            origin,
            host,
            app: options.app,
            proof: options.proof,
            config_roots: options.config_roots,
            attester,
            memory: options.memory,
            clock: options.clock,
            book,
            http,
            unpinned,
            offset: AtomicI64::new(0),
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
        Ok(Installation { instance: session.instance.clone(), arc: session.arc.clone(), token_ends: session.ends })
    }

    /// Get the next token now, although the last one may still count.
    pub async fn refresh(&self) -> Result<Installation, Error> {
        if let Some(session) = self.current() {
            self.forget_token(&session);
        }
        self.ready().await
    }

    /// Leave: the gateway deletes the installation, and the next request enrols anew.
    pub async fn leave(&self) -> Result<(), Error> {
        let session = self.session().await?;
        let mut headers = HeaderMap::new();
        let path = "/attest/v1/instance";
        self.sign_with(&session, (&Method::DELETE, path), &mut headers, &Bytes::new())?;
        let answer = self.exchange(&Method::DELETE, path, headers, Bytes::new()).await?;
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
        self.current().filter(|session| !session.token.is_empty() && now < session.ends - BEFORE_END)
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
            }));
        }
    }

    /// The path and query of a request to the gateway.
    fn path(&self, uri: &Uri) -> Result<String, Error> {
        if let Some(scheme) = uri.scheme_str() {
            let named = uri.authority().map(http::uri::Authority::as_str).unwrap_or_default();
            let (origin, _) = origin(&format!("{scheme}://{named}"))?;
            if origin != self.inner.origin {
                return Err(Error::Request("another host than the gateway's"));
            }
        }
        let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        if path.starts_with('/') { Ok(path.to_owned()) } else { Err(Error::Request("not a path")) }
    }

    fn sign_with(
        &self,
        session: &Session,
        request: (&Method, &str),
        headers: &mut HeaderMap,
        body: &Bytes,
    ) -> Result<(), Error> {
        self.sign_as((self.inner.proof, session), request, headers, body)
    }

    /// Put token and proof onto a request in place of whatever stands there.
    fn sign_as(
        &self,
        (with, session): (Proof, &Session),
        (method, path): (&Method, &str),
        headers: &mut HeaderMap,
        body: &Bytes,
    ) -> Result<(), Error> {
        for name in REPLACED {
            headers.remove(name);
        }
        let (bare, query) = path.split_once('?').map_or((path, None), |(bare, query)| (bare, Some(query)));
        let url = format!("{}{bare}", self.inner.origin);
        let target = Target { method: method.as_str(), url: &url, query, now: self.gateway_now() };
        let signer = &*session.signer;
        // The scheme says which proof comes with the token.
        let scheme = if with == Proof::Dpop { "DPoP" } else { "Bearer" };
        let authorization = format!("{scheme} {}", session.token);
        let mut fields = vec![("authorization", authorization.clone())];
        match with {
            Proof::Dpop => {
                let proof = proof::dpop(signer, target, &session.token, self.nonce().as_deref())?;
                fields.push(("dpop", proof));
            }
            Proof::Signature => {
                let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::to_str).transpose();
                let content_type = content_type.map_err(|_| Error::Request("a content type that is no text"))?;
                let body = (!body.is_empty()).then(|| (content_type.unwrap_or_default(), body.as_ref()));
                fields.extend(proof::signature(signer, target, &authorization, body)?);
            }
        }
        for (name, value) in fields {
            let value = HeaderValue::try_from(value).map_err(|_| Error::Internal)?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
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
            self.inner.offset.store(date.saturating_sub(self.inner.clock.now()), Ordering::Relaxed);
        }
        if let Some(nonce) = headers.get("dpop-nonce").and_then(|nonce| nonce.to_str().ok()) {
            let mut known = self.inner.dpop_nonce.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(nonce.to_owned());
        }
    }

    /// A JSON exchange with one of the endpoints for apps.
    async fn post(&self, path: &str, body: &Value) -> Result<Value, Error> {
        let mut headers = HeaderMap::new();
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

impl Backoff {
    /// After a failure: as long as the gateway says, else 1, 2, 4 and so on up to 300 seconds where the gateway or the
    /// platform is in trouble. Where nobody was reached the app knows best when to try again.
    fn note(&mut self, failure: Option<&Error>, now: i64) {
        let Some(failure) = failure else {
            *self = Self::default();
            return;
        };
        let own = match failure {
            Error::Rejected { .. } | Error::Attest(AttestError::Unavailable) | Error::Answer => {
                self.failures = self.failures.saturating_add(1);
                1u64.checked_shl(self.failures - 1).unwrap_or(u64::MAX).min(300)
            }
            _ => 0,
        };
        let wait = failure.retry_after().unwrap_or(0).max(own);
        self.not_before = now.saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
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

    #[test]
    fn waiting_grows_and_ends_with_success() {
        let mut backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            backoff.note(Some(&Error::Answer), 100);
            waits.push(backoff.not_before - 100);
        }
        assert_eq!(waits[..10], [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
        backoff.note(None, 100);
        assert_eq!((backoff.failures, backoff.not_before), (0, 0));
        backoff.note(Some(&Error::Connect { host: "a".into() }), 100);
        assert_eq!(backoff.not_before, 100, "the app knows when there is a network");
    }
}
