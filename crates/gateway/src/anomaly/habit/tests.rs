use super::*;
use std::time::Duration;

const CENT: i64 = 10_000_000;
const HOME: [u8; 4] = [192, 0, 2, 1];
const ELSEWHERE: [u8; 4] = [198, 51, 100, 1];

/// A caller with a clock.
struct Life {
    habit: Habit,
    rules: AnomalySection,
    at: Timestamp,
}

impl Life {
    fn new() -> Self {
        let (rules, at) = (AnomalySection::default(), Timestamp::from_secs(1_800_000_000));
        Self { habit: Habit::new(at, &rules), rules, at }
    }

    fn pass(&mut self, time: Duration) {
        self.at = self.at.plus(time);
    }

    /// So many requests of a cent each within this minute; how it is unlike itself, and after how many of them.
    fn ask(&mut self, requests: u32, ip: [u8; 4], model: &str) -> Option<(u32, Unlike)> {
        for count in 1..=requests {
            self.habit.asks(&Act { at: self.at, ip: ip.into(), model: Some(model) }, &self.rules);
            if let Some(unlike) = self.habit.unlike(self.at, &self.rules) {
                return Some((count, unlike));
            }
            self.habit.spends(CENT, self.at, &self.rules);
        }
        None
    }

    /// Days of `requests` a minute, in one minute of every hour.
    fn live(&mut self, days: u32, requests: u32) {
        for _ in 0..days * 24 {
            assert_eq!(self.ask(requests, HOME, "m"), None);
            self.pass(Duration::from_hours(1));
        }
    }
}

#[test]
fn a_stolen_key_used_from_elsewhere_at_fifty_times_its_rate_is_found_after_cents() {
    let mut life = Life::new();
    life.live(3, 2);
    let (after, unlike) = life.ask(100, ELSEWHERE, "m").expect("found");
    assert!(unlike.elsewhere && after <= 10, "{after} {unlike:?}");
}

#[test]
fn fifty_times_its_rate_from_home_is_a_surge_and_no_more() {
    let mut life = Life::new();
    life.live(3, 2);
    let (after, unlike) = life.ask(100, HOME, "m").expect("found");
    assert!(!unlike.elsewhere && after <= 30, "{after} {unlike:?}");
}

#[test]
fn another_network_at_the_usual_rate_is_nothing() {
    let mut life = Life::new();
    life.live(3, 2);
    for network in 0..200 {
        assert_eq!(life.ask(2, [198, 51, network, 1], "m"), None);
        life.pass(Duration::from_mins(7));
    }
}

#[test]
fn a_first_day_is_not_judged() {
    let mut life = Life::new();
    for hour in 0..23 {
        assert_eq!(life.ask(1 << (hour / 2), [198, 51, hour, 1], &format!("m{hour}")), None);
        life.pass(Duration::from_hours(1));
    }
}

#[test]
fn steady_growth_is_learned() {
    let mut life = Life::new();
    let mut rate = 20.0_f64;
    for _ in 0..40 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        life.live(1, rate as u32);
        // Twentyfold in a month.
        rate *= 1.1;
    }
    assert!(rate > 800.0);
}

#[test]
fn a_batch_that_comes_in_bursts_every_night_goes_on() {
    let mut life = Life::new();
    // The first is within the time of learning.
    for night in 0..30 {
        // 600 requests within a minute at night, and two in each hour of the day.
        assert_eq!(life.ask(600, HOME, "m"), None, "night {night}");
        life.pass(Duration::from_mins(5));
        life.live(1, 2);
    }
}

#[test]
fn a_phone_that_is_little_known_is_not_suspended_on_its_first_journey() {
    let mut life = Life::new();
    for _ in 0..8 {
        assert_eq!(life.ask(3, HOME, "m"), None);
        life.pass(Duration::from_hours(6));
    }
    assert_eq!(life.ask(15, ELSEWHERE, "m"), None);
}

#[test]
fn a_new_model_at_a_higher_rate_is_found_sooner_than_a_known_one() {
    let mut life = Life::new();
    life.live(3, 5);
    let (after, unlike) = life.ask(100, HOME, "another").expect("found");
    assert!(unlike.new_models && !unlike.elsewhere && after <= 13, "{after} {unlike:?}");
}

#[test]
fn who_always_comes_from_new_networks_is_not_told_by_them() {
    let mut life = Life::new();
    for hour in 0..96u8 {
        assert_eq!(life.ask(5, [10, hour, hour, 1], "m"), None);
        life.pass(Duration::from_hours(1));
    }
    let (after, unlike) = life.ask(100, ELSEWHERE, "m").expect("found as a surge");
    assert!(!unlike.elsewhere && after >= 30, "{after} {unlike:?}");
}

#[test]
fn a_slow_thief_does_not_teach_a_high_rate_in_one_day() {
    let mut life = Life::new();
    life.live(3, 10);
    // Nine times as many: not found. But it does not make ninety the habit.
    assert_eq!(life.ask(90, HOME, "m"), None);
    life.pass(Duration::from_mins(2));
    assert!(life.ask(700, HOME, "m").is_some_and(|(after, _)| after <= 210));
}

#[test]
fn money_alone_is_judged_too() {
    let mut life = Life::new();
    life.live(3, 2);
    life.habit.asks(&Act { at: life.at, ip: HOME.into(), model: Some("m") }, &life.rules);
    life.habit.spends(30 * CENT, life.at, &life.rules);
    assert!(life.habit.unlike(life.at, &life.rules).is_some());
}

#[test]
fn habits_survive_being_written_down_and_read_again() {
    let mut life = Life::new();
    life.live(3, 2);
    life.habit.turn(life.at, &life.rules);
    let text = serde_json::to_string(&life.habit).unwrap();
    assert!(text.len() < 2048, "{text}");
    let read: Habit = serde_json::from_str(&text).unwrap();
    life.habit = read;
    assert!(life.ask(100, ELSEWHERE, "m").is_some_and(|(after, unlike)| after <= 10 && unlike.elsewhere));
}

#[test]
fn what_other_nodes_saw_is_known() {
    let (mut here, mut there) = (Life::new(), Life::new());
    here.live(3, 2);
    for _ in 0..72 {
        there.ask(2, ELSEWHERE, "m");
        there.pass(Duration::from_hours(1));
    }
    here.habit.merge(&there.habit);
    assert!(here.ask(20, ELSEWHERE, "m").is_none());
}

proptest::proptest! {
    #[test]
    fn any_life_is_counted_without_fault(
        steps in proptest::collection::vec((-100_000i64..10_000_000, proptest::prelude::any::<u32>(), proptest::prelude::any::<i64>()), 0..200)
    ) {
        let mut life = Life::new();
        for (ms, ip, nano) in steps {
            life.at = Timestamp::from_millis(life.at.as_millis() + ms * 100);
            let ip = std::net::Ipv4Addr::from(ip);
            life.habit.asks(&Act { at: life.at, ip: ip.into(), model: Some("m") }, &life.rules);
            life.habit.spends(nano, life.at, &life.rules);
            let _ = life.habit.unlike(life.at, &life.rules);
            proptest::prop_assert!(life.habit.ceiling(&life.rules) >= 1);
            proptest::prop_assert!(life.habit.peak.requests.is_finite() && life.habit.peak.requests >= 0.0);
        }
    }
}
