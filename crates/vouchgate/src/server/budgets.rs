//! The ledger of budgets, from the start of the node to its end.

use std::path::Path;
use std::time::Duration;

use base::Rng;
use store::{Journal, Ledger, LedgerSettings, Store};

use super::StartError;
use crate::tasks::Tasks;

/// Where in the data directory the name is that the ledger knows this node by: one process has the directory, and no two nodes
/// have the same.
const NAME: &str = "node-name";

/// How often what is due beside requests is done.
const TICK: Duration = Duration::from_secs(1);

/// Open the ledger. What an earlier start had leased and not given back, because it was killed, counts as spent.
pub(super) async fn open(store: &Store, data_dir: &Path, rng: &dyn Rng) -> Result<Ledger, StartError> {
    let path = data_dir.join(NAME);
    let name = node_name(&path, rng).map_err(|error| StartError::NodeName(path, error))?;
    let ledger = Ledger::open(store, LedgerSettings::new(&name)).await?;
    let recovered = ledger.recover(&name, Journal::Lost).await?;
    if recovered.leases > 0 {
        tracing::warn!(
            leases = recovered.leases,
            "the last run was not stopped but ended: what it had set aside of budgets counts as spent"
        );
    }
    Ok(ledger)
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
pub(super) fn keep(tasks: &Tasks, ledger: Ledger) {
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(TICK).await;
            if let Err(error) = ledger.tick().await {
                tracing::warn!(reason = error.reason(), %error, "the budgets' books cannot be kept");
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SystemRng;

    #[test]
    fn a_node_keeps_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(NAME);
        let name = node_name(&path, &SystemRng).unwrap();
        assert!(name.starts_with("node-") && name.len() == 21);
        assert_eq!(node_name(&path, &SystemRng).unwrap(), name);
        std::fs::write(&path, "").unwrap();
        assert_ne!(node_name(&path, &SystemRng).unwrap(), name);
    }
}
