//! Who may do what: rules as data, compiled once, decided on every request. No I/O.
//!
//! Nothing is allowed unless a policy allows it. The first policy whose `who` and `may` both match a request
//! decides it; there are no rules that forbid, so that the order only matters for which limits apply. Every
//! decision names the rule that made it.

mod ask;
mod decide;
mod explain;
mod fund;
mod glob;
mod passthrough;
pub mod risk;
mod rule;
mod world;

#[cfg(test)]
mod tests;

pub use ask::{Ask, Attested, Caller, Proven, Target, Tools};
pub use decide::{Denial, Permit, PermittedTarget, Policies, PolicyFault, compile};
pub use explain::{Explanation, Held, Verdict};
pub use fund::{Aim, Fund, Spender};
pub use glob::Glob;
pub use world::{KnownProvider, World};
