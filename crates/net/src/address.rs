//! Which addresses may be reached (IANA special-purpose registries of RFC 6890, and the metadata addresses of
//! the large clouds).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// How far a destination may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Reach {
    /// Public addresses, over TLS.
    #[default]
    Public,
    /// Also loopback and private networks, there without TLS too (`allow_private = true`). Link-local and cloud
    /// metadata addresses stay out of reach.
    Private,
    /// The metadata server of the machine (169.254.169.254), without TLS, and nothing else: for asking it for the machine's own
    /// identity, at an address that is the operator's to choose.
    Metadata,
}

/// What kind of address an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Globally routed.
    Public,
    /// 127/8, `::1`.
    Loopback,
    /// RFC 1918, unique local (RFC 4193), shared address space (RFC 6598).
    Private,
    /// An address a cloud serves instance credentials from.
    Metadata,
    /// 169.254/16, `fe80::/10`.
    LinkLocal,
    /// 224/4, `ff00::/8`.
    Multicast,
    /// 0/8, `::`.
    Unspecified,
    /// IPv6 that carries an IPv4 address inside: v4-mapped, v4-compatible, NAT64, 6to4, Teredo.
    Embedded,
    /// Broadcast, documentation, benchmarking, reserved for future use, unassigned.
    Reserved,
}

impl Class {
    /// A stable short name, for errors and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Loopback => "loopback",
            Self::Private => "private",
            Self::Metadata => "metadata",
            Self::LinkLocal => "link_local",
            Self::Multicast => "multicast",
            Self::Unspecified => "unspecified",
            Self::Embedded => "embedded_ipv4",
            Self::Reserved => "reserved",
        }
    }
}

/// The kind of an address.
pub fn classify(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => classify_v6(v6),
    }
}

/// Whether a destination of this reach may connect to `address`; the class if not. `listed` are networks the
/// operator named in so many words.
pub(crate) fn judge(address: IpAddr, reach: Reach, plain: bool, listed: &[IpNet]) -> Result<(), Class> {
    let class = classify(address);
    if listed.iter().any(|net| net.contains(&address)) {
        return Ok(());
    }
    match class {
        Class::Metadata if reach == Reach::Metadata && plain => Ok(()),
        _ if reach == Reach::Metadata => Err(class),
        // Without TLS nothing proves that a public address is the one meant.
        Class::Public if !plain => Ok(()),
        Class::Loopback | Class::Private if reach == Reach::Private => Ok(()),
        _ => Err(class),
    }
}

fn classify_v4(ip: Ipv4Addr) -> Class {
    match ip.octets() {
        // Metadata services: the usual one, AWS containers, Azure's wire server, Alibaba, Oracle.
        [169, 254, 169, 254]
        | [169, 254, 170, 2 | 23]
        | [168, 63, 129, 16]
        | [100, 100, 100, 200]
        | [192, 0, 0, 192] => Class::Metadata,
        [127, ..] => Class::Loopback,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        [169, 254, ..] => Class::LinkLocal,
        [0, ..] => Class::Unspecified,
        [224..=239, ..] => Class::Multicast,
        // Protocol assignments, documentation (3), 6to4 relays, benchmarking, class E and broadcast.
        [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18..=19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _]
        | [240..=255, ..] => Class::Reserved,
        _ => Class::Public,
    }
}

fn classify_v6(ip: Ipv6Addr) -> Class {
    match ip.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0] => Class::Unspecified,
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // v4-compatible ::/96 and v4-translated ::ffff:0/96, v4-mapped ::ffff/96, NAT64 (RFC 6052, RFC 8215),
        // 6to4, Teredo.
        [0, 0, 0, 0, 0 | 0xffff, 0, _, _]
        | [0, 0, 0, 0, 0, 0xffff, _, _]
        | [0x64, 0xff9b, ..]
        | [0x2002, ..]
        | [0x2001, 0, ..] => Class::Embedded,
        // AWS and Google Cloud serve metadata inside unique local space.
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] | [0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254] => Class::Metadata,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0xfe80..=0xfebf, ..] => Class::LinkLocal,
        [0xff00..=0xffff, ..] => Class::Multicast,
        // Protocol assignments 2001::/23, documentation 2001:db8::/32 and 3fff::/20.
        [0x2001, 0..=0x1ff | 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Class::Reserved,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Reserved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn class(text: &str) -> Class {
        classify(text.parse().unwrap())
    }

    #[test]
    fn every_special_address_is_recognised() {
        let cases = [
            ("8.8.8.8", Class::Public),
            ("2606:4700::1111", Class::Public),
            ("127.0.0.1", Class::Loopback),
            ("127.255.255.254", Class::Loopback),
            ("::1", Class::Loopback),
            ("10.0.0.1", Class::Private),
            ("172.16.0.1", Class::Private),
            ("172.31.255.255", Class::Private),
            ("172.32.0.1", Class::Public),
            ("192.168.1.1", Class::Private),
            ("100.64.0.1", Class::Private),
            ("100.127.255.255", Class::Private),
            ("100.128.0.1", Class::Public),
            ("fc00::1", Class::Private),
            ("fdff::1", Class::Private),
            ("169.254.169.254", Class::Metadata),
            ("169.254.170.2", Class::Metadata),
            ("100.100.100.200", Class::Metadata),
            ("192.0.0.192", Class::Metadata),
            ("168.63.129.16", Class::Metadata),
            ("fd00:ec2::254", Class::Metadata),
            ("fd20:ce::254", Class::Metadata),
            ("169.254.0.1", Class::LinkLocal),
            ("fe80::1", Class::LinkLocal),
            ("febf::1", Class::LinkLocal),
            ("fec0::1", Class::Reserved),
            ("224.0.0.1", Class::Multicast),
            ("239.255.255.255", Class::Multicast),
            ("ff02::1", Class::Multicast),
            ("0.0.0.0", Class::Unspecified),
            ("0.1.2.3", Class::Unspecified),
            ("::", Class::Unspecified),
            ("::ffff:8.8.8.8", Class::Embedded),
            ("::ffff:127.0.0.1", Class::Embedded),
            ("::127.0.0.1", Class::Embedded),
            ("::ffff:0:127.0.0.1", Class::Embedded),
            ("64:ff9b::7f00:1", Class::Embedded),
            ("64:ff9b:1::1", Class::Embedded),
            ("2002:7f00:1::", Class::Embedded),
            ("2001::1", Class::Embedded),
            ("255.255.255.255", Class::Reserved),
            ("240.0.0.1", Class::Reserved),
            ("192.0.2.1", Class::Reserved),
            ("198.51.100.1", Class::Reserved),
            ("203.0.113.1", Class::Reserved),
            ("198.18.0.1", Class::Reserved),
            ("198.19.255.255", Class::Reserved),
            ("192.88.99.1", Class::Reserved),
            ("2001:db8::1", Class::Reserved),
            ("2001:20::1", Class::Reserved),
            ("3fff::1", Class::Reserved),
            ("100::1", Class::Reserved),
            ("5f00::1", Class::Reserved),
            ("4000::1", Class::Reserved),
        ];
        for (text, expected) in cases {
            assert_eq!(class(text), expected, "{text}");
        }
    }

    #[test]
    fn private_reach_opens_private_networks_and_nothing_else() {
        let allowed = |text: &str, reach, plain| judge(text.parse().unwrap(), reach, plain, &[]).is_ok();
        assert!(allowed("8.8.8.8", Reach::Public, false));
        assert!(!allowed("127.0.0.1", Reach::Public, false));
        for near in ["127.0.0.1", "::1", "10.1.2.3", "192.168.0.1", "fd12::1", "100.64.0.1"] {
            assert!(allowed(near, Reach::Private, true), "{near}");
        }
        assert!(allowed("169.254.169.254", Reach::Metadata, true));
        assert!(!allowed("169.254.169.254", Reach::Metadata, false), "it has no certificate");
        for never in ["8.8.8.8", "127.0.0.1", "10.0.0.1", "169.254.1.1"] {
            assert!(!allowed(never, Reach::Metadata, true) && !allowed(never, Reach::Metadata, false), "{never}");
        }
        for never in ["169.254.169.254", "169.254.1.1", "0.0.0.0", "::ffff:127.0.0.1", "224.0.0.1", "fd00:ec2::254"] {
            assert!(!allowed(never, Reach::Private, false), "{never}");
        }
        assert!(!allowed("8.8.8.8", Reach::Private, true), "no plain HTTP to a public address");
        assert!(allowed("8.8.8.8", Reach::Private, false));
    }

    #[test]
    fn a_network_named_by_the_operator_is_reachable() {
        let listed = ["169.254.10.0/24".parse().unwrap()];
        assert!(judge("169.254.10.7".parse().unwrap(), Reach::Public, false, &listed).is_ok());
        assert!(judge("169.254.11.7".parse().unwrap(), Reach::Public, false, &listed).is_err());
    }

    proptest! {
        #[test]
        fn what_std_calls_special_is_never_public(bits in any::<u32>()) {
            let ip = Ipv4Addr::from_bits(bits);
            let special = ip.is_loopback() || ip.is_private() || ip.is_link_local() || ip.is_multicast()
                || ip.is_broadcast() || ip.is_documentation() || ip.is_unspecified();
            prop_assert!(!special || classify(ip.into()) != Class::Public);
            // No IPv6 spelling of an IPv4 address passes, whatever it carries.
            prop_assert_eq!(classify(ip.to_ipv6_mapped().into()), Class::Embedded);
        }

        #[test]
        fn only_global_unicast_ipv6_is_public(bits in any::<u128>()) {
            let ip = Ipv6Addr::from_bits(bits);
            prop_assert!(classify(ip.into()) != Class::Public || ip.segments()[0] >> 13 == 1);
        }
    }
}
