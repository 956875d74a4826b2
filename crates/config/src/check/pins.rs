//! What can be wrong between pin sets.

use super::World;
use crate::fault::{Code, Faults};

impl World<'_> {
    /// Apps that are told are there, and none is told of a host twice.
    pub(super) fn pins_apart(&self, faults: &mut Faults) {
        let all: Vec<_> = self.pins.iter().collect();
        for (index, (path, pins)) in all.iter().enumerate() {
            for (index, app) in pins.apps.iter().enumerate() {
                self.apps.need(app.as_str(), format!("{path}.apps[{index}]"), faults);
            }
            let before = all.iter().take(index).find(|(_, other)| {
                let shared = pins.apps.is_empty()
                    || other.apps.is_empty()
                    || pins.apps.iter().any(|app| other.apps.contains(app));
                other.host == pins.host && shared
            });
            if let Some((other, _)) = before {
                faults
                    .add(format!("{path}.host"), Code::Conflict, "an app is told of this host twice")
                    .see(format!("{other}.host"));
            }
        }
    }
}
