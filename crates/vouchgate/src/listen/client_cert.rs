//! Client certificates in the TLS handshake.
//!
//! Two questions are kept apart. That a client holds the key of the certificate it shows is checked in every handshake,
//! whatever the certificate: tokens are bound to a certificate by its hash (RFC 8705 section 3), and a client may be
//! known by a self-signed one (section 2.2). Whether an authority vouches for it is asked after the handshake, anew also
//! for a resumed session, and only who depends on the names in it needs the answer (section 2.1).

use std::path::Path;
use std::sync::Arc;

use config::ClientCertificates;
use proof::mtls::ClientCertificate;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};

use super::TlsError;

/// Who checks the certificates of a listener's clients, and who is trusted.
#[derive(Debug, Clone)]
pub(super) struct ClientCerts {
    /// Checks in the handshake; none where none are asked for.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    authorities: Option<Arc<dyn ClientCertVerifier>>,
}

impl ClientCerts {
    /// What is configured: which certificates may be shown, and whose are trusted (with the file they are from).
    pub(super) fn new(
        accepted: ClientCertificates,
        authorities: Option<(&Path, Vec<CertificateDer<'static>>)>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let authorities = authorities.map(|(path, roots)| trust(path, roots, provider)).transpose()?;
        let verifier = match accepted {
            ClientCertificates::Off => None,
            ClientCertificates::Ca => authorities.clone(),
            ClientCertificates::Any => {
                Some(Arc::new(AnyCertificate(provider.signature_verification_algorithms)) as Arc<dyn ClientCertVerifier>)
            }
        };
        Ok(Self { verifier, authorities })
    }

    /// Whether an authority vouches for the first of these certificates at `now`.
    pub(super) fn vouched_for(&self, chain: &[CertificateDer<'_>], now: UnixTime) -> bool {
        let (Some(authorities), Some((leaf, others))) = (&self.authorities, chain.split_first()) else { return false };
        authorities.verify_client_cert(leaf, others, now).is_ok()
    }
}

fn trust(
    path: &Path,
    roots: Vec<CertificateDer<'static>>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |detail: String| TlsError::Unusable { path: path.to_owned(), detail };
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root).map_err(|error| unusable(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error: VerifierBuilderError| unusable(error.to_string()))
}

/// Takes any well-formed certificate whose key signs the handshake.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a client must not keep a self-signed certificate to itself because no authority of ours signed it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Both readers have to understand it: the one that checks the handshake and the one that reads its names.
        ParsedCertificate::try_from(end_entity)?;
        match ClientCertificate::parse(end_entity) {
            Ok(_) => Ok(ClientCertVerified::assertion()),
            Err(_) => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
