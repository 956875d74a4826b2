//! `budget ...`.

use clap::{Args, Subcommand};

use super::{NamedArgs, StateArgs};

/// `budget ...`
#[derive(Debug, Subcommand)]
pub enum BudgetCommand {
    /// List what of each budget was used, is held and is left, for each of those it counts apart
    List(StateArgs),
    /// Show the accounts of one budget
    Show(NamedArgs),
    /// Raise a budget for a while; in force on all nodes within a second
    Raise(RaiseArgs),
    /// List the raises in force
    Raises(StateArgs),
    /// End a raise now
    EndRaise {
        /// The number of the raise, as `budget raises` shows it
        id: u64,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// Options of `budget raise`.
#[derive(Debug, Clone, Args)]
pub struct RaiseArgs {
    /// Its name; of a policy's own limit as `budget list` shows it
    pub name: String,
    /// By how much: "5 USD", or a whole number of another unit
    #[arg(long, value_name = "AMOUNT")]
    pub by: String,
    /// For how long: 2h, 3d
    #[arg(long = "for", value_name = "DURATION")]
    pub lasts: String,
    /// What is raised: tokens, input_tokens, output_tokens, requests or audio_ms [default: nano_usd, for money]
    #[arg(long, value_name = "UNIT")]
    pub unit: Option<String>,
    /// For whom, as `budget list` shows it [default: for each of those the budget counts apart]
    #[arg(long, value_name = "WHOM")]
    pub whom: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
