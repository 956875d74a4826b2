//! `anomaly ...`.

use clap::Subcommand;

use super::StateArgs;

/// `anomaly ...`
#[derive(Debug, Subcommand)]
pub enum AnomalyCommand {
    /// List who is stopped, and who was, newest first
    List(StateArgs),
    /// Let a caller in again; in force when the command returns, on all nodes within 5 seconds
    Restore {
        /// The number, or whom, as `anomaly list` shows it
        which: String,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
}
