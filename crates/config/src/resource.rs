//! What every resource has in common, and the faults it can have on its own.

use base::Name;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::fault::{Fault, Faults};
use crate::{
    App, Budget, Client, Issuer, Model, PinSet, Policy, Provider, Risk, RuntimeSecret, Service, Transmitter, Upstream,
    Webhook,
};

/// A resource: one type for the file, the database and the admin API.
pub trait Resource: Serialize + DeserializeOwned + JsonSchema + Alone {
    /// The table in the file, and the singular of the admin API's path: `provider`.
    const KIND: &'static str;

    /// Its name, unique among its kind.
    fn name(&self) -> &Name;
}

/// Read a resource from JSON, or say everything that is wrong with it. Whether the names it uses exist is seen by
/// [`crate::Config::check`], of the whole.
pub fn read<R: Resource>(json: &serde_json::Value) -> Result<R, Vec<Fault>> {
    let root = crate::shared_schema();
    let schema = root.get("$defs").and_then(|all| all.get(&*R::schema_name())).unwrap_or(root);
    let node = crate::tree::Node::from_json(json);
    let mut faults = Faults::default();
    crate::walk::check(root, schema, &node, "", &mut faults);
    let resource = crate::parse::typed::<R>(&node, "", &mut faults);
    let faults = faults.without_lines();
    match resource {
        Some(resource) if faults.is_empty() => Ok(resource),
        _ => Err(faults),
    }
}

mod sealed {
    /// The faults a resource has whatever the others are.
    pub trait Alone {
        /// Add them to `faults`, with paths from here.
        fn alone(&self, faults: &mut super::Faults);
    }
}
pub(crate) use sealed::Alone;

macro_rules! resources {
    ($($type:ty, $kind:literal;)*) => {$(
        impl Resource for $type {
            const KIND: &'static str = $kind;
            fn name(&self) -> &Name {
                &self.name
            }
        }
    )*};
}
resources! {
    Issuer, "issuer";
    Client, "client";
    App, "app";
    Provider, "provider";
    Model, "model";
    Policy, "policy";
    Risk, "risk";
    Budget, "budget";
    Service, "service";
    Upstream, "upstream";
    RuntimeSecret, "runtime_secret";
    Transmitter, "transmitter";
    Webhook, "webhook";
    PinSet, "pins";
}
