//! The keys of audit logs. That they are to be replaced is said once, in the store; every node replaces that of its own log, at
//! once or when it comes back.
//!
//! The order of steps makes each of them repeatable: a key is kept sealed in the store before a log announces it, and that it was
//! announced is noted last. So the store always has every key a log has announced.

use std::sync::Arc;

use audit::note::Signer;
use audit::{Log, Recorder, Signers};
use aws_lc_rs::digest::{SHA256, digest};
use base::{Rng, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use store::{Store, StoreError};
use vault::{Label, Purpose, Sealed, Vault};
use zeroize::Zeroizing;

use crate::operations::known;
use crate::recording::RecordingError;

/// Where the store keeps the keys of audit logs: this, the log's name, and of every key but the first `+` and its number.
pub(crate) const AUDIT_KEYS: &str = "audit.key.";
/// Where it keeps the last replacement that was asked for.
const ASKED: &str = "audit.key_replacement";
/// Where it keeps which replacement had been asked for when a log began: this, and the log's name.
const SINCE: &str = "audit.key_since.";
/// Where it keeps how many replacements a log has announced: this, and the log's name.
const ANNOUNCED: &str = "audit.key_announced.";
const VERSION: u64 = 1;

/// A replacement that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// The how-manieth, of all logs together.
    pub(crate) number: u64,
    /// When, in milliseconds since 1970.
    pub(crate) at: i64,
    /// Until when both keys sign, likewise.
    pub(crate) until: i64,
    /// Whether the key before it may be known to others.
    pub(crate) compromised: bool,
}

/// What replacing takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AuditKeys<'a> {
    /// Where keys are kept.
    pub(crate) store: &'a Store,
    /// What seals them.
    pub(crate) vault: &'a Vault,
    /// Randomness.
    pub(crate) rng: &'a Arc<dyn Rng>,
}

/// A key of a log, and for which replacement it was made: 0 is the first.
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) signer: Signer,
}

impl<'a> AuditKeys<'a> {
    /// The keys of a log, oldest first. The first is made where there is none.
    pub(crate) async fn of(self, origin: &str) -> Result<Vec<Numbered>, RecordingError> {
        let meta = self.store.meta();
        let first = if let Some(kept) = meta.get(&format!("{AUDIT_KEYS}{origin}")).await? {
            self.open(origin, origin, &kept)?
        } else {
            // A log that begins now needs no key that takes the place of another.
            let asked = self.asked().await?.map_or(0, |(asked, _)| asked.number);
            meta.set_once(&format!("{SINCE}{origin}"), &asked.to_string()).await?;
            self.make(origin, origin).await?
        };
        let mut keys = vec![Numbered { number: 0, signer: first }];
        for (name, kept) in meta.starting_with(&format!("{AUDIT_KEYS}{origin}+")).await? {
            let label = name.strip_prefix(AUDIT_KEYS).ok_or(RecordingError::Damaged)?;
            let number = label.rsplit_once('+').and_then(|(_, number)| number.parse().ok());
            let number = number.ok_or(RecordingError::Damaged)?;
            keys.push(Numbered { number, signer: self.open(origin, label, &kept)? });
        }
        keys.sort_by_key(|key| key.number);
        Ok(keys)
    }

    /// What a log is opened with.
    pub(crate) async fn signers(self, origin: &str) -> Result<Signers, RecordingError> {
        let signers = self.of(origin).await?.into_iter().map(|key| key.signer).collect();
        let announced = self.number(&format!("{ANNOUNCED}{origin}")).await?;
        Ok(Signers::new(signers, usize::try_from(announced).unwrap_or(usize::MAX)))
    }

    /// The replacement asked for last, and how the store has it.
    pub(crate) async fn asked(self) -> Result<Option<(Asked, String)>, RecordingError> {
        let Some(text) = self.store.meta().get(ASKED).await? else { return Ok(None) };
        let asked = serde_json::from_str(&text).map_err(|_| RecordingError::Damaged)?;
        Ok(Some((asked, text)))
    }

    /// Ask for a replacement; every node hears of it. Whether nobody else has meanwhile.
    pub(crate) async fn ask(self, asked: Asked, before: Option<&str>) -> Result<bool, StoreError> {
        let text = serde_json::to_string(&asked).map_err(|_| StoreError::Corrupt)?;
        self.store.meta().tell(ASKED, before, &text).await
    }

    /// Whether the log of this node has still to follow what was asked for.
    pub(crate) async fn is_behind(self, log: &Log) -> Result<bool, RecordingError> {
        let Some((asked, _)) = self.asked().await? else { return Ok(false) };
        let origin = log.origin();
        let newest = self.of(origin).await?.pop().ok_or(RecordingError::Damaged)?;
        let since = self.number(&format!("{SINCE}{origin}")).await?;
        Ok(newest.number.max(since) < asked.number || *newest.signer.verifier() != log.verifier())
    }

    /// Whether a log, of whichever node, has still to follow what was asked for, as far as the store knows.
    pub(crate) async fn waits(self, origin: &str) -> Result<bool, RecordingError> {
        let Some((asked, _)) = self.asked().await? else { return Ok(false) };
        let keys = self.of(origin).await?;
        let since = self.number(&format!("{SINCE}{origin}")).await?;
        let announced = self.number(&format!("{ANNOUNCED}{origin}")).await?;
        Ok(keys.last().map_or(0, |key| key.number).max(since) < asked.number || announced + 1 < keys.len() as u64)
    }

    /// Replace the key of this node's log as far as that was asked for and has not been done. Repeated after any failure, it goes
    /// on where it ended.
    pub(crate) async fn follow(self, recorder: &Recorder) -> Result<(), RecordingError> {
        let Some(log) = recorder.log() else { return Ok(()) };
        let origin = log.origin();
        if let Some((asked, _)) = self.asked().await? {
            let mut keys = self.of(origin).await?;
            let since = self.number(&format!("{SINCE}{origin}")).await?;
            if keys.last().map_or(0, |key| key.number).max(since) < asked.number {
                let signer = self.make(origin, &format!("{origin}+{}", asked.number)).await?;
                keys.push(Numbered { number: asked.number, signer });
            }
            let has = log.keys().changes().len();
            for key in keys.into_iter().skip(has + 1) {
                let until = Timestamp::from_millis(asked.until);
                let log = log.clone();
                let replaced = move || log.replace_key(key.signer, until, asked.compromised);
                let replaced = tokio::task::spawn_blocking(replaced).await;
                let (checkpoint, _) = replaced.map_err(|_| audit::LogError::Closed)??;
                let size = checkpoint.size;
                tracing::info!(target: "audit", log = origin, size, "the key of the audit log was replaced");
            }
        }
        let (has, name) = (log.keys().changes().len() as u64, format!("{ANNOUNCED}{origin}"));
        if self.number(&name).await? < has {
            self.store.meta().set(&name, &has.to_string()).await?;
        }
        self.seen(log).await
    }

    /// Since when the log has its key.
    async fn seen(self, log: &Log) -> Result<(), RecordingError> {
        let verifier = log.verifier().to_string();
        let hash = digest(&SHA256, verifier.as_bytes());
        let hash = <[u8; 32]>::try_from(hash.as_ref()).map_err(|_| RecordingError::Damaged)?;
        // As it was remembered while no key was ever replaced.
        let earlier = [hash, [1; 32]];
        let hashes = if log.keys().changes().is_empty() { &earlier[..] } else { &earlier[..1] };
        self.store.known_keys().seen(known::AUDIT, log.origin(), hashes).await?;
        Ok(())
    }

    async fn number(self, name: &str) -> Result<u64, RecordingError> {
        let text = self.store.meta().get(name).await?;
        text.map_or(Ok(0), |text| text.parse().map_err(|_| RecordingError::Damaged))
    }

    /// The key of that label, made unless there is one.
    async fn make(self, origin: &str, label: &str) -> Result<Signer, RecordingError> {
        let new = Signer::generate(origin, &**self.rng)?;
        let sealed = self.vault.seal(&self.label(label), new.seed().expose())?;
        let name = format!("{AUDIT_KEYS}{label}");
        let kept = self.store.meta().set_once(&name, &STANDARD.encode(sealed.as_bytes())).await?;
        self.open(origin, label, &kept)
    }

    fn open(self, origin: &str, label: &str, kept: &str) -> Result<Signer, RecordingError> {
        let bytes = STANDARD.decode(kept).map_err(|_| RecordingError::Damaged)?;
        let seed = self.vault.open(&self.label(label), &Sealed::from_bytes(bytes)?)?;
        let seed = <[u8; 32]>::try_from(seed.expose().as_slice()).map_err(|_| RecordingError::Damaged)?;
        Ok(Signer::from_seed(origin, &Zeroizing::new(seed))?)
    }

    fn label<'b>(self, name: &'b str) -> Label<'b>
    where
        'a: 'b,
    {
        Label::new(self.store.tenant(), Purpose::AuditKey, name, VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::Fixture;
    use audit::disk::RealDisk;
    use audit::verify::{self, Trusted};
    use audit::{BoxFuture, KeyError, LogError, Options, Recorder, SubjectKey, SubjectKeys};
    use base::SystemRng;

    const ORIGIN: &str = "ai.example.com/audit/one";

    /// No entry here is about anybody.
    struct Nobody;

    impl SubjectKeys for Nobody {
        fn of<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<SubjectKey, KeyError>> {
            Box::pin(std::future::ready(Err(KeyError("nobody"))))
        }

        fn by_id<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<SubjectKey>, KeyError>> {
            Box::pin(std::future::ready(Ok(None)))
        }
    }

    struct Node {
        fixture: Fixture,
        rng: Arc<dyn Rng>,
    }

    impl Node {
        async fn new() -> Self {
            Self { fixture: Fixture::new().await, rng: Arc::new(SystemRng) }
        }

        fn keys(&self) -> AuditKeys<'_> {
            let operations = &self.fixture.operations;
            AuditKeys { store: operations.store(), vault: operations.vault(), rng: &self.rng }
        }

        async fn open(&self) -> Result<Recorder, LogError> {
            let signers = self.keys().signers(ORIGIN).await.unwrap();
            let clock = Arc::new(self.fixture.clock.clone());
            let log = Log::open(Arc::new(RealDisk), &self.dir(), signers, clock.clone(), Options::default())?;
            Ok(Recorder::new(log, Arc::new(Nobody), clock, Arc::clone(&self.rng), false))
        }

        fn dir(&self) -> std::path::PathBuf {
            self.fixture.dir.path().join("log")
        }

        fn report(&self, first: &audit::note::Verifier) -> verify::Report {
            let disk: Arc<dyn audit::disk::Disk> = Arc::new(RealDisk);
            let trusted = Trusted { verifier: Some(first.clone()), checkpoints: Vec::new() };
            verify::directory(&disk, &self.dir(), &trusted)
        }
    }

    fn asked(number: u64) -> Asked {
        Asked { number, at: 1, until: i64::MAX / 2, compromised: false }
    }

    #[tokio::test]
    async fn killed_between_any_two_steps_the_next_start_ends_the_replacement() {
        let node = Node::new().await;
        let recorder = node.open().await.unwrap();
        let first = recorder.log().unwrap().verifier();
        recorder.log().unwrap().close();
        let mut before = None;
        // What of the steps was done when the process was killed: nothing but the asking; the key sealed in the store; the key
        // announced by the log.
        for (round, steps) in (1u64..).zip([0, 1, 2]) {
            assert!(node.keys().ask(asked(round), before.as_deref()).await.unwrap());
            assert!(
                !node.keys().ask(asked(round), Some("what was there long ago")).await.unwrap(),
                "one of two who ask"
            );
            before = node.keys().asked().await.unwrap().map(|(_, text)| text);
            let recorder = node.open().await.unwrap();
            let log = recorder.log().unwrap();
            assert!(node.keys().is_behind(log).await.unwrap() && node.keys().waits(ORIGIN).await.unwrap());
            if steps > 0 {
                let signer = node.keys().make(ORIGIN, &format!("{ORIGIN}+{round}")).await.unwrap();
                if steps > 1 {
                    log.replace_key(signer, Timestamp::from_millis(1), false).unwrap();
                }
            }
            log.close();
            drop(recorder);

            let recorder = node.open().await.unwrap();
            for _ in 0..2 {
                node.keys().follow(&recorder).await.unwrap();
            }
            let log = recorder.log().unwrap();
            assert!(!node.keys().is_behind(log).await.unwrap() && !node.keys().waits(ORIGIN).await.unwrap());
            let keys = node.keys().of(ORIGIN).await.unwrap();
            assert_eq!(keys.iter().map(|key| key.number).collect::<Vec<_>>(), (0..=round).collect::<Vec<_>>());
            assert_eq!(keys.last().map(|key| key.signer.verifier()), Some(&log.verifier()));
            log.close();
            let report = node.report(&first);
            assert!(report.valid && report.changes.len() as u64 == round, "{report:?}");
        }
        // What the store knows the log has announced is not there any more.
        std::fs::remove_dir_all(node.dir()).unwrap();
        assert_eq!(node.open().await.err().map(|error| error.reason()), Some("audit_key_rolled_back"));
    }

    #[tokio::test]
    async fn a_log_that_begins_after_a_replacement_has_nothing_to_follow() {
        let node = Node::new().await;
        assert!(node.keys().ask(asked(1), None).await.unwrap());
        let recorder = node.open().await.unwrap();
        node.keys().follow(&recorder).await.unwrap();
        assert_eq!(recorder.log().unwrap().keys().changes().len(), 0);
        assert!(!node.keys().waits(ORIGIN).await.unwrap());
        recorder.log().unwrap().close();
    }

    #[tokio::test]
    async fn keys_are_sealed_and_opened_for_their_log_and_number_only() {
        let node = Node::new().await;
        let key = node.keys().make(ORIGIN, &format!("{ORIGIN}+1")).await.unwrap();
        let (meta, name) = (node.fixture.operations.store().meta(), format!("{AUDIT_KEYS}{ORIGIN}+1"));
        let kept = meta.get(&name).await.unwrap().unwrap();
        assert!(!STANDARD.decode(&kept).unwrap().windows(32).any(|bytes| bytes == key.seed().expose()));
        assert!(node.keys().open(ORIGIN, &format!("{ORIGIN}+2"), &kept).is_err());
        assert!(node.keys().open(ORIGIN, ORIGIN, &kept).is_err());
    }
}
