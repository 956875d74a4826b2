//! The values of one key of a provider.

use store::Slot;

use super::Credential;

/// The values of one key: the one in use, and those to fall back on where the provider refuses it.
#[derive(Debug, Clone)]
pub struct KeyValues {
    current: Credential,
    others: Vec<(Slot, Credential)>,
}

impl KeyValues {
    /// The one in use, and no other.
    pub const fn new(current: Credential) -> Self {
        Self { current, others: Vec::new() }
    }

    /// The one in use.
    pub const fn current(&self) -> &Credential {
        &self.current
    }

    /// One more to fall back on, after those there are.
    #[must_use]
    pub fn and(mut self, slot: Slot, credential: Credential) -> Self {
        self.others.push((slot, credential));
        self
    }

    /// Those that may be sent to `origin`, at least one: if none may be, the one in use.
    pub(crate) fn usable(self, origin: &str) -> Vec<(Slot, Credential)> {
        let mut values = vec![(Slot::Current, self.current)];
        values.extend(self.others);
        let usable = |(_, credential): &(Slot, Credential)| credential.trouble(origin).is_none();
        if values.iter().any(usable) {
            values.retain(usable);
        } else {
            values.truncate(1);
        }
        values
    }
}
