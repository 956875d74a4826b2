//! Revoked tokens, moment by moment: remembered verdicts, tokens of the same second, tokens that do not say when they were
//! made; and signing keys that come and go.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::dpop::random;
use testkit::raw;

use super::World;
use crate::support::{APP, Gateway};

impl World {
    /// Revoke as an operator does.
    async fn revoke(&self, what: Value) {
        let asked = serde_json::from_value(what).unwrap();
        self.gateway.server().operations().revoke(&asked, "test").await.unwrap();
    }

    fn token(&self, changes: &Value) -> String {
        let mut all = json!({"jti": random(), "exp": self.now() + 3000});
        for (name, value) in changes.as_object().unwrap() {
            all[name] = value.clone();
        }
        self.es.mint(&self.claims_with(&all))
    }

    async fn works(&self, what: &str, token: &str) {
        let answer = self.ask(token).await.unwrap();
        assert_eq!(answer.status, 200, "{what}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_39_what_was_issued_before_the_moment_and_nothing_else() {
    let world = World::start().await;
    world.gateway.clock.advance(Duration::from_secs(100));
    let at = |ago: i64, sub: &str| world.token(&json!({"iat": world.now() - ago, "sub": sub}));
    let (old, recent, now) = (at(60, "a"), at(30, "a"), at(0, "a"));
    let other = at(60, "b");
    let undated = world.token(&json!({"iat": null, "sub": "a"}));
    let undated_other = world.token(&json!({"iat": null, "sub": "b"}));
    for token in [&old, &recent, &now, &other, &undated, &undated_other] {
        world.works("at first", token).await;
    }
    let moment = (world.now() - 45).to_string();
    world.revoke(json!({"kind": "subject", "issuer": "corp", "value": "a", "before": moment})).await;
    world.refused("before the moment", &old).await;
    world.works("after the moment", &recent).await;
    world.refused("who knows when", &undated).await;
    world.works("somebody else", &other).await;
    world.works("somebody else, who knows when", &undated_other).await;
    // Up to now, which includes whatever else this second brings.
    world.revoke(json!({"kind": "subject", "issuer": "corp", "value": "a"})).await;
    world.refused("of this second", &now).await;
    world.refused("of this second, made afterwards", &at(0, "a")).await;
    world.gateway.clock.advance(Duration::from_secs(2));
    world.works("of the second after", &at(0, "a")).await;
    world.refused("but none of before", &recent).await;
    // The same subject at another issuer is somebody else.
    let elsewhere =
        world.twin.mint(&world.claims_with(&json!({"iss": world.other.issuer(), "sub": "a", "iat": world.now() - 50})));
    world.works("the subject's namesake", &elsewhere).await;
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_39_a_revoked_token_in_every_spelling() {
    let world = World::start().await;
    let token = world.token(&json!({"jti": "the-one"}));
    world.works("at first", &token).await;
    world.revoke(json!({"kind": "token", "issuer": "corp", "value": "the-one"})).await;
    world.refused("the token", &token).await;
    world.refused("signed again", world.token(&json!({"jti": "the-one"}))).await;
    for jti in ["the-One", "the-one ", "the-on"] {
        world.works(jti, &world.token(&json!({"jti": jti}))).await;
    }
    // By an issuer's key, once for all.
    let ed = world.ed.mint(&world.claims());
    world.works("by its other key", &ed).await;
    world.revoke(json!({"kind": "key", "issuer": "corp", "value": world.ed.kid})).await;
    world.refused("by that key", &ed).await;
    world.gateway.clock.advance(Duration::from_secs(100));
    world.refused("by that key, later", world.ed.mint(&world.claims())).await;
    world.fine("afterwards").await;
}

#[tokio::test]
async fn keys_are_published_before_they_sign_and_until_nothing_of_them_is_valid() {
    let gateway = Gateway::start(APP).await;
    let operations = gateway.server().operations();
    let published = async || {
        let keys = raw::request(gateway.public, "GET", "/.well-known/jwks.json", &[], b"").await.json();
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let signer = async || testkit::keys::header(&gateway.token("app").await)["kid"].as_str().unwrap().to_owned();
    let first = signer().await;
    assert_eq!(published().await, std::slice::from_ref(&first));
    // Half of what a token lives: there is always one of the step before.
    let step = Duration::from_mins(30);
    let mut seen = vec![first.clone()];
    let mut published_at = std::collections::HashMap::new();
    let mut last_of_first = String::new();
    for passed in 0..32 * 48 {
        gateway.clock.advance(step);
        operations.keys_maintain().await.unwrap();
        gateway.settled().await;
        let keys = published().await;
        for kid in &keys {
            published_at.entry(kid.clone()).or_insert(passed);
        }
        let token = gateway.token("app").await;
        let kid = testkit::keys::header(&token)["kid"].as_str().unwrap().to_owned();
        assert!(keys.contains(&kid), "whoever signs is published");
        if kid == first {
            last_of_first = token;
        } else if !seen.contains(&kid) {
            assert!(
                passed - published_at[&kid] >= 47,
                "published a day before it signs: {}",
                passed - published_at[&kid]
            );
            // What the one before signed a moment ago is as good as ever.
            let answer = gateway.get("/v1/models", &last_of_first).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(keys.contains(&first));
            seen.push(kid);
        }
    }
    assert_eq!(seen.len(), 2, "a new key after a month");
    assert!(!published().await.contains(&first), "the old one is gone when nothing it signed is valid");
    gateway.stop().await;
}
