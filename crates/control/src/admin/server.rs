//! What the admin API can ask of the server it belongs to. The binary implements it.

use std::future::Future;
use std::pin::Pin;

use config::Fault;
use serde::Serialize;

use crate::route::{RouteExplanation, RouteQuestion};

/// A boxed future, as a trait object can return it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The running server.
pub trait Server: Send + Sync {
    /// Read the configuration file again and put it in force as a whole, or say what is wrong with it and change nothing.
    fn reload(&self) -> Pending<'_, Result<(), Vec<Fault>>>;

    /// Wait until what has been written to the store is in force, or a few seconds have passed. Whether it is.
    fn settled(&self) -> Pending<'_, bool>;

    /// All metrics in the Prometheus text format.
    fn metrics(&self) -> String;

    /// Where a request would go; `None`: there is no such model.
    fn explain_route(&self, question: &RouteQuestion) -> Option<RouteExplanation>;

    /// Forget every answer that is kept for requests that are the same.
    fn forget_answers(&self);

    /// What works and what does not.
    fn readiness(&self) -> Pending<'_, Readiness>;
}

/// Whether the server can do its work, in detail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Readiness {
    /// Whether it should be sent requests.
    pub ready: bool,
    /// One entry for each thing it needs.
    pub checks: Vec<Check>,
}

/// One thing the server needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, schemars::JsonSchema)]
pub struct Check {
    /// What: `store`, `vault`, `jwks:corp`.
    pub name: String,
    /// Whether it works.
    pub ok: bool,
    /// More, for whoever has to repair it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
