//! Arguments of `audit ...`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::StateArgs;

/// `audit ...`
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Say whether the audit log, or an export of it, says what it said; offline; the verdict is one JSON object
    Verify(AuditVerifyArgs),
    /// Write entries and what verifies them into one file
    Export(AuditExportArgs),
    /// Sign a checkpoint of all that is in the log now, and print it
    Checkpoint(StateArgs),
    /// Print the proof that an entry is in the log
    Proof {
        /// The entry's index, from 0
        #[arg(value_name = "INDEX")]
        index: u64,
        /// Where the log is
        #[command(flatten)]
        state: StateArgs,
    },
    /// List the key of every audit log: to be kept elsewhere
    Keys(StateArgs),
    /// Replace the key that signs checkpoints; every node replaces that of its own log
    RotateKey(RotateAuditKeyArgs),
    /// Destroy a subject's key: nothing the log says of it can be read any more, by anybody
    EraseSubject(EraseArgs),
}

/// Options of `audit verify`.
#[derive(Debug, Clone, Args)]
pub struct AuditVerifyArgs {
    /// An export, instead of the log where it lies
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data_dir", "config"])]
    pub export: Option<PathBuf>,
    /// Checkpoints that were kept elsewhere, in a file or at an address; may be given more than once
    #[arg(long, value_name = "FILE|URL")]
    pub checkpoint: Vec<String>,
    /// The key that counts, as text or in a file [default: the one the log itself names]
    #[arg(long = "key", value_name = "VKEY")]
    pub verifier: Option<String>,
    /// Where the log is
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `audit export`.
#[derive(Debug, Clone, Args)]
pub struct AuditExportArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// From the first entry on that is not before this moment: how long ago (24h), a moment (RFC 3339), or seconds since 1970
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Up to the last entry before this moment, written likewise
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Where the log is
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `audit rotate-key`.
#[derive(Debug, Clone, Args)]
pub struct RotateAuditKeyArgs {
    /// How long checkpoints are signed by both keys [default: 7d]
    #[arg(long, value_name = "SPAN", conflicts_with = "compromised")]
    pub overlap: Option<String>,
    /// The key may be known to others: the new one signs alone, from now on
    #[arg(long)]
    pub compromised: bool,
    /// Where the log is
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `audit erase-subject`.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// The subject
    #[arg(value_name = "SUBJECT")]
    pub subject: String,
    /// The configured name of its issuer [default: vouchgate]
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// Where the log is
    #[command(flatten)]
    pub state: StateArgs,
}
