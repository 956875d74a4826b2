//! Which hosts something is for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::text::{ValueError, text_value};

/// Hosts: one by its name or address, all below a name (`*.corp.example.com`), or all (`*`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HostPattern(String);

text_value!(
    HostPattern,
    "host-pattern",
    "A host's name or address; *.example.com for all below a name; * for all.",
    "*.corp.example.com"
);

impl HostPattern {
    /// As written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is for every host there is.
    pub fn is_all(&self) -> bool {
        self.0 == "*"
    }

    /// Whether it is for this host: a name, or an address without brackets.
    pub fn covers(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        match self.0.strip_prefix('*') {
            Some("") => true,
            // Only names are below a name, and the dot is part of what they end with.
            Some(below) => {
                let start = host.len().checked_sub(below.len()).filter(|start| *start > 0);
                start.and_then(|start| host.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(below))
            }
            None => host.eq_ignore_ascii_case(&self.0) || self.is_address(host),
        }
    }

    /// Whether both are the same address, however they are written.
    fn is_address(&self, host: &str) -> bool {
        let own: Option<IpAddr> = self.0.parse().ok();
        own.is_some() && own == host.parse().ok()
    }
}

impl FromStr for HostPattern {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let wrong = || {
            ValueError::new("not a host")
                .hint("a name or address without port, \"*.example.com\" for all below a name, or \"*\"")
        };
        let lower = text.to_ascii_lowercase();
        if lower == "*" || lower.parse::<IpAddr>().is_ok() {
            return Ok(Self(lower));
        }
        let name = lower.strip_prefix("*.").unwrap_or(&lower);
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(wrong());
        }
        Ok(Self(lower))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_covers_its_host_or_what_is_below_its_name_and_nothing_else() {
        let covers = |pattern: &str, host: &str| pattern.parse::<HostPattern>().unwrap().covers(host);
        assert!(covers("LLM.corp.example", "llm.CORP.example") && covers("llm.corp.example", "llm.corp.example."));
        assert!(!covers("llm.corp.example", "x.llm.corp.example"));
        assert!(covers("*.corp.example", "llm.corp.example") && covers("*.corp.example", "a.b.corp.example"));
        for other in ["corp.example", "notcorp.example", "corp.example.evil", ".corp.example"] {
            assert!(!covers("*.corp.example", other), "{other}");
        }
        assert!(covers("*", "api.openai.com") && covers("10.0.0.7", "10.0.0.7"));
        assert!(covers("FD00::1", "fd00:0:0:0::1") && !covers("fd00::1", "fd00::2"));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for wrong in
            ["", "*.", "a..b", "https://a", "a:443", "*a.example", "a.*.example", "-a.example", "a b", "[fd00::1]"]
        {
            assert!(wrong.parse::<HostPattern>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_pattern_or_none_and_any_host_is_covered_or_not(text in ".{0,60}", host in ".{0,60}") {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                let _ = pattern.covers(&host);
                prop_assert_eq!(pattern.as_str().parse::<HostPattern>().unwrap(), pattern);
            }
        }
    }
}
