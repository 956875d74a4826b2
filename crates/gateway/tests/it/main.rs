//! The data plane in process, before a mock provider on loopback.

#![allow(unreachable_pub, reason = "a test binary has no outside")]

mod edge;
mod harness;
mod inference;
mod limits;
mod native;
mod proxy;
mod service;
