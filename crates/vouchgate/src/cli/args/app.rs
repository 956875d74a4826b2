//! `app ...`, `device ...` and `arc ...`.

use clap::{Args, Subcommand};

use super::{NamedArgs, StateArgs};

/// `app ...`
#[derive(Debug, Subcommand)]
pub enum AppCommand {
    /// List the apps of the configuration file and of the admin API
    List(StateArgs),
    /// Show one app
    Show(NamedArgs),
}

/// `device ...`
#[derive(Debug, Subcommand)]
pub enum DeviceCommand {
    /// List installations
    List(DeviceListArgs),
    /// Show one installation
    Show(NamedArgs),
    /// Refuse an installation until it is released; in force when the command returns, on all nodes within 5 seconds
    Quarantine(ChangeArgs),
    /// Let an installation that is quarantined have tokens again
    Release(ChangeArgs),
    /// Refuse an installation for good; in force when the command returns, on all nodes within 5 seconds
    Revoke(ChangeArgs),
    /// Forget an installation; its tokens end
    Delete(NamedArgs),
}

/// Options of `device list`.
#[derive(Debug, Clone, Args)]
pub struct DeviceListArgs {
    /// Of this app only
    #[arg(long, value_name = "NAME")]
    pub app: Option<String>,
    /// With this status only: active, quarantined or revoked
    #[arg(long, value_name = "STATUS")]
    pub status: Option<String>,
    /// Whose id, key's thumbprint or version begins so
    #[arg(long, value_name = "TEXT")]
    pub search: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of what changes an installation's status.
#[derive(Debug, Clone, Args)]
pub struct ChangeArgs {
    /// Its id
    pub id: String,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `arc ...`
#[derive(Debug, Subcommand)]
pub enum ArcCommand {
    /// Say why an installation was refused, or what it was granted
    Show(NamedArgs),
}
