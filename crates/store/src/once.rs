//! What may be used once and must stay used after a restart: client assertions, single-use tokens, security events.

use aws_lc_rs::digest;
use base::Timestamp;

use crate::engine::Connection;
use crate::{Claim, Store, StoreError, UseUp};

/// What is used once. One key can be used once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OneTime {
    /// A client's assertion (RFC 7523): its client and `jti`.
    ClientAssertion,
    /// An access token of a policy with `single_use`: its issuer and `jti`.
    AccessToken,
    /// A security event token (RFC 8417): its transmitter and `jti`.
    SecurityEvent,
    /// A nonce we gave for evidence.
    AttestNonce,
    /// Evidence that is bound to no nonce of ours, or does not say so.
    Evidence,
}

impl OneTime {
    const fn as_str(self) -> &'static str {
        match self {
            Self::ClientAssertion => "assertion",
            Self::AccessToken => "token",
            Self::SecurityEvent => "set",
            Self::AttestNonce => "nonce",
            Self::Evidence => "evidence",
        }
    }
}

/// What may be used once.
#[derive(Debug, Clone, Copy)]
pub struct UsedOnce<'a>(pub(crate) &'a Store);

impl UsedOnce<'_> {
    /// Use what `key` (its parts together: an issuer and a `jti`) names; nobody accepts it from `until` on. Durable once
    /// it returns. Of any number that claim one key at the same time, one is told [`Claim::First`].
    pub async fn claim(self, kind: OneTime, key: &[&str], until: Timestamp) -> Result<Claim, StoreError> {
        let insert = self
            .0
            .sql(
                "INSERT INTO used_once (tenant, kind, hash, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            )
            .bind(kind.as_str())
            .bind(hash(key))
            .bind(until);
        self.0
            .write(move |tx| {
                Box::pin(async move { Ok(if tx.execute(insert).await? == 1 { Claim::First } else { Claim::Seen }) })
            })
            .await
    }

    /// Use up several things in one transaction, in their order, until one of them had been used before: that is told, and those
    /// before it stay used. Durable once it returns.
    pub async fn claim_all(self, all: Vec<UseUp>) -> Result<Option<OneTime>, StoreError> {
        let store = self.0.clone();
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    for one in &all {
                        if !used(&store, tx, one).await? {
                            return Ok(Some(one.kind));
                        }
                    }
                    Ok(None)
                })
            })
            .await
    }

    /// Whether it has been used. What is done twice without harm is done before it is claimed, so that it is not lost in
    /// between.
    pub async fn seen(self, kind: OneTime, key: &[&str]) -> Result<bool, StoreError> {
        let select = self
            .0
            .sql("SELECT 1 FROM used_once WHERE tenant = $1 AND kind = $2 AND hash = $3")
            .bind(kind.as_str())
            .bind(hash(key));
        Ok(!self.0.fetch(select).await?.is_empty())
    }

    /// Forget what nobody accepts any more, at most `limit`; how many there were.
    pub async fn delete_expired(self, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM used_once WHERE tenant = $1 AND (kind, hash) IN
                 (SELECT kind, hash FROM used_once WHERE tenant = $1 AND expires_at <= $2 LIMIT $3)",
            )
            .bind(self.0.now())
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// Use something up within a transaction; whether it was the first time.
pub(crate) async fn used(store: &Store, tx: &mut dyn Connection, one: &UseUp) -> Result<bool, StoreError> {
    let key: Vec<&str> = one.key.iter().map(String::as_str).collect();
    let insert = store
        .sql("INSERT INTO used_once (tenant, kind, hash, expires_at) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING")
        .bind(one.kind.as_str())
        .bind(hash(&key))
        .bind(one.until);
    Ok(tx.execute(insert).await? == 1)
}

/// Each part with its length before it, so that no two keys hash the same bytes.
fn hash(parts: &[&str]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}
