//! The whole crate from outside: attacks and requirements by their numbers, published vectors, presets, the cache.

// The helpers here are not test functions, but they belong to tests as much as those do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

mod android;
mod android_forged;
mod apple;
mod approov;
mod assertion;
mod attacks;
mod cache;
mod catalogue;
mod device;
mod dpop;
mod evidence;
mod forgeries;
mod fuzz;
mod inspect;
mod issuers;
mod mtls;
mod play;
mod properties;
mod requirements;
mod secevent;
mod signature;
mod simulated;
mod support;
mod vectors;
mod web;
