//! The token service as its clients meet it, over a socket: devices, signed requests, refusals that say where to go, and
//! what its endpoints do about those who try.

use std::time::Duration;

use serde_json::json;
use testkit::keys::{TestKey, header, unverified};
use testkit::raw::{self, Connection};
use testkit::signature::Signing;

use crate::attacks::question;
use crate::attacks::refresh::World;
use crate::browser::Browser;
use crate::caller::{PATH, challenges};
use crate::oauth::{Client, encode, send};

const DEVICE: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// What a device asks while it waits.
async fn poll(client: &Client, code: &str) -> (u16, serde_json::Value) {
    let answer = client.token(&[("grant_type", DEVICE), ("device_code", code)]).await;
    (answer.status(), answer.json())
}

#[tokio::test]
async fn a_command_line_tool_signs_somebody_in_on_another_device() {
    let world = World::start().await;
    let mut client = world.client("web");
    let begun = client.post("/oauth/device_authorization", &[("scope", "openid chat")]).await;
    assert_eq!(begun.status(), 200, "{}", begun.text());
    let begun = begun.json();
    let (code, user_code) = (begun["device_code"].as_str().unwrap(), begun["user_code"].as_str().unwrap());
    assert_eq!(poll(&client, code).await.1["error"], "authorization_pending");
    assert_eq!(poll(&client, code).await.1["error"], "slow_down");
    // The person, elsewhere, types the code, signs in, and says yes.
    let mut browser = Browser::new(world.gateway.public, &client.origin);
    let page = browser.get("/oauth/device").await;
    let policy = page.header("content-security-policy").unwrap_or_default();
    assert!(policy.contains("frame-ancestors 'none'") && policy.contains("default-src 'none'"), "{policy}");
    assert!(!page.text().contains("<script"), "{}", page.text());
    let away = browser.submit(&page, &[("user_code", &user_code.to_lowercase())]).await;
    let question = browser.sign_in(&world.op, &away).await;
    assert!(question.text().contains(user_code), "the page shows the code: {}", question.text());
    assert_eq!(poll(&client, code).await.0, 400, "not before the person has said yes");
    let done = browser.submit(&question, &[("decision", "allow")]).await;
    assert_eq!(done.status(), 200, "{}", done.text());
    world.pass(Duration::from_secs(30));
    let (status, given) = poll(&client, code).await;
    assert_eq!(status, 200, "{given}");
    let token = given["access_token"].as_str().unwrap();
    assert_eq!(unverified(token)["sub"], "corp|248289761001");
    assert!(world.opens(&mut client, token).await);
    world.pass(Duration::from_secs(30));
    assert_eq!(poll(&client, code).await.1["error"], "invalid_grant", "a code is good once");
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_client_that_has_to_sign_gets_a_token_to_sign_with() {
    let world = World::start().await;
    world.gateway.clock.advance(Duration::from_secs(6));
    let mut client = world.client("signer");
    let token = client.access_token().await;
    let holder = client.holder.take().unwrap();
    let cnf = &unverified(&token)["cnf"];
    assert_eq!((&cnf["jkt"], &cnf["jwk"]["x"]), (&json!(holder.jkt()), &holder.jwk()["x"]), "{cnf}");
    let bearer = format!("Bearer {token}");
    let body = question().to_string();
    let now = base::Clock::now(&world.gateway.clock).as_secs();
    let signing = Signing::new(&holder, "POST", &format!("{}{PATH}", client.origin), ("authorization", &bearer), now);
    let fields = signing.body("application/json", body.as_bytes()).sign();
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let answer = raw::request(world.gateway.public, "POST", PATH, &headers, body.as_bytes()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    // A proof is less than this policy asks for, and a bare token less still.
    client.holder = Some(holder);
    assert!(!world.opens(&mut client, &token).await);
    let alone = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = raw::request(world.gateway.public, "POST", PATH, &alone, body.as_bytes()).await;
    assert_eq!(answer.status(), 401, "{}", answer.text());
    assert_eq!(world.provider.count(), 1);
    world.gateway.stop().await;
}

#[tokio::test]
async fn every_refusal_says_where_to_get_a_token() {
    let world = World::start().await;
    let client = world.client("agent");
    let get = async |path: &str, headers: &[(&str, &str)]| {
        raw::request(world.gateway.public, "GET", path, headers, b"").await
    };
    let refused = get("/v1/models", &[]).await;
    assert_eq!(refused.status(), 401);
    let said = challenges(&refused);
    assert!(said.contains("Bearer ") && said.contains("DPoP ") && !said.contains("error="), "{said}");
    // A scope that is missing is said the same way.
    let form = [("grant_type", "client_credentials"), ("scope", "files")];
    let unscoped = client.granted(&form).await["access_token"].as_str().unwrap().to_owned();
    let mut holder_of = world.client("agent");
    holder_of.holder = client.holder;
    let caller = holder_of.caller(&unscoped);
    let nonce = caller.nonce().await;
    let forbidden = caller.ask(&caller.proof(&nonce).sign()).await;
    assert_eq!(forbidden.status(), 403, "{}", forbidden.text());
    for answer in [&refused, &forbidden] {
        let said = challenges(answer);
        let (_, url) = said.split_once("resource_metadata=\"").unwrap_or_else(|| panic!("{said}"));
        let url = url.split('"').next().unwrap();
        let path = url.strip_prefix(&caller.origin).unwrap();
        let resource = get(path, &[]).await.json();
        assert_eq!(resource["resource"], caller.origin.as_str());
        let issuer = resource["authorization_servers"][0].as_str().unwrap();
        assert_eq!(issuer, caller.origin);
        for well_known in ["oauth-authorization-server", "openid-configuration"] {
            let about = get(&format!("/.well-known/{well_known}"), &[]).await.json();
            assert_eq!(about["issuer"], issuer);
            for endpoint in ["token_endpoint", "jwks_uri", "authorization_endpoint", "revocation_endpoint"] {
                assert!(about[endpoint].as_str().unwrap().starts_with(issuer), "{endpoint}: {about}");
            }
        }
    }
    let keys = get("/.well-known/jwks.json", &[]).await.json();
    assert!(keys["keys"].as_array().unwrap().iter().any(|key| key["kid"] == header(&unscoped)["kid"]), "{keys}");
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_44_an_unknown_client_is_answered_like_a_wrong_secret() {
    let world = World::start().await;
    let mut said = Vec::new();
    for id in ["agent", "nobody"] {
        let pairs =
            [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", "a wrong secret, long enough")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let answer = send(world.gateway.public, "/oauth/token", &pairs, None).await;
        let mut headers = answer.head.headers.clone();
        headers.retain(|(name, _)| !["x-request-id", "date"].contains(&name.as_str()));
        said.push((answer.status(), headers, answer.text()));
    }
    assert_eq!(said[0], said[1]);
    assert_eq!(said[0].0, 401);
    // It is not told apart by when it is locked either.
    let mut locked = Vec::new();
    for id in ["agent", "nobody"] {
        let mut after = 0;
        let pairs = [("grant_type", "client_credentials"), ("client_id", id), ("client_secret", "wrong again")];
        let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
        while send(world.gateway.public, "/oauth/token", &pairs, None).await.status() == 401 {
            after += 1;
            assert!(after < 100, "{id} is never locked");
        }
        locked.push(after);
    }
    assert_eq!(locked[0], locked[1]);
    world.gateway.clock.advance(Duration::from_mins(30));
    world.client("agent").access_token().await;
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_30_secrets_in_other_places_of_the_token_service() {
    let world = World::start().await;
    let client = world.client("agent");
    let token = client.access_token().await;
    let secret = "a secret of the tests' own client";
    let query = encode(&[("grant_type", "client_credentials"), ("client_id", "agent"), ("client_secret", secret)]);
    let kind = ("content-type", "application/x-www-form-urlencoded");
    let json = json!({"grant_type": "client_credentials", "client_id": "agent", "client_secret": secret}).to_string();
    let twice = format!("{query}&client_secret=x");
    let basic = format!("Basic {}", base64("agent:xxxx"));
    for (what, method, path, headers, body) in [
        ("in the query", "POST", format!("/oauth/token?{query}"), vec![kind], String::new()),
        ("by GET", "GET", format!("/oauth/token?{query}"), vec![], String::new()),
        ("as JSON", "POST", "/oauth/token".to_owned(), vec![("content-type", "application/json")], json),
        ("named twice", "POST", "/oauth/token".to_owned(), vec![kind], twice),
        (
            "in two ways",
            "POST",
            "/oauth/token".to_owned(),
            vec![kind, ("authorization", basic.as_str())],
            query.clone(),
        ),
    ] {
        let answer = raw::request(world.gateway.public, method, &path, &headers, body.as_bytes()).await;
        assert!([400, 401, 405, 415].contains(&answer.status()), "{what}: {} {}", answer.status(), answer.text());
        assert!(answer.json().get("access_token").is_none(), "{what}");
    }
    // Nor does a token open anything from the query, with a proof beside it or without.
    let mut client = client;
    let caller = client.caller(&token);
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce).sign();
    let before = world.provider.count();
    for headers in [vec![], vec![("dpop", proof.as_str())]] {
        let answer = caller.ask_with(&format!("{PATH}?access_token={token}"), &headers).await;
        assert_eq!(answer.status(), 401, "{}", answer.text());
    }
    assert_eq!(world.provider.count(), before);
    assert_eq!(caller.ask(&proof).await.status(), 200, "nothing of it was used up");
    world.gateway.stop().await;
}

#[tokio::test]
async fn a_27_wrong_signatures_from_one_address_are_bounded_and_good_tokens_go_on() {
    let world = World::start().await;
    let mut client = world.client("agent");
    let token = client.access_token().await;
    let caller = client.caller(&token);
    caller.fine("before").await;
    // Tokens of ours by name, signed by somebody else: each costs a verification, until there are too many.
    let kid = header(&token)["kid"].as_str().unwrap().to_owned();
    let forger = TestKey::generate("ES256").with_kid(&kid);
    let claims = unverified(&token);
    // A new one each time: a verdict on the very same text is remembered.
    let wrongly_signed = |number: i32| {
        let mut claims = claims.clone();
        claims["jti"] = json!(number);
        format!("Bearer {}", forger.mint(&claims))
    };
    let mut connection = Connection::open(world.gateway.public).await;
    let mut limited = None;
    for tried in 0..2000 {
        connection.request("GET", "/v1/models", &[("authorization", &wrongly_signed(tried))], b"").await;
        let answer = connection.response().await;
        match answer.status() {
            401 => {}
            429 => {
                assert!(answer.header("retry-after").is_some(), "{:?}", answer.head);
                limited = Some(tried);
                break;
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(limited.is_some(), "never bounded");
    caller.fine("a token that is known to be good").await;
    world.gateway.clock.advance(Duration::from_secs(61));
    connection.request("GET", "/v1/models", &[("authorization", &wrongly_signed(-1))], b"").await;
    assert_eq!(connection.response().await.status(), 401, "a minute later it is looked at again");
    caller.fine("afterwards").await;
    world.gateway.stop().await;
}

fn base64(text: &str) -> String {
    // Only for what needs no padding.
    assert_eq!(text.len() % 3, 1);
    format!("{}==", testkit::keys::b64(text))
}
