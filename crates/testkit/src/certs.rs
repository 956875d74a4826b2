//! Certificates made on the spot: an authority, and what it signs.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};
use rustls::server::WebPkiClientVerifier;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::keys::b64;

/// A certificate authority. Each is a stranger to the others.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, in PEM.
    pub cert_pem: String,
    /// The key, PKCS#8 in PEM.
    pub key_pem: String,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Authority {
    /// A new authority (ECDSA P-256), valid from 1975 to 4096.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name = named("Test authority");
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM: what others are to trust.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// A server certificate for these DNS names and addresses.
    pub fn server(&self, names: &[&str]) -> Identity {
        self.issue(names, "Test server", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A client certificate with this common name (also its DNS name).
    pub fn client(&self, name: &str) -> Identity {
        self.issue(&[name], name, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issue(&self, names: &[&str], common: &str, usage: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = end_entity(names, common, usage);
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity::of(&certificate, &key)
    }

    /// A client's view: trusts this authority only, shows `identity` when asked, offers these ALPN protocols.
    pub fn client_config(&self, identity: Option<&Identity>, alpn: &[&str]) -> Arc<ClientConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match identity {
            Some(identity) => {
                // Whether certificate and key belong together is the server's to find out.
                let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&identity.key()).unwrap();
                let certified = Arc::new(CertifiedKey::new(identity.chain(), key));
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).unwrap();
        roots
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Identity {
    /// A client certificate nobody vouches for, with this common name.
    pub fn self_signed(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = end_entity(&[name], name, ExtendedKeyUsagePurpose::ClientAuth);
        Self::of(&params.self_signed(&key).unwrap(), &key)
    }

    fn of(certificate: &Certificate, key: &KeyPair) -> Self {
        Self {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        }
    }

    /// The certificate in DER.
    pub fn der(&self) -> &[u8] {
        &self.certificate
    }

    /// What a token bound to it says as `cnf["x5t#S256"]` (RFC 8705 section 3.1).
    pub fn thumbprint(&self) -> String {
        b64(digest(&SHA256, &self.certificate))
    }

    /// What a trusted proxy says in `Client-Cert` (RFC 9440 section 2.2).
    pub fn client_cert_header(&self) -> String {
        format!(":{}:", STANDARD.encode(&self.certificate))
    }

    /// With the key of another: a certificate shown without owning it.
    #[must_use]
    pub fn with_key_of(mut self, other: &Self) -> Self {
        self.key.clone_from(&other.key);
        self.key_pem.clone_from(&other.key_pem);
        self
    }

    /// A server's view: shows this identity (HTTP/1.1 by ALPN); with an authority, asks for a certificate by it.
    pub fn server_config(&self, clients_by: Option<&Authority>) -> Arc<ServerConfig> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients_by {
            Some(authority) => {
                let roots = Arc::new(authority.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
                builder.with_client_cert_verifier(verifier)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(self.chain(), self.key()).unwrap();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }

    fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.certificate.clone()]
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.clone()))
    }
}

fn end_entity(names: &[&str], common: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name = named(common);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params
}

fn named(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_of_its_own_has_another_thumbprint_each_time() {
        let (one, other) = (Identity::self_signed("batch"), Identity::self_signed("batch"));
        assert_ne!(one.thumbprint(), other.thumbprint());
        assert_eq!(one.thumbprint().len(), 43);
        assert!(one.client_cert_header().starts_with(":MII") && one.client_cert_header().ends_with(':'));
    }
}
