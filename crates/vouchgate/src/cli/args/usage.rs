//! Arguments of `usage ...`.

use clap::{Args, Subcommand, ValueEnum};

use super::StateArgs;

/// Options of `usage`.
#[derive(Debug, Clone, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct UsageArgs {
    /// Something else than the table
    #[command(subcommand)]
    pub command: Option<UsageCommand>,
    /// What the table is of
    #[command(flatten)]
    pub table: UsageTableArgs,
    /// Where the state is
    #[command(flatten)]
    pub state: StateArgs,
}

/// What else can be done with usage.
#[derive(Debug, Clone, Subcommand)]
pub enum UsageCommand {
    /// Write down the requests themselves: who, what, when, with what outcome and cost; never contents
    Requests(UsageRequestsArgs),
    /// Compute costs anew by the prices in force, as corrections beside what was charged
    Rerate(UsageRerateArgs),
}

/// Options of the table.
#[derive(Debug, Clone, Args)]
pub struct UsageTableArgs {
    /// What it is counted by, with commas between: client, subject, api_key, model, provider, policy, service, tag, issuer
    #[arg(long, value_name = "WHAT", default_value = "model")]
    pub by: String,
    /// From how long ago on (24h, 30d), a moment (RFC 3339), or seconds since 1970; whole hours or days count
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub since: String,
    /// Up to how long ago, a moment (RFC 3339), or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Also by the hour or the day (UTC)
    #[arg(long, value_name = "PERIOD")]
    pub bucket: Option<BucketArg>,
    /// Only what one of them did, such as client=batch-jobs; may be given more than once
    #[arg(long, value_name = "WHAT=NAME")]
    pub only: Vec<String>,
    /// Print CSV instead of a table
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// How long a period is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BucketArg {
    /// An hour
    Hour,
    /// A day
    Day,
}

/// Options of `usage requests`.
#[derive(Debug, Clone, Args)]
pub struct UsageRequestsArgs {
    /// From how long ago on (24h, 30d), a moment (RFC 3339), or seconds since 1970
    #[arg(long, value_name = "TIME", default_value = "24h")]
    pub since: String,
    /// Up to how long ago, a moment (RFC 3339), or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only those of one, such as client=batch-jobs or error=rate_limited; may be given more than once
    #[arg(long, value_name = "WHAT=NAME")]
    pub only: Vec<String>,
    /// Print CSV instead of one JSON object a line
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
}

/// Options of `usage rerate`.
#[derive(Debug, Clone, Args)]
pub struct UsageRerateArgs {
    /// Requests from how long ago on (24h, 30d), a moment (RFC 3339), or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: String,
    /// Up to how long ago, a moment (RFC 3339), or seconds since 1970 [default: now]
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only those that this provider answered
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Change nothing, and say what would
    #[arg(long)]
    pub dry_run: bool,
}
