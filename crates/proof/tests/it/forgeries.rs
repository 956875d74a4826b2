//! Attacks on keys and signatures.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::signature::KeyPair as _;
use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proof::jose::{Alg, KeyError, KeySet, KeySetError, SecretError, base64url_decode, base64url_encode, check_secret};
use proof::token::{Issuer, Issuers};
use serde_json::{Value, json};

use crate::support::{TestKey, World, claims, fixed, issuers, negate_s, now, rsa_numbers, rules, set};

fn one_key(key: &TestKey, more: &Value, algorithms: &[Alg]) -> Issuers {
    let mut rules = rules();
    rules.algorithms = algorithms.to_vec();
    issuers(vec![Issuer::new(rules, fixed(&[key.jwk_with(more)]))])
}

/// Everything an attacker knows about a public key, as bytes to use as an HMAC secret.
fn public_forms(key: &TestKey) -> Vec<Vec<u8>> {
    let jwk = key.jwk_with(&json!({"kid": "k1"}));
    let mut forms = vec![
        key.jwk().to_string().into_bytes(),
        jwk.to_string().into_bytes(),
        json!({"keys": [jwk]}).to_string().into_bytes(),
    ];
    let spki = match key {
        TestKey::Rsa(pair) => {
            let der = pair.public_key().as_ref();
            forms.push(der.to_vec());
            forms.push(rsa_numbers(der).0.to_vec());
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
        TestKey::Ec(pair, _) => {
            forms.push(pair.public_key().as_ref().to_vec());
            forms.push(pair.public_key().as_ref()[1..].to_vec());
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
        TestKey::Ed(pair) => {
            forms.push(pair.public_key().as_ref().to_vec());
            AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
        }
        TestKey::Pq(..) | TestKey::Oct(_) => Vec::new(),
    };
    let body = STANDARD.encode(&spki);
    for pem in [
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----"),
        format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"),
        format!("\n -----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"),
    ] {
        forms.push(pem.into_bytes());
    }
    forms.push(spki);
    forms.push(Vec::new());
    forms
}

#[test]
fn a_03_public_key_as_hmac_secret() {
    for (key, alg) in [(TestKey::rsa(), Alg::Rs256), (&TestKey::p256(), Alg::Es256), (&TestKey::ed25519(), Alg::EdDsa)]
    {
        let world = one_key(key, &json!({"kid": "k1"}), &[alg]);
        let good = key.token(&format!(r#"{{"alg":"{}","kid":"k1"}}"#, alg.name()), claims().to_string());
        for secret in public_forms(key) {
            for mac in ["HS256", "HS384", "HS512"] {
                let forged =
                    TestKey::oct(&secret).token(&format!(r#"{{"alg":"{mac}","kid":"k1"}}"#), claims().to_string());
                assert_eq!(world.verify(&forged, now()).unwrap_err().reason(), "alg_not_allowed");
            }
        }
        assert!(world.verify(&good, now()).is_ok());
        // Nor does a key set made of these keys have anything that verifies an HMAC.
        let keys = set(&[key.jwk()]);
        for mac in [Alg::Hs256, Alg::Hs384, Alg::Hs512] {
            assert!(keys.keys().iter().all(|key| key.verify(mac, b"m", b"s").is_err()));
        }
    }
    // The rules cannot be written so that both would be possible.
    let mut mixed = rules();
    mixed.algorithms = vec![Alg::Rs256, Alg::Hs256];
    let issuer = Issuer::new(mixed, fixed(&[TestKey::rsa().jwk()]));
    let error = Issuers::new(vec![issuer], proof::token::CacheLimits::default(), 1).unwrap_err();
    assert_eq!(error.reason(), "mixed_algorithms");
}

#[test]
fn a_04_another_algorithm_of_the_same_key() {
    let all = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
    let every: Vec<Alg> = all.iter().filter_map(|name| Alg::from_name(name)).collect();
    let key = TestKey::rsa();
    let token = |alg: &str| key.token(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#), claims().to_string());
    for own in all {
        // The key says what it is for; the token is truly signed, only with something else.
        let world = one_key(key, &json!({"kid": "k1", "alg": own}), &every);
        for alg in all {
            let verdict = world.verify(&token(alg), now()).map_err(|error| error.reason());
            assert_eq!(verdict.is_ok(), alg == own, "key {own}, token {alg}: {verdict:?}");
        }
    }
    // A key that does not say is bound to the first allowed algorithm that fits, and to that one only.
    let world = one_key(key, &json!({"kid": "k1"}), &[Alg::Es256, Alg::Ps256, Alg::Rs256]);
    assert!(world.verify(&token("PS256"), now()).is_ok());
    assert_eq!(world.verify(&token("RS256"), now()).unwrap_err().reason(), "alg_key_mismatch");

    // An EC key verifies with its curve's algorithm, whatever the header says.
    let (p256, p384) = (TestKey::p256(), TestKey::p384());
    for (key, own, other) in [(&p256, "ES256", "ES384"), (&p384, "ES384", "ES256")] {
        let world = one_key(key, &json!({"kid": "k1"}), &[Alg::Es256, Alg::Es384]);
        let token = |alg: &str| key.token(&format!(r#"{{"alg":"{alg}","kid":"k1"}}"#), claims().to_string());
        assert!(world.verify(&token(own), now()).is_ok());
        assert_eq!(world.verify(&token(other), now()).unwrap_err().reason(), "alg_key_mismatch");
    }
    // An alg that does not go with the key's type makes the key unusable.
    for (key, alg) in
        [(key, "ES256"), (&p256, "ES384"), (&p256, "RS256"), (&p256, "EdDSA"), (&TestKey::ed25519(), "ES256")]
    {
        let keys = set(&[key.jwk_with(&json!({"alg": alg}))]);
        assert_eq!(keys.rejected()[0].error, KeyError::AlgMismatch, "{alg}");
    }
}

#[test]
fn a_05_embedded_jwk() {
    let world = World::new();
    let attackers = [TestKey::p256(), TestKey::ed25519(), TestKey::ml_dsa_44()];
    let mut tokens = Vec::new();
    for (attacker, alg) in attackers.iter().zip(["ES256", "EdDSA", "ML-DSA-44"]).chain([(TestKey::rsa(), "RS256")]) {
        let jwk = attacker.jwk_with(&json!({"kid": "k1", "use": "sig"}));
        for kid in [r#","kid":"k1""#, r#","kid":"other""#, ""] {
            let header = format!(r#"{{"alg":"{alg}","jwk":{jwk}{kid}}}"#);
            tokens.push(attacker.token(&header, claims().to_string()));
        }
    }
    world.refuses_all(tokens);
    // A member that is never looked at does not spoil a token that is right.
    let jwk = attackers[0].jwk();
    let header = format!(r#"{{"alg":"ES256","kid":"k1","jwk":{jwk},"jku":"https://evil.example","x5t":7}}"#);
    assert_eq!(world.verdict(&world.sign_with(&header, claims().to_string())), "ok");
}

#[test]
fn a_06_jku_and_x5u() {
    // Nothing here can open a connection; what is left is that the reference must not change the outcome.
    let world = World::new();
    let attacker = TestKey::p256();
    let urls = [
        "https://evil.example/jwks",
        "https://id.example.com@evil.example/",
        "https://id.example.com#@evil.example/",
        "https://id.example.com.evil.example/",
        "http://169.254.169.254/latest",
        "http://localhost/",
        "file:///etc/passwd",
        "gopher://x",
        "http://[::ffff:127.0.0.1]/",
    ];
    let tokens = urls
        .iter()
        .flat_map(|url| ["jku", "x5u"].map(|member| format!(r#"{{"alg":"ES256","kid":"k1","{member}":"{url}"}}"#)));
    world.refuses_all(tokens.map(|header| attacker.token(&header, claims().to_string())));
}

#[test]
fn a_07_x5c_and_x5t() {
    let world = World::new();
    let attacker = TestKey::p256();
    let TestKey::Ec(pair, _) = &attacker else { unreachable!() };
    let spki = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
    let der = STANDARD.encode(spki.as_ref());
    world.refuses_all(
        [
            format!(r#"{{"alg":"ES256","kid":"k1","x5c":["{der}"]}}"#),
            format!(r#"{{"alg":"ES256","x5c":["{der}","{der}"]}}"#),
            r#"{"alg":"ES256","kid":"k1","x5t":"AAAA","x5t#S256":"AAAA"}"#.into(),
            r#"{"alg":"ES256","x5t":"AAAA"}"#.into(),
        ]
        .map(|header| attacker.token(&header, claims().to_string())),
    );
}

#[test]
fn a_08_kid_injection() {
    let world = World::new();
    let empty = TestKey::oct(b"");
    let one = TestKey::oct(b"1");
    let kids = [
        "\"../../../../dev/null\"",
        "\"/dev/null\"",
        "\"file:///dev/null\"",
        "\"x' UNION SELECT '1';--\"",
        "\"|sleep 10\"",
        "\"k1\\u0000\"",
        "\"k1 \"",
        "\"K1\"",
        "\"*\"",
        "\"\"",
        "7",
        "[\"k1\"]",
        "{\"k1\":1}",
        "null",
        "true",
        "\"${jndi:ldap://x}\"",
    ];
    let mut tokens = Vec::new();
    for kid in kids {
        let ours = world.sign_with(&format!(r#"{{"alg":"ES256","kid":{kid}}}"#), claims().to_string());
        let mac = format!(r#"{{"alg":"HS256","kid":{kid}}}"#);
        tokens.extend([ours, empty.token(&mac, claims().to_string()), one.token(&mac, claims().to_string())]);
    }
    tokens.push(world.sign_with(&format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "k".repeat(1025)), claims().to_string()));
    world.refuses_all(tokens);
}

#[test]
fn a_11_psychic_signatures() {
    // n of P-256, and n-1.
    let n = base64url_decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE").unwrap();
    let mut n_minus_1 = n.clone();
    *n_minus_1.last_mut().unwrap() -= 1;
    let (zero, mut one) = (vec![0u8; 32], vec![0u8; 32]);
    one[31] = 1;
    let max = vec![0xff; 32];
    let world = World::new();
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let bytes = base64url_decode(signature).unwrap();
    let mut forged: Vec<Vec<u8>> = Vec::new();
    for r in [&zero, &one, &n_minus_1, &n, &max] {
        for s in [&zero, &one, &n_minus_1, &n, &max] {
            forged.push([r.as_slice(), s].concat());
        }
    }
    let (r, s) = bytes.split_at(32);
    forged.push([r, &[0], s].concat());
    forged.push([&[0], r, s].concat());
    forged.push(bytes[..63].to_vec());
    forged.push([bytes.as_slice(), &[0]].concat());
    forged.push([r, s, r, s].concat());
    // DER of the very same signature.
    let integer = |v: &[u8]| [&[2, 33, 0], v].concat();
    let body = [integer(r), integer(s)].concat();
    forged.push([&[0x30, u8::try_from(body.len()).unwrap()], body.as_slice()].concat());
    world.refuses_all(forged.iter().map(|bytes| format!("{signed}.{}", base64url_encode(bytes))));
}

#[test]
fn a_12_ecdsa_malleability_makes_no_second_identity() {
    let world = World::new();
    let good = world.good();
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = base64url_decode(signature).unwrap();
    negate_s(&mut bytes);
    let twin = format!("{signed}.{}", base64url_encode(bytes));
    let (a, b) = (world.verify(&good).unwrap(), world.verify(&twin).unwrap());
    assert_ne!(a.token_hash(), b.token_hash(), "other bytes, another cache entry");
    assert_eq!((a.issuer(), a.subject(), a.jti()), (b.issuer(), b.subject(), b.jti()), "the same identity and jti");
}

#[test]
fn a_13_ed25519_small_order_and_non_canonical() {
    // Points of small order: with them one signature fits any message.
    for point in [
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "7P_______________________________________38",
        "JuiVj8KyJ7BFw_SJ8u-Y8NXfrAXTxjM5sTgCiG1T_AU",
        "xxdqcD1N2E-6PAt2DRBnDyogU_osOczGTsf9d5KsA3o",
        "7f_______________________________________38",
        "7v_______________________________________38",
        "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAIA",
    ] {
        let keys = set(&[json!({"kty": "OKP", "crv": "Ed25519", "x": point})]);
        assert!(keys.keys().is_empty(), "{point}");
        assert!(matches!(keys.rejected()[0].error, KeyError::SmallOrder | KeyError::Encoding), "{point}");
    }
    let key = TestKey::ed25519();
    let keys = set(&[key.jwk()]);
    let key_set = &keys.keys()[0];
    let message = b"message";
    let good = key.signature("EdDSA", message);
    assert!(key_set.verify(Alg::EdDsa, message, &good).is_ok());
    // S + L is another spelling of S.
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut spelled = good.clone();
    for _ in 0..14 {
        let mut carry = 0u16;
        for (digit, add) in spelled[32..].iter_mut().zip(order) {
            let sum = u16::from(*digit) + u16::from(add) + carry;
            *digit = (sum & 0xff) as u8;
            carry = sum >> 8;
        }
        assert!(key_set.verify(Alg::EdDsa, message, &spelled).is_err());
        if carry > 0 {
            break;
        }
    }
    for len in [0, 32, 63, 65, 128] {
        let mut wrong = good.clone();
        wrong.resize(len, 0);
        assert!(key_set.verify(Alg::EdDsa, message, &wrong).is_err(), "{len} octets");
    }
}

#[test]
fn a_14_weak_hmac_secrets() {
    for secret in [
        "",
        "secret",
        "your-256-bit-secret",
        "changeme",
        "a-string-secret-at-least-256-bits-long",
        "secretsecretsecretsecretsecretsecret",
        "00000000000000000000000000000000",
        "supersecretkey",
    ] {
        assert!(KeySet::from_secret(&Secret::new(secret.as_bytes().to_vec()), &[Alg::Hs256]).is_err(), "{secret}");
        let encoded = STANDARD.encode(secret);
        assert!(KeySet::from_secret(&Secret::new(encoded.into_bytes()), &[Alg::Hs256]).is_err(), "{secret} in base64");
    }
    let good = b"tVm3x9QzKf7RwYb2NhJc8LpDs5GaEu4X";
    assert_eq!(check_secret(good, Alg::Hs256), Ok(()));
    assert_eq!(check_secret(good, Alg::Hs512), Err(SecretError::TooShort { have: 32, need: 64 }));
    let both = KeySet::from_secret(&Secret::new(good.to_vec()), &[Alg::Hs256, Alg::Hs512]);
    assert_eq!(both.unwrap_err().reason(), "short_secret");
    let error = check_secret(b"secret", Alg::Hs256).unwrap_err();
    assert!(error.to_string().contains("openssl rand"), "the error says what to do: {error}");
}

#[test]
fn a_15_weak_rsa_keys() {
    let TestKey::Rsa(pair) = TestKey::rsa() else { unreachable!() };
    let (n, _) = rsa_numbers(pair.public_key().as_ref());
    let import = |n: &[u8], e: &[u8]| {
        let keys = set(&[json!({"kty": "RSA", "n": base64url_encode(n), "e": base64url_encode(e)})]);
        keys.rejected().first().map(|rejected| rejected.error)
    };
    assert_eq!(import(n, &[1, 0, 1]), None);
    assert!(import(&n[128..], &[1, 0, 1]).is_some());
    for e in [&[1u8][..], &[2], &[3], &[5], &[17], &[1, 0, 0]] {
        assert_eq!(import(n, e), Some(KeyError::Exponent), "{e:?}");
    }
    assert_eq!(import(&[&[0], n].concat(), &[1, 0, 1]), Some(KeyError::Encoding));
    assert_eq!(import(&[0xff; 2000], &[1, 0, 1]), Some(KeyError::Size));
}

#[test]
fn a_28_poisoned_key_sets() {
    let key = TestKey::p256();
    let good = key.jwk_with(&json!({"kid": "k1"}));
    let published = |keys: &[Value]| KeySet::from_published(json!({"keys": keys}).to_string().as_bytes());
    // What gives the set away as a whole.
    for private in ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"] {
        let leaked = TestKey::p256().jwk_with(&json!({"kid": "k2", private: "AAAA"}));
        assert_eq!(published(&[good.clone(), leaked]).unwrap_err(), KeySetError::Private { index: 1 }, "{private}");
    }
    let shared = TestKey::oct(&[7; 32]).jwk_with(&json!({"kid": "k2"}));
    assert_eq!(published(&[good.clone(), shared]).unwrap_err(), KeySetError::Private { index: 1 });
    let twin = TestKey::p256().jwk_with(&json!({"kid": "k1"}));
    assert_eq!(published(&[good.clone(), twin]).unwrap_err(), KeySetError::DuplicateKid { index: 1 });
    assert_eq!(published(&vec![json!({}); 101]).unwrap_err(), KeySetError::TooMany);
    for text in [&b"<html>"[..], b"", b"[]", b"{}", b"{\"keys\":{}}", b"{\"keys\":[],\"keys\":[]}", b"null"] {
        assert!(KeySet::from_published(text).is_err(), "{}", String::from_utf8_lossy(text));
    }
    assert!(KeySet::from_published(&vec![b' '; 10 << 20]).is_err());
    // What only costs the one key.
    let off_curve =
        json!({"kty": "EC", "crv": "P-256", "x": base64url_encode([1; 32]), "y": base64url_encode([2; 32])});
    let short = json!({"kty": "EC", "crv": "P-256", "x": base64url_encode([1; 31]), "y": base64url_encode([2; 32])});
    let bad = [
        (json!({"kty": "XYZ", "kid": "a"}), KeyError::UnsupportedType),
        (json!({"kid": "b"}), KeyError::Form),
        (json!(7), KeyError::Form),
        (json!({"kty": "EC", "crv": "P-257", "x": "AA", "y": "AA"}), KeyError::UnsupportedCurve),
        (json!({"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"}), KeyError::UnsupportedCurve),
        (json!({"kty": "OKP", "crv": "X25519", "x": "AA"}), KeyError::UnsupportedCurve),
        (key.jwk_with(&json!({"kid": 7})), KeyError::Form),
        (key.jwk_with(&json!({"kid": ""})), KeyError::Form),
        (key.jwk_with(&json!({"alg": "RS999"})), KeyError::UnsupportedAlg),
        (key.jwk_with(&json!({"use": "enc"})), KeyError::Use),
        (key.jwk_with(&json!({"use": 7})), KeyError::Form),
        (key.jwk_with(&json!({"key_ops": ["encrypt"]})), KeyError::Use),
        (key.jwk_with(&json!({"key_ops": ["sign"]})), KeyError::Use),
        (key.jwk_with(&json!({"key_ops": ["verify", "encrypt"]})), KeyError::Use),
        (key.jwk_with(&json!({"key_ops": []})), KeyError::Use),
        (key.jwk_with(&json!({"key_ops": ["verify", "verify"]})), KeyError::Form),
        (key.jwk_with(&json!({"key_ops": "verify"})), KeyError::Form),
        (off_curve, KeyError::Encoding),
        (short, KeyError::Encoding),
    ];
    let mut keys = vec![good];
    keys.extend(bad.iter().map(|(key, _)| key.clone()));
    let imported = published(&keys).unwrap();
    assert_eq!(imported.keys().len(), 1, "the good key is in use");
    for (index, (key, error)) in bad.iter().enumerate() {
        let rejected = &imported.rejected()[index];
        assert_eq!((rejected.index, rejected.error), (index + 1, *error), "{key}");
    }
    assert!(published(&[]).unwrap().keys().is_empty());
}

#[test]
fn an_issuer_s_key_file_is_as_strict_as_a_published_set() {
    let key = TestKey::p256();
    let read = |value: &Value| KeySet::from_issuer_file(value.to_string().as_bytes()).map_err(|error| error.reason());
    let private = key.jwk_with(&json!({"d": "AAAA"}));
    assert_eq!(read(&private).unwrap_err(), "private_key");
    assert_eq!(read(&json!({"keys": [key.jwk(), TestKey::oct(&[7; 32]).jwk()]})).unwrap_err(), "private_key");
    let twins =
        json!({"keys": [key.jwk_with(&json!({"kid": "k"})), TestKey::ed25519().jwk_with(&json!({"kid": "k"}))]});
    assert_eq!(read(&twins).unwrap_err(), "duplicate_kid");
    for one in [key.jwk(), json!({"keys": [key.jwk()]})] {
        let keys = proof::token::StaticKeys::new(read(&one).unwrap());
        let world = issuers(vec![Issuer::new(rules(), std::sync::Arc::new(keys))]);
        let token = key.token(r#"{"alg":"ES256","kid":"whatever"}"#, claims().to_string());
        assert!(world.verify(&token, now()).is_ok(), "the only key needs no kid: {one}");
    }
}
