//! The data plane in process, before a mock provider on loopback.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "this is test code, and has no outside: what goes wrong here has to fail the test on the spot"
)]

mod audit;
mod azure;
mod background;
mod bedrock;
mod bound;
mod buckets;
mod budgets;
mod cache;
mod cached;
mod cassettes;
#[path = "../../../llm/tests/it/common/compare.rs"]
mod compare;
#[path = "../../../llm/tests/it/common/converse.rs"]
mod converse;
mod direct;
mod edge;
mod embed;
mod failures;
mod gemini;
mod google;
mod harness;
mod hedging;
mod identity;
mod inference;
mod limits;
mod made;
mod models;
mod native;
mod natives;
mod own_keys;
mod placeholders;
mod provider_limits;
mod proxy;
mod realtime;
mod responses;
mod revoked;
mod routing;
#[path = "../../../llm/tests/it/common/natives.rs"]
mod said;
mod server;
mod service;
mod shadow;
mod slots;
mod throttled;
mod vertex;
