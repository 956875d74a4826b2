//! Security events as a transmitter pushes them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use base::{Clock, Name, Secret, Timestamp};
use config::SecretRef;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};
use store::{Cause, NewFamily, OWN_ISSUER, RefreshState, TokenFacts};
use testkit::keys::{TestKey, key_set};

use crate::ClientAddress;
use crate::admin::Pending;
use crate::fixture::{Answer, ELSEWHERE, EXTERNAL, Fixture, NOW, Outside, send};
use crate::oauth::{Document, Documents, FetchError, Secrets};

const IDP: &str = "https://id.example.com/";
const HERE: &str = "https://ai.example.com/oauth/events";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

fn toml(more: &str) -> String {
    format!(
        "[[issuer]]\nname = \"corp\"\nissuer = \"{IDP}\"\naudience = [\"{EXTERNAL}\"]\njwks_url = \"{IDP}jwks\"\n
         [[transmitter]]\nname = \"corp-events\"\nissuer = \"{IDP}\"\naudience = [\"{HERE}\"]\nsubjects = \"corp\"\n{more}\n"
    )
}

/// What is outside: documents at places, and a secret.
#[derive(Debug, Default)]
struct World {
    documents: Mutex<HashMap<String, Value>>,
    fetched: AtomicUsize,
}

impl Documents for World {
    fn get<'a>(&'a self, url: &'a str, _: bool) -> Pending<'a, Result<Document, FetchError>> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        let found = self.documents.lock().unwrap().get(url).map(ToString::to_string);
        let missing = FetchError { reason: "fetch_status", message: "404".to_owned() };
        let found = found.map(|text| Document { body: text.into_bytes(), max_age: None }).ok_or(missing);
        Box::pin(std::future::ready(found))
    }
}

impl Secrets for World {
    fn read<'a>(&'a self, _: &'a SecretRef) -> Pending<'a, Result<Secret<String>, FetchError>> {
        Box::pin(std::future::ready(Ok(Secret::new("what-a-transmitter-says".to_owned()))))
    }
}

/// An installation, its transmitter and what it reaches.
struct Stream {
    fixture: Fixture,
    key: TestKey,
    world: Arc<World>,
    outside: Outside,
}

impl Stream {
    async fn new() -> Self {
        Self::with(&format!("jwks_url = \"{IDP}events/jwks\"")).await
    }

    async fn with(more: &str) -> Self {
        let key = TestKey::generate("ES256").with_kid("events-1");
        let world = Arc::new(World::default());
        world.put(&format!("{IDP}events/jwks"), key_set(&[&key]));
        let outside = Outside {
            documents: Arc::clone(&world) as Arc<dyn Documents>,
            secrets: Arc::clone(&world) as Arc<dyn Secrets>,
            ..Outside::default()
        };
        let fixture = Fixture::reaching(&toml(more), outside.clone()).await;
        Self { fixture, key, world, outside }
    }

    /// The claims of a token about `subject`, with these over the usual ones; `null` takes one out.
    fn claims(subject: &Value, event: &str, change: &Value) -> Value {
        let mut claims = json!({
            "iss": IDP, "aud": HERE, "iat": NOW, "jti": "set-1", "sub_id": subject, "events": { event: details(event) }
        });
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
        }
        members.retain(|_, value| !value.is_null());
        claims
    }

    fn set(&self, claims: &Value) -> String {
        self.key.mint_with(&json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "events-1" }), claims)
    }

    async fn push(&self, set: &str) -> Answer {
        self.push_with(set, &[], ELSEWHERE).await
    }

    async fn push_with(&self, set: &str, headers: &[(&str, &str)], address: &str) -> Answer {
        let mut request = Request::builder().method(Method::POST).uri("/oauth/events");
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/secevent+jwt");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::from(set.to_owned())).unwrap();
        request.extensions_mut().insert(ClientAddress(address.parse().unwrap()));
        send(&self.fixture.public, request).await
    }

    /// Push an event about a subject; it must be taken.
    async fn tell(&self, subject: &Value, event: &str, jti: &str) {
        let answer = self.push(&self.set(&Self::claims(subject, event, &json!({ "jti": jti })))).await;
        assert_eq!((answer.status, answer.text.as_str()), (StatusCode::ACCEPTED, ""), "{event} {subject}");
    }

    fn counts(&self) -> HashMap<&'static str, u64> {
        self.outside.heard.by_outcome().into_iter().filter(|(_, count)| *count > 0).collect()
    }

    fn cause(&self, facts: &TokenFacts<'_>) -> Option<Cause> {
        self.fixture.operations.store().revoked().check(facts)
    }

    /// A refresh token of alice's in the provider's session `s` on her laptop.
    async fn family(&self) {
        let family = NewFamily {
            client: Name::new("app").unwrap(),
            subject: "corp|alice".to_owned(),
            scopes: Vec::new(),
            jkt: None,
            x5t: None,
            session: Some("own-session".to_owned()),
            upstream_session: Some("s".to_owned()),
            device: Some("laptop".to_owned()),
            auth_time: None,
            granted_at: None,
            details: "{}".to_owned(),
            absolute_end: Timestamp::from_secs(NOW + 86_400),
        };
        let refresh = self.fixture.operations.store().refresh();
        refresh.create(family, [1; 32], Duration::from_hours(1)).await.unwrap();
    }

    async fn family_lives(&self) -> bool {
        let (_, state) = self.fixture.operations.store().refresh().find([1; 32]).await.unwrap().unwrap();
        state != RefreshState::Revoked
    }
}

impl World {
    fn put(&self, url: &str, document: Value) {
        self.documents.lock().unwrap().insert(url.to_owned(), document);
    }
}

/// What each event says beside its subject.
fn details(event: &str) -> Value {
    match event.rsplit('/').next().unwrap() {
        "credential-change" => json!({ "credential_type": "password", "change_type": "update" }),
        "device-compliance-change" => json!({ "previous_status": "compliant", "current_status": "not-compliant" }),
        "assurance-level-change" => json!({ "current_level": "nist-aal1", "change_direction": "decrease" }),
        "risk-level-change" => json!({ "principal": "USER", "current_level": "HIGH" }),
        "stream-updated" => json!({ "status": "paused" }),
        _ => json!({}),
    }
}

fn alice() -> Value {
    json!({ "format": "iss_sub", "iss": IDP, "sub": "alice" })
}

/// A token of the provider's own.
fn theirs(at: i64) -> TokenFacts<'static> {
    TokenFacts {
        issuer: "corp",
        subject: "alice",
        session: Some("s"),
        device: Some("laptop"),
        issued_at: Some(Timestamp::from_secs(at)),
        ..TokenFacts::default()
    }
}

/// A token of ours for its subject.
fn ours(at: i64) -> TokenFacts<'static> {
    TokenFacts {
        issuer: OWN_ISSUER,
        subject: "corp|alice",
        session: Some("own-session"),
        upstream_session: Some("s"),
        ..theirs(at)
    }
}

#[tokio::test]
async fn a_39_what_ends_there_ends_here() {
    for event in [
        format!("{CAEP}session-revoked"),
        format!("{CAEP}credential-change"),
        format!("{CAEP}token-claims-change"),
        format!("{CAEP}assurance-level-change"),
        format!("{CAEP}risk-level-change"),
        format!("{RISC}sessions-revoked"),
        format!("{RISC}account-disabled"),
        format!("{RISC}account-purged"),
        format!("{RISC}credential-compromise"),
    ] {
        let stream = Stream::new().await;
        stream.family().await;
        let mut watch = stream.fixture.operations.store().revoked().watch();
        stream.tell(&alice(), &event, "set-1").await;
        assert!(watch.has_changed().unwrap(), "{event}");
        watch.borrow_and_update();
        for facts in [theirs(NOW), ours(NOW)] {
            assert_eq!(stream.cause(&facts), Some(Cause::Subject), "{event}");
        }
        assert_eq!(stream.cause(&theirs(NOW + 1)), None, "{event}: who signs in again is in again");
        let bob = TokenFacts { subject: "bob", session: None, device: None, ..theirs(NOW) };
        assert_eq!(stream.cause(&bob), None, "{event}");
        assert!(!stream.family_lives().await, "{event}");
        assert_eq!(stream.counts(), HashMap::from([("acted", 1)]));
        let listed = stream.fixture.owner(Method::GET, "/admin/v1/revocations", None).await.json();
        assert_eq!(listed["items"][0]["by"], "transmitter corp-events");
    }
}

#[tokio::test]
async fn what_ends_nothing_is_taken_and_counted() {
    let stream = Stream::new().await;
    let event = |name: &str, details: Value| (format!("{CAEP}{name}"), details);
    let mut n = 0;
    for (event, details) in [
        event("credential-change", json!({ "credential_type": "password", "change_type": "create" })),
        event("device-compliance-change", json!({ "previous_status": "x", "current_status": "compliant" })),
        event("assurance-level-change", json!({ "current_level": "x", "change_direction": "increase" })),
        event("risk-level-change", json!({ "principal": "USER", "current_level": "LOW" })),
        (format!("{SSF}stream-updated"), json!({ "status": "paused" })),
        ("https://example.com/something-else".to_owned(), json!({})),
    ] {
        n += 1;
        let change = json!({ "jti": format!("j{n}"), "events": { event: details } });
        let answer = stream.push(&stream.set(&Stream::claims(&alice(), "x", &change))).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.text);
    }
    let opaque = json!({ "format": "opaque", "id": "stream-1" });
    stream.tell(&opaque, &format!("{SSF}verification"), "verification").await;
    assert_eq!(stream.counts(), HashMap::from([("nothing", n), ("verification", 1)]));
    assert_eq!(stream.fixture.operations.store().revoked().entries(), 0);
}

#[tokio::test]
async fn a_subject_is_the_issuers_or_nobodys() {
    let stream = Stream::new().await;
    let event = format!("{CAEP}session-revoked");
    for (n, subject) in [
        json!({ "format": "iss_sub", "iss": "https://other.example/", "sub": "alice" }),
        json!({ "format": "iss_sub", "iss": EXTERNAL, "sub": "corp|alice" }),
        json!({ "format": "email", "email": "alice" }),
        json!({ "format": "phone_number", "phone_number": "+12065550100" }),
        json!({ "format": "jwt_id", "iss": "https://other.example/", "jti": "j" }),
        json!({ "format": "complex", "tenant": { "format": "opaque", "id": "alice" } }),
        json!({ "format": "complex", "user": alice(), "mood": { "format": "opaque", "id": "x" } }),
    ]
    .iter()
    .enumerate()
    {
        stream.tell(subject, &event, &format!("n{n}")).await;
        assert_eq!(stream.fixture.operations.store().revoked().entries(), 0, "{subject}");
    }
    for (n, subject) in [
        json!({ "format": "opaque", "id": "alice" }),
        json!({ "format": "aliases", "identifiers": [{ "format": "email", "email": "x@example.com" }, alice()] }),
        json!({ "format": "complex", "user": alice(), "tenant": { "format": "opaque", "id": "t" } }),
    ]
    .iter()
    .enumerate()
    {
        let stream = Stream::new().await;
        stream.tell(subject, &event, &format!("y{n}")).await;
        assert_eq!(stream.cause(&theirs(NOW)), Some(Cause::Subject), "{subject}");
    }
    stream.tell(&json!({ "format": "jwt_id", "iss": IDP, "jti": "j" }), &event, "jwt").await;
    assert_eq!(stream.cause(&TokenFacts { jti: Some("j"), ..theirs(NOW + 9) }), Some(Cause::Token));

    let by_mail = Stream::with(&format!(
        "jwks_url = \"{IDP}events/jwks\"\n[[issuer]]\nname = \"mail\"\nissuer = \"https://m.example/\"\naudience = [\"a\"]\n
         jwks_url = \"https://m.example/jwks\"\nclaims = {{ subject = \"email\" }}\n
         [[transmitter]]\nname = \"m\"\nissuer = \"https://m.example/\"\naudience = [\"{HERE}\"]\nsubjects = \"mail\"\n
         jwks_url = \"{IDP}events/jwks\""
    ))
    .await;
    let claims = json!({ "iss": "https://m.example/" });
    let subject = json!({ "format": "email", "email": "alice@example.com" });
    by_mail.push(&by_mail.set(&Stream::claims(&subject, &event, &claims))).await;
    let facts = TokenFacts { issuer: "mail", subject: "alice@example.com", ..theirs(NOW) };
    assert_eq!(by_mail.cause(&facts), Some(Cause::Subject));
}

#[tokio::test]
async fn a_session_or_device_we_know_ends_alone_and_one_we_do_not_ends_all_of_its_persons() {
    let event = format!("{CAEP}session-revoked");
    let session =
        |id: &str| json!({ "format": "complex", "user": alice(), "session": { "format": "opaque", "id": id } });
    let other = TokenFacts { session: None, upstream_session: None, device: None, ..ours(NOW) };

    let stream = Stream::new().await;
    stream.family().await;
    stream.tell(&session("s"), &event, "1").await;
    assert_eq!((stream.cause(&ours(NOW)), stream.cause(&other)), (Some(Cause::Session), None));
    assert!(!stream.family_lives().await);

    let stream = Stream::new().await;
    stream.family().await;
    stream.tell(&session("unheard-of"), &event, "1").await;
    assert_eq!(stream.cause(&other), Some(Cause::Subject));

    let event = format!("{CAEP}device-compliance-change");
    let device = |id: &str| json!({ "format": "complex", "user": alice(), "device": { "format": "opaque", "id": id } });
    let stream = Stream::new().await;
    stream.family().await;
    stream.tell(&device("laptop"), &event, "1").await;
    assert_eq!((stream.cause(&ours(NOW)), stream.cause(&other)), (Some(Cause::Device), None));
    assert!(!stream.family_lives().await);
    stream.tell(&device("unheard-of"), &event, "2").await;
    assert_eq!(stream.cause(&other), Some(Cause::Subject));

    let stream = Stream::new().await;
    stream.tell(&json!({ "format": "opaque", "id": "laptop" }), &event, "1").await;
    assert_eq!((stream.cause(&theirs(NOW)), stream.cause(&other)), (Some(Cause::Device), None));
}

#[tokio::test]
async fn a_token_that_comes_again_is_taken_and_does_nothing_also_after_a_restart() {
    let stream = Stream::new().await;
    let event = format!("{CAEP}session-revoked");
    let set = stream.set(&Stream::claims(&alice(), &event, &json!({})));
    for expected in [HashMap::from([("acted", 1)]), HashMap::from([("acted", 1), ("repeated", 1)])] {
        assert_eq!(stream.push(&set).await.status, StatusCode::ACCEPTED);
        assert_eq!(stream.counts(), expected);
    }
    let listed = stream.fixture.owner(Method::GET, "/admin/v1/revocations", None).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let more = format!("jwks_url = \"{IDP}events/jwks\"");
    let fixture = stream.fixture.restarted(&toml(&more), stream.outside.clone()).await;
    let stream = Stream { fixture, ..stream };
    assert_eq!(stream.cause(&theirs(NOW)), Some(Cause::Subject));
    stream.fixture.clock.advance(Duration::from_hours(6 * 24));
    assert_eq!(stream.push(&set).await.status, StatusCode::ACCEPTED);
    assert_eq!(stream.counts(), HashMap::from([("acted", 1), ("repeated", 2)]));
    assert_eq!(stream.cause(&theirs(NOW + 3600)), None, "a replay logs nobody out");
}

#[tokio::test]
async fn an_old_token_speaks_of_its_own_moment_and_a_new_one_of_everything_up_to_now() {
    let stream = Stream::new().await;
    let event = format!("{CAEP}session-revoked");
    let at = |iat: i64, happened: i64, jti: &str| {
        let events = json!({ event.clone(): { "event_timestamp": happened } });
        stream.set(&Stream::claims(&alice(), &event, &json!({ "iat": iat, "jti": jti, "events": events })))
    };
    // Ten days on its way: what was issued since is not meant.
    stream.fixture.clock.advance(Duration::from_hours(10 * 24));
    let now = stream.fixture.clock.now().as_secs();
    assert_eq!(stream.push(&at(NOW, NOW - 5, "old")).await.status, StatusCode::ACCEPTED);
    let hit = |at: i64| stream.cause(&theirs(at)).is_some();
    assert!(hit(NOW - 5) && !hit(NOW - 4));
    // A moment on its way: what was made meanwhile of the session that ended is meant.
    assert_eq!(stream.push(&at(now - 5, now - 60, "new")).await.status, StatusCode::ACCEPTED);
    assert!(hit(now) && !hit(now + 1));
}

fn err(answer: &Answer) -> String {
    assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{}", answer.text);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.json()["description"].is_string());
    answer.json()["err"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_22_what_is_no_security_event_of_a_transmitter_is_refused_with_its_code() {
    let stream = Stream::new().await;
    let event = format!("{CAEP}session-revoked");
    let claims = |change: Value| Stream::claims(&alice(), &event, &change);
    let header = |change: Value| {
        let mut header = json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "events-1" });
        header.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        stream.key.mint_with(&header, &claims(json!({})))
    };
    let stranger = TestKey::generate("ES256").with_kid("events-1");
    let good = stream.set(&claims(json!({})));
    let cases = [
        (String::new(), "invalid_request"),
        ("x".to_owned(), "invalid_request"),
        ("x".repeat(20_000), "invalid_request"),
        (format!("{good} {good}"), "invalid_request"),
        (header(json!({ "typ": "JWT" })), "invalid_request"),
        (header(json!({ "typ": "at+jwt" })), "invalid_request"),
        (header(json!({ "crit": ["x"] })), "invalid_request"),
        (
            testkit::keys::unsigned(&json!({ "alg": "none", "typ": "secevent+jwt" }), &claims(json!({}))),
            "invalid_request",
        ),
        (stream.set(&claims(json!({ "iss": "https://evil.example/" }))), "invalid_issuer"),
        (stream.set(&claims(json!({ "iss": null }))), "invalid_request"),
        (stream.set(&claims(json!({ "aud": "https://other.example" }))), "invalid_audience"),
        (stream.set(&claims(json!({ "aud": null }))), "invalid_request"),
        (stream.set(&claims(json!({ "exp": NOW + 60 }))), "invalid_request"),
        (stream.set(&claims(json!({ "sub": "alice" }))), "invalid_request"),
        (stream.set(&claims(json!({ "jti": null }))), "invalid_request"),
        (stream.set(&claims(json!({ "iat": NOW + 3600 }))), "invalid_request"),
        (stream.set(&claims(json!({ "sub_id": null }))), "invalid_request"),
        (stream.set(&claims(json!({ "events": {} }))), "invalid_request"),
        (
            stranger
                .mint_with(&json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "events-1" }), &claims(json!({}))),
            "invalid_key",
        ),
        (header(json!({ "kid": "another" })), "invalid_key"),
    ];
    for (n, (set, expected)) in cases.into_iter().enumerate() {
        // Each from an address of its own: who fails too often is not heard.
        let answer = stream.push_with(&set, &[], &format!("192.0.2.{}", n + 10)).await;
        assert_eq!(err(&answer), expected, "{n}: {}", answer.text);
    }
    for headers in [
        [("content-type", "application/jwt")],
        [("content-type", "application/x-www-form-urlencoded")],
        [("content-type", "")],
        [("content-encoding", "gzip")],
    ] {
        assert_eq!(err(&stream.push_with(&good, &headers, "192.0.2.1").await), "invalid_request", "{headers:?}");
    }
    let two = [("content-type", "application/secevent+jwt"), ("content-type", "text/plain")];
    assert_eq!(err(&stream.push_with(&good, &two, "192.0.2.2").await), "invalid_request");
    assert_eq!(stream.fixture.operations.store().revoked().entries(), 0);
    assert_eq!(stream.push(&good).await.status, StatusCode::ACCEPTED, "the next good one is taken");
}

#[tokio::test]
async fn a_transmitter_says_what_it_must() {
    let more = format!("jwks_url = \"{IDP}events/jwks\"\nbearer = {{ env = \"X\" }}");
    let stream = Stream::with(&more).await;
    let set = stream.set(&Stream::claims(&alice(), &format!("{CAEP}session-revoked"), &json!({})));
    for (n, headers) in [
        vec![],
        vec![("authorization", "Bearer wrong")],
        vec![("authorization", "Bearer ")],
        vec![("authorization", "Basic what-a-transmitter-says")],
        vec![("authorization", "what-a-transmitter-says")],
        vec![("authorization", "Bearer what-a-transmitter-says"), ("authorization", "Bearer what-a-transmitter-says")],
    ]
    .iter()
    .enumerate()
    {
        let answer = stream.push_with(&set, headers, &format!("192.0.2.{}", n + 10)).await;
        assert_eq!(err(&answer), "authentication_failed", "{headers:?}");
    }
    assert_eq!(stream.fixture.operations.store().revoked().entries(), 0);
    let right = [("authorization", "bearer what-a-transmitter-says")];
    assert_eq!(stream.push_with(&set, &right, ELSEWHERE).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn keys_are_found_by_metadata_and_fetched_again_once_for_a_new_one() {
    let stream = Stream::with("discovery = true").await;
    let event = format!("{CAEP}session-revoked");
    let set = |jti: &str| stream.set(&Stream::claims(&alice(), &event, &json!({ "jti": jti })));
    let answer = stream.push(&set("1")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{}", answer.text);
    let tried = stream.world.fetched.load(Ordering::SeqCst);
    stream.push(&set("1")).await;
    assert_eq!(stream.world.fetched.load(Ordering::SeqCst), tried, "not again at once");

    stream.world.put(
        &format!("{IDP}.well-known/ssf-configuration"),
        json!({ "issuer": IDP, "jwks_uri": format!("{IDP}events/jwks"), "delivery_methods_supported": [] }),
    );
    stream.fixture.clock.advance(Duration::from_secs(30));
    assert_eq!(stream.push(&set("1")).await.status, StatusCode::ACCEPTED);

    let next = TestKey::generate("ES256").with_kid("events-2");
    stream.world.put(&format!("{IDP}events/jwks"), key_set(&[&stream.key, &next]));
    stream.fixture.clock.advance(Duration::from_secs(30));
    let header = json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "events-2" });
    let renewed = next.mint_with(&header, &Stream::claims(&alice(), &event, &json!({ "jti": "2" })));
    assert_eq!(stream.push(&renewed).await.status, StatusCode::ACCEPTED);
    let fetched = stream.world.fetched.load(Ordering::SeqCst);
    let unknown = json!({ "alg": "ES256", "typ": "secevent+jwt", "kid": "nobody" });
    for n in 0..20 {
        let set = next.mint_with(&unknown, &Stream::claims(&alice(), &event, &json!({})));
        err(&stream.push_with(&set, &[], &format!("198.51.100.{n}")).await);
    }
    assert_eq!(stream.world.fetched.load(Ordering::SeqCst), fetched, "unknown keys cause no fetches in a row");
}

#[tokio::test]
async fn who_shares_a_transmitters_address_does_not_silence_it_and_a_flood_is_bounded_by_the_minute() {
    let stream = Stream::new().await;
    let set = stream.set(&Stream::claims(&alice(), &format!("{CAEP}session-revoked"), &json!({})));
    for _ in 0..50 {
        err(&stream.push_with("x", &[], "192.0.2.66").await);
    }
    assert_eq!(stream.push_with(&set, &[], "192.0.2.66").await.status, StatusCode::ACCEPTED);
    let mut closed = stream.push_with("x", &[], "192.0.2.66").await;
    for _ in 0..300 {
        closed = stream.push_with("x", &[], "192.0.2.66").await;
    }
    assert_eq!(closed.status, StatusCode::TOO_MANY_REQUESTS, "{}", closed.text);
    assert!(!closed.header("retry-after").is_empty());
    assert_eq!(stream.push(&set).await.status, StatusCode::ACCEPTED);
}

#[tokio::test]
async fn a_transmitter_made_by_the_admin_api_is_heard_at_once_and_gone_at_once() {
    let stream = Stream::with(&format!("jwks_url = \"{IDP}events/jwks\"")).await;
    let iss = "https://second.example/";
    stream.world.put("https://second.example/jwks", key_set(&[&stream.key]));
    let claims = |jti: &str| json!({ "iss": iss, "jti": jti });
    let event = format!("{CAEP}session-revoked");
    let set = |jti: &str| stream.set(&Stream::claims(&alice(), &event, &claims(jti)));
    assert_eq!(err(&stream.push(&set("1")).await), "invalid_issuer");
    let body = json!({
        "issuer": iss, "audience": [HERE], "subjects": "corp", "jwks_url": "https://second.example/jwks"
    });
    let path = "/admin/v1/transmitters/second";
    let made = stream.fixture.owner(Method::PUT, path, Some(body.clone())).await;
    assert!(made.status.is_success(), "{}", made.text);
    assert_eq!(stream.push(&set("1")).await.status, StatusCode::ACCEPTED);
    assert_eq!(stream.fixture.owner(Method::DELETE, path, None).await.status, StatusCode::NO_CONTENT);
    assert_eq!(err(&stream.push(&set("2")).await), "invalid_issuer");
    for wrong in [json!({ "jwks_file": "/etc/passwd" }), json!({ "bearer": { "env": "HOME" } })] {
        let mut body = body.clone();
        if wrong.get("jwks_file").is_some() {
            body.as_object_mut().unwrap().remove("jwks_url");
        }
        body.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        let answer = stream.fixture.owner(Method::PUT, path, Some(body)).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong}: {}", answer.text);
    }
}
