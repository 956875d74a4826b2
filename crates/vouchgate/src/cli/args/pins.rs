//! `pins ...` and `cert ...`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::StateArgs;

/// `pins ...`
#[derive(Debug, Subcommand)]
pub enum PinsCommand {
    /// Show what apps are told: pinned keys, switches, and until when it counts
    Show {
        /// The app [default: all]
        app: Option<String>,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Tell apps what the pin sets say now; refused where that does not fit what the listener shows
    Publish(PinsPublishArgs),
    /// Switch pinning or attestation off in an app, or on again
    Kill(PinsKillArgs),
    /// Look from outside: what a host shows, what apps are told of it, and whether the two fit; the verdict is one JSON object
    Verify(PinsVerifyArgs),
    /// Print the hash of the key in a file (PEM), as pin sets are written
    Hash {
        /// A certificate, certificate request, public key or private key
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Root keys, which are built into apps and never kept on a server
    #[command(subcommand)]
    Root(RootCommand),
    /// Print the public half of the configuration key that waits for a root key to vouch for it; made if none does
    Key(StateArgs),
    /// Have a root key vouch for the configuration key on standard input; needs no server
    Delegate(DelegateArgs),
    /// Take what a root key says of our configuration key, on standard input; it signs from now on
    Accept(StateArgs),
}

/// Options of `pins publish`.
#[derive(Debug, Clone, Args)]
pub struct PinsPublishArgs {
    /// The apps
    #[arg(required = true, value_name = "APP")]
    pub apps: Vec<String>,
    /// A key that was shown and is still told of, to be dropped now; repeat for more
    #[arg(long, value_name = "PIN")]
    pub drop: Vec<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SwitchArg {
    /// Apps do it
    On,
    /// Apps do not
    Off,
}

/// Options of `pins kill`.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("switch").required(true).multiple(true).args(["pinning", "attest"])))]
pub struct PinsKillArgs {
    /// The app
    pub app: String,
    /// Whether it compares the keys of hosts
    #[arg(long, value_enum)]
    pub pinning: Option<SwitchArg>,
    /// Whether it asks its platform for evidence
    #[arg(long, value_enum)]
    pub attest: Option<SwitchArg>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `pins verify`.
#[derive(Debug, Clone, Args)]
pub struct PinsVerifyArgs {
    /// The host, with a port where it is not 443; or its URL
    #[arg(value_name = "HOST")]
    pub host: String,
    /// An app whose configuration is fetched and compared; repeat for more [default: those of --config]
    #[arg(long, value_name = "APP")]
    pub app: Vec<String>,
    /// A file with public root keys; repeat for more [default: those of --config]
    #[arg(long, value_name = "FILE")]
    pub root: Vec<PathBuf>,
    /// A configuration file that names apps and root keys
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Authorities trusted beside the public ones, in PEM
    #[arg(long, value_name = "PEM")]
    pub ca: Option<PathBuf>,
    /// Connect here instead of where the name leads: one of several nodes
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Option<SocketAddr>,
    /// The number of a configuration that apps have: a lower one was rolled back
    #[arg(long, value_name = "N")]
    pub seq: Option<u64>,
    /// The time to verify at, in seconds since 1970 [default: now]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub now: Option<i64>,
}

/// `pins root ...`
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Make a root key: its private half in a new file, its public half on standard output
    New {
        /// The file to make
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
}

/// Options of `pins delegate`.
#[derive(Debug, Clone, Args)]
pub struct DelegateArgs {
    /// The file with the root key's private half
    #[arg(long, value_name = "FILE")]
    pub root: PathBuf,
    /// For how many days the key may sign
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=90))]
    pub days: u32,
}

/// `cert ...`
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Say which changes of keys are safe today, and when the others will be
    Plan(StateArgs),
}
