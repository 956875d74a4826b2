//! Vouchgate, the product: configuration, wiring, listeners and commands.

pub mod dev;
pub mod listen;
pub mod log;
pub mod references;
pub mod tasks;
