//! How many connections there may be, in all and from one address.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;

/// Counts the connections of one listener.
#[derive(Debug)]
pub struct Caps {
    total: usize,
    per_address: usize,
    exempt: Vec<IpNet>,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a connection is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// There are too many.
    Total,
    /// There are too many from this address.
    Address,
}

impl Full {
    /// A stable short code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Total => "too_many_connections",
            Self::Address => "too_many_connections_from_address",
        }
    }
}

/// The right to one connection; given back when dropped.
#[derive(Debug)]
pub struct Permit {
    caps: Arc<Caps>,
    address: Option<IpAddr>,
}

impl Caps {
    /// At most `total` connections, and `per_address` from one IPv4 address or IPv6 /64. Addresses in `exempt`
    /// (trusted proxies, which stand for many clients) count towards the total only.
    pub fn new(total: usize, per_address: usize, exempt: Vec<IpNet>) -> Arc<Self> {
        Arc::new(Self { total, per_address, exempt, open: Mutex::default() })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).total
    }

    /// Take a connection from `from`.
    pub fn admit(self: &Arc<Self>, from: IpAddr) -> Result<Permit, Full> {
        let from = from.to_canonical();
        let address = (!self.exempt.iter().any(|net| net.contains(&from))).then(|| holder(from));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.total >= self.total {
            return Err(Full::Total);
        }
        if let Some(address) = address {
            let count = open.by_address.get(&address).copied().unwrap_or(0);
            if count >= self.per_address {
                return Err(Full::Address);
            }
            open.by_address.insert(address, count + 1);
        }
        open.total += 1;
        Ok(Permit { caps: Arc::clone(self), address })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut open = self.caps.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.total = open.total.saturating_sub(1);
        let Some(address) = self.address else { return };
        match open.by_address.get_mut(&address) {
            Some(count) if *count > 1 => *count -= 1,
            // Addresses without connections are forgotten: the map is never larger than the total.
            _ => {
                open.by_address.remove(&address);
            }
        }
    }
}

/// What counts as one address: a single subscriber holds a whole IPv6 /64.
fn holder(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// How many file descriptors this process may have (Linux). Connections should stay below half of it, as each may
/// need another one to a provider.
pub fn descriptor_limit() -> Option<usize> {
    parse_limit(&std::fs::read_to_string("/proc/self/limits").ok()?)
}

fn parse_limit(limits: &str) -> Option<usize> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn each_address_has_its_share_and_gets_it_back() {
        let caps = Caps::new(3, 2, Vec::new());
        let (a, b) = (caps.admit(ip("192.0.2.1")).unwrap(), caps.admit(ip("192.0.2.1")).unwrap());
        assert_eq!(caps.admit(ip("192.0.2.1")).unwrap_err(), Full::Address);
        assert_eq!(caps.admit(ip("::ffff:192.0.2.1")).unwrap_err(), Full::Address, "the same address");
        let c = caps.admit(ip("192.0.2.2")).unwrap();
        assert_eq!(caps.admit(ip("192.0.2.3")).unwrap_err(), Full::Total);
        drop((a, b, c));
        assert_eq!(caps.open(), 0);
        assert!(caps.open.lock().unwrap().by_address.is_empty(), "nothing is kept of who has gone");
    }

    #[test]
    fn an_ipv6_network_counts_as_one_and_a_trusted_proxy_not_at_all() {
        let caps = Caps::new(10, 1, vec!["10.0.0.0/8".parse().unwrap()]);
        let _one = caps.admit(ip("2001:db8::1")).unwrap();
        assert_eq!(caps.admit(ip("2001:db8::ffff:1")).unwrap_err(), Full::Address);
        let _other = caps.admit(ip("2001:db8:0:1::1")).unwrap();
        let _proxy = [caps.admit(ip("10.0.0.1")).unwrap(), caps.admit(ip("10.0.0.1")).unwrap()];
    }

    #[test]
    fn the_descriptor_limit_is_read() {
        assert_eq!(parse_limit("Limit  Soft Hard\nMax open files            1024     4096     files\n"), Some(1024));
        assert_eq!(parse_limit("Max open files   unlimited unlimited files"), None);
        assert_eq!(parse_limit(""), None);
    }
}
