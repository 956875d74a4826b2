//! Attacks on what a token says and how it is written. The key is always right, or plainly absent.

use std::time::Duration;

use base::Timestamp;
use proof::jose::{MAX_TOKEN_LEN, base64url_encode};
use proof::token::TokenError;
use serde_json::{Value, json};

use crate::support::{AUD, ISS, NOW, World, claims, claims_with, now};

#[test]
fn a_01_alg_none() {
    let world = World::new();
    let payload = base64url_encode(claims().to_string());
    let good = world.good();
    let signature = good.rsplit_once('.').unwrap().1;
    let mut tokens = Vec::new();
    for alg in [
        r#""none""#,
        r#""None""#,
        r#""NONE""#,
        r#""nOnE""#,
        r#""nONE""#,
        r#""none ""#,
        r#"" none""#,
        r#""\u006eone""#,
        r#"["none"]"#,
        r#"["ES256"]"#,
        "null",
        "0",
        "true",
        "{}",
        r#""""#,
        r#""es256""#,
        r#""ES256 ""#,
    ] {
        let header = base64url_encode(format!(r#"{{"alg":{alg},"kid":"k1"}}"#));
        tokens.push(format!("{header}.{payload}."));
        tokens.push(format!("{header}.{payload}"));
        tokens.push(format!("{header}.{payload}.{signature}"));
    }
    tokens.push(format!("{}.{payload}.{signature}", base64url_encode(r#"{"kid":"k1"}"#)));
    world.refuses_all(tokens);
}

#[test]
fn a_02_signature_stripped_or_altered() {
    let world = World::new();
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = world.sign(&claims_with(&json!({"sub": "user-2"})));
    let other_signature = other.rsplit_once('.').unwrap().1;
    let mut tokens = vec![
        signed.to_owned(),
        format!("{signed}."),
        format!("{signed}.{}", &signature[..signature.len() - 4]),
        format!("{signed}.{signature}AAAA"),
        format!("{signed}.{}", signature.chars().rev().collect::<String>()),
        format!("{signed}.{}", base64url_encode([0u8; 64])),
        format!("{signed}.{other_signature}"),
        format!("{signed}.{}", base64url_encode("")),
    ];
    let bytes = proof::jose::base64url_decode(signature).unwrap();
    for bit in [0, 7, 100, 255, 256, 400, 511] {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        tokens.push(format!("{signed}.{}", base64url_encode(flipped)));
    }
    world.refuses_all(tokens);
}

#[test]
fn a_09_crit() {
    let world = World::new();
    world.refuses_headers([
        r#"{"alg":"ES256","kid":"k1","crit":["http://example.com/x"],"http://example.com/x":true}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["absent"]}"#,
        r#"{"alg":"ES256","kid":"k1","crit":[]}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["b64"],"b64":true}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["alg"]}"#,
        r#"{"alg":"ES256","kid":"k1","crit":["kid","kid"]}"#,
        r#"{"alg":"ES256","kid":"k1","crit":"exp","exp":1}"#,
        r#"{"alg":"ES256","kid":"k1","crit":null}"#,
        r#"{"alg":"ES256","kid":"k1","crit":{}}"#,
        r#"{"alg":"ES256","kid":"k1","\u0063rit":["x"]}"#,
    ]);
}

#[test]
fn a_10_unencoded_payload() {
    let world = World::new();
    world.refuses_headers([
        r#"{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}"#,
        r#"{"alg":"ES256","kid":"k1","b64":false}"#,
        r#"{"alg":"ES256","kid":"k1","b64":true}"#,
        r#"{"alg":"ES256","kid":"k1","b64":null}"#,
    ]);
    let header = base64url_encode(r#"{"alg":"ES256","kid":"k1","b64":false,"crit":["b64"]}"#);
    let input = format!("{header}.{}", claims());
    let signature = base64url_encode(world.key.signature("ES256", input.as_bytes()));
    world.refuses_all([format!("{input}.{signature}"), format!("{header}..{signature}")]);
}

#[test]
fn a_16_duplicate_members() {
    let world = World::new();
    world.refuses_headers([
        r#"{"alg":"ES256","alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"none","kid":"k1","alg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"k1","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"at+jwt","typ":"at+jwt"}"#,
        r#"{"alg":"ES256","kid":"k1","\u0061lg":"ES256"}"#,
        r#"{"alg":"ES256","kid":"k1","x":{"y":1,"y":1}}"#,
    ]);
    let text = claims().to_string();
    for duplicate in [
        format!(r#""iss":"{ISS}""#),
        format!(r#""aud":"{AUD}""#),
        format!(r#""exp":{}"#, NOW + 300),
        r#""sub":"user-1""#.into(),
        r#""scope":"admin""#.into(),
        r#""\u0061ud":"x""#.into(),
        r#""cnf":{"jkt":"a","jkt":"b"}"#.into(),
        r#""unused":[{"a":1,"a":2}]"#.into(),
        r#""n":1,"n":1"#.into(),
    ] {
        let payload = text.replacen('{', &format!("{{{duplicate},"), 1);
        let token = world.sign_with(r#"{"alg":"ES256","kid":"k1"}"#, payload);
        assert_eq!(world.verdict(&token), "duplicate_member", "{duplicate}");
    }
}

#[test]
fn a_17_claim_type_confusion() {
    let world = World::new();
    let long = i64::MAX;
    let mut changes = Vec::new();
    for exp in [
        json!("1800000300"),
        json!(true),
        json!([NOW + 300]),
        json!({}),
        json!(-1),
        json!(1e308),
        json!(long),
        json!(u64::MAX),
        json!("NaN"),
        json!(0),
        json!(1e18),
    ] {
        changes.push(json!({"exp": exp}));
    }
    for date in [json!("1"), json!(false), json!([]), json!(1e300), json!(u64::MAX)] {
        changes.push(json!({"nbf": date}));
        changes.push(json!({"iat": date}));
    }
    for aud in [
        json!(1),
        json!({}),
        json!([]),
        json!([[AUD]]),
        json!([AUD, 5]),
        json!([AUD, null]),
        json!(true),
        json!({"aud": AUD}),
        json!(""),
    ] {
        changes.push(json!({"aud": aud}));
    }
    for iss in [json!([ISS]), json!(["https://evil.example", ISS]), json!(7), json!({}), json!("")] {
        changes.push(json!({"iss": iss}));
    }
    for sub in [json!({}), json!(7), json!([]), json!(""), json!(["user-1"]), json!(true)] {
        changes.push(json!({"sub": sub}));
    }
    for scope in [json!(["chat"]), json!({}), json!(7), json!("cha\"t"), json!("chat\u{a0}read")] {
        changes.push(json!({"scope": scope}));
    }
    for cnf in [
        json!("jkt"),
        json!([]),
        json!({}),
        json!({"jkt": 7}),
        json!({"jkt": "short"}),
        json!({"jwk": {}}),
        json!(true),
    ] {
        changes.push(json!({"cnf": cnf}));
    }
    changes.extend([
        json!({"jti": 7}),
        json!({"client_id": ["app"]}),
        json!({"groups": [7]}),
        json!({"groups": {"a": 1}}),
    ]);
    world.refuses_claims(changes);
    // JSON null is a value of the wrong type, not an absent claim.
    for claim in ["exp", "nbf", "iat", "aud", "iss", "sub", "scope", "cnf", "jti", "groups"] {
        let mut claims = claims();
        claims[claim] = Value::Null;
        assert_ne!(world.verdict(&world.sign(&claims)), "ok", "{claim}: null");
    }
}

#[test]
fn a_18_time() {
    let world = World::with(|rules| rules.leeway = Duration::from_secs(30));
    let verdict = |change: Value| world.verdict(&world.sign(&claims_with(&change)));
    for (change, expected) in [
        (json!({"exp": NOW - 29}), "ok"),
        (json!({"exp": NOW - 30}), "expired"),
        (json!({"exp": NOW - 31}), "expired"),
        (json!({"exp": 1}), "expired"),
        (json!({"exp": null}), "missing_claim"),
        (json!({"nbf": NOW + 30}), "ok"),
        (json!({"nbf": NOW + 31}), "not_yet_valid"),
        (json!({"nbf": NOW}), "ok"),
        (json!({"iat": NOW + 3600}), "issued_in_future"),
        (json!({"iat": NOW + 5}), "ok"),
        (json!({"exp": 1_799_999_970.5}), "ok"),
        (json!({"exp": 1_799_999_969.5}), "expired"),
    ] {
        assert_eq!(verdict(change.clone()), expected, "{change}");
    }
    let strict = World::new();
    assert_eq!(strict.verdict(&strict.sign(&claims_with(&json!({"exp": NOW})))), "expired", "RFC 7519: on or after");
    assert_eq!(strict.verdict(&strict.sign(&claims_with(&json!({"exp": NOW + 1})))), "ok");
}

#[test]
fn a_19_audience_confusion() {
    let world = World::new();
    for aud in [
        "https://other.example.com",
        "https://ai.example.com/",
        "https://ai.example.com.evil",
        "https://ai.example.co",
        "ai.example.com",
        "HTTPS://AI.EXAMPLE.COM",
        "https%3A%2F%2Fai.example.com",
        "https://ai.example.com ",
        "*",
    ] {
        assert_eq!(world.verdict(&world.sign(&claims_with(&json!({"aud": aud})))), "wrong_audience", "{aud}");
        let list = json!({"aud": [aud, "https://elsewhere.example"]});
        assert_eq!(world.verdict(&world.sign(&claims_with(&list))), "wrong_audience", "{aud}");
    }
    assert_eq!(world.verdict(&world.sign(&claims_with(&json!({"aud": null})))), "missing_claim");
    assert_eq!(world.verdict(&world.sign(&claims_with(&json!({"aud": ["https://x.example", AUD]})))), "ok");
}

#[test]
fn a_23_encrypted_nested_and_json_forms() {
    let world = World::new();
    let good = world.good();
    let inner = world.key.token(r#"{"alg":"none"}"#, claims().to_string());
    world.refuses_headers([
        r#"{"alg":"ES256","kid":"k1","enc":"A128GCM"}"#,
        r#"{"alg":"dir","kid":"k1","enc":"A128GCM"}"#,
        r#"{"alg":"PBES2-HS256+A128KW","p2c":2147483648,"p2s":"AAAA","enc":"A128GCM"}"#,
        r#"{"alg":"RSA-OAEP","enc":"A256GCM"}"#,
        r#"{"alg":"ES256","kid":"k1","zip":"DEF"}"#,
        r#"{"alg":"ES256","kid":"k1","cty":"JWT"}"#,
        r#"{"alg":"ES256","kid":"k1","cty":"jwt"}"#,
        r#"{"alg":"ES256","kid":"k1","cty":"application/JWT"}"#,
    ]);
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    let dir = base64url_encode(r#"{"alg":"dir","enc":"A128GCM"}"#);
    world.refuses_all([
        format!("{dir}..AAAA.{payload}.AAAA"),
        format!("{header}.{payload}.{signature}.AAAA.AAAA"),
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
        json!({"payload": payload, "signatures": [{"protected": header, "signature": signature}]}).to_string(),
        base64url_encode(&good),
        world.sign_with(r#"{"alg":"ES256","kid":"k1"}"#, &inner),
        world.sign_with(r#"{"alg":"ES256","kid":"k1"}"#, &good),
    ]);
}

#[test]
fn a_24_encodings() {
    let world = World::new();
    let good = world.good();
    let mut tokens: Vec<String> = ["=", "==", " ", "\t", "\n", "\r\n", "\0", "\u{feff}", "%00", "+", "/"]
        .iter()
        .flat_map(|junk| {
            let middle = good.replacen('.', &format!("{junk}."), 1);
            [format!("{good}{junk}"), format!("{junk}{good}"), middle]
        })
        .collect();
    // 86 characters carry 64 octets and four bits to spare, which must be zero.
    let (cut, last) = good.split_at(good.len() - 1);
    let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let value = alphabet.find(last).unwrap();
    tokens.extend((1..16).map(|spare| format!("{cut}{}", &alphabet[value + spare..=value + spare])));
    world.refuses_all(tokens);

    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let text = claims().to_string();
    let utf16 = |unit: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(unit).collect::<Vec<u8>>();
    let mut payloads = vec![utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)];
    payloads.push([b"\xef\xbb\xbf", text.as_bytes()].concat());
    for junk in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xff", b"\xf4\x90\x80\x80", b"\\ud800", b"\\udc00\\ud800"] {
        payloads.push([&text.as_bytes()[..text.len() - 1], b",\"x\":\"", junk, b"\"}"].concat());
    }
    world.refuses_all(payloads.into_iter().map(|payload| world.sign_with(header, payload)));
}

#[test]
fn a_25_resource_exhaustion() {
    let world = World::new();
    for size in [MAX_TOKEN_LEN + 1, 1 << 20, 16 << 20] {
        assert_eq!(world.verdict(&"a".repeat(size)), "token_too_long");
    }
    world.refuses_all([".".repeat(10_000), "a.".repeat(5_000), "..".into(), ".".into(), String::new()]);
    let base = claims().to_string();
    let base = base.strip_suffix('}').unwrap();
    let cases = [
        format!("{base},\"x\":{}}}", "[".repeat(5_000)),
        format!("{base},\"x\":{}{}}}", "[".repeat(17), "]".repeat(17)),
        format!("{base},\"x\":{}}}", "{\"a\":".repeat(1_000)),
        format!("{base},\"x\":{}1e400}}", "1".repeat(4_000)),
        format!("{base},\"x\":[{}1]}}", "1,".repeat(5_000)),
        format!("{base},\"iat2\":1e400}}"),
    ];
    world.refuses_all(cases.map(|payload| world.sign_with(r#"{"alg":"ES256","kid":"k1"}"#, payload)));
    let many = |n: usize| (0..n).map(|i| format!("s{i}")).collect::<Vec<_>>();
    world.refuses_claims([
        json!({"aud": many(1_000)}),
        json!({"scope": many(1_000).join(" ")}),
        json!({"groups": many(1_000)}),
        json!({"sub": "s".repeat(2_000)}),
        json!({"jti": "j".repeat(4_000)}),
    ]);
    world.refuses_headers([format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(2_000))]);
    let members: Vec<_> = (0..300).map(|i| format!("\"m{i}\":0")).collect();
    world.refuses_headers([format!(r#"{{"alg":"ES256","kid":"k1",{}}}"#, members.join(","))]);
}

/// Texts that are not JSON, of the kinds that parsers have let through.
pub(crate) const NOT_JSON: &[&str] = &[
    "",
    " ",
    "{",
    "}",
    "[",
    "]",
    "{]",
    "[}",
    "nul",
    "True",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "'a'",
    "{'a':1}",
    "{a:1}",
    "{\"a\"}",
    "{\"a\":}",
    "{\"a\":1,}",
    "{,\"a\":1}",
    "{\"a\":1,,\"b\":2}",
    "{\"a\" 1}",
    "{\"a\":1 \"b\":2}",
    "{\"a\":1}}",
    "{\"a\":1}x",
    "{\"a\":1}#",
    "{\"a\":1}//x",
    "{\"a\":/*x*/1}",
    "[1,]",
    "[,1]",
    "[1,,2]",
    "[1 2]",
    "[1",
    "1]",
    "[01]",
    "[+1]",
    "[.5]",
    "[1.]",
    "[1e]",
    "[1e+]",
    "[-]",
    "[--1]",
    "[0x10]",
    "[1_000]",
    "[1e5.5]",
    "[\u{ff11}]",
    "[-01]",
    "[1.e1]",
    "[0e]",
    "[\"\\x00\"]",
    "[\"\\u12\"]",
    "[\"\\u{41}\"]",
    "[\"\\ud800\"]",
    "[\"\\ud800\\u0041\"]",
    "[\"\\a\"]",
    "[\"\t\"]",
    "[\"\n\"]",
    "[\"\u{0}\"]",
    "[\"a]",
    "[\"\\\"]",
    "[\\n]",
    "\u{feff}{}",
    "\u{2060}{}",
    "{}\u{a0}",
    "\u{c}{}",
    "{\"a\":1}\u{0}",
    "{\"a\":true false}",
    "[true",
    "{\"a\":tru}",
    "<a>",
    "--\n",
    "{\"\\uD800\":1}",
    "{1:1}",
    "{null:1}",
    "{\"a\":1;\"b\":2}",
    "{\"a\"::1}",
    "*",
    "{\"a\":`b`}",
];

#[test]
fn a_26_malformed_json_in_every_place() {
    let world = World::new();
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    let base = claims().to_string();
    let base = base.strip_suffix('}').unwrap();
    for text in NOT_JSON {
        let tokens = [
            world.sign_with(text, claims().to_string()),
            world.sign_with(&format!(r#"{{"alg":"ES256","kid":"k1","x":{text}}}"#), claims().to_string()),
            world.sign_with(header, text),
            world.sign_with(header, format!("{base},\"x\":{text}}}")),
        ];
        world.refuses_all(tokens);
        let key = world.key.jwk_with(&json!({"kid": "k1"})).to_string();
        let key = key.strip_suffix('}').unwrap();
        for set in [
            (*text).to_owned(),
            format!("{{\"keys\":[{key},\"x\":{text}}}]}}"),
            format!("{{\"keys\":[{key}}}],\"x\":{text}}}"),
        ] {
            assert!(proof::jose::KeySet::from_published(set.as_bytes()).is_err(), "{set}");
        }
    }
}

#[test]
fn a_30_a_token_is_only_a_token() {
    let world = World::new();
    let good = world.good();
    world.refuses_all([
        format!("access_token={good}"),
        format!("?access_token={good}"),
        format!("{good}&access_token={good}"),
        format!("token:{good}"),
        format!("\"{good}\""),
    ]);
}

#[test]
fn a_31_joined_and_prefixed_credentials() {
    let world = World::new();
    let good = world.good();
    world.refuses_all([
        format!("{good},{good}"),
        format!("{good}, {good}"),
        format!("{good} {good}"),
        format!("Bearer {good}"),
        format!("DPoP {good}"),
        format!("{good};{good}"),
        format!("{good}.{good}"),
    ]);
}

#[test]
fn a_32_control_characters_in_identities() {
    let world = World::new();
    world.refuses_claims([
        json!({"sub": "user\r\nX-Admin: 1"}),
        json!({"sub": "user\u{0}"}),
        json!({"client_id": "app\nx"}),
        json!({"jti": "a\u{7f}"}),
        json!({"groups": ["a\r"]}),
        json!({"scope": "chat\r\nadmin"}),
    ]);
}

#[test]
fn a_41_garbage_is_never_anybody() {
    let world = World::new();
    world.refuses_all([
        "",
        " ",
        "null",
        "undefined",
        "Bearer",
        "0",
        "{}",
        "a.b.c",
        "...",
        "eyJ",
        "\u{0}",
        "🦀.🦀.🦀",
        "-.-.-",
    ]);
    let nobody = crate::support::issuers(Vec::new());
    assert_eq!(nobody.verify(&world.good(), now()).err(), Some(TokenError::UnknownIssuer));
}

#[test]
fn a_44_refusals_say_nothing() {
    let world = World::new();
    let forged = crate::support::TestKey::p256();
    let header = |kid: &str| format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    let payload = claims_with(&json!({"sub": "canary-subject"})).to_string();
    let tokens = [
        forged.token(&header("k1"), &payload),
        forged.token(&header("canary-kid"), &payload),
        forged.token(&header("k1"), claims_with(&json!({"iss": "https://canary.example"})).to_string()),
        world.sign(&claims_with(&json!({"aud": "canary-audience"}))),
        world.sign(&claims_with(&json!({"scope": 7}))),
        "canary".into(),
    ];
    for token in tokens {
        let error = world.verify(&token).unwrap_err();
        assert_eq!(error.description(), "The access token is not valid", "one text for all: {error:?}");
        let everything = format!("{error} {error:?} {} {}", error.reason(), error.description());
        assert!(!everything.contains("canary"), "{everything}");
        // RFC 6750 section 3: the charset of error_description.
        assert!(error.description().bytes().all(|b| matches!(b, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e)));
        assert_eq!(error.who(), base::Who::Client);
    }
}

#[test]
fn a_46_a_verdict_does_not_hold_the_token() {
    let world = World::new();
    let good = world.good();
    let token = world.verify(&good).unwrap();
    let signature = good.rsplit_once('.').unwrap().1;
    let shown = format!("{token:?}");
    assert!(!shown.contains(signature) && !shown.contains(token.subject()), "{shown}");
    let parsed = format!("{:?}", proof::jose::parse_compact(&good).unwrap());
    assert!(!parsed.contains("user-1") && !parsed.contains(signature), "{parsed}");
    assert!(!format!("{:?}", world.issuers).contains(signature));
}

#[test]
fn a_47_lifetime() {
    let world = World::with(|rules| rules.max_lifetime = Some(Duration::from_hours(1)));
    let verdict = |change: Value| world.verdict(&world.sign(&claims_with(&change)));
    assert_eq!(verdict(json!({"exp": NOW + 3600})), "ok");
    assert_eq!(verdict(json!({"exp": NOW + 3601})), "lifetime_too_long");
    assert_eq!(verdict(json!({"exp": NOW + 3601, "iat": null})), "lifetime_too_long");
    assert_eq!(verdict(json!({"exp": NOW + 3600, "iat": null})), "ok");
    assert_eq!(verdict(json!({"exp": NOW + 100, "iat": NOW - 3501})), "lifetime_too_long");
    assert_eq!(verdict(json!({"exp": 32_503_680_000_i64})), "lifetime_too_long");
    assert_eq!(verdict(json!({"exp": null})), "missing_claim");
    // Without a limit a token still ends.
    let open = World::new();
    let token = open.sign(&claims_with(&json!({"exp": NOW + 3600})));
    assert!(open.issuers.verify(&token, Timestamp::from_secs(NOW + 3600)).is_err());
}

#[test]
fn a_48_scope_confusables() {
    let world = World::new();
    let scopes = |scope: &str| {
        let token = world.verify(&world.sign(&claims_with(&json!({"scope": scope}))));
        token.map(|token| token.scopes().to_vec()).map_err(|error| error.reason())
    };
    assert_eq!(scopes("readwrite"), Ok(vec!["readwrite".into()]));
    assert_eq!(scopes("read,write"), Ok(vec!["read,write".into()]), "a comma separates nothing");
    assert_eq!(scopes("Read read"), Ok(vec!["Read".into(), "read".into()]));
    assert_eq!(scopes(" read  write "), Ok(vec!["read".into(), "write".into()]));
    assert_eq!(scopes(""), Ok(vec![]));
    for confusable in ["r\u{435}ad", "read\u{200b}", "read\u{a0}write", "read\twrite", "ｒｅａｄ"] {
        assert_eq!(scopes(confusable), Err("bad_claim"), "{confusable:?}");
    }
}
