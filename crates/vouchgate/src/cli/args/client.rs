//! `client ...`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand, ValueEnum};

use super::{NamedArgs, StateArgs};

/// `client ...`
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Make a client; its secret, if it has one, is shown once
    Create(Box<CreateArgs>),
    /// List the clients
    List(StateArgs),
    /// Show one client
    Show(NamedArgs),
    /// Refuse a client from now on; tokens it already has live until they expire
    Disable(NamedArgs),
    /// Let a disabled client in again
    Enable(NamedArgs),
    /// Give a client a new secret, shown once; the old one works until the overlap ends
    Rotate {
        /// The client's name
        name: String,
        /// How long the old secret still works
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Delete a client
    Delete(NamedArgs),
    /// Make a secret for a [[client]] of the configuration file, and the hash to write there
    Hash {
        /// Read the secret from standard input instead of making one
        #[arg(long)]
        stdin: bool,
        /// Print JSON instead of text
        #[arg(long)]
        json: bool,
    },
}

/// Options of `client create`. How it proves who it is follows from what is given; without any of it, it gets a secret.
#[derive(Debug, Clone, Args)]
#[command(group(ArgGroup::new("auth").args([
    "jwks", "jwks_url", "subject_dn", "san_dns", "san_uri", "san_ip", "san_email", "certificate", "public",
])))]
pub struct CreateArgs {
    /// The client's name, which is its client_id
    pub name: String,
    /// The scopes it may ask for, separated by spaces
    #[arg(long, value_name = "SCOPES", default_value = "")]
    pub scope: String,
    /// How long its tokens live
    #[arg(long, value_name = "DURATION")]
    pub token_ttl: Option<String>,
    /// It signs assertions (private_key_jwt): a file with its public keys, a JWK Set
    #[arg(long, value_name = "FILE")]
    pub jwks: Option<PathBuf>,
    /// It signs assertions (private_key_jwt): where its public keys are, a JWK Set
    #[arg(long, value_name = "URL")]
    pub jwks_url: Option<String>,
    /// What it may sign assertions with [default: RS256,PS256,ES256,ES384,EdDSA]
    #[arg(long, value_name = "ALG", value_delimiter = ',')]
    pub alg: Vec<String>,
    /// Fetch --jwks-url from loopback and private addresses too
    #[arg(long, requires = "jwks_url")]
    pub allow_private: bool,
    /// It shows a certificate of server.tls.client_ca (tls_client_auth) with this subject: "CN=batch,O=Example"
    #[arg(long, value_name = "DN")]
    pub subject_dn: Option<String>,
    /// It shows a certificate of server.tls.client_ca with this DNS name
    #[arg(long, value_name = "NAME")]
    pub san_dns: Option<String>,
    /// It shows a certificate of server.tls.client_ca with this URI
    #[arg(long, value_name = "URI")]
    pub san_uri: Option<String>,
    /// It shows a certificate of server.tls.client_ca with this IP address
    #[arg(long, value_name = "ADDRESS")]
    pub san_ip: Option<IpAddr>,
    /// It shows a certificate of server.tls.client_ca with this mail address
    #[arg(long, value_name = "ADDRESS")]
    pub san_email: Option<String>,
    /// It shows its own certificate (self_signed_tls_client_auth): a PEM file with one or more
    #[arg(long, value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// It is an app that can keep no secret; needs --require dpop
    #[arg(long)]
    pub public: bool,
    /// A grant it may use; repeat for more [default: client-credentials, unless it is --public]
    #[arg(long, value_name = "GRANT", value_enum)]
    pub grant: Vec<GrantArg>,
    /// Where people come back to after signing in; repeat for more
    #[arg(long, value_name = "URI")]
    pub redirect_uri: Vec<String>,
    /// What it must always do; repeat for more
    #[arg(long, value_name = "WHAT", value_enum)]
    pub require: Vec<RequirementArg>,
    /// An issuer, by name, whose tokens it may exchange for ours; repeat for more
    #[arg(long, value_name = "NAME")]
    pub exchange: Vec<String>,
    /// Let it ask about tokens that were issued to others
    #[arg(long)]
    pub introspect: bool,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// The grants of the token endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum GrantArg {
    /// In its own name
    ClientCredentials,
    /// With a refresh token
    RefreshToken,
    /// For a person who signs in with a browser
    AuthorizationCode,
    /// For a person who signs in on another device
    DeviceCode,
    /// With a token of another issuer
    TokenExchange,
}

/// What a client must always do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RequirementArg {
    /// Bind its tokens to a key it proves (RFC 9449)
    Dpop,
    /// Bind its tokens to its TLS certificate (RFC 8705)
    Mtls,
    /// Sign its requests (RFC 9421)
    Signature,
    /// Push its authorization requests (RFC 9126)
    Par,
}
