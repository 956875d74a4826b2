//! What answers on the public listener: the data plane, the token service, and the probes.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body as AxumBody;
use base::{Problem, RequestId, SystemRng};
use control::{ClientAddress, ClientCertificate, TlsFingerprint};
use gateway::{Forwarded, Gateway, GatewayBody};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Either;
use proof::mtls::certificate_thumbprint;
use tower::ServiceExt;

use crate::listen::{Drain, Peer, RequestBody, Service};

/// The public surfaces.
#[derive(Debug)]
pub struct Public {
    gateway: Gateway,
    oauth: Router,
    attest: Router,
    drain: Drain,
}

impl Public {
    /// These surfaces; `drain` decides what `/readyz` says.
    pub fn new(gateway: Gateway, (oauth, attest): (Router, Router), drain: Drain) -> Self {
        Self { gateway, oauth, attest, drain }
    }

    /// The token service, or the endpoints for apps. Their requests are checked for their host like any other.
    async fn token_service(
        &self,
        router: &Router,
        request: Request<RequestBody>,
        peer: &Peer,
        certificate: Option<ClientCertificate>,
    ) -> Response<AxumBody> {
        let address = ClientAddress(self.gateway.client_address(peer.addr, request.headers()));
        let fingerprint = self.gateway.fingerprint(peer.addr, peer.fingerprint.as_ref(), request.headers());
        let mut request = request.map(AxumBody::new);
        request.extensions_mut().insert(address);
        if let Some(fingerprint) = fingerprint {
            request.extensions_mut().insert(TlsFingerprint(fingerprint));
        }
        if let Some(certificate) = certificate {
            request.extensions_mut().insert(Arc::new(certificate));
        }
        let Ok(mut response) = router.clone().oneshot(request).await;
        harden(response.headers_mut());
        if peer.tls {
            // RFC 6797, as on the data plane.
            let year = HeaderValue::from_static("max-age=31536000");
            response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
        }
        response
    }

    /// The client's certificate. A trusted proxy that passes one on (RFC 9440) has verified it by its own rules.
    fn client_certificate(&self, peer: &Peer, headers: &HeaderMap) -> Result<Option<ClientCertificate>, Problem> {
        Ok(match self.gateway.forwarded_certificate(peer.addr, headers)? {
            Forwarded::Proxy(der) => der.map(|der| ClientCertificate { der, trusted: true }),
            Forwarded::Direct => {
                let trusted = peer.client_cert_trusted;
                peer.client_cert.as_ref().map(|der| ClientCertificate { der: der.to_vec(), trusted })
            }
        })
    }

    /// `/livez` and `/readyz`: no detail for the open internet.
    fn probe(&self, request: &Request<RequestBody>) -> Response<GatewayBody> {
        let ready = request.uri().path() != "/readyz" || self.drain.is_ready();
        let allowed = matches!(*request.method(), Method::GET | Method::HEAD);
        let (status, text) = match (allowed, ready) {
            (false, _) => (StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n"),
            (true, true) => (StatusCode::OK, "ok\n"),
            (true, false) => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
        };
        let mut response = Response::new(GatewayBody::full(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !allowed {
            headers.insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
        }
        harden(headers);
        response
    }
}

/// What every answer that is not the data plane's own says, to browsers and to whoever reads logs.
fn harden(headers: &mut HeaderMap) {
    if let Ok(id) = HeaderValue::from_str(RequestId::new(&SystemRng).as_str()) {
        // The token endpoint has named its answer already: as its log lines do.
        headers.entry("x-request-id").or_insert(id);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

impl Service for Public {
    type Body = Either<GatewayBody, AxumBody>;

    async fn call(&self, request: Request<RequestBody>, peer: Arc<Peer>) -> Response<Self::Body> {
        let path = request.uri().path();
        if matches!(path, "/livez" | "/readyz") {
            return self.probe(&request).map(Either::Left);
        }
        let router = if path.starts_with("/oauth/") || path.starts_with("/.well-known/") {
            Some(&self.oauth)
        } else {
            path.starts_with("/attest/").then_some(&self.attest)
        };
        if let Some(router) = router {
            if let Some(problem) = self.gateway.misdirected(request.uri(), request.headers(), request.version()) {
                return self.refuse(problem);
            }
            let certificate = match self.client_certificate(&peer, request.headers()) {
                Ok(certificate) => certificate,
                Err(problem) => return self.refuse(problem),
            };
            return self.token_service(router, request, &peer, certificate).await.map(Either::Right);
        }
        let certificate = peer.client_cert.as_ref().map(|der| certificate_thumbprint(der));
        let fingerprint = peer.fingerprint.clone();
        let peer = gateway::Peer { addr: peer.addr, tls: peer.tls, certificate, fingerprint };
        self.gateway.handle(request, &peer).await.map(Either::Left)
    }

    fn tunnel(body: &mut Self::Body) -> Option<gateway::Tunnel> {
        match body {
            Either::Left(body) => body.take_tunnel(),
            Either::Right(_) => None,
        }
    }

    fn refuse(&self, problem: Problem) -> Response<Self::Body> {
        self.gateway.refuse(problem).map(Either::Left)
    }
}

/// What answers on the admin listener.
#[derive(Debug, Clone)]
pub struct Private(pub Router);

impl Service for Private {
    type Body = AxumBody;

    async fn call(&self, request: Request<RequestBody>, peer: Arc<Peer>) -> Response<AxumBody> {
        if request.uri().path() == "/livez" {
            let mut response = Response::new(AxumBody::from("ok\n"));
            harden(response.headers_mut());
            return response;
        }
        let mut request = request.map(AxumBody::new);
        // Nobody is a trusted proxy here: whoever connects is who calls.
        request.extensions_mut().insert(ClientAddress(peer.addr.ip()));
        let answered: Result<_, Infallible> = self.0.clone().oneshot(request).await;
        let Ok(response) = answered;
        response
    }

    fn refuse(&self, problem: Problem) -> Response<AxumBody> {
        control::admin::Refusal::from(problem).response(RequestId::new(&SystemRng))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_request_id_and_one_that_it_has_stays() {
        let mut bare = HeaderMap::new();
        harden(&mut bare);
        assert!(bare.get("x-request-id").unwrap().to_str().unwrap().starts_with("req_"));
        let mut named = HeaderMap::from_iter([("x-request-id".parse().unwrap(), HeaderValue::from_static("req_1"))]);
        harden(&mut named);
        assert_eq!(named.get_all("x-request-id").iter().collect::<Vec<_>>(), ["req_1"]);
    }
}
