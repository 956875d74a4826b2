//! What a configuration says, and what is said about one that is wrong.

mod app;
mod aws;
mod budget;
mod cache;
mod cloud;
mod faults;
mod files;
mod oauth;
mod pins;
mod price;
mod risk;
mod robust;
mod roundtrip;
mod routing;

use crate::{Config, Fault};

/// A configuration with at least one of everything.
pub(crate) const FULL: &str = include_str!("../../../../examples/reference.toml");

pub(crate) fn good(text: &str) -> Config {
    crate::parse(text).unwrap_or_else(|faults| {
        panic!("{}\n---\n{text}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })
}

pub(crate) fn bad(text: &str) -> Vec<Fault> {
    crate::parse(text).expect_err(text)
}

/// The one fault of a text, as `line:column code path`.
pub(crate) fn only(text: &str) -> String {
    let faults = bad(text);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    brief(&faults[0])
}

pub(crate) fn brief(fault: &Fault) -> String {
    format!("{}:{} {} {}", fault.line, fault.column, fault.code, fault.path)
}
