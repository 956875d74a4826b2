use std::collections::HashMap;
use std::sync::Arc;

use base::{Clock, Secret, SystemClock};
use futures_util::future::BoxFuture;
use store::{Sighting, Sightings};

use super::tally::WINDOW;
use super::*;

const A_MINUTE: Duration = Duration::from_mins(1);

fn said(flags: &[Flag]) -> Vec<String> {
    let value = |flag: &Flag| match flag.value() {
        FlagValue::Number(number) => number.to_string(),
        _ => "set".to_owned(),
    };
    flags.iter().map(|flag| format!("{} {}", flag.name(), value(flag))).collect()
}

fn at(instance: &'static str, address: &str) -> Seen<'static> {
    Seen { instance, address: address.parse().unwrap(), other_stack: false }
}

async fn refresh(observer: &Observer, address: &str, now: Instant) -> Vec<String> {
    said(&observer.refresh(at("in_1", address), false, now).await)
}

#[tokio::test]
async fn enrolments_are_counted_by_network_and_app() {
    let (observer, now, app) = (Observer::default(), SystemClock.monotonic(), Name::new("chat").unwrap());
    let enrol = async |address: &str, unsupported, at| {
        said(&observer.enrolment(&app, address.parse().unwrap(), unsupported, at).await)
    };
    assert_eq!(enrol("192.0.2.1", false, now).await, ["enrol_rate 1"]);
    assert_eq!(enrol("192.0.2.200", false, now).await, ["enrol_rate 2"]);
    assert_eq!(enrol("::ffff:192.0.2.7", false, now).await, ["enrol_rate 3"]);
    assert_eq!(enrol("192.0.3.1", false, now).await, ["enrol_rate 1"]);
    assert_eq!(enrol("2001:db8:1::1", false, now).await, ["enrol_rate 1"]);
    for _ in 0..14 {
        enrol("2001:db8:1:9::1", true, now).await;
    }
    assert_eq!(enrol("2001:db8:1::1", true, now).await, ["enrol_rate 16", "unsupported_share 75"]);
    assert_eq!(enrol("192.0.2.1", false, now + WINDOW).await, ["enrol_rate 1"], "an hour later");
}

#[tokio::test]
async fn an_installation_in_too_many_places_is_seen_whichever_route_it_calls() {
    let (observer, now) = (Observer::default(), SystemClock.monotonic());
    assert_eq!(refresh(&observer, "192.0.2.1", now).await, ["device_rate 1"]);
    assert_eq!(refresh(&observer, "192.0.2.9", now).await, ["device_rate 2"]);
    assert_eq!(refresh(&observer, "2001:db8::1", now).await, ["device_rate 3"], "the other family is no change");
    assert_eq!(refresh(&observer, "198.51.100.1", now).await, ["device_rate 4", "ip_mismatch set"]);
    for minute in 1..5 {
        let address = if minute % 2 == 0 { "198.51.100.1" } else { "192.0.2.1" };
        for _ in 0..3 {
            observer.saw(at("in_1", address), |_| false, now + minute * A_MINUTE);
        }
    }
    let later = now + 5 * A_MINUTE;
    assert_eq!(
        refresh(&observer, "198.51.100.1", later).await,
        ["device_rate 5", "request_rate 12", "ip_mismatch set", "geo_jump set"]
    );
    assert_eq!(refresh(&observer, "198.51.100.1", later + WINDOW).await, ["device_rate 1"]);
}

#[tokio::test]
async fn two_connections_at_once_count_as_one_change() {
    let (observer, now) = (Observer::default(), SystemClock.monotonic());
    for _ in 0..20 {
        observer.saw(at("in_1", "192.0.2.1"), |_| false, now);
        observer.saw(at("in_1", "198.51.100.1"), |_| false, now);
    }
    assert_eq!(refresh(&observer, "198.51.100.1", now).await, ["device_rate 1", "request_rate 40", "ip_mismatch set"]);
}

#[tokio::test]
async fn a_request_from_a_machine_for_rent_or_by_another_stack_is_seen_at_the_next_token() {
    let (observer, now) = (Observer::default(), SystemClock.monotonic());
    let relay = Seen { other_stack: true, ..at("in_1", "203.0.113.5") };
    observer.saw(relay, |ip| ip == "203.0.113.5".parse::<IpAddr>().unwrap(), now);
    observer.saw(relay, |_| panic!("it is asked once for a network"), now);
    assert_eq!(
        refresh(&observer, "203.0.113.5", now).await,
        ["device_rate 1", "request_rate 2", "ip_datacenter set", "tls_fingerprint_changed set"]
    );
    let other = said(&observer.refresh(at("in_2", "192.0.2.1"), false, now).await);
    assert_eq!(other, ["device_rate 1"], "of another installation nothing was seen");
}

#[tokio::test]
async fn there_is_room_for_so_many_and_for_others_when_those_are_over() {
    let (observer, now) = (Observer::default(), SystemClock.monotonic());
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let see = |id: &str, now| {
        observer.saw(Seen { instance: id, address, other_stack: false }, |_| false, now);
    };
    for n in 0..2 * MOST_IN_A_PART * PARTS {
        see(&format!("in_{n}"), now);
    }
    let kept = || observer.installations.iter().map(|part| part.lock().unwrap().map.len()).sum::<usize>();
    assert_eq!(kept(), MOST_IN_A_PART * PARTS);
    see("in_more", now + WINDOW);
    assert!(kept() <= MOST_IN_A_PART * (PARTS - 1) + 1, "{}", kept());
}

/// What nodes share, in memory.
#[derive(Debug, Default)]
struct Shared(Mutex<HashMap<[u8; 16], Counted>>);

/// How often something was seen, and the place it was seen at last.
type Counted = (u32, Option<[u8; 8]>);

impl Sightings for Shared {
    fn share<'a>(&'a self, some: &'a [Sighting]) -> BoxFuture<'a, Result<Vec<u32>, &'static str>> {
        let mut all = self.0.lock().unwrap();
        let mut count = |sighting: &Sighting| {
            let (total, place) = all.entry(sighting.id).or_default();
            let moved = place.is_some() && sighting.place.is_some() && *place != sighting.place;
            *total += sighting.add + u32::from(moved);
            *place = sighting.place.or(*place);
            *total
        };
        let totals = some.iter().map(&mut count).collect();
        Box::pin(async move { Ok(totals) })
    }
}

/// Nobody answers.
#[derive(Debug)]
struct Gone;

impl Sightings for Gone {
    fn share<'a>(&'a self, _: &'a [Sighting]) -> BoxFuture<'a, Result<Vec<u32>, &'static str>> {
        Box::pin(async { Err("shared_down") })
    }
}

fn node(others: Arc<dyn Sightings>) -> Observer {
    let observer = Observer::default();
    observer.share_with(Fleet::new(others, &Secret::new([7; 32])));
    observer
}

#[tokio::test]
async fn nodes_count_together_and_know_where_an_installation_was() {
    let shared = Arc::new(Shared::default());
    let (one, two) = (node(shared.clone()), node(shared.clone()));
    let (now, app) = (SystemClock.monotonic(), Name::new("chat").unwrap());
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    for expected in 1..4 {
        let from = if expected % 2 == 0 { &two } else { &one };
        let flags = said(&from.enrolment(&app, address, false, now).await);
        assert_eq!(flags, [format!("enrol_rate {expected}")]);
    }
    assert_eq!(refresh(&one, "192.0.2.1", now).await, ["device_rate 1"]);
    assert_eq!(refresh(&two, "192.0.2.1", now).await, ["device_rate 2"]);
    assert_eq!(refresh(&one, "192.0.2.1", now).await, ["device_rate 3"]);
    assert_eq!(refresh(&two, "198.51.100.1", now).await, ["device_rate 4", "ip_mismatch set"]);
    let relay = Seen { other_stack: true, ..at("in_1", "198.51.100.1") };
    two.saw(relay, |_| true, now);
    two.tell_others(now).await;
    assert_eq!(
        refresh(&one, "198.51.100.1", now).await,
        ["device_rate 5", "request_rate 1", "ip_mismatch set", "tls_fingerprint_changed set"]
    );
    let ids: Vec<[u8; 16]> = shared.0.lock().unwrap().keys().copied().collect();
    assert_eq!(ids.len(), 3 + 6, "of the enrolments, and of the installation");
}

#[tokio::test]
async fn without_the_others_a_node_counts_for_itself() {
    let (observer, now) = (node(Arc::new(Gone)), SystemClock.monotonic());
    for expected in 1..4 {
        assert_eq!(refresh(&observer, "192.0.2.1", now).await, [format!("device_rate {expected}")]);
        observer.tell_others(now).await;
    }
}
