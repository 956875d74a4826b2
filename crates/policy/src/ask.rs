//! What is decided: a caller and what it asks for. Borrowed, so that asking costs nothing.

use std::net::IpAddr;

use base::{Name, Timestamp};
use config::{AttestationLevel, Bound, EvidenceKind, RiskThrottle};
use serde_json::Value;

/// Who calls.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The configured name of the issuer; `vouchgate` for our own tokens and keys.
    pub issuer: &'a str,
    /// The client the token was issued to.
    pub client: Option<&'a str>,
    /// The subject: means nothing without its issuer.
    pub subject: &'a str,
    /// The token's scopes.
    pub scopes: &'a [String],
    /// Groups or roles.
    pub groups: &'a [String],
    /// The `vg_` key, where the credential is one.
    pub key: Option<&'a Name>,
    /// The client's address, behind trusted proxies the one they vouch for.
    pub ip: IpAddr,
    /// What this request has proved about its sender.
    pub bound: Proven,
    /// What the installation of an app has proved to be, by a token of ours.
    pub attested: Option<Attested<'a>>,
}

/// What an installation of an app has proved to be.
#[derive(Debug, Clone, Copy)]
pub struct Attested<'a> {
    /// How far its evidence carries (`lvl`).
    pub level: AttestationLevel,
    /// What it proved itself with (`att`): names of [`EvidenceKind`].
    pub evidence: &'a [Value],
    /// What was noted of it (`anno`).
    pub annotations: &'a [Value],
    /// What it may ask and spend at most (`thr`), whatever a policy says.
    pub throttle: Option<RiskThrottle>,
}

impl Attested<'_> {
    /// Whether it proved itself with this.
    pub(crate) fn showed(&self, kind: EvidenceKind) -> bool {
        self.evidence.iter().any(|shown| shown.as_str() == Some(kind.as_str()))
    }
}

/// Proofs a request has brought, each of them verified, that its sender holds what the token is bound to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Proven {
    /// A `DPoP` proof (RFC 9449).
    pub dpop: bool,
    /// The client certificate of the connection (RFC 8705).
    pub mtls: bool,
    /// A signature over the request (RFC 9421).
    pub signature: bool,
}

impl Proven {
    /// Nothing: a token that is good for whoever has it.
    pub const NONE: Self = Self { dpop: false, mtls: false, signature: false };

    /// Whether this proof is among them.
    pub const fn has(self, proof: Bound) -> bool {
        match proof {
            Bound::Dpop => self.dpop,
            Bound::Mtls => self.mtls,
            Bound::Signature => self.signature,
        }
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = Bound> {
        [Bound::Dpop, Bound::Mtls, Bound::Signature].into_iter().filter(move |proof| self.has(*proof))
    }
}

impl FromIterator<Bound> for Proven {
    fn from_iter<I: IntoIterator<Item = Bound>>(proofs: I) -> Self {
        let mut set = Self::NONE;
        for proof in proofs {
            match proof {
                Bound::Dpop => set.dpop = true,
                Bound::Mtls => set.mtls = true,
                Bound::Signature => set.signature = true,
            }
        }
        set
    }
}

/// What the caller asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// At what.
    pub target: Target<'a>,
    /// The number of output tokens the request asks for, where it says one.
    pub max_output_tokens: Option<u64>,
    /// The tools it brings.
    pub tools: Tools<'a>,
    /// Whether the body could be read. Where it could not, rules about output tokens do not hold.
    pub inspected: bool,
    /// The time.
    pub now: Timestamp,
}

impl<'a> Ask<'a> {
    /// Ask for `target` at `now`, with no tools and no number of output tokens.
    pub const fn new(target: Target<'a>, now: Timestamp) -> Self {
        Self { target, max_output_tokens: None, tools: Tools::None, inspected: true, now }
    }
}

/// What a request is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// A model, by the name the client used.
    Model(&'a str),
    /// A service, by name.
    Service(&'a str),
    /// An upstream, by name.
    Upstream(&'a str),
    /// A provider's own API.
    Provider {
        /// The provider's name.
        name: &'a str,
        /// The request method.
        method: &'a str,
        /// The path after `/providers/NAME`, with its first slash, as the caller wrote it: a path that is not in
        /// normal form matches no rule.
        path: &'a str,
        /// The model the body names, where it could be read.
        model: Option<&'a str>,
    },
    /// What the caller itself had a provider store, by an answer that a policy allowed: for whoever may ask any model, or
    /// make the call to the provider's own API.
    Own {
        /// The provider's name.
        name: &'a str,
        /// The request method.
        method: &'a str,
        /// The path, as in [`Target::Provider`].
        path: &'a str,
    },
}

/// The tools a request brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tools<'a> {
    /// None.
    None,
    /// These: function names, or types of tools that have no name.
    Named(&'a [String]),
    /// It cannot be told: only a rule that allows all tools holds.
    Unknown,
}
