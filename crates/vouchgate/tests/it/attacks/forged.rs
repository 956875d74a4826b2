//! Tokens whose header, signature or form is not what the issuer made.

use proof::jose::base64url_decode;
use serde_json::json;
use testkit::keys::{TestKey, b64, unsigned};

use super::World;

fn decode(text: &str) -> Vec<u8> {
    base64url_decode(text).unwrap()
}

#[tokio::test]
async fn a_01_alg_none() {
    let world = World::start().await;
    let payload = b64(world.claims().to_string());
    let good = world.good();
    let signature = good.rsplit_once('.').unwrap().1;
    let mut tokens = vec![unsigned(&json!({"alg": "none"}), &world.claims())];
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""NONE""#,
        r#""nOnE""#,
        r#""nONE""#,
        r#""none ""#,
        r#""\u006eone""#,
        r#"["none"]"#,
        r#"["ES256"]"#,
        "null",
        "0",
        "true",
        "{}",
        r#""""#,
        r#""es256""#,
    ] {
        let header = b64(format!(r#"{{"alg":{alg},"kid":{:?}}}"#, world.es.kid));
        tokens.push(format!("{header}.{payload}."));
        tokens.push(format!("{header}.{payload}"));
        tokens.push(format!("{header}.{payload}.{signature}"));
    }
    world.refused_all("alg none", tokens).await;
}

#[tokio::test]
async fn a_02_signature_stripped_or_altered() {
    let world = World::start().await;
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = world.es.mint(&world.claims_with(&json!({"sub": "user-2"})));
    let mut tokens = vec![
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.."),
        format!("{signed}.{}", &signature[..signature.len() - 4]),
        format!("{signed}.{signature}AAAA"),
        format!("{signed}.{signature}."),
        format!("{signed}.{}", signature.chars().rev().collect::<String>()),
        format!("{signed}.{}", b64([0u8; 64])),
        format!("{signed}.{}", other.rsplit_once('.').unwrap().1),
    ];
    let bytes = decode(signature);
    for bit in [0, 7, 100, 255, 256, 400, 511] {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        tokens.push(format!("{signed}.{}", b64(flipped)));
    }
    // Another payload under a good signature.
    let changed = b64(world.claims_with(&json!({"sub": "root"})).to_string());
    tokens.push(format!("{}.{changed}.{signature}", signed.split('.').next().unwrap()));
    world.refused_all("altered signature", tokens).await;
}

/// What an attacker knows of a public key, as an HMAC secret.
fn public_forms(key: &TestKey) -> Vec<Vec<u8>> {
    let (pem, jwk) = (key.public_pem(), key.public_jwk());
    let bare: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut forms = vec![
        pem.clone().into_bytes(),
        pem.trim_end().as_bytes().to_vec(),
        format!("\n  {pem}").into_bytes(),
        bare.clone().into_bytes(),
        jwk.to_string().into_bytes(),
        json!({"keys": [jwk]}).to_string().into_bytes(),
        Vec::new(),
    ];
    let coordinates: Vec<Vec<u8>> =
        ["n", "x", "y"].iter().filter_map(|member| jwk[member].as_str().map(decode)).collect();
    forms.push(coordinates.concat());
    forms.push([vec![4], coordinates.concat()].concat());
    forms.extend(coordinates);
    // SPKI DER: the PEM's body is Base64 with the same alphabet but for two characters.
    forms.push(decode(bare.trim_end_matches('=').replace('+', "-").replace('/', "_").as_str()));
    forms
}

#[tokio::test]
async fn a_03_public_key_as_hmac_secret() {
    let world = World::start().await;
    for key in [&world.rs, &world.es, &world.ed] {
        let mut tokens = Vec::new();
        for secret in public_forms(key) {
            for alg in ["HS256", "HS384", "HS512"] {
                let forger = TestKey::hmac(alg, secret.clone()).with_kid(&key.kid);
                tokens.push(forger.mint(&world.claims()));
                tokens.push(
                    forger.compact(&json!({"alg": key.alg, "kid": key.kid}).to_string(), &world.claims().to_string()),
                );
            }
        }
        world.refused_all(&format!("{} as a secret", key.alg), tokens).await;
    }
}

#[tokio::test]
async fn a_04_another_algorithm_of_the_same_key() {
    let world = World::start().await;
    let mut tokens = Vec::new();
    for key in [&world.es, &world.rs, &world.ed] {
        for alg in
            ["RS256", "RS384", "RS512", "PS256", "PS384", "ES256", "ES384", "ES512", "EdDSA", "ML-DSA-44", "HS256"]
        {
            if alg != key.alg {
                tokens.push(key.mint_with(&json!({"alg": alg, "kid": key.kid}), &world.claims()));
            }
        }
    }
    // A key of the set under another key's id.
    tokens.push(world.es.mint_with(&json!({"alg": "ES256", "kid": world.rs.kid}), &world.claims()));
    tokens.push(world.rs.mint_with(&json!({"alg": "RS256", "kid": world.es.kid}), &world.claims()));
    world.refused_all("another algorithm", tokens).await;
    // What the right ones say is accepted.
    for key in [&world.rs, &world.ed] {
        assert_eq!(world.ask(key.mint(&world.claims())).await.unwrap().status, 200, "{}", key.alg);
    }
}

#[tokio::test]
async fn a_05_embedded_jwk() {
    let world = World::start().await;
    let mut tokens = Vec::new();
    for alg in ["ES256", "RS256", "EdDSA", "ML-DSA-44"] {
        let evil = TestKey::generate(alg).with_kid(&world.es.kid);
        let jwk = evil.public_jwk();
        tokens.push(evil.mint_with(&json!({"alg": alg, "jwk": jwk}), &world.claims()));
        tokens.push(evil.mint_with(&json!({"alg": alg, "kid": world.es.kid, "jwk": jwk}), &world.claims()));
        tokens.push(evil.mint_with(&json!({"alg": alg, "kid": "new", "jwk": jwk, "typ": "at+jwt"}), &world.claims()));
    }
    let secret = TestKey::generate("HS256");
    tokens.push(secret.mint_with(&json!({"alg": "HS256", "jwk": secret.public_jwk()}), &world.claims()));
    world.refused_all("embedded key", tokens).await;
}

#[tokio::test]
async fn a_06_jku_and_x5u() {
    let world = World::start().await;
    let evil = TestKey::generate("ES256");
    let (attacker, fetches) = (world.attacker.url(), world.idp.fetches());
    let place = world.attacker.addr();
    let mut tokens = Vec::new();
    for url in [
        format!("{attacker}/jwks"),
        format!("{}@{place}/jwks", world.idp.issuer()),
        format!("{attacker}/#{}", world.idp.jwks_url()),
        format!("{attacker}/?{}", world.idp.jwks_url()),
        format!("//{place}/jwks"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        format!("http://localhost:{}/", place.port()),
        format!("http://[::ffff:127.0.0.1]:{}/", place.port()),
        "file:///etc/passwd".to_owned(),
        format!("gopher://{place}/"),
    ] {
        for member in ["jku", "x5u"] {
            let header = json!({"alg": "ES256", "kid": evil.kid, member: url});
            tokens.push(evil.mint_with(&header, &world.claims()));
            let known = json!({"alg": "ES256", "kid": world.es.kid, member: url});
            tokens.push(evil.mint_with(&known, &world.claims()));
        }
    }
    world.refused_all("jku", tokens).await;
    assert!(world.idp.fetches() <= fetches + 1, "one fetch for the unknown key ids, from where it always is");
}

#[tokio::test]
async fn a_07_x5c_and_x5t() {
    let world = World::start().await;
    let evil = TestKey::generate("ES256");
    let authority = testkit::certs::Authority::new();
    let chain: String = authority.pem().lines().filter(|line| !line.starts_with('-')).collect();
    let headers = [
        json!({"alg": "ES256", "x5c": [chain]}),
        json!({"alg": "ES256", "kid": world.es.kid, "x5c": [chain]}),
        json!({"alg": "ES256", "kid": world.es.kid, "x5t": b64([1; 20]), "x5t#S256": b64([1; 32])}),
        json!({"alg": "ES256", "x5t#S256": world.es.kid}),
    ];
    world.refused_all("x5c", headers.map(|header| evil.mint_with(&header, &world.claims()))).await;
}

#[tokio::test]
async fn a_08_kid_injection() {
    let world = World::start().await;
    let evil = TestKey::generate("ES256");
    let mut tokens = Vec::new();
    let kids = [
        json!("../../../../dev/null"),
        json!("/dev/null"),
        json!("file:///dev/null"),
        json!("x' UNION SELECT '1';--"),
        json!("|sleep 10"),
        json!("*)(uid=*))(|(uid=*"),
        json!("a\u{0}b"),
        json!(format!("{}\u{0}", world.es.kid)),
        json!(format!("{} ", world.es.kid)),
        json!(world.es.kid.to_ascii_uppercase() + "x"),
        json!("k".repeat(8000)),
        json!(7),
        json!([world.es.kid]),
        json!({"kid": world.es.kid}),
        json!(null),
        json!(true),
        json!(""),
    ];
    for kid in kids {
        tokens.push(evil.mint_with(&json!({"alg": "ES256", "kid": kid}), &world.claims()));
        for secret in ["", "1"] {
            tokens
                .push(TestKey::hmac("HS256", secret).mint_with(&json!({"alg": "HS256", "kid": kid}), &world.claims()));
        }
    }
    world.refused_all("kid", tokens).await;
}

#[tokio::test]
async fn a_09_crit() {
    let world = World::start().await;
    let kid = &world.es.kid;
    let crits = [
        r#""crit":["http://example.com/x"],"http://example.com/x":true"#,
        r#""crit":["absent"]"#,
        r#""crit":[]"#,
        r#""crit":["b64"],"b64":true"#,
        r#""crit":["alg"]"#,
        r#""crit":["kid","kid"]"#,
        r#""crit":"exp","exp":1"#,
        r#""crit":null"#,
        r#""\u0063rit":["x"]"#,
    ];
    world.refused_headers("crit", crits.map(|crit| format!(r#"{{"alg":"ES256","kid":{kid:?},{crit}}}"#))).await;
}

#[tokio::test]
async fn a_10_unencoded_payload() {
    let world = World::start().await;
    let kid = &world.es.kid;
    let headers = [r#""b64":false,"crit":["b64"]"#, r#""b64":false"#, r#""b64":true"#, r#""b64":null"#];
    world.refused_headers("b64", headers.map(|b64| format!(r#"{{"alg":"ES256","kid":{kid:?},{b64}}}"#))).await;
    let header = b64(json!({"alg": "ES256", "kid": kid, "b64": false, "crit": ["b64"]}).to_string());
    let input = format!("{header}.{}", world.claims());
    let signature = b64(world.es.sign(input.as_bytes()));
    world.refused_all("raw payload", [format!("{input}.{signature}"), format!("{header}..{signature}")]).await;
}

#[tokio::test]
async fn a_11_psychic_signatures() {
    let world = World::start().await;
    let good = world.good();
    let signed = good.rsplit_once('.').unwrap().0;
    // The order of P-256.
    let n: Vec<u8> = (0..32)
        .map(|at| {
            let hex = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
            u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()
        })
        .collect();
    let (zero, mut one) = (vec![0; 32], vec![0; 32]);
    one[31] = 1;
    let mut less = n.clone();
    less[31] -= 1;
    let numbers = [&zero, &one, &less, &n, &vec![0xff; 32]];
    let mut tokens = Vec::new();
    for r in numbers {
        for s in numbers {
            tokens.push(format!("{signed}.{}", b64([r.as_slice(), s].concat())));
        }
    }
    let signature = decode(good.rsplit_once('.').unwrap().1);
    let der = [&[0x30, 0x44, 0x02, 0x20][..], &signature[..32], &[0x02, 0x20], &signature[32..]].concat();
    for odd in [der, signature[..63].to_vec(), [&signature[..], &[0]].concat(), Vec::new(), vec![0; 132]] {
        tokens.push(format!("{signed}.{}", b64(odd)));
    }
    world.refused_all("psychic signatures", tokens).await;
}

#[tokio::test]
async fn a_12_ecdsa_malleability_makes_no_second_identity() {
    // The same claims under two signatures are the same caller: together they get what one gets.
    let world = World::start_with("rate = [{ requests = 4, per = \"subject\", window = \"1m\" }]").await;
    let claims = world.claims_with(&json!({"sub": "once"}));
    let (first, second) = (world.es.mint(&claims), world.es.mint(&claims));
    assert_ne!(first, second, "ECDSA is randomised");
    let mut answers = Vec::new();
    for token in [&first, &second, &first, &second, &first, &second] {
        answers.push(world.ask(token).await.unwrap().status.as_u16());
    }
    assert_eq!(answers, [200, 200, 200, 200, 429, 429]);
}

#[tokio::test]
async fn a_13_ed25519_small_order_and_non_canonical() {
    let world = World::start().await;
    let good = world.ed.mint(&world.claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let signature = decode(signature);
    // S + L, which a lax verifier reads as S.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut high = signature.clone();
    let mut carry = 0u16;
    for (at, digit) in order.iter().enumerate() {
        let sum = u16::from(high[32 + at]) + u16::from(*digit) + carry;
        high[32 + at] = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
    // R and key of small order verify any message with S = 0 in a lax verifier.
    let mut neutral = vec![0; 64];
    neutral[0] = 1;
    let tokens = [high, neutral, vec![0; 64]].map(|bytes| format!("{signed}.{}", b64(bytes)));
    world.refused_all("Ed25519", tokens).await;
    // And a set that publishes such a key is not used for it.
    let mut small = world.ed.public_jwk();
    small["x"] = json!(b64([&[1u8][..], &[0; 31]].concat()));
    small["kid"] = json!("small");
    let set = json!({"keys": [world.es.public_jwk(), small]});
    world.idp.answer(testkit::mock::Answer::json(200, &set));
    world.cool_down();
    let header = b64(json!({"alg": "EdDSA", "kid": "small"}).to_string());
    let forged = format!("{header}.{}.{}", b64(world.claims().to_string()), b64([&[1u8][..], &[0; 63]].concat()));
    world.refused_all("small order", [forged]).await;
}
