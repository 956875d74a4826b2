//! Tokens truly signed by an issuer that say what they must not.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::keys::{TestKey, b64};
use testkit::mock::Answer as Reply;

use super::{AUD, World, question};

#[tokio::test]
async fn a_16_duplicate_members() {
    let world = World::start().await;
    let kid = &world.es.kid;
    let headers = [
        format!(r#"{{"alg":"ES256","alg":"ES256","kid":{kid:?}}}"#),
        format!(r#"{{"alg":"none","kid":{kid:?},"alg":"ES256"}}"#),
        format!(r#"{{"alg":"ES256","kid":"x","kid":{kid:?}}}"#),
        format!(r#"{{"alg":"ES256","kid":{kid:?},"typ":"JWT","typ":"at+jwt"}}"#),
        format!(r#"{{"alg":"ES256","kid":{kid:?},"\u0061lg":"ES256"}}"#),
        format!(r#"{{"alg":"ES256","kid":{kid:?},"x":{{"y":1,"y":1}}}}"#),
    ];
    world.refused_headers("duplicates in the header", headers).await;
    let claims = world.claims().to_string();
    let header = world.header_with(&json!({})).to_string();
    let duplicates = [
        format!(r#""iss":{:?}"#, world.idp.issuer()),
        format!(r#""aud":"{AUD}""#),
        format!(r#""exp":{}"#, world.now() + 300),
        r#""sub":"admin""#.to_owned(),
        r#""scope":"chat admin""#.to_owned(),
        r#""\u0061ud":"x""#.to_owned(),
        r#""cnf":{"jkt":"a","jkt":"b"}"#.to_owned(),
        r#""z":[{"a":1,"a":2}]"#.to_owned(),
    ];
    let tokens = duplicates.map(|member| world.es.compact(&header, &claims.replacen('{', &format!("{{{member},"), 1)));
    world.refused_all("duplicate claims", tokens).await;
}

#[tokio::test]
async fn a_17_claim_type_confusion() {
    let world = World::start().await;
    let mut changes = Vec::new();
    let soon = world.now() + 300;
    for wrong in [json!(soon.to_string()), json!(true), json!([soon]), json!(-1), json!(1e308), json!("NaN"), json!({})]
    {
        changes.push(json!({"exp": wrong}));
    }
    for wrong in [json!((soon - 600).to_string()), json!([1]), json!(false), json!({})] {
        changes.push(json!({"nbf": wrong}));
        changes.push(json!({"iat": wrong}));
    }
    for wrong in [json!(7), json!({"0": AUD}), json!([]), json!([[AUD]]), json!([AUD, 5]), json!(true)] {
        changes.push(json!({"aud": wrong}));
    }
    for wrong in [json!(["https://evil.example", world.idp.issuer()]), json!([world.idp.issuer()]), json!(7), json!({})]
    {
        changes.push(json!({"iss": wrong}));
    }
    for wrong in [json!(7), json!({"a": 1}), json!(["user-1"]), json!(true), json!("")] {
        changes.push(json!({"sub": wrong}));
    }
    changes.extend([json!({"scope": 7}), json!({"scope": {"chat": true}}), json!({"scope": ["chat", 1]})]);
    changes.extend([json!({"cnf": "x"}), json!({"cnf": []}), json!({"cnf": 1}), json!({"cnf": {}})]);
    world.refused_claims("wrong types", changes).await;
    let text = world.claims().to_string();
    let header = world.header_with(&json!({})).to_string();
    let with_null = |claim: &str| {
        let mut claims: Value = serde_json::from_str(&text).unwrap();
        claims[claim] = Value::Null;
        world.es.compact(&header, &claims.to_string())
    };
    world.refused_all("null", ["exp", "iss", "aud", "sub", "cnf"].map(with_null)).await;
    let huge = text.replace("\"exp\":", "\"exp\":18446744073709551616,\"old\":");
    world.refused_all("2^64", [world.es.compact(&header, &huge)]).await;
}

#[tokio::test]
async fn a_18_time() {
    let world = World::start().await;
    let now = world.now();
    let changes = [
        json!({"exp": now}),
        json!({"exp": now - 1}),
        json!({"exp": now - 3600, "iat": now - 3900}),
        json!({"exp": null}),
        json!({"exp": 0}),
        json!({"nbf": now + 61}),
        json!({"iat": now + 3600, "exp": now + 3900}),
    ];
    world.refused_claims("time", changes).await;
    // The clock jumps an hour ahead: what was good has expired, also from the cache. Back again, it has not.
    let good = world.good();
    assert_eq!(world.ask(&good).await.unwrap().status, 200);
    world.gateway.clock.advance(Duration::from_hours(1));
    world.refused("an hour later", &good).await;
    world.fine("an hour later").await;
}

#[tokio::test]
async fn a_19_audience_confusion() {
    let world = World::start().await;
    let changes = [
        json!({"aud": null}),
        json!({"aud": "https://ai.example.com/"}),
        json!({"aud": "https://AI.example.com"}),
        json!({"aud": "https://ai.example.com.evil.example"}),
        json!({"aud": "https://ai.example.co"}),
        json!({"aud": "http://ai.example.com"}),
        json!({"aud": "https%3A%2F%2Fai.example.com"}),
        json!({"aud": "https://ai.example.com https://other.example"}),
        json!({"aud": " https://ai.example.com"}),
        json!({"aud": ["https://api.openai.com/v1", "https://other.example"]}),
        json!({"aud": "web"}),
    ];
    world.refused_claims("audience", changes).await;
    let shared = world.es.mint(&world.claims_with(&json!({"aud": ["https://other.example", AUD]})));
    assert_eq!(world.ask(shared).await.unwrap().status, 200, "ours among others");
}

#[tokio::test]
async fn a_20_issuer_mix_up() {
    let world = World::start().await;
    // The second issuer's key has the first one's key id: each is tried only for its own issuer.
    assert_eq!(world.es.kid, world.twin.kid);
    let good = world.twin.mint(&world.claims_with(&json!({"iss": world.other.issuer()})));
    assert_eq!(world.ask(good).await.unwrap().status, 200, "the second issuer's own token");
    let ours = world.gateway.token("app").await;
    let own: Value =
        serde_json::from_slice(&proof::jose::base64url_decode(ours.split('.').nth(1).unwrap()).unwrap()).unwrap();
    let issuer = world.idp.issuer();
    let mut tokens = vec![
        world.twin.mint(&world.claims()),
        world.es.mint(&world.claims_with(&json!({"iss": world.other.issuer()}))),
        world.es.mint(&world.claims_with(&json!({"iss": own["iss"], "aud": own["aud"]}))),
    ];
    for iss in [
        format!("{issuer}/"),
        format!("{issuer}.evil.example"),
        issuer.to_ascii_uppercase(),
        issuer.replace("http:", "https:"),
        issuer.replace("127.0.0.1", "localhost"),
        issuer.replace("127.0.0.1", "127.0.0.\u{0661}"),
        format!("{issuer}#"),
        format!(" {issuer}"),
        format!("{issuer}\u{0}"),
        "corp".to_owned(),
        "vouchgate".to_owned(),
        String::new(),
        format!("{issuer}/{{tenantid}}/v2.0"),
    ] {
        tokens.push(world.es.mint(&world.claims_with(&json!({"iss": iss}))));
    }
    tokens.push(world.es.mint(&world.claims_with(&json!({"iss": null}))));
    world.refused_all("issuer", tokens).await;
}

#[tokio::test]
async fn a_21_the_same_subject_of_two_issuers_shares_nothing() {
    let world = World::start_with("rate = [{ requests = 2, per = \"subject\", window = \"1m\" }]").await;
    let first = world.es.mint(&world.claims_with(&json!({"sub": "same"})));
    let second = world.twin.mint(&world.claims_with(&json!({"sub": "same", "iss": world.other.issuer()})));
    let mut seen = Vec::new();
    for token in [&first, &first, &first, &second, &second, &second] {
        seen.push(world.ask(token).await.unwrap().status.as_u16());
    }
    assert_eq!(seen, [200, 200, 429, 200, 200, 429], "each subject has its own allowance");
}

#[tokio::test]
async fn a_22_other_kinds_of_token() {
    let world = World::start().await;
    let mut tokens = Vec::new();
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "id_token+jwt",
        "token-introspection+jwt",
        "oauth-authz-req+jwt",
        "client-authentication+jwt",
        "refresh+jwt",
        "application/dpop+jwt",
        "JWE",
        "x",
    ] {
        tokens.push(world.es.mint_with(&json!({"alg": "ES256", "kid": world.es.kid, "typ": typ}), &world.claims()));
    }
    let untyped = json!({"alg": "ES256", "kid": world.es.kid, "typ": "JWT"});
    for marks in [
        json!({"nonce": "n", "at_hash": "x", "aud": "web"}),
        json!({"at_hash": "x"}),
        json!({"events": {"https://schemas.openid.net/secevent/caep/event-type/session-revoked": {}}}),
        json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}, "sid": "s"}),
        json!({"htm": "POST", "htu": "https://ai.example.com/v1/chat/completions"}),
        // A client assertion: its issuer is the client.
        json!({"iss": "web", "sub": "web"}),
    ] {
        tokens.push(world.es.mint_with(&untyped, &world.claims_with(&marks)));
    }
    world.refused_all("other kinds", tokens).await;
    // Tokens bound to a key are not bearer tokens, and possession cannot be shown here yet.
    for cnf in [
        json!({"jkt": b64([1; 32])}),
        json!({"x5t#S256": b64([1; 32])}),
        json!({"jwk": world.es.public_jwk()}),
        json!({"kid": "x"}),
        json!({"unknown": 1}),
    ] {
        world.refused("bound", world.es.mint(&world.claims_with(&json!({"cnf": cnf})))).await;
    }
    // And the other way: an access token says nothing at the token endpoint.
    let good = world.good();
    let form = |fields: &str| format!("grant_type=client_credentials&{fields}");
    for fields in [
        form(&format!("client_id=app&client_secret={good}")),
        form(&format!(
            "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer&client_assertion={good}"
        )),
        format!("grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token={good}"),
        format!("grant_type=refresh_token&refresh_token={good}&client_id=app"),
    ] {
        let kind = [("content-type", "application/x-www-form-urlencoded")];
        let answer =
            testkit::raw::request(world.gateway.public, "POST", "/oauth/token", &kind, fields.as_bytes()).await;
        assert!([400, 401].contains(&answer.status()), "{fields}: {} {}", answer.status(), answer.text());
        assert!(!answer.text().contains("access_token"));
    }
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_40_tokens_that_share_parts_share_no_verdict() {
    let world = World::start_with("").await;
    let good = world.good();
    assert_eq!(world.ask(&good).await.unwrap().status, 200);
    let mut tokens = Vec::new();
    // Everything up to the signature is the cached token's.
    let (signed, signature) = good.rsplit_once('.').unwrap();
    for keep in [0, 20, 43, signature.len() - 2] {
        let filler = if signature.as_bytes()[keep] == b'A' { "B" } else { "A" };
        tokens.push(format!("{signed}.{}{filler}{}", &signature[..keep], &signature[keep + 1..]));
    }
    // The same jti, the same first 20, 64, 200 bytes, other claims, an attacker's key.
    let evil = TestKey::generate("ES256").with_kid(&world.es.kid);
    tokens.push(evil.mint(&world.claims()));
    tokens.push(evil.mint(&world.claims_with(&json!({"sub": "admin"}))));
    for shared in [20, 64, 200] {
        tokens.push(format!("{}{}", &good[..shared], &evil.mint(&world.claims())[shared..]));
    }
    world.refused_all("shared parts", tokens).await;
    // Two good tokens that share nearly everything are two callers.
    let two = world.es.mint(&world.claims_with(&json!({"scope": "other"})));
    assert_eq!(world.ask(&two).await.unwrap().status, 403, "what one may do says nothing about the other");
    assert_eq!(world.ask(&good).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_42_the_cache_and_time() {
    let world = World::start().await;
    let short = world.es.mint(&world.claims_with(&json!({"exp": world.now() + 10})));
    assert_eq!(world.ask(&short).await.unwrap().status, 200);
    world.gateway.clock.advance(Duration::from_secs(9));
    assert_eq!(world.ask(&short).await.unwrap().status, 200, "a second before its end");
    world.gateway.clock.advance(Duration::from_secs(1));
    world.refused("at its end, though verified before", &short).await;
    let early = world.es.mint(&world.claims_with(&json!({"nbf": world.now() + 120})));
    world.refused("before its time", &early).await;
    world.gateway.clock.advance(Duration::from_secs(121));
    assert_eq!(world.ask(&early).await.unwrap().status, 200, "refused before is not refused for ever");
    // A key that appears later: the tokens refused before are good then.
    let new = TestKey::generate("ES256");
    let token = new.mint(&world.claims());
    world.cool_down();
    world.refused("a key nobody published", &token).await;
    world.idp.answer(Reply::json(200, &testkit::keys::key_set(&[&world.es, &new])));
    world.cool_down();
    assert_eq!(world.ask(&token).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_47_lifetime() {
    let world = World::start().await;
    let now = world.now();
    let changes = [
        json!({"exp": now + 3601}),
        json!({"exp": now + 10 * 365 * 86_400}),
        json!({"exp": 253_402_300_799i64}),
        json!({"exp": i64::MAX}),
        json!({"exp": now + 300, "iat": now - 3601}),
        json!({"exp": now + 3601, "iat": null}),
    ];
    world.refused_claims("lifetime", changes).await;
    let longest = world.es.mint(&world.claims_with(&json!({"exp": now + 3600})));
    assert_eq!(world.ask(longest).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_48_scope_confusables() {
    let world = World::start().await;
    let before = world.provider.count();
    for scope in [
        json!("Chat"),
        json!("chatx"),
        json!("xchat"),
        json!("cha"),
        json!("chat,embed"),
        json!("chat;"),
        json!("\u{441}hat"),
        json!("ch\u{0430}t"),
        json!("chat\u{200b}"),
        json!("chat\u{a0}embed"),
        json!("chat\tembed"),
        json!("chat\nx"),
        json!("*"),
        json!(""),
        json!(["chat embed"]),
        json!(["CHAT"]),
        json!("chat%20"),
        json!("\"chat\""),
    ] {
        let token = world.es.mint(&world.claims_with(&json!({"scope": scope})));
        let answer = world.gateway.post("/v1/chat/completions", &token, &question()).await;
        assert!([401, 403].contains(&answer.status.as_u16()), "{scope}: {}", answer.text());
    }
    assert_eq!(world.provider.count(), before);
    let many = world.es.mint(&world.claims_with(&json!({"scope": "embed chat read"})));
    assert_eq!(world.ask(many).await.unwrap().status, 200, "one of several words");
}
