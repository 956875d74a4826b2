//! Giving way before memory runs out.

use std::sync::atomic::{AtomicU8, Ordering};

/// How much is asked of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Load {
    /// All is well.
    Normal,
    /// From 92 % of the memory: connections close after their answer, so that clients spread out.
    High,
    /// From 95 %: new requests are refused with 503; answers that run go on.
    Full,
}

/// The current [`Load`], as listeners look at it for each request.
#[derive(Debug, Default)]
pub struct Pressure(AtomicU8);

impl Pressure {
    /// The load when last sampled.
    pub fn load(&self) -> Load {
        match self.0.load(Ordering::Relaxed) {
            0 => Load::Normal,
            1 => Load::High,
            _ => Load::Full,
        }
    }

    /// Judge `used` of `limit` bytes. Call it about once a second; returns the load if it changed.
    pub fn sample(&self, used: u64, limit: u64) -> Option<Load> {
        let per_mille = used.saturating_mul(1000) / limit.max(1);
        let level = u8::from(per_mille >= 920) + u8::from(per_mille >= 950);
        (self.0.swap(level, Ordering::Relaxed) != level).then(|| self.load())
    }
}

/// Memory this process uses, bytes (Linux).
pub fn memory_used() -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Memory this process may use, bytes: its control group's limit, else the machine's memory (Linux).
pub fn memory_limit() -> Option<u64> {
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok());
    let machine = kib(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemTotal:")?;
    Some(group.map_or(machine, |group| group.min(machine)))
}

fn kib(text: &str, field: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_rises_at_92_and_95_percent_and_falls_again() {
        let pressure = Pressure::default();
        assert_eq!(pressure.sample(919, 1000), None);
        assert_eq!(pressure.sample(920, 1000), Some(Load::High));
        assert_eq!(pressure.sample(950, 1000), Some(Load::Full));
        assert_eq!(pressure.sample(2000, 1000), None);
        assert_eq!(pressure.sample(500, 1000), Some(Load::Normal));
        assert_eq!(pressure.sample(u64::MAX, 0), Some(Load::Full));
    }

    #[test]
    fn memory_is_read_where_the_system_tells() {
        assert_eq!(kib("Name:\tx\nVmRSS:\t    1024 kB\n", "VmRSS:"), Some(1 << 20));
        assert_eq!(kib("VmRSS:\tmany\n", "VmRSS:"), None);
        if let (Some(used), Some(limit)) = (memory_used(), memory_limit()) {
            assert!(used > 0 && limit > used);
        }
    }
}
