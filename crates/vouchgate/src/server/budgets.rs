//! The ledger of budgets, from the start of the node to its end.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::{Event, Recorder};
use base::{Clock, Rng};
use control::backup::NODE_NAME;
use store::{Journal, Ledger, LedgerSettings, OpenLease, Store};

use super::accounts::{self, MARKED, OPENED};
use super::{StartError, upkeep};
use crate::tasks::Tasks;

/// How often what is due beside requests is done.
const TICK: Duration = Duration::from_secs(1);

/// How often the audit log is told how far back it would have to be read, while blocks are leased.
const MARK: Duration = Duration::from_mins(1);

/// Open the ledger. What an earlier start had leased and not given back, because it was killed, is settled by the audit log; what
/// that does not tell counts as spent.
pub(super) async fn open(
    store: &Store,
    data_dir: &Path,
    rng: &dyn Rng,
    recorder: &Recorder,
) -> Result<Ledger, StartError> {
    let path = data_dir.join(NODE_NAME);
    let name = node_name(&path, rng).map_err(|error| StartError::NodeName(path, error))?;
    let ledger = Ledger::open(store, LedgerSettings::new(&name)).await?;
    let leases = ledger.open_leases(&name).await?;
    if !leases.is_empty() {
        let journal = journal(recorder, &name, leases).await;
        let recovered = ledger.recover(&name, journal).await?;
        tracing::warn!(
            leases = recovered.leases,
            charged = recovered.spent,
            held = recovered.held,
            returned = recovered.returned,
            "the last run was not stopped but ended: what it had set aside of budgets has been settled"
        );
    }
    opened(recorder, &ledger).await;
    Ok(ledger)
}

/// What is known of the leases.
async fn journal(recorder: &Recorder, node: &str, leases: Vec<OpenLease>) -> Journal {
    let lost = |why: &str| {
        tracing::warn!(why, "what the last run had set aside of budgets counts as spent");
        Journal::Lost
    };
    let Some(log) = recorder.log().cloned() else { return lost("there is no audit log") };
    if recorder.allows() {
        return lost("requests may have gone on without a record ([audit] on_failure)");
    }
    let node = node.to_owned();
    match tokio::task::spawn_blocking(move || accounts::read(&log, &node, &leases)).await {
        Ok(Ok(told)) => {
            if told.unknown > 0 {
                tracing::warn!(
                    leases = told.unknown,
                    "the audit log does not reach back to these: what they had set aside counts as spent"
                );
            }
            Journal::Kept(told.uses)
        }
        Ok(Err(error)) => lost(&error.to_string()),
        Err(_) => lost("the audit log could not be read"),
    }
}

/// Have the log say that no lease of this start was used before.
async fn opened(recorder: &Recorder, ledger: &Ledger) {
    let event = Event::new(OPENED).with("node", ledger.node()).with("epoch", ledger.epoch());
    if let Err(error) = recorder.happened(event).await {
        tracing::warn!(%error, "the start of the budgets is not in the audit log");
    }
}

/// The name this node had at its last start, or a new one.
fn node_name(path: &Path, rng: &dyn Rng) -> std::io::Result<String> {
    match std::fs::read_to_string(path) {
        Ok(name) if !name.trim().is_empty() && name.len() <= 64 => return Ok(name.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let mut random = [0; 8];
    rng.fill(&mut random);
    let name = format!("node-{:016x}", u64::from_be_bytes(random));
    std::fs::write(path, &name)?;
    Ok(name)
}

/// Do what is due beside requests, as long as the server runs.
pub(super) fn keep(tasks: &Tasks, (ledger, recorder): (&Ledger, Recorder), (store, clock): (&Store, &Arc<dyn Clock>)) {
    tasks.spawn(upkeep::forget_periods(store.clone(), ledger.clone(), Arc::clone(clock)));
    let (ledger, marked) = (ledger.clone(), ledger.clone());
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(TICK).await;
            if let Err(error) = ledger.tick().await {
                tracing::warn!(reason = error.reason(), %error, "the budgets' books cannot be kept");
            }
        }
    });
    tasks.spawn(async move {
        let mut mark = None;
        loop {
            tokio::time::sleep(MARK).await;
            mark = next_mark(&recorder, &marked, mark).await;
        }
    });
}

/// A place in the log, and the last lease there was when it had been written: whatever is leased later is used later.
type Mark = (u64, i64);

/// Have the log say what the mark before is, which gives another one.
async fn next_mark(recorder: &Recorder, ledger: &Ledger, last: Option<Mark>) -> Option<Mark> {
    // Nothing has been leased since.
    if last.map_or(0, |(_, newest)| newest) == ledger.newest_lease() {
        return last;
    }
    let (from, after) = last.unzip();
    let event = Event::new(MARKED).with("node", ledger.node()).maybe("from", from).maybe("after", after);
    // Read once the place is known: what is leased between the two may be used before it, and is not greater.
    let place = recorder.placed(event).await.ok().flatten()?;
    Some((place, ledger.newest_lease()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemRng;

    #[test]
    fn a_node_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NODE_NAME);
        let name = node_name(&path, &SystemRng).unwrap();
        assert!(name.starts_with("node-") && name.len() == 21);
        assert_eq!(node_name(&path, &SystemRng).unwrap(), name);
        std::fs::write(&path, "").unwrap();
        assert_ne!(node_name(&path, &SystemRng).unwrap(), name);
    }
}
