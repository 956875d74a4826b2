//! Keys and breakers of providers.

use base::Span;

use super::{DAY, between};
use crate::Provider;
use crate::fault::{Code, Faults};

impl Provider {
    pub(super) fn resilience_alone(&self, faults: &mut Faults) {
        if self.api_key.is_some() && !self.keys.is_empty() {
            faults
                .add("keys", Code::Conflict, "one key and several at once")
                .hint("leave out api_key and name each key in keys");
        }
        if self.next_api_key.is_some() && self.api_key.is_none() {
            faults
                .add("next_api_key", Code::Conflict, "it follows api_key, and there is none")
                .hint("give each of keys its own next_api_key");
        }
        for (index, key) in self.keys.iter().enumerate() {
            if self.keys.iter().take(index).any(|before| before.name == key.name) {
                let message = format!("a second key called {:?}", key.name.as_str());
                faults.add(format!("keys[{index}].name"), Code::DuplicateName, message);
            }
        }
        let least = Span::new(std::time::Duration::from_millis(100));
        let breaker = &self.breaker;
        for (key, time) in [("window", breaker.window), ("open_for", breaker.open_for), ("max_open", breaker.max_open)]
        {
            between(time, least, DAY, &format!("breaker.{key}"), faults);
        }
        if let Some(slow) = breaker.slow_call {
            between(slow, Span::new(std::time::Duration::from_millis(1)), DAY, "breaker.slow_call", faults);
        }
        between(self.queue.timeout, Span::new(std::time::Duration::from_millis(1)), DAY, "queue.timeout", faults);
        if breaker.max_open < breaker.open_for {
            faults.add("breaker.max_open", Code::Conflict, "shorter than open_for");
        }
    }
}
