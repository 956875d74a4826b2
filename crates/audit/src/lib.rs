//! The audit log: what happened, in an order that nobody can change afterwards without being found out.
//!
//! Entries go into a journal ([`Log`]): appended, and made durable for all who wait together. From the journal a Merkle tree
//! (RFC 6962) grows, kept as tiles (c2sp.org/tlog-tiles) beside the entries; a checkpoint of it (c2sp.org/tlog-checkpoint) is
//! signed every few seconds. Whoever holds a checkpoint can tell whether the log still says what it said then.
//!
//! What reads and verifies ([`tree`], [`note`], [`checkpoint`], [`tile`]) does no input or output.

pub mod checkpoint;
pub mod disk;
mod error;
mod follower;
mod frame;
mod growing;
mod hold;
mod journal;
mod log;
pub mod note;
mod queue;
mod reader;
mod segments;
pub mod tile;
pub mod tree;

pub use error::{AppendError, LogError};
pub use follower::Announce;
pub use frame::{Frame, SegmentHeader};
pub use hold::{DIR, Held, hold};
pub use log::{Log, Options, Status, VERIFIER};
pub use queue::Ack;
pub use reader::Reader;
