//! How targets are chosen.

use super::timeout_alone;
use crate::fault::{Code, Faults};
use crate::routing::is_header;
use crate::{Model, OWN_NAME, Strategy, Target};

impl Model {
    pub(super) fn routing_alone(&self, faults: &mut Faults) {
        let weighted = self.strategy == Strategy::Weighted;
        if let (Some(_), false) = (&self.sticky, weighted || self.targets.len() == 1) {
            faults
                .add("sticky", Code::Conflict, "this strategy keeps nothing together")
                .hint("add strategy = \"weighted\"");
        }
        let mut ordinary = 0;
        let mut canaries = 0;
        for (index, target) in self.targets.iter().enumerate() {
            let at = |key: &str| format!("targets[{index}].{key}");
            if target.weight.is_some() && !weighted && target.shadow.is_none() {
                faults
                    .add(at("weight"), Code::Conflict, "weights mean nothing to this strategy")
                    .hint("add strategy = \"weighted\"");
            }
            match (target.canary, target.shadow) {
                (Some(percent), _) => canaries += percent,
                (None, Some(_)) => {}
                (None, None) => ordinary += 1,
            }
            target.when_alone(&at("when"), faults);
            timeout_alone(&target.timeout, &at("timeout"), faults);
            if target.provider.as_str() == OWN_NAME && !target.timeout.is_empty() {
                faults.add(at("timeout"), Code::Conflict, "the built-in model takes no time");
            }
        }
        if ordinary == 0 {
            faults
                .add("targets", Code::Conflict, "every target is a canary or a shadow")
                .hint("one has to take the other requests");
        }
        if canaries > 100 {
            faults.add("targets", Code::Conflict, "the canaries get more than 100 percent together");
        }
        self.beside_alone(faults);
    }
}

impl Target {
    fn when_alone(&self, at: &str, faults: &mut Faults) {
        let when = &self.when;
        if when.max_body.zip(when.min_body).is_some_and(|(max, min)| max < min) {
            faults.add(format!("{at}.max_body"), Code::Conflict, "less than min_body: no request is so");
        }
        if when.max_input_tokens.zip(when.min_input_tokens).is_some_and(|(max, min)| max < min) {
            faults.add(
                format!("{at}.max_input_tokens"),
                Code::Conflict,
                "less than min_input_tokens: no request is so",
            );
        }
        for name in when.header.keys().filter(|name| !is_header(name)) {
            let path = crate::tree::join(&format!("{at}.header"), name);
            faults.add(path, Code::BadValue, "not a header field that may be looked at").at_key();
        }
        for key in when.metadata.keys().filter(|key| key.is_empty() || key.len() > 64) {
            let path = crate::tree::join(&format!("{at}.metadata"), key);
            faults.add(path, Code::BadValue, "a key of metadata has 1 to 64 characters").at_key();
        }
    }
}
