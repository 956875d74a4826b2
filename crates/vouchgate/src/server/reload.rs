//! What is in force is replaced as a whole: by a reload, and whenever something in the store has changed.

use std::path::Path;
use std::sync::{Arc, PoisonError};

use config::{Config, Fault};

use super::{Running, StartError, record};
use crate::wire::BuildError;
use crate::{authorities, master_keys, preflight};

impl Running {
    pub(super) async fn reload(&self) -> Result<(), Vec<Fault>> {
        let _one = self.reloading.lock().await;
        let outcome = self.try_reload().await;
        let first = outcome.as_ref().err().map(|faults| faults.first().map_or_else(String::new, ToString::to_string));
        let config = self.config();
        let told = first.as_deref().map_or(Ok(&*config), Err);
        record::reloaded(self.builder.operations.audit(), told).await;
        match &outcome {
            Ok(()) => tracing::info!(generation = self.snapshot.load().generation(), "reloaded"),
            Err(faults) => {
                let first = faults.first().map_or_else(String::new, ToString::to_string);
                tracing::error!(faults = faults.len(), first, "not reloaded: what was in force stays in force");
            }
        }
        outcome
    }

    async fn try_reload(&self) -> Result<(), Vec<Fault>> {
        let config = match &self.file {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
                Arc::new(preflight::read(&text)?)
            }
            None => self.config(),
        };
        let (vault, store) = (&self.builder.vault, self.builder.operations.store());
        master_keys::again(&config, vault, store).await.map_err(|error| unusable(&error))?;
        for tls in &self.tls {
            tls.reload().map_err(|error| BuildError::from(error).into_faults())?;
        }
        let authorities = authorities::read(&config).map_err(|error| BuildError::from(error).into_faults())?;
        self.put_in_force(config).await.map_err(BuildError::into_faults)?;
        self.authorities.trust(authorities);
        Ok(())
    }

    pub(super) async fn put_in_force(&self, config: Arc<Config>) -> Result<(), BuildError> {
        let version = self.builder.replace(&config, &self.snapshot).await?;
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
        self.in_force.send_if_modified(|current| std::mem::replace(current, version.max(*current)) < version);
        Ok(())
    }

    pub(super) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Build a new snapshot whenever something in the store has changed.
    pub(super) async fn follow_store(&self) {
        let mut versions = self.builder.operations.store().watch();
        while versions.changed().await.is_ok() {
            let _one = self.reloading.lock().await;
            if *versions.borrow_and_update() <= *self.in_force.borrow() {
                continue;
            }
            if let Err(error) = self.put_in_force(self.config()).await {
                tracing::error!(%error, "a change is not in force: what was in force stays in force");
            }
        }
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Vec<Fault> {
    fault("unreadable", format!("cannot read {}: {error}", path.display()))
}

fn unusable(error: &StartError) -> Vec<Fault> {
    fault("not_usable", error.to_string())
}

fn fault(code: &'static str, message: String) -> Vec<Fault> {
    vec![Fault { line: 1, column: 1, path: String::new(), code, message, hint: None }]
}
