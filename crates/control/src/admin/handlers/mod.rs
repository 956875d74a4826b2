//! What the operations of the table do: take a call apart, do the operation, put the reply together.

pub(super) mod admin_tokens;
pub(super) mod anomalies;
pub(super) mod apikeys;
pub(super) mod app_configs;
pub(super) mod audit;
pub(super) mod budgets;
pub(super) mod catalogue;
pub(super) mod clients;
pub(super) mod devices;
pub(super) mod installation;
pub(super) mod keys;
pub(super) mod resources;
pub(super) mod revocations;
pub(super) mod risk;
pub(super) mod rotation;
pub(super) mod runtime_secrets;
pub(super) mod secrets;
pub(super) mod usage;
