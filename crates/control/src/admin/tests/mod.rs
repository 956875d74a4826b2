//! The admin API from outside.

mod budgets;
mod catalogue;
mod clients;
mod credentials;
mod idempotency;
mod matrix;
mod resources;
mod revocations;
mod runtime_secrets;
mod usage;
