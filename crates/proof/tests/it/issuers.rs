//! Several issuers side by side, shared secrets, and the presets.

use std::sync::Arc;

use base::Secret;
use proof::jose::{Alg, KeySet, SigningAlg, SigningKey};
use proof::token::{
    CacheLimits, ClaimPath, Issuer, IssuerRules, Issuers, Preset, RulesError, StaticKeys, TokenError, VerifiedToken,
};
use serde_json::{Value, json};

use crate::support::{AUD, ISS, NOW, TestKey, World, claims, claims_with, fixed, issuers, name, now, rules};

const OTHER: &str = "https://other.example.com/";

/// Two issuers whose keys have the same kid.
fn two() -> (TestKey, TestKey, Issuers) {
    let (a, b) = (TestKey::p256(), TestKey::p256());
    let keys = |key: &TestKey| fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let other = IssuerRules::new(name("other"), OTHER, vec![AUD.into()]);
    let both = issuers(vec![Issuer::new(rules(), keys(&a)), Issuer::new(other, keys(&b))]);
    (a, b, both)
}

const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

#[test]
fn a_20_issuer_mix_up() {
    let (a, b, both) = two();
    let from = |key: &TestKey, iss: &str| key.token(HEADER, claims_with(&json!({"iss": iss})).to_string());
    assert_eq!(both.verify(&from(&a, ISS), now()).unwrap().issuer().as_str(), "corp");
    assert_eq!(both.verify(&from(&b, OTHER), now()).unwrap().issuer().as_str(), "other");
    assert_eq!(both.verify(&from(&b, ISS), now()).unwrap_err(), TokenError::BadSignature);
    assert_eq!(both.verify(&from(&a, OTHER), now()).unwrap_err(), TokenError::BadSignature);
    for iss in [
        "https://id.example.com",
        "https://id.example.com//",
        "https://id.example.com.evil/",
        "HTTPS://id.example.com/",
        "https://id.example.com:443/",
        "https://id.example.com/#",
        "https://\u{131}d.example.com/",
        " https://id.example.com/",
        "http://id.example.com/",
        "https://login.microsoftonline.com/{tenantid}/v2.0",
    ] {
        assert_eq!(both.verify(&from(&a, iss), now()).unwrap_err(), TokenError::UnknownIssuer, "{iss}");
    }
    let without = a.token(HEADER, claims_with(&json!({"iss": null})).to_string());
    assert_eq!(both.verify(&without, now()).unwrap_err(), TokenError::UnknownIssuer);
}

#[test]
fn a_21_the_same_subject_of_two_issuers() {
    let (a, b, both) = two();
    let one = both.verify(&a.token(HEADER, claims().to_string()), now()).unwrap();
    let two = both.verify(&b.token(HEADER, claims_with(&json!({"iss": OTHER})).to_string()), now()).unwrap();
    assert_eq!(one.subject(), two.subject());
    assert_ne!((one.issuer(), one.subject()), (two.issuer(), two.subject()));
}

#[test]
fn a_22_other_kinds_of_token() {
    let world = World::new();
    let plain = |claims: Value| world.sign_with(HEADER, claims.to_string());
    // An ID token, even one whose audience is ours.
    world.refuses_all([
        plain(claims_with(&json!({"at_hash": "x"}))),
        plain(claims_with(&json!({"c_hash": "x"}))),
        plain(claims_with(&json!({"nonce": "n"}))),
        // A logout token and a security event (RFC 8417), with and without the exp they should not have.
        plain(claims_with(&json!({"events": {"http://schemas.openid.net/event/backchannel-logout": {}}}))),
        plain(claims_with(&json!({"events": {}, "exp": null, "sub": null, "sub_id": {}}))),
        // A DPoP proof.
        plain(json!({"htm": "POST", "htu": "https://ai.example.com/", "iat": NOW, "jti": "x"})),
        plain(claims_with(&json!({"htm": "POST", "htu": AUD}))),
        // A client assertion (RFC 7523).
        plain(json!({"iss": "app", "sub": "app", "aud": AUD, "exp": NOW + 60, "jti": "x"})),
    ]);
    for typ in ["dpop+jwt", "logout+jwt", "secevent+jwt", "rt+jwt"] {
        let header = json!({"alg": "ES256", "kid": "k1", "typ": typ}).to_string();
        world.refuses_all([world.sign_with(&header, claims().to_string())]);
    }
}

#[test]
fn a_45_our_list_of_algorithms_wins() {
    // The issuer publishes a key for an algorithm we do not list.
    let (ec, rsa) = (TestKey::p384(), TestKey::rsa());
    let mut only = rules();
    only.algorithms = vec![Alg::Rs256];
    let keys = fixed(&[
        ec.jwk_with(&json!({"kid": "ec", "alg": "ES384"})),
        rsa.jwk_with(&json!({"kid": "rsa", "alg": "RS512"})),
        rsa.jwk_with(&json!({"kid": "right"})),
    ]);
    let world = issuers(vec![Issuer::new(only, keys)]);
    let verdict = |key: &TestKey, alg: &str, kid: &str| {
        let token = key.token(&format!(r#"{{"alg":"{alg}","kid":"{kid}"}}"#), claims().to_string());
        world.verify(&token, now()).map_or_else(|error| error.reason(), |_| "ok")
    };
    assert_eq!(verdict(&ec, "ES384", "ec"), "alg_not_allowed");
    assert_eq!(verdict(rsa, "RS512", "rsa"), "alg_not_allowed");
    assert_eq!(verdict(rsa, "RS256", "rsa"), "alg_key_mismatch");
    assert_eq!(verdict(rsa, "RS256", "right"), "ok");
}

#[test]
fn rules_that_would_accept_too_much_are_refused() {
    let source = || fixed(&[TestKey::p256().jwk()]);
    let make = |list: Vec<IssuerRules>| {
        let list = list.into_iter().map(|rules| Issuer::new(rules, source())).collect();
        Issuers::new(list, CacheLimits::default(), 1).map(|_| ()).map_err(|error| error.reason())
    };
    let change = |change: fn(&mut IssuerRules)| {
        let mut rules = rules();
        change(&mut rules);
        vec![rules]
    };
    assert_eq!(make(vec![rules()]), Ok(()));
    assert_eq!(make(change(|rules| rules.issuer = None)), Err("no_issuer"));
    assert_eq!(make(change(|rules| rules.issuer = Some(String::new()))), Err("no_issuer"));
    assert_eq!(make(change(|rules| rules.audience.clear())), Err("no_audience"));
    assert_eq!(make(change(|rules| rules.algorithms.clear())), Err("no_algorithm"));
    assert_eq!(make(change(|rules| rules.algorithms.push(Alg::Hs256))), Err("mixed_algorithms"));
    assert_eq!(make(change(|rules| rules.algorithms = vec![Alg::Hs256])), Err("mixed_algorithms"));
    assert_eq!(make(change(|rules| rules.leeway = std::time::Duration::from_secs(61))), Err("leeway_too_long"));
    assert_eq!(make(vec![rules(), rules()]), Err("same_name"));
    let mut again = rules();
    again.name = name("again");
    assert_eq!(make(vec![rules(), again]), Err("same_issuer"));
    let shared = |text: &str| IssuerRules::shared_secret(name(text));
    assert_eq!(make(vec![shared("a"), rules()]), Ok(()));
    assert_eq!(make(vec![shared("a"), shared("b")]), Err("two_without_issuer"));
    let mut asymmetric = shared("a");
    asymmetric.algorithms.push(Alg::Es256);
    assert_eq!(make(vec![asymmetric]), Err("mixed_algorithms"));
    assert!(matches!(RulesError::NoIssuer(name("x")).to_string(), text if text.contains("issuer x")));
}

const SECRET: &[u8] = b"tVm3x9QzKf7RwYb2NhJc8LpDs5GaEu4X";

fn shared(change: impl FnOnce(&mut IssuerRules)) -> Issuers {
    let mut rules = IssuerRules::shared_secret(name("node"));
    change(&mut rules);
    let keys = KeySet::from_secret(&Secret::new(SECRET.to_vec()), &rules.algorithms).unwrap();
    issuers(vec![Issuer::new(rules, Arc::new(StaticKeys::new(keys)))])
}

#[test]
fn while_a_shared_secret_is_replaced_tokens_made_with_either_are_accepted_and_no_others() {
    let rules = IssuerRules::shared_secret(name("node"));
    let (old, new) = (Secret::new(SECRET.to_vec()), Secret::new(b"q8Lw2Zr6Tn0Vx4Bd9Hs3Kf7Mj1Pc5Gy".to_vec()));
    let new = Secret::new([new.expose().as_slice(), b"A"].concat());
    let algorithms = rules.algorithms.clone();
    let with = |keys: KeySet| {
        let mut rules = IssuerRules::shared_secret(name("node"));
        rules.claims.subject = ClaimPath::new("id");
        issuers(vec![Issuer::new(rules, Arc::new(StaticKeys::new(keys)))])
    };
    let both = KeySet::from_secrets(&old, [&new], &algorithms).unwrap();
    let alone = KeySet::from_secret(&new, &algorithms).unwrap();
    let thumbprint = *both.keys()[0].thumbprint();
    assert!(!alone.holds(&thumbprint, None), "what one that is gone verified is verified anew");
    let (both, alone) = (with(both), with(alone));
    let payload = json!({"id": "u1", "iat": NOW, "exp": NOW + 3600}).to_string();
    let made = |secret: &[u8]| TestKey::oct(secret).token(r#"{"alg":"HS256","typ":"JWT"}"#, payload.clone());
    let verdict =
        |world: &Issuers, token: &str| world.verify(token, now()).map_or_else(|error| error.reason(), |_| "ok");
    for secret in [&old, &new] {
        assert_eq!(verdict(&both, &made(secret.expose())), "ok");
    }
    assert_eq!(verdict(&both, &made(b"another-secret-of-more-than-32-bytes")), "bad_signature");
    assert_eq!(verdict(&alone, &made(old.expose())), "bad_signature");
    assert_eq!(verdict(&alone, &made(new.expose())), "ok");
    let weak = Secret::new(b"secret".to_vec());
    assert!(KeySet::from_secrets(&old, [&weak], &algorithms).is_err(), "the next one has to be as good");
}

#[test]
fn a_token_of_node_jsonwebtoken_is_accepted_and_its_forgeries_are_not() {
    let node = shared(|rules| rules.claims.subject = ClaimPath::new("id"));
    let key = TestKey::oct(SECRET);
    let header = r#"{"alg":"HS256","typ":"JWT"}"#;
    let payload = json!({"id": "u1", "iat": NOW, "exp": NOW + 3600});
    let good = key.token(header, payload.to_string());
    let token = node.verify(&good, now()).unwrap();
    assert_eq!((token.issuer().as_str(), token.subject(), token.iss()), ("node", "u1", ""));
    let verdict = |key: &TestKey, header: &str, payload: Value| {
        node.verify(&key.token(header, payload.to_string()), now()).map_or_else(|error| error.reason(), |_| "ok")
    };
    assert_eq!(verdict(&key, header, json!({"id": 17, "exp": NOW + 1})), "ok", "a number is a subject here");
    assert_eq!(verdict(&key, r#"{"alg":"HS256","kid":"any"}"#, payload.clone()), "ok", "there is only one key");
    assert_eq!(verdict(&key, header, json!({"id": "u1", "iat": NOW})), "missing_claim", "exp stays required");
    assert_eq!(verdict(&key, header, json!({"id": "u1", "exp": NOW})), "expired");
    assert_eq!(verdict(&key, header, json!({"exp": NOW + 1})), "missing_claim");
    assert_eq!(verdict(&key, header, json!({"id": 1.5, "exp": NOW + 1})), "bad_claim");
    assert_eq!(verdict(&key, header, json!({"id": {"a": 1}, "exp": NOW + 1})), "bad_claim");
    assert_eq!(verdict(&key, r#"{"alg":"HS512"}"#, payload.clone()), "alg_not_allowed");
    assert_eq!(verdict(&TestKey::oct(b"another secret of 32 characters!"), header, payload.clone()), "bad_signature");
    assert_eq!(verdict(&TestKey::oct(b""), header, payload.clone()), "bad_signature");
    // A token that names an issuer or an audience is not for an issuer that has none.
    assert_eq!(verdict(&key, header, json!({"id": "u1", "exp": NOW + 1, "iss": "x"})), "unknown_issuer");
    assert_eq!(verdict(&key, header, json!({"id": "u1", "exp": NOW + 1, "aud": "x"})), "wrong_audience");
    let cut = good.rsplit_once('.').unwrap().0;
    assert_eq!(node.verify(&format!("{cut}."), now()).unwrap_err().reason(), "unsigned");
}

#[test]
fn a_shared_secret_issuer_with_issuer_and_audience_requires_them() {
    let node = shared(|rules| {
        rules.issuer = Some("backend".into());
        rules.audience = vec!["gateway".into()];
    });
    let key = TestKey::oct(SECRET);
    let verdict = |payload: Value| {
        let token = key.token(r#"{"alg":"HS256"}"#, payload.to_string());
        node.verify(&token, now()).map_or_else(|error| error.reason(), |_| "ok")
    };
    assert_eq!(verdict(json!({"iss": "backend", "aud": "gateway", "sub": "u", "exp": NOW + 9})), "ok");
    assert_eq!(verdict(json!({"aud": "gateway", "sub": "u", "exp": NOW + 9})), "unknown_issuer");
    assert_eq!(verdict(json!({"iss": "backend", "sub": "u", "exp": NOW + 9})), "missing_claim");
    assert_eq!(verdict(json!({"iss": "backend", "aud": "gateway", "sub": 7, "exp": NOW + 9})), "ok");
}

#[test]
fn our_own_tokens_verify_under_our_own_rules() {
    let key = SigningKey::generate(SigningAlg::Es256).unwrap();
    let keys = KeySet::of([Arc::new(key.verifying_key().unwrap())]);
    let own = IssuerRules::own(name("vouchgate"), "https://ai.example.com", vec![AUD.into()]);
    let world = issuers(vec![Issuer::new(own, Arc::new(StaticKeys::new(keys)))]);
    let claims = claims_with(&json!({"iss": "https://ai.example.com"}));
    assert!(world.verify(&key.sign("at+jwt", &claims).unwrap(), now()).is_ok());
    assert_eq!(world.verify(&key.sign("JWT", &claims).unwrap(), now()).unwrap_err(), TokenError::WrongType);
}

/// A token as the provider makes it, under its preset.
fn preset(
    preset: Preset,
    iss: &str,
    aud: &[&str],
    header: &str,
    payload: &Value,
) -> Result<Arc<VerifiedToken>, TokenError> {
    let key = TestKey::rsa();
    let audience = aud.iter().map(|&aud| aud.to_owned()).collect();
    let rules = IssuerRules::new(name("idp"), iss, audience).with_preset(preset);
    let keys = fixed(&[key.jwk_with(&json!({"kid": "k1", "use": "sig"}))]);
    issuers(vec![Issuer::new(rules, keys)]).verify(&key.token(header, payload.to_string()), now())
}

const RS256: &str = r#"{"alg":"RS256","kid":"k1"}"#;
const RS256_JWT: &str = r#"{"alg":"RS256","kid":"k1","typ":"JWT"}"#;

#[test]
fn auth0_in_both_token_profiles() {
    let iss = "https://tenant.auth0.example/";
    let claims = json!({"iss": iss, "sub": "auth0|1", "aud": [AUD, format!("{iss}userinfo")], "azp": "app", "iat": NOW,
        "exp": NOW + 9, "scope": "openid chat", "permissions": ["read:models"], "gty": "password"});
    let token = preset(Preset::Auth0, iss, &[AUD], RS256_JWT, &claims).unwrap();
    assert_eq!(token.scopes(), ["openid", "chat", "read:models"]);
    assert_eq!(token.client_id(), Some("app"));
    let rfc = json!({"iss": iss, "sub": "app@clients", "aud": AUD, "client_id": "app", "iat": NOW, "exp": NOW + 9, "jti": "j"});
    let token = preset(Preset::Auth0, iss, &[AUD], r#"{"alg":"RS256","kid":"k1","typ":"at+jwt"}"#, &rfc).unwrap();
    assert_eq!((token.subject(), token.client_id()), ("app@clients", Some("app")));
}

#[test]
fn okta_with_scopes_in_an_array() {
    let iss = "https://org.okta.example/oauth2/default";
    let claims = json!({"ver": 1, "jti": "AT.x", "iss": iss, "aud": "api://default", "sub": "me@example.com", "iat": NOW,
        "exp": NOW + 9, "cid": "app", "uid": "00u1", "scp": ["openid", "chat"], "groups": ["Everyone", "ai users"]});
    let token = preset(Preset::Okta, iss, &["api://default"], RS256, &claims).unwrap();
    assert_eq!(token.scopes(), ["openid", "chat"]);
    assert_eq!(token.groups(), ["Everyone", "ai users"]);
    assert_eq!(token.client_id(), Some("app"));
}

#[test]
fn entra_with_its_tenant() {
    let iss = "https://login.microsoftonline.com/11111111-2222-3333-4444-555555555555/v2.0";
    let user = json!({"iss": iss, "aud": "api-app-id", "sub": "s", "oid": "o", "tid": "11111111-2222-3333-4444-555555555555",
        "azp": "app", "scp": "Chat.Use Models.Read", "roles": ["Writer"], "groups": ["g1"], "ver": "2.0", "iat": NOW, "nbf": NOW,
        "exp": NOW + 9, "uti": "x"});
    let header = r#"{"alg":"RS256","kid":"k1","typ":"JWT","x5t":"k1"}"#;
    let token = preset(Preset::Entra, iss, &["api-app-id"], header, &user).unwrap();
    assert_eq!(token.scopes(), ["Chat.Use", "Models.Read"]);
    assert_eq!(token.groups(), ["g1", "Writer"]);
    assert_eq!(token.client_id(), Some("app"));
    let mut stranger = user.clone();
    stranger["tid"] = json!("99999999-2222-3333-4444-555555555555");
    assert_eq!(preset(Preset::Entra, iss, &["api-app-id"], header, &stranger).unwrap_err().reason(), "bad_claim");
    let mut none = user;
    none.as_object_mut().unwrap().remove("tid");
    assert_eq!(preset(Preset::Entra, iss, &["api-app-id"], header, &none).unwrap_err().reason(), "missing_claim");
}

#[test]
fn keycloak_tells_kinds_apart_by_the_typ_claim() {
    let iss = "https://sso.example.com/realms/main";
    let claims = |typ: &str| {
        json!({"iss": iss, "aud": ["gateway", "account"], "sub": "s", "typ": typ, "azp": "app", "exp": NOW + 9, "iat": NOW,
            "nonce": "n", "scope": "profile chat", "realm_access": {"roles": ["ai"]}, "resource_access": {"account": {"roles": []}}})
    };
    let token = preset(Preset::Keycloak, iss, &["gateway"], RS256_JWT, &claims("Bearer")).unwrap();
    assert_eq!((token.groups(), token.client_id()), (&["ai".to_owned()][..], Some("app")));
    for typ in ["ID", "Refresh", "Logout", "Offline"] {
        assert!(preset(Preset::Keycloak, iss, &["gateway"], RS256_JWT, &claims(typ)).is_err(), "{typ}");
    }
}

#[test]
fn firebase_and_google_id_tokens_count() {
    let iss = "https://securetoken.google.com/my-project";
    let claims = json!({"iss": iss, "aud": "my-project", "sub": "uid", "user_id": "uid", "auth_time": NOW, "iat": NOW,
        "exp": NOW + 9, "firebase": {"sign_in_provider": "password"}});
    assert_eq!(preset(Preset::Firebase, iss, &["my-project"], RS256_JWT, &claims).unwrap().subject(), "uid");
    assert!(preset(Preset::Firebase, iss, &["other-project"], RS256_JWT, &claims).is_err());
    let iss = "https://accounts.google.com";
    let claims = json!({"iss": iss, "aud": "app.apps.example", "azp": "app.apps.example", "sub": "1", "at_hash": "x", "nonce": "n",
        "email": "a@example.com", "iat": NOW, "exp": NOW + 9});
    let token = preset(Preset::Google, iss, &["app.apps.example"], RS256_JWT, &claims).unwrap();
    assert_eq!(token.client_id(), Some("app.apps.example"));
}

#[test]
fn cognito_access_tokens_have_a_client_instead_of_an_audience() {
    let iss = "https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_x";
    let claims = |usage: &str| {
        json!({"iss": iss, "sub": "s", "client_id": "app", "token_use": usage, "scope": "chat", "cognito:groups": ["admins"],
            "version": 2, "jti": "j", "origin_jti": "o", "username": "u", "auth_time": NOW, "iat": NOW, "exp": NOW + 9})
    };
    let token = preset(Preset::Cognito, iss, &["app"], RS256, &claims("access")).unwrap();
    assert_eq!((token.groups(), token.client_id()), (&["admins".to_owned()][..], Some("app")));
    assert_eq!(
        preset(Preset::Cognito, iss, &["other"], RS256, &claims("access")).unwrap_err().reason(),
        "wrong_audience"
    );
    assert_eq!(preset(Preset::Cognito, iss, &["app"], RS256, &claims("id")).unwrap_err().reason(), "bad_claim");
    assert_eq!(Preset::from_name("cognito"), Some(Preset::Cognito));
    assert!(Preset::ALL.iter().all(|preset| Preset::from_name(preset.name()) == Some(*preset)));
}

#[test]
fn a_preset_narrows_the_default_algorithms_but_not_the_operator_s() {
    let plain = || IssuerRules::new(name("idp"), ISS, vec![AUD.into()]);
    assert_eq!(plain().with_preset(Preset::Okta).algorithms, [Alg::Rs256]);
    assert_eq!(plain().with_preset(Preset::Keycloak).algorithms, Alg::DEFAULT);
    let chosen = IssuerRules { algorithms: vec![Alg::Es256], ..plain() };
    assert_eq!(chosen.with_preset(Preset::Okta).algorithms, [Alg::Es256]);
}

#[test]
fn a_claim_path_prefers_the_exact_name() {
    let claims = json!({"https://example.com/roles": [1], "a.b": 1, "a": {"b": 2, "c": {"d": 3}}});
    let claims = claims.as_object().unwrap();
    assert_eq!(ClaimPath::new("https://example.com/roles").find(claims), Some(&json!([1])));
    assert_eq!(ClaimPath::new("a.b").find(claims), Some(&json!(1)));
    assert_eq!(ClaimPath::new("a.c.d").find(claims), Some(&json!(3)));
    assert_eq!(ClaimPath::new("a.c.x").find(claims), None);
    assert_eq!(ClaimPath::new("a.b.c").find(claims), None);
}
