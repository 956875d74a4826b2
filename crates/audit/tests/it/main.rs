//! The log as a whole: on a real disk, and on one that fails or loses its power at any moment.
#![allow(clippy::cast_possible_truncation, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

mod disk;
mod failures;
mod fuzz;
mod journal;
mod keys;
mod tampered;
