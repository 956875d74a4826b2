//! Whatever arrives: an answer, never a panic, and no token but the one that was signed.

use std::sync::OnceLock;

use proof::inspect::{OperatorKeys, Options, jwt};
use proof::jose::{KeySet, base64url_encode};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::support::{NOW, World, claims, now};

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(World::new)
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (NOW - 100..NOW + 100).prop_map(Value::from),
        "[a-zA-Z0-9_=+/.-]{0,50}".prop_map(Value::from),
        ".{0,10}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map("[a-z]{1,4}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

const CLAIMS: [&str; 15] = [
    "iss",
    "aud",
    "sub",
    "exp",
    "nbf",
    "iat",
    "jti",
    "client_id",
    "azp",
    "scope",
    "groups",
    "cnf",
    "nonce",
    "events",
    "at_hash",
];
const MEMBERS: [&str; 12] = ["kty", "crv", "x", "y", "n", "e", "k", "d", "alg", "use", "key_ops", "kid"];

fn key_member() -> impl Strategy<Value = Value> {
    let known = [
        "RSA",
        "EC",
        "OKP",
        "oct",
        "AKP",
        "P-256",
        "P-384",
        "P-521",
        "Ed25519",
        "RS256",
        "ES256",
        "ML-DSA-44",
        "sig",
        "AQAB",
    ];
    prop_oneof![
        proptest::sample::select(known.to_vec()).prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..70).prop_map(|bytes| Value::from(base64url_encode(bytes))),
        any_value(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_changed_character_ruins_a_token(at in any::<proptest::sample::Index>(), to in any::<char>()) {
        let good = world().good();
        let at = at.index(good.len());
        let changed: String = good.chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
        prop_assume!(changed != good);
        prop_assert!(world().verify(&changed).is_err(), "{}", changed);
    }

    #[test]
    fn any_text_is_refused(text in ".{0,300}", parts in proptest::collection::vec("[A-Za-z0-9_-]{0,60}", 0..6)) {
        prop_assert!(world().verify(&text).is_err());
        prop_assert!(world().verify(&parts.join(".")).is_err());
    }

    #[test]
    fn any_header_gets_an_answer(name in "[a-z0-9#]{1,8}", value in any_value(), alg in any_value()) {
        let header = json!({"alg": alg, name: value}).to_string();
        let _ = world().verify(&world().sign_with(&header, claims().to_string()));
    }

    #[test]
    fn a_token_is_accepted_only_with_a_subject_and_in_its_time(claim in proptest::sample::select(CLAIMS.as_slice()), value in any_value()) {
        let mut claims = claims();
        claims[claim] = value;
        if let Ok(token) = world().verify(&world().sign(&claims)) {
            prop_assert!(!token.subject().is_empty());
            prop_assert!(token.expires_at() > now());
            prop_assert!(token.not_before().is_none_or(|nbf| nbf <= now()));
            prop_assert_eq!(&claims["iss"], crate::support::ISS);
        }
    }

    #[test]
    fn any_key_set_is_read_or_refused(keys in proptest::collection::vec(proptest::collection::btree_map(
        proptest::sample::select(MEMBERS.as_slice()), key_member(), 0..9), 0..4)) {
        let keys: Vec<Value> = keys.into_iter().map(|members| {
            Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
        }).collect();
        let text = json!({"keys": keys}).to_string();
        if let Ok(set) = KeySet::from_published(text.as_bytes()) {
            prop_assert_eq!(set.keys().len() + set.rejected().len(), keys.len());
            prop_assert!(set.keys().iter().all(|key| key.key_type() != proof::jose::KeyType::Symmetric));
        }
        let _ = KeySet::from_operator(text.as_bytes());
    }

    #[test]
    fn any_bytes_get_a_verdict(bytes in proptest::collection::vec(any::<u8>(), 0..200), file in proptest::collection::vec(any::<u8>(), 0..200)) {
        let keys = OperatorKeys::from_file(world().key.jwk().to_string().as_bytes()).unwrap();
        prop_assert!(!jwt(&bytes, &keys, &Options::default()).valid);
        let raw = Options { raw: true, ..Options::default() };
        prop_assert!(!jwt(&bytes, &keys, &raw).valid);
        let _ = OperatorKeys::from_file(&file);
        let _ = OperatorKeys::from_secret_file(&file, &[]);
    }
}
