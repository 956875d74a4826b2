//! What is no token by its form: other serialisations, other encodings, too much of it, broken JSON in every place.

use serde_json::{Value, json};
use testkit::keys::{TestKey, b64, unsigned};

use super::World;

#[tokio::test]
async fn a_23_encrypted_nested_and_json_forms() {
    let world = World::start().await;
    let good = world.good();
    let parts: Vec<&str> = good.split('.').collect();
    let part = |value: &Value| b64(value.to_string());
    let nested = |inner: &str, cty: &str| {
        world.es.compact(&json!({"alg": "ES256", "kid": world.es.kid, "cty": cty}).to_string(), inner)
    };
    let tokens = vec![
        format!("{}....{}", part(&json!({"alg": "dir", "enc": "A256GCM"})), b64("x")),
        format!(
            "{}.{}.{}.{}.{}",
            part(&json!({"alg": "RSA-OAEP", "enc": "A256GCM"})),
            b64("k"),
            b64("iv"),
            b64("c"),
            b64("t")
        ),
        format!(
            "{}.{}.{}.{}.{}",
            part(&json!({"alg": "PBES2-HS256+A128KW", "enc": "A128GCM", "p2c": 2_147_483_647u32, "p2s": "AA"})),
            b64("k"),
            b64("iv"),
            b64("c"),
            b64("t")
        ),
        format!("{}.{}.{}", part(&json!({"alg": "dir", "enc": "A256GCM"})), parts[1], parts[2]),
        world.es.compact(&world.header_with(&json!({"enc": "A256GCM"})).to_string(), &world.claims().to_string()),
        world.es.compact(&world.header_with(&json!({"zip": "DEF"})).to_string(), &world.claims().to_string()),
        nested(&unsigned(&json!({"alg": "none"}), &world.claims()), "JWT"),
        nested(&good, "JWT"),
        nested(&world.claims().to_string(), "jwt"),
        json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]}).to_string(),
        json!({"payload": parts[1], "signatures": [{"protected": parts[0], "signature": parts[2]}]}).to_string(),
    ];
    world.refused_all("other forms", tokens).await;
}

#[tokio::test]
async fn a_24_encodings() {
    let world = World::start().await;
    let good = world.good();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, claims) = (world.header_with(&json!({})).to_string(), world.claims().to_string());
    let signed = |payload: &[u8]| {
        let input = format!("{}.{}", b64(&header), b64(payload));
        format!("{input}.{}", b64(world.es.sign(input.as_bytes()))).into_bytes()
    };
    let utf16: Vec<u8> = claims.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let splice = |bytes: &[u8]| [claims.trim_end_matches('}').as_bytes(), b",\"z\":\"", bytes, b"\"}"].concat();
    let last = parts[2].chars().last().unwrap();
    // The last character of 64 bytes carries four bits that must be zero.
    let twin = char::from(u8::try_from(u32::from(last)).unwrap() + 1);
    let mut tokens: Vec<Vec<u8>> = [
        format!("{good}="),
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}==.{}", parts[0], parts[1], parts[2]),
        good.replacen('.', "+.", 1),
        good.replacen('.', "/.", 1),
        format!("{good} x"),
        format!("{} .{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}{twin}", parts[0], parts[1], &parts[2][..parts[2].len() - 1]),
        format!("\u{feff}{good}"),
        good.replace('.', "\u{2024}"),
        format!("{good}%00"),
        good.replace('.', "%2e"),
    ]
    .map(String::into_bytes)
    .into();
    tokens.push(signed(&utf16));
    tokens.push(signed(format!("\u{feff}{claims}").as_bytes()));
    tokens.push(signed(&splice(&[0xc0, 0xaf])));
    tokens.push(signed(&splice(&[0xed, 0xa0, 0x80])));
    tokens.push(signed(&splice(&[0xff])));
    tokens.push(signed(&splice(b"\\ud800")));
    tokens.push(signed(&splice(&[0])));
    tokens.push(signed(format!("{claims}\n{{}}").as_bytes()));
    world.refused_all("encodings", tokens).await;
    // Bytes no client library sends: line breaks and NUL within the header field.
    for odd in ["\r\n ", "\n", "\0", "\r"] {
        let before = world.provider.count();
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}{odd}{}\r\n\r\n",
            &good[..40],
            &good[40..]
        );
        let answer = testkit::raw::exchange(world.gateway.public, request.as_bytes()).await;
        assert_eq!(testkit::raw::split_responses(&answer), [400], "{odd:?}");
        assert_eq!(world.provider.count(), before);
    }
    world.fine("after odd bytes").await;
}

#[tokio::test]
async fn a_25_resource_exhaustion() {
    let world = World::start().await;
    let claims = |more: String| format!("{},{more}}}", world.claims().to_string().trim_end_matches('}'));
    let header = world.header_with(&json!({})).to_string();
    let payloads = [
        claims(format!("\"z\":\"{}\"", "a".repeat(8 << 10))),
        claims(format!("\"z\":\"{}\"", "a".repeat(64 << 10))),
        claims(format!("\"z\":{}{}", "[".repeat(5000), "]".repeat(5000))),
        claims(format!("\"z\":{}", "[".repeat(10_000))),
        claims(format!("\"z\":1{}", "0".repeat(5000))),
        claims("\"z\":1e400".to_owned()),
        claims(format!("\"z\":{{{}}}", (0..2000).map(|n| format!("\"{n}\":0")).collect::<Vec<_>>().join(","))),
    ];
    for (number, payload) in payloads.iter().enumerate() {
        let token = world.es.compact(&header, payload);
        // Some are merely large; then they are either good or refused, within the same time.
        if number == 0 || number == 4 || number == 6 {
            let status = world.ask(&token).await.unwrap().status.as_u16();
            assert!([200, 400, 401, 431].contains(&status), "number {number}: {status}");
        } else {
            world.refused(&format!("large claims, number {number}"), token).await;
        }
    }
    let long = world.claims_with(&json!({"aud": (0..3000).map(|n| format!("a{n}")).collect::<Vec<_>>()}));
    let mut tokens = vec![
        world.es.mint(&long),
        world.es.mint_with(&world.header_with(&json!({"z": "a".repeat(20_000)})), &world.claims()),
        "a".repeat(8 << 10),
        "a".repeat(31 << 10),
        ".".repeat(8 << 10),
        format!("{}.{}", world.good(), "a.".repeat(1000)),
        world.es.compact(&header, &world.claims().to_string().replace("\"iat\":", "\"iat\":1e400,\"x\":")),
    ];
    tokens.extend(["[".repeat(8000), "{\"a\":".repeat(2000)].map(|bomb| format!("{}.{}.AA", b64(&bomb), b64(&bomb))));
    world.refused_all("large tokens", tokens).await;
    for size in [64 << 10, 1 << 20] {
        let request =
            format!("GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\r\n", "a".repeat(size));
        let answer = testkit::raw::exchange(world.gateway.public, request.as_bytes()).await;
        assert!(answer.is_empty() || testkit::raw::split_responses(&answer) == [431], "{size}");
    }
    world.fine("after megabytes").await;
}

#[tokio::test]
async fn a_26_malformed_json_in_every_place() {
    let world = World::start().await;
    let header = world.header_with(&json!({})).to_string();
    let claims = world.claims().to_string();
    let mut tokens = Vec::new();
    for text in [
        "",
        " ",
        "[]",
        "1",
        "null",
        "\"x\"",
        "{",
        "{}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":NaN}",
        "{\"a\":01}",
        "{\"a\":+1}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\t\"}",
        "{\"a\":1}x",
    ] {
        tokens.push(world.es.compact(&header, text));
        tokens.push(world.es.compact(text, &claims));
        let spliced = |good: &str| format!("{},{}", good.trim_end_matches('}'), text.trim_start_matches('{'));
        if !["{}", "", " "].contains(&text) {
            tokens.push(world.es.compact(&header, &spliced(&claims)));
            tokens.push(world.es.compact(&spliced(&header), &claims));
        }
    }
    world.refused_all("malformed JSON", tokens).await;
    // The same in a published set: the last good one stays in use.
    for text in [
        "",
        "[]",
        "{",
        "{\"keys\":}",
        "{\"keys\":{}}",
        "{\"keys\":[1]}",
        "{\"keys\":null}",
        "{\"keys\":[],\"keys\":[]}",
    ] {
        world.idp.answer(testkit::mock::Answer::bytes(200, "application/json", text));
        world.cool_down();
        world.refused(&format!("a set like {text}"), TestKey::generate("ES256").mint(&world.claims())).await;
        world.fine(text).await;
    }
}
