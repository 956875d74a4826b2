//! Requirements that no attack stands for already.

use base::Secret;
use proof::jose::{Alg, KeyError, KeySet, base64url_encode};
use proof::token::{Issuer, TypRule};
use serde_json::{Value, json};

use crate::support::{ISS, NOW, TestKey, World, claims, claims_with, fixed, issuers, now, rules, set};

#[test]
fn r_01_three_parts_of_base64url() {
    let world = World::new();
    let good = world.good();
    let parts: Vec<&str> = good.split('.').collect();
    let (header, payload, signature) = (parts[0], parts[1], parts[2]);
    world.refuses_all([
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{signature}."),
        format!(".{header}.{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}.{signature}.{signature}.{signature}"),
        format!("{{{header}.{payload}.{signature}}}"),
        good.replace('.', ","),
    ]);
}

#[test]
fn r_02_canonical_base64url() {
    let world = World::new();
    let good = world.good();
    let (head, rest) = good.split_once('.').unwrap();
    world.refuses_all([
        format!("{head}=.{rest}"),
        format!("{good}="),
        format!("{}\n{}.{rest}", &head[..4], &head[4..]),
        good.replacen('J', "+", 1),
        good.replacen('J', "/", 1),
        // One character carries six bits: no octet.
        format!("{head}A.{rest}"),
    ]);
}

#[test]
fn r_03_valid_json_in_utf_8() {
    let world = World::new();
    let header = r#"{"alg":"ES256","kid":"k1"}"#;
    for (payload, reason) in [
        (&b"{"[..], "malformed_json"),
        (b"\xff\xfe{\0}\0", "malformed_json"),
        (b"\xef\xbb\xbf{}", "malformed_json"),
        (b"[]", "not_an_object"),
        (b"\"text\"", "not_an_object"),
        (b"null", "not_an_object"),
        (b"{\"a\":1,\"a\":1}", "duplicate_member"),
    ] {
        assert_eq!(world.verdict(&world.sign_with(header, payload)), reason);
    }
    let spaced = format!("\r\n\t {} \n", claims());
    assert_eq!(world.verdict(&world.sign_with(" {\"alg\" : \"ES256\", \"kid\":\"k1\"}\n", spaced)), "ok");
}

#[test]
fn r_05_alg_is_present_exact_and_allowed() {
    let world = World::with(|rules| rules.algorithms = vec![Alg::Rs256]);
    assert_eq!(world.verify(&world.good()).unwrap_err().reason(), "alg_not_allowed");
    let world = World::new();
    for (header, reason) in [
        (r#"{"kid":"k1"}"#, "missing_alg"),
        (r#"{"alg":"es256","kid":"k1"}"#, "unsupported_alg"),
        (r#"{"alg":"ES512","kid":"k1"}"#, "alg_not_allowed"),
        (r#"{"ALG":"ES256","kid":"k1"}"#, "missing_alg"),
    ] {
        assert_eq!(world.verdict(&world.sign_with(header, claims().to_string())), reason, "{header}");
    }
}

#[test]
fn r_14_typ_is_a_media_type() {
    let world = World::with(|rules| rules.typ = TypRule::AccessToken);
    for (typ, expected) in [
        ("at+jwt", "ok"),
        ("AT+JWT", "ok"),
        ("application/at+jwt", "ok"),
        ("Application/At+Jwt", "ok"),
        ("JWT", "wrong_typ"),
        ("at+jwt ", "wrong_typ"),
        ("application/application/at+jwt", "wrong_typ"),
        ("text/at+jwt", "wrong_typ"),
    ] {
        let header = json!({"alg": "ES256", "kid": "k1", "typ": typ}).to_string();
        assert_eq!(world.verdict(&world.sign_with(&header, claims().to_string())), expected, "{typ}");
    }
}

#[test]
fn r_15_key_sizes() {
    let secret = |len: usize| Secret::new((0..len).map(|i| u8::try_from(i * 37 % 251).unwrap()).collect::<Vec<u8>>());
    for (alg, need) in [(Alg::Hs256, 32), (Alg::Hs384, 48), (Alg::Hs512, 64)] {
        assert!(KeySet::from_secret(&secret(need), &[alg]).is_ok());
        assert_eq!(KeySet::from_secret(&secret(need - 1), &[alg]).unwrap_err().reason(), "short_secret");
        // A shared key that is long enough for one hash is not used with a longer one.
        let keys = KeySet::from_operator(TestKey::oct(secret(need).expose()).jwk().to_string().as_bytes()).unwrap();
        assert!(keys.keys()[0].bind(&[alg]).is_some());
        assert_eq!(keys.keys()[0].bind(&[Alg::Hs512]).is_some(), need == 64);
    }
}

#[test]
fn r_16_ecdsa_signatures_have_one_length() {
    for (key, alg, len) in
        [(TestKey::p256(), Alg::Es256, 64), (TestKey::p384(), Alg::Es384, 96), (TestKey::p521(), Alg::Es512, 132)]
    {
        let keys = set(&[key.jwk()]);
        let good = key.signature(alg.name(), b"m");
        assert_eq!(good.len(), len);
        assert!(keys.keys()[0].verify(alg, b"m", &good).is_ok());
        for wrong in [0, 1, len / 2, len - 2, len - 1, len + 1, len + 2, 2 * len] {
            let mut cut = good.clone();
            cut.resize(wrong, 0);
            assert!(keys.keys()[0].verify(alg, b"m", &cut).is_err(), "{} with {wrong} octets", alg.name());
        }
    }
}

#[test]
fn r_17_rsa_padding_belongs_to_the_algorithm() {
    let key = TestKey::rsa();
    let keys = set(&[key.jwk()]);
    let all = [Alg::Rs256, Alg::Rs384, Alg::Rs512, Alg::Ps256, Alg::Ps384, Alg::Ps512];
    for signed in all {
        let signature = key.signature(signed.name(), b"m");
        for alg in all {
            assert_eq!(keys.keys()[0].verify(alg, b"m", &signature).is_ok(), alg == signed, "{signed:?} as {alg:?}");
        }
        for len in [0, 255, 257] {
            let mut wrong = signature.clone();
            wrong.resize(len, 0);
            assert!(keys.keys()[0].verify(signed, b"m", &wrong).is_err());
        }
    }
}

#[test]
fn r_18_key_encodings() {
    let reject = |jwk: Value| set(&[jwk]).rejected().first().map(|rejected| rejected.error);
    let key = TestKey::p521();
    let jwk = key.jwk();
    assert_eq!(reject(jwk.clone()), None);
    let x = proof::jose::base64url_decode(jwk["x"].as_str().unwrap()).unwrap();
    for wrong in [x[1..].to_vec(), [&[0], x.as_slice()].concat(), Vec::new()] {
        assert_eq!(reject(key.jwk_with(&json!({"x": base64url_encode(wrong)}))), Some(KeyError::Encoding));
    }
    assert_eq!(reject(key.jwk_with(&json!({"x": jwk["y"], "y": jwk["x"]}))), Some(KeyError::Encoding), "off the curve");
    assert_eq!(
        reject(key.jwk_with(&json!({"x": format!("{}=", jwk["x"].as_str().unwrap())}))),
        Some(KeyError::Encoding)
    );
    assert_eq!(reject(key.jwk_with(&json!({"x": 7}))), Some(KeyError::Form));
    assert_eq!(reject(key.jwk_with(&json!({"crv": "P-256"}))), Some(KeyError::Encoding));
    assert_eq!(
        reject(json!({"kty": "OKP", "crv": "Ed25519", "x": base64url_encode([3; 31])})),
        Some(KeyError::Encoding)
    );
    assert_eq!(
        reject(json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": base64url_encode([3; 31])})),
        Some(KeyError::Encoding)
    );
    assert_eq!(reject(json!({"kty": "AKP", "pub": base64url_encode([3; 1312])})), Some(KeyError::Form));
    assert_eq!(reject(json!({"kty": "EC", "x": jwk["x"], "y": jwk["y"]})), Some(KeyError::Form));
}

#[test]
fn r_24_claims_of_rfc_9068() {
    let world = World::with(|rules| rules.typ = TypRule::AccessToken);
    let header = r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#;
    for claim in ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"] {
        let token = world.sign_with(header, claims_with(&json!({claim: null})).to_string());
        let reason = world.verdict(&token);
        assert!(reason == "missing_claim" || (claim == "iss" && reason == "unknown_issuer"), "{claim}: {reason}");
    }
    let token = world.verify(&world.good()).unwrap();
    assert_eq!((token.issuer().as_str(), token.iss(), token.subject()), ("corp", ISS, "user-1"));
    assert_eq!((token.client_id(), token.jti(), token.kid()), (Some("app"), Some("j-1"), Some("k1")));
    assert_eq!(token.scopes(), ["chat", "read"]);
    assert_eq!(token.expires_at().as_secs(), NOW + 300);
    assert_eq!(token.issued_at().map(base::Timestamp::as_secs), Some(NOW));
}

#[test]
fn r_25_typ_of_an_access_token() {
    let world = World::new();
    for typ in [
        "dpop+jwt",
        "logout+jwt",
        "secevent+jwt",
        "id_token+jwt",
        "application/dpop+jwt",
        "JOSE",
        "rt+jwt",
        "",
        "kb+jwt",
        "token-introspection+jwt",
        "client-authentication+jwt",
        "oauth-authz-req+jwt",
    ] {
        let header = json!({"alg": "ES256", "kid": "k1", "typ": typ}).to_string();
        assert_eq!(world.verdict(&world.sign_with(&header, claims().to_string())), "wrong_typ", "{typ}");
    }
    for header in [
        r#"{"alg":"ES256","kid":"k1"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#,
        r#"{"alg":"ES256","kid":"k1","typ":"at+jwt"}"#,
    ] {
        assert_eq!(world.verdict(&world.sign_with(header, claims().to_string())), "ok", "{header}");
    }
}

#[test]
fn listed_types_are_required_and_other_kinds_stay_refused() {
    let world = World::with(|rules| rules.typ = TypRule::one_of(["application/Custom+JWT", "jwt", "dpop+jwt"]));
    for (typ, expected) in
        [(r#""custom+jwt""#, "ok"), (r#""JWT""#, "ok"), (r#""at+jwt""#, "wrong_typ"), (r#""dpop+jwt""#, "wrong_typ")]
    {
        let header = format!(r#"{{"alg":"ES256","kid":"k1","typ":{typ}}}"#);
        assert_eq!(world.verdict(&world.sign_with(&header, claims().to_string())), expected, "{typ}");
    }
    let none = world.sign_with(r#"{"alg":"ES256","kid":"k1"}"#, claims().to_string());
    assert_eq!(world.verdict(&none), "wrong_typ");
}

#[test]
fn r_27_every_listed_algorithm_verifies() {
    let (p256, p384, p521, ed, d44, d65) = (
        TestKey::p256(),
        TestKey::p384(),
        TestKey::p521(),
        TestKey::ed25519(),
        TestKey::ml_dsa_44(),
        TestKey::ml_dsa_65(),
    );
    let rsa = TestKey::rsa();
    for (key, name) in [
        (rsa, "RS256"),
        (rsa, "RS384"),
        (rsa, "RS512"),
        (rsa, "PS256"),
        (rsa, "PS384"),
        (rsa, "PS512"),
        (&p256, "ES256"),
        (&p384, "ES384"),
        (&p521, "ES512"),
        (&ed, "EdDSA"),
        (&ed, "Ed25519"),
        (&d44, "ML-DSA-44"),
        (&d65, "ML-DSA-65"),
    ] {
        let mut rules = rules();
        let alg = Alg::from_name(name).unwrap();
        let token = key.token(&format!(r#"{{"alg":"{name}","kid":"k1"}}"#), claims().to_string());
        let keys = || fixed(&[key.jwk_with(&json!({"kid": "k1", "alg": name}))]);
        rules.algorithms = vec![alg];
        assert!(issuers(vec![Issuer::new(rules.clone(), keys())]).verify(&token, now()).is_ok(), "{name}");
        rules.algorithms = Alg::DEFAULT.to_vec();
        let verdict = issuers(vec![Issuer::new(rules, keys())]).verify(&token, now());
        assert_eq!(verdict.is_ok(), Alg::DEFAULT.contains(&alg), "{name} without being named");
    }
}

#[test]
fn r_28_unknown_claims_and_confirmations() {
    let world = World::new();
    let verify = |change: Value| world.verify(&world.sign(&claims_with(&change)));
    let token = verify(json!({"unheard_of": {"x": [1]}, "act": {"sub": "z"}})).unwrap();
    assert_eq!(token.claims()["unheard_of"], json!({"x": [1]}));
    let hash = base64url_encode([9; 32]);
    let bound = verify(json!({"cnf": {"jkt": hash, "unknown": 1}})).unwrap();
    assert_eq!(bound.cnf().unwrap().jkt, Some([9; 32]));
    let both = verify(json!({"cnf": {"jkt": hash, "x5t#S256": hash}})).unwrap();
    assert_eq!(both.cnf().unwrap().x5t_s256, Some([9; 32]));
    assert!(verify(json!({})).unwrap().cnf().is_none());
    assert_eq!(verify(json!({"cnf": {"kid": "x"}})).unwrap_err().reason(), "unsupported_confirmation");
    assert_eq!(verify(json!({"cnf": {}})).unwrap_err().reason(), "unsupported_confirmation");
    assert_eq!(verify(json!({"cnf": {"jkt": format!("{hash}A")}})).unwrap_err().reason(), "bad_claim");
}
