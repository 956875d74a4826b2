//! Certificates: the system's trust first, then the pins the app was told.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, SignatureScheme};

use crate::app_config::{AppConfig, ConfigError, Verdict};
use crate::clock::Clock;
use crate::signer::sha256;

/// The most mismatches that are remembered to be told.
const MAX_REPORTS: usize = 16;

/// What becomes of pinned hosts when the configuration counts no more and nothing newer was had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stale {
    /// Nothing is sent to them.
    #[default]
    Closed,
    /// The system's trust alone decides.
    SystemTrust,
}

/// A host that showed a key which is not pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// The host.
    pub host: String,
    /// SHA-256 of the key (`SubjectPublicKeyInfo`) it showed.
    pub spki: [u8; 32],
    /// When, in seconds since the epoch.
    pub at: i64,
    /// Whether the connection was given up for it.
    pub refused: bool,
}

/// The pins, shared between the client and its connections.
pub(crate) struct PinBook {
    stale: Stale,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    config: Option<Arc<AppConfig>>,
    reports: Vec<Mismatch>,
}

impl PinBook {
    pub(crate) fn new(stale: Stale, clock: Arc<dyn Clock>) -> Self {
        Self { stale, clock, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn config(&self) -> Option<Arc<AppConfig>> {
        self.state().config.clone()
    }

    /// Put a configuration in force, unless a newer one came in between; whether it is another one than before.
    pub(crate) fn set_config(&self, config: Arc<AppConfig>) -> Result<bool, ConfigError> {
        let mut state = self.state();
        let before = state.config.as_deref();
        if before.is_some_and(|before| config.is_before(before)) {
            return Err(ConfigError::RolledBack);
        }
        let other = before.is_none_or(|before| *before != *config);
        state.config = Some(config);
        Ok(other)
    }

    /// Whether connections to a host are given up now where it shows a key that is not pinned.
    pub(crate) fn enforces(&self, host: &str) -> bool {
        let config = self.config().filter(|config| !config.is_over(self.clock.now()) && !config.kill_pinning);
        config.is_some_and(|config| config.hosts.iter().any(|one| one.enforce && one.host.eq_ignore_ascii_case(host)))
    }

    /// What was seen since the last call.
    pub(crate) fn take_reports(&self) -> Vec<Mismatch> {
        std::mem::take(&mut self.state().reports)
    }

    pub(crate) fn has_reports(&self) -> bool {
        !self.state().reports.is_empty()
    }

    /// The number of the configuration that is held, if one is, and what became of its pins: `ok`, `failed` or `off`.
    pub(crate) fn held(&self) -> Option<(u64, &'static str)> {
        let state = self.state();
        let config = state.config.as_ref()?;
        let off = config.kill_pinning || config.is_over(self.clock.now());
        let failed = !state.reports.is_empty();
        Some((
            config.seq,
            if failed {
                "failed"
            } else if off {
                "off"
            } else {
                "ok"
            },
        ))
    }

    /// Whether nothing is to be sent to a pinned host because what was told counts no more.
    pub(crate) fn is_stale(&self, host: &str) -> bool {
        let config = self.config();
        let stale = config.filter(|config| config.is_over(self.clock.now()) && !config.kill_pinning);
        let pinned = |config: Arc<AppConfig>| config.hosts.iter().any(|one| one.host.eq_ignore_ascii_case(host));
        self.stale == Stale::Closed && stale.is_some_and(pinned)
    }

    /// Whether a host may show this key. What it may not is remembered.
    fn allows(&self, host: &str, spki: &[u8; 32]) -> bool {
        let now = self.clock.now();
        let config = self.config();
        let Some(config) = config.filter(|config| !config.is_over(now)) else { return true };
        let verdict = config.judge(host, spki, now);
        let refused = verdict == Verdict::Refuse;
        if refused || verdict == Verdict::Report {
            let mut state = self.state();
            if state.reports.len() < MAX_REPORTS {
                state.reports.push(Mismatch { host: host.to_owned(), spki: *spki, at: now, refused });
            }
        }
        !refused
    }
}

/// Checks certificates as the system would, and then the key against the pins.
pub(crate) struct PinningVerifier {
    trust: Arc<WebPkiServerVerifier>,
    book: Arc<PinBook>,
}

impl PinningVerifier {
    pub(crate) fn new(trust: Arc<WebPkiServerVerifier>, book: Arc<PinBook>) -> Self {
        Self { trust, book }
    }
}

impl fmt::Debug for PinningVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PinningVerifier").finish_non_exhaustive()
    }
}

/// What the handshake fails with when a key is not pinned. The system's trust never fails with this.
pub(crate) const NOT_PINNED: CertificateError = CertificateError::ApplicationVerificationFailure;

impl ServerCertVerifier for PinningVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let trusted = self.trust.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        // The host's own key: the others of a chain are its issuer's to change.
        let spki = ParsedCertificate::try_from(end_entity)?.subject_public_key_info();
        if self.book.allows(&server_name.to_str(), &sha256(spki.as_ref())) {
            Ok(trusted)
        } else {
            Err(NOT_PINNED.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.trust.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.supported_verify_schemes()
    }
}
