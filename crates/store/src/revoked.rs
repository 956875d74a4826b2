//! Which tokens are revoked, in memory: exact, complete, and asked on every request.
//!
//! The table of revocations is the truth; this mirrors it. A revocation is in force here once it is on the disk and
//! before whoever asked for it is told. All handles on a store share one mirror.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use base::{Tenant, Timestamp};
use tokio::sync::watch;

use crate::revocations::{Entry, Revoke};

/// The name of our own issuer: who signs the tokens of the token service.
pub const OWN_ISSUER: &str = "vouchgate";

/// What a token says that a revocation may be about. Issuers are configured names.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenFacts<'a> {
    /// Who issued it.
    pub issuer: &'a str,
    /// `sub`. A token of ours for somebody another issuer vouches for has that issuer's name and `|` before it.
    pub subject: &'a str,
    /// `client_id`.
    pub client: Option<&'a str>,
    /// `jti`.
    pub jti: Option<&'a str>,
    /// The id of the key it is signed with.
    pub kid: Option<&'a str>,
    /// `sid`.
    pub session: Option<&'a str>,
    /// `orig_sid` of a token of ours: the session at the issuer that vouches for the subject.
    pub upstream_session: Option<&'a str>,
    /// `device_id`.
    pub device: Option<&'a str>,
    /// `iat`. A token without it is as old as can be.
    pub issued_at: Option<Timestamp>,
}

/// What of a token has been revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The token itself.
    Token,
    /// Its subject.
    Subject,
    /// Its client.
    Client,
    /// Its session.
    Session,
    /// Its device.
    Device,
    /// The key that signed it.
    Key,
    /// Everything of its issuer.
    Issuer,
    /// Everything.
    Everything,
}

impl Cause {
    /// A short stable code for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Subject => "subject",
            Self::Client => "client",
            Self::Session => "session",
            Self::Device => "device",
            Self::Key => "key",
            Self::Issuer => "issuer",
            Self::Everything => "everything",
        }
    }
}

/// The revocations in force, as one tenant sees them. Cheap to clone.
#[derive(Clone)]
pub struct Revoked {
    mirror: Arc<Mirror>,
    tenant: Tenant,
}

impl Revoked {
    /// What of the token has been revoked; nothing, if it stands.
    pub fn check(&self, token: &TokenFacts<'_>) -> Option<Cause> {
        if self.mirror.count.load(Ordering::Acquire) == 0 {
            return None;
        }
        let tenants = self.mirror.tenants.read().unwrap_or_else(PoisonError::into_inner);
        tenants.get(&self.tenant)?.check(token)
    }

    /// Grows with every revocation, and with every one that is lifted. Read before [`Revoked::check`], it says whether
    /// the answer may be different by now.
    pub fn epoch(&self) -> u64 {
        self.mirror.epoch.load(Ordering::Acquire)
    }

    /// Wakes whenever [`Revoked::epoch`] grows, once the revocation is durable and in force.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.mirror.changed.subscribe()
    }

    /// How many revocations are in force, those of other tenants among them.
    pub fn entries(&self) -> usize {
        usize::try_from(self.mirror.count.load(Ordering::Acquire)).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Revoked")
            .field("tenant", &self.tenant)
            .field("entries", &self.entries())
            .finish_non_exhaustive()
    }
}

/// A change of what is in force.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    /// A revocation was written.
    Add(Tenant, Box<Entry>),
    /// One was lifted: what remains in force of the same thing.
    Replace(Tenant, Revoke, Vec<Entry>),
}

/// What all handles share.
pub(crate) struct Mirror {
    tenants: RwLock<HashMap<Tenant, Marks>>,
    count: AtomicU64,
    epoch: AtomicU64,
    changed: watch::Sender<u64>,
}

impl Mirror {
    pub(crate) fn new(entries: impl IntoIterator<Item = (Tenant, Entry)>) -> Self {
        let mut tenants: HashMap<Tenant, Marks> = HashMap::new();
        for (tenant, entry) in entries {
            tenants.entry(tenant).or_default().add(&entry);
        }
        let count = AtomicU64::new(tenants.values().map(Marks::len).sum());
        Self { tenants: RwLock::new(tenants), count, epoch: AtomicU64::new(0), changed: watch::Sender::new(0) }
    }

    pub(crate) fn seen_by(self: &Arc<Self>, tenant: &Tenant) -> Revoked {
        Revoked { mirror: Arc::clone(self), tenant: tenant.clone() }
    }

    /// What is in force is this, all of it.
    pub(crate) fn replace(&self, entries: impl IntoIterator<Item = (Tenant, Entry)>) {
        let mut all: HashMap<Tenant, Marks> = HashMap::new();
        for (tenant, entry) in entries {
            all.entry(tenant).or_default().add(&entry);
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        *tenants = all;
        self.changed(tenants);
    }

    /// Put changes in force, then wake who watches.
    pub(crate) fn apply(&self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                Change::Add(tenant, entry) => tenants.entry(tenant).or_default().add(&entry),
                Change::Replace(tenant, what, rest) => {
                    let marks = tenants.entry(tenant).or_default();
                    marks.remove(&what);
                    for entry in &rest {
                        marks.add(entry);
                    }
                }
            }
        }
        self.changed(tenants);
    }

    fn changed(&self, tenants: RwLockWriteGuard<'_, HashMap<Tenant, Marks>>) {
        self.recount(&tenants);
        let epoch = self.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        drop(tenants);
        self.changed.send_if_modified(|seen| std::mem::replace(seen, epoch.max(*seen)) < epoch);
    }

    /// Let go of what may be forgotten at `now`: no token it is about is valid any more.
    pub(crate) fn forget(&self, now: Timestamp) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        for marks in tenants.values_mut() {
            marks.forget(now);
        }
        self.recount(&tenants);
    }

    fn recount(&self, tenants: &HashMap<Tenant, Marks>) {
        self.count.store(tenants.values().map(Marks::len).sum(), Ordering::Release);
    }
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").field("count", &self.count).finish_non_exhaustive()
    }
}

/// What was issued before `not_before` is refused, until `expires_at`, from which on there is nothing left to refuse.
#[derive(Debug, Clone, Copy)]
struct Mark {
    not_before: Timestamp,
    expires_at: Option<Timestamp>,
}

impl Mark {
    /// The later moment of both, and whichever is remembered longer.
    fn join(self, other: Self) -> Self {
        let expires_at = self.expires_at.zip(other.expires_at).map(|(a, b)| a.max(b));
        Self { not_before: self.not_before.max(other.not_before), expires_at }
    }

    fn hits(self, token: &TokenFacts<'_>) -> bool {
        token.issued_at.is_none_or(|at| at < self.not_before)
    }
}

/// By issuer, then by what it is about.
type Scoped = HashMap<Box<str>, HashMap<Box<str>, Mark>>;

#[derive(Debug, Default)]
pub(crate) struct Marks {
    tokens: Scoped,
    subjects: Scoped,
    clients: Scoped,
    sessions: Scoped,
    devices: Scoped,
    keys: Scoped,
    issuers: HashMap<Box<str>, Mark>,
    everything: Option<Mark>,
}

impl Marks {
    pub(crate) fn check(&self, token: &TokenFacts<'_>) -> Option<Cause> {
        let issuer = token.issuer;
        let named = |marks: &Scoped, value: &str| find(marks, issuer, value).is_some();
        // These name the token or its key itself: no time makes them valid.
        if token.jti.is_some_and(|jti| named(&self.tokens, jti)) {
            return Some(Cause::Token);
        }
        if token.kid.is_some_and(|kid| named(&self.keys, kid)) {
            return Some(Cause::Key);
        }
        let hit = |mark: Option<&Mark>| mark.is_some_and(|mark| mark.hits(token));
        if hit(self.everything.as_ref()) {
            return Some(Cause::Everything);
        }
        // A token of ours for somebody another issuer vouches for is that issuer's too.
        let theirs = token.subject.split_once('|').filter(|_| issuer == OWN_ISSUER);
        let origin = theirs.map(|(origin, _)| origin);
        if hit(self.issuers.get(issuer)) || hit(origin.and_then(|origin| self.issuers.get(origin))) {
            return Some(Cause::Issuer);
        }
        let scoped = |marks: &Scoped, own: Option<&str>, origins: Option<&str>| {
            hit(own.and_then(|value| find(marks, issuer, value)))
                || hit(origin.zip(origins).and_then(|(origin, value)| find(marks, origin, value)))
        };
        if scoped(&self.subjects, Some(token.subject), theirs.map(|(_, subject)| subject)) {
            Some(Cause::Subject)
        } else if scoped(&self.clients, token.client, None) {
            Some(Cause::Client)
        } else if scoped(&self.sessions, token.session, token.upstream_session) {
            Some(Cause::Session)
        } else if scoped(&self.devices, token.device, token.device) {
            Some(Cause::Device)
        } else {
            None
        }
    }

    pub(crate) fn add(&mut self, entry: &Entry) {
        let mark = Mark { not_before: entry.not_before, expires_at: entry.expires_at };
        match &entry.what {
            Revoke::Issuer { issuer } => join(&mut self.issuers, issuer.as_str().into(), mark),
            Revoke::Everything => self.everything = Some(self.everything.map_or(mark, |had| had.join(mark))),
            other => {
                if let Some((marks, issuer, value)) = self.scoped(other) {
                    join(marks.entry(issuer.into()).or_default(), value.into(), mark);
                }
            }
        }
    }

    fn remove(&mut self, what: &Revoke) {
        match what {
            Revoke::Issuer { issuer } => drop(self.issuers.remove(issuer.as_str())),
            Revoke::Everything => self.everything = None,
            other => {
                if let Some((marks, issuer, value)) = self.scoped(other)
                    && let Some(marks) = marks.get_mut(issuer)
                {
                    marks.remove(value);
                }
            }
        }
    }

    /// The map of those that name an issuer and something of it.
    fn scoped<'w>(&mut self, what: &'w Revoke) -> Option<(&mut Scoped, &'w str, &'w str)> {
        let marks = match what {
            Revoke::Token { .. } => &mut self.tokens,
            Revoke::Subject { .. } => &mut self.subjects,
            Revoke::Client { .. } => &mut self.clients,
            Revoke::Session { .. } => &mut self.sessions,
            Revoke::Device { .. } => &mut self.devices,
            Revoke::Key { .. } => &mut self.keys,
            Revoke::Issuer { .. } | Revoke::Everything => return None,
        };
        Some((marks, what.issuer(), what.value()))
    }

    fn forget(&mut self, now: Timestamp) {
        let stays = |mark: &Mark| mark.expires_at.is_none_or(|end| now < end);
        for marks in [
            &mut self.tokens,
            &mut self.subjects,
            &mut self.clients,
            &mut self.sessions,
            &mut self.devices,
            &mut self.keys,
        ] {
            for marks in marks.values_mut() {
                marks.retain(|_, mark| stays(mark));
            }
            marks.retain(|_, marks| !marks.is_empty());
        }
        self.issuers.retain(|_, mark| stays(mark));
        self.everything = self.everything.filter(stays);
    }

    fn len(&self) -> u64 {
        let scoped = [&self.tokens, &self.subjects, &self.clients, &self.sessions, &self.devices, &self.keys];
        let scoped: usize = scoped.iter().flat_map(|marks| marks.values()).map(HashMap::len).sum();
        (scoped + self.issuers.len() + usize::from(self.everything.is_some())) as u64
    }
}

fn find<'m>(marks: &'m Scoped, issuer: &str, value: &str) -> Option<&'m Mark> {
    marks.get(issuer)?.get(value)
}

fn join<K: Eq + Hash>(marks: &mut HashMap<K, Mark>, key: K, mark: Mark) {
    marks.entry(key).and_modify(|had| *had = had.join(mark)).or_insert(mark);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALUES: [&str; 4] = ["a", "b", "a|b", "a|a"];
    const ISSUERS: [&str; 3] = [OWN_ISSUER, "a", "b"];

    fn value() -> impl Strategy<Value = String> {
        (0..VALUES.len()).prop_map(|n| VALUES[n].to_owned())
    }

    fn issuer() -> impl Strategy<Value = String> {
        (0..ISSUERS.len()).prop_map(|n| ISSUERS[n].to_owned())
    }

    fn what() -> impl Strategy<Value = Revoke> {
        (0..8u8, issuer(), value()).prop_map(|(kind, issuer, value)| match kind {
            0 => Revoke::Token { issuer, jti: value },
            1 => Revoke::Subject { issuer, subject: value },
            2 => Revoke::Client { issuer, client: value },
            3 => Revoke::Session { issuer, session: value },
            4 => Revoke::Device { issuer, device: value },
            5 => Revoke::Key { issuer, kid: value },
            6 => Revoke::Issuer { issuer },
            _ => Revoke::Everything,
        })
    }

    prop_compose! {
        fn entry()(what in what(), not_before in 0i64..4, life in proptest::option::of(1i64..6)) -> Entry {
            Entry {
                seq: 0,
                what,
                not_before: Timestamp::from_secs(not_before),
                expires_at: life.map(Timestamp::from_secs),
                at: Timestamp::from_secs(0),
                by: String::new(),
                reason: String::new(),
                lifted: None,
            }
        }
    }

    #[derive(Debug, Clone)]
    struct Token {
        issuer: String,
        subject: String,
        value: String,
        upstream: Option<String>,
        at: Option<i64>,
    }

    prop_compose! {
        fn token()(
            issuer in issuer(),
            subject in value(),
            value in value(),
            upstream in proptest::option::of(value()),
            at in proptest::option::of(0i64..4),
        ) -> Token {
            Token { issuer, subject, value, upstream, at }
        }
    }

    impl Token {
        /// The rules once more, one revocation at a time.
        fn hit_by(&self, entry: &Entry) -> bool {
            let old = self.at.is_none_or(|at| Timestamp::from_secs(at) < entry.not_before);
            let own = self.issuer == OWN_ISSUER;
            let (origin, theirs) = match self.subject.split_once('|') {
                Some((origin, theirs)) if own => (Some(origin), Some(theirs)),
                _ => (None, None),
            };
            let (ours, from) = (entry.what.issuer() == self.issuer, Some(entry.what.issuer()) == origin);
            match &entry.what {
                Revoke::Token { jti, .. } => ours && *jti == self.value,
                Revoke::Key { kid, .. } => ours && *kid == self.value,
                Revoke::Everything => old,
                Revoke::Issuer { .. } => old && (ours || from),
                Revoke::Subject { subject, .. } => {
                    old && (ours && *subject == self.subject || from && Some(subject.as_str()) == theirs)
                }
                Revoke::Client { client, .. } => old && ours && *client == self.value,
                Revoke::Session { session, .. } => {
                    old && (ours && *session == self.value || from && Some(session) == self.upstream.as_ref())
                }
                Revoke::Device { device, .. } => old && (ours || from) && *device == self.value,
            }
        }
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_list_of_revocations(
            entries in proptest::collection::vec(entry(), 0..12),
            token in token(),
            gone in proptest::option::of(0usize..12),
            now in proptest::option::of(0i64..6),
        ) {
            let tenant = Tenant::default();
            let mirror = Arc::new(Mirror::new([]));
            let seen = mirror.seen_by(&tenant);
            for entry in &entries {
                mirror.apply(vec![Change::Add(tenant.clone(), Box::new(entry.clone()))]);
            }
            let mut left = entries;
            if let Some(gone) = gone.filter(|gone| *gone < left.len()) {
                let what = left.remove(gone).what;
                let rest: Vec<Entry> = left.iter().filter(|entry| entry.what == what).cloned().collect();
                mirror.apply(vec![Change::Replace(tenant.clone(), what, rest)]);
            }
            let facts = TokenFacts {
                issuer: &token.issuer,
                subject: &token.subject,
                client: Some(&token.value),
                jti: Some(&token.value),
                kid: Some(&token.value),
                session: Some(&token.value),
                upstream_session: token.upstream.as_deref(),
                device: Some(&token.value),
                issued_at: token.at.map(Timestamp::from_secs),
            };
            prop_assert_eq!(seen.check(&facts).is_some(), left.iter().any(|entry| token.hit_by(entry)));
            if let Some(now) = now.map(Timestamp::from_secs) {
                mirror.forget(now);
                // Nothing is forgotten before its time, and nothing appears.
                let lasting = |entry: &&Entry| entry.expires_at.is_none_or(|end| now < end);
                let lasting = left.iter().filter(lasting).any(|entry| token.hit_by(entry));
                prop_assert!(!lasting || seen.check(&facts).is_some());
                prop_assert!(seen.check(&facts).is_none() || left.iter().any(|entry| token.hit_by(entry)));
            }
        }
    }
}
