//! `attest ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `attest ...`
#[derive(Debug, Subcommand)]
pub enum AttestCommand {
    /// Verify recorded evidence: App Attest, Android Key Attestation, Play Integrity or Approov; one verdict a line
    Verify(AttestVerifyArgs),
}

/// Options of `attest verify`. Each goes before what the file says.
#[derive(Debug, Clone, Args)]
pub struct AttestVerifyArgs {
    /// An attestation, assertion or list of receipts in JSON, a file of cases, or a chain of certificates in PEM
    pub file: PathBuf,
    /// The trusted roots, in PEM [default: the file's, or Apple's and Google's]
    #[arg(long, value_name = "PEM")]
    pub root: Option<PathBuf>,
    /// Google's list of revoked certificates [default: the file's, or none]
    #[arg(long, value_name = "FILE")]
    pub status: Option<PathBuf>,
    /// The app to require: TEAMID.bundle.id, or a package [default: the file's]
    #[arg(long, value_name = "ID")]
    pub app: Option<String>,
    /// The challenge to require, in base64 [default: the file's]
    #[arg(long, value_name = "B64", allow_hyphen_values = true)]
    pub challenge: Option<String>,
    /// The time to verify at, in seconds since 1970 [default: the file's, or now]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub now: Option<i64>,
}
