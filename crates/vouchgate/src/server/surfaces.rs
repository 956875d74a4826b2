//! What answers on the listeners: the token service, the endpoints for apps, the admin API.

use std::path::Path;
use std::sync::Arc;

use base::Clock;
use config::Config;
use control::Operations;
use control::admin::{self, Admin, AdminSocket, Hosts};
use control::apps::{Apps, AppsParts};
use control::oauth::{AttemptLimits, EventCounts, Oauth, OauthParts};
use net::Egress;

use super::proofs::Proofs;
use super::{Running, StartError, apps};
use crate::listen::{Caps, Edge, ListenError, Listener, ServerTls, TlsError, TlsFiles, descriptor_limit};
use crate::public::Private;
use crate::tasks::Tasks;
use crate::wire::{DataPlaneTokens, OtherServices, Referred, RevokedKeys, SigninProvider, WayOut};

/// Connections on the admin listener, a quarter of them from one address.
const ADMIN_CONNECTIONS: usize = 256;

/// The token service of the same origin.
pub(super) fn token_service(
    running: &Running,
    config: &Config,
    (clock, egress): (&Arc<dyn Clock>, &Egress),
    (Proofs { replay, nonces }, heard): (Proofs, Arc<EventCounts>),
) -> Oauth {
    let operations = &running.builder.operations;
    let provider = SigninProvider {
        in_force: Arc::clone(&running.builder.signin),
        jwks: Arc::clone(&running.jwks),
        egress: egress.clone(),
        store: operations.store().clone(),
        vault: Arc::clone(&running.builder.vault),
    };
    let subject_tokens =
        DataPlaneTokens::new(Arc::clone(&running.snapshot), Arc::clone(&running.jwks), Arc::clone(clock));
    Oauth::new(OauthParts {
        operations: Arc::clone(operations),
        listening: running.builder.listening.clone(),
        limits: AttemptLimits::default(),
        body_limit: config.limits.token_body.as_usize(),
        replay,
        nonces,
        subject_tokens: Arc::new(subject_tokens),
        documents: Arc::new(WayOut(egress.clone())),
        provider: Arc::new(provider),
        secrets: Arc::new(Referred { store: operations.store().clone(), vault: Arc::clone(&running.builder.vault) }),
        heard,
    })
}

/// The endpoints for apps, of the same origin.
pub(super) fn attest(
    running: &Running,
    config: &Config,
    (oauth, egress): (&Arc<Oauth>, &Egress),
    services: &apps::AppServices,
) -> axum::Router {
    let limits = AttemptLimits { per_minute: config.attest.requests_per_minute, ..AttemptLimits::default() };
    control::apps::router(Arc::new(Apps::new(AppsParts {
        operations: Arc::clone(&running.builder.operations),
        oauth: Arc::clone(oauth),
        in_force: Arc::clone(&running.builder.apps),
        listening: running.builder.listening.clone(),
        limits,
        revoked: Arc::new(RevokedKeys(Arc::clone(&services.revocations))),
        others: Arc::new(OtherServices(egress.clone())),
        counts: Arc::clone(&services.counts),
        remembered_since: running.builder.operations.clock().now(),
    })))
}

pub(super) fn admin_api(config: &Config, operations: Arc<Operations>, running: &Arc<Running>) -> Arc<Admin> {
    let hosts = config.server.external_url.iter().filter_map(|url| url.url().host_str().map(str::to_owned));
    let server = Arc::clone(running) as Arc<dyn admin::Server>;
    Admin::new(operations, Some(server), Hosts::new(hosts), config.limits.admin_body.as_usize())
}

/// Answer on the admin listener and on `admin.sock`.
pub(super) fn serve_admin(
    tasks: &Tasks,
    data_dir: &Path,
    (listener, edge): (Listener, Edge),
    admin_api: &Arc<Admin>,
) -> Result<(), StartError> {
    let surfaces = Arc::new(Private(admin::router(admin_api)));
    tasks.spawn_to_completion(listener.serve(surfaces, edge, tasks.clone()));
    let socket = AdminSocket::bind(data_dir).map_err(|error| StartError::Socket(data_dir.to_owned(), error))?;
    tasks.spawn_to_completion(socket.serve(admin::local_router(admin_api), tasks.stopped()));
    Ok(())
}

pub(super) fn load_tls(tls: Option<&config::Tls>) -> Result<Option<Arc<ServerTls>>, TlsError> {
    tls.map(|tls| ServerTls::load(TlsFiles::from(tls))).transpose()
}

/// The public listener and the admin API's, each with its certificates.
pub(super) async fn listeners(
    server: &config::Server,
    (tls, admin_tls): (Option<&Arc<ServerTls>>, Option<&Arc<ServerTls>>),
) -> Result<(Listener, Listener), ListenError> {
    let public = Listener::bind(server.listen, tls.cloned(), server.plain_http).await?;
    let admin = Listener::bind(server.admin_listen, admin_tls.cloned(), server.plain_http).await?;
    Ok((public, admin))
}

/// How it is found out which certificate a listener shows: the leaf, DER.
pub(super) fn leaf(tls: Option<&Arc<ServerTls>>) -> impl Fn() -> Option<Vec<u8>> + Send + Sync + 'static {
    let tls = tls.cloned();
    move || tls.as_ref().map(|tls| tls.leaf().to_vec())
}

pub(super) fn admin_caps() -> Arc<Caps> {
    Caps::new(ADMIN_CONNECTIONS, ADMIN_CONNECTIONS / 4, Vec::new())
}

/// Trusted proxies speak for many clients: they are bounded by the total only.
pub(super) fn public_caps(config: &Config) -> Arc<Caps> {
    let limits = &config.limits;
    let proxies = config.server.trusted_proxies.iter().filter_map(|network| network.to_string().parse().ok());
    let total = usize::try_from(limits.connections).unwrap_or(usize::MAX);
    // Half of the descriptors stay for the way out, the store and the admin listener.
    let total = descriptor_limit().map_or(total, |descriptors| total.min(descriptors / 2));
    Caps::new(total, usize::try_from(limits.connections_per_address).unwrap_or(usize::MAX), proxies.collect())
}
