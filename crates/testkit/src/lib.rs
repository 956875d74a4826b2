//! Development only: what a test needs around the server under test.
//!
//! - [`mock`]: a provider on a free port of loopback that replays recorded traffic byte for byte, and misbehaves on
//!   demand: stalls, cuts, slow or split bodies, wrong lengths, garbage
//! - [`idp`]: an identity provider with programmable discovery and key set
//! - [`op`]: an `OpenID` provider that signs its user in at once, well or not
//! - [`keys`]: keys of every algorithm and tokens signed with them, well-formed or not
//! - [`dpop`], [`signature`]: a client that proves its key, well or not
//! - [`certs`]: a certificate authority with server and client certificates
//! - [`raw`]: an HTTP/1.1 client that sends exactly the bytes it is given
//! - [`process`]: the real binary as a child process
//! - [`proxy`]: a proxy that does nothing else, to measure against
//! - [`wire`]: a wire to a server that can be stalled or cut
//! - [`intercept`]: somebody between an app and its server who ends TLS with a certificate of their own
//! - [`balancer`]: what stands before several nodes
//!
//! Nothing here sleeps: a test that needs something to be slow holds a [`mock::Gate`]. Everything that waits gives up
//! after [`PATIENCE`] and fails the test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "this is test code: what goes wrong here has to fail the test on the spot"
)]

pub mod balancer;
pub mod certs;
pub mod dpop;
pub mod idp;
pub mod intercept;
pub mod keys;
pub mod mock;
pub mod op;
pub mod process;
pub mod proxy;
pub mod raw;
pub mod s3;
pub mod signature;
pub mod wire;

use std::time::Duration;

/// How long anything here waits for the program under test before it fails the test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Wait for `what`, or fail the test when it takes longer than [`PATIENCE`].
pub async fn patiently<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(done) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("gave up waiting for {what}");
    };
    done
}
