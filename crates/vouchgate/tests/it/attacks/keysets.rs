//! Attacks on the sets of keys, their fetching and their change.

use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::json;
use testkit::idp::Idp;
use testkit::keys::{TestKey, b64, key_set};
use testkit::mock::{Answer as Reply, Gate};

use super::{AUD, World};
use crate::support::{APP, Gateway, run, secret_file};

#[tokio::test]
async fn a_14_weak_hmac_secrets() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("vouchgate.toml");
    for secret in [
        "secret",
        "your-256-bit-secret",
        "your-256-bit-secret-your-256-bit-secret",
        "a-string-secret-at-least-256-bits-long",
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "passwordpasswordpasswordpassword",
        "0123456789012345678901234567890123456789",
        "changeme",
        "",
        "kJ8#vQ2!mZ7@pL4$wX9%rT6^yB3&nD5",
    ] {
        let file = secret_file(dir.path(), "secret", secret);
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n\n[[issuer]]\nname = \"app\"\nhs256_secret = {{ file = {:?} }}\n",
            file.display().to_string()
        );
        std::fs::write(&config, text).unwrap();
        for command in ["check", "serve"] {
            let (exit, out, err) = run(&[command, "--config", "vouchgate.toml"], dir.path(), b"");
            assert_eq!(exit, 1, "{command} with {secret:?}: {out}{err}");
            assert!(format!("{out}{err}").contains("vouchgate.toml:7:"), "{out}{err}");
            assert!(secret.len() < 8 || !format!("{out}{err}").contains(secret), "the secret is printed: {out}{err}");
        }
    }
    // One that is fit for it works, and no other key signs for that issuer: not the empty one either.
    let secret = "kJ8#vQ2!mZ7@pL4$wX9%rT6^yB3&nD5*";
    let file = secret_file(dir.path(), "good", secret);
    let more = format!(
        "{APP}\n[[issuer]]\nname = \"node\"\nhs256_secret = {{ file = {:?} }}\nclaims = {{ subject = \"id\" }}\n\n[[policy]]\nname = \"node\"\nwho = {{ issuer = \"node\" }}\nmay = {{ models = [\"*\"] }}\n",
        file.display().to_string()
    );
    let gateway = Gateway::start(&more).await;
    let now = base::Clock::now(&gateway.clock).as_secs();
    let claims = json!({"id": "u1", "iat": now, "exp": now + 3600});
    let header = json!({"alg": "HS256", "typ": "JWT"});
    let sign = |secret: &str| TestKey::hmac("HS256", secret).mint_with(&header, &claims);
    let ask = json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hello"}]});
    let status = async |token: &str| gateway.post("/v1/chat/completions", token, &ask).await.status.as_u16();
    assert_eq!(status(&sign(secret)).await, 200);
    for other in ["", "secret", &secret[..31], &format!("{secret}\n"), &b64(secret)] {
        assert_eq!(status(&sign(other)).await, 401, "{other:?}");
    }
}

#[tokio::test]
async fn a_15_weak_keys_in_a_set() {
    let world = World::start().await;
    let n = world.rs.public_jwk()["n"].as_str().unwrap().to_owned();
    let bytes = proof::jose::base64url_decode(&n).unwrap();
    let mut even = bytes.clone();
    *even.last_mut().unwrap() &= 0xfe;
    let rsa =
        |kid: &str, n: &str, e: &str| json!({"kty": "RSA", "kid": kid, "n": n, "e": e, "alg": "RS256", "use": "sig"});
    let weak = [
        rsa("small", &b64(&bytes[..128]), "AQAB"),
        rsa("one", &n, "AQ"),
        rsa("three", &n, "Aw"),
        rsa("even", &b64(even), "AQAB"),
        rsa("padded", &b64([&[0], &bytes[..]].concat()), "AQAB"),
        json!({"kty": "EC", "crv": "P-256", "kid": "off", "x": b64([1; 32]), "y": b64([1; 32]), "alg": "ES256"}),
        json!({"kty": "EC", "crv": "secp256k1", "kid": "koblitz", "x": b64([1; 32]), "y": b64([1; 32])}),
    ];
    let mut set = key_set(&[&world.es, &world.rs]);
    set["keys"].as_array_mut().unwrap().extend(weak.iter().cloned());
    world.idp.answer(Reply::json(200, &set));
    world.cool_down();
    let mut tokens = Vec::new();
    for key in &weak {
        let header = json!({"alg": if key["kty"] == "RSA" { "RS256" } else { "ES256" }, "kid": key["kid"]});
        tokens.push(world.rs.mint_with(&header, &world.claims()));
        // RSA with e = 1: the padded hash is its own signature; with any key here a zero signature proves nothing.
        tokens.push(format!("{}.{}.{}", b64(header.to_string()), b64(world.claims().to_string()), b64([0; 256])));
    }
    world.refused_all("weak keys", tokens).await;
    assert_eq!(world.ask(world.rs.mint(&world.claims())).await.unwrap().status, 200, "their neighbours still work");
}

/// Tokens with key ids nobody has, many at once.
async fn flood(world: &World, count: usize) {
    let signed = b64(json!({"alg": "ES256", "kid": "KID"}).to_string());
    let (payload, signature) = (b64(world.claims().to_string()), b64([7; 64]));
    let asked = stream::iter(0..count).map(|number| {
        let header = b64(json!({"alg": "ES256", "kid": format!("{number}-{}", signed.len())}).to_string());
        let token = format!("{header}.{payload}.{signature}");
        async move { world.gateway.get("/v1/models", &token).await.status.as_u16() }
    });
    let statuses: Vec<u16> = asked.buffer_unordered(32).collect().await;
    assert!(statuses.iter().all(|status| *status == 401), "{:?}", statuses.iter().find(|status| **status != 401));
}

#[tokio::test]
async fn a_27_ten_thousand_unknown_kids_are_one_fetch() {
    let world = World::start().await;
    world.cool_down();
    let fetches = world.idp.fetches();
    flood(&world, 10_000).await;
    assert_eq!(world.idp.fetches(), fetches + 1, "one fetch for all of them");
    world.fine("in the flood").await;
    world.cool_down();
    flood(&world, 200).await;
    assert_eq!(world.idp.fetches(), fetches + 2, "one more after the cooldown");
    // A failing or empty set does not shorten the cooldown.
    for answer in [Reply::json(200, &json!({"keys": []})), Reply::bytes(500, "text/plain", "x"), Reply::nothing()] {
        world.idp.answer(answer);
        world.cool_down();
        let fetches = world.idp.fetches();
        flood(&world, 200).await;
        // A connection that closes without an answer may be tried once more on a new one.
        assert!(world.idp.fetches() <= fetches + 2, "{} fetches", world.idp.fetches() - fetches);
        world.fine("on the last good set").await;
    }
    assert_eq!(world.other.fetches(), 1, "the other issuer is left alone");
}

#[tokio::test]
async fn a_27_a_flood_before_the_first_good_set_is_one_fetch_too() {
    let key = TestKey::generate("ES256");
    let idp = Idp::start(&[]).await;
    let config = format!(
        "{APP}\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\njwks_url = \"{}\"\nallow_private = true\n",
        idp.issuer(),
        idp.jwks_url()
    );
    let gateway = Gateway::start(&config).await;
    let now = base::Clock::now(&gateway.clock).as_secs();
    let token = key.mint(&json!({"iss": idp.issuer(), "aud": AUD, "sub": "u", "exp": now + 300}));
    for _ in 0..100 {
        let answer = gateway.get("/v1/models", &token).await;
        assert!([401, 503].contains(&answer.status.as_u16()), "{}", answer.text());
        assert!(
            answer.status != 503 || answer.header("www-authenticate").is_none(),
            "no challenge for our own failure"
        );
    }
    assert!(idp.fetches() <= 2, "{}", idp.fetches());
}

#[tokio::test]
async fn a_28_poisoned_key_sets() {
    let world = World::start().await;
    let evil = TestKey::generate("ES256").with_kid("evil");
    let private = |mut jwk: serde_json::Value| {
        jwk["d"] = json!(b64([1; 32]));
        jwk
    };
    let lure = format!("{}/jwks", world.attacker.url());
    let shared = TestKey::hmac("HS256", [7; 32]).with_kid("oct").public_jwk();
    let good = world.es.public_jwk();
    let with = |more: Vec<serde_json::Value>| {
        let mut keys = vec![good.clone()];
        keys.extend(more);
        Reply::json(200, &json!({"keys": keys}))
    };
    let stall = Gate::closed();
    let evil_jwk = evil.public_jwk();
    for (what, answer) in [
        ("a private key", with(vec![private(evil_jwk.clone())])),
        ("a shared key", with(vec![shared, evil_jwk.clone()])),
        ("a key id twice", with(vec![evil_jwk.clone(), evil_jwk.clone()])),
        (
            "the good key's id twice",
            with(vec![TestKey::generate("ES256").with_kid(&world.es.kid).public_jwk(), evil_jwk.clone()]),
        ),
        (
            "ten megabytes",
            Reply::bytes(200, "application/json", format!("{{\"keys\":[{evil_jwk}],\"z\":\"")).repeat(1 << 18),
        ),
        ("a redirect", Reply::redirect(302, &lure)),
        ("a permanent redirect", Reply::redirect(308, &lure)),
        ("HTML", Reply::bytes(200, "text/html", key_set(&[&evil]).to_string())),
        ("gzip", Reply::bytes(200, "application/json", vec![0x1f, 0x8b, 8, 0]).header("content-encoding", "gzip")),
        ("no keys", Reply::json(200, &json!({"keys": []}))),
        ("an error with keys", Reply::json(500, &key_set(&[&evil]))),
        ("half an answer", Reply::json(200, &key_set(&[&world.es, &evil])).cut_after(60)),
        ("nothing", Reply::nothing()),
        ("no HTTP", Reply::raw("SSH-2.0-OpenSSH_9.9\r\n")),
        (
            "too many keys",
            Reply::json(
                200,
                &json!({"keys": (0..200).map(|n| { let mut key = evil_jwk.clone(); key["kid"] = json!(format!("k{n}")); key }).collect::<Vec<_>>()}),
            ),
        ),
    ] {
        world.idp.answer(answer);
        world.cool_down();
        world.refused(what, evil.mint(&world.claims())).await;
        world.fine(what).await;
    }
    drop(stall);
    // Keys that cannot be used do not take the others with them.
    let odd = json!({"kty": "XYZ", "kid": "odd", "alg": "XY256"});
    let encrypts = json!({"kty": "RSA", "use": "enc", "kid": "enc", "n": world.rs.public_jwk()["n"], "e": "AQAB"});
    let unknown_alg =
        json!({"kty": "EC", "crv": "P-256", "kid": "alg", "alg": "XX1", "x": evil_jwk["x"], "y": evil_jwk["y"]});
    world.idp.answer(with(vec![odd, encrypts, unknown_alg, evil_jwk]));
    world.cool_down();
    assert_eq!(world.ask(evil.mint(&world.claims())).await.unwrap().status, 200, "the set with odd neighbours is used");
    world.refused("use=enc", world.rs.mint_with(&json!({"alg": "RS256", "kid": "enc"}), &world.claims())).await;
    world.fine("odd neighbours").await;
}

#[tokio::test]
async fn a_28_discovery_that_names_another_issuer_is_not_believed() {
    let key = TestKey::generate("ES256");
    let idp = Idp::start(&[&key]).await;
    let mut metadata = idp.metadata();
    metadata["issuer"] = json!("https://evil.example");
    idp.discover(Reply::json(200, &metadata));
    let config = format!(
        "{APP}\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\ndiscovery = true\nallow_private = true\n\n[[policy]]\nname = \"corp\"\nwho = {{ issuer = \"corp\" }}\nmay = {{ models = [\"*\"] }}\n",
        idp.issuer()
    );
    let gateway = Gateway::start(&config).await;
    let now = base::Clock::now(&gateway.clock).as_secs();
    let token = key.mint(&json!({"iss": idp.issuer(), "aud": AUD, "sub": "u", "iat": now, "exp": now + 300}));
    let refused = gateway.get("/v1/models", &token).await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(idp.fetches(), 0, "its keys are not even asked for");
    idp.discover(Reply::json(200, &idp.metadata()));
    gateway.clock.advance(Duration::from_secs(31));
    assert_eq!(gateway.get("/v1/models", &token).await.status, 200, "right again, it is used");
}

#[tokio::test]
async fn a_29_rotation() {
    let world = World::start().await;
    let (old, new) = (world.good(), TestKey::generate("ES256"));
    assert_eq!(world.ask(&old).await.unwrap().status, 200, "verified and remembered");
    world.idp.rotate(&[&world.es, &new]);
    world.cool_down();
    let fetches = world.idp.fetches();
    for _ in 0..3 {
        assert_eq!(world.ask(new.mint(&world.claims())).await.unwrap().status, 200, "the first token of a new key");
    }
    assert_eq!(world.idp.fetches(), fetches + 1, "within one fetch");
    assert_eq!(world.ask(&old).await.unwrap().status, 200, "the old key is still published");
    // The old key goes: its tokens die with the next look at the set, the remembered one too.
    world.idp.rotate(&[&new]);
    world.cool_down();
    world.refused("a look", TestKey::generate("ES256").mint(&world.claims())).await;
    world.refused("removed key, remembered token", &old).await;
    world.refused("removed key, new token", world.good()).await;
    assert_eq!(world.ask(new.mint(&world.claims())).await.unwrap().status, 200);
}

#[tokio::test]
async fn keys_that_cannot_be_renewed_are_used_for_a_time_and_then_no_longer() {
    let world = World::start().await;
    world.idp.answer(Reply::bytes(503, "text/plain", "down"));
    world.gateway.clock.advance(Duration::from_hours(5));
    world.fine("five hours after").await;
    world.gateway.clock.advance(Duration::from_hours(24));
    let answer = world.ask(world.good()).await.unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.header("retry-after").is_some() && answer.header("www-authenticate").is_none());
    // The other issuer and our own tokens do not depend on it.
    assert_eq!(world.gateway.get("/v1/models", &world.gateway.token("app").await).await.status, 200);
    world.idp.rotate(&[&world.es]);
    world.cool_down();
    world.fine("it is back").await;
}

#[tokio::test]
async fn a_45_our_list_of_algorithms_wins() {
    let (es, rs) = (TestKey::generate("ES256"), TestKey::generate("RS256"));
    let idp = Idp::start(&[&es, &rs]).await;
    let mut metadata = idp.metadata();
    metadata["id_token_signing_alg_values_supported"] = json!(["none", "HS256", "RS256", "ES256"]);
    idp.discover(Reply::json(200, &metadata));
    let config = format!(
        "{APP}\n[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\ndiscovery = true\nallow_private = true\nalgorithms = [\"ES256\"]\n\n[[policy]]\nname = \"corp\"\nwho = {{ issuer = \"corp\" }}\nmay = {{ models = [\"*\"] }}\n",
        idp.issuer()
    );
    let gateway = Gateway::start(&config).await;
    let now = base::Clock::now(&gateway.clock).as_secs();
    let claims = json!({"iss": idp.issuer(), "aud": AUD, "sub": "u", "iat": now, "exp": now + 300});
    assert_eq!(gateway.get("/v1/models", &es.mint(&claims)).await.status, 200);
    assert_eq!(gateway.get("/v1/models", &rs.mint(&claims)).await.status, 401, "published, but not ours to accept");
    let hmac = TestKey::hmac("HS256", es.public_pem()).with_kid(&es.kid);
    assert_eq!(gateway.get("/v1/models", &hmac.mint(&claims)).await.status, 401);
    assert_eq!(gateway.get("/v1/models", &testkit::keys::unsigned(&json!({"alg": "none"}), &claims)).await.status, 401);
}
