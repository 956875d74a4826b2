//! Whether apps accept what this node shows.

use base::Name;
use config::PinHash;
use proof::app_config::pin_text;

use super::build::{self, Facts};
use super::payload;
use crate::operations::{OperationError, Operations};

/// A pinned host, and whether apps accept what it shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinFit {
    /// The host.
    pub host: String,
    /// The key it shows (`sha256/...`): of this node's listener, or as it is said.
    pub shown: String,
    /// The apps that refuse it: they are told of other keys only.
    pub refused_by: Vec<Name>,
}

impl Operations {
    /// Of each pinned host that apps are told of, whether they accept what it shows now.
    pub async fn pin_fits(&self) -> Result<Vec<PinFit>, OperationError> {
        let config = self.current_config().await?;
        if config.pins.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let shown = self.shown(&config);
        let facts = Facts { config: &config, shown: shown.as_ref(), now };
        let mut told = Vec::new();
        for stored in self.store.app_configs().latest().await? {
            let payload = payload(&stored)?;
            told.push((stored.app, payload));
        }
        let mut fits: Vec<PinFit> = Vec::new();
        for set in &config.pins {
            // What cannot be said is not published either, and the timetable says why.
            let Ok(key) = build::current(set, &facts) else { continue };
            let text = pin_text(key.as_bytes());
            let mine = told.iter().filter(|(app, _)| set.apps.is_empty() || set.apps.contains(app));
            let mut known = false;
            let mut refused_by = Vec::new();
            for (app, payload) in mine.filter(|(_, payload)| !payload.kill.pinning) {
                let Some(host) = payload.hosts.iter().find(|host| host.host == set.host) else { continue };
                known = true;
                if !host.pins.iter().any(|pin| pin.spki_sha256 == text && pin.counts(now)) {
                    refused_by.push(app.clone());
                }
            }
            if known {
                let shown = PinHash::new(*key.as_bytes()).to_string();
                fits.push(PinFit { host: set.host.clone(), shown, refused_by });
            }
        }
        Ok(fits)
    }
}
