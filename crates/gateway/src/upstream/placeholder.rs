//! `{{secret:NAME}}` in a request to an `[[upstream]]`: replaced by the value here, so that the app never has it.
//!
//! Who may use which secret, in which header fields and parameters, is said by `[[runtime_secret]]`. Where else a placeholder
//! stands the request is refused: an API that repeats a parameter in its answer would give the value away. Bodies and paths
//! are not looked at. What comes back is searched for the values that were sent ([`super::echo`]).

use std::fmt;
use std::sync::Arc;

use base::{Problem, Secret, Timestamp};
use config::AttestationLevel;
use http::StatusCode;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode, percent_encode};
use store::{SecretTally, SecretUse, Slot, Used};

use super::{Credential, CredentialError};
use crate::authenticate::Caller;
use crate::health::{Standby, States};
use crate::recorded::Recorded;

/// What a placeholder begins and ends with.
const OPEN: &[u8] = b"{{secret:";
const CLOSE: &[u8] = b"}}";
/// Most placeholders in one request.
const MOST: usize = 8;
/// The longest name (as of all resources).
const LONGEST_NAME: usize = 64;
/// What stands in a query as it is (RFC 3986 section 2.3).
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A runtime secret, for whoever may use it.
pub struct RuntimeSecret {
    rules: config::RuntimeSecret,
    headers: Vec<HeaderName>,
    /// Newest first.
    values: Vec<RuntimeValue>,
    /// What is known of each of them.
    standby: Standby,
    tally: SecretTally,
}

/// One version of a runtime secret.
#[derive(Debug)]
pub struct RuntimeValue {
    /// Which one.
    pub version: u64,
    /// From when on it is in force.
    pub not_before: Timestamp,
    /// From when on it is not.
    pub not_after: Option<Timestamp>,
    /// Its value, sealed.
    pub credential: Credential,
}

impl RuntimeSecret {
    /// A secret with these versions, the newest first.
    pub(crate) fn new(
        rules: config::RuntimeSecret,
        values: Vec<RuntimeValue>,
        (tally, states): (SecretTally, &Arc<States>),
    ) -> Self {
        let headers = rules.headers.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()).collect();
        let slot = |at| if at == 0 { Slot::Current } else { Slot::Old };
        let each = values.iter().enumerate().map(|(at, value)| (slot(at), value.credential.clone()));
        let standby = Standby::new((&rules.name, "runtime_secret"), each, states);
        Self { rules, headers, values, standby, tally }
    }

    /// Whether it is for requests to this upstream.
    pub(crate) fn is_for(&self, upstream: &base::Name) -> bool {
        self.rules.upstreams.contains(upstream)
    }

    fn may_be_used_by(&self, app: Option<&str>, level: AttestationLevel) -> bool {
        app.is_some_and(|app| self.rules.apps.iter().any(|known| known.as_str() == app))
            && level >= self.rules.minimum_level
    }

    /// The places of the versions in force, the newest first.
    fn in_force(&self, now: Timestamp) -> Vec<usize> {
        let holds = |value: &RuntimeValue| value.not_before <= now && value.not_after.is_none_or(|end| now < end);
        self.values.iter().enumerate().filter_map(|(at, value)| holds(value).then_some(at)).collect()
    }

    /// Another version in force than the one at `used`, that may be sent to `origin`.
    fn other(&self, used: usize, now: Timestamp, origin: &str) -> Option<usize> {
        let usable = |at: &usize| self.values.get(*at).is_some_and(|value| value.credential.trouble(origin).is_none());
        self.in_force(now).into_iter().filter(|at| *at != used).find(usable)
    }
}

impl fmt::Debug for RuntimeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuntimeSecret").field("name", &self.rules.name).finish_non_exhaustive()
    }
}

/// Why a request with placeholders is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlaceholderError {
    /// There is no such secret for this upstream.
    #[error("the request names a secret that this upstream has none of")]
    Unknown,
    /// It is not for this app.
    #[error("the request names a secret that is not for its app")]
    App,
    /// The app is attested less well than it must be.
    #[error("the request names a secret for which its app is not attested well enough")]
    Level,
    /// It may not stand there.
    #[error("the request has a secret where it must not stand")]
    Place,
    /// It begins and does not end, or there are too many.
    #[error("the request has a placeholder that cannot be read")]
    Malformed,
    /// No version is in force, or it is for another origin.
    #[error("the secret has no value that could be sent")]
    Missing,
}

impl PlaceholderError {
    /// A stable code: the metric's and the log's.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "runtime_secret_unknown",
            Self::App => "runtime_secret_app",
            Self::Level => "runtime_secret_level",
            Self::Place => "runtime_secret_place",
            Self::Malformed => "runtime_secret_malformed",
            Self::Missing => "runtime_secret_missing",
        }
    }

    /// What the caller is told. Names of secrets cannot be tried out: one that is not for it is as one that there is not.
    pub(crate) fn problem(self) -> Problem {
        let bad = StatusCode::BAD_REQUEST;
        match self {
            Self::Unknown | Self::App | Self::Level => {
                let message = "The request names a secret that its sender cannot use here.";
                Problem::client(bad, "runtime_secret_unknown", message)
            }
            Self::Place => {
                let message = "A secret may stand only in the header fields and parameters it is configured for.";
                Problem::client(bad, self.reason(), message)
            }
            Self::Malformed => {
                let message = "A placeholder is {{secret:NAME}}, at most eight in a request.";
                Problem::client(bad, self.reason(), message)
            }
            Self::Missing => {
                let message = "The secret has no value now; tell the operator of this gateway.";
                let problem = Problem::us(StatusCode::SERVICE_UNAVAILABLE, self.reason(), message);
                Problem { retryable: false, ..problem }
            }
        }
    }
}

/// The placeholders of one request, each with the value that will stand in its place; none is opened yet.
#[derive(Debug)]
pub(crate) struct Placeholders<'a> {
    secrets: &'a [Arc<RuntimeSecret>],
    now: Timestamp,
    app: &'a str,
    /// What it found, in order: which secret and which of its versions, by index.
    found: Vec<(usize, usize)>,
}

/// Find the placeholders in a request to an upstream at `origin` that has these `secrets`, and see that its caller may use
/// them. `None` if there are none.
pub(crate) fn find<'a>(
    (secrets, origin): (&'a [Arc<RuntimeSecret>], &str),
    (headers, query): (&HeaderMap, Option<&str>),
    caller: &'a Caller,
    now: Timestamp,
) -> Result<Option<Placeholders<'a>>, PlaceholderError> {
    let who = (caller.app(), caller.level());
    let mut placeholders = Placeholders { secrets, now, app: who.0.unwrap_or_default(), found: Vec::new() };
    for (name, value) in headers {
        let here = |secret: &RuntimeSecret| secret.headers.contains(name);
        for part in parts(value.as_bytes())? {
            placeholders.see(&part, who, (origin, &here))?;
        }
    }
    for (name, value) in query.into_iter().flat_map(pairs) {
        if !may_hold_one(value.as_bytes()) {
            continue;
        }
        let here = |secret: &RuntimeSecret| secret.rules.query.iter().any(|known| decoded(name) == known.as_bytes());
        for part in parts(&Spelled::of(value).bytes)? {
            placeholders.see(&part, who, (origin, &here))?;
        }
    }
    Ok((!placeholders.found.is_empty()).then_some(placeholders))
}

/// A request with its secrets in it.
pub(crate) struct Filled {
    pub(crate) query: Option<Secret<String>>,
    /// The values that went into it.
    pub(crate) values: Vec<Secret<Vec<u8>>>,
}

impl Placeholders<'_> {
    fn see(
        &mut self,
        part: &Part<'_>,
        (app, level): (Option<&str>, AttestationLevel),
        (origin, here): (&str, &dyn Fn(&RuntimeSecret) -> bool),
    ) -> Result<(), PlaceholderError> {
        let Part::Name(name) = part else { return Ok(()) };
        let known = self.secrets.iter().enumerate().find(|(_, secret)| secret.rules.name.as_str().as_bytes() == *name);
        let (index, secret) = known.ok_or(PlaceholderError::Unknown)?;
        if !secret.may_be_used_by(app, AttestationLevel::HwStrong) {
            return Err(PlaceholderError::App);
        }
        if !secret.may_be_used_by(app, level) {
            return Err(PlaceholderError::Level);
        }
        if !here(secret) {
            return Err(PlaceholderError::Place);
        }
        let chosen = secret.standby.choose(&secret.in_force(self.now)).ok_or(PlaceholderError::Missing)?;
        let value = secret.values.get(chosen).ok_or(PlaceholderError::Missing)?;
        if let Some(error) = value.credential.trouble(origin) {
            tracing::error!(secret = %secret.rules.name, reason = error.reason(), %error, "a runtime secret is not sent");
            return Err(PlaceholderError::Missing);
        }
        self.found.push((index, chosen));
        if self.found.len() > MOST { Err(PlaceholderError::Malformed) } else { Ok(()) }
    }

    /// What will be opened, and what may be where that is refused: `maps-key/2`, each once.
    pub(crate) fn names(&self, origin: &str) -> Vec<String> {
        let mut names = Vec::new();
        let other = self.standing_by(origin);
        for (secret, _, value) in self.each().chain(other.iter().flat_map(Self::each)) {
            let name = format!("{}/{}", secret.rules.name, value.version);
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    /// The same with other versions of its secrets, as far as there are others in force. `None`: there are none.
    pub(crate) fn standing_by(&self, origin: &str) -> Option<Self> {
        let mut any = false;
        let other = |(secret, used): &(usize, usize)| {
            let other = self.secrets.get(*secret).and_then(|secret| secret.other(*used, self.now, origin));
            any |= other.is_some();
            (*secret, other.unwrap_or(*used))
        };
        let found = self.found.iter().map(other).collect();
        any.then_some(Self { secrets: self.secrets, now: self.now, app: self.app, found })
    }

    /// The API accepted these.
    pub(crate) fn accepted(&self) {
        self.each().for_each(|(secret, at, _)| secret.standby.accepted(at));
    }

    /// The API refused these and accepted `instead`.
    pub(crate) fn refused(&self, instead: &Self) {
        for ((secret, from, _), (_, to, _)) in self.each().zip(instead.each()).filter(|(a, b)| a.1 != b.1) {
            secret.standby.fell_back((from, to));
        }
    }

    /// Put the values in, of a request that is recorded: the header fields in place, the query anew.
    pub(crate) fn fill(
        &self,
        _recorded: Recorded,
        origin: &str,
        (headers, query): (&mut HeaderMap, Option<&str>),
    ) -> Result<Filled, CredentialError> {
        let mut opened: Vec<(&[u8], Secret<Vec<u8>>)> = Vec::new();
        for (secret, at, value) in self.each() {
            let name = secret.rules.name.as_str().as_bytes();
            if opened.iter().any(|(known, _)| *known == name) {
                continue;
            }
            opened.push((name, value.credential.read(origin)?));
            secret.tally.count(Used {
                name: &secret.rules.name,
                version: value.version,
                old: secret.in_force(self.now).first() != Some(&at),
                app: self.app,
                how: SecretUse::Substituted,
                at: self.now,
            });
        }
        let value = |name: &[u8]| opened.iter().find(|(known, _)| *known == name).map(|(_, value)| value.expose());
        for field in headers.values_mut() {
            let Ok(parts) = parts(field.as_bytes()) else { continue };
            if !parts.iter().any(|part| matches!(part, Part::Name(_))) {
                continue;
            }
            let text = joined(&parts, field.len(), |name| value(name).map(Vec::as_slice))?;
            let mut filled = HeaderValue::from_bytes(text.expose()).map_err(|_| CredentialError::Characters)?;
            filled.set_sensitive(true);
            *field = filled;
        }
        let query = query.map(|query| filled_query(query, |name| value(name).map(Vec::as_slice))).transpose()?;
        Ok(Filled { query, values: opened.into_iter().map(|(_, value)| value).collect() })
    }

    /// Each secret with the place of the version that is used of it.
    fn each(&self) -> impl Iterator<Item = (&RuntimeSecret, usize, &RuntimeValue)> {
        self.found.iter().filter_map(|(secret, value)| {
            let secret = self.secrets.get(*secret)?;
            Some((secret.as_ref(), *value, secret.values.get(*value)?))
        })
    }
}

/// A text and the placeholders in it.
#[derive(Debug, PartialEq, Eq)]
enum Part<'t> {
    /// As it is.
    Text(&'t [u8]),
    /// The name in a placeholder.
    Name(&'t [u8]),
}

/// Take a text apart.
fn parts(text: &[u8]) -> Result<Vec<Part<'_>>, PlaceholderError> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some(at) = memchr::memmem::find(rest, OPEN) {
        let (before, after) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        let name = after.get(OPEN.len()..).unwrap_or_default();
        let end = memchr::memmem::find(name, CLOSE).filter(|end| (1..=LONGEST_NAME).contains(end));
        let (name, after) = name.split_at_checked(end.ok_or(PlaceholderError::Malformed)?).unwrap_or((name, &[]));
        parts.extend((!before.is_empty()).then_some(Part::Text(before)));
        parts.push(Part::Name(name));
        if parts.len() > 4 * MOST {
            return Err(PlaceholderError::Malformed);
        }
        rest = after.get(CLOSE.len()..).unwrap_or_default();
    }
    parts.extend((!rest.is_empty()).then_some(Part::Text(rest)));
    Ok(parts)
}

/// The parts as one text again, with values in the places of names.
fn joined<'v>(
    parts: &[Part<'_>],
    room: usize,
    value: impl Fn(&[u8]) -> Option<&'v [u8]>,
) -> Result<Secret<Vec<u8>>, CredentialError> {
    let mut pieces = Vec::with_capacity(parts.len());
    for part in parts {
        pieces.push(match part {
            Part::Text(text) => *text,
            Part::Name(name) => value(name).ok_or(CredentialError::Missing)?,
        });
    }
    // Full size from the start: growing would leave a copy behind.
    let mut text = Vec::with_capacity(room.max(pieces.iter().map(|piece| piece.len()).sum()));
    for piece in pieces {
        text.extend_from_slice(piece);
    }
    Ok(Secret::new(text))
}

/// Whether a value of a query could hold a placeholder, however it is spelled.
fn may_hold_one(value: &[u8]) -> bool {
    memchr::memmem::find(value, b"secret").is_some() || value.contains(&b'%')
}

/// The parameters of a query, as they are written.
fn pairs(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter_map(|pair| pair.split_once('='))
}

fn decoded(text: &str) -> Vec<u8> {
    percent_decode(text.as_bytes()).collect()
}

/// A value of a query, decoded, and where each byte stands in what was written.
struct Spelled {
    bytes: Vec<u8>,
    at: Vec<usize>,
}

impl Spelled {
    fn of(written: &str) -> Self {
        let (mut bytes, mut at) = (Vec::with_capacity(written.len()), Vec::with_capacity(written.len() + 1));
        let mut rest = written.as_bytes();
        while let Some((first, after)) = rest.split_first() {
            at.push(written.len() - rest.len());
            let escaped = match after {
                [high, low, more @ ..] if *first == b'%' => {
                    digit(*high).zip(digit(*low)).map(|(h, l)| (h << 4 | l, more))
                }
                _ => None,
            };
            let (byte, more) = escaped.unwrap_or((*first, after));
            bytes.push(byte);
            rest = more;
        }
        at.push(written.len());
        Self { bytes, at }
    }
}

fn digit(hex: u8) -> Option<u8> {
    char::from(hex).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// A query with values in the places of placeholders; everything else stays as it is written.
fn filled_query<'v>(query: &str, value: impl Fn(&[u8]) -> Option<&'v [u8]>) -> Result<Secret<String>, CredentialError> {
    let mut pieces: Vec<std::borrow::Cow<'_, str>> = Vec::new();
    for (index, pair) in query.split('&').enumerate() {
        if index > 0 {
            pieces.push("&".into());
        }
        let Some((name, written)) = pair.split_once('=').filter(|(_, value)| may_hold_one(value.as_bytes())) else {
            pieces.push(pair.into());
            continue;
        };
        pieces.push(name.into());
        pieces.push("=".into());
        let spelled = Spelled::of(written);
        let mut from = 0;
        for part in parts(&spelled.bytes).map_err(|_| CredentialError::Missing)? {
            match part {
                Part::Text(text) => {
                    let to = from + text.len();
                    let ends = spelled.at.get(from).zip(spelled.at.get(to));
                    pieces.push(ends.and_then(|(from, to)| written.get(*from..*to)).unwrap_or_default().into());
                    from = to;
                }
                Part::Name(name) => {
                    let value = value(name).ok_or(CredentialError::Missing)?;
                    pieces.push(percent_encode(value, UNRESERVED).to_string().into());
                    from += OPEN.len() + name.len() + CLOSE.len();
                }
            }
        }
    }
    let mut text = String::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
    for piece in &pieces {
        text.push_str(piece);
    }
    Ok(Secret::new(text))
}
