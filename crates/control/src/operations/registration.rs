//! A client as the token service knows it: how it proves who it is, and what it may ask for and how.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::Name;
use config::{Algorithm, ClientAuth, ClientKeys, Grant, HttpUrl, RedirectUri, Requirement, TlsRule};
use proof::jose::{Alg, KeySet};
use proof::mtls::{ClientCertificate, DistinguishedName, TlsClientRule};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::credential::FileHash;

/// The most certificates a client may register.
const MAX_CERTIFICATES: usize = 16;

/// A client as the token service knows it, wherever it is registered.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Its name, which is its `client_id`.
    pub name: Name,
    /// The scopes it may ask for.
    pub scopes: Vec<String>,
    /// How long its tokens live.
    pub token_ttl: Duration,
    /// Whether it is refused.
    pub disabled: bool,
    /// How it proves who it is.
    pub auth: Authentication,
    /// The grants it may use.
    pub grants: Vec<Grant>,
    /// Where people come back to after signing in.
    pub redirect_uris: Vec<RedirectUri>,
    /// What it must always do.
    pub require: Vec<Requirement>,
    /// Issuers, by name, whose tokens it may exchange.
    pub exchange: Vec<Name>,
    /// Whether it may ask about tokens that were issued to others.
    pub introspect: bool,
    pub(super) file_hash: Option<FileHash>,
    pub(super) keyed_hashes: Vec<[u8; 32]>,
}

impl Registration {
    /// Whether it may use the grant.
    pub fn allows(&self, grant: Grant) -> bool {
        self.grants.contains(&grant)
    }

    /// Whether it must always do this.
    pub fn requires(&self, requirement: Requirement) -> bool {
        self.require.contains(&requirement)
    }

    /// Whether anybody can say to be it: an app that can keep no secret.
    pub fn is_public(&self) -> bool {
        matches!(self.auth, Authentication::Public)
    }
}

/// How a client proves who it is at the token endpoint.
#[derive(Debug, Clone)]
pub enum Authentication {
    /// It cannot: an administrator mints its tokens, or what it is registered with cannot be read.
    Nothing,
    /// A secret.
    Secret,
    /// Assertions signed with its own key (RFC 7523).
    PrivateKeyJwt {
        /// Its keys.
        keys: RegisteredKeys,
        /// What it may sign with.
        algorithms: Vec<Alg>,
    },
    /// A certificate of an authority we trust (RFC 8705 section 2.1).
    Tls(TlsClientRule),
    /// One of its own certificates (RFC 8705 section 2.2), by SHA-256 of the DER form.
    SelfSignedTls(Vec<[u8; 32]>),
    /// By attestation, at the app's endpoints: not here.
    Attestation,
    /// Not at all: a public client.
    Public,
}

impl Authentication {
    /// The name in OAuth metadata (RFC 8414); for secrets, in our configuration.
    pub const fn method(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Secret => "client_secret",
            Self::PrivateKeyJwt { .. } => "private_key_jwt",
            Self::Tls(_) => "tls_client_auth",
            Self::SelfSignedTls(_) => "self_signed_tls_client_auth",
            Self::Attestation => "attestation",
            Self::Public => "none",
        }
    }
}

/// Where the keys are that a client signs its assertions with.
#[derive(Debug, Clone)]
pub enum RegisteredKeys {
    /// Here.
    Set(Arc<KeySet>),
    /// To be fetched.
    Url {
        /// From where.
        url: HttpUrl,
        /// Whether it may lie on loopback or a private network.
        allow_private: bool,
    },
}

/// How a client made through the admin API proves who it is: what stands there, and in the database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "method", rename_all = "snake_case", deny_unknown_fields)]
pub enum AuthForm {
    /// A secret, which we make and show once.
    ClientSecret {},
    /// A JWT signed with a key of its own (RFC 7523 section 2.2). Exactly one of `jwks` and `jwks_url`.
    PrivateKeyJwt {
        /// Its public keys: a JWK Set.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks: Option<Value>,
        /// Its public keys, at a URL.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        jwks_url: Option<HttpUrl>,
        /// Accepted signature algorithms. Absent: RS256, PS256, ES256, ES384 and `EdDSA`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        algorithms: Vec<Algorithm>,
        /// Allow its keys to be fetched from loopback and private addresses.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_private: bool,
    },
    /// A certificate of an authority we trust (RFC 8705 section 2.1). Exactly one member says what must stand in it.
    TlsClientAuth {
        /// The subject, as text (RFC 4514): `CN=batch,O=Example`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        subject_dn: Option<String>,
        /// A DNS name among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_dns: Option<String>,
        /// A URI among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_uri: Option<String>,
        /// An IP address among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_ip: Option<IpAddr>,
        /// A mail address among its alternative names.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        san_email: Option<String>,
    },
    /// One of its own certificates, whoever signed it (RFC 8705 section 2.2).
    SelfSignedTlsClientAuth {
        /// The certificates, one or more, in PEM.
        certificate: String,
    },
    /// By attestation: what the app of this name may ask for besides.
    Attestation {},
    /// Not at all: a public client, such as an app, which can keep no secret.
    None {},
}

/// What a client may do at the token service and how, as the admin API takes it and the database keeps it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClientForm {
    /// How it proves who it is. Absent: with a secret, which we make.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthForm>,
    /// The grants it may use. Absent: `client_credentials`, unless it is a public client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grants: Option<Vec<Grant>>,
    /// Where people come back to after signing in, compared byte by byte.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirect_uris: Vec<RedirectUri>,
    /// What it must always do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// Issuers, by name, whose tokens it may exchange for ours.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<String>")]
    pub exchange: Vec<Name>,
    /// Let it ask about tokens that were issued to others.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub introspect: bool,
}

impl ClientForm {
    /// Whether it proves who it is with a secret.
    pub fn has_secret(&self) -> bool {
        matches!(self.auth, None | Some(AuthForm::ClientSecret {}))
    }

    /// The grants in force.
    pub(super) fn grants(&self) -> Vec<Grant> {
        match (&self.grants, &self.auth) {
            (Some(grants), _) => grants.clone(),
            (None, Some(AuthForm::None {} | AuthForm::Attestation {})) => Vec::new(),
            (None, _) => vec![Grant::ClientCredentials],
        }
    }

    /// How it proves who it is, read; or what cannot be.
    pub(super) fn authentication(&self) -> Result<Authentication, String> {
        match &self.auth {
            None | Some(AuthForm::ClientSecret {}) => Ok(Authentication::Secret),
            Some(AuthForm::Attestation {}) => Ok(Authentication::Attestation),
            Some(AuthForm::None {}) => Ok(Authentication::Public),
            Some(AuthForm::PrivateKeyJwt { jwks, jwks_url, algorithms, allow_private }) => {
                let keys = match (jwks, jwks_url) {
                    (Some(jwks), None) => keys_in(jwks.to_string().as_bytes())?,
                    (None, Some(url)) => RegisteredKeys::Url { url: url.clone(), allow_private: *allow_private },
                    _ => return Err("give exactly one of jwks and jwks_url".to_owned()),
                };
                Ok(Authentication::PrivateKeyJwt { keys, algorithms: assertion_algorithms(algorithms)? })
            }
            Some(AuthForm::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email }) => {
                let auth = ClientAuth::TlsClientAuth {
                    subject_dn: subject_dn.clone(),
                    san_dns: san_dns.clone(),
                    san_uri: san_uri.clone(),
                    san_ip: *san_ip,
                    san_email: san_email.clone(),
                };
                tls_rule(&auth).map(Authentication::Tls)
            }
            Some(AuthForm::SelfSignedTlsClientAuth { certificate }) => {
                certificates_in(certificate.as_bytes()).map(Authentication::SelfSignedTls)
            }
        }
    }
}

impl ClientForm {
    /// The client as the configuration file would have it, for the file's checks: what is given here in place of a file is
    /// a file's name there.
    pub(super) fn in_a_file(&self, name: &Name, scopes: &[String]) -> Value {
        let given = || Some("given".into());
        let auth = match &self.auth {
            // Of the form that hashes have.
            None | Some(AuthForm::ClientSecret {}) => {
                ClientAuth::ClientSecret { hash: format!("sha256:{}", "A".repeat(43)) }
            }
            Some(AuthForm::Attestation {}) => ClientAuth::Attestation {},
            Some(AuthForm::None {}) => ClientAuth::None,
            Some(AuthForm::PrivateKeyJwt { jwks, jwks_url, algorithms, allow_private }) => ClientAuth::PrivateKeyJwt {
                jwks_file: jwks.as_ref().and_then(|_| given()),
                jwks_url: jwks_url.clone(),
                algorithms: algorithms.clone(),
                allow_private: *allow_private,
            },
            Some(AuthForm::TlsClientAuth { subject_dn, san_dns, san_uri, san_ip, san_email }) => {
                ClientAuth::TlsClientAuth {
                    subject_dn: subject_dn.clone(),
                    san_dns: san_dns.clone(),
                    san_uri: san_uri.clone(),
                    san_ip: *san_ip,
                    san_email: san_email.clone(),
                }
            }
            Some(AuthForm::SelfSignedTlsClientAuth { .. }) => {
                ClientAuth::SelfSignedTlsClientAuth { certificate: "given".into() }
            }
        };
        let mut client = json!({
            "name": name, "scopes": scopes, "auth": auth, "redirect_uris": self.redirect_uris, "require": self.require,
            "exchange": self.exchange, "introspect": self.introspect,
        });
        if let (Some(client), Some(grants)) = (client.as_object_mut(), &self.grants) {
            client.insert("grants".to_owned(), json!(grants));
        }
        client
    }
}

/// How a client of the configuration file proves who it is, as it is shown: without the hash of its secret.
pub(super) fn shown(auth: &ClientAuth) -> Value {
    let mut shown = serde_json::to_value(auth).unwrap_or_default();
    if let Some(shown) = shown.as_object_mut() {
        shown.remove("hash");
    }
    shown
}

/// How a client of the configuration file proves who it is. Reads the files it names.
pub(super) fn from_file(auth: &ClientAuth) -> Result<Authentication, String> {
    match auth {
        ClientAuth::ClientSecret { .. } => Ok(Authentication::Secret),
        ClientAuth::Attestation {} => Ok(Authentication::Attestation),
        ClientAuth::None => Ok(Authentication::Public),
        ClientAuth::PrivateKeyJwt { .. } => {
            let keys = match auth.keys().ok_or("exactly one of jwks_file and jwks_url is needed")? {
                ClientKeys::File(path) => keys_in(&read(path)?)?,
                ClientKeys::Url { url, allow_private } => RegisteredKeys::Url { url: url.clone(), allow_private },
            };
            Ok(Authentication::PrivateKeyJwt { keys, algorithms: assertion_algorithms(auth.assertion_algorithms())? })
        }
        ClientAuth::TlsClientAuth { .. } => tls_rule(auth).map(Authentication::Tls),
        ClientAuth::SelfSignedTlsClientAuth { certificate } => {
            certificates_in(&read(certificate)?).map(Authentication::SelfSignedTls)
        }
    }
}

/// What keeps a client of the configuration file from proving who it is: a file that cannot be read or used.
pub fn client_auth_fault(auth: &ClientAuth) -> Option<String> {
    from_file(auth).err()
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn keys_in(text: &[u8]) -> Result<RegisteredKeys, String> {
    let set = KeySet::from_issuer_file(text).map_err(|error| error.to_string())?;
    if set.keys().is_empty() {
        let why = set.rejected().first().map_or_else(String::new, |key| format!(": {}", key.error));
        return Err(format!("the key set has no usable key{why}"));
    }
    Ok(RegisteredKeys::Set(Arc::new(set)))
}

fn assertion_algorithms(given: &[Algorithm]) -> Result<Vec<Alg>, String> {
    let given = if given.is_empty() { Algorithm::PUBLIC_DEFAULTS } else { given };
    let alg = |algorithm: &Algorithm| match Alg::from_name(algorithm.as_str()) {
        Some(alg) if !alg.is_symmetric() => Ok(alg),
        _ => Err(format!("{} is not for a client's own keys", algorithm.as_str())),
    };
    given.iter().map(alg).collect()
}

fn tls_rule(auth: &ClientAuth) -> Result<TlsClientRule, String> {
    Ok(match auth.tls_rule().ok_or("give exactly one of subject_dn, san_dns, san_uri, san_ip and san_email")? {
        TlsRule::SubjectDn(dn) => {
            let name = DistinguishedName::parse(dn).map_err(|error| error.to_string())?;
            if name.is_empty() {
                return Err("an empty subject_dn fits certificates that say nothing".to_owned());
            }
            TlsClientRule::SubjectDn(name)
        }
        TlsRule::SanDns(name) => TlsClientRule::SanDns(name.to_owned()),
        TlsRule::SanUri(uri) => TlsClientRule::SanUri(uri.to_owned()),
        TlsRule::SanIp(ip) => TlsClientRule::SanIp(ip),
        TlsRule::SanEmail(email) => TlsClientRule::SanEmail(email.to_owned()),
    })
}

fn certificates_in(pem: &[u8]) -> Result<Vec<[u8; 32]>, String> {
    let mut thumbprints = Vec::new();
    for der in CertificateDer::pem_slice_iter(pem) {
        let der = der.map_err(|_| "not certificates in PEM")?;
        let certificate = ClientCertificate::parse(&der).map_err(|error| error.to_string())?;
        thumbprints.push(*certificate.thumbprint());
        if thumbprints.len() > MAX_CERTIFICATES {
            return Err(format!("at most {MAX_CERTIFICATES} certificates"));
        }
    }
    if thumbprints.is_empty() { Err("there is no certificate in PEM".to_owned()) } else { Ok(thumbprints) }
}
