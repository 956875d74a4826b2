//! Vouchgate, the product: configuration, wiring, listeners and commands.

pub mod cli;
pub mod dev;
pub mod doctor;
pub mod listen;
pub mod log;
pub mod preflight;
pub mod public;
pub mod references;
pub mod serve;
pub mod server;
pub mod tasks;
pub mod wire;
