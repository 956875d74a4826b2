//! `secret ...` and `apikey ...`.

use clap::{Args, Subcommand};

use super::{NamedArgs, RuntimeSecretCommand, StateArgs};

/// `secret ...`
#[derive(Debug, Subcommand)]
pub enum SecretCommand {
    /// Store the value on standard input, bound to the origin of the provider or upstream that uses it
    Set(SecretSetArgs),
    /// List names, versions and origins; never values
    List(StateArgs),
    /// Replace a value by the one on standard input, once the providers that use it accept it; the old one is kept for a while
    Rotate(SecretRotateArgs),
    /// Use the value that was kept by `rotate --next`
    Activate {
        /// The secret's name
        name: String,
        /// For how long the old value is used where the new one is refused [default: \[rotation\] keep_old]
        #[arg(long, value_name = "DURATION")]
        keep_old: Option<String>,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Forget the old value, or with --next the one that waits
    Retire {
        /// The secret's name
        name: String,
        /// Forget the value that was kept by `rotate --next`
        #[arg(long)]
        next: bool,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Delete a secret and all its versions
    Delete(NamedArgs),
    /// Values of runtime secrets, which apps use and do not carry
    #[command(subcommand)]
    Runtime(RuntimeSecretCommand),
}

/// Options of `secret rotate`.
#[derive(Debug, Clone, Args)]
pub struct SecretRotateArgs {
    /// The secret's name
    pub name: String,
    /// Do not ask providers whether they accept the value
    #[arg(long)]
    pub no_probe: bool,
    /// Only keep the value: it is used where the current one is refused, until `secret activate`
    #[arg(long)]
    pub next: bool,
    /// For how long the old value is used where the new one is refused [default: \[rotation\] keep_old]
    #[arg(long, value_name = "DURATION", conflicts_with = "next")]
    pub keep_old: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `secret set`.
#[derive(Debug, Clone, Args)]
pub struct SecretSetArgs {
    /// The secret's name
    pub name: String,
    /// The origin it may be sent to [default: that of the provider or upstream that names it]
    #[arg(long, value_name = "URL")]
    pub origin: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `apikey ...`
#[derive(Debug, Subcommand)]
pub enum ApikeyCommand {
    /// Make a Vouchgate key; it is shown once
    Create(ApikeyCreateArgs),
    /// List the keys
    List(StateArgs),
    /// Refuse a key from now on
    Revoke(NamedArgs),
}

/// Options of `apikey create`.
#[derive(Debug, Clone, Args)]
pub struct ApikeyCreateArgs {
    /// The key's name: what `who.key` of a policy matches
    pub name: String,
    /// Its scopes, separated by spaces
    #[arg(long, value_name = "SCOPES", default_value = "")]
    pub scope: String,
    /// The subject it stands for [default: the key's name]
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    pub subject: Option<String>,
    /// The client it stands for
    #[arg(long, value_name = "NAME")]
    pub client: Option<String>,
    /// How long it lives [default: 90d]
    #[arg(long, value_name = "DURATION")]
    pub expires: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
