//! Installations whose certificates have been revoked since they enrolled.

use proof::attest::status::StatusList;
use store::InstanceStatus;

use super::token::BY;
use crate::operations::{OperationError, Operations};

/// How many are looked at in one step.
const STEP: u32 = 500;

/// Revoke every installation one of whose certificates is on the list: whenever it changed. Returns how many there were.
pub async fn recheck(operations: &Operations, list: &StatusList) -> Result<u64, OperationError> {
    let (mut after, mut found) = (String::new(), 0u64);
    loop {
        let some = operations.store().instances().with_serials(&after, STEP).await?;
        let Some((end, _)) = some.last() else { return Ok(found) };
        after.clone_from(end);
        for (id, serials) in some {
            let Some(serial) = serials.iter().find(|serial| list.of_serial(serial).is_some()) else { continue };
            let why = "certificate_revoked";
            let revoked = operations.store().instances().set_status(&id, InstanceStatus::Revoked, (BY, why)).await;
            match revoked {
                Ok(instance) => {
                    found += 1;
                    let event = audit::Event::new("instance.barred").by(BY).with("instance", id.as_str());
                    let event =
                        event.with("app", instance.app.as_str()).with("reason", why).with("serial", serial.as_str());
                    operations.audit().happened(event.with("status", "revoked")).await?;
                }
                // It went, or somebody else was first.
                Err(store::StoreError::Missing(_) | store::StoreError::Conflict(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
