//! `admin ...`.

use clap::{Subcommand, ValueEnum};

use super::{NamedArgs, StateArgs};

/// `admin ...`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// The bearer tokens (vga_...) of the admin API
    #[command(subcommand)]
    Token(AdminTokenCommand),
}

/// `admin token ...`
#[derive(Debug, Subcommand)]
pub enum AdminTokenCommand {
    /// Make a token; it is shown once
    Create {
        /// The token's name
        name: String,
        /// What its bearer may do
        #[arg(long, value_enum)]
        role: RoleArg,
        /// How long it lives [default: 90d]
        #[arg(long, value_name = "DURATION")]
        expires: Option<String>,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// List the tokens
    List(StateArgs),
    /// Refuse a token from now on
    Revoke(NamedArgs),
}

/// The roles of the admin API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleArg {
    /// Everything, admin tokens included
    Owner,
    /// Resources, clients, keys and secrets
    Operator,
    /// Reads everything, changes nothing
    Auditor,
    /// Reads the configuration only
    Viewer,
}
