//! Why nothing could be reserved.

use std::sync::Arc;

use base::{Timestamp, Who};

use super::window::Unit;
use crate::StoreError;

/// Why nothing could be reserved. Nothing is held then, of any account.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReserveError {
    /// A budget has not enough left.
    #[error("the budget {budget:?} has not enough left")]
    Exhausted {
        /// Its name.
        budget: Arc<str>,
        /// What it counts.
        unit: Unit,
        /// Its limit, with what it was raised by.
        limit: i64,
        /// When some of it is free again; never, if it counts over all time.
        resets: Option<Timestamp>,
    },
    /// Nothing could be leased: the store does not answer, or this node has been replaced.
    #[error("the ledger is not available: {0}")]
    Unavailable(#[from] StoreError),
}

impl ReserveError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Exhausted { .. } => "budget_exhausted",
            Self::Unavailable(error) => error.reason(),
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::Exhausted { .. } => Who::Client,
            Self::Unavailable(_) => Who::Us,
        }
    }

    /// Whether the same request may be let in later without anybody changing anything.
    pub const fn retryable(&self) -> bool {
        match self {
            Self::Exhausted { resets, .. } => resets.is_some(),
            Self::Unavailable(error) => error.retryable(),
        }
    }
}
