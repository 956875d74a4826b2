//! The client against a gateway that says what a test wants.

// The helpers here are not test functions, but they belong to tests as much as those do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod flow;
mod gateway;
mod intercepted;
