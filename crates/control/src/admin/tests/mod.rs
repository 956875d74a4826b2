//! The admin API from outside.

mod credentials;
mod idempotency;
mod matrix;
mod resources;
