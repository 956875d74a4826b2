//! What a sealed value is bound to, and what keys are derived for.

use base::Tenant;

use crate::KeyId;

/// What a sealed value is. Each purpose has its own wrapping key, so that one kind never opens as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A secret an operator gave us: a provider's key, an upstream's key, an issuer's shared secret.
    Secret,
    /// The private half of one of our token signing keys.
    SigningKey,
    /// The answer to an admin request, kept for its `Idempotency-Key`: it may show a new credential.
    Answer,
    /// The refresh token that follows a rotated one, kept for the moment in which the old one may be sent again.
    Successor,
    /// What a one-time credential of the token service stands for: an authorization code, a pushed request, a device
    /// code, a sign-in under way.
    Grant,
    /// An upload under way at a provider, and who began it: it stands in the address that the pieces are sent to.
    Upload,
    /// The key of a backup.
    Backup,
    /// The private half of the key the audit log's checkpoints are signed with.
    AuditKey,
    /// The key under which what the audit log says of one subject can be read.
    AuditSubject,
    /// The private half of a key that signs what apps are told.
    ConfigKey,
    /// A runtime secret that is put into requests here and never given to a device.
    RuntimeSecret,
    /// A runtime secret that may be given to devices.
    DeliveredSecret,
    /// What hashed credentials under a master key that is not held any more.
    HashKeys,
    /// What hashes that outlast master keys are made with.
    LastingHashKey,
    /// A receipt of App Attest.
    Receipt,
}

impl Purpose {
    /// In the order they are declared in: keys are found by it.
    pub(crate) const ALL: [Self; 15] = [
        Self::Secret,
        Self::SigningKey,
        Self::Answer,
        Self::Successor,
        Self::Grant,
        Self::Upload,
        Self::Backup,
        Self::AuditKey,
        Self::AuditSubject,
        Self::ConfigKey,
        Self::RuntimeSecret,
        Self::DeliveredSecret,
        Self::HashKeys,
        Self::LastingHashKey,
        Self::Receipt,
    ];

    /// The stable name that goes into key derivation and associated data.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::SigningKey => "signing-key",
            Self::Answer => "answer",
            Self::Successor => "successor",
            Self::Grant => "grant",
            Self::Upload => "upload",
            Self::Backup => "backup",
            Self::AuditKey => "audit-key",
            Self::AuditSubject => "audit-subject",
            Self::ConfigKey => "config-key",
            Self::RuntimeSecret => "runtime-secret",
            Self::DeliveredSecret => "delivered-secret",
            Self::HashKeys => "hash-keys",
            Self::LastingHashKey => "lasting-hash-key",
            Self::Receipt => "receipt",
        }
    }
}

/// What a keyed hash is for. The same bytes hash differently for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HashPurpose {
    /// A Vouchgate key (`vg_...`).
    ApiKey,
    /// A client's secret for the token endpoint.
    ClientSecret,
    /// An admin API token (`vga_...`).
    AdminToken,
    /// What is shown of a secret that is never shown.
    Fingerprint,
    /// A refresh token.
    RefreshToken,
    /// A one-time credential of the token service: an authorization code, a device code, a `request_uri`, a state.
    Code,
    /// What several nodes derive a key of their own from, each for a purpose it names.
    Shared,
    /// By which the audit log's key of a subject is found.
    AuditSubject,
    /// What the audit log says of a value it never holds: a secret, the body of a change.
    AuditValue,
    /// A nonce that an app's evidence is made over, and work that browsers do.
    AttestNonce,
    /// What somebody else calls a device: kept only so, and for each app another.
    Device,
}

impl HashPurpose {
    /// In the order they are declared in: keys are found by it. New ones come last, since written keys have it too.
    pub(crate) const ALL: [Self; 11] = [
        Self::ApiKey,
        Self::ClientSecret,
        Self::AdminToken,
        Self::Fingerprint,
        Self::RefreshToken,
        Self::Code,
        Self::Shared,
        Self::AuditSubject,
        Self::AuditValue,
        Self::AttestNonce,
        Self::Device,
    ];

    /// The stable name that goes into key derivation.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api-key",
            Self::ClientSecret => "client-secret",
            Self::AdminToken => "admin-token",
            Self::Fingerprint => "fingerprint",
            Self::RefreshToken => "refresh-token",
            Self::Code => "code",
            Self::Shared => "shared",
            Self::AuditSubject => "audit-subject",
            Self::AuditValue => "audit-value",
            Self::AttestNonce => "attest-nonce",
            Self::Device => "device",
        }
    }

    /// Whether such a hash is kept to be compared with later ones, and so must stay what it is when the master key is
    /// replaced. Credentials are not among them: who shows one is looked up by the hash under every key.
    pub const fn lasts(self) -> bool {
        matches!(self, Self::Fingerprint | Self::AuditValue | Self::Device)
    }
}

/// Everything a sealed value is bound to; it opens only under an equal label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label<'a> {
    /// Whose value it is.
    pub tenant: &'a Tenant,
    /// What it is.
    pub purpose: Purpose,
    /// Its name: a secret's name, a signing key's `kid`.
    pub name: &'a str,
    /// Which version of that name, from 1.
    pub version: u64,
    /// The origin (`https://api.openai.com`) it may be sent to, when it is for one.
    pub origin: Option<&'a str>,
}

impl<'a> Label<'a> {
    /// A label with no origin.
    pub const fn new(tenant: &'a Tenant, purpose: Purpose, name: &'a str, version: u64) -> Self {
        Self { tenant, purpose, name, version, origin: None }
    }

    /// The same label, bound to an origin as well.
    pub const fn origin(self, origin: Option<&'a str>) -> Self {
        Self { origin, ..self }
    }

    pub(crate) fn wrap_data(&self, key: KeyId) -> Vec<u8> {
        self.associated_data(b"vouchgate vault v1 data key", key)
    }

    pub(crate) fn body_data(&self, key: KeyId) -> Vec<u8> {
        self.associated_data(b"vouchgate vault v1 body", key)
    }

    /// Each field with its length before it, so that no two labels give the same bytes.
    fn associated_data(&self, domain: &[u8], key: KeyId) -> Vec<u8> {
        // Eight lengths, and what usually stands between them.
        let mut out = Vec::with_capacity(256);
        let mut field = |bytes: &[u8]| {
            out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
            out.extend_from_slice(bytes);
        };
        field(domain);
        field(key.as_bytes());
        field(self.tenant.as_str().as_bytes());
        field(self.purpose.as_str().as_bytes());
        field(self.name.as_bytes());
        field(&self.version.to_be_bytes());
        match self.origin {
            None => field(b"any"),
            Some(origin) => {
                field(b"only");
                field(origin.as_bytes());
            }
        }
        out
    }
}
