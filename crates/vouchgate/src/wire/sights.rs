//! What the data plane sees of installations of apps is told to whoever decides about them.

use std::fmt;
use std::sync::Arc;

use base::Clock;
use control::Operations;
use control::risk::Seen;
use gateway::{Sight, Sights};

/// Tells the judge of installations.
pub struct ToJudge {
    /// Where the judge is.
    pub operations: Arc<Operations>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for ToJudge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ToJudge")
    }
}

impl Sights for ToJudge {
    fn saw(&self, sight: &Sight<'_>) {
        let judge = self.operations.judge();
        let seen = Seen { instance: sight.instance, address: sight.ip, other_stack: sight.other_stack };
        judge.observer().saw(seen, |ip| judge.rules().is_datacenter(sight.app, ip), self.clock.monotonic());
    }
}
