//! Looking into the audit log: entries, proofs, checkpoints; and the end of what can be read of a subject.

use std::collections::HashMap;
use std::net::IpAddr;

use audit::{Reader, SubjectKey, SubjectKeys};
use base::Timestamp;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Listed, OperationError, Operations};
use crate::recording::StoreKeys;

/// How many entries one look goes through at most; the next goes on from there.
const MOST: u64 = 16_384;
/// How many entries a bundle has.
const WIDTH: u64 = audit::tile::WIDTH;

/// An entry of the audit log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditEntryView {
    /// Its place in the log, from 0.
    index: u64,
    /// The entry as it stands in the log.
    entry: Value,
    /// The subject it is about, opened; absent unless that was asked for, or once its key is destroyed.
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    /// The address it names, opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<String>,
}

/// A proof that an entry is in the log.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditProofView {
    /// Its place in the log.
    index: u64,
    /// The hash of the entry (RFC 6962 section 2.1), in base64.
    leaf_hash: String,
    /// The hashes beside the way to the root, in base64, lowest first.
    proof: Vec<String>,
    /// The signed note that names the root.
    checkpoint: String,
}

/// What the log has, signed.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AuditCheckpointView {
    /// Which log.
    origin: String,
    /// How many entries.
    size: u64,
    /// The root over them, in base64.
    root: String,
    /// The key it is signed with, as a verifier key.
    key: String,
    /// The signed note.
    checkpoint: String,
}

/// Whose data is to be erased.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EraseSubject {
    /// The configured name of the issuer; absent: `vouchgate`.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The subject.
    pub subject: String,
}

/// What was erased.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ErasedView {
    /// The name the subject has in entries, which leads to nobody any more.
    id: String,
}

/// Which entries are wanted.
#[derive(Debug, Default)]
pub struct AuditFilter {
    /// Not before.
    pub since: Option<Timestamp>,
    /// Before.
    pub until: Option<Timestamp>,
    /// Of this kind, or of a group of them: `admin`, `token`.
    pub kind: Option<String>,
    /// Of this request.
    pub request: Option<String>,
    /// Of this client.
    pub client: Option<String>,
    /// Of this subject of an issuer: compared by its name in entries.
    pub subject: Option<(String, String)>,
    /// From this address: compared by keyed hashes.
    pub ip: Option<IpAddr>,
    /// Whether what is sealed is opened.
    pub open: bool,
}

impl Operations {
    /// Entries, newest first. `after` is where the last look ended.
    pub async fn audit_list(
        &self,
        filter: &AuditFilter,
        (after, limit): (Option<u64>, usize),
    ) -> Result<Listed<AuditEntryView>, OperationError> {
        let reader = self.audit_reader().await?;
        let keys = self.subject_keys();
        let wanted = match &filter.subject {
            Some((issuer, subject)) => {
                let mut found = None;
                for lookup in StoreKeys::lookups(&self.vault, issuer, subject) {
                    found = self.store.audit_subjects().find(&lookup).await?;
                    if found.is_some() {
                        break;
                    }
                }
                let Some(row) = found else { return Ok(Listed { items: Vec::new(), next: None }) };
                Some(row.id)
            }
            None => None,
        };
        let mut known = Known { keys: &keys, by_id: HashMap::new() };
        let minimum = reader.minimum().map_err(OperationError::from)?;
        let from = after.unwrap_or(u64::MAX).min(reader.checkpoint().size);
        let mut items = Vec::new();
        let mut index = from;
        let mut bundle: Option<(u64, Vec<Vec<u8>>)> = None;
        while index > minimum && from - index < MOST && items.len() < limit {
            index -= 1;
            if bundle.as_ref().is_none_or(|(at, _)| *at != index / WIDTH) {
                bundle = Some((index / WIDTH, blocking(&reader, move |reader| reader.bundle(index / WIDTH)).await?));
            }
            let place = usize::try_from(index % WIDTH).unwrap_or(0);
            let bytes = bundle.as_ref().and_then(|(_, entries)| entries.get(place));
            let Some(entry) = bytes.and_then(|bytes| serde_json::from_slice::<Value>(bytes).ok()) else { continue };
            if !plainly(filter, &entry) || wanted.as_deref().is_some_and(|id| subject_id(&entry) != Some(id)) {
                continue;
            }
            if let Some(ip) = filter.ip
                && !known.is_from(&entry, ip).await?
            {
                continue;
            }
            items.push(known.view(index, entry, filter.open).await?);
        }
        let next = (index > minimum).then(|| index.to_string());
        if filter.open && !items.is_empty() {
            self.audit_read(items.len()).await?;
        }
        Ok(Listed { items, next })
    }

    /// One entry, with what is sealed in it opened.
    pub async fn audit_get(&self, index: &str) -> Result<AuditEntryView, OperationError> {
        let (index, reader) = (numbered(index)?, self.audit_reader().await?);
        let bytes = blocking(&reader, move |reader| reader.entry(index)).await?;
        let entry = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let keys = self.subject_keys();
        let view = Known { keys: &keys, by_id: HashMap::new() }.view(index, entry, true).await?;
        if view.subject.is_some() || view.ip.is_some() {
            self.audit_read(1).await?;
        }
        Ok(view)
    }

    /// The proof that an entry is in the log.
    pub async fn audit_proof(&self, index: &str) -> Result<AuditProofView, OperationError> {
        let (index, reader) = (numbered(index)?, self.audit_reader().await?);
        let (leaf, proof) =
            blocking(&reader, move |reader| Ok((reader.leaf(index)?, reader.inclusion(index)?))).await?;
        Ok(AuditProofView {
            index,
            leaf_hash: STANDARD.encode(leaf),
            proof: proof.iter().map(|hash| STANDARD.encode(hash)).collect(),
            checkpoint: reader.note().to_owned(),
        })
    }

    /// A checkpoint of all that is in the log now.
    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpointView, OperationError> {
        let reader = self.audit_reader().await?;
        let log = self.audit.log().ok_or_else(off)?;
        let checkpoint = reader.checkpoint();
        Ok(AuditCheckpointView {
            origin: checkpoint.origin.clone(),
            size: checkpoint.size,
            root: STANDARD.encode(checkpoint.root),
            key: log.verifier().to_string(),
            checkpoint: reader.note().to_owned(),
        })
    }

    /// Destroy the key of a subject: nothing the log says of it can be read or matched any more, by anybody. The log itself
    /// stays as it is.
    pub async fn audit_erase(&self, asked: &EraseSubject) -> Result<ErasedView, OperationError> {
        let issuer = asked.issuer.as_deref().unwrap_or(config::OWN_NAME);
        let mut erased = None;
        for lookup in StoreKeys::lookups(&self.vault, issuer, &asked.subject) {
            match self.store.audit_subjects().erase(&lookup).await {
                Err(store::StoreError::Missing(_)) => {}
                other => erased = Some(other?),
            }
        }
        let Some(id) = erased else {
            let name = asked.subject.clone();
            return Err(OperationError::NotFound { kind: "subject in the audit log", name });
        };
        self.audit.forget();
        Ok(ErasedView { id })
    }

    async fn audit_reader(&self) -> Result<Reader, OperationError> {
        let log = self.audit.log().ok_or_else(off)?.clone();
        let read = tokio::task::spawn_blocking(move || {
            log.checkpoint()?;
            log.reader()
        });
        Ok(read.await.map_err(|_| audit::LogError::Closed)??)
    }

    fn subject_keys(&self) -> StoreKeys {
        StoreKeys {
            store: self.store.clone(),
            vault: std::sync::Arc::clone(&self.vault),
            rng: std::sync::Arc::clone(&self.rng),
        }
    }

    /// Who reads what is sealed leaves an entry too.
    async fn audit_read(&self, entries: usize) -> Result<(), OperationError> {
        Ok(self.audit.happened(audit::Event::new("audit.read").with("entries", entries)).await?)
    }
}

pub(super) fn off() -> OperationError {
    OperationError::NotAllowed("there is no audit log: [audit] enabled = false".to_owned())
}

fn numbered(index: &str) -> Result<u64, OperationError> {
    let missing = || OperationError::NotFound { kind: "entry of the audit log", name: index.to_owned() };
    index.parse().map_err(|_| missing())
}

async fn blocking<T: Send + 'static>(
    reader: &Reader,
    work: impl FnOnce(&Reader) -> Result<T, audit::LogError> + Send + 'static,
) -> Result<T, OperationError> {
    let reader = reader.clone();
    let done = tokio::task::spawn_blocking(move || work(&reader)).await;
    Ok(done.map_err(|_| audit::LogError::Closed)??)
}

fn subject_id(entry: &Value) -> Option<&str> {
    entry.get("subject")?.get("id")?.as_str()
}

/// What can be told without any key.
fn plainly(filter: &AuditFilter, entry: &Value) -> bool {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let is = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| text(name) == Some(wanted));
    let at = text("at").and_then(Timestamp::parse_rfc3339);
    let kind = |wanted: &str| {
        let rest = text("kind").and_then(|kind| kind.strip_prefix(wanted));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    filter.since.is_none_or(|since| at.is_some_and(|at| at >= since))
        && filter.until.is_none_or(|until| at.is_some_and(|at| at < until))
        && filter.kind.as_deref().is_none_or(kind)
        && is(&filter.request, "request")
        && is(&filter.client, "client")
}

/// The keys of the subjects met on the way, each looked up once.
struct Known<'a> {
    keys: &'a StoreKeys,
    by_id: HashMap<String, Option<SubjectKey>>,
}

impl Known<'_> {
    async fn key(&mut self, entry: &Value) -> Result<Option<&SubjectKey>, OperationError> {
        let Some(id) = subject_id(entry) else { return Ok(None) };
        if !self.by_id.contains_key(id) {
            let key = self.keys.by_id(id).await.map_err(|error| OperationError::NotAllowed(error.to_string()))?;
            self.by_id.insert(id.to_owned(), key);
        }
        Ok(self.by_id.get(id).and_then(Option::as_ref))
    }

    async fn is_from(&mut self, entry: &Value, ip: IpAddr) -> Result<bool, OperationError> {
        let mark = entry.get("ip").and_then(|ip| ip.get("mark")).and_then(Value::as_str).map(str::to_owned);
        let Some(mark) = mark else { return Ok(false) };
        let key = self.key(entry).await?;
        Ok(key.is_some_and(|key| key.mark("ip", &ip.to_canonical().to_string()) == mark))
    }

    async fn view(&mut self, index: u64, entry: Value, open: bool) -> Result<AuditEntryView, OperationError> {
        let sealed = |name: &str| Some(entry.get(name)?.get("sealed")?.as_str()?.to_owned());
        let (subject, ip) = (sealed("subject"), sealed("ip"));
        let key = if open { self.key(&entry).await? } else { None };
        let subject = key.and_then(|key| key.open("subject", &subject?));
        let ip = key.and_then(|key| key.open("ip", &ip?));
        Ok(AuditEntryView { index, entry, subject, ip })
    }
}
