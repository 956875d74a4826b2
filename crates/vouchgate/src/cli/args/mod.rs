//! The command line: what can be typed. What each command does is in its own file beside this one; the examples that
//! begin every help text are in `examples.rs`.

#![allow(clippy::doc_markdown)] // doc comments are help texts here: backticks would be printed

mod admin;
mod anomaly;
mod app;
mod attest;
mod audit;
mod budget;
mod client;
mod pins;
mod risk;
mod runtime_secret;
mod secret;
mod token;
mod usage;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

pub use admin::{AdminCommand, AdminTokenCommand, RoleArg};
pub use anomaly::AnomalyCommand;
pub use app::{AppCommand, ArcCommand, DeviceCommand, DeviceListArgs};
pub use attest::{AttestCommand, AttestSimulateArgs, AttestVerifyArgs, SimulatedDevice};
pub use audit::{AuditCommand, AuditExportArgs, AuditVerifyArgs, EraseArgs, RotateAuditKeyArgs};
pub use budget::{BudgetCommand, RaiseArgs};
pub use client::{ClientCommand, CreateArgs, GrantArg, RequirementArg};
pub use pins::{
    CertCommand, DelegateArgs, PinsCommand, PinsKillArgs, PinsPublishArgs, PinsVerifyArgs, RootCommand, SwitchArg,
};
pub use risk::{ForcedPassArgs, RiskCommand, SimulateArgs};
pub use runtime_secret::{RuntimeSecretCommand, RuntimeValueArgs};
pub use secret::{ApikeyCommand, ApikeyCreateArgs, SecretCommand, SecretRotateArgs, SecretSetArgs};
pub use token::{KeyCommand, MintArgs, RevokeArgs, RotateArgs, TokenCommand};
pub use usage::{BucketArg, UsageArgs, UsageCommand, UsageRequestsArgs, UsageRerateArgs, UsageTableArgs};

/// A security gateway for AI APIs: nothing reaches a provider unless it was vouched for.
#[derive(Debug, Parser)]
#[command(
    name = "vouchgate",
    version,
    disable_help_subcommand = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run with all defaults: keys, every provider whose key is in the environment, and the built-in model
    Dev(DevArgs),
    /// Run with a configuration file
    Serve(ConfigArgs),
    /// Say whether `serve` would start, and every fault if not
    Check(CheckArgs),
    /// Look at what runs: store, vault, providers, JWKS, clock, permissions, risky settings
    Doctor(CheckArgs),
    /// Mint and revoke tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look at tokens of any issuer, offline
    #[command(subcommand)]
    Jwt(JwtCommand),
    /// Look at proofs that the sender of a token holds its key (DPoP, RFC 9449), offline
    #[command(subcommand)]
    Dpop(DpopCommand),
    /// Look at evidence that an app and its device are genuine, offline
    #[command(subcommand)]
    Attest(AttestCommand),
    /// Who may ask us for tokens
    #[command(subcommand)]
    Client(ClientCommand),
    /// Values in the vault, such as provider keys; read from standard input, never shown
    #[command(subcommand)]
    Secret(SecretCommand),
    /// The keys that sign our tokens
    #[command(subcommand)]
    Key(KeyCommand),
    /// What apps are told over the air: the keys hosts may show, and switches
    #[command(subcommand)]
    Pins(PinsCommand),
    /// Certificates of pinned hosts: which changes are safe, and when
    #[command(subcommand)]
    Cert(CertCommand),
    /// Vouchgate keys (vg_...), for tools that can only hold a static string
    #[command(subcommand)]
    Apikey(ApikeyCommand),
    /// Who may use the admin API
    #[command(subcommand)]
    Admin(AdminCommand),
    /// What budgets have spent, and raising them for a while
    #[command(subcommand)]
    Budget(BudgetCommand),
    /// How old every key is and what is due; the vault's master key
    #[command(subcommand)]
    Rotate(RotateCommand),
    /// Callers that were stopped because they behaved quite unlike themselves
    #[command(subcommand)]
    Anomaly(AnomalyCommand),
    /// What becomes of instances of apps, and leave for single ones
    #[command(subcommand)]
    Risk(RiskCommand),
    /// Apps whose installations prove what they are
    #[command(subcommand)]
    App(AppCommand),
    /// Installations of apps
    #[command(subcommand)]
    Device(DeviceCommand),
    /// The codes that installations are told in place of reasons
    #[command(subcommand)]
    Arc(ArcCommand),
    /// Why a request would be allowed or refused
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Where a request would go, and why
    #[command(subcommand)]
    Route(RouteCommand),
    /// The models that are configured, with prices and limits; every model known, with --all
    Models(ModelsArgs),
    /// Answers that are kept for requests that are the same
    #[command(subcommand)]
    Cache(CacheCommand),
    /// Write everything in the database and the audit log, as of now, to one sealed file; a server may be running
    Backup(BackupArgs),
    /// Put a backup back, into a new data directory
    Restore(RestoreArgs),
    /// The audit log: verify it, export it, prove what it says
    #[command(subcommand)]
    Audit(AuditCommand),
    /// What requests took and cost
    Usage(Box<UsageArgs>),
    /// Print the OpenAPI document of the admin API
    Openapi,
    /// Print the JSON Schema of the configuration file
    Schema,
    /// Print a completion script
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
    /// Print the version
    Version(JsonArgs),
}

/// `--config`.
#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `--json`.
#[derive(Debug, Clone, Copy, Args)]
pub struct JsonArgs {
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// `--config FILE --json`.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Options of `dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Where state is kept
    #[arg(long, value_name = "DIR", default_value = "./vouchgate-data")]
    pub data_dir: PathBuf,
    /// The public address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: std::net::SocketAddr,
    /// The admin address
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    pub admin_listen: std::net::SocketAddr,
    /// Register an app that takes phones made of software, to see attestation without a phone
    #[arg(long)]
    pub app: bool,
}

/// Where the state is. A server that runs there is asked through its admin.sock; otherwise its lock is taken.
#[derive(Debug, Clone, Args)]
pub struct StateArgs {
    /// The configuration file whose data directory to use
    #[arg(long, value_name = "FILE", global = true, conflicts_with = "data_dir")]
    pub config: Option<PathBuf>,
    /// The data directory [default: ./vouchgate-data]
    #[arg(long, value_name = "DIR", global = true)]
    pub data_dir: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub json: bool,
}

/// `jwt ...`
#[derive(Debug, Subcommand)]
pub enum JwtCommand {
    /// Verify the token on standard input with keys of yours; the verdict is one JSON object
    Verify(VerifyArgs),
}

/// Options of `jwt verify`.
#[derive(Debug, Clone, Args)]
#[command(group(clap::ArgGroup::new("keys").required(true).args(["jwks", "secret_file"])))]
pub struct VerifyArgs {
    /// A JWK, a JWK Set or a PEM file
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// A file with an HMAC secret; one line break at its end does not count
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// The algorithms to accept [default: what each key is for]
    #[arg(long, value_name = "ALG", value_delimiter = ',')]
    pub alg: Vec<String>,
    /// The issuer to require
    #[arg(long, value_name = "ISSUER")]
    pub iss: Option<String>,
    /// The audience to require
    #[arg(long, value_name = "AUDIENCE")]
    pub aud: Option<String>,
    /// The token type to require, such as at+jwt
    #[arg(long, value_name = "TYPE")]
    pub typ: Option<String>,
    /// The time to verify at, in seconds since 1970 [default: now]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub now: Option<i64>,
    /// Any signed payload, not only claims; prints it in base64url
    #[arg(long)]
    pub raw: bool,
}

/// `dpop ...`
#[derive(Debug, Subcommand)]
pub enum DpopCommand {
    /// Verify the proof on standard input for one request; the verdict is one JSON object
    Verify(DpopVerifyArgs),
}

/// Options of `dpop verify`.
#[derive(Debug, Clone, Args)]
pub struct DpopVerifyArgs {
    /// The request's method, in its exact case
    #[arg(long, value_name = "METHOD")]
    pub method: String,
    /// The request's URL; query and fragment do not count
    #[arg(long, value_name = "URL")]
    pub url: String,
    /// A file with the access token that was sent along; one line break at its end does not count
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The nonce to require
    #[arg(long, value_name = "NONCE", allow_hyphen_values = true)]
    pub nonce: Option<String>,
    /// The time to verify at, in seconds since 1970 [default: now]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub now: Option<i64>,
    /// How old the proof may be, in seconds; clocks may differ by 5 more
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub max_age: u64,
}

/// A name and where the state is.
#[derive(Debug, Clone, Args)]
pub struct NamedArgs {
    /// The name
    pub name: String,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `rotate ...`
#[derive(Debug, Subcommand)]
pub enum RotateCommand {
    /// List every key: how old it is, in which state, and what is due
    Status(StateArgs),
    /// Write a new master key for the vault to a file that is not there yet
    NewVaultKey {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Seal everything in the vault anew with the master key that \[vault\] key names now
    VaultKey(StateArgs),
}

/// `cache ...`
#[derive(Debug, Subcommand)]
pub enum CacheCommand {
    /// Forget every answer that the running server keeps
    Clear(StateArgs),
}

/// `backup`
#[derive(Debug, Clone, Args)]
pub struct BackupArgs {
    /// The file to make; `-` for standard output
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Whose
    #[command(flatten)]
    pub state: StateArgs,
}

/// `restore`
#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Only try it: restore into a directory that is thrown away, and look whether all is sound
    #[arg(long)]
    pub drill: bool,
    /// Checkpoints of the audit log that were kept elsewhere, in a file or at an address, to compare the backup's with before anything
    /// is written; may be given more than once
    #[arg(long, value_name = "FILE|URL")]
    pub checkpoint: Vec<String>,
    /// The key of the audit log that counts, as text or in a file [default: the one the log itself names]
    #[arg(long = "key", value_name = "VKEY", requires = "checkpoint")]
    pub verifier: Option<String>,
    /// Where to
    #[command(flatten)]
    pub state: StateArgs,
}

/// `models`
#[derive(Debug, Clone, Args)]
pub struct ModelsArgs {
    /// Only models of this provider, by its name or its kind
    #[arg(long, value_name = "PROVIDER")]
    pub provider: Option<String>,
    /// Every model of the built-in table instead
    #[arg(long)]
    pub all: bool,
    /// Where the models are.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `route ...`
#[derive(Debug, Subcommand)]
pub enum RouteCommand {
    /// Say which targets would answer a request, in which order, why, and how each is doing
    Explain(RouteArgs),
}

/// Options of `route explain`.
#[derive(Debug, Clone, Args)]
pub struct RouteArgs {
    /// The model it asks for
    #[arg(long, value_name = "MODEL")]
    pub model: String,
    /// Tokens of its input, about
    #[arg(long, value_name = "N")]
    pub input_tokens: Option<u64>,
    /// The output tokens it asks for
    #[arg(long, value_name = "N")]
    pub max_output_tokens: Option<u64>,
    /// It brings tools
    #[arg(long)]
    pub tools: bool,
    /// It brings images
    #[arg(long)]
    pub images: bool,
    /// It asks for a stream
    #[arg(long)]
    pub stream: bool,
    /// The client it comes from
    #[arg(long, value_name = "CLIENT")]
    pub client: Option<String>,
    /// A text in its metadata; repeat for more
    #[arg(long, value_name = "KEY=VALUE")]
    pub metadata: Vec<String>,
    /// A header field; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    pub header: Vec<String>,
    /// Where the models are.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `policy ...`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say which policy decides for a caller with these claims, and why
    Explain(ExplainArgs),
}

/// Options of `policy explain`.
#[derive(Debug, Clone, Args)]
pub struct ExplainArgs {
    /// A file with the claims of a verified token, as JSON; `-` for standard input
    #[arg(long, value_name = "FILE")]
    pub claims: PathBuf,
    /// The model it asks for
    #[arg(long, value_name = "MODEL", group = "target")]
    pub model: Option<String>,
    /// The service it asks for
    #[arg(long, value_name = "SERVICE", group = "target")]
    pub service: Option<String>,
    /// The upstream it asks for
    #[arg(long, value_name = "UPSTREAM", group = "target")]
    pub upstream: Option<String>,
    /// The configured name of the issuer [default: the one whose `issuer` is the claim `iss`, else vouchgate]
    #[arg(long, value_name = "NAME")]
    pub issuer: Option<String>,
    /// Where it comes from
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub ip: std::net::IpAddr,
    /// The output tokens it asks for
    #[arg(long, value_name = "N")]
    pub max_output_tokens: Option<u64>,
    /// A tool it brings; repeat for more
    #[arg(long, value_name = "NAME")]
    pub tool: Vec<String>,
    /// The time it asks at, in seconds since 1970 [default: now]
    #[arg(long, value_name = "EPOCH", allow_negative_numbers = true)]
    pub now: Option<i64>,
    /// Where the policies are.
    #[command(flatten)]
    pub state: StateArgs,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_takes_a_secret_by_flag() {
        fn walk(command: &clap::Command) {
            for argument in command.get_arguments() {
                let id = argument.get_id().as_str();
                assert!(!["secret", "value", "password", "key", "token"].contains(&id), "{}: {id}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }
}
