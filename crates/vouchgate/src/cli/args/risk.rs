//! `risk ...`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::StateArgs;

/// `risk ...`
#[derive(Debug, Subcommand)]
pub enum RiskCommand {
    /// List what was decided in the last 30 days, counted by what was known of the instances
    Decisions {
        /// Only this app
        #[arg(long, value_name = "APP")]
        app: Option<String>,
        /// From how long ago on (7d), a moment (RFC 3339), or seconds since 1970, in whole days [default: 30d]
        #[arg(long, value_name = "DURATION")]
        since: Option<String>,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Say what the [[risk]] rules of a file would have decided over what was
    Simulate(SimulateArgs),
    /// Give one instance leave for a while, whatever the rules say
    Force(ForcedPassArgs),
    /// List leave that instances have or had, newest first
    Passes(StateArgs),
    /// Take leave back now
    End {
        /// Its id, as `risk passes` shows it
        id: String,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// Options of `risk simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// A configuration file with the rules to ask [default: the file of --config as it is now; without it those in force]
    #[arg(long, value_name = "FILE")]
    pub rules: Option<PathBuf>,
    /// Only this app
    #[arg(long, value_name = "APP")]
    pub app: Option<String>,
    /// From how long ago on (7d), a moment (RFC 3339), or seconds since 1970, in whole days [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub since: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `risk force`.
#[derive(Debug, Clone, Args)]
pub struct ForcedPassArgs {
    /// The app
    pub app: String,
    /// The thumbprint of the instance's key (RFC 7638)
    pub jkt: String,
    /// For how long, at most 30d: 1h, 7d
    #[arg(long = "for", value_name = "DURATION")]
    pub lasts: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
