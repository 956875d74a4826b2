//! Tokens made by npm `jsonwebtoken` with a shared secret, as countless Node services make them.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::keys::{TestKey, b64};

use crate::support::{self, Answer, Gateway, run, secret_file};

/// A secret as `openssl rand -base64 48` would print one.
fn random_secret() -> String {
    b64(&TestKey::generate("HS256").secret()[..48])
}

fn config(secret_file: &std::path::Path) -> String {
    format!(
        "{}\n[[issuer]]\nname = \"webapp\"\nhs256_secret = {{ file = {:?} }}\nclaims = {{ subject = \"id\" }}\n\n\
         [[policy]]\nname = \"users\"\nwho = {{ issuer = \"webapp\" }}\nmay = {{ models = [\"vouchgate/echo\"] }}\n",
        support::APP,
        secret_file.display().to_string()
    )
}

async fn start(secret: &str) -> Gateway {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let secret = secret_file(dir.path(), "jwt-secret", secret);
    Gateway::start_in(dir, &config(&secret)).await
}

/// What `jwt.sign` makes of each job; `None` (and a note) where npm `jsonwebtoken` is not installed.
async fn sign(test: &str, jobs: &[Value]) -> Option<Vec<String>> {
    let signed = support::client("jsonwebtoken_sign.mjs", test, &json!({"jobs": jobs})).await?;
    Some(signed["tokens"].as_array().unwrap().iter().map(|token| token.as_str().unwrap().to_owned()).collect())
}

fn job(claims: &Value, secret: &str) -> Value {
    json!({"claims": claims, "secret": secret, "options": {"expiresIn": "1h"}})
}

async fn ask(gateway: &Gateway, token: &str) -> Answer {
    let body = json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "Hello from Node"}]});
    gateway.post("/v1/chat/completions", token, &body).await
}

async fn refused(gateway: &Gateway, token: &str, why: &str) {
    let answer = ask(gateway, token).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"), "{why}: {}", answer.text());
    assert!(answer.header("www-authenticate").unwrap().contains("invalid_token"), "{why}");
}

#[tokio::test]
async fn a_token_of_jsonwebtoken_is_accepted_until_it_expires() {
    let test = "a_token_of_jsonwebtoken_is_accepted_until_it_expires";
    let secret = random_secret();
    let jobs = [job(&json!({"id": "alice"}), &secret), job(&json!({"id": 4711}), &secret)];
    let Some(tokens) = sign(test, &jobs).await else { return };
    let gateway = start(&secret).await;
    for token in &tokens {
        let answer = ask(&gateway, token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello from Node");
    }
    // The subject is what the application calls `id`.
    let store = gateway.server().operations().store();
    store.flush().await.unwrap();
    let records = store.records().list(&store::RecordFilter::default(), &store::Page::first(100)).await.unwrap();
    let subjects: Vec<_> = records.items.iter().map(|record| record.subject.as_deref().unwrap_or_default()).collect();
    assert_eq!(subjects, ["4711", "alice"]);
    // The last moments count, and a token that was good, and is remembered as such, ends all the same.
    gateway.clock.advance(Duration::from_mins(58));
    assert_eq!(ask(&gateway, &tokens[0]).await.status, 200);
    gateway.clock.advance(Duration::from_mins(4));
    for token in &tokens {
        refused(&gateway, token, "expired").await;
    }
    gateway.stop().await;
}

#[tokio::test]
async fn a_token_that_was_signed_again_stripped_or_changed_is_refused() {
    let test = "a_token_that_was_signed_again_stripped_or_changed_is_refused";
    let secret = random_secret();
    let forever = json!({"claims": {"id": "alice"}, "secret": secret, "options": {}});
    let nobody = job(&json!({"name": "alice"}), &secret);
    let hs512 =
        json!({"claims": {"id": "alice"}, "secret": secret, "options": {"expiresIn": "1h", "algorithm": "HS512"}});
    let unsigned =
        json!({"claims": {"id": "alice"}, "secret": "", "options": {"expiresIn": "1h", "algorithm": "none"}});
    let early =
        json!({"claims": {"id": "alice"}, "secret": secret, "options": {"expiresIn": "1h", "notBefore": "30m"}});
    let jobs = [
        job(&json!({"id": "alice"}), &secret),
        job(&json!({"id": "alice"}), &random_secret()),
        forever,
        nobody,
        hs512,
        unsigned,
        early,
    ];
    let Some(tokens) = sign(test, &jobs).await else { return };
    let gateway = start(&secret).await;
    assert_eq!(ask(&gateway, &tokens[0]).await.status, 200);
    let why = ["signed with another secret", "without exp", "without id", "HS512", "alg none", "not yet valid"];
    for (token, why) in tokens[1..].iter().zip(why) {
        refused(&gateway, token, why).await;
    }

    let parts: Vec<&str> = tokens[0].split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let none = b64(r#"{"alg":"none","typ":"JWT"}"#);
    let later = b64(format!("{{\"id\":\"alice\",\"iat\":1,\"exp\":{}}}", 4_000_000_000_u64));
    for (forged, why) in [
        (format!("{none}.{claims}."), "stripped"),
        (format!("{none}.{claims}.{signature}"), "called unsigned"),
        (format!("{header}.{claims}."), "without its signature"),
        (format!("{header}.{claims}"), "without its last part"),
        (format!("{header}.{later}.{signature}"), "given more time"),
    ] {
        refused(&gateway, &forged, why).await;
    }
    assert_eq!(ask(&gateway, &tokens[0]).await.status, 200, "the good token still works");
    gateway.stop().await;
}

#[test]
fn a_weak_secret_is_refused_before_anything_starts() {
    let weak = [
        "secret",
        "shhhhh",
        "keyboard cat",
        "your-256-bit-secret",
        "your-super-secret-jwt-token-with-at-least-32-characters-long",
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        "0123456789abcdef0123456789abcde",
    ];
    for secret in weak {
        let dir = tempfile::tempdir().unwrap();
        let file = secret_file(dir.path(), "jwt-secret", secret);
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\ndata_dir = \"data\"\n{}",
            config(&file)
        );
        std::fs::write(dir.path().join("vouchgate.toml"), text).unwrap();
        for command in ["check", "serve"] {
            let (status, out, err) = run(&[command, "--config", "vouchgate.toml"], dir.path(), b"");
            let said = format!("{out}{err}");
            assert_eq!(status, 1, "{command} with {secret:?}: {said}");
            assert!(said.contains("vouchgate.toml:") && said.contains("hs256_secret"), "{command}: {said}");
            assert!(secret == "secret" || !said.contains(secret), "{command} repeats it: {said}");
        }
        assert!(!dir.path().join("data/vouchgate.db").exists(), "nothing was started");
    }
}
