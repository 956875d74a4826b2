//! The admin API: one table of operations, from which routing, role checks and the `OpenAPI` document follow.

mod access;
mod audited;
mod call;
mod door;
mod handlers;
mod idempotency;
mod openapi;
mod problem;
mod server;
mod socket;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{RawPathParams, Request};
use axum::response::Response;
use axum::routing::{MethodFilter, on};
use axum::{RequestExt, extract::rejection::RawPathParamsRejection};
use base::{Problem, RequestId};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use http_body_util::{BodyExt, Full};
use tower::ServiceExt;
use tracing::Instrument;

use crate::operations::Operations;

pub use access::Principal;
pub use door::Hosts;
pub use openapi::document as openapi_document;
pub use problem::Refusal;
pub use server::{Check, Pending, Readiness, Server};
pub use socket::{AdminSocket, SOCKET_NAME};
pub use store::Role;
pub use table::{Access, Operation, TABLE};

/// The admin API of one installation.
pub struct Admin {
    operations: Arc<Operations>,
    server: Option<Arc<dyn Server>>,
    hosts: Hosts,
    body_limit: usize,
}

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    /// The admin listener: Host, Origin and token are checked.
    Network,
    /// `admin.sock`, or this very process: whoever gets here is an owner.
    Local,
}

impl Admin {
    /// The admin API over `operations`. `server` is what runs behind it, if anything does; a request's body has at most
    /// `body_limit` bytes.
    pub fn new(
        operations: Arc<Operations>,
        server: Option<Arc<dyn Server>>,
        hosts: Hosts,
        body_limit: usize,
    ) -> Arc<Self> {
        Arc::new(Self { operations, server, hosts, body_limit })
    }
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").field("running", &self.server.is_some()).finish_non_exhaustive()
    }
}

/// The routes of the admin listener. Requests need a [`crate::ClientAddress`] in their extensions.
pub fn router(admin: &Arc<Admin>) -> Router {
    routes(admin, Door::Network)
}

/// The same routes for `admin.sock`: no token is asked for, every caller is an owner.
pub fn local_router(admin: &Arc<Admin>) -> Router {
    routes(admin, Door::Local)
}

/// The admin API without a socket, for a command that holds the data directory's lock itself.
pub struct LocalApi(Router);

impl LocalApi {
    /// The API, as its owner.
    pub fn new(admin: &Arc<Admin>) -> Self {
        Self(local_router(admin))
    }

    /// One request, its answer as it comes.
    pub async fn stream(&self, request: http::Request<Full<Bytes>>) -> Response {
        let Ok(response) = self.0.clone().oneshot(request.map(Body::new)).await;
        response
    }

    /// One request: its status and body.
    pub async fn call(&self, request: http::Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        let (head, body) = self.stream(request).await.into_parts();
        // Our own bodies are in memory, so they cannot end early.
        let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        (head.status, bytes)
    }
}

fn routes(admin: &Arc<Admin>, door: Door) -> Router {
    let mut router = Router::new();
    for operation in TABLE.iter() {
        let admin = Arc::clone(admin);
        let handler = async move |request: Request| answer(&admin, door, Some(operation), request).await;
        router = router.route(&operation.path, on(filter(&operation.method), handler));
    }
    let (unknown, wrong_method) = (Arc::clone(admin), Arc::clone(admin));
    router
        .fallback(async move |request: Request| answer(&unknown, door, None, request).await)
        .method_not_allowed_fallback(async move |request: Request| {
            let path = request.uri().path().to_owned();
            let mut response = answer(&wrong_method, door, None, request).await;
            // Axum adds `Allow` to it.
            if response.status() == StatusCode::NOT_FOUND {
                response = problem_405(&wrong_method, &path);
            }
            response
        })
}

fn filter(method: &http::Method) -> MethodFilter {
    match *method {
        http::Method::PUT => MethodFilter::PUT,
        http::Method::POST => MethodFilter::POST,
        http::Method::DELETE => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}

fn problem_405(admin: &Admin, path: &str) -> Response {
    let message = format!("{path} does not have this method");
    let problem = Problem::client(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message);
    let id = admin.operations.request_id();
    finish(Refusal::from(problem).response(id), id)
}

/// Every request of the admin API passes here, also those that lead nowhere.
async fn answer(
    admin: &Arc<Admin>,
    door: Door,
    operation: Option<&'static Operation>,
    mut request: Request,
) -> Response {
    let id = admin.operations.request_id();
    let params: Result<RawPathParams, RawPathParamsRejection> = request.extract_parts().await;
    let name = params.ok().and_then(|params| params.iter().next().map(|(_, value)| value.to_owned()));
    // Everything that is logged on the way carries the id that the caller is told.
    let span = tracing::info_span!("admin", request_id = %id, operation = operation.map_or("none", |o| o.id));
    let answered = async {
        call::run(admin, door, operation, (request, name)).await.unwrap_or_else(|refusal| {
            tracing::info!(target: "audit", code = refusal.code(), "refused");
            refusal.response(id)
        })
    };
    finish(answered.instrument(span).await, id)
}

/// What every response carries.
fn finish(mut response: Response, id: RequestId) -> Response {
    let headers = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        headers.insert("x-request-id", id);
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    );
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
    response
}
