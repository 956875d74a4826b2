//! Who or what an event is about (RFC 9493, Shared Signals Framework section 3).

use std::fmt;

use super::{MAX_STRING, SetError, word};
use crate::jose::{JsonObject, required};

/// The most identifiers in an `aliases` subject, and members of a complex one.
const MAX_MEMBERS: usize = 16;

/// A subject identifier (`sub_id`).
#[derive(Clone, PartialEq, Eq)]
pub enum SubjectId {
    /// `iss_sub`: a subject of an issuer.
    IssSub {
        /// Whose.
        iss: String,
        /// Which.
        sub: String,
    },
    /// `email`.
    Email(String),
    /// `phone_number`.
    PhoneNumber(String),
    /// `account`: an `acct:` URI.
    Account(String),
    /// `opaque`: a name that only both sides understand.
    Opaque(String),
    /// `uri`.
    Uri(String),
    /// `did`: a URL of a decentralized identifier.
    Did(String),
    /// `jwt_id`: one token.
    JwtId {
        /// Whose.
        iss: String,
        /// Its `jti`.
        jti: String,
    },
    /// `saml_assertion_id`: one assertion.
    SamlAssertionId {
        /// Whose.
        issuer: String,
        /// Its ID.
        assertion_id: String,
    },
    /// `aliases`: several names of one subject.
    Aliases(Vec<SubjectId>),
    /// `complex`: all of its members together.
    Complex(Box<ComplexSubject>),
    /// A format that is not known here.
    Unknown(String),
}

/// A subject of several parts (Shared Signals Framework section 3.3): what is meant is where all of them meet, as this
/// user's session on that device.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ComplexSubject {
    /// `user`.
    pub user: Option<SubjectId>,
    /// `device`.
    pub device: Option<SubjectId>,
    /// `session`.
    pub session: Option<SubjectId>,
    /// `application`.
    pub application: Option<SubjectId>,
    /// `tenant`.
    pub tenant: Option<SubjectId>,
    /// `org_unit`.
    pub org_unit: Option<SubjectId>,
    /// `group`.
    pub group: Option<SubjectId>,
    /// The names of members that are not known here. A receiver that leaves them out means more than the transmitter did.
    pub unknown: Vec<String>,
}

impl SubjectId {
    /// Read a `sub_id`.
    pub(super) fn parse(object: &JsonObject) -> Result<Self, SetError> {
        match word(object, "format") {
            Some("complex") => complex(object).map(|complex| Self::Complex(Box::new(complex))),
            Some("aliases") => aliases(object),
            _ => simple(object),
        }
    }

    /// The name of its format.
    pub fn format(&self) -> &str {
        match self {
            Self::IssSub { .. } => "iss_sub",
            Self::Email(_) => "email",
            Self::PhoneNumber(_) => "phone_number",
            Self::Account(_) => "account",
            Self::Opaque(_) => "opaque",
            Self::Uri(_) => "uri",
            Self::Did(_) => "did",
            Self::JwtId { .. } => "jwt_id",
            Self::SamlAssertionId { .. } => "saml_assertion_id",
            Self::Aliases(_) => "aliases",
            Self::Complex(_) => "complex",
            Self::Unknown(format) => format,
        }
    }
}

/// Says only what kind of name it is: names of people stay out of logs.
impl fmt::Debug for SubjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectId({})", self.format())
    }
}

impl fmt::Debug for ComplexSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComplexSubject").field("unknown", &self.unknown).finish_non_exhaustive()
    }
}

/// Formats that do not nest.
fn simple(object: &JsonObject) -> Result<SubjectId, SetError> {
    let of =
        |name: &str| required(object, name, MAX_STRING).map(str::to_owned).map_err(|_| SetError::BadClaim("sub_id"));
    Ok(match of("format")?.as_str() {
        "iss_sub" => SubjectId::IssSub { iss: of("iss")?, sub: of("sub")? },
        "email" => SubjectId::Email(of("email")?),
        "phone_number" => SubjectId::PhoneNumber(of("phone_number")?),
        "account" => SubjectId::Account(of("uri")?),
        "opaque" => SubjectId::Opaque(of("id")?),
        "uri" => SubjectId::Uri(of("uri")?),
        "did" => SubjectId::Did(of("url")?),
        "jwt_id" => SubjectId::JwtId { iss: of("iss")?, jti: of("jti")? },
        "saml_assertion_id" => SubjectId::SamlAssertionId { issuer: of("issuer")?, assertion_id: of("assertion_id")? },
        // RFC 9493 section 3.2.8: aliases do not nest; nor does a complex subject.
        "aliases" | "complex" => return Err(SetError::BadClaim("sub_id")),
        other => SubjectId::Unknown(other.to_owned()),
    })
}

fn aliases(object: &JsonObject) -> Result<SubjectId, SetError> {
    let bad = SetError::BadClaim("sub_id");
    let list = object.get("identifiers").and_then(|list| list.as_array()).ok_or(bad)?;
    if list.is_empty() || list.len() > MAX_MEMBERS {
        return Err(bad);
    }
    let read: Result<Vec<_>, _> = list.iter().map(|one| simple(one.as_object().ok_or(bad)?)).collect();
    read.map(SubjectId::Aliases)
}

fn complex(object: &JsonObject) -> Result<ComplexSubject, SetError> {
    let bad = SetError::BadClaim("sub_id");
    let mut complex = ComplexSubject::default();
    if object.len() > MAX_MEMBERS || object.len() < 2 {
        return Err(bad);
    }
    for (name, value) in object.iter().filter(|(name, _)| *name != "format") {
        let member = match name.as_str() {
            "user" => &mut complex.user,
            "device" => &mut complex.device,
            "session" => &mut complex.session,
            "application" => &mut complex.application,
            "tenant" => &mut complex.tenant,
            "org_unit" => &mut complex.org_unit,
            "group" => &mut complex.group,
            other => {
                complex.unknown.push(other.chars().filter(|c| !c.is_control()).take(64).collect());
                continue;
            }
        };
        let value = value.as_object().ok_or(bad)?;
        *member = Some(if word(value, "format") == Some("aliases") { aliases(value)? } else { simple(value)? });
    }
    Ok(complex)
}
