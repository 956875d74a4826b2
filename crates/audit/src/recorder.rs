//! What writes entries: one JSON object each, of schema version 1 (docs/audit.md).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{Clock, Rng, Timestamp};
use quick_cache::sync::Cache;
use serde_json::{Map, Value};

use crate::error::AppendError;
use crate::flood::Flood;
use crate::json::Object;
use crate::log::Log;
use crate::people::{KeyError, Sender, SubjectKeys, Whom};
use crate::queue::Ack;

/// The version of the entries' schema.
pub const SCHEMA: u8 = 1;
/// How many subjects are kept ready.
const KEPT: usize = 65_536;
/// The issuer of those who could not be told who they are: a key for each day, so that it can be destroyed with it.
const NOBODY: &str = "";

/// What has been set aside for a request, or what it came to: a line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldLine {
    /// The block it is taken from.
    pub lease: i64,
    /// What is counted.
    pub unit: &'static str,
    /// How much, in that unit.
    pub amount: i64,
}

/// What was set aside for a request and is not any more: a line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettledLine {
    /// The block it was taken from.
    pub lease: i64,
    /// What is counted.
    pub unit: &'static str,
    /// How much was used, in that unit.
    pub amount: i64,
    /// How much had been set aside, as entries before say.
    pub of: i64,
}

/// More is set aside for a request that is under way, or some of it is settled apart from its end.
#[derive(Debug, Clone, Copy)]
pub struct Moved<'a> {
    /// Now.
    pub at: Timestamp,
    /// The request's id.
    pub id: &'a str,
    /// What has been set aside.
    pub holds: &'a [HoldLine],
    /// What has been settled.
    pub settled: &'a [SettledLine],
}

/// A request about to be sent on: written before a key is opened for it.
#[derive(Debug, Clone, Copy)]
pub struct Begun<'a> {
    /// Now.
    pub at: Timestamp,
    /// The request's id.
    pub id: &'a str,
    /// Which endpoint.
    pub route: &'a str,
    /// Who sent it.
    pub sender: Sender<'a>,
    /// What allowed it.
    pub policy: Option<&'a str>,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// Whose key is about to be opened first.
    pub provider: &'a str,
    /// The length of its body.
    pub bytes: u64,
    /// What has been set aside for it.
    pub holds: &'a [HoldLine],
    /// The runtime secrets about to be opened for it, each with its version: `maps-key/2`.
    pub secrets: &'a [String],
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// Now.
    pub at: Timestamp,
    /// The request's id.
    pub id: &'a str,
    /// Which endpoint.
    pub route: &'a str,
    /// Who sent it.
    pub sender: Sender<'a>,
    /// What allowed it, if anything did.
    pub policy: Option<&'a str>,
    /// The model asked for.
    pub model: Option<&'a str>,
    /// Who answered: a provider, `cache`, `vouchgate` or `none`.
    pub provider: &'a str,
    /// Whether it has an entry of its beginning.
    pub begun: bool,
    /// The status it was answered with; 499 where its sender had gone.
    pub status: u16,
    /// `ok`, `refused`, `provider_error`, `cut` or `client_gone`.
    pub outcome: &'a str,
    /// Why, if it did not end well.
    pub error: Option<&'a str>,
    /// Tokens that went in.
    pub input_tokens: Option<u64>,
    /// Tokens that came out.
    pub output_tokens: Option<u64>,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// The length of what was answered.
    pub bytes: u64,
    /// What the ledger settled.
    pub settled: &'a [SettledLine],
}

/// Somebody was not let in.
#[derive(Debug, Clone, Copy)]
pub struct Failed<'a> {
    /// Now.
    pub at: Timestamp,
    /// Where: `gateway`, `token_service` or `admin`.
    pub surface: &'a str,
    /// The request's id, if it has one.
    pub id: Option<&'a str>,
    /// Why: a stable code.
    pub reason: &'a str,
    /// Who they said they are, which nothing has shown.
    pub claimed: Option<&'a str>,
    /// Their address, where it is known.
    pub ip: Option<IpAddr>,
}

/// Something that happened to the installation: who did what to what.
#[derive(Debug, Clone, Default)]
pub struct Event {
    /// What kind: `admin.begun`, `token.issued`, ...
    pub kind: &'static str,
    /// Who: a token's name, `local`, a client.
    pub by: Option<String>,
    /// The rest. Never a secret.
    pub members: Map<String, Value>,
    /// A person it concerns: issuer and subject.
    pub about: Option<(String, String)>,
    /// From where.
    pub ip: Option<IpAddr>,
}

impl Event {
    /// An event of this kind.
    pub fn new(kind: &'static str) -> Self {
        Self { kind, ..Self::default() }
    }

    /// Who did it.
    #[must_use]
    pub fn by(mut self, by: impl Into<String>) -> Self {
        self.by = Some(by.into());
        self
    }

    /// Another member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// Another member, if there is one.
    #[must_use]
    pub fn maybe(self, name: &str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Whom it concerns.
    #[must_use]
    pub fn about(mut self, issuer: &str, subject: &str) -> Self {
        self.about = Some((issuer.to_owned(), subject.to_owned()));
        self
    }

    /// From where it was done.
    #[must_use]
    pub fn from(mut self, ip: Option<IpAddr>) -> Self {
        self.ip = ip;
        self
    }
}

/// Writes entries. Cheap to clone.
#[derive(Clone)]
pub struct Recorder(Option<Arc<Inner>>);

struct Inner {
    log: Log,
    keys: Arc<dyn SubjectKeys>,
    clock: Arc<dyn Clock>,
    rng: Arc<dyn Rng>,
    /// Go on when nothing can be written.
    allow: bool,
    known: Cache<u128, Arc<Whom>>,
    hashers: (RandomState, RandomState),
    flood: Flood,
    /// Requests that went on although nothing was written before, and entries that were lost.
    unrecorded: AtomicU64,
    lost: AtomicU64,
}

impl Recorder {
    /// Writes nothing: `[audit] enabled = false`, and tests of other things.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Write into `log`. `allow`: requests go on when it cannot be written.
    pub fn new(log: Log, keys: Arc<dyn SubjectKeys>, clock: Arc<dyn Clock>, rng: Arc<dyn Rng>, allow: bool) -> Self {
        let flood = Flood::new(clock.monotonic());
        let (known, hashers) = (Cache::new(KEPT), (RandomState::new(), RandomState::new()));
        let (unrecorded, lost) = (AtomicU64::new(0), AtomicU64::new(0));
        // Nonces come from it, many and small.
        let rng = Arc::new(base::InBlocks::new(rng));
        Self(Some(Arc::new(Inner { log, keys, clock, rng, allow, known, hashers, flood, unrecorded, lost })))
    }

    /// The log, unless nothing is written.
    pub fn log(&self) -> Option<&Log> {
        self.0.as_ref().map(|inner| &inner.log)
    }

    /// Whether requests go on when nothing can be written.
    pub fn allows(&self) -> bool {
        self.0.as_ref().is_none_or(|inner| inner.allow)
    }

    /// Why requests are refused now for want of a record, if they are.
    pub fn trouble(&self) -> Option<AppendError> {
        self.0.as_ref().filter(|inner| !inner.allow).and_then(|inner| inner.log.trouble())
    }

    /// How many requests went on although nothing was written before.
    pub fn unrecorded(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.unrecorded.load(Ordering::Relaxed))
    }

    /// How many entries nobody waited for could not be kept.
    pub fn lost(&self) -> u64 {
        self.0.as_ref().map_or(0, |inner| inner.lost.load(Ordering::Relaxed))
    }

    /// A subject, if it is kept ready.
    pub fn known(&self, issuer: &str, subject: &str) -> Option<Arc<Whom>> {
        let inner = self.0.as_ref()?;
        inner.known.get(&inner.place(issuer, subject))
    }

    /// A subject, ready to be written. Its key is looked up, or made, the first time.
    pub async fn whom(&self, issuer: &str, subject: &str) -> Result<Option<Arc<Whom>>, KeyError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let place = inner.place(issuer, subject);
        if let Some(known) = inner.known.get(&place) {
            return Ok(Some(known));
        }
        let key = inner.keys.of(issuer, subject).await?;
        let whom = Arc::new(Whom::new(key, &*inner.rng, subject));
        inner.known.insert(place, Arc::clone(&whom));
        Ok(Some(whom))
    }

    /// Forget who is kept ready: a key has been destroyed, here or at another node.
    pub fn forget(&self) {
        if let Some(inner) = &self.0 {
            inner.known.clear();
        }
    }

    /// Write that a request is about to be sent on. The key may be opened once the answer is `Ok`; nothing is waited for
    /// where nothing is written.
    pub fn begun(&self, begun: &Begun<'_>) -> Result<Option<Ack>, AppendError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        if begun.sender.whom.is_none() && !inner.allow {
            return Err(AppendError::Unwritable);
        }
        let entry = inner.begun(begun);
        match inner.log.append_awaited(&entry) {
            Ok(ack) => Ok(Some(ack)),
            Err(_) if inner.allow => {
                inner.later(&entry);
                inner.unrecorded.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What was to be written before did not come to be: whether the request goes on all the same.
    pub fn goes_on(&self, begun: &Begun<'_>) -> bool {
        let Some(inner) = self.0.as_ref().filter(|inner| inner.allow) else { return self.0.is_none() };
        inner.later(&inner.begun(begun));
        inner.unrecorded.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Write that a request is over. Nothing is waited for.
    pub fn ended(&self, ended: &Ended<'_>) {
        let Some(inner) = &self.0 else { return };
        // Who is let in and turned away all the time gets no more room than who is not let in.
        let refused = !ended.begun && ended.outcome == "refused";
        if refused && !inner.flood(ended.sender.ip, ended.at) {
            return;
        }
        let mut entry = start(ended.at, if refused { "request.refused" } else { "request.ended" });
        entry.text("request", ended.id).text("route", ended.route);
        inner.sender(&mut entry, &ended.sender);
        entry.maybe("policy", ended.policy).maybe("model", ended.model).text("provider", ended.provider);
        entry.number("status", ended.status).text("outcome", ended.outcome).maybe("error", ended.error);
        entry.maybe_number("input_tokens", ended.input_tokens).maybe_number("output_tokens", ended.output_tokens);
        entry.number("duration_ms", ended.duration_ms).number("bytes", ended.bytes);
        settled(&mut entry, ended.settled);
        inner.later(&entry.finish());
    }

    /// Write that more is set aside for a request. It may be spent once the answer is `Ok`; nothing is waited for where
    /// nothing is written.
    pub fn held(&self, moved: &Moved<'_>) -> Result<Option<Ack>, AppendError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let entry = moved_entry("request.held", moved);
        match inner.log.append_awaited(&entry) {
            Ok(ack) => Ok(Some(ack)),
            Err(_) if inner.allow => {
                inner.later(&entry);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Write what was settled for a request apart from its end. Nothing is waited for.
    pub fn settled(&self, moved: &Moved<'_>) {
        if let Some(inner) = &self.0 {
            inner.later(&moved_entry("request.settled", moved));
        }
    }

    /// Write that somebody was not let in, or count it. Nothing is waited for.
    pub async fn failed(&self, failed: &Failed<'_>) {
        let Some(inner) = &self.0 else { return };
        let nowhere = IpAddr::from([0, 0, 0, 0]);
        if !inner.flood(failed.ip.unwrap_or(nowhere), failed.at) {
            return;
        }
        let mut entry = start(failed.at, "auth.failed");
        entry.text("surface", failed.surface).maybe("request", failed.id).text("reason", failed.reason);
        entry.maybe("claimed", failed.claimed);
        if let Some(ip) = failed.ip {
            self.address(inner, &mut entry, failed.at, ip).await;
        }
        inner.later(&entry.finish());
    }

    /// Write an event and wait until it is durable.
    pub async fn happened(&self, event: Event) -> Result<(), AppendError> {
        self.placed(event).await.map(drop)
    }

    /// The same, and give the entry's index: nothing where it is not written, or only later.
    pub async fn placed(&self, event: Event) -> Result<Option<u64>, AppendError> {
        let Some(inner) = &self.0 else { return Ok(None) };
        let entry = self.event(inner, event).await;
        let written = match inner.log.append_awaited(&entry) {
            Ok(ack) => ack.await,
            Err(error) => Err(error),
        };
        match written {
            Ok(index) => Ok(Some(index)),
            Err(_) if inner.allow => {
                inner.later(&entry);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Write an event that nobody waits for.
    pub async fn noted(&self, event: Event) {
        let Some(inner) = &self.0 else { return };
        let entry = self.event(inner, event).await;
        inner.later(&entry);
    }

    /// Say what has been left out of a minute that is over: to be called from time to time.
    pub fn tick(&self) {
        if let Some(inner) = &self.0 {
            inner.say_omitted(inner.flood.omitted(inner.clock.monotonic()), inner.clock.now());
        }
    }

    async fn event(&self, inner: &Inner, event: Event) -> Vec<u8> {
        let at = inner.clock.now();
        let mut entry = start(at, event.kind);
        entry.maybe("by", event.by.as_deref());
        let mut whom = None;
        if let Some((issuer, subject)) = &event.about {
            entry.text("issuer", issuer);
            match self.whom(issuer, subject).await {
                Ok(Some(known)) => {
                    entry.raw("subject", known.subject());
                    whom = Some(known);
                }
                Ok(None) => {}
                Err(error) => {
                    entry.text("subject_unknown", error.0);
                }
            }
        }
        match (event.ip, whom) {
            (Some(ip), Some(whom)) => {
                entry.raw("ip", &whom.address(&*inner.rng, ip));
            }
            (Some(ip), None) => self.address(inner, &mut entry, at, ip).await,
            (None, _) => {}
        }
        for (name, value) in &event.members {
            entry.value(name, value);
        }
        entry.finish()
    }

    /// An address of nobody that is known: under the key of its day.
    async fn address(&self, inner: &Inner, entry: &mut Object, at: Timestamp, ip: IpAddr) {
        let day = at.rfc3339();
        match self.whom(NOBODY, day.get(..10).unwrap_or_default()).await {
            Ok(Some(day)) => {
                entry.raw("subject", day.subject()).raw("ip", &day.address(&*inner.rng, ip));
            }
            Ok(None) => {}
            Err(error) => {
                entry.text("ip_unknown", error.0);
            }
        }
    }
}

impl Inner {
    fn place(&self, issuer: &str, subject: &str) -> u128 {
        let (first, second) = &self.hashers;
        let hash = |state: &RandomState| u128::from(state.hash_one((issuer, subject)));
        hash(first) << 64 | hash(second)
    }

    fn begun(&self, begun: &Begun<'_>) -> Vec<u8> {
        let mut entry = start(begun.at, "request.begun");
        entry.text("request", begun.id).text("route", begun.route);
        self.sender(&mut entry, &begun.sender);
        entry.maybe("policy", begun.policy).maybe("model", begun.model).text("provider", begun.provider);
        entry.number("bytes", begun.bytes);
        lines(&mut entry, "holds", begun.holds);
        if !begun.secrets.is_empty() {
            entry.value("secrets", &begun.secrets.iter().map(|name| Value::from(name.as_str())).collect());
        }
        entry.finish()
    }

    fn sender(&self, entry: &mut Object, sender: &Sender<'_>) {
        match sender.whom {
            Some(whom) => entry.members(&whom.sender(&*self.rng, sender)),
            None => entry.text("issuer", sender.issuer).maybe("client", sender.client).maybe("key", sender.key),
        };
    }

    /// Whether a failure from this address is written; what of an earlier minute was not is said first.
    fn flood(&self, ip: IpAddr, at: Timestamp) -> bool {
        let verdict = self.flood.count(ip, self.clock.monotonic());
        self.say_omitted(verdict.omitted, at);
        verdict.write
    }

    fn say_omitted(&self, omitted: u64, at: Timestamp) {
        if omitted > 0 {
            let mut entry = start(at, "auth.omitted");
            entry.number("count", omitted);
            self.later(&entry.finish());
        }
    }

    fn later(&self, entry: &[u8]) {
        if self.log.append(entry).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Recorder").field(&self.log()).finish()
    }
}

fn start(at: Timestamp, kind: &str) -> Object {
    let mut entry = Object::new();
    entry.number("v", SCHEMA).time("at", at).text("kind", kind);
    entry
}

/// Lines of the ledger that belong to a request, apart from its beginning and its end.
fn moved_entry(kind: &str, moved: &Moved<'_>) -> Vec<u8> {
    let mut entry = start(moved.at, kind);
    entry.text("request", moved.id);
    lines(&mut entry, "holds", moved.holds);
    settled(&mut entry, moved.settled);
    entry.finish()
}

/// `[[lease,"unit",amount,of],...]`, if there is any.
fn settled(entry: &mut Object, lines: &[SettledLine]) {
    if !lines.is_empty() {
        entry.lines("settled", lines.iter().map(|line| (line.lease, line.unit, [line.amount, line.of])));
    }
}

/// `[[lease,"unit",amount],...]`, if there is any.
fn lines(entry: &mut Object, name: &'static str, lines: &[HoldLine]) {
    if !lines.is_empty() {
        entry.lines(name, lines.iter().map(|line| (line.lease, line.unit, [line.amount])));
    }
}
