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
pub mod export;
mod flood;
mod follower;
mod frame;
mod fresh;
mod growing;
mod hold;
mod journal;
mod json;
pub mod keys;
mod log;
pub mod note;
mod people;
mod queue;
mod reader;
mod recorder;
mod ring;
mod segments;
pub mod tile;
pub mod tree;
pub mod verify;

pub use error::{AppendError, LogError};
pub use follower::Announce;
pub use frame::{Frame, SegmentHeader};
pub use hold::{DIR, Held, hold};
pub use json::Object;
pub use log::{Log, Options, Status, VERIFIER};
pub use people::{BoxFuture, KeyError, Sender, SubjectKey, SubjectKeys, Whom};
pub use queue::Ack;
pub use reader::Reader;
pub use recorder::{Begun, Ended, Event, Failed, HoldLine, Moved, Recorder, SCHEMA, SettledLine};
pub use ring::Signers;
