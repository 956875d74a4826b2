//! What a device is called here: a keyed hash of what somebody else calls it, for each app another.

use base::Name;
use vault::HashPurpose;

use super::{Apps, AppsError};
use crate::apps::enroll::unavailable;

impl Apps {
    /// The name of a device. One that was seen before keeps its name, also where the key that made it is another since.
    pub(super) async fn device_name(&self, app: &Name, device: &str) -> Result<Option<String>, AppsError> {
        let salted = format!("{app}\0{device}");
        let hashes = self.operations().vault().keyed_hashes(HashPurpose::Device, salted.as_bytes());
        let mut names = hashes.into_iter().map(proof::jose::base64url_encode);
        let name = names.next();
        for former in names {
            let known = self.operations().store().instances().device_known(app, &former).await;
            if known.map_err(|error| unavailable(&error.into()))? {
                return Ok(Some(former));
            }
        }
        Ok(name)
    }
}
