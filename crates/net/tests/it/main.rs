//! The way out, against real sockets on loopback.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // a test may fail

mod exchange;
mod fetch;
mod online;
mod reach;
mod support;
mod tls;
mod upgrade;
