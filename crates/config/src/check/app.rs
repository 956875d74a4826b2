//! What apps need of others.

use super::World;
use crate::ClientAuth;
use crate::fault::{Code, Faults};

impl World<'_> {
    /// Find what is wrong between apps, clients and the server.
    pub(super) fn apps(&self, faults: &mut Faults) {
        let server = self.server;
        let outside = server.and_then(|server| server.external_url.as_ref()).filter(|url| url.is_https());
        for (path, app) in self.apps.iter() {
            if let (Some(_), Some(_)) = (&app.test_roots, outside) {
                faults
                    .add(format!("{path}.test_roots"), Code::Conflict, "simulated devices would be let in from outside")
                    .hint("leave it out; it is for development, where external_url is not https");
            }
            let others = self.clients.iter().find(|(_, client)| client.name == app.name);
            if let Some((client, _)) = others.filter(|(_, client)| client.auth != Some(ClientAuth::Attestation {})) {
                faults
                    .add(format!("{path}.name"), Code::Conflict, "a client of this name proves itself otherwise")
                    .hint("give the client auth = { method = \"attestation\" }, or another name")
                    .see(format!("{client}.name"));
            }
            if let (Some(web), Some(origins)) = (&app.web, self.origins) {
                for (index, origin) in web.origins.iter().enumerate().filter(|(_, origin)| !origins.contains(origin)) {
                    faults
                        .add(format!("{path}.web.origins[{index}]"), Code::Conflict, "its pages may not call")
                        .hint(format!("add {:?} to origins of [cors]", origin.as_str()));
                }
            }
        }
        for (path, client) in self.clients.iter() {
            if client.auth == Some(ClientAuth::Attestation {}) {
                self.apps.need(client.name.as_str(), format!("{path}.name"), faults);
            }
        }
    }
}
