use serde_json::json;

use super::*;
use crate::jws::sign;
use crate::signer::{Signer as _, SoftwareKey};

const NOW: i64 = 1_795_219_200;

struct World {
    root: SoftwareKey,
    key: SoftwareKey,
}

impl World {
    fn new() -> Self {
        Self { root: SoftwareKey::generate().unwrap(), key: SoftwareKey::generate().unwrap() }
    }

    fn delegation(&self, iat: i64) -> String {
        self.delegation_for(iat, iat, 90)
    }

    fn delegation_for(&self, iat: i64, nbf: i64, days: i64) -> String {
        let header = json!({"alg": "ES256", "typ": "gw-delegation+jws", "kid": self.root.public_jwk().thumbprint()});
        let jwk = self.key.public_jwk().to_json();
        let claims = json!({"jwk": jwk, "iat": iat, "nbf": nbf, "exp": iat + days * 86_400});
        sign(&self.root, &header, &claims).unwrap()
    }

    fn config(seq: u64) -> Value {
        let pin = STANDARD.encode([7; 32]);
        json!({"v": 1, "app": "chat", "seq": seq, "iat": NOW - 50, "exp": NOW + 86_400, "refresh_after": 3_600,
               "hosts": [{"host": "a.example", "enforce": true, "pins": [
                   {"spki_sha256": pin, "role": "current", "exp": NOW + 100}]}]})
    }

    fn signed(&self, config: &Value) -> String {
        let delegation = self.delegation(NOW - 100);
        sign(&self.key, &json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": delegation}), config).unwrap()
    }

    fn accept(&self, text: &str, last: Option<&AppConfig>) -> Result<AppConfig, ConfigError> {
        AppConfig::accept(text, &[self.root.public_jwk()], "chat", NOW, last)
    }
}

#[test]
fn a_configuration_under_a_root_key_is_accepted_and_judges_keys() {
    let world = World::new();
    let config = world.accept(&world.signed(&World::config(7)), None).unwrap();
    assert_eq!((config.seq, config.refresh_after, config.kill_pinning), (7, 3_600, false));
    assert_eq!(config.judge("A.example", &[7; 32], NOW), Verdict::Matches);
    assert_eq!(config.judge("a.example", &[7; 32], NOW + 100), Verdict::Refuse, "the pin's time is over");
    assert_eq!(config.judge("a.example", &[8; 32], NOW), Verdict::Refuse);
    assert_eq!(config.judge("b.example", &[8; 32], NOW), Verdict::NotPinned);
    let mut report = World::config(8);
    report["hosts"][0]["enforce"] = json!("report");
    let report = world.accept(&world.signed(&report), Some(&config)).unwrap();
    assert_eq!(report.judge("a.example", &[8; 32], NOW), Verdict::Report);
    let mut killed = World::config(9);
    killed["kill"] = json!({"pinning": true, "attest": false});
    let killed = world.accept(&world.signed(&killed), Some(&report)).unwrap();
    assert_eq!(killed.judge("a.example", &[8; 32], NOW), Verdict::NotPinned);
}

#[test]
fn an_older_one_an_expired_one_and_another_app_s_are_refused() {
    let world = World::new();
    let text = world.signed(&World::config(7));
    let last = world.accept(&text, None).unwrap();
    assert!(world.accept(&text, Some(&last)).is_ok());
    let other = json!({"v": 1, "app": "chat", "seq": 7, "iat": NOW - 50, "exp": NOW + 86_400, "refresh_after": 3_600, "hosts": []});
    assert_eq!(
        world.accept(&world.signed(&other), Some(&last)),
        Err(ConfigError::RolledBack),
        "another one of its number"
    );
    assert_eq!(world.accept(&world.signed(&World::config(6)), Some(&last)), Err(ConfigError::RolledBack));
    let with = |name: &str, value: Value| {
        let mut config = World::config(8);
        config[name] = value;
        world.accept(&world.signed(&config), Some(&last)).map(|_| ())
    };
    assert_eq!(with("exp", json!(NOW)), Err(ConfigError::Expired));
    assert_eq!(with("app", json!("other")), Err(ConfigError::App));
    assert_eq!(with("iat", json!(NOW - 101)), Err(ConfigError::DelegationTime));
    assert_eq!(with("exp", json!(NOW + 91 * 86_400)), Err(ConfigError::DelegationTime));
    for (name, value) in [
        ("v", json!(2)),
        ("seq", json!("8")),
        ("hosts", json!({})),
        ("hosts", json!([{"host": "a", "enforce": false, "pins": []}])),
        ("hosts", json!([{"host": "a", "enforce": true, "pins": [{"spki_sha256": "AAAA"}]}])),
        ("kill", json!({"pinning": "no"})),
    ] {
        assert_eq!(with(name, value), Err(ConfigError::Malformed), "{name}");
    }
}

#[test]
fn nobody_else_signs_one() {
    let (world, stranger) = (World::new(), World::new());
    assert_eq!(world.accept(&stranger.signed(&World::config(7)), None), Err(ConfigError::UnknownRoot));
    let genuine = world.delegation(NOW - 100);
    let header = json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": genuine});
    let forged = sign(&stranger.key, &header, &World::config(7)).unwrap();
    assert_eq!(world.accept(&forged, None), Err(ConfigError::Signature));
    let claims = json!({"jwk": stranger.key.public_jwk().to_json(), "iat": NOW, "nbf": 0, "exp": NOW * 2});
    let kid = world.root.public_jwk().thumbprint();
    let own = sign(&stranger.root, &json!({"alg": "ES256", "typ": "gw-delegation+jws", "kid": kid}), &claims);
    let header = json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": own.unwrap()});
    let forged = sign(&stranger.key, &header, &World::config(7)).unwrap();
    assert_eq!(world.accept(&forged, None), Err(ConfigError::DelegationSignature));
    for text in ["", "a.b.c", "e30.e30.AA", &"a".repeat(MAX_LEN + 1)] {
        assert!(world.accept(text, None).is_err());
    }
}

#[test]
fn a_delegation_is_not_taken_back() {
    let world = World::new();
    let last = world.accept(&world.signed(&World::config(7)), None).unwrap();
    let delegation = world.delegation(NOW - 200);
    let header = json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": delegation});
    let older = sign(&world.key, &header, &World::config(8)).unwrap();
    assert_eq!(world.accept(&older, Some(&last)), Err(ConfigError::DelegationTime));
}

#[test]
fn a_delegation_lasts_90_days_at_most() {
    let world = World::new();
    let accept = |nbf: i64, days: i64| {
        let delegation = world.delegation_for(NOW - 100, nbf, days);
        let header = json!({"alg": "ES256", "typ": "gw-config+jws", "delegation": delegation});
        world.accept(&sign(&world.key, &header, &World::config(7)).unwrap(), None).map(|_| ())
    };
    assert_eq!(accept(NOW - 400, 90), Ok(()));
    assert_eq!(accept(NOW - 100, 92), Err(ConfigError::DelegationTime));
    assert_eq!(accept(0, 90), Err(ConfigError::DelegationTime));
}
