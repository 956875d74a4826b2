//! Refresh tokens, by what is presented.

use store::{Family, RefreshState};
use vault::HashPurpose;

use super::{OperationError, Operations};
use crate::credential::Kind;

/// A refresh token of ours.
#[derive(Debug)]
pub(crate) struct FoundRefreshToken {
    /// The keyed hash it is known by.
    pub(crate) hash: [u8; 32],
    /// Its family.
    pub(crate) family: Family,
    /// Where it is in its life.
    pub(crate) state: RefreshState,
}

impl Operations {
    /// The refresh token with this text, whatever its state; nothing if it is none of ours.
    pub(crate) async fn refresh_token_find(&self, text: &str) -> Result<Option<FoundRefreshToken>, OperationError> {
        if !Kind::RefreshToken.has_form(text) {
            return Ok(None);
        }
        // Under every master key held, newest first.
        for hash in self.vault.keyed_hashes(HashPurpose::RefreshToken, text.as_bytes()) {
            if let Some((family, state)) = self.store.refresh().find(hash).await? {
                return Ok(Some(FoundRefreshToken { hash, family, state }));
            }
        }
        Ok(None)
    }
}
