//! OAuth clients as others wrote them, through every flow of the token service of the real program: `oauth4webapi` and
//! `openid-client` with DPoP, `authlib` without.

use std::path::Path;
use std::sync::Arc;

use base::{Clock, SystemClock};
use serde_json::{Value, json};
use testkit::keys::{TestKey, key_set};
use testkit::op::{CLIENT, Op, SUBJECT};

use crate::support::{self, Program, secret_file, write_config};

const AUD: &str = "https://ai.example.com";
const REDIRECT: &str = "http://127.0.0.1/callback";

/// The real program, somebody's OpenID provider, and the key of a client that may everything.
struct World {
    program: Program,
    op: Op,
    op_key: Arc<TestKey>,
    client_key: TestKey,
    _dir: tempfile::TempDir,
}

fn configuration(dir: &Path, op: &Op, client_key: &TestKey, require: &str) -> String {
    let jwks = dir.join("client.jwks");
    std::fs::write(&jwks, key_set(&[client_key]).to_string()).unwrap();
    let secret = secret_file(dir, "op.secret", CLIENT.1);
    format!(
        "[[issuer]]\nname = \"corp\"\nissuer = \"{}\"\naudience = [\"{AUD}\"]\ndiscovery = true\nallow_private = true\n\n\
         [signin]\nissuer = \"corp\"\nclient_id = \"{}\"\nclient_secret = {{ file = {:?} }}\n\n\
         [[client]]\nname = \"agent\"\nauth = {{ method = \"private_key_jwt\", jwks_file = {:?} }}\n\
         grants = [\"client_credentials\", \"authorization_code\", \"refresh_token\", \"token_exchange\", \"device_code\"]\n\
         redirect_uris = [\"{REDIRECT}\"]\nscopes = [\"openid\", \"chat\"]\nexchange = [\"corp\"]\n{require}\n\n\
         [[policy]]\nname = \"agent\"\nwho = {{ issuer = \"vouchgate\", client = \"agent\", scope = [\"chat\"] }}\n\
         may = {{ models = [\"vouchgate/echo\"] }}\n",
        op.issuer(),
        CLIENT.0,
        secret.display().to_string(),
        jwks.display().to_string(),
    )
}

impl World {
    async fn start(require: &str) -> Self {
        let op_key = Arc::new(TestKey::generate("RS256"));
        let op = Op::with_key(Arc::clone(&op_key)).await;
        let client_key = TestKey::generate("ES256");
        let dir = tempfile::tempdir().unwrap();
        write_config(dir.path(), "", &configuration(dir.path(), &op, &client_key, require));
        let program = Program::serve(dir.path(), &[]).await;
        Self { program, op, op_key, client_key, _dir: dir }
    }

    /// Run a client's script through every flow; `None` (and a note) where the client is not installed.
    async fn run(&self, script: &str, test: &str, more: &Value) -> Option<Value> {
        let now = SystemClock.now().as_secs();
        let subject_token = self.op_key.mint(&json!({"iss": self.op.issuer(), "sub": SUBJECT, "aud": AUD, "iat": now,
            "exp": now + 300, "jti": testkit::dpop::random(), "client_id": "portal", "scope": "chat"}));
        let mut job = json!({"url": format!("http://{}", self.program.public), "client": "agent", "key": self.client_key.private_pem(),
            "redirect_uri": REDIRECT, "subject_token": subject_token});
        for (name, value) in more.as_object().unwrap() {
            job[name] = value.clone();
        }
        support::client(script, test, &job).await
    }

    /// What a script tells of every flow is what has to come of it.
    fn check(told: &Value, token_type: &str) {
        for flow in ["client_credentials", "code", "refresh", "exchange"] {
            assert_eq!(told[flow]["text"], "Hello", "{flow}: {told:#}");
        }
        for flow in ["client_credentials", "code", "exchange"] {
            let kind = told[flow]["type"].as_str().unwrap_or_default();
            assert!(kind.eq_ignore_ascii_case(token_type), "{flow}: {told:#}");
        }
        let introspected = &told["introspection"];
        assert_eq!((&introspected["active"], &introspected["client_id"]), (&json!(true), &json!("agent")), "{told:#}");
        assert!(introspected["token_type"].as_str().unwrap().eq_ignore_ascii_case(token_type), "{told:#}");
        assert_eq!(told["revocation"]["after"], json!({"active": false}), "{told:#}");
        assert_eq!(told["refresh"]["rotated"], true, "{told:#}");
        assert_eq!(told["refresh"]["revoked"], "invalid_grant", "{told:#}");
        assert_eq!(told["exchange"]["issued"], "urn:ietf:params:oauth:token-type:access_token", "{told:#}");
    }
}

#[tokio::test]
async fn oauth4webapi_completes_every_flow_with_dpop() {
    let world = World::start("require = [\"dpop\"]").await;
    let test = "oauth4webapi_completes_every_flow_with_dpop";
    let Some(told) = world.run("oauth4webapi.mjs", test, &json!({})).await else { return };
    World::check(&told, "DPoP");
    assert_eq!(told["oidc"], true, "{told:#}");
    // We are the first of those whose tokens are taken here; the company's provider is another.
    assert_eq!(told["resource"]["servers"][0], format!("http://{}", world.program.public), "{told:#}");
    assert!(told["resource"]["algs"].as_array().unwrap().contains(&json!("ES256")), "{told:#}");
    assert!(told["client_credentials"]["challenges"].as_u64() > Some(0), "a nonce was asked for: {told:#}");
    assert_eq!(told["introspection"]["bound"], true, "{told:#}");
    assert_eq!(told["revocation"]["refused"], "invalid_token", "{told:#}");
    let subject = format!("corp|{SUBJECT}");
    assert_eq!(told["code"]["claims"]["sub"], subject.as_str(), "{told:#}");
    assert_eq!(told["code"]["again"], "invalid_grant", "{told:#}");
}

#[tokio::test]
async fn openid_client_completes_every_flow_with_dpop() {
    let world = World::start("require = [\"dpop\"]").await;
    let test = "openid_client_completes_every_flow_with_dpop";
    for (algorithm, alg) in [("oauth2", "ES256"), ("oidc", "EdDSA")] {
        let alg = if alg == "EdDSA" { "Ed25519" } else { alg };
        let more = json!({"algorithm": algorithm, "alg": alg});
        let Some(told) = world.run("openid_client.mjs", test, &more).await else { return };
        World::check(&told, "DPoP");
        assert_eq!(told["par"], true, "{told:#}");
        assert_eq!(told["plain"]["text"], "Hello", "{told:#}");
        assert_eq!(told["revocation"]["refused"], "invalid_token", "{told:#}");
        assert_eq!(told["device"]["code"], true, "{told:#}");
        let page = told["device"]["page"].as_str().unwrap();
        assert!(page.starts_with(&format!("http://{}/", world.program.public)), "{told:#}");
    }
}

#[tokio::test]
async fn authlib_completes_every_flow_it_knows() {
    let world = World::start("").await;
    let test = "authlib_completes_every_flow_it_knows";
    let Some(told) = world.run("authlib_client.py", test, &json!({})).await else { return };
    World::check(&told, "Bearer");
    assert_eq!(told["oidc"], true, "{told:#}");
    assert_eq!(told["revocation"]["status"], 200, "{told:#}");
    assert_eq!(told["revocation"]["refused"], 401, "{told:#}");
    assert_eq!(told["code"]["id_token"], true, "{told:#}");
}
