//! `secret runtime ...`.

use clap::{Args, Subcommand};

use super::{NamedArgs, StateArgs};

/// `secret runtime ...`
#[derive(Debug, Subcommand)]
pub enum RuntimeSecretCommand {
    /// Keep the value on standard input as the newest version; the versions before it end
    Set(RuntimeValueArgs),
    /// List runtime secrets with the use of each version; never values
    List(StateArgs),
    /// Keep the new value on standard input; the version before stays known for the overlap [default: 1h]
    Rotate(RuntimeValueArgs),
    /// End the versions older than the one in force now, or one that is named, and forget the value
    Retire {
        /// The secret's name
        name: String,
        /// Which version [default: all that are older than the one in force]
        #[arg(long, value_name = "NUMBER")]
        version: Option<u64>,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Forget all values of a runtime secret
    Delete(NamedArgs),
}

/// Options of `secret runtime set` and `rotate`.
#[derive(Debug, Clone, Args)]
pub struct RuntimeValueArgs {
    /// The secret's name: that of a [[runtime_secret]]
    pub name: String,
    /// For how long the versions before it stay known once it is in force: 1h
    #[arg(long, value_name = "DURATION")]
    pub overlap: Option<String>,
    /// After how long it is in force: 10m [default: at once]
    #[arg(long, value_name = "DURATION")]
    pub after: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
