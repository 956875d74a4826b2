//! From `[[issuer]]` to the verifier of its tokens.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use base::{Name, Secret};
use config::{Algorithm, Issuer, KeySource, Preset, SecretRef};
use net::Reach;
use net::jwks::{Jwks, KeyIssuer, Place};
use proof::jose::{Alg, KeySet, KeySetError};
use proof::token::{self, CacheLimits, ClaimMapping, ClaimPath, IssuerRules, Issuers, RulesError, StaticKeys};
use store::{SecretVersion, Slot, Store, StoreError};
use vault::{Label, Purpose, Vault};

use crate::references::{self, ReferenceError};

/// The largest file of keys.
const MAX_JWKS_FILE: u64 = 1 << 20;

/// Why an issuer's tokens cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// Its rules contradict themselves or those of another.
    #[error(transparent)]
    Rules(#[from] RulesError),
    /// Its key file cannot be read.
    #[error("issuer {issuer}: cannot read {path}: {error}")]
    File {
        /// The issuer.
        issuer: Name,
        /// The file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
    /// Its keys cannot be used.
    #[error("issuer {issuer}: {error}")]
    Keys {
        /// The issuer.
        issuer: Name,
        /// What is wrong with them.
        error: KeySetError,
    },
    /// Its shared secret is not to be had.
    #[error("issuer {issuer}: {error}")]
    Secret {
        /// The issuer.
        issuer: Name,
        /// Why.
        error: ReferenceError,
    },
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It has no single source of keys.
    #[error("issuer {0} needs exactly one of discovery, jwks_url, jwks_file and hs256_secret")]
    Source(Name),
}

/// The shared secrets of issuers that keep theirs in the vault, by the issuer's and the secret's name: the value in use first,
/// then those that stand by while it is replaced.
#[derive(Debug, Default)]
pub(crate) struct Secrets(HashMap<(Name, Name), Vec<Secret<Vec<u8>>>>);

impl Secrets {
    /// Open what the issuers refer to. One that does not open, or that was set to be sent somewhere, is left out: an issuer
    /// whose secret in use is then has no keys.
    pub(crate) async fn collect(issuers: &[Issuer], store: &Store, vault: &Vault) -> Result<Self, IssuerError> {
        let mut all = HashMap::new();
        for issuer in issuers {
            for reference in issuer.shared_secrets() {
                let SecretRef::Secret(name) = reference else { continue };
                let values = values_of(issuer, name, (store, vault)).await?;
                if !values.is_empty() {
                    all.insert((issuer.name.clone(), name.clone()), values);
                }
            }
        }
        Ok(Self(all))
    }

    fn of(&self, issuer: &Name, secret: &Name) -> &[Secret<Vec<u8>>] {
        self.0.get(&(issuer.clone(), secret.clone())).map(Vec::as_slice).unwrap_or_default()
    }
}

/// The values of a shared secret that can be used, the one in use first; none where that one cannot be.
async fn values_of(
    issuer: &Issuer,
    name: &Name,
    (store, vault): (&Store, &Vault),
) -> Result<Vec<Secret<Vec<u8>>>, IssuerError> {
    let mut versions = store.secrets().versions(name).await?;
    if !versions.iter().any(|version| version.slot == Slot::Current) {
        return Err(IssuerError::Secret { issuer: issuer.name.clone(), error: ReferenceError::Missing(name.clone()) });
    }
    versions.sort_by_key(|version| version.slot != Slot::Current);
    let mut values = Vec::new();
    for version in versions {
        match opened(&version, (store, vault)) {
            Ok(secret) => values.push(secret),
            Err(why) => {
                tracing::error!(issuer = %issuer.name, secret = %name, why, "its shared secret cannot be used");
                if version.slot == Slot::Current {
                    break;
                }
            }
        }
    }
    Ok(values)
}

/// One value of a shared secret.
fn opened(version: &SecretVersion, (store, vault): (&Store, &Vault)) -> Result<Secret<Vec<u8>>, String> {
    if let Some(origin) = &version.origin {
        return Err(format!("it was set to be sent to {origin}; use one of its own"));
    }
    let label = Label::new(store.tenant(), Purpose::Secret, version.name.as_str(), version.version);
    vault.open(&label, &version.sealed).map_err(|error| error.to_string())
}

/// An issuer without keys: its tokens cannot be checked, so they are refused (503).
struct NoKeys;

impl token::KeySource for NoKeys {
    fn keys(&self) -> Option<Arc<KeySet>> {
        None
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// The issuer of our own tokens.
#[derive(Debug)]
pub(crate) struct Own {
    /// The `iss` and `aud` of its tokens: the external URL.
    pub url: String,
    /// The keys it signs and has lately signed with.
    pub keys: KeySet,
}

/// The issuers whose keys are fetched.
pub(crate) fn fetched(issuers: &[Issuer]) -> Vec<KeyIssuer> {
    let place = |issuer: &Issuer| match issuer.key_source()? {
        KeySource::JwksUrl(url) => Some(Place::Jwks(url.url().clone())),
        KeySource::Discovery => issuer.issuer.clone().map(Place::Discovery),
        KeySource::JwksFile(_) | KeySource::SharedSecret(_) => None,
    };
    let reach = |issuer: &Issuer| if issuer.allow_private { Reach::Private } else { Reach::Public };
    issuers
        .iter()
        .filter_map(|issuer| Some(KeyIssuer { name: issuer.name.clone(), place: place(issuer)?, reach: reach(issuer) }))
        .collect()
}

/// Whether the rules of these issuers go together, beside our own at `url`, whatever their keys are.
pub(crate) fn check(url: &str, issuers: &[Issuer]) -> Result<(), RulesError> {
    let keyless = |rules| token::Issuer::new(rules, Arc::new(NoKeys));
    let own = Name::new(config::OWN_NAME).ok();
    let own = own.map(|name| keyless(IssuerRules::own(name, url.to_owned(), vec![url.to_owned()])));
    let all = own.into_iter().chain(issuers.iter().map(|issuer| keyless(rules_of(issuer)))).collect();
    Issuers::new(all, CacheLimits { bytes: 0, refused: 0 }, 0).map(drop)
}

/// The verifier of everybody's tokens: ours first, then those of the configured issuers. `jwks` has been
/// configured with [`fetched`] of the same issuers.
pub(crate) fn compile(
    own: Own,
    (issuers, secrets): (&[Issuer], &Secrets),
    jwks: &Jwks,
    limits: &config::Limits,
    generation: u64,
) -> Result<Issuers, IssuerError> {
    let mut all = Vec::with_capacity(issuers.len() + 1);
    if let Ok(name) = Name::new(config::OWN_NAME) {
        let rules = IssuerRules::own(name, own.url.clone(), vec![own.url]);
        all.push(token::Issuer::new(rules, Arc::new(StaticKeys::new(own.keys))));
    }
    for issuer in issuers {
        all.push(token::Issuer::new(rules_of(issuer), keys_of(issuer, secrets, jwks)?));
    }
    Ok(Issuers::new(all, cache_limits(limits), generation)?)
}

/// `token_cache` counts tokens; the cache counts bytes, of which a usual token takes some 4 KiB.
fn cache_limits(limits: &config::Limits) -> CacheLimits {
    let refused = usize::try_from(limits.token_cache / 10).unwrap_or(0);
    CacheLimits { bytes: u64::from(limits.token_cache) * 4096, refused }
}

/// A file that has gone or a secret that is too weak takes its own issuer out of service and nothing else: a start and a
/// reload have looked before, and a change elsewhere, such as a revocation, must come into force all the same.
fn keys_of(issuer: &Issuer, secrets: &Secrets, jwks: &Jwks) -> Result<Arc<dyn token::KeySource>, IssuerError> {
    let found = match issuer.key_source() {
        Some(KeySource::SharedSecret(_)) => match shared(issuer, secrets) {
            Ok(None) => return Ok(Arc::new(NoKeys)),
            other => other,
        },
        _ => static_keys(issuer),
    };
    match found {
        Ok(Some(keys)) => Ok(Arc::new(StaticKeys::new(keys))),
        Ok(None) => jwks.source(&issuer.name).ok_or_else(|| IssuerError::Source(issuer.name.clone())),
        Err(error) => {
            tracing::error!(issuer = %issuer.name, %error, "its tokens are refused");
            Ok(Arc::new(NoKeys))
        }
    }
}

/// The key of an issuer that shares a secret, with those that stand by while it is replaced; `None` where the one in use is
/// kept in the vault and not among `secrets`.
fn shared(issuer: &Issuer, secrets: &Secrets) -> Result<Option<KeySet>, IssuerError> {
    let mut all: Vec<Secret<Vec<u8>>> = Vec::new();
    for (at, reference) in issuer.shared_secrets().enumerate() {
        match reference {
            SecretRef::Secret(name) => {
                let kept = secrets.of(&issuer.name, name);
                all.extend(kept.iter().map(|secret| Secret::new(secret.expose().clone())));
            }
            other => match references::read(other) {
                Ok(secret) => all.push(super::bytes_of(&secret)),
                Err(error) if at == 0 => return Err(IssuerError::Secret { issuer: issuer.name.clone(), error }),
                // What is used now goes on; a start and a reload have looked before.
                Err(error) => {
                    tracing::error!(issuer = %issuer.name, %error, "the secret that is to follow cannot be read");
                }
            },
        }
        if all.is_empty() {
            return Ok(None);
        }
    }
    let Some((first, others)) = all.split_first() else { return Ok(None) };
    let keys = KeySet::from_secrets(first, others, &algorithms(issuer));
    keys.map(Some).map_err(|error| IssuerError::Keys { issuer: issuer.name.clone(), error })
}

/// The keys of an issuer that has them in a file, or as a shared secret in a file or variable; `None` when they are fetched
/// or kept in the vault.
pub(crate) fn static_keys(issuer: &Issuer) -> Result<Option<KeySet>, IssuerError> {
    let keys_error = |error| IssuerError::Keys { issuer: issuer.name.clone(), error };
    match issuer.key_source().ok_or_else(|| IssuerError::Source(issuer.name.clone()))? {
        KeySource::Discovery | KeySource::JwksUrl(_) => Ok(None),
        KeySource::JwksFile(path) => {
            let text = read_keys(path).map_err(|error| IssuerError::File {
                issuer: issuer.name.clone(),
                path: path.display().to_string(),
                error,
            })?;
            KeySet::from_issuer_file(&text).map(Some).map_err(keys_error)
        }
        KeySource::SharedSecret(_) => {
            for reference in issuer.shared_secrets().filter(|reference| !matches!(reference, SecretRef::Secret(_))) {
                references::read(reference)
                    .map_err(|error| IssuerError::Secret { issuer: issuer.name.clone(), error })?;
            }
            shared(issuer, &Secrets::default())
        }
    }
}

/// The keys in a file.
pub(crate) fn keys_in_file(path: &Path) -> Result<KeySet, String> {
    let text = read_keys(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    KeySet::from_issuer_file(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn read_keys(path: &Path) -> std::io::Result<Vec<u8>> {
    if std::fs::metadata(path)?.len() > MAX_JWKS_FILE {
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, "a key file has at most 1 MiB"));
    }
    std::fs::read(path)
}

/// What an issuer's tokens have to be like.
pub(crate) fn rules_of(issuer: &Issuer) -> IssuerRules {
    let mut rules = if issuer.hs256_secret.is_some() {
        let iss = issuer.issuer.clone();
        IssuerRules {
            issuer: iss,
            audience: issuer.audience.clone(),
            ..IssuerRules::shared_secret(issuer.name.clone())
        }
    } else {
        let iss = issuer.issuer.clone().unwrap_or_default();
        IssuerRules::new(issuer.name.clone(), iss, issuer.audience.clone())
    };
    rules.algorithms = algorithms(issuer);
    if let Some(preset) = issuer.preset {
        rules = rules.with_preset(preset_of(preset));
    }
    map_claims(&mut rules.claims, issuer);
    if let Some(leeway) = issuer.leeway {
        rules.leeway = leeway.duration();
    }
    if let Some(lifetime) = issuer.max_lifetime {
        rules.max_lifetime = Some(lifetime.duration());
    }
    match issuer.typ.as_slice() {
        [] => {}
        // Whoever says so follows RFC 9068, and its other rules are checked too.
        [only] if only.eq_ignore_ascii_case("at+jwt") => rules.typ = token::TypRule::AccessToken,
        several => rules.typ = token::TypRule::one_of(several),
    }
    rules
}

/// What the operator says about claims comes before what the preset says.
fn map_claims(mapping: &mut ClaimMapping, issuer: &Issuer) {
    let claims = &issuer.claims;
    if let Some(subject) = &claims.subject {
        mapping.subject = ClaimPath::new(subject.as_str());
    }
    if let Some(client) = &claims.client {
        mapping.client = vec![ClaimPath::new(client.as_str())];
    }
    if let Some(scope) = &claims.scope {
        mapping.scopes = vec![ClaimPath::new(scope.as_str())];
    }
    if let Some(groups) = &claims.groups {
        mapping.groups = vec![ClaimPath::new(groups.as_str())];
    }
}

/// The configured algorithms. `EdDSA` and its RFC 9864 name are one algorithm to the verifier.
fn algorithms(issuer: &Issuer) -> Vec<Alg> {
    let mut all: Vec<Alg> = Vec::new();
    for algorithm in issuer.algorithms() {
        let alg = match algorithm {
            Algorithm::Rs256 => Alg::Rs256,
            Algorithm::Rs384 => Alg::Rs384,
            Algorithm::Rs512 => Alg::Rs512,
            Algorithm::Ps256 => Alg::Ps256,
            Algorithm::Ps384 => Alg::Ps384,
            Algorithm::Ps512 => Alg::Ps512,
            Algorithm::Es256 => Alg::Es256,
            Algorithm::Es384 => Alg::Es384,
            Algorithm::Es512 => Alg::Es512,
            Algorithm::EdDsa | Algorithm::Ed25519 => Alg::EdDsa,
            Algorithm::Hs256 => Alg::Hs256,
            Algorithm::Hs384 => Alg::Hs384,
            Algorithm::Hs512 => Alg::Hs512,
            Algorithm::MlDsa44 => Alg::MlDsa44,
            Algorithm::MlDsa65 => Alg::MlDsa65,
        };
        if !all.contains(&alg) {
            all.push(alg);
        }
    }
    all
}

const fn preset_of(preset: Preset) -> token::Preset {
    match preset {
        Preset::Auth0 => token::Preset::Auth0,
        Preset::Okta => token::Preset::Okta,
        Preset::Entra => token::Preset::Entra,
        Preset::Keycloak => token::Preset::Keycloak,
        Preset::Firebase => token::Preset::Firebase,
        Preset::Cognito => token::Preset::Cognito,
        Preset::Google => token::Preset::Google,
    }
}
