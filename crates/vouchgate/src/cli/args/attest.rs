//! `attest ...`

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// `attest ...`
#[derive(Debug, Subcommand)]
pub enum AttestCommand {
    /// Verify recorded evidence: App Attest, Android Key Attestation, Play Integrity or Approov; one verdict a line
    Verify(AttestVerifyArgs),
    /// Show the whole flow with a phone made of software against `vouchgate dev --app`: enrolment, token, signed requests, and
    /// attempts that must fail
    Simulate(AttestSimulateArgs),
}

/// A phone made of software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum SimulatedDevice {
    /// An iPhone with App Attest
    Ios,
    /// An Android phone with key attestation
    Android,
    /// A browser with proof of work
    Web,
}

/// Options of `attest simulate`.
#[derive(Debug, Clone, Args)]
pub struct AttestSimulateArgs {
    /// The device
    #[arg(long, value_enum, default_value = "ios")]
    pub device: SimulatedDevice,
    /// What is wrong with it; `list` names what there is
    #[arg(long, value_name = "DEFECT")]
    pub defect: Option<String>,
    /// What the app says of its surroundings, such as `debugger`; `vpn` makes the app of `dev --app` ask for work besides
    #[arg(long, value_name = "FLAG")]
    pub report: Vec<String>,
    /// The gateway's public address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub gateway: String,
    /// The data directory of `vouchgate dev --app`, where the keys of the simulated makers are
    #[arg(long, value_name = "DIR", default_value = "./vouchgate-data")]
    pub data_dir: PathBuf,
    /// The app's name at the gateway
    #[arg(long, value_name = "NAME", default_value = crate::simulate::APP)]
    pub app: String,
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
