use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use base::{FakeClock, SeededRng};
use futures_util::FutureExt;
use http::StatusCode;
use tokio::sync::Semaphore;

use super::*;

/// Two public keys from RFC 7515 A.3 and RFC 7517 A.1.
const ONE: &str = r#""kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0""#;
const TWO: &str = r#""kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM""#;
const KEYS: &str = "https://id.example/keys";

fn set(keys: &[(&str, &str)]) -> String {
    let keys: Vec<_> = keys.iter().map(|(kid, key)| format!(r#"{{"kid":"{kid}",{key}}}"#)).collect();
    format!(r#"{{"keys":[{}]}}"#, keys.join(","))
}

/// A web of documents: counts what is asked for, and can hold every answer back.
struct Web {
    pages: Mutex<HashMap<String, Result<Fetched, FetchError>>>,
    asked: AtomicUsize,
    gate: Semaphore,
}

impl Web {
    fn new() -> Arc<Self> {
        Arc::new(Self { pages: Mutex::default(), asked: AtomicUsize::new(0), gate: Semaphore::new(1 << 20) })
    }

    fn shut(&self) {
        self.gate.forget_permits(1 << 20);
    }

    fn page(&self, url: &str, body: impl Into<String>) {
        self.page_for(url, body, None);
    }

    fn page_for(&self, url: &str, body: impl Into<String>, max_age: Option<u64>) {
        let fetched = Fetched { body: body.into().into_bytes(), max_age: max_age.map(Duration::from_secs) };
        self.pages.lock().unwrap().insert(url.to_owned(), Ok(fetched));
    }

    fn fails(&self, url: &str, error: FetchError) {
        self.pages.lock().unwrap().insert(url.to_owned(), Err(error));
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Documents for Web {
    fn get<'a>(&'a self, url: &'a Url, _: Reach) -> BoxFuture<'a, Result<Fetched, FetchError>> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let _open = self.gate.acquire().await.unwrap();
            let page = self.pages.lock().unwrap().get(url.as_str()).cloned();
            page.unwrap_or(Err(FetchError::Status(StatusCode::NOT_FOUND)))
        })
    }
}

#[derive(Default)]
struct Shelf(Mutex<HashMap<Name, Saved>>);

impl LastGood for Shelf {
    fn load<'a>(&'a self, issuer: &'a Name) -> BoxFuture<'a, Option<Saved>> {
        Box::pin(async move { self.0.lock().unwrap().get(issuer).cloned() })
    }
    fn save<'a>(&'a self, issuer: &'a Name, saved: Saved) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.0.lock().unwrap().insert(issuer.clone(), saved);
        })
    }
}

struct World {
    web: Arc<Web>,
    shelf: Arc<Shelf>,
    clock: FakeClock,
    jwks: Arc<Jwks>,
}

fn corp() -> Name {
    Name::new("corp").unwrap()
}

fn at(place: Place) -> Vec<KeyIssuer> {
    vec![KeyIssuer { name: corp(), place, reach: Reach::Public }]
}

fn by_url() -> Vec<KeyIssuer> {
    at(Place::Jwks(Url::parse(KEYS).unwrap()))
}

impl World {
    fn new() -> Self {
        Self::after(Web::new(), Arc::default(), FakeClock::at(Timestamp::from_secs(1_000_000)))
    }

    /// A new process with the same surroundings.
    fn after(web: Arc<Web>, shelf: Arc<Shelf>, clock: FakeClock) -> Self {
        let jwks = Arc::new(Jwks::new(
            web.clone(),
            shelf.clone(),
            Arc::new(clock.clone()),
            Arc::new(SeededRng::new(1)),
            Timing::default(),
        ));
        Self { web, shelf, clock, jwks }
    }

    async fn start(issuers: Vec<KeyIssuer>, body: &str) -> Self {
        let world = Self::new();
        world.web.page(KEYS, body);
        world.jwks.configure(issuers).await;
        world.tick().await;
        world
    }

    async fn tick(&self) {
        self.jwks.tick();
        self.jwks.settled().await;
    }

    fn kids(&self) -> Option<Vec<String>> {
        let set = self.jwks.source(&corp())?.keys()?;
        Some(set.keys().iter().map(|key| key.kid().unwrap_or_default().to_owned()).collect())
    }

    fn generation(&self) -> u64 {
        self.jwks.source(&corp()).unwrap().generation()
    }

    fn advance(&self, secs: u64) {
        self.clock.advance(Duration::from_secs(secs));
    }
}

#[tokio::test]
async fn ten_thousand_unknown_keys_cost_one_fetch_per_cooldown() {
    for body in [set(&[("a", ONE)]), r#"{"keys":[]}"#.to_owned()] {
        let world = World::new();
        world.web.page(KEYS, body.clone());
        world.jwks.configure(by_url()).await;
        for round in 1..=3 {
            let asks: Vec<_> = (0..10_000)
                .map(|_| {
                    let jwks = Arc::clone(&world.jwks);
                    async move { jwks.refresh(&corp()).await }
                })
                .collect();
            let outcomes = futures_util::future::join_all(asks).await;
            assert_eq!(world.web.asked(), round, "{body}");
            assert!(outcomes.contains(&Refreshed::Fetched));
            world.advance(29);
            assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::CoolingDown);
            world.advance(1);
        }
    }
}

#[tokio::test]
async fn a_failed_fetch_claims_the_cooldown_all_the_same() {
    let world = World::new();
    world.web.fails(KEYS, FetchError::Timeout);
    world.jwks.configure(by_url()).await;
    assert!(matches!(world.jwks.refresh(&corp()).await, Refreshed::Failed(JwksError::Fetch { .. })));
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::CoolingDown);
    assert_eq!(world.web.asked(), 1);
    assert_eq!(world.kids(), None);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_caller_that_began_it_leaves() {
    let world = World::new();
    world.web.page(KEYS, set(&[("a", ONE)]));
    world.web.shut();
    world.jwks.configure(by_url()).await;
    {
        let name = corp();
        let asking = std::pin::pin!(world.jwks.refresh(&name));
        assert!(asking.now_or_never().is_none());
    }
    world.web.gate.add_permits(1);
    world.jwks.settled().await;
    assert_eq!(world.kids(), Some(vec!["a".to_owned()]));
}

#[tokio::test]
async fn a_new_key_is_found_with_one_fetch_and_a_removed_one_is_gone_with_it() {
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    let before = world.generation();
    world.web.page(KEYS, set(&[("b", TWO)]));
    world.advance(31);
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::Fetched);
    assert_eq!(world.kids(), Some(vec!["b".to_owned()]));
    assert_ne!(world.generation(), before);
    assert_eq!(world.web.asked(), 2);
}

#[tokio::test]
async fn a_removed_key_dies_within_a_day_however_long_the_issuer_says_to_cache() {
    let world = World::new();
    world.web.page_for(KEYS, set(&[("a", ONE)]), Some(u64::MAX));
    world.jwks.configure(by_url()).await;
    world.tick().await;
    world.web.page(KEYS, set(&[("b", TWO)]));
    world.advance(86_400);
    world.tick().await;
    assert_eq!(world.kids(), Some(vec!["b".to_owned()]));
}

#[tokio::test]
async fn the_same_document_keeps_its_generation() {
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    let before = world.generation();
    world.advance(31);
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::Fetched);
    assert_eq!(world.generation(), before);
}

#[tokio::test]
async fn a_poisoned_set_is_refused_whole_and_the_last_good_one_stays() {
    let private = format!(r#"{{"kid":"p","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI",{ONE}}}"#);
    let good = format!(r#"{{"kid":"b",{TWO}}}"#);
    let poisoned = [
        (format!(r#"{{"keys":[{good},{private}]}}"#), "private_key"),
        (
            format!(
                r#"{{"keys":[{good},{{"kid":"o","kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}]}}"#
            ),
            "private_key",
        ),
        (set(&[("b", ONE), ("b", TWO)]), "duplicate_kid"),
        (r#"{"keys":[],"keys":[]}"#.to_owned(), ""),
        ("<html>".to_owned(), ""),
        (r#"{"keys":{}}"#.to_owned(), ""),
        (String::new(), ""),
        (r#"{"keys":[]}"#.to_owned(), "no_usable_key"),
        (r#"{"keys":[1,{"kid":"x","kty":"XYZ"}]}"#.to_owned(), "no_usable_key"),
    ];
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    let before = world.generation();
    for (body, code) in poisoned {
        world.web.page(KEYS, body.clone());
        world.advance(31);
        let Refreshed::Failed(error) = world.jwks.refresh(&corp()).await else { panic!("taken over: {body}") };
        assert!(code.is_empty() || error.reason() == code, "{}: {body}", error.reason());
        assert_eq!(world.kids(), Some(vec!["a".to_owned()]), "{body}");
    }
    assert_eq!(world.generation(), before);
    assert!(world.jwks.status()[0].error.is_some());
}

#[tokio::test]
async fn one_unusable_key_does_not_take_the_others_with_it() {
    let body = format!(r#"{{"keys":[{{"kid":"x","kty":"XYZ"}},{{"kid":"b",{TWO}}}]}}"#);
    let world = World::start(by_url(), &body).await;
    assert_eq!(world.kids(), Some(vec!["b".to_owned()]));
    assert_eq!(world.jwks.status()[0].rejected, 1);
}

#[tokio::test]
async fn an_unreachable_issuer_keeps_its_keys_until_they_are_too_old() {
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    world.web.fails(KEYS, FetchError::Timeout);
    let limit = (Timing::default().usual + Timing::default().grace).as_secs();
    let mut passed = 0;
    while passed + 600 < limit {
        world.advance(600);
        passed += 600;
        world.tick().await;
        assert!(world.kids().is_some(), "after {passed} s");
    }
    let before = world.generation();
    world.advance(limit - passed);
    assert_eq!(world.kids(), None, "fails closed");
    assert_ne!(world.generation(), before, "cached verdicts go with the keys");
    world.web.page(KEYS, set(&[("a", ONE)]));
    world.tick().await;
    assert!(world.kids().is_some(), "and recovers");
}

#[tokio::test]
async fn nothing_is_fetched_before_it_is_due() {
    let world = World::new();
    world.web.page_for(KEYS, set(&[("a", ONE)]), Some(3600));
    world.jwks.configure(by_url()).await;
    world.tick().await;
    world.tick().await;
    assert_eq!(world.web.asked(), 1);
    world.advance(2590); // a tenth of jitter before 80 % of an hour
    world.tick().await;
    assert_eq!(world.web.asked(), 1);
    world.advance(290);
    world.tick().await;
    assert_eq!(world.web.asked(), 2);
}

#[tokio::test]
async fn the_last_good_set_survives_a_restart() {
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    world.web.fails(KEYS, FetchError::Timeout);
    world.advance(3600);
    let World { web, shelf, clock, .. } = world;

    let next = World::after(web.clone(), shelf.clone(), clock.clone());
    next.jwks.configure(by_url()).await;
    assert_eq!(next.kids(), Some(vec!["a".to_owned()]), "before anything is fetched");
    next.advance(6 * 3600);
    assert_eq!(next.kids(), None, "its age counts from when it was fetched");

    let moved = World::after(web, shelf, clock);
    moved.jwks.configure(at(Place::Jwks(Url::parse("https://other.example/keys").unwrap()))).await;
    assert_eq!(moved.kids(), None, "another place's keys are of no use");
}

#[tokio::test]
async fn reconfiguring_keeps_what_stays_the_same() {
    let world = World::start(by_url(), &set(&[("a", ONE)])).await;
    world.jwks.configure(by_url()).await;
    assert!(world.kids().is_some());
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::CoolingDown);
    world.jwks.configure(Vec::new()).await;
    assert_eq!(world.kids(), None);
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::NotHere);
}

fn metadata(issuer: &str, keys: &str) -> String {
    format!(r#"{{"issuer":"{issuer}","jwks_uri":"{keys}"}}"#)
}

#[tokio::test]
async fn discovery_finds_either_well_known_form() {
    for place in [
        "https://id.example/t/.well-known/openid-configuration",
        "https://id.example/.well-known/oauth-authorization-server/t",
        "https://id.example/.well-known/openid-configuration/t",
    ] {
        let world = World::new();
        world.web.page(place, metadata("https://id.example/t", KEYS));
        world.web.page(KEYS, set(&[("a", ONE)]));
        world.jwks.configure(at(Place::Discovery("https://id.example/t".to_owned()))).await;
        assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::Fetched, "{place}");
    }
}

#[tokio::test]
async fn metadata_of_another_issuer_is_never_used() {
    let world = World::new();
    world.web.page("https://id.example/.well-known/openid-configuration", metadata("https://evil.example", KEYS));
    world.web.page("https://id.example/.well-known/oauth-authorization-server", metadata("https://id.example", KEYS));
    world.web.page(KEYS, set(&[("a", ONE)]));
    world.jwks.configure(at(Place::Discovery("https://id.example".to_owned()))).await;
    let Refreshed::Failed(error) = world.jwks.refresh(&corp()).await else { panic!("used") };
    assert_eq!(error.reason(), "discovery_issuer_mismatch");
    assert_eq!((world.web.asked(), world.kids()), (1, None));
}

#[tokio::test]
async fn an_unknown_key_costs_one_request_with_discovery_too_and_a_moved_key_set_is_found() {
    let config = "https://id.example/.well-known/openid-configuration";
    let world = World::new();
    world.web.page(config, metadata("https://id.example", KEYS));
    world.web.page(KEYS, set(&[("a", ONE)]));
    world.jwks.configure(at(Place::Discovery("https://id.example".to_owned()))).await;
    world.tick().await;
    assert_eq!(world.web.asked(), 2);
    world.advance(31);
    assert_eq!(world.jwks.refresh(&corp()).await, Refreshed::Fetched);
    assert_eq!(world.web.asked(), 3, "the metadata is not fetched again");

    world.web.page(config, metadata("https://id.example", "https://id.example/keys2"));
    world.web.page("https://id.example/keys2", set(&[("b", TWO)]));
    world.advance(901);
    world.tick().await;
    assert_eq!(world.kids(), Some(vec!["b".to_owned()]));
}
