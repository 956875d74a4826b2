//! The data plane: a verified token in, a provider's answer out.
//!
//! [`Gateway::handle`] is the whole of it. Each stage hands the next a value that only it can make:
//! `Inbound` (the request's form), [`Caller`] (who), [`Permit`] (may it), [`Reservation`] (within its limits), `Plan` (where to),
//! `Answer`, and a `Receipt` that settles when it is dropped, also if the client has gone.

mod admit;
mod anomaly;
mod authenticate;
mod authorize;
mod body;
mod budget;
mod cache;
mod challenge;
mod edge;
mod endpoint;
mod health;
mod metrics;
mod objects;
mod problem;
mod recorded;
mod relay;
mod route;
mod settle;
mod shadow;
mod sights;
mod single_use;
mod snapshot;
mod trace;
mod upstream;

use std::sync::Arc;

use arc_swap::ArcSwap;
use base::{Clock, RequestId, Rng, Timestamp};
use bytes::Bytes;
use config::{Bound, ProviderDialect};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, Uri, Version};
use http_body::Body;
use net::Egress;
use proof::dpop::{Lifetimes, Nonces};
use store::{Ledger, Replay};
use tokio::sync::watch;

pub use admit::{Admitted, FleetLimits};
pub use anomaly::Watch;
pub use authenticate::{Caller, KEY_PREFIX, KeyRefresh, NoRefresh, Revocations};
pub use body::{BodyError, GatewayBody, Tunnel};
pub use budget::Reservation;
pub use edge::{Authorities, Cors, Peer};
pub use health::States;
pub use metrics::{GenAi, Metrics};
pub use objects::Objects;
pub use policy::Permit;
pub use problem::Surface;
pub use route::{Explained, ExplainedKey, ExplainedTarget, Question, explain};
pub use settle::Records;
pub use shadow::Background;
pub use sights::{Sight, Sights};
pub use single_use::SingleUse;
pub use snapshot::{ApiKey, KeyRing, Parts, Snapshot, SnapshotError, Unusable, own_figures};
pub use trace::TARGET as SPAN_TARGET;
pub use upstream::{
    Credential, CredentialError, KeyValues, Probed, RuntimeSecret, RuntimeValue, Trial, Tried, Trouble, probe_key,
    try_credentials, try_kept,
};

use admit::Limiter;
use authenticate::{AuthenticateError, Authenticated, Failures, Shown, Signed};
use edge::{Credential as Shows, EdgeError, Inbound, Presented, Received};
use endpoint::{Answered, Asked};
use problem::Refusal;
use settle::{Opening, Receipt};

/// What the data plane works with.
pub struct Deps {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub rng: Arc<dyn Rng>,
    /// The way out.
    pub egress: Egress,
    /// Fetches issuers' keys anew.
    pub refresh: Arc<dyn KeyRefresh>,
    /// Where records of requests go.
    pub records: Arc<dyn Records>,
    /// What writes down what happens before it does.
    pub audit: audit::Recorder,
    /// Who made what a provider stores.
    pub objects: Arc<dyn Objects>,
    /// What has been revoked.
    pub revoked: Arc<dyn Revocations>,
    /// Which proofs have been used: the same for every endpoint of this origin.
    pub replay: Arc<dyn Replay>,
    /// Which tokens have been used, where a policy takes each once.
    pub single_use: Arc<dyn SingleUse>,
    /// What budgets have left. Without it whatever a budget counts is refused.
    pub ledger: Option<Ledger>,
    /// Where it is told what somebody outside may want to know.
    pub notices: store::Notices,
    /// Watches callers for what is quite unlike them.
    pub watch: Arc<Watch>,
    /// Watches installations of apps.
    pub sights: Arc<dyn Sights>,
    /// Nonces for proofs: the same for every endpoint of this origin, made anew at every start.
    pub nonces: Arc<Nonces>,
    /// Counts limits for all nodes, where there are several.
    pub limits: Option<FleetLimits>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where work goes that no request waits for.
    pub background: Arc<dyn Background>,
    /// `true` once open streams are to end, each with an error event.
    pub drain: watch::Receiver<bool>,
}

/// What outlives every request.
struct Shared {
    /// What is in force now: for whoever outlives the snapshot it began with.
    snapshot: Arc<ArcSwap<Snapshot>>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    egress: Egress,
    refresh: Arc<dyn KeyRefresh>,
    records: Arc<dyn Records>,
    audit: audit::Recorder,
    objects: Arc<dyn Objects>,
    revoked: Arc<dyn Revocations>,
    replay: Arc<dyn Replay>,
    single_use: Arc<dyn SingleUse>,
    ledger: Option<Ledger>,
    /// Which parts of budgets have been told of.
    shares: budget::Shares,
    counting: budget::Counting,
    notices: store::Notices,
    watch: Arc<Watch>,
    sights: Arc<dyn Sights>,
    nonces: Arc<Nonces>,
    metrics: Arc<Metrics>,
    drain: watch::Receiver<bool>,
    /// Copies of requests for targets that nobody hears.
    shadows: shadow::Shadows,
    /// Of providers that take tokens instead of keys.
    access_tokens: upstream::AccessTokens,
    limiter: Limiter,
    failures: Failures,
    lifetimes: Lifetimes,
    /// Answers that are kept.
    cache: Arc<cache::Cache>,
    /// Proofs from before are not remembered.
    started_at: Timestamp,
}

/// Whose certificate it is that a connection shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forwarded {
    /// The peer is the client: the connection's certificate is the client's.
    Direct,
    /// The peer is a trusted proxy: this is the certificate (DER) the client showed to it, if any.
    Proxy(Option<Vec<u8>>),
}

/// The data plane. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("snapshot", &self.shared.snapshot.load().generation()).finish_non_exhaustive()
    }
}

impl Gateway {
    /// A data plane over whatever snapshot is current when a request comes.
    pub fn new(snapshot: Arc<ArcSwap<Snapshot>>, deps: Deps) -> Self {
        let shared = Shared {
            snapshot,
            access_tokens: upstream::AccessTokens::default(),
            limiter: Limiter::new(deps.clock.monotonic(), deps.limits),
            failures: Failures::new(),
            lifetimes: Lifetimes::default(),
            cache: Arc::new(cache::Cache::new(deps.rng.as_ref())),
            started_at: deps.clock.now(),
            clock: deps.clock,
            // Requests' names come from it, nothing secret does.
            rng: Arc::new(base::InBlocks::new(deps.rng)),
            egress: deps.egress,
            refresh: deps.refresh,
            records: deps.records,
            audit: deps.audit,
            objects: deps.objects,
            revoked: deps.revoked,
            replay: deps.replay,
            single_use: deps.single_use,
            ledger: deps.ledger,
            shares: budget::Shares::default(),
            counting: budget::Counting::default(),
            notices: deps.notices,
            watch: deps.watch,
            sights: deps.sights,
            nonces: deps.nonces,
            metrics: deps.metrics,
            drain: deps.drain,
            shadows: shadow::Shadows::new(deps.background),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answer one request. A request that is dropped midway, because its client has gone, drops its upstream call.
    pub async fn handle<B>(&self, request: Request<B>, peer: &Peer) -> Response<GatewayBody>
    where
        B: Body<Data = Bytes, Error: Into<net::BoxError>> + Send,
    {
        let snapshot = self.shared.snapshot.load_full();
        let id = RequestId::new(self.shared.rng.as_ref());
        let surface = Self::surface(&snapshot, &request);
        let origin = snapshot.cors.origin(request.headers()).cloned();
        let mut nonce = None;
        let mut response = match self.answer(&snapshot, id, (request, peer), &mut nonce).await {
            Ok(response) => response,
            Err(refusal) => refusal.respond(surface, Some(&snapshot.resource_metadata)),
        };
        if let Some(nonce) = nonce.and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
            // For the caller's next proof, and for nobody's cache (RFC 9449 section 8.2).
            response.headers_mut().insert(HeaderName::from_static("dpop-nonce"), nonce);
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        }
        let id = header_value(id);
        if surface == Surface::Anthropic {
            // Where Anthropic's SDKs look for it.
            response.headers_mut().insert(HeaderName::from_static("request-id"), id.clone());
        }
        if peer.tls {
            // RFC 6797: who has come over TLS once never falls back to plain HTTP.
            let year = HeaderValue::from_static("max-age=31536000");
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        edge::finish(&mut response, id, &snapshot.cors, origin);
        response
    }

    /// Whose error format the sender expects: on a provider's own API that provider's.
    fn surface<B>(snapshot: &Snapshot, request: &Request<B>) -> Surface {
        let path = request.uri().path();
        let native = path.strip_prefix("/providers/").and_then(|rest| snapshot.provider(rest.split('/').next()?));
        let below = path.strip_prefix("/providers/").and_then(|rest| rest.find('/').and_then(|at| rest.get(at..)));
        let own = native.zip(below).is_some_and(|(provider, below)| provider.is_own(below));
        match native.map(|provider| provider.dialect) {
            Some(ProviderDialect::Anthropic) => Surface::Anthropic,
            Some(ProviderDialect::OpenAi) if own => Surface::Ollama,
            Some(ProviderDialect::OpenAi) => Surface::OpenAi,
            Some(ProviderDialect::Gemini) => Surface::Gemini,
            Some(ProviderDialect::Cohere) => Surface::Cohere,
            Some(ProviderDialect::Bedrock) => endpoint::bedrock::surface(below.unwrap_or_default()),
            None => Surface::of(path, request.headers()),
        }
    }

    /// Whether a request is for this gateway at all, for the surfaces of the same listener that are not the data plane: the
    /// problem to answer with if it is not.
    pub fn misdirected(&self, uri: &Uri, headers: &HeaderMap, version: Version) -> Option<base::Problem> {
        let checked = self.shared.snapshot.load().authorities.check(uri, headers, version);
        checked.err().map(|error| EdgeError::from(error).problem())
    }

    /// Forget every answer that is kept.
    pub fn forget_answers(&self) {
        self.shared.cache.forget();
    }

    /// What the listener itself has to say (414, 431, 500, 503), before there is a request to know the dialect of.
    pub fn refuse(&self, problem: base::Problem) -> Response<GatewayBody> {
        self.shared.metrics.blocked(problem.code);
        let mut response = Refusal::from(problem).respond(Surface::OpenAi, None);
        let id = header_value(RequestId::new(self.shared.rng.as_ref()));
        edge::finish(&mut response, id, &Cors::default(), None);
        response
    }

    /// The certificate (DER) of the client, as far as a trusted proxy passed it on (RFC 9440), and whether the peer is one: then
    /// the certificate of the connection itself is the proxy's. For the surfaces of the same listener that are not the data
    /// plane.
    pub fn forwarded_certificate(
        &self,
        peer: std::net::SocketAddr,
        headers: &HeaderMap,
    ) -> Result<Forwarded, base::Problem> {
        if !edge::is_trusted(peer, &self.shared.snapshot.load().trusted) {
            return Ok(Forwarded::Direct);
        }
        match edge::client_cert(headers) {
            Ok(der) => Ok(Forwarded::Proxy(der)),
            Err(error) => Err(EdgeError::from(error).problem()),
        }
    }

    /// The client's address, as far as the proxies in between are trusted: for the surfaces of the same listener that are
    /// not the data plane.
    pub fn client_address(&self, peer: std::net::SocketAddr, headers: &HeaderMap) -> std::net::IpAddr {
        edge::client_ip(peer, headers, &self.shared.snapshot.load().trusted)
    }

    /// The JA4 fingerprint of the client's TLS greeting: of the one that the connection began with, or, of a trusted proxy's, of
    /// the one that the configured header says was said to it.
    pub fn fingerprint(
        &self,
        peer: std::net::SocketAddr,
        own: Option<&Arc<str>>,
        headers: &HeaderMap,
    ) -> Option<Arc<str>> {
        let snapshot = self.shared.snapshot.load();
        edge::fingerprint((peer, own), headers, (&snapshot.trusted, snapshot.fingerprint_header.as_ref()))
    }

    /// The stages, in their order.
    async fn answer<B>(
        &self,
        snapshot: &Snapshot,
        id: RequestId,
        (request, peer): (Request<B>, &Peer),
        nonce: &mut Option<String>,
    ) -> Result<Response<GatewayBody>, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<net::BoxError>> + Send,
    {
        let shared = &self.shared;
        let (at, started) = (shared.clock.now(), shared.clock.monotonic());
        let inbound = match edge::receive(snapshot, request, peer).map_err(|error| self.turned_away(id, error))? {
            Received::Preflight(response) => return Ok(response),
            Received::Request(inbound) => inbound,
        };
        let Authenticated { caller, signed, nonce: fresh } = self.caller(snapshot, &inbound, (id, at)).await?;
        *nonce = fresh;
        sights::tell(shared.sights.as_ref(), &caller, inbound.fingerprint.as_deref());
        let opening = Opening {
            id,
            route: inbound.endpoint.label(),
            at,
            started,
            trace: trace::TraceParent::of(&inbound.head.headers),
        };
        let whom = recorded::whom(shared, &caller).await;
        let mut receipt = Receipt::open(shared, &opening, (caller, whom));
        match Self::proceed(snapshot, inbound, signed, &mut receipt).await {
            Ok((mut answer, reservation)) => {
                receipt.standing().write(&mut answer.headers);
                Ok(relay::respond(answer, receipt, reservation))
            }
            Err(refusal) => {
                receipt.refused(&refusal);
                Err(refusal.standing(receipt.standing()))
            }
        }
    }

    /// Who is calling, or the refusal that says why that is not known.
    async fn caller<B>(
        &self,
        snapshot: &Snapshot,
        inbound: &Inbound<B>,
        (id, at): (RequestId, base::Timestamp),
    ) -> Result<Authenticated, Refusal>
    where
        B: Body<Data = Bytes, Error: Into<net::BoxError>> + Send,
    {
        let mut credential = inbound
            .credential(snapshot.limits.token, &snapshot.credential_fields)
            .map_err(|error| self.turned_away(id, error))?;
        // Google's SDKs send the pieces of an upload to the address they are told, with nothing but what is in it.
        let sealed = matches!(credential, Shows::Absent).then(|| inbound.sealed_credential(snapshot)).flatten();
        if let Some(text) = &sealed {
            credential = Shows::Presented(Presented::in_address(text.expose()));
        }
        let shown = Shown {
            head: &inbound.head,
            credential,
            proof: inbound.proof().map_err(|error| self.turned_away(id, error))?,
            certificate: inbound.certificate,
            has_body: inbound.has_body(),
            ip: inbound.ip,
            at,
        };
        let metrics = &self.shared.metrics;
        let authenticated = match authenticate::caller(snapshot, &self.shared, &shown).await {
            Ok(authenticated) => authenticated,
            Err((scheme, error)) => {
                let (request_id, reason) = (id.as_str(), error.reason());
                tracing::debug!(target: "vouchgate::access", request_id, reason, %error, "not authenticated");
                metrics.blocked(reason);
                error.proof().inspect(|kind| metrics.proof(kind, reason));
                Box::pin(self.shared.audit.failed(&audit::Failed {
                    at,
                    surface: "gateway",
                    id: Some(request_id),
                    reason,
                    claimed: None,
                    ip: Some(inbound.ip),
                }))
                .await;
                return Err(error.refusal(scheme));
            }
        };
        // A signature's outcome is known when the body is.
        authenticated
            .caller
            .proven()
            .filter(|kind| *kind != Bound::Signature)
            .for_each(|kind| metrics.proof(kind.as_str(), "ok"));
        Ok(authenticated)
    }

    /// Read the body and do what the endpoint does.
    async fn proceed<B>(
        snapshot: &Snapshot,
        inbound: Inbound<B>,
        signed: Option<Signed>,
        receipt: &mut Receipt,
    ) -> Answered
    where
        B: Body<Data = Bytes, Error: Into<net::BoxError>> + Send,
    {
        let clock = Arc::clone(&receipt.shared().clock);
        let begun = clock.monotonic();
        let read = inbound.read(&snapshot.limits).await;
        let waited = clock.monotonic().saturating_duration_since(begun);
        receipt.waited(waited);
        let (head, endpoint, body) = read.map_err(|error| Refusal::from(error.problem()))?;
        receipt.request_bytes(body.len());
        receipt.tagged(head.headers.get("x-vouchgate-tag"));
        let (caller, revoked) = (receipt.caller(), receipt.shared().revoked.as_ref());
        let again = caller.check_again(revoked, receipt.at().plus(waited));
        again.map_err(|error| error.refusal(caller.scheme()))?;
        let suspended = receipt.shared().watch.check(caller, receipt.at());
        suspended.map_err(|error| Refusal::from(error.problem()))?;
        if let Some(signed) = signed {
            let settled = signed.settle(receipt.shared(), &body).await;
            let outcome = settled.as_ref().map_or_else(AuthenticateError::reason, |()| "ok");
            receipt.shared().metrics.proof(Bound::Signature.as_str(), outcome);
            let caller = receipt.caller();
            let told = |error: AuthenticateError| if caller.is_attested() { error.of_installation() } else { error };
            settled.map_err(|error| told(error).refusal(caller.scheme()))?;
        }
        let asked = Asked { snapshot, head: &head, body };
        // What endpoints keep between their steps is large: it is made where it stays, and whoever is turned away before needs
        // no room for it.
        endpoint::answer(&endpoint, asked, receipt).await
    }

    /// Count and tell a refusal of somebody unknown. Nothing is recorded: the record would be the attacker's to fill.
    fn turned_away(&self, id: RequestId, error: EdgeError) -> Refusal {
        tracing::debug!(target: "vouchgate::access", request_id = id.as_str(), reason = error.reason(), "turned away");
        self.shared.metrics.blocked(error.reason());
        let refusal = Refusal::from(error.problem());
        match error {
            EdgeError::Method(allow) => refusal.allow(allow),
            _ => refusal,
        }
    }
}

fn header_value(id: RequestId) -> HeaderValue {
    HeaderValue::from_str(id.as_str()).unwrap_or(HeaderValue::from_static("req_"))
}
