//! The whole product, tested from outside: over sockets, with real clients, in front of providers that replay what real
//! ones sent.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "this is test code: what goes wrong here has to fail the test on the spot"
)]

mod support;

mod cassettes;

mod admin;
mod anomaly;
mod attacks;
mod attest;
mod audit_disk;
mod audit_keys;
mod audited;
mod backup;
mod bound;
mod browser;
mod caller;
mod canary;
mod database_tls;
mod failures;
mod fleet;
mod fleet_program;
mod fleet_shared;
mod hardening;
mod jose_vectors;
mod lifecycle;
mod money;
mod newcomer;
mod node_tokens;
mod oauth;
mod oauth_clients;
mod packaging;
mod pins;
mod portkey;
mod real;
mod real_model;
mod realtime;
mod recovery;
mod replay;
mod revocation;
mod rotation;
mod sdk;
mod sealed;
mod services;
mod token_service;
mod upgrade;
mod upstream_ca;
mod usage;
mod webhooks;
