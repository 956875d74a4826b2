//! One-time credentials of the token service: codes, states, pushed requests. The store knows them by their keyed hash;
//! what each stands for is sealed, so that a copy of the database shows neither who signs in nor where.

use std::fmt::Write as _;
use std::time::Duration;

use base::{Secret, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde::de::DeserializeOwned;
use store::{Grant, GrantKind, StoreError, Taken};
use vault::{HashPurpose, Label, Purpose};

use super::{OperationError, Operations};

/// A one-time credential by its hash: what the store and other bodies know it by.
pub(crate) type CodeHash = [u8; 32];

/// What a credential stands for, as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept<T> {
    /// What it stands for.
    pub(crate) body: T,
    /// Under which hash it is kept.
    pub(crate) hash: CodeHash,
    /// Which version of the body it is: [`Operations::grant_replace`] wants it back.
    pub(crate) revision: u64,
    /// From when on it is refused.
    pub(crate) expires_at: Timestamp,
    /// Whether it is used up.
    pub(crate) used: bool,
}

/// What came of using a credential up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Redeemed<T> {
    /// It is yours, and nobody else's any more.
    First(T),
    /// It was used before: a sign of theft.
    AlreadyUsed(T),
    /// Its time is over.
    Expired,
    /// There is none, or no longer.
    Unknown,
}

impl Operations {
    /// A new credential: 256 random bits in base64url.
    pub(crate) fn new_code(&self) -> Secret<String> {
        let mut random = [0u8; 32];
        self.rng.fill(&mut random);
        Secret::new(URL_SAFE_NO_PAD.encode(random))
    }

    /// Keep what a credential stands for until it expires; tells the hash it is kept under. [`StoreError::Exists`] if there
    /// is one like it.
    pub(crate) async fn grant_put<T: Serialize>(
        &self,
        kind: GrantKind,
        code: &str,
        body: &T,
        ttl: Duration,
    ) -> Result<CodeHash, OperationError> {
        let hash = self.vault.keyed_hash(HashPurpose::Code, code.as_bytes());
        let sealed = self.seal_grant(kind, &hash, body)?;
        self.store.grants(kind).put(hash, &sealed, self.clock.now().plus(ttl)).await?;
        Ok(hash)
    }

    /// What a credential stands for, used or not, unless its time is over.
    pub(crate) async fn grant_get<T: DeserializeOwned>(
        &self,
        kind: GrantKind,
        code: &str,
    ) -> Result<Option<Kept<T>>, OperationError> {
        for hash in self.vault.keyed_hashes(HashPurpose::Code, code.as_bytes()) {
            if let Some(kept) = self.grant_of(kind, hash).await? {
                return Ok(Some(kept));
            }
        }
        Ok(None)
    }

    /// The same by its hash.
    pub(crate) async fn grant_of<T: DeserializeOwned>(
        &self,
        kind: GrantKind,
        hash: CodeHash,
    ) -> Result<Option<Kept<T>>, OperationError> {
        let Some(grant) = self.store.grants(kind).get(hash).await? else { return Ok(None) };
        let body = self.open_grant(kind, &hash, &grant)?;
        let used = grant.used_at.is_some();
        Ok(Some(Kept { body, hash, revision: grant.revision, expires_at: grant.expires_at, used }))
    }

    /// Change what a credential stands for, if it is still what was read: [`StoreError::Conflict`] if not.
    pub(crate) async fn grant_replace<T: Serialize>(
        &self,
        kind: GrantKind,
        (hash, revision): (CodeHash, u64),
        body: &T,
    ) -> Result<(), OperationError> {
        let sealed = self.seal_grant(kind, &hash, body)?;
        Ok(self.store.grants(kind).replace(hash, revision, &sealed).await?)
    }

    /// Use a credential up. Of any number that try at once, one is [`Redeemed::First`].
    pub(crate) async fn grant_take<T: DeserializeOwned>(
        &self,
        kind: GrantKind,
        code: &str,
    ) -> Result<Redeemed<T>, OperationError> {
        for hash in self.vault.keyed_hashes(HashPurpose::Code, code.as_bytes()) {
            match self.grant_take_of(kind, hash).await? {
                Redeemed::Unknown => {}
                found => return Ok(found),
            }
        }
        Ok(Redeemed::Unknown)
    }

    /// The same by its hash.
    pub(crate) async fn grant_take_of<T: DeserializeOwned>(
        &self,
        kind: GrantKind,
        hash: CodeHash,
    ) -> Result<Redeemed<T>, OperationError> {
        Ok(match self.store.grants(kind).take(hash).await? {
            Taken::First(grant) => Redeemed::First(self.open_grant(kind, &hash, &grant)?),
            Taken::AlreadyUsed(grant) => Redeemed::AlreadyUsed(self.open_grant(kind, &hash, &grant)?),
            Taken::Expired => Redeemed::Expired,
            Taken::Unknown => Redeemed::Unknown,
        })
    }

    fn seal_grant<T: Serialize>(
        &self,
        kind: GrantKind,
        hash: &CodeHash,
        body: &T,
    ) -> Result<vault::Sealed, OperationError> {
        let text = Secret::new(serde_json::to_vec(body).map_err(|_| StoreError::Row("grant"))?);
        let name = label_name(kind, hash);
        Ok(self.vault.seal(&Label::new(self.store.tenant(), Purpose::Grant, &name, 1), text.expose())?)
    }

    fn open_grant<T: DeserializeOwned>(
        &self,
        kind: GrantKind,
        hash: &CodeHash,
        grant: &Grant,
    ) -> Result<T, OperationError> {
        let name = label_name(kind, hash);
        let text = self.vault.open(&Label::new(self.store.tenant(), Purpose::Grant, &name, 1), &grant.body)?;
        Ok(serde_json::from_slice(text.expose()).map_err(|_| StoreError::Row("grant"))?)
    }
}

/// A body opens only under its own kind and hash.
fn label_name(kind: GrantKind, hash: &CodeHash) -> String {
    let mut name = String::from(kind.as_str());
    name.push('/');
    for byte in hash {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;

    const KIND: GrantKind = GrantKind::Code;
    const MINUTE: Duration = Duration::from_mins(1);

    #[tokio::test]
    async fn a_code_is_used_once_and_its_second_use_is_told_from_an_unknown_one() {
        let fixture = Fixture::new().await;
        let operations = &fixture.operations;
        let code = operations.new_code();
        operations.grant_put(KIND, code.expose(), &"who is meant", MINUTE).await.unwrap();
        assert!(!fixture.stores("who is meant") && !fixture.stores(code.expose()));

        let take = async |kind| operations.grant_take::<String>(kind, code.expose()).await.unwrap();
        assert_eq!(take(GrantKind::Signin).await, Redeemed::Unknown, "another kind");
        assert_eq!(take(KIND).await, Redeemed::First("who is meant".to_owned()));
        assert_eq!(take(KIND).await, Redeemed::AlreadyUsed("who is meant".to_owned()));
        let other = operations.grant_take::<String>(KIND, "another").await.unwrap();
        assert_eq!(other, Redeemed::Unknown);
    }

    #[tokio::test]
    async fn a_body_changes_only_if_it_is_still_what_was_read_and_is_gone_when_it_expires() {
        let fixture = Fixture::new().await;
        let operations = &fixture.operations;
        let hash = operations.grant_put(GrantKind::Device, "d", &1, MINUTE).await.unwrap();
        let kept = operations.grant_get::<u32>(GrantKind::Device, "d").await.unwrap().unwrap();
        assert_eq!((kept.body, kept.hash, kept.used), (1, hash, false));
        let at = (kept.hash, kept.revision);
        operations.grant_replace(GrantKind::Device, at, &2).await.unwrap();
        assert!(operations.grant_replace(GrantKind::Device, at, &3).await.is_err());
        assert_eq!(operations.grant_of::<u32>(GrantKind::Device, hash).await.unwrap().unwrap().body, 2);

        fixture.clock.advance(MINUTE);
        assert_eq!(operations.grant_get::<u32>(GrantKind::Device, "d").await.unwrap(), None);
        assert_eq!(operations.grant_take::<u32>(GrantKind::Device, "d").await.unwrap(), Redeemed::Expired);
    }
}
