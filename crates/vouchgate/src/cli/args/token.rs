//! `token ...` and `key ...`.

use clap::{ArgGroup, Args, Subcommand};

use super::StateArgs;

/// `token ...`
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Mint an access token for a client and print it, nothing else
    Mint(MintArgs),
    /// Refuse tokens from now on; in force when the command returns, and for good
    Revoke(Box<RevokeArgs>),
    /// List what is revoked, newest first
    Revocations(StateArgs),
    /// Lift a revocation of a subject, client, device, session, issuer or everything; refresh tokens it ended stay ended
    Lift {
        /// The number of the revocation, as `token revocations` shows it
        id: u64,
        /// Where the state is.
        #[command(flatten)]
        state: StateArgs,
    },
}

/// Options of `token mint`.
#[derive(Debug, Clone, Args)]
pub struct MintArgs {
    /// The client the token is for
    #[arg(long, value_name = "NAME")]
    pub client: String,
    /// The subject [default: the client's name]
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    pub subject: Option<String>,
    /// Scopes, separated by spaces; all must be the client's [default: all of the client's]
    #[arg(long, value_name = "SCOPES")]
    pub scope: Option<String>,
    /// How long it lives, at most the client's token_ttl [default: the client's token_ttl]
    #[arg(long, value_name = "DURATION")]
    pub ttl: Option<String>,
    /// Bind it to a key: the thumbprint (RFC 7638) of the key that whoever uses it has to prove (DPoP)
    #[arg(long, value_name = "THUMBPRINT", allow_hyphen_values = true)]
    pub jkt: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Options of `token revoke`.
#[derive(Debug, Clone, Args)]
#[command(group(
    ArgGroup::new("what").required(true).args(["token_stdin", "jti", "subject", "client", "device", "session", "kid", "all"])
))]
pub struct RevokeArgs {
    /// The token on standard input: an access token, or a refresh token of ours with its whole session
    #[arg(long)]
    pub token_stdin: bool,
    /// The token with this `jti`
    #[arg(long, value_name = "JTI", allow_hyphen_values = true)]
    pub jti: Option<String>,
    /// All tokens of a subject
    #[arg(long, value_name = "SUBJECT", allow_hyphen_values = true)]
    pub subject: Option<String>,
    /// All tokens a client asked for
    #[arg(long, value_name = "CLIENT_ID", allow_hyphen_values = true)]
    pub client: Option<String>,
    /// All tokens of a device (`device_id`)
    #[arg(long, value_name = "DEVICE", allow_hyphen_values = true)]
    pub device: Option<String>,
    /// All tokens of a session (`sid`)
    #[arg(long, value_name = "SID", allow_hyphen_values = true)]
    pub session: Option<String>,
    /// All that a key of another issuer has signed or will sign; for a key of ours see `key rotate --compromised`
    #[arg(long, value_name = "KID", allow_hyphen_values = true, requires = "issuer")]
    pub kid: Option<String>,
    /// All tokens of --issuer; without --issuer, all tokens
    #[arg(long)]
    pub all: bool,
    /// The configured name of the issuer of the tokens [default: vouchgate, which is ourselves]
    #[arg(long, value_name = "NAME", conflicts_with = "token_stdin")]
    pub issuer: Option<String>,
    /// Only what was issued before this moment: how long ago (24h), a moment (RFC 3339), or seconds since 1970 [default: up to now]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["token_stdin", "jti", "kid"])]
    pub before: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}

/// `key ...`
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// List the signing keys
    List(StateArgs),
    /// Publish the next key, which signs once it was published for [token] key_publish; or end a compromised one
    Rotate(RotateArgs),
}

/// Options of `key rotate`.
#[derive(Debug, Clone, Args)]
pub struct RotateArgs {
    /// Sign with the next key at once; whoever remembers our keys refuses its tokens until they are read again
    #[arg(long, conflicts_with = "compromised")]
    pub now: bool,
    /// A key that others may have: it and all it signed are refused from now on, and another signs
    #[arg(long, value_name = "KID", allow_hyphen_values = true)]
    pub compromised: Option<String>,
    /// Why, for the record
    #[arg(long, value_name = "TEXT", requires = "compromised")]
    pub reason: Option<String>,
    /// Where the state is.
    #[command(flatten)]
    pub state: StateArgs,
}
