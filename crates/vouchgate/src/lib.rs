//! Vouchgate, the product: configuration, wiring, listeners and commands.

pub mod authorities;
pub mod cli;
pub mod dev;
pub mod doctor;
pub mod listen;
pub mod log;
pub mod master_keys;
#[cfg(feature = "otel")]
pub mod otel;
pub mod preflight;
pub mod process;
pub mod public;
pub mod references;
pub mod serve;
pub mod server;
pub mod simulate;
pub mod spans;
pub mod tasks;
pub mod telemetry;
pub mod wire;
