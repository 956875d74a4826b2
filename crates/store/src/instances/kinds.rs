//! What is kept of installations, and what becomes of them.

use base::{Name, Timestamp};

use crate::{NewReceipt, OneTime};

/// Whether an installation may get tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum InstanceStatus {
    /// It may.
    Active,
    /// It may not, until it is released.
    Quarantined,
    /// It may not, ever.
    Revoked,
}

impl InstanceStatus {
    /// The word it is stored and shown by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Quarantined => "quarantined",
            Self::Revoked => "revoked",
        }
    }

    /// The status of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Active, Self::Quarantined, Self::Revoked].into_iter().find(|status| status.as_str() == name)
    }
}

/// What an installation was found to be, with its evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// `ios`, `android` or `web`.
    pub platform: String,
    /// The kind of evidence.
    pub evidence: String,
    /// What the evidence is known by: the credential's id, or a hash. No two installations show the same.
    pub evidence_key: [u8; 32],
    /// The attested key that signs assertions (App Attest): a point on P-256, uncompressed.
    pub attested_key: Option<Vec<u8>>,
    /// How far it carries.
    pub level: String,
    /// `production` or `development`, where the evidence says it.
    pub environment: Option<String>,
    /// How the app was distributed, where the evidence says it.
    pub category: Option<u16>,
    /// The app's version, where the evidence says it; else as the app says.
    pub version: Option<String>,
    /// Serial numbers to look up again when a revocation list changes.
    pub serials: Vec<String>,
    /// Flags, as a JSON array.
    pub flags: String,
    /// Annotations for its tokens.
    pub annotations: Vec<String>,
    /// A keyed hash of an identifier of the device, where somebody gave one.
    pub device: Option<String>,
    /// Until when the evidence counts.
    pub reattest_at: Timestamp,
}

/// An installation to be written.
#[derive(Debug, Clone)]
pub struct NewInstance {
    /// Whose.
    pub app: Name,
    /// Thumbprint of its key (RFC 7638).
    pub jkt: String,
    /// Its public key, as JSON.
    pub jwk: String,
    /// What it was found to be.
    pub attested: Attested,
    /// The code of this enrolment.
    pub arc: String,
    /// Where the counter of its evidence begins; 0 where it has none.
    pub counter: u32,
    /// The receipt that came with its evidence, where it is kept.
    pub receipt: Option<NewReceipt>,
}

/// An installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// Its id: the subject of its tokens.
    pub id: String,
    /// Whose.
    pub app: Name,
    /// Thumbprint of its key.
    pub jkt: String,
    /// Its public key, as JSON.
    pub jwk: String,
    /// The highest counter seen.
    pub counter: u64,
    /// What it was found to be.
    pub attested: Attested,
    /// The code of its last enrolment or token.
    pub arc: String,
    /// When it first enrolled.
    pub created_at: Timestamp,
    /// When it last showed its evidence.
    pub attested_at: Timestamp,
    /// When it last got a token.
    pub seen_at: Timestamp,
    /// Whether it may get tokens,
    pub status: InstanceStatus,
    /// since when,
    pub status_at: Timestamp,
    /// by whom,
    pub status_by: String,
    /// and why.
    pub status_why: String,
}

/// Something that counts once, used up with what it is shown for.
#[derive(Debug, Clone)]
pub struct UseUp {
    /// What it is.
    pub kind: OneTime,
    /// What it is known by.
    pub key: Vec<String>,
    /// From when on nobody takes it.
    pub until: Timestamp,
}

/// What became of an enrolment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Enrolled {
    /// It is written: a new one, or the same key with new evidence.
    Done(Box<Instance>),
    /// Another installation has shown the same evidence.
    EvidenceTaken,
    /// An installation with this key is there and may not.
    Barred(InstanceStatus),
}

/// What a refresh brings.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The nonce, and what else counts once.
    pub used: Vec<UseUp>,
    /// The counter of its assertion, where there is one: it must be higher than the highest seen.
    pub counter: Option<u64>,
    /// Annotations of its tokens from now on.
    pub annotations: Vec<String>,
    /// Flags from now on, as a JSON array.
    pub flags: String,
    /// The app's version from now on, where it says one.
    pub version: Option<String>,
    /// The code of this refresh.
    pub arc: String,
    /// Who is named where it is quarantined.
    pub by: String,
}

/// What became of a refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Renewed {
    /// It may have a token.
    Done(Box<Instance>),
    /// The nonce was used before.
    Used(OneTime),
    /// The counter did not rise: its key may have been copied. It is quarantined, its tokens are revoked.
    CounterRegressed,
    /// It may not, or is not there.
    Barred,
}

/// Which installations to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstanceFilter {
    /// Of this app.
    pub app: Option<String>,
    /// Of this status.
    pub status: Option<InstanceStatus>,
    /// Whose id, key's thumbprint or version begins so.
    pub search: Option<String>,
}

/// How many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceCount {
    /// Of which app.
    pub app: String,
    /// On which platform.
    pub platform: String,
    /// With which status.
    pub status: String,
    /// How many.
    pub count: u64,
}
