//! What requests cost: with each record, in sums by hour and day, and corrected later.
//!
//! A record and its part of the sums are written in one transaction, so that both are there or neither. Records are forgotten
//! after their retention; the sums stay longer. What was charged is never written anew: a correction is an entry of its own, and
//! sums have what was charged and what corrections add to it side by side.

mod charge;
mod correct;
mod read;
mod rollup;

pub use charge::{Basis, Charge};
pub use correct::{Correction, CorrectionEntry, Ratable};
pub use read::{Bucket, Dimension, UsageFilter, UsageRow, UsageSums, UsageTable};
pub(crate) use rollup::upserts;

use crate::Store;

/// How long a period is, in seconds.
const HOUR: i64 = 3600;
const DAY: i64 = 86_400;

/// Usage and cost. They are written with the records, through [`Store::sink`].
#[derive(Debug, Clone, Copy)]
pub struct Usage<'a>(pub(crate) &'a Store);
