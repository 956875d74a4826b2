//! The only way out: every connection Vouchgate opens is opened here.
//!
//! A destination comes from the operator's configuration ([`Target`]), never from a caller. Its name is resolved
//! anew for each connection, every address is judged ([`Class`]), and the connection goes to the judged address
//! itself, so that a name cannot mean one thing when checked and another when used. Redirects are never followed,
//! proxies are never taken from the environment, nothing is decompressed, no cookie is kept.

mod address;
mod authorities;
mod body;
mod connect;
mod egress;
mod error;
mod fetch;
pub mod jwks;
mod look;
mod online;
mod pool;
mod resolve;
pub mod revocations;
pub mod sigv4;
mod target;
mod task;
mod upgrade;
mod webhook;

pub use address::{Class, Reach, classify};
pub use authorities::Authority;
pub use body::{BodyError, BodyWatch, BoxError, IdleBody, OutBody, UpstreamBody};
pub use egress::{Deadlines, Egress, EgressConfig};
pub use error::EgressError;
pub use fetch::{FetchError, FetchLimits, Fetched, FormPost, Posted, Question, Replied, fetch_json, post_form, query};
pub use look::{LookError, Lookout, Seen, look};
pub use online::{ASK_TIME, AskError, ask, post};
pub use resolve::{BoxFuture, FixedResolver, Resolver, SystemResolver};
pub use target::{Target, TargetError};
pub use upgrade::{Duplex, Tunnel};
pub use webhook::{WebhookError, WebhookKey, WebhookKeyError, WebhookMessage, send_webhook};
