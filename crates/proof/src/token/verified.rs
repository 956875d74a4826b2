//! What a verified token says.

use std::fmt;
use std::sync::Arc;

use base::{Name, Timestamp};
use serde_json::Value;

use crate::jose::{JsonObject, VerifyingKey, base64url_encode};

/// A token whose signature and claims held when it was verified. Only [`Issuers::verify`](super::Issuers::verify) makes one,
/// and it checks the time again whenever it hands one out.
///
/// ```
/// fn subject(token: &proof::token::VerifiedToken) -> &str {
///     token.subject()
/// }
/// ```
///
/// Nobody else can make one:
///
/// ```compile_fail,E0451
/// fn forge(token: proof::token::VerifiedToken) -> proof::token::VerifiedToken {
///     proof::token::VerifiedToken { subject: "somebody else".to_owned(), ..token }
/// }
/// ```
pub struct VerifiedToken {
    pub(super) issuer: Name,
    pub(super) iss: String,
    pub(super) subject: Arc<str>,
    pub(super) client_id: Option<Arc<str>>,
    pub(super) scopes: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) expires_at: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) jti: Option<String>,
    pub(super) kid: Option<String>,
    pub(super) key_thumbprint: [u8; 32],
    pub(super) confirmation: Option<Confirmation>,
    pub(super) token_hash: [u8; 32],
    pub(super) claims: JsonObject,
    /// Length of the claims as sent: what this costs in the cache.
    pub(super) claims_len: usize,
}

/// The key a token is bound to (`cnf`, RFC 7800): whoever presents the token must prove to hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmation {
    /// Thumbprint of a DPoP key (RFC 9449 section 6.1); where the token holds only the key itself, that key's.
    pub jkt: Option<[u8; 32]>,
    /// SHA-256 of a client certificate (RFC 8705 section 3.1).
    pub x5t_s256: Option<[u8; 32]>,
    /// The key itself (RFC 7800 section 3.2), where the token holds it: its thumbprint is `jkt`. Request signatures
    /// ([`signature`](crate::signature)) need it, since they do not carry their key.
    pub jwk: Option<Arc<VerifyingKey>>,
}

impl VerifiedToken {
    /// The issuer, by the operator's name. With [`VerifiedToken::subject`] the identity; neither is one alone.
    pub fn issuer(&self) -> &Name {
        &self.issuer
    }

    /// The token's `iss`; empty for a shared-secret token without.
    pub fn iss(&self) -> &str {
        &self.iss
    }

    /// The subject.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// [`VerifiedToken::subject`], to be kept.
    pub fn subject_shared(&self) -> &Arc<str> {
        &self.subject
    }

    /// The client the token was issued to.
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// [`VerifiedToken::client_id`], to be kept.
    pub fn client_shared(&self) -> Option<&Arc<str>> {
        self.client_id.as_ref()
    }

    /// Scopes, in the token's order.
    pub fn scopes(&self) -> &[String] {
        &self.scopes
    }

    /// Groups and roles, in the token's order.
    pub fn groups(&self) -> &[String] {
        &self.groups
    }

    /// `exp`.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// `nbf`.
    pub fn not_before(&self) -> Option<Timestamp> {
        self.not_before
    }

    /// `iat`.
    pub fn issued_at(&self) -> Option<Timestamp> {
        self.issued_at
    }

    /// `jti`. A claim, not an identity of the token: two signatures over the same claims share it.
    pub fn jti(&self) -> Option<&str> {
        self.jti.as_deref()
    }

    /// The `kid` of the key that verified the token.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The key the token is bound to. A caller that cannot check it must refuse the token (RFC 9449 section 7.2).
    pub fn cnf(&self) -> Option<&Confirmation> {
        self.confirmation.as_ref()
    }

    /// SHA-256 of the whole token, for DPoP's `ath` and for logs.
    pub fn token_hash(&self) -> &[u8; 32] {
        &self.token_hash
    }

    /// [`VerifiedToken::token_hash`] as base64url (RFC 9449 section 4.2, `ath`).
    pub fn token_hash_text(&self) -> String {
        base64url_encode(self.token_hash)
    }

    /// `sid`: the session the token belongs to (OpenID Connect, RFC 9493).
    pub fn sid(&self) -> Option<&str> {
        self.claims.get("sid").and_then(Value::as_str)
    }

    /// `device_id`: the device the token was issued to.
    pub fn device_id(&self) -> Option<&str> {
        self.claims.get("device_id").and_then(Value::as_str)
    }

    /// Every claim.
    pub fn claims(&self) -> &JsonObject {
        &self.claims
    }
}

/// Says which token it is without saying what is in it: claims are personal data.
impl fmt::Debug for VerifiedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VerifiedToken");
        shown.field("issuer", &self.issuer).field("kid", &self.kid).field("hash", &self.token_hash_text());
        shown.field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}
