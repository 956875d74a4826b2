//! What is read can be written and read again.

use proptest::prelude::*;
use serde_json::Value;

use super::{FULL, good};
use crate::{Cidr, Config, TimeWindow};
use base::Timestamp;

#[test]
fn a_configuration_survives_toml_and_json() {
    let config = good(FULL);
    assert_eq!(good(&config.to_toml()), config);
    let json = serde_json::to_value(&config).unwrap();
    assert_eq!(serde_json::from_value::<Config>(json).unwrap(), config);
    assert_eq!(good(&Config::empty().to_toml()), Config::empty());
    assert_eq!(good(""), Config::empty());
}

#[test]
fn a_resource_survives_the_admin_api() {
    let config = good(FULL);
    macro_rules! again {
        ($($list:ident),*) => {$(
            assert!(!config.$list.is_empty());
            for resource in &config.$list {
                assert_eq!(crate::read(&serde_json::to_value(resource).unwrap()).as_ref(), Ok(resource));
            }
        )*};
    }
    again!(
        issuers,
        clients,
        providers,
        models,
        policies,
        services,
        upstreams,
        runtime_secrets,
        transmitters,
        webhooks,
        pins
    );
}

#[test]
fn every_reference_to_a_secret_is_listed_with_its_place() {
    let config = good(FULL);
    let written = references(&serde_json::to_value(&config).unwrap());
    let refs = config.secret_refs();
    assert_eq!(refs.len(), written, "{refs:?}");
    assert!(refs.iter().any(|(place, _)| place == "provider.openai.api_key"), "{refs:?}");
    assert!(refs.iter().any(|(place, _)| place == "upstream.maps.inject.value"), "{refs:?}");
    assert!(refs.iter().any(|(place, _)| place == "signin.client_secret"), "{refs:?}");
    assert!(refs.iter().any(|(place, _)| place == "transmitter.corp-events.bearer"), "{refs:?}");
}

/// How many objects of a document name nothing but where a secret is.
fn references(value: &Value) -> usize {
    match value {
        Value::Object(members) => {
            let only = members.iter().next().filter(|(_, place)| members.len() == 1 && place.is_string());
            let is_one = only.is_some_and(|(name, _)| ["env", "file", "secret"].contains(&name.as_str()));
            usize::from(is_one) + members.values().map(references).sum::<usize>()
        }
        Value::Array(items) => items.iter().map(references).sum(),
        _ => 0,
    }
}

/// 2026-11-16 was a Monday.
fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
    Timestamp::from_secs(1_794_787_200 + day * 86_400 + hour * 3600 + minute * 60)
}

#[test]
fn a_time_window_begins_on_its_minute_and_ends_before_it() {
    let work: TimeWindow = "mon-fri 08:00-18:00 UTC".parse().unwrap();
    assert!(!work.contains(at(0, 7, 59)));
    assert!(work.contains(at(0, 8, 0)));
    assert!(work.contains(Timestamp::from_millis(at(4, 18, 0).as_millis() - 1)));
    assert!(!work.contains(at(4, 18, 0)));
    assert!(!work.contains(at(5, 12, 0)));
    assert!(!work.contains(at(6, 12, 0)));
    assert!(work.contains(at(7, 12, 0)));
}

#[test]
fn hours_past_midnight_belong_to_the_day_they_begin_on() {
    let night: TimeWindow = "fri 22:00-06:00 UTC".parse().unwrap();
    assert!(!night.contains(at(4, 5, 0)));
    assert!(night.contains(at(4, 22, 0)));
    assert!(night.contains(at(5, 5, 59)));
    assert!(!night.contains(at(5, 6, 0)));
    assert!(!night.contains(at(5, 22, 0)));
}

#[test]
fn an_offset_moves_the_clock_and_the_day() {
    let east: TimeWindow = "mon 00:00-24:00 +02:00".parse().unwrap();
    assert!(!east.contains(at(-1, 21, 59)));
    assert!(east.contains(at(-1, 22, 0)));
    assert!(!east.contains(at(0, 22, 0)));
    let west: TimeWindow = "mon 00:00-24:00 -05:30".parse().unwrap();
    assert!(west.contains(at(1, 5, 29)) && !west.contains(at(1, 5, 30)));
    let wrapped: TimeWindow = "sat-mon 00:00-24:00 Z".parse().unwrap();
    assert!(wrapped.contains(at(6, 1, 0)) && wrapped.contains(at(0, 1, 0)) && !wrapped.contains(at(1, 1, 0)));
    assert!("08:00-09:00 UTC".parse::<TimeWindow>().unwrap().contains(at(6, 8, 30)));
    assert!(!"08:00-09:00 UTC".parse::<TimeWindow>().unwrap().contains(at(-1000, 9, 0)));
}

#[test]
fn nonsense_is_no_time_window() {
    for text in [
        "",
        "mon",
        "08:00-18:00",
        "mon-fri 8:00-18:00 UTC",
        "mon-fri 08:00-25:00 UTC",
        "mon-fri 08:60-09:00 UTC",
        "mon-fri 08:00-08:00 UTC",
        "mon-fri 24:00-06:00 UTC",
        "mon-fri 06:00-00:00 UTC",
        "funday 08:00-18:00 UTC",
        "mon- 08:00-18:00 UTC",
        "mon-fri 08:00-18:00 CET",
        "mon-fri 08:00-18:00 +15:00",
        "mon-fri  08:00-18:00 UTC",
        "Mon-Fri 08:00-18:00 UTC",
        "mon-fri 08:00-18:00 UTC extra",
    ] {
        assert!(text.parse::<TimeWindow>().is_err(), "{text}");
    }
}

#[test]
fn a_mapped_address_is_the_address_it_stands_for() {
    let net: Cidr = "10.0.0.0/8".parse().unwrap();
    assert!(net.contains("10.1.2.3".parse().unwrap()));
    assert!(net.contains("::ffff:10.1.2.3".parse().unwrap()));
    assert!(!net.contains("11.1.2.3".parse().unwrap()));
    assert_eq!("::ffff:10.0.0.0/104".parse::<Cidr>().unwrap(), net);
    assert_eq!("::ffff:10.0.0.1".parse::<Cidr>().unwrap(), "10.0.0.1/32".parse().unwrap());
    assert_eq!("10.0.0.1/32".parse::<Cidr>().unwrap().to_string(), "10.0.0.1");
    assert!("2001:db8::/32".parse::<Cidr>().unwrap().contains("2001:db8::1".parse().unwrap()));
    assert!(!"::/0".parse::<Cidr>().unwrap().contains("10.0.0.1".parse().unwrap()));
    for wrong in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0", "x", "", "10.0.0.0/", "010.0.0.1", "::ffff:10.0.0.1/104"] {
        assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn a_time_window_prints_as_it_reads(days in 1u8..128, start in 0u32..1440, end in 1u32..=1440, offset in -840i32..=840) {
        prop_assume!(start != end);
        let names = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let days: Vec<&str> = names.iter().enumerate().filter(|(i, _)| days & (1 << i) != 0).map(|(_, d)| *d).collect();
        let clock = |m: u32| format!("{:02}:{:02}", m / 60, m % 60);
        let sign = if offset < 0 { '-' } else { '+' };
        let text = format!("{} {}-{} {sign}{}", days.join(","), clock(start), clock(end), clock(offset.unsigned_abs()));
        let window: TimeWindow = text.parse().unwrap();
        prop_assert_eq!(window.to_string().parse::<TimeWindow>().unwrap(), window);
    }

    #[test]
    fn a_cidr_prints_as_it_reads_and_holds_itself(bits in any::<u32>(), prefix in 0u8..=32) {
        let mask = if prefix == 0 { 0 } else { u32::MAX << (32 - prefix) };
        let ip = std::net::Ipv4Addr::from(bits & mask);
        let cidr: Cidr = format!("{ip}/{prefix}").parse().unwrap();
        prop_assert_eq!(cidr.to_string().parse::<Cidr>().unwrap(), cidr);
        prop_assert!(cidr.contains(ip.into()));
        prop_assert!(cidr.contains(ip.to_ipv6_mapped().into()));
    }
}
