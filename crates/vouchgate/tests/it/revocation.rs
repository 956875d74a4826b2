//! An operator ends tokens, sessions, clients, devices and keys, and a company's identity provider says that somebody is
//! gone: in force at once, on what runs too, and never forgotten.

use std::sync::Arc;

use base::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::dpop::random;
use testkit::keys::{TestKey, unverified};
use testkit::mock::{Answer, Gate};
use testkit::raw::{self, Connection, Response};

use crate::attacks::question;
use crate::caller::PATH;
use crate::oauth::EXCHANGE;
use crate::real::{ORIGIN, Real};
use crate::support::command;

/// Seconds from now: what is issued after a revocation has to be from a later second than it.
fn later() -> i64 {
    SystemClock.now().as_secs() + 3
}

impl Real {
    /// Run a command on the state of the running program; what it prints.
    fn run(&self, args: &[&str], stdin: &[u8]) -> String {
        command(self.dir.path(), args, stdin)
    }

    async fn works(&self, what: &str, token: &str) {
        let answer = self.bearer(token).await;
        assert_eq!(answer.status(), 200, "{what}: {}", answer.text());
    }

    /// A token of ours for the company's subject.
    async fn exchanged(&self, subject_token: &str) -> String {
        let kind = "urn:ietf:params:oauth:token-type:access_token";
        let form = [
            ("grant_type", EXCHANGE),
            ("subject_token", subject_token),
            ("subject_token_type", kind),
            ("scope", "chat"),
        ];
        self.web().granted(&form).await["access_token"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn a_39_whatever_is_revoked_is_refused_at_once_and_after_kill_9() {
    let mut world = Real::start("").await;
    let token = |more: &Value| world.token("chat", more);
    let one = token(&json!({"sub": "one"}));
    let same_subject = token(&json!({"sub": "two", "jti": "a"}));
    let subject_elsewhere = token(&json!({"sub": "three"}));
    let on_device = token(&json!({"sub": "four", "device_id": "device-1"}));
    let in_session = token(&json!({"sub": "five", "sid": "session-1"}));
    let kept = token(&json!({"sub": "six", "device_id": "device-2", "sid": "session-2"}));
    let of_client = world.web().access_token().await;
    let of_other_client = world.agent().access_token().await;
    let ours = world.web().access_token().await;
    let from_two = world.exchanged(&same_subject).await;
    let tokens = [
        &one,
        &same_subject,
        &subject_elsewhere,
        &on_device,
        &in_session,
        &kept,
        &of_client,
        &of_other_client,
        &ours,
        &from_two,
    ];
    for token in tokens {
        // Known good from now on, and in the cache of verified tokens.
        world.works("at first", token).await;
    }
    let jti = |token: &str| unverified(token)["jti"].as_str().unwrap().to_owned();
    world.run(&["token", "revoke", "--jti", &jti(&one), "--issuer", "corp", "--reason", "found in a log"], b"");
    world.refused("by jti", &one).await;
    world.run(&["token", "revoke", "--token-stdin"], ours.as_bytes());
    world.refused("by itself", &ours).await;
    world.works("another of the same client", &of_client).await;
    world.run(&["token", "revoke", "--subject", "two", "--issuer", "corp"], b"");
    world.refused("by subject", &same_subject).await;
    world.refused("made of the subject's token", &from_two).await;
    world.run(&["token", "revoke", "--device", "device-1", "--issuer", "corp"], b"");
    world.refused("by device", &on_device).await;
    world.run(&["token", "revoke", "--session", "session-1", "--issuer", "corp"], b"");
    world.refused("by session", &in_session).await;
    world.run(&["token", "revoke", "--client", "web"], b"");
    world.refused("by client", &of_client).await;
    for token in [&kept, &subject_elsewhere, &of_other_client] {
        world.works("what was not meant", token).await;
    }
    // Whoever is still welcome gets a new token.
    world.works("a later token", &world.token("chat", &json!({"sub": "two", "iat": later()}))).await;
    world.kill_and_restart().await;
    for (what, token) in [
        ("jti", &one),
        ("token", &ours),
        ("subject", &same_subject),
        ("exchanged", &from_two),
        ("device", &on_device),
        ("session", &in_session),
        ("client", &of_client),
    ] {
        world.refused(&format!("{what}, after a restart"), token).await;
    }
    for token in [&kept, &subject_elsewhere, &of_other_client] {
        world.works("what was not meant, after a restart", token).await;
    }
    let list = world.run(&["token", "revocations"], b"");
    assert!(list.contains("found in a log") && list.contains("device-1"), "{list}");
    // The rest: an issuer, then everybody.
    world.run(&["token", "revoke", "--issuer", "corp", "--all"], b"");
    world.refused("by issuer", &kept).await;
    world.works("of another issuer", &of_other_client).await;
    world.run(&["token", "revoke", "--all"], b"");
    world.refused("everything", &of_other_client).await;
    world.works("issued later", &world.token("chat", &json!({"iat": later()}))).await;
    world.kill_and_restart().await;
    world.refused("everything, after a restart", &of_other_client).await;
}

/// Ask for a stream whose first event comes and whose rest waits at the gate; read its first event.
async fn streaming(world: &Real, token: &str, gate: &Gate) -> Connection {
    let chunk = |text: &str, end: Value| {
        json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m1",
               "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}]})
    };
    let first = format!("data: {}\n\n", chunk("first", Value::Null));
    let answer = Answer::openai_stream(&[chunk("first", Value::Null), chunk("second", json!("stop"))]);
    world.provider.push(answer.stall_after(first.len(), gate));
    let mut body = question();
    body["stream"] = json!(true);
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let mut connection = Connection::open(world.program.public).await;
    connection.request("POST", PATH, &headers, body.to_string().as_bytes()).await;
    assert_eq!(connection.head().await.unwrap().status, 200);
    let mut text = String::new();
    while !text.contains("first") {
        text.push_str(&String::from_utf8_lossy(&connection.piece().await.unwrap().unwrap()));
    }
    connection
}

/// What is left of a stream.
async fn rest(connection: &mut Connection) -> String {
    let mut text = String::new();
    while let Ok(Some(piece)) = connection.piece().await {
        text.push_str(&String::from_utf8_lossy(&piece));
    }
    text
}

#[tokio::test]
async fn a_39_an_open_stream_is_cut_where_the_policy_says_so_and_ends_well_elsewhere() {
    let world = Real::start("").await;
    let (cut, finished, other) = (Gate::closed(), Gate::closed(), Gate::closed());
    let doomed = world.token("cut", &json!({"sub": "gone"}));
    let patient = world.token("chat", &json!({"sub": "gone"}));
    let unconcerned = world.token("cut", &json!({"sub": "stays"}));
    let mut doomed_stream = streaming(&world, &doomed, &cut).await;
    let mut patient_stream = streaming(&world, &patient, &finished).await;
    let mut other_stream = streaming(&world, &unconcerned, &other).await;
    world.run(&["token", "revoke", "--subject", "gone", "--issuer", "corp"], b"");
    // The provider says nothing more: the end comes from us.
    let text = rest(&mut doomed_stream).await;
    assert!(text.contains("token_revoked") && !text.contains("[DONE]") && !text.contains("second"), "{text}");
    finished.open();
    let text = rest(&mut patient_stream).await;
    assert!(text.contains("second") && text.contains("[DONE]"), "{text}");
    other.open();
    let text = rest(&mut other_stream).await;
    assert!(text.contains("second") && text.contains("[DONE]"), "{text}");
    world.refused("the next request", &doomed).await;
    world.refused("the next request", &patient).await;
}

#[tokio::test]
async fn rotation_under_load_loses_no_request() {
    let world = Arc::new(Real::start("").await);
    let kid = |token: &str| {
        let keys = command(world.dir.path(), &["key", "list", "--json"], b"");
        assert!(!keys.is_empty());
        testkit::keys::header(token)["kid"].as_str().unwrap().to_owned()
    };
    let before = world.web().access_token().await;
    let first = kid(&before);
    let (done, mut doing) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), tokio::task::JoinSet::new());
    for worker in 0..4 {
        let (world, done) = (Arc::clone(&world), Arc::clone(&done));
        let old = before.clone();
        doing.spawn(async move {
            let mut asked = 0_usize;
            // Bounded in any case, and at least some after the last rotation.
            while asked < 400 && (asked < 20 || !done.load(std::sync::atomic::Ordering::Relaxed)) {
                let client = if worker % 2 == 0 { world.web() } else { world.agent() };
                let token = client.access_token().await;
                world.works("a new token", &token).await;
                world.works("the old token", &old).await;
                asked += 1;
            }
            asked
        });
    }
    let dir = world.dir.path().to_owned();
    let rotations = tokio::task::spawn_blocking(move || {
        for _ in 0..3 {
            command(&dir, &["key", "rotate", "--now"], b"");
        }
    });
    rotations.await.unwrap();
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    let asked: usize = doing.join_all().await.iter().sum();
    assert!(asked >= 80, "{asked} requests");
    let last = world.web().access_token().await;
    assert_ne!(kid(&last), first);
    world.works("signed before all of it", &before).await;
}

#[tokio::test]
async fn a_39_a_compromised_key_takes_all_it_signed_along() {
    let mut world = Real::start("").await;
    let (stolen, of_corp) = (world.web().access_token().await, world.token("chat", &json!({})));
    world.works("before", &stolen).await;
    let kid = testkit::keys::header(&stolen)["kid"].as_str().unwrap().to_owned();
    let published = async |world: &Real| {
        let keys = raw::request(world.program.public, "GET", "/.well-known/jwks.json", &[], b"").await.json();
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert!(published(&world).await.contains(&kid));
    world.run(&["key", "rotate", "--compromised", &kid], b"");
    world.refused("signed by the key", &stolen).await;
    assert!(!published(&world).await.contains(&kid), "it is published no longer");
    let new = world.web().access_token().await;
    assert_ne!(testkit::keys::header(&new)["kid"], kid.as_str());
    world.works("signed by the new key", &new).await;
    world.works("of another issuer", &of_corp).await;
    world.kill_and_restart().await;
    world.refused("signed by the key, after a restart", &stolen).await;
    world.works("signed by the new key, after a restart", &new).await;
}

/// A security event of the company's provider, with claims and header changed; `null` takes one out.
fn event(world: &Real, kind: &str, changes: &Value) -> String {
    let now = SystemClock.now().as_secs();
    let issuer = world.idp.issuer();
    let mut claims = json!({
        "iss": issuer, "aud": format!("{ORIGIN}/oauth/events"), "iat": now, "jti": random(),
        "sub_id": {"format": "iss_sub", "iss": issuer, "sub": "user-1"},
        "events": {kind: {"event_timestamp": now}},
    });
    let mut header = json!({"alg": "ES256", "kid": world.key.kid, "typ": "secevent+jwt"});
    for (name, value) in changes.as_object().unwrap() {
        let (object, name) =
            name.strip_prefix("header.").map_or((&mut claims, name.as_str()), |name| (&mut header, name));
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            object[name] = value.clone();
        }
    }
    world.key.mint_with(&header, &claims)
}

async fn push(world: &Real, event: &str) -> Response {
    let headers = [("content-type", "application/secevent+jwt"), ("accept", "application/json")];
    raw::request(world.program.public, "POST", "/oauth/events", &headers, event.as_bytes()).await
}

const SESSION_REVOKED: &str = "https://schemas.openid.net/secevent/caep/event-type/session-revoked";

#[tokio::test]
async fn a_39_a_security_event_ends_what_it_is_about() {
    let mut world = Real::start("").await;
    for (subject, kind) in [
        ("caep-session", SESSION_REVOKED),
        ("caep-credential", "https://schemas.openid.net/secevent/caep/event-type/credential-change"),
        ("risc-disabled", "https://schemas.openid.net/secevent/risc/event-type/account-disabled"),
    ] {
        let token = world.token("chat", &json!({"sub": subject}));
        let exchanged = world.exchanged(&token).await;
        world.works(kind, &token).await;
        world.works(kind, &exchanged).await;
        let about = json!({"sub_id": {"format": "iss_sub", "iss": world.idp.issuer(), "sub": subject}});
        let now = SystemClock.now().as_secs();
        let said = json!({"event_timestamp": now, "change_type": "revoke", "credential_type": "password"});
        let mut changes = about.clone();
        changes["events"] = json!({kind: said});
        let answer = push(&world, &event(&world, kind, &changes)).await;
        assert_eq!((answer.status(), answer.text().as_str()), (202, ""), "{kind}");
        world.refused(kind, &token).await;
        world.refused(kind, &exchanged).await;
    }
    let unconcerned = world.token("chat", &json!({"sub": "somebody-else"}));
    world.works("nobody spoke of", &unconcerned).await;
    // The same event again is taken, and nothing new.
    let again = event(
        &world,
        SESSION_REVOKED,
        &json!({"sub_id": {"format": "iss_sub", "iss": world.idp.issuer(), "sub": "again"}}),
    );
    for _ in 0..2 {
        assert_eq!(push(&world, &again).await.status(), 202);
    }
    world.kill_and_restart().await;
    assert_eq!(push(&world, &again).await.status(), 202);
    let past = json!({"sub": "risc-disabled", "iat": SystemClock.now().as_secs() - 60});
    world.refused("after a restart", &world.token("chat", &past)).await;
    world.works("nobody spoke of, after a restart", &unconcerned).await;
}

#[tokio::test]
async fn a_39_a_security_event_that_is_none() {
    let world = Real::start("").await;
    let token = world.token("chat", &json!({}));
    world.works("before", &token).await;
    let now = SystemClock.now().as_secs();
    for (why, err, changes) in [
        ("another issuer", "invalid_issuer", json!({"iss": "https://evil.example"})),
        ("another audience", "invalid_audience", json!({"aud": "https://elsewhere.example"})),
        ("no audience", "invalid_request", json!({"aud": null})),
        ("an access token's type", "invalid_request", json!({"header.typ": "at+jwt"})),
        ("no type", "invalid_request", json!({"header.typ": null})),
        ("with exp", "invalid_request", json!({"exp": now + 300})),
        ("with sub", "invalid_request", json!({"sub": "user-1"})),
        ("no jti", "invalid_request", json!({"jti": null})),
        ("no iat", "invalid_request", json!({"iat": null})),
        ("no events", "invalid_request", json!({"events": null})),
        ("no subject", "invalid_request", json!({"sub_id": null})),
        ("an unknown key", "invalid_key", json!({"header.kid": "unknown"})),
    ] {
        let answer = push(&world, &event(&world, SESSION_REVOKED, &changes)).await;
        assert_eq!(answer.status(), 400, "{why}: {}", answer.text());
        assert_eq!(answer.json()["err"], err, "{why}: {}", answer.text());
    }
    let stranger = TestKey::generate("ES256").with_kid(&world.key.kid);
    let claims = unverified(&event(&world, SESSION_REVOKED, &json!({})));
    let forged = stranger.mint_with(&json!({"alg": "ES256", "kid": stranger.kid, "typ": "secevent+jwt"}), &claims);
    for (why, text) in [
        ("forged", forged),
        ("an access token", token.clone()),
        ("garbage", "garbage".to_owned()),
        ("nothing", String::new()),
    ] {
        let answer = push(&world, &text).await;
        assert_eq!(answer.status(), 400, "{why}: {}", answer.text());
        assert!(answer.json()["err"].is_string(), "{why}: {}", answer.text());
    }
    let good = event(
        &world,
        SESSION_REVOKED,
        &json!({"sub_id": {"format": "iss_sub", "iss": world.idp.issuer(), "sub": "other"}}),
    );
    let kind = [("content-type", "application/json")];
    let answer = raw::request(world.program.public, "POST", "/oauth/events", &kind, good.as_bytes()).await;
    assert!([400, 415].contains(&answer.status()), "{}", answer.text());
    // About subjects of an issuer it does not speak for: nothing may happen to those.
    let ours = world.web().access_token().await;
    let about_ours = json!({"sub_id": {"format": "iss_sub", "iss": ORIGIN, "sub": "web"}});
    let answer = push(&world, &event(&world, SESSION_REVOKED, &about_ours)).await;
    assert!([202, 400].contains(&answer.status()), "{}", answer.text());
    world.works("ours", &ours).await;
    world.works("whom nothing true was said of", &token).await;
    // And a true event is no token.
    world.refused("an event as access token", &good).await;
}
