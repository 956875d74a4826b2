//! What is seen of installations of apps in their traffic: told to whoever watches them, once they have shown who they are.

use std::fmt;
use std::net::IpAddr;

use proof::ja4::Ja4;

use crate::authenticate::Caller;

/// A request of an installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight<'a> {
    /// Its app.
    pub app: &'a str,
    /// The installation: the subject of its tokens.
    pub instance: &'a str,
    /// Where it comes from.
    pub ip: IpAddr,
    /// Whether its TLS stack is another than the one it enrolled with. `false` where either is not known.
    pub other_stack: bool,
}

/// Who watches installations. What is told stays in memory: requests do not wait.
pub trait Sights: Send + Sync + fmt::Debug {
    /// A request came.
    fn saw(&self, sight: &Sight<'_>);
}

/// Nobody does.
impl Sights for () {
    fn saw(&self, _: &Sight<'_>) {}
}

/// Tell of a request, if an installation makes it. `fingerprint` is that of its TLS greeting.
pub(crate) fn tell(sights: &dyn Sights, caller: &Caller, fingerprint: Option<&str>) {
    let Some((app, instance, stack)) = caller.installation() else { return };
    let found = fingerprint.and_then(|text| Ja4::parse(text).ok()).map(|ja4| ja4.stack());
    let other_stack = stack.zip(found).is_some_and(|(enrolled, found)| enrolled != found);
    sights.saw(&Sight { app, instance, ip: caller.ip(), other_stack });
}
